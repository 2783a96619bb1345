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
mod tests;
