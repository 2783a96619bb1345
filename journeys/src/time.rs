//! Points in time and lengths of time, as everything of an order counts them. Pure: nobody asks a clock here.

use serde::{Deserialize, Serialize};

/// Microseconds that a thousandth of a second, a second, a minute, an hour and a day have.
pub const MILLI: i64 = 1_000;
pub const SECOND: i64 = 1_000 * MILLI;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// Microseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct At(pub i64);

impl At {
    /// From OTLP's nanoseconds; what is later than the year 290000 is that.
    pub fn from_unix_ns(ns: u64) -> Self {
        Self(i64::try_from(ns / 1_000).unwrap_or(i64::MAX))
    }

    /// Microseconds from `earlier` until here; 0 when `earlier` is later.
    pub fn since(self, earlier: At) -> i64 {
        self.0.saturating_sub(earlier.0).max(0)
    }

    /// So many microseconds later.
    pub fn after(self, micros: i64) -> At {
        At(self.0.saturating_add(micros))
    }

    /// The day it lies in, counted from 1970, UTC.
    pub fn day(self) -> i64 {
        self.0.div_euclid(DAY)
    }
}
