//! Requests of programs → JSON; times are RFC 3339.
//!
//! Errors are problem details (RFC 9457).

use axum::Json;
use axum::extract::{Path, Query as UrlQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::lists::{Wish, shown};
use super::order::{Found, iso, open};
use super::{Reader, Site, ask};
use crate::access::Action;
use crate::digest::hex;
use crate::facts::{At, Fact, Key};
use crate::fold::{Change, Record};
use crate::intake::now;
use crate::model::Model;
use crate::sentence::{self, Words, sentence};
use crate::store::{Order, StoreError};

const ROWS: usize = 50;

/// `GET /api/v1/orders`.
pub(super) async fn orders(
    State(site): State<Site>,
    reader: Reader,
    UrlQuery(wish): UrlQuery<Wish>,
) -> Response {
    let Some(query) = wish.query(ROWS) else {
        return problem(StatusCode::BAD_REQUEST, "outcome, sort or after is not one of those there are");
    };
    let now = now();
    match ask(&site, move |store| store.list(&query, now)).await {
        Ok(page) => shown(&page.orders).of(Json(json!({
            "at": iso(now),
            "orders": page.orders.iter().map(|order| summary(order, &site.model, &reader, now)).collect::<Vec<_>>(),
            "next": page.next.map(|after| format!("{},{}", after.at.0, after.id.0)),
        }))
        .into_response()),
        Err(error) => unavailable(&error),
    }
}

/// `GET /api/v1/orders/{key}`.
pub(super) async fn order(State(site): State<Site>, reader: Reader, Path(key): Path<String>) -> Response {
    match open(&site, &key).await {
        Ok(Found::One(order)) => {
            shown([&*order]).of(Json(whole(&order, &site.model, &reader, now())).into_response())
        }
        Ok(Found::Several(orders)) => {
            let now = now();
            let shown = shown(&orders);
            let orders: Vec<Value> =
                orders.iter().map(|order| summary(order, &site.model, &reader, now)).collect();
            let body = json!({ "title": "the number fits several orders", "status": 300, "orders": orders });
            shown.of((StatusCode::MULTIPLE_CHOICES, Json(body)).into_response())
        }
        Ok(Found::None) => problem(StatusCode::NOT_FOUND, "no system named this number"),
        Err(error) => unavailable(&error),
    }
}

/// `GET /api/v1/orders/{key}/facts`.
pub(super) async fn facts(State(site): State<Site>, reader: Reader, Path(key): Path<String>) -> Response {
    match open(&site, &key).await {
        Ok(Found::One(order)) => {
            let people = reader.may(Action::SeePeople);
            let facts: Vec<Value> = order.facts.iter().map(|one| fact(one, people)).collect();
            shown([&*order]).of(Json(json!({ "at": iso(now()), "facts": facts })).into_response())
        }
        Ok(Found::Several(_)) => problem(StatusCode::MULTIPLE_CHOICES, "the number fits several orders"),
        Ok(Found::None) => problem(StatusCode::NOT_FOUND, "no system named this number"),
        Err(error) => unavailable(&error),
    }
}

/// `GET /api/v1/stuck`.
pub(super) async fn stuck(State(site): State<Site>) -> Response {
    match ask(&site, |store| store.groups(200)).await {
        Ok(groups) => {
            let groups: Vec<Value> = groups
                .iter()
                .map(|group| {
                    json!({
                        "group": group.group,
                        "outcome": group.outcome.name(),
                        "orders": group.orders,
                        "oldest": iso(group.oldest),
                    })
                })
                .collect();
            Json(json!({ "at": iso(now()), "groups": groups })).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// `GET /api/v1/counts`.
pub(super) async fn counts(State(site): State<Site>) -> Response {
    match ask(&site, |store| store.counts()).await {
        Ok(counts) => {
            let outcomes: serde_json::Map<String, Value> = counts
                .outcomes
                .iter()
                .map(|(outcome, orders)| (outcome.name().to_owned(), json!(orders)))
                .collect();
            let stages: Vec<Value> = counts
                .stages
                .iter()
                .map(|(stage, outcome, orders)| {
                    json!({ "stage": stage, "outcome": outcome.name(), "orders": orders })
                })
                .collect();
            Json(json!({ "at": iso(now()), "outcomes": outcomes, "stages": stages })).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

fn summary(order: &Order, model: &Model, reader: &Reader, now: At) -> Value {
    let words = &reader.words;
    let told = sentence(&order.verdict, &order.journey, model, words, now);
    json!({
        "order": order.journey.keys.first().map(Key::to_string),
        "keys": order.journey.keys.iter().map(Key::to_string).collect::<Vec<_>>(),
        "outcome": order.verdict.outcome.name(),
        "since": iso(order.verdict.since),
        "stage": order.journey.stage().map(|mark| mark.name.as_str()),
        "stage_since": order.journey.stage().and_then(|mark| mark.at).map(iso),
        "sentence": told.text,
        "unseen": told.unseen,
        "truncated": order.journey.truncated,
        "first_at": iso(order.journey.began),
        "last_at": iso(order.journey.last),
        "pinned": order.head.pinned,
    })
}

fn whole(order: &Order, model: &Model, reader: &Reader, now: At) -> Value {
    let people = reader.may(Action::SeePeople);
    let mut body = summary(order, model, reader, now);
    let journey = &order.journey;
    let stages: Vec<Value> = journey
        .stages
        .iter()
        .map(|mark| json!({ "name": mark.name, "state": mark.state.under(order.verdict.outcome), "at": mark.at.map(iso) }))
        .collect();
    let records: Vec<Value> = journey.records.iter().map(|record| json_record(record, people)).collect();
    if let Some(body) = body.as_object_mut() {
        body.insert("at".to_owned(), json!(iso(now)));
        body.insert("stages".to_owned(), json!(stages));
        body.insert("records".to_owned(), json!(records));
        body.insert("events".to_owned(), events(order, model, &reader.words, now));
        if people {
            let people: Vec<Value> = journey.people.iter().map(json_person).collect();
            body.insert("people".to_owned(), json!(people));
        }
    }
    body
}

fn json_record(record: &Record, people: bool) -> Value {
    let change = |change: &Change| {
        let by: Vec<Value> = if people { change.by.iter().map(json_person).collect() } else { Vec::new() };
        json!({
            "at": iso(change.at),
            "from": change.from,
            "to": change.to,
            "written_at": change.written_at.map(iso),
            "certainty": change.certainty,
            "by": by,
            "spans": change.evidence.iter().map(|id| hex(&id.span)).collect::<Vec<_>>(),
        })
    };
    json!({
        "service": record.service,
        "collection": record.collection,
        "changes": record.changes.iter().map(change).collect::<Vec<_>>(),
        "repeated": record.repeated,
    })
}

fn json_person(person: &crate::facts::Person) -> Value {
    json!({ "role": format!("{:?}", person.role).to_lowercase(), "id": person.id })
}

fn events(order: &Order, model: &Model, words: &Words, now: At) -> Value {
    let event = |event: sentence::Event| json!({ "at": iso(event.at), "system": event.system, "text": event.text, "how": event.how });
    sentence::events(&order.journey, model, words, now).into_iter().map(event).collect()
}

fn fact(fact: &Fact, people: bool) -> Value {
    json!({
        "trace_id": hex(&fact.id.trace),
        "span_id": hex(&fact.id.span),
        "parent_span_id": fact.parent.map(|parent| hex(&parent)),
        "from": iso(fact.from),
        "to": iso(fact.to),
        "service": fact.service,
        "name": fact.name,
        "status": fact.status.as_ref().map(|status| status.value.as_str()),
        "step": fact.step,
        "trouble": fact.trouble,
        "unseen": fact.unseen,
        "people": if people { fact.people.iter().map(json_person).collect() } else { Vec::new() },
    })
}

/// RFC 9457.
pub(super) fn problem(status: StatusCode, title: &str) -> Response {
    let kind = HeaderValue::from_static("application/problem+json");
    (status, [(header::CONTENT_TYPE, kind)], json!({ "title": title, "status": status.as_u16() }).to_string())
        .into_response()
}

pub(super) fn unavailable(error: &StoreError) -> Response {
    tracing::error!(error = %crate::intake::chain(error), "the store did not answer the API");
    problem(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer now")
}
