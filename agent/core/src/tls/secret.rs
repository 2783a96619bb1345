//! Secrets of connections: the one type they live in, and the table of those that are known.
//!
//! *Owns* that they are wiped when they are dropped and shown nowhere. *Must not know* where they were found.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::older::SALT_LEN;
use super::suite::{Suite, Version};
use crate::bounded::Bounded;
use crate::hash::Keyed;
use crate::time::BootTime;

/// The longest secret of any suite that is opened: 48 bytes, of SHA-384 and of TLS 1.2's master secret.
pub const MAX_SECRET: usize = 48;
/// The shortest: 32 bytes, of SHA-256.
pub const MIN_SECRET: usize = 32;
/// A key of AES-128 with its salt, where the key itself was found.
const SHORT_KEY: usize = 16 + SALT_LEN;
/// Connections whose secrets are kept at once: 65,536 of them take less than 20 MiB.
const MAX_CONNECTIONS: usize = 1 << 16;
/// How long a secret is kept that was found for a connection. Both ends of it move the same records at the same time, and each waits
/// for a secret for ten seconds; what was opened has keys of its own.
const FOUND_FOR: Duration = Duration::from_secs(60);

/// The random number by which a client begins a handshake. It travels in the clear and names the connection's secrets.
pub type ClientRandom = [u8; 32];

/// A secret. Nothing but [`crate::tls`] reads it, and its bytes are wiped when it is dropped.
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// `None`: no secret of TLS has this length.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let is_one = (MIN_SECRET..=MAX_SECRET).contains(&bytes.len()) || bytes.len() == SHORT_KEY;
        is_one.then(|| Self(Zeroizing::new(bytes.into())))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// TLS 1.2's master secret.
    Master,
    /// The first one under which TLS 1.3's client sends application data.
    ClientTraffic,
    /// The server's.
    ServerTraffic,
}

/// Where a secret comes from, and with it how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody gave it: a key log, which may be read long before its connections are seen.
    Given,
    /// It was found in memory for a connection that waits for it now.
    Found,
}

/// A secret with the connection that it belongs to.
#[derive(Debug)]
pub struct Known {
    pub client_random: ClientRandom,
    pub label: Label,
    pub secret: Secret,
    pub origin: Origin,
    /// Where the connection stood when it was found, if its handshake was not seen.
    pub joined: Option<Joined>,
}

/// What a record told of a connection that was joined in the middle, by opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    pub(super) suite: &'static Suite,
    /// The records that wait have this number or a later one.
    pub(super) number: u64,
    /// What a record's nonce is more than its number, where it travels (TLS 1.2).
    pub(super) nonce_offset: Option<u64>,
}

impl Joined {
    /// The secret is the key itself, with its salt: TLS 1.2's.
    pub fn is_key(&self) -> bool {
        self.suite.version == Version::Tls12
    }
}

/// What is known of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) master: Option<Arc<Secret>>,
    pub(super) client: Option<Arc<Secret>>,
    pub(super) server: Option<Arc<Secret>>,
    /// Of the client and of the server.
    pub(super) joined: [Option<Joined>; 2],
    /// Until when it is kept. `None`: as long as there is room.
    until: Option<BootTime>,
}

impl Set {
    /// It was found in memory, and nobody gave it.
    pub(super) fn is_found(&self) -> bool {
        self.until.is_some()
    }
}

/// The secrets of all connections, by the client's random number. Both ends of a connection use the same.
#[derive(Debug)]
pub struct Secrets {
    sets: Bounded<ClientRandom, Set, Keyed>,
    /// Whose were found, and until when they are kept, in order of time.
    found: VecDeque<(BootTime, ClientRandom)>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self { sets: Bounded::for_foreign_keys(MAX_CONNECTIONS), found: VecDeque::new() }
    }
}

impl Secrets {
    /// A second secret for the same purpose replaces the first: key logs may repeat themselves.
    pub fn insert(&mut self, known: Known, now: BootTime) {
        let random = known.client_random;
        let is_new = !self.sets.contains_key(&random);
        if is_new {
            self.sets.insert(random, Set::default());
        }
        let Some(set) = self.sets.get_mut(&random) else { return };
        match known.origin {
            Origin::Given => set.until = None,
            // What was given is kept as such, whatever else is found.
            Origin::Found if is_new || set.until.is_some() => {
                let until = now + FOUND_FOR;
                set.until = Some(until);
                self.found.push_back((until, random));
            }
            Origin::Found => {}
        }
        let secret = Some(Arc::new(known.secret));
        match known.label {
            Label::Master => set.master = secret,
            Label::ClientTraffic => (set.client, set.joined[0]) = (secret, known.joined),
            Label::ServerTraffic => (set.server, set.joined[1]) = (secret, known.joined),
        }
    }

    /// Forgets what was found and has served.
    pub fn expire(&mut self, now: BootTime) {
        while let Some((until, random)) = self.found.front().copied()
            && (until <= now || self.found.len() > 2 * MAX_CONNECTIONS)
        {
            self.found.pop_front();
            // Its other secret may have been found later, or somebody gave it.
            if self.sets.get(&random).is_some_and(|set| set.until.is_some_and(|last| last <= until)) {
                self.sets.remove(&random);
            }
        }
    }

    pub(super) fn get(&self, client_random: &ClientRandom) -> Option<&Set> {
        self.sets.get(client_random)
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = (&ClientRandom, &Set)> {
        self.sets.iter()
    }

    /// Connections with secrets.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Connections whose secrets were forgotten for newer ones.
    pub fn forgotten(&self) -> u64 {
        self.sets.forgotten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new(&[0x41; 32]).expect("a length of TLS");
        let known = Known {
            client_random: [1; 32],
            label: Label::ClientTraffic,
            secret,
            origin: Origin::Given,
            joined: None,
        };
        let mut secrets = Secrets::default();
        let text = format!("{known:?}");
        secrets.insert(known, BootTime::ZERO);
        for text in [text, format!("{secrets:?}")] {
            assert!(!text.contains("65") && !text.contains("41") && !text.contains("AAAA"), "{text}");
        }
    }

    #[test]
    fn what_was_found_goes_when_it_has_served_and_what_was_given_stays() {
        let known = |name, label, origin| Known {
            client_random: [name; 32],
            label,
            secret: Secret::new(&[7; 32]).expect("a length of TLS"),
            origin,
            joined: None,
        };
        let at = |seconds| BootTime::ZERO + Duration::from_secs(seconds);
        let mut secrets = Secrets::default();
        let has = |secrets: &Secrets| [1, 2, 3, 4].map(|name| secrets.get(&[name; 32]).is_some());
        secrets.insert(known(1, Label::ClientTraffic, Origin::Found), at(0));
        secrets.insert(known(2, Label::ClientTraffic, Origin::Given), at(0));
        secrets.insert(known(2, Label::ServerTraffic, Origin::Found), at(0));
        secrets.insert(known(3, Label::ClientTraffic, Origin::Found), at(0));
        secrets.insert(known(3, Label::ServerTraffic, Origin::Found), at(30));
        secrets.insert(known(4, Label::ClientTraffic, Origin::Found), at(0));
        secrets.insert(known(4, Label::ClientTraffic, Origin::Given), at(0));
        secrets.expire(at(59));
        assert_eq!(has(&secrets), [true; 4]);
        secrets.expire(at(60));
        assert_eq!(has(&secrets), [false, true, true, true], "the third's other secret came later");
        secrets.expire(BootTime::MAX);
        assert_eq!(has(&secrets), [false, true, false, true]);
        assert!(secrets.found.is_empty());
    }

    #[test]
    fn no_secret_has_another_length() {
        for len in [0, 1, 16, 31, 49, 64, 4096] {
            assert!(Secret::new(&vec![7; len]).is_none(), "{len}");
        }
    }
}
