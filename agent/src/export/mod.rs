//! Finished [`Span`](spoor_core::span::Span)s → OTLP requests, spool segments, trees and JSON lines.
//!
//! ```text
//!   Span ─▶ encode::Batcher ─▶ Batch ─▶ queue (memory) ─▶ otlp::Client ─▶ back end
//!                                         ╰─▶ spool (disk) ─╯   while the back end is away
//!   OpenWork ─▶ encode::Batcher ─▶ open_work ─▶ otlp::Client ─▶ back end, as logs
//! ```
//!
//! *Owns* the wire form of spans, delivery with retries, and what is kept while the back end is away.
//! *Must not know* how spans came to be. Only this module names `opentelemetry*`.
//! *Spec*: opentelemetry-proto v1.11 (`docs/specification.md`), OpenTelemetry specification v1.60
//! (`specification/protocol/exporter.md`).

pub mod exporter;
pub mod file;
pub mod host;
pub mod metrics;
pub mod open_work;
pub mod otlp;
pub mod queue;
pub mod spool;
pub mod tree;
mod worker;

pub use exporter::{Exporter, Totals};
pub use host::Host;
pub use open_work::Teller;
