//! A list of folders → what the rest of the core asks of every protocol.
//!
//! Each folder has a [`Spec`] and the state its sessions leave to the next agent ([`LearnedState`](super::snapshot)); the list
//! in [`protocol`](super) names the folders once. Detection, sessions, snapshots and counters follow from it: nothing else
//! in the core, the shell or the tests has a list of protocols.
//!
//! ```text
//!   protocols! { Http1 = http1, … } ─▶ Protocol::{ALL, name, sniff, session, …} · Snapshot · PerProtocol<T>
//! ```
//!
//! *Must not know* any protocol.

use std::fmt::Debug;
use std::ops::{Index, IndexMut, RangeInclusive};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::detect::Sniff;
use super::{Protocol, Session};
use crate::operation::{Interaction, Operation};
use crate::record::{Conn, Role, Sender};
use crate::settings;

/// The beginning of a record → the side that alone sends such.
pub(super) type WeakSender = fn(&[u8]) -> Option<Sender>;

/// What the core must know of a protocol.
#[derive(Debug)]
pub(super) struct Spec {
    /// Shown in metrics and tables. Protocols of one name are counted as one there.
    pub(super) name: &'static str,
    /// What people call it, with its version where that matters: pages and sentences.
    pub(super) title: &'static str,
    /// What kind of conversation its operations are.
    pub(super) interaction: Interaction,
    /// Ports its servers are known for: they break ties and buy patience, never more.
    pub(super) ports: &'static [RangeInclusive<u16>],
    /// What the beginning of a record says.
    pub(super) sniff: fn(&[u8]) -> Sniff,
    /// On such a port, the side that alone sends what begins like this, though others than this protocol may, too.
    pub(super) weak_sender: Option<WeakSender>,
    /// A session for a connection of an observed process of this role.
    pub(super) session: fn(Role, &settings::Protocols) -> Box<dyn Session>,
    /// What its connections tell about each other's operations.
    pub(super) shared: Option<fn() -> Box<dyn Shared>>,
    /// A conversation as real programs have it, which every protocol is tried with alike: see the tests of [`protocol`](super).
    #[cfg(test)]
    pub(super) example: fn() -> Conversation,
}

/// What both sides send, a record each, from the connection's first byte on.
#[cfg(test)]
pub(super) type Conversation = Vec<(Sender, Vec<u8>)>;

/// What operations of one connection tell about those of others of the same protocol.
pub trait Shared: Debug + Send {
    /// An operation of this connection is over: something is learned from it, or what is known is added to it. Returns whether
    /// something stays unknown because it was said before the connection was seen.
    fn closed(&mut self, operation: &mut Operation, conn: &Conn) -> bool;

    /// Entries forgotten at a bound.
    fn forgotten(&self) -> u64;
}

impl Protocol {
    /// Shown in metrics and tables; several versions of one protocol have the same.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        self.spec().title
    }

    /// What kind of conversation its operations are.
    pub fn interaction(self) -> Interaction {
        self.spec().interaction
    }

    /// Ports its servers are known for.
    pub fn ports(self) -> &'static [RangeInclusive<u16>] {
        self.spec().ports
    }

    /// What the beginning of a record says about it.
    pub fn sniff(self, bytes: &[u8]) -> Sniff {
        (self.spec().sniff)(bytes)
    }

    /// On one of its ports, who sent what begins like this.
    pub fn weak_sender(self, bytes: &[u8]) -> Option<Sender> {
        self.spec().weak_sender.and_then(|sender| sender(bytes))
    }

    /// A session for a connection of an observed process of this role.
    pub fn session(self, role: Role, limits: &settings::Protocols) -> Box<dyn Session> {
        (self.spec().session)(role, limits)
    }

    /// What its connections tell about each other's operations: nothing known yet. `None`: they tell nothing.
    pub fn shared(self) -> Option<Box<dyn Shared>> {
        self.spec().shared.map(|new| new())
    }
}

/// One value per protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerProtocol<T>([T; Protocol::ALL.len()]);

impl<T> PerProtocol<T> {
    pub fn from_fn(value: impl FnMut(Protocol) -> T) -> Self {
        Self(Protocol::ALL.map(value))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Protocol, &T)> {
        Protocol::ALL.into_iter().zip(&self.0)
    }
}

impl PerProtocol<u64> {
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Sums by [`Protocol::name`], each name once, in the order of the list.
    pub fn by_name(&self) -> Vec<(&'static str, u64)> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        for (protocol, count) in self.iter() {
            match sums.iter_mut().find(|(name, _)| *name == protocol.name()) {
                Some((_, sum)) => *sum += count,
                None => sums.push((protocol.name(), *count)),
            }
        }
        sums
    }
}

impl<T> Index<Protocol> for PerProtocol<T> {
    type Output = T;

    fn index(&self, protocol: Protocol) -> &T {
        &self.0[protocol as usize]
    }
}

impl<T> IndexMut<Protocol> for PerProtocol<T> {
    fn index_mut(&mut self, protocol: Protocol) -> &mut T {
        &mut self.0[protocol as usize]
    }
}

/// By the names of the folders, which are as many as there are protocols.
impl<T: Serialize> Serialize for PerProtocol<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (protocol, value) in self.iter() {
            map.serialize_entry(protocol.folder(), value)?;
        }
        map.end()
    }
}

/// Makes `Protocol` and `Snapshot` out of a list of folders. Each folder is a module
/// beside the list and has a `SPEC` and a type `Learned`.
macro_rules! protocols {
    ($($variant:ident = $folder:ident),+ $(,)?) => {
        /// A protocol that is parsed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Protocol {
            $($variant),+
        }

        impl Protocol {
            /// All of them.
            pub const ALL: [Protocol; [$(stringify!($variant)),+].len()] = [$(Protocol::$variant),+];

            /// The name of its folder: its own, unlike [`Protocol::name`].
            pub fn folder(self) -> &'static str {
                match self {
                    $(Protocol::$variant => stringify!($folder)),+
                }
            }

            fn spec(self) -> &'static registry::Spec {
                match self {
                    $(Protocol::$variant => &$folder::SPEC),+
                }
            }
        }

        /// What one session has learned.
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum Snapshot {
            $($variant($folder::Learned)),+
        }

        impl Snapshot {
            /// What the connection speaks.
            pub fn protocol(&self) -> Protocol {
                match self {
                    $(Snapshot::$variant(_) => Protocol::$variant),+
                }
            }

            fn state(&self) -> &dyn snapshot::LearnedState {
                match self {
                    $(Snapshot::$variant(state) => state),+
                }
            }

            fn state_mut(&mut self) -> &mut dyn snapshot::LearnedState {
                match self {
                    $(Snapshot::$variant(state) => state),+
                }
            }
        }
    };
}
pub(super) use protocols;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_protocols_claim_one_port() {
        for port in 0..=u16::MAX {
            let homes =
                Protocol::ALL.into_iter().filter(|one| one.ports().iter().any(|range| range.contains(&port)));
            assert!(homes.clone().count() <= 1, "{port}: {:?}", homes.collect::<Vec<_>>());
        }
    }

    #[test]
    fn counts_are_summed_by_the_names_that_operators_see() {
        let counts = PerProtocol::<u64>::from_fn(|protocol| 1 << protocol as u32);
        assert_eq!(counts.total(), (1 << Protocol::ALL.len()) - 1);
        let names = counts.by_name();
        for protocol in Protocol::ALL {
            let sums: Vec<u64> =
                names.iter().filter(|(name, _)| *name == protocol.name()).map(|(_, sum)| *sum).collect();
            let namesakes = Protocol::ALL.into_iter().filter(|other| other.name() == protocol.name());
            assert_eq!(
                sums,
                [namesakes.map(|other| counts[other]).sum::<u64>()],
                "{protocol:?} in {names:?}"
            );
        }
        assert_eq!(names.first(), Some(&("http", counts[Protocol::Http1] + counts[Protocol::Http2])));
        let json = serde_json::to_string(&counts).expect("numbers");
        let folders = Protocol::ALL.map(|protocol| format!("\"{}\":{}", protocol.folder(), counts[protocol]));
        assert_eq!(json, format!("{{{}}}", folders.join(",")));
    }
}
