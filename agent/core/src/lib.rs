//! Records → spans: the pure core of Spoor.
//!
//! Data runs one way. There is no I/O, no clock and no `await`: records come in with the times the kernel gave them, and
//! spans wait to be taken. The live agent, `spoor replay`, the tests and the fuzzers drive the same façade,
//! [`pipeline::Pipeline`].
//!
//! ```text
//!   Record ─▶ conn ▶ stream ▶ tls ▶ protocol ─Operation─▶ order, causality ─Edge─▶ trees ─▶ span ─▶ Span
//! ```
//!
//! | floor | modules, each of which names only those above it |
//! |---|---|
//! | ground | `account`, [`hash`], [`bounded`], [`time`], `queue`, `work`, [`record`], [`trace`], [`settings`], [`percent`], [`charset`], [`sql`], [`stream`], [`tls`], [`privacy`] |
//! | what bytes say | [`operation`], [`protocol`], [`conn`] |
//! | whose they are | [`order`], [`causality`] |
//! | what leaves | [`span`], [`pipeline`] |
//!
//! What this crate does not do, its `Cargo.toml` proves: it names no runtime, kernel, exporter or network.

#![forbid(unsafe_code)]

mod account;
pub mod bounded;
pub mod causality;
pub mod charset;
pub mod conn;
pub mod hash;
pub mod operation;
pub mod order;
pub mod percent;
pub mod pipeline;
pub mod privacy;
pub mod protocol;
mod queue;
pub mod record;
pub mod settings;
pub mod span;
pub mod sql;
pub mod stream;
pub mod time;
pub mod tls;
pub mod trace;
mod trees;
mod work;
