//! One outgoing operation that is over in, the edge to its cause out, or none.
//!
//! *Owns* the order in which the rules inside a process are asked, and what they learn from each other. *Must not know* how
//! the tables are filled.

use super::guess::{Guess, Reading};
use super::keys::Value;
use super::proof::Signal;
use super::state::{common_traits, conflict};
use super::{Deadline, GRACE_NS, Processes};
use crate::causality::{Confidence, Edge, Rule};
use crate::operation::OpSide;
use crate::record::{ConnId, OpId};

impl Processes {
    /// Decides an outgoing operation if it can be decided, or must be.
    pub(super) fn consider(&mut self, op: OpId, forced: bool) {
        let Some(state) = self.ops.get(&op) else { return };
        if state.shape != OpSide::Outgoing || state.decided || state.closed_at.is_none() {
            return;
        }
        // A request that is still open may turn out to have lost its end, and then proves nothing.
        let is_over = |cause: OpId| self.ops.get(&cause).is_none_or(|cause| cause.closed_at.is_some());
        if (forced || state.start.serving.is_some_and(is_over))
            && let Some(guess) = self.serving(state)
            && self.may_be_served(state, &guess)
            && let Some(edge) = self.edge(op, guess.cause, guess.rule, guess.confidence)
        {
            self.count_serving(op, guess.cause);
            return self.decide(op, Some(edge), true);
        }
        if !forced && let Some(process) = self.processes.get_mut(&state.tgid) {
            let waiting = (state.opened.at, op);
            if process.is_blocked(waiting) {
                process.blocked.insert(waiting);
                return;
            }
        }
        // The order of a message can be known from its producer, a moment later.
        if !forced && state.keys.len() == 1 && self.meets_unnamed_message(state) {
            return self.come_back(op);
        }
        let tgid = state.tgid;
        let value = self.by_value(op, state);
        let one_of_order = match value {
            Value::Only(_) | Value::Answered(_) => Some(true),
            Value::Likest(_) | Value::Among(_) => Some(false),
            Value::Nameless | Value::Nothing => None,
        };
        if let Some(process) = self.processes.get_mut(&tgid)
            && let Some(right) = one_of_order
        {
            process.proof.count(Signal::OneOfOrder, right);
        }
        let among = match value {
            Value::Only(_) if !forced && self.may_learn_of_more(op) => return self.come_back(op),
            Value::Only(edge) => {
                self.learn(op, edge.parent, true);
                return self.decide(op, Some(edge), true);
            }
            Value::Answered(edge) => {
                // What becomes known late comes first.
                if !forced {
                    self.doubt(op);
                    return self.come_back(op);
                }
                self.learn(op, edge.parent, false);
                return self.decide(op, Some(edge), true);
            }
            Value::Likest(edge) => return self.decide(op, Some(edge), true),
            Value::Among(causes) => causes,
            Value::Nameless => {
                if forced && let Some(process) = self.processes.get_mut(&tgid) {
                    process.proof.count(Signal::Named, false);
                }
                Vec::new()
            }
            Value::Nothing => Vec::new(),
        };
        let Some(state) = self.ops.get(&op) else { return };
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
        self.decide_by_company(op, &among, forced);
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
            self.consider(op, false);
        }
    }

    /// The rules that look at what else was done: by the same transaction, by the same thread. Where keys leave several
    /// causes, it is `among` these.
    fn decide_by_company(&mut self, op: OpId, among: &[OpId], forced: bool) {
        let Some(state) = self.ops.get(&op) else { return };
        if let Some(number) = state.transaction
            && let Some(transaction) = self.transactions.get(&(state.conn, number))
            && let Some(parent) = transaction.parent.filter(|_| !transaction.torn && !self.is_clouded(state))
        {
            let edge = self.edge(op, parent, Rule::Transaction, 0.92);
            return self.decide(op, edge, false);
        }
        let by_thread = [
            self.awaited_for(state),
            self.begun_for(state),
            self.answers_next(state),
            self.answered_last(state),
        ];
        let mut guesses: Vec<Guess> = by_thread.into_iter().flatten().collect();
        match self.reading(state, forced) {
            Reading::Guess(guess) => guesses.push(guess),
            Reading::Nothing => {}
            Reading::WaitFor(earlier) => {
                if let Some(earlier) = self.ops.get_mut(&earlier) {
                    earlier.waiters.push(op);
                }
                return;
            }
        }
        guesses.extend(self.alone(state));
        let fits = |guess: &&Guess| {
            let candidate = self.ops.get(&guess.cause);
            let agrees = if among.is_empty() {
                candidate
                    .is_some_and(|candidate| !conflict(state, candidate) && !self.differs(state, candidate))
            } else {
                among.contains(&guess.cause) && !matches!(guess.signal, Signal::ReadAlone | Signal::Alone)
            };
            agrees && (forced || !guess.late) && self.is_believed(state, guess)
        };
        let edge = guesses
            .iter()
            .find(fits)
            .and_then(|guess| self.edge(op, guess.cause, guess.rule, guess.confidence));
        match edge {
            Some(edge) => self.decide(op, Some(edge), false),
            None if forced => self.decide(op, None, false),
            // A connection joined in mid-stream shows what it speaks a little later than it speaks, and how a program
            // works shows with time.
            None => self.come_back(op),
        }
    }

    /// A connection that is older than the agent shows late what it speaks; where one was, another one may be.
    fn may_learn_of_more(&self, op: OpId) -> bool {
        let Some(state) = self.ops.get(&op) else { return false };
        let process = self.processes.get(&state.tgid);
        process.is_some_and(|process| process.quiet.was_surprised_since(state.opened.at))
    }

    /// Until it is decided, nothing in its process is taken to be over with its answer.
    fn doubt(&mut self, op: OpId) {
        let Some(state) = self.ops.get_mut(&op).filter(|state| !state.doubts) else { return };
        state.doubts = true;
        if let Some(process) = self.processes.get_mut(&state.tgid) {
            process.doubts += 1;
        }
    }

    /// Looks at it again a little later, for the last time.
    fn come_back(&mut self, op: OpId) {
        let Some(state) = self.ops.get(&op) else { return };
        let closed_at = state.closed_at.unwrap_or(state.opened.at);
        self.deadlines.insert((closed_at.saturating_add(GRACE_NS), op), Deadline::Decide);
    }

    pub(super) fn decide(&mut self, op: OpId, edge: Option<Edge>, strong: bool) {
        let Some(state) = self.ops.get_mut(&op) else { return };
        state.decided = true;
        state.parent = edge.map(|edge| edge.parent);
        let waiters = std::mem::take(&mut state.waiters);
        let closed_at = state.closed_at.unwrap_or(state.opened.at);
        if let Some(process) = self.processes.get_mut(&state.tgid) {
            process.blocked.remove(&(state.opened.at, op));
            process.doubts = process.doubts.saturating_sub(u32::from(state.doubts));
        }
        self.deadlines.remove(&(closed_at + self.policy.decide_within_ns, op));
        self.deadlines.insert((closed_at + super::REMEMBER_NS, op), Deadline::Forget);
        let mut ripe = None;
        if let (Some(edge), Some(number), true) = (edge, state.transaction, strong) {
            let key = (state.conn, number);
            let company = state.company;
            let transaction = self.transactions.entry(key).or_default();
            transaction.decided_count += usize::from(!company);
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

    /// Keys say that `op` was caused by `truth`: what would have been guessed without them?
    fn learn(&mut self, op: OpId, truth: OpId, in_flight: bool) {
        self.learn_times(op, truth, in_flight);
        let Some(state) = self.ops.get(&op) else { return };
        let by_thread = [
            self.serving(state),
            self.awaited_for(state),
            self.begun_for(state),
            self.answers_next(state),
            self.answered_last(state),
        ];
        let mut guesses: Vec<Guess> = by_thread.into_iter().flatten().collect();
        if let Reading::Guess(guess) = self.reading(state, true) {
            guesses.push(guess);
        }
        guesses.extend(self.alone(state));
        // A guess is only asked for where those before it were not believed: only there its being right says something.
        let believed = guesses.iter().position(|guess| self.is_believed(state, guess));
        guesses.truncate(believed.map_or(guesses.len(), |last| last + 1));
        let (same, different) = self.ops.get(&truth).map_or((0, 0), |truth| common_traits(state, truth));
        let Some(process) = self.processes.get_mut(&state.tgid) else { return };
        if same + different > 0 {
            process.proof.count(Signal::Facts, different == 0);
        }
        for guess in guesses {
            process.proof.count(guess.signal, guess.cause == truth);
        }
    }

    /// When requests are worked on: known before the guesses are asked for, since it decides what is guessed.
    fn learn_times(&mut self, op: OpId, truth: OpId, in_flight: bool) {
        let (Some(state), Some(cause)) = (self.ops.get(&op), self.ops.get(&truth)) else { return };
        let Some(process) = self.processes.get_mut(&state.tgid) else { return };
        if let Some(answered) = cause.closed_at.filter(|_| !in_flight) {
            process.aftermath.count(state.opened.at.saturating_sub(answered));
        }
        process.proof.count(Signal::InFlight, in_flight);
        process.proof.count(Signal::NamedInFlight, in_flight);
        process.proof.count(Signal::Named, true);
    }

    /// An operation and the request that its thread serves both show keys: do they agree?
    fn count_serving(&mut self, op: OpId, cause: OpId) {
        let (Some(state), Some(candidate)) = (self.ops.get(&op), self.ops.get(&cause)) else { return };
        if let ([own], [other]) = (state.keys.as_slice(), candidate.keys.as_slice()) {
            let right = own == other;
            if let Some(process) = self.processes.get_mut(&state.tgid) {
                process.proof.count(Signal::Serving, right);
            }
        }
    }

    pub(super) fn edge(&self, child: OpId, parent: OpId, rule: Rule, confidence: f32) -> Option<Edge> {
        let confidence = Confidence(confidence);
        self.policy.allows(rule, confidence).then_some(Edge { child, parent, rule, confidence })
    }
}
