//! [`OpenWork`] → an OTLP log record.
//!
//! An event: a record with a name, attributes and no body. What the span will say it says by the same attributes; what only it has to
//! say, by attributes of `spoor.operation`.
//!
//! *Spec*: opentelemetry-proto v1.11 `logs.proto`; semantic conventions v1.44.0, "Events".

use std::collections::BTreeSet;
use std::time::Duration;

use super::{SAMPLED, write_attribute, write_attributes};
use crate::export::otlp::protobuf::Writer;
use spoor_core::pipeline::{OpenWork, What};
use spoor_core::span::SpanKind;
use spoor_core::trace::Value;

/// `SeverityNumber` of what is no trouble by itself.
const INFO: u64 = 9;
/// `LogRecord.attributes`.
const ATTRIBUTES: u32 = 6;

/// Writes the fields of a `LogRecord`.
pub(super) fn write(to: &mut Writer, event: &OpenWork) {
    let OpenWork { what, span } = event;
    let at = span.end.max(span.start).as_nanos();
    to.fixed64(1, at);
    to.varint(2, INFO);
    to.bytes(3, b"INFO");
    write_attributes(to, ATTRIBUTES, &span.attributes);
    let since = i64::try_from(span.start.as_nanos()).unwrap_or(i64::MAX);
    write_attribute(to, ATTRIBUTES, "spoor.operation.since", &Value::Int(since));
    to.text_pair(ATTRIBUTES, "spoor.operation.name", &span.name);
    to.text_pair(ATTRIBUTES, "spoor.operation.kind", kind(span.kind));
    if let Some(parent) = &span.parent {
        to.text_pair(ATTRIBUTES, "spoor.operation.parent", &parent.to_string());
    }
    if let (SpanKind::Client | SpanKind::Producer, Some(peer)) =
        (span.kind, span.attributes.get("server.address"))
    {
        write_attribute(to, ATTRIBUTES, "spoor.operation.peer", peer);
    }
    to.fixed32(8, SAMPLED);
    to.bytes(9, &span.trace_id.0);
    to.bytes(10, &span.span_id.0);
    to.fixed64(11, at);
    to.bytes(12, name(*what).as_bytes());
}

/// Writes that the agent is there: how often it says so, and which services it sees.
pub(super) fn write_alive(to: &mut Writer, at_ns: u64, every: Duration, services: &BTreeSet<String>) {
    to.fixed64(1, at_ns);
    to.varint(2, INFO);
    to.bytes(3, b"INFO");
    let every = i64::try_from(every.as_nanos()).unwrap_or(i64::MAX);
    write_attribute(to, ATTRIBUTES, "spoor.agent.every", &Value::Int(every));
    let services = Value::Texts(services.iter().cloned().collect());
    write_attribute(to, ATTRIBUTES, "spoor.agent.services", &services);
    to.fixed64(11, at_ns);
    to.bytes(12, b"spoor.agent.alive");
}

fn name(what: What) -> &'static str {
    match what {
        What::Open => "spoor.operation.open",
        What::Unacked => "spoor.message.unacked",
        What::Waiting => "spoor.message.waiting",
        What::Left => "spoor.message.left",
        What::Over => "spoor.operation.over",
    }
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}
