//! Facts → work that was not over when it was told last.
//!
//! Whoever tells of open work tells again while it goes on. What is not told again within a [`LEASE`] is not known any more:
//! its end was not seen, which is no end.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::lengths::Doing;
use crate::facts::{At, Fact, FactId, Step, Work};
use crate::model::{Usual, What};
use crate::time::MINUTE;

/// Open work is told every minute: who was not heard of for three may be gone.
pub const LEASE: i64 = 3 * MINUTE;
/// So many times as long as nearly all of its kind takes is no hanging yet.
const PATIENCE: i64 = 2;
const NEARLY_ALL: u64 = 95;

/// Work that was not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWork {
    pub service: String,
    /// The span's name.
    pub operation: String,
    pub work: Work,
    pub since: At,
    /// When it was told last.
    pub told: At,
    /// The message's publish, of a wait in a queue.
    pub publish: Option<FactId>,
    pub evidence: FactId,
}

impl OpenWork {
    /// It is known to go on at `now`.
    pub fn is_known(&self, now: At) -> bool {
        now.since(self.told) < LEASE
    }

    /// When it takes longer than it usually may; at once where nothing is usual.
    pub fn hangs_from(&self, usual: &Usual) -> At {
        let times = self.what().and_then(|what| usual.times.get(&what));
        let enough = times.filter(|times| times.usual().is_some());
        self.since.after(enough.map_or(0, |times| times.percentile(NEARLY_ALL).saturating_mul(PATIENCE)))
    }

    /// It is the answer of a service that itself waits for this: the reason says more. Not every sender tells that they belong
    /// together (`t0` the shop is asked · `t1` the shop asks the CRM · none has ended ⇒ the shop waits for the CRM).
    pub(super) fn waits_for(&self, other: &OpenWork) -> bool {
        let is_wait = matches!(other.work, Work::Call { .. } | Work::Statement { .. });
        self.work == Work::Answer && is_wait && self.service == other.service
    }

    /// What its length will be counted as.
    fn what(&self) -> Option<What> {
        let doing = match &self.work {
            Work::Answer => Doing::Answers,
            Work::Call { peer } => Doing::Calls(peer),
            Work::Statement { collection, writes: true } => Doing::Writes(collection),
            Work::Statement { collection, writes: false } => Doing::Reads(collection),
            Work::Handling { queue, .. } => Doing::Handles(queue),
            Work::Waiting { queue, .. } => Doing::Waits(queue.as_ref()?),
            Work::Other | Work::Over => return None,
        };
        Some(doing.what(&self.service))
    }

    /// How long such work usually takes, where that is known.
    pub fn usually(&self, usual: &Usual) -> Option<i64> {
        usual.times.get(&self.what()?)?.usual()
    }
}

pub(super) fn open(facts: &[Fact]) -> Vec<OpenWork> {
    // Of two that wait for each other the lower one is what hangs.
    let waited_for: BTreeSet<FactId> =
        facts.iter().filter(|fact| fact.is_open()).filter_map(Fact::parent_id).collect();
    let work = |fact: &Fact| {
        let Step::Open { work } = &fact.step else { return None };
        if *work == Work::Over {
            return None;
        }
        let publish = matches!(work, Work::Waiting { .. }).then(|| fact.parent_id()).flatten();
        let is_over = publish.is_some_and(|publish| is_taken(facts, publish, work));
        (!is_over && !waited_for.contains(&fact.id)).then(|| OpenWork {
            service: fact.service.clone(),
            operation: fact.name.clone(),
            work: work.clone(),
            since: fact.from,
            told: fact.to,
            publish,
            evidence: fact.id,
        })
    };
    let mut open: Vec<OpenWork> = facts.iter().filter_map(work).collect();
    open.sort_by_key(|open| (open.since, open.evidence));
    open
}

/// A message left the queue in which it waited: its time there is over, or somebody works on it.
fn is_taken(facts: &[Fact], publish: FactId, work: &Work) -> bool {
    let Work::Waiting { queue, .. } = work else { return false };
    facts.iter().filter(|fact| fact.parent_id() == Some(publish)).any(|fact| {
        let from = match &fact.step {
            Step::Waited { queue, .. }
            | Step::Handled { queue, .. }
            | Step::Open { work: Work::Handling { queue, .. } } => queue,
            _ => return false,
        };
        // A copy may lie in another queue of the same exchange.
        queue.as_ref().is_none_or(|queue| from == queue || from.ends_with(&format!(":{queue}")))
    })
}

#[cfg(test)]
mod tests;
