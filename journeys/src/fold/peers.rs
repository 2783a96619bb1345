//! Facts → which service answered at which address.
//!
//! `t0 the shop calls 10.0.0.7:8080 · t1 the CRM answers that very call ⇒ 10.0.0.7:8080 is the CRM, until another one answers there`

use std::collections::BTreeMap;

use crate::facts::{Fact, FactId, Step};

/// Addresses as callers name them, with the service that answered there last.
pub fn answers(facts: &[Fact]) -> BTreeMap<&str, &str> {
    let calls = facts.iter().filter_map(|fact| match &fact.step {
        Step::Called { peer, .. } if !peer.is_empty() => Some((fact.id, peer.as_str())),
        _ => None,
    });
    let calls: BTreeMap<FactId, &str> = calls.collect();
    // In time: what is later counts.
    let answer = |fact: &'_ Fact| match &fact.step {
        Step::Served { .. } => fact.parent_id(),
        _ => None,
    };
    let answered = facts.iter().filter_map(|fact| Some((*calls.get(&answer(fact)?)?, fact.service.as_str())));
    answered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fact;

    #[test]
    fn an_address_is_whose_service_answers_the_calls_to_it_last() {
        let called = |id, at| {
            let step = Step::Called { peer: "10.0.0.7:8080".to_owned(), answer: Some(200), changes: true };
            fact("4711", id, at, "shop", step)
        };
        let served = |id, at, parent: u64, service| {
            let step = Step::Served { answer: Some(200), changes: true };
            Fact { parent: Some(parent.to_be_bytes()), ..fact("4711", id, at, service, step) }
        };
        let facts = [
            called(1, 1),
            served(2, 1, 1, "old"),
            called(3, 5),
            served(4, 5, 3, "crm"),
            served(5, 6, 9, "mes"),
        ];
        assert_eq!(answers(&facts), [("10.0.0.7:8080", "crm")].into());
        assert!(answers(&facts[..1]).is_empty(), "nobody was seen to answer");
    }
}
