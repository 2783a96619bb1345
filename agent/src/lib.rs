//! Spoor: socket traffic in, spans of business orders out.
//!
//! Data runs one way. The pure core has no I/O, no clock and no `await`: records come in with the times the kernel gave
//! them, and spans wait to be taken. The shell reads records, feeds them to [`pipeline::Pipeline`], the one way into
//! the core, and carries its spans away.
//!
//! ```text
//!   source ─Record─▶ pipeline: conn ▶ stream ▶ protocol ─Operation─▶ order, causality ─▶ span ─Span─▶ export
//! ```
//!
//! | part | modules |
//! |---|---|
//! | core, in the order of the data | [`time`], [`record`], [`conn`], [`stream`], [`protocol`], [`operation`], [`sql`], [`order`], [`causality`], [`span`], [`pipeline`] |
//! | shell | [`admin`] (probes and Prometheus), [`capture`] (the kernel), [`source`], [`service`], [`config`], [`export`], [`files`] (what the agent keeps on disk), [`clock`], [`telemetry`] (the agent's own logs), [`run`], [`cli`] |
//!
//! `cargo xtask tidy` checks that the core names nothing of the shell, and that each stage names only earlier ones.

#![forbid(unsafe_code)]

// The shell.
pub mod admin;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod export;
pub mod files;
pub mod run;
pub mod service;
pub mod source;
pub mod telemetry;
