use std::sync::Arc;

use super::*;
use spoor_core::span::{Resource, Status};
use spoor_core::time::WallTime;
use spoor_core::trace::{Attributes, SpanId, TraceId};

fn span(kind: SpanKind, ms: u64, attributes: &[(&'static str, Value)]) -> Span {
    let mut all = Attributes::default();
    for (key, value) in attributes {
        all.set(key, value.clone());
    }
    Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([1; 8]),
        parent: None,
        evidence: None,
        name: String::new(),
        kind,
        start: WallTime::from_nanos(1_000_000_000),
        end: WallTime::from_nanos(1_000_000_000 + ms * 1_000_000),
        status: Status::Unset,
        attributes: all,
        links: Vec::new(),
        events: Vec::new(),
        resource: Arc::new(Resource { service: "shop".to_owned(), ..Resource::default() }),
        sampled: true,
    }
}

fn observed(spans: &[Span]) -> Vec<Series> {
    let mut durations = Durations::default();
    spans.iter().for_each(|span| durations.observe(span));
    durations.series()
}

#[track_caller]
fn check(span: Span, metric: &str, labels: &[(&str, &str)]) {
    let all = observed(&[span]);
    let [series] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(METRICS[series.metric].name, metric);
    let found: Vec<(&str, &str)> = series.labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
    assert_eq!(found, labels);
}

#[test]
fn each_kind_of_span_has_its_conventional_histogram() {
    check(
        span(
            SpanKind::Server,
            3,
            &[
                (semconv::HTTP_REQUEST_METHOD, "POST".into()),
                (semconv::URL_SCHEME, "http".into()),
                (semconv::URL_PATH, "/orders/17".into()),
                (semconv::HTTP_ROUTE, "/orders/{order_id}".into()),
                (semconv::HTTP_RESPONSE_STATUS_CODE, Value::Int(201)),
                (semconv::SERVER_ADDRESS, "whatever-the-client-wrote".into()),
                (semconv::ORDER_ID, "17".into()),
            ],
        ),
        "http.server.request.duration",
        &[
            ("service.name", "shop"),
            ("http.request.method", "POST"),
            ("http.response.status_code", "201"),
            ("http.route", "/orders/{order_id}"),
            ("url.scheme", "http"),
        ],
    );
    check(
        span(
            SpanKind::Client,
            3,
            &[
                (semconv::HTTP_REQUEST_METHOD, "GET".into()),
                (semconv::URL_FULL, "http://crm/orders/17?token=x".into()),
                (semconv::ERROR_TYPE, "404".into()),
                (semconv::SERVER_ADDRESS, "crm".into()),
                (semconv::SERVER_PORT, Value::Int(80)),
            ],
        ),
        "http.client.request.duration",
        &[
            ("service.name", "shop"),
            ("http.request.method", "GET"),
            ("error.type", "404"),
            ("server.address", "crm"),
            ("server.port", "80"),
        ],
    );
    check(
        span(
            SpanKind::Client,
            3,
            &[
                (semconv::DB_SYSTEM_NAME, "postgresql".into()),
                (semconv::DB_QUERY_TEXT, "SELECT * FROM orders WHERE id = $1".into()),
                (semconv::DB_QUERY_SUMMARY, "SELECT orders".into()),
            ],
        ),
        "db.client.operation.duration",
        &[("service.name", "shop"), ("db.system.name", "postgresql"), ("db.query.summary", "SELECT orders")],
    );
    for (kind, metric) in [
        (SpanKind::Producer, "messaging.client.operation.duration"),
        (SpanKind::Consumer, "messaging.process.duration"),
        (SpanKind::Internal, "spoor.messaging.dwell.duration"),
    ] {
        check(
            span(
                kind,
                3,
                &[
                    (semconv::MESSAGING_SYSTEM, "rabbitmq".into()),
                    (semconv::MESSAGING_DESTINATION_NAME, "orders:order.17.created".into()),
                    (semconv::MESSAGING_DESTINATION_TEMPLATE, "orders:order.{id}.created".into()),
                    (semconv::MESSAGING_MESSAGE_ID, "m17".into()),
                ],
            ),
            metric,
            &[
                ("service.name", "shop"),
                ("messaging.system", "rabbitmq"),
                ("messaging.destination.name", "orders:order.{id}.created"),
            ],
        );
    }
    assert!(observed(&[span(SpanKind::Internal, 3, &[])]).is_empty());
}

#[test]
fn durations_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
    let http = |ms| span(SpanKind::Server, ms, &[(semconv::HTTP_REQUEST_METHOD, "GET".into())]);
    let all = observed(&[http(0), http(5), http(6), http(10_000), http(60_000)]);
    let series = &all[0];
    assert_eq!(series.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    assert_eq!((series.count, series.sum), (5, Duration::from_millis(70_011)));
}

#[test]
fn series_are_bounded_and_what_is_over_is_counted_for_its_service() {
    let mut durations = Durations::new(10);
    let statement = |service: &str, number: u32| {
        let summary = format!("SELECT t{number}");
        let attributes =
            [(semconv::DB_SYSTEM_NAME, "postgresql".into()), (semconv::DB_QUERY_SUMMARY, summary.into())];
        let resource = Arc::new(Resource { service: service.to_owned(), ..Resource::default() });
        Span { resource, ..span(SpanKind::Client, 1, &attributes) }
    };
    for number in 0..1000 {
        durations.observe(&statement("junk", number));
    }
    assert_eq!(durations.series().len(), 10);
    assert_eq!(durations.counts().overflowed, 990);
    let overflow = [("service.name", "junk".to_owned()), (OVERFLOW, "true".to_owned())];
    let counted = |durations: &Durations, labels: &[(&str, String)]| {
        durations.series().iter().find(|series| series.labels == labels).map_or(0, |series| series.count)
    };
    assert_eq!(counted(&durations, &overflow), 990);
    // Whoever comes later has its series.
    let later = statement("shop", 7);
    durations.observe(&later);
    durations.observe(&later);
    let labels = [
        ("service.name", "shop".to_owned()),
        (semconv::DB_SYSTEM_NAME, "postgresql".to_owned()),
        (semconv::DB_QUERY_SUMMARY, "SELECT t7".to_owned()),
    ];
    assert_eq!(counted(&durations, &labels), 2);
    assert_eq!((durations.series().len(), durations.counts().share), (10, 1));
}

#[test]
fn long_label_values_are_cut() {
    let summary = "é".repeat(1000);
    let attributes =
        [(semconv::DB_SYSTEM_NAME, "postgresql".into()), (semconv::DB_QUERY_SUMMARY, summary.into())];
    let all = observed(&[span(SpanKind::Client, 1, &attributes)]);
    assert_eq!(all[0].labels[2].1.chars().count(), MAX_VALUE);
}

#[test]
fn what_differs_beyond_the_cut_is_one_series() {
    let statement = |end: &str| {
        let summary = "é".repeat(MAX_VALUE) + end;
        let attributes =
            [(semconv::DB_SYSTEM_NAME, "postgresql".into()), (semconv::DB_QUERY_SUMMARY, summary.into())];
        span(SpanKind::Client, 1, &attributes)
    };
    let all = observed(&[statement("a"), statement("b"), statement("")]);
    assert_eq!(all.iter().map(|series| series.count).collect::<Vec<_>>(), [3]);
}
