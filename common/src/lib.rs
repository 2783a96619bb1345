//! What crosses between the kernel side and user space: record layouts, verdicts, settings, counters, names.
//!
//! *Owns* every byte that goes through a ring buffer, a map or a global variable, and the limits both sides keep.
//! *Must not know* protocols, policy, allocation.
//!
//! All integers are in the machine's own order. Both sides are built from the same commit, and every record says its
//! [`VERSION`]: a reader leaves out, and counts, records of another one.

#![no_std]
#![forbid(unsafe_code)]

mod words;

pub mod chain;
pub mod config;
pub mod counters;
pub mod limits;
pub mod look;
pub mod names;
pub mod record;
pub mod verdict;

pub use config::{Offsets, Settings};
pub use counters::Counter;
pub use verdict::Verdict;

/// Version of all layouts in this crate. Part of every record.
pub const VERSION: u8 = 4;
