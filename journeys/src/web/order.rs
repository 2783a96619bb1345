//! An order's number → its page.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;
use serde::Deserialize;

use super::texts::{sign, stage_state, texts};
use super::{Frame, Reader, Site, ask, broken, lanes, lists, message, path_of, render};
use crate::access::Action;
use crate::facts::{At, Key, Person};
use crate::fold::{Artifact, Place};
use crate::intake::now;
use crate::model::Model;
use crate::sentence::{self, Event, EventKind, Language, Words, sentence};
use crate::store::Order;

/// Rows of events on one page: the first and the last; the API has all.
const MAX_EVENTS: usize = 500;

#[derive(Template)]
#[template(path = "order.html")]
struct Page<'a> {
    frame: Frame<'a>,
    number: String,
    others: Vec<String>,
    path: String,
    people: Vec<String>,
    pinned: bool,
    tone: &'static str,
    sign: &'static str,
    state: String,
    text: String,
    proofs: Vec<EventRow>,
    unseen: Vec<String>,
    stages: Vec<StageRow>,
    systems: Vec<SystemRow>,
    took: String,
    lanes: Vec<LaneRow>,
    /// How many places are not drawn.
    more_lanes: Option<String>,
    folds: Vec<FoldRow>,
    files: Vec<FileRow>,
    events: Vec<EventRow>,
    /// How many events are not shown between these and the last ones.
    left_out: Option<String>,
    last_events: Vec<EventRow>,
    technical: bool,
    alerts: Vec<super::alerts::Row>,
}

struct EventRow {
    at: String,
    iso: String,
    system: String,
    kind: &'static str,
    text: String,
    who: String,
    how: &'static str,
}

struct StageRow {
    name: String,
    state: &'static str,
    word: &'static str,
    at: String,
}

struct SystemRow {
    name: String,
    status: String,
    at: String,
    iso: String,
    written: Option<String>,
    who: String,
    how: &'static str,
    disagrees: Option<String>,
}

struct LaneRow {
    name: String,
    kind: &'static str,
    label: String,
    bars: Vec<BarRow>,
}

struct BarRow {
    x: i64,
    width: i64,
    failed: bool,
    label: String,
}

struct FoldRow {
    x: i64,
    width: i64,
    middle: i64,
    label: String,
}

struct FileRow {
    name: String,
    size: String,
    uploaded: String,
    failed: bool,
    fetched: String,
}

/// `GET /orders/{key}`.
pub(super) async fn page(State(site): State<Site>, reader: Reader, Path(key): Path<String>) -> Response {
    match open(&site, &key).await {
        Ok(Found::One(order)) => {
            let (of, words, now) = (site.clone(), reader.words.clone(), now());
            let alerts = tokio::task::spawn_blocking(move || {
                let rows = super::alerts::of_order(&of, &order, &words, now);
                (order, rows)
            });
            let Ok((order, alerts)) = alerts.await else {
                return broken(&reader, &crate::store::StoreError::Closed);
            };
            lists::shown([&*order]).of(render(&view(&order, alerts, &site.model, &reader, now)))
        }
        Ok(Found::Several(orders)) => lists::several(&site, &reader, orders),
        Ok(Found::None) => lists::missing(&site, &reader).await,
        Err(error) => broken(&reader, &error),
    }
}

/// What a number leads to.
pub(super) enum Found {
    None,
    One(Box<Order>),
    Several(Vec<Order>),
}

/// Opens all orders of a number as a person typed it.
pub(super) async fn open(site: &Site, text: &str) -> Result<Found, crate::store::StoreError> {
    let Some(key) = Key::parse(text) else { return Ok(Found::None) };
    let mut orders = ask(site, move |store| {
        let now = now();
        let orders = store.find(&key)?.into_iter().map(|id| store.order(id, now));
        orders.filter_map(Result::transpose).collect::<Result<Vec<Order>, _>>()
    })
    .await?;
    Ok(match orders.len() {
        0 => Found::None,
        1 => orders.pop().map_or(Found::None, |order| Found::One(Box::new(order))),
        _ => Found::Several(orders),
    })
}

#[derive(Deserialize)]
pub(super) struct PinForm {
    pinned: bool,
}

/// `POST /orders/{key}/pin`.
pub(super) async fn pin(
    State(site): State<Site>,
    reader: Reader,
    Path(key): Path<String>,
    Form(form): Form<PinForm>,
) -> Response {
    match open(&site, &key).await {
        Ok(Found::One(order)) => {
            let (id, to) = (order.head.id, order.journey.keys.first().map(path_of).unwrap_or_default());
            match ask(&site, move |store| store.pin(id, form.pinned)).await {
                Ok(()) => lists::shown([&*order]).of(Redirect::to(&format!("/orders/{to}")).into_response()),
                Err(error) => broken(&reader, &error),
            }
        }
        Ok(_) => {
            let t = texts(reader.words.language);
            message(StatusCode::NOT_FOUND, &reader, t.not_found, t.not_found_why)
        }
        Err(error) => broken(&reader, &error),
    }
}

fn view<'a>(
    order: &Order,
    alerts: Vec<super::alerts::Row>,
    model: &Model,
    reader: &'a Reader,
    now: At,
) -> Page<'a> {
    let (journey, words) = (&order.journey, &reader.words);
    let told = sentence(&order.verdict, journey, model, words, now);
    let people = reader.may(Action::SeePeople);
    let row = |event: &Event| event_row(event, words, people, now);
    let events = sentence::events(journey, model, words, now);
    let drawn = lanes::lanes(&journey.visits);
    let mut keys = journey.keys.iter();
    let first = keys.next();
    let path = first.map(path_of).unwrap_or_default();
    let left_out = events.len().saturating_sub(MAX_EVENTS);
    let (first_rows, rest) = events.split_at(events.len().min(MAX_EVENTS / 2));
    let last_rows = rest.get(left_out..).unwrap_or_default();
    Page {
        frame: reader.live_frame("order", format!("/orders/{path}/events")),
        number: first.map(Key::to_string).unwrap_or_default(),
        others: keys.map(Key::to_string).collect(),
        path,
        people: if people {
            journey.people.iter().map(|who| person(who, words.language)).collect()
        } else {
            Vec::new()
        },
        pinned: order.head.pinned,
        tone: order.verdict.outcome.name(),
        sign: sign(order.verdict.outcome),
        state: told.state,
        text: told.text,
        proofs: sentence::proofs(&events, &order.verdict).map(row).collect(),
        unseen: told.unseen,
        stages: stages(order, model, words, now),
        systems: systems(order, model, words, people, now),
        took: words.duration(journey.last.since(journey.began)),
        lanes: drawn.lanes.iter().map(|lane| lane_row(lane, model, words, now)).collect(),
        more_lanes: (drawn.more > 0).then(|| more(drawn.more, words)),
        folds: drawn.folds.iter().map(|fold| fold_row(fold, words)).collect(),
        files: journey.artifacts.iter().map(|file| file_row(file, words, now)).collect(),
        events: first_rows.iter().map(row).collect(),
        left_out: (left_out > 0).then(|| more(left_out, words)),
        last_events: last_rows.iter().map(row).collect(),
        technical: reader.may(Action::TraceView),
        alerts,
    }
}

fn event_row(event: &Event, words: &Words, people: bool, now: At) -> EventRow {
    EventRow {
        at: words.exact(event.at, now),
        iso: iso(event.at),
        system: event.system.clone(),
        kind: match event.kind {
            EventKind::Change => "change",
            EventKind::Message => "message",
            EventKind::Failure => "failure",
            EventKind::Open => "open",
        },
        text: event.text.clone(),
        who: names(&event.who, words.language, people),
        how: event.how,
    }
}

/// A number of things that are not shown.
pub(super) fn more(count: usize, words: &Words) -> String {
    words.number(i64::try_from(count).unwrap_or(i64::MAX))
}

fn names(people: &[Person], language: Language, shown: bool) -> String {
    if !shown {
        return String::new();
    }
    people.iter().map(|who| person(who, language)).collect::<Vec<_>>().join(", ")
}

fn person(person: &Person, language: Language) -> String {
    format!("{} {}", sentence::role(person.role, language), person.id)
}

/// Times of day when they tell anything; of a way shorter than a minute, how long after the beginning.
fn stages(order: &Order, model: &Model, words: &Words, now: At) -> Vec<StageRow> {
    let journey = &order.journey;
    let quick = journey.last.since(journey.began) < crate::time::MINUTE;
    let at = |at: At| match quick {
        true if at > journey.began => format!("+{}", words.duration(at.since(journey.began))),
        _ => words.time(at, now),
    };
    let row = |mark: &crate::fold::StageMark| {
        let (state, word) = stage_state(mark.state.under(order.verdict.outcome), words.language);
        StageRow {
            name: sentence::stage(model, words.language, &mark.name),
            state,
            word,
            at: mark.at.map(at).unwrap_or_default(),
        }
    };
    journey.stages.iter().map(row).collect()
}

/// What a system says of the time of its change is shown when it differs by more than a second.
const WRITTEN_APART: i64 = crate::time::SECOND;

fn systems(order: &Order, model: &Model, words: &Words, people: bool, now: At) -> Vec<SystemRow> {
    let disagreement = order.journey.disagreement(model);
    let row = |record: &crate::fold::Record| {
        let change = record.current()?;
        let system = |record: &crate::fold::Record| {
            sentence::system(model, words.language, &record.service, &record.collection)
        };
        let disagrees = disagreement.filter(|found| std::ptr::eq(found.behind.0, record));
        let written = change
            .written_at
            .filter(|written| written.since(change.at).max(change.at.since(*written)) > WRITTEN_APART);
        Some(SystemRow {
            name: system(record),
            status: change.to.clone(),
            at: words.exact(change.at, now),
            iso: iso(change.at),
            written: written.map(|at| words.exact(at, now)),
            who: names(&change.by, words.language, people),
            how: sentence::certainty(change.certainty, words.language),
            disagrees: disagrees.map(|found| format!("{}: {}", system(found.ahead.0), found.ahead.1.to)),
        })
    };
    order.journey.records.iter().filter_map(row).collect()
}

/// What a place is called, and its class.
fn place(place: &Place, model: &Model, words: &Words) -> (String, &'static str) {
    let t = texts(words.language);
    match place {
        Place::Service(name) => (sentence::service(model, words.language, name), "service"),
        Place::Queue(name) => (format!("{} {name}", t.queue), "queue"),
        Place::Storage(name) => (format!("{} {name}", t.storage), "storage"),
        Place::Outside(name) => (name.clone(), "outside"),
    }
}

fn lane_row(lane: &lanes::Lane, model: &Model, words: &Words, now: At) -> LaneRow {
    let (name, kind) = place(&lane.place, model, words);
    let label = |bar: &lanes::Bar| {
        let times = if bar.count > 1 { format!(" ×{}", bar.count) } else { String::new() };
        format!("{}, {}{times}", words.exact(bar.from, now), words.duration(bar.micros))
    };
    let bars: Vec<BarRow> = lane
        .bars
        .iter()
        .map(|bar| BarRow { x: bar.x, width: bar.width, failed: bar.failed, label: label(bar) })
        .collect();
    let labels: Vec<&str> = bars.iter().take(5).map(|bar| bar.label.as_str()).collect();
    LaneRow { label: format!("{name}: {}", labels.join("; ")), name, kind, bars }
}

fn fold_row(fold: &lanes::Fold, words: &Words) -> FoldRow {
    FoldRow {
        x: fold.x,
        width: fold.width,
        middle: fold.x + fold.width / 2,
        label: words.duration(fold.micros),
    }
}

fn file_row(file: &Artifact, words: &Words, now: At) -> FileRow {
    let uploaded = match (file.stored_at, file.upload_micros) {
        (Some(at), Some(micros)) => format!("{} ({})", words.exact(at, now), words.duration(micros)),
        _ => String::new(),
    };
    let fetched = file.fetched.iter().map(|(who, at)| format!("{who} {}", words.exact(*at, now)));
    FileRow {
        name: file.file_name.clone().unwrap_or_else(|| format!("{}/{}", file.bucket, file.object)),
        size: file.size.map(|size| words.bytes(size)).unwrap_or_default(),
        uploaded,
        failed: file.failed,
        fetched: fetched.collect::<Vec<_>>().join(", "),
    }
}

/// RFC 3339, for machines.
pub(super) fn iso(at: At) -> String {
    Timestamp::from_microsecond(at.0).map(|at| at.to_string()).unwrap_or_default()
}
