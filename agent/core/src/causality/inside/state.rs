//! What is remembered of operations, threads, processes and transactions.
//!
//! *Owns* the tables and their bounds. *Must not know* rules.

use std::collections::{BTreeSet, HashMap, VecDeque};

use rustc_hash::FxHashMap;

use super::proof::Proof;
use super::{
    AFTER_LEAST_NS, AFTER_MARGIN, AFTER_NS, CROWD, ENOUGH_AFTER, Interaction, MAX_ACTS, MAX_ANSWERS,
    MAX_BEGUN, MAX_MIXED, MAX_THREADS, MIXED_FOR_NS, QUIET_NS,
};
use crate::operation::OpSide;
use crate::order::{Facts, OrderKey};
use crate::record::{BootNs, ConnId, OpId, Point};

#[derive(Debug)]
pub(super) struct Op {
    pub(super) shape: OpSide,
    pub(super) family: Interaction,
    pub(super) tgid: u32,
    pub(super) conn: ConnId,
    pub(super) opened: Point,
    pub(super) closed_at: Option<BootNs>,
    pub(super) answered: bool,
    /// The thread that wrote the answer of a request, or read that of a call.
    pub(super) answered_by: Option<u32>,
    pub(super) keys: Vec<OrderKey>,
    pub(super) traits: Facts,
    pub(super) transaction: Option<u64>,
    /// Threads that count it as work they serve.
    pub(super) served_by: Vec<u32>,
    /// Outgoing operations to look at again when this one is over (incoming: those that its thread did meanwhile) or decided
    /// (outgoing).
    pub(super) waiters: Vec<OpId>,
    /// What was the case when it started.
    pub(super) start: Circumstances,
    /// It names only an order whose request has been answered, as far as is known.
    pub(super) doubts: bool,
    /// It was open for so long that what it had shown until then was asked for.
    pub(super) asked: bool,
    /// Its transaction has been settled: only weak evidence is left.
    pub(super) company: bool,
    pub(super) decided: bool,
    pub(super) parent: Option<OpId>,
}

/// What was the case in the process when an outgoing operation started.
#[derive(Debug, Default)]
pub(super) struct Circumstances {
    /// Requests in flight, by their start.
    pub(super) in_flight: u32,
    /// The only request its thread was serving.
    pub(super) serving: Option<OpId>,
    /// The only request in flight.
    pub(super) alone: Option<OpId>,
    /// The request its thread had answered last, if it has read no other since.
    pub(super) answered: Option<OpId>,
    /// What its thread was begun for.
    pub(super) begun_for: Option<OpId>,
    /// What the thread that waits for it was serving, or was begun for.
    pub(super) awaited_for: Option<OpId>,
    /// Who writes on its connection.
    pub(super) writer: Writer,
    /// Its thread had read several requests or messages that were not over.
    pub(super) crowded: bool,
    /// What its thread had read last; several when one read brought several.
    pub(super) last_read: Vec<OpId>,
    pub(super) last_read_at: BootNs,
    /// The requests that were over last, and when.
    pub(super) over: [Option<(BootNs, OpId)>; 2],
    /// It was written together with another message, and several requests were in flight: who writes to a connection that
    /// threads share also writes what others have left in its buffer.
    pub(super) joint: bool,
    /// Another client connection had nothing under way: nobody was waiting for one.
    pub(super) idle_connection: bool,
    /// It became known after later events of its thread: nothing is known of the thread's state then.
    pub(super) late: bool,
}

impl Op {
    pub(super) fn new(shape: OpSide, family: Interaction, conn: ConnId, point: Point) -> Self {
        Self {
            shape,
            family,
            tgid: point.thread.tgid,
            conn,
            opened: point,
            closed_at: None,
            answered: false,
            answered_by: None,
            keys: Vec::new(),
            traits: Vec::new(),
            transaction: None,
            served_by: Vec::new(),
            waiters: Vec::new(),
            start: Circumstances::default(),
            doubts: false,
            asked: false,
            company: false,
            decided: false,
            parent: None,
        }
    }

    /// The next waiter would make the list grow.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiters.len() >= CROWD && self.waiters.len() == self.waiters.capacity()
    }

    /// Still open, or seen to its end: one whose end was missed may have been over long before.
    pub(super) fn is_sound(&self) -> bool {
        self.closed_at.is_none() || self.answered
    }

    /// Not over at that time.
    pub(super) fn is_open_at(&self, at: BootNs) -> bool {
        self.opened.at <= at && self.closed_at.is_none_or(|closed| closed >= at)
    }
}

/// Both name exactly one order, and not the same.
pub(super) fn conflict(a: &Op, b: &Op) -> bool {
    matches!((a.keys.as_slice(), b.keys.as_slice()), ([x], [y]) if x != y)
}

/// Facts that two operations have in common, and those in which they contradict each other.
pub(super) fn common_traits(a: &Op, b: &Op) -> (usize, usize) {
    let (mut same, mut different) = (0, 0);
    for (name, value) in &a.traits {
        match b.traits.iter().find(|(other, _)| other == name) {
            Some((_, other)) if other == value => same += 1,
            Some(_) => different += 1,
            None => {}
        }
    }
    (same, different)
}

#[derive(Debug, Default)]
pub(super) struct ThreadState {
    /// Requests it has read that are not over.
    pub(super) serving: Vec<OpId>,
    /// It was seen with several requests at once, or with several calls under way: reading proves less.
    pub(super) multiplexes: bool,
    /// Calls it wrote whose answer is not over.
    pub(super) calls: Vec<(OpId, ConnId)>,
    /// The request that the thread that began this one was serving then. `None` once it reads requests itself.
    pub(super) begun_for: Option<OpId>,
    pub(super) last_read_at: BootNs,
    pub(super) last_read: Vec<OpId>,
    /// The latest event seen of it.
    pub(super) seen_at: BootNs,
    /// Requests it answered, in order of time.
    pub(super) answers: VecDeque<(BootNs, OpId)>,
    /// The request it answered last, until it reads another.
    pub(super) answered: Option<OpId>,
    /// What it did last and on which connections, in order of time.
    acts: VecDeque<(BootNs, ConnId)>,
    /// Outgoing operations it began last, in order of time.
    pub(super) began: VecDeque<(BootNs, OpId)>,
    /// Calls it waited for and did nothing else meanwhile, while it had several requests or messages to work on.
    pub(super) patience: u32,
}

impl ThreadState {
    /// The one request it works on, as far as is known.
    pub(super) fn work(&self) -> Option<OpId> {
        match self.serving.as_slice() {
            _ if self.multiplexes => None,
            [] => self.begun_for,
            [only] => Some(*only),
            _ => None,
        }
    }

    pub(super) fn read(&mut self, op: OpId, at: BootNs) {
        // What became known late was not read last.
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

    /// It moved bytes of an operation on that connection.
    pub(super) fn act(&mut self, at: BootNs, conn: ConnId) {
        remember(&mut self.acts, at, conn, MAX_ACTS);
    }

    /// It began an outgoing operation.
    pub(super) fn begin(&mut self, op: OpId, at: BootNs) {
        remember(&mut self.began, at, op, MAX_BEGUN);
    }

    /// It made a call and read the answer. Who does something on another connection meanwhile works on several things at
    /// once, or will; who has other work at hand (`crowded`) and waits works on one after the other.
    pub(super) fn waited(&mut self, conn: ConnId, from: BootNs, to: BootNs, crowded: bool) {
        if self.acts.iter().any(|(at, on)| *on != conn && from < *at && *at < to) {
            self.multiplexes = true;
        } else if crowded {
            self.patience = self.patience.saturating_add(1);
        }
    }

    pub(super) fn answer(&mut self, op: OpId, at: BootNs) {
        remember(&mut self.answers, at, op, MAX_ANSWERS);
        self.seen_at = self.seen_at.max(at);
        self.answered = Some(op);
    }
}

/// Enters something in order of time; the oldest goes first.
fn remember<T>(list: &mut VecDeque<(BootNs, T)>, at: BootNs, what: T, most: usize) {
    if list.len() >= most {
        list.pop_front();
    }
    let position = list.partition_point(|(earlier, _)| *earlier <= at);
    list.insert(position, (at, what));
}

/// How long after their answers requests were still worked on, as far as keys have shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aftermath {
    longest_ns: BootNs,
    count: u32,
}

impl Aftermath {
    pub(super) fn count(&mut self, ns: BootNs) {
        self.longest_ns = self.longest_ns.max(ns);
        self.count = self.count.saturating_add(1);
    }

    /// Nothing is expected later.
    fn bound_ns(self) -> BootNs {
        match self.count {
            0..ENOUGH_AFTER => AFTER_NS,
            _ => self.longest_ns.saturating_mul(AFTER_MARGIN).clamp(AFTER_LEAST_NS, AFTER_NS),
        }
    }
}

/// How long a process has had nothing to do and done nothing: one that works by a timer of its own does not stay so for long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quiet {
    /// When the last request was over, while none is in flight.
    idle_since: Option<BootNs>,
    total_ns: BootNs,
    /// When an operation began last.
    worked_at: BootNs,
    /// A request became known after what began later than it.
    surprised_at: Option<BootNs>,
}

impl Quiet {
    /// The last request in flight is over.
    pub(super) fn rests(&mut self, at: BootNs) {
        self.idle_since = Some(at);
    }

    /// A request comes in.
    pub(super) fn asked(&mut self, at: BootNs) {
        if at < self.worked_at {
            self.surprised_at = self.surprised_at.max(Some(self.worked_at));
        }
        if let Some(since) = self.idle_since.take() {
            let from = since.saturating_add(AFTER_NS).max(self.worked_at);
            self.total_ns = self.total_ns.saturating_add(at.saturating_sub(from));
        }
    }

    /// It begins an operation, `idle` with no request in flight.
    pub(super) fn works(&mut self, at: BootNs, idle: bool) {
        self.worked_at = self.worked_at.max(at);
        let is_unasked = idle && self.idle_since.is_none_or(|since| at.saturating_sub(since) > AFTER_NS);
        if is_unasked {
            self.total_ns = 0;
        }
    }

    /// It does nothing unasked, and all that was asked of it by `at` is known. What was seen for so long is believed for as
    /// long: since `asked_at`, it had something to do.
    pub(super) fn holds(&self, asked_at: BootNs, at: BootNs) -> bool {
        self.total_ns >= QUIET_NS
            && at.saturating_sub(asked_at) <= self.total_ns
            && !self.was_surprised_since(at)
    }

    /// A request became known late, after something that began at `at` or later: others may still be to come.
    pub(super) fn was_surprised_since(&self, at: BootNs) -> bool {
        self.surprised_at.is_some_and(|surprised| surprised >= at)
    }
}

#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) threads: FxHashMap<u32, ThreadState>,
    /// Requests in flight, by their start.
    pub(super) incoming: BTreeSet<(BootNs, OpId)>,
    /// Outgoing operations that are over, by their start: they wait until no request of before is open.
    pub(super) blocked: BTreeSet<(BootNs, OpId)>,
    /// Requests by the one order each names, those over included, in the order they were over.
    pub(super) by_key: HashMap<OrderKey, Vec<OpId>>,
    /// Requests that name no order, in the order they were over.
    pub(super) unnamed: VecDeque<OpId>,
    /// Connections it uses as a client.
    pub(super) clients: FxHashMap<ConnId, Client>,
    /// The message that was written last, when and on which connection.
    pub(super) written: Option<(BootNs, ConnId, OpId)>,
    /// When threads were seen writing each other's messages, in order of time, and on which connection.
    pub(super) mixed: VecDeque<(BootNs, ConnId)>,
    /// Those of `clients` with nothing open.
    pub(super) idle_count: usize,
    /// The requests that were over last.
    pub(super) over: [Option<(BootNs, OpId)>; 2],
    /// When work began soon after an answer with nothing in flight, as far as that is not counted yet.
    pub(super) unexplained: VecDeque<BootNs>,
    pub(super) aftermath: Aftermath,
    pub(super) quiet: Quiet,
    /// Operations that wait to be decided and name only an order whose request has been answered.
    pub(super) doubts: u32,
    /// How its threads work, as far as keys have shown.
    pub(super) proof: Proof,
    /// It has ended; what is known of it serves decisions still to come.
    pub(super) ended: bool,
    /// When it was found out that bytes of it were lost.
    pub(super) missed: VecDeque<BootNs>,
}

impl Process {
    /// Nothing is done for requests that have been answered, and nothing is about to show otherwise.
    pub(super) fn ends_with_answer(&self) -> bool {
        self.doubts == 0 && self.unexplained.is_empty() && self.proof.ends_with_answer()
    }

    /// How long a request that has been answered may still be worked on.
    pub(super) fn after_ns(&self) -> BootNs {
        if self.ends_with_answer() { 0 } else { self.aftermath.bound_ns() }
    }

    /// The same for what names an order, so long after the answer. Its own doubt is not counted.
    pub(super) fn names_before_answer(&self, own: &Op, since_ns: BootNs) -> bool {
        self.doubts <= u32::from(own.doubts) && self.proof.names_before_answer(since_ns)
    }

    pub(super) fn unname(&mut self, op: OpId, keys: &[OrderKey]) {
        for key in keys {
            if let Some(ops) = self.by_key.get_mut(key) {
                ops.retain(|other| *other != op);
                if ops.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
    }

    /// A request that was in flight when it started is still open: its keys are not known.
    pub(super) fn is_blocked(&self, (started_at, _): (BootNs, OpId)) -> bool {
        self.incoming.first().is_some_and(|(oldest, _)| *oldest <= started_at)
    }

    /// One write to a connection held what several threads had left in its buffer.
    pub(super) fn mix(&mut self, at: BootNs, conn: ConnId) {
        if self.mixed.len() >= MAX_MIXED {
            self.mixed.pop_front();
        }
        let position = self.mixed.partition_point(|(earlier, _)| *earlier <= at);
        self.mixed.insert(position, (at, conn));
    }

    /// Around that time, the thread that wrote to the connection need not be the one whose message it was.
    pub(super) fn is_mixed(&self, conn: ConnId, from: BootNs, to: BootNs) -> bool {
        let first = self.mixed.partition_point(|(at, _)| at.saturating_add(MIXED_FOR_NS) < from);
        self.mixed.iter().skip(first).take_while(|(at, _)| *at <= to).any(|(_, on)| *on == conn)
    }

    /// Takes out an operation that waits no longer.
    pub(super) fn pop_unblocked(&mut self) -> Option<OpId> {
        let first = *self.blocked.first()?;
        if self.is_blocked(first) {
            return None;
        }
        self.blocked.remove(&first);
        Some(first.1)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.incoming.is_empty() && self.clients.len() == self.idle_count
    }

    pub(super) fn thread(&mut self, tid: u32) -> &mut ThreadState {
        if self.threads.len() >= MAX_THREADS && !self.threads.contains_key(&tid) {
            // Idle threads first: short-lived ones pile up in thread-per-request servers.
            self.threads.retain(|_, thread| !thread.serving.is_empty() || !thread.calls.is_empty());
        }
        self.threads.entry(tid).or_default()
    }

    /// A thread began an operation on that connection: what is under way on it now, and who had written before.
    pub(super) fn client_opened(&mut self, conn: ConnId, tid: u32) -> Client {
        let client = self.clients.entry(conn).or_insert_with(|| {
            self.idle_count += 1;
            Client::default()
        });
        if client.open == 0 {
            self.idle_count = self.idle_count.saturating_sub(1);
        }
        client.open += 1;
        let writer = match client.writer {
            Writer::Unknown => Writer::One(tid),
            Writer::One(only) if only == tid => Writer::One(tid),
            Writer::One(_) | Writer::Several => Writer::Several,
        };
        let before = std::mem::replace(&mut client.writer, writer);
        let known = if before == Writer::Unknown { before } else { writer };
        Client { open: client.open, writer: known }
    }

    pub(super) fn client_closed(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(&conn).filter(|client| client.open > 0) {
            client.open -= 1;
            self.idle_count += usize::from(client.open == 0);
        }
    }

    pub(super) fn client_gone(&mut self, conn: ConnId) {
        if self.clients.remove(&conn).is_some_and(|client| client.open == 0) {
            self.idle_count = self.idle_count.saturating_sub(1);
        }
    }
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
    One(u32),
    Several,
}

#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// The cause of a member that was decided by thread or value.
    pub(super) parent: Option<OpId>,
    /// Members were decided for different causes.
    pub(super) torn: bool,
    pub(super) over: bool,
    /// Members that are over, and how many of them were decided by evidence of their own.
    pub(super) member_count: usize,
    pub(super) decided_count: usize,
    /// Members without evidence of their own: they wait until every other member has been looked at.
    pub(super) waiting: Vec<OpId>,
}

impl Transaction {
    pub(super) fn is_ripe(&self) -> bool {
        self.over && self.waiting.len() + self.decided_count >= self.member_count
    }
}
