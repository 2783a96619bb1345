//! Nanoseconds of a clock → instants that cannot be mistaken for one of the other clock, nor for a duration.
//!
//! *Owns* [`BootTime`], in which every record is dated, and [`WallTime`], in which spans leave. The difference of two
//! instants of one clock is a [`Duration`]; between the clocks leads [`ClockPair`](crate::record::ClockPair) alone.
//! *Must not know* what the time is: that is asked by the shell.
//!
//! All arithmetic stops at the ends of the scale instead of wrapping: instants come from records that may be damaged.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// The nanoseconds of a duration; the longest number where there are more (584 years).
#[inline]
pub const fn nanoseconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(NANOS_PER_SEC).saturating_add(duration.subsec_nanos() as u64)
}

/// A moment for tests.
#[cfg(test)]
pub(crate) const fn ns(nanos: u64) -> BootTime {
    BootTime::from_nanos(nanos)
}

macro_rules! instant {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The start of the scale. Stands for "not known" where a field says so.
            pub const ZERO: Self = Self(0);
            /// Later than all that happens.
            pub const MAX: Self = Self(u64::MAX);

            /// The instant that lies so many nanoseconds after the start of the scale.
            #[inline]
            pub const fn from_nanos(nanos: u64) -> Self {
                Self(nanos)
            }

            /// Nanoseconds since the start of the scale: for formats, which have no instants.
            #[inline]
            pub const fn as_nanos(self) -> u64 {
                self.0
            }

            /// How long after `earlier` this is; nothing if it is not after it.
            #[inline]
            pub const fn since(self, earlier: Self) -> Duration {
                Duration::from_nanos(self.0.saturating_sub(earlier.0))
            }

            /// How long after `earlier` this is; `None` if it is before it.
            #[inline]
            pub const fn checked_since(self, earlier: Self) -> Option<Duration> {
                match self.0.checked_sub(earlier.0) {
                    Some(nanos) => Some(Duration::from_nanos(nanos)),
                    None => None,
                }
            }

            /// How far the two are apart, whichever is first.
            #[inline]
            pub const fn abs_diff(self, other: Self) -> Duration {
                Duration::from_nanos(self.0.abs_diff(other.0))
            }
        }

        impl Add<Duration> for $name {
            type Output = Self;

            #[inline]
            fn add(self, later_by: Duration) -> Self {
                Self(self.0.saturating_add(nanoseconds(later_by)))
            }
        }

        impl AddAssign<Duration> for $name {
            #[inline]
            fn add_assign(&mut self, later_by: Duration) {
                *self = *self + later_by;
            }
        }

        impl Sub<Duration> for $name {
            type Output = Self;

            #[inline]
            fn sub(self, earlier_by: Duration) -> Self {
                Self(self.0.saturating_sub(nanoseconds(earlier_by)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

instant! {
    /// A moment on `CLOCK_BOOTTIME` of the machine that was observed, to the nanosecond. It goes on while the machine sleeps
    /// and never jumps.
    BootTime
}

instant! {
    /// A moment since the Unix epoch, to the nanosecond. It jumps when the machine's clock is set.
    WallTime
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_durations_and_never_wrap() {
        assert_eq!(ns(30).since(ns(10)), Duration::from_nanos(20));
        assert_eq!(ns(10).since(ns(30)), Duration::ZERO);
        assert_eq!(ns(10).checked_since(ns(30)), None);
        assert_eq!(ns(10).checked_since(ns(10)), Some(Duration::ZERO));
        assert_eq!(ns(10).abs_diff(ns(30)), ns(30).abs_diff(ns(10)));
        assert_eq!(BootTime::MAX.since(BootTime::ZERO), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn sums_stop_at_the_ends_of_the_scale() {
        assert_eq!(ns(1) + Duration::from_secs(2), ns(2_000_000_001));
        assert_eq!(ns(5) - Duration::from_nanos(6), BootTime::ZERO);
        assert_eq!(ns(5) + Duration::MAX, BootTime::MAX);
        assert_eq!(BootTime::MAX + Duration::from_nanos(1), BootTime::MAX);
        assert_eq!(nanoseconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn instants_are_written_as_bare_numbers() {
        let wall = WallTime::from_nanos(7);
        assert_eq!(serde_json::to_string(&wall).unwrap(), "7");
        assert_eq!(serde_json::from_str::<WallTime>("7").unwrap(), wall);
        assert_eq!(format!("{wall:?}"), "7");
    }
}
