//! [`Span`]s and the [`Host`] they were seen on in, `opentelemetry-proto` messages out.
//!
//! *Owns* the mapping of our types to OTLP and the size of a request. Pure.
//! *Spec*: opentelemetry-proto v1.11 `trace.proto`, `resource.proto`; semantic conventions 1.44.0 `resource/`.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{self as proto, ResourceSpans, ScopeSpans};
use prost::Message;

use crate::causality::Rule;
use crate::export::Host;
use crate::span::{Attributes, Resource, Span, SpanKind, Status, Value};

/// Attribute names follow this version of the semantic conventions.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// `Span.flags`, bits 0–7: W3C trace flags, of which `sampled` holds for whatever is exported.
const SAMPLED: u32 = 0x001;
/// Bit 8: whether the parent is in another process is known.
const REMOTE_KNOWN: u32 = 0x100;
/// Bit 9: it is.
const REMOTE: u32 = 0x200;

/// Length prefixes and tags around a nested message: one byte of tag, at most five of length.
const NESTING: usize = 6;

/// All spans in one request, grouped by resource, in the order given.
pub fn request<'a>(spans: impl IntoIterator<Item = &'a Span>, host: &Host) -> ExportTraceServiceRequest {
    let mut batcher = Batcher::new(host.clone(), usize::MAX);
    for span in spans {
        batcher.push(span);
    }
    batcher.take().map(|batch| batch.request).unwrap_or_default()
}

/// A request with what the queues need to know about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    pub request: ExportTraceServiceRequest,
    pub span_count: u32,
}

/// What became of a span given to a [`Batcher`].
#[derive(Debug)]
pub enum Pushed {
    /// It is in the batch being built.
    Kept,
    /// It did not fit any more: here is the batch before it, and the span is in the next one.
    Full(Box<Request>),
    /// It alone is larger than a request may be. It was discarded.
    TooLarge,
}

/// Builds requests of at most `max_bytes`, encoded.
#[derive(Debug)]
pub struct Batcher {
    host: Host,
    max_bytes: usize,
    groups: Vec<ResourceSpans>,
    by_resource: HashMap<Arc<Resource>, usize>,
    /// The group of the last span: spans of one service tend to follow each other.
    last: Option<(Arc<Resource>, usize)>,
    bytes: usize,
    span_count: u32,
}

impl Batcher {
    pub fn new(host: Host, max_bytes: usize) -> Self {
        let by_resource = HashMap::new();
        Self { host, max_bytes, groups: Vec::new(), by_resource, last: None, bytes: 0, span_count: 0 }
    }

    /// Spans in the batch being built.
    pub fn span_count(&self) -> u32 {
        self.span_count
    }

    /// Upper bound of the encoded size of the batch being built.
    pub fn len_bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, span: &Span) -> Pushed {
        let encoded = encode_span(span);
        let span_len = encoded.encoded_len() + NESTING;
        let known = self.group_of(&span.resource);
        let group = match known {
            Some(_) => None,
            None => Some(empty_group(&span.resource, &self.host)),
        };
        let group_len = group.as_ref().map_or(0, |group| group.encoded_len() + 2 * NESTING);
        let needed = span_len + group_len;
        if self.bytes.saturating_add(needed) <= self.max_bytes {
            let index = known.unwrap_or(self.groups.len());
            self.groups.extend(group);
            self.add(index, &span.resource, encoded, needed);
            return Pushed::Kept;
        }
        let full = self.take();
        let group = group.unwrap_or_else(|| empty_group(&span.resource, &self.host));
        let needed = span_len + group.encoded_len() + 2 * NESTING;
        if needed > self.max_bytes {
            // What was built before it stays; nothing is sent early for a span that is not kept.
            if let Some(full) = full {
                self.restore(full);
            }
            return Pushed::TooLarge;
        }
        self.groups.push(group);
        self.add(0, &span.resource, encoded, needed);
        full.map_or(Pushed::Kept, |full| Pushed::Full(Box::new(full)))
    }

    /// The batch built so far, `None` when it is empty.
    pub fn take(&mut self) -> Option<Request> {
        self.by_resource.clear();
        self.last = None;
        self.bytes = 0;
        let span_count = std::mem::take(&mut self.span_count);
        let resource_spans = std::mem::take(&mut self.groups);
        (span_count > 0)
            .then_some(Request { request: ExportTraceServiceRequest { resource_spans }, span_count })
    }

    fn restore(&mut self, batch: Request) {
        self.bytes = batch.request.encoded_len() + batch.request.resource_spans.len() * 2 * NESTING;
        self.groups = batch.request.resource_spans;
        self.span_count = batch.span_count;
        // Groups are looked up by our own resource, which is gone: later spans open a group of their own.
    }

    fn group_of(&mut self, resource: &Arc<Resource>) -> Option<usize> {
        if let Some((last, index)) = &self.last
            && Arc::ptr_eq(last, resource)
        {
            return Some(*index);
        }
        self.by_resource.get(resource).copied()
    }

    fn add(&mut self, index: usize, resource: &Arc<Resource>, span: proto::Span, len: usize) {
        self.by_resource.entry(resource.clone()).or_insert(index);
        self.last = Some((resource.clone(), index));
        if let Some(scope) = self.groups.get_mut(index).and_then(|group| group.scope_spans.first_mut()) {
            scope.spans.push(span);
            self.span_count += 1;
            self.bytes += len;
        }
    }
}

fn empty_group(resource: &Resource, host: &Host) -> ResourceSpans {
    let scope = InstrumentationScope {
        name: "spoor".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    ResourceSpans {
        resource: Some(ProtoResource {
            attributes: resource_attributes(resource, host),
            ..Default::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(scope),
            spans: Vec::new(),
            schema_url: SCHEMA_URL.to_owned(),
        }],
        schema_url: SCHEMA_URL.to_owned(),
    }
}

/// Attributes of a service on a host (semantic conventions, "Resource"); what is unknown is left out.
fn resource_attributes(resource: &Resource, host: &Host) -> Vec<KeyValue> {
    let name = match (resource.service.as_str(), resource.exe.as_deref().map(base_name)) {
        // service.name: "MUST fallback to `unknown_service:` concatenated with process.executable.name".
        ("", Some(exe)) if !exe.is_empty() => format!("unknown_service:{exe}"),
        ("", _) => "unknown_service".to_owned(),
        (name, _) => name.to_owned(),
    };
    let mut attributes = vec![text("service.name", name)];
    let mut optional = |key: &'static str, value: &str| {
        if !value.is_empty() {
            attributes.push(text(key, value.to_owned()));
        }
    };
    optional("service.namespace", resource.service_namespace.as_deref().unwrap_or_default());
    optional("service.instance.id", &resource.instance);
    optional("process.executable.path", resource.exe.as_deref().unwrap_or_default());
    optional("process.executable.name", resource.exe.as_deref().map(base_name).unwrap_or_default());
    optional("container.id", resource.container_id.as_deref().unwrap_or_default());
    for (key, value) in &resource.attributes {
        attributes.push(text(key, value.clone()));
    }
    let mut optional = |key: &'static str, value: &str| {
        if !value.is_empty() {
            attributes.push(text(key, value.to_owned()));
        }
    };
    optional("host.id", &host.id);
    optional("host.name", &host.name);
    optional("host.arch", host.arch);
    optional("os.version", &host.kernel);
    optional("spoor.rules.digest", &host.rules_digest);
    attributes.push(text("os.type", "linux".to_owned()));
    attributes.push(text("telemetry.distro.name", "spoor".to_owned()));
    attributes.push(text("telemetry.distro.version", env!("CARGO_PKG_VERSION").to_owned()));
    if let Some(pid) = resource.pid {
        attributes.push(key_value("process.pid", Any::IntValue(i64::from(pid))));
    }
    attributes
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// One span as `opentelemetry.proto.trace.v1.Span`.
pub fn encode_span(span: &Span) -> proto::Span {
    let mut attributes = encode_attributes(&span.attributes);
    if let Some(evidence) = span.evidence {
        if span.attributes.get("spoor.parent.rule").is_none() {
            attributes.push(text("spoor.parent.rule", evidence.rule.name().to_owned()));
        }
        if span.attributes.get("spoor.parent.confidence").is_none() {
            attributes
                .push(key_value("spoor.parent.confidence", Any::DoubleValue(rounded(evidence.confidence.0))));
        }
    }
    let remote =
        span.evidence.map_or(0, |evidence| if crosses_processes(evidence.rule) { REMOTE } else { 0 });
    proto::Span {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        trace_state: String::new(),
        parent_span_id: span.parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
        flags: SAMPLED | REMOTE_KNOWN | remote,
        name: span.name.clone(),
        kind: encode_kind(span.kind) as i32,
        start_time_unix_nano: span.start_unix_ns,
        // trace.proto: the end is at or after the start.
        end_time_unix_nano: span.end_unix_ns.max(span.start_unix_ns),
        attributes,
        dropped_attributes_count: 0,
        events: span
            .events
            .iter()
            .map(|event| Event {
                time_unix_nano: event.unix_ns,
                name: event.name.to_owned(),
                attributes: encode_attributes(&event.attributes),
                dropped_attributes_count: 0,
            })
            .collect(),
        dropped_events_count: 0,
        links: span
            .links
            .iter()
            .map(|link| Link {
                trace_id: link.trace_id.0.to_vec(),
                span_id: link.span_id.0.to_vec(),
                trace_state: String::new(),
                attributes: encode_attributes(&link.attributes),
                dropped_attributes_count: 0,
                flags: SAMPLED,
            })
            .collect(),
        dropped_links_count: 0,
        status: match &span.status {
            Status::Unset => None,
            Status::Error(message) => Some(proto::Status {
                message: message.clone(),
                code: proto::status::StatusCode::Error as i32,
            }),
        },
    }
}

/// Whether a rule joins a span to one of another process.
fn crosses_processes(rule: Rule) -> bool {
    matches!(rule, Rule::Context | Rule::Wire | Rule::Message)
}

fn encode_kind(kind: SpanKind) -> proto::span::SpanKind {
    match kind {
        SpanKind::Internal => proto::span::SpanKind::Internal,
        SpanKind::Server => proto::span::SpanKind::Server,
        SpanKind::Client => proto::span::SpanKind::Client,
        SpanKind::Producer => proto::span::SpanKind::Producer,
        SpanKind::Consumer => proto::span::SpanKind::Consumer,
    }
}

fn encode_attributes(attributes: &Attributes) -> Vec<KeyValue> {
    attributes.iter().map(|(key, value)| key_value(key, encode_value(value))).collect()
}

fn encode_value(value: &Value) -> Any {
    match value {
        Value::Text(text) => Any::StringValue(text.clone()),
        Value::Int(number) => Any::IntValue(*number),
        Value::Float(number) => Any::DoubleValue(*number),
        Value::Bool(truth) => Any::BoolValue(*truth),
        Value::Texts(texts) => {
            let values = texts.iter().map(|text| AnyValue { value: Some(Any::StringValue(text.clone())) });
            Any::ArrayValue(ArrayValue { values: values.collect() })
        }
    }
}

fn text(key: &str, value: String) -> KeyValue {
    key_value(key, Any::StringValue(value))
}

fn key_value(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

/// `0.95_f32` as the double 0.95, not 0.949999988.
fn rounded(confidence: f32) -> f64 {
    (f64::from(confidence) * 1000.0).round() / 1000.0
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
