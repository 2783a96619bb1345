//! One table per protocol: an operation, and the keys and attributes that the default rules find in it.

use proptest::prelude::*;

use super::super::rules::{AmqpProperty, AttributeRule, KeyRule, Places, ValueKind, When};
use super::*;
use crate::operation::amqp::{Action, ActionKind, Deliver, Publish};
use crate::operation::http::{Headers, Upload};
use crate::operation::postgres::{Cell, Parameter, Statement};
use crate::operation::{OpSide, testing};
use crate::order::settings;
use crate::record::Role;
use crate::time::ns;

pub(in crate::order) fn defaults() -> Rules {
    Rules::compile(&settings::Order::default()).expect("valid defaults")
}

pub(in crate::order) fn op(detail: Detail) -> Operation {
    Operation { shape: OpSide::Incoming, role: Role::Server, ..testing::operation(detail) }
}

pub(in crate::order) fn kept(body: &str) -> Kept {
    Kept { bytes: body.as_bytes().to_vec(), len: body.len() as u64, holed: false, left_out: 0 }
}

pub(in crate::order) fn headers<const N: usize>(fields: [(&str, &str); N]) -> Headers {
    fields.into_iter().collect()
}

/// `keys; attributes`, or `too many`.
fn shown(found: &Found) -> String {
    let keys = found.keys.iter().map(|key| format!("{}:{}", key.namespace, key.value));
    let mut attributes: Vec<String> = found
        .attributes
        .iter()
        .map(|(name, value)| match value {
            Value::Text(text) => format!("{name}={text}"),
            Value::Int(number) => format!("{name}={number}"),
            other => format!("{name}={other:?}"),
        })
        .collect();
    attributes.sort();
    let mut all: Vec<String> = keys.collect();
    all.extend(found.too_many.then(|| "too many".to_owned()));
    all.extend(attributes);
    all.join(" ")
}

pub(in crate::order) fn check(rules: &Rules, detail: Detail, expected: &str) {
    let op = op(detail);
    assert_eq!(shown(&rules.extract(&op)), expected, "{:?}", op.detail);
}

pub(in crate::order) fn request(method: &str, target: &str, body: &str) -> Exchange {
    Exchange {
        version: "1.1",
        method: method.to_owned(),
        target: target.to_owned(),
        request_headers: headers([("content-type", "application/json")]),
        request_body: kept(body),
        response_headers: headers([("content-type", "application/json; charset=utf-8")]),
        status: Some(200),
        ..Exchange::default()
    }
}

pub(in crate::order) fn http(exchange: Exchange) -> Detail {
    Detail::Http(Box::new(exchange))
}

#[test]
fn keys_in_http_requests() {
    let rules = defaults();
    for (target, body, expected) in [
        ("/orders/17", "", "order:17"),
        ("/orders/17/", "", "order:17"),
        ("/api/v1/orders/0017/items/3", "", "order:17"),
        ("http://shop:8080/api/orders/17?limit=20", "", "order:17"),
        ("/models/orders/17/part.stl", "", "order:17"),
        ("/orders/f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "", "order:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ("/orders/search", "", ""),
        ("/orders/0", "", ""),
        ("/users/17", "", ""),
        ("/users/5/orders?page=17&limit=17", "", ""),
        ("/status?order_id=17", "", "order:17"),
        ("/status?orderId=17&order-id=17", "", "order:17"),
        ("/status?order_id=17&order_id=18", "", "order:17 order:18"),
        ("/orders/17/merge?order_id=18", "", "order:17 order:18"),
        ("/x", r#"{"order_id": 17, "quantity": 18, "user_id": 19, "limit": 20}"#, "order:17 user.id=19"),
        ("/x", r#"{"order": {"id": "17", "lines": [{"id": 1}, {"id": 2}]}, "id": 4}"#, "order:17"),
        ("/x", r#"{"data": {"deep": {"OrderID": 17}}}"#, "order:17"),
        ("/x", r#"{"orders": [{"order_id": 17}, {"order_id": 18}]}"#, ""),
        ("/x", r#"{"lines": [{"order_id": 17}, {"order_id": 17}]}"#, "order:17"),
        ("/x", r#"{"order_id": 17, "related": [{"order_id": 18}]}"#, "order:17 order:18"),
        ("/x", r#"{"order_id": [17, 18]}"#, ""),
        ("/x", r#"{"order_id": 17.5, "orders": 17, "order": 17, "id": 17}"#, ""),
        ("/x", r#"{"order_id": null}"#, ""),
        ("/x", "{\"order_id\": 17}\n{\"order_id\": 17}", ""),
        ("/x", r#"{"order_id": "jane@example.org"}"#, ""),
    ] {
        check(&rules, http(request("POST", target, body)), expected);
    }
}

#[test]
fn a_body_cut_off_gives_what_is_certain() {
    let rules = defaults();
    let cut = |body: &str| Exchange {
        request_body: Kept { bytes: body.as_bytes().to_vec(), len: 100_000, holed: false, left_out: 0 },
        ..request("POST", "/x", "")
    };
    check(&rules, http(cut(r#"{"order_id": 17, "model": "AAAA"#)), "order:17");
    check(&rules, http(cut(r#"{"order_id": 17"#)), "");
    check(&rules, http(cut(r#"{"order_id": "17"#)), "");
    check(&rules, http(cut(r#"{"lines": [{"order_id": 17}, {"or"#)), "");
    let form = |body: &str| Exchange {
        request_headers: headers([("content-type", "application/x-www-form-urlencoded")]),
        ..cut(body)
    };
    check(&rules, http(form("a=1&order_id=17")), "");
    check(&rules, http(form("order_id=17&a=1")), "order:17");
    check(&rules, http(form("order[id]=17&order_id[]=18&a=1")), "order:17");
}

#[test]
fn keys_in_headers_and_responses() {
    let rules = defaults();
    let with = |name: &str, value: &str| Exchange {
        request_headers: headers([(name, value)]),
        ..request("GET", "/x", "")
    };
    check(&rules, http(with("x-order-id", " 17 ")), "order:17");
    check(&rules, http(with("x-order-id", "17, 18")), "");
    check(&rules, http(with("x-request-id", "17")), "");
    check(&rules, http(with("x-partner-id", "4")), "partner.id=4");
    let answered = |method: &str, target: &str, body: &str| {
        http(Exchange {
            response_body: kept(body),
            ..request(method, target, r#"{"model_file": "part.stl", "id": 99}"#)
        })
    };
    check(
        &rules,
        answered("POST", "/api/orders", r#"{"id": 17, "status": "new"}"#),
        "order:17 order.model.file_name=part.stl order.status=new",
    );
    check(
        &rules,
        answered("POST", "/orders/", r#"{"data": {"id": 17}}"#),
        "order:17 order.model.file_name=part.stl",
    );
    check(&rules, answered("GET", "/api/orders", r#"{"id": 17}"#), "order.model.file_name=part.stl");
    check(
        &rules,
        answered("POST", "/users", r#"{"id": 17, "status": "ok"}"#),
        "order.model.file_name=part.stl",
    );
}

#[test]
fn attributes_are_typed_bounded_and_never_personal() {
    let rules = defaults();
    let body = r#"{"order_id": 17, "order_status": "confirmed", "seller_id": 3, "operator_id": "x", "partner_id": "jane@example.org",
        "order_number": "A-2026-17", "model_size": "2048", "status_changed_at": "2026-11-20T09:33:33Z", "phone": "+4915112345678"}"#;
    let expected = "order:17 order.model.size=2048 order.number=A-2026-17 order.status=confirmed \
                    order.status_time=2026-11-20T09:33:33Z seller.id=3";
    check(&rules, http(request("POST", "/x", body)), expected);
    let changed = Exchange {
        response_body: kept(r#"{"order_id": 17, "status": "priced"}"#),
        ..request("PUT", "/orders/17/status", r#"{"status": "price"}"#)
    };
    check(&rules, http(changed), "order:17 order.status=priced");
    check(&rules, http(request("GET", "/health", r#"{"status": "ok"}"#)), "");
    let upload = |files: usize| Exchange {
        uploads: vec![
            Upload {
                field: "file".to_owned(),
                file_name: "C:\\models\\Bracket v2.STL".to_owned(),
                content_type: "model/stl".to_owned(),
                len: Some(4096),
            };
            files
        ],
        ..request("POST", "/orders/17/model", "")
    };
    let one = "order:17 order.model.file_name=Bracket v2.STL order.model.format=stl order.model.size=4096";
    check(&rules, http(upload(1)), one);
    check(&rules, http(upload(2)), "order:17");
}

#[test]
fn multipart_fields_count_and_file_contents_do_not() {
    let body = concat!(
        "--b\r\nContent-Disposition: form-data; name=\"orderId\"\r\n\r\n17\r\n",
        "--b\r\nContent-Disposition: form-data; name=\"meta\"\r\nContent-Type: application/json\r\n\r\n{\"user_id\": 5}\r\n",
        "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.json\"\r\nContent-Type: application/json\r\n\r\n{\"order_id\": 99}\r\n--b--\r\n",
    );
    let exchange = Exchange {
        request_headers: headers([("content-type", "multipart/form-data; boundary=b")]),
        ..request("POST", "/upload", body)
    };
    check(&defaults(), http(exchange), "order:17 user.id=5");
}

#[test]
fn routes_come_from_templates_that_took_a_value() {
    let rules = defaults();
    let route = |target: &str| {
        rules.extract(&op(http(request("GET", target, "")))).route.map(|route| route.to_string())
    };
    assert_eq!(route("/orders/17").as_deref(), Some("/orders/{order_id}"));
    assert_eq!(route("/api/v1/orders/17/confirm").as_deref(), Some("/api/v1/orders/{order_id}/confirm"));
    assert_eq!(route("/api/orders/17/anything").as_deref(), Some("/api/orders/{order_id}/*"));
    assert_eq!(route("/operator/orders/17/start").as_deref(), Some("/operator/orders/{order_id}/start"));
    assert_eq!(route("/b2b/orders").as_deref(), Some("/b2b/orders"));
    assert_eq!(route("/some/where/orders/17"), None);
    assert_eq!(route("/orders/search"), None);
    assert_eq!(route("/"), None);
    assert_eq!(route("/api/orders").as_deref(), Some("/api/orders"));
    assert_eq!(route("*"), None);
}

#[test]
fn headers_and_slow_statements_are_marked_as_configured() {
    let spans = settings::Spans {
        request_headers: vec!["X-Tenant".to_owned(), "X-Contact".to_owned()],
        slow_statement: std::time::Duration::from_nanos(100),
        ..settings::Spans::default()
    };
    let rules = defaults().with_spans(&spans).expect("valid");
    let exchange = Exchange {
        request_headers: headers([
            ("x-tenant", "a"),
            ("x-tenant", "b"),
            ("x-contact", "jane@example.org"),
            ("x-other", "1"),
        ]),
        ..request("GET", "/x", "")
    };
    let found = rules.extract(&op(http(exchange)));
    let tenants = Value::Texts(vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(found.attributes, [("http.request.header.x-tenant".to_owned(), tenants)]);
    let took = |ns| Operation { ended_at: ns, ..op(sql(statement("SELECT 1", &[]))) };
    assert_eq!(rules.extract(&took(ns(99))).attributes, []);
    assert_eq!(rules.extract(&took(ns(100))).attributes, [("spoor.slow".to_owned(), Value::Bool(true))]);
}

pub(in crate::order) fn publish(content: Content) -> Detail {
    let publish = Publish {
        exchange: "shop".to_owned(),
        routing_key: "order.created".to_owned(),
        content,
        ..Publish::default()
    };
    Detail::Amqp(Box::new(Action { channel: 1, vhost: None, kind: ActionKind::Publish(publish) }))
}

#[test]
fn keys_in_messages() {
    let rules = defaults();
    let message = |content_type: Option<&str>, body: &str| Content {
        properties: Properties { content_type: content_type.map(str::to_owned), ..Properties::default() },
        body: kept(body),
        ..Content::default()
    };
    check(
        &rules,
        publish(message(Some("application/json"), r#"{"orderId": 17, "quantity": 3}"#)),
        "order:17",
    );
    check(
        &rules,
        publish(message(None, r#"{"order": {"id": 17, "status": "new"}}"#)),
        "order:17 order.status=new",
    );
    check(&rules, publish(message(None, "order_id=17")), "");
    check(&rules, publish(message(Some("application/x-www-form-urlencoded"), "order_id=17")), "order:17");
    let mut content = message(Some("application/json"), r#"{"a": 1}"#);
    content.properties.content_encoding = Some("utf-8".to_owned());
    content.properties.correlation_id = Some("99".to_owned());
    content.properties.kind = Some("order.created".to_owned());
    content.properties.headers = vec![
        ("x-order-id".to_owned(), Field::Int(17)),
        ("x-retries".to_owned(), Field::Int(3)),
        ("status".to_owned(), Field::Text(b"new".to_vec())),
    ];
    check(&rules, publish(content.clone()), "order:17 order.message.type=order.created order.status=new");
    let deliver = Deliver { content, delivery_tag: 4, ..Deliver::default() };
    let deliver = Action { channel: 1, vhost: None, kind: ActionKind::Deliver(deliver) };
    check(
        &rules,
        Detail::Amqp(Box::new(deliver)),
        "order:17 order.message.type=order.created order.status=new",
    );
    check(
        &rules,
        Detail::Amqp(Box::new(Action { channel: 1, vhost: None, kind: ActionKind::Get(None) })),
        "",
    );
}

pub(in crate::order) fn statement(text: &str, parameters: &[&str]) -> Statement {
    let parameter = |value: &&str| Parameter { type_oid: 0, value: Some(Cell::Text((*value).to_owned())) };
    Statement {
        text: Some(text.to_owned()),
        text_is_fresh: true,
        parameters: parameters.iter().map(parameter).collect(),
        ..Statement::default()
    }
}

pub(in crate::order) fn with_rows(text: &str, columns: &[&str], rows: &[&[&str]], tag: &str) -> Statement {
    Statement {
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        first_rows: rows
            .iter()
            .map(|row| row.iter().map(|v| Some(Cell::Text((*v).to_owned()))).collect())
            .collect(),
        returned_rows: rows.len() as u64,
        command_tag: Some(tag.to_owned()),
        ..statement(text, &[])
    }
}

pub(in crate::order) fn sql(statement: Statement) -> Detail {
    Detail::Postgres(Box::new(statement))
}

#[test]
fn a_statements_comment_carries_context() {
    let comment = "/*app='shop',traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/";
    let text = format!("SELECT 1 {comment}");
    let found = |statement: Statement| defaults().extract(&op(sql(statement))).context.map(|c| c.header);
    assert_eq!(found(statement(&text, &[])), Some("traceparent"));
    // Of a named statement it is of the moment when that was prepared.
    let named = Statement { prepared_name: "s1".to_owned(), ..statement(&text, &[]) };
    assert_eq!(found(named), None);
    // Nor is that of one that is bound again, without a Parse, of this execution.
    let again = Statement { text_is_fresh: false, ..statement(&text, &[]) };
    assert_eq!(found(again), None);
    assert_eq!(found(statement("SELECT '/*' || $1", &["x"])), None);
    assert_eq!(found(Statement { text: None, ..statement("", &[]) }), None);
    let other = "SELECT 1 /*b3='80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1'*/";
    assert_eq!(found(statement(other, &[])), Some("b3"));
}

#[test]
fn keys_bound_in_statements() {
    let rules = defaults();
    for (text, parameters, expected) in [
        ("SELECT * FROM orders WHERE id = $1 LIMIT 18", &["17"][..], "order:17"),
        ("SELECT * FROM orders WHERE id = 17 AND user_id = 5 LIMIT 17", &[], "order:17 user.id=5"),
        ("SELECT * FROM users WHERE id = $1", &["17"], ""),
        ("SELECT * FROM items WHERE order_id = $1 AND quantity = $2", &["17", "18"], "order:17"),
        (
            "UPDATE orders SET status = $1, quantity = $2 WHERE id = $3 AND status = 'new'",
            &["paid", "18", "17"],
            "order:17 order.status=paid",
        ),
        ("INSERT INTO items (order_id, quantity) VALUES ($1, $2), ($1, $3)", &["17", "18", "19"], "order:17"),
        ("INSERT INTO items (order_id) VALUES (17), (18)", &[], "order:17 order:18"),
        ("DELETE FROM mes.orders WHERE id = 17", &[], "order:17"),
        (
            "UPDATE mes_orders SET status = 'priced' WHERE order_id = $1",
            &["17"],
            "order:17 order.status=priced",
        ),
        ("UPDATE payments SET status = 'paid' WHERE order_id = $1", &["17"], "order:17"),
        ("SELECT 1 FROM purchase_orders WHERE id = 17", &[], ""),
        ("SELECT 1 FROM orders WHERE id > 17", &[], ""),
        ("SELECT 1 FROM orders WHERE id = ANY($1)", &["{17,18}"], "order:17 order:18"),
        ("SELECT 1 FROM orders WHERE id = ANY($1)", &["{17}"], "order:17"),
        (
            "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id WHERE u.id = $1 AND o.id = $2",
            &["5", "17"],
            "order:17",
        ),
        ("SELECT 1 FROM orders WHERE id = $1", &[], ""),
    ] {
        check(&rules, sql(statement(text, parameters)), expected);
    }
    let opaque = Statement {
        parameters: vec![
            Parameter { type_oid: 17, value: Some(Cell::Opaque(4)) },
            Parameter { type_oid: 0, value: None },
        ],
        ..statement("SELECT 1 FROM orders WHERE id = $1 OR id = $2", &[])
    };
    check(&rules, sql(opaque), "");
}

#[test]
fn only_a_single_row_names_an_order() {
    let rules = defaults();
    let insert = "INSERT INTO orders (user_id) VALUES (5) RETURNING id, status";
    check(
        &rules,
        sql(with_rows(insert, &["id", "status"], &[&["17", "new"]], "INSERT 0 1")),
        "order:17 order.status=new user.id=5",
    );
    check(&rules, sql(with_rows(insert, &["id", "status"], &[&["17", "new"]], "INSERT 0 2")), "user.id=5");
    let select = "SELECT id, quantity FROM orders WHERE status = 'new' LIMIT 1";
    check(
        &rules,
        sql(with_rows(select, &["id", "quantity"], &[&["17", "18"]], "SELECT 1")),
        "order:17 order.status=new",
    );
    check(&rules, sql(with_rows(select, &["id", "quantity"], &[&["17", "3"], &["18", "3"]], "SELECT 2")), "");
    check(&rules, sql(with_rows("SELECT id FROM users", &["id"], &[&["17"]], "SELECT 1")), "");
    check(&rules, sql(with_rows("SELECT count(*) AS id FROM orders", &["id"], &[&["17"]], "SELECT 1")), "");
    check(&rules, sql(with_rows("SELECT quantity id FROM orders", &["id"], &[&["17"]], "SELECT 1")), "");
    check(
        &rules,
        sql(with_rows("SELECT DISTINCT o.\"id\" FROM orders o", &["id"], &[&["17"]], "SELECT 1")),
        "order:17",
    );
    check(&rules, sql(with_rows("SELECT * FROM orders", &["id"], &[&["17"]], "SELECT 1")), "order:17");
    let computed = Statement {
        column_tables: vec![0],
        ..with_rows("SELECT id FROM orders", &["id"], &[&["17"]], "SELECT 1")
    };
    check(&rules, sql(computed), "");
    let cut = Statement { command_tag: None, ..with_rows(insert, &["id"], &[&["17"]], "") };
    check(&rules, sql(cut), "user.id=5");
    let unseen = Statement { text: None, ..with_rows("", &["order_id", "id"], &[&["17", "18"]], "SELECT 1") };
    check(&rules, sql(unseen), "order:17");
}

pub(in crate::order) fn custom(keys: Vec<KeyRule>, attributes: Vec<AttributeRule>) -> Rules {
    Rules::compile(&settings::Order { keys, attributes, ..settings::Order::default() }).expect("valid rules")
}

fn places(field: &str) -> Places {
    Places { fields: vec![field.to_owned()], ..Places::default() }
}

#[test]
fn further_namespaces_are_aliases_of_the_first() {
    let shop = KeyRule { places: places("order_id"), ..KeyRule::default() };
    let mes = KeyRule {
        namespace: "mes".to_owned(),
        kind: ValueKind::Pattern,
        pattern: Some("M-#+".to_owned()),
        places: Places { amqp_properties: vec![AmqpProperty::CorrelationId], ..places("mes_no") },
        ..KeyRule::default()
    };
    let rules = custom(vec![shop, mes.clone()], Vec::new());
    let both = op(http(request("POST", "/x", r#"{"mes_no": "M-5", "order_id": 17}"#)));
    let found = rules.extract(&both);
    assert_eq!(shown(&found), "order:17 mes:M-5 order.mes.id=M-5");
    assert_eq!(found.order().map(|key| &*key.value), Some("17"));
    let alone = rules.extract(&op(http(request("POST", "/x", r#"{"mes_no": "M-5"}"#))));
    assert_eq!(alone.order().map(|key| (&*key.namespace, &*key.value)), Some(("mes", "M-5")));
    let content = Content {
        properties: Properties { correlation_id: Some("M-5".to_owned()), ..Properties::default() },
        ..Content::default()
    };
    check(&rules, publish(content), "mes:M-5");

    let nameless = KeyRule { identity: false, ..mes };
    let rules = custom(vec![nameless], Vec::new());
    check(&rules, http(request("POST", "/x", r#"{"mes_no": "M-5"}"#)), "order.mes.id=M-5");
}

#[test]
fn conditions_hold_a_rule_to_its_operations() {
    let when = When { destination: Some("order.*".to_owned()), ..When::default() };
    let rule = KeyRule { places: places("id"), when: Some(when), ..KeyRule::default() };
    let rules = custom(vec![rule], Vec::new());
    let content = Content { body: kept(r#"{"id": 17}"#), ..Content::default() };
    check(&rules, publish(content), "order:17");
    check(&rules, http(request("POST", "/x", r#"{"id": 17}"#)), "");
}

#[test]
fn many_keys_name_none_and_do_not_grow() {
    let rules = defaults();
    let ids: Vec<String> = (1..1000).map(|id| format!("order_id={id}")).collect();
    let found = rules.extract(&op(http(request("GET", &format!("/x?{}", ids.join("&")), ""))));
    assert!(found.too_many && found.keys.len() == 8);
    assert_eq!(found.order(), None);
}

#[test]
fn context_is_read_from_requests_and_messages() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let rules = defaults();
    let traced = |request_headers: Headers| {
        let exchange = Exchange { request_headers, ..request("GET", "/x", "") };
        rules.extract(&op(http(exchange))).context.map(|context| context.parent_id.to_string())
    };
    assert_eq!(traced(headers([("traceparent", PARENT)])).as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!(traced(headers([("traceparent", PARENT), ("traceparent", PARENT)])), None);
    let properties = Properties {
        headers: vec![("Traceparent".to_owned(), Field::Text(PARENT.as_bytes().to_vec()))],
        ..Properties::default()
    };
    let found = rules.extract(&op(publish(Content { properties, ..Content::default() })));
    assert_eq!(found.context.map(|context| context.header), Some("traceparent"));
}

proptest! {
    #[test]
    fn no_body_panics_and_no_unnamed_value_is_taken(body in "[\\PC\\r\\n]{0,80}", kind in 0usize..4, coding in 0usize..3) {
        let kind = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", ""][kind];
        let coding = ["", "gzip", "deflate"][coding];
        let exchange = Exchange {
            request_headers: headers([("content-type", kind), ("content-encoding", coding)]),
            request_body: kept(&body),
            ..request("POST", &format!("/{body}"), "")
        };
        let found = defaults().extract(&op(http(exchange)));
        prop_assert!(found.keys.is_empty() || body.to_lowercase().contains("order"));
    }
}

#[test]
fn fields_of_grpc_messages_are_found_by_number() {
    let rule = |paths: &[&str], path: &str| KeyRule {
        places: Places {
            protobuf_paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            ..Places::default()
        },
        when: Some(When { path: Some(path.to_owned()), ..When::default() }),
        ..KeyRule::default()
    };
    let order =
        settings::Order { keys: vec![rule(&["1.3"], "/shop.v1.Orders/*")], ..settings::Order::default() };
    let rules = Rules::compile(&order).expect("valid");
    let call = |target: &str, content_type: &str, body: &str| {
        let mut exchange = Exchange {
            version: "2",
            request_headers: headers([("content-type", content_type)]),
            response_headers: headers([]),
            ..request("POST", target, body)
        };
        exchange.http2.stream = 1;
        http(exchange)
    };
    let message = "\0\0\0\0\x04\x0a\x02\x18\x11";
    check(&rules, call("/shop.v1.Orders/Get", "application/grpc+proto", message), "order:17");
    check(&rules, call("/shop.v1.Users/Get", "application/grpc", message), "");
    check(&rules, call("/shop.v1.Orders/Get", "application/octet-stream", message), "");
    // Two orders name none.
    let two = format!("{message}{}", message.replace('\x11', "\x12"));
    assert_eq!(rules.extract(&op(call("/shop.v1.Orders/Watch", "application/grpc", &two))).order(), None);
    let wrong = settings::Order { keys: vec![rule(&["1.x"], "/a")], ..settings::Order::default() };
    assert_eq!(
        Rules::compile(&wrong).expect_err("no path").to_string(),
        "order.keys[0].in.protobuf_paths[0]: `1.x` is not a path of field numbers such as `1.3`"
    );
}
