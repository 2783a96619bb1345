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

use std::ops::Range;

use bytes::Bytes;

use super::cipher::{Keys, Kinds};
use super::older::{self, Salt, Salts};
use super::record::Header;
use super::secret::{ClientRandom, Joined, Known, Label, Origin, Secret};
use super::suite::{Bulk, Suite};

/// Records of a direction that are tried. The first under the secret of its application data is the second or third that a client
/// protects, and the second to sixth of a server: certificates are spread over several.
pub(super) const MAX_SAMPLES: usize = 6;
/// Of a connection that was joined in the middle: the first, and one more if that held something rare.
const JOINED_SAMPLES: usize = 2;
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

/// Numbers around that of the other end's record at which a connection's own may stand: both ends move the same records within
/// seconds, and records of 16 KiB that are so far apart are 64 MiB apart.
const OTHER_END: u64 = 1 << 12;

/// Lengths of secrets: keys of AES-128; keys of AES-256 and secrets of SHA-256; secrets of SHA-384 and master secrets.
pub(super) const LENGTHS: [usize; 3] = [16, 32, 48];
/// Which of them.
pub(super) type Lengths = [bool; 3];

/// Bytes that may be a secret, and the keys that they give: derived once, whoever asks.
pub(super) struct Candidate<'a> {
    pub(super) bytes: &'a [u8],
    /// What may be a salt in the same memory.
    salts: &'a [Salt],
    keys: Vec<(&'static Suite, Option<Keys>)>,
    /// What deriving cost, in blocks of AES.
    pub(super) cost: u64,
}

impl<'a> Candidate<'a> {
    pub(super) fn new(bytes: &'a [u8], salts: &'a [Salt]) -> Self {
        Self { bytes, salts, keys: Vec::new(), cost: 0 }
    }

    /// Those of TLS 1.3.
    fn keys(&mut self, suite: &'static Suite) -> Option<&Keys> {
        let at = match self.keys.iter().position(|(of, _)| *of == suite) {
            Some(at) => at,
            None => {
                self.cost += DERIVATION;
                self.keys.push((suite, Keys::v13(suite, self.bytes)));
                self.keys.len() - 1
            }
        };
        self.keys.get(at)?.1.as_ref()
    }
}

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
    /// TLS 1.2, of which the beginning was not seen: a key for each direction, under GCM.
    Key {
        /// Of the client's records and of the server's: what stood before their nonces.
        salts: [Salts; 2],
    },
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
    /// For those of which there are most: as keys of TLS 1.2 only, with the likeliest salts.
    Keys,
}

impl Proof {
    /// Its secret is TLS 1.2's, which gives the keys of both directions.
    pub fn is_of_12(&self) -> bool {
        matches!(self.kind, Kind::Master { .. })
    }

    /// Notes the salts that lie before its nonces in a piece of memory. Returns at which places of it a key is near.
    pub(super) fn collect(&mut self, piece: &[u8]) -> Vec<usize> {
        let Kind::Key { salts } = &mut self.kind else { return Vec::new() };
        let both = salts.iter_mut().zip(&self.samples);
        both.flat_map(|(salts, samples)| salts.collect_before_nonces(piece, samples)).collect()
    }

    /// Other salts that lie in memory tell its keys, too.
    pub(super) fn needs_salts(&self) -> bool {
        let is_anywhere = |samples: &Vec<Sample>| samples.first().and_then(older::begun_anywhere).is_some();
        self.is_for_key() && self.samples.iter().any(is_anywhere)
    }

    /// More is known of the connection. Salts that were seen for it are still in memory.
    pub(super) fn replace_by(&mut self, mut proof: Self) {
        if let (Kind::Key { salts: seen }, Kind::Key { salts }) = (&mut self.kind, &mut proof.kind) {
            std::mem::swap(seen, salts);
        }
        *self = proof;
    }

    /// A key of each direction is looked for, not a secret.
    pub fn is_for_key(&self) -> bool {
        matches!(self.kind, Kind::Key { .. })
    }

    /// Which connection's secrets these are.
    pub fn name(&self) -> &ClientRandom {
        &self.name
    }

    /// Nothing is left to be found with it.
    pub fn is_done(&self) -> bool {
        self.samples.iter().all(Vec::is_empty)
    }

    /// Bytes of records that it holds.
    pub fn held(&self) -> usize {
        let salts =
            if let Kind::Key { salts } = &self.kind { salts.iter().map(Salts::held).sum() } else { 0 };
        let samples = self.samples.iter().flatten();
        samples.map(|sample| sample.body.len() + size_of::<Sample>()).sum::<usize>() + salts
    }

    /// Records that it tries, of the client and of the server.
    pub fn counts(&self) -> [usize; 2] {
        self.samples.each_ref().map(Vec::len)
    }

    /// One of its secrets is known: it is no longer asked for.
    pub fn know(&mut self, label: Label) {
        match label {
            Label::Master => self.samples = Default::default(),
            Label::ClientTraffic => self.samples[0].clear(),
            Label::ServerTraffic => self.samples[1].clear(),
        }
    }

    /// Something is left to be found with so much effort.
    pub fn wants(&self, effort: Effort) -> bool {
        let is_joined = match &self.kind {
            Kind::Key { .. } => {
                return matches!(effort, Effort::Near | Effort::Keys) && !self.is_done();
            }
            _ if effort == Effort::Keys => return false,
            Kind::Traffic { is_joined, .. } => *is_joined,
            Kind::Master { .. } => [false; 2],
        };
        let open = |(samples, is_joined): (&Vec<Sample>, bool)| {
            !samples.is_empty() && (effort != Effort::Begun || !is_joined)
        };
        self.samples.iter().zip(is_joined).any(open)
    }

    /// Which of [`LENGTHS`] its secrets may have.
    pub(super) fn lengths(&self, effort: Effort) -> Lengths {
        match &self.kind {
            _ if !self.wants(effort) => [false; 3],
            Kind::Master { .. } => [false, false, true],
            Kind::Traffic { suite: Some(suite), .. } => LENGTHS.map(|len| suite.hash.len() == len),
            Kind::Traffic { suite: None, .. } => [false, true, true],
            Kind::Key { .. } => [true, true, false],
        }
    }

    /// Tries a candidate. What it opens is no longer asked for. Returns what it cost beside deriving keys of TLS 1.3, in blocks of AES.
    pub(super) fn test(
        &mut self,
        candidate: &mut Candidate<'_>,
        effort: Effort,
        found: &mut impl FnMut(Known),
    ) -> u64 {
        if !self.wants(effort) {
            return 0;
        }
        let mut cost = 0;
        match &self.kind {
            Kind::Key { .. } => {
                // Of what lies anywhere, only the likeliest salts are tried.
                let others = if effort == Effort::Near { candidate.salts } else { &[] };
                cost += self.test_key(candidate.bytes, others, found);
            }
            Kind::Master { suite, client_random, server_random, encrypt_then_mac } => {
                let bytes = candidate.bytes;
                if bytes.len() != 48 {
                    return 0;
                }
                cost += DERIVATION;
                let keys = Keys::v12(suite, bytes, client_random, server_random, *encrypt_then_mac);
                let Some(keys) = keys else { return cost };
                // The first record after a ChangeCipherSpec has the number 0.
                let opens = keys.iter().zip(&self.samples).any(|(keys, samples)| {
                    samples.iter().any(|sample| keys.open(&sample.header, &sample.body, 0).is_some())
                });
                if opens && let Some(secret) = Secret::new(bytes) {
                    self.know(Label::Master);
                    let (client_random, label, origin) = (self.name, Label::Master, Origin::Found);
                    found(Known { client_random, label, secret, origin, joined: None });
                }
            }
            Kind::Traffic { suite, is_joined } => {
                let window = match effort {
                    Effort::Begun | Effort::Keys => 0,
                    Effort::Near => JOIN_WINDOW,
                    Effort::Far => FAR_WINDOW,
                };
                let (known, is_joined) = (*suite, *is_joined);
                for suite in Suite::with_secret(candidate.bytes.len()) {
                    if known.is_some_and(|known| known != suite) {
                        continue;
                    }
                    let window =
                        if suite.bulk == Bulk::ChaCha20Poly1305 { window / CHACHA_COST } else { window };
                    let windows = is_joined.map(|is_joined| if is_joined { 0..window } else { 0..1 });
                    if self.test_traffic(suite, candidate, (windows, &mut cost), found) {
                        self.kind = Kind::Traffic { suite: Some(suite), is_joined };
                        return cost;
                    }
                }
            }
        }
        cost
    }

    /// Tries a key of TLS 1.2. Returns what it cost.
    fn test_key(&mut self, key: &[u8], others: &[Salt], found: &mut impl FnMut(Known)) -> u64 {
        let Kind::Key { salts } = &self.kind else { return 0 };
        let mut all = 0;
        for (is_server, label) in [(false, Label::ClientTraffic), (true, Label::ServerTraffic)] {
            let samples = &mut self.samples[usize::from(is_server)];
            let Some(sample) = samples.first() else { continue };
            let (key, cost) = older::test(key, sample, [salts[usize::from(is_server)].all(), others]);
            all += cost;
            if let Some(key) = key {
                let nonce_offset = older::nonce(sample).map(|nonce| nonce.wrapping_sub(key.number));
                let number = key.number.saturating_sub(BACK);
                let joined = Joined { suite: key.suite, number, nonce_offset };
                let (client_random, origin) = (self.name, Origin::Found);
                samples.clear();
                found(Known { client_random, label, secret: key.secret, origin, joined: Some(joined) });
                break;
            }
        }
        all
    }

    /// Tries the key of another connection that was joined in the middle. Returns what it cost.
    fn test_known_key(&mut self, known: &Known, joined: &Joined, found: &mut impl FnMut(Known)) -> u64 {
        let samples = &mut self.samples[usize::from(known.label == Label::ServerTraffic)];
        let (Some(sample), Some(offset)) = (samples.first(), joined.nonce_offset) else { return 0 };
        let Some(nonce) = older::nonce(sample) else { return 0 };
        let number = nonce.wrapping_sub(offset);
        let keys = older::keys(joined.suite, &known.secret);
        let opens = keys.is_some_and(|keys| keys.open(&sample.header, &sample.body, number).is_some());
        if let Some(secret) = Secret::new(known.secret.bytes()).filter(|_| opens) {
            samples.clear();
            let (client_random, label, origin) = (self.name, known.label, Origin::Found);
            let joined = Joined { number: number.saturating_sub(BACK), ..*joined };
            found(Known { client_random, label, secret, origin, joined: Some(joined) });
        }
        older::KEY_COST
    }

    /// Tries the secret of another connection that was joined in the middle, at the numbers near its own: it may be the other end of
    /// this one. Returns what it cost.
    pub(super) fn test_known(
        &mut self,
        known: &Known,
        candidate: &mut Candidate<'_>,
        found: &mut impl FnMut(Known),
    ) -> u64 {
        let Some(joined) = &known.joined else { return 0 };
        if joined.is_key() {
            let is_one = matches!(self.kind, Kind::Key { .. });
            return if is_one { self.test_known_key(known, joined, found) } else { 0 };
        }
        let Kind::Traffic { suite, is_joined } = &self.kind else { return 0 };
        let of = usize::from(known.label == Label::ServerTraffic);
        if suite.is_some_and(|suite| suite != joined.suite) || !is_joined[of] || self.samples[of].is_empty() {
            return 0;
        }
        let is_joined = *is_joined;
        let near = joined.number.saturating_sub(OTHER_END)..joined.number.saturating_add(OTHER_END);
        // The secret is of one direction, and said to be of which.
        let mut windows = [0..0, 0..0];
        windows[of] = near;
        let mut cost = 0;
        if self.test_traffic(joined.suite, candidate, (windows, &mut cost), found) {
            self.kind = Kind::Traffic { suite: Some(joined.suite), is_joined };
        }
        cost
    }

    /// Returns whether it is the secret of a direction.
    fn test_traffic(
        &mut self,
        suite: &'static Suite,
        candidate: &mut Candidate<'_>,
        (windows, cost): ([Range<u64>; 2], &mut u64),
        found: &mut impl FnMut(Known),
    ) -> bool {
        let bytes = candidate.bytes;
        let Some(keys) = candidate.keys(suite).filter(|_| !self.is_done()) else { return false };
        let labels = [Label::ClientTraffic, Label::ServerTraffic];
        for ((samples, label), window) in self.samples.iter_mut().zip(labels).zip(windows) {
            let is_joined = window != (0..1);
            let kinds = if is_joined { Kinds::Data } else { Kinds::Any };
            // The records of a connection that was joined follow each other: what is not the secret of the first two is no other's.
            let most = if is_joined { JOINED_SAMPLES } else { MAX_SAMPLES };
            let opened = samples
                .iter()
                .take(most)
                .find_map(|sample| {
                    let (opened, tried) = keys.find(&sample.header, &sample.body, window.clone(), kinds);
                    *cost += tried.saturating_mul(if suite.bulk == Bulk::ChaCha20Poly1305 {
                        CHACHA_COST
                    } else {
                        1
                    });
                    opened
                })
                .and_then(|(number, _)| Some((number, Secret::new(bytes)?)));
            if let Some((number, secret)) = opened {
                samples.clear();
                let joined = is_joined.then(|| Joined {
                    suite,
                    number: number.saturating_sub(BACK),
                    nonce_offset: None,
                });
                let (client_random, origin) = (self.name, Origin::Found);
                found(Known { client_random, label, secret, origin, joined });
                // It is one direction's, never the other's as well.
                return true;
            }
        }
        false
    }
}
