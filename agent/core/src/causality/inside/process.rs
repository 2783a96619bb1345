//! What one process reads, writes and loses → what is in flight in it, and what is known of how it works.
//!
//! *Owns* the memory of one process and its bounds. *Must not know* rules.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

use rustc_hash::FxHashMap;

use super::Interaction;
use super::quiet::{Aftermath, Quiet};
use super::table::{Loss, OneCause};
use super::thread::ThreadState;
use super::thresholds::{INTERLEAVED_FOR, MAX_INTERLEAVED, MAX_THREADS};
use super::trust::Trust;
use super::unread::Unread;
use crate::causality::echo::{Carried, Echo};
use crate::causality::stats::InsideStats;
use crate::hash::Keyed;
use crate::operation::OpSide;
use crate::order::OrderKey;
use crate::queue::Queue;
use crate::record::{ConnId, OpId, Tid};
use crate::time::BootTime;

/// A process: its threads, what it was asked, what it asks of others, and how it has shown to work.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) threads: FxHashMap<Tid, ThreadState>,
    /// Requests in flight, by their start.
    pub(super) incoming: Queue<OpId>,
    /// Calls in flight that may be passed on and are no other cause, by their start: of a process that asks others.
    pub(super) relayed: Queue<OpId>,
    /// Outgoing operations that are over, by their start. They wait until every request that began before them is over too.
    pub(super) blocked: Queue<OpId>,
    /// Requests by the one order each names, those over included, in the order they were over.
    pub(super) by_key: HashMap<OrderKey, VecDeque<OpId>, Keyed>,
    /// Requests by their content, those that are over, in the order they were: of a process that asks others.
    pub(super) by_echo: FxHashMap<Echo, VecDeque<OpId>>,
    /// What was asked and done in a trace, by what carries its ID.
    pub(super) traces: FxHashMap<Carried, Trace>,
    /// Requests that name no order, in the order they were over.
    pub(super) unnamed: VecDeque<OpId>,
    /// The process has asked others, ever: its connections may be gone.
    pub(super) asks_others: bool,
    /// Connections that the process uses as a client.
    pub(super) clients: FxHashMap<ConnId, Client>,
    /// The message that was written last, when and on which connection.
    pub(super) written: Option<(BootTime, ConnId, OpId)>,
    /// When threads were seen writing each other's messages, and on which connection, in order of time.
    pub(super) interleaved: VecDeque<(BootTime, ConnId)>,
    /// Those of `clients` with nothing open.
    pub(super) idle_count: usize,
    /// The requests that were over last.
    pub(super) over: [Option<(BootTime, OpId)>; 2],
    /// When work began soon after an answer while nothing was in flight, until that is counted.
    pub(super) unexplained: VecDeque<BootTime>,
    pub(super) aftermath: Aftermath,
    pub(super) quiet: Quiet,
    /// Operations that [await a late cause](super::table::Op::awaits_late_cause).
    pub(super) awaiting_late_cause: u32,
    /// How far guesses are believed in this process, as keys have shown.
    pub(super) trust: Trust,
    /// The process has ended. What is known of it serves decisions still to come.
    pub(super) ended: bool,
    /// When bytes which the process moved were lost, and operations that were not read.
    pub(super) losses: VecDeque<Loss>,
    /// Connections of which it is not read what they ask for.
    pub(super) unread: Unread,
    /// What was forgotten at the bounds above, and with threads that are gone.
    pub(super) forgotten: InsideStats,
}

impl Process {
    /// Takes a request out of the index of keys.
    pub(super) fn unname(&mut self, op: OpId, keys: &[OrderKey]) {
        keys.iter().for_each(|key| take_out(&mut self.by_key, key, op));
    }

    /// Enters a request that is over where contents are looked for. Whoever has asked nobody passes nothing on, but may reply.
    pub(super) fn echoes(&mut self, op: OpId, echo: Echo, family: Interaction) {
        if self.asks_others || family == Interaction::Message {
            self.by_echo.entry(echo).or_default().push_back(op);
        }
    }

    /// Takes it out again.
    pub(super) fn forget_echo(&mut self, op: OpId, echo: Echo) {
        take_out(&mut self.by_echo, &echo, op);
    }

    /// Enters an operation that is over where traces are looked for.
    pub(super) fn carries(&mut self, op: OpId, trace: Carried, shape: OpSide) {
        let known = self.traces.entry(trace).or_default();
        known.members += 1;
        if shape == OpSide::Incoming {
            known.asked.push_back(op);
        }
    }

    /// Takes it out again.
    pub(super) fn forget_carried(&mut self, op: OpId, trace: Carried, shape: OpSide) {
        let Some(known) = self.traces.get_mut(&trace) else { return };
        known.members -= 1;
        if shape == OpSide::Incoming {
            remove(&mut known.asked, op);
        }
        if known.members == 0 {
            self.traces.remove(&trace);
        }
    }

    /// The process was asked for something, ever.
    pub(super) fn was_asked(&self) -> bool {
        !self.incoming.is_empty() || self.over[0].is_some()
    }

    /// A request that was in flight when this operation started is still open: the request's keys are not known yet.
    pub(super) fn is_blocked(&self, (started_at, _): (BootTime, OpId)) -> bool {
        self.incoming.first().is_some_and(|(oldest, _)| oldest <= started_at)
    }

    /// One write to a connection held what several threads had left in its buffer.
    pub(super) fn interleave(&mut self, at: BootTime, conn: ConnId) {
        if self.interleaved.len() >= MAX_INTERLEAVED {
            self.interleaved.pop_front();
            self.forgotten.interleaved += 1;
        }
        let position = self.interleaved.partition_point(|(earlier, _)| *earlier <= at);
        self.interleaved.insert(position, (at, conn));
    }

    /// Around that time, the thread that wrote to the connection need not be the one whose message it was.
    pub(super) fn is_interleaved(&self, conn: ConnId, from: BootTime, to: BootTime) -> bool {
        let first = self.interleaved.partition_point(|(at, _)| *at + INTERLEAVED_FOR < from);
        self.interleaved.iter().skip(first).take_while(|(at, _)| *at <= to).any(|(_, on)| *on == conn)
    }

    /// Takes out an operation that need not wait any longer.
    pub(super) fn pop_unblocked(&mut self) -> Option<OpId> {
        let first = self.blocked.first()?;
        if self.is_blocked(first) {
            return None;
        }
        self.blocked.remove(first.0, first.1);
        Some(first.1)
    }

    /// Nothing is under way, neither asked of the process nor by it.
    pub(super) fn is_idle(&self) -> bool {
        self.incoming.is_empty() && self.clients.len() == self.idle_count
    }

    /// The thread's memory, made when it is new.
    pub(super) fn thread(&mut self, tid: Tid) -> &mut ThreadState {
        if self.threads.len() >= MAX_THREADS && !self.threads.contains_key(&tid) {
            // Idle threads first: short-lived ones pile up in thread-per-request servers.
            let forgotten = &mut self.forgotten;
            self.threads.retain(|_, thread| {
                let is_busy = !thread.serving.is_empty() || !thread.calls.is_empty();
                if !is_busy {
                    forgotten.threads += 1;
                    *forgotten += thread.forgotten;
                }
                is_busy
            });
        }
        self.threads.entry(tid).or_default()
    }

    /// A thread of that identifier is no more.
    pub(super) fn thread_over(&mut self, tid: Tid) {
        if let Some(thread) = self.threads.remove(&tid) {
            self.forgotten += thread.forgotten;
        }
    }

    /// What was forgotten of the process, its threads included.
    pub(super) fn forgotten(&self) -> InsideStats {
        let mut all = self.forgotten;
        self.threads.values().for_each(|thread| all += thread.forgotten);
        all
    }

    /// A thread began an operation on that connection. Returns what is under way on it now, and who had written before.
    pub(super) fn client_opened(&mut self, conn: ConnId, tid: Tid) -> Client {
        let client = self.clients.entry(conn).or_insert_with(|| {
            self.idle_count += 1;
            Client::default()
        });
        if client.open == 0 {
            self.idle_count = self.idle_count.saturating_sub(1);
        }
        client.open += 1;
        self.asks_others = true;
        let writer = match client.writer {
            Writer::Unknown => Writer::One(tid),
            Writer::One(only) if only == tid => Writer::One(tid),
            Writer::One(_) | Writer::Several => Writer::Several,
        };
        let before = std::mem::replace(&mut client.writer, writer);
        let known = if before == Writer::Unknown { before } else { writer };
        Client { open: client.open, writer: known }
    }

    /// An operation on that connection is over.
    pub(super) fn client_closed(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(&conn).filter(|client| client.open > 0) {
            client.open -= 1;
            self.idle_count += usize::from(client.open == 0);
        }
    }

    /// The connection is gone.
    pub(super) fn client_gone(&mut self, conn: ConnId) {
        if self.clients.remove(&conn).is_some_and(|client| client.open == 0) {
            self.idle_count = self.idle_count.saturating_sub(1);
        }
    }
}

/// Takes an operation out of an index.
fn take_out<K: Eq + Hash, S: BuildHasher>(index: &mut HashMap<K, VecDeque<OpId>, S>, key: &K, op: OpId) {
    let Some(ops) = index.get_mut(key) else { return };
    remove(ops, op);
    if ops.is_empty() {
        index.remove(key);
    }
}

/// Takes an operation out. Those that were over first are forgotten first.
fn remove(ops: &mut VecDeque<OpId>, op: OpId) {
    if ops.pop_front_if(|first| *first == op).is_none() {
        ops.retain(|other| *other != op);
    }
}

/// What a process was asked and did with one trace ID. It is there as long as one of its operations is remembered.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Requests that are over, in the order they were.
    pub(super) asked: VecDeque<OpId>,
    pub(super) cause: OneCause,
    /// Operations that carry the ID.
    members: u32,
}

/// A connection that a process uses as a client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Client {
    /// Operations under way.
    pub(super) open: u32,
    pub(super) writer: Writer,
}

/// Who writes on a connection: a thread that writes all of it writes what it is handed, others write what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Writer {
    /// Nobody has.
    #[default]
    Unknown,
    /// Only this thread.
    One(Tid),
    Several,
}
