//! Requests of people and programs → pages and JSON.
//!
//! *Owns* routes, pages and the API. *Must not know* SQL, keys, passwords: it asks a [`Store`], and who asks is told by
//! [`crate::access`], which stands before every route.
//!
//! Every page works without JavaScript; the one script fetches a page again when it changed. All foreign text is escaped by the templates; the content security
//! policy forbids everything that does not come from here.

mod alerts;
mod api;
mod assets;
mod compare;
mod coverage;
mod frame;
mod jaeger;
mod lanes;
mod lists;
mod live;
mod order;
mod rules;
pub(crate) mod texts;
mod trace;
mod usual;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub(crate) use self::frame::{Frame, Reader};
pub use self::jaeger::{Jaeger, TraceLink};
pub use self::live::Live;
use self::texts::texts;
use crate::access::{Action, Gate, guarded};
use crate::facts::Key;
use crate::model::Model;
use crate::store::alerts::Alerts;
use crate::store::{Store, StoreError};

/// Script, styles and pictures from here only, nothing inline, and no other page around this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What all pages need.
#[derive(Clone, Debug)]
pub struct Site {
    pub store: Arc<dyn Store>,
    pub alerts: Arc<dyn Alerts>,
    /// What became of messages since the start.
    pub channels: Arc<crate::channels::Counts>,
    /// Who tries a rule on the past.
    pub trying: Arc<tokio::sync::Semaphore>,
    pub model: Arc<Model>,
    /// The reader's time zone, for all readers of a house.
    pub zone: TimeZone,
    pub language: crate::sentence::Language,
    pub live: Live,
    pub jaeger: Jaeger,
    /// What arrived since the start.
    pub received: Arc<crate::intake::Counts>,
    /// What became of what goes on to another back end, where there is one.
    pub forwarded: Option<Arc<crate::forward::Counts>>,
}

/// All routes, each behind the gate with what it does.
pub fn router(site: Site, gate: Gate) -> Router {
    let routes = Router::new()
        .route("/", guarded(get(lists::now), Action::List))
        .route("/search", guarded(get(lists::search), Action::OrderSearch))
        .route("/orders", guarded(get(lists::orders), Action::List))
        .route("/stuck", guarded(get(lists::stuck), Action::List))
        .route("/orders/{key}", guarded(get(order::page), Action::OrderView))
        .route("/map", guarded(get(usual::map), Action::List))
        .route("/queues", guarded(get(usual::queues), Action::List))
        .route("/coverage", guarded(get(coverage::page), Action::List))
        .route("/orders/{key}/compare", guarded(get(compare::page), Action::OrderView))
        .route("/services", guarded(get(usual::services), Action::List))
        .route("/alerts", guarded(get(alerts::list), Action::List))
        .route("/alerts/{id}", guarded(get(alerts::one), Action::List))
        .route("/alerts/{id}/acknowledge", guarded(post(alerts::acknowledge), Action::Acknowledge))
        .route("/alerts/{id}/snooze", guarded(post(alerts::snooze), Action::Acknowledge))
        .route("/rules", guarded(get(rules::rules), Action::List))
        .route("/rules/{id}", guarded(get(rules::rule), Action::List))
        .route("/rules/{id}/try", guarded(get(rules::try_rule), Action::RuleTry))
        .route("/api/v1/alerts", guarded(get(alerts::api), Action::List))
        .route("/events", guarded(get(live::all), Action::Watch))
        .route("/orders/{key}/events", guarded(get(live::of_order), Action::Watch))
        .route("/orders/{key}/trace", guarded(get(trace::page), Action::TraceView))
        .route("/orders/{key}/pin", guarded(post(order::pin), Action::Pin))
        .route("/api/v1/orders", guarded(get(api::orders), Action::List))
        .route("/api/v1/orders/{key}", guarded(get(api::order), Action::OrderView))
        .route("/api/v1/orders/{key}/facts", guarded(get(api::facts), Action::TraceView))
        .route("/api/v1/stuck", guarded(get(api::stuck), Action::List))
        .route("/api/v1/usual", guarded(get(usual::api), Action::List))
        .route("/api/v1/counts", guarded(get(api::counts), Action::List))
        .route("/language/{code}", guarded(get(frame::change_language), Action::Open))
        .route("/assets/{name}", guarded(get(assets::asset), Action::Open))
        .merge(jaeger::routes())
        .with_state(site.clone());
    crate::access::router(site, gate.clone())
        .merge(routes)
        .layer(axum::middleware::from_fn_with_state(gate, crate::access::gate))
        .layer(axum::middleware::map_response(secure))
}

/// Headers that every answer has.
async fn secure(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // `no-referrer` would have browsers send our own forms with `Origin: null`, as a stranger's.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Orders are not for the caches of others; assets say so themselves.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A page, or why there is none.
pub(crate) fn render(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    frame: Frame<'a>,
    title: &'a str,
    text: &'a str,
}

/// A page with one message.
pub(crate) fn message(status: StatusCode, reader: &Reader, title: &str, text: &str) -> Response {
    (status, render(&Message { frame: reader.frame(""), title, text })).into_response()
}

/// Asks the store where a task may block.
async fn ask<T: Send + 'static>(
    site: &Site,
    question: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = site.store.clone();
    tokio::task::spawn_blocking(move || question(&*store)).await.unwrap_or(Err(StoreError::Closed))
}

/// What a person sees when the store does not answer; the log has the cause.
fn broken(reader: &Reader, error: &StoreError) -> Response {
    tracing::error!(error = %crate::intake::chain(error), "the store did not answer a page");
    let t = texts(reader.words.language);
    message(StatusCode::SERVICE_UNAVAILABLE, reader, t.broken, t.broken_how)
}

/// A number as part of a path.
pub(crate) fn path_of(key: &Key) -> String {
    encode(&key.to_string())
}

/// All but unreserved characters (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// As a part of a path or a query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests;
