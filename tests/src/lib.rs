//! Proof from outside: what the test suites share.

#![forbid(unsafe_code)]

pub mod agent;
pub mod customers;
pub mod flow;
pub mod forest;
pub mod fuzz;
pub mod kernel;
pub mod peers;
pub mod recorded;
pub mod sink;
pub mod skip;
pub mod spoor;
pub mod transcript;
pub mod truth;
