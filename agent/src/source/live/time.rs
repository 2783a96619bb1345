//! The machine's clocks: pairs of boot time and wall time, when they are due.

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::{REPORT_NS, STEP_NS};
use spoor_core::record::{BootNs, ClockPair, Record};

/// Remembers the last pair that was reported.
#[derive(Debug, Default)]
pub(super) struct Clock {
    reported: Option<ClockPair>,
}

impl Clock {
    /// Reads both clocks and appends them if a second has passed or the wall clock was set.
    pub(super) fn sample(&mut self, out: &mut Vec<Record>) -> BootNs {
        let now = pair();
        let due = self.reported.is_none_or(|last| {
            let (boot, unix) = (now.boot_ns.abs_diff(last.boot_ns), now.unix_ns.abs_diff(last.unix_ns));
            boot >= REPORT_NS || boot.abs_diff(unix) > STEP_NS
        });
        if due {
            self.reported = Some(now);
            out.push(Record::Clock(now));
        }
        now.boot_ns
    }
}

/// Boot time before and after the wall clock, so that an interruption between them does not shift the pair.
fn pair() -> ClockPair {
    let read = |id| ns(clock_gettime(id));
    let mut best = (u64::MAX, ClockPair { boot_ns: 0, unix_ns: 0 });
    for _ in 0..3 {
        let before = read(ClockId::Boottime);
        let unix_ns = read(ClockId::Realtime);
        let after = read(ClockId::Boottime);
        let width = after.saturating_sub(before);
        if width < best.0 {
            best = (width, ClockPair { boot_ns: before + width / 2, unix_ns });
        }
    }
    best.1
}

fn ns(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}
