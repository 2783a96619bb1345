//! Who was heard of and what was not seen whole → the page that says what the pages cannot know.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::order::iso;
use super::texts::texts;
use super::{Frame, Reader, Site, render};
use crate::facts::At;
use crate::intake::now;
use crate::model::{self, Kind, Usual};
use crate::sentence;

#[derive(Template)]
#[template(path = "coverage.html")]
struct Page<'a> {
    frame: Frame<'a>,
    services: Vec<Service>,
    agents: Vec<Agent>,
    received: Vec<Received>,
    forwarded: Vec<Received>,
}

struct Service {
    name: String,
    heard: Option<Heard>,
    operations: String,
    unseen: String,
    is_bad: bool,
}

struct Agent {
    node: String,
    heard: Heard,
    is_silent: bool,
    services: String,
}

struct Heard {
    iso: String,
    ago: String,
}

struct Received {
    what: &'static str,
    count: String,
}

/// Operations of a service, whatever it did.
const WORK: [Kind; 5] = [Kind::Served, Kind::Called, Kind::Wrote, Kind::Read, Kind::Taken];
/// More than so many of a hundred operations that were not seen whole are shown in red.
const BAD_PERCENT: u64 = 5;

/// Agents shown, those that are silent before all others.
const MAX_AGENTS: usize = 1_000;

/// `GET /coverage`.
pub(super) async fn page(State(site): State<Site>, reader: Reader) -> Response {
    let (usual, now) = (site.store.usual(), now());
    let (words, t) = (&reader.words, texts(reader.words.language));
    let number = |count: u64| words.number(i64::try_from(count).unwrap_or(i64::MAX));
    let unseen = usual.of(Kind::Unseen).map(|(what, _)| what.of.as_str());
    let names: BTreeSet<&str> = usual.heard.keys().map(String::as_str).chain(unseen).collect();
    let heard = |at: At| Heard { iso: iso(at), ago: words.about(now.since(at)) };
    let service_name = |name: &str| sentence::service(&site.model, words.language, name);
    let agent = |agent: &model::Agent| Agent {
        node: agent.node.clone(),
        heard: heard(agent.at),
        is_silent: now >= agent.silent_from(),
        services: agent.services.iter().map(|name| service_name(name)).collect::<Vec<_>>().join(", "),
    };
    let mut agents: Vec<Agent> = usual.agents.values().map(agent).collect();
    agents.sort_by(|a, b| (!a.is_silent, &a.node).cmp(&(!b.is_silent, &b.node)));
    agents.truncate(MAX_AGENTS);
    let service = |name: &str| {
        let operations: u64 = WORK.iter().map(|kind| times_of(&usual, *kind, name)).sum();
        let unseen = times_of(&usual, Kind::Unseen, name);
        Service {
            name: service_name(name),
            heard: usual.heard.get(name).map(|at| heard(*at)),
            operations: number(operations),
            unseen: if unseen > 0 { number(unseen) } else { String::new() },
            is_bad: unseen.saturating_mul(100) > operations.max(1).saturating_mul(BAD_PERCENT),
        }
    };
    let received = |what, of: &AtomicU64| Received { what, count: number(of.load(Ordering::Relaxed)) };
    let counts = &site.received;
    render(&Page {
        frame: reader.live_frame("coverage", "/events".to_owned()),
        services: names.into_iter().map(service).collect(),
        agents,
        received: vec![
            received(t.requests, &counts.requests),
            received(t.of_orders, &counts.facts),
            received(t.of_no_order, &counts.no_order),
            received(t.invalid, &counts.invalid),
            received(t.unknown, &counts.unknown),
            received(t.refused, &counts.refused),
        ],
        forwarded: site
            .forwarded
            .iter()
            .flat_map(|counts| {
                [
                    received(t.forward_sent, &counts.sent),
                    received(t.forward_waiting, &counts.waiting),
                    received(t.forward_refused, &counts.refused),
                    received(t.forward_dropped, &counts.dropped),
                    received(t.forward_rejected, &counts.rejected_spans),
                ]
            })
            .collect(),
    })
}

/// How often a service did something of a kind.
fn times_of(usual: &Usual, kind: Kind, service: &str) -> u64 {
    let is_of = |of: &str, with: &str| if kind == Kind::Taken { with == service } else { of == service };
    usual.of(kind).filter(|(what, _)| is_of(&what.of, &what.with)).map(|(_, times)| times.count()).sum()
}
