//! Spans as agents and other tracers write them → the facts that come of them.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Status as OtlpStatus;

use super::*;
use crate::facts::{Died, End, Sent, Transaction};

/// What a test writes of an attribute.
enum Given {
    T(&'static str),
    I(i64),
    B(bool),
    L(&'static [&'static str]),
}
use Given::{B, I, L, T};

fn any(given: &Given) -> AnyValue {
    let text = |text: &str| Value::StringValue(text.to_owned());
    let value = match given {
        T(given) => text(given),
        I(number) => Value::IntValue(*number),
        B(truth) => Value::BoolValue(*truth),
        L(texts) => Value::ArrayValue(ArrayValue {
            values: texts.iter().map(|one| AnyValue { value: Some(text(one)) }).collect(),
        }),
    };
    AnyValue { value: Some(value) }
}

fn attributes(given: &[(&str, Given)]) -> Vec<KeyValue> {
    given
        .iter()
        .map(|(key, value)| KeyValue {
            key: (*key).to_owned(),
            value: Some(any(value)),
            ..KeyValue::default()
        })
        .collect()
}

fn span(kind: SpanKind, name: &str, given: &[(&str, Given)]) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: name.to_owned(),
        kind: kind as i32,
        start_time_unix_nano: 1_000_000_000,
        end_time_unix_nano: 1_500_000_000,
        attributes: attributes(given),
        ..Span::default()
    }
}

fn read(span: &Span) -> Reading {
    let resource = Resource {
        attributes: attributes(&[("service.name", T("shop")), ("service.instance.id", T("shop-1"))]),
        ..Resource::default()
    };
    of_span(Some(&resource), span, &["order.id".to_owned()])
}

fn fact(kind: SpanKind, name: &str, given: &[(&str, Given)]) -> Fact {
    let mut span = span(kind, name, given);
    span.attributes.extend(attributes(&[("order.id", T("4711"))]));
    match read(&span) {
        Reading::Fact(fact) => *fact,
        other => panic!("{name} is no fact but {other:?}"),
    }
}

#[test]
fn a_fact_says_who_did_what_when_and_how_it_is_known() {
    let given = [("order.status", T("created")), ("user.id", T("42")), ("spoor.parent.rule", T("context"))];
    let fact = fact(SpanKind::Server, "POST /orders", &given);
    assert_eq!((fact.service.as_str(), fact.instance.as_str()), ("shop", "shop-1"));
    assert_eq!((fact.from, fact.to), (At(1_000_000), At(1_500_000)));
    assert_eq!(fact.key.to_string(), "4711");
    assert_eq!(fact.status.map(|status| status.value).as_deref(), Some("created"));
    assert_eq!(fact.people, [Person { role: PersonRole::User, id: "42".to_owned() }]);
    assert_eq!(fact.joined, Some(("context".to_owned(), 0)));
}

#[test]
fn each_kind_of_operation_is_its_step() {
    let http = |method| ("http.request.method", T(method));
    let sql = |summary| [("db.system.name", T("postgresql")), ("db.query.summary", T(summary))];
    let transaction = || ("spoor.db.transaction", I(4));
    let amqp = |name, kind| {
        [
            ("messaging.system", T("rabbitmq")),
            ("messaging.operation.name", T(name)),
            ("messaging.operation.type", T(kind)),
        ]
    };
    let with = |mut given: Vec<(&'static str, Given)>, more: Vec<(&'static str, Given)>| {
        given.extend(more);
        given
    };
    let orders = || "orders".to_owned();
    type Case = (SpanKind, Vec<(&'static str, Given)>, Step);
    let cases: Vec<Case> = vec![
        (
            SpanKind::Server,
            vec![http("POST"), ("http.response.status_code", I(201))],
            Step::Served { answer: Some(201), changes: true },
        ),
        (SpanKind::Server, vec![http("GET")], Step::Served { answer: None, changes: false }),
        (
            SpanKind::Client,
            vec![http("PUT"), ("server.address", T("crm")), ("server.port", I(8080))],
            Step::Called { peer: "crm:8080".to_owned(), answer: None, changes: true },
        ),
        (
            SpanKind::Client,
            vec![("rpc.method", T("shop.Orders/GetOrder")), ("server.address", T("shop"))],
            Step::Called { peer: "shop".to_owned(), answer: None, changes: false },
        ),
        (
            SpanKind::Client,
            vec![
                http("PUT"),
                ("aws.s3.bucket", T("models")),
                ("aws.s3.key", T("7.stl")),
                ("rpc.method", T("S3/PutObject")),
            ],
            Step::Stored {
                verb: "PutObject".to_owned(),
                bucket: "models".to_owned(),
                object: "7.stl".to_owned(),
            },
        ),
        (
            SpanKind::Client,
            with(sql("UPDATE orders").into(), vec![("spoor.db.affected_rows", I(1)), transaction()]),
            Step::Wrote { collection: orders(), rows: 1, transaction: Some(Transaction::Number(4)) },
        ),
        // Another tracer, which counts no rows and knows no transactions.
        (
            SpanKind::Client,
            vec![
                ("db.system.name", T("mysql")),
                ("db.operation.name", T("insert")),
                ("db.collection.name", T("orders")),
            ],
            Step::Wrote { collection: orders(), rows: 1, transaction: None },
        ),
        (SpanKind::Client, sql("SELECT orders").into(), Step::Read { collection: orders() }),
        (
            SpanKind::Client,
            with(sql("COMMIT").into(), vec![transaction()]),
            Step::Ended { transaction: Transaction::Number(4), how: End::Committed },
        ),
        (
            SpanKind::Client,
            with(sql("COMMIT").into(), vec![transaction(), ("error.type", T("40001"))]),
            Step::Ended { transaction: Transaction::Number(4), how: End::RolledBack },
        ),
        (
            SpanKind::Client,
            with(
                sql("UPDATE orders").into(),
                vec![
                    ("spoor.db.transaction.id", T("ab")),
                    ("spoor.db.transaction.outcome", T("rolled_back")),
                ],
            ),
            Step::Wrote {
                collection: orders(),
                rows: 1,
                transaction: Some(Transaction::Id("ab".to_owned(), Some(End::RolledBack))),
            },
        ),
        (
            SpanKind::Producer,
            with(
                amqp("publish", "send").into(),
                vec![
                    ("messaging.destination.name", T("orders:confirmed")),
                    ("spoor.messaging.outcome", T("returned")),
                ],
            ),
            Step::Published { destination: "orders:confirmed".to_owned(), outcome: Sent::Returned },
        ),
        (
            SpanKind::Internal,
            vec![
                ("messaging.system", T("rabbitmq")),
                ("messaging.operation.name", T("dwell")),
                ("messaging.destination.name", T("dead")),
                ("spoor.messaging.death.queue", T("mes.orders")),
                ("spoor.messaging.death.reason", T("rejected")),
            ],
            Step::Waited {
                queue: "dead".to_owned(),
                died: Some(Died { queue: "mes.orders".to_owned(), reason: "rejected".to_owned() }),
            },
        ),
        (
            SpanKind::Consumer,
            with(
                amqp("process", "process").into(),
                vec![
                    ("messaging.destination.name", T("orders:confirmed:mes.orders")),
                    ("messaging.rabbitmq.destination.routing_key", T("confirmed")),
                    ("spoor.messaging.settlement", T("nack")),
                    ("spoor.messaging.requeue", B(true)),
                ],
            ),
            Step::Handled { queue: "mes.orders".to_owned(), settled: Settled::PutBack, redelivered: false },
        ),
        (SpanKind::Internal, vec![], Step::Other),
    ];
    for (kind, given, expected) in cases {
        let found = fact(kind, "a name", &given).step;
        assert_eq!(found, expected);
    }
}

#[test]
fn a_failure_has_the_code_of_its_protocol() {
    let error =
        |message: &str| Some(OtlpStatus { code: StatusCode::Error as i32, message: message.to_owned() });
    let failed = |given: &[(&str, Given)]| {
        let mut span = span(SpanKind::Client, "x", given);
        span.attributes.extend(attributes(&[("order.id", T("1"))]));
        span.status = error("too much");
        match read(&span) {
            Reading::Fact(fact) => fact.trouble.map(|trouble| (trouble.kind, trouble.code, trouble.message)),
            other => panic!("{other:?}"),
        }
    };
    let expected = |kind, code: &str| Some((kind, code.to_owned(), "too much".to_owned()));
    let sql = [
        ("db.system.name", T("postgresql")),
        ("db.response.status_code", T("23514")),
        ("error.type", T("23514")),
    ];
    assert_eq!(failed(&sql), expected(TroubleKind::Sql, "23514"));
    let http = [("http.request.method", T("PUT")), ("error.type", T("503"))];
    assert_eq!(failed(&http), expected(TroubleKind::Http, "503"));
    let cut = [("http.request.method", T("PUT")), ("error.type", T("no_response"))];
    assert_eq!(failed(&cut), expected(TroubleKind::Connection, "no_response"));
    assert!(fact(SpanKind::Client, "x", &[("http.request.method", T("PUT"))]).trouble.is_none());
}

#[test]
fn all_numbers_of_an_operation_are_taken_once() {
    let given =
        [("order.number", T("A-9")), ("spoor.order.keys", L(&["order:4711", "crm:SO-77", "crm:SO-77", ""]))];
    let fact = fact(SpanKind::Server, "x", &given);
    let also: Vec<String> = fact.also.iter().map(Key::to_string).collect();
    assert_eq!(also, ["crm:SO-77", "number:A-9"]);
}

#[test]
fn what_is_no_fact_is_said_to_be_none() {
    let order = ("order.id", T("1"));
    let with = |change: &dyn Fn(&mut Span)| {
        let mut span = span(SpanKind::Server, "x", &[("order.id", T("1"))]);
        change(&mut span);
        read(&span)
    };
    assert_eq!(read(&span(SpanKind::Server, "x", &[])), Reading::NoOrder);
    assert_eq!(
        read(&span(SpanKind::Internal, "x", &[order, ("spoor.signpost", B(true))])),
        Reading::Signpost
    );
    assert_eq!(with(&|span| span.trace_id = vec![0; 16]), Reading::Invalid);
    assert_eq!(with(&|span| span.span_id = vec![1; 7]), Reading::Invalid);
    assert_eq!(with(&|span| span.start_time_unix_nano = 0), Reading::Invalid);
    assert!(matches!(with(&|span| span.end_time_unix_nano = 0), Reading::Fact(fact) if fact.to == fact.from));
}

#[test]
fn the_first_attribute_that_names_an_order_counts() {
    let names = ["order.id".to_owned(), "app.order_id".to_owned()];
    let number = |given: &[(&str, Given)]| match of_span(None, &span(SpanKind::Server, "x", given), &names) {
        Reading::Fact(fact) => Some(fact.key.to_string()),
        _ => None,
    };
    assert_eq!(number(&[("app.order_id", I(12))]).as_deref(), Some("12"));
    assert_eq!(number(&[("app.order_id", T("12")), ("order.id", T("13"))]).as_deref(), Some("13"));
    assert_eq!(number(&[("order.id", T("77")), ("order.namespace", T("crm"))]).as_deref(), Some("crm:77"));
}

#[test]
fn foreign_text_is_bounded_and_has_no_control_characters() {
    let mut given = span(SpanKind::Server, &"x\u{0}".repeat(10_000), &[("order.id", T("1\n2"))]);
    given.attributes.extend(attributes(&[("order.status", T("a\u{202e}b"))]));
    let Reading::Fact(fact) = read(&given) else { panic!("no fact") };
    assert_eq!(fact.name.len(), MAX_NAME);
    assert_eq!(fact.key.to_string(), "12");
    assert_eq!(fact.status.map(|status| status.value).as_deref(), Some("ab"));
}
