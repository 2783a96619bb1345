//! What was learned → the pages of the way, of queues and of services, and the same for programs.
//!
//! Nothing here is of any one order: a number in a name was left out before it was learned.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::texts::{Texts, texts};
use super::{Frame, Reader, Site, encode, render};
use crate::fold::{Outcome, THEN};
use crate::model::{Kind, Model, Times, Usual, What};
use crate::sentence::{self, Words};

#[derive(Template)]
#[template(path = "map.html")]
struct Map<'a> {
    frame: Frame<'a>,
    whole: Option<Row>,
    steps: Vec<Step>,
    ways: Vec<Way>,
}

/// From one stage to another.
struct Step {
    from: String,
    from_query: String,
    to: String,
    row: Row,
    /// Of all that left the stage, so many in a hundred, for the bar.
    share: u64,
}

/// All stages of orders that ended.
struct Way {
    stages: String,
    end: &'static str,
    tone: &'static str,
    row: Row,
    share: u64,
}

/// Ways that are shown, the most frequent ones.
const MAX_WAYS: usize = 50;

#[derive(Template)]
#[template(path = "queues.html")]
struct Queues<'a> {
    frame: Frame<'a>,
    queues: Vec<Queue>,
}

struct Queue {
    name: String,
    /// Nothing was seen to lie in it: it is known by who takes from it.
    waited: Option<Row>,
    taken: Vec<Row>,
}

#[derive(Template)]
#[template(path = "services.html")]
struct Services<'a> {
    frame: Frame<'a>,
    services: Vec<Service>,
}

struct Service {
    name: String,
    rows: Vec<Row>,
}

/// How often, how long, how often badly.
struct Row {
    name: String,
    count: String,
    failed: String,
    is_bad: bool,
    usual: String,
    slow: String,
}

/// More than so many failures in a hundred are shown in red.
const BAD_PERCENT: u64 = 5;

fn row(name: String, times: &Times, words: &Words) -> Row {
    let number = |count: u64| words.number(i64::try_from(count).unwrap_or(i64::MAX));
    Row {
        name,
        count: number(times.count()),
        failed: if times.failed > 0 { number(times.failed) } else { String::new() },
        is_bad: times.failed.saturating_mul(100) > times.count().saturating_mul(BAD_PERCENT),
        usual: words.about(times.percentile(50)),
        slow: words.about(times.percentile(95)),
    }
}

/// `GET /map`: how orders go from stage to stage.
pub(super) async fn map(State(site): State<Site>, reader: Reader) -> Response {
    let usual = site.store.usual();
    let words = &reader.words;
    let whole = usual.of(Kind::Whole).next().map(|(_, times)| row(String::new(), times, words));
    let steps = steps(&usual, &site.model).into_iter().map(|(what, times, share)| Step {
        from: sentence::stage(&site.model, words.language, &what.of),
        from_query: encode(&what.of),
        to: sentence::stage(&site.model, words.language, &what.with),
        row: row(String::new(), times, words),
        share,
    });
    let frame = reader.live_frame("map", "/events".to_owned());
    render(&Map { frame, whole, steps: steps.collect(), ways: ways(&usual, &site.model, words) })
}

/// The ways that orders went which ended, the most frequent first.
fn ways(usual: &Usual, model: &Model, words: &Words) -> Vec<Way> {
    let mut ways: Vec<(&What, &Times)> = usual.of(Kind::Way).filter(|(_, times)| times.count() > 0).collect();
    let all: u64 = ways.iter().map(|(_, times)| times.count()).sum();
    ways.sort_by_key(|(what, times)| (std::cmp::Reverse(times.count()), *what));
    let way = |(what, times): (&What, &Times)| {
        let stages = what.of.split(THEN).map(|stage| sentence::stage(model, words.language, stage));
        let outcome = Outcome::from_name(&what.with).unwrap_or(Outcome::Finished);
        Way {
            stages: stages.collect::<Vec<_>>().join(THEN),
            end: sentence::outcome(outcome, words.language),
            tone: outcome.name(),
            row: row(String::new(), times, words),
            share: times.count().saturating_mul(100) / all.max(1),
        }
    };
    ways.into_iter().take(MAX_WAYS).map(way).collect()
}

/// From stage to stage in the model's order, the most frequent way first, with its share.
fn steps<'a>(usual: &'a Usual, model: &Model) -> Vec<(&'a What, &'a Times, u64)> {
    let place = |stage: &str| model.stages.iter().position(|one| one.name == stage);
    let mut left: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, times) in usual.of(Kind::Stage) {
        *left.entry(&what.of).or_default() += times.count();
    }
    let mut steps: Vec<(&What, &Times, u64)> = usual
        .of(Kind::Stage)
        .filter(|(_, times)| times.count() > 0)
        .map(|(what, times)| {
            let all = left.get(what.of.as_str()).copied().unwrap_or(1).max(1);
            (what, times, times.count().saturating_mul(100) / all)
        })
        .collect();
    steps.sort_by_key(|(what, times, _)| (place(&what.of), &what.of, std::cmp::Reverse(times.count())));
    steps
}

/// `GET /queues`: how long messages lie, and who takes them.
pub(super) async fn queues(State(site): State<Site>, reader: Reader) -> Response {
    let usual = site.store.usual();
    let words = &reader.words;
    let names: BTreeSet<&str> =
        usual.of(Kind::Queue).chain(usual.of(Kind::Taken)).map(|(what, _)| what.of.as_str()).collect();
    let queues = names.into_iter().map(|name| {
        let waited = usual.of(Kind::Queue).find(|(what, _)| what.of == name);
        let taken = usual.of(Kind::Taken).filter(|(what, _)| what.of == name);
        Queue {
            name: name.to_owned(),
            waited: waited.map(|(_, times)| row(String::new(), times, words)),
            taken: taken
                .map(|(what, times)| {
                    row(sentence::service(&site.model, words.language, &what.with), times, words)
                })
                .collect(),
        }
    });
    let queues = queues.collect();
    render(&Queues { frame: reader.live_frame("queues", "/events".to_owned()), queues })
}

/// What a service does, in the order of the page.
const WORK: [Kind; 4] = [Kind::Served, Kind::Called, Kind::Wrote, Kind::Read];

/// `GET /services`: what each one does, how long that takes and how often it fails.
pub(super) async fn services(State(site): State<Site>, reader: Reader) -> Response {
    let usual = site.store.usual();
    let (words, t) = (&reader.words, texts(reader.words.language));
    let mut services: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for kind in WORK {
        for (what, times) in usual.of(kind).filter(|(_, times)| times.count() > 0) {
            let name = work(kind, &what.with, t);
            services.entry(&what.of).or_default().push(row(name, times, words));
        }
    }
    let services = services
        .into_iter()
        .map(|(name, rows)| Service { name: sentence::service(&site.model, words.language, name), rows });
    let services = services.collect();
    render(&Services { frame: reader.live_frame("services", "/events".to_owned()), services })
}

fn work(kind: Kind, with: &str, t: &Texts) -> String {
    let verb = match kind {
        Kind::Served => t.served,
        Kind::Called => t.called,
        Kind::Wrote => t.wrote,
        Kind::Read => t.read,
        Kind::Stage | Kind::Whole | Kind::Queue | Kind::Taken | Kind::Unseen | Kind::Way => "",
    };
    if with.is_empty() { verb.to_owned() } else { format!("{verb} {with}") }
}

/// `GET /api/v1/usual`: all of it; lengths in microseconds.
pub(super) async fn api(State(site): State<Site>) -> Response {
    let usual = site.store.usual();
    let name = |kind: Kind| format!("{kind:?}").to_lowercase();
    let one = |(what, times): (&What, &Times)| {
        json!({
            "kind": name(what.kind),
            "of": what.of,
            "with": what.with,
            "count": times.count(),
            "failed": times.failed,
            "p50_us": times.percentile(50),
            "p95_us": times.percentile(95),
            "p99_us": times.percentile(99),
        })
    };
    let all = Kind::ALL.into_iter().flat_map(|kind| usual.of(kind));
    let all: Vec<Value> = all.filter(|(_, times)| times.count() > 0).map(one).collect();
    Json(json!({ "usual": all })).into_response()
}
