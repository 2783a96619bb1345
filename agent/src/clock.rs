//! The two clocks of the machine → boot time, in which records are dated, and the time of day, also as people write it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

use spoor_core::record::ClockPair;
use spoor_core::time::{BootTime, WallTime};

/// `CLOCK_BOOTTIME` now.
pub fn boot() -> BootTime {
    BootTime::from_nanos(nanoseconds(clock_gettime(ClockId::Boottime)))
}

/// Both clocks at the same moment, as nearly as can be read.
pub fn pair() -> ClockPair {
    let before = boot();
    let wall = WallTime::from_nanos(nanoseconds(clock_gettime(ClockId::Realtime)));
    let after = boot();
    ClockPair { boot: before + after.since(before) / 2, wall }
}

/// The time of day, since the Unix epoch; zero before it.
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A moment of the Gregorian calendar, in UTC. It is shown as ISO 8601 has it: `2026-11-20T12:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    pub year: u64,
    pub month: u64,
    pub day: u64,
    pub hour: u64,
    pub minute: u64,
    pub second: u64,
}

/// The moment that is so long after the Unix epoch.
pub fn utc(since_epoch: Duration) -> Utc {
    let (days, of_day) = (since_epoch.as_secs() / 86_400, since_epoch.as_secs() % 86_400);
    // Eras of 400 years, 146,097 days, whose years begin in March (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    Utc {
        year: era * 400 + year_of_era + u64::from(month <= 2),
        month,
        day: of_year - (153 * march_month + 2) / 5 + 1,
        hour: of_day / 3600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// `/proc/sys/kernel/random/boot_id`: a UUID; empty when it cannot be read.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The 16 bytes of a UUID in text form; zeros when it is none.
pub fn uuid_bytes(text: &str) -> [u8; 16] {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let number = if digits.len() == 32 { u128::from_str_radix(&digits, 16).unwrap_or(0) } else { 0 };
    number.to_be_bytes()
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_is_of_one_moment() {
        let (before, pair, after) = (boot(), pair(), boot());
        assert!(before <= pair.boot && pair.boot <= after);
        let wall = pair.wall.since(WallTime::ZERO);
        assert!(unix().abs_diff(wall) < Duration::from_secs(1));
    }

    #[test]
    fn moments_are_written_by_the_calendar() {
        for (unix, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_132_799, "2026-11-19T23:59:59Z"),
            (1_798_761_600, "2027-01-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(Duration::from_secs(unix)).to_string(), expected);
        }
    }

    #[test]
    fn uuids_are_read() {
        assert_eq!(uuid_bytes("00000000-0000-0000-0000-0000000001ff")[14..], [1, 0xff]);
        assert_eq!(uuid_bytes("not one"), [0; 16]);
    }
}
