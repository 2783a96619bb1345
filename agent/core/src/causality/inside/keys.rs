//! One outgoing operation in, what the keys say of its cause out.
//!
//! *Owns* the rule by value. *Must not know* threads.

use super::proof::Signal;
use super::state::{Op, common_traits};
use super::{AFTER_NS, Interaction, MAX_LOOKED_AT, Processes, is_near_loss};
use crate::causality::{Edge, Rule};
use crate::operation::OpSide;
use crate::order::OrderKey;
use crate::record::{BootNs, OpId};

/// What keys say.
pub(super) enum Value {
    /// Of all requests in flight, exactly one names the order.
    Only(Edge),
    /// The only request that names it has just been answered.
    Answered(Edge),
    /// Further facts tell several apart.
    Likest(Edge),
    /// It is one of these.
    Among(Vec<OpId>),
    /// Nothing names the order, but messages were being worked on that name none.
    Nameless,
    Nothing,
}

/// The order of what caused something.
enum Inherited<'a> {
    Key(&'a OrderKey),
    /// It is not decided yet what the cause was.
    Unknown,
    Nothing,
}

/// Steps from cause to cause, across processes.
const MAX_STEPS: usize = 16;

impl Processes {
    /// It carries the key of exactly one request that was in flight when it started. Of several requests of one order, the
    /// one whose further facts agree while all others' contradict.
    pub(super) fn by_value(&self, op: OpId, state: &Op) -> Value {
        let [key] = state.keys.as_slice() else { return Value::Nothing };
        let Some(process) = self.processes.get(&state.tgid) else { return Value::Nothing };
        let named = process.by_key.get(key).map(Vec::as_slice).unwrap_or_default();
        let at = state.opened.at;
        let (mut open, mut over) = (Vec::new(), Vec::new());
        // In the order they were over: the latest first.
        for (cause, candidate) in named.iter().rev().filter_map(|id| Some((*id, self.ops.get(id)?))) {
            match candidate.closed_at {
                Some(closed) if closed.saturating_add(AFTER_NS) < at => break,
                _ if candidate.keys.len() != 1 || candidate.opened.at > at => {}
                _ if candidate.is_open_at(at) => open.push(cause),
                _ => over.push(cause),
            }
        }
        if !open.is_empty() {
            let closed_at = |cause: &OpId| self.ops.get(cause).and_then(|cause| cause.closed_at);
            over.retain(|cause| {
                let since_ns = closed_at(cause).map_or(0, |closed| at.saturating_sub(closed));
                !process.names_before_answer(state, since_ns)
            });
        }
        let mut nameless = Vec::new();
        let is_message = |candidate: &Op| candidate.family == Interaction::Message;
        for cause in process.unnamed.iter().rev().take(MAX_LOOKED_AT) {
            let Some(candidate) = self.ops.get(cause).filter(|candidate| candidate.is_open_at(at)) else {
                continue;
            };
            match self.inherited(*cause) {
                Inherited::Key(inherited) if inherited == key => open.push(*cause),
                // Messages of this process may be about orders that they do not name.
                Inherited::Unknown | Inherited::Nothing if is_message(candidate) => nameless.push(*cause),
                Inherited::Key(_) | Inherited::Unknown | Inherited::Nothing => {}
            }
        }
        let is_named = !open.is_empty() || !over.is_empty();
        if !nameless.is_empty() && is_named && !process.proof.holds(Signal::Named) {
            open.append(&mut nameless);
        }
        // The one that names the order may be another than the one that is missing.
        if self.is_lossy(at) && process.proof.has_several_of_order() && open.len() + over.len() == 1 {
            return Value::Nothing;
        }
        let edge = |cause, confidence| self.edge(op, cause, Rule::Value, confidence);
        match (open.as_slice(), over.as_slice()) {
            ([], []) if nameless.is_empty() => return Value::Nothing,
            ([], []) => return Value::Nameless,
            ([only], []) => {
                let is_open = self.ops.get(only).is_some_and(|cause| cause.closed_at.is_none());
                let confidence = match self.is_clouded(state) {
                    // Another request of the order may be what was lost.
                    true => 0.7,
                    // Its answer may name others.
                    false if is_open => 0.9,
                    false => 0.97,
                };
                return edge(*only, confidence).map_or(Value::Nothing, Value::Only);
            }
            // The one that was in flight may be what was lost.
            ([], [_]) if self.is_clouded(state) => return Value::Nothing,
            ([], [only]) => return edge(*only, 0.8).map_or(Value::Nothing, Value::Answered),
            _ => {}
        }
        open.append(&mut over);
        let alike = |cause: &&OpId| self.ops.get(cause).map(|candidate| common_traits(state, candidate));
        let mut fitting = open
            .iter()
            .filter(|cause| alike(cause).is_some_and(|(same, different)| same > 0 && different == 0));
        let others_contradict =
            open.iter().filter(|cause| alike(cause).is_some_and(|(_, different)| different == 0)).count()
                == 1;
        match (fitting.next(), others_contradict) {
            (Some(cause), true) => edge(*cause, 0.9).map_or(Value::Nothing, Value::Likest),
            _ => Value::Among(open),
        }
    }

    /// A message that names no order was being worked on when it started.
    pub(super) fn meets_unnamed_message(&self, state: &Op) -> bool {
        let Some(process) = self.processes.get(&state.tgid) else { return false };
        let at = state.opened.at;
        process.unnamed.iter().rev().take(MAX_LOOKED_AT).any(|cause| {
            let candidate = self.ops.get(cause);
            candidate
                .is_some_and(|candidate| candidate.family == Interaction::Message && candidate.is_open_at(at))
        })
    }

    /// The order of whatever caused a request or message, as far as it is known.
    fn inherited(&self, op: OpId) -> Inherited<'_> {
        let mut at = op;
        for _ in 0..MAX_STEPS {
            at = match self.ops.get(&at) {
                Some(state) => match (state.keys.as_slice(), state.shape) {
                    ([only], _) => return Inherited::Key(only),
                    ([], OpSide::Outgoing) if !state.decided => return Inherited::Unknown,
                    ([], OpSide::Outgoing) => match state.parent {
                        Some(parent) => parent,
                        None => return Inherited::Nothing,
                    },
                    ([], _) => match self.links.get(&at) {
                        Some(parent) => *parent,
                        None => return Inherited::Nothing,
                    },
                    _ => return Inherited::Nothing,
                },
                None => match self.links.get(&at) {
                    Some(parent) => *parent,
                    None => return Inherited::Nothing,
                },
            };
        }
        Inherited::Nothing
    }

    /// Records were lost around that time, of whatever process: of a connection that is lost whole, nothing else tells.
    fn is_lossy(&self, at: BootNs) -> bool {
        is_near_loss(&self.lost, at)
    }
}
