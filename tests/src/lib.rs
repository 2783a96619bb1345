//! Proof from outside: what the test suites share.

pub mod sink;
pub mod transcript;
