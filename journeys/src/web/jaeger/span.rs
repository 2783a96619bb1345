//! A fact → the span that it was, as far as it is kept: kind, status and attributes by the names they came under.
//!
//! *Spec*: OpenTelemetry semantic conventions v1.44.0; the agent's own names begin with `spoor.` and `order.`. What a fact does
//! not keep is not there, and nothing is made up. People are there only for who may see them, so nobody finds by a search
//! whom they may not see.

use crate::facts::{
    At, End, Fact, FactId, PEOPLE, Sent, Settled, Step, Transaction, TroubleKind, Unseen, Work,
};
use crate::web::order::iso;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Int(i64),
    Truth(bool),
    /// In hundredths.
    Percent(u8),
    Texts(Vec<String>),
}

impl Value {
    /// As somebody writes it who looks for it.
    pub(super) fn text(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Truth(truth) => truth.to_string(),
            Value::Percent(percent) => format!("{}", f64::from(*percent) / 100.0),
            Value::Texts(texts) => serde_json::to_string(texts).unwrap_or_default(),
        }
    }

    /// What is looked for is this, or one of these.
    pub(super) fn is(&self, wanted: &str) -> bool {
        match self {
            Value::Text(text) => text == wanted,
            Value::Texts(texts) => texts.iter().any(|text| text == wanted) || self.text() == wanted,
            other => other.text() == wanted,
        }
    }
}

/// A name and its value.
pub(super) type Tag = (&'static str, Value);

/// A span.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span<'a> {
    pub(super) id: FactId,
    pub(super) parent: Option<FactId>,
    pub(super) service: &'a str,
    pub(super) name: &'a str,
    pub(super) from: At,
    /// Of what is not over: until when it was told of.
    pub(super) to: At,
    /// As OTLP numbers them.
    pub(super) kind: Kind,
    /// What went wrong, in words; may be empty.
    pub(super) error: Option<&'a str>,
    /// It was not over when it was last told of.
    pub(super) is_open: bool,
    /// Of the process.
    pub(super) resource: Vec<Tag>,
    pub(super) tags: Vec<Tag>,
}

/// *Spec*: opentelemetry-proto v1.11, `Span.SpanKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Internal => "internal",
            Kind::Server => "server",
            Kind::Client => "client",
            Kind::Producer => "producer",
            Kind::Consumer => "consumer",
        }
    }
}

/// Makes the span of a fact; `people`: whether the reader may see numbers of people.
pub(super) fn span(fact: &Fact, people: bool) -> Span<'_> {
    let mut tags = order(fact);
    if people {
        tags.extend(fact.people.iter().filter_map(|person| {
            let (name, _) = PEOPLE.iter().find(|(_, role)| *role == person.role)?;
            Some((*name, Value::Text(person.id.clone())))
        }));
    }
    step(&fact.step, &mut tags);
    model(fact, &mut tags);
    if let Some(trouble) = fact.trouble.as_ref().filter(|trouble| !trouble.code.is_empty()) {
        let name = match trouble.kind {
            TroubleKind::Sql => "db.response.status_code",
            _ => "error.type",
        };
        tags.push((name, Value::Text(trouble.code.clone())));
    }
    if let Some(unseen) = fact.unseen {
        let why = match unseen {
            Unseen::Gap => "gap",
            Unseen::Cut => "cut",
            Unseen::Open => "open",
            Unseen::Start => "start",
        };
        tags.push(("spoor.incomplete", Value::Text(why.to_owned())));
    }
    if let Some((rule, percent)) = &fact.joined {
        tags.push(("spoor.parent.rule", Value::Text(rule.clone())));
        tags.push(("spoor.parent.confidence", Value::Percent(*percent)));
    }
    let instance = Some(&fact.instance).filter(|instance| !instance.is_empty());
    Span {
        id: fact.id,
        parent: fact.parent_id(),
        service: &fact.service,
        name: &fact.name,
        from: fact.from,
        to: fact.to,
        kind: kind(&fact.step),
        error: fact.trouble.as_ref().map(|trouble| trouble.message.as_str()),
        is_open: fact.is_open(),
        resource: instance
            .map(|instance| ("service.instance.id", Value::Text(instance.clone())))
            .into_iter()
            .collect(),
        tags,
    }
}

/// Which side of what it was.
pub(super) fn kind(step: &Step) -> Kind {
    match step {
        Step::Served { .. } | Step::Open { work: Work::Answer } => Kind::Server,
        Step::Called { .. }
        | Step::Wrote { .. }
        | Step::Read { .. }
        | Step::Ended { .. }
        | Step::Stored { .. }
        | Step::Open { work: Work::Call { .. } | Work::Statement { .. } } => Kind::Client,
        Step::Published { .. } => Kind::Producer,
        Step::Handled { .. } | Step::Open { work: Work::Handling { .. } } => Kind::Consumer,
        Step::Waited { .. }
        | Step::Other
        | Step::Open { work: Work::Waiting { .. } | Work::Other | Work::Over } => Kind::Internal,
    }
}

/// What it says of its order.
fn order(fact: &Fact) -> Vec<Tag> {
    let mut tags = vec![("order.id", Value::Text(fact.key.value.clone()))];
    if !fact.key.is_default() {
        tags.push(("order.namespace", Value::Text(fact.key.namespace.clone())));
    }
    if !fact.also.is_empty() {
        let keys = fact.keys().map(|key| format!("{}:{}", key.namespace, key.value)).collect();
        tags.push((crate::facts::KEYS, Value::Texts(keys)));
    }
    if let Some(status) = &fact.status {
        tags.push(("order.status", Value::Text(status.value.clone())));
        tags.extend(status.written_at.map(|at| ("order.status_time", Value::Text(iso(at)))));
    }
    tags
}

fn model(fact: &Fact, tags: &mut Vec<Tag>) {
    let Some(seen) = &fact.artifact else { return };
    let text = |name, text: &Option<String>| text.clone().map(|text| (name, Value::Text(text)));
    tags.extend(text("order.model.file_name", &seen.file_name));
    tags.extend(text("order.model.key", &seen.key));
    tags.extend(text("order.model.format", &seen.format));
    tags.extend(seen.size.map(|size| ("order.model.size", Value::Int(size))));
}

/// What was done, under the names by which [`crate::facts::of_span`] reads it.
fn step(step: &Step, tags: &mut Vec<Tag>) {
    let mut text = |name, text: &str| {
        if !text.is_empty() {
            tags.push((name, Value::Text(text.to_owned())));
        }
    };
    match step {
        Step::Served { answer, .. } => answered(*answer, tags),
        Step::Called { peer, answer, .. } => {
            text("server.address", peer);
            answered(*answer, tags);
        }
        Step::Published { destination, outcome } => {
            text("messaging.destination.name", destination);
            let outcome = match outcome {
                Sent::Confirmed => "confirmed",
                Sent::Refused => "nacked",
                Sent::Returned => "returned",
                Sent::Unconfirmed => "",
            };
            text("spoor.messaging.outcome", outcome);
        }
        Step::Waited { queue, died } => {
            text("messaging.destination.name", queue);
            if let Some(died) = died {
                text("spoor.messaging.death.queue", &died.queue);
                text("spoor.messaging.death.reason", &died.reason);
            }
        }
        Step::Handled { queue, settled, redelivered } => {
            text("messaging.destination.name", queue);
            let settlement = match settled {
                Settled::Acknowledged => "ack",
                Settled::Automatic => "auto",
                Settled::PutBack | Settled::Rejected => "reject",
                Settled::Unknown => "",
            };
            text("spoor.messaging.settlement", settlement);
            if matches!(settled, Settled::PutBack | Settled::Rejected) {
                tags.push(("spoor.messaging.requeue", Value::Truth(*settled == Settled::PutBack)));
            }
            tags.extend(redelivered.then_some(("spoor.messaging.redelivered", Value::Truth(true))));
        }
        Step::Wrote { collection, rows, transaction } => {
            text("db.collection.name", collection);
            // One row is also what is taken for a statement that counts none; the agent, which counts, names transactions.
            if *rows != 1 || transaction.is_some() {
                tags.push(("spoor.db.affected_rows", Value::Int(*rows)));
            }
            of_transaction(transaction.as_ref(), None, tags);
        }
        Step::Read { collection } => text("db.collection.name", collection),
        Step::Ended { transaction, how } => of_transaction(Some(transaction), Some(*how), tags),
        Step::Stored { verb, bucket, object } => {
            text("rpc.method", verb);
            text("aws.s3.bucket", bucket);
            text("aws.s3.key", object);
        }
        Step::Open { work } => match work {
            Work::Call { peer } => text("server.address", peer),
            Work::Statement { collection, .. } => text("db.collection.name", collection),
            Work::Handling { queue, redelivered } => {
                text("messaging.destination.name", queue);
                tags.extend(redelivered.then_some(("spoor.messaging.redelivered", Value::Truth(true))));
            }
            Work::Waiting { queue, destination, .. } => {
                text("messaging.destination.name", queue.as_deref().unwrap_or(destination));
            }
            Work::Answer | Work::Other | Work::Over => {}
        },
        Step::Other => {}
    }
}

fn answered(answer: Option<u16>, tags: &mut Vec<Tag>) {
    tags.extend(answer.map(|answer| ("http.response.status_code", Value::Int(answer.into()))));
}

fn of_transaction(transaction: Option<&Transaction>, ended: Option<End>, tags: &mut Vec<Tag>) {
    let known = match transaction {
        Some(Transaction::Id(id, how)) => {
            tags.push(("spoor.db.transaction.id", Value::Text(id.clone())));
            *how
        }
        Some(Transaction::Number(number)) => {
            tags.push(("spoor.db.transaction", Value::Int(*number)));
            None
        }
        None => None,
    };
    let outcome = ended.or(known).map(|how| match how {
        End::Committed => "committed",
        End::RolledBack => "rolled_back",
        End::Unknown => "unknown",
    });
    tags.extend(outcome.map(|how| ("spoor.db.transaction.outcome", Value::Text(how.to_owned()))));
}

#[cfg(test)]
mod tests {
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
        const DWELL: &[(&str, &str)] =
            &[("messaging.system", "rabbitmq"), ("messaging.operation.name", "dwell")];
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
            assert_eq!(
                of_span(Some(&resource), &sent, &["order.id".to_owned()]),
                Reading::Fact(Box::new(fact))
            );
        }
    }

    #[test]
    fn people_are_there_for_who_may_see_them_only() {
        let fact = full(Step::Other);
        assert!(span(&fact, true).tags.iter().any(|(name, _)| *name == "seller.id"));
        assert!(!format!("{:?}", span(&fact, false)).contains("seller"));
    }
}
