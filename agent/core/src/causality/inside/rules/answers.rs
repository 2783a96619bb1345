//! A thread that writes the answer to a request had been working on it before; a thread that has answered goes on with it.
//!
//! `t0 thread 1 reads a · t1 thread 2 writes x · t2 thread 2 answers a ⇒ a caused x` ([`next`]: a hand-over to a pool)
//!
//! `t0 thread 1 reads a · t1 thread 1 answers a · t2 thread 1 writes x ⇒ a caused x` ([`last`])
//!
//! Settling a message answers it. Says nothing of threads with several things at once, of settlements that several threads wrote
//! together, and, where work goes on after answers, of what may still be the request before.

use super::super::Interaction;
use super::super::thread::ThreadState;
use super::super::thresholds::AFTER;
use super::super::view::View;
use super::Guess;
use crate::record::OpId;
use crate::time::BootTime;

/// The thread next answered that request.
pub(super) fn next(view: &View<'_>) -> Option<Guess> {
    let thread = view.thread()?;
    let at = view.at();
    let next = thread.answers.partition_point(|(answered, _)| *answered < at);
    let (answered, cause) = *thread.answers.get(next)?;
    let before = next.checked_sub(1).and_then(|before| thread.answers.get(before));
    if let Some((before, _)) = before
        && view.may_go_on(*before)
        && !was_at_work(view, thread, cause, *before, answered)
    {
        return None;
    }
    // Settlements written together may be those of several threads.
    let is_shared = thread.answers.get(next + 1).is_some_and(|(other, _)| *other == answered);
    let candidate = view.candidate(cause)?;
    // The thread's settlement of what came before may have been written by another thread.
    let is_interleaved =
        candidate.family == Interaction::Message && view.is_interleaved(candidate.conn, answered);
    let is_unread = view.thread_may_be_of_unread();
    let usable = !thread.multiplexes
        && !is_shared
        && !is_interleaved
        && !view.has_unsure_writer()
        && candidate.opened.at <= at
        && !view.is_near_loss()
        // A thread that reads requests itself does nothing for another one before its answer; one to which they are handed on may.
        && (candidate.opened.thread.tid == view.tid() || !is_unread);
    usable.then_some(Guess { cause, contested: is_unread || view.op.start.in_flight != 1 })
}

/// When the operation began, the thread was at work on `cause`, between the answer at `after` and the one at `before`: of what
/// the thread had begun by then and has a known cause, the latest was caused by `cause`, and so was all that it began later.
fn was_at_work(
    view: &View<'_>,
    thread: &ThreadState,
    cause: OpId,
    after: BootTime,
    before: BootTime,
) -> bool {
    let first = thread.began.partition_point(|(began, _)| *began <= after);
    let begun = thread.began.iter().skip(first).take_while(|(began, _)| *began < before);
    let mut was_at_work = false;
    for (began, op) in begun {
        let Some(parent) = view.candidate(*op).and_then(|op| op.parent) else { continue };
        if *began <= view.at() {
            was_at_work = parent == cause;
        } else if parent != cause {
            return false;
        }
    }
    was_at_work
}

/// The thread goes on with what it has answered, having read nothing else since.
pub(super) fn last(view: &View<'_>) -> Option<Guess> {
    let cause = view.op.start.answered?;
    let candidate = view.candidate(cause)?;
    let usable = !view.thread()?.multiplexes
        && !view.has_unsure_writer()
        && candidate.family != Interaction::Message
        && candidate.served_by.contains(&view.tid())
        && view.at().since(candidate.closed_at?) <= AFTER
        && !view.is_near_loss()
        && !view.began_unread();
    usable.then_some(Guess { cause, contested: false })
}
