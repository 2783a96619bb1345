//! The machine's clocks: pairs of boot time and wall time, when they are due.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use spoor_core::record::{ClockPair, Record};
use spoor_core::time::{BootTime, WallTime};

use super::{REPORT, STEP};

/// Remembers the last pair that was reported.
#[derive(Debug, Default)]
pub(super) struct Clock {
    reported: Option<ClockPair>,
}

impl Clock {
    /// Reads both clocks and appends them if a second has passed or the wall clock was set.
    pub(super) fn sample(&mut self, out: &mut Vec<Record>) -> BootTime {
        let now = pair();
        let due = self.reported.is_none_or(|last| {
            let (boot, unix) = (now.boot.abs_diff(last.boot), now.wall.abs_diff(last.wall));
            boot >= REPORT || boot.abs_diff(unix) > STEP
        });
        if due {
            self.reported = Some(now);
            out.push(Record::Clock(now));
        }
        now.boot
    }
}

/// Boot time before and after the wall clock, so that an interruption between them does not shift the pair.
fn pair() -> ClockPair {
    let read = |id| nanoseconds(clock_gettime(id));
    let boot = || BootTime::from_nanos(read(ClockId::Boottime));
    let mut best = (Duration::MAX, ClockPair::UNKNOWN);
    for _ in 0..3 {
        let before = boot();
        let wall = WallTime::from_nanos(read(ClockId::Realtime));
        let after = boot();
        let width = after.since(before);
        if width < best.0 {
            best = (width, ClockPair { boot: before + width / 2, wall });
        }
    }
    best.1
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}
