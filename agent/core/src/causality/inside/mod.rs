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
//! | thread | the only goroutine that waited for it was serving that request |
//! | thread | its thread was begun by one that was serving that request |
//! | thread | its thread, which works on one job at a time, next wrote the answer to that request (hand-off to a pool) |
//! | last read | its thread last read that request, or a response to an operation that request had caused |
//! | alone | that request was the only one in flight, in a process that was seen to do nothing while nothing was asked of it |
//!
//! A rule by reading never overrules keys: where the operation and the candidate each name one order and these differ,
//! there is no edge. Nor is there one where they show different facts (of users, say), in a process in which what belongs
//! together shows the same.
//!
//! Long because every rule reads and changes the same table of operations, threads and transactions, in one order.

mod decide;
mod guess;
mod keys;
mod proof;
pub mod snapshot;
mod state;

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;

use self::proof::Signal;
use self::state::{Circumstances, Op, Process, ThreadState, Transaction};
use super::{Edge, Policy, Rule};
use crate::operation::OpSide;
use crate::order::{Facts, OrderKey};
use crate::record::{BootNs, ConnId, OpId, Point};

/// What kind of conversation an operation belongs to, as far as it matters for its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interaction {
    /// The thread that asks usually waits for the answer: HTTP, PostgreSQL.
    Call,
    /// Messages: answers come when they come.
    Message,
}

/// First sight of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    pub op: OpId,
    pub shape: OpSide,
    pub family: Interaction,
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
    /// What it names as its cause itself: the delivery of an acknowledgement.
    pub named: Option<OpId>,
}

/// How long operations that are over are remembered as possible causes.
const REMEMBER_NS: u64 = 20_000_000_000;
/// Work that starts this long after its request was answered is not traced back to it by reading alone.
const AFTERMATH_NS: u64 = 100_000_000;
/// How long after its answer a request may still be worked on, as far as keys and threads tell.
const AFTER_NS: u64 = 1_000_000_000;
/// So long must a process have had nothing to do and done nothing before what it does is taken to be asked for.
const QUIET_NS: u64 = 60_000_000_000;
/// Operations begun that are remembered per thread.
const MAX_BEGUN: usize = 64;
/// So many observations show how long requests are worked on after their answers: so many times the longest, and at least
/// so long, is then the bound.
const ENOUGH_AFTER: u32 = 20;
const AFTER_MARGIN: u64 = 4;
const AFTER_LEAST_NS: u64 = 10_000_000;
/// How long an operation without any evidence waits for a request that becomes known late.
const GRACE_NS: u64 = 1_000_000_000;
/// Waiters of one operation from which on those that no longer wait are looked for.
const CROWD: usize = 64;
/// Answers remembered per thread.
const MAX_ANSWERS: usize = 256;
/// Acts remembered per thread: what it can do between a call and its answer and still not be seen to do.
const MAX_ACTS: usize = 16;
/// Calls for which a thread has waited with other work at hand before it is taken to do one thing after the other.
const PATIENT: u32 = 8;
/// A loss is found out when its stream goes on: operations that began so long before or after are in doubt.
const CLOUD_AFTER_NS: u64 = 5_000_000_000;
const CLOUD_BEFORE_NS: u64 = 1_000_000_000;
/// Work after answers that waits to be counted, per process.
const MAX_AFTERMATH: usize = 256;
/// Losses closer to each other than this count as one.
const MISSED_STEP_NS: u64 = 100_000_000;
/// Losses remembered per process.
const MAX_MISSED: usize = 256;
/// A thread whose message another one has written still comes to write, within this time, what it then finds there.
const MIXED_FOR_NS: u64 = 40_000_000;
/// Such writes remembered per process.
const MAX_MIXED: usize = 1024;
/// Causes across the wire remembered: what a hash table of a power of two holds without growing.
const MAX_LINKS: usize = 57_344;
/// Requests without a key remembered per process.
const MAX_UNNAMED: usize = 1024;
/// Of these, how many are looked at for one operation.
const MAX_LOOKED_AT: usize = 128;
/// Processes from which on idle ones are forgotten.
const MAX_PROCESSES: usize = 16_384;
/// Threads remembered per process.
const MAX_THREADS: usize = 4096;

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
    /// What caused operations across the wire and through messages.
    links: FxHashMap<OpId, OpId>,
    link_age: VecDeque<OpId>,
    edges: VecDeque<Edge>,
    settled: VecDeque<OpId>,
    /// Requests that are still open and what they have shown so far is needed of.
    wanted: VecDeque<(ConnId, OpId)>,
    /// What is decided once that is known.
    postponed: Vec<OpId>,
    /// When it was found out that records were lost.
    lost: VecDeque<BootNs>,
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
            links: FxHashMap::default(),
            link_age: VecDeque::new(),
            edges: VecDeque::new(),
            settled: VecDeque::new(),
            wanted: VecDeque::new(),
            postponed: Vec::new(),
            lost: VecDeque::new(),
        }
    }

    /// The first byte of an operation moved.
    pub fn opened(&mut self, opening: Opening) {
        let Opening { op, shape, family, conn, point } = opening;
        if shape == OpSide::Relayed {
            return;
        }
        let tgid = point.thread.tgid;
        let mut state = Op::new(shape, family, conn, point);
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&tgid) {
            // Ends can be lost: those that do nothing go first.
            self.processes.retain(|_, process| !process.is_idle());
        }
        let process = self.processes.entry(tgid).or_default();
        match shape {
            OpSide::Incoming => {
                process.quiet.asked(point.at);
                process.incoming.insert((point.at, op));
                state.served_by.push(point.thread.tid);
                self.ops.insert(op, Box::new(state));
                self.serve(op, point);
            }
            OpSide::Outgoing => {
                let client = process.client_opened(conn, point.thread.tid);
                let just = |(closed, _): &(BootNs, OpId)| point.at.saturating_sub(*closed) <= AFTER_NS;
                if process.incoming.is_empty()
                    && process.over[0].as_ref().is_some_and(just)
                    && process.unexplained.len() < MAX_AFTERMATH
                {
                    process.unexplained.push_back(point.at);
                }
                self.count_aftermath(tgid, point.at.saturating_sub(GRACE_NS));
                let Some(process) = self.processes.get_mut(&tgid) else { return };
                process.quiet.works(point.at, process.incoming.is_empty());
                let (idle_count, in_flight, over) =
                    (process.idle_count, process.incoming.len(), process.over);
                let alone = process.incoming.first().filter(|_| in_flight == 1).map(|(_, only)| *only);
                let awaiting = point.thread.awaited_by.and_then(|tid| process.threads.get(&tid.get()));
                let awaited_for = awaiting.and_then(ThreadState::work);
                let thread = process.thread(point.thread.tid);
                // What became known late meets the state of later.
                let late = point.at < thread.seen_at;
                thread.seen_at = thread.seen_at.max(point.at);
                thread.act(point.at, conn);
                thread.begin(op, point.at);
                if family == Interaction::Call {
                    if client.open == 1 && thread.calls.iter().any(|(_, other)| *other != conn) {
                        thread.multiplexes = true;
                    }
                    thread.calls.push((op, conn));
                }
                state.start =
                    Circumstances { in_flight: in_flight as u32, over, late, ..Circumstances::default() };
                if !late {
                    state.start.alone = alone;
                    state.start.awaited_for = awaited_for;
                    state.start.writer = client.writer;
                    state.start.serving = match thread.serving.as_slice() {
                        [only] => Some(*only),
                        _ => None,
                    };
                    state.start.crowded = thread.serving.len() > 1;
                    state.start.begun_for = thread.begun_for;
                    state.start.answered = thread.answered.filter(|_| thread.serving.is_empty());
                    state.start.last_read.clone_from(&thread.last_read);
                    state.start.last_read_at = thread.last_read_at;
                    state.start.idle_connection = idle_count > 0;
                }
                if family == Interaction::Message
                    && let Some((at, on, before)) = process.written.replace((point.at, conn, op))
                    && (at, on) == (point.at, conn)
                    && in_flight > 1
                {
                    state.start.joint = true;
                    process.mix(point.at, conn);
                    if let Some(before) = self.ops.get_mut(&before) {
                        before.start.joint = true;
                    }
                }
                let serving = state.start.serving;
                self.ops.insert(op, Box::new(state));
                if let Some(cause) = serving {
                    self.wait_for(cause, op);
                }
            }
            OpSide::Relayed => {}
        }
    }

    /// Work that began up to then while nothing was in flight: by now everything that became known late is known.
    fn count_aftermath(&mut self, tgid: u32, until: BootNs) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        while let Some(at) = process.unexplained.pop_front_if(|at| *at <= until) {
            if process.incoming.first().is_none_or(|(opened_at, _)| *opened_at > at) {
                process.proof.count(Signal::InFlight, false);
            }
        }
    }

    /// A request that hangs meets everything its thread does meanwhile: what is decided need not wait for it any more.
    fn wait_for(&mut self, cause: OpId, waiter: OpId) {
        let Some(state) = self.ops.get_mut(&cause) else { return };
        state.waiters.push(waiter);
        if !state.is_crowded() {
            return;
        }
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
        let Some(process) = self.processes.get_mut(&state.tgid) else { return };
        let tid = point.thread.tid;
        match (state.shape, state.family) {
            (OpSide::Incoming, _) => {
                if !state.served_by.contains(&tid) {
                    // The thread that reads the end of a request is the one that works on it.
                    for tid in std::mem::replace(&mut state.served_by, vec![tid]) {
                        process.thread(tid).serving.retain(|served| *served != op);
                    }
                }
                self.serve(op, point);
            }
            (OpSide::Outgoing, Interaction::Message) if tid != state.opened.thread.tid => {
                // Its first bytes went along with the message of another thread.
                state.start.joint = true;
                process.mix(point.at, state.conn);
            }
            (OpSide::Outgoing | OpSide::Relayed, _) => {}
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
        if state.asked {
            self.unname(closing.op);
        }
        let Some(state) = self.ops.get_mut(&closing.op) else { return };
        state.keys = closing.keys;
        state.traits = closing.traits;
        state.transaction = closing.transaction;
        let answer =
            if state.shape == OpSide::Incoming { closing.response_start } else { closing.response_end };
        state.answered_by = answer.map(|point| point.thread.tid);
        let (shape, family, conn, tgid, transaction) =
            (state.shape, state.family, state.conn, state.tgid, state.transaction);
        match shape {
            OpSide::Incoming => self.close_incoming(closing.op, closing.response_start, closing.at),
            OpSide::Outgoing => {
                let tid = state.opened.thread.tid;
                let (opened_at, crowded) = (state.opened.at, state.start.crowded);
                // A process that is forgotten does not come back for what it had left open.
                if let Some(process) = self.processes.get_mut(&tgid) {
                    process.client_closed(conn);
                    if family == Interaction::Call {
                        process.thread(tid).calls.retain(|(call, _)| *call != closing.op);
                    }
                    if let Some(start) = closing.response_start {
                        let thread = process.thread(start.thread.tid);
                        thread.act(start.at, conn);
                        if family == Interaction::Call && start.thread.tid == tid {
                            thread.waited(conn, opened_at, start.at, crowded);
                        }
                    }
                    if let Some(end) = closing.response_end {
                        process.thread(end.thread.tid).read(closing.op, end.at);
                        if family == Interaction::Call {
                            process.proof.count(Signal::SameThreadReads, end.thread.tid == tid);
                        }
                    }
                }
                if let Some(number) = transaction {
                    let transaction = self.transactions.entry((conn, number)).or_default();
                    transaction.member_count += 1;
                    transaction.over |= closing.ends_transaction;
                }
                self.deadlines
                    .insert((closing.at + self.policy.decide_within_ns, closing.op), Deadline::Decide);
                let named = closing.named.filter(|cause| self.ops.contains_key(cause));
                match named.and_then(|cause| self.edge(closing.op, cause, Rule::Message, 1.0)) {
                    Some(edge) => self.decide(closing.op, Some(edge), true),
                    None => self.consider(closing.op, false),
                }
            }
            OpSide::Relayed => {}
        }
    }

    /// The cause of an operation was found outside its process: what is known of the cause's order holds for it too.
    pub fn linked(&mut self, child: OpId, parent: OpId) {
        if self.links.insert(child, parent).is_none() {
            self.link_age.push_back(child);
            if self.link_age.len() > MAX_LINKS
                && let Some(oldest) = self.link_age.pop_front()
            {
                self.links.remove(&oldest);
            }
        }
    }

    /// A connection is gone; what was open on it has been closed before.
    pub fn conn_closed(&mut self, conn: ConnId, tgid: u32) {
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.client_gone(conn);
        }
    }

    /// Something a process read or wrote was lost: found out at `now`, when the stream went on behind it.
    pub fn missed(&mut self, tgid: u32, now: BootNs) {
        if let Some(process) = self.processes.get_mut(&tgid) {
            note_loss(&mut process.missed, now);
        }
    }

    /// Records were lost, found out at `now`: whose is not known.
    pub fn lost(&mut self, now: BootNs) {
        note_loss(&mut self.lost, now);
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

    /// A thread began. What its creator was serving then, it may have been begun for.
    pub fn thread_began(&mut self, tgid: u32, tid: u32, creator: u32) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        // An earlier thread may have had the same identifier.
        process.threads.remove(&tid);
        let cause = process.threads.get(&creator).and_then(ThreadState::work);
        if cause.is_some() {
            process.thread(tid).begun_for = cause;
        }
    }

    /// A process replaced its image: its threads are others.
    pub fn process_replaced(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
    }

    /// Decides what has waited long enough, forgets what is old.
    ///
    /// When something was [`Processes::wanted`] for it, it is called again once that is [`Processes::shown`].
    pub fn handle_timeout(&mut self, now: BootNs) {
        for op in std::mem::take(&mut self.postponed) {
            self.consider(op, true);
        }
        while let Some((&(due, op), &deadline)) = self.deadlines.first_key_value() {
            if due > now {
                break;
            }
            self.deadlines.remove(&(due, op));
            match deadline {
                Deadline::Decide if self.ask(op) || !self.wanted.is_empty() => self.postponed.push(op),
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
        if !self.postponed.is_empty() {
            return Some(0);
        }
        let ended = self.ended.front().map(|(due, _)| *due);
        [self.deadlines.keys().next().map(|(due, _)| *due), ended].into_iter().flatten().min()
    }

    /// Decides everything with what is known.
    pub fn finish(&mut self) {
        let mut open: Vec<OpId> = self.ops.iter().filter(|(_, op)| !op.decided).map(|(id, _)| *id).collect();
        open.sort_unstable();
        for op in open.into_iter().chain(std::mem::take(&mut self.postponed)) {
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
        self.ops.get(&op).is_none_or(|state| state.shape != OpSide::Outgoing || state.decided)
    }

    fn serve(&mut self, op: OpId, point: Point) {
        let Some(state) = self.ops.get(&op) else { return };
        let Some(process) = self.processes.get_mut(&state.tgid) else { return };
        let thread = process.thread(point.thread.tid);
        thread.read(op, point.at);
        thread.act(point.at, state.conn);
        thread.answered = None;
        thread.begun_for = None;
        if !thread.serving.contains(&op) {
            thread.serving.push(op);
        }
        // Several messages at once are a prefetch; a request among others is concurrency on one thread.
        if thread.multiplexes {
            return;
        }
        let served = || thread.serving.iter().filter_map(|op| self.ops.get(op));
        let several = served().any(|other| other.conn != state.conn);
        if several && served().any(|served| served.family == Interaction::Call) {
            thread.multiplexes = true;
        }
    }

    fn close_incoming(&mut self, op: OpId, answer: Option<Point>, at: BootNs) {
        let Some(state) = self.ops.get_mut(&op) else { return };
        let (tgid, waiters) = (state.tgid, std::mem::take(&mut state.waiters));
        if let Some(process) = self.processes.get_mut(&state.tgid) {
            process.incoming.remove(&(state.opened.at, op));
            if process.incoming.is_empty() {
                process.quiet.rests(at);
            }
            for tid in &state.served_by {
                process.thread(*tid).serving.retain(|served| *served != op);
            }
            if let Some(point) = answer {
                process.thread(point.thread.tid).answer(op, point.at);
                if state.family == Interaction::Call {
                    let same = state.served_by.contains(&point.thread.tid);
                    process.proof.count(Signal::SameThreadAnswers, same);
                }
            }
            process.over = [Some((at, op)), process.over[0]];
            process.unexplained.retain(|work| !state.is_open_at(*work));
        }
        self.name(op);
        self.deadlines.insert((at + REMEMBER_NS, op), Deadline::Forget);
        for waiter in waiters {
            self.consider(waiter, false);
        }
        while let Some(ready) = self.processes.get_mut(&tgid).and_then(Process::pop_unblocked) {
            self.consider(ready, false);
        }
    }

    /// A request that is still open, and what it has shown so far: what it was asked for is decided with it.
    pub fn wanted(&mut self) -> Option<(ConnId, OpId)> {
        self.wanted.pop_front()
    }

    /// What an open request has shown so far. Its answer may show more.
    pub fn shown(&mut self, op: OpId, keys: Vec<OrderKey>, traits: Facts) {
        let Some(state) = self.ops.get_mut(&op).filter(|state| state.asked && state.closed_at.is_none())
        else {
            return;
        };
        state.keys = keys;
        state.traits = traits;
        self.name(op);
    }

    /// Requests that were in flight when `op` began and still are: what they have shown is asked for, once. Returns whether
    /// there are any to wait for.
    fn ask(&mut self, op: OpId) -> bool {
        let Some(state) = self.ops.get(&op) else { return false };
        let Some(process) = self.processes.get(&state.tgid) else { return false };
        let before = self.wanted.len();
        let latest = (state.opened.at, OpId(u64::MAX));
        for (_, request) in process.incoming.range(..=latest).take(MAX_LOOKED_AT) {
            if let Some(request_state) = self.ops.get_mut(request).filter(|state| !state.asked) {
                request_state.asked = true;
                self.wanted.push_back((request_state.conn, *request));
            }
        }
        self.wanted.len() > before
    }

    /// Enters a request where keys are looked for.
    fn name(&mut self, op: OpId) {
        let Some(state) = self.ops.get(&op) else { return };
        let Some(process) = self.processes.get_mut(&state.tgid) else { return };
        for key in &state.keys {
            process.by_key.entry(key.clone()).or_default().push(op);
        }
        if state.keys.is_empty() {
            if process.unnamed.len() >= MAX_UNNAMED {
                process.unnamed.pop_front();
            }
            process.unnamed.push_back(op);
        }
    }

    /// Takes it out again.
    fn unname(&mut self, op: OpId) {
        let Some(state) = self.ops.get(&op) else { return };
        let Some(process) = self.processes.get_mut(&state.tgid) else { return };
        process.unname(op, &state.keys);
        if state.keys.is_empty() {
            process.unnamed.retain(|unnamed| *unnamed != op);
        }
    }

    fn forget(&mut self, op: OpId) {
        let Some(state) = self.ops.remove(&op) else { return };
        if let Some(number) = state.transaction {
            self.transactions.remove(&(state.conn, number));
        }
        if let Some(process) = self.processes.get_mut(&state.tgid) {
            process.unname(op, &state.keys);
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

/// Enters a loss; those close to each other count as one.
fn note_loss(losses: &mut VecDeque<BootNs>, now: BootNs) {
    if losses.back().is_none_or(|last| now.saturating_sub(*last) > MISSED_STEP_NS) {
        if losses.len() >= MAX_MISSED {
            losses.pop_front();
        }
        losses.push_back(now);
    }
}

/// One of them may have been around that time.
fn is_near_loss(losses: &VecDeque<BootNs>, at: BootNs) -> bool {
    let (from, to) = (at.saturating_sub(CLOUD_BEFORE_NS), at.saturating_add(CLOUD_AFTER_NS));
    losses.iter().any(|lost| (from..=to).contains(lost))
}

#[cfg(test)]
mod tests;
