//! What a thread has read last leads to what it then writes.
//!
//! `t0 thread 1 reads a · t1 thread 1 reads b · t2 thread 1 writes x ⇒ b caused x`
//!
//! `t0 thread 1 reads a · t1 thread 1 writes x · t2 thread 2 reads the answer to x · t3 thread 2 writes y ⇒ a caused y`
//!
//! Where nothing else could be the cause, this is so in nearly every program. Where something could, it is so in event loops that
//! go on with what they have just read, and not in others: it is counted for each process, by how long before it was read.
//! Says nothing of goroutines then, for the next one may have taken the place of the one that read; nor of a request of which the
//! thread has read a part only.

use super::super::thresholds::READ_AFTER_ANSWER;
use super::super::trust::Gap;
use super::super::view::View;
use super::Guess;
use crate::operation::OpSide;
use crate::record::OpId;

/// What was read last, and what it leads to.
#[derive(Clone, Copy, Debug)]
pub(in crate::causality::inside) struct Read {
    cause: OpId,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// The request itself, and nothing else could be the cause.
    RequestAlone,
    /// A response to something that the request had caused, and nothing else could be the cause.
    ResponseAlone,
    /// Either, but the request had been answered shortly before.
    AfterAnswer,
    /// The request itself, while others could be the cause.
    Request,
    /// A response, on another connection than the thread then wrote on.
    Response,
    /// A response, on the very connection that the thread then wrote on, while other connections were idle: it is not the
    /// pool's next waiter that wrote.
    Reuse,
}

pub(super) fn request_alone(view: &View<'_>) -> Option<Guess> {
    judge(view, How::RequestAlone)
}

pub(super) fn response_alone(view: &View<'_>) -> Option<Guess> {
    judge(view, How::ResponseAlone)
}

pub(super) fn after_answer(view: &View<'_>) -> Option<Guess> {
    judge(view, How::AfterAnswer)
}

pub(super) fn request(view: &View<'_>) -> Option<Guess> {
    judge(view, How::Request)
}

pub(super) fn response(view: &View<'_>) -> Option<Guess> {
    judge(view, How::Response)
}

pub(super) fn reuse(view: &View<'_>) -> Option<Guess> {
    judge(view, How::Reuse)
}

fn judge(view: &View<'_>, how: How) -> Option<Guess> {
    let read = (*view.read.get_or_init(|| look(view)))?;
    let contested = matches!(how, How::Request | How::Response | How::Reuse);
    (read.how == how).then_some(Guess { cause: read.cause, contested })
}

/// The call whose answer the thread has read last, if that call is not decided yet: the rules wait for it.
pub(in crate::causality::inside) fn waits_for(view: &View<'_>) -> Option<OpId> {
    let [read] = view.op.start.last_read.as_slice() else { return None };
    let last = view.candidate(*read)?;
    (last.shape != OpSide::Incoming && !last.decided).then_some(*read)
}

/// How long before the operation its thread had read something.
pub(super) fn gap(view: &View<'_>) -> Gap {
    Gap::of(view.at().since(view.op.start.last_read_at))
}

fn look(view: &View<'_>) -> Option<Read> {
    let [read] = view.op.start.last_read.as_slice() else { return None };
    let last = view.candidate(*read)?;
    let is_request = last.shape == OpSide::Incoming;
    let cause = if is_request { *read } else { last.parent? };
    let candidate = view.candidate(cause)?;
    if view.has_unsure_writer() || !candidate.is_sound() || view.is_near_loss() || view.began_unread() {
        return None;
    }
    let at = view.at();
    let contested = view.is_contested(cause);
    let how = if let Some(closed) = candidate.closed_at.filter(|closed| *closed < at) {
        // Only when nothing else can be the cause, also nothing that becomes known late, and soon.
        if contested || at.since(closed) > READ_AFTER_ANSWER {
            return None;
        }
        How::AfterAnswer
    } else if !contested {
        if is_request { How::RequestAlone } else { How::ResponseAlone }
    } else if view.op.opened.thread.tid.is_goroutine() || (is_request && !view.has_read(candidate)) {
        return None;
    } else if is_request {
        How::Request
    } else if last.conn != view.op.conn {
        How::Response
    } else if view.op.start.idle_connection {
        How::Reuse
    } else {
        // A response that frees a pooled connection also lets the pool's next waiter write on it.
        return None;
    };
    Some(Read { cause, how })
}
