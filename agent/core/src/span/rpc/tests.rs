//! Calls of each outcome, and exactly the spans they become.

use std::time::Duration;

use expect_test::expect;

use super::timeout;
use crate::operation::http::Exchange;
use crate::order::Found;
use crate::record::Role;
use crate::span::build::build;
use crate::span::testing::{check, conn, exchange, http, kept, op, placed};
use crate::trace::Value;

fn grpc(target: &str, status: &str) -> Exchange {
    let mut call = Exchange {
        version: "2",
        request_headers: [("content-type", "application/grpc"), ("user-agent", "grpc-go/1.33.3")]
            .into_iter()
            .collect(),
        authority: "shop:50051".to_owned(),
        request_body: kept("\0\0\0\0\x04order"),
        ..exchange("POST", target, 200)
    };
    call.http2.stream = 7;
    call.http2.request_messages = Some(1);
    call.http2.response_messages = Some(2);
    if !status.is_empty() {
        call.http2.trailers =
            [("grpc-status", status), ("grpc-message", "no%20such order")].into_iter().collect();
    }
    call
}

#[test]
fn grpc_calls() {
    check(
        Role::Server,
        http(grpc("/shop.v1.Orders/Get", "0")),
        expect![[r#"
        Server shop.v1.Orders/Get
          1000100 +500
          rpc.system.name: grpc
          server.address: shop
          server.port: 50051i
          client.address: 10.0.0.1
          network.peer.address: 10.0.0.1
          network.peer.port: 40000i
          network.protocol.name: http
          network.protocol.version: 2
          user_agent.original: grpc-go/1.33.3
          http.request.body.size: 10i
          spoor.rpc.request.messages: 1i
          spoor.rpc.response.messages: 2i
          rpc.method: shop.v1.Orders/Get
          rpc.response.status_code: OK
          spoor.trace.rule: wire
    "#]],
    );
    check(
        Role::Client,
        http(grpc("/shop.v1.Orders/Get", "5")),
        expect![[r#"
        Client shop.v1.Orders/Get
          1000100 +500
          ERROR no such order
          rpc.system.name: grpc
          server.address: shop
          server.port: 50051i
          network.peer.address: 10.0.0.2
          network.peer.port: 8080i
          network.protocol.name: http
          network.protocol.version: 2
          user_agent.original: grpc-go/1.33.3
          http.request.body.size: 10i
          spoor.rpc.request.messages: 1i
          spoor.rpc.response.messages: 2i
          rpc.method: shop.v1.Orders/Get
          rpc.response.status_code: NOT_FOUND
          error.type: NOT_FOUND
          spoor.trace.rule: wire
    "#]],
    );
    let mut unknown = grpc("", "0");
    unknown.http2.unknown_fields = 3;
    check(
        Role::Server,
        http(unknown),
        expect![[r#"
        Server grpc
          1000100 +500
          rpc.system.name: grpc
          server.address: shop
          server.port: 50051i
          client.address: 10.0.0.1
          network.peer.address: 10.0.0.1
          network.peer.port: 40000i
          network.protocol.name: http
          network.protocol.version: 2
          user_agent.original: grpc-go/1.33.3
          http.request.body.size: 10i
          spoor.rpc.request.messages: 1i
          spoor.rpc.response.messages: 2i
          spoor.http2.unknown_fields: 3i
          rpc.response.status_code: OK
          spoor.trace.rule: wire
    "#]],
    );
}

#[test]
fn grpc_statuses() {
    use crate::operation::http::Reset;
    use crate::record::Sender;
    let check = |role: Role, call: Exchange, took_ns: u64, expected: &str| {
        let mut op = op(role, http(call));
        op.ended_at = op.request.start.at + Duration::from_nanos(took_ns);
        let (conn, found) = (conn(role, 50_051), Found::default());
        let span = build(&placed(&op, &conn, &found));
        let code = span.attributes.get("rpc.response.status_code").cloned();
        let error = span.attributes.get("error.type").cloned();
        let text = |value: Option<Value>| match value {
            Some(Value::Text(text)) => text.to_string(),
            None => "–".to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(format!("{} {} {:?}", text(code), text(error), span.status), expected);
    };
    let call = |status: &str| grpc("/a.B/C", status);
    check(Role::Client, call("0"), 1, "OK – Unset");
    check(Role::Server, call("5"), 1, "NOT_FOUND – Unset");
    check(Role::Client, call("5"), 1, "NOT_FOUND NOT_FOUND Error(\"no such order\")");
    check(Role::Server, call("13"), 1, "INTERNAL INTERNAL Error(\"no such order\")");
    check(Role::Server, call("99"), 1, "UNKNOWN UNKNOWN Error(\"no such order\")");
    // A proxy answered.
    check(Role::Client, Exchange { status: Some(503), ..call("") }, 1, "UNAVAILABLE UNAVAILABLE Error(\"\")");
    check(Role::Client, call(""), 1, "– – Unset");
    let reset = |by: Sender, code: u32, timeout: &str| {
        let mut call = call("");
        call.http2.reset = Some(Reset { by, code, goaway: false });
        call.request_headers.push(b"grpc-timeout", timeout.as_bytes());
        call
    };
    check(Role::Client, reset(Sender::Server, 7, "1S"), 1, "UNAVAILABLE UNAVAILABLE Error(\"\")");
    check(
        Role::Client,
        reset(Sender::Client, 8, "200m"),
        199_000_000,
        "DEADLINE_EXCEEDED DEADLINE_EXCEEDED Error(\"\")",
    );
    check(Role::Client, reset(Sender::Client, 8, "200m"), 100_000_000, "CANCELLED CANCELLED Error(\"\")");
    check(Role::Server, reset(Sender::Client, 8, "200m"), 199_000_000, "CANCELLED – Unset");
    let mut refused = call("");
    refused.http2.reset = Some(Reset { by: Sender::Server, code: 0, goaway: true });
    check(Role::Client, refused, 1, "UNAVAILABLE UNAVAILABLE Error(\"\")");
}

#[test]
fn timeouts_have_units() {
    for (text, expected) in [
        ("1S", Some(1_000_000_000)),
        ("250m", Some(250_000_000)),
        ("99999999n", Some(99_999_999)),
        ("2M", Some(120_000_000_000)),
        ("1H", Some(3_600_000_000_000)),
        ("10u", Some(10_000)),
        ("100000000n", None),
        ("S", None),
        ("+1S", None),
        ("1", None),
        ("", None),
    ] {
        assert_eq!(timeout(text), expected.map(Duration::from_nanos), "{text}");
    }
}
