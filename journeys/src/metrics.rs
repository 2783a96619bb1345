//! What a store and its channels count → Prometheus' text, and whether the server is alive, on a port of their own.
//!
//! *Owns* the names of metrics. No order's number and no person is in them. *Spec*: Prometheus, "Exposition formats".

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::facts::At;
use crate::fold::Outcome;
use crate::intake::{chain, now};
use crate::model::{Kind, Times, Usual};
use crate::store::{Query, StoreError};
use crate::time::SECOND;
use crate::web::Site;

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Stages that have figures of their own: a house has some ten.
const MAX_STAGES: usize = 64;
const PERCENTILES: [(&str, u64); 3] = [("50", 50), ("95", 95), ("99", 99)];

/// `/metrics`, `/live` and `/ready`. There is no gate before them: they are for the machine that asks, and say numbers only.
pub fn router(site: Site) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .with_state(site)
}

async fn ready(State(site): State<Site>) -> Response {
    let store = site.store.clone();
    match tokio::task::spawn_blocking(move || store.counts()).await {
        Ok(Ok(_)) => "ready\n".into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn metrics(State(site): State<Site>) -> Response {
    match tokio::task::spawn_blocking(move || page(&site, now())).await {
        Ok(Ok(page)) => ([(header::CONTENT_TYPE, KIND)], page).into_response(),
        Ok(Err(error)) => {
            tracing::error!(error = %chain(&error), "the store did not answer for metrics");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The page at `now`.
fn page(site: &Site, now: At) -> Result<String, StoreError> {
    let mut page = Page(String::new());
    orders(site, now, &mut page)?;
    usual(&site.store.usual(), &mut page);
    alerts(site, &mut page)?;
    let counts = &site.received;
    page.metric("spoor_serve_received_total", "counter", "What arrived over OTLP since the start.");
    for (what, of) in [
        ("requests", &counts.requests),
        ("operations_of_orders", &counts.facts),
        ("operations_of_no_order", &counts.no_order),
        ("invalid", &counts.invalid),
        ("refused", &counts.refused),
    ] {
        page.value("spoor_serve_received_total", &[("what", what)], of.load(Ordering::Relaxed) as f64);
    }
    Ok(page.0)
}

fn orders(site: &Site, now: At, page: &mut Page) -> Result<(), StoreError> {
    let counts = site.store.counts()?;
    page.metric("spoor_orders", "gauge", "Orders that are kept, by stage and how they are.");
    let mut without: BTreeMap<Outcome, u64> = counts.outcomes.iter().copied().collect();
    let mut stages: Vec<&str> = Vec::new();
    for (stage, outcome, orders) in counts.stages.iter().take(MAX_STAGES * Outcome::ALL.len()) {
        let labels = [("stage", stage.as_str()), ("outcome", outcome.name())];
        page.value("spoor_orders", &labels, *orders as f64);
        if let Some(left) = without.get_mut(outcome) {
            *left = left.saturating_sub(*orders);
        }
        let goes_on = !matches!(outcome, Outcome::Finished | Outcome::Failed);
        if goes_on && !stages.contains(&stage.as_str()) && stages.len() < MAX_STAGES {
            stages.push(stage);
        }
    }
    for (outcome, orders) in without.into_iter().filter(|(_, orders)| *orders > 0) {
        page.value("spoor_orders", &[("stage", ""), ("outcome", outcome.name())], orders as f64);
    }
    let name = "spoor_order_oldest_timestamp_seconds";
    page.metric(name, "gauge", "Since when the oldest order that goes on is at a stage.");
    for stage in stages {
        let outcomes = vec![Outcome::Moving, Outcome::Waiting, Outcome::Stuck, Outcome::Lost, Outcome::Quiet];
        let query = Query { outcomes, stage: Some(stage.to_owned()), limit: 1, ..Query::default() };
        let oldest = site.store.list(&query, now)?.orders.into_iter().next();
        if let Some(since) = oldest.and_then(|order| order.head.stage_since) {
            page.value(name, &[("stage", stage)], since.0 as f64 / SECOND as f64);
        }
    }
    Ok(())
}

fn usual(usual: &Usual, page: &mut Page) {
    let mut stages: BTreeMap<&str, Times> = BTreeMap::new();
    for (what, times) in usual.of(Kind::Stage) {
        if stages.len() < MAX_STAGES || stages.contains_key(what.of.as_str()) {
            stages.entry(&what.of).or_default().merge(times);
        }
    }
    let name = "spoor_order_stage_usual_seconds";
    page.metric(name, "gauge", "How long orders of the last weeks were at a stage that they left.");
    for (stage, times) in &stages {
        for (percentile, percent) in PERCENTILES {
            let seconds = times.percentile(percent) as f64 / SECOND as f64;
            page.value(name, &[("stage", stage), ("percentile", percentile)], seconds);
        }
    }
}

fn alerts(site: &Site, page: &mut Page) -> Result<(), StoreError> {
    page.metric("spoor_alerts", "gauge", "Open alerts of orders and places, by rule and state.");
    let counts = site.alerts.alert_counts()?;
    for rule in site.alerts.rules().iter().flat_map(|set| &set.rules) {
        for state in [crate::rules::State::Pending, crate::rules::State::Firing] {
            let found = counts.iter().find(|(id, of, _)| *id == rule.id && *of == state);
            let labels = [("rule", rule.id.as_str()), ("state", state.name())];
            page.value("spoor_alerts", &labels, found.map_or(0, |(.., count)| *count) as f64);
        }
    }
    page.metric(
        "spoor_notifications_total",
        "counter",
        "Messages to channels since the start, by what became of them.",
    );
    for (channel, result, count) in site.channels.all() {
        page.value("spoor_notifications_total", &[("channel", &channel), ("result", result)], count as f64);
    }
    let waiting = site.alerts.outbox_counts()?.waiting;
    page.metric("spoor_notifications_waiting", "gauge", "Messages that wait for their channel.");
    for (channel, count, _) in &waiting {
        page.value("spoor_notifications_waiting", &[("channel", channel)], *count as f64);
    }
    let name = "spoor_notifications_oldest_timestamp_seconds";
    page.metric(name, "gauge", "Since when the oldest message waits for its channel.");
    for (channel, _, oldest) in &waiting {
        page.value(name, &[("channel", channel)], oldest.0 as f64 / SECOND as f64);
    }
    Ok(())
}

/// A page that is being written.
struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Into memory, which does not fail; so below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }
}

/// A label's value is any text, with three marks written in another way.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::model::Model;
    use crate::rules::RuleSet;
    use crate::store::Store;
    use crate::store::seal::Master;
    use crate::store::sqlite::Sqlite;
    use crate::testing::wrote;

    fn site(folder: &std::path::Path) -> Site {
        let master = Master::generate().expect("a key");
        let store = Arc::new(Sqlite::open(folder, master, Model::default()).expect("a store"));
        store.watch(RuleSet::built_in(&Model::default()).expect("rules"), At(0)).expect("watched");
        let at = now().0 / SECOND - 100;
        for n in 0..3_u64 {
            let number = format!("ORDER-{n}");
            let mut facts = vec![wrote(&number, n * 10 + 1, at, "mes", "orders", "a \"quoted\" status")];
            facts.extend((n > 0).then(|| wrote(&number, n * 10 + 2, at + 10, "mes", "orders", "failed")));
            store.ingest(facts, now()).expect("kept");
        }
        let (_, stopped) = tokio::sync::watch::channel(false);
        Site {
            store: store.clone(),
            alerts: store,
            channels: Arc::default(),
            trying: Arc::new(tokio::sync::Semaphore::new(1)),
            model: Arc::default(),
            zone: jiff::tz::TimeZone::UTC,
            language: crate::sentence::Language::En,
            live: crate::web::Live::new(stopped),
            jaeger: crate::web::Jaeger::new(None),
            received: Arc::default(),
            forwarded: None,
        }
    }

    #[test]
    fn the_page_counts_and_names_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let page = page(&site(folder.path()), now()).expect("a page");
        for line in [
            "spoor_orders{stage=\"a \\\"quoted\\\" status\",outcome=\"moving\"} 1",
            "spoor_orders{stage=\"a \\\"quoted\\\" status\",outcome=\"failed\"} 2",
            "spoor_alerts{rule=\"order-failed\",state=\"firing\"} 2",
            "spoor_serve_received_total{what=\"requests\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("ORDER-"), "{page}");
    }

    #[test]
    fn every_metric_of_the_dashboard_of_orders_is_on_the_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let page = page(&site(folder.path()), now()).expect("a page");
        let known: BTreeSet<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../deploy/grafana/orders.json")).expect("JSON");
        let mut used = BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().expect("queries") {
                let query = target["expr"].as_str().expect("a query");
                let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let metrics: Vec<&str> = words.filter(|word| word.starts_with("spoor_")).collect();
                assert!(!metrics.is_empty(), "{query}");
                metrics.iter().for_each(|metric| assert!(known.contains(metric), "there is no {metric}"));
                used.extend(metrics);
            }
        }
        assert!(used.len() >= 6, "{used:?}");
    }
}
