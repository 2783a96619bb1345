//! The two clocks of the machine: boot time, in which records are dated, and the time of day.

use rustix::time::{ClockId, Timespec, clock_gettime};

use spoor_core::record::{BootNs, ClockPair};

/// `CLOCK_BOOTTIME` now.
pub fn boot_ns() -> BootNs {
    nanoseconds(clock_gettime(ClockId::Boottime))
}

/// Both clocks at the same moment, as nearly as can be read.
pub fn pair() -> ClockPair {
    let before = boot_ns();
    let unix_ns = nanoseconds(clock_gettime(ClockId::Realtime));
    let after = boot_ns();
    ClockPair { boot_ns: before + after.saturating_sub(before) / 2, unix_ns }
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
        let (before, pair, after) = (boot_ns(), pair(), boot_ns());
        assert!(before <= pair.boot_ns && pair.boot_ns <= after);
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(u64::try_from(unix.as_nanos()).unwrap().abs_diff(pair.unix_ns) < 1_000_000_000);
    }

    #[test]
    fn uuids_are_read() {
        assert_eq!(uuid_bytes("00000000-0000-0000-0000-0000000001ff")[14..], [1, 0xff]);
        assert_eq!(uuid_bytes("not one"), [0; 16]);
    }
}
