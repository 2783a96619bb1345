//! Secrets of TLS connections from outside the core: key log files, and the memory of the processes that have them → [`Known`]
//! secrets.
//!
//! ```text
//!   key logs ──────────────────────────────────▶ Known ─▶ pipeline
//!   Wanted ─▶ memory: a thread of its own ─────────┘
//! ```
//!
//! *Owns* reading them. *Must not know* records and what a secret opens: that is asked of the core.
//!
//! Nothing in this room is logged but names and counts, nothing is written anywhere, and what was read is wiped.
//!
//! [`Known`]: spoor_core::tls::Known

mod key_log;
pub mod memory;

use std::time::Duration;

use spoor_core::tls::Bounds;

pub use key_log::{KeyLog, KeyLogError};

/// What protected records may wait for their secret. A program writes its key log within the handshake, and a search takes a second
/// where memory is large; what is found later is not worth more memory. 4 MiB are a drawing that is sent on a new connection; all that
/// waits together has 32 MiB.
/// Connections that end meanwhile wait for three seconds: garbage collectors and Go leave secrets readable so long.
pub const WAITING: Bounds =
    Bounds { bytes: 4 << 20, time: Duration::from_secs(10), after_end: Duration::from_secs(3) };
