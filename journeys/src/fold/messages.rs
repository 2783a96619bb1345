//! Facts → each message about the order with the queues it lay in and the consumers that took it.
//!
//! A consumer's span lies below the publisher's, perhaps with the time in the queue between them.

use std::collections::BTreeMap;

use super::{Handling, Message, Wait};
use crate::facts::{Fact, FactId, Sent, Step};
use crate::model::shape;

/// Between a publish and its consumer lie at most so many spans: times in queues, dead-letterings.
const MAX_STEPS: usize = 8;

pub(super) fn messages(facts: &[Fact]) -> Vec<Message> {
    let by_id: BTreeMap<FactId, &Fact> = facts.iter().map(|fact| (fact.id, fact)).collect();
    let mut messages: BTreeMap<FactId, Message> = BTreeMap::new();
    for fact in facts {
        if let Step::Published { destination, outcome } = &fact.step {
            messages.insert(
                fact.id,
                Message {
                    at: fact.from,
                    service: fact.service.clone(),
                    destination: destination.clone(),
                    sent: *outcome,
                    waited: Vec::new(),
                    handled: Vec::new(),
                    evidence: vec![fact.id],
                },
            );
        }
    }
    for fact in facts {
        let Some(message) = published(fact, &by_id).and_then(|id| messages.get_mut(&id)) else { continue };
        match &fact.step {
            Step::Waited { queue, died } => message.waited.push(Wait {
                queue: queue.clone(),
                from: fact.from,
                to: fact.to,
                died: died.clone(),
            }),
            Step::Handled { queue, settled, redelivered } => message.handled.push(Handling {
                service: fact.service.clone(),
                queue: queue.clone(),
                from: fact.from,
                to: fact.to,
                settled: *settled,
                redelivered: *redelivered,
                evidence: fact.id,
            }),
            _ => {}
        }
    }
    let mut messages: Vec<Message> = messages.into_values().collect();
    messages.sort_by(|a, b| (a.at, &a.evidence).cmp(&(b.at, &b.evidence)));
    messages
}

/// Messages by destination, without what may be a number in it: how many were sent, and how many of those were seen to
/// arrive.
pub type Deliveries = BTreeMap<String, (u64, u64)>;

/// By destination: messages that were given to the broker for good, and of those the ones seen in a queue or taken.
pub fn deliveries(facts: &[Fact]) -> Deliveries {
    let mut counts = Deliveries::new();
    if !facts.iter().any(|fact| matches!(fact.step, Step::Published { .. })) {
        return counts;
    }
    for message in messages(facts) {
        if matches!(message.sent, Sent::Confirmed | Sent::Unconfirmed) {
            let (published, delivered) = counts.entry(shape(&message.destination)).or_default();
            *published += 1;
            *delivered += u64::from(!message.waited.is_empty() || !message.handled.is_empty());
        }
    }
    counts
}

/// The publish that a stay in a queue or a consumer's work comes from.
fn published(fact: &Fact, by_id: &BTreeMap<FactId, &Fact>) -> Option<FactId> {
    if !matches!(fact.step, Step::Waited { .. } | Step::Handled { .. }) {
        return None;
    }
    let mut above = fact;
    for _ in 0..MAX_STEPS {
        above = by_id.get(&above.parent_id()?)?;
        match above.step {
            Step::Published { .. } => return Some(above.id),
            Step::Waited { .. } | Step::Handled { .. } => {}
            _ => return None,
        }
    }
    None
}
