//! Facts → stays at places: overlapping ones and those less than a second apart are one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, Visit, prove};
use crate::facts::{Fact, FactId, Step, Work};
use crate::time::SECOND;

/// Less than this between two stays at one place is no absence.
const APART_MICROS: i64 = SECOND;

pub(super) fn visits(facts: &[Fact]) -> Vec<Visit> {
    let parents: BTreeSet<FactId> = facts.iter().filter_map(Fact::parent_id).collect();
    let mut by_place: BTreeMap<Place, Vec<Visit>> = BTreeMap::new();
    // In time, so that a stay only ever grows at its end.
    for fact in facts {
        for place in places(fact, &parents) {
            let visits = by_place.entry(place.clone()).or_default();
            match visits.last_mut().filter(|visit| fact.from.since(visit.to) < APART_MICROS) {
                Some(visit) => {
                    visit.to = visit.to.max(fact.to);
                    visit.count = visit.count.saturating_add(1);
                    visit.failed |= fact.trouble.is_some();
                    prove(&mut visit.evidence, fact.id);
                }
                None => visits.push(Visit {
                    place,
                    from: fact.from,
                    to: fact.to,
                    failed: fact.trouble.is_some(),
                    count: 1,
                    evidence: vec![fact.id],
                }),
            }
        }
    }
    let mut visits: Vec<Visit> = by_place.into_values().flatten().collect();
    visits.sort_by(|a, b| (a.from, &a.place).cmp(&(b.from, &b.place)));
    visits
}

/// Where the order is while `fact` lasts. Who only asks is no visit.
fn places(fact: &Fact, parents: &BTreeSet<FactId>) -> Vec<Place> {
    let here = || Place::Service(fact.service.clone());
    match &fact.step {
        Step::Served { changes: true, .. }
        | Step::Handled { .. }
        | Step::Wrote { .. }
        | Step::Published { .. } => {
            vec![here()]
        }
        // Somebody else answers: whoever does is part of this trace, or it is outside.
        Step::Called { peer, changes: true, .. } if !parents.contains(&fact.id) && !peer.is_empty() => {
            vec![here(), Place::Outside(peer.clone())]
        }
        Step::Called { changes: true, .. } => vec![here()],
        Step::Open { work: Work::Call { peer } } if !parents.contains(&fact.id) && !peer.is_empty() => {
            vec![here(), Place::Outside(peer.clone())]
        }
        Step::Open { work: Work::Waiting { queue, destination, .. } } => {
            vec![Place::Queue(queue.as_ref().unwrap_or(destination).clone())]
        }
        Step::Open { .. } => vec![here()],
        Step::Waited { queue, .. } => vec![Place::Queue(queue.clone())],
        Step::Stored { bucket, .. } => vec![here(), Place::Storage(bucket.clone())],
        Step::Served { .. } | Step::Called { .. } | Step::Read { .. } | Step::Ended { .. } | Step::Other => {
            vec![]
        }
    }
}
