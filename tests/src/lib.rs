//! Proof from outside: the harness that the tests share.

pub mod kernel;
