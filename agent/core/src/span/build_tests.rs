//! One operation of each kind and outcome, and exactly the span it becomes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use expect_test::{Expect, expect};

use super::*;
use crate::causality::{Confidence, Rule};
use crate::operation::amqp::{
    Action, ActionKind, Content, Deliver, Method, Properties, Publish, PublishOutcome, Settle, Settlement,
    Source,
};
use crate::operation::http::{Exchange, Upload};
use crate::operation::postgres::{Cell, Parameter, ServerError, Statement, StatementKind};
use crate::operation::{Extent, Kept, OpSide};
use crate::order::{Rules, settings as order_settings};
use crate::record::{Conn, ConnId, OpId, Point, Thread, Transport};

/// A secret that must be in no span.
const SECRET: &str = "hunter2";

fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port))
}

/// A connection of 10.0.0.1:40000 to 10.0.0.2 at the protocol's port.
fn conn(role: Role, port: u16) -> ConnInfo {
    let (client, server) = (endpoint(1, 40_000), endpoint(2, port));
    let (local, remote) = if role == Role::Client { (client, server) } else { (server, client) };
    let conn = Conn {
        at: 0,
        id: ConnId(7),
        transport: Transport::Tcp,
        local,
        remote,
        netns: 0,
        role: Some(role),
        from_start: true,
        thread: Thread::default(),
        comm: String::new(),
        cgroup: 0,
        wire: None,
        peer: None,
    };
    ConnInfo { conn, role: Some(role), protocol: None }
}

fn op(role: Role, detail: Detail) -> Operation {
    let point = |at, pos| Point { at, pos, thread: Thread::default() };
    Operation {
        id: OpId(1),
        shape: OpSide::Outgoing,
        role,
        request: Extent { start: point(1_000, 0), end: point(1_100, 50) },
        response: Some(Extent { start: point(1_400, 0), end: point(1_500, 60) }),
        ended_at: 1_500,
        completeness: Completeness::Complete,
        detail,
    }
}

fn port(detail: &Detail) -> u16 {
    match detail {
        Detail::Http(_) => 8080,
        Detail::Amqp(_) => 5672,
        Detail::Postgres(_) => 5432,
    }
}

fn identity() -> Identity {
    let (trace_id, span_id) = (TraceId([1; 16]), SpanId([2; 8]));
    Identity { trace_id, span_id, parent: None, evidence: None, links: Vec::new() }
}

fn placed<'a>(op: &'a Operation, conn: &'a ConnInfo, found: &'a Found) -> Placed<'a> {
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
        clock: ClockPair { boot_ns: 900, unix_ns: 1_000_000 },
    }
}

fn shown(span: &Span) -> String {
    let mut lines = vec![format!("{:?} {}", span.kind, span.name)];
    lines.push(format!("  {} +{}", span.start_unix_ns, span.end_unix_ns - span.start_unix_ns));
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
fn check_op(op: &Operation, expected: Expect) {
    let conn = conn(op.role, port(&op.detail));
    let found = Rules::compile(&order_settings::Order::default()).expect("valid defaults").extract(op);
    let span = build(&placed(op, &conn, &found));
    let text = shown(&span);
    assert!(!text.contains(SECRET), "{text}");
    expected.assert_eq(&text);
}

fn check(role: Role, detail: Detail, expected: Expect) {
    check_op(&op(role, detail), expected);
}

fn exchange(method: &str, target: &str, status: u16) -> Exchange {
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

fn http(exchange: Exchange) -> Detail {
    Detail::Http(Box::new(exchange))
}

fn kept(body: &str) -> Kept {
    Kept { bytes: body.as_bytes().to_vec(), len: body.len() as u64, holed: false }
}

#[test]
fn http_server_and_client() {
    let both = || Exchange {
        request_body: kept(r#"{"password": "hunter2", "order_id": 17}"#),
        ..exchange("POST", "/orders/17?token=hunter2&full=1", 201)
    };
    check(
        Role::Server,
        http(both()),
        expect![[r#"
        Server POST /orders/{order_id}
          1000100 +500
          http.request.method: POST
          url.scheme: http
          url.path: /orders/17
          url.query: token=REDACTED&full=1
          server.address: shop.example
          server.port: 8080i
          client.address: 10.0.0.1
          network.peer.address: 10.0.0.1
          network.peer.port: 40000i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          http.request.body.size: 39i
          http.route: /orders/{order_id}
          http.response.status_code: 201i
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    check(
        Role::Client,
        http(both()),
        expect![[r#"
        Client POST /orders/{order_id}
          1000100 +500
          http.request.method: POST
          url.full: http://shop.example:8080/orders/17?token=REDACTED&full=1
          server.address: shop.example
          server.port: 8080i
          network.peer.address: 10.0.0.2
          network.peer.port: 8080i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          http.request.body.size: 39i
          url.template: /orders/{order_id}
          http.response.status_code: 201i
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
}

#[test]
fn http_statuses() {
    check(
        Role::Server,
        http(exchange("GET", "/x", 404)),
        expect![[r#"
        Server GET
          1000100 +500
          http.request.method: GET
          url.scheme: http
          url.path: /x
          server.address: shop.example
          server.port: 8080i
          client.address: 10.0.0.1
          network.peer.address: 10.0.0.1
          network.peer.port: 40000i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          http.response.status_code: 404i
          spoor.trace.rule: wire
    "#]],
    );
    check(
        Role::Client,
        http(exchange("GET", "/x", 404)),
        expect![[r#"
        Client GET
          1000100 +500
          ERROR
          http.request.method: GET
          url.full: http://shop.example:8080/x
          server.address: shop.example
          server.port: 8080i
          network.peer.address: 10.0.0.2
          network.peer.port: 8080i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          http.response.status_code: 404i
          error.type: 404
          spoor.trace.rule: wire
    "#]],
    );
    check(
        Role::Server,
        http(exchange("GET", "/x", 503)),
        expect![[r#"
        Server GET
          1000100 +500
          ERROR
          http.request.method: GET
          url.scheme: http
          url.path: /x
          server.address: shop.example
          server.port: 8080i
          client.address: 10.0.0.1
          network.peer.address: 10.0.0.1
          network.peer.port: 40000i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          http.response.status_code: 503i
          error.type: 503
          spoor.trace.rule: wire
    "#]],
    );
    let unanswered = |role| Operation {
        completeness: Completeness::Cut,
        ..op(role, http(Exchange { status: None, ..exchange("GET", "/x", 0) }))
    };
    check_op(
        &unanswered(Role::Client),
        expect![[r#"
        Client GET
          1000100 +500
          ERROR
          http.request.method: GET
          url.full: http://shop.example:8080/x
          server.address: shop.example
          server.port: 8080i
          network.peer.address: 10.0.0.2
          network.peer.port: 8080i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          error.type: no_response
          spoor.trace.rule: wire
          spoor.incomplete: cut
    "#]],
    );
    check_op(
        &unanswered(Role::Server),
        expect![[r#"
        Server GET
          1000100 +500
          http.request.method: GET
          url.scheme: http
          url.path: /x
          server.address: shop.example
          server.port: 8080i
          client.address: 10.0.0.1
          network.peer.address: 10.0.0.1
          network.peer.port: 40000i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          spoor.trace.rule: wire
          spoor.incomplete: cut
    "#]],
    );
    let cut =
        Operation { completeness: Completeness::Cut, ..op(Role::Client, http(exchange("GET", "/x", 200))) };
    check_op(
        &cut,
        expect![[r#"
        Client GET
          1000100 +500
          ERROR
          http.request.method: GET
          url.full: http://shop.example:8080/x
          server.address: shop.example
          server.port: 8080i
          network.peer.address: 10.0.0.2
          network.peer.port: 8080i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          http.response.status_code: 200i
          error.type: response_cut
          spoor.trace.rule: wire
          spoor.incomplete: cut
    "#]],
    );
}

#[test]
fn http_odd_requests() {
    check(
        Role::Client,
        http(exchange("BREW", "http://bob:hunter2@pot/tea#x", 200)),
        expect![[r#"
        Client HTTP
          1000100 +500
          http.request.method: _OTHER
          http.request.method_original: BREW
          url.full: http://REDACTED:REDACTED@shop.example:8080/tea
          server.address: shop.example
          server.port: 8080i
          network.peer.address: 10.0.0.2
          network.peer.port: 8080i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          http.response.status_code: 200i
          spoor.trace.rule: wire
    "#]],
    );
    let unseen = Exchange { status: Some(200), version: "1.1", ..Exchange::default() };
    check(
        Role::Server,
        http(unseen),
        expect![[r#"
        Server HTTP
          1000100 +500
          http.request.method: _OTHER
          url.scheme: http
          server.address: 10.0.0.2
          server.port: 8080i
          client.address: 10.0.0.1
          network.peer.address: 10.0.0.1
          network.peer.port: 40000i
          network.protocol.version: 1.1
          http.response.status_code: 200i
          spoor.trace.rule: wire
    "#]],
    );
    let v6 = Exchange { authority: "[::1]:8080".to_owned(), ..exchange("OPTIONS", "*", 204) };
    check(
        Role::Client,
        http(v6),
        expect![[r#"
        Client OPTIONS
          1000100 +500
          http.request.method: OPTIONS
          url.full: http://[::1]:8080
          server.address: ::1
          server.port: 8080i
          network.peer.address: 10.0.0.2
          network.peer.port: 8080i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          http.response.status_code: 204i
          spoor.trace.rule: wire
    "#]],
    );
    let personal = exchange("GET", "/users/jane@example.org/orders?mail=jane%40example.org", 200);
    check(
        Role::Server,
        http(personal),
        expect![[r#"
        Server GET
          1000100 +500
          http.request.method: GET
          url.scheme: http
          url.path: /users/REDACTED/orders
          url.query: mail=REDACTED
          server.address: shop.example
          server.port: 8080i
          client.address: 10.0.0.1
          network.peer.address: 10.0.0.1
          network.peer.port: 40000i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          http.response.status_code: 200i
          spoor.trace.rule: wire
    "#]],
    );
}

#[test]
fn uploads_and_incomplete_exchanges() {
    let upload = Upload {
        field: "model".to_owned(),
        file_name: "bracket.STL".to_owned(),
        content_type: "model/stl".to_owned(),
        len: Some(70_000),
    };
    let exchange = Exchange {
        request_body: Kept { bytes: Vec::new(), len: 71_000, holed: true },
        uploads: vec![upload],
        ..exchange("PUT", "/api/v1/orders/17/model", 200)
    };
    let gap = Operation { completeness: Completeness::Gap(6_000), ..op(Role::Server, http(exchange)) };
    check_op(
        &gap,
        expect![[r#"
            Server PUT /api/v1/orders/{order_id}/model
              1000100 +500
              http.request.method: PUT
              url.scheme: http
              url.path: /api/v1/orders/17/model
              server.address: shop.example
              server.port: 8080i
              client.address: 10.0.0.1
              network.peer.address: 10.0.0.1
              network.peer.port: 40000i
              network.protocol.version: 1.1
              user_agent.original: curl/8
              http.request.body.size: 71000i
              spoor.upload.count: 1i
              spoor.upload.size: 70000i
              http.route: /api/v1/orders/{order_id}/model
              http.response.status_code: 200i
              order.id: 17
              spoor.trace.rule: wire
              spoor.incomplete: gap
              spoor.missing_bytes: 6000i
              order.model.file_name: bracket.STL
              order.model.size: 70000i
              order.model.format: stl
        "#]],
    );
}

#[test]
fn object_store() {
    const AUTH: &str = "AWS4-HMAC-SHA256 Credential=hunter2/20261120/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=hunter2";
    let s3 = |method: &str, target: &str, extra: (&str, &str)| Exchange {
        request_headers: [("authorization", AUTH), extra].into_iter().collect(),
        response_headers: [("x-amz-request-id", "R1"), ("x-amz-id-2", "E1")].into_iter().collect(),
        authority: "store:9000".to_owned(),
        request_body: kept("solid"),
        ..exchange(method, target, 200)
    };
    let part = "/models/orders/17/part%201.stl?partNumber=3&uploadId=U1&x-id=UploadPart";
    check(
        Role::Client,
        http(s3("PUT", part, ("", ""))),
        expect![[r#"
        Client PUT /{bucket}/{key}
          1000100 +500
          http.request.method: PUT
          url.full: http://store:9000/models/orders/17/part%201.stl?partNumber=3&uploadId=U1&x-id=UploadPart
          server.address: store
          server.port: 9000i
          network.peer.address: 10.0.0.2
          network.peer.port: 8080i
          network.protocol.version: 1.1
          http.request.body.size: 5i
          cloud.region: eu-central-1
          aws.s3.bucket: models
          aws.s3.key: orders/17/part 1.stl
          aws.s3.upload_id: U1
          aws.s3.part_number: 3i
          aws.request_id: R1
          aws.extended_request_id: E1
          rpc.method: S3/UploadPart
          url.template: /{bucket}/{key}
          http.response.status_code: 200i
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    check(
        Role::Client,
        http(s3("PUT", "/archive/a.stl", ("x-amz-copy-source", "/models/a.stl"))),
        expect![[r#"
            Client PUT /{bucket}/{key}
              1000100 +500
              http.request.method: PUT
              url.full: http://store:9000/archive/a.stl
              server.address: store
              server.port: 9000i
              network.peer.address: 10.0.0.2
              network.peer.port: 8080i
              network.protocol.version: 1.1
              http.request.body.size: 5i
              cloud.region: eu-central-1
              aws.s3.bucket: archive
              aws.s3.key: a.stl
              aws.s3.copy_source: models/a.stl
              aws.request_id: R1
              aws.extended_request_id: E1
              rpc.method: S3/CopyObject
              url.template: /{bucket}/{key}
              http.response.status_code: 200i
              spoor.trace.rule: wire
        "#]],
    );
    let presigned = Exchange {
        authority: "models.s3.eu-west-1.amazonaws.com".to_owned(),
        ..exchange(
            "GET",
            "/a/b.stl?X-Amz-Credential=hunter2%2F20261120%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Signature=hunter2",
            403,
        )
    };
    check(
        Role::Client,
        http(presigned),
        expect![[r#"
        Client GET /{key}
          1000100 +500
          ERROR
          http.request.method: GET
          url.full: http://models.s3.eu-west-1.amazonaws.com/a/b.stl?X-Amz-Credential=REDACTED&X-Amz-Signature=REDACTED
          server.address: models.s3.eu-west-1.amazonaws.com
          server.port: 80i
          network.peer.address: 10.0.0.2
          network.peer.port: 8080i
          network.protocol.version: 1.1
          user_agent.original: curl/8
          cloud.region: eu-west-1
          aws.s3.bucket: models
          aws.s3.key: a/b.stl
          rpc.method: S3/GetObject
          url.template: /{key}
          http.response.status_code: 403i
          error.type: 403
          spoor.trace.rule: wire
    "#]],
    );
    let other = Exchange {
        request_headers: [(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=hunter2/20261120/eu/sqs/aws4_request",
        )]
        .into_iter()
        .collect(),
        ..exchange("POST", "/queue", 200)
    };
    check(
        Role::Client,
        http(other),
        expect![[r#"
        Client POST
          1000100 +500
          http.request.method: POST
          url.full: http://shop.example:8080/queue
          server.address: shop.example
          server.port: 8080i
          network.peer.address: 10.0.0.2
          network.peer.port: 8080i
          network.protocol.version: 1.1
          http.response.status_code: 200i
          spoor.trace.rule: wire
    "#]],
    );
}

fn amqp(kind: ActionKind) -> Detail {
    Detail::Amqp(Box::new(Action { channel: 1, vhost: Some("/".to_owned()), kind }))
}

fn content() -> Content {
    let properties = Properties {
        content_type: Some("application/json".to_owned()),
        message_id: Some("m-1".to_owned()),
        correlation_id: Some("c-1".to_owned()),
        headers: vec![("authorization".to_owned(), crate::operation::amqp::Value::Text(b"hunter2".to_vec()))],
        ..Properties::default()
    };
    Content { properties, body: kept(r#"{"order_id": 17, "password": "hunter2"}"#), ..Content::default() }
}

fn publish(exchange: &str, routing_key: &str, outcome: PublishOutcome) -> Detail {
    let (exchange, routing_key) = (exchange.to_owned(), routing_key.to_owned());
    amqp(ActionKind::Publish(Publish {
        exchange,
        routing_key,
        mandatory: false,
        content: content(),
        outcome,
    }))
}

fn deliver(settlement: Option<Settlement>) -> Deliver {
    Deliver {
        exchange: "shop".to_owned(),
        routing_key: "order.created".to_owned(),
        queue: Some("mes.orders".to_owned()),
        consumer_tag: "ctag1".to_owned(),
        delivery_tag: 9,
        redelivered: true,
        no_ack: Some(false),
        content: content(),
        settlement,
        settled_at: settlement.map(|_| 2_000),
    }
}

#[test]
fn publishes() {
    check(
        Role::Client,
        publish("shop", "order.created", PublishOutcome::Confirmed),
        expect![[r#"
        Producer publish shop:order.created
          1000100 +500
          messaging.system: rabbitmq
          messaging.operation.name: publish
          messaging.operation.type: send
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.destination.name: shop:order.created
          messaging.rabbitmq.destination.routing_key: order.created
          messaging.message.id: m-1
          messaging.message.conversation_id: c-1
          messaging.message.body.size: 39i
          spoor.messaging.outcome: confirmed
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    let returned = PublishOutcome::Returned { code: 312, text: "NO_ROUTE".to_owned() };
    check(
        Role::Client,
        publish("", "order.17.new", returned),
        expect![[r#"
        Producer publish order.{id}.new
          1000100 +500
          ERROR NO_ROUTE
          messaging.system: rabbitmq
          messaging.operation.name: publish
          messaging.operation.type: send
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.destination.name: order.17.new
          messaging.destination.template: order.{id}.new
          messaging.rabbitmq.destination.routing_key: order.17.new
          messaging.message.id: m-1
          messaging.message.conversation_id: c-1
          messaging.message.body.size: 39i
          error.type: 312
          spoor.messaging.outcome: returned
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    check(
        Role::Client,
        publish("", "amq.gen-abc", PublishOutcome::Refused),
        expect![[r#"
        Producer publish
          1000100 +500
          ERROR
          messaging.system: rabbitmq
          messaging.operation.name: publish
          messaging.operation.type: send
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.destination.name: amq.gen-abc
          messaging.destination.anonymous: Bool(true)
          messaging.destination.temporary: Bool(true)
          messaging.rabbitmq.destination.routing_key: amq.gen-abc
          messaging.message.id: m-1
          messaging.message.conversation_id: c-1
          messaging.message.body.size: 39i
          error.type: nack
          spoor.messaging.outcome: nacked
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    check(
        Role::Client,
        publish("mail", "jane@example.org", PublishOutcome::Confirmed),
        expect![[r#"
        Producer publish mail:REDACTED
          1000100 +500
          messaging.system: rabbitmq
          messaging.operation.name: publish
          messaging.operation.type: send
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.destination.name: mail:REDACTED
          messaging.rabbitmq.destination.routing_key: REDACTED
          messaging.message.id: m-1
          messaging.message.conversation_id: c-1
          messaging.message.body.size: 39i
          spoor.messaging.outcome: confirmed
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    let error =
        PublishOutcome::Error { code: 404, text: "NOT_FOUND - no exchange 'x' in vhost '/'".to_owned() };
    check(
        Role::Client,
        publish("x", "", error),
        expect![[r#"
        Producer publish x
          1000100 +500
          ERROR NOT_FOUND - no exchange 'x' in vhost '/'
          messaging.system: rabbitmq
          messaging.operation.name: publish
          messaging.operation.type: send
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.destination.name: x
          messaging.message.id: m-1
          messaging.message.conversation_id: c-1
          messaging.message.body.size: 39i
          error.type: 404
          spoor.messaging.outcome: error
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
}

#[test]
fn deliveries() {
    let of = |settlement| op(Role::Client, amqp(ActionKind::Deliver(deliver(settlement))));
    check_op(
        &of(Some(Settlement::Ack)),
        expect![[r#"
        Consumer process shop:order.created:mes.orders
          1000200 +900
          messaging.system: rabbitmq
          messaging.operation.name: process
          messaging.operation.type: process
          server.address: 10.0.0.2
          server.port: 5672i
          messaging.destination.name: shop:order.created:mes.orders
          messaging.rabbitmq.destination.routing_key: order.created
          messaging.rabbitmq.message.delivery_tag: 9i
          messaging.message.id: m-1
          messaging.message.conversation_id: c-1
          messaging.message.body.size: 39i
          spoor.messaging.redelivered: Bool(true)
          spoor.messaging.consumer_tag: ctag1
          spoor.messaging.prefetched: Bool(true)
          spoor.messaging.settlement: ack
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    check_op(
        &of(Some(Settlement::Reject { requeue: false })),
        expect![[r#"
        Consumer process shop:order.created:mes.orders
          1000200 +900
          ERROR
          messaging.system: rabbitmq
          messaging.operation.name: process
          messaging.operation.type: process
          server.address: 10.0.0.2
          server.port: 5672i
          messaging.destination.name: shop:order.created:mes.orders
          messaging.rabbitmq.destination.routing_key: order.created
          messaging.rabbitmq.message.delivery_tag: 9i
          messaging.message.id: m-1
          messaging.message.conversation_id: c-1
          messaging.message.body.size: 39i
          spoor.messaging.redelivered: Bool(true)
          spoor.messaging.consumer_tag: ctag1
          spoor.messaging.prefetched: Bool(true)
          spoor.messaging.settlement: reject
          spoor.messaging.requeue: Bool(false)
          error.type: reject
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    check_op(
        &of(None),
        expect![[r#"
        Consumer process shop:order.created:mes.orders
          1000200 +400
          messaging.system: rabbitmq
          messaging.operation.name: process
          messaging.operation.type: process
          server.address: 10.0.0.2
          server.port: 5672i
          messaging.destination.name: shop:order.created:mes.orders
          messaging.rabbitmq.destination.routing_key: order.created
          messaging.rabbitmq.message.delivery_tag: 9i
          messaging.message.id: m-1
          messaging.message.conversation_id: c-1
          messaging.message.body.size: 39i
          spoor.messaging.redelivered: Bool(true)
          spoor.messaging.consumer_tag: ctag1
          spoor.messaging.prefetched: Bool(true)
          spoor.messaging.settlement: none
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    check(
        Role::Client,
        amqp(ActionKind::Get(Some(deliver(None)))),
        expect![[r#"
        Client get shop:order.created:mes.orders
          1000100 +500
          messaging.system: rabbitmq
          messaging.operation.name: get
          messaging.operation.type: receive
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.destination.name: shop:order.created:mes.orders
          messaging.rabbitmq.destination.routing_key: order.created
          messaging.rabbitmq.message.delivery_tag: 9i
          messaging.message.id: m-1
          messaging.message.conversation_id: c-1
          messaging.message.body.size: 39i
          spoor.messaging.redelivered: Bool(true)
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    check(
        Role::Client,
        amqp(ActionKind::Get(None)),
        expect![[r#"
        Client get 10.0.0.2:5672
          1000100 +500
          messaging.system: rabbitmq
          messaging.operation.name: get
          messaging.operation.type: receive
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.batch.message_count: 0i
          spoor.trace.rule: wire
    "#]],
    );
}

#[test]
fn processing_spans_the_work_that_is_known() {
    let op = op(Role::Client, amqp(ActionKind::Deliver(Deliver { settled_at: None, ..deliver(None) })));
    let (conn, found) = (conn(Role::Client, 5672), Found::default());
    let times = |started_at, last_at| {
        let span = build_with(&placed(&op, &conn, &found), Work { started_at, last_at });
        let prefetched = span.attributes.get(semconv::SPOOR_MESSAGING_PREFETCHED).is_some();
        (span.start_unix_ns - 1_000_000, span.end_unix_ns - 1_000_000, prefetched)
    };
    // Delivered at boot time 1,100, which is 200 after the clock pair.
    assert_eq!(times(None, None), (200, 600, true));
    assert_eq!(times(Some(1_300), Some(2_900)), (400, 2_000, false));
    assert_eq!(times(Some(50), Some(60)), (200, 200, false));
}

#[test]
fn settlements_and_methods() {
    let settle = Settle {
        settlement: Settlement::Ack,
        delivery_tag: 9,
        multiple: true,
        message_count: 4,
        delivery: None,
        source: None,
    };
    check(
        Role::Client,
        amqp(ActionKind::Settle(settle)),
        expect![[r#"
        Client ack 10.0.0.2:5672
          1000100 +500
          messaging.system: rabbitmq
          messaging.operation.name: ack
          messaging.operation.type: settle
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.rabbitmq.message.delivery_tag: 9i
          messaging.batch.message_count: 4i
          spoor.trace.rule: wire
    "#]],
    );
    let nack = Settle {
        settlement: Settlement::Nack { requeue: true },
        delivery_tag: 9,
        multiple: false,
        message_count: 1,
        delivery: None,
        source: Some(Source {
            exchange: "shop".to_owned(),
            routing_key: "new".to_owned(),
            queue: Some("mes.orders".to_owned()),
        }),
    };
    check(
        Role::Client,
        amqp(ActionKind::Settle(nack)),
        expect![[r#"
        Client nack shop:new:mes.orders
          1000100 +500
          messaging.system: rabbitmq
          messaging.operation.name: nack
          messaging.operation.type: settle
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.destination.name: shop:new:mes.orders
          messaging.rabbitmq.destination.routing_key: new
          messaging.rabbitmq.message.delivery_tag: 9i
          spoor.messaging.requeue: Bool(true)
          spoor.trace.rule: wire
    "#]],
    );
    let declare = Method {
        name: "queue.declare".to_owned(),
        target: "mes.orders".to_owned(),
        error: Some((406, "PRECONDITION_FAILED - inequivalent arg 'durable'".to_owned())),
    };
    check(
        Role::Client,
        amqp(ActionKind::Method(declare)),
        expect![[r#"
        Client queue.declare mes.orders
          1000100 +500
          ERROR PRECONDITION_FAILED - inequivalent arg 'durable'
          messaging.system: rabbitmq
          messaging.operation.name: queue.declare
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.destination.name: mes.orders
          error.type: 406
          spoor.trace.rule: wire
    "#]],
    );
    let returned = Publish {
        exchange: "shop".to_owned(),
        routing_key: "lost".to_owned(),
        outcome: PublishOutcome::Returned { code: 312, text: "NO_ROUTE".to_owned() },
        ..Publish::default()
    };
    check(
        Role::Client,
        amqp(ActionKind::Return(returned)),
        expect![[r#"
        Client return shop:lost
          1000100 +500
          ERROR NO_ROUTE
          messaging.system: rabbitmq
          messaging.operation.name: return
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.destination.name: shop:lost
          messaging.rabbitmq.destination.routing_key: lost
          messaging.message.body.size: 0i
          error.type: 312
          spoor.messaging.outcome: returned
          spoor.trace.rule: wire
    "#]],
    );
    let open = Method { name: "channel.open".to_owned(), ..Method::default() };
    check(
        Role::Client,
        amqp(ActionKind::Method(open)),
        expect![[r#"
        Client channel.open 10.0.0.2:5672
          1000100 +500
          messaging.system: rabbitmq
          messaging.operation.name: channel.open
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          spoor.trace.rule: wire
    "#]],
    );
}

#[test]
fn dwell_is_the_brokers_own_span() {
    let publish = op(Role::Server, publish("shop", "order.created", PublishOutcome::Confirmed));
    let mut deliver = op(Role::Server, amqp(ActionKind::Deliver(deliver(None))));
    deliver.request.start.at = 5_100;
    let (conn, found) = (conn(Role::Server, 5672), Found::default());
    expect![[r#"
        Internal dwell mes.orders
          1000200 +4000
          messaging.system: rabbitmq
          messaging.operation.name: dwell
          messaging.destination.name: mes.orders
          messaging.rabbitmq.destination.routing_key: order.created
          messaging.message.id: m-1
          messaging.message.conversation_id: c-1
          messaging.message.body.size: 39i
          spoor.messaging.redelivered: Bool(true)
          spoor.trace.rule: wire
    "#]]
    .assert_eq(&shown(&build_dwell(Some(publish.request.end.at), &placed(&deliver, &conn, &found))));
}

fn statement(text: &str, tag: &str) -> Statement {
    Statement {
        text: Some(text.to_owned()),
        command_tag: Some(tag.to_owned()),
        database: Some("shop".to_owned()),
        user: Some("bob".to_owned()),
        ..Statement::default()
    }
}

fn sql(statement: Statement) -> Detail {
    Detail::Postgres(Box::new(statement))
}

#[test]
fn statements() {
    let simple = Statement {
        returned_rows: 2,
        ..statement("SELECT * FROM orders WHERE id = 17 AND pass = 'hunter2'", "SELECT 2")
    };
    check(
        Role::Client,
        sql(simple),
        expect![[r#"
        Client SELECT orders
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: SELECT * FROM orders WHERE id = ? AND pass = ?
          db.query.summary: SELECT orders
          db.response.returned_rows: 2i
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    let bound = Statement {
        kind: StatementKind::Extended,
        parameterised: true,
        parameters: ["17", SECRET]
            .map(|v| Parameter { type_oid: 25, value: Some(Cell::Text(v.to_owned())) })
            .to_vec(),
        transaction: Some(3),
        ..statement("UPDATE orders SET note = $2 WHERE id = $1", "UPDATE 1")
    };
    check(
        Role::Client,
        sql(bound),
        expect![[r#"
        Client UPDATE orders
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: UPDATE orders SET note = $2 WHERE id = $1
          db.query.summary: UPDATE orders
          spoor.db.affected_rows: 1i
          spoor.db.transaction: 3i
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    let personal = Statement {
        parameterised: true,
        ..statement("SELECT 1 FROM users WHERE email = 'jane@example.org' AND id = $1", "SELECT 0")
    };
    check(
        Role::Client,
        sql(personal),
        expect![[r#"
        Client SELECT users
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: SELECT ? FROM users WHERE email = ? AND id = $1
          db.query.summary: SELECT users
          db.response.returned_rows: 0i
          spoor.trace.rule: wire
    "#]],
    );
    let unseen = Statement { text: None, ..statement("", "INSERT 0 1") };
    check(
        Role::Client,
        sql(unseen),
        expect![[r#"
        Client INSERT shop
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.operation.name: INSERT
          spoor.db.affected_rows: 1i
          spoor.trace.rule: wire
    "#]],
    );
    let copy = Statement {
        kind: StatementKind::Copy,
        copy_len: 4096,
        ..statement("COPY parts FROM STDIN", "COPY 12")
    };
    check(
        Role::Client,
        sql(copy),
        expect![[r#"
        Client COPY parts
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: COPY parts FROM STDIN
          db.query.summary: COPY parts
          spoor.db.affected_rows: 12i
          spoor.db.copy_size: 4096i
          spoor.trace.rule: wire
    "#]],
    );
}

#[test]
fn failed_statements() {
    let failed = |code: &str, message: &str| Statement {
        error: Some(ServerError {
            severity: "ERROR".to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            table: "orders".to_owned(),
            constraint: if code == "23505" { "orders_pkey".to_owned() } else { String::new() },
            ..ServerError::default()
        }),
        command_tag: None,
        ..statement("INSERT INTO orders (id, note) VALUES (17, 'hunter2')", "")
    };
    let duplicate = "duplicate key value violates unique constraint \"orders_pkey\"";
    check(
        Role::Client,
        sql(failed("23505", duplicate)),
        expect![[r#"
            Client INSERT orders
              1000100 +500
              ERROR duplicate key value violates unique constraint "orders_pkey"
              db.system.name: postgresql
              db.namespace: shop
              server.address: 10.0.0.2
              network.peer.address: 10.0.0.2
              network.peer.port: 5432i
              db.query.text: INSERT INTO orders (id, note) VALUES (?, ?)
              db.query.summary: INSERT orders
              db.response.status_code: 23505
              spoor.db.error.table: orders
              spoor.db.error.constraint: orders_pkey
              error.type: 23505
              order.id: 17
              spoor.trace.rule: wire
        "#]],
    );
    check(
        Role::Client,
        sql(failed("22P02", "invalid input syntax for type integer: \"hunter2\"")),
        expect![[r#"
            Client INSERT orders
              1000100 +500
              ERROR invalid input syntax for type integer: "?"
              db.system.name: postgresql
              db.namespace: shop
              server.address: 10.0.0.2
              network.peer.address: 10.0.0.2
              network.peer.port: 5432i
              db.query.text: INSERT INTO orders (id, note) VALUES (?, ?)
              db.query.summary: INSERT orders
              db.response.status_code: 22P02
              spoor.db.error.table: orders
              error.type: 22P02
              order.id: 17
              spoor.trace.rule: wire
        "#]],
    );
    check(
        Role::Client,
        sql(failed("01000", "careful")),
        expect![[r#"
            Client INSERT orders
              1000100 +500
              db.system.name: postgresql
              db.namespace: shop
              server.address: 10.0.0.2
              network.peer.address: 10.0.0.2
              network.peer.port: 5432i
              db.query.text: INSERT INTO orders (id, note) VALUES (?, ?)
              db.query.summary: INSERT orders
              db.response.status_code: 01000
              spoor.db.error.table: orders
              order.id: 17
              spoor.trace.rule: wire
        "#]],
    );
    let warned = Statement {
        warning: Some(ServerError {
            code: "01000".to_owned(),
            message: SECRET.to_owned(),
            ..ServerError::default()
        }),
        ..statement("SELECT 1", "SELECT 1")
    };
    check(
        Role::Client,
        sql(warned),
        expect![[r#"
        Client SELECT
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: SELECT ?
          db.query.summary: SELECT
          db.response.returned_rows: 0i
          db.response.status_code: 01000
          spoor.trace.rule: wire
    "#]],
    );
    let skipped = Statement { skipped: true, command_tag: None, ..statement("SELECT 1", "") };
    check(
        Role::Client,
        sql(skipped),
        expect![[r#"
        Client SELECT
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: SELECT ?
          db.query.summary: SELECT
          spoor.db.skipped: Bool(true)
          spoor.trace.rule: wire
    "#]],
    );
    let login = Statement {
        kind: StatementKind::Startup,
        text: None,
        ..failed("28P01", "password authentication failed for user \"hunter2\"")
    };
    check(
        Role::Client,
        sql(login),
        expect![[r#"
            Client CONNECT shop
              1000100 +500
              ERROR password authentication failed for user "?"
              db.system.name: postgresql
              db.namespace: shop
              server.address: 10.0.0.2
              network.peer.address: 10.0.0.2
              network.peer.port: 5432i
              db.operation.name: CONNECT
              db.response.status_code: 28P01
              spoor.db.error.table: orders
              error.type: 28P01
              spoor.trace.rule: wire
        "#]],
    );
    let cut =
        Operation { completeness: Completeness::Cut, ..op(Role::Client, sql(statement("SELECT 1", ""))) };
    check_op(
        &cut,
        expect![[r#"
        Client SELECT
          1000100 +500
          ERROR
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: SELECT ?
          db.query.summary: SELECT
          error.type: connection_closed
          spoor.trace.rule: wire
          spoor.incomplete: cut
    "#]],
    );
}

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
        clock: ClockPair { boot_ns: 2_000, unix_ns: 1_000_000 },
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
        op.ended_at = op.request.start.at + took_ns;
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
fn streams_that_were_reset() {
    use crate::operation::http::Reset;
    use crate::record::Sender;
    let reset = |by: Sender, code: u32, goaway: bool| {
        let mut exchange = Exchange { version: "2", status: None, ..exchange("GET", "/orders", 200) };
        exchange.http2.reset = Some(Reset { by, code, goaway });
        exchange.http2.stream = 3;
        http(exchange)
    };
    check(
        Role::Client,
        reset(Sender::Server, 7, false),
        expect![[r#"
        Client GET /orders
          1000100 +500
          ERROR
          http.request.method: GET
          url.full: http://shop.example:8080/orders
          server.address: shop.example
          server.port: 8080i
          network.peer.address: 10.0.0.2
          network.peer.port: 8080i
          network.protocol.version: 2
          user_agent.original: curl/8
          spoor.http2.reset: REFUSED_STREAM
          spoor.http2.reset_by: server
          url.template: /orders
          error.type: REFUSED_STREAM
          spoor.trace.rule: wire
    "#]],
    );
    let error = |role: Role, detail: Detail| {
        let (op, found) = (op(role, detail), Found::default());
        let conn = conn(role, 8080);
        build(&placed(&op, &conn, &found)).attributes.get("error.type").cloned()
    };
    assert_eq!(error(Role::Client, reset(Sender::Client, 8, false)), None);
    assert_eq!(error(Role::Server, reset(Sender::Client, 8, false)), None);
    assert_eq!(error(Role::Server, reset(Sender::Server, 2, false)), Some("INTERNAL_ERROR".into()));
    assert_eq!(error(Role::Client, reset(Sender::Server, 0, true)), Some("GOAWAY".into()));
    assert_eq!(error(Role::Server, reset(Sender::Server, 0, true)), None);
    assert_eq!(error(Role::Client, reset(Sender::Server, 0x4711, false)), Some("0x4711".into()));
}
