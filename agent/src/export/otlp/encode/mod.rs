//! [`Span`]s and the [`Host`] they were seen on → the bytes of an `ExportTraceServiceRequest`; events of open work → those of an
//! `ExportLogsServiceRequest`, which has the same fields around its records (`open_work`).
//!
//! *Owns* the mapping of our types to OTLP and the size of a request. Pure.
//! *Spec*: opentelemetry-proto v1.11 `trace.proto`, `resource.proto`; semantic conventions 1.44.0 `resource/`.

mod open_work;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::protobuf::Writer;
use crate::export::Host;
use crate::export::queue::{Sender, Share};
use spoor_core::causality::Rule;
use spoor_core::pipeline::OpenWork;
use spoor_core::span::{Link, Resource, Span, SpanEvent, SpanKind, Status};
use spoor_core::trace::{Attributes, Value};

/// Attribute names follow this version of the semantic conventions.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// `Span.flags`, bits 0–7: W3C trace flags, of which `sampled` holds for whatever is exported.
const SAMPLED: u32 = 0x001;
/// Bit 8: whether the parent is in another process is known.
const REMOTE_KNOWN: u32 = 0x100;
/// Bit 9: it is.
const REMOTE: u32 = 0x200;

/// `Status.code` of an error.
const STATUS_ERROR: u64 = 2;

/// Resources that are recognised without being compared.
const LATEST: usize = 8;
/// Room of batches before that is used again: so many bytes of it in all. Growing to it anew copies every span twice.
const SPARE: usize = 512 << 10;

/// Length prefixes and tags around a nested message: one byte of tag, at most five of length.
const NESTING: usize = 6;

/// All spans in one request, grouped by resource, in the order given, as the generated types that know the JSON mapping.
pub fn request<'a>(spans: impl IntoIterator<Item = &'a Span>, host: &Host) -> ExportTraceServiceRequest {
    let mut batcher = Batcher::new(host.clone(), usize::MAX);
    for span in spans {
        batcher.push(span);
    }
    let payload = batcher.take().map(|batch| batch.payload).unwrap_or_default();
    // It was written here: it can be read.
    ExportTraceServiceRequest::decode(payload.as_slice()).unwrap_or_default()
}

/// A request with what the queues need to know about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// An `ExportTraceServiceRequest`.
    pub payload: Vec<u8>,
    pub span_count: u32,
    /// Whose spans are where: a `ResourceSpans` each.
    pub shares: Vec<Share>,
}

/// What became of a span given to a [`Batcher`].
#[derive(Debug)]
pub enum Pushed {
    /// It is in the batch being built.
    Kept,
    /// It did not fit any more: here is the batch before it, and the span is in the next one.
    Full(Request),
    /// It alone is larger than a request may be. It was discarded.
    TooLarge,
}

/// The spans of one resource.
#[derive(Debug)]
struct Group {
    /// The fields of `ResourceSpans` but its spans.
    resource: Vec<u8>,
    /// The field `spans` of `ScopeSpans`, again and again.
    spans: Vec<u8>,
    span_count: u32,
    sender: Sender,
}

/// Builds requests of at most `max_bytes`, encoded; smaller ones where the back end takes no such, but never at the price of a span.
#[derive(Debug)]
pub struct Batcher {
    host: Host,
    /// What the configuration allows: a span that is alone larger is discarded.
    max_bytes: usize,
    /// What the back end was seen to take: a request with more than one span is no larger.
    aim_bytes: usize,
    /// The fields of `ScopeSpans` but its spans.
    scope: Vec<u8>,
    groups: Vec<Group>,
    by_resource: HashMap<Arc<Resource>, usize>,
    /// The groups of the last spans: those of few services alternate, and nearly all share their resource.
    latest: VecDeque<(Arc<Resource>, usize)>,
    bytes: usize,
    span_count: u32,
    /// The span being added.
    span: Writer,
    /// Empty, with the room that groups before had.
    spare: Vec<Vec<u8>>,
    /// Bytes of spans that the largest group of the last batch had: the first group of the next one has room for as many.
    usual: usize,
}

impl Batcher {
    pub fn new(host: Host, max_bytes: usize) -> Self {
        Self {
            host,
            max_bytes,
            aim_bytes: max_bytes,
            scope: scope(),
            groups: Vec::new(),
            by_resource: HashMap::new(),
            latest: VecDeque::with_capacity(LATEST),
            bytes: 0,
            span_count: 0,
            span: Writer::default(),
            spare: Vec::new(),
            usual: 0,
        }
    }

    /// From the next span on, requests of several spans are no larger than this; never larger than before. A single span may be:
    /// whether the back end takes it is the back end's to say.
    pub fn lower_aim(&mut self, aim_bytes: usize) {
        self.aim_bytes = self.aim_bytes.min(aim_bytes);
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
        self.span.clear();
        write_span(&mut self.span, span);
        self.push_written(&span.resource)
    }

    /// The same for events: one batcher has either.
    pub fn push_event(&mut self, event: &OpenWork) -> Pushed {
        self.span.clear();
        open_work::write(&mut self.span, event);
        self.push_written(&event.span.resource)
    }

    /// The agent itself says that it is there, at a time in nanoseconds since 1970.
    pub fn push_alive(
        &mut self,
        agent: &Arc<Resource>,
        at_ns: u64,
        every: Duration,
        services: &BTreeSet<String>,
    ) -> Pushed {
        self.span.clear();
        open_work::write_alive(&mut self.span, at_ns, every, services);
        self.push_written(agent)
    }

    /// Adds what was written last.
    fn push_written(&mut self, of: &Arc<Resource>) -> Pushed {
        let span_len = self.span.len() + NESTING;
        if let Some(index) = self.group_of(of)
            && self.bytes.saturating_add(span_len) <= self.aim_bytes
        {
            self.add(index, of, span_len);
            return Pushed::Kept;
        }
        let resource = encode_resource(of, &self.host);
        let needed = span_len + resource.len() + self.scope.len() + 2 * NESTING;
        // Nothing is sent early for a span that is not kept.
        if needed > self.max_bytes {
            return Pushed::TooLarge;
        }
        let full = if self.bytes + needed > self.aim_bytes { self.take() } else { None };
        let mut spans = self.spare.pop().unwrap_or_default();
        if self.groups.is_empty() {
            spans.reserve(self.usual);
        }
        self.groups.push(Group { resource, spans, span_count: 0, sender: sender(of) });
        self.add(self.groups.len() - 1, of, needed);
        full.map_or(Pushed::Kept, Pushed::Full)
    }

    /// The batch built so far, `None` when it is empty.
    pub fn take(&mut self) -> Option<Request> {
        self.by_resource.clear();
        self.latest.clear();
        let mut payload = Writer::with_capacity(std::mem::take(&mut self.bytes));
        let mut prefix = Writer::default();
        self.spare.clear();
        let mut room = SPARE;
        self.usual = self.groups.iter().map(|group| group.spans.len()).max().unwrap_or_default();
        let mut shares = Vec::with_capacity(self.groups.len());
        for Group { resource, mut spans, span_count, sender } in self.groups.drain(..) {
            let start = payload.len();
            // ResourceSpans.scope_spans
            prefix.clear();
            prefix.prefix(2, self.scope.len() + spans.len());
            // ExportTraceServiceRequest.resource_spans
            payload.parts(1, &[&resource, prefix.as_bytes(), &self.scope, &spans]);
            shares.push(Share { sender, range: start..payload.len(), span_count });
            if let Some(left) = room.checked_sub(spans.capacity()) {
                room = left;
                spans.clear();
                self.spare.push(spans);
            }
        }
        let span_count = std::mem::take(&mut self.span_count);
        (span_count > 0).then_some(Request { payload: payload.into_bytes(), span_count, shares })
    }

    fn group_of(&self, resource: &Arc<Resource>) -> Option<usize> {
        self.latest_group(resource).or_else(|| self.by_resource.get(resource).copied())
    }

    fn latest_group(&self, resource: &Arc<Resource>) -> Option<usize> {
        self.latest.iter().find(|(latest, _)| Arc::ptr_eq(latest, resource)).map(|(_, index)| *index)
    }

    /// Adds the span that has been written to a group.
    fn add(&mut self, index: usize, resource: &Arc<Resource>, len: usize) {
        if self.latest_group(resource).is_none() {
            self.by_resource.entry(resource.clone()).or_insert(index);
            if self.latest.len() == LATEST {
                self.latest.pop_front();
            }
            self.latest.push_back((resource.clone(), index));
        }
        if let Some(group) = self.groups.get_mut(index) {
            // ScopeSpans.spans
            let mut spans = Writer::onto(std::mem::take(&mut group.spans));
            spans.bytes(2, self.span.as_bytes());
            group.spans = spans.into_bytes();
            group.span_count += 1;
            self.span_count += 1;
            self.bytes += len;
        }
    }
}

/// Who shares the queue's room with others: a container, for it can hold programs of any name; outside of one, a service.
fn sender(resource: &Resource) -> Sender {
    let mut hasher = DefaultHasher::new();
    match &resource.container_id {
        Some(container) => container.hash(&mut hasher),
        None => (&resource.service, &resource.service_namespace).hash(&mut hasher),
    }
    Sender(hasher.finish())
}

/// `ScopeSpans` without spans.
fn scope() -> Vec<u8> {
    let mut to = Writer::default();
    // scope: InstrumentationScope
    to.message(1, |to| {
        to.bytes(1, b"spoor");
        to.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
    });
    // schema_url
    to.bytes(3, SCHEMA_URL.as_bytes());
    to.into_bytes()
}

/// `ResourceSpans` without spans.
fn encode_resource(resource: &Resource, host: &Host) -> Vec<u8> {
    let mut to = Writer::default();
    // resource: Resource
    to.message(1, |to| write_resource(to, resource, host));
    // schema_url
    to.bytes(3, SCHEMA_URL.as_bytes());
    to.into_bytes()
}

/// Attributes of a service on a host (semantic conventions, "Resource"); what is unknown is left out.
fn write_resource(to: &mut Writer, resource: &Resource, host: &Host) {
    // Resource.attributes
    let mut text = |key: &str, value: &str| {
        if !value.is_empty() {
            to.text_pair(1, key, value);
        }
    };
    match (resource.service.as_str(), resource.exe.as_deref().map(base_name)) {
        // service.name: "MUST fallback to `unknown_service:` concatenated with process.executable.name".
        ("", Some(exe)) if !exe.is_empty() => text("service.name", &format!("unknown_service:{exe}")),
        ("", _) => text("service.name", "unknown_service"),
        (name, _) => text("service.name", name),
    }
    text("service.namespace", resource.service_namespace.as_deref().unwrap_or_default());
    text("service.instance.id", &resource.instance);
    text("process.executable.path", resource.exe.as_deref().unwrap_or_default());
    text("process.executable.name", resource.exe.as_deref().map(base_name).unwrap_or_default());
    text("container.id", resource.container_id.as_deref().unwrap_or_default());
    for (key, value) in &resource.attributes {
        text(key, value);
    }
    text("host.id", &host.id);
    text("host.name", &host.name);
    text("host.arch", host.arch);
    text("os.version", &host.kernel);
    text("spoor.rules.digest", &host.rules_digest);
    text("os.type", "linux");
    text("telemetry.distro.name", "spoor");
    text("telemetry.distro.version", env!("CARGO_PKG_VERSION"));
    if let Some(pid) = resource.pid {
        write_attribute(to, 1, "process.pid", &Value::Int(i64::from(pid)));
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// One span as `opentelemetry.proto.trace.v1.Span`. Fields with their default value are left out.
fn write_span(to: &mut Writer, span: &Span) {
    to.bytes(1, &span.trace_id.0);
    to.bytes(2, &span.span_id.0);
    if let Some(parent) = &span.parent {
        to.bytes(4, &parent.0);
    }
    to.bytes(5, span.name.as_bytes());
    to.varint(6, kind(span.kind));
    to.fixed64(7, span.start.as_nanos());
    // trace.proto: the end is at or after the start.
    to.fixed64(8, span.end.max(span.start).as_nanos());
    write_attributes(to, 9, &span.attributes);
    if let Some(evidence) = span.evidence {
        if span.attributes.get("spoor.parent.rule").is_none() {
            to.text_pair(9, "spoor.parent.rule", evidence.rule.name());
        }
        if span.attributes.get("spoor.parent.confidence").is_none() {
            let confidence = Value::Float(rounded(evidence.confidence.0));
            write_attribute(to, 9, "spoor.parent.confidence", &confidence);
        }
    }
    span.events.iter().for_each(|event| to.message(11, |to| write_event(to, event)));
    span.links.iter().for_each(|link| to.message(13, |to| write_link(to, link)));
    if let Status::Error(message) = &span.status {
        to.message(15, |to| {
            to.bytes(2, message.as_bytes());
            to.varint(3, STATUS_ERROR);
        });
    }
    let remote =
        span.evidence.map_or(0, |evidence| if crosses_processes(evidence.rule) { REMOTE } else { 0 });
    to.fixed32(16, SAMPLED | REMOTE_KNOWN | remote);
}

/// `Span.Event`.
fn write_event(to: &mut Writer, event: &SpanEvent) {
    to.fixed64(1, event.at.as_nanos());
    to.bytes(2, event.name.as_bytes());
    write_attributes(to, 3, &event.attributes);
}

/// `Span.Link`.
fn write_link(to: &mut Writer, link: &Link) {
    to.bytes(1, &link.trace_id.0);
    to.bytes(2, &link.span_id.0);
    write_attributes(to, 4, &link.attributes);
    to.fixed32(6, SAMPLED);
}

/// Whether a rule joins a span to one of another process.
fn crosses_processes(rule: Rule) -> bool {
    matches!(rule, Rule::Context | Rule::Wire | Rule::Message)
}

/// `Span.SpanKind`.
fn kind(kind: SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn write_attributes(to: &mut Writer, field: u32, attributes: &Attributes) {
    attributes.iter().for_each(|(key, value)| write_attribute(to, field, key, value));
}

/// A `KeyValue`.
fn write_attribute(to: &mut Writer, field: u32, key: &str, value: &Value) {
    if let Value::Text(text) = value {
        return to.text_pair(field, key, text);
    }
    to.message(field, |to| {
        to.bytes(1, key.as_bytes());
        to.message(2, |to| write_value(to, value));
    });
}

/// The one field of an `AnyValue`.
fn write_value(to: &mut Writer, value: &Value) {
    match value {
        Value::Text(text) => to.bytes(1, text.as_bytes()),
        Value::Bool(truth) => to.varint(2, u64::from(*truth)),
        Value::Int(number) => to.varint(3, number.cast_unsigned()),
        Value::Float(number) => to.fixed64(4, number.to_bits()),
        // ArrayValue.values
        Value::Texts(texts) => to.message(5, |to| {
            for text in texts {
                to.message(1, |to| to.bytes(1, text.as_bytes()));
            }
        }),
    }
}

/// `0.95_f32` as the double 0.95, not 0.949999988.
fn rounded(confidence: f32) -> f64 {
    (f64::from(confidence) * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
