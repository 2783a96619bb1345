//! Proof from outside: what the test suites share.

pub mod fuzz;
pub mod recorded;
pub mod transcript;
