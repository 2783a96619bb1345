//! The comparison finds what it is there to find.

use serde_json::{Value, json};

use super::compare::{Report, compare};
use super::sql::shape;
use super::{Entry, read, unbalanced};
use crate::forest::{self, Span};

fn entry(nonce: &str, cause: Option<&str>, order: u64, fact: Value, at: u64) -> Entry {
    let mut json = json!({ "nonce": nonce, "service": "shop", "pid": 7, "cause": cause, "order": order,
        "start_ns": at, "end_ns": at + 10 });
    let fields = fact.as_object().cloned().unwrap_or_default();
    json.as_object_mut().expect("an object").extend(fields);
    read(&json).expect("an entry")
}

fn served(nonce: &str, order: u64, at: u64) -> Entry {
    let path = format!("/orders/{order}");
    entry(
        nonce,
        None,
        order,
        json!({ "kind": "http.server", "method": "GET", "path": path, "status": 200 }),
        at,
    )
}

fn executed(nonce: &str, cause: &str, order: u64, at: u64) -> Entry {
    let text = format!("SELECT id FROM orders WHERE id = {order} LIMIT 10");
    entry(nonce, Some(cause), order, json!({ "kind": "sql", "text": text, "error": null }), at)
}

/// A span as the agent would export it.
struct Exported {
    id: u64,
    parent: u64,
    kind: u64,
    order: u64,
    at: u64,
    attributes: Vec<(&'static str, String)>,
}

fn server_span(id: u64, order: u64, at: u64) -> Exported {
    let attributes = vec![
        ("http.request.method", "GET".to_owned()),
        ("url.path", format!("/orders/{order}")),
        ("http.response.status_code", "200".to_owned()),
    ];
    Exported { id, parent: 0, kind: forest::SERVER, order, at, attributes }
}

fn statement_span(id: u64, parent: u64, order: u64, at: u64) -> Exported {
    let text = "SELECT id FROM orders WHERE id = ? LIMIT ?".to_owned();
    let attributes = vec![("db.system.name", "postgresql".to_owned()), ("db.query.text", text)];
    Exported { id, parent, kind: forest::CLIENT, order, at, attributes }
}

fn export(spans: &[Exported]) -> Vec<Span> {
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let parent = |id: u64| if id == 0 { String::new() } else { format!("{id:016x}") };
    let span = |span: &Exported| {
        let mut attributes: Vec<Value> =
            span.attributes.iter().map(|(key, value)| text(key, value)).collect();
        attributes.push(text("order.id", &span.order.to_string()));
        json!({ "traceId": format!("{:032x}", span.order), "spanId": format!("{:016x}", span.id),
            "parentSpanId": parent(span.parent), "name": "x", "kind": span.kind, "attributes": attributes,
            "startTimeUnixNano": span.at.to_string(), "endTimeUnixNano": (span.at + 10).to_string() })
    };
    let spans: Vec<Value> = spans.iter().map(span).collect();
    let resource = json!({ "attributes": [text("service.name", "shop"), { "key": "process.pid", "value": { "intValue": "7" } }] });
    let request = json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": spans }] }] });
    forest::parse(&format!("{request}\n")).expect("spans")
}

/// Two orders at the same time, each a request with one statement.
fn two_orders() -> Vec<Entry> {
    vec![served("a", 1, 1000), executed("b", "a", 1, 1002), served("c", 2, 1001), executed("d", "c", 2, 1003)]
}

fn check(spans: &[Exported]) -> Report {
    compare(&two_orders(), &export(spans), 0)
}

#[test]
fn what_agrees_is_complete() {
    let report = check(&[
        server_span(1, 1, 1000),
        statement_span(2, 1, 1, 1002),
        server_span(3, 2, 1001),
        statement_span(4, 3, 2, 1003),
    ]);
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.of_orders, report.found, report.edges.correct), (4, 4, 2));
}

#[test]
fn missing_span_is_found() {
    let report = check(&[server_span(1, 1, 1000), server_span(3, 2, 1001), statement_span(4, 3, 2, 1003)]);
    assert!(!report.is_complete());
    assert_eq!((report.missing.len(), report.found), (1, 3), "{report}");
}

#[test]
fn span_of_another_order_is_misplaced() {
    let report = check(&[
        server_span(1, 1, 1000),
        statement_span(2, 3, 2, 1002),
        server_span(3, 2, 1001),
        statement_span(4, 3, 2, 1003),
    ]);
    assert_eq!((report.missing.len(), report.misplaced.len(), report.extra.len()), (0, 1, 0), "{report}");
}

#[test]
fn parent_of_another_request_is_wrong() {
    let mut entries = two_orders();
    entries.push(served("e", 1, 1004));
    let spans = export(&[
        server_span(1, 1, 1000),
        statement_span(2, 5, 1, 1002),
        server_span(3, 2, 1001),
        statement_span(4, 0, 2, 1003),
        server_span(5, 1, 1004),
    ]);
    let report = compare(&entries, &spans, 0);
    assert_eq!(
        (report.edges.correct, report.edges.wrong.len(), report.edges.orphans.len()),
        (0, 1, 1),
        "{report}"
    );
}

#[test]
fn span_that_nobody_did_is_extra() {
    let report = check(&[
        server_span(1, 1, 1000),
        statement_span(2, 1, 1, 1002),
        statement_span(9, 1, 1, 1002),
        server_span(3, 2, 1001),
        statement_span(4, 3, 2, 1003),
    ]);
    assert_eq!(report.extra.len(), 1, "{report}");
}

#[test]
fn request_that_says_that_it_is_incomplete_is_not_invented() {
    let others = || [statement_span(2, 1, 1, 1002), server_span(3, 2, 1001), statement_span(4, 3, 2, 1003)];
    let report_of = |spans: &[(u64, bool)]| {
        let unanswered = |(id, says_so): &(u64, bool)| {
            let mut span = server_span(*id, 1, 1000);
            span.attributes.retain(|(key, _)| *key != "http.response.status_code");
            span.attributes.extend(says_so.then(|| ("spoor.incomplete", "open".to_owned())));
            span
        };
        let spans: Vec<Exported> = spans.iter().map(unanswered).chain(others()).collect();
        let report = check(&spans);
        assert!(!report.is_complete(), "{report}");
        [report.missing, report.incomplete, report.doubtful, report.extra].map(|list| list.len())
    };
    assert_eq!(report_of(&[(1, true)]), [0, 1, 0, 0]);
    assert_eq!(report_of(&[(1, true), (9, true)]), [0, 1, 1, 0], "each operation has one span");
    assert_eq!(report_of(&[(1, false)]), [1, 0, 0, 1], "one that does not say so is none of it");
}

#[test]
fn spans_of_another_time_do_not_match() {
    let late = 1_000_000_000;
    let report = check(&[
        server_span(1, 1, late),
        statement_span(2, 1, 1, late),
        server_span(3, 2, 1001),
        statement_span(4, 3, 2, 1003),
    ]);
    assert_eq!((report.missing.len(), report.extra.len()), (2, 2), "{report}");
}

#[test]
fn trace_of_two_orders_is_scattered() {
    let mut spans = export(&[server_span(1, 1, 1000), server_span(3, 2, 1001)]);
    spans[1].trace_id = spans[0].trace_id.clone();
    assert_eq!(compare(&[], &spans, 0).scattered.len(), 1);
}

#[test]
fn statements_compare_by_shape() {
    for (text, expected) in [
        ("SELECT a1 FROM t WHERE x = 'it''s' AND y = 4.5;", "SELECT a1 FROM t WHERE x = ? AND y = ?"),
        ("INSERT  INTO t\n VALUES ($1, $12, ?)", "INSERT INTO t VALUES (?, ?, ?)"),
        ("COMMIT", "COMMIT"),
        (
            "SET a = true, b=1 WHERE c IS NOT TRUE AND d = FALSE",
            "SET a = ?, b=? WHERE c IS NOT TRUE AND d = ?",
        ),
    ] {
        assert_eq!(shape(text), expected);
    }
}

#[test]
fn one_sided_requests_are_unbalanced() {
    let call = entry(
        "z",
        None,
        1,
        json!({ "kind": "http.client", "method": "GET", "path": "/orders/1", "status": 200 }),
        999,
    );
    assert_eq!(unbalanced(&[call.clone(), served("a", 1, 1000)]), Vec::<String>::new());
    assert_eq!(unbalanced(&[call]).len(), 1);
}

/// Of two equal requests one after the other each is its own, though the service's clock is ahead by what lies between them.
#[test]
fn a_clock_that_is_ahead_does_not_swap_equal_requests() {
    const AHEAD: u64 = 4_000_000;
    // Of some service calls a second apart each can be one span only.
    let calls: Vec<u64> =
        (1..=10).map(|n| n * 1_000_000_000).chain([20_000_000_000, 20_050_000_000]).collect();
    let called = |(n, at): (usize, &u64)| {
        let path = format!("/{}", n.min(10));
        let fact = json!({ "kind": "http.client", "method": "PUT", "path": path, "status": 200 });
        let mut entry = entry(&format!("c{n}"), Some(&format!("s{n}")), 1, fact, at + AHEAD);
        // The first of the two lasts nearly until the second begins.
        entry.end_ns = entry.start_ns + if n == 10 { 47_000_000 } else { 2_000_000 };
        entry
    };
    let served = |(n, at): (usize, &u64)| {
        let mut entry = served(&format!("s{n}"), 1, at + AHEAD - 1_000_000);
        let path = format!("/cause/{n}");
        entry.fact = crate::truth::Fact::Served { method: "GET".to_owned(), path, status: 200 };
        entry.end_ns = entry.start_ns + 49_000_000;
        entry
    };
    let mut entries: Vec<Entry> = calls.iter().enumerate().map(called).collect();
    entries.extend(calls.iter().enumerate().map(served));
    let server = |(n, at): (usize, &u64)| {
        let mut span = server_span(100 + n as u64, 1, at - 1_000_000);
        span.attributes.retain(|(key, _)| *key != "url.path");
        span.attributes.push(("url.path", format!("/cause/{n}")));
        span
    };
    let client = |(n, at): (usize, &u64)| {
        let attributes = vec![
            ("http.request.method", "PUT".to_owned()),
            ("url.full", format!("http://shop/{}", n.min(10))),
            ("http.response.status_code", "200".to_owned()),
        ];
        Exported {
            id: 1 + n as u64,
            parent: 100 + n as u64,
            kind: forest::CLIENT,
            order: 1,
            at: *at,
            attributes,
        }
    };
    let spans: Vec<Exported> =
        calls.iter().enumerate().map(client).chain(calls.iter().enumerate().map(server)).collect();
    let mut spans = export(&spans);
    for span in &mut spans {
        let lasts = if span.kind == forest::SERVER { 49_000_000 } else { 1_600_000 };
        span.end_ns = span.start_ns + lasts;
    }
    spans[10].end_ns = spans[10].start_ns + 46_900_000;
    let report = compare(&entries, &spans, 0);
    assert_eq!((report.missing.len(), report.extra.len()), (0, 0), "{report}");
    assert_eq!((report.edges.correct, report.edges.wrong.len()), (12, 0), "{report}");
}
