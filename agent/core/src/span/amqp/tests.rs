//! Actions of each kind and outcome, and exactly the spans they become.

use expect_test::expect;

use crate::operation::Detail;
use crate::operation::amqp::{
    Action, ActionKind, Content, Deliver, Method, Properties, Publish, PublishOutcome, Settle, Settlement,
    Source,
};
use crate::order::Found;
use crate::record::Role;
use crate::span::build::{Work, build, build_dwell, build_with};
use crate::span::semconv;
use crate::span::testing::{check, check_op, conn, kept, op, placed, shown};
use crate::time::ns;

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
        is_told: false,
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
        settled_at: settlement.map(|_| ns(2_000)),
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
        Producer publish amq.gen-{id}
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
          messaging.destination.template: amq.gen-{id}
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
        Producer publish mail:{id}
          1000100 +500
          messaging.system: rabbitmq
          messaging.operation.name: publish
          messaging.operation.type: send
          server.address: 10.0.0.2
          server.port: 5672i
          network.peer.address: 10.0.0.2
          network.peer.port: 5672i
          messaging.destination.name: mail:REDACTED
          messaging.destination.template: mail:{id}
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
        (span.start.as_nanos() - 1_000_000, span.end.as_nanos() - 1_000_000, prefetched)
    };
    // Delivered at boot time 1,100, which is 200 after the clock pair.
    assert_eq!(times(None, None), (200, 600, true));
    assert_eq!(times(Some(ns(1_300)), Some(ns(2_900))), (400, 2_000, false));
    assert_eq!(times(Some(ns(50)), Some(ns(60))), (200, 200, false));
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
        ..Method::default()
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
    deliver.request.start.at = ns(5_100);
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

#[test]
fn outcomes_that_a_transaction_tells_or_nobody_does() {
    let outcome = |outcome: PublishOutcome| {
        let publish = Publish {
            exchange: "mes".to_owned(),
            routing_key: "new".to_owned(),
            outcome,
            ..Publish::default()
        };
        let op = op(Role::Client, amqp(ActionKind::Publish(publish)));
        let span = build(&placed(&op, &conn(Role::Client, 5672), &Found::default()));
        let shown = span.attributes.get("spoor.messaging.outcome").cloned();
        (shown, span.status == crate::span::Status::Unset)
    };
    assert_eq!(outcome(PublishOutcome::Committed), (Some("committed".into()), true));
    assert_eq!(outcome(PublishOutcome::RolledBack), (Some("rolled_back".into()), true));
    assert_eq!(outcome(PublishOutcome::Unknown), (None, true));
}

#[test]
fn a_channel_that_is_closed_for_a_publish_shows_which() {
    let content = content();
    let lost =
        Publish { exchange: "mes".to_owned(), routing_key: "new".to_owned(), content, ..Publish::default() };
    let close = Method {
        name: "channel.close".to_owned(),
        error: Some((404, "NOT_FOUND - no exchange 'mes' in vhost '/'".to_owned())),
        lost: Some(Box::new(lost)),
        ..Method::default()
    };
    let op = op(Role::Client, amqp(ActionKind::Method(close)));
    let span = build(&placed(&op, &conn(Role::Client, 5672), &Found::default()));
    assert_eq!(span.name, "channel.close mes:new");
    assert_eq!(span.attributes.get("error.type"), Some(&"404".into()));
    assert_eq!(span.attributes.get("messaging.message.id"), Some(&"m-1".into()));
}

#[test]
fn the_reason_of_a_blocked_connection_is_no_name() {
    let blocked = Method {
        name: "connection.blocked".to_owned(),
        reason: Some("low on memory".to_owned()),
        ..Method::default()
    };
    let op = op(Role::Client, amqp(ActionKind::Method(blocked)));
    let span = build(&placed(&op, &conn(Role::Client, 5672), &Found::default()));
    assert_eq!(span.name, "connection.blocked 10.0.0.2:5672");
    assert_eq!(span.attributes.get("spoor.messaging.blocked.reason"), Some(&"low on memory".into()));
    assert_eq!(span.attributes.get("messaging.destination.name"), None);
}

/// A message of Celery, as version 2 of its protocol has it.
fn celery(task: &str, lang: Option<&str>) -> Content {
    let text = |name: &str, value: &str| {
        (name.to_owned(), crate::operation::amqp::Value::Text(value.as_bytes().to_vec()))
    };
    let mut content = content();
    content.properties.headers =
        vec![text("task", task), text("id", "6d6d"), text("argsrepr", "('hunter2',)")];
    content.properties.headers.extend(lang.map(|lang| text("lang", lang)));
    content
}

#[test]
fn a_message_of_celery_is_named_for_its_task() {
    let check = |task: &str, lang, name: &str, shown: Option<&str>| {
        let publish = Publish {
            routing_key: "celery".to_owned(),
            content: celery(task, lang),
            outcome: PublishOutcome::Confirmed,
            ..Publish::default()
        };
        let mut op = op(Role::Client, amqp(ActionKind::Publish(publish)));
        // Headers are forgotten before a span is built.
        op.forget_values(|_| true);
        let (conn, found) = (conn(Role::Client, 5672), Found::default());
        let span = build(&placed(&op, &conn, &found));
        assert_eq!(span.name, name);
        let task = span.attributes.iter().find(|(name, _)| *name == semconv::SPOOR_MESSAGING_TASK);
        let task = task.map(|(_, value)| format!("{value:?}"));
        assert_eq!(task.is_some(), shown.is_some(), "{task:?}");
        assert!(shown.is_none_or(|shown| task.is_some_and(|task| task.contains(shown))));
        assert!(!format!("{op:?}{span:?}").contains("hunter2"));
    };
    let python = Some("py");
    check("shop.tasks.ship", python, "publish celery shop.tasks.ship", Some("shop.tasks.ship"));
    check("ship-4711", python, "publish celery ship-{id}", Some("ship-4711"));
    // Not Celery's, or no name.
    check("shop.tasks.ship", None, "publish celery", None);
    check("ship it", python, "publish celery", None);
    check(&"x".repeat(129), python, "publish celery", None);
    check("", python, "publish celery", None);
}
