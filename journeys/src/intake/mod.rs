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

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

pub use self::grpc::router as grpc_router;
pub use self::http::router as http_router;
pub use self::writer::Writer;
pub(crate) use self::writer::{chain, now};
use crate::facts::{Fact, Reading, of_span};
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
}

/// The facts of all spans of a request. Pure.
pub fn read(request: &ExportTraceServiceRequest, order_attributes: &[String]) -> Read {
    let mut read = Read::default();
    for resource_spans in &request.resource_spans {
        for span in resource_spans.scope_spans.iter().flat_map(|scope| &scope.spans) {
            match of_span(resource_spans.resource.as_ref(), span, order_attributes) {
                Reading::Fact(fact) => read.facts.push(*fact),
                Reading::NoOrder => read.no_order += 1,
                Reading::Signpost => read.signposts += 1,
                Reading::Invalid => read.invalid += 1,
            }
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
        let read = read(&request, &self.order_attributes);
        // All of it goes on, spans of no order as well.
        let onward = self.forward.as_ref().map(|forward| (forward, request.encode_to_vec()));
        drop(request);
        let facts = read.facts.len() as u64;
        if facts > 0 {
            self.writer.write(read.facts).await.inspect_err(|_| Counts::add(&self.counts.refused, 1))?;
        }
        if let Some((forward, request)) = onward {
            forward.keep(request).await.map_err(|error| {
                tracing::error!(error = %chain(&error), "a request could not be kept for another back end");
                Counts::add(&self.counts.refused, 1);
                Unavailable("the server cannot take this now".to_owned())
            })?;
        }
        Counts::add(&self.counts.facts, facts);
        Counts::add(&self.counts.no_order, read.no_order);
        Counts::add(&self.counts.signposts, read.signposts);
        Counts::add(&self.counts.invalid, read.invalid);
        let partial_success = (read.invalid > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: i64::try_from(read.invalid).unwrap_or(i64::MAX),
            error_message: "spans need a trace ID, a span ID and a start time".to_owned(),
        });
        Ok(ExportTraceServiceResponse { partial_success })
    }
}

#[cfg(test)]
mod tests;
