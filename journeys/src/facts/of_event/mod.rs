//! One OTLP log record that tells of open work, and its resource → the [`Fact`](super::Fact) it states.
//!
//! *Spec*: opentelemetry-proto v1.11 `logs.proto`; an event is a record with a name (semantic conventions v1.44.0, "Events").
//! An agent says again and again what is not over yet: `spoor.operation.open` and `spoor.message.unacked` with the trace and
//! span ID that the span will have, `spoor.message.waiting` with those of the publish. What the span will say of its order,
//! its peer and its queue the event says by the same attributes; since when, which kind and which name by attributes of its
//! own, which are found under `spoor.operation.`, `spoor.message.`, `spoor.` and alone.
//!
//! `spoor.message.left` says of the last that it does not wait any more: somebody has it, or had.
//! `spoor.operation.over` says of one of the first two that it is: its span may come much later, when all of its tree is over.
//!
//! `spoor.agent.alive` says that an agent is there, how often it says so and which services it sees; it is of no order.
//!
//! `t0 called, not answered · t30 event: since t0 · t90 event: since t0 ⇒ a fact from t0 to t90, until the span comes`

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use sha2::{Digest, Sha256};

use crate::facts::attributes::Attributes;
use crate::facts::text::tidy;
use crate::facts::{Beat, FactId, Reading, Step, Work, message, of_span};
use crate::time::{HOUR, SECOND};

const OPEN: &str = "spoor.operation.open";
const WAITING: &str = "spoor.message.waiting";
const UNACKED: &str = "spoor.message.unacked";
const LEFT: &str = "spoor.message.left";
const ALIVE: &str = "spoor.agent.alive";
const OVER: &str = "spoor.operation.over";
const MAX_NAME: usize = 255;
/// Services that one agent may name, and their bytes in all: those of every agent are kept in memory.
const MAX_SERVICES: usize = 256;
const MAX_SERVICES_LEN: usize = 8 << 10;
/// How often it may say that it is there, in microseconds.
const EVERY: std::ops::RangeInclusive<i64> = SECOND..=HOUR;

/// Reads a log record. `order_attributes` are tried in their order; the first that is there names the order.
pub fn of_event(resource: Option<&Resource>, record: &LogRecord, order_attributes: &[String]) -> Reading {
    let attributes = Attributes(&record.attributes);
    let name = match record.event_name.as_str() {
        // As senders named events before records had a place for it.
        "" => attributes.text("event.name").unwrap_or(""),
        name => name,
    };
    if name == ALIVE {
        return alive(resource, attributes);
    }
    if ![OPEN, WAITING, LEFT, UNACKED, OVER].contains(&name) {
        return Reading::Unknown;
    }
    let told_at =
        if record.time_unix_nano == 0 { record.observed_time_unix_nano } else { record.time_unix_nano };
    let Some(since) = since(attributes).filter(|_| told_at != 0) else { return Reading::Invalid };
    // What the span will say is read as the span will be.
    let span = Span {
        trace_id: record.trace_id.clone(),
        span_id: record.span_id.clone(),
        parent_span_id: own(attributes, "parent").and_then(span_id).unwrap_or_default(),
        name: own(attributes, "name").unwrap_or_default().to_owned(),
        kind: kind(name, own(attributes, "kind").unwrap_or("")).into(),
        start_time_unix_nano: since.max(1),
        end_time_unix_nano: told_at.max(since),
        attributes: record.attributes.clone(),
        ..Span::default()
    };
    let mut fact = match of_span(resource, &span, order_attributes) {
        Reading::Fact(fact) => fact,
        other => return other,
    };
    let work = match name {
        WAITING | LEFT => waiting(attributes),
        UNACKED => handling(attributes),
        OVER => Work::Over,
        _ => work(&fact.step, attributes),
    };
    if matches!(name, WAITING | LEFT) {
        fact.parent = Some(fact.id.span);
        fact.id = waits(fact.id, &work);
    }
    fact.step = Step::Open { work: if name == LEFT { Work::Over } else { work } };
    // It says what is so now, not what became of it.
    (fact.status, fact.trouble, fact.unseen, fact.joined) = (None, None, None, None);
    Reading::Fact(fact)
}

/// An agent is known by its machine: there is one on each, and one that is started again is the same.
fn alive(resource: Option<&Resource>, attributes: Attributes<'_>) -> Reading {
    let of = Attributes(resource.map_or(&[], |resource| resource.attributes.as_slice()));
    let machine = [of.text("host.id"), of.text("host.name")].into_iter().flatten().next();
    let every =
        attributes.int("spoor.agent.every").map(|ns| ns / 1_000).filter(|every| EVERY.contains(every));
    let (Some(machine), Some(every)) = (machine, every) else { return Reading::Invalid };
    let services = attributes.texts("spoor.agent.services").into_iter().take(MAX_SERVICES);
    let services = services.map(|service| tidy(service, MAX_NAME)).scan(0, |len, service| {
        *len += service.len();
        (*len <= MAX_SERVICES_LEN).then_some(service)
    });
    Reading::Alive(Beat {
        agent: tidy(machine, MAX_NAME),
        node: tidy(of.text("host.name").unwrap_or(machine), MAX_NAME),
        every,
        services: services.collect(),
    })
}

/// Of an attribute that events have of their own.
fn own<'a>(attributes: Attributes<'a>, name: &str) -> Option<&'a str> {
    NAMESPACES.iter().find_map(|space| attributes.text(&format!("{space}{name}")))
}

/// As 16 hexadecimal digits.
fn span_id(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let is_hex = bytes.len() == 16 && bytes.iter().all(u8::is_ascii_hexdigit);
    is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(|id| id.to_be_bytes().to_vec())
}

const NAMESPACES: [&str; 4] = ["spoor.operation.", "spoor.message.", "spoor.", ""];

fn count(attributes: Attributes<'_>, name: &str) -> Option<u32> {
    NAMESPACES
        .iter()
        .find_map(|space| attributes.int(&format!("{space}{name}")))
        .and_then(|count| u32::try_from(count).ok())
}

/// Since when, in nanoseconds since 1970: a number of them, or a time as RFC 3339 writes it.
fn since(attributes: Attributes<'_>) -> Option<u64> {
    let of = |space: &&str| match attributes.value(&format!("{space}since"))? {
        Value::IntValue(ns) => u64::try_from(*ns).ok(),
        Value::StringValue(text) => {
            let at = text.parse::<jiff::Timestamp>().ok().map(|at| at.as_nanosecond());
            at.and_then(|ns| u64::try_from(ns).ok()).or_else(|| text.parse().ok())
        }
        _ => None,
    };
    NAMESPACES.iter().find_map(of)
}

fn kind(event: &str, kind: &str) -> SpanKind {
    match kind.to_ascii_lowercase().as_str() {
        "server" => SpanKind::Server,
        "client" => SpanKind::Client,
        "producer" => SpanKind::Producer,
        "consumer" => SpanKind::Consumer,
        _ if event == UNACKED => SpanKind::Consumer,
        _ if matches!(event, WAITING | LEFT) => SpanKind::Producer,
        _ => SpanKind::Internal,
    }
}

fn work(step: &Step, attributes: Attributes<'_>) -> Work {
    match step {
        Step::Served { .. } => Work::Answer,
        Step::Called { peer, .. } => Work::Call { peer: peer.clone() },
        Step::Stored { bucket, .. } => Work::Call { peer: bucket.clone() },
        Step::Wrote { collection, .. } => Work::Statement { collection: collection.clone(), writes: true },
        Step::Read { collection } => Work::Statement { collection: collection.clone(), writes: false },
        Step::Ended { .. } => Work::Statement { collection: String::new(), writes: true },
        Step::Handled { queue, redelivered, .. } => {
            Work::Handling { queue: queue.clone(), redelivered: *redelivered }
        }
        Step::Published { .. } | Step::Waited { .. } | Step::Other | Step::Open { .. } => {
            match own(attributes, "peer") {
                Some(peer) => Work::Call { peer: tidy(peer, MAX_NAME) },
                None => Work::Other,
            }
        }
    }
}

fn handling(attributes: Attributes<'_>) -> Work {
    let destination = attributes.text("messaging.destination.name").unwrap_or("");
    let routing_key = attributes.text("messaging.rabbitmq.destination.routing_key");
    let queue = own(attributes, "queue").map(|queue| tidy(queue, MAX_NAME));
    let redelivered =
        attributes.truth("spoor.messaging.redelivered") || count(attributes, "redeliveries") > Some(0);
    Work::Handling { queue: queue.unwrap_or_else(|| message::queue(destination, routing_key)), redelivered }
}

fn waiting(attributes: Attributes<'_>) -> Work {
    let destination = attributes
        .text("messaging.destination.template")
        .or_else(|| attributes.text("messaging.destination.name"))
        .or_else(|| own(attributes, "destination"));
    let destination = destination.map(str::to_owned).unwrap_or_else(|| {
        let parts = [own(attributes, "exchange"), own(attributes, "routing_key")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(":")
    });
    Work::Waiting {
        queue: own(attributes, "queue").map(|queue| tidy(queue, MAX_NAME)),
        destination: tidy(&destination, MAX_NAME),
        consumers: count(attributes, "consumers"),
        depth: count(attributes, "depth"),
    }
}

/// The identity of a message's wait in a queue: a publish may be of several.
fn waits(publish: FactId, work: &Work) -> FactId {
    let queue = match work {
        Work::Waiting { queue: Some(queue), .. } => queue.as_str(),
        _ => "",
    };
    let digest =
        Sha256::new().chain_update(b"waiting").chain_update(publish.span).chain_update(queue).finalize();
    let mut span = [0; 8];
    span.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    FactId { span, ..publish }
}

#[cfg(test)]
mod tests;
