//! Requests of Jaeger's page and of Grafana's Jaeger data source → traces of orders, read only.
//!
//! *Owns* the routes below `/jaeger`. What is told is made of the facts that are kept: operations that belong to no order are not
//! here, and of those that do, what [`span`] says. *Spec*: Jaeger's `api/` as its 1.x answers it, and its API v3
//! (`query_service.openapi.yaml`), both as of v2 of August 2026.
//!
//! ```text
//! query ─▶ search ─ walk, bounded in time ─▶ IDs ─ index of traces ─▶ facts ─ span ─▶ v1, v3 ─ bounded in bytes ─▶ JSON
//! ```

mod link;
mod query;
mod search;
mod span;
mod v1;
mod v3;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query as UrlQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;

pub use self::link::TraceLink;
use self::query::{Given, Wanted};
use self::search::{Deadline, Found};
use super::lists::{missing, several, shown};
use super::order::{Found as FoundOrder, open};
use super::{Reader, Site, ask, broken, path_of};
use crate::access::{Action, Shown, guarded};
use crate::facts::{Fact, Key};
use crate::intake::now;
use crate::store::{Store, StoreError, Trace, TraceId};

/// Walks through the store at a time; each keeps a disk and a processor busy for up to two seconds.
const WALKS: usize = 2;
/// Who has waited so long for their turn is asked to come again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Operations that are held at a time for one answer, beyond the trace that is read then: two of the longest traces.
const MAX_SPANS: usize = 20_000;
/// Bytes of one answer's spans: what a browser can still draw.
const MAX_BYTES: usize = 16 << 20;

/// What these routes need beside the store.
#[derive(Clone, Debug)]
pub struct Jaeger {
    turns: Arc<Semaphore>,
    /// Where a trace is shown elsewhere.
    pub link: Option<TraceLink>,
}

impl Jaeger {
    pub fn new(link: Option<TraceLink>) -> Self {
        Self { turns: Arc::new(Semaphore::new(WALKS)), link }
    }
}

/// All routes.
pub(super) fn routes() -> Router<Site> {
    let read = Action::JaegerRead;
    Router::new()
        .route("/jaeger/api/services", guarded(get(v1::services), read))
        .route("/jaeger/api/services/{service}/operations", guarded(get(v1::operations_of), read))
        .route("/jaeger/api/operations", guarded(get(v1::operations), read))
        .route("/jaeger/api/traces", guarded(get(v1::traces), read))
        .route("/jaeger/api/traces/{id}", guarded(get(v1::trace), read))
        .route("/jaeger/api/dependencies", guarded(get(v1::dependencies), read))
        .route("/jaeger/api/v3/services", guarded(get(v3::services), read))
        .route("/jaeger/api/v3/operations", guarded(get(v3::operations), read))
        .route("/jaeger/api/v3/traces", guarded(get(v3::traces), read))
        .route("/jaeger/api/v3/traces/{id}", guarded(get(v3::trace), read))
        .route("/jaeger/api/v3/trace-summaries", guarded(get(v3::summaries), read))
        .route("/jaeger/api/v3/dependencies", guarded(get(v3::dependencies), read))
        .route("/jaeger/search", guarded(get(of_order), read))
}

/// Why there is no answer; each version of the API has its own words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn bad(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message }
    }

    /// No operation of the trace is kept.
    fn no_trace(trace: &Trace) -> Self {
        let message = if trace.all_indexed {
            "trace not found: no operation of it that belongs to an order is kept"
        } else {
            "trace not found; orders that an older version wrote are still being indexed, ask again later"
        };
        Self { status: StatusCode::NOT_FOUND, message: message.to_owned() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %crate::intake::chain(&error), "the store did not answer Jaeger's API");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, message: "the store does not answer now".to_owned() }
    }
}

/// What is said when a walk ended before it had seen everything.
const NOT_ALL: &str =
    "the time for one search was over: there may be more, ask for less time or for an order.id";

/// Walks through the store, when it is its turn.
async fn walk<T: Send + 'static>(
    site: &Site,
    question: impl FnOnce(&dyn Store, Deadline) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    let turn = tokio::time::timeout(PATIENCE, site.jaeger.turns.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: "others are searching: ask again in a moment".to_owned(),
        });
    };
    let answer = ask(site, move |store| {
        let answer = question(store, Deadline::from_now());
        // Only now somebody else may begin, whether or not who asked still waits.
        drop(turn);
        answer
    });
    Ok(answer.await?)
}

type Traces = Vec<(TraceId, Trace)>;

async fn find<T: Send + 'static>(
    site: &Site,
    reader: &Reader,
    wanted: Wanted,
    most: usize,
    make: impl Fn(TraceId, Trace) -> T + Send + 'static,
) -> Result<Found<Vec<T>>, Refusal> {
    let (people, now) = (reader.may(Action::SeePeople), now());
    let found = walk(site, move |store, deadline| {
        search::traces(store, &wanted, people, (now, deadline), most, make)
    });
    let found = found.await?;
    // An answer that says nothing was found must have looked everywhere.
    if found.what.is_empty() && !found.all {
        return Err(Refusal { status: StatusCode::GATEWAY_TIMEOUT, message: NOT_ALL.to_owned() });
    }
    Ok(found)
}

/// What is looked for, whole.
async fn find_whole(site: &Site, reader: &Reader, wanted: Wanted) -> Result<Found<Traces>, Refusal> {
    find(site, reader, wanted, MAX_SPANS, |id, trace| (id, trace)).await
}

/// The operations of a service, of one kind if that is asked for.
async fn operations(site: &Site, given: &Given, service: String) -> Result<Vec<Json>, Refusal> {
    let wanted = query::kind(given);
    let names = walk(site, move |store, deadline| search::names(store, &service, now(), deadline)).await?;
    let names = names.iter().filter(|(_, kind)| wanted.is_none_or(|wanted| wanted == *kind));
    Ok(names.map(|(name, kind)| json!({ "name": name, "spanKind": kind.name() })).collect())
}

/// One trace. An answer without any is none: Grafana takes the first trace of it without looking whether there is one.
async fn read_one(site: &Site, id: &str) -> Result<Found<Traces>, Refusal> {
    let found = read(site, vec![query::trace(id)?]).await?;
    match found.what.first() {
        Some((_, trace)) if trace.facts.is_empty() => Err(Refusal::no_trace(trace)),
        _ => Ok(found),
    }
}

/// Traces by their IDs. Of those that are not there nothing is kept.
async fn read(site: &Site, ids: Vec<TraceId>) -> Result<Found<Traces>, Refusal> {
    let read = move |store: &dyn Store| {
        search::by_id(store, ids.into_iter(), None, MAX_SPANS, |id, trace| (id, trace))
    };
    let read = ask(site, read).await?;
    Ok(Found { what: read.what.into_iter().map(|(_, trace)| trace).collect(), all: read.all })
}

/// The numbers of all orders that traces show, for the access log.
fn orders_of<'a>(traces: impl IntoIterator<Item = &'a Trace>) -> Shown {
    let facts = traces.into_iter().flat_map(|trace| &trace.facts);
    let keys: BTreeSet<&Key> = facts.flat_map(Fact::keys).collect();
    Shown(keys.into_iter().map(Key::to_string).collect())
}

/// Room that an answer still has.
#[derive(Clone, Copy, Debug)]
struct Room(usize);

impl Room {
    fn whole() -> Self {
        Self(MAX_BYTES)
    }

    /// Whether something still fits, which then takes its place.
    fn takes(&mut self, value: &impl Serialize) -> bool {
        struct Counted(usize);
        impl Write for Counted {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0 += bytes.len();
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut len = Counted(0);
        if serde_json::to_writer(&mut len, value).is_err() || len.0 > self.0 {
            // What does not fit ends the answer: what comes after it would seem to follow it.
            self.0 = 0;
            return false;
        }
        self.0 -= len.0;
        true
    }
}

#[derive(Deserialize)]
struct Order {
    #[serde(default)]
    order: String,
}

/// `GET /jaeger/search?order=4711`: the order's latest trace where an outside Jaeger shows it, else its technical details here.
async fn of_order(
    State(site): State<Site>,
    mut reader: Reader,
    UrlQuery(asked): UrlQuery<Order>,
) -> Response {
    match open(&site, &asked.order).await {
        Ok(FoundOrder::One(order)) => {
            let latest = order.facts.iter().max_by_key(|fact| fact.to);
            let outside = site.jaeger.link.as_ref().zip(latest).map(|(link, fact)| link.to(&fact.id.trace));
            let here = || order.journey.keys.first().map(|key| format!("/orders/{}/trace", path_of(key)));
            match outside.or_else(here) {
                Some(address) => shown([&*order]).of(Redirect::to(&address).into_response()),
                None => missing(&site, &reader).await,
            }
        }
        Ok(FoundOrder::Several(orders)) => several(&site, &reader, orders),
        Ok(FoundOrder::None) => {
            reader.query = asked.order;
            missing(&site, &reader).await
        }
        Err(error) => broken(&reader, &error),
    }
}

#[cfg(test)]
mod tests;
