//! The two clocks of the machine: boot time, in which records are dated, and the time of day.

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
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let wall = pair.wall.since(WallTime::ZERO);
        assert!(unix.abs_diff(wall) < std::time::Duration::from_secs(1));
    }

    #[test]
    fn uuids_are_read() {
        assert_eq!(uuid_bytes("00000000-0000-0000-0000-0000000001ff")[14..], [1, 0xff]);
        assert_eq!(uuid_bytes("not one"), [0; 16]);
    }
}
