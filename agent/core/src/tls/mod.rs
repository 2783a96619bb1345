//! Ciphertext of a TLS connection and its secrets → the plaintext, byte for byte where it stands on the wire.
//!
//! ```text
//!   Chunk ─▶ record ─Piece─▶ session ─▶ half ─▶ cipher ─▶ Chunk in plaintext positions
//!                              │ hello    │ positions: plaintext ⇄ wire
//!   key log, memory ─Known─▶ secret       schedule, suite
//!
//!   session ─Proof─▶ search ◀─ pieces of memory: what opens a record is its secret ─▶ Known
//! ```
//!
//! TLS 1.3 and 1.2 are opened. A record opens by its tag or not at all, so a secret that belongs to another connection, or to
//! none, opens nothing: a wrong association is not possible. The one exception: of a record of which only the beginning was
//! captured that beginning is shown without its tag, after other records have proven the secret.
//!
//! *Owns* framing, key schedules, opening and positions. *Must not know* processes, files, protocols above TLS.
//! *Spec*: RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 5288, RFC 7905, RFC 7366, RFC 9850.

mod cipher;
mod half;
mod hello;
pub mod keylog;
mod older;
mod positions;
mod proof;
mod record;
mod schedule;
pub mod search;
pub mod secret;
mod session;
mod suite;
#[cfg(test)]
mod tests;

pub use proof::Proof;
pub use secret::{ClientRandom, Known, Label, Origin, Secret, Secrets};
pub use session::{Bounds, Cause, Counts, Facts, Phase, Session};
pub use suite::Version;
