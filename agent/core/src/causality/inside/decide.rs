//! One outgoing operation that is over → the edge to its cause, or none; and what the rules would have said where keys know it.
//!
//! ```text
//!   before keys ─▶ keys ─▶ transaction ─▶ after keys ─▶ none
//!                    └─▶ learn: the rows that would have been asked are counted as right or wrong
//! ```
//!
//! *Owns* when an operation can be decided, and the walk over the table of rules: rules make no edges, this does, and never one
//! that contradicts the operation's own key. *Must not know* how the table of operations is filled.

use std::time::Duration;

use super::rules::value::Value;
use super::rules::{Asked, Entry, Guess, RULES, TRANSACTION, chain, reading, transaction, value};
use super::table::{common_facts, conflict};
use super::thresholds::{GRACE, PATIENCE, REMEMBER};
use super::trust::Signal;
use super::view::View;
use super::{Deadline, Inside};
use crate::causality::rules::Row;
use crate::causality::{Confidence, Edge, Rule};
use crate::operation::OpSide;
use crate::operation::postgres::TransactionNumber;
use crate::record::{ConnId, OpId};
use crate::time::BootTime;

impl Inside {
    /// Decides an outgoing operation if it can be decided, or must be.
    pub(super) fn consider(&mut self, op: OpId, forced: bool) {
        let Some(state) = self.table.op(op) else { return };
        if state.shape != OpSide::Outgoing || state.decided || state.closed_at.is_none() {
            return;
        }
        if forced && self.is_postponed(op) {
            return;
        }
        // Of a transaction's members, the one that names an order is decided first: the others follow it.
        if forced
            && state.keys.is_empty()
            && let Some(named) = self.table.named_member(state)
        {
            self.consider(named, true);
            if self.is_postponed(named) && self.postpone(op) {
                return;
            }
        }
        let Some(state) = self.table.op(op).filter(|state| !state.decided) else { return };
        let view = View::of(&self.table, state, forced);
        if let Some((entry, guess)) = before_keys(&view)
            && let Some(edge) = self.edge(op, guess.cause, entry.rule, entry.confidence(&guess))
        {
            let signal = entry.signal(&view);
            self.count_keys(op, guess.cause, signal);
            return self.decide(op, Some(edge), true);
        }
        let waiting = (state.opened.at, op);
        let tgid = state.tgid;
        if !forced
            && let Some(process) = self.table.processes.get_mut(&tgid)
            && process.is_blocked(waiting)
        {
            // It may have been looked at, and waits already.
            if !process.blocked.contains(waiting.0, waiting.1) {
                process.blocked.insert(waiting.0, waiting.1);
            }
            return;
        }
        let Some(state) = self.table.op(op) else { return };
        let view = View::of(&self.table, state, forced);
        // The order of a message can be known from its producer, a moment later.
        if !forced && state.keys.len() == 1 && view.meets_unnamed_message() {
            return self.come_back(op);
        }
        let value = value::judge(&view);
        let is_allowed = |row: &Row| self.policy.allows(row.rule, row.confidence);
        let value = if value.row().is_none_or(is_allowed) { value } else { Value::Nothing };
        let may_learn_of_more = view.may_learn_of_more();
        if let Some(right) = value.is_one_of_order()
            && let Some(process) = self.table.processes.get_mut(&tgid)
        {
            process.trust.count(Signal::OneOfOrder, right);
        }
        let is_unproven = matches!(value, Value::Unproven(_));
        let among = match value {
            // A connection that is older than the agent shows late what it speaks; where one was, another one may be.
            Value::Only(..) if !forced && may_learn_of_more => return self.come_back(op),
            Value::Only(cause, row) => {
                let edge = self.edge_by_keys(op, cause, row);
                self.learn(op, cause, true);
                return self.decide(op, edge, true);
            }
            Value::Answered(cause, row) => {
                // What becomes known late comes first.
                if !forced {
                    self.await_late_cause(op);
                    return self.come_back(op);
                }
                let edge = self.edge_by_keys(op, cause, row);
                self.learn(op, cause, false);
                return self.decide(op, edge, true);
            }
            Value::Likest(cause, row) => {
                let edge = self.edge_by_keys(op, cause, row);
                return self.decide(op, edge, true);
            }
            Value::Among(causes) | Value::Unproven(causes) => causes,
            Value::AllAnswered(causes) => {
                // Whichever of them it was done for.
                if forced {
                    self.table.count_lateness(tgid, Signal::NamedInFlight, true);
                }
                causes
            }
            Value::Nameless => {
                if forced && let Some(process) = self.table.processes.get_mut(&tgid) {
                    process.trust.count(Signal::Named, false);
                }
                Vec::new()
            }
            Value::Nothing => Vec::new(),
        };
        if !self.waits_for_transaction(op, forced) {
            self.decide_by_company(op, &among, forced, is_unproven);
        }
    }

    /// Where keys do not tell: an operation of a transaction waits until all its members have been looked at. Returns whether it
    /// does, or has been decided with them.
    fn waits_for_transaction(&mut self, op: OpId, forced: bool) -> bool {
        let Some(state) = self.table.op(op) else { return true };
        let Some(number) = state.transaction.filter(|_| !state.transaction_settled) else { return false };
        let key = (state.conn, number);
        let transaction = self.table.transactions.entry(key).or_default();
        if !transaction.waiting.contains(&op) {
            transaction.waiting.push(op);
        }
        if transaction.is_ripe() {
            self.settle_transaction(key);
            return true;
        }
        if forced {
            transaction.waiting.retain(|waiting| *waiting != op);
        }
        !forced
    }

    /// Every member of a transaction has been looked at: the rest follow the decided ones, or their own weak evidence.
    fn settle_transaction(&mut self, key: (ConnId, TransactionNumber)) {
        let Some(transaction) = self.table.transactions.get_mut(&key) else { return };
        let mut waiting = std::mem::take(&mut transaction.waiting);
        transaction.decided_count += waiting.len();
        waiting.sort_unstable();
        for op in waiting {
            if let Some(state) = self.table.ops.get_mut(&op) {
                state.transaction_settled = true;
            }
            self.consider(op, false);
        }
    }

    /// Decides by what else was done: in the same transaction, by the same thread. Where keys leave several causes, it is `among`
    /// these; `is_unproven`: they may leave one, once the process has shown more.
    fn decide_by_company(&mut self, op: OpId, among: &[OpId], forced: bool, is_unproven: bool) {
        let Some(state) = self.table.op(op) else { return };
        let view = View::of(&self.table, state, forced);
        let contradicts = |cause: &OpId| view.candidate(*cause).is_some_and(|cause| conflict(state, cause));
        if let Some(cause) = transaction::judge(&view).filter(|cause| !contradicts(cause)) {
            let edge = self.edge_by(op, cause, &TRANSACTION);
            return self.decide(op, edge, false);
        }
        if !forced && let Some(earlier) = reading::waits_for(&view) {
            if let Some(earlier) = self.table.ops.get_mut(&earlier) {
                earlier.waiters.push(op);
            }
            return;
        }
        let edge = after_keys(&view, among)
            .and_then(|(entry, guess)| self.edge(op, guess.cause, entry.rule, entry.confidence(&guess)));
        match edge {
            Some(edge) => self.decide(op, Some(edge), false),
            None if forced && is_unproven && self.postpone(op) => {}
            None if forced => self.decide(op, None, false),
            // A connection joined in mid-stream shows what it speaks a little later than it speaks, and how a program
            // works shows with time.
            None => self.come_back(op),
        }
    }

    /// Until the operation is decided, nothing in its process is taken to be over with its answer.
    fn await_late_cause(&mut self, op: OpId) {
        let Some(state) = self.table.ops.get_mut(&op).filter(|state| !state.awaits_late_cause) else {
            return;
        };
        state.awaits_late_cause = true;
        if let Some(process) = self.table.processes.get_mut(&state.tgid) {
            process.awaiting_late_cause += 1;
        }
    }

    /// Looks at the operation again a little later, for the last time.
    fn come_back(&mut self, op: OpId) {
        self.come_back_after(op, GRACE);
    }

    /// Looks at the operation once more, when its process may have shown how it works. Returns whether it does.
    fn postpone(&mut self, op: OpId) -> bool {
        let Some(until) = self.time_after(op, PATIENCE) else { return false };
        let Some(state) = self.table.ops.get_mut(&op).filter(|state| state.patient_until.is_none()) else {
            return false;
        };
        state.patient_until = Some(until);
        self.come_back_after(op, PATIENCE);
        true
    }

    /// The operation's last look is still to come, whatever else asks for it: what its transaction's other members wait for, say.
    fn is_postponed(&self, op: OpId) -> bool {
        let state = self.table.op(op).filter(|state| !state.decided);
        state.is_some_and(|state| state.patient_until.is_some_and(|until| until > self.now))
    }

    fn come_back_after(&mut self, op: OpId, time: Duration) {
        let Some(due) = self.time_after(op, time) else { return };
        // It may have been looked at before.
        if !self.deadlines.contains(due, (op, Deadline::Decide)) {
            self.deadlines.insert(due, (op, Deadline::Decide));
        }
    }

    fn time_after(&self, op: OpId, time: Duration) -> Option<BootTime> {
        let state = self.table.op(op)?;
        let closed_at = state.closed_at.unwrap_or(state.opened.at);
        // Members of a transaction are looked at together.
        let closed_at = self.table.transaction(state).map_or(closed_at, |known| known.last_at.max(closed_at));
        Some(closed_at + time)
    }

    /// The operation's cause is known, or never will be. `strong`: by evidence of its own, which holds for its transaction too.
    pub(super) fn decide(&mut self, op: OpId, edge: Option<Edge>, strong: bool) {
        self.count_end(op);
        let Some(state) = self.table.ops.get_mut(&op) else { return };
        state.decided = true;
        state.parent = edge.map(|edge| edge.parent);
        let waiters = std::mem::take(&mut state.waiters);
        let state_transaction = state.transaction.map(|number| (state.conn, number));
        let closed_at = state.closed_at.unwrap_or(state.opened.at);
        let trace = state.trace;
        if let Some(process) = self.table.processes.get_mut(&state.tgid) {
            if strong
                && let Some(edge) = edge
                && let Some(trace) = trace.and_then(|trace| process.traces.get_mut(&trace))
            {
                trace.cause.add(edge.parent);
            }
            process.blocked.remove(state.opened.at, op);
            let own = u32::from(state.awaits_late_cause);
            process.awaiting_late_cause = process.awaiting_late_cause.saturating_sub(own);
        }
        self.deadlines.remove(closed_at + self.policy.decide_within, (op, Deadline::Decide));
        self.deadlines.insert(closed_at + REMEMBER, (op, Deadline::Forget));
        let mut ripe = None;
        if let (Some(edge), Some(number), true) = (edge, state.transaction, strong) {
            let key = (state.conn, number);
            let was_settled = state.transaction_settled;
            let transaction = self.table.transactions.entry(key).or_default();
            transaction.decided_count += usize::from(!was_settled);
            transaction.cause.add(edge.parent);
            ripe = transaction.is_ripe().then_some(key);
        }
        if let Some(edge) = edge.filter(|edge| edge.rule == Rule::Forwarded)
            && let Some(asked) = self.table.ops.get_mut(&edge.parent)
        {
            asked.forwarded = true;
        }
        if let Some(number) = state_transaction
            && let Some((by, roots)) = self
                .table
                .transactions
                .get_mut(&number)
                .and_then(|transaction| transaction.done(op, edge.is_none()))
        {
            self.bonds.extend(roots.into_iter().filter(|root| *root != by).map(|root| (root, by)));
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

    /// Keys say that `op` was caused by `truth`: what would have been guessed without them?
    fn learn(&mut self, op: OpId, truth: OpId, in_flight: bool) {
        self.learn_times(op, truth, in_flight);
        let Some(state) = self.table.op(op) else { return };
        let view = View::of(&self.table, state, true);
        let mut said: [Option<(Signal, bool)>; RULES.len()] = [None; RULES.len()];
        for (said, entry) in said.iter_mut().zip(&RULES) {
            let Some(guess) = entry.judge(&view) else { continue };
            *said = Some((entry.signal(&view), guess.cause == truth));
            // A rule is only asked where those before it were not believed: only there its being right says something.
            if entry.is_believed(&view, &guess) {
                break;
            }
        }
        let (same, different) = self.table.op(truth).map_or((0, 0), |truth| common_facts(state, truth));
        let tgid = state.tgid;
        let Some(process) = self.table.processes.get_mut(&tgid) else { return };
        if same + different > 0 {
            process.trust.count(Signal::Facts, different == 0);
        }
        for (signal, right) in said.into_iter().flatten() {
            process.trust.count(signal, right);
        }
    }

    /// Counts when requests are worked on. That comes before the guesses are asked for, since it decides what is guessed.
    fn learn_times(&mut self, op: OpId, truth: OpId, in_flight: bool) {
        let (Some(state), Some(cause)) = (self.table.ops.get(&op), self.table.ops.get(&truth)) else {
            return;
        };
        let Some(process) = self.table.processes.get_mut(&state.tgid) else { return };
        if let Some(answered) = cause.closed_at.filter(|_| !in_flight) {
            process.aftermath.count(state.opened.at.since(answered));
        }
        process.trust.count(Signal::InFlight, in_flight);
        process.trust.count(Signal::Named, true);
        let tgid = state.tgid;
        self.table.count_lateness(tgid, Signal::NamedInFlight, !in_flight);
    }

    /// An operation was decided before keys were asked. Where it and its cause both show one: do they agree?
    fn count_keys(&mut self, op: OpId, cause: OpId, signal: Signal) {
        let (Some(state), Some(candidate)) = (self.table.ops.get(&op), self.table.ops.get(&cause)) else {
            return;
        };
        if let ([own], [other]) = (state.keys.as_slice(), candidate.keys.as_slice()) {
            let right = own == other;
            if let Some(process) = self.table.processes.get_mut(&state.tgid) {
                process.trust.count(signal, right);
            }
        }
    }

    /// The edge that keys make, as far as is known before they are learned from. Where the chain of the operation leads to another
    /// request, one of the two is wrong, and nobody knows which.
    fn edge_by_keys(&self, op: OpId, cause: OpId, row: &Row) -> Option<Edge> {
        let state = self.table.op(op)?;
        if chain::contradicts(&View::of(&self.table, state, true), cause) {
            return None;
        }
        self.edge_by(op, cause, row)
    }

    /// Of a chain whose tasks answer requests: had they exactly one when the operation began?
    fn count_end(&mut self, op: OpId) {
        let Some(state) = self.table.op(op).filter(|state| !state.start.tasks.is_empty()) else { return };
        let tgid = state.tgid;
        let Some(is_one) = chain::has_one_end(&View::of(&self.table, state, true)) else { return };
        if let Some(process) = self.table.processes.get_mut(&tgid) {
            process.trust.count(Signal::ChainEnds, is_one);
        }
    }

    /// The edge of a row that needs no proof, if the policy allows it.
    pub(super) fn edge_by(&self, child: OpId, parent: OpId, row: &Row) -> Option<Edge> {
        self.edge(child, parent, row.rule, row.confidence)
    }

    /// All edges inside a process are made here: none to a cause that names another order than the operation itself, whatever
    /// rule says so and however often it was right.
    fn edge(&self, child: OpId, parent: OpId, rule: Rule, confidence: Confidence) -> Option<Edge> {
        let contradict = self.table.op(child).zip(self.table.op(parent)).is_some_and(|(a, b)| conflict(a, b));
        if contradict {
            return None;
        }
        self.policy.allows(rule, confidence).then_some(Edge { child, parent, rule, confidence })
    }
}

/// The first row whose guess holds before keys are asked.
fn before_keys(view: &View<'_>) -> Option<(&'static Entry, Guess)> {
    RULES.iter().find_map(|entry| {
        let Asked::BeforeKeys(holds) = entry.asked() else { return None };
        let guess = entry.judge(view)?;
        (holds(view, &guess) && !entry.yields_to_chains(view, &guess)).then_some((entry, guess))
    })
}

/// The first row whose guess agrees with what the operation shows and is believed, where keys do not tell the cause, or leave it
/// `among` several.
fn after_keys(view: &View<'_>, among: &[OpId]) -> Option<(&'static Entry, Guess)> {
    RULES.iter().find_map(|entry| {
        match entry.asked() {
            Asked::BeforeKeys(_) => return None,
            Asked::AtLast if !view.forced => return None,
            Asked::AfterKeys | Asked::AtLast => {}
        }
        let guess = entry.judge(view)?;
        let holds = entry.agrees(view, &guess, among)
            && entry.is_believed(view, &guess)
            && !entry.yields_to_chains(view, &guess);
        holds.then_some((entry, guess))
    })
}
