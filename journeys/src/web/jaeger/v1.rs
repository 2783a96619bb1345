//! Traces → JSON as Jaeger's `api/` has it: what Grafana's data source reads, and Jaeger's page for one trace.
//!
//! `{"data": …, "total": 0, "limit": 0, "offset": 0, "errors": null}`; times in microseconds.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value as Json_, json};

use super::query::{self, Given, Wanted};
use super::search;
use super::span::{Span, Tag, Value, span};
use super::{NOT_ALL, Refusal, Room, Traces, find_whole, orders_of, read, read_one, walk};
use crate::access::Action;
use crate::digest::hex;
use crate::facts::FactId;
use crate::intake::now;
use crate::store::{Trace, TraceId};
use crate::web::{Reader, Site};

/// A number of JavaScript is exact up to here; what is larger is text, as Jaeger has it.
const EXACT: i64 = (1 << 53) - 1;

/// `GET /jaeger/api/services`.
pub(super) async fn services(State(site): State<Site>) -> Response {
    let services: Vec<String> = site.store.usual().heard.keys().cloned().collect();
    let total = services.len();
    answer(json!(services), total, &[])
}

/// `GET /jaeger/api/services/{service}/operations`.
pub(super) async fn operations_of(State(site): State<Site>, Path(service): Path<String>) -> Response {
    let found = walk(&site, move |store, deadline| search::names(store, &service, now(), deadline)).await;
    match found {
        Ok(names) => {
            let names: BTreeSet<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
            answer(json!(names), names.len(), &[])
        }
        Err(refusal) => refused(&refusal),
    }
}

/// `GET /jaeger/api/operations?service=&spanKind=`.
pub(super) async fn operations(State(site): State<Site>, given: Given) -> Response {
    let Some(service) = given.get(&["service"]).map(str::to_owned) else {
        return refused(&Refusal::bad("parameter 'service' is required".to_owned()));
    };
    match super::operations(&site, &given, service).await {
        Ok(names) => {
            let total = names.len();
            answer(json!(names), total, &[])
        }
        Err(refusal) => refused(&refusal),
    }
}

/// `GET /jaeger/api/traces`: by what is in them, or by their IDs.
pub(super) async fn traces(State(site): State<Site>, reader: Reader, given: Given) -> Response {
    let asked = async {
        let ids = query::traces(&given)?;
        if ids.is_empty() {
            return find_whole(&site, &reader, Wanted::v1(&given, now())?).await;
        }
        let mut found = read(&site, ids).await?;
        found.what.retain(|(_, trace)| !trace.facts.is_empty());
        Ok(found)
    };
    match asked.await {
        Ok(found) => told(&found.what, &reader, found.all),
        Err(refusal) => refused(&refusal),
    }
}

/// `GET /jaeger/api/traces/{id}`. A time that is asked for with it is not needed: what is kept of the trace is found.
pub(super) async fn trace(State(site): State<Site>, reader: Reader, Path(id): Path<String>) -> Response {
    match read_one(&site, &id).await {
        Ok(found) => told(&found.what, &reader, found.all),
        Err(refusal) => refused(&refusal),
    }
}

/// `GET /jaeger/api/dependencies?endTs=&lookback=`, in milliseconds.
pub(super) async fn dependencies(State(site): State<Site>, given: Given) -> Response {
    let only = given.get(&["service"]).map(str::to_owned);
    let asked = async {
        let time = query::dependencies_v1(&given, now())?;
        walk(&site, move |store, deadline| search::dependencies(store, time, deadline)).await
    };
    match asked.await {
        Ok(found) => {
            let links: Vec<Json_> = found
                .what
                .iter()
                .filter(|((parent, child), _)| only.as_ref().is_none_or(|only| only == parent || only == child))
                .map(|((parent, child), count)| json!({ "parent": parent, "child": child, "callCount": count }))
                .collect();
            answer(json!(links), 0, if found.all { &[] } else { &[NOT_ALL] })
        }
        Err(refusal) => refused(&refusal),
    }
}

fn told(traces: &Traces, reader: &Reader, all: bool) -> Response {
    let people = reader.may(Action::SeePeople);
    let mut room = Room::whole();
    let mut data = Vec::new();
    for (id, trace) in traces {
        if room.0 == 0 {
            break;
        }
        data.push(json_trace(id, trace, people, &mut room));
    }
    let mut errors = Vec::new();
    if !all {
        errors.push(NOT_ALL);
    }
    if room.0 == 0 {
        errors.push("the answer would be larger than one may be: not all is in it");
    }
    orders_of(traces.iter().map(|(_, trace)| trace)).of(answer(json!(data), 0, &errors))
}

pub(super) fn json_trace(id: &TraceId, trace: &Trace, people: bool, room: &mut Room) -> Json_ {
    let mut processes: BTreeMap<String, (String, Json_)> = BTreeMap::new();
    let mut spans = Vec::with_capacity(trace.facts.len());
    for fact in &trace.facts {
        let span = span(fact, people);
        let process = json!({ "serviceName": span.service, "tags": tags(&span.resource) });
        let number = processes.len() + 1;
        let (process, _) =
            processes.entry(process.to_string()).or_insert_with(|| (format!("p{number}"), process));
        let span = json_span(&span, process);
        if !room.takes(&span) {
            break;
        }
        spans.push(span);
    }
    let left_out = trace.facts.len() - spans.len();
    let mut warnings = Vec::new();
    if left_out > 0 {
        warnings.push(format!("{left_out} spans are not in this answer, which would be too large"));
    }
    if trace.truncated {
        warnings.push("some spans are not kept: the trace or its order has too many".to_owned());
    }
    let processes: Map<String, Json_> = processes.into_values().collect();
    json!({
        "traceID": hex(id),
        "spans": spans,
        "processes": processes,
        "warnings": if warnings.is_empty() { Json_::Null } else { json!(warnings) },
    })
}

fn json_span(span: &Span<'_>, process: &str) -> Json_ {
    let reference = |parent: FactId| json!({ "refType": "CHILD_OF", "traceID": hex(&parent.trace), "spanID": hex(&parent.span) });
    let mut tags = tags(&span.tags);
    let mut tag =
        |key: &str, kind: &str, value: Json_| tags.push(json!({ "key": key, "type": kind, "value": value }));
    // Internal is what a span is that says nothing else; Jaeger writes it as well.
    tag("span.kind", "string", json!(span.kind.name()));
    if let Some(message) = span.error {
        tag("error", "bool", json!(true));
        tag("otel.status_code", "string", json!("ERROR"));
        if !message.is_empty() {
            tag("otel.status_description", "string", json!(message));
        }
    }
    json!({
        "traceID": hex(&span.id.trace),
        "spanID": hex(&span.id.span),
        "flags": 1,
        "operationName": span.name,
        "references": span.parent.map(reference).into_iter().collect::<Vec<_>>(),
        "startTime": span.from.0,
        "duration": span.to.since(span.from),
        "tags": tags,
        "logs": [],
        "processID": process,
        "warnings": if span.is_open { json!([OPEN]) } else { Json_::Null },
    })
}

/// What is said of an operation that may still go on.
const OPEN: &str = "this operation was not over when it was last told of";

fn tags(tags: &[Tag]) -> Vec<Json_> {
    let one = |(key, value): &Tag| {
        let (kind, value) = match value {
            Value::Text(text) => ("string", json!(text)),
            Value::Int(number) if (-EXACT..=EXACT).contains(number) => ("int64", json!(number)),
            Value::Int(number) => ("int64", json!(number.to_string())),
            Value::Truth(truth) => ("bool", json!(truth)),
            Value::Percent(percent) => ("float64", json!(f64::from(*percent) / 100.0)),
            // Jaeger has no lists.
            Value::Texts(_) => ("string", json!(value.text())),
        };
        json!({ "key": key, "type": kind, "value": value })
    };
    tags.iter().map(one).collect()
}

fn answer(data: Json_, total: usize, errors: &[&str]) -> Response {
    let errors: Vec<Json_> = errors.iter().map(|message| json!({ "code": 206, "msg": message })).collect();
    let errors = if errors.is_empty() { Json_::Null } else { json!(errors) };
    Json(json!({ "data": data, "total": total, "limit": 0, "offset": 0, "errors": errors })).into_response()
}

fn refused(refusal: &Refusal) -> Response {
    let Refusal { status, message } = refusal;
    let errors = json!([{ "code": status.as_u16(), "msg": message }]);
    let body = json!({ "data": null, "total": 0, "limit": 0, "offset": 0, "errors": errors });
    (*status, Json(body)).into_response()
}
