use opentelemetry_proto::tonic::common::v1::any_value::Value as Otlp;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span as OtlpSpan, Status};

use super::*;
use crate::facts::{ArtifactSeen, Died, Key, Person, PersonRole, Reading, Trouble, of_span};
use crate::testing::{fact, wrote};

fn otlp(value: &Value) -> Otlp {
    match value {
        Value::Text(text) => Otlp::StringValue(text.clone()),
        Value::Int(number) => Otlp::IntValue(*number),
        Value::Truth(truth) => Otlp::BoolValue(*truth),
        Value::Percent(percent) => Otlp::DoubleValue(f64::from(*percent) / 100.0),
        Value::Texts(texts) => Otlp::ArrayValue(ArrayValue {
            values: texts
                .iter()
                .map(|text| AnyValue { value: Some(Otlp::StringValue(text.clone())) })
                .collect(),
        }),
    }
}

fn attributes(tags: &[Tag]) -> Vec<KeyValue> {
    let one = |(key, value): &Tag| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue { value: Some(otlp(value)) }),
        ..KeyValue::default()
    };
    tags.iter().map(one).collect()
}

/// The span as a tracer would send it, with what says only of which kind of system it is.
fn sent(span: &Span<'_>, system: &[(&'static str, &str)]) -> (Resource, OtlpSpan) {
    let text = |name, text: &str| (name, Value::Text(text.to_owned()));
    let mut resource = vec![text("service.name", span.service)];
    resource.extend(span.resource.clone());
    let mut tags = span.tags.clone();
    tags.extend(system.iter().map(|(name, value)| text(name, value)));
    let status = span.error.map(|message| Status { message: message.to_owned(), code: 2 });
    let sent = OtlpSpan {
        trace_id: span.id.trace.to_vec(),
        span_id: span.id.span.to_vec(),
        parent_span_id: span.parent.map(|parent| parent.span.to_vec()).unwrap_or_default(),
        name: span.name.to_owned(),
        kind: span.kind as i32,
        start_time_unix_nano: span.from.0 as u64 * 1_000,
        end_time_unix_nano: span.to.0 as u64 * 1_000,
        attributes: attributes(&tags),
        status,
        ..OtlpSpan::default()
    };
    (Resource { attributes: attributes(&resource), ..Resource::default() }, sent)
}

/// A fact with everything that a fact can say beside its step.
fn full(step: Step) -> Fact {
    Fact {
        name: "an operation".to_owned(),
        parent: Some([9; 8]),
        also: vec![Key::parse("crm:SO-77").expect("a number")],
        people: vec![Person { role: PersonRole::Seller, id: "7".to_owned() }],
        status: wrote("1", 1, 1, "shop", "orders", "paid").status,
        artifact: Some(ArtifactSeen {
            file_name: Some("part.stl".to_owned()),
            key: Some("models/1".to_owned()),
            size: Some(5),
            format: Some("stl".to_owned()),
        }),
        unseen: Some(Unseen::Cut),
        joined: Some(("thread".to_owned(), 95)),
        ..fact("1", 1, 100, "shop", step)
    }
}

#[test]
fn a_span_reads_as_the_fact_that_it_was_made_of() {
    const HTTP: &[(&str, &str)] = &[("http.request.method", "POST")];
    const SQL: &[(&str, &str)] = &[("db.system.name", "postgresql")];
    const PUBLISH: &[(&str, &str)] =
        &[("messaging.system", "rabbitmq"), ("messaging.operation.type", "send")];
    const PROCESS: &[(&str, &str)] =
        &[("messaging.system", "rabbitmq"), ("messaging.operation.type", "process")];
    const DWELL: &[(&str, &str)] = &[("messaging.system", "rabbitmq"), ("messaging.operation.name", "dwell")];
    let to = |outcome| Step::Published { destination: "orders".to_owned(), outcome };
    let handled = |settled, redelivered| Step::Handled { queue: "mes".to_owned(), settled, redelivered };
    let id = |how| Transaction::Id("a1".to_owned(), how);
    let wrote = |rows, transaction| Step::Wrote { collection: "orders".to_owned(), rows, transaction };
    let died = Died { queue: "mes".to_owned(), reason: "rejected".to_owned() };
    for (step, system, verb) in [
        (Step::Served { answer: Some(503), changes: true }, HTTP, ""),
        (Step::Called { peer: "crm:8000".to_owned(), answer: None, changes: true }, HTTP, ""),
        (to(Sent::Confirmed), PUBLISH, ""),
        (to(Sent::Unconfirmed), PUBLISH, ""),
        (to(Sent::Refused), PUBLISH, ""),
        (to(Sent::Returned), PUBLISH, ""),
        (Step::Waited { queue: "mes".to_owned(), died: Some(died) }, DWELL, ""),
        (handled(Settled::Acknowledged, true), PROCESS, ""),
        (handled(Settled::Automatic, false), PROCESS, ""),
        (handled(Settled::Unknown, false), PROCESS, ""),
        (wrote(1, Some(id(Some(End::RolledBack)))), SQL, "UPDATE"),
        (wrote(0, Some(Transaction::Number(3))), SQL, "UPDATE"),
        (wrote(1, None), SQL, "UPDATE"),
        (Step::Read { collection: "orders".to_owned() }, SQL, "SELECT"),
        (Step::Ended { transaction: id(Some(End::Committed)), how: End::Committed }, SQL, "COMMIT"),
        (
            Step::Stored { verb: "PutObject".to_owned(), bucket: "m".to_owned(), object: "k".to_owned() },
            &[],
            "",
        ),
    ] {
        let fact = full(step);
        let span = span(&fact, true);
        let mut system = system.to_vec();
        if !verb.is_empty() {
            system.push(("db.operation.name", verb));
        }
        let (resource, sent) = sent(&span, &system);
        let read = of_span(Some(&resource), &sent, &["order.id".to_owned()]);
        assert_eq!(read, Reading::Fact(Box::new(fact)));
    }
    // A failure has a code and words.
    for (kind, step, system) in [
        (TroubleKind::Sql, wrote(0, None), SQL),
        (TroubleKind::Http, Step::Served { answer: Some(500), changes: true }, HTTP),
        (TroubleKind::Message, handled(Settled::Rejected, false), PROCESS),
    ] {
        let trouble = Trouble { kind, code: "23514".to_owned(), message: "too much".to_owned() };
        let fact = Fact { trouble: Some(trouble), ..full(step) };
        let span = span(&fact, true);
        let mut system = system.to_vec();
        system.push(("db.operation.name", "UPDATE"));
        let (resource, sent) = sent(&span, &system);
        assert_eq!(of_span(Some(&resource), &sent, &["order.id".to_owned()]), Reading::Fact(Box::new(fact)));
    }
}

#[test]
fn people_are_there_for_who_may_see_them_only() {
    let fact = full(Step::Other);
    assert!(span(&fact, true).tags.iter().any(|(name, _)| *name == "seller.id"));
    assert!(!format!("{:?}", span(&fact, false)).contains("seller"));
}
