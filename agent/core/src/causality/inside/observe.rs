//! Events of one process after the other → the table.
//!
//! *Owns* what an event changes, and which operations are looked at again because of it. *Must not know* what rules make of the
//! table, nor their order.

use std::collections::VecDeque;

use super::process::{Client, Process};
use super::rules::SETTLES;
use super::table::{Circumstances, Loss, Op, Table};
use super::thread::ThreadState;
use super::thresholds::{AFTER, CROWD, GRACE, LOSS_STEP, MAX_AFTERMATH, MAX_LOSSES, MAX_UNNAMED, REMEMBER};
use super::trust::Signal;
use super::{Closing, Deadline, Inside, Interaction, Opening, Showing};
use crate::operation::OpSide;
use crate::operation::postgres::InTransaction;
use crate::record::{ConnId, OpId, Point, ProcessInfo, Tgid, Tid};
use crate::time::BootTime;

impl Inside {
    /// The first byte of an operation moved.
    pub fn opened(&mut self, opening: Opening) {
        let Opening { op, shape, family, conn, point } = opening;
        let state = Op::new(shape, family, conn, point);
        match shape {
            OpSide::Incoming => self.request_opened(op, state),
            OpSide::Outgoing => self.work_opened(op, state),
            OpSide::Relayed => self.relayed_opened(op, state),
        }
    }

    /// A process is asked for something that is no cause of what it does, unless it passes it on: whoever asks nobody does not.
    fn relayed_opened(&mut self, op: OpId, state: Op) {
        let asking = self.table.processes.get_mut(&state.tgid).filter(|process| process.asks_others);
        if let Some(process) = asking.filter(|_| state.family == Interaction::Call) {
            process.relayed.insert(state.opened.at, op);
            self.table.ops.insert(op, Box::new(state));
        }
    }

    /// A process is asked for something.
    fn request_opened(&mut self, op: OpId, mut state: Op) {
        let point = state.opened;
        state.newest_task = self.table.chains.newest(state.tgid);
        if state.family == Interaction::Message {
            self.table.kin.took(state.tgid);
        }
        let Some(process) = self.table.process(state.tgid) else { return };
        process.quiet.request_came(point.at);
        process.incoming.insert(point.at, op);
        state.served_by.push(point.thread.tid);
        self.table.ops.insert(op, Box::new(state));
        self.serve(op, point);
    }

    /// A process asks others for something: what is the case in it now is what rules go by later.
    fn work_opened(&mut self, op: OpId, mut state: Op) {
        let Op { tgid, family, conn, opened: point, .. } = state;
        let Some(process) = self.table.process(tgid) else { return };
        let client = process.client_opened(conn, point.thread.tid);
        let just = |(closed, _): &(BootTime, OpId)| point.at.since(*closed) <= AFTER;
        if process.incoming.is_empty()
            && process.over[0].as_ref().is_some_and(just)
            && process.unexplained.len() < MAX_AFTERMATH
        {
            process.unexplained.push_back(point.at);
        }
        count_unexplained(process, point.at - GRACE);
        process.quiet.works(point.at, process.incoming.is_empty());
        let in_flight = process.incoming.len();
        state.start = begin(process, op, &state, client);
        if family == Interaction::Message
            && let Some((at, on, before)) = process.written.replace((point.at, conn, op))
            && (at, on) == (point.at, conn)
            && in_flight > 1
        {
            state.start.shared_write = true;
            process.interleave(point.at, conn);
            if let Some(before) = self.table.ops.get_mut(&before) {
                before.start.shared_write = true;
            }
        }
        if let Some(tasks) = self.table.chains.of(conn, point.at) {
            state.start.tasks = tasks.into();
        }
        let serving = state.start.serving;
        self.table.ops.insert(op, Box::new(state));
        if let Some(cause) = serving {
            self.wait_for(cause, op);
        }
    }

    /// `waiter` is looked at again when `cause` is over. A request that hangs has everything its thread does meanwhile as waiters,
    /// so those that have been decided are taken out at times.
    fn wait_for(&mut self, cause: OpId, waiter: OpId) {
        let Some(state) = self.table.ops.get_mut(&cause) else { return };
        state.waiters.push(waiter);
        if !state.is_crowded() {
            return;
        }
        let mut waiters = std::mem::take(&mut state.waiters);
        waiters.retain(|waiter| self.table.ops.get(waiter).is_some_and(|waiting| !waiting.decided));
        if let Some(state) = self.table.ops.get_mut(&cause) {
            // Half of it free, so that this is rare.
            waiters.reserve(waiters.len().max(CROWD));
            state.waiters = waiters;
        }
    }

    /// The last byte of a request moved.
    pub fn requested(&mut self, op: OpId, point: Point) {
        let Some(state) = self.table.ops.get_mut(&op) else { return };
        let Some(process) = self.table.processes.get_mut(&state.tgid) else { return };
        let tid = point.thread.tid;
        state.requested_at = Some(point.at);
        match (state.shape, state.family) {
            (OpSide::Incoming, _) => {
                // Go's server watches an idle connection by a goroutine that reads one byte: with it the next request begins,
                // and all the rest is read by the goroutine that serves it.
                let alone = tid == state.opened.thread.tid || tid.is_goroutine();
                state.read_whole = alone.then_some((tid, point.at));
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
                state.start.shared_write = true;
                process.interleave(point.at, state.conn);
            }
            (OpSide::Outgoing | OpSide::Relayed, _) => {}
        }
    }

    /// An operation is over.
    pub fn closed(&mut self, mut closing: Closing) {
        let op = closing.op;
        let Some(state) = self.table.ops.get_mut(&op).filter(|state| state.closed_at.is_none()) else {
            return;
        };
        state.closed_at = Some(closing.at);
        state.answered = closing.answered;
        if state.peeked && state.shape == OpSide::Incoming {
            self.unname(op);
        }
        let Some(state) = self.table.ops.get_mut(&op) else { return };
        let shape = state.shape;
        // Where the runtime tells only who waits for the answer.
        if shape == OpSide::Outgoing
            && state.start.tasks.is_empty()
            && let Some(start) = closing.response_start
            && let Some(tasks) = self.table.chains.of(state.conn, start.at)
        {
            state.start.tasks = tasks.into();
        }
        let answer = if shape == OpSide::Incoming { closing.response_start } else { closing.response_end };
        state.answered_by = answer.map(|point| point.thread.tid);
        state.transaction = closing.transaction.map(|transaction| transaction.number);
        state.keys = std::mem::take(&mut closing.keys);
        state.facts = std::mem::take(&mut closing.facts);
        state.echo = closing.echo;
        let family = state.family;
        if shape != OpSide::Outgoing
            && let Some(echo) = state.echo
            && let Some(process) = self.table.processes.get_mut(&state.tgid)
        {
            process.echoes(op, echo, family);
        }
        state.trace = closing.trace;
        if let Some(trace) = state.trace
            && let Some(process) = self.table.processes.get_mut(&state.tgid)
        {
            process.carries(op, trace, shape);
        }
        // What it names is not known: as little as of what was lost.
        if !closing.is_read
            && let Some(process) = self.table.processes.get_mut(&state.tgid)
        {
            note_loss(&mut process.losses, Loss { from: state.opened.at, to: closing.at });
        }
        match shape {
            OpSide::Incoming => self.close_incoming(&closing),
            OpSide::Outgoing => self.close_outgoing(&closing),
            OpSide::Relayed => {
                if let Some(process) = self.table.processes.get_mut(&state.tgid) {
                    process.relayed.remove(state.opened.at, op);
                }
                self.deadlines.insert(closing.at + REMEMBER, (op, Deadline::Forget));
            }
        }
    }

    fn close_outgoing(&mut self, closing: &Closing) {
        let Some(state) = self.table.op(closing.op) else { return };
        let (family, conn, tgid, opened) = (state.family, state.conn, state.tgid, state.opened);
        let several_at_hand = state.start.several_at_hand;
        let tid = opened.thread.tid;
        self.note_followed(closing.op);
        // A process that is forgotten does not come back for what it had left open.
        if let Some(process) = self.table.processes.get_mut(&tgid) {
            process.client_closed(conn);
            if family == Interaction::Call {
                process.thread(tid).calls.retain(|(call, _)| *call != closing.op);
            }
            if let Some(start) = closing.response_start {
                let thread = process.thread(start.thread.tid);
                thread.act(start.at, conn);
                if family == Interaction::Call && start.thread.tid == tid {
                    thread.waited(conn, opened.at, start.at, several_at_hand);
                }
            }
            if let Some(end) = closing.response_end {
                process.thread(end.thread.tid).read(closing.op, end.at);
                if family == Interaction::Call {
                    process.trust.count(Signal::SameThreadReads, end.thread.tid == tid);
                }
            }
        }
        if let Some(InTransaction { number, is_begun, is_end }) = closing.transaction {
            let Table { ops, transactions, .. } = &mut self.table;
            let transaction = transactions.entry((conn, number)).or_default();
            transaction.member_count += 1;
            transaction.last_at = transaction.last_at.max(closing.at);
            transaction.begun |= is_begun;
            transaction.over |= is_end;
            if let Some(state) = ops.get(&closing.op) {
                transaction.name(closing.op, &state.keys, closing.is_read);
            }
        }
        self.deadlines.insert(closing.at + self.policy.decide_within, (closing.op, Deadline::Decide));
        let named = closing.named.filter(|cause| self.table.ops.contains_key(cause));
        match named.and_then(|cause| self.edge_by(closing.op, cause, &SETTLES)) {
            Some(edge) => self.decide(closing.op, Some(edge), true),
            None => self.consider(closing.op, false),
        }
    }

    /// The cause of an operation was found outside its process: the operation is of the cause's order.
    pub fn linked(&mut self, child: OpId, parent: OpId) {
        self.table.links.insert(child, parent);
    }

    /// A connection is gone; what was open on it has been closed before.
    pub fn conn_closed(&mut self, conn: ConnId, tgid: Option<Tgid>, now: BootTime) {
        if let Some(process) = tgid.and_then(|tgid| self.table.processes.get_mut(&tgid)) {
            process.client_gone(conn);
        }
        self.unread_closed(conn, now);
    }

    /// Something a process read or wrote was lost: found out at `now`, when the stream went on behind it, of which the last byte moved
    /// at `since`. A connection that rests between two uses shows late what it lost.
    pub fn missed(&mut self, tgid: Tgid, since: BootTime, now: BootTime) {
        if let Some(process) = self.table.processes.get_mut(&tgid) {
            note_loss(&mut process.losses, Loss { from: since.min(now), to: now });
        }
    }

    /// Records were lost, found out at `now`: whose is not known.
    pub fn lost(&mut self, now: BootTime) {
        note_loss(&mut self.table.losses, Loss::at(now));
    }

    /// A process ended. What its operations prove is still asked for a while.
    pub fn process_ended(&mut self, tgid: Tgid, now: BootTime) {
        if let Some(process) = self.table.processes.get_mut(&tgid) {
            process.ended = true;
            self.ended.push_back((now + REMEMBER, tgid));
        } else {
            self.table.remove_process(tgid);
        }
    }

    /// Who a process is became known.
    pub fn process_introduced(&mut self, info: &ProcessInfo) {
        self.table.kin.introduced(info);
    }

    /// A process began. One that ended may have had the same identifier.
    pub fn process_began(&mut self, tgid: Tgid) {
        if self.table.processes.get(&tgid).is_some_and(|process| process.ended) {
            self.table.remove_process(tgid);
        }
    }

    /// A thread began, perhaps for what its creator was serving then.
    pub fn thread_began(&mut self, tgid: Tgid, tid: Tid, creator: Tid) {
        let Some(process) = self.table.processes.get_mut(&tgid) else { return };
        // An earlier thread may have had the same identifier.
        process.thread_over(tid);
        let cause = process.threads.get(&creator).and_then(ThreadState::work);
        if cause.is_some() {
            process.thread(tid).begun_for = cause;
        }
    }

    /// A process replaced its image: its threads are others now.
    pub fn process_replaced(&mut self, tgid: Tgid) {
        self.table.remove_process(tgid);
    }

    fn serve(&mut self, op: OpId, point: Point) {
        let Some(state) = self.table.ops.get(&op) else { return };
        let Some(process) = self.table.processes.get_mut(&state.tgid) else { return };
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
        let served = || thread.serving.iter().filter_map(|op| self.table.ops.get(op));
        let several = served().any(|other| other.conn != state.conn);
        if several && served().any(|served| served.family == Interaction::Call) {
            thread.multiplexes = true;
        }
    }

    fn close_incoming(&mut self, closing: &Closing) {
        let Closing { op, at, response_start: answer, delivery, .. } = *closing;
        let Table { ops, chains, processes, .. } = &mut self.table;
        let Some(state) = ops.get_mut(&op) else { return };
        let answered = answer.and_then(|point| chains.of(state.conn, point.at)?.first().copied());
        // Nobody answers a message: chains name it itself.
        if let Some(task) = delivery.or(answered).filter(|task| task.is_numbered()) {
            state.answered_by_task = task;
            chains.answered(state.tgid, state.answered_by_task, op);
        }
        let (tgid, waiters) = (state.tgid, std::mem::take(&mut state.waiters));
        if let Some(process) = processes.get_mut(&state.tgid) {
            process.incoming.remove(state.opened.at, op);
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
                    process.trust.count(Signal::SameThreadAnswers, same);
                }
            }
            process.over = [Some((at, op)), process.over[0]];
            process.unexplained.retain(|work| !state.is_open_at(*work));
        }
        self.name(op);
        self.await_rest(op, at);
        self.deadlines.insert(at + REMEMBER, (op, Deadline::Forget));
        for waiter in waiters {
            self.consider(waiter, false);
        }
        while let Some(ready) = self.table.processes.get_mut(&tgid).and_then(Process::pop_unblocked) {
            self.consider(ready, false);
        }
    }

    /// What an open request has shown so far. The request's answer may show more.
    pub fn shown(&mut self, op: OpId, showing: Showing) {
        let Some(state) =
            self.table.ops.get_mut(&op).filter(|state| state.peeked && state.closed_at.is_none())
        else {
            return;
        };
        state.asked = showing.asked;
        // What only passes through is no cause by its keys.
        if state.shape == OpSide::Incoming {
            state.keys = showing.keys;
            state.facts = showing.facts;
            self.name(op);
        }
    }

    /// Enters a request where keys are looked for.
    fn name(&mut self, op: OpId) {
        let Some(state) = self.table.ops.get(&op) else { return };
        let Some(process) = self.table.processes.get_mut(&state.tgid) else { return };
        for key in &state.keys {
            process.by_key.entry(key.clone()).or_default().push_back(op);
        }
        if state.keys.is_empty() {
            if process.unnamed.len() >= MAX_UNNAMED {
                process.unnamed.pop_front();
                process.forgotten.unnamed += 1;
            }
            process.unnamed.push_back(op);
        }
    }

    /// Takes a request out again where keys are looked for.
    fn unname(&mut self, op: OpId) {
        let Some(state) = self.table.ops.get(&op) else { return };
        let Some(process) = self.table.processes.get_mut(&state.tgid) else { return };
        process.unname(op, &state.keys);
        if state.keys.is_empty() {
            // Nearly always the first; one that was asked while it was open may stand there twice.
            if !state.peeked && process.unnamed.front() == Some(&op) {
                process.unnamed.pop_front();
            } else {
                process.unnamed.retain(|unnamed| *unnamed != op);
            }
        }
    }

    pub(super) fn forget(&mut self, op: OpId) {
        let Some(state) = self.table.ops.remove(&op) else { return };
        if state.answered_by_task.is_numbered() {
            self.table.chains.forget(state.tgid, state.answered_by_task, op);
        }
        if let Some(number) = state.transaction {
            self.table.transactions.remove(&(state.conn, number));
        }
        if let Some(process) = self.table.processes.get_mut(&state.tgid) {
            // Only what a process is asked for is looked for by keys, and by its content what passes through too.
            if state.shape == OpSide::Incoming {
                process.unname(op, &state.keys);
            }
            if let Some(echo) = state.echo.filter(|_| state.shape != OpSide::Outgoing) {
                process.forget_echo(op, echo);
            }
            if let Some(trace) = state.trace {
                process.forget_carried(op, trace, state.shape);
            }
        }
    }
}

/// What is the case in the process when it begins `op`, which its thread now has under way.
fn begin(process: &mut Process, op: OpId, state: &Op, client: Client) -> Circumstances {
    let Op { family, conn, opened: point, .. } = *state;
    let (idle_count, in_flight, over) = (process.idle_count, process.incoming.len(), process.over);
    let alone = process.incoming.first().filter(|_| in_flight == 1).map(|(_, only)| only);
    let awaiting = point.awaited_by.and_then(|tid| process.threads.get(&tid));
    let awaited_for = awaiting.and_then(ThreadState::work);
    let thread = process.thread(point.thread.tid);
    // What becomes known late meets the state of later.
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
    let mut start = Circumstances { in_flight: in_flight as u32, over, late, ..Circumstances::default() };
    if late {
        return start;
    }
    start.alone = alone;
    start.awaited_for = awaited_for;
    start.writer = client.writer;
    start.serving = match thread.serving.as_slice() {
        [only] => Some(*only),
        _ => None,
    };
    start.several_at_hand = thread.serving.len() > 1;
    start.begun_for = thread.begun_for;
    start.answered = thread.answered.filter(|_| thread.serving.is_empty());
    start.last_read.clone_from(&thread.last_read);
    start.last_read_at = thread.last_read_at;
    start.idle_connection = idle_count > 0;
    start
}

/// Counts work that began up to then while nothing was in flight: by now everything that became known late is known.
fn count_unexplained(process: &mut Process, until: BootTime) {
    while let Some(at) = process.unexplained.pop_front_if(|at| *at <= until) {
        if process.incoming.first().is_none_or(|(opened_at, _)| opened_at > at) {
            process.trust.count(Signal::InFlight, false);
        }
    }
}

/// Enters a loss; those close to each other count as one.
fn note_loss(losses: &mut VecDeque<Loss>, loss: Loss) {
    if let Some(last) = losses.back_mut().filter(|last| loss.from.since(last.to) <= LOSS_STEP) {
        // A point next to a point adds nothing.
        if loss.from < last.from || loss.to.since(last.to) > LOSS_STEP {
            *last = Loss { from: last.from.min(loss.from), to: last.to.max(loss.to) };
        }
        return;
    }
    if losses.len() >= MAX_LOSSES {
        losses.pop_front();
    }
    losses.push_back(loss);
}
