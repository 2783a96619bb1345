//! Operations with their place in a tree → finished [`Span`]s.
//!
//! *Owns* span names, kinds, statuses and attributes (OpenTelemetry semantic conventions, see [`semconv`]).
//! *Must not know* how spans travel, nor how their parents were found.

mod amqp;
pub mod build;
mod calls;
mod http;
mod postgres;
mod rpc;
mod s3;
pub mod sample;
pub mod semconv;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use crate::causality::{Confidence, Rule};
use crate::privacy;
use crate::time::WallTime;
use crate::trace::{Attributes, SpanId, TraceId};

/// OpenTelemetry's span kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// OpenTelemetry's span status. `Error` may carry a description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    #[default]
    Unset,
    Error(String),
}

/// Who a span belongs to: becomes one OTLP resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resource {
    /// `service.name`.
    pub service: String,
    pub service_namespace: Option<String>,
    /// `service.instance.id`.
    pub instance: String,
    pub pid: Option<u32>,
    pub exe: Option<String>,
    pub container_id: Option<String>,
    /// Further resource attributes the shell found: Kubernetes, the process' own declaration.
    pub attributes: Vec<(String, String)>,
}

/// A reference to another span.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub attributes: Attributes,
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    pub name: &'static str,
    pub at: WallTime,
    pub attributes: Attributes,
}

/// Why a span has its parent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    pub rule: Rule,
    pub confidence: Confidence,
}

/// A finished span with its identifiers.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent: Option<SpanId>,
    /// `None` for roots. Also exported as `spoor.parent.rule` and `spoor.parent.confidence`.
    pub evidence: Option<Evidence>,
    pub name: String,
    pub kind: SpanKind,
    pub start: WallTime,
    pub end: WallTime,
    pub status: Status,
    pub attributes: Attributes,
    pub links: Vec<Link>,
    pub events: Vec<SpanEvent>,
    pub resource: Arc<Resource>,
    /// It is exported. What is not is still part of the durations that metrics show.
    pub sampled: bool,
}

impl privacy::Outgoing for Span {
    fn name(&mut self) -> &mut String {
        &mut self.name
    }

    fn description(&mut self) -> Option<&mut String> {
        match &mut self.status {
            Status::Error(description) => Some(description),
            Status::Unset => None,
        }
    }

    fn attributes(&mut self, visit: &mut dyn FnMut(&mut Attributes)) {
        visit(&mut self.attributes);
        self.links.iter_mut().for_each(|link| visit(&mut link.attributes));
        self.events.iter_mut().for_each(|event| visit(&mut event.attributes));
    }
}
