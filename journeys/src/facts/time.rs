//! Points in time, as everything of an order counts them.

use serde::{Deserialize, Serialize};

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
}
