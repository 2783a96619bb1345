//! An operation that names an order was caused by the request in flight that names it too.
//!
//! `t0 read a · t1 read b · t2 write x, which names the order of a · t3 answer a · t4 answer b ⇒ a caused x`
//!
//! Keys are known once a request is over: the rule is asked when every request that was in flight is. Of several requests of one
//! order, the one whose further facts agree is the cause, if all others' contradict; otherwise other rules may choose among them.
//!
//! A process that is asked for nothing itself may work for one of its service that takes messages ([`super::super::kin`]).

use std::time::Duration;

use super::super::Interaction;
use super::super::table::{Op, common_facts};
use super::super::thresholds::{AFTER, MAX_LOOKED_AT, MAX_NAMED, MAX_STEPS, PROOF_BESIDE_ANSWERED};
use super::super::trust::{Proof, Signal};
use super::super::view::View;
use super::{
    VALUE, VALUE_ANSWERED, VALUE_BESIDE_ANSWERED, VALUE_BY_FACTS, VALUE_NEAR_LOSS, VALUE_OF_KIN,
    VALUE_STILL_OPEN,
};
use crate::causality::rules::Row;
use crate::operation::OpSide;
use crate::order::OrderKey;
use crate::record::OpId;

/// What keys say.
pub(in crate::causality::inside) enum Value {
    /// Of all requests in flight, exactly one names the order.
    Only(OpId, &'static Row),
    /// The only request that names the order has just been answered.
    Answered(OpId, &'static Row),
    /// Further facts tell several apart.
    Likest(OpId, &'static Row),
    /// It is one of these.
    Among(Vec<OpId>),
    /// It is one of these, of which one was in flight: that one, if the process does nothing for answered requests. Whether it does, the
    /// process may still show.
    Unproven(Vec<OpId>),
    /// It is one of these, which had all been answered.
    AllAnswered(Vec<OpId>),
    /// Nothing names the order, but messages were being worked on that name none.
    Nameless,
    Nothing,
}

impl Value {
    /// The row of the table that it would make an edge by.
    pub(in crate::causality::inside) fn row(&self) -> Option<&'static Row> {
        match self {
            Value::Only(_, row) | Value::Answered(_, row) | Value::Likest(_, row) => Some(*row),
            Value::Among(_)
            | Value::Unproven(_)
            | Value::AllAnswered(_)
            | Value::Nameless
            | Value::Nothing => None,
        }
    }

    /// Of the requests of the operation's order, only one was worked on. `None`: keys say nothing about it.
    pub(in crate::causality::inside) fn is_one_of_order(&self) -> Option<bool> {
        match self {
            Value::Only(..) | Value::Answered(..) => Some(true),
            Value::Likest(..) | Value::Among(_) | Value::Unproven(_) | Value::AllAnswered(_) => Some(false),
            Value::Nameless | Value::Nothing => None,
        }
    }
}

/// The order of what caused something.
enum Inherited<'a> {
    Key(&'a OrderKey),
    /// The cause is not decided yet.
    Unknown,
    Nothing,
}

pub(in crate::causality::inside) fn judge(view: &View<'_>) -> Value {
    let [key] = view.op.keys.as_slice() else { return Value::Nothing };
    let Some(trust) = view.trust() else { return Value::Nothing };
    let at = view.at();
    let (mut open, mut over) = (Vec::new(), Vec::new());
    // In the order they were over: the latest first.
    for (step, cause) in view.named(key).rev().enumerate() {
        let Some(candidate) = view.candidate(cause) else { continue };
        match candidate.closed_at {
            Some(closed) if closed + AFTER < at => break,
            _ if candidate.keys.len() != 1 || candidate.opened.at > at => {}
            _ if candidate.is_open_at(at) => open.push(cause),
            _ => over.push(cause),
        }
        if open.len() + over.len() >= MAX_LOOKED_AT || step >= MAX_NAMED {
            // Nobody could tell so many apart: unsettled deliveries of one order, say, as a broker without a prefetch sends them.
            open.append(&mut over);
            return Value::Among(open);
        }
    }
    if !open.is_empty() {
        let closed_at = |cause: &OpId| view.candidate(*cause).and_then(|cause| cause.closed_at);
        over.retain(|cause| {
            let since = closed_at(cause).map_or(Duration::ZERO, |closed| at.since(closed));
            !view.names_before_answer(since)
        });
    }
    // A worker with two stages is told of the second while it is about to settle the first.
    if let [only] = open.as_slice()
        && view.was_never_late(0)
    {
        over.retain(|cause| step_to(view, *only, *cause).is_none());
    }
    let mut nameless = Vec::new();
    for (cause, candidate) in view.unnamed() {
        match inherited(view, cause) {
            Inherited::Key(inherited) if inherited == key => open.push(cause),
            // Messages of this process may be about orders that they do not name.
            Inherited::Unknown | Inherited::Nothing if candidate.family == Interaction::Message => {
                nameless.push(cause);
            }
            Inherited::Key(_) | Inherited::Unknown | Inherited::Nothing => {}
        }
    }
    let is_named = !open.is_empty() || !over.is_empty();
    if !nameless.is_empty() && is_named && !trust.holds(Signal::Named, Proof::USUAL) {
        open.append(&mut nameless);
    }
    // Another request of the order may be what was not read.
    if view.may_be_of_unread() {
        return Value::Nothing;
    }
    // The one that names the order may be another than the one that is missing.
    let is_near_loss = view.is_near_loss();
    if (is_near_loss || view.is_near_any_loss())
        && trust.has_several_of_order()
        && open.len() + over.len() == 1
    {
        return Value::Nothing;
    }
    match (open.as_slice(), over.as_slice()) {
        ([], []) if nameless.is_empty() => return of_kin(view, key),
        ([], []) => return Value::Nameless,
        ([only], []) => {
            let is_open = view.candidate(*only).is_some_and(|cause| cause.closed_at.is_none());
            // Another one that hangs may name the order in its answer only.
            if is_open && trust.has_several_of_order() && view.meets_unnamed_that_hangs() {
                return Value::Nothing;
            }
            let row = if is_near_loss {
                &VALUE_NEAR_LOSS
            } else if is_open {
                &VALUE_STILL_OPEN
            } else {
                &VALUE
            };
            return Value::Only(*only, row);
        }
        // The one that was in flight may be what was lost.
        ([], [_]) if is_near_loss => return Value::Nothing,
        ([], [only]) => return Value::Answered(*only, &VALUE_ANSWERED),
        _ => {}
    }
    // What is published after an answer is a habit of programs; statements and calls are not.
    let is_beside_answered = match open.as_slice() {
        [only] if view.op.family == Interaction::Call && !is_near_loss => Some(*only),
        _ => None,
    };
    if let Some(only) = is_beside_answered
        && view.was_never_late(PROOF_BESIDE_ANSWERED)
    {
        return Value::Likest(only, &VALUE_BESIDE_ANSWERED);
    }
    let are_answered = open.is_empty() && !view.is_blocked() && !is_near_loss && !view.is_near_any_loss();
    open.append(&mut over);
    // One that shows the same facts may be what is missing.
    match by_facts(view.op, &open, view).filter(|_| !is_near_loss) {
        Some(cause) => Value::Likest(cause, &VALUE_BY_FACTS),
        None if are_answered => Value::AllAnswered(open),
        None if is_beside_answered.is_some() && view.was_never_late(0) => Value::Unproven(open),
        None => Value::Among(open),
    }
}

/// The only message of that order that another process of the service took, if this one is asked for nothing. Once nothing else can
/// become known.
fn of_kin(view: &View<'_>, key: &OrderKey) -> Value {
    let is_near_loss = || view.is_near_loss() || view.is_near_any_loss() || view.kin_is_near_loss();
    if !view.forced || view.was_asked() || is_near_loss() {
        return Value::Nothing;
    }
    // Nobody could tell more apart, nor know what each of so many that are open is about.
    let Some(named) = view.named_by_kin(key) else { return Value::Nothing };
    let at = view.at();
    let took = |candidate: &Op| {
        candidate.family == Interaction::Message
            && candidate.keys.len() == 1
            && candidate.opened.at <= at
            && candidate.closed_at.is_none_or(|closed| closed + AFTER >= at)
    };
    let messages = named.into_iter().filter(|(_, candidate)| took(candidate));
    let messages: Vec<OpId> = messages.map(|(message, _)| message).collect();
    // What one process of the pool was doing when it sent the next message is not done by another one.
    let is_elsewhere = |message: &OpId| {
        let sent = messages.iter().filter_map(|other| step_to(view, *other, *message));
        sent.filter_map(|step| view.candidate(step)).any(|step| step.tgid != view.op.tgid)
    };
    let mut possible = messages.iter().filter(|message| !is_elsewhere(message));
    match (possible.next(), possible.next()) {
        (Some(only), None) => Value::Likest(*only, &VALUE_OF_KIN),
        _ => Value::Nothing,
    }
}

/// The operation that `cause` caused and that led to `op`. `None`: as far as is known, it did not.
fn step_to(view: &View<'_>, op: OpId, cause: OpId) -> Option<OpId> {
    let mut at = op;
    for _ in 0..MAX_STEPS {
        let next = match view.candidate(at) {
            Some(state) if state.shape == OpSide::Outgoing => state.parent,
            _ => view.link(at),
        }?;
        if next == cause {
            return Some(at);
        }
        at = next;
    }
    None
}

/// The one of them whose facts agree with the operation's, if those of all others contradict them.
fn by_facts(op: &Op, causes: &[OpId], view: &View<'_>) -> Option<OpId> {
    let alike = |cause: &&OpId| view.candidate(**cause).map(|candidate| common_facts(op, candidate));
    let mut fitting =
        causes.iter().filter(|cause| alike(cause).is_some_and(|(same, other)| same > 0 && other == 0));
    let possible = causes.iter().filter(|cause| alike(cause).is_some_and(|(_, other)| other == 0));
    fitting.next().copied().filter(|_| possible.count() == 1)
}

/// The order of whatever caused a request or message, as far as it is known.
fn inherited<'a>(view: &View<'a>, op: OpId) -> Inherited<'a> {
    let mut at = op;
    for _ in 0..MAX_STEPS {
        let next = match view.candidate(at) {
            Some(state) => match (state.keys.as_slice(), state.shape) {
                ([only], _) => return Inherited::Key(only),
                ([], OpSide::Outgoing) if !state.decided => return Inherited::Unknown,
                ([], OpSide::Outgoing) => state.parent,
                ([], _) => view.link(at),
                _ => None,
            },
            None => view.link(at),
        };
        match next {
            Some(cause) => at = cause,
            None => return Inherited::Nothing,
        }
    }
    Inherited::Nothing
}
