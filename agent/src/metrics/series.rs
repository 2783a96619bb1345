//! Observations with their labels → histograms, bounded in number and shared fairly between services.
//!
//! ```text
//!   a service asks for one more series, all are taken
//!     others have more ─▶ the one that has most gives up the series it has not used for longest
//!     it has most      ─▶ the observation goes to its own overflow series, without its other labels
//!   a series was not used for an hour ─▶ it is forgotten
//! ```
//!
//! A service that makes up labels without end so takes series from itself only. *Owns* the table. *Must not know* what labels mean,
//! but for the service, which a series belongs to.
//! *Spec*: OpenTelemetry specification v1.60 `metrics/sdk.md`, "Cardinality limits".

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use crate::clock;
use spoor_core::time::nanoseconds;

/// Series of all metrics together (the SDKs' default is 2,000 each).
pub const MAX_SERIES: usize = 4000;
/// Series that were not used for this long are forgotten: scrapers have seen their last value often enough.
const IDLE: Duration = Duration::from_secs(3600);
/// How often that is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// One histogram of one set of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Index into [`METRICS`](super::durations::METRICS).
    pub metric: usize,
    pub labels: Vec<(&'static str, String)>,
    /// Per bucket, not cumulated; one more than the metric has bounds.
    pub counts: Vec<u64>,
    pub sum: Duration,
    pub count: u64,
    /// Since when it is counted, nanoseconds of the Unix epoch: later than others when it was forgotten in between.
    pub since_unix_ns: u64,
}

/// What became of observations and series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Observations counted without their labels.
    pub overflowed: u64,
    /// Series forgotten because they were not used any more.
    pub idle: u64,
    /// Series forgotten for the share of another service.
    pub share: u64,
}

/// Keyed hashes of a series and of the service it belongs to, which no input can aim at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) series: u64,
    pub(super) service: u64,
    /// Of the series for what does not get one of its own.
    pub(super) overflow: u64,
}

#[derive(Debug)]
struct Kept {
    series: Series,
    service: u64,
    /// Counts up with every observation.
    used: u64,
    used_at: Instant,
}

/// All series.
#[derive(Debug)]
pub(super) struct Table {
    kept: HashMap<u64, Kept>,
    /// How many each service has.
    shares: HashMap<u64, usize>,
    max: usize,
    observations: u64,
    now: Instant,
    swept: Instant,
    counts: Counts,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        let now = Instant::now();
        Self {
            kept: HashMap::new(),
            shares: HashMap::new(),
            max: max.max(1),
            observations: 0,
            now,
            swept: now,
            counts: Counts::default(),
        }
    }

    /// What time it is from now on.
    pub(super) fn turn(&mut self, now: Instant) {
        self.now = now;
        if now.saturating_duration_since(self.swept) >= SWEEP_EVERY {
            self.swept = now;
            self.forget_idle();
        }
    }

    /// A series that is there, which is used by this.
    pub(super) fn find(&mut self, series: u64) -> Option<&mut Series> {
        let kept = self.kept.get_mut(&series)?;
        self.observations += 1;
        (kept.used, kept.used_at) = (self.observations, self.now);
        Some(&mut kept.series)
    }

    /// The series of a key, made when there is none: by `new`, or by `overflow` when the service has its share.
    pub(super) fn series(
        &mut self,
        key: Key,
        new: impl FnOnce() -> Series,
        overflow: impl FnOnce() -> Series,
    ) -> &mut Series {
        let has_place = self.kept.contains_key(&key.series)
            || self.kept.len() < self.max
            || self.take_from_the_largest(key.service);
        let at = if has_place { key.series } else { key.overflow };
        if !has_place {
            self.counts.overflowed += 1;
            if !self.kept.contains_key(&key.overflow) {
                // It has the largest share, so there is one of its own to give up.
                self.forget_oldest_of(key.service);
            }
        }
        self.observations += 1;
        let (used, used_at) = (self.observations, self.now);
        let kept = match self.kept.entry(at) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                *self.shares.entry(key.service).or_default() += 1;
                let mut series = if has_place { new() } else { overflow() };
                series.since_unix_ns = nanoseconds(clock::unix());
                entry.insert(Kept { series, service: key.service, used, used_at })
            }
        };
        (kept.used, kept.used_at) = (used, used_at);
        &mut kept.series
    }

    /// All series, in the order of metrics and labels.
    pub(super) fn all(&self) -> Vec<Series> {
        let mut all: Vec<Series> = self.kept.values().map(|kept| kept.series.clone()).collect();
        all.sort_by(|a, b| (a.metric, &a.labels).cmp(&(b.metric, &b.labels)));
        all
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Makes room for one more of `service` at the cost of the service that has most, if that has more.
    fn take_from_the_largest(&mut self, service: u64) -> bool {
        let own = self.shares.get(&service).copied().unwrap_or(0);
        let largest =
            self.shares.iter().max_by_key(|(_, count)| **count).map(|(service, count)| (*service, *count));
        let Some((largest, count)) = largest else { return false };
        if count <= own {
            return false;
        }
        // Where all have one, the one that was not used for longest goes.
        let forgotten =
            if count == 1 { self.forget_oldest(|_| true) } else { self.forget_oldest_of(largest) };
        self.counts.share += u64::from(forgotten);
        forgotten
    }

    fn forget_oldest_of(&mut self, service: u64) -> bool {
        self.forget_oldest(|kept| kept.service == service)
    }

    fn forget_oldest(&mut self, of: impl Fn(&Kept) -> bool) -> bool {
        let some = self.kept.iter().filter(|(_, kept)| of(kept));
        let Some(key) = some.min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key) else { return false };
        self.forget(key);
        true
    }

    fn forget_idle(&mut self) {
        let idle = |kept: &Kept| self.now.saturating_duration_since(kept.used_at) >= IDLE;
        let keys: Vec<u64> = self.kept.iter().filter(|(_, kept)| idle(kept)).map(|(key, _)| *key).collect();
        self.counts.idle += keys.len() as u64;
        keys.into_iter().for_each(|key| self.forget(key));
    }

    fn forget(&mut self, key: u64) {
        let Some(kept) = self.kept.remove(&key) else { return };
        if let Entry::Occupied(mut share) = self.shares.entry(kept.service) {
            *share.get_mut() = share.get().saturating_sub(1);
            if *share.get() == 0 {
                share.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(service: u64, label: u64) -> Series {
        let labels = vec![("service", service.to_string()), ("label", label.to_string())];
        Series { metric: 0, labels, counts: Vec::new(), sum: Duration::ZERO, count: 0, since_unix_ns: 0 }
    }

    /// Counts one; an overflow has the label 0.
    fn see(table: &mut Table, service: u64, label: u64) {
        let key = Key { series: service << 32 | label, service, overflow: service << 32 };
        table.series(key, || series(service, label), || series(service, 0)).count += 1;
    }

    fn count(table: &Table, service: u64, label: u64) -> u64 {
        table.kept.get(&(service << 32 | label)).map_or(0, |kept| kept.series.count)
    }

    fn shares_add_up(table: &Table) {
        assert!(table.kept.len() <= table.max);
        assert_eq!(table.shares.values().sum::<usize>(), table.kept.len());
        assert!(table.shares.values().all(|share| *share > 0));
    }

    #[test]
    fn a_service_without_end_keeps_others_from_nothing() {
        let mut table = Table::new(100);
        (1..=1000).for_each(|label| see(&mut table, 1, label));
        assert_eq!(table.counts(), Counts { overflowed: 900, ..Counts::default() });
        for service in 2..=5 {
            for label in 1..=10 {
                see(&mut table, service, label);
            }
        }
        // And again, so that what was there is found, not made anew.
        for service in 2..=5 {
            for label in 1..=10 {
                see(&mut table, service, label);
                assert_eq!(count(&table, service, label), 2, "{service} {label}");
            }
        }
        assert_eq!(table.kept.len(), 100);
        shares_add_up(&table);
        (1001..=3000).for_each(|label| see(&mut table, 1, label));
        assert_eq!(table.shares[&1], 60);
        assert!(count(&table, 1, 0) >= 2000, "what has no series of its own is counted all the same");
        shares_add_up(&table);
    }

    #[test]
    fn with_more_services_than_series_the_ones_in_use_stay() {
        let mut table = Table::new(10);
        for service in 2..1000 {
            see(&mut table, 1, 1);
            see(&mut table, service, 1);
        }
        assert_eq!(count(&table, 1, 1), 998);
        assert_eq!(table.counts(), Counts { overflowed: 0, idle: 0, share: 989 });
        shares_add_up(&table);
    }

    #[test]
    fn what_is_not_used_any_more_is_forgotten() {
        let mut table = Table::new(10);
        let start = table.now;
        see(&mut table, 1, 1);
        see(&mut table, 2, 1);
        let first = table.all().first().map(|series| series.since_unix_ns);
        table.turn(start + IDLE / 2);
        see(&mut table, 2, 1);
        table.turn(start + IDLE);
        assert_eq!((count(&table, 1, 1), count(&table, 2, 1)), (0, 2));
        assert_eq!((table.counts().idle, table.shares.len()), (1, 1));
        see(&mut table, 1, 1);
        assert_eq!(count(&table, 1, 1), 1);
        assert!(table.all().first().map(|series| series.since_unix_ns) >= first, "it begins anew");
        shares_add_up(&table);
    }
}
