//! A process that does nothing unasked works on the only request it has.
//!
//! `t0 .. t1 nothing to do, nothing done for a minute · t2 thread 1 reads a · t3 thread 2 writes x · t4 thread 3 answers a
//! ⇒ a caused x`
//!
//! Whichever of its threads did it. Pollers, timers and requests over protocols that are not read show in a minute without
//! requests. Says nothing if another request was answered just before or became known late, and around a loss.

use super::super::view::View;
use super::Guess;

pub(super) fn judge(view: &View<'_>) -> Option<Guess> {
    let cause = view.op.start.alone?;
    let candidate = view.candidate(cause)?;
    let usable = view.is_quiet_otherwise(candidate.opened.at)
        && candidate.is_sound()
        && !view.is_contested(cause)
        && !view.is_near_loss()
        && !view.began_unread();
    usable.then_some(Guess { cause, contested: false })
}
