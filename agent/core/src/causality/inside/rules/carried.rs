//! An operation that carries on the trace ID of a request was caused by it, whether or not anybody exports that trace: gateways,
//! meshes and runtimes hand the context on, and many of them make a new trace ID for each request that came without one.
//!
//! `passed_on`: `t0 read a, trace 5 · t1 read b, trace 6 · t2 write x, trace 5 · t3 answer a · t4 answer b ⇒ a caused x`
//! `made`: `t0 read a · t1 read b · t2 write x, trace 7, order of a · t3 write y, trace 7 · t4 answer a · t5 answer b ⇒ a caused y`
//!
//! Says nothing where several requests of the trace could be the cause, while one is open that has not shown its trace, around a loss,
//! and while a request is not read.
//!
//! *Spec*: W3C Trace Context Level 2, section 3.2.2.3 (`trace-id`).

use super::super::thresholds::MAX_LOOKED_AT;
use super::super::view::View;
use super::Guess;
use crate::record::OpId;

/// Exactly one request of the trace was in flight.
pub(super) fn passed_on(view: &View<'_>) -> Option<Guess> {
    let mut cause = None;
    for (step, (op, asked)) in view.asked_in_trace().enumerate() {
        if step >= MAX_LOOKED_AT {
            return None;
        }
        if asked.opened.at > view.at() {
            continue;
        }
        if asked.is_open_at(view.at()) {
            if cause.replace(op).is_some() {
                return None;
            }
        } else if asked.closed_at.is_some_and(|over| view.is_just_over(over)) {
            // It may still be worked on.
            return None;
        }
    }
    guess(view, cause?)
}

/// Nobody asked within the trace: it was made here, for the request that another operation of the trace was caused by.
pub(super) fn made(view: &View<'_>) -> Option<Guess> {
    let cause = view.cause_in_trace()?;
    if view.asked_in_trace().next().is_some() || !view.candidate(cause)?.is_open_at(view.at()) {
        return None;
    }
    guess(view, cause)
}

fn guess(view: &View<'_>, cause: OpId) -> Option<Guess> {
    // What carries a trace is known of requests that are over: one that hangs may be of the same.
    let may_be_of_another =
        view.is_blocked() || view.is_near_loss() || view.is_near_any_loss() || view.may_be_of_unread();
    (!may_be_of_another).then(|| Guess { cause, contested: view.is_contested(cause) })
}
