//! Facts as they came → the set of them in one order, bounded.
//!
//! What is kept of `A ∪ B` is what is kept of (what is kept of `A`) `∪ B`: of each class the first and the last so many.
//! So it does not matter in how many parts facts arrive, above the bound as below it; and whether there ever were more is
//! remembered with them, because a set that is full does not show it.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::{At, Fact, FactId, Step, Work};

/// Of the facts that make a journey (writes, changes, failures) so many first and last ones are kept.
const WEIGHTY: (usize, usize) = (512, 1_024);
/// Of all others.
const OTHERS: (usize, usize) = (512, 2_048);
/// At most so many facts an order keeps.
pub const MAX_FACTS: usize = WEIGHTY.0 + WEIGHTY.1 + OTHERS.0 + OTHERS.1;

/// The facts of one order in time, each span once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    pub facts: Vec<Fact>,
    /// Some were left out.
    pub truncated: bool,
}

/// Sorts, removes repetitions and bounds.
pub fn gather(facts: Vec<Fact>) -> Gathered {
    Gathered::default().with(facts).0
}

impl Gathered {
    /// These facts and further ones; of the latter, those that are kept and say something new. Of a span that was told twice
    /// with other words, the longer story counts.
    pub fn with(self, further: Vec<Fact>) -> (Self, BTreeSet<FactId>) {
        let known = self.facts.into_iter().map(|fact| (fact, false));
        let mut by_id: BTreeMap<FactId, (Fact, bool)> = BTreeMap::new();
        for (fact, is_new) in known.chain(further.into_iter().map(|fact| (fact, true))) {
            match by_id.get_mut(&fact.id) {
                Some(kept) if tells_more(&fact, &kept.0) => *kept = (fact, is_new),
                Some(_) => {}
                None => {
                    by_id.insert(fact.id, (fact, is_new));
                }
            }
        }
        let mut sorted: Vec<(Fact, bool)> = by_id.into_values().collect();
        sorted.sort();
        let total = sorted.len();
        let weighty = sorted.iter().filter(|(fact, _)| is_weighty(fact)).count();
        let (mut weighty, mut others) = (Ends::of(weighty, WEIGHTY), Ends::of(total - weighty, OTHERS));
        sorted.retain(|(fact, _)| if is_weighty(fact) { weighty.keep() } else { others.keep() });
        let truncated = self.truncated || sorted.len() < total;
        let new = sorted.iter().filter(|(_, is_new)| *is_new).map(|(fact, _)| fact.id).collect();
        (Self { facts: sorted.into_iter().map(|(fact, _)| fact).collect(), truncated }, new)
    }

    /// The facts of several numbers of one order.
    pub fn and(self, other: Self) -> Self {
        let truncated = self.truncated || other.truncated;
        let (all, _) = self.with(other.facts);
        Self { truncated: all.truncated || truncated, ..all }
    }
}

/// The first and the last of a sorted list, as it is walked through.
struct Ends {
    at: usize,
    first: usize,
    last_from: usize,
}

impl Ends {
    fn of(len: usize, (first, last): (usize, usize)) -> Self {
        Self { at: 0, first, last_from: len.saturating_sub(last) }
    }

    /// Whether the next one is kept.
    fn keep(&mut self) -> bool {
        let at = self.at;
        self.at += 1;
        at < self.first || at >= self.last_from
    }
}

/// Of two stories of one span: the one that says what became of it, then the one that has an end, then the longer one.
fn tells_more(fact: &Fact, other: &Fact) -> bool {
    let end = |fact: &Fact| match &fact.step {
        Step::Open { work: Work::Over } => 1,
        Step::Open { .. } => 0,
        _ => 2,
    };
    (end(fact), fact.to, fact) > (end(other), other.to, other)
}

/// Changes, failures, what decides whether a change holds, and what is open.
fn is_weighty(fact: &Fact) -> bool {
    fact.trouble.is_some()
        || matches!(
            fact.step,
            Step::Ended { .. } | Step::Published { .. } | Step::Handled { .. } | Step::Open { .. }
        )
        || (fact.status.is_some() && matches!(fact.step, Step::Wrote { .. }))
}

/// When the order moved last, or something tried to move it. What is open began to, and has not come further.
pub(super) fn progress(fact: &Fact) -> Option<At> {
    is_progress(fact).then_some(if fact.is_open() { fact.from } else { fact.to })
}

/// The order moved, or something tried to move it.
fn is_progress(fact: &Fact) -> bool {
    match &fact.step {
        Step::Wrote { rows, .. } => *rows > 0 || fact.trouble.is_some(),
        Step::Published { .. } | Step::Waited { .. } | Step::Handled { .. } | Step::Stored { .. } => true,
        Step::Served { changes, .. } | Step::Called { changes, .. } => *changes,
        // A transaction that only read ends, too.
        Step::Read { .. } | Step::Ended { .. } | Step::Other => false,
        Step::Open { work } => {
            !matches!(work, Work::Answer | Work::Statement { writes: false, .. } | Work::Other | Work::Over)
        }
    }
}
