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

/// The name of a queue as spans show it: what stands for one thing only, and what is secret or personal, is replaced.
pub(crate) use self::amqp::shown_destination as destination;
pub(crate) use self::http::is_shown;
use crate::causality::{Confidence, Rule};
use crate::privacy;
use crate::time::WallTime;
use crate::trace::{Attributes, SpanId, TraceId, Value, beginning};

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

/// Bytes of a text that leave. Longer ones come from malice, or are of no use to a reader: back ends cut them, or refuse the batch.
pub const MAX_TEXT: usize = 4096;
/// The same of a span's name, by which back ends group.
const MAX_NAME: usize = 512;

impl Span {
    /// What is kept of it to be told of later: of its attributes those that are wanted, of links and events none.
    pub(crate) fn outline(&self, is_wanted: impl FnMut(&str) -> bool) -> Self {
        Self {
            name: self.name.clone(),
            status: self.status.clone(),
            attributes: self.attributes.only(is_wanted),
            links: Vec::new(),
            events: Vec::new(),
            resource: Arc::clone(&self.resource),
            ..*self
        }
    }

    /// Cuts texts that are too long, after everything that looks for something in them, and says which.
    pub(crate) fn bound(&mut self) {
        let mut cut = Vec::new();
        self.attributes.bound(MAX_TEXT, |name| cut.push(name.to_owned()));
        if self.name.len() > MAX_NAME {
            self.name = beginning(&self.name, MAX_NAME).to_owned();
            cut.push("name".to_owned());
        }
        if let Status::Error(description) = &mut self.status
            && description.len() > MAX_TEXT
        {
            *description = beginning(description, MAX_TEXT).to_owned();
            cut.push("status".to_owned());
        }
        if cut.is_empty() {
            return;
        }
        // A target that was cut when it was read may have been named already.
        if let Some(Value::Texts(known)) = self.attributes.get(semconv::SPOOR_TRUNCATED) {
            cut.extend(known.iter().filter(|name| !cut.contains(name)).cloned().collect::<Vec<_>>());
        }
        self.attributes.set(semconv::SPOOR_TRUNCATED, Value::Texts(cut));
    }
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
