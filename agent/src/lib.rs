//! Socket traffic → spans of business orders: the shell around the pure core, and the command `spoor`.
//!
//! Data runs one way. The shell reads records, feeds them to [`spoor_core::pipeline::Pipeline`], the one way into the core,
//! and carries its spans away.
//!
//! ```text
//!   source ─Record─▶ spoor-core ─Span─▶ export
//! ```
//!
//! | deed | modules |
//! |---|---|
//! | where records come from | [`capture`] (the kernel), [`source`] |
//! | whose they are | [`service`] |
//! | where spans go | [`export`], [`files`] (what the agent keeps on disk) |
//! | what the agent says of itself | [`metrics`] (numbers, their port), [`telemetry`] (logs) |
//! | what drives all of it | [`config`], [`clock`], [`run`], [`cli`] |

#![forbid(unsafe_code)]

pub mod capture;
pub mod chains;
pub mod cli;
pub mod clock;
pub mod config;
pub mod export;
pub mod files;
pub mod metrics;
pub mod run;
pub mod secrets;
pub mod service;
pub mod source;
pub mod telemetry;
