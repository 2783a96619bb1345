//! Traces against the text they are printed as.

use std::sync::Arc;

use expect_test::{Expect, expect};

use super::*;
use std::time::Duration;

use spoor_core::causality::{Confidence, Rule};
use spoor_core::span::{Evidence, Resource};
use spoor_core::time::WallTime;
use spoor_core::trace::Attributes;

const START: WallTime = WallTime::from_nanos(1_763_629_953_120_000_000);

struct Given {
    id: u8,
    parent: Option<(u8, Rule, f32)>,
    service: &'static str,
    kind: SpanKind,
    name: &'static str,
    from_us: u64,
    for_us: u64,
    attributes: &'static [(&'static str, i64)],
    order: Option<&'static str>,
    error: Option<&'static str>,
}

const PLAIN: Given = Given {
    id: 1,
    parent: None,
    service: "shop",
    kind: SpanKind::Server,
    name: "POST /orders",
    from_us: 0,
    for_us: 182_400,
    attributes: &[],
    order: Some("17"),
    error: None,
};

fn span(given: &Given) -> Span {
    let mut attributes = Attributes::default();
    for (key, value) in given.attributes {
        attributes.set(key, *value);
    }
    if let Some(order) = given.order {
        attributes.set_named("order.id", order);
    }
    Span {
        trace_id: TraceId([0x5b; 16]),
        span_id: SpanId([given.id; 8]),
        parent: given.parent.map(|(parent, _, _)| SpanId([parent; 8])),
        evidence: given.parent.map(|(_, rule, sure)| Evidence { rule, confidence: Confidence(sure) }),
        name: given.name.to_owned(),
        kind: given.kind,
        start: START + Duration::from_micros(given.from_us),
        end: START + Duration::from_micros(given.from_us + given.for_us),
        status: given.error.map_or(Status::Unset, |error| Status::Error(error.to_owned())),
        attributes,
        links: Vec::new(),
        events: Vec::new(),
        resource: Arc::new(Resource { service: given.service.to_owned(), ..Resource::default() }),
        sampled: true,
    }
}

fn order() -> Vec<Span> {
    let status = &[("http.response.status_code", 201)];
    let confirm = Given {
        id: 3,
        parent: Some((1, Rule::Thread, 0.95)),
        kind: SpanKind::Client,
        name: "POST /confirmations",
        from_us: 15_000,
        for_us: 80_100,
        attributes: &[("http.response.status_code", 500)],
        error: Some(""),
        ..PLAIN
    };
    [
        Given {
            id: 4,
            parent: Some((3, Rule::Wire, 1.0)),
            service: "crm",
            kind: SpanKind::Server,
            from_us: 16_300,
            for_us: 77_900,
            error: Some("seller is away"),
            ..confirm
        },
        confirm,
        Given { attributes: status, ..PLAIN },
        Given {
            id: 2,
            parent: Some((1, Rule::Thread, 0.95)),
            kind: SpanKind::Client,
            name: "INSERT orders",
            from_us: 1200,
            for_us: 12_400,
            ..PLAIN
        },
        Given {
            id: 5,
            parent: Some((4, Rule::LastRead, 0.8)),
            service: "crm",
            kind: SpanKind::Producer,
            name: "send confirmed",
            from_us: 90_000,
            for_us: 150,
            order: Some("A-9"),
            ..PLAIN
        },
    ]
    .iter()
    .map(span)
    .collect()
}

/// One trace as text.
fn rendered(spans: &[Span], style: Style) -> String {
    let mut out = Vec::new();
    render(&mut out, TraceId([1; 16]), spans, false, style).unwrap();
    String::from_utf8(out).unwrap()
}

/// Identifiers in the order in which they are printed.
fn walked(spans: &[Span]) -> Vec<SpanId> {
    let mut ids = Vec::new();
    let visited: Result<(), ()> = walk(spans, |row| {
        ids.push(row.span.span_id);
        Ok(())
    });
    assert_eq!(visited, Ok(()));
    ids
}

/// Spans of which each is the parent of the next one.
fn chain(len: u64) -> Vec<Span> {
    let span = |index: u64| {
        let parent = index.checked_sub(1).map(|above| SpanId(above.to_be_bytes()));
        Span { span_id: SpanId(index.to_be_bytes()), parent, ..span(&PLAIN) }
    };
    (0..len).map(span).collect()
}

fn check(spans: &[Span], style: Style, expected: Expect) {
    let mut out = Vec::new();
    let mut printer = TreePrinter::new(&mut out, style, Duration::from_secs(1));
    for span in spans {
        printer.push(span.clone(), Duration::ZERO).unwrap();
    }
    printer.finish().unwrap();
    expected.assert_eq(&String::from_utf8(out).unwrap());
}

#[test]
fn trace_is_a_tree_with_times_statuses_and_rules() {
    check(
        &order(),
        Style::default(),
        expect![[r#"
            order 17  trace 5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b  5 spans, 2 services, 182.4 ms  2025-11-20 09:12:33.120 UTC
                  +0 ms    182.4 ms  shop ← POST /orders  201  order 17
                +1.2 ms     12.4 ms  ├─ shop → INSERT orders  [thread 0.95]
               +15.0 ms     80.1 ms  └─ shop → POST /confirmations  500  [thread 0.95]
               +16.3 ms     77.9 ms     └─ crm ← POST /confirmations  500  ERROR seller is away  [wire 1.00]
               +90.0 ms     0.15 ms        └─ crm → send confirmed  order A-9  [last_read 0.80]

        "#]],
    );
}

#[test]
fn long_names_are_cut_to_the_terminal_and_keep_the_rule() {
    let name = "SELECT a, b, c, d, e, f, g, h, i, j, k FROM orders WHERE id = ? AND status = ?";
    let long = Given { id: 2, parent: Some((1, Rule::Thread, 0.95)), name, ..PLAIN };
    let text = rendered(&[span(&PLAIN), span(&long)], Style { colour: false, width: Some(80) });
    let line = text.lines().nth(2).unwrap();
    assert_eq!(line.width(), 80, "{line}");
    assert!(line.ends_with("…  [thread 0.95]"), "{line}");
}

#[test]
fn spans_without_their_parent_say_so() {
    let orphan = Given { parent: Some((77, Rule::Wire, 1.0)), ..PLAIN };
    check(
        &[span(&orphan)],
        Style::default(),
        expect![[r#"
            order 17  trace 5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b  1 span, 1 service, 182.4 ms  2025-11-20 09:12:33.120 UTC
                  +0 ms    182.4 ms  ┄ shop ← POST /orders  order 17  [wire 1.00]  (parent is not here)

        "#]],
    );
}

#[test]
fn every_span_is_printed_once_even_in_a_circle() {
    let circle = [
        span(&Given { id: 1, parent: Some((2, Rule::Value, 0.7)), ..PLAIN }),
        span(&Given { id: 2, parent: Some((1, Rule::Value, 0.7)), ..PLAIN }),
        span(&Given { id: 3, parent: Some((3, Rule::Value, 0.7)), ..PLAIN }),
    ];
    let mut ids = walked(&circle);
    ids.sort();
    assert_eq!(ids, [SpanId([1; 8]), SpanId([2; 8]), SpanId([3; 8])]);
}

#[test]
fn a_deep_tree_is_as_long_as_it_has_spans() {
    let spans = chain(16_000);
    assert_eq!(walked(&spans), spans.iter().map(|span| span.span_id).collect::<Vec<_>>());
    let text = rendered(&spans, Style::default());
    let longest = text.lines().map(str::len).max().unwrap();
    assert!(longest < 600, "{longest}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1 + 64].contains("  └─ shop") && !lines[1 + 64].contains('⋯'), "{}", lines[65]);
    assert!(lines[1 + 65].contains("  ⋯65 shop"), "{}", lines[66]);
    assert!(lines[16_000].contains("  ⋯15999 shop"), "{}", lines[16_000]);
    // Short terminals cut the name, not the guide.
    let width =
        rendered(&spans, Style { colour: false, width: Some(80) }).lines().map(UnicodeWidthStr::width).max();
    assert!(width.unwrap() < 300, "{width:?}");
}

#[test]
fn below_the_drawn_depth_siblings_and_their_parents_siblings_keep_their_place() {
    // A chain of 70, and beside each of it a leaf that comes last.
    let mut spans = chain(70);
    let leaves: Vec<Span> = spans
        .iter()
        .map(|above| Span {
            span_id: SpanId([above.span_id.0[7] | 0x80; 8]),
            parent: Some(above.span_id),
            start: above.start + Duration::from_nanos(1),
            ..above.clone()
        })
        .collect();
    spans.extend(leaves);
    let text = rendered(&spans, Style::default());
    let lines: Vec<&str> = text.lines().collect();
    // The header before, an empty line after.
    assert_eq!(lines.len(), 1 + 140 + 1);
    let bars = |line: &str| line.matches('│').count();
    assert_eq!([1, 2, 3, 64, 65, 66, 70].map(|at| bars(lines[at])), [0, 0, 1, 62, 63, 63, 63]);
    assert!(lines[139].contains("  │  └─ shop") && lines[140].contains("  └─ shop"), "{}", lines[139]);
}

#[test]
fn many_traces_at_once_are_printed_early_and_not_one_by_one() {
    let mut printer = TreePrinter::new(io::sink(), Style::default(), Duration::from_secs(1));
    let before = clock::boot();
    for number in 0..3 * MAX_SPANS as u64 {
        let trace_id = TraceId(u128::from(number).to_be_bytes());
        printer.push(Span { trace_id, ..span(&PLAIN) }, Duration::from_nanos(number)).unwrap();
        assert!(printer.span_count <= MAX_SPANS);
    }
    assert!(printer.traces.len() >= KEPT_SPANS);
    // A look at all traces for each span would take minutes.
    assert!(clock::boot().since(before) < Duration::from_secs(60));
}

#[test]
fn names_cannot_steer_the_terminal() {
    let evil = Given { name: "GET /\x1b[2J\r\n\u{202e}x", ..PLAIN };
    let text = rendered(&[span(&evil)], Style::default());
    assert!(!text.contains('\x1b') && !text.contains('\r') && !text.contains('\u{202e}'), "{text:?}");
    assert_eq!(text.lines().count(), 3, "{text:?}");
}

#[test]
fn quiet_traces_are_printed_and_later_spans_continue_them() {
    let mut out = Vec::new();
    let mut printer = TreePrinter::new(&mut out, Style::default(), Duration::from_nanos(100));
    printer.push(span(&PLAIN), Duration::ZERO).unwrap();
    printer.tick(Duration::from_nanos(99)).unwrap();
    assert!(printer.out.is_empty());
    printer.tick(Duration::from_nanos(100)).unwrap();
    let first = printer.out.len();
    assert!(first > 0);
    printer.push(span(&Given { id: 2, ..PLAIN }), Duration::from_nanos(200)).unwrap();
    printer.finish().unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!text[..first].contains("continued") && text[first..].contains("(continued)"), "{text}");
}

#[test]
fn method_alone_is_followed_by_the_path() {
    let titled = |name: &'static str, key: &'static str, value: &str| {
        let mut span = span(&Given { name, ..PLAIN });
        span.attributes.set("http.request.method", "POST");
        span.attributes.set(key, value);
        title(&span)
    };
    assert_eq!(titled("POST", "url.path", "/confirm/17"), "POST /confirm/17");
    assert_eq!(titled("POST", "url.full", "http://crm:80/confirm?x=y"), "POST /confirm");
    assert_eq!(titled("POST", "url.full", "http://crm"), "POST");
    assert_eq!(titled("POST /orders", "url.path", "/orders"), "POST /orders");
}

#[test]
fn times_are_written_in_their_unit() {
    let cases = [
        (0, "0 ms"),
        (123_456, "0.12 ms"),
        (182_400_000, "182.4 ms"),
        (12_345_000_000, "12.3 s"),
        (3_725_000_000_000, "62 min 5 s"),
        (90_000_000_000_000, "25 h 0 min"),
    ];
    for (ns, expected) in cases {
        assert_eq!(milliseconds(Duration::from_nanos(ns)), expected);
    }
    assert_eq!(utc(WallTime::ZERO), "1970-01-01 00:00:00.000 UTC");
    assert_eq!(utc(WallTime::from_nanos(951_782_400_000_000_000)), "2000-02-29 00:00:00.000 UTC");
    assert_eq!(utc(START), "2025-11-20 09:12:33.120 UTC");
}
