//! Exchanges of each kind and outcome, and exactly the spans they become.

use expect_test::expect;

use crate::operation::http::{Exchange, Upload};
use crate::operation::{Completeness, Detail, Kept, Operation};
use crate::order::Found;
use crate::record::Role;
use crate::span::build::build;
use crate::span::testing::{check, check_op, conn, exchange, http, kept, op, placed};

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
        request_body: Kept { bytes: Vec::new(), len: 71_000, holed: true, left_out: 0 },
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

#[test]
fn a_secret_at_the_end_of_a_long_user_agent_is_not_shown_by_half() {
    let agent = format!("{} jane.doe@example.org", "x".repeat(247));
    let mut request = exchange("GET", "/x", 200);
    request.request_headers = [("user-agent", agent)].into_iter().collect();
    let operation = op(Role::Server, http(request));
    let (conn, found) = (conn(Role::Server, 8080), Found::default());
    let span = build(&placed(&operation, &conn, &found));
    let shown = format!("{:?}", span.attributes.get("user_agent.original"));
    assert!(shown.contains("xxx") && !shown.contains("jane"), "{shown}");
}

#[test]
fn a_proxy_in_front_tells_client_and_host_and_its_own_address_stays_the_peer_s() {
    let mut forwarded = exchange("GET", "/x", 200);
    for (name, value) in
        [("forwarded", "for=192.0.2.60;proto=https;host=shop.example"), ("x-forwarded-for", "192.0.2.99")]
    {
        forwarded.request_headers.push(name.as_bytes(), value.as_bytes());
    }
    let shown = |role, client: Option<&str>, exchange: &Exchange| {
        let mut conn = conn(role, 8080);
        conn.client = client.map(|client| client.parse().expect("an address"));
        let op = op(role, http(exchange.clone()));
        let span = build(&placed(&op, &conn, &Found::default()));
        ["client.address", "server.address", "server.port", "url.scheme", "network.peer.address"]
            .map(|name| span.attributes.get(name).map(|value| format!("{value:?}")).unwrap_or_default())
            .join(" ")
    };
    let check = |found: String, expected: &str| {
        let plain = found.replace("Text(\"", "").replace("\")", "").replace("Int(", "").replace(')', "");
        assert_eq!(plain, expected);
    };
    check(
        shown(Role::Server, Some("198.51.100.1:9"), &forwarded),
        "192.0.2.60 shop.example 443 https 10.0.0.1",
    );
    let plain = exchange("GET", "/x", 200);
    check(
        shown(Role::Server, Some("198.51.100.1:9"), &plain),
        "198.51.100.1 shop.example 8080 http 10.0.0.1",
    );
    check(shown(Role::Server, None, &plain), "10.0.0.1 shop.example 8080 http 10.0.0.1");
    // What a client writes for the next one says nothing of itself.
    check(shown(Role::Client, None, &forwarded), " shop.example 8080  10.0.0.2");
}

#[test]
fn calls_name_spans_by_their_conventions() {
    use crate::order::Call;
    use crate::span::{Status, semconv};
    use crate::trace::Value;
    let check = |call: Call, name: &str, expected: &[(&'static str, &str)], status: Status| {
        let op = op(
            Role::Server,
            Detail::Http(Box::new(Exchange { method: "POST".to_owned(), ..Exchange::default() })),
        );
        let conn = conn(Role::Server, 80);
        let found = Found { call: Some(Box::new(call)), ..Found::default() };
        let span = build(&placed(&op, &conn, &found));
        assert_eq!((span.name.as_str(), &span.status), (name, &status));
        for (key, value) in expected {
            assert_eq!(span.attributes.get(key), Some(&Value::from(*value)), "{key}");
        }
    };
    let rpc = |error: Option<&str>| Call::JsonRpc {
        method: "sale.confirm".to_owned(),
        version: Some("2.0".to_owned()),
        id: Some("7".to_owned()),
        error: error.map(str::to_owned),
    };
    let system = (semconv::RPC_SYSTEM_NAME, "jsonrpc");
    let version = (semconv::JSONRPC_PROTOCOL_VERSION, "2.0");
    let id = (semconv::JSONRPC_REQUEST_ID, "7");
    check(
        rpc(None),
        "sale.confirm",
        &[system, version, id, (semconv::RPC_METHOD, "sale.confirm")],
        Status::Unset,
    );
    let code = |code| [system, (semconv::RPC_RESPONSE_STATUS_CODE, code), (semconv::ERROR_TYPE, code)];
    check(rpc(Some("-32000")), "sale.confirm", &code("-32000"), Status::Error(String::new()));
    check(rpc(Some("-32601")), "jsonrpc", &code("-32601"), Status::Error(String::new()));
    let original = [(semconv::RPC_METHOD, "_OTHER"), (semconv::RPC_METHOD_ORIGINAL, "sale.confirm")];
    check(rpc(Some("-32601")), "jsonrpc", &original, Status::Error(String::new()));
    let xml = Call::XmlRpc { method: "sale.confirm".to_owned(), fault: Some("4".to_owned()) };
    check(xml, "sale.confirm", &[(semconv::RPC_SYSTEM_NAME, "xmlrpc")], Status::Error(String::new()));
    let soap = |failed| Call::Soap { method: "Confirm".to_owned(), failed };
    check(soap(false), "Confirm", &[(semconv::RPC_SYSTEM_NAME, "soap")], Status::Unset);
    check(soap(true), "Confirm", &[(semconv::ERROR_TYPE, "fault")], Status::Error(String::new()));
    let graphql = |kind, shown| Call::GraphQl { kind, name: Some("Confirm".to_owned()), shown };
    let name = (semconv::GRAPHQL_OPERATION_NAME, "Confirm");
    check(
        graphql(Some("mutation"), false),
        "mutation",
        &[name, (semconv::GRAPHQL_OPERATION_TYPE, "mutation")],
        Status::Unset,
    );
    check(graphql(Some("mutation"), true), "mutation Confirm", &[name], Status::Unset);
    check(graphql(None, false), "GraphQL Operation", &[name], Status::Unset);
}
