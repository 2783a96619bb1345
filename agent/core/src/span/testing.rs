//! An operation → the span it becomes, as text: what the tests of this folder share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use expect_test::Expect;

use super::build::{Identity, Placed, TraceRule, build};
use super::{Span, Status};
use crate::conn::ConnInfo;
use crate::operation::http::Exchange;
use crate::operation::postgres::Statement;
use crate::operation::{Completeness, Detail, Extent, Kept, OpSide, Operation};
use crate::order::{Found, Rules, settings as order_settings};
use crate::record::{
    CgroupId, ClockPair, Conn, ConnId, Endpoint, NetNs, OpId, Point, Role, Transport, Worker,
};
use crate::time::{BootTime, WallTime, ns};
use crate::trace::{SpanId, TraceId, Value};

/// A secret that must be in no span.
pub(super) const SECRET: &str = "hunter2";

pub(super) fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port))
}

/// A connection of 10.0.0.1:40000 to 10.0.0.2 at the protocol's port.
pub(super) fn conn(role: Role, port: u16) -> ConnInfo {
    let (client, server) = (endpoint(1, 40_000), endpoint(2, port));
    let (local, remote) = if role == Role::Client { (client, server) } else { (server, client) };
    let conn = Conn {
        at: BootTime::ZERO,
        id: ConnId(7),
        transport: Transport::Tcp,
        local,
        remote,
        netns: NetNs::UNKNOWN,
        role: Some(role),
        from_start: true,
        thread: Worker::default(),
        comm: String::new(),
        cgroup: CgroupId::UNKNOWN,
        wire: None,
        peer: None,
    };
    ConnInfo { conn, role: Some(role), protocol: None, client: None, tls: None }
}

pub(super) fn op(role: Role, detail: Detail) -> Operation {
    let point = |at, pos| Point { at, pos, thread: Worker::default(), awaited_by: None };
    Operation {
        id: OpId(1),
        shape: OpSide::Outgoing,
        role,
        request: Extent { start: point(ns(1_000), 0), end: point(ns(1_100), 50) },
        response: Some(Extent { start: point(ns(1_400), 0), end: point(ns(1_500), 60) }),
        ended_at: ns(1_500),
        completeness: Completeness::Complete,
        detail,
    }
}

pub(super) fn port(detail: &Detail) -> u16 {
    match detail {
        Detail::Http(_) => 8080,
        Detail::Amqp(_) => 5672,
        Detail::Postgres(_) => 5432,
    }
}

pub(super) fn identity() -> Identity {
    let (trace_id, span_id) = (TraceId([1; 16]), SpanId([2; 8]));
    Identity { trace_id, span_id, parent: None, evidence: None, links: Vec::new() }
}

pub(super) fn placed<'a>(op: &'a Operation, conn: &'a ConnInfo, found: &'a Found) -> Placed<'a> {
    Placed {
        op,
        conn,
        found,
        resource: Arc::default(),
        identity: identity(),
        order: found.order(),
        trace_rule: TraceRule::Wire,
        wire: None,
        observed_from_server: false,
        clock: ClockPair { boot: ns(900), wall: WallTime::from_nanos(1_000_000) },
        transaction_end: None,
        texts: None,
    }
}

pub(super) fn shown(span: &Span) -> String {
    let mut lines = vec![format!("{:?} {}", span.kind, span.name)];
    lines.push(format!("  {} +{}", span.start.as_nanos(), span.end.since(span.start).as_nanos()));
    match &span.status {
        Status::Unset => {}
        Status::Error(description) if description.is_empty() => lines.push("  ERROR".to_owned()),
        Status::Error(description) => lines.push(format!("  ERROR {description}")),
    }
    let value = |value: &Value| match value {
        Value::Text(text) => text.to_string(),
        Value::Int(n) => format!("{n}i"),
        other => format!("{other:?}"),
    };
    lines.extend(span.attributes.iter().map(|(name, v)| format!("  {name}: {}", value(v))));
    lines.join("\n") + "\n"
}

/// Extracts with the default rules, builds, and compares; no secret may be left.
pub(super) fn check_op(op: &Operation, expected: Expect) {
    let conn = conn(op.role, port(&op.detail));
    let found = Rules::compile(&order_settings::Order::default()).expect("valid defaults").extract(op);
    let span = build(&placed(op, &conn, &found));
    let text = shown(&span);
    assert!(!text.contains(SECRET), "{text}");
    expected.assert_eq(&text);
}

pub(super) fn check(role: Role, detail: Detail, expected: Expect) {
    check_op(&op(role, detail), expected);
}

pub(super) fn exchange(method: &str, target: &str, status: u16) -> Exchange {
    Exchange {
        version: "1.1",
        method: method.to_owned(),
        target: target.to_owned(),
        authority: "shop.example:8080".to_owned(),
        request_headers: [
            ("user-agent", "curl/8"),
            ("authorization", "Bearer hunter2"),
            ("cookie", "session=hunter2"),
            ("x-api-key", "hunter2"),
        ]
        .into_iter()
        .collect(),
        status: Some(status),
        response_headers: [("set-cookie", "session=hunter2")].into_iter().collect(),
        ..Exchange::default()
    }
}

pub(super) fn http(exchange: Exchange) -> Detail {
    Detail::Http(Box::new(exchange))
}

pub(super) fn kept(body: &str) -> Kept {
    Kept { bytes: body.as_bytes().to_vec(), len: body.len() as u64, holed: false, left_out: 0 }
}

pub(super) fn statement(text: &str, tag: &str) -> Statement {
    Statement {
        text: Some(text.to_owned()),
        command_tag: Some(tag.to_owned()),
        database: Some("shop".to_owned()),
        user: Some("bob".to_owned()),
        ..Statement::default()
    }
}

pub(super) fn sql(statement: Statement) -> Detail {
    Detail::Postgres(Box::new(statement))
}
