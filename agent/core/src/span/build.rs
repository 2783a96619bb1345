//! An [`Operation`] and its place → a [`Span`].
//!
//! *Owns* what all spans have: times, identifiers, evidence, order, honesty about what was not seen. Each protocol's names,
//! kinds, statuses and attributes are in `http`, `rpc`, `amqp` and `postgres` beside this file.
//! *Must not know* how identifiers were chosen.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0; tracing API, "Span".

use std::net::IpAddr;
use std::sync::Arc;

use compact_str::{CompactString, ToCompactString};

use crate::conn::ConnInfo;
use crate::operation::postgres::TransactionEnd;
use crate::operation::{Completeness, Detail, Operation};
use crate::order::ids::WireId;
use crate::order::{Found, OrderKey};
use crate::privacy;
use crate::record::{ClockPair, Endpoint, Role};
use crate::span::{Evidence, Link, Resource, Span, SpanKind, Status, amqp, http, postgres, rpc, semconv};
use crate::sql::shapes::Texts;
use crate::time::BootTime;
use crate::trace::{Attributes, SpanId, TraceId, Value, hex_compact};

/// An operation with everything a span of it needs.
#[derive(Clone, Debug)]
pub struct Placed<'a> {
    pub op: &'a Operation,
    pub conn: &'a ConnInfo,
    pub found: &'a Found,
    pub resource: Arc<Resource>,
    pub identity: Identity,
    /// The order its tree belongs to.
    pub order: Option<&'a OrderKey>,
    pub trace_rule: TraceRule,
    pub wire: Option<WireId>,
    /// The client of a statement or message is seen by no agent: the server's side stands for it.
    pub observed_from_server: bool,
    /// Both clocks near the operation.
    pub clock: ClockPair,
    /// What became of the transaction block that a statement ran in, as far as that is known by now.
    pub transaction_end: Option<TransactionEnd>,
    /// What is shown of a statement, where that is known already.
    pub texts: Option<&'a Texts>,
}

/// The identifiers of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent: Option<SpanId>,
    pub evidence: Option<Evidence>,
    pub links: Vec<Link>,
}

impl Identity {
    /// A root.
    pub fn new(trace_id: TraceId, span_id: SpanId) -> Self {
        Self { trace_id, span_id, parent: None, evidence: None, links: Vec::new() }
    }
}

/// Where a trace identifier comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TraceRule {
    /// Carried by the traffic itself.
    Context,
    /// Derived from the order.
    Order,
    /// Derived from the root operation.
    Wire,
}

impl TraceRule {
    /// The name on the wire (`spoor.trace.rule`).
    pub fn name(self) -> &'static str {
        match self {
            TraceRule::Context => "context",
            TraceRule::Order => "order",
            TraceRule::Wire => "wire",
        }
    }
}

/// What is known of the work that a delivery caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// The first evidence that the message was taken up: the settlement before it, or the first operation it caused.
    pub started_at: Option<BootTime>,
    /// The end of the last operation it caused.
    pub last_at: Option<BootTime>,
}

/// Spans have up to so many attributes, nearly all of them.
const USUAL_ATTRIBUTES: usize = 20;

/// What a protocol says about its span.
#[derive(Debug)]
pub(super) struct Draft {
    pub name: String,
    pub kind: SpanKind,
    pub status: Status,
    pub attributes: Attributes,
    pub start: BootTime,
    pub end: BootTime,
}

impl Draft {
    pub(super) fn new(op: &Operation, kind: SpanKind) -> Self {
        Self {
            name: String::new(),
            kind,
            status: Status::Unset,
            attributes: Attributes::with_capacity(USUAL_ATTRIBUTES),
            start: op.request.start.at,
            end: op.ended_at,
        }
    }

    /// Sets `error.type` and the status. `description` is empty when the type says it all.
    pub(super) fn error(&mut self, kind: impl Into<Value>, description: String) {
        self.attributes.set(semconv::ERROR_TYPE, kind);
        self.status = Status::Error(description);
    }
}

/// The span of one end of an operation.
pub fn build(placed: &Placed<'_>) -> Span {
    build_with(placed, Work::default())
}

/// The same with what is known of the work a delivery caused; other operations ignore it.
pub fn build_with(placed: &Placed<'_>, work: Work) -> Span {
    let draft = match &placed.op.detail {
        Detail::Http(exchange) if exchange.is_grpc() => rpc::draft(placed, exchange),
        Detail::Http(exchange) => http::draft(placed, exchange),
        Detail::Amqp(action) => amqp::draft(placed, action, work),
        Detail::Postgres(statement) => postgres::draft(placed, statement),
    };
    finish(placed, draft)
}

/// The time a message spent in the broker: from the arrival of its last byte, or from when it was put back or dead-lettered,
/// to the departure of the first. `deliver` is the broker's view of the delivery, and its identity that of the dwell. Without
/// `since` the beginning was not seen.
pub fn build_dwell(since: Option<BootTime>, deliver: &Placed<'_>) -> Span {
    finish(deliver, amqp::dwell(since, deliver))
}

/// The span under which an order's trees stand, as long as the root of the first one. Of the agent's own making, it belongs to
/// no process.
pub fn build_order_root(first: &Span, span_id: SpanId) -> Span {
    let mut attributes = Attributes::default();
    for key in [semconv::ORDER_ID, semconv::ORDER_NAMESPACE, semconv::SPOOR_TRACE_RULE] {
        if let Some(value) = first.attributes.get(key) {
            attributes.set(key, value.clone());
        }
    }
    Span {
        trace_id: first.trace_id,
        span_id,
        parent: None,
        evidence: None,
        name: "order".to_owned(),
        kind: SpanKind::Internal,
        start: first.start,
        end: first.end,
        status: Status::Unset,
        attributes,
        links: Vec::new(),
        events: Vec::new(),
        resource: Arc::new(Resource { service: "orders".to_owned(), ..Resource::default() }),
        sampled: first.sampled,
    }
}

/// Stands where another agent looks for the span of `placed`, whose tree turned out to belong to another trace: no time
/// passes in it, and its link leads on. `placed` has the identity of the signpost.
pub fn build_signpost(placed: &Placed<'_>) -> Span {
    let span = build(placed);
    let mut attributes = Attributes::default();
    for key in [semconv::ORDER_ID, semconv::ORDER_NAMESPACE, semconv::SPOOR_TRACE_RULE] {
        if let Some(value) = span.attributes.get(key) {
            attributes.set(key, value.clone());
        }
    }
    attributes.set(semconv::SPOOR_SIGNPOST, true);
    Span { kind: SpanKind::Internal, end: span.start, status: Status::Unset, attributes, ..span }
}

fn finish(placed: &Placed<'_>, draft: Draft) -> Span {
    let Draft { name, kind, status, mut attributes, start, end } = draft;
    let identity = &placed.identity;
    if let Some(order) = placed.order {
        attributes.set(semconv::ORDER_ID, &*order.value);
        if &*order.namespace != "order" {
            attributes.set(semconv::ORDER_NAMESPACE, &*order.namespace);
        }
    }
    for (name, value) in &placed.found.attributes {
        attributes.set_named(name, value.clone());
    }
    if let Some(evidence) = identity.evidence {
        attributes.set(semconv::SPOOR_PARENT_RULE, evidence.rule.name());
        // Two decimals: an f32 shows its rounding otherwise.
        let confidence = (f64::from(evidence.confidence.0) * 100.0).round() / 100.0;
        attributes.set(semconv::SPOOR_PARENT_CONFIDENCE, Value::Float(confidence));
    }
    attributes.set(semconv::SPOOR_TRACE_RULE, placed.trace_rule.name());
    if let Some(wire) = placed.wire {
        attributes.set(semconv::SPOOR_WIRE_ID, hex_compact(&wire.0));
    }
    match placed.op.completeness {
        Completeness::Complete => {}
        Completeness::Gap(bytes) => {
            attributes.set(semconv::SPOOR_INCOMPLETE, "gap");
            attributes.set(semconv::SPOOR_MISSING_BYTES, int(bytes));
        }
        Completeness::Cut => attributes.set(semconv::SPOOR_INCOMPLETE, "cut"),
        Completeness::Abandoned => attributes.set(semconv::SPOOR_INCOMPLETE, "open"),
    }
    if let Some(tls) = &placed.conn.tls {
        attributes.set(semconv::TLS_PROTOCOL_NAME, "tls");
        attributes.set(semconv::TLS_PROTOCOL_VERSION, tls.version.name());
        if let Some(suite) = tls.suite {
            attributes.set(semconv::TLS_CIPHER, suite);
        }
        // The conventions' `tls.client.server_name` is `server.address` now: a name where there was none but an address.
        let is_address = |value: &Value| matches!(value, Value::Text(text) if text.parse::<IpAddr>().is_ok());
        if let Some(name) = &tls.server_name
            && attributes.get(semconv::SERVER_ADDRESS).is_none_or(is_address)
        {
            attributes.set(semconv::SERVER_ADDRESS, name.as_str());
        }
    }
    if placed.observed_from_server {
        attributes.set(semconv::SPOOR_OBSERVED_FROM, "server");
    }
    // Mapped once; the length is boot time's, which no clock step touches.
    let length = end.since(start);
    let start = placed.clock.wall_at(start);
    let mut span = Span {
        trace_id: identity.trace_id,
        span_id: identity.span_id,
        parent: identity.parent,
        evidence: identity.evidence,
        name,
        kind,
        start,
        end: start + length,
        status,
        attributes,
        links: identity.links.clone(),
        events: Vec::new(),
        resource: Arc::clone(&placed.resource),
        sampled: true,
    };
    // What the rules of orders call a key is shown; the same number under another name is the same number.
    let keys = || placed.found.keys.iter().chain(placed.order);
    privacy::look(&mut span, &|shown| keys().any(|key| privacy::is_same(&key.value, shown)));
    span
}

pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The accepting end of the connection, whichever side was observed.
pub(super) fn server_end<'a>(placed: &Placed<'a>) -> &'a Endpoint {
    match placed.op.role {
        Role::Server => &placed.conn.conn.local,
        Role::Client => &placed.conn.conn.remote,
    }
}

/// An address as the conventions write it: those of IPv4, which most are, without asking the formatter four times.
pub(super) fn ip_text(ip: IpAddr) -> CompactString {
    let IpAddr::V4(ip) = ip else { return ip.to_compact_string() };
    let mut text = [0; 15];
    let mut places = text.iter_mut();
    let mut len = 0;
    let mut push = |byte: u8| {
        if let Some(place) = places.next() {
            *place = byte;
            len += 1;
        }
    };
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            push(b'.');
        }
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    text.get(..len).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default().into()
}

/// `server.address` and `server.port`, or the path of a Unix socket.
pub(super) fn set_server(attributes: &mut Attributes, end: &Endpoint, default_port: Option<u16>) {
    match end {
        Endpoint::Inet(address) => {
            attributes.set(semconv::SERVER_ADDRESS, ip_text(address.ip()));
            if default_port != Some(address.port()) {
                attributes.set(semconv::SERVER_PORT, i64::from(address.port()));
            }
        }
        Endpoint::Unix(path) if !path.is_empty() => attributes.set(semconv::SERVER_ADDRESS, path.as_str()),
        Endpoint::Unix(_) | Endpoint::Unknown => {}
    }
}

/// `network.peer.*`, and `network.transport` where it is not TCP.
pub(super) fn set_peer(attributes: &mut Attributes, end: &Endpoint) {
    match end {
        Endpoint::Inet(address) => {
            attributes.set(semconv::NETWORK_PEER_ADDRESS, ip_text(address.ip()));
            attributes.set(semconv::NETWORK_PEER_PORT, i64::from(address.port()));
        }
        Endpoint::Unix(path) => {
            attributes.set(semconv::NETWORK_TRANSPORT, "unix");
            if !path.is_empty() {
                attributes.set(semconv::NETWORK_PEER_ADDRESS, path.as_str());
            }
        }
        Endpoint::Unknown => {}
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::causality::{Confidence, Rule};
    use crate::record::Transport;
    use crate::span::testing::{conn, identity, op, placed, shown, sql, statement};
    use crate::time::{WallTime, ns};

    #[test]
    fn evidence_order_and_wire_are_on_every_span() {
        let op = op(Role::Server, sql(statement("SELECT 1", "SELECT 1")));
        let conn = conn(Role::Server, 6432);
        let found = Found::default();
        let order = OrderKey { namespace: "mes".into(), value: "M-5".into() };
        let link =
            Link { trace_id: TraceId([3; 16]), span_id: SpanId([4; 8]), attributes: Attributes::default() };
        let parent = Some(SpanId([5; 8]));
        let evidence = Some(Evidence { rule: Rule::Value, confidence: Confidence(0.9) });
        let placed = Placed {
            identity: Identity { parent, evidence, links: vec![link.clone()], ..identity() },
            order: Some(&order),
            trace_rule: TraceRule::Order,
            wire: Some(WireId([6; 16])),
            observed_from_server: true,
            clock: ClockPair { boot: ns(2_000), wall: WallTime::from_nanos(1_000_000) },
            ..placed(&op, &conn, &found)
        };
        let span = build(&placed);
        assert_eq!((span.parent, span.evidence, &span.links), (parent, evidence, &vec![link]));
        // The operation began before the clocks were read.
        expect![[r#"
            Client SELECT
              999000 +500
              db.system.name: postgresql
              db.namespace: shop
              server.address: 10.0.0.2
              server.port: 6432i
              network.peer.address: 10.0.0.2
              network.peer.port: 6432i
              db.query.text: SELECT ?
              db.query.summary: SELECT
              db.response.returned_rows: 0i
              order.id: M-5
              order.namespace: mes
              spoor.parent.rule: value
              spoor.parent.confidence: Float(0.9)
              spoor.trace.rule: order
              spoor.wire.id: 06060606060606060606060606060606
              spoor.observed_from: server
        "#]]
        .assert_eq(&shown(&span));
    }

    #[test]
    fn unix_sockets_have_paths() {
        let mut info = conn(Role::Client, 5432);
        info.conn.transport = Transport::Unix;
        info.conn.remote = Endpoint::Unix("/run/postgresql/.s.PGSQL.5432".to_owned());
        let op = op(Role::Client, sql(statement("SELECT 1", "SELECT 1")));
        let span = build(&placed(&op, &info, &Found::default()));
        let text = |name| span.attributes.get(name).cloned();
        assert_eq!(text(semconv::SERVER_ADDRESS), Some(Value::from("/run/postgresql/.s.PGSQL.5432")));
        assert_eq!(text(semconv::NETWORK_TRANSPORT), Some(Value::from("unix")));
        assert_eq!(text(semconv::SERVER_PORT), None);
    }
}
