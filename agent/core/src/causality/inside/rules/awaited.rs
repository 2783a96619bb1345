//! A goroutine that waits on another one's channel waits for what that one writes.
//!
//! `t0 goroutine 1 reads a · t1 goroutine 2 reads b · t2 goroutine 9 writes x while 1 alone waits for it ⇒ a caused x`
//!
//! The request of Go's HTTP client is handed to the connection's own goroutine together with a channel for the answer. The stack
//! of a goroutine that writes what it does itself holds channels of another time too: the rule says nothing on connections that
//! several write, nor of a goroutine that answers requests.

use super::super::process::Writer;
use super::super::thresholds::AFTER;
use super::super::view::View;
use super::Guess;

/// On a connection that one goroutine was seen to write alone.
pub(in super::super) fn by_the_only_writer(view: &View<'_>) -> Option<Guess> {
    matches!(view.op.start.writer, Writer::One(_)).then(|| judge(view))?
}

/// On a connection of which nothing is known yet.
pub(in super::super) fn on_a_new_connection(view: &View<'_>) -> Option<Guess> {
    (view.op.start.writer == Writer::Unknown).then(|| judge(view))?
}

fn judge(view: &View<'_>) -> Option<Guess> {
    let cause = view.op.start.awaited_for?;
    // One that answers requests itself works for itself.
    let answered = view.thread()?.answers.back();
    if answered.is_some_and(|(at, _)| view.at().since(*at) <= AFTER) {
        return None;
    }
    let usable = view.candidate(cause)?.is_sound() && !view.has_unsure_writer() && !view.is_near_loss();
    usable.then(|| Guess { cause, contested: view.is_contested(cause) })
}
