//! Facts → the places where a status lives and how it changed there.
//!
//! Only a write makes a change. `GET /orders/19` names a status exactly as the `UPDATE` does, and counting both gives
//! chains that never happened; so what is merely read, or told to another system, counts only where no write of that
//! place is seen at all.

use std::collections::BTreeMap;

use super::transactions::{Fate, fate};
use super::{Certainty, Change, Incident, MAX_AGAIN, Record, prove};
use crate::facts::{At, Fact, FactId, Status, Step, Trouble, TroubleKind};
use crate::time::SECOND;

/// A table of what happened (`order_events`) says the same as the table it is about, at about the same time.
const HISTORY_MICROS: i64 = SECOND;

/// Service and collection.
type Name = (String, String);

/// One value somebody gave to a record, before equal ones are dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Value {
    at: At,
    /// When its statement was over: several of one transaction hold at the same time, in the order of their statements.
    said_at: At,
    id: FactId,
    status: Status,
    certainty: Certainty,
    by: Vec<crate::facts::Person>,
    /// What committed it.
    also: Option<FactId>,
}

/// The records, and writes that found no row: a system was told about an order it does not have.
pub(super) fn records(facts: &[Fact]) -> (Vec<Record>, Vec<Incident>) {
    let mut values: BTreeMap<Name, Vec<Value>> = BTreeMap::new();
    let mut history: BTreeMap<Name, Vec<Value>> = BTreeMap::new();
    let mut no_row = Vec::new();
    for fact in facts {
        let (Step::Wrote { collection, rows, .. }, Some(status)) = (&fact.step, &fact.status) else {
            continue;
        };
        if fact.trouble.is_some() {
            continue;
        }
        if *rows == 0 {
            no_row.push(not_found(fact, status));
            continue;
        }
        let (at, certainty, also) = match fate(facts, fact) {
            Fate::Alone => (fact.to, Certainty::Committed, None),
            Fate::Committed(end) => (end.to, Certainty::Committed, Some(end.id)),
            Fate::NotSeen => (fact.to, Certainty::Written, None),
            Fate::RolledBack => continue,
        };
        let value = Value {
            at,
            said_at: fact.to,
            id: fact.id,
            status: status.clone(),
            certainty,
            by: fact.people.clone(),
            also,
        };
        let to = if is_history(collection) { &mut history } else { &mut values };
        to.entry((fact.service.clone(), collection.clone())).or_default().push(value);
    }
    add_history(&mut values, history);
    add_told(&mut values, facts);
    let mut records: Vec<Record> =
        values.into_iter().filter_map(|(name, values)| record(name, values)).collect();
    records.sort_by_key(|record| (record.changes.first().map(|change| change.at), record.name()));
    (records, no_row)
}

/// A table of what happened, not of what is.
pub fn is_history(collection: &str) -> bool {
    ["events", "history", "log"].iter().any(|end| collection.ends_with(end))
}

fn add_history(values: &mut BTreeMap<Name, Vec<Value>>, history: BTreeMap<Name, Vec<Value>>) {
    for ((service, collection), told) in history {
        let known: Vec<At> = values
            .iter()
            .filter(|((other, _), _)| *other == service)
            .flat_map(|(_, values)| values.iter().map(|value| value.at))
            .collect();
        let news = told.into_iter().filter(|value| {
            !known.iter().any(|at| at.since(value.at).max(value.at.since(*at)) <= HISTORY_MICROS)
        });
        let news: Vec<Value> = news.collect();
        if !news.is_empty() {
            values.entry((service, collection)).or_default().extend(news);
        }
    }
}

/// Services whose database is not seen: what they were told and agreed to, else what was read of them.
fn add_told(values: &mut BTreeMap<Name, Vec<Value>>, facts: &[Fact]) {
    let is_seen =
        |values: &BTreeMap<Name, Vec<Value>>, service: &str| values.keys().any(|(other, _)| other == service);
    let mut told: BTreeMap<Name, Vec<Value>> = BTreeMap::new();
    let mut read: BTreeMap<Name, Vec<Value>> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| fact.trouble.is_none() && !is_seen(values, &fact.service)) {
        let Some(status) = &fact.status else { continue };
        let (to, collection, certainty) = match &fact.step {
            Step::Served { answer: Some(200..=299), changes: true } => {
                (&mut told, "api", Certainty::Announced)
            }
            Step::Served { answer: Some(200..=299), changes: false } => {
                (&mut read, "api", Certainty::Observed)
            }
            Step::Read { collection } if !is_history(collection) => {
                (&mut read, collection.as_str(), Certainty::Observed)
            }
            _ => continue,
        };
        let by = fact.people.clone();
        let value = Value {
            at: fact.to,
            said_at: fact.to,
            id: fact.id,
            status: status.clone(),
            certainty,
            by,
            also: None,
        };
        to.entry((fact.service.clone(), collection.to_owned())).or_default().push(value);
    }
    values.extend(told);
    for (name, read) in read {
        if !is_seen(values, &name.0) {
            values.insert(name, read);
        }
    }
}

fn record((service, collection): Name, mut values: Vec<Value>) -> Option<Record> {
    values.sort();
    let mut record = Record { service, collection, changes: Vec::new(), repeated: 0 };
    for value in values {
        let from = record.current().map(|change| change.to.clone());
        if from.as_ref() == Some(&value.status.value) {
            record.repeated = record.repeated.saturating_add(1);
            if let Some(change) = record.changes.last_mut().filter(|change| change.again.len() < MAX_AGAIN) {
                change.again.push(value.at);
            }
            continue;
        }
        let mut evidence = vec![value.id];
        value.also.into_iter().for_each(|id| prove(&mut evidence, id));
        record.changes.push(Change {
            at: value.at,
            from,
            to: value.status.value,
            written_at: value.status.written_at,
            certainty: value.certainty,
            by: value.by,
            evidence,
            again: Vec::new(),
        });
    }
    (!record.changes.is_empty()).then_some(record)
}

fn not_found(fact: &Fact, status: &Status) -> Incident {
    Incident {
        at: fact.from,
        last_at: fact.to,
        service: fact.service.clone(),
        operation: fact.name.clone(),
        place: None,
        trouble: Trouble { kind: TroubleKind::Sql, code: "no_row".to_owned(), message: status.value.clone() },
        times: 1,
        passed_on: false,
        resolved: None,
        evidence: vec![fact.id],
    }
}
