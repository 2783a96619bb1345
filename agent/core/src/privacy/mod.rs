//! What is known → what may leave the process.
//!
//! *Owns* what counts as personal or secret. *Must not know* where texts come from, nor where they go.

pub mod pseudonym;
pub mod redact;
