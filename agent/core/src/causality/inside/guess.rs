//! One outgoing operation in, what threads, reading and quiet suggest as its cause out, and how far that is believed.
//!
//! *Owns* the rules that look at who did what when. *Must not know* keys, nor which rule is asked before another.

use super::proof::{Gap, Signal};
use super::state::{Op, Process, ThreadState, Writer, common_traits, conflict};
use super::{AFTER_NS, AFTERMATH_NS, Interaction, PATIENT, Processes, is_near_loss};
use crate::causality::Rule;
use crate::operation::OpSide;
use crate::record::{BootNs, ConnId, OpId, Thread};

/// A cause that threads and reading suggest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess {
    pub(super) cause: OpId,
    pub(super) signal: Signal,
    pub(super) rule: Rule,
    pub(super) confidence: f32,
    /// Only once nothing else can become known.
    pub(super) late: bool,
}

/// What reading says.
pub(super) enum Reading {
    Guess(Guess),
    Nothing,
    /// Ask again when this one has been decided.
    WaitFor(OpId),
}

impl Processes {
    /// Its thread served exactly one request, and never serves several at once.
    pub(super) fn serving(&self, state: &Op) -> Option<Guess> {
        let cause = state.start.serving?;
        let candidate = self.ops.get(&cause)?;
        let usable = !self.thread(state)?.multiplexes
            && !self.is_foreign(state)
            && candidate.family != Interaction::Message
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
    pub(super) fn may_be_served(&self, state: &Op, guess: &Guess) -> bool {
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
    pub(super) fn differs(&self, state: &Op, candidate: &Op) -> bool {
        let (_, different) = common_traits(state, candidate);
        different > 0
            && self.processes.get(&state.tgid).is_some_and(|process| !process.proof.is_refuted(Signal::Facts))
    }

    /// The only one that waits for it serves that request: it was handed over together with a channel for the answer. Of a
    /// thread that writes what it does itself, the stack also holds channels of another time.
    pub(super) fn awaited_for(&self, state: &Op) -> Option<Guess> {
        let cause = state.start.awaited_for?;
        // One that answers requests itself works for itself.
        let answered = self.thread(state)?.answers.back();
        if answered.is_some_and(|(at, _)| state.opened.at.saturating_sub(*at) <= AFTER_NS) {
            return None;
        }
        let usable = self.ops.get(&cause)?.is_sound() && !self.is_foreign(state) && !self.is_clouded(state);
        let confidence = if self.is_contested(state, cause) { 0.9 } else { 0.95 };
        let signal = match state.start.writer {
            Writer::One(_) => Signal::Awaited,
            Writer::Unknown => Signal::AwaitedAtFirst,
            Writer::Several => return None,
        };
        usable.then_some(Guess { cause, signal, rule: Rule::Thread, confidence, late: false })
    }

    /// Its thread was begun by one that served that request. A pool's thread is begun for one and works for all.
    pub(super) fn begun_for(&self, state: &Op) -> Option<Guess> {
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
    pub(super) fn answers_next(&self, state: &Op) -> Option<Guess> {
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
        let is_mixed =
            candidate.family == Interaction::Message && self.is_mixed(state, candidate.conn, answered);
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
    pub(super) fn answered_last(&self, state: &Op) -> Option<Guess> {
        let cause = state.start.answered?;
        let candidate = self.ops.get(&cause)?;
        let usable = !self.thread(state)?.multiplexes
            && !self.is_foreign(state)
            && candidate.family != Interaction::Message
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
    pub(super) fn reading(&self, state: &Op, forced: bool) -> Reading {
        let [read] = state.start.last_read.as_slice() else { return Reading::Nothing };
        let Some(last) = self.ops.get(read) else { return Reading::Nothing };
        let direct = last.shape == OpSide::Incoming;
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
        // The next goroutine may have taken the place of the one that read.
        if state.opened.thread.is_goroutine() {
            return Reading::Nothing;
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
    pub(super) fn alone(&self, state: &Op) -> Option<Guess> {
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
    pub(super) fn is_believed(&self, state: &Op, guess: &Guess) -> bool {
        let Some(process) = self.processes.get(&state.tgid) else { return false };
        let proof = &process.proof;
        match guess.signal {
            Signal::ReadAlone | Signal::Alone => !proof.is_refuted(guess.signal),
            Signal::Begun | Signal::Awaited | Signal::AwaitedAtFirst => {
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

    /// Something the process read or wrote around that time was lost: what its threads did then is not known. Only keys
    /// still prove something.
    pub(super) fn is_clouded(&self, state: &Op) -> bool {
        let process = self.processes.get(&state.tgid);
        process.is_some_and(|process| is_near_loss(&process.missed, state.opened.at))
    }

    /// Threads wrote each other's messages on that connection between its start and then, or shortly before.
    fn is_mixed(&self, state: &Op, conn: ConnId, until: BootNs) -> bool {
        let process = self.processes.get(&state.tgid);
        process.is_some_and(|process| process.is_mixed(conn, state.opened.at, until))
    }

    /// The thread that wrote it need not be the one that made it.
    fn is_foreign(&self, state: &Op) -> bool {
        state.start.joint
            || (state.family == Interaction::Message && self.is_mixed(state, state.conn, state.opened.at))
    }

    fn thread(&self, state: &Op) -> Option<&ThreadState> {
        let Thread { tgid, tid, .. } = state.opened.thread;
        self.processes.get(&tgid)?.threads.get(&tid)
    }
}
