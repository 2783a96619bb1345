//! Spans as any consumer sees them → the tree that `spoor run --print tree` prints of them, by the same code.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use spoor::export::tree::{Style, TreePrinter};
use spoor_core::causality::{Confidence, Rule};
use spoor_core::span::{Evidence, Resource, Span, SpanKind, Status};
use spoor_core::time::WallTime;
use spoor_core::trace::{Attributes, SpanId, TraceId, Value};

use crate::forest;

/// The spans of an order, trace by trace.
pub fn tree(spans: &[forest::Span], order: &str) -> String {
    let mut out = Vec::new();
    let mut printer = TreePrinter::new(&mut out, Style::default(), Duration::ZERO);
    let own = spans.iter().filter(|span| span.order().as_deref() == Some(order));
    // Writing to memory cannot fail.
    let _ = own.map(read).try_for_each(|span| printer.push(span, Duration::ZERO));
    let _ = printer.finish();
    String::from_utf8_lossy(&out).into_owned()
}

fn read(span: &forest::Span) -> Span {
    let mut attributes = Attributes::default();
    for (key, value) in span.attributes() {
        match value {
            Json::String(text) => attributes.set_named(key, text.as_str()),
            Json::Bool(truth) => attributes.set_named(key, *truth),
            Json::Number(number) => match number.as_i64() {
                Some(number) => attributes.set_named(key, number),
                None => attributes.set_named(key, Value::Float(number.as_f64().unwrap_or_default())),
            },
            _ => {}
        }
    }
    let rule =
        span.attribute("spoor.parent.rule").cloned().and_then(|rule| serde_json::from_value(rule).ok());
    let confidence = span.attribute("spoor.parent.confidence").and_then(Json::as_f64).unwrap_or_default();
    let evidence = rule.map(|rule: Rule| Evidence { rule, confidence: Confidence(confidence as f32) });
    Span {
        trace_id: TraceId(bytes(&span.trace_id)),
        span_id: SpanId(bytes(&span.span_id)),
        parent: (!span.parent_id.is_empty()).then(|| SpanId(bytes(&span.parent_id))),
        evidence,
        name: span.name.clone(),
        kind: match span.kind {
            forest::SERVER => SpanKind::Server,
            forest::CLIENT => SpanKind::Client,
            forest::PRODUCER => SpanKind::Producer,
            forest::CONSUMER => SpanKind::Consumer,
            _ => SpanKind::Internal,
        },
        start: WallTime::from_nanos(span.start_ns),
        end: WallTime::from_nanos(span.end_ns),
        status: if span.failed { Status::Error(span.message.clone()) } else { Status::Unset },
        attributes,
        links: Vec::new(),
        events: Vec::new(),
        resource: Arc::new(Resource { service: span.service.clone(), ..Resource::default() }),
        sampled: true,
    }
}

/// Hexadecimal digits as bytes; zeros where they are none.
fn bytes<const LEN: usize>(hex: &str) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = hex.get(2 * at..2 * at + 2).and_then(|two| u8::from_str_radix(two, 16).ok()).unwrap_or(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_agent_are_printed_as_it_prints_them() {
        let line = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
            "scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"POST /orders","kind":2,
            "startTimeUnixNano":"1000000000","endTimeUnixNano":"1012000000","attributes":[{"key":"order.id","value":{"stringValue":"17"}},
            {"key":"http.response.status_code","value":{"intValue":"201"}},{"key":"spoor.parent.rule","value":{"stringValue":"wire"}},
            {"key":"spoor.parent.confidence","value":{"doubleValue":1.0}}]}]}]}]}"#;
        let spans = forest::parse(&(line.replace('\n', "") + "\n")).unwrap();
        let tree = tree(&spans, "17");
        assert!(
            tree.starts_with("order 17  trace 0102030405060708090a0b0c0d0e0f10  1 span, 1 service, 12.0 ms"),
            "{tree}"
        );
        assert!(tree.contains("shop ← POST /orders  201  order 17  [wire 1.00]"), "{tree}");
        assert_eq!(super::tree(&spans, "18"), "");
    }
}
