//! The table, and one outgoing operation in it → what a rule can see of them.
//!
//! *Owns* what rules can ask. A rule gets a view and nothing else, so that it cannot write, and has no other way to an operation's
//! possible causes than [`View::candidate`]. *Must not know* which rule asks, nor in which order.

use std::cell::OnceCell;
use std::time::Duration;

use super::Interaction;
use super::process::{Process, Trace};
use super::rules::reading::Read;
use super::table::{Op, Table, Transaction, common_facts, is_near};
use super::thread::ThreadState;
use super::thresholds::{AFTER, MAX_LOOKED_AT, NEAR_LOSS_BEFORE};
use super::trust::{Signal, Trust};
use crate::order::OrderKey;
use crate::record::{ConnId, OpId, TaskId, Tid};
use crate::time::BootTime;

/// What rules can see while the cause of one operation is looked for.
pub(super) struct View<'a> {
    table: &'a Table,
    /// The operation whose cause is looked for.
    pub(super) op: &'a Op,
    /// Nothing more is waited for: the operation is decided now, or keys have decided it.
    pub(super) forced: bool,
    process: Option<&'a Process>,
    /// What several rules ask about reading, looked up once.
    pub(super) read: OnceCell<Option<Read>>,
}

impl<'a> View<'a> {
    pub(super) fn of(table: &'a Table, op: &'a Op, forced: bool) -> Self {
        Self { table, op, forced, process: table.processes.get(&op.tgid), read: OnceCell::new() }
    }

    /// When the operation began.
    pub(super) fn at(&self) -> BootTime {
        self.op.opened.at
    }

    /// The thread that wrote the operation.
    pub(super) fn tid(&self) -> Tid {
        self.op.opened.thread.tid
    }

    /// An operation that may be the cause, or may lead to it.
    pub(super) fn candidate(&self, op: OpId) -> Option<&'a Op> {
        self.table.op(op)
    }

    /// What the operation's thread did.
    pub(super) fn thread(&self) -> Option<&'a ThreadState> {
        self.process?.threads.get(&self.tid())
    }

    /// How far guesses are believed in the operation's process.
    pub(super) fn trust(&self) -> Option<&'a Trust> {
        self.process.map(|process| &process.trust)
    }

    /// The process does nothing unasked, and had something to do since `asked_at`.
    pub(super) fn is_quiet_otherwise(&self, asked_at: BootTime) -> bool {
        self.process.is_some_and(|process| process.quiet.holds(asked_at, self.at()))
    }

    /// A request became known later than something that began after it; where one did, another one may.
    pub(super) fn may_learn_of_more(&self) -> bool {
        self.process.is_some_and(|process| process.quiet.had_late_arrival_since(self.at()))
    }

    /// The transaction in which the operation ran.
    pub(super) fn transaction(&self) -> Option<&'a Transaction> {
        self.table.transaction(self.op)
    }

    /// What caused an operation across the wire or through a message.
    pub(super) fn link(&self, op: OpId) -> Option<OpId> {
        self.table.links.get(&op).copied()
    }

    /// Requests of the process that show this key, in the order they were over.
    pub(super) fn named(&self, key: &OrderKey) -> impl DoubleEndedIterator<Item = OpId> {
        let ops = self.process.and_then(|process| process.by_key.get(key));
        ops.into_iter().flatten().copied()
    }

    /// Requests of the process that a task answered, the latest to be over first.
    pub(super) fn answered_by_task(&self, task: TaskId) -> impl Iterator<Item = (OpId, &'a Op)> {
        let (table, tgid) = (self.table, self.op.tgid);
        let served = if task.is_numbered() { table.chains.served(tgid, task) } else { &[] };
        served.iter().rev().filter_map(move |op| Some((*op, table.op(*op)?)))
    }

    /// The chains of the first and the last write at which others waited for a task, and when.
    pub(super) fn sights(&self, task: TaskId) -> Option<[(&'a [TaskId], BootTime); 2]> {
        self.table.chains.sights(self.op.tgid, task)
    }

    /// A request that was in flight when the operation began is still open.
    pub(super) fn is_blocked(&self) -> bool {
        self.process.is_some_and(|process| process.is_blocked((self.at(), OpId(0))))
    }

    /// What was in flight when the operation began, is still open, and may ask for the same as the operation: what has not shown what it
    /// asks for, or shows the same. A request of which a part was still missing when the operation was over was not passed on.
    pub(super) fn may_be_of_open(&self) -> bool {
        let (Some(process), Some(echo)) = (self.process, self.op.echo) else { return false };
        let open = process.incoming.up_to(self.at()).chain(process.relayed.up_to(self.at()));
        let may_be = |candidate: &Op| {
            candidate.family == self.op.family
                && candidate.requested_at.is_some_and(|at| self.op.closed_at.is_none_or(|over| at <= over))
                && candidate.asked.is_none_or(|asked| asked == echo.asked)
        };
        open.enumerate()
            .any(|(step, open)| step >= 2 * MAX_LOOKED_AT || self.candidate(open).is_some_and(may_be))
    }

    /// The process was asked for something, ever.
    pub(super) fn was_asked(&self) -> bool {
        self.process.is_some_and(Process::was_asked)
    }

    /// Other processes of the service that take messages. `None`: not all of them are known.
    fn takers(&self) -> Option<impl Iterator<Item = &'a Process>> {
        let takers = self.table.kin.takers(self.op.tgid)?;
        Some(takers.filter_map(|tgid| self.table.processes.get(&tgid)))
    }

    /// What other processes of the service were asked that shows this key. `None`: not all of it is known.
    pub(super) fn named_by_kin(&self, key: &OrderKey) -> Option<Vec<(OpId, &'a Op)>> {
        let named = self.takers()?.filter_map(|taker| taker.by_key.get(key)).flat_map(|ops| ops.iter().rev());
        let named: Vec<OpId> = named.take(MAX_LOOKED_AT + 1).copied().collect();
        let open = self.takers()?.flat_map(|taker| taker.incoming.up_to(self.at()));
        let is_all = named.len() <= MAX_LOOKED_AT && open.take(MAX_LOOKED_AT + 1).count() <= MAX_LOOKED_AT;
        is_all.then(|| named.into_iter().filter_map(|op| Some((op, self.candidate(op)?))).collect())
    }

    /// Something that another process of the service took around the operation's start may have been lost.
    pub(super) fn kin_is_near_loss(&self) -> bool {
        let (from, to) = (self.at() - NEAR_LOSS_BEFORE, self.at());
        let may_have = |taker: &Process| is_near(&taker.losses, self.at()) || taker.unread.overlaps(from, to);
        self.takers().is_none_or(|mut takers| takers.any(may_have))
    }

    /// A request of the process was in flight when the operation began and still is, and has shown no key so far.
    pub(super) fn meets_unnamed_that_hangs(&self) -> bool {
        let hanging = self.process.into_iter().flat_map(|process| process.incoming.up_to(self.at()));
        let shows_none = |op| self.candidate(op).is_some_and(|candidate| candidate.keys.is_empty());
        // Of more nobody asked what they have shown.
        hanging.take(MAX_LOOKED_AT + 1).enumerate().any(|(step, op)| step >= MAX_LOOKED_AT || shows_none(op))
    }

    /// Requests of the process that show no key and were in flight when the operation began: the latest to be over first.
    pub(super) fn unnamed(&self) -> impl Iterator<Item = (OpId, &'a Op)> {
        let latest = self.process.into_iter().flat_map(|process| process.unnamed.iter().rev());
        let known = latest.take(MAX_LOOKED_AT).filter_map(move |op| Some((*op, self.candidate(*op)?)));
        known.filter(move |(_, candidate)| candidate.is_open_at(self.at()))
    }

    /// What the process was asked with the content of this operation, the latest to be over first.
    pub(super) fn echoes(&self) -> impl Iterator<Item = (OpId, &'a Op)> {
        let asked = self.process.zip(self.op.echo).and_then(|(process, echo)| process.by_echo.get(&echo));
        let latest = asked.into_iter().flat_map(|asked| asked.iter().rev()).take(MAX_LOOKED_AT);
        latest.filter_map(move |op| Some((*op, self.candidate(*op)?)))
    }

    /// What the process was asked with the trace ID of this operation, the latest to be over first.
    pub(super) fn asked_in_trace(&self) -> impl Iterator<Item = (OpId, &'a Op)> {
        let trace = self.trace();
        let asked = trace.into_iter().flat_map(|trace| trace.asked.iter().rev());
        asked.filter_map(move |op| Some((*op, self.candidate(*op)?)))
    }

    /// The one cause of what else the process did in the trace.
    pub(super) fn cause_in_trace(&self) -> Option<OpId> {
        self.trace()?.cause.get()
    }

    fn trace(&self) -> Option<&'a Trace> {
        self.process?.traces.get(&self.op.trace?)
    }

    /// A message that shows no key was being worked on when the operation began.
    pub(super) fn meets_unnamed_message(&self) -> bool {
        self.unnamed().any(|(_, candidate)| candidate.family == Interaction::Message)
    }

    /// The operation's thread had read all of this request when the operation began. Who has read a part of a request may leave
    /// the rest to another thread, and work on something else.
    pub(super) fn has_read(&self, candidate: &Op) -> bool {
        candidate.read_whole.is_some_and(|(tid, at)| tid == self.tid() && at <= self.at())
    }

    /// They show different facts, of users say, in a process where what belongs together shows the same.
    pub(super) fn differs(&self, candidate: &Op) -> bool {
        let (_, different) = common_facts(self.op, candidate);
        different > 0 && self.trust().is_some_and(|trust| !trust.is_refuted(Signal::Facts))
    }

    /// Something other than `cause` could be the cause: a request in flight, or one just answered where work goes on after
    /// answers. A cause that was in flight without being known was not the only one that could be.
    pub(super) fn is_contested(&self, cause: OpId) -> bool {
        let (at, start) = (self.at(), &self.op.start);
        let is_only = match self.candidate(cause).is_some_and(|cause| cause.is_open_at(at)) {
            true => start.alone == Some(cause),
            false => start.in_flight == 0,
        };
        let after = self.after();
        let mut over = start.over.iter().flatten();
        start.late || !is_only || over.any(|(closed, other)| *other != cause && at.since(*closed) <= after)
    }

    /// In this process requests are worked on after their answers, and the one that was answered then may still have been.
    pub(super) fn may_go_on(&self, answered: BootTime) -> bool {
        self.trust().is_some_and(Trust::goes_on) && self.at().since(answered) <= self.after()
    }

    /// A request that was over by then may still be worked on, as far as the process has shown.
    pub(super) fn is_just_over(&self, over: BootTime) -> bool {
        self.at().since(over) <= self.after()
    }

    /// How long a request that has been answered may still be worked on.
    fn after(&self) -> Duration {
        let Some(process) = self.process else { return AFTER };
        // Nothing is done for requests that have been answered, and nothing is about to show otherwise.
        let ends_with_answer = process.awaiting_late_cause == 0
            && process.unexplained.is_empty()
            && process.trust.ends_with_answer();
        if ends_with_answer { Duration::ZERO } else { process.aftermath.bound() }
    }

    /// Nothing that names an order is done so long after the answer, and nothing but this operation is about to show otherwise.
    pub(super) fn names_before_answer(&self, since: Duration) -> bool {
        let own = u32::from(self.op.awaits_late_cause);
        self.process.is_some_and(|process| {
            process.awaiting_late_cause <= own && process.trust.names_before_answer(since)
        })
    }

    /// Of work that names an order, none of so much was done after its request was answered, and nothing but this operation is about to
    /// show otherwise.
    pub(super) fn was_never_late(&self, seen: u32) -> bool {
        let own = u32::from(self.op.awaits_late_cause);
        self.process.is_some_and(|process| process.awaiting_late_cause <= own)
            && self.table.was_never_late(self.op.tgid, seen)
    }

    /// Something that the process read or wrote around the operation's start was lost, or not read: what its threads did then is not
    /// known, and only keys still prove something.
    pub(super) fn is_near_loss(&self) -> bool {
        self.process.is_some_and(|process| is_near(&process.losses, self.at()))
    }

    /// The process may have had a request around the operation's start that was not read: from when its connection began, to as long
    /// after its end as work goes on.
    pub(super) fn may_be_of_unread(&self) -> bool {
        self.process.is_some_and(|process| process.unread.overlaps(self.at() - NEAR_LOSS_BEFORE, self.at()))
    }

    /// The thread may have had such a request to work on.
    pub(super) fn thread_may_be_of_unread(&self) -> bool {
        let (from, to) = (self.at() - NEAR_LOSS_BEFORE, self.at());
        self.process.is_some_and(|process| process.unread.busied(self.tid(), from, to))
    }

    /// It may have had one that was not known when the operation began: what was noted then does not tell.
    pub(super) fn began_unread(&self) -> bool {
        self.process.is_some_and(|process| process.unread.overlapped(self.at() - NEAR_LOSS_BEFORE, self.at()))
    }

    /// Records were lost around the operation's start, of whatever process: of a connection that is lost whole, nothing else
    /// tells.
    pub(super) fn is_near_any_loss(&self) -> bool {
        is_near(&self.table.losses, self.at())
    }

    /// Threads wrote each other's messages on that connection between the operation's start and then, or shortly before.
    pub(super) fn is_interleaved(&self, conn: ConnId, until: BootTime) -> bool {
        self.process.is_some_and(|process| process.is_interleaved(conn, self.at(), until))
    }

    /// The thread that wrote the operation need not be the one that made it.
    pub(super) fn has_unsure_writer(&self) -> bool {
        self.op.start.shared_write
            || (self.op.family == Interaction::Message && self.is_interleaved(self.op.conn, self.at()))
    }
}
