//! What left a queue → how far the queue had come by a given time.
//!
//! Queues are first in first out: once something has left that was queued at a time, whatever was queued before has left too, seen
//! or not. Deliveries become known when they are settled, in any order, so what is known of a queue holds from the delivery on that
//! showed it, not before.
//!
//! *Owns* these times. *Must not know* messages.
//! *Spec*: RabbitMQ, "Queues" (message ordering).

use std::collections::VecDeque;
use std::time::Duration;

use crate::bounded::Bounded;
use crate::hash::Keyed;
use crate::time::BootTime;

/// Destinations remembered; those where nothing happens are forgotten first.
pub(super) const MAX_DESTINATIONS: usize = 16_384;
/// Steps remembered of one destination …
const MAX_STEPS: usize = 16;
/// … and how far apart they are at least, but for the last. Together, deliveries of a second and a half may be settled in any order before less is known
/// of their queue than could be.
const STEP: Duration = Duration::from_millis(100);

/// By `at`, everything that was queued before `passed` had left.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: BootTime,
    passed: BootTime,
}

/// How far one destination had come, in the order of time.
#[derive(Debug)]
struct Way {
    first: Step,
    later: VecDeque<Step>,
}

/// How far destinations had come, whatever the message; bounded.
#[derive(Debug)]
pub(super) struct Progress {
    ways: Bounded<u64, Way, Keyed>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { ways: Bounded::for_foreign_keys(MAX_DESTINATIONS) }
    }

    /// By `at`, everything that was queued before `passed` had left. What was known before `missed_at`, a loss, is not believed any more.
    pub(super) fn passed(&mut self, destination: u64, passed: BootTime, at: BootTime, missed_at: BootTime) {
        let step = Step { at, passed };
        let slot = self.ways.slot_or_insert_with(destination, || Way { first: step, later: VecDeque::new() });
        self.ways.touch(slot);
        let Some(way) = self.ways.at_mut(slot) else { return };
        if way.first.at < missed_at {
            *way = Way { first: step, later: VecDeque::new() };
        }
        if at < way.first.at {
            way.first = Step { at, passed: passed.min(way.first.passed) };
        }
        let last = way.later.back().unwrap_or(&way.first);
        if at < last.at || passed <= last.passed {
            return;
        }
        // The last step is exact; those before it are some time apart.
        let before_last = way.later.len().checked_sub(2).and_then(|index| way.later.get(index));
        if way.later.back().is_some_and(|last| last.at < before_last.unwrap_or(&way.first).at + STEP) {
            way.later.pop_back();
        }
        if way.later.len() >= MAX_STEPS {
            way.later.pop_front();
        }
        way.later.push_back(step);
    }

    /// What had been queued before this time had left by `at`. `None`: nothing is known of it since the loss at `missed_at`.
    pub(super) fn by(&self, destination: u64, at: BootTime, missed_at: BootTime) -> Option<BootTime> {
        let way = self.ways.get(&destination)?;
        let later = way.later.iter().rev();
        let step = later.chain([&way.first]).find(|step| step.at <= at)?;
        (step.at > missed_at).then_some(step.passed)
    }

    /// Destinations that were forgotten at the bound.
    pub(super) fn forgotten(&self) -> u64 {
        self.ways.forgotten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> BootTime {
        BootTime::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn what_is_known_holds_from_the_delivery_on_that_showed_it() {
        let mut progress = Progress::new();
        assert_eq!(progress.by(1, ms(10_000), BootTime::ZERO), None);
        for n in 1..=20 {
            progress.passed(1, ms(1_000 * n - 10), ms(1_000 * n), BootTime::ZERO);
        }
        let by = |at| progress.by(1, ms(at), BootTime::ZERO);
        assert_eq!(by(999), None);
        assert_eq!((by(20_000), by(19_999)), (Some(ms(19_990)), Some(ms(18_990))));
        // Of what is long ago, the beginning is left.
        assert_eq!((by(3_500), by(5_000)), (Some(ms(990)), Some(ms(4_990))));
        assert_eq!(progress.by(2, ms(20_000), BootTime::ZERO), None);
        // A loss may have hidden something that was put before.
        assert_eq!(progress.by(1, ms(30_000), ms(20_000)), None);
        progress.passed(1, ms(25_000), ms(25_001), ms(20_000));
        assert_eq!(progress.by(1, ms(30_000), ms(20_000)), Some(ms(25_000)));
        assert_eq!(progress.by(1, ms(25_000), ms(20_000)), None);
    }

    #[test]
    fn what_becomes_known_late_is_no_later_for_it() {
        let mut progress = Progress::new();
        progress.passed(1, ms(900), ms(1_000), BootTime::ZERO);
        progress.passed(1, ms(400), ms(500), BootTime::ZERO);
        assert_eq!(progress.by(1, ms(600), BootTime::ZERO), Some(ms(400)));
        assert_eq!(progress.by(1, ms(499), BootTime::ZERO), None);
    }

    #[test]
    fn it_is_bounded_and_counts_what_it_forgets() {
        let mut progress = Progress::new();
        (0..MAX_DESTINATIONS as u64 + 2).for_each(|n| progress.passed(n, ms(1), ms(2), BootTime::ZERO));
        assert_eq!(progress.forgotten(), 2);
        (0..1_000).for_each(|n| progress.passed(9, ms(1_000 * n), ms(1_000 * n + 1), BootTime::ZERO));
        assert!(progress.ways.get(&9).is_some_and(|way| way.later.len() == MAX_STEPS));
    }
}
