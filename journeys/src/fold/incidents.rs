//! Facts → what went wrong, equal failures together.

use std::collections::{BTreeMap, BTreeSet};

use super::{Incident, Place, prove};
use crate::facts::{At, Fact, FactId, Step, Trouble, TroubleKind};

/// Who, doing what, and what it was, with numbers left out of the message: a thousand failures that differ in an ID are one.
type Fingerprint<'a> = (&'a str, &'a str, TroubleKind, &'a str, String);

pub(super) fn incidents(facts: &[Fact]) -> Vec<Incident> {
    let passed_on = passed_on(facts);
    let successes = successes(facts);
    let mut found: BTreeMap<Fingerprint<'_>, Incident> = BTreeMap::new();
    for fact in facts {
        let Some(trouble) = &fact.trouble else { continue };
        let incident = found.entry(fingerprint(fact, trouble)).or_insert_with(|| Incident {
            at: fact.to,
            last_at: fact.to,
            service: fact.service.clone(),
            operation: fact.name.clone(),
            place: place(fact),
            trouble: trouble.clone(),
            times: 0,
            passed_on: true,
            resolved: None,
            evidence: Vec::new(),
        });
        incident.at = incident.at.min(fact.to);
        incident.last_at = incident.last_at.max(fact.to);
        incident.times = incident.times.saturating_add(1);
        incident.passed_on &= passed_on.contains(&fact.id);
        prove(&mut incident.evidence, fact.id);
    }
    let mut incidents: Vec<Incident> = found
        .into_iter()
        .map(|((service, operation, ..), mut incident)| {
            let later = successes.get(&(service, operation)).filter(|(at, _)| *at > incident.last_at);
            incident.resolved = later.map(|(_, id)| *id);
            incident
        })
        .collect();
    incidents.sort_by(|a, b| (a.at, &a.evidence).cmp(&(b.at, &b.evidence)));
    incidents
}

fn fingerprint<'a>(fact: &'a Fact, trouble: &'a Trouble) -> Fingerprint<'a> {
    let message = trouble.message.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    (&fact.service, &fact.name, trouble.kind, &trouble.code, message)
}

/// Failures with another one below them.
fn passed_on(facts: &[Fact]) -> BTreeSet<FactId> {
    let parents: BTreeMap<FactId, Option<FactId>> =
        facts.iter().map(|fact| (fact.id, fact.parent_id())).collect();
    let mut passed_on = BTreeSet::new();
    for fact in facts.iter().filter(|fact| fact.trouble.is_some()) {
        let mut above = parents.get(&fact.id).copied().flatten();
        // Whoever is already marked has had its own ancestors marked; this also ends a circle.
        while let Some(id) = above.filter(|id| *id != fact.id && passed_on.insert(*id)) {
            above = parents.get(&id).copied().flatten();
        }
    }
    passed_on
}

/// The last time that each operation of each service went well.
fn successes(facts: &[Fact]) -> BTreeMap<(&str, &str), (At, FactId)> {
    let mut successes: BTreeMap<(&str, &str), (At, FactId)> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| fact.trouble.is_none() && went_well(fact)) {
        let last = successes.entry((&fact.service, &fact.name)).or_insert((fact.from, fact.id));
        *last = (*last).max((fact.from, fact.id));
    }
    successes
}

fn went_well(fact: &Fact) -> bool {
    match &fact.step {
        Step::Served { answer, .. } | Step::Called { answer, .. } => answer.is_some_and(|code| code < 400),
        Step::Open { .. } => false,
        _ => fact.unseen.is_none(),
    }
}

fn place(fact: &Fact) -> Option<Place> {
    match &fact.step {
        Step::Called { peer, .. } if !peer.is_empty() => Some(Place::Outside(peer.clone())),
        Step::Stored { bucket, .. } => Some(Place::Storage(bucket.clone())),
        Step::Handled { queue, .. } | Step::Waited { queue, .. } => Some(Place::Queue(queue.clone())),
        _ => None,
    }
}
