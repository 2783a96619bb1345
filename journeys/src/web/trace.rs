//! An order's number → all its operations as trees with their times: for developers.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::order::{Found, more, open};
use super::texts::texts;
use super::{Frame, Reader, Site, TraceLink, broken, message, path_of, render};
use crate::digest::hex;
use crate::facts::{Fact, FactId, Key};
use crate::sentence::Words;

/// Deeper operations are drawn as deep as this.
const MAX_DEPTH: usize = 10;
/// Rows of one page.
const MAX_ROWS: usize = 2_000;
const WIDTH: i64 = 1_000;

#[derive(Template)]
#[template(path = "trace.html")]
struct Page<'a> {
    frame: Frame<'a>,
    number: String,
    path: String,
    traces: Vec<Trace>,
}

struct Trace {
    id: String,
    /// Where an outside Jaeger shows it.
    link: Option<String>,
    rows: Vec<Row>,
    /// How many operations are not shown.
    left_out: Option<String>,
}

struct Row {
    depth: usize,
    name: String,
    service: String,
    took: String,
    x: i64,
    width: i64,
    failed: bool,
    trouble: Option<String>,
    joined: String,
}

/// `GET /orders/{key}/trace`.
pub(super) async fn page(State(site): State<Site>, reader: Reader, Path(key): Path<String>) -> Response {
    match open(&site, &key).await {
        Ok(Found::One(order)) => super::lists::shown([&*order]).of(render(&Page {
            frame: reader.frame("order"),
            number: order.journey.keys.first().map(Key::to_string).unwrap_or_default(),
            path: order.journey.keys.first().map(path_of).unwrap_or_default(),
            traces: traces(&order.facts, site.jaeger.link.as_ref(), &reader.words),
        })),
        Ok(_) => {
            let t = texts(reader.words.language);
            message(StatusCode::NOT_FOUND, &reader, t.not_found, t.not_found_why)
        }
        Err(error) => broken(&reader, &error),
    }
}

fn traces(facts: &[Fact], link: Option<&TraceLink>, words: &Words) -> Vec<Trace> {
    let mut by_trace: Vec<([u8; 16], Vec<&Fact>)> = Vec::new();
    for fact in facts {
        match by_trace.iter_mut().find(|(id, _)| *id == fact.id.trace) {
            Some((_, facts)) => facts.push(fact),
            None => by_trace.push((fact.id.trace, vec![fact])),
        }
    }
    let trace = |(id, facts): ([u8; 16], Vec<&Fact>)| {
        let rows = rows(&facts, words);
        let left_out = facts.len().saturating_sub(rows.len());
        let link = link.map(|link| link.to(&id));
        Trace { id: hex(&id), link, rows, left_out: (left_out > 0).then(|| more(left_out, words)) }
    };
    by_trace.into_iter().map(trace).collect()
}

/// The operations of one trace, each below the one that caused it, brothers in time.
fn rows(facts: &[&Fact], words: &Words) -> Vec<Row> {
    let there: BTreeSet<FactId> = facts.iter().map(|fact| fact.id).collect();
    let mut below: BTreeMap<Option<FactId>, Vec<&Fact>> = BTreeMap::new();
    for fact in facts {
        // Whoever's parent is not here stands for itself.
        below
            .entry(fact.parent_id().filter(|id| there.contains(id) && *id != fact.id))
            .or_default()
            .push(fact);
    }
    let begin = facts.iter().map(|fact| fact.from).min().unwrap_or_default();
    let end = facts.iter().map(|fact| fact.to).max().unwrap_or_default();
    let x = |at: crate::facts::At| {
        let part = i128::from(at.since(begin)) * i128::from(WIDTH) / i128::from(end.since(begin).max(1));
        i64::try_from(part).unwrap_or(WIDTH).min(WIDTH - 2)
    };
    let mut open: Vec<(usize, &Fact)> =
        below.remove(&None).unwrap_or_default().into_iter().rev().map(|fact| (0, fact)).collect();
    let mut rows = Vec::new();
    // Each is taken from `below` once: what a hostile sender drew as a circle has no beginning and is left out.
    while let Some((depth, fact)) = open.pop().filter(|_| rows.len() < MAX_ROWS) {
        let children = below.remove(&Some(fact.id)).unwrap_or_default();
        open.extend(children.into_iter().rev().map(|child| (depth + 1, child)));
        rows.push(Row {
            depth: depth.min(MAX_DEPTH),
            name: if fact.name.is_empty() { "?".to_owned() } else { fact.name.clone() },
            service: fact.service.clone(),
            took: words.duration(fact.to.since(fact.from)),
            x: x(fact.from),
            width: (x(fact.to) - x(fact.from)).max(2),
            failed: fact.trouble.is_some(),
            trouble: fact.trouble.as_ref().map(|trouble| format!("{} {}", trouble.code, trouble.message)),
            joined: fact
                .joined
                .as_ref()
                .map(|(rule, percent)| format!("{rule} {percent} %"))
                .unwrap_or_default(),
        });
    }
    rows
}
