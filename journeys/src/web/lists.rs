//! Wishes → lists of orders: now, search, stuck.

use askama::Template;
use axum::extract::{Query as UrlQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::order::{Found, open};
use super::texts::{sign, texts};
use super::{Frame, Reader, Site, ask, broken, encode, path_of, render};
use crate::access::Shown;
use crate::facts::{At, Key};
use crate::fold::Outcome;
use crate::intake;
use crate::model::Model;
use crate::sentence::{self, Words, sentence};
use crate::store::{Cursor, Order, OrderId, Query, Sort};

/// Rows of a page.
const ROWS: usize = 50;
/// Rows of each list on the first page.
const NOW_ROWS: usize = 20;
const GROUPS: usize = 100;
const EXAMPLES: usize = 5;

struct Row {
    number: String,
    path: String,
    stage: String,
    tone: &'static str,
    sign: &'static str,
    state: String,
    text: String,
}

#[derive(Template)]
#[template(path = "now.html")]
struct Now<'a> {
    frame: Frame<'a>,
    empty: bool,
    tiles: Vec<Tile>,
    stages: Vec<StageTile>,
    needs: Vec<Row>,
    latest: Vec<Row>,
}

struct Tile {
    tone: &'static str,
    sign: &'static str,
    word: &'static str,
    count: String,
}

struct StageTile {
    name: String,
    query: String,
    count: String,
}

#[derive(Template)]
#[template(path = "list.html")]
struct List<'a> {
    frame: Frame<'a>,
    title: String,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "stuck.html")]
struct Stuck<'a> {
    frame: Frame<'a>,
    groups: Vec<GroupRow>,
}

struct GroupRow {
    tone: &'static str,
    sign: &'static str,
    count: String,
    text: String,
    oldest: String,
    query: String,
}

#[derive(Template)]
#[template(path = "missing.html")]
struct Missing<'a> {
    frame: Frame<'a>,
    recent: Vec<Number>,
}

struct Number {
    number: String,
    path: String,
}

/// `GET /`.
pub(super) async fn now_page(site: &Site, reader: &Reader) -> Result<Response, crate::store::StoreError> {
    let now = intake::now();
    let needs = Query {
        outcomes: vec![Outcome::Stuck, Outcome::Lost, Outcome::Failed],
        limit: NOW_ROWS,
        ..Query::default()
    };
    let latest = Query { sort: Sort::Heard, limit: NOW_ROWS, ..Query::default() };
    let (counts, needs, latest) =
        ask(site, move |store| Ok((store.counts()?, store.list(&needs, now)?, store.list(&latest, now)?)))
            .await?;
    let words = &reader.words;
    let count = |wanted| {
        let found = counts.outcomes.iter().find(|(outcome, _)| *outcome == wanted);
        words.number(i64::try_from(found.map_or(0, |(_, orders)| *orders)).unwrap_or(i64::MAX))
    };
    let tiles = Outcome::ALL.map(|outcome| Tile {
        tone: outcome.name(),
        sign: sign(outcome),
        word: sentence::outcome(outcome, words.language),
        count: count(outcome),
    });
    let stages = stages(&counts.stages, &site.model);
    let shown = shown(needs.orders.iter().chain(&latest.orders));
    Ok(shown.of(render(&Now {
        frame: reader.live_frame("now", "/events".to_owned()),
        empty: latest.orders.is_empty(),
        tiles: tiles.into(),
        stages: stages
            .into_iter()
            .map(|(name, orders)| StageTile {
                query: encode(&name),
                name: sentence::stage(&site.model, words.language, &name),
                count: words.number(orders),
            })
            .collect(),
        needs: rows(&needs.orders, &site.model, words, now),
        latest: rows(&latest.orders, &site.model, words, now),
    })))
}

/// Orders at each stage that have not ended, in the model's order.
fn stages(counts: &[(String, Outcome, u64)], model: &Model) -> Vec<(String, i64)> {
    let mut stages: Vec<(String, i64)> = Vec::new();
    for (stage, outcome, orders) in counts {
        if matches!(outcome, Outcome::Finished | Outcome::Failed) {
            continue;
        }
        let orders = i64::try_from(*orders).unwrap_or(i64::MAX);
        match stages.iter_mut().find(|(name, _)| name == stage) {
            Some((_, count)) => *count = count.saturating_add(orders),
            None => stages.push((stage.clone(), orders)),
        }
    }
    stages.sort_by_key(|(name, _)| model.stages.iter().position(|stage| stage.name == *name));
    stages
}

pub(super) async fn now(State(site): State<Site>, reader: Reader) -> Response {
    now_page(&site, &reader).await.unwrap_or_else(|error| broken(&reader, &error))
}

#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
}

/// `GET /search?q=`: one hit is the order itself.
pub(super) async fn search(
    State(site): State<Site>,
    mut reader: Reader,
    UrlQuery(search): UrlQuery<Search>,
) -> Response {
    match open(&site, &search.q).await {
        Ok(Found::One(order)) => {
            let path = order.journey.keys.first().map(path_of).unwrap_or_default();
            Redirect::to(&format!("/orders/{path}")).into_response()
        }
        Ok(Found::Several(orders)) => several(&site, &reader, orders),
        Ok(Found::None) => {
            reader.query = search.q;
            missing(&site, &reader).await
        }
        Err(error) => broken(&reader, &error),
    }
}

/// A number of several orders.
pub(super) fn several(site: &Site, reader: &Reader, orders: Vec<Order>) -> Response {
    shown(&orders).of(render(&List {
        frame: reader.frame(""),
        title: texts(reader.words.language).several.to_owned(),
        rows: rows(&orders, &site.model, &reader.words, intake::now()),
        next: None,
    }))
}

/// Nobody named it: why that may be so, and what was named.
pub(super) async fn missing(site: &Site, reader: &Reader) -> Response {
    let recent = match ask(site, |store| store.recent(EXAMPLES)).await {
        Ok(recent) => recent,
        Err(error) => return broken(reader, &error),
    };
    let shown = Shown(recent.iter().map(Key::to_string).collect());
    let recent: Vec<Number> =
        recent.iter().map(|key| Number { number: key.to_string(), path: path_of(key) }).collect();
    shown.of((StatusCode::NOT_FOUND, render(&Missing { frame: reader.frame(""), recent })).into_response())
}

/// What a list may be asked for.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Wish {
    pub(super) outcome: Option<String>,
    pub(super) stage: Option<String>,
    pub(super) group: Option<String>,
    pub(super) sort: Option<String>,
    pub(super) limit: Option<usize>,
    /// `time,row` of the last one of the page before.
    pub(super) after: Option<String>,
}

impl Wish {
    /// `None` when a word of it is not known.
    pub(super) fn query(&self, limit: usize) -> Option<Query> {
        let is_filtered = self.stage.is_some() || self.group.is_some() || !self.outcomes()?.is_empty();
        let sort = match self.sort.as_deref() {
            None | Some("oldest") => Sort::Oldest,
            // Of all orders the last heard of, of some those that last came to be so.
            Some("latest") if is_filtered => Sort::Newest,
            Some("latest") => Sort::Heard,
            Some(_) => return None,
        };
        let after = match &self.after {
            Some(text) => {
                let (at, id) = text.split_once(',')?;
                Some(Cursor { at: At(at.parse().ok()?), id: OrderId(id.parse().ok()?) })
            }
            None => None,
        };
        Some(Query {
            outcomes: self.outcomes()?,
            stage: self.stage.clone(),
            group: self.group.clone(),
            sort,
            limit: self.limit.unwrap_or(limit),
            after,
        })
    }

    fn outcomes(&self) -> Option<Vec<Outcome>> {
        let words = self.outcome.as_deref().unwrap_or("").split(',').filter(|word| !word.is_empty());
        let mut outcomes = words.map(Outcome::from_name).collect::<Option<Vec<Outcome>>>()?;
        outcomes.sort();
        outcomes.dedup();
        Some(outcomes)
    }

    /// The address of the next page.
    fn next(&self, after: Cursor) -> String {
        let mut address = format!("/orders?after={},{}", after.at.0, after.id.0);
        for (name, value) in
            [("outcome", &self.outcome), ("stage", &self.stage), ("group", &self.group), ("sort", &self.sort)]
        {
            if let Some(value) = value {
                address.push_str(&format!("&{name}={}", encode(value)));
            }
        }
        address
    }
}

/// `GET /orders`.
pub(super) async fn orders(
    State(site): State<Site>,
    reader: Reader,
    UrlQuery(wish): UrlQuery<Wish>,
) -> Response {
    let Some(query) = wish.query(ROWS) else { return StatusCode::BAD_REQUEST.into_response() };
    let now = intake::now();
    let page = match ask(&site, move |store| store.list(&query, now)).await {
        Ok(page) => page,
        Err(error) => return broken(&reader, &error),
    };
    let t = texts(reader.words.language);
    let named = wish.stage.as_ref().map(|stage| sentence::stage(&site.model, reader.words.language, stage));
    let outcome = wish.outcome.as_deref().and_then(Outcome::from_name);
    let outcome = outcome.map(|outcome| sentence::outcome(outcome, reader.words.language).to_owned());
    shown(&page.orders).of(render(&List {
        frame: reader.live_frame("", "/events".to_owned()),
        title: named.or(outcome).map_or(t.all.to_owned(), |name| format!("{}: {name}", t.orders)),
        rows: rows(&page.orders, &site.model, &reader.words, now),
        next: page.next.map(|after| wish.next(after)),
    }))
}

/// `GET /stuck`.
pub(super) async fn stuck(State(site): State<Site>, reader: Reader) -> Response {
    let now = intake::now();
    let found = ask(&site, move |store| {
        let groups = store.groups(GROUPS)?;
        let examples = groups.iter().map(|group| store.order(group.example, now));
        let examples = examples.collect::<Result<Vec<_>, _>>()?;
        Ok(groups.into_iter().zip(examples).collect::<Vec<_>>())
    });
    let found = match found.await {
        Ok(found) => found,
        Err(error) => return broken(&reader, &error),
    };
    let words = &reader.words;
    let row = |(group, example): (crate::store::Group, Option<Order>)| {
        // The oldest order of a group speaks for all.
        let text =
            example.map(|order| sentence(&order.verdict, &order.journey, &site.model, words, now).text);
        GroupRow {
            tone: group.outcome.name(),
            sign: sign(group.outcome),
            count: words.number(i64::try_from(group.orders).unwrap_or(i64::MAX)),
            text: text.unwrap_or_else(|| group.group.clone()),
            oldest: words.duration(now.since(group.oldest)),
            query: encode(&group.group),
        }
    };
    render(&Stuck {
        frame: reader.live_frame("stuck", "/events".to_owned()),
        groups: found.into_iter().map(row).collect(),
    })
}

/// The numbers of orders, for the access log.
pub(super) fn shown<'a>(orders: impl IntoIterator<Item = &'a Order>) -> Shown {
    Shown(orders.into_iter().flat_map(|order| order.journey.keys.iter().map(Key::to_string)).collect())
}

fn rows(orders: &[Order], model: &Model, words: &Words, now: At) -> Vec<Row> {
    let row = |order: &Order| {
        let told = sentence(&order.verdict, &order.journey, model, words, now);
        let key = order.journey.keys.first();
        let stage = order.journey.stage().map(|mark| sentence::stage(model, words.language, &mark.name));
        Row {
            number: key.map(Key::to_string).unwrap_or_default(),
            path: key.map(path_of).unwrap_or_default(),
            stage: stage.unwrap_or_default(),
            tone: order.verdict.outcome.name(),
            sign: sign(order.verdict.outcome),
            state: told.state,
            text: told.text,
        }
    };
    orders.iter().map(row).collect()
}
