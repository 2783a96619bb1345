//! A thread works for the request that the thread which began it was serving then.
//!
//! `t0 thread 1 reads a · t1 thread 1 begins thread 2 · t2 thread 2 writes x ⇒ a caused x`
//!
//! A pool's thread is begun for one request and works for all: where something else could be the cause, the process must have
//! shown that its threads are not a pool. Says nothing once the thread reads requests itself, nor a second after the answer.

use super::super::thresholds::AFTER;
use super::super::view::View;
use super::Guess;

pub(in super::super) fn judge(view: &View<'_>) -> Option<Guess> {
    let cause = view.op.start.begun_for?;
    let candidate = view.candidate(cause)?;
    let usable = candidate.is_sound()
        && candidate.closed_at.is_none_or(|closed| view.at().since(closed) <= AFTER)
        && !view.has_unsure_writer()
        && !view.is_near_loss();
    usable.then(|| Guess { cause, contested: view.is_contested(cause) })
}
