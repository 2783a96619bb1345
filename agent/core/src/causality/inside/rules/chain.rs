//! A task works for the request that will be answered by whoever waits for it.
//!
//! `t0 read a · t1 read b · t2 task 7 writes x; 5 waits for 7, 3 for 5 · t3 task 5 answers a · t4 answer b ⇒ a caused x` ([`awaited`])
//!
//! `t0 read a · t1 task 7 writes x; 3 waits for 7 · t2 task 3 answers a · t3 task 7 writes y ⇒ a caused y` ([`bound`])
//!
//! Who waits for whom was read from the process's memory at the write, or when the answer came. A runtime whose tasks have no numbers
//! tells the connection on which the request came that waits, which answers all of its requests as a task would, or the message; neither
//! was made for a request.
//! A process that answers with one task what it reads with
//! another shows it here all the same: the answer tells.
//!
//! Says nothing where the tasks had several requests open; of tasks that led to several requests, or whose number is not above all
//! that had been seen when the one they led to came: they may be made for all. Around a loss, what was answered may be another request.

use super::super::chains::open_at;
use super::super::table::Op;
use super::super::trust::{Proof, Signal};
use super::super::view::View;
use super::{CHAIN_PROOF, Guess};
use crate::record::{OpId, TaskId};
use crate::time::BootTime;

/// One of the tasks answered a request that was open then.
pub(super) fn awaited(view: &View<'_>) -> Option<Guess> {
    let (cause, candidate) = only_open(view, &view.op.start.tasks, view.at())?;
    usable(view, candidate).then(|| Guess { cause, contested: view.is_contested(cause) })
}

/// A task of the chain was made for a request, by what it led to before; or one had answered it, and has no other open.
pub(super) fn bound(view: &View<'_>) -> Option<Guess> {
    let tasks = &view.op.start.tasks;
    if tasks.iter().any(|task| task.is_of_request()) {
        return None;
    }
    if open(view, tasks, view.at()).next().is_some() {
        return None;
    }
    let mut found: Vec<OpId> = tasks.iter().filter_map(|task| made_for(view, *task)).collect();
    if found.is_empty() {
        let is_over = |op: &Op| op.closed_at.is_some_and(|closed| closed <= view.at());
        let last = |task: &TaskId| view.answered_by_task(*task).find(|(_, op)| is_over(op));
        found.extend(tasks.iter().filter_map(last).map(|(op, _)| op));
    }
    found.dedup();
    let [cause] = found.as_slice() else { return None };
    let candidate = view.candidate(*cause)?;
    usable(view, candidate).then(|| Guess { cause: *cause, contested: view.is_contested(*cause) })
}

/// What is known of the chain in the process speaks for it.
pub(super) fn holds_before_keys(view: &View<'_>, _: &Guess) -> bool {
    is_believed(view)
}

/// The chain is believed and leads elsewhere, or to no request that is known: no weaker evidence stands against it.
pub(in crate::causality::inside) fn forbids(view: &View<'_>, cause: OpId) -> bool {
    if view.op.start.tasks.is_empty() || !is_believed(view) {
        return false;
    }
    awaited(view).or_else(|| bound(view)).is_none_or(|guess| guess.cause != cause)
}

/// The chain is believed and leads to another request that was open: one of the two is wrong.
pub(in crate::causality::inside) fn contradicts(view: &View<'_>, cause: OpId) -> bool {
    is_believed(view) && awaited(view).is_some_and(|guess| guess.cause != cause)
}

/// Whether the tasks of the chain had one request open, or several. `None`: they had none, as far as is known.
pub(in crate::causality::inside) fn has_one_end(view: &View<'_>) -> Option<bool> {
    match open(view, &view.op.start.tasks, view.at()).take(2).count() {
        0 => None,
        open => Some(open == 1),
    }
}

/// Chains of this process led where they must: keys say so, or, where nothing has keys, that each chain led to exactly one request.
pub(super) fn is_believed(view: &View<'_>) -> bool {
    view.trust().is_some_and(|trust| {
        !trust.is_refuted(Signal::Chain)
            && (trust.holds(Signal::Chain, CHAIN_PROOF)
                || (trust.has_no(Signal::Chain) && trust.holds(Signal::ChainEnds, Proof::FULL)))
    })
}

/// Where the task led, the first and the last time: to one request, at which no number so high had been seen.
fn made_for(view: &View<'_>, task: TaskId) -> Option<OpId> {
    let [first, last] = view.sights(task)?;
    let ((first, request), (last, _)) =
        (only_open(view, first.0, first.1)?, only_open(view, last.0, last.1)?);
    (first == last && task > request.newest_task).then_some(first)
}

/// Requests that one of these tasks answered and that were open then.
fn open<'a>(view: &View<'a>, tasks: &[TaskId], at: BootTime) -> impl Iterator<Item = (OpId, &'a Op)> {
    tasks.iter().flat_map(move |task| open_at(view.answered_by_task(*task), at))
}

/// The only one of them. `None`: there is none, or more than one.
fn only_open<'a>(view: &View<'a>, tasks: &[TaskId], at: BootTime) -> Option<(OpId, &'a Op)> {
    let mut open = open(view, tasks, at);
    let only = open.next()?;
    open.next().is_none().then_some(only)
}

fn usable(view: &View<'_>, candidate: &Op) -> bool {
    candidate.opened.at <= view.at() && candidate.is_sound() && !view.is_near_loss()
}
