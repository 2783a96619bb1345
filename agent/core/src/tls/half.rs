//! One direction of a connection: protected records under its keys → plaintext in its positions.
//!
//! ```text
//!   keys ─▶ not begun: only number 0 can be the first    begun, certain: the next number
//!                 └───────────── bytes were lost ──────────────┴─▶ numbers are tried, as many as were lost at most
//! ```
//!
//! A record is opened with its number or not at all: the tag decides. What was lost becomes a gap of as many bytes as there
//! were plaintext bytes in it, since the next record tells how many records were lost.
//!
//! *Owns* numbers, KeyUpdate's generations and what a hole was worth. *Must not know* handshakes, nor where secrets are from.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::cipher::{APPLICATION_DATA, HANDSHAKE, HEADER_LEN, Keys, Kinds};
use super::hello::{Message, Messages};
use super::older;
use super::positions::Positions;
use super::record::{Framer, Header, body_len};
use super::schedule::next_secret;
use super::secret::{Joined, Secret};
use super::suite::{Suite, Version};
use crate::record::Mark;
use crate::stream::Chunk;

/// Numbers tried for the first record of a connection that is older than the agent: a block each, some 5 ns with AES-NI.
const JOIN_WINDOW: u64 = 1 << 16;
/// Blocks that finding numbers may cost from one opened record to the next: some 10 ms.
const BUDGET: u64 = 1 << 21;
/// The keys of one direction: two schedules of AES-256 and a table of GHASH.
const KEY_BYTES: usize = 1 << 10;
/// KeyUpdates that may be lost in one hole.
const MAX_LOST_UPDATES: u32 = 2;
/// Records in a row that do not open before the connection is given up: a flight of a handshake has fewer.
const MAX_FAILURES: u32 = 64;
/// A cut record of TLS 1.3 hides its type. Those of handshakes are shorter than this, or begin like one.
const MIN_REVEALED: usize = 4 << 10;

/// What became of a protected record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its content is out, or had none for sessions.
    Opened,
    /// The keys were changed by it.
    Updated,
    /// Before the first that opens: under other keys (of the handshake, of early data).
    Foreign,
    /// It should have opened.
    Failed,
    /// It should have, as so many before.
    Hopeless,
}

struct Generation {
    keys: Keys,
    suite: &'static Suite,
    /// From which the next generation is derived (TLS 1.3).
    secret: Option<Zeroizing<Vec<u8>>>,
}

/// What was lost since the last record that was opened.
#[derive(Debug, Default)]
struct Hole {
    /// Where it begins.
    pos: u64,
    /// Bytes on the wire.
    len: u64,
    mark: Mark,
    /// Bytes of plaintext that are told already.
    told: u64,
}

pub(super) struct Half {
    pub(super) framer: Framer,
    pub(super) messages: Messages,
    pub(super) positions: Positions,
    generation: Option<Generation>,
    /// Of the next record.
    number: u64,
    /// A record was opened under these keys, or under those before them.
    is_begun: bool,
    hole: Option<Hole>,
    /// The connection is older than what is known of it: numbers begin anywhere.
    pub(super) is_joined: bool,
    /// Zeros after the content of the last record with application data.
    padding: usize,
    /// What TLS 1.2's GCM sends as a nonce, less the number.
    nonce_offset: Option<u64>,
    budget: u64,
    failures: u32,
}

impl std::fmt::Debug for Half {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Half")
            .field("has_keys", &self.has_keys())
            .field("number", &self.number)
            .field("hole", &self.hole)
            .finish_non_exhaustive()
    }
}

impl Half {
    pub(super) fn new(at_record: bool) -> Self {
        Self {
            framer: Framer::new(at_record),
            messages: Messages::default(),
            positions: Positions::default(),
            generation: None,
            number: 0,
            is_begun: false,
            hole: None,
            is_joined: !at_record,
            padding: 0,
            nonce_offset: None,
            budget: BUDGET,
            failures: 0,
        }
    }

    pub(super) fn has_keys(&self) -> bool {
        self.generation.is_some()
    }

    /// TLS 1.3: keys from a traffic secret.
    pub(super) fn set_secret(&mut self, suite: &'static Suite, secret: &Secret) {
        let secret = Zeroizing::new(secret.bytes().to_vec());
        let keys = Keys::v13(suite, &secret);
        self.generation = keys.map(|keys| Generation { keys, suite, secret: Some(secret) });
    }

    /// Keys of a connection whose handshake was not seen.
    pub(super) fn set_joined(&mut self, secret: &Secret, joined: &Joined) {
        if joined.is_key() {
            self.generation = older::keys(joined.suite, secret).map(|keys| Generation {
                keys,
                suite: joined.suite,
                secret: None,
            });
        } else {
            self.set_secret(joined.suite, secret);
        }
        self.join(joined.number);
        self.nonce_offset = joined.nonce_offset;
    }

    /// TLS 1.2: keys after a ChangeCipherSpec.
    pub(super) fn set_keys(&mut self, suite: &'static Suite, keys: Keys) {
        self.generation = Some(Generation { keys, suite, secret: None });
    }

    /// What follows is under keys that begin with number 0.
    pub(super) fn change_keys(&mut self) {
        self.generation = None;
        (self.number, self.is_begun, self.hole, self.nonce_offset) = (0, false, None, None);
    }

    /// Bytes of keys, and of where records stood.
    pub(super) fn state_bytes(&self) -> usize {
        let keys = if self.has_keys() { KEY_BYTES } else { 0 };
        self.positions.held().saturating_add(keys)
    }

    /// The next records have this number or a later one.
    pub(super) fn join(&mut self, number: u64) {
        (self.number, self.hole, self.is_joined) = (number, None, true);
    }

    /// Bytes were lost since the last record that was opened.
    pub(super) fn has_hole(&self) -> bool {
        self.hole.is_some()
    }

    /// The number of the next record is known.
    pub(super) fn set_number(&mut self, number: u64) {
        (self.number, self.hole, self.is_joined) = (number, None, false);
    }

    /// Bytes of which nothing is known.
    pub(super) fn lose(&mut self, pos: u64, len: u64, mark: Mark) {
        self.messages.restart();
        let hole = self.hole.get_or_insert(Hole { pos, len: 0, mark, told: 0 });
        hole.len = hole.len.saturating_add(len);
    }

    /// The other direction went on after what is lost here: that something is lost is told before what may be the answer to it. A byte
    /// is told; how many more there are shows at the next record.
    pub(super) fn tell_hole(&mut self, passed: u64, other: &Positions, out: &mut impl FnMut(Chunk)) {
        let is_told = |hole: &Hole| hole.told > 0 || passed < hole.pos.saturating_add(hole.len);
        let Some(hole) = self.hole.as_mut().filter(|hole| !is_told(hole)) else { return };
        if self.is_begun && !self.is_joined {
            hole.told = 1;
            let (pos, mark) = (hole.pos, hole.mark);
            self.skip(pos, 1, mark, other, out);
        }
    }

    /// A protected record. `other` are the positions of the other direction.
    pub(super) fn open(
        &mut self,
        (pos, header, body): (u64, &Header, &Bytes),
        mark: Mark,
        other: &Positions,
        out: &mut impl FnMut(Chunk),
        said: &mut impl FnMut(Message),
    ) -> Outcome {
        let found = self.find(header, body);
        let Some((number, opened, is_other_generation)) = found else {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= MAX_FAILURES || self.budget == 0 {
                return Outcome::Hopeless;
            }
            if !self.is_begun {
                return Outcome::Foreign;
            }
            self.lose(pos, (HEADER_LEN + body.len()) as u64, mark);
            return Outcome::Failed;
        };
        self.fill(number, is_other_generation, other, out);
        (self.is_begun, self.is_joined, self.failures, self.budget) = (true, false, 0, BUDGET);
        self.number = number.saturating_add(1);
        let Some(generation) = &self.generation else { return Outcome::Failed };
        self.nonce_offset = generation.keys.explicit_nonce(body).map(|nonce| nonce.wrapping_sub(number));
        let front = generation.keys.front();
        match opened.kind {
            APPLICATION_DATA => {
                self.padding = opened.padding;
                let wire = pos.saturating_add((HEADER_LEN + front) as u64);
                let at = self.positions.push(wire, opened.content.len() as u64);
                if !opened.content.is_empty() {
                    let mark = translated(mark, other);
                    out(Chunk::Bytes { pos: at, bytes: opened.content.into(), mark });
                }
            }
            HANDSHAKE => {
                let mut is_update = false;
                self.messages.push(&opened.content, &mut |message| {
                    is_update |= message == Message::KeyUpdate;
                    said(message);
                });
                if is_update && generation.suite.version == Version::Tls13 {
                    self.update();
                    return Outcome::Updated;
                }
            }
            // Alerts say nothing to sessions: the end of the connection does.
            _ => {}
        }
        Outcome::Opened
    }

    /// A record whose beginning was captured.
    pub(super) fn cut(
        &mut self,
        (pos, header, prefix): (u64, &Header, &Bytes),
        mark: Mark,
        other: &Positions,
        out: &mut impl FnMut(Chunk),
    ) {
        let whole = body_len(header);
        let Some(generation) = self.generation.as_ref().filter(|_| self.is_begun && self.hole.is_none())
        else {
            return self.lose(pos, (HEADER_LEN + whole) as u64, mark);
        };
        let keys = &generation.keys;
        self.messages.restart();
        let is_hidden = generation.suite.version == Version::Tls13;
        let number = self.number;
        self.number = self.number.saturating_add(1);
        if header[0] != APPLICATION_DATA {
            return;
        }
        let front = keys.front();
        let len = whole.saturating_sub(front + keys.back() + self.padding);
        let mut shown = Vec::new();
        if !is_hidden || whole >= MIN_REVEALED {
            shown = keys.reveal(prefix, number).unwrap_or_default();
            shown.truncate(len.saturating_sub(keys.most_padding()));
        }
        if is_hidden && is_handshake(&shown, [len, len + self.padding]) {
            return;
        }
        let mark = translated(mark, other);
        let wire = pos.saturating_add((HEADER_LEN + front) as u64);
        let shown_len = shown.len() as u64;
        let at = self.positions.push(wire, shown_len);
        if !shown.is_empty() {
            out(Chunk::Bytes { pos: at, bytes: shown.into(), mark });
        }
        let missing = len as u64 - shown_len;
        let at = self.positions.push(wire.saturating_add(shown_len), missing);
        if missing > 0 {
            out(Chunk::Gap { pos: at, len: missing, mark });
        }
    }

    /// Bytes that are closed for good but were the program's, such as early data.
    pub(super) fn skip(
        &mut self,
        pos: u64,
        len: u64,
        mark: Mark,
        other: &Positions,
        out: &mut impl FnMut(Chunk),
    ) {
        let at = self.positions.push(pos, len);
        if len > 0 {
            out(Chunk::Gap { pos: at, len, mark: translated(mark, other) });
        }
    }

    /// The number of a record, its content, and whether it is under later keys than the last one.
    fn find(&mut self, header: &Header, body: &Bytes) -> Option<(u64, super::cipher::Opened, bool)> {
        let generation = self.generation.as_ref()?;
        let keys = &generation.keys;
        let expected = self.number;
        if let Some(opened) = keys.open(header, body, expected) {
            return Some((expected, opened, false));
        }
        if let Some(offset) = self.nonce_offset
            && let Some(number) = keys.explicit_nonce(body).map(|nonce| nonce.wrapping_sub(offset))
            && number > expected
            && let Some(opened) = keys.open(header, body, number)
        {
            return Some((number, opened, false));
        }
        let overhead = (HEADER_LEN + keys.front() + keys.back()) as u64;
        let mut window = match &self.hole {
            _ if self.is_joined => JOIN_WINDOW,
            Some(hole) => hole.len / overhead + 2,
            None => return None,
        };
        // Without a hidden type every number costs the whole record.
        let cost = match generation.suite.version {
            Version::Tls13 => 1,
            Version::Tls12 => 2 + body.len() as u64 / 16,
        };
        window = window.min(self.budget / cost);
        let (found, tried) = keys.find(
            header,
            body,
            expected.saturating_add(1)..expected.saturating_add(1 + window),
            Kinds::Any,
        );
        self.budget = self.budget.saturating_sub(tried.saturating_mul(cost));
        if let Some((number, opened)) = found {
            return Some((number, opened, false));
        }
        let mut secret = generation.secret.clone()?;
        for _ in 0..MAX_LOST_UPDATES {
            secret = next_secret(generation.suite.hash, &secret);
            let keys = Keys::v13(generation.suite, &secret)?;
            let window = window.min(self.budget);
            let (found, tried) = keys.find(header, body, 0..window, Kinds::Any);
            self.budget = self.budget.saturating_sub(tried);
            if let Some((number, opened)) = found {
                self.generation = Some(Generation { keys, suite: generation.suite, secret: Some(secret) });
                return Some((number, opened, true));
            }
        }
        None
    }

    /// What was lost before record `number` becomes a gap.
    fn fill(
        &mut self,
        number: u64,
        is_other_generation: bool,
        other: &Positions,
        out: &mut impl FnMut(Chunk),
    ) {
        let Some(hole) = self.hole.take() else { return };
        let Some(generation) = self.generation.as_ref().filter(|_| !self.is_joined) else { return };
        let overhead = (HEADER_LEN + generation.keys.front() + generation.keys.back() + self.padding) as u64;
        let records = if is_other_generation {
            // How many there were under the keys before is not known: as few as may be.
            number.max(1).max(hole.len.div_ceil((1 << 14) + overhead))
        } else {
            number.saturating_sub(self.number)
        };
        let len = if records == 0 { 0 } else { hole.len.saturating_sub(records.saturating_mul(overhead)) };
        let pos = hole.pos.saturating_add(hole.told);
        self.skip(pos, len.saturating_sub(hole.told), hole.mark, other, out);
    }

    /// KeyUpdate (RFC 8446, section 7.2).
    fn update(&mut self) {
        let Some(generation) = self.generation.take() else { return };
        let Some(secret) = generation.secret else { return };
        let secret = next_secret(generation.suite.hash, &secret);
        let keys = Keys::v13(generation.suite, &secret);
        self.generation = keys.map(|keys| Generation { keys, suite: generation.suite, secret: Some(secret) });
        self.number = 0;
    }
}

/// The mark with the other direction in plaintext positions.
fn translated(mark: Mark, other: &Positions) -> Mark {
    Mark { other_pos: other.plain(mark.other_pos), ..mark }
}

/// The beginning of a post-handshake message that fills its record, with padding or without: what programs send does not begin
/// like that.
fn is_handshake(shown: &[u8], lens: [usize; 2]) -> bool {
    let Some([kind, high, middle, low]) = shown.first_chunk::<4>() else { return false };
    let told = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
    matches!(kind, 4 | 11 | 13 | 15 | 20 | 24) && lens.contains(&(told + 4))
}
