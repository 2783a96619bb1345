//! Operations, threads, processes, transactions, links and losses → the table that rules look at.
//!
//! *Owns* what is remembered, and for whom. [`observe`](super::observe) and [`decide`](super::decide) write it, rules see it through
//! a [`View`](super::view::View). *Must not know* rules.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::Interaction;
use super::chains::Chains;
use super::kin::Kin;
use super::process::{Process, Writer};
use super::thresholds::{
    CROWD, MAX_LINKS, MAX_LOOKED_AT, MAX_PROCESSES, MAX_UNREAD, NEAR_LOSS_AFTER, NEAR_LOSS_BEFORE,
};
use super::trust::Signal;
use crate::bounded::{Bounded, Slot};
use crate::causality::echo::{Asked, Carried, Echo};
use crate::causality::stats::InsideStats;
use crate::operation::OpSide;
use crate::operation::postgres::TransactionNumber;
use crate::order::{Facts, OrderKey};
use crate::record::{ConnId, OpId, Point, TaskId, Tgid, Tid};
use crate::time::BootTime;

/// All that is known of operations and of who did them.
#[derive(Debug)]
pub(super) struct Table {
    /// Those that asked or were asked for nothing for longest are the oldest.
    pub(super) processes: Bounded<Tgid, Process>,
    /// What was forgotten with processes and threads that are gone.
    forgotten: InsideStats,
    /// Boxed: a hash table has up to four slots per entry when entries come and go.
    pub(super) ops: FxHashMap<OpId, Box<Op>>,
    /// By connection and number of the transaction on it.
    pub(super) transactions: FxHashMap<(ConnId, TransactionNumber), Transaction>,
    /// What caused operations across the wire and through messages.
    pub(super) links: Bounded<OpId, OpId>,
    /// When records were lost, whosever they were.
    pub(super) losses: VecDeque<Loss>,
    /// Open connections that are not read, and who reads from each.
    pub(super) unread: Bounded<ConnId, Tgid>,
    pub(super) kin: Kin,
    pub(super) chains: Chains,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            processes: Bounded::new(MAX_PROCESSES),
            forgotten: InsideStats::default(),
            ops: FxHashMap::default(),
            transactions: FxHashMap::default(),
            links: Bounded::new(MAX_LINKS),
            losses: VecDeque::new(),
            unread: Bounded::new(MAX_UNREAD),
            kin: Kin::new(),
            chains: Chains::default(),
        }
    }
}

impl Table {
    pub(super) fn op(&self, op: OpId) -> Option<&Op> {
        self.ops.get(&op).map(Box::as_ref)
    }

    /// The transaction that an operation ran in.
    pub(super) fn transaction(&self, op: &Op) -> Option<&Transaction> {
        self.transactions.get(&(op.conn, op.transaction?))
    }

    /// The operation that names the only order of the transaction, if it is over and not decided yet.
    pub(super) fn named_member(&self, op: &Op) -> Option<OpId> {
        let Named::By(named, _) = self.transaction(op)?.named else { return None };
        self.op(named).is_some_and(|named| !named.decided && named.closed_at.is_some()).then_some(named)
    }

    /// The process of that identifier, a new one if need be.
    pub(super) fn process(&mut self, tgid: Tgid) -> Option<&mut Process> {
        let slot = match self.processes.slot(&tgid) {
            Some(slot) => slot,
            None => {
                if self.processes.is_full() {
                    self.forget_process();
                }
                self.processes.insert_new(tgid, Process::default()).0
            }
        };
        self.processes.touch(slot);
        self.processes.at_mut(slot)
    }

    /// Ends can be lost: of the processes that did nothing for longest, one with nothing under way goes first.
    fn forget_process(&mut self) {
        let is_idle = |slot: &Slot| self.processes.at(*slot).is_some_and(Process::is_idle);
        let idle = self.processes.by_age().take(MAX_LOOKED_AT).find(is_idle);
        if let Some((_, process)) =
            idle.or(self.processes.oldest()).and_then(|slot| self.processes.forget_at(slot))
        {
            self.forgotten += process.forgotten();
        }
    }

    /// What names an order was done before the request that names it was answered, or `late`; of `Signal::Rested`: nothing was done late.
    pub(super) fn count_lateness(&mut self, tgid: Tgid, signal: Signal, late: bool) {
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.trust.count(signal, !late);
            self.kin.showed(tgid, late);
        }
    }

    /// Of work that names an order, none of so much was done for an answered request of the process; or of those of its service, and none
    /// for one of its own.
    pub(super) fn was_never_late(&self, tgid: Tgid, seen: u32) -> bool {
        self.processes.get(&tgid).is_some_and(|process| {
            let trust = &process.trust;
            trust.was_never_late(seen) || (trust.was_never_late(0) && self.kin.were_never_late(tgid, seen))
        })
    }

    /// A process is no more, or is another one.
    pub(super) fn remove_process(&mut self, tgid: Tgid) {
        self.kin.gone(tgid);
        self.chains.gone(tgid);
        if let Some(process) = self.processes.remove(&tgid) {
            self.forgotten += process.forgotten();
        }
    }

    /// What was forgotten at the bounds: of links, and of processes and their threads.
    pub(super) fn forgotten(&self) -> (u64, InsideStats) {
        let mut inside = self.forgotten;
        inside.processes = self.processes.forgotten();
        inside.kin = self.kin.forgotten();
        inside.tasks = self.chains.forgotten();
        self.processes.values().for_each(|process| inside += process.forgotten());
        (self.links.forgotten(), inside)
    }
}

/// One operation: what is known of it, and what waits for it.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) shape: OpSide,
    pub(super) family: Interaction,
    pub(super) tgid: Tgid,
    pub(super) conn: ConnId,
    pub(super) opened: Point,
    pub(super) closed_at: Option<BootTime>,
    pub(super) answered: bool,
    /// The thread that wrote the answer to this request, or read the answer to this call.
    pub(super) answered_by: Option<Tid>,
    /// The task that wrote the answer to this request; 0 where that is not known.
    pub(super) answered_by_task: TaskId,
    /// The highest number that had been seen in a chain of the process when this request came; the highest there is where none had
    /// been.
    pub(super) newest_task: TaskId,
    pub(super) keys: Vec<OrderKey>,
    pub(super) facts: Facts,
    /// What a proxy leaves of it.
    pub(super) echo: Option<Echo>,
    /// The trace whose ID it carries.
    pub(super) trace: Option<Carried>,
    /// What it asks for, while it is open and has shown that. `None`: it may be anything.
    pub(super) asked: Option<Asked>,
    /// When all of its request had been moved.
    pub(super) requested_at: Option<BootTime>,
    /// It was passed on.
    pub(super) forwarded: bool,
    pub(super) transaction: Option<TransactionNumber>,
    /// The thread that read the whole request (of a Go program the goroutine that read its end), and when it had; `None` while
    /// bytes are missing, and if several threads read them.
    pub(super) read_whole: Option<(Tid, BootTime)>,
    /// The threads that count this request as work they serve.
    pub(super) served_by: Vec<Tid>,
    /// Outgoing operations to look at again: once this request is over, if its thread did them meanwhile; once this outgoing
    /// operation is decided, if they followed its answer.
    pub(super) waiters: Vec<OpId>,
    /// What was the case in its process when this operation started.
    pub(super) start: Circumstances,
    /// As far as is known, the only request that names this operation's order has been answered: one that becomes known late
    /// may still turn out to be the cause.
    pub(super) awaits_late_cause: bool,
    /// Something that names its order was begun soon after its answer.
    pub(super) followed: bool,
    /// Until when it is waited for that the process shows how it works.
    pub(super) patient_until: Option<BootTime>,
    /// The request was open for so long that its connection was asked what it had shown until then.
    pub(super) peeked: bool,
    /// Every member of this operation's transaction has been looked at: only weak evidence is left.
    pub(super) transaction_settled: bool,
    pub(super) decided: bool,
    pub(super) parent: Option<OpId>,
}

/// What was the case in the process when an outgoing operation started.
#[derive(Debug, Default)]
pub(super) struct Circumstances {
    /// Requests in flight, by their start.
    pub(super) in_flight: u32,
    /// The only request that the operation's thread was serving.
    pub(super) serving: Option<OpId>,
    /// The only request in flight in the process.
    pub(super) alone: Option<OpId>,
    /// The request that the thread had answered last, if the thread has read no other since.
    pub(super) answered: Option<OpId>,
    /// The request that the thread was begun for.
    pub(super) begun_for: Option<OpId>,
    /// The request that the thread which waits for this operation was serving, or was begun for.
    pub(super) awaited_for: Option<OpId>,
    /// The task that wrote it and those that waited for it, one for another; none where that is not known.
    pub(super) tasks: Box<[TaskId]>,
    /// Who writes on the operation's connection.
    pub(super) writer: Writer,
    /// The thread had read several requests or messages that were not over.
    pub(super) several_at_hand: bool,
    /// What the thread had read last; several when one read brought several.
    pub(super) last_read: Vec<OpId>,
    /// When that was.
    pub(super) last_read_at: BootTime,
    /// The requests that were over last, and when.
    pub(super) over: [Option<(BootTime, OpId)>; 2],
    /// The operation was written together with another message while several requests were in flight. A thread that writes to
    /// a shared connection also writes what other threads have left in the connection's buffer.
    pub(super) shared_write: bool,
    /// Another client connection had nothing under way: nobody was waiting for a connection.
    pub(super) idle_connection: bool,
    /// The operation became known after later events of its thread: what the thread's state was is not known.
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
            answered_by_task: TaskId::default(),
            newest_task: TaskId::default(),
            keys: Vec::new(),
            facts: Vec::new(),
            echo: None,
            trace: None,
            asked: None,
            requested_at: None,
            forwarded: false,
            transaction: None,
            read_whole: None,
            served_by: Vec::new(),
            waiters: Vec::new(),
            start: Circumstances::default(),
            awaits_late_cause: false,
            followed: false,
            patient_until: None,
            peeked: false,
            transaction_settled: false,
            decided: false,
            parent: None,
        }
    }

    /// The next waiter would make the list grow.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiters.len() >= CROWD && self.waiters.len() == self.waiters.capacity()
    }

    /// The operation is still open, or was seen to its end. One whose end was missed may have been over long before.
    pub(super) fn is_sound(&self) -> bool {
        self.closed_at.is_none() || self.answered
    }

    /// The operation was under way at that time.
    pub(super) fn is_open_at(&self, at: BootTime) -> bool {
        self.opened.at <= at && self.closed_at.is_none_or(|closed| closed >= at)
    }
}

/// Something was not seen, or was seen and not read: from when to when it may have been under way. It was found out at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) from: BootTime,
    pub(super) to: BootTime,
}

impl Loss {
    pub(super) fn at(at: BootTime) -> Self {
        Self { from: at, to: at }
    }
}

/// One of the losses may have been around that time.
pub(super) fn is_near(losses: &VecDeque<Loss>, at: BootTime) -> bool {
    let (from, to) = (at - NEAR_LOSS_BEFORE, at + NEAR_LOSS_AFTER);
    losses.iter().any(|lost| lost.from <= to && lost.to >= from)
}

/// Both name exactly one order, and not the same.
pub(super) fn conflict(a: &Op, b: &Op) -> bool {
    matches!((a.keys.as_slice(), b.keys.as_slice()), ([x], [y]) if x != y)
}

/// Facts that two operations have in common, and those in which they contradict each other.
pub(super) fn common_facts(a: &Op, b: &Op) -> (usize, usize) {
    let (mut same, mut different) = (0, 0);
    for (name, value) in &a.facts {
        match b.facts.iter().find(|(other, _)| other == name) {
            Some((_, other)) if other == value => same += 1,
            Some(_) => different += 1,
            None => {}
        }
    }
    (same, different)
}

/// Members of one transaction without a cause that are remembered: what is beyond stays a trace of its own.
const MAX_ROOTS: usize = 1024;

/// What caused the operations of a group that have one cause, unless some have shown otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OneCause {
    first: Option<OpId>,
    has_several: bool,
}

impl OneCause {
    /// A member was decided for that cause, by evidence of its own.
    pub(super) fn add(&mut self, cause: OpId) {
        self.has_several |= *self.first.get_or_insert(cause) != cause;
    }

    /// The cause of all that are decided.
    pub(super) fn get(self) -> Option<OpId> {
        self.first.filter(|_| !self.has_several)
    }
}

/// A database transaction: its statements have one cause.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) cause: OneCause,
    /// Its BEGIN was seen: no member is missing before those that are known.
    pub(super) begun: bool,
    /// The COMMIT or ROLLBACK is over.
    pub(super) over: bool,
    /// When the last of its members was over.
    pub(super) last_at: BootTime,
    /// Members that are over, and how many of them were decided by evidence of their own.
    pub(super) member_count: usize,
    pub(super) decided_count: usize,
    /// Members that are decided, and those of them without a cause.
    pub(super) done_count: usize,
    pub(super) roots: Vec<OpId>,
    /// Members that name exactly one order: the first, if all name the same.
    pub(super) named: Named,
    /// Members without evidence of their own. They wait until every other member has been looked at.
    pub(super) waiting: Vec<OpId>,
}

/// What a transaction's members name.
#[derive(Debug, Default)]
pub(super) enum Named {
    #[default]
    Nothing,
    /// One order, as this operation does.
    By(OpId, OrderKey),
    Several,
}

impl Transaction {
    /// A member is over that names these orders. One that was not read may name any.
    pub(super) fn name(&mut self, op: OpId, keys: &[OrderKey], is_read: bool) {
        match (&self.named, keys) {
            _ if !is_read => self.named = Named::Several,
            (_, []) => {}
            (Named::Nothing, [only]) => self.named = Named::By(op, only.clone()),
            (Named::By(_, known), [only]) if known == only => {}
            _ => self.named = Named::Several,
        }
    }

    /// A member is decided. Once all are, were seen from the BEGIN on, and name exactly one order: the member that names it, and those
    /// without a cause.
    pub(super) fn done(&mut self, op: OpId, is_root: bool) -> Option<(OpId, Vec<OpId>)> {
        self.done_count += 1;
        if is_root && self.roots.len() < MAX_ROOTS {
            self.roots.push(op);
        }
        let Named::By(by, _) = &self.named else { return None };
        (self.begun && self.over && self.done_count >= self.member_count)
            .then(|| (*by, std::mem::take(&mut self.roots)))
    }

    /// The transaction has ended, and every member has been looked at.
    pub(super) fn is_ripe(&self) -> bool {
        self.over && self.waiting.len() + self.decided_count >= self.member_count
    }
}
