//! An order's number, and perhaps another's → how long each was where, beside what is usual.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::lists::{several, shown};
use super::order::{Found, open};
use super::texts::texts;
use super::{Frame, Reader, Site, broken, encode, message, path_of, render};
use crate::facts::Key;
use crate::model::{Kind, Model, What};
use crate::store::Order;
use crate::{fold, sentence};

#[derive(Deserialize)]
pub(super) struct Wish {
    #[serde(default)]
    with: String,
}

#[derive(Template)]
#[template(path = "compare.html")]
struct Page<'a> {
    frame: Frame<'a>,
    number: String,
    path: String,
    with: &'a str,
    /// The other order's number, where there is one.
    other: Option<String>,
    is_missing: bool,
    /// The orders that the other number fits, where it is several.
    choices: Vec<Choice>,
    rows: Vec<Row>,
}

struct Choice {
    number: String,
    query: String,
    numbers: String,
}

struct Row {
    from: String,
    to: String,
    own: String,
    is_slow: bool,
    other: String,
    usual: String,
}

/// So many times as long as is usual is slow.
const SLOW: i64 = 2;

/// `GET /orders/{key}/compare?with=`.
pub(super) async fn page(
    State(site): State<Site>,
    reader: Reader,
    Path(key): Path<String>,
    Query(wish): Query<Wish>,
) -> Response {
    let own = match open(&site, &key).await {
        Ok(Found::One(order)) => order,
        Ok(Found::Several(orders)) => return several(&site, &reader, orders),
        Ok(Found::None) => {
            let t = texts(reader.words.language);
            return message(StatusCode::NOT_FOUND, &reader, t.not_found, t.not_found_why);
        }
        Err(error) => return broken(&reader, &error),
    };
    let (other, several) = match open(&site, &wish.with).await {
        Ok(Found::One(order)) => (Some(order), Vec::new()),
        Ok(Found::Several(orders)) => (None, orders),
        Ok(Found::None) => (None, Vec::new()),
        Err(error) => return broken(&reader, &error),
    };
    let number = |order: &Order| order.journey.keys.first().map(Key::to_string).unwrap_or_default();
    let page = Page {
        frame: reader.frame("order"),
        number: number(&own),
        path: own.journey.keys.first().map(path_of).unwrap_or_default(),
        with: &wish.with,
        other: other.as_deref().map(number),
        is_missing: other.is_none() && several.is_empty() && !wish.with.trim().is_empty(),
        choices: several.iter().map(choice).collect(),
        rows: rows(&own, other.as_deref(), &site, &reader),
    };
    shown(std::iter::once(&*own).chain(other.as_deref()).chain(&several)).of(render(&page))
}

/// One of several orders with a number, with all its numbers: they are what tells it from the others.
fn choice(order: &Order) -> Choice {
    let numbers: Vec<String> = order.journey.keys.iter().map(Key::to_string).collect();
    let number = numbers.first().cloned().unwrap_or_default();
    Choice { query: encode(&number), number, numbers: numbers.join(", ") }
}

/// A row for each step from stage to stage that one of them made, in the order of the first.
fn rows(own: &Order, other: Option<&Order>, site: &Site, reader: &Reader) -> Vec<Row> {
    let (words, usual) = (&reader.words, site.store.usual());
    let own = steps(own, &site.model);
    let other = other.map(|order| steps(order, &site.model)).unwrap_or_default();
    let mut whats: Vec<&What> = own.iter().map(|(what, _)| what).collect();
    for (what, _) in &other {
        if !whats.contains(&what) {
            whats.push(what);
        }
    }
    let took = |steps: &[(What, i64)], what: &What| {
        steps.iter().find(|(one, _)| one == what).map(|(_, micros)| *micros)
    };
    let long = |micros: Option<i64>| micros.map(|micros| words.duration(micros)).unwrap_or_default();
    let row = |what: &What| {
        let usual = usual.times.get(what).and_then(|times| times.usual());
        let own = took(&own, what);
        let name = |stage: &str| sentence::stage(&site.model, words.language, stage);
        Row {
            from: name(&what.of),
            to: name(&what.with),
            own: long(own),
            is_slow: own.zip(usual).is_some_and(|(own, usual)| own > usual.saturating_mul(SLOW)),
            other: long(took(&other, what)),
            usual: usual.map(|micros| words.about(micros)).unwrap_or_default(),
        }
    };
    whats.into_iter().map(row).collect()
}

fn steps(order: &Order, model: &Model) -> Vec<(What, i64)> {
    let lengths = fold::lengths(&order.journey, model).into_iter();
    lengths
        .filter(|length| length.what.kind == Kind::Stage)
        .map(|length| (length.what, length.micros))
        .collect()
}
