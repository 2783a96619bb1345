//! Whether bytes that were found somewhere are the secret of a connection: records of the connection itself tell.
//!
//! ```text
//!   a few records of each direction + candidate ─▶ keys ─▶ one of them opens: its tag is the proof, else nothing
//! ```
//!
//! A wrong candidate opens a record with a probability of 2⁻¹²⁸, so candidates may be anything: half a secret, another
//! connection's, what is left of one that is over.
//!
//! *Owns* which records are tried, and with which numbers. *Must not know* where candidates come from.

use bytes::Bytes;

use super::cipher::{Keys, Kinds};
use super::record::Header;
use super::secret::{ClientRandom, Joined, Known, Label, Secret};
use super::suite::{Bulk, Suite};

/// Records of a direction that are tried. The first under the secret of its application data is the second or third that a client
/// protects, and the second to sixth of a server: certificates are spread over several.
pub(super) const MAX_SAMPLES: usize = 6;
/// Numbers tried of a connection whose handshake was not seen, for every candidate: a block of AES each, 20 µs in all.
const JOIN_WINDOW: u64 = 1 << 12;
/// The same for candidates that lie in memory as secrets do: half a millisecond.
const FAR_WINDOW: u64 = 1 << 17;
/// A block of ChaCha20 costs as much as so many of AES with the processor's instructions.
const CHACHA_COST: u64 = 16;
/// What deriving keys costs in such blocks: 2 µs.
pub(super) const DERIVATION: u64 = 1 << 9;
/// Numbers before the one that was found at which opening begins: records that wait before the sample.
const BACK: u64 = 64;

/// A record that waits for its secret.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) header: Header,
    pub(super) body: Bytes,
}

/// What its keys are made of, beside the secret.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// TLS 1.3. A connection of which the beginning was not seen says neither its suite nor its numbers.
    Traffic { suite: Option<&'static Suite>, is_joined: [bool; 2] },
    /// TLS 1.2: the master secret gives the keys of both directions.
    Master {
        suite: &'static Suite,
        client_random: ClientRandom,
        server_random: [u8; 32],
        encrypt_then_mac: bool,
    },
}

/// Tells the secrets of one connection.
#[derive(Clone, Debug)]
pub struct Proof {
    pub(super) name: ClientRandom,
    pub(super) kind: Kind,
    /// What the client sent, and what the server sent.
    pub(super) samples: [Vec<Sample>; 2],
}

/// What a candidate is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Connections that were joined in the middle are left out: a candidate costs ten times as much for them.
    Begun,
    /// For candidates of which there are many: their first numbers are tried.
    Near,
    /// For few.
    Far,
}

impl Proof {
    /// Which connection's secrets these are.
    pub fn name(&self) -> &ClientRandom {
        &self.name
    }

    /// Nothing is left to be found with it.
    pub fn is_done(&self) -> bool {
        self.samples.iter().all(Vec::is_empty)
    }

    /// Takes over what a later proof of the same connection has in addition.
    pub fn update(&mut self, later: Proof) {
        *self = later;
    }

    /// Something is left to be found with so much effort.
    pub fn wants(&self, effort: Effort) -> bool {
        let is_joined = match &self.kind {
            Kind::Traffic { is_joined, .. } => *is_joined,
            Kind::Master { .. } => [false; 2],
        };
        let open = |(samples, is_joined): (&Vec<Sample>, bool)| {
            !samples.is_empty() && (effort != Effort::Begun || !is_joined)
        };
        self.samples.iter().zip(is_joined).any(open)
    }

    /// Lengths that its secrets may have: 32 bytes, 48.
    pub fn lengths(&self, effort: Effort) -> [bool; 2] {
        match &self.kind {
            _ if !self.wants(effort) => [false, false],
            Kind::Master { .. } => [false, true],
            Kind::Traffic { suite: Some(suite), .. } => [suite.hash.len() == 32, suite.hash.len() == 48],
            Kind::Traffic { suite: None, .. } => [true, true],
        }
    }

    /// Tries a candidate. What it opens is no longer asked for. Returns what it cost, in blocks of AES.
    pub fn test(&mut self, candidate: &[u8], effort: Effort, found: &mut impl FnMut(Known)) -> u64 {
        if !self.wants(effort) {
            return 0;
        }
        let mut cost = 0;
        match &self.kind {
            Kind::Master { suite, client_random, server_random, encrypt_then_mac } => {
                if candidate.len() != 48 {
                    return 0;
                }
                cost += DERIVATION;
                let keys = Keys::v12(suite, candidate, client_random, server_random, *encrypt_then_mac);
                let Some(keys) = keys else { return cost };
                // The first record after a ChangeCipherSpec has the number 0.
                let opens = keys.iter().zip(&self.samples).any(|(keys, samples)| {
                    samples.iter().any(|sample| keys.open(&sample.header, &sample.body, 0).is_some())
                });
                if opens && let Some(secret) = Secret::new(candidate) {
                    self.samples = Default::default();
                    found(Known { client_random: self.name, label: Label::Master, secret, joined: None });
                }
            }
            Kind::Traffic { suite, is_joined } => {
                let window = match effort {
                    Effort::Begun => 0,
                    Effort::Near => JOIN_WINDOW,
                    Effort::Far => FAR_WINDOW,
                };
                let (known, is_joined) = (*suite, *is_joined);
                for suite in Suite::with_secret(candidate.len()) {
                    if known.is_some_and(|known| known != suite) {
                        continue;
                    }
                    let window =
                        if suite.bulk == Bulk::ChaCha20Poly1305 { window / CHACHA_COST } else { window };
                    let windows = is_joined.map(|is_joined| if is_joined { window } else { 1 });
                    cost += DERIVATION;
                    if self.test_traffic(suite, candidate, (windows, &mut cost), found) {
                        self.kind = Kind::Traffic { suite: Some(suite), is_joined };
                        return cost;
                    }
                }
            }
        }
        cost
    }

    /// Returns whether it is the secret of a direction.
    fn test_traffic(
        &mut self,
        suite: &'static Suite,
        candidate: &[u8],
        (windows, cost): ([u64; 2], &mut u64),
        found: &mut impl FnMut(Known),
    ) -> bool {
        let Some(keys) = Keys::v13(suite, candidate).filter(|_| !self.is_done()) else { return false };
        let labels = [Label::ClientTraffic, Label::ServerTraffic];
        for ((samples, label), window) in self.samples.iter_mut().zip(labels).zip(windows) {
            let kinds = if window > 1 { Kinds::Data } else { Kinds::Any };
            let opened = samples
                .iter()
                .find_map(|sample| {
                    let (opened, tried) = keys.find(&sample.header, &sample.body, 0..window, kinds);
                    *cost += tried.saturating_mul(if suite.bulk == Bulk::ChaCha20Poly1305 {
                        CHACHA_COST
                    } else {
                        1
                    });
                    opened
                })
                .and_then(|(number, _)| Some((number, Secret::new(candidate)?)));
            if let Some((number, secret)) = opened {
                samples.clear();
                let joined = (window > 1).then(|| Joined { suite, number: number.saturating_sub(BACK) });
                found(Known { client_random: self.name, label, secret, joined });
                // It is one direction's, never the other's as well.
                return true;
            }
        }
        false
    }
}
