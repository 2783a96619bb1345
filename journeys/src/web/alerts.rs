//! What was warned of → pages and the API: lists, one alert with who took it and who was told.

use askama::Template;
use axum::Json;
use axum::extract::{Form, Path, Query as UrlQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{problem, unavailable};
use super::order::iso;
use super::texts::{Texts, texts};
use super::{Frame, Reader, Site, broken, encode, message, render};
use crate::access::{Action, Shown};
use crate::facts::At;
use crate::intake;
use crate::model::Model;
use crate::rules::text::{About, Alerted};
use crate::rules::{RuleSet, Severity, State as AlertState};
use crate::sentence::Words;
use crate::store::alerts::{Alert, AlertId, Alerts, Note, Wanted, What};
use crate::store::{Order, StoreError};
use crate::time::HOUR;

const ROWS: usize = 100;
/// Alerts of an order's page.
const ROWS_OF_ORDER: usize = 20;
/// For how long somebody may not want to hear of an alert.
const LONGEST_SNOOZE: i64 = 30 * 24;

#[derive(Template)]
#[template(path = "alerts.html")]
struct List<'a> {
    frame: Frame<'a>,
    states: Vec<StateLink>,
    rows: Vec<Row>,
}

struct StateLink {
    name: &'static str,
    word: &'static str,
    is_here: bool,
}

/// An alert in a table.
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) title: String,
    pub(super) tone: &'static str,
    pub(super) severity: &'static str,
    pub(super) state: &'static str,
    pub(super) since: String,
    pub(super) iso: String,
    pub(super) who: String,
    pub(super) order: Option<OrderLink>,
}

pub(super) struct OrderLink {
    pub(super) number: String,
    pub(super) path: String,
}

#[derive(Template)]
#[template(path = "alert.html")]
struct One<'a> {
    frame: Frame<'a>,
    row: Row,
    text: String,
    rule: String,
    late: bool,
    until: Option<String>,
    can_take: bool,
    is_group: bool,
    group: Option<i64>,
    notes: Vec<NoteRow>,
    told: Vec<ToldRow>,
}

struct NoteRow {
    at: String,
    by: String,
    text: String,
}

struct ToldRow {
    channel: String,
    what: &'static str,
    at: String,
    result: String,
    attempts: u32,
}

/// Which alerts a reader asks for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wish {
    state: Option<String>,
    rule: Option<String>,
    group: Option<i64>,
}

impl Wish {
    /// `None` for a state that is none.
    fn wanted(&self) -> Option<Wanted> {
        let state = match self.state.as_deref() {
            None | Some("") => AlertState::Firing,
            Some(name) => AlertState::ALL.into_iter().find(|state| state.name() == name)?,
        };
        let group = self.group.map(AlertId);
        Some(Wanted { state: Some(state), rule: self.rule.clone(), order: None, group, limit: ROWS })
    }
}

/// Asks the store of alerts where a task may block.
pub(super) async fn ask<T: Send + 'static>(
    site: &Site,
    question: impl FnOnce(&Site) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let site = site.clone();
    tokio::task::spawn_blocking(move || question(&site)).await.unwrap_or(Err(StoreError::Closed))
}

/// Alerts with the orders they are about.
fn with_orders(site: &Site, alerts: Vec<Alert>, now: At) -> Result<Vec<(Alert, Option<Order>)>, StoreError> {
    let with = |alert: Alert| {
        let order = match alert.order.map(|order| site.store.order(order, now)) {
            Some(Err(error)) if !error.is_of_one_row() => return Err(error),
            Some(Ok(order)) => order,
            _ => None,
        };
        Ok((alert, order))
    };
    alerts.into_iter().map(with).collect()
}

/// `GET /alerts`.
pub(super) async fn list(
    State(site): State<Site>,
    reader: Reader,
    UrlQuery(wish): UrlQuery<Wish>,
) -> Response {
    let Some(wanted) = wish.wanted() else { return StatusCode::BAD_REQUEST.into_response() };
    let (now, here) = (intake::now(), wanted.state);
    let found = match ask(&site, move |site| with_orders(site, site.alerts.alerts(&wanted)?, now)).await {
        Ok(found) => found,
        Err(error) => return broken(&reader, &error),
    };
    let t = texts(reader.words.language);
    let states = [AlertState::Firing, AlertState::Pending, AlertState::Resolved].map(|state| StateLink {
        name: state.name(),
        word: word(state.name(), t),
        is_here: wish.group.is_none() && here == Some(state),
    });
    let set = site.alerts.rules();
    shown(&found).of(render(&List {
        frame: reader.live_frame("alerts", "/events".to_owned()),
        states: states.into(),
        rows: found.iter().map(|one| row(one, set.as_deref(), &site.model, &reader.words, now)).collect(),
    }))
}

/// `GET /alerts/{id}`.
pub(super) async fn one(State(site): State<Site>, reader: Reader, Path(id): Path<i64>) -> Response {
    let now = intake::now();
    let found =
        ask(&site, move |site| with_orders(site, site.alerts.alert(AlertId(id))?.into_iter().collect(), now));
    let found = match found.await {
        Ok(found) => found,
        Err(error) => return broken(&reader, &error),
    };
    let (words, t) = (&reader.words, texts(reader.words.language));
    let Some((alert, order)) = found.first() else {
        return message(StatusCode::NOT_FOUND, &reader, t.no_alert, t.no_alert_why);
    };
    let set = site.alerts.rules();
    let alerted = alerted(alert, order.as_ref(), set.as_deref());
    let text = alerted.map(|alerted| alerted.text(&site.model, words, now)).unwrap_or_default();
    let note =
        |note: &Note| NoteRow { at: words.exact(note.at, now), by: note.by.clone(), text: note.text.clone() };
    let told = |told: &crate::store::alerts::Told| ToldRow {
        channel: told.channel.clone(),
        what: what(told.what, t),
        at: words.exact(told.done_at.unwrap_or(told.at), now),
        result: if told.result == "sent" { t.sent.to_owned() } else { told.result.clone() },
        attempts: told.attempts,
    };
    shown(&found).of(render(&One {
        frame: reader.live_frame("alerts", "/events".to_owned()),
        row: row(&found[0], set.as_deref(), &site.model, words, now),
        text,
        rule: alert.rule.clone(),
        late: alert.late,
        until: alert.snoozed_until.filter(|until| *until > now).map(|until| words.time(until, now)),
        can_take: reader.may(Action::Acknowledge) && alert.state == AlertState::Firing,
        is_group: alert.members.is_some(),
        group: alert.grouped_in.map(|group| group.0),
        notes: alert.notes.iter().map(note).collect(),
        told: alert.told.iter().map(told).collect(),
    }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    note: String,
    /// For so many hours.
    hours: Option<i64>,
}

/// `POST /alerts/{id}/acknowledge`.
pub(super) async fn acknowledge(
    State(site): State<Site>,
    reader: Reader,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Response {
    let note = note(&reader, &said);
    answer(&site, &reader, id, move |alerts| alerts.acknowledge(AlertId(id), note)).await
}

/// `POST /alerts/{id}/snooze`.
pub(super) async fn snooze(
    State(site): State<Site>,
    reader: Reader,
    Path(id): Path<i64>,
    Form(said): Form<Said>,
) -> Response {
    let Some(hours) = said.hours.filter(|hours| (1..=LONGEST_SNOOZE).contains(hours)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let note = note(&reader, &said);
    let until = note.at.after(hours.saturating_mul(HOUR));
    answer(&site, &reader, id, move |alerts| alerts.snooze(AlertId(id), until, note)).await
}

fn note(reader: &Reader, said: &Said) -> Note {
    let by = reader.who.as_ref().map(|who| who.name.clone()).unwrap_or_default();
    Note { at: intake::now(), by, text: said.note.clone() }
}

/// Back to the alert, or, for one that is over, why nothing was changed.
async fn answer(
    site: &Site,
    reader: &Reader,
    id: i64,
    change: impl FnOnce(&dyn Alerts) -> Result<bool, StoreError> + Send + 'static,
) -> Response {
    let done = ask(site, move |site| {
        let number = site.alerts.alert(AlertId(id))?.map(|alert| alert.number);
        Ok((change(&*site.alerts)?, number))
    });
    match done.await {
        Ok((true, number)) => {
            let shown = Shown(number.into_iter().filter(|number| !number.is_empty()).collect());
            shown.of(Redirect::to(&format!("/alerts/{id}")).into_response())
        }
        Ok((false, _)) => {
            let t = texts(reader.words.language);
            message(StatusCode::NOT_FOUND, reader, t.no_alert, t.no_alert_why)
        }
        Err(error) => broken(reader, &error),
    }
}

/// `GET /api/v1/alerts`.
pub(super) async fn api(
    State(site): State<Site>,
    reader: Reader,
    UrlQuery(wish): UrlQuery<Wish>,
) -> Response {
    let Some(wanted) = wish.wanted() else {
        return problem(StatusCode::BAD_REQUEST, "state is one of pending, firing, resolved");
    };
    let now = intake::now();
    let found = match ask(&site, move |site| with_orders(site, site.alerts.alerts(&wanted)?, now)).await {
        Ok(found) => found,
        Err(error) => return unavailable(&error),
    };
    let set = site.alerts.rules();
    let json = |one: &(Alert, Option<Order>)| {
        let (alert, _) = one;
        let row = row(one, set.as_deref(), &site.model, &reader.words, now);
        json!({
            "id": alert.id.0,
            "fingerprint": alert.fingerprint,
            "rule": alert.rule,
            "order": Some(&alert.number).filter(|number| !number.is_empty()),
            "orders": alert.members,
            "group": alert.grouped_in.map(|group| group.0),
            "place": alert.held.place,
            "severity": alert.severity.name(),
            "state": alert.word(now),
            "since": iso(alert.held.since),
            "fired_at": alert.fired_at.map(iso),
            "resolved_at": alert.resolved_at.map(iso),
            "late": alert.late,
            "by": alert.taken.as_ref().map(|(by, _)| by),
            "snoozed_until": alert.snoozed_until.map(iso),
            "text": row.title,
        })
    };
    let alerts: Vec<Value> = found.iter().map(json).collect();
    shown(&found).of(Json(json!({ "at": iso(now), "alerts": alerts })).into_response())
}

/// What an order's page says of what was warned; nothing where the alerts do not answer.
pub(super) fn of_order(site: &Site, order: &Order, words: &Words, now: At) -> Vec<Row> {
    let wanted = Wanted { order: Some(order.head.id), limit: ROWS_OF_ORDER, ..Wanted::default() };
    let alerts = site.alerts.alerts(&wanted).unwrap_or_default();
    let set = site.alerts.rules();
    let told = alerts.into_iter().filter(|alert| alert.state != AlertState::Pending);
    told.map(|alert| row(&(alert, Some(order.clone())), set.as_deref(), &site.model, words, now)).collect()
}

fn shown(found: &[(Alert, Option<Order>)]) -> Shown {
    let numbers = found.iter().map(|(alert, _)| alert.number.clone());
    Shown(numbers.filter(|number| !number.is_empty()).collect())
}

fn alerted<'a>(alert: &'a Alert, order: Option<&'a Order>, set: Option<&'a RuleSet>) -> Option<Alerted<'a>> {
    let about = order.map(|order| About { journey: &order.journey, verdict: &order.verdict });
    Some(Alerted {
        rule: set?.rule(&alert.rule)?,
        severity: alert.severity,
        held: &alert.held,
        number: &alert.number,
        about,
        orders: alert.members,
        late: false,
        resolved: false,
        link: "",
    })
}

fn row(
    (alert, order): &(Alert, Option<Order>),
    set: Option<&RuleSet>,
    model: &Model,
    words: &Words,
    now: At,
) -> Row {
    let t = texts(words.language);
    let title = alerted(alert, order.as_ref(), set).map(|alerted| alerted.title(model, words, now));
    let at = alert.fired_at.unwrap_or(alert.held.since);
    let state = alert.word(now);
    Row {
        id: alert.id.0,
        title: title.unwrap_or_else(|| format!("{} {}", alert.rule, alert.number)),
        tone: tone(alert, state),
        severity: severity(alert.severity, t),
        state: word(state, t),
        since: words.exact(at, now),
        iso: iso(at),
        who: alert.taken.as_ref().map(|(by, _)| by.clone()).unwrap_or_default(),
        order: Some(alert.number.as_str()).filter(|number| !number.is_empty()).map(order_link),
    }
}

pub(super) fn order_link(number: &str) -> OrderLink {
    OrderLink { number: number.to_owned(), path: encode(number) }
}

/// The class that gives a row its colour; the word beside it says the same.
fn tone(alert: &Alert, state: &str) -> &'static str {
    match (state, alert.severity) {
        ("firing", Severity::Critical) => "failure",
        _ => "",
    }
}

pub(super) fn severity(severity: Severity, t: &Texts) -> &'static str {
    match severity {
        Severity::Info => t.info,
        Severity::Warning => t.warning,
        Severity::Critical => t.critical,
    }
}

fn word(state: &str, t: &Texts) -> &'static str {
    match state {
        "pending" => t.pending,
        "acknowledged" => t.taken_by_somebody,
        "snoozed" => t.snoozed,
        "resolved" => t.resolved,
        _ => t.firing,
    }
}

fn what(what: What, t: &Texts) -> &'static str {
    match what {
        What::Fired => t.firing,
        What::Resolved => t.resolved,
        What::Still => t.still,
    }
}
