use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use super::*;
use crate::facts::{At, Fact, Key};

const SECOND_NS: u64 = 1_000_000_000;

fn record(name: &str, attributes: &[(&str, Value)]) -> LogRecord {
    let pair = |(key, value): &(&str, Value)| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue { value: Some(value.clone()) }),
        ..KeyValue::default()
    };
    LogRecord {
        event_name: name.to_owned(),
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        time_unix_nano: 100 * SECOND_NS,
        attributes: attributes.iter().map(pair).collect(),
        ..LogRecord::default()
    }
}

fn text(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

fn read(record: &LogRecord) -> Reading {
    of_event(None, record, &["order.id".to_owned()])
}

fn fact(record: &LogRecord) -> Fact {
    match read(record) {
        Reading::Fact(fact) => *fact,
        other => panic!("{other:?}"),
    }
}

#[test]
fn open_work_is_what_its_span_will_be() {
    let order = ("order.id", text("4711"));
    let since = ("spoor.operation.since", Value::IntValue(60 * SECOND_NS as i64));
    let kind = |kind| ("spoor.operation.kind", text(kind));
    let call = Work::Call { peer: "api.dpd.ru".to_owned() };
    let statement = |writes| Work::Statement { collection: "orders".to_owned(), writes };
    let handling = |redelivered| Work::Handling { queue: "mes.orders".to_owned(), redelivered };
    let host = ("server.address", text("api.dpd.ru"));
    let method = ("http.request.method", text("POST"));
    let database = ("db.system.name", text("postgresql"));
    let broker = ("messaging.system", text("rabbitmq"));
    let queue = ("messaging.destination.name", text("mes.orders"));
    for (name, given, expected) in [
        (OPEN, vec![kind("client"), method.clone(), host.clone()], call.clone()),
        (OPEN, vec![kind("CLIENT"), ("peer", text("api.dpd.ru"))], call),
        (OPEN, vec![kind("server"), method], Work::Answer),
        (
            OPEN,
            vec![kind("client"), database.clone(), ("db.query.summary", text("UPDATE orders"))],
            statement(true),
        ),
        (OPEN, vec![kind("client"), database, ("db.query.summary", text("SELECT orders"))], statement(false)),
        (
            OPEN,
            vec![
                kind("consumer"),
                broker.clone(),
                ("messaging.operation.type", text("process")),
                queue.clone(),
            ],
            handling(false),
        ),
        (UNACKED, vec![broker.clone(), queue], handling(false)),
        (UNACKED, vec![("queue", text("mes.orders")), ("redeliveries", Value::IntValue(2))], handling(true)),
        (OPEN, vec![], Work::Other),
    ] {
        let all = [vec![order.clone(), since.clone()], given].concat();
        let found = fact(&record(name, &all));
        assert_eq!(found.step, Step::Open { work: expected }, "{all:?}");
        assert_eq!((found.from, found.to), (At(60_000_000), At(100_000_000)));
        assert_eq!(found.id, FactId { trace: [1; 16], span: [2; 8] });
        assert_eq!(found.key, Key::parse("4711").expect("a number"));
    }
}

#[test]
fn a_message_waits_in_each_of_its_queues() {
    let event = |queue: &str| {
        let mut event = record(
            WAITING,
            &[
                ("order.id", text("4711")),
                ("since", text("1970-01-01T00:01:00Z")),
                ("exchange", text("orders")),
                ("routing_key", text("order.confirmed")),
                ("consumers", Value::IntValue(0)),
                ("depth", Value::IntValue(1_200)),
            ],
        );
        if !queue.is_empty() {
            event.attributes.extend(record("", &[("queue", text(queue))]).attributes);
        }
        fact(&event)
    };
    let (mes, mail, unknown) = (event("mes.orders"), event("mail"), event(""));
    assert_eq!(
        mes.step,
        Step::Open {
            work: Work::Waiting {
                queue: Some("mes.orders".to_owned()),
                destination: "orders:order.confirmed".to_owned(),
                consumers: Some(0),
                depth: Some(1_200),
            }
        }
    );
    assert_eq!((mes.parent, mes.from), (Some([2; 8]), At(60_000_000)));
    assert_eq!(mes.id, event("mes.orders").id, "the same again");
    assert!(mes.id != mail.id && mail.id != unknown.id && unknown.id.span != [2; 8]);
}

#[test]
fn what_is_no_event_of_open_work_is_told_apart() {
    let order = || ("order.id", text("4711"));
    let since = || ("spoor.since", Value::IntValue(1));
    let event = record(OPEN, &[order(), since()]);
    for (changed, expected) in [
        (record("", &[order(), since(), ("event.name", text(OPEN))]), None),
        (record("", &[order(), since()]), Some(Reading::Unknown)),
        (record("exception", &[order(), since()]), Some(Reading::Unknown)),
        (record(OPEN, &[since()]), Some(Reading::NoOrder)),
        (record(OPEN, &[order()]), Some(Reading::Invalid)),
        (record(OPEN, &[order(), ("since", text("yesterday"))]), Some(Reading::Invalid)),
        (record(OPEN, &[order(), ("since", Value::IntValue(-1))]), Some(Reading::Invalid)),
        (LogRecord { span_id: vec![], ..event.clone() }, Some(Reading::Invalid)),
        (LogRecord { trace_id: vec![0; 16], ..event.clone() }, Some(Reading::Invalid)),
        (LogRecord { time_unix_nano: 0, ..event.clone() }, Some(Reading::Invalid)),
        (LogRecord { time_unix_nano: 0, observed_time_unix_nano: 9, ..event }, None),
    ] {
        match expected {
            Some(expected) => assert_eq!(read(&changed), expected, "{changed:?}"),
            None => assert!(matches!(read(&changed), Reading::Fact(_)), "{changed:?}"),
        }
    }
}

#[test]
fn what_left_its_queue_ends_the_wait_that_was_told() {
    let event = |name: &str| {
        let attributes =
            [("order.id", text("4711")), ("since", Value::IntValue(1)), ("queue", text("mes.orders"))];
        fact(&record(name, &attributes))
    };
    let (waits, left) = (event(WAITING), event(LEFT));
    assert_eq!((waits.id, waits.parent), (left.id, left.parent));
    assert_eq!(left.step, Step::Open { work: Work::Over });
}

#[test]
fn an_agent_is_known_by_its_machine_and_says_what_it_sees() {
    let names = |names: &[String]| {
        let values = names.iter().map(|name| AnyValue { value: Some(text(name)) }).collect();
        Value::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue { values })
    };
    let two = ["shop", "mes"].map(str::to_owned);
    let told = |every: i64, machine: &[(&str, Value)], services: Value| {
        let event = record(
            ALIVE,
            &[("spoor.agent.every", Value::IntValue(every)), ("spoor.agent.services", services)],
        );
        let resource = Resource { attributes: record("", machine).attributes, ..Resource::default() };
        of_event(Some(&resource), &event, &[])
    };
    let says = |every: i64, machine: &[(&str, Value)]| told(every, machine, names(&two));
    let machine = [("host.id", text("17")), ("host.name", text("n3"))];
    let expected = Beat {
        agent: "17".to_owned(),
        node: "n3".to_owned(),
        every: 30_000_000,
        services: vec!["shop".to_owned(), "mes".to_owned()],
    };
    assert_eq!(says(30_000_000_000, &machine), Reading::Alive(expected));
    for every in [0, -1, 1_000_000, i64::MAX] {
        assert_eq!(says(every, &machine), Reading::Invalid, "{every}");
    }
    assert_eq!(says(30_000_000_000, &[]), Reading::Invalid);
    // However many and long the names are, what is kept of one agent is bounded.
    let many: Vec<String> = (0..1_000).map(|n| format!("{n:0>250}")).collect();
    let Reading::Alive(beat) = told(30_000_000_000, &machine, names(&many)) else { panic!("not heard") };
    assert_eq!(beat.services.len(), MAX_SERVICES_LEN / 250);
}
