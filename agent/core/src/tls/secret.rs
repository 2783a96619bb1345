//! Secrets of connections: the one type they live in, and the table of those that are known.
//!
//! *Owns* that they are wiped when they are dropped and shown nowhere. *Must not know* where they were found.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::suite::Suite;
use crate::bounded::Bounded;
use crate::hash::Keyed;

/// The longest secret of any suite that is opened: 48 bytes, of SHA-384 and of TLS 1.2's master secret.
pub const MAX_SECRET: usize = 48;
/// The shortest: 32 bytes, of SHA-256.
pub const MIN_SECRET: usize = 32;
/// Connections whose secrets are kept at once: 65,536 of them take less than 20 MiB.
const MAX_CONNECTIONS: usize = 1 << 16;

/// The random number by which a client begins a handshake. It travels in the clear and names the connection's secrets.
pub type ClientRandom = [u8; 32];

/// A secret. Nothing but [`crate::tls`] reads it, and its bytes are wiped when it is dropped.
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// `None`: no secret of TLS has this length.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (MIN_SECRET..=MAX_SECRET).contains(&bytes.len()).then(|| Self(Zeroizing::new(bytes.into())))
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

/// A secret with the connection that it belongs to.
#[derive(Debug)]
pub struct Known {
    pub client_random: ClientRandom,
    pub label: Label,
    pub secret: Secret,
    /// Where the connection stood when it was found, if its handshake was not seen.
    pub joined: Option<Joined>,
}

/// What a record told of a connection that was joined in the middle, by opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    pub(super) suite: &'static Suite,
    /// The records that wait have this number or a later one.
    pub(super) number: u64,
}

/// What is known of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) master: Option<Arc<Secret>>,
    pub(super) client: Option<Arc<Secret>>,
    pub(super) server: Option<Arc<Secret>>,
    /// Of the client and of the server.
    pub(super) joined: [Option<Joined>; 2],
}

/// The secrets of all connections, by the client's random number. Both ends of a connection use the same.
#[derive(Debug)]
pub struct Secrets(Bounded<ClientRandom, Set, Keyed>);

impl Default for Secrets {
    fn default() -> Self {
        Self(Bounded::for_foreign_keys(MAX_CONNECTIONS))
    }
}

impl Secrets {
    /// A second secret for the same purpose replaces the first: key logs may repeat themselves.
    pub fn insert(&mut self, known: Known) {
        if !self.0.contains_key(&known.client_random) {
            self.0.insert(known.client_random, Set::default());
        }
        let Some(set) = self.0.get_mut(&known.client_random) else { return };
        let secret = Some(Arc::new(known.secret));
        match known.label {
            Label::Master => set.master = secret,
            Label::ClientTraffic => (set.client, set.joined[0]) = (secret, known.joined),
            Label::ServerTraffic => (set.server, set.joined[1]) = (secret, known.joined),
        }
    }

    pub(super) fn get(&self, client_random: &ClientRandom) -> Option<&Set> {
        self.0.get(client_random)
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = (&ClientRandom, &Set)> {
        self.0.iter()
    }

    /// Connections with secrets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Connections whose secrets were forgotten for newer ones.
    pub fn forgotten(&self) -> u64 {
        self.0.forgotten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new(&[0x41; 32]).expect("a length of TLS");
        let known = Known { client_random: [1; 32], label: Label::ClientTraffic, secret, joined: None };
        let mut secrets = Secrets::default();
        let text = format!("{known:?}");
        secrets.insert(known);
        for text in [text, format!("{secrets:?}")] {
            assert!(!text.contains("65") && !text.contains("41") && !text.contains("AAAA"), "{text}");
        }
    }

    #[test]
    fn no_secret_has_another_length() {
        for len in [0, 1, 31, 49, 64, 4096] {
            assert!(Secret::new(&vec![7; len]).is_none(), "{len}");
        }
    }
}
