//! Rules and channels that are in force → pages, with the trial of a rule on the orders of the past.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::alerts::{OrderLink, ask, order_link, severity};
use super::texts::{Texts, texts};
use super::{Frame, Reader, Site, broken, message, render};
use crate::access::{Action, Shown};
use crate::facts::At;
use crate::intake;
use crate::rules::State as AlertState;
use crate::rules::trial::{Trial, Warned, messages};
use crate::sentence::Words;
use crate::time::DAY;

/// Alerts of a trial that are shown.
const EXAMPLES: usize = 50;
/// Orders that a page tries a rule on; the command line knows no bound.
const MAX_TRIED: u64 = 20_000;
/// How far back a page tries a rule.
const TRIED: i64 = 28 * DAY;

#[derive(Template)]
#[template(path = "rules.html")]
struct Rules<'a> {
    frame: Frame<'a>,
    rules: Vec<RuleRow>,
    channels: Vec<ChannelRow>,
}

struct RuleRow {
    id: String,
    kind: &'static str,
    severity: &'static str,
    own: &'static str,
    firing: String,
}

struct ChannelRow {
    name: String,
    kind: &'static str,
    severity: &'static str,
    waiting: String,
}

#[derive(Template)]
#[template(path = "rule.html")]
struct RulePage<'a> {
    frame: Frame<'a>,
    id: String,
    source: String,
    may_try: bool,
    tried: Option<Tried>,
}

struct Tried {
    summary: String,
    rows: Vec<TriedRow>,
}

struct TriedRow {
    at: String,
    ended: String,
    order: Option<OrderLink>,
    place: String,
}

/// `GET /rules`.
pub(super) async fn rules(State(site): State<Site>, reader: Reader) -> Response {
    let found = ask(&site, |site| Ok((site.alerts.alert_counts()?, site.alerts.outbox_counts()?)));
    let (counts, outbox) = match found.await {
        Ok(found) => found,
        Err(error) => return broken(&reader, &error),
    };
    let (words, t) = (&reader.words, texts(reader.words.language));
    let set = site.alerts.rules().unwrap_or_default();
    let number = |count: u64| words.number(i64::try_from(count).unwrap_or(i64::MAX));
    let rule = |rule: &crate::rules::Rule| {
        let firing = counts.iter().find(|(id, state, _)| *id == rule.id && *state == AlertState::Firing);
        RuleRow {
            id: rule.id.clone(),
            kind: rule.when.name(),
            severity: severity(rule.severity, t),
            own: if rule.is_own { t.of_house } else { t.built_in },
            firing: number(firing.map_or(0, |(.., count)| *count)),
        }
    };
    let channel = |channel: &crate::rules::channel::Channel| {
        let waiting = outbox.waiting.iter().find(|(name, ..)| *name == channel.name);
        ChannelRow {
            name: channel.name.clone(),
            kind: channel.kind.name(),
            severity: severity(channel.min_severity, t),
            waiting: number(waiting.map_or(0, |(_, count, _)| *count)),
        }
    };
    render(&Rules {
        frame: reader.live_frame("rules", "/events".to_owned()),
        rules: set.rules.iter().map(rule).collect(),
        channels: set.channels.iter().map(channel).collect(),
    })
}

/// `GET /rules/{id}`.
pub(super) async fn rule(State(site): State<Site>, reader: Reader, Path(id): Path<String>) -> Response {
    rule_page(&site, &reader, &id, None)
}

/// `GET /rules/{id}/try`: on the orders of the last weeks.
pub(super) async fn try_rule(State(site): State<Site>, reader: Reader, Path(id): Path<String>) -> Response {
    let t = texts(reader.words.language);
    // One at a time: it reads many orders.
    let Ok(place) = site.trying.clone().try_acquire_owned() else {
        return message(StatusCode::TOO_MANY_REQUESTS, &reader, t.tried_already, t.tried_already_how);
    };
    let now = intake::now();
    let only = id.clone();
    let tried = ask(&site, move |site| {
        let _place = place;
        let mut set = (*site.alerts.rules().unwrap_or_default()).clone();
        set.rules.retain(|rule| rule.id == only);
        let (usual, from) = (site.store.usual(), At(now.0.saturating_sub(TRIED)));
        let mut trial = Trial::new(&set, &site.model, &usual, from, now);
        let orders = site.alerts.each_order(from, MAX_TRIED, &mut |facts| trial.order(facts))?;
        Ok((orders, trial.finish()))
    });
    let (orders, warned) = match tried.await {
        Ok(tried) => tried,
        Err(error) => return broken(&reader, &error),
    };
    let numbers = warned.iter().take(EXAMPLES).filter_map(|one| one.order.as_ref().map(ToString::to_string));
    let shown = Shown(numbers.collect());
    shown.of(rule_page(&site, &reader, &id, Some(tried_page(orders, &warned, &reader.words, t, now))))
}

fn tried_page(orders: u64, warned: &[Warned], words: &Words, t: &Texts, now: At) -> Tried {
    let number = |count: usize| words.number(i64::try_from(count).unwrap_or(i64::MAX));
    let ended = warned.iter().filter(|one| one.resolved_at.is_some()).count();
    let orders = words.number(i64::try_from(orders).unwrap_or(i64::MAX));
    let row = |one: &Warned| TriedRow {
        at: words.exact(one.fired_at, now),
        ended: one.resolved_at.map(|at| words.exact(at, now)).unwrap_or_default(),
        order: one.order.as_ref().map(|key| order_link(&key.to_string())),
        place: one.place.clone(),
    };
    Tried {
        summary: format!(
            "{}: {orders}; {}: {}; {}: {}; {}: {}",
            t.orders,
            t.alerts,
            number(warned.len()),
            t.messages,
            number(messages(warned)),
            t.ended_alone,
            number(ended)
        ),
        rows: warned.iter().take(EXAMPLES).map(row).collect(),
    }
}

fn rule_page(site: &Site, reader: &Reader, id: &str, tried: Option<Tried>) -> Response {
    let set = site.alerts.rules().unwrap_or_default();
    let Some(rule) = set.rule(id) else {
        let t = texts(reader.words.language);
        return message(StatusCode::NOT_FOUND, reader, t.no_rule, t.no_rule_why);
    };
    render(&RulePage {
        frame: reader.frame("rules"),
        id: rule.id.clone(),
        source: rule.source.clone(),
        may_try: reader.may(Action::RuleTry),
        tried,
    })
}
