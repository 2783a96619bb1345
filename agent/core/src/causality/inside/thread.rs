//! What one thread read, wrote and answered → what it works on, and whether on one thing at a time.
//!
//! *Owns* the memory of one thread and its bounds. *Must not know* operations, other threads, rules.

use std::collections::VecDeque;

use super::thresholds::{MAX_ACTS, MAX_ANSWERS, MAX_BEGUN};
use crate::causality::stats::InsideStats;
use crate::record::{ConnId, OpId};
use crate::time::BootTime;

/// A thread, or a goroutine: what it has at hand, and what it did last.
#[derive(Debug, Default)]
pub(super) struct ThreadState {
    /// Requests that the thread has read and that are not over.
    pub(super) serving: Vec<OpId>,
    /// The thread was seen with several requests at once, or with several calls under way: what it read proves less.
    pub(super) multiplexes: bool,
    /// Calls that the thread wrote and whose answers are not over.
    pub(super) calls: Vec<(OpId, ConnId)>,
    /// The request that this thread's creator was serving then. `None` once this thread reads requests itself.
    pub(super) begun_for: Option<OpId>,
    pub(super) last_read_at: BootTime,
    pub(super) last_read: Vec<OpId>,
    /// The latest event seen of the thread.
    pub(super) seen_at: BootTime,
    /// Requests that the thread answered, in order of time.
    pub(super) answers: VecDeque<(BootTime, OpId)>,
    /// The request that the thread answered last, until it reads another.
    pub(super) answered: Option<OpId>,
    /// When the thread moved bytes last and on which connections, in order of time.
    acts: VecDeque<(BootTime, ConnId)>,
    /// Outgoing operations that the thread began last, in order of time.
    pub(super) began: VecDeque<(BootTime, OpId)>,
    /// Calls that the thread waited for, doing nothing else, although it had several requests or messages to work on.
    pub(super) sequential_calls: u32,
    /// What was forgotten of the thread's answers, operations and acts.
    pub(super) forgotten: InsideStats,
}

impl ThreadState {
    /// The one request that the thread works on, as far as is known.
    pub(super) fn work(&self) -> Option<OpId> {
        match self.serving.as_slice() {
            _ if self.multiplexes => None,
            [] => self.begun_for,
            [only] => Some(*only),
            _ => None,
        }
    }

    pub(super) fn read(&mut self, op: OpId, at: BootTime) {
        // What becomes known late was not read last.
        if at < self.last_read_at {
            return;
        }
        self.seen_at = self.seen_at.max(at);
        if at != self.last_read_at {
            self.last_read.clear();
            self.last_read_at = at;
        }
        if !self.last_read.contains(&op) {
            self.last_read.push(op);
        }
    }

    /// The thread moved bytes of an operation on that connection.
    pub(super) fn act(&mut self, at: BootTime, conn: ConnId) {
        self.forgotten.acts += remember(&mut self.acts, at, conn, MAX_ACTS);
    }

    /// The thread began an outgoing operation.
    pub(super) fn begin(&mut self, op: OpId, at: BootTime) {
        self.forgotten.begun += remember(&mut self.began, at, op, MAX_BEGUN);
    }

    /// The thread made a call and read the answer. A thread that does something on another connection meanwhile works on
    /// several things at once, or will. One that has other work at hand (`several_at_hand`) and waits works on one after the
    /// other.
    pub(super) fn waited(&mut self, conn: ConnId, from: BootTime, to: BootTime, several_at_hand: bool) {
        if self.acts.iter().any(|(at, on)| *on != conn && from < *at && *at < to) {
            self.multiplexes = true;
        } else if several_at_hand {
            self.sequential_calls = self.sequential_calls.saturating_add(1);
        }
    }

    pub(super) fn answer(&mut self, op: OpId, at: BootTime) {
        self.forgotten.answers += remember(&mut self.answers, at, op, MAX_ANSWERS);
        self.seen_at = self.seen_at.max(at);
        self.answered = Some(op);
    }
}

/// Enters something in order of time; the oldest goes first. Returns how many went.
fn remember<T>(list: &mut VecDeque<(BootTime, T)>, at: BootTime, what: T, most: usize) -> u64 {
    let is_full = list.len() >= most;
    if is_full {
        list.pop_front();
    }
    let position = list.partition_point(|(earlier, _)| *earlier <= at);
    list.insert(position, (at, what));
    u64::from(is_full)
}
