//! Spoor: socket traffic in, spans of business orders out.
//!
//! Data runs one way. The pure core ([`record`] to [`span`]) has no I/O, no clock and no `await`; the shell
//! ([`source`], `capture`, `process`, [`export`], `cli`) feeds it and carries its spans away.
//! [`pipeline::Pipeline`] is the one façade between both.

#![forbid(unsafe_code)]

// The pure core, in the order data flows through it.
pub mod conn;
pub mod record;
pub mod stream;

pub mod protocol;

pub mod operation;

pub mod sql;

pub mod causality;
pub mod order;

pub mod span;

pub mod pipeline;

// The shell.
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod export;
pub mod process;
pub mod run;
pub mod source;
pub mod telemetry;
