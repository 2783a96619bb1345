//! The thread that reads a request works on it until it has answered.
//!
//! `t0 thread 1 reads a · t1 thread 2 reads b · t2 thread 1 writes x · t3 thread 1 answers a ⇒ a caused x`
//!
//! Says nothing of a thread that has read a part of the request only, while others are in flight; of a thread that was seen with several requests or calls at once, of messages (a prefetch brings many), of what
//! several threads wrote together, and around a loss. It is asked before keys are known, where nothing speaks against it.

use super::super::Interaction;
use super::super::table::conflict;
use super::super::trust::{Proof, Signal};
use super::super::view::View;
use super::Guess;
use crate::record::Tid;

pub(super) fn judge(view: &View<'_>) -> Option<Guess> {
    let cause = view.op.start.serving?;
    let candidate = view.candidate(cause)?;
    let usable = !view.thread()?.multiplexes
        && !view.has_unsure_writer()
        && candidate.family != Interaction::Message
        && candidate.is_sound()
        && (view.op.start.in_flight == 1 || view.has_read(candidate))
        && !view.is_near_loss();
    usable.then_some(Guess { cause, contested: view.op.start.in_flight != 1 })
}

/// The thread that serves is the one that works: proven by keys in this process, or nothing speaks against it.
pub(super) fn holds_before_keys(view: &View<'_>, guess: &Guess) -> bool {
    let (Some(trust), Some(candidate)) = (view.trust(), view.candidate(guess.cause)) else { return false };
    // A request that is still open may turn out to have lost its end, and then proves nothing.
    if !(view.forced || candidate.closed_at.is_some()) || trust.is_refuted(Signal::Serving) {
        return false;
    }
    let same = |tid: Option<Tid>| tid.is_none_or(|tid| tid == view.tid());
    // Which goroutine reads an answer says nothing of the others: Go's HTTP client has some of its own for that.
    let moves = match view.op.opened.thread.tid.is_goroutine() {
        true => trust.is_refuted(Signal::SameThreadAnswers),
        false => trust.work_moves(),
    };
    let synchronous = same(view.op.answered_by) && same(candidate.answered_by) && !moves;
    let may_move = trust.holds(Signal::Serving, Proof::FULL) && !view.differs(candidate);
    may_move || (synchronous && !conflict(view.op, candidate))
}
