//! Finished spans → histograms of their durations: requests, statements, messages, time in queues.
//!
//! *Owns* which labels a duration has: values that name one thing (an order, a message, a path without a template) are never
//! labels. *Must not know* how histograms are shown or sent, nor how many there may be: that is `series`.
//! *Spec*: semantic conventions 1.44.0 `http/http-metrics.md`, `database/database-metrics.md`,
//! `messaging/messaging-metrics.md`.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

pub use super::series::{Counts, MAX_SERIES, Series};
use super::series::{Key, Table};

use spoor_core::span::{Span, SpanKind, semconv};
use spoor_core::time::nanoseconds;
use spoor_core::trace::Value;

/// A histogram of durations in seconds.
#[derive(Debug, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    pub description: &'static str,
    /// Upper bounds in seconds, ascending; beyond the last one there is one more bucket.
    pub bounds: &'static [f64],
}

/// "ExplicitBucketBoundaries" of the conventions for requests and messages.
const REQUEST: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Those for statements.
const STATEMENT: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// Messages wait for milliseconds or for days.
const DWELL: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0,
];

const SERVER: usize = 0;
const CLIENT: usize = 1;
const DB: usize = 2;
const PROCESS: usize = 3;
const MESSAGING: usize = 4;
const QUEUE: usize = 5;

/// Every histogram.
pub const METRICS: [Metric; 6] = [
    Metric {
        name: "http.server.request.duration",
        description: "Duration of HTTP server requests",
        bounds: REQUEST,
    },
    Metric {
        name: "http.client.request.duration",
        description: "Duration of HTTP client requests",
        bounds: REQUEST,
    },
    Metric {
        name: "db.client.operation.duration",
        description: "Duration of database client operations",
        bounds: STATEMENT,
    },
    Metric {
        name: "messaging.process.duration",
        description: "Duration of processing operation",
        bounds: REQUEST,
    },
    Metric {
        name: "messaging.client.operation.duration",
        description: "Duration of messaging operation initiated by a producer or consumer client",
        bounds: REQUEST,
    },
    Metric {
        name: "spoor.messaging.dwell.duration",
        description: "Time a message spent in the broker, from its arrival to its delivery",
        bounds: DWELL,
    },
];

/// Most labels a series has.
const MAX_LABELS: usize = 10;
/// Longest label value; longer ones are cut.
const MAX_VALUE: usize = 200;

/// Labels of a service; they become its resource.
const SERVICE: [&str; 2] = ["service.name", "service.namespace"];

/// The label of what did not get a series of its own, beside its service.
pub const OVERFLOW: &str = "otel.metric.overflow";

/// Histograms of everything seen so far.
#[derive(Debug)]
pub struct Durations {
    hasher: RandomState,
    table: Table,
}

impl Default for Durations {
    fn default() -> Self {
        Self::new(MAX_SERIES)
    }
}

impl Durations {
    pub fn new(max_series: usize) -> Self {
        Self { hasher: RandomState::new(), table: Table::new(max_series) }
    }

    /// What time it is for the spans that come.
    pub fn turn(&mut self, now: Instant) {
        self.table.turn(now);
    }

    /// Counts a finished span.
    pub fn observe(&mut self, span: &Span) {
        let Some((metric, labels)) = classify(span) else { return };
        let duration = span.end.since(span.start);
        let key = self.hash(metric, &labels);
        if let Some(series) = self.table.find(key) {
            series.add(duration);
            return;
        }
        let overflow = labels.overflow();
        let key = Key {
            series: key,
            service: self.hash(METRICS.len(), &labels.service()),
            overflow: self.hash(metric, &overflow),
        };
        let series =
            self.table.series(key, || Series::new(metric, &labels), || Series::new(metric, &overflow));
        series.add(duration);
    }

    /// All series, in the order of metrics and labels.
    pub fn series(&self) -> Vec<Series> {
        self.table.all()
    }

    /// What had to be counted without its labels, or was forgotten.
    pub fn counts(&self) -> Counts {
        self.table.counts()
    }

    fn hash(&self, metric: usize, labels: &Labels<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_usize(metric);
        for (key, value) in labels.iter() {
            // Names are ours: their address tells them apart, but not across builds; their length and text do.
            hasher.write(key.as_bytes());
            // As it is shown: what is cut to the same label is the same series.
            hasher.write(cut(value).as_bytes());
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }
}

impl Series {
    fn new(metric: usize, labels: &Labels<'_>) -> Self {
        let buckets = METRICS.get(metric).map_or(0, |metric| metric.bounds.len()) + 1;
        let labels = labels.iter().map(|(key, value)| (*key, cut(value).to_owned())).collect();
        Self { metric, labels, counts: vec![0; buckets], sum: Duration::ZERO, count: 0, since_unix_ns: 0 }
    }

    fn add(&mut self, duration: Duration) {
        let seconds = nanoseconds(duration) as f64 / 1e9;
        let bounds = METRICS.get(self.metric).map_or(&[][..], |metric| metric.bounds);
        // A bound belongs to the bucket below it.
        let bucket = bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(duration);
        self.count += 1;
    }
}

fn cut(value: &str) -> &str {
    match value.char_indices().nth(MAX_VALUE) {
        Some((at, _)) => value.get(..at).unwrap_or_default(),
        None => value,
    }
}

/// The labels of one duration, without allocating.
#[derive(Debug, Default)]
struct Labels<'a> {
    list: [(&'static str, Cow<'a, str>); MAX_LABELS],
    len: usize,
}

impl<'a> Labels<'a> {
    fn add(&mut self, key: &'static str, value: Cow<'a, str>) {
        if value.is_empty() {
            return;
        }
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = (key, value);
            self.len += 1;
        }
    }

    /// The labels that say whose this is.
    fn service(&self) -> Labels<'a> {
        let mut service = Labels::default();
        for (key, value) in self.iter().filter(|(key, _)| SERVICE.contains(key)) {
            service.add(key, value.clone());
        }
        service
    }

    /// The labels of what does not get a series of its own.
    fn overflow(&self) -> Labels<'a> {
        let mut labels = self.service();
        labels.add(OVERFLOW, Cow::Borrowed("true"));
        labels
    }

    fn iter(&self) -> impl Iterator<Item = &(&'static str, Cow<'a, str>)> {
        self.list.iter().take(self.len)
    }
}

/// What a span says that can be a label.
#[derive(Debug, Default)]
struct Facts<'a> {
    http_method: Option<&'a str>,
    status_code: Option<Cow<'a, str>>,
    template: Option<&'a str>,
    scheme: Option<&'a str>,
    db_system: Option<&'a str>,
    db_namespace: Option<&'a str>,
    db_summary: Option<&'a str>,
    db_operation: Option<&'a str>,
    db_status: Option<&'a str>,
    messaging: Option<&'a str>,
    messaging_operation: Option<&'a str>,
    destination: Option<&'a str>,
    destination_template: Option<&'a str>,
    anonymous: bool,
    error_type: Option<&'a str>,
    server_address: Option<&'a str>,
    server_port: Option<Cow<'a, str>>,
}

fn facts(span: &Span) -> Facts<'_> {
    let mut facts = Facts::default();
    for (key, value) in span.attributes.iter() {
        let text = match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        };
        match key {
            semconv::HTTP_REQUEST_METHOD => facts.http_method = text,
            semconv::HTTP_RESPONSE_STATUS_CODE => facts.status_code = number(value),
            semconv::HTTP_ROUTE | semconv::URL_TEMPLATE => facts.template = text,
            semconv::URL_SCHEME => facts.scheme = text,
            semconv::DB_SYSTEM_NAME => facts.db_system = text,
            semconv::DB_NAMESPACE => facts.db_namespace = text,
            semconv::DB_QUERY_SUMMARY => facts.db_summary = text,
            semconv::DB_OPERATION_NAME => facts.db_operation = text,
            semconv::DB_RESPONSE_STATUS_CODE => facts.db_status = text,
            semconv::MESSAGING_SYSTEM => facts.messaging = text,
            semconv::MESSAGING_OPERATION_NAME => facts.messaging_operation = text,
            semconv::MESSAGING_DESTINATION_NAME => facts.destination = text,
            semconv::MESSAGING_DESTINATION_TEMPLATE => facts.destination_template = text,
            semconv::MESSAGING_DESTINATION_ANONYMOUS => facts.anonymous = true,
            semconv::ERROR_TYPE => facts.error_type = text,
            semconv::SERVER_ADDRESS => facts.server_address = text,
            semconv::SERVER_PORT => facts.server_port = number(value),
            _ => {}
        }
    }
    facts
}

fn number(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        // The usual ones need no memory.
        Value::Int(200) => Some(Cow::Borrowed("200")),
        Value::Int(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

fn classify(span: &Span) -> Option<(usize, Labels<'_>)> {
    let facts = facts(span);
    let mut labels = Labels::default();
    let resource = &span.resource;
    labels.add("service.name", Cow::Borrowed(resource.service.as_str()));
    labels.add("service.namespace", borrowed(resource.service_namespace.as_deref()));
    let metric = if facts.http_method.is_some() {
        let server = span.kind == SpanKind::Server;
        labels.add(semconv::HTTP_REQUEST_METHOD, borrowed(facts.http_method));
        labels.add(semconv::HTTP_RESPONSE_STATUS_CODE, facts.status_code.unwrap_or_default());
        labels.add(semconv::ERROR_TYPE, borrowed(facts.error_type));
        if server {
            labels.add(semconv::HTTP_ROUTE, borrowed(facts.template));
            labels.add(semconv::URL_SCHEME, borrowed(facts.scheme));
            // Not the address: a client can write into the Host header what it likes.
            SERVER
        } else {
            labels.add(semconv::URL_TEMPLATE, borrowed(facts.template));
            labels.add(semconv::SERVER_ADDRESS, borrowed(facts.server_address));
            labels.add(semconv::SERVER_PORT, facts.server_port.unwrap_or_default());
            CLIENT
        }
    } else if facts.db_system.is_some() {
        labels.add(semconv::DB_SYSTEM_NAME, borrowed(facts.db_system));
        labels.add(semconv::DB_NAMESPACE, borrowed(facts.db_namespace));
        labels.add(semconv::DB_QUERY_SUMMARY, borrowed(facts.db_summary));
        labels.add(semconv::DB_OPERATION_NAME, borrowed(facts.db_operation));
        labels.add(semconv::DB_RESPONSE_STATUS_CODE, borrowed(facts.db_status));
        labels.add(semconv::ERROR_TYPE, borrowed(facts.error_type));
        labels.add(semconv::SERVER_ADDRESS, borrowed(facts.server_address));
        labels.add(semconv::SERVER_PORT, facts.server_port.unwrap_or_default());
        DB
    } else if facts.messaging.is_some() {
        // A queue of one connection, or a key with a number in it, would be a series each.
        let destination = match (facts.anonymous, facts.destination_template, facts.destination) {
            (true, _, _) => "(anonymous)",
            (false, Some(template), _) => template,
            (false, None, name) => name.unwrap_or_default(),
        };
        labels.add(semconv::MESSAGING_SYSTEM, borrowed(facts.messaging));
        labels.add(semconv::MESSAGING_OPERATION_NAME, borrowed(facts.messaging_operation));
        labels.add(semconv::MESSAGING_DESTINATION_NAME, Cow::Borrowed(destination));
        labels.add(semconv::ERROR_TYPE, borrowed(facts.error_type));
        match span.kind {
            SpanKind::Internal => QUEUE,
            SpanKind::Consumer => PROCESS,
            _ => {
                labels.add(semconv::SERVER_ADDRESS, borrowed(facts.server_address));
                labels.add(semconv::SERVER_PORT, facts.server_port.unwrap_or_default());
                MESSAGING
            }
        }
    } else {
        return None;
    };
    Some((metric, labels))
}

fn borrowed(text: Option<&str>) -> Cow<'_, str> {
    Cow::Borrowed(text.unwrap_or_default())
}

#[cfg(test)]
mod tests;
