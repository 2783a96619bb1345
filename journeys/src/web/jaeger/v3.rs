//! Traces → JSON as Jaeger's API v3 has it: what Jaeger's page reads to search, and Grafana's data source where it is told to.
//!
//! `{"result": {"resourceSpans": …}}` in OTLP's JSON: IDs in hexadecimal digits, whole numbers of 64 bits as text. Grafana's data
//! source reads `boolValue` and `doubleValue` as text in one version and as themselves in another, and gives up on the whole trace
//! for one that it does not expect: both are told as `stringValue`.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json_, json};

use super::query::{self, Given, Wanted};
use super::search;
use super::span::{Span, Tag, Value, span};
use super::{Refusal, Room, Traces, find, find_whole, orders_of, read_one, walk};
use crate::access::{Action, Shown};
use crate::digest::hex;
use crate::facts::{At, FactId};
use crate::store::{Trace, TraceId};
use crate::web::{Reader, Site};

/// The header of an answer that may not be all there is: the format has no place to say so.
const INCOMPLETE: HeaderName = HeaderName::from_static("spoor-incomplete");

/// `GET /jaeger/api/v3/services`.
pub(super) async fn services(State(site): State<Site>) -> Response {
    let services: Vec<String> = site.store.usual().heard.keys().cloned().collect();
    Json(json!({ "services": services })).into_response()
}

/// `GET /jaeger/api/v3/operations?service=&spanKind=`.
pub(super) async fn operations(State(site): State<Site>, given: Given) -> Response {
    let Some(service) = given.get(&["service"]).map(str::to_owned) else {
        return refused(&Refusal::bad("malformed parameter service: it is required".to_owned()));
    };
    match super::operations(&site, &given, service).await {
        Ok(names) => Json(json!({ "operations": names })).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

/// `GET /jaeger/api/v3/traces`.
pub(super) async fn traces(State(site): State<Site>, reader: Reader, given: Given) -> Response {
    let asked = async { find_whole(&site, &reader, Wanted::v3(&given)?).await };
    match asked.await {
        Ok(found) if found.what.is_empty() => {
            refused(&Refusal { status: StatusCode::NOT_FOUND, message: "No traces found".to_owned() })
        }
        Ok(found) => told(&found.what, &reader, found.all),
        Err(refusal) => refused(&refusal),
    }
}

/// `GET /jaeger/api/v3/traces/{id}`.
pub(super) async fn trace(State(site): State<Site>, reader: Reader, Path(id): Path<String>) -> Response {
    match read_one(&site, &id).await {
        Ok(found) => told(&found.what, &reader, found.all),
        Err(refusal) => refused(&refusal),
    }
}

/// `GET /jaeger/api/v3/trace-summaries`.
pub(super) async fn summaries(State(site): State<Site>, reader: Reader, given: Given) -> Response {
    // Of a trace no more is held than what is told of it.
    let make = |id, trace: Trace| (summary(&id, &trace), orders_of([&trace]).0);
    let asked = async { find(&site, &reader, Wanted::v3(&given)?, usize::MAX, make).await };
    match asked.await {
        Ok(found) => {
            let (summaries, orders): (Vec<Option<Json_>>, Vec<Vec<String>>) = found.what.into_iter().unzip();
            let summaries: Vec<Json_> = summaries.into_iter().flatten().collect();
            let orders: BTreeSet<String> = orders.into_iter().flatten().collect();
            let body = Json(json!({ "summaries": summaries })).into_response();
            Shown(orders.into_iter().collect()).of(complete(body, found.all))
        }
        Err(refusal) => refused(&refusal),
    }
}

/// `GET /jaeger/api/v3/dependencies?startTime=&endTime=`.
pub(super) async fn dependencies(State(site): State<Site>, given: Given) -> Response {
    let asked = async {
        let time = query::dependencies_v3(&given)?;
        walk(&site, move |store, deadline| search::dependencies(store, time, deadline)).await
    };
    match asked.await {
        Ok(found) => {
            let link = |((parent, child), count): (&(String, String), &u64)| json!({ "parent": parent, "child": child, "callCount": count.to_string() });
            let links: Vec<Json_> = found.what.iter().map(link).collect();
            complete(Json(json!({ "dependencies": links })).into_response(), found.all)
        }
        Err(refusal) => refused(&refusal),
    }
}

fn complete(mut response: Response, all: bool) -> Response {
    if !all {
        response.headers_mut().insert(INCOMPLETE, HeaderValue::from_static("true"));
    }
    response
}

fn told(traces: &Traces, reader: &Reader, all: bool) -> Response {
    let people = reader.may(Action::SeePeople);
    let mut room = Room::whole();
    let resources: Vec<Json_> =
        traces.iter().flat_map(|(_, trace)| json_trace(trace, people, &mut room)).collect();
    let all = all && room.0 > 0 && traces.iter().all(|(_, trace)| !trace.truncated);
    let body = Json(json!({ "result": { "resourceSpans": resources } })).into_response();
    orders_of(traces.iter().map(|(_, trace)| trace)).of(complete(body, all))
}

/// One entry for each process of a trace, the one that began first before the others.
fn json_trace(trace: &Trace, people: bool, room: &mut Room) -> Vec<Json_> {
    let mut processes: Vec<(Json_, Vec<Json_>)> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for fact in &trace.facts {
        let span = span(fact, people);
        let json = json_span(&span);
        if !room.takes(&json) {
            break;
        }
        let mut process = vec![("service.name", Value::Text(span.service.to_owned()))];
        process.extend(span.resource);
        let process = json!({ "attributes": attributes(&process) });
        let at = *known.entry(process.to_string()).or_insert_with(|| {
            processes.push((process, Vec::new()));
            processes.len() - 1
        });
        if let Some((_, spans)) = processes.get_mut(at) {
            spans.push(json);
        }
    }
    let one = |(process, spans): (Json_, Vec<Json_>)| json!({ "resource": process, "scopeSpans": [{ "scope": { "name": "spoor-serve" }, "spans": spans }] });
    processes.into_iter().map(one).collect()
}

fn json_span(span: &Span<'_>) -> Json_ {
    let mut attributes = attributes(&span.tags);
    if span.is_open {
        attributes.push(json!({ "key": "spoor.open", "value": { "stringValue": "true" } }));
    }
    let mut body = json!({
        "traceId": hex(&span.id.trace),
        "spanId": hex(&span.id.span),
        "name": span.name,
        "kind": span.kind as i32,
        "startTimeUnixNano": nanos(span.from),
        "endTimeUnixNano": nanos(span.to),
        "attributes": attributes,
        "status": match span.error {
            Some(message) => json!({ "code": 2, "message": message }),
            None => json!({}),
        },
    });
    // A span without a parent has no such field, as in proto3's JSON.
    if let (Some(parent), Some(body)) = (span.parent, body.as_object_mut()) {
        body.insert("parentSpanId".to_owned(), json!(hex(&parent.span)));
    }
    body
}

fn attributes(tags: &[Tag]) -> Vec<Json_> {
    let one = |(key, value): &Tag| {
        let value = match value {
            Value::Int(number) => json!({ "intValue": number.to_string() }),
            Value::Texts(texts) => {
                let values: Vec<Json_> = texts.iter().map(|text| json!({ "stringValue": text })).collect();
                json!({ "arrayValue": { "values": values } })
            }
            Value::Text(_) | Value::Truth(_) | Value::Percent(_) => json!({ "stringValue": value.text() }),
        };
        json!({ "key": key, "value": value })
    };
    tags.iter().map(one).collect()
}

fn nanos(at: At) -> String {
    (i128::from(at.0.max(0)) * 1_000).to_string()
}

/// What a list shows of a trace; none of one that nothing is kept of any more.
fn summary(id: &TraceId, trace: &Trace) -> Option<Json_> {
    let spans: Vec<Span<'_>> = trace.facts.iter().map(|fact| span(fact, false)).collect();
    let there: BTreeSet<FactId> = spans.iter().map(|span| span.id).collect();
    // The first that has no parent, else the first: facts are in time.
    let root = spans.iter().find(|span| span.parent.is_none()).or(spans.first())?;
    let mut services: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for span in &spans {
        let (count, failed) = services.entry(span.service).or_default();
        *count += 1;
        *failed += usize::from(span.error.is_some());
    }
    let is_orphan = |span: &&Span<'_>| span.parent.is_some_and(|parent| !there.contains(&parent));
    let services: Vec<Json_> = services
        .iter()
        .map(|(name, (count, failed))| json!({ "name": name, "spanCount": count, "errorSpanCount": failed }))
        .collect();
    Some(json!({
        "traceId": hex(id),
        "rootServiceName": root.service,
        "rootOperationName": root.name,
        "minStartTimeUnixNano": nanos(spans.iter().map(|span| span.from).min()?),
        "maxEndTimeUnixNano": nanos(spans.iter().map(|span| span.to).max()?),
        "spanCount": spans.len(),
        "errorSpanCount": spans.iter().filter(|span| span.error.is_some()).count(),
        "orphanSpanCount": spans.iter().filter(is_orphan).count(),
        "services": services,
    }))
}

fn refused(refusal: &Refusal) -> Response {
    let Refusal { status, message } = refusal;
    (*status, Json(json!({ "error": { "httpCode": status.as_u16(), "message": message } }))).into_response()
}
