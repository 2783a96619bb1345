//! OTLP requests → facts in the store and an answer to the sender.
//!
//! *Owns* the receivers, what is counted on the way, and the thread that writes. *Must not know* what facts mean.
//!
//! ```text
//! gRPC, HTTP ─ decode ─ spans → facts ─▶ bounded queue ─▶ one writer: all that waits, one commit ─▶ answers
//! ```
//!
//! A sender hears OK only after the commit. When the store refuses, it hears *unavailable* and repeats; a repetition changes
//! nothing.

mod grpc;
mod http;
pub mod lines;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

pub use self::grpc::router as grpc_router;
pub use self::http::router as http_router;
pub use self::writer::Writer;
pub(crate) use self::writer::{chain, now};
use crate::facts::{Beat, Fact, Reading, of_event, of_span};
use crate::forward::Forward;

/// Largest request, compressed or not, in bytes.
pub const MAX_REQUEST_LEN: usize = 16 << 20;

/// Takes requests from any number of senders.
#[derive(Clone, Debug)]
pub struct Intake {
    writer: Writer,
    /// Attributes that name an order, in the order in which they are tried.
    order_attributes: Arc<[String]>,
    counts: Arc<Counts>,
    forward: Option<Forward>,
}

/// What arrived since the start.
#[derive(Debug, Default)]
pub struct Counts {
    pub requests: AtomicU64,
    pub refused: AtomicU64,
    pub facts: AtomicU64,
    pub no_order: AtomicU64,
    pub signposts: AtomicU64,
    pub invalid: AtomicU64,
    /// Log records that tell of nothing that is kept.
    pub unknown: AtomicU64,
}

impl Counts {
    fn add(of: &AtomicU64, count: u64) {
        of.fetch_add(count, Ordering::Relaxed);
    }
}

/// The store did not take a request; the sender may repeat it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// What spans a request has.
#[derive(Debug, Default)]
pub struct Read {
    pub facts: Vec<Fact>,
    pub no_order: u64,
    pub signposts: u64,
    pub invalid: u64,
    pub unknown: u64,
    pub beats: Vec<Beat>,
}

impl Read {
    fn add(&mut self, reading: Reading) {
        match reading {
            Reading::Fact(fact) => self.facts.push(*fact),
            Reading::NoOrder => self.no_order += 1,
            Reading::Signpost => self.signposts += 1,
            Reading::Invalid => self.invalid += 1,
            Reading::Unknown => self.unknown += 1,
            Reading::Alive(beat) => self.beats.push(beat),
        }
    }
}

/// The facts of all log records of a request. Pure.
pub fn read_logs(request: &ExportLogsServiceRequest, order_attributes: &[String]) -> Read {
    let mut read = Read::default();
    for resource_logs in &request.resource_logs {
        for record in resource_logs.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            read.add(of_event(resource_logs.resource.as_ref(), record, order_attributes));
        }
    }
    read
}

/// The facts of all spans of a request. Pure.
pub fn read(request: &ExportTraceServiceRequest, order_attributes: &[String]) -> Read {
    let mut read = Read::default();
    for resource_spans in &request.resource_spans {
        for span in resource_spans.scope_spans.iter().flat_map(|scope| &scope.spans) {
            read.add(of_span(resource_spans.resource.as_ref(), span, order_attributes));
        }
    }
    read
}

impl Intake {
    pub fn new(
        writer: Writer,
        order_attributes: Vec<String>,
        counts: Arc<Counts>,
        forward: Option<Forward>,
    ) -> Self {
        Self { writer, order_attributes: order_attributes.into(), counts, forward }
    }

    /// What arrived since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes a request. When this returns well, all of it that concerns orders is on disk.
    pub async fn take(
        &self,
        request: ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, Unavailable> {
        Counts::add(&self.counts.requests, 1);
        let mut read = read(&request, &self.order_attributes);
        // All of it goes on, spans of no order as well.
        let onward = self.forward.as_ref().map(|forward| (forward, request.encode_to_vec()));
        drop(request);
        let facts = self.keep(&mut read).await?;
        if let Some((forward, request)) = onward {
            forward.keep(request).await.map_err(|error| {
                tracing::error!(error = %chain(&error), "a request could not be kept for another back end");
                Counts::add(&self.counts.refused, 1);
                Unavailable("the server cannot take this now".to_owned())
            })?;
        }
        self.count(facts, &read);
        let partial_success = (read.invalid > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: i64::try_from(read.invalid).unwrap_or(i64::MAX),
            error_message: "spans need a trace ID, a span ID and a start time".to_owned(),
        });
        Ok(ExportTraceServiceResponse { partial_success })
    }

    /// Takes events of open work, as [`Self::take`] takes spans. They are of this moment, and do not go on to another back end.
    pub async fn take_logs(
        &self,
        request: ExportLogsServiceRequest,
    ) -> Result<ExportLogsServiceResponse, Unavailable> {
        Counts::add(&self.counts.requests, 1);
        let mut read = read_logs(&request, &self.order_attributes);
        drop(request);
        let facts = self.keep(&mut read).await?;
        self.count(facts, &read);
        let partial_success = (read.invalid > 0).then(|| ExportLogsPartialSuccess {
            rejected_log_records: i64::try_from(read.invalid).unwrap_or(i64::MAX),
            error_message: "events of open work need a trace ID, a span ID, a time and since when".to_owned(),
        });
        Ok(ExportLogsServiceResponse { partial_success })
    }

    /// Keeps the facts of a request; how many they are.
    async fn keep(&self, read: &mut Read) -> Result<u64, Unavailable> {
        let facts = std::mem::take(&mut read.facts);
        let count = facts.len() as u64;
        let beats = std::mem::take(&mut read.beats);
        if count > 0 || !beats.is_empty() {
            self.writer.write(facts, beats).await.inspect_err(|_| Counts::add(&self.counts.refused, 1))?;
        }
        Ok(count)
    }

    fn count(&self, facts: u64, read: &Read) {
        for (of, count) in [
            (&self.counts.facts, facts),
            (&self.counts.no_order, read.no_order),
            (&self.counts.signposts, read.signposts),
            (&self.counts.invalid, read.invalid),
            (&self.counts.unknown, read.unknown),
        ] {
            Counts::add(of, count);
        }
    }
}

#[cfg(test)]
mod tests;
