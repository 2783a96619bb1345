//! What the threads of each process read and wrote in, edges from outgoing operations to the request that caused them out.
//!
//! *Owns* the rules inside a process: thread, value, transaction, last read. *Must not know* other processes, messages,
//! how keys are found.
//!
//! An outgoing operation is decided once it is over and every request that was in flight when it started is over too,
//! because only then all their keys are known; or at a bounded time after its end. The rules, strongest first:
//!
//! | rule | evidence |
//! |---|---|
//! | thread | its thread had read exactly one request that was still open, and never serves several at once |
//! | value | it carries the one identity key of exactly one request in flight in the process |
//! | transaction | another operation of the same database transaction was decided by one of the above |
//! | thread | its thread, which works on one job at a time, next wrote the answer to that request (hand-off to a pool) |
//! | last read | its thread last read that request, or a response to an operation that request had caused |
//!
//! A rule by reading never overrules keys: where the operation and the candidate each name one order and these differ,
//! there is no edge.
//!
//! Long because every rule reads and changes the same table of operations, threads and transactions, in one order.

use std::collections::{BTreeMap, HashMap, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Confidence, Edge, Policy, Rule};
use crate::operation::{OpId, Shape};
use crate::order::{Facts, OrderKey};
use crate::protocol::Point;
use crate::record::{BootNs, ConnId, Thread};

/// What kind of conversation an operation belongs to, as far as it matters for its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The thread that asks usually waits for the answer: HTTP, PostgreSQL.
    Call,
    /// Messages: answers come when they come.
    Message,
}

/// First sight of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    pub op: OpId,
    pub shape: Shape,
    pub family: Family,
    pub conn: ConnId,
    pub point: Point,
}

/// The end of an operation and what it showed.
#[derive(Clone, Debug)]
pub struct Closing {
    pub op: OpId,
    pub at: BootNs,
    /// Where the response started: for incoming work who answered, for outgoing who read the answer.
    pub response_start: Option<Point>,
    pub response_end: Option<Point>,
    pub keys: Vec<OrderKey>,
    /// Its response was seen to the end.
    pub answered: bool,
    /// Further facts it shows, by the configured attribute rules: they tell apart several requests of one order.
    pub traits: Facts,
    /// Number of the transaction block on its connection.
    pub transaction: Option<u64>,
    /// It was the COMMIT or ROLLBACK.
    pub ends_transaction: bool,
}

/// How long operations that are over are remembered as possible causes.
const REMEMBER_NS: u64 = 20_000_000_000;
/// Work that starts this long after its request was answered is not traced back to it by reading alone.
const AFTERMATH_NS: u64 = 100_000_000;
/// How long an operation without any evidence waits for a request that becomes known late.
const GRACE_NS: u64 = 500_000_000;
/// Waiters of one operation from which on those that no longer wait are looked for.
const CROWD: usize = 64;
/// Answers remembered per thread.
const MAX_ANSWERS: usize = 256;
/// A loss is found out when its stream goes on: operations that began so long before or after are in doubt.
const CLOUD_AFTER_NS: u64 = 5_000_000_000;
const CLOUD_BEFORE_NS: u64 = 1_000_000_000;
/// Losses closer to each other than this count as one.
const MISSED_STEP_NS: u64 = 100_000_000;
/// Losses remembered per process.
const MAX_MISSED: usize = 256;
/// Processes from which on idle ones are forgotten.
const MAX_PROCESSES: usize = 16_384;
/// Threads remembered per process.
const MAX_THREADS: usize = 4096;

#[derive(Debug)]
struct Op {
    shape: Shape,
    family: Family,
    tgid: u32,
    conn: ConnId,
    opened: Point,
    closed_at: Option<BootNs>,
    answered: bool,
    keys: Vec<OrderKey>,
    traits: Facts,
    transaction: Option<u64>,
    /// Threads that count it as work they serve.
    served_by: Vec<u32>,
    /// Requests in flight when it started that are not over yet.
    blockers: u32,
    /// Outgoing operations to look at again when this one is over (incoming) or decided (outgoing).
    waiters: Vec<OpId>,
    /// Requests in flight in the process when it started.
    in_flight: u32,
    /// The only request its thread was serving when it started.
    serving: Option<OpId>,
    /// What its thread had read last when it started; several when one read brought several.
    last_read: Vec<OpId>,
    /// Its transaction has been settled: only weak evidence is left.
    company: bool,
    decided: bool,
    parent: Option<OpId>,
}

impl Op {
    /// The next waiter would make the list grow.
    fn is_crowded(&self) -> bool {
        self.waiters.len() >= CROWD && self.waiters.len() == self.waiters.capacity()
    }
}

#[derive(Debug, Default)]
struct ThreadState {
    /// Requests it has read that are not over.
    serving: Vec<OpId>,
    /// It was seen with several requests at once, or with several calls under way: reading proves less.
    multiplexes: bool,
    /// Calls it wrote whose answer is not over.
    calls: Vec<(OpId, ConnId)>,
    last_read_at: BootNs,
    last_read: Vec<OpId>,
    /// Requests it answered, in order of time.
    answers: VecDeque<(BootNs, OpId)>,
}

#[derive(Debug, Default)]
struct Process {
    threads: FxHashMap<u32, ThreadState>,
    /// Requests in flight.
    incoming: FxHashSet<OpId>,
    /// Requests by the one order each names, those over included.
    by_key: HashMap<OrderKey, Vec<OpId>>,
    /// Connections it uses as a client, with the operations open on each.
    clients: FxHashMap<ConnId, u32>,
    /// It has ended; what is known of it serves decisions still to come.
    ended: bool,
    /// When it was found out that bytes of it were lost.
    missed: VecDeque<BootNs>,
}

#[derive(Debug, Default)]
struct Transaction {
    /// The cause of a member that was decided by thread or value.
    parent: Option<OpId>,
    /// Members were decided for different causes.
    torn: bool,
    over: bool,
    /// Members that are over, and how many of them were decided by evidence of their own.
    member_count: usize,
    decided_count: usize,
    /// Members without evidence of their own: they wait until every other member has been looked at.
    waiting: Vec<OpId>,
}

impl Transaction {
    fn is_ripe(&self) -> bool {
        self.over && self.waiting.len() + self.decided_count >= self.member_count
    }
}

/// Threads and operations of all processes.
#[derive(Debug)]
pub struct Processes {
    policy: Policy,
    processes: FxHashMap<u32, Process>,
    /// Boxed: a hash table has up to four slots per entry when entries come and go.
    ops: FxHashMap<OpId, Box<Op>>,
    transactions: FxHashMap<(ConnId, u64), Transaction>,
    /// Processes that ended, and until when they are remembered.
    ended: VecDeque<(BootNs, u32)>,
    /// Times at which something is decided or forgotten at the latest.
    deadlines: BTreeMap<(BootNs, OpId), Deadline>,
    edges: VecDeque<Edge>,
    settled: VecDeque<OpId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    Decide,
    Forget,
}

impl Processes {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            processes: FxHashMap::default(),
            ops: FxHashMap::default(),
            transactions: FxHashMap::default(),
            ended: VecDeque::new(),
            deadlines: BTreeMap::new(),
            edges: VecDeque::new(),
            settled: VecDeque::new(),
        }
    }

    /// The first byte of an operation moved.
    pub fn opened(&mut self, opening: Opening) {
        let Opening { op, shape, family, conn, point } = opening;
        if shape == Shape::Relayed {
            return;
        }
        let tgid = point.thread.tgid;
        let mut state = Op {
            shape,
            family,
            tgid,
            conn,
            opened: point,
            closed_at: None,
            answered: false,
            keys: Vec::new(),
            traits: Vec::new(),
            transaction: None,
            served_by: Vec::new(),
            blockers: 0,
            waiters: Vec::new(),
            in_flight: 0,
            serving: None,
            last_read: Vec::new(),
            company: false,
            decided: false,
            parent: None,
        };
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&tgid) {
            // Ends can be lost: those that do nothing go first.
            self.processes.retain(|_, process| !process.is_idle());
        }
        let process = self.processes.entry(tgid).or_default();
        match shape {
            Shape::Incoming => {
                process.incoming.insert(op);
                state.served_by.push(point.thread.tid);
                self.ops.insert(op, Box::new(state));
                self.serve(op, point);
            }
            Shape::Outgoing => {
                let open = *process.clients.entry(conn).and_modify(|open| *open += 1).or_insert(1);
                let thread = process.thread(point.thread.tid);
                if family == Family::Call {
                    if open == 1 && thread.calls.iter().any(|(_, other)| *other != conn) {
                        thread.multiplexes = true;
                    }
                    thread.calls.push((op, conn));
                }
                if let [only] = thread.serving.as_slice() {
                    state.serving = Some(*only);
                }
                state.last_read.clone_from(&thread.last_read);
                state.in_flight = process.incoming.len() as u32;
                let mut full = Vec::new();
                for &cause_id in &process.incoming {
                    if let Some(cause) = self.ops.get_mut(&cause_id) {
                        cause.waiters.push(op);
                        full.extend(cause.is_crowded().then_some(cause_id));
                        state.blockers += 1;
                    }
                }
                self.ops.insert(op, Box::new(state));
                full.into_iter().for_each(|cause| self.clear_out(cause));
            }
            Shape::Relayed => {}
        }
    }

    /// A request that hangs meets everything its process does meanwhile: what is decided need not wait for it any more.
    fn clear_out(&mut self, cause: OpId) {
        let Some(state) = self.ops.get_mut(&cause) else { return };
        let mut waiters = std::mem::take(&mut state.waiters);
        waiters.retain(|waiter| self.ops.get(waiter).is_some_and(|waiting| !waiting.decided));
        if let Some(state) = self.ops.get_mut(&cause) {
            // Half of it free, so that this is rare.
            waiters.reserve(waiters.len().max(CROWD));
            state.waiters = waiters;
        }
    }

    /// The last byte of a request moved.
    pub fn requested(&mut self, op: OpId, point: Point) {
        let Some(state) = self.ops.get_mut(&op) else { return };
        if state.shape == Shape::Incoming {
            let tid = point.thread.tid;
            if !state.served_by.contains(&tid) {
                // The thread that reads the end of a request is the one that works on it.
                let earlier = std::mem::replace(&mut state.served_by, vec![tid]);
                if let Some(process) = self.processes.get_mut(&state.tgid) {
                    for tid in earlier {
                        process.thread(tid).serving.retain(|served| *served != op);
                    }
                }
            }
            self.serve(op, point);
        }
    }

    /// An operation is over.
    pub fn closed(&mut self, closing: Closing) {
        let Some(state) = self.ops.get_mut(&closing.op) else { return };
        if state.closed_at.is_some() {
            return;
        }
        state.closed_at = Some(closing.at);
        state.answered = closing.answered;
        state.keys = closing.keys;
        state.traits = closing.traits;
        state.transaction = closing.transaction;
        let (shape, family, conn, tgid, transaction) =
            (state.shape, state.family, state.conn, state.tgid, state.transaction);
        match shape {
            Shape::Incoming => self.close_incoming(closing.op, closing.response_start, closing.at),
            Shape::Outgoing => {
                let tid = state.opened.thread.tid;
                // A process that is forgotten does not come back for what it had left open.
                if let Some(process) = self.processes.get_mut(&tgid) {
                    if let Some(open) = process.clients.get_mut(&conn) {
                        *open = open.saturating_sub(1);
                    }
                    if family == Family::Call {
                        process.thread(tid).calls.retain(|(call, _)| *call != closing.op);
                    }
                    if let Some(end) = closing.response_end {
                        process.thread(end.thread.tid).read(closing.op, end.at);
                    }
                }
                if let Some(number) = transaction {
                    let transaction = self.transactions.entry((conn, number)).or_default();
                    transaction.member_count += 1;
                    transaction.over |= closing.ends_transaction;
                }
                self.deadlines
                    .insert((closing.at + self.policy.decide_within_ns, closing.op), Deadline::Decide);
                self.consider(closing.op, false);
            }
            Shape::Relayed => {}
        }
    }

    /// A connection is gone; what was open on it has been closed before.
    pub fn conn_closed(&mut self, conn: ConnId, tgid: u32) {
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.clients.remove(&conn);
        }
    }

    /// Something a process read or wrote was lost: found out at `now`, when the stream went on behind it.
    pub fn missed(&mut self, tgid: u32, now: BootNs) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        if process.missed.back().is_none_or(|last| now.saturating_sub(*last) > MISSED_STEP_NS) {
            if process.missed.len() >= MAX_MISSED {
                process.missed.pop_front();
            }
            process.missed.push_back(now);
        }
    }

    /// A process ended: what its operations prove is still asked for a while.
    pub fn process_ended(&mut self, tgid: u32, now: BootNs) {
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.ended = true;
            self.ended.push_back((now.saturating_add(REMEMBER_NS), tgid));
        }
    }

    /// A process began: one that ended may have had the same identifier.
    pub fn process_began(&mut self, tgid: u32) {
        if self.processes.get(&tgid).is_some_and(|process| process.ended) {
            self.processes.remove(&tgid);
        }
    }

    /// A process replaced its image: its threads are others.
    pub fn process_replaced(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
    }

    /// Decides what has waited long enough, forgets what is old.
    pub fn handle_timeout(&mut self, now: BootNs) {
        while let Some((&(due, op), &deadline)) = self.deadlines.first_key_value() {
            if due > now {
                break;
            }
            self.deadlines.remove(&(due, op));
            match deadline {
                Deadline::Decide => self.consider(op, true),
                Deadline::Forget => self.forget(op),
            }
        }
        while let Some((_, tgid)) = self.ended.pop_front_if(|(due, _)| *due <= now) {
            self.process_began(tgid);
        }
    }

    /// When [`Processes::handle_timeout`] has something to do next.
    pub fn next_timeout(&self) -> Option<BootNs> {
        let ended = self.ended.front().map(|(due, _)| *due);
        [self.deadlines.keys().next().map(|(due, _)| *due), ended].into_iter().flatten().min()
    }

    /// Decides everything with what is known.
    pub fn finish(&mut self) {
        let mut open: Vec<OpId> = self.ops.iter().filter(|(_, op)| !op.decided).map(|(id, _)| *id).collect();
        open.sort_unstable();
        for op in open {
            if self.ops.get(&op).is_some_and(|state| state.closed_at.is_some()) {
                self.consider(op, true);
            }
        }
    }

    pub fn poll_edge(&mut self) -> Option<Edge> {
        self.edges.pop_front()
    }

    /// Outgoing operations that have just been decided, with or without an edge.
    pub fn poll_settled(&mut self) -> Option<OpId> {
        self.settled.pop_front()
    }

    /// Nothing more will be decided about this operation's cause inside its process.
    pub fn is_settled(&self, op: OpId) -> bool {
        self.ops.get(&op).is_none_or(|state| state.shape != Shape::Outgoing || state.decided)
    }

    fn serve(&mut self, op: OpId, point: Point) {
        let Some(state) = self.ops.get(&op) else { return };
        let Some(process) = self.processes.get_mut(&state.tgid) else { return };
        let thread = process.thread(point.thread.tid);
        thread.read(op, point.at);
        if !thread.serving.contains(&op) {
            thread.serving.push(op);
        }
        // Several messages at once are a prefetch; a request among others is concurrency on one thread.
        let Some(thread) =
            self.processes.get(&state.tgid).and_then(|process| process.threads.get(&point.thread.tid))
        else {
            return;
        };
        let conns: FxHashSet<ConnId> =
            thread.serving.iter().filter_map(|op| Some(self.ops.get(op)?.conn)).collect();
        let any_call = thread
            .serving
            .iter()
            .any(|op| self.ops.get(op).is_some_and(|state| state.family == Family::Call));
        if conns.len() > 1 && any_call {
            let process = self.processes.get_mut(&state.tgid);
            process.into_iter().for_each(|process| process.thread(point.thread.tid).multiplexes = true);
        }
    }

    fn close_incoming(&mut self, op: OpId, answer: Option<Point>, at: BootNs) {
        let Some(state) = self.ops.get_mut(&op) else { return };
        let waiters = std::mem::take(&mut state.waiters);
        if let Some(process) = self.processes.get_mut(&state.tgid) {
            process.incoming.remove(&op);
            for tid in &state.served_by {
                process.thread(*tid).serving.retain(|served| *served != op);
            }
            if let Some(point) = answer {
                process.thread(point.thread.tid).answer(op, point.at);
            }
            for key in &state.keys {
                process.by_key.entry(key.clone()).or_default().push(op);
            }
        }
        self.deadlines.insert((at + REMEMBER_NS, op), Deadline::Forget);
        for waiter in waiters {
            if let Some(waiting) = self.ops.get_mut(&waiter) {
                waiting.blockers = waiting.blockers.saturating_sub(1);
            }
            self.consider(waiter, false);
        }
    }

    /// Decides an outgoing operation if it can be decided, or must be.
    fn consider(&mut self, op: OpId, forced: bool) {
        let Some(state) = self.ops.get(&op) else { return };
        if state.shape != Shape::Outgoing || state.decided || state.closed_at.is_none() {
            return;
        }
        // A request that is still open may turn out to have lost its end, and then proves nothing.
        let is_over = |cause: OpId| self.ops.get(&cause).is_none_or(|cause| cause.closed_at.is_some());
        if (forced || state.serving.is_some_and(is_over))
            && let Some(edge) = self.by_thread(op, state)
        {
            return self.decide(op, Some(edge), true);
        }
        if state.blockers > 0 && !forced {
            return;
        }
        if let Some(edge) = self.by_value(op, state) {
            return self.decide(op, Some(edge), true);
        }
        if let Some(number) = state.transaction.filter(|_| !state.company) {
            let key = (state.conn, number);
            let transaction = self.transactions.entry(key).or_default();
            if !transaction.waiting.contains(&op) {
                transaction.waiting.push(op);
            }
            if transaction.is_ripe() {
                return self.settle_transaction(key);
            }
            if !forced {
                return;
            }
            transaction.waiting.retain(|waiting| *waiting != op);
        }
        self.decide_by_company(op, forced);
    }

    /// Every member of a transaction has been looked at: the rest follow the decided ones, or their own weak evidence.
    fn settle_transaction(&mut self, key: (ConnId, u64)) {
        let Some(transaction) = self.transactions.get_mut(&key) else { return };
        let mut waiting = std::mem::take(&mut transaction.waiting);
        transaction.decided_count += waiting.len();
        waiting.sort_unstable();
        for op in waiting {
            if let Some(state) = self.ops.get_mut(&op) {
                state.company = true;
            }
            self.decide_by_company(op, false);
        }
    }

    /// The rules that look at what else was done: by the same transaction, by the same thread.
    fn decide_by_company(&mut self, op: OpId, forced: bool) {
        let Some(state) = self.ops.get(&op) else { return };
        if state.decided {
            return;
        }
        if let Some(number) = state.transaction
            && let Some(transaction) = self.transactions.get(&(state.conn, number))
            && let Some(parent) = transaction.parent.filter(|_| !transaction.torn && !self.is_clouded(state))
        {
            let edge = self.edge(op, parent, Rule::Transaction, 0.92);
            return self.decide(op, edge, false);
        }
        if let Some(edge) = self.by_answer(op, state) {
            return self.decide(op, Some(edge), false);
        }
        match self.by_last_read(op, state, forced) {
            Reading::Edge(edge) => self.decide(op, Some(edge), false),
            Reading::Nothing if forced => self.decide(op, None, false),
            // A connection joined in mid-stream shows what it speaks a little later than it speaks.
            Reading::Nothing => {
                let closed_at = state.closed_at.unwrap_or(state.opened.at);
                self.deadlines.insert((closed_at.saturating_add(GRACE_NS), op), Deadline::Decide);
            }
            Reading::WaitFor(earlier) => {
                if let Some(earlier) = self.ops.get_mut(&earlier) {
                    earlier.waiters.push(op);
                }
            }
        }
    }

    fn decide(&mut self, op: OpId, edge: Option<Edge>, strong: bool) {
        let Some(state) = self.ops.get_mut(&op) else { return };
        state.decided = true;
        state.parent = edge.map(|edge| edge.parent);
        let waiters = std::mem::take(&mut state.waiters);
        let closed_at = state.closed_at.unwrap_or(state.opened.at);
        self.deadlines.remove(&(closed_at + self.policy.decide_within_ns, op));
        self.deadlines.insert((closed_at + REMEMBER_NS, op), Deadline::Forget);
        let mut ripe = None;
        if let (Some(edge), Some(number), true) = (edge, state.transaction, strong) {
            let key = (state.conn, number);
            let transaction = self.transactions.entry(key).or_default();
            transaction.decided_count += 1;
            match transaction.parent {
                None => transaction.parent = Some(edge.parent),
                Some(parent) if parent != edge.parent => transaction.torn = true,
                Some(_) => {}
            }
            ripe = transaction.is_ripe().then_some(key);
        }
        self.edges.extend(edge);
        self.settled.push_back(op);
        if let Some(key) = ripe {
            self.settle_transaction(key);
        }
        for waiter in waiters {
            self.consider(waiter, false);
        }
    }

    /// Its thread served exactly one request, and never serves several at once.
    fn by_thread(&self, op: OpId, state: &Op) -> Option<Edge> {
        let cause = state.serving?;
        let candidate = self.ops.get(&cause)?;
        if self.thread(state)?.multiplexes
            || candidate.family == Family::Message
            || !candidate.is_sound()
            || self.is_clouded(state)
        {
            return None;
        }
        self.edge(op, cause, Rule::Thread, if state.in_flight == 1 { 0.99 } else { 0.95 })
    }

    /// It carries the key of exactly one request that was in flight when it started. Of several requests of one order, the
    /// one that shows most of the same facts, or that its thread read last.
    fn by_value(&self, op: OpId, state: &Op) -> Option<Edge> {
        let [key] = state.keys.as_slice() else { return None };
        let process = self.processes.get(&state.tgid)?;
        let causes = process.by_key.get(key)?.iter().filter_map(|cause| {
            let candidate = self.ops.get(cause)?;
            let in_flight = candidate.keys.len() == 1
                && candidate.opened.at <= state.opened.at
                && candidate.closed_at.is_none_or(|closed| closed >= state.opened.at);
            in_flight.then(|| (*cause, common_traits(state, candidate)))
        });
        let causes: Vec<(OpId, Likeness)> = causes.collect();
        if let [(only, _)] = causes.as_slice() {
            return self.edge(op, *only, Rule::Value, 0.97);
        }
        let best = causes.iter().map(|(_, likeness)| *likeness).max()?;
        let mut likest = causes.iter().filter(|(_, likeness)| *likeness == best);
        if let (Some((cause, _)), None) = (likest.next(), likest.next()) {
            return self.edge(op, *cause, Rule::Value, 0.9);
        }
        let [read] = state.last_read.as_slice() else { return None };
        let last = self.ops.get(read)?;
        // As in `by_last_read`: the response may have freed the connection for another request of the same order.
        if last.shape == Shape::Outgoing && last.conn == state.conn && !self.has_idle_twin(state) {
            return None;
        }
        let read = self.root_of_read(*read)?;
        let is_candidate = causes.iter().any(|(cause, likeness)| *cause == read && *likeness == best);
        self.edge(op, read, Rule::Value, 0.85).filter(|_| is_candidate)
    }

    /// The thread next answered that request, so it had been working on it.
    fn by_answer(&self, op: OpId, state: &Op) -> Option<Edge> {
        let thread = self.thread(state)?;
        if thread.multiplexes {
            return None;
        }
        let at = state.opened.at;
        let next = thread.answers.partition_point(|(answered, _)| *answered < at);
        let (_, cause) = *thread.answers.get(next)?;
        let candidate = self.ops.get(&cause)?;
        if candidate.opened.at > at || conflict(state, candidate) || self.is_clouded(state) {
            return None;
        }
        self.edge(op, cause, Rule::Thread, if state.in_flight == 1 { 0.95 } else { 0.85 })
    }

    fn by_last_read(&self, op: OpId, state: &Op, forced: bool) -> Reading {
        let [read] = state.last_read.as_slice() else { return Reading::Nothing };
        let Some(last) = self.ops.get(read) else { return Reading::Nothing };
        let direct = last.shape == Shape::Incoming;
        if !direct && !last.decided && !forced {
            return Reading::WaitFor(*read);
        }
        let Some(cause) = (if direct { Some(*read) } else { last.parent }) else { return Reading::Nothing };
        let Some(candidate) = self.ops.get(&cause) else { return Reading::Nothing };
        if conflict(state, candidate) || !candidate.is_sound() || self.is_clouded(state) {
            return Reading::Nothing;
        }
        let at = state.opened.at;
        let alone = state.in_flight == 0
            || (state.in_flight == 1 && candidate.closed_at.is_none_or(|closed| closed >= at));
        if let Some(closed) = candidate.closed_at.filter(|closed| *closed < at) {
            // Work after the answer: only when nothing else can be the cause, also nothing that becomes known late, and
            // soon.
            let soon = at - closed <= AFTERMATH_NS;
            if state.in_flight > 0 || !soon || !forced {
                return Reading::Nothing;
            }
            return self.edge(op, cause, Rule::LastRead, 0.65).map_or(Reading::Nothing, Reading::Edge);
        }
        // A response that frees a pooled connection also lets the pool's next waiter write on it.
        let in_same_transaction = state.transaction.is_some() && state.transaction == last.transaction;
        if !direct && last.conn == state.conn && !alone && !in_same_transaction && !self.has_idle_twin(state)
        {
            return Reading::Nothing;
        }
        let confidence = match (direct, alone) {
            (true, true) => 0.95,
            (false, true) => 0.9,
            (true, false) => 0.8,
            (false, false) => 0.75,
        };
        self.edge(op, cause, Rule::LastRead, confidence).map_or(Reading::Nothing, Reading::Edge)
    }

    /// Something the process read or wrote around that time was lost: what its threads did then is not known. Only keys
    /// still prove something.
    fn is_clouded(&self, state: &Op) -> bool {
        let Some(process) = self.processes.get(&state.tgid) else { return false };
        let at = state.opened.at;
        let (from, to) = (at.saturating_sub(CLOUD_BEFORE_NS), at.saturating_add(CLOUD_AFTER_NS));
        process.missed.iter().any(|missed| (from..=to).contains(missed))
    }

    /// The process has another client connection with nothing under way, so its pool has no waiters.
    fn has_idle_twin(&self, state: &Op) -> bool {
        let Some(process) = self.processes.get(&state.tgid) else { return false };
        process.clients.iter().any(|(conn, open)| *conn != state.conn && *open == 0)
    }

    /// The request behind something that was read: itself, or the cause of the call it answers.
    fn root_of_read(&self, read: OpId) -> Option<OpId> {
        let state = self.ops.get(&read)?;
        if state.shape == Shape::Incoming { Some(read) } else { state.parent }
    }

    fn edge(&self, child: OpId, parent: OpId, rule: Rule, confidence: f32) -> Option<Edge> {
        let confidence = Confidence(confidence);
        self.policy.allows(rule, confidence).then_some(Edge { child, parent, rule, confidence })
    }

    fn thread(&self, state: &Op) -> Option<&ThreadState> {
        let Thread { tgid, tid } = state.opened.thread;
        self.processes.get(&tgid)?.threads.get(&tid)
    }

    fn forget(&mut self, op: OpId) {
        let Some(state) = self.ops.remove(&op) else { return };
        if let Some(number) = state.transaction {
            self.transactions.remove(&(state.conn, number));
        }
        let Some(process) = self.processes.get_mut(&state.tgid) else { return };
        for key in &state.keys {
            if let Some(ops) = process.by_key.get_mut(key) {
                ops.retain(|other| *other != op);
                if ops.is_empty() {
                    process.by_key.remove(key);
                }
            }
        }
    }

    /// Operations remembered.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

enum Reading {
    Edge(Edge),
    Nothing,
    WaitFor(OpId),
}

/// How well two operations of one order agree in their further facts: no contradiction before agreement.
type Likeness = (std::cmp::Reverse<usize>, usize);

fn common_traits(a: &Op, b: &Op) -> Likeness {
    let (mut same, mut different) = (0, 0);
    for (name, value) in &a.traits {
        match b.traits.iter().find(|(other, _)| other == name) {
            Some((_, other)) if other == value => same += 1,
            Some(_) => different += 1,
            None => {}
        }
    }
    (std::cmp::Reverse(different), same)
}

impl Op {
    /// Still open, or seen to its end: one whose end was missed may have been over long before.
    fn is_sound(&self) -> bool {
        self.closed_at.is_none() || self.answered
    }
}

/// Both name exactly one order, and not the same.
fn conflict(a: &Op, b: &Op) -> bool {
    matches!((a.keys.as_slice(), b.keys.as_slice()), ([x], [y]) if x != y)
}

impl Process {
    fn is_idle(&self) -> bool {
        self.incoming.is_empty() && self.clients.values().all(|open| *open == 0)
    }

    fn thread(&mut self, tid: u32) -> &mut ThreadState {
        if self.threads.len() >= MAX_THREADS && !self.threads.contains_key(&tid) {
            // Idle threads first: short-lived ones pile up in thread-per-request servers.
            self.threads.retain(|_, thread| !thread.serving.is_empty() || !thread.calls.is_empty());
        }
        self.threads.entry(tid).or_default()
    }
}

impl ThreadState {
    fn read(&mut self, op: OpId, at: BootNs) {
        if at != self.last_read_at {
            self.last_read.clear();
            self.last_read_at = at;
        }
        if !self.last_read.contains(&op) {
            self.last_read.push(op);
        }
    }

    fn answer(&mut self, op: OpId, at: BootNs) {
        if self.answers.len() >= MAX_ANSWERS {
            self.answers.pop_front();
        }
        let position = self.answers.partition_point(|(earlier, _)| *earlier <= at);
        self.answers.insert(position, (at, op));
    }
}

#[cfg(test)]
mod tests;
