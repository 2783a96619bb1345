//! Facts as they came → the set of them in one order, bounded.
//!
//! What is kept of `A ∪ B` is what is kept of (what is kept of `A`) `∪ B`: of each class the first and the last so many.
//! So it does not matter in how many parts facts arrive, above the bound as below it.

use std::collections::BTreeMap;

use crate::facts::{Fact, FactId, Step};

/// Of the facts that make a journey (writes, changes, failures) so many first and last ones are kept.
const WEIGHTY: (usize, usize) = (512, 1_024);
/// Of all others.
const OTHERS: (usize, usize) = (512, 2_048);
/// At most so many facts an order keeps.
pub const MAX_FACTS: usize = WEIGHTY.0 + WEIGHTY.1 + OTHERS.0 + OTHERS.1;

/// The facts of one order in time, each span once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathered {
    pub facts: Vec<Fact>,
    /// Some were left out.
    pub truncated: bool,
}

/// Sorts, removes repetitions and bounds. Of a span that was told twice with other words, the longer story counts.
pub fn gather(facts: &[Fact]) -> Gathered {
    let mut by_id: BTreeMap<FactId, &Fact> = BTreeMap::new();
    for fact in facts {
        let kept = by_id.entry(fact.id).or_insert(fact);
        if (fact.to, fact) > (kept.to, *kept) {
            *kept = fact;
        }
    }
    let mut sorted: Vec<&Fact> = by_id.into_values().collect();
    sorted.sort();
    let total = sorted.len();
    let (weighty, others): (Vec<&Fact>, Vec<&Fact>) = sorted.into_iter().partition(|fact| is_weighty(fact));
    let mut kept: Vec<&Fact> = ends(&weighty, WEIGHTY).chain(ends(&others, OTHERS)).collect();
    kept.sort();
    let truncated = kept.len() < total;
    Gathered { facts: kept.into_iter().cloned().collect(), truncated }
}

/// The first and the last of a sorted list.
fn ends<'a>(facts: &[&'a Fact], (first, last): (usize, usize)) -> impl Iterator<Item = &'a Fact> {
    let len = facts.len();
    let keep = move |at: usize| at < first || at >= len.saturating_sub(last);
    facts
        .iter()
        .enumerate()
        .filter(move |(at, _)| keep(*at))
        .map(|(_, fact)| *fact)
        .collect::<Vec<_>>()
        .into_iter()
}

/// Changes, failures, and what decides whether a change holds.
fn is_weighty(fact: &Fact) -> bool {
    fact.trouble.is_some()
        || matches!(fact.step, Step::Ended { .. } | Step::Published { .. } | Step::Handled { .. })
        || (fact.status.is_some() && matches!(fact.step, Step::Wrote { .. }))
}

/// The order moved, or something tried to move it.
pub(super) fn is_progress(fact: &Fact) -> bool {
    match &fact.step {
        Step::Wrote { rows, .. } => *rows > 0 || fact.trouble.is_some(),
        Step::Published { .. } | Step::Waited { .. } | Step::Handled { .. } | Step::Stored { .. } => true,
        Step::Served { changes, .. } | Step::Called { changes, .. } => *changes,
        // A transaction that only read ends, too.
        Step::Read { .. } | Step::Ended { .. } | Step::Other => false,
    }
}
