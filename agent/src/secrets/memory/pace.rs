//! How much of a processor the search may use.
//!
//! *Owns* the budget: a part of one core on average, with some time ahead for what comes at once.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Time ahead: the first connections of a few large processes are opened without waiting, a JVM of 1 GB takes a third of it.
const BURST: Duration = Duration::from_secs(1);

/// A budget of processor time that fills with time.
#[derive(Debug)]
pub(super) struct Budget {
    percent: u32,
    /// Nanoseconds. Less than none: what was spent beyond it is paid back first.
    left: i64,
    filled: Instant,
    used: Duration,
}

/// What this thread used so far.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

impl Budget {
    pub(super) fn new(percent: u32, now: Instant) -> Self {
        Self { percent: percent.clamp(1, 100), left: nanos(BURST), filled: now, used: thread_time() }
    }

    /// Takes what was used since the last time. Returns how much that was.
    pub(super) fn charge(&mut self) -> Duration {
        let used = thread_time();
        let since = used.saturating_sub(self.used);
        self.used = used;
        self.left = self.left.saturating_sub(nanos(since));
        since
    }

    /// How long to wait until there is some left.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        let gained = now.saturating_duration_since(self.filled) * self.percent / 100;
        self.filled = now;
        self.left = self.left.saturating_add(nanos(gained)).min(nanos(BURST));
        if self.left > 0 {
            return Duration::ZERO;
        }
        let owed = Duration::from_nanos(self.left.unsigned_abs());
        (owed + MIN_GAIN) * 100 / self.percent
    }

    /// So much is owed that not even small things are done.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.left < -nanos(BURST)
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Work is taken up again when there is enough for a piece.
const MIN_GAIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_core_is_left_after_the_burst() {
        let start = Instant::now();
        let mut budget = Budget::new(5, start);
        assert_eq!(budget.wait(start), Duration::ZERO);
        budget.left = 0;
        assert_eq!(budget.wait(start), Duration::from_millis(20), "1 ms at 5 %");
        assert_eq!(budget.wait(start + Duration::from_millis(20)), Duration::ZERO);
        assert_eq!(budget.left, nanos(Duration::from_millis(1)));
        budget.wait(start + Duration::from_secs(3600));
        assert_eq!(budget.left, nanos(BURST), "no more than that is saved");
    }

    #[test]
    fn what_was_spent_beyond_it_is_paid_back() {
        let start = Instant::now();
        let mut budget = Budget::new(5, start);
        budget.left = -nanos(Duration::from_millis(9));
        assert_eq!(budget.wait(start), Duration::from_millis(200), "9 ms, and one to work with");
        assert!(!budget.is_overdrawn());
        budget.left = -nanos(BURST) - 1;
        assert!(budget.is_overdrawn());
        budget.left = nanos(BURST);
        let begun = budget.used;
        let mut n = 0_u64;
        while thread_time() - begun < Duration::from_millis(5) {
            n = std::hint::black_box(n + 1);
        }
        let used = budget.charge();
        assert_eq!(budget.left, nanos(BURST) - nanos(used));
    }
}
