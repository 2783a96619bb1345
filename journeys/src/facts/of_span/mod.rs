//! One OTLP span and its resource → the [`Fact`] it states.
//!
//! *Spec*: opentelemetry-proto v1.11 `trace.proto`; semantic conventions v1.44.0; the agent's own names begin with `spoor.`
//! and `order.`. Spans of other tracers are welcome: what they do not say is not known, nothing more.

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::facts::Beat;
use crate::facts::attributes::Attributes;
use crate::facts::text::tidy;
use crate::facts::{
    ArtifactSeen, At, Fact, FactId, Key, Person, PersonRole, Settled, Status, Step, Trouble, TroubleKind,
    Unseen, key, message, sql,
};

/// Longest texts that are kept, in characters.
const MAX_NAME: usize = 200;
const MAX_STATUS: usize = 64;
const MAX_MESSAGE: usize = 300;
/// Further numbers of one order in one operation.
const MAX_ALSO: usize = 8;

/// What a span turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    Fact(Box<Fact>),
    /// It names no order.
    NoOrder,
    /// The agent's marker that a trace goes on elsewhere: nothing happened there.
    Signpost,
    /// Identifiers of the wrong length or all zero, or times that cannot be.
    Invalid,
    /// A log record that is no event.
    Unknown,
    /// An agent says that it is there.
    Alive(Beat),
}

/// Reads a span. `order_attributes` are tried in their order; the first that is there names the order.
pub fn of_span(resource: Option<&Resource>, span: &Span, order_attributes: &[String]) -> Reading {
    let attributes = Attributes(&span.attributes);
    let Some(number) = order_attributes.iter().find_map(|name| attributes.id(name)) else {
        return Reading::NoOrder;
    };
    if attributes.truth("spoor.signpost") {
        return Reading::Signpost;
    }
    let namespace = attributes.text("order.namespace").unwrap_or(key::DEFAULT_NAMESPACE);
    let (Some(id), Some(key)) = (id(span), Key::new(namespace, &number)) else { return Reading::Invalid };
    if span.start_time_unix_nano == 0 {
        return Reading::Invalid;
    }
    let resource = Attributes(resource.map_or(&[], |resource| &resource.attributes));
    let from = At::from_unix_ns(span.start_time_unix_nano);
    let step = step(attributes, span);
    Reading::Fact(Box::new(Fact {
        from,
        id,
        to: At::from_unix_ns(span.end_time_unix_nano).max(from),
        parent: bytes(&span.parent_span_id),
        service: tidy(resource.text("service.name").unwrap_or("unknown_service"), MAX_NAME),
        instance: tidy(resource.text("service.instance.id").unwrap_or(""), MAX_NAME),
        name: tidy(&span.name, MAX_NAME),
        also: also(attributes, &key),
        key,
        people: people(attributes),
        trouble: trouble(attributes, span, &step),
        step,
        status: status(attributes),
        artifact: artifact(attributes),
        unseen: unseen(attributes),
        joined: joined(attributes),
    }))
}

/// Further numbers of a span's order, as `namespace:value`.
pub const KEYS: &str = "spoor.order.keys";

/// All numbers by which a span calls its order, whatever else it says.
pub fn numbers(span: &Span, order_attributes: &[String]) -> Vec<Key> {
    let attributes = Attributes(&span.attributes);
    let namespace = attributes.text("order.namespace").unwrap_or(key::DEFAULT_NAMESPACE);
    let own = order_attributes.iter().find_map(|name| attributes.id(name));
    match own.and_then(|number| Key::new(namespace, &number)) {
        Some(own) => also(attributes, &own).into_iter().chain([own]).collect(),
        None => Vec::new(),
    }
}

fn id(span: &Span) -> Option<FactId> {
    Some(FactId { trace: bytes(&span.trace_id)?, span: bytes(&span.span_id)? })
}

/// An identifier of exactly `N` bytes that are not all zero.
fn bytes<const N: usize>(given: &[u8]) -> Option<[u8; N]> {
    <[u8; N]>::try_from(given).ok().filter(|id| id.iter().any(|byte| *byte != 0))
}

fn step(attributes: Attributes<'_>, span: &Span) -> Step {
    if let Some(step) = sql::step(attributes, &span.name).or_else(|| message::step(attributes)) {
        return step;
    }
    let method = attributes.text("http.request.method").or_else(|| attributes.text("http.method"));
    let rpc = attributes.text("rpc.method");
    let answer =
        ["http.response.status_code", "http.status_code"].iter().find_map(|name| attributes.int(name));
    let answer = answer.and_then(|code| u16::try_from(code).ok());
    let changes = match (method, rpc) {
        (Some(method), _) => matches!(method, "POST" | "PUT" | "PATCH" | "DELETE"),
        // A procedure's name is all there is.
        (None, Some(rpc)) => {
            let name = rpc.rsplit('/').next().unwrap_or(rpc).to_ascii_lowercase();
            !["get", "list", "find", "read"].iter().any(|verb| name.starts_with(verb))
        }
        (None, None) => return Step::Other,
    };
    if span.kind() == SpanKind::Server {
        return Step::Served { answer, changes };
    }
    if span.kind() != SpanKind::Client {
        return Step::Other;
    }
    if let Some(bucket) = attributes.text("aws.s3.bucket") {
        let verb = rpc.and_then(|rpc| rpc.rsplit('/').next()).or(method).unwrap_or("");
        return Step::Stored {
            verb: tidy(verb, MAX_NAME),
            bucket: tidy(bucket, MAX_NAME),
            object: tidy(attributes.text("aws.s3.key").unwrap_or(""), MAX_NAME),
        };
    }
    let host = attributes.text("server.address").or_else(|| attributes.text("network.peer.address"));
    let peer = match (host, attributes.int("server.port")) {
        (Some(host), Some(80 | 443) | None) => host.to_owned(),
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (None, _) => String::new(),
    };
    Step::Called { peer: tidy(&peer, MAX_NAME), answer, changes }
}

fn status(attributes: Attributes<'_>) -> Option<Status> {
    let value = tidy(attributes.text("order.status")?.trim(), MAX_STATUS);
    let written_at =
        attributes.text("order.status_time").and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let written_at = written_at.map(|at| At(at.as_microsecond()));
    (!value.is_empty()).then_some(Status { value, written_at })
}

/// Further numbers: what the agent lists (`["order:19", "crm:SO-77"]`), and an order *number* beside the order's ID.
fn also(attributes: Attributes<'_>, own: &Key) -> Vec<Key> {
    let listed = attributes.texts(KEYS).into_iter().filter_map(Key::parse);
    let number = attributes.id("order.number").and_then(|number| Key::new("number", &number));
    let mut keys: Vec<Key> = listed.chain(number).filter(|key| key != own).collect();
    keys.sort();
    keys.dedup();
    keys.truncate(MAX_ALSO);
    keys
}

/// Attributes that name somebody.
pub const PEOPLE: [(&str, PersonRole); 4] = [
    ("user.id", PersonRole::User),
    ("seller.id", PersonRole::Seller),
    ("operator.id", PersonRole::Operator),
    ("partner.id", PersonRole::Partner),
];

fn people(attributes: Attributes<'_>) -> Vec<Person> {
    let person = |(name, role)| Some(Person { role, id: tidy(&attributes.id(name)?, MAX_STATUS) });
    PEOPLE.into_iter().filter_map(person).filter(|person| !person.id.is_empty()).collect()
}

fn artifact(attributes: Attributes<'_>) -> Option<ArtifactSeen> {
    let text = |name| attributes.text(name).map(|text| tidy(text, MAX_NAME)).filter(|text| !text.is_empty());
    let seen = ArtifactSeen {
        file_name: text("order.model.file_name"),
        key: text("order.model.key"),
        size: attributes.int("order.model.size").or_else(|| attributes.int("spoor.upload.size")),
        format: text("order.model.format"),
    };
    (seen != ArtifactSeen::default()).then_some(seen)
}

fn trouble(attributes: Attributes<'_>, span: &Span, step: &Step) -> Option<Trouble> {
    let refused = matches!(step, Step::Handled { settled: Settled::Rejected | Settled::PutBack, .. });
    let failed = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
    let error = attributes.id("error.type");
    if !failed && !refused && error.is_none() {
        return None;
    }
    let sqlstate = attributes.id("db.response.status_code");
    let code = sqlstate.clone().or(error).unwrap_or_default();
    let is_connection = matches!(
        code.as_str(),
        "connection_closed" | "no_response" | "response_cut" | "timeout" | "connection_refused"
    );
    let kind = match step {
        _ if is_connection => TroubleKind::Connection,
        _ if sqlstate.is_some() || attributes.text("db.system.name").is_some() => TroubleKind::Sql,
        Step::Published { .. } | Step::Handled { .. } | Step::Waited { .. } => TroubleKind::Message,
        Step::Served { .. } | Step::Called { .. } | Step::Stored { .. } => TroubleKind::Http,
        _ => TroubleKind::Other,
    };
    let message = span.status.as_ref().map_or("", |status| status.message.as_str());
    Some(Trouble { kind, code: tidy(&code, MAX_STATUS), message: tidy(message, MAX_MESSAGE) })
}

fn unseen(attributes: Attributes<'_>) -> Option<Unseen> {
    match attributes.text("spoor.incomplete")? {
        "gap" => Some(Unseen::Gap),
        "cut" => Some(Unseen::Cut),
        "open" => Some(Unseen::Open),
        "start" => Some(Unseen::Start),
        _ => None,
    }
}

fn joined(attributes: Attributes<'_>) -> Option<(String, u8)> {
    let rule = tidy(attributes.text("spoor.parent.rule")?, MAX_STATUS);
    let confidence = attributes.float("spoor.parent.confidence").unwrap_or(0.0).clamp(0.0, 1.0);
    let percent = format!("{:.0}", confidence * 100.0).parse().unwrap_or(0);
    Some((rule, percent))
}

#[cfg(test)]
mod tests;
