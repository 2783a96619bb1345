//! One outgoing operation that is over in, the edge to its cause out, or none.
//!
//! *Owns* the rules inside a process and their order. *Must not know* how the tables are filled.
//!
//! Long because every rule is asked in one order, and each looks at what the ones before it have left.

use super::proof::{Gap, Signal};
use super::state::{Op, Process, ThreadState, conflict};
use super::{
    AFTER_NS, AFTERMATH_NS, CLOUD_AFTER_NS, CLOUD_BEFORE_NS, Deadline, Family, GRACE_NS, MAX_LOOKED_AT,
    PATIENT, Processes,
};
use crate::causality::{Confidence, Edge, Rule};
use crate::operation::{OpId, Shape};
use crate::order::OrderKey;
use crate::record::{BootNs, ConnId, Thread};

/// A cause that threads and reading suggest.
#[derive(Clone, Copy, Debug)]
struct Guess {
    cause: OpId,
    signal: Signal,
    rule: Rule,
    confidence: f32,
    /// Only once nothing else can become known.
    late: bool,
}

/// What keys say.
enum Value {
    /// Of all requests in flight, exactly one names the order.
    Only(Edge),
    /// The only request that names it has just been answered.
    Answered(Edge),
    /// Further facts tell several apart.
    Likest(Edge),
    /// It is one of these.
    Among(Vec<OpId>),
    /// Nothing names the order, but messages were being worked on that name none.
    Nameless,
    Nothing,
}

/// The order of what caused something.
enum Inherited<'a> {
    Key(&'a OrderKey),
    /// It is not decided yet what the cause was.
    Unknown,
    Nothing,
}

/// Steps from cause to cause, across processes.
const MAX_STEPS: usize = 16;

/// What reading says.
enum Reading {
    Guess(Guess),
    Nothing,
    /// Ask again when this one has been decided.
    WaitFor(OpId),
}

impl Processes {
    /// Decides an outgoing operation if it can be decided, or must be.
    pub(super) fn consider(&mut self, op: OpId, forced: bool) {
        let Some(state) = self.ops.get(&op) else { return };
        if state.shape != Shape::Outgoing || state.decided || state.closed_at.is_none() {
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
        let by_thread = [self.begun_for(state), self.answers_next(state), self.answered_last(state)];
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

    /// Its thread served exactly one request, and never serves several at once.
    fn serving(&self, state: &Op) -> Option<Guess> {
        let cause = state.start.serving?;
        let candidate = self.ops.get(&cause)?;
        let usable = !self.thread(state)?.multiplexes
            && !self.is_foreign(state)
            && candidate.family != Family::Message
            && candidate.is_sound()
            && !self.is_clouded(state);
        let confidence = if state.start.in_flight == 1 { 0.99 } else { 0.95 };
        usable.then_some(Guess {
            cause,
            signal: Signal::Serving,
            rule: Rule::Thread,
            confidence,
            late: false,
        })
    }

    /// The thread that serves is the one that works: proven by keys in this process, or nothing speaks against it.
    fn may_be_served(&self, state: &Op, guess: &Guess) -> bool {
        let (Some(process), Some(candidate)) = (self.processes.get(&state.tgid), self.ops.get(&guess.cause))
        else {
            return false;
        };
        if process.proof.is_refuted(Signal::Serving) {
            return false;
        }
        let own = state.opened.thread.tid;
        let same = |tid: Option<u32>| tid.is_none_or(|tid| tid == own);
        // Which goroutine reads an answer says nothing of the others: Go's HTTP client has some of its own for that.
        let moves = match state.opened.thread.is_goroutine() {
            true => process.proof.is_refuted(Signal::SameThreadAnswers),
            false => process.proof.work_moves(),
        };
        let synchronous = same(state.answered_by) && same(candidate.answered_by) && !moves;
        let may_move = process.proof.holds(Signal::Serving) && !self.differs(state, candidate);
        may_move || (synchronous && !conflict(state, candidate))
    }

    /// They show different facts, of users say, in a process where what belongs together shows the same.
    fn differs(&self, state: &Op, candidate: &Op) -> bool {
        let (_, different) = common_traits(state, candidate);
        different > 0
            && self.processes.get(&state.tgid).is_some_and(|process| !process.proof.is_refuted(Signal::Facts))
    }

    /// Its thread was begun by one that served that request. A pool's thread is begun for one and works for all.
    fn begun_for(&self, state: &Op) -> Option<Guess> {
        let cause = state.start.begun_for?;
        let candidate = self.ops.get(&cause)?;
        let at = state.opened.at;
        let usable = candidate.is_sound()
            && candidate.closed_at.is_none_or(|closed| at.saturating_sub(closed) <= AFTER_NS)
            && !self.is_foreign(state)
            && !self.is_clouded(state);
        let confidence = if self.is_contested(state, cause) { 0.85 } else { 0.95 };
        usable.then_some(Guess { cause, signal: Signal::Begun, rule: Rule::Thread, confidence, late: false })
    }

    /// The thread next answered that request, so it had been working on it.
    fn answers_next(&self, state: &Op) -> Option<Guess> {
        let thread = self.thread(state)?;
        let at = state.opened.at;
        let next = thread.answers.partition_point(|(answered, _)| *answered < at);
        let (answered, cause) = *thread.answers.get(next)?;
        let before = next.checked_sub(1).and_then(|before| thread.answers.get(before));
        if let Some((before, _)) = before
            && self.may_go_on(state, *before)
            && !self.has_begun(thread, cause, *before, at, answered)
        {
            return None;
        }
        // Settlements written together may be those of several threads.
        let is_joint = thread.answers.get(next + 1).is_some_and(|(other, _)| *other == answered);
        let candidate = self.ops.get(&cause)?;
        // Its settlement of what came before may have been written by another one.
        let is_mixed = candidate.family == Family::Message && self.is_mixed(state, candidate.conn, answered);
        let usable = !thread.multiplexes
            && !is_joint
            && !is_mixed
            && !self.is_foreign(state)
            && candidate.opened.at <= at
            && !self.is_clouded(state);
        let confidence = if state.start.in_flight == 1 { 0.95 } else { 0.85 };
        usable.then_some(Guess {
            cause,
            signal: Signal::Answers,
            rule: Rule::Thread,
            confidence,
            late: false,
        })
    }

    /// In this process requests are worked on after their answers, and the one that was answered then may still have been.
    fn may_go_on(&self, state: &Op, answered: BootNs) -> bool {
        let process = self.processes.get(&state.tgid);
        process.is_some_and(|process| {
            process.proof.goes_on() && state.opened.at.saturating_sub(answered) <= process.after_ns()
        })
    }

    /// The thread was at work on `cause` at `at`, between one answer and the next: the latest it had begun before, of what has
    /// a known cause, was caused by `cause`, and so was all it began then.
    fn has_begun(
        &self,
        thread: &ThreadState,
        cause: OpId,
        after: BootNs,
        at: BootNs,
        before: BootNs,
    ) -> bool {
        let first = thread.began.partition_point(|(began, _)| *began <= after);
        let begun = thread.began.iter().skip(first).take_while(|(began, _)| *began < before);
        let mut was_at_work = false;
        for (began, op) in begun {
            let Some(parent) = self.ops.get(op).and_then(|op| op.parent) else { continue };
            if *began <= at {
                was_at_work = parent == cause;
            } else if parent != cause {
                return false;
            }
        }
        was_at_work
    }

    /// The thread goes on with what it has answered.
    fn answered_last(&self, state: &Op) -> Option<Guess> {
        let cause = state.start.answered?;
        let candidate = self.ops.get(&cause)?;
        let usable = !self.thread(state)?.multiplexes
            && !self.is_foreign(state)
            && candidate.family != Family::Message
            && candidate.served_by.contains(&state.opened.thread.tid)
            && state.opened.at.saturating_sub(candidate.closed_at?) <= AFTER_NS
            && !self.is_clouded(state);
        let confidence = 0.8;
        usable.then_some(Guess {
            cause,
            signal: Signal::Answered,
            rule: Rule::Thread,
            confidence,
            late: true,
        })
    }

    /// What the thread had read last led to what it then wrote.
    fn reading(&self, state: &Op, forced: bool) -> Reading {
        let [read] = state.start.last_read.as_slice() else { return Reading::Nothing };
        let Some(last) = self.ops.get(read) else { return Reading::Nothing };
        let direct = last.shape == Shape::Incoming;
        if !direct && !last.decided && !forced {
            return Reading::WaitFor(*read);
        }
        let Some(cause) = (if direct { Some(*read) } else { last.parent }) else { return Reading::Nothing };
        let Some(candidate) = self.ops.get(&cause) else { return Reading::Nothing };
        if self.is_foreign(state) || !candidate.is_sound() || self.is_clouded(state) {
            return Reading::Nothing;
        }
        let at = state.opened.at;
        let guess = |signal, confidence, late| {
            Reading::Guess(Guess { cause, signal, rule: Rule::LastRead, confidence, late })
        };
        let contested = self.is_contested(state, cause);
        if let Some(closed) = candidate.closed_at.filter(|closed| *closed < at) {
            // Work after the answer: only when nothing else can be the cause, also nothing that becomes known late, and
            // soon.
            if contested || at - closed > AFTERMATH_NS {
                return Reading::Nothing;
            }
            return guess(Signal::ReadAlone, 0.65, true);
        }
        if !contested {
            return guess(Signal::ReadAlone, if direct { 0.95 } else { 0.9 }, false);
        }
        let gap = Gap::of(at.saturating_sub(state.start.last_read_at));
        if direct {
            return guess(Signal::ReadRequest(gap), 0.8, false);
        }
        if last.conn != state.conn {
            return guess(Signal::ReadResponse(gap), 0.75, false);
        }
        // A response that frees a pooled connection also lets the pool's next waiter write on it.
        if state.start.idle_connection {
            return guess(Signal::ReadAndReuse(gap), 0.75, false);
        }
        Reading::Nothing
    }

    /// Nothing else was in flight, and the process does nothing unasked: whichever of its threads it was.
    fn alone(&self, state: &Op) -> Option<Guess> {
        let cause = state.start.alone?;
        let candidate = self.ops.get(&cause)?;
        let process = self.processes.get(&state.tgid)?;
        let usable = process.quiet.holds(candidate.opened.at, state.opened.at)
            && candidate.is_sound()
            && !self.is_contested(state, cause)
            && !self.is_clouded(state);
        let (signal, rule) = (Signal::Alone, Rule::Alone);
        usable.then_some(Guess { cause, signal, rule, confidence: 0.85, late: true })
    }

    /// Something other than `cause` could be the cause: in flight, or just answered where work goes on after answers.
    fn is_contested(&self, state: &Op, cause: OpId) -> bool {
        let at = state.opened.at;
        let is_open = self.ops.get(&cause).is_some_and(|cause| cause.is_open_at(at));
        let others = state.start.in_flight.saturating_sub(u32::from(is_open));
        let after_ns = self.processes.get(&state.tgid).map_or(AFTER_NS, Process::after_ns);
        let mut over = state.start.over.iter().flatten();
        state.start.late
            || others > 0
            || over.any(|(closed, other)| *other != cause && at.saturating_sub(*closed) <= after_ns)
    }

    /// The process has shown that such a guess is right, or, where nothing else could be, not that it is wrong.
    fn is_believed(&self, state: &Op, guess: &Guess) -> bool {
        let Some(process) = self.processes.get(&state.tgid) else { return false };
        let proof = &process.proof;
        match guess.signal {
            Signal::ReadAlone | Signal::Alone => !proof.is_refuted(guess.signal),
            Signal::Begun => {
                proof.holds(guess.signal)
                    || (!proof.is_refuted(guess.signal) && !self.is_contested(state, guess.cause))
            }
            Signal::Answers | Signal::Answered => {
                proof.holds(guess.signal)
                    || (!proof.is_refuted(guess.signal)
                        && !proof.work_moves()
                        // A thread that could be at work on something else must have shown that it is not.
                        && (!state.start.crowded || self.thread(state).is_some_and(|thread| thread.patience >= PATIENT))
                        && state.answered_by.is_none_or(|tid| tid == state.opened.thread.tid))
            }
            signal => proof.holds(signal),
        }
    }

    /// Keys say that `op` was caused by `truth`: what would have been guessed without them?
    fn learn(&mut self, op: OpId, truth: OpId, in_flight: bool) {
        self.learn_times(op, truth, in_flight);
        let Some(state) = self.ops.get(&op) else { return };
        let by_thread =
            [self.serving(state), self.begun_for(state), self.answers_next(state), self.answered_last(state)];
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

    /// It carries the key of exactly one request that was in flight when it started. Of several requests of one order, the
    /// one whose further facts agree while all others' contradict.
    fn by_value(&self, op: OpId, state: &Op) -> Value {
        let [key] = state.keys.as_slice() else { return Value::Nothing };
        let Some(process) = self.processes.get(&state.tgid) else { return Value::Nothing };
        let named = process.by_key.get(key).map(Vec::as_slice).unwrap_or_default();
        let at = state.opened.at;
        let (mut open, mut over) = (Vec::new(), Vec::new());
        // In the order they were over: the latest first.
        for (cause, candidate) in named.iter().rev().filter_map(|id| Some((*id, self.ops.get(id)?))) {
            match candidate.closed_at {
                Some(closed) if closed.saturating_add(AFTER_NS) < at => break,
                _ if candidate.keys.len() != 1 || candidate.opened.at > at => {}
                _ if candidate.is_open_at(at) => open.push(cause),
                _ => over.push(cause),
            }
        }
        if process.names_before_answer(state) && !open.is_empty() {
            over.clear();
        }
        let mut nameless = Vec::new();
        let is_message = |candidate: &Op| candidate.family == Family::Message;
        for cause in process.unnamed.iter().rev().take(MAX_LOOKED_AT) {
            let Some(candidate) = self.ops.get(cause).filter(|candidate| candidate.is_open_at(at)) else {
                continue;
            };
            match self.inherited(*cause) {
                Inherited::Key(inherited) if inherited == key => open.push(*cause),
                // Messages of this process may be about orders that they do not name.
                Inherited::Unknown | Inherited::Nothing if is_message(candidate) => nameless.push(*cause),
                Inherited::Key(_) | Inherited::Unknown | Inherited::Nothing => {}
            }
        }
        let is_named = !open.is_empty() || !over.is_empty();
        if !nameless.is_empty() && is_named && !process.proof.holds(Signal::Named) {
            open.append(&mut nameless);
        }
        // The one that names the order may be another than the one that is missing.
        if self.is_lossy(at) && process.proof.has_several_of_order() && open.len() + over.len() == 1 {
            return Value::Nothing;
        }
        let edge = |cause, confidence| self.edge(op, cause, Rule::Value, confidence);
        match (open.as_slice(), over.as_slice()) {
            ([], []) if nameless.is_empty() => return Value::Nothing,
            ([], []) => return Value::Nameless,
            ([only], []) => {
                let is_open = self.ops.get(only).is_some_and(|cause| cause.closed_at.is_none());
                let confidence = match self.is_clouded(state) {
                    // Another request of the order may be what was lost.
                    true => 0.7,
                    // Its answer may name others.
                    false if is_open => 0.9,
                    false => 0.97,
                };
                return edge(*only, confidence).map_or(Value::Nothing, Value::Only);
            }
            // The one that was in flight may be what was lost.
            ([], [_]) if self.is_clouded(state) => return Value::Nothing,
            ([], [only]) => return edge(*only, 0.8).map_or(Value::Nothing, Value::Answered),
            _ => {}
        }
        open.append(&mut over);
        let alike = |cause: &&OpId| self.ops.get(cause).map(|candidate| common_traits(state, candidate));
        let mut fitting = open
            .iter()
            .filter(|cause| alike(cause).is_some_and(|(same, different)| same > 0 && different == 0));
        let others_contradict =
            open.iter().filter(|cause| alike(cause).is_some_and(|(_, different)| different == 0)).count()
                == 1;
        match (fitting.next(), others_contradict) {
            (Some(cause), true) => edge(*cause, 0.9).map_or(Value::Nothing, Value::Likest),
            _ => Value::Among(open),
        }
    }

    /// A message that names no order was being worked on when it started.
    fn meets_unnamed_message(&self, state: &Op) -> bool {
        let Some(process) = self.processes.get(&state.tgid) else { return false };
        let at = state.opened.at;
        process.unnamed.iter().rev().take(MAX_LOOKED_AT).any(|cause| {
            let candidate = self.ops.get(cause);
            candidate.is_some_and(|candidate| candidate.family == Family::Message && candidate.is_open_at(at))
        })
    }

    /// The order of whatever caused a request or message, as far as it is known.
    fn inherited(&self, op: OpId) -> Inherited<'_> {
        let mut at = op;
        for _ in 0..MAX_STEPS {
            at = match self.ops.get(&at) {
                Some(state) => match (state.keys.as_slice(), state.shape) {
                    ([only], _) => return Inherited::Key(only),
                    ([], Shape::Outgoing) if !state.decided => return Inherited::Unknown,
                    ([], Shape::Outgoing) => match state.parent {
                        Some(parent) => parent,
                        None => return Inherited::Nothing,
                    },
                    ([], _) => match self.links.get(&at) {
                        Some(parent) => *parent,
                        None => return Inherited::Nothing,
                    },
                    _ => return Inherited::Nothing,
                },
                None => match self.links.get(&at) {
                    Some(parent) => *parent,
                    None => return Inherited::Nothing,
                },
            };
        }
        Inherited::Nothing
    }

    /// Something the process read or wrote around that time was lost: what its threads did then is not known. Only keys
    /// still prove something.
    fn is_clouded(&self, state: &Op) -> bool {
        let Some(process) = self.processes.get(&state.tgid) else { return false };
        let at = state.opened.at;
        let (from, to): (BootNs, BootNs) =
            (at.saturating_sub(CLOUD_BEFORE_NS), at.saturating_add(CLOUD_AFTER_NS));
        process.missed.iter().any(|missed| (from..=to).contains(missed))
    }

    /// Records were lost around that time, of whatever process: of a connection that is lost whole, nothing else tells.
    fn is_lossy(&self, at: BootNs) -> bool {
        let (from, to) = (at.saturating_sub(CLOUD_BEFORE_NS), at.saturating_add(CLOUD_AFTER_NS));
        self.lost.iter().any(|lost| (from..=to).contains(lost))
    }

    /// Threads wrote each other's messages on that connection between its start and then, or shortly before.
    fn is_mixed(&self, state: &Op, conn: ConnId, until: BootNs) -> bool {
        let process = self.processes.get(&state.tgid);
        process.is_some_and(|process| process.is_mixed(conn, state.opened.at, until))
    }

    /// The thread that wrote it need not be the one that made it.
    fn is_foreign(&self, state: &Op) -> bool {
        state.start.joint
            || (state.family == Family::Message && self.is_mixed(state, state.conn, state.opened.at))
    }

    pub(super) fn edge(&self, child: OpId, parent: OpId, rule: Rule, confidence: f32) -> Option<Edge> {
        let confidence = Confidence(confidence);
        self.policy.allows(rule, confidence).then_some(Edge { child, parent, rule, confidence })
    }

    fn thread(&self, state: &Op) -> Option<&ThreadState> {
        let Thread { tgid, tid } = state.opened.thread;
        self.processes.get(&tgid)?.threads.get(&tid)
    }
}

/// Facts that two operations have in common, and those in which they contradict each other.
fn common_traits(a: &Op, b: &Op) -> (usize, usize) {
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
