//! Records of one direction of one connection → bytes in stream order and gaps.
//!
//! ```text
//!   push(pos, len, bytes, mark) ─▶ [waiting, out of order] ─▶ [ready, in order] ─▶ pop() -> Chunk
//! ```
//!
//! Records of one socket arrive nearly in order, but two CPUs can swap neighbours, and a record can be lost. A record
//! beyond the expected position therefore waits within a [`Window`]; when the window closes, what is missing becomes a
//! [`Chunk::Gap`] of known length.
//!
//! [`Assembler`] does this for one direction; [`Duplex`] holds both and pops their chunks in the order in which the
//! process moved them.
//!
//! *Owns* reordering, overlap, holes and memory bounds of the two directions of one connection.
//! *Must not know* protocols, nor who is connected.
//!
//! Invariants: popped chunks tile the stream (each starts where the one before ended); every moved byte comes out as a
//! captured byte or as part of a gap, or is counted as trimmed or dropped ([`Stats`]); nothing that arrives can make
//! [`Assembler::buffered`] exceed the window by more than one record.

mod duplex;
#[cfg(test)]
mod tests;

pub use duplex::Duplex;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::record::Mark;
use crate::time::BootTime;

/// A position this far from the expected one is nonsense, not a hole: 1 TiB.
pub const MAX_JUMP: u64 = 1 << 40;

/// How long and how much may wait for what is missing before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Captured bytes that wait.
    pub bytes: usize,
    /// Records that wait.
    pub records: usize,
    /// Record time that passes.
    pub time: Duration,
}

impl Default for Window {
    /// Neighbours swapped between CPUs are microseconds apart; 100 ms also covers a stalled CPU.
    fn default() -> Self {
        Self { bytes: 256 << 10, records: 128, time: Duration::from_millis(100) }
    }
}

/// A piece of the stream, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Captured bytes; never empty.
    Bytes { pos: u64, bytes: Bytes, mark: Mark },
    /// `len` bytes that moved but are not there; never zero. The mark is that of the record that was cut short,
    /// or, for a lost record, that of the one after it, with the lowest `other_pos` that is possible.
    Gap { pos: u64, len: u64, mark: Mark },
}

impl Chunk {
    /// Position of its first byte.
    pub fn pos(&self) -> u64 {
        match self {
            Chunk::Bytes { pos, .. } | Chunk::Gap { pos, .. } => *pos,
        }
    }

    /// Bytes of the stream it stands for.
    pub fn len(&self) -> u64 {
        match self {
            Chunk::Bytes { bytes, .. } => bytes.len() as u64,
            Chunk::Gap { len, .. } => *len,
        }
    }

    /// Never true for a popped chunk.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Position after its last byte.
    pub fn end(&self) -> u64 {
        self.pos().saturating_add(self.len())
    }

    /// When and by whom it was moved.
    pub fn mark(&self) -> Mark {
        match self {
            Chunk::Bytes { mark, .. } | Chunk::Gap { mark, .. } => *mark,
        }
    }
}

/// What became of the bytes. `moved + missing = bytes + gap + trimmed + dropped + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Length of all records.
    pub moved: u64,
    /// Bytes of holes between records: in no record at all.
    pub missing: u64,
    /// Made ready as captured bytes.
    pub bytes: u64,
    /// Made ready as gaps: not captured, or missing.
    pub gap: u64,
    /// Already known when they came again.
    pub trimmed: u64,
    /// At a position that cannot be.
    pub dropped: u64,
    /// Captured bytes in excess of a record's length: a malformed record.
    pub surplus: u64,
    /// Records that had to wait for an earlier one.
    pub reordered: u64,
}

/// A record, or what is left of it after trimming.
#[derive(Debug)]
struct Piece {
    len: u64,
    bytes: Bytes,
    mark: Mark,
}

/// One direction's records in any order in, chunks in stream order out.
#[derive(Debug)]
pub struct Assembler {
    window: Window,
    /// Position after the last chunk made ready. `None` until the stream's start is known.
    expected: Option<u64>,
    /// Disjoint pieces beyond `expected`, by position.
    waiting: BTreeMap<u64, Piece>,
    /// Captured bytes in `waiting` and in `ready`.
    waiting_bytes: usize,
    ready_bytes: usize,
    /// Since when the first hole is known.
    hole_since: BootTime,
    /// `other_pos` of the last record made ready: it never goes back.
    other_pos: u64,
    ready: VecDeque<Chunk>,
    stats: Stats,
}

impl Assembler {
    /// A stream that starts at `start`, or wherever its first record is.
    pub fn new(start: Option<u64>, window: Window) -> Self {
        Self {
            window,
            expected: start,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            ready_bytes: 0,
            hole_since: BootTime::ZERO,
            other_pos: 0,
            ready: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Takes a record: `len` bytes moved at `pos`, of which the first `bytes` were captured.
    pub fn push(&mut self, pos: u64, len: u64, mut bytes: Bytes, mark: Mark) {
        self.stats.moved = self.stats.moved.saturating_add(len);
        if bytes.len() as u64 > len {
            self.stats.surplus += bytes.len() as u64 - len;
            bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        }
        let expected = self.expected.unwrap_or(pos);
        let Some(end) = pos.checked_add(len).filter(|_| pos.abs_diff(expected) <= MAX_JUMP) else {
            self.stats.dropped = self.stats.dropped.saturating_add(len);
            return;
        };
        self.expected = Some(expected);
        if pos == expected && self.waiting.is_empty() {
            self.accept(pos, Piece { len, bytes, mark });
        } else {
            if pos > expected && self.waiting.is_empty() {
                self.hole_since = mark.at;
            }
            self.stats.reordered += u64::from(pos > expected);
            self.wait(pos.max(expected), end, pos, &Piece { len, bytes, mark });
            self.drain();
        }
        self.enforce(mark.at);
    }

    /// The next chunk in stream order.
    pub fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.ready.pop_front()?;
        if let Chunk::Bytes { bytes, .. } = &chunk {
            self.ready_bytes = self.ready_bytes.saturating_sub(bytes.len());
        }
        Some(chunk)
    }

    /// The chunk that [`Assembler::pop`] would return.
    pub fn peek(&self) -> Option<&Chunk> {
        self.ready.front()
    }

    /// Position up to which chunks were popped. `None` until the stream's start is known.
    pub fn delivered(&self) -> Option<u64> {
        self.ready.front().map(Chunk::pos).or(self.expected)
    }

    /// Position up to which chunks are ready. `None` until the stream's start is known.
    pub fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// The stream is known, from elsewhere, to have moved up to `pos`: what is missing before it becomes a gap now.
    /// `mark` is used where no record says better. A stream whose start is unknown starts at `pos`.
    pub fn skip_to(&mut self, pos: u64, mark: Mark) {
        let Some(mut expected) = self.expected else {
            self.expected = Some(pos);
            return;
        };
        if pos.saturating_sub(expected) > MAX_JUMP {
            return;
        }
        while expected < pos {
            match self.waiting.first_key_value() {
                Some((&first, piece)) if first <= pos => {
                    let mark = Mark { other_pos: self.other_pos, ..piece.mark };
                    self.give_up(first, mark);
                }
                _ => self.give_up(pos, mark),
            }
            expected = self.expected.unwrap_or(pos);
        }
    }

    /// Time passed: holes older than the window become gaps.
    pub fn handle_timeout(&mut self, now: BootTime) {
        self.enforce(now);
    }

    /// When [`Assembler::handle_timeout`] would change something.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        (!self.waiting.is_empty()).then(|| self.hole_since + self.window.time)
    }

    /// No more records: every hole becomes a gap.
    pub fn finish(&mut self) {
        while let Some((&first, piece)) = self.waiting.first_key_value() {
            let mark = Mark { other_pos: self.other_pos, ..piece.mark };
            self.give_up(first, mark);
        }
    }

    /// Captured bytes held, waiting or ready.
    pub fn buffered(&self) -> usize {
        self.waiting_bytes.saturating_add(self.ready_bytes)
    }

    /// Chunks and records held, waiting or ready.
    pub fn held(&self) -> usize {
        self.waiting.len().saturating_add(self.ready.len())
    }

    /// What became of the bytes so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Makes a piece at the expected position ready.
    fn accept(&mut self, pos: u64, piece: Piece) {
        let captured = piece.bytes.len() as u64;
        let Piece { len, bytes, mark } = piece;
        self.other_pos = self.other_pos.max(mark.other_pos);
        self.expected = Some(pos.saturating_add(len));
        if captured > 0 {
            self.stats.bytes = self.stats.bytes.saturating_add(captured);
            self.ready_bytes = self.ready_bytes.saturating_add(bytes.len());
            self.ready.push_back(Chunk::Bytes { pos, bytes, mark });
        }
        if len > captured {
            self.gap(pos.saturating_add(captured), len - captured, mark);
        }
    }

    fn gap(&mut self, pos: u64, len: u64, mark: Mark) {
        self.stats.gap = self.stats.gap.saturating_add(len);
        self.ready.push_back(Chunk::Gap { pos, len, mark });
    }

    /// Keeps `from..end` of a record that starts at `start`, without what is waiting already. First come, first kept.
    fn wait(&mut self, from: u64, end: u64, start: u64, record: &Piece) {
        self.stats.trimmed = self.stats.trimmed.saturating_add(from.min(end).saturating_sub(start));
        let mut at = from;
        while at < end {
            let covered_to = self
                .waiting
                .range(..=at)
                .next_back()
                .map(|(&pos, piece)| pos.saturating_add(piece.len).min(end))
                .filter(|covered_to| *covered_to > at);
            if let Some(covered_to) = covered_to {
                self.stats.trimmed = self.stats.trimmed.saturating_add(covered_to - at);
                at = covered_to;
                continue;
            }
            let stop = self.waiting.range(at..).next().map_or(end, |(&pos, _)| pos.min(end));
            let captured = record.bytes.len();
            let cut = |pos: u64| usize::try_from(pos - start).unwrap_or(usize::MAX).min(captured);
            let bytes = record.bytes.slice(cut(at)..cut(stop));
            self.waiting_bytes = self.waiting_bytes.saturating_add(bytes.len());
            self.waiting.insert(at, Piece { len: stop - at, bytes, mark: record.mark });
            at = stop;
        }
    }

    /// Moves what is no longer out of order from `waiting` to `ready`.
    fn drain(&mut self) {
        let before = self.waiting.len();
        while let Some(entry) = self.waiting.first_entry()
            && Some(*entry.key()) == self.expected
        {
            let (pos, piece) = entry.remove_entry();
            self.waiting_bytes = self.waiting_bytes.saturating_sub(piece.bytes.len());
            self.accept(pos, piece);
        }
        if self.waiting.len() != before {
            // The first hole is another one now, known since the earliest record that waits for it.
            self.hole_since = self.waiting.values().map(|piece| piece.mark.at).min().unwrap_or_default();
        }
    }

    /// Everything up to `pos`, where a waiting record may start, is lost.
    fn give_up(&mut self, pos: u64, mark: Mark) {
        let expected = self.expected.unwrap_or(pos);
        if pos > expected {
            self.stats.missing = self.stats.missing.saturating_add(pos - expected);
            self.gap(expected, pos - expected, mark);
            self.expected = Some(pos);
        }
        self.drain();
    }

    /// Closes the window over holes that are too old or have too much waiting behind them.
    fn enforce(&mut self, now: BootTime) {
        while let Some((&first, piece)) = self.waiting.first_key_value() {
            let over = self.waiting_bytes > self.window.bytes || self.waiting.len() > self.window.records;
            if !over && now < self.hole_since + self.window.time {
                break;
            }
            let mark = Mark { other_pos: self.other_pos, ..piece.mark };
            self.give_up(first, mark);
        }
    }
}
