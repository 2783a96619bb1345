//! Records of both directions of one connection → chunks in the order in which the process moved them.
//!
//! Each record says where the other direction stood when it was moved ([`Mark::other_pos`]). A response therefore
//! waits for its request even when the request's record arrives later, without comparing clocks:
//!
//! ```text
//!   Free     the other direction was popped up to other_pos        pop it
//!   Queued   it is ready up to there, but not yet popped           the other one first
//!   Missing  bytes before other_pos have not arrived               wait within the window, then they are a gap
//! ```
//!
//! Two threads that read and write at once can each have seen the other's bytes; then time decides.

use bytes::Bytes;

use super::{Assembler, Chunk, MAX_JUMP, Window};
use crate::record::{Direction, Mark};
use crate::time::BootTime;

/// Both directions of one connection.
#[derive(Debug)]
pub struct Duplex {
    ingress: Assembler,
    egress: Assembler,
    window: Window,
    /// Latest record time.
    now: BootTime,
    is_finished: bool,
    /// Bytes the other direction proved to have moved, whose records did not come within the window.
    stalled: u64,
}

/// Whether the first ready chunk of a direction may be popped. In order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Free,
    Queued,
    Missing,
}

impl Duplex {
    /// Both streams start at `start`, or each where its first record is.
    pub fn new(start: Option<u64>, window: Window) -> Self {
        Self {
            ingress: Assembler::new(start, window),
            egress: Assembler::new(start, window),
            window,
            now: BootTime::ZERO,
            is_finished: false,
            stalled: 0,
        }
    }

    /// Both streams go on where others stopped.
    pub fn resumed(ingress: u64, egress: u64, window: Window) -> Self {
        Self {
            ingress: Assembler::new(Some(ingress), window),
            egress: Assembler::new(Some(egress), window),
            ..Self::new(None, window)
        }
    }

    /// Takes a record of one direction. See [`Assembler::push`].
    pub fn push(&mut self, direction: Direction, pos: u64, len: u64, bytes: Bytes, mark: Mark) {
        self.now = self.now.max(mark.at);
        self.stream_mut(direction).push(pos, len, bytes, mark);
        self.handle_timeout(self.now);
    }

    /// The next chunk, if nothing that was moved before it is missing.
    pub fn pop(&mut self) -> Option<(Direction, Chunk)> {
        loop {
            let ingress = self.turn(Direction::Ingress);
            let egress = self.turn(Direction::Egress);
            let (direction, (turn, at)) = match (ingress, egress) {
                (None, None) => return None,
                (Some(turn), None) => (Direction::Ingress, turn),
                (None, Some(turn)) => (Direction::Egress, turn),
                (Some(ingress), Some(egress)) if ingress <= egress => (Direction::Ingress, ingress),
                (Some(_), Some(egress)) => (Direction::Egress, egress),
            };
            if turn == Turn::Missing {
                if self.may_wait(at) {
                    return None;
                }
                self.stop_waiting(direction);
            } else {
                return self.stream_mut(direction).pop().map(|chunk| (direction, chunk));
            }
        }
    }

    /// Time passed: what waited longer than the window is given up, and [`Duplex::pop`] returns what it held back.
    pub fn handle_timeout(&mut self, now: BootTime) {
        self.now = self.now.max(now);
        self.ingress.handle_timeout(now);
        self.egress.handle_timeout(now);
    }

    /// When [`Duplex::handle_timeout`] would change something. Call it after [`Duplex::pop`] returned `None`.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let held = |stream: &Assembler| stream.peek().map(|chunk| chunk.mark().at + self.window.time);
        let streams = [&self.ingress, &self.egress];
        streams.into_iter().flat_map(|stream| [stream.poll_timeout(), held(stream)]).flatten().min()
    }

    /// No more records: [`Duplex::pop`] waits for nothing any more.
    pub fn finish(&mut self) {
        self.is_finished = true;
        self.ingress.finish();
        self.egress.finish();
    }

    /// Gives up everything that is waited for now, to free memory. More records may come.
    pub fn relieve(&mut self) -> Vec<(Direction, Chunk)> {
        let was_finished = self.is_finished;
        self.finish();
        let chunks = std::iter::from_fn(|| self.pop()).collect();
        self.is_finished = was_finished;
        chunks
    }

    /// Captured bytes held.
    pub fn buffered(&self) -> usize {
        self.ingress.buffered().saturating_add(self.egress.buffered())
    }

    /// Chunks and records held.
    pub fn held(&self) -> usize {
        self.ingress.held().saturating_add(self.egress.held())
    }

    /// Bytes one direction proved the other to have moved, whose records did not come in time.
    pub fn stalled(&self) -> u64 {
        self.stalled
    }

    /// One of both streams.
    pub fn stream(&self, direction: Direction) -> &Assembler {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    fn stream_mut(&mut self, direction: Direction) -> &mut Assembler {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// Whether it is the turn of a direction's first ready chunk, and when that was moved.
    fn turn(&self, direction: Direction) -> Option<(Turn, BootTime)> {
        let mark = self.stream(direction).peek()?.mark();
        let other = self.stream(direction.opposite());
        let need = mark.other_pos;
        let turn = match (other.delivered(), other.expected()) {
            (Some(delivered), Some(expected)) => {
                if need <= delivered || need - delivered > MAX_JUMP {
                    Turn::Free
                } else if need <= expected {
                    Turn::Queued
                } else {
                    Turn::Missing
                }
            }
            _ if need == 0 => Turn::Free,
            _ => Turn::Missing,
        };
        Some((turn, mark.at))
    }

    fn may_wait(&self, at: BootTime) -> bool {
        !self.is_finished
            && self.now < at + self.window.time
            && self.buffered() <= self.window.bytes
            && self.held() <= self.window.records
    }

    /// What the first chunk of `direction` waits for becomes a gap.
    fn stop_waiting(&mut self, direction: Direction) {
        let Some(head) = self.stream(direction).peek() else { return };
        let (pos, mark) = (head.pos(), head.mark());
        let now = self.now;
        let other = self.stream_mut(direction.opposite());
        let before = other.stats().missing;
        other.skip_to(mark.other_pos, Mark { other_pos: pos, ..mark });
        // A later hole may be due as well: the record behind it may be older than this one.
        other.handle_timeout(now);
        let missing = other.stats().missing.saturating_sub(before);
        self.stalled = self.stalled.saturating_add(missing);
    }
}
