//! Records → the spans that the whole core makes of them, with default settings and in the records' own time.

use std::time::Duration;

use spoor_core::pipeline::{Pipeline, Settings};
use spoor_core::record::Record;
use spoor_core::settings::Limits;
use spoor_core::span::Span;
use spoor_core::time::BootTime;
use spoor_core::trace::{SpanId, TraceId, Value};

/// Defaults, for a machine of their own.
pub fn settings() -> Settings {
    Settings {
        protocols: Default::default(),
        joining: Default::default(),
        order: Default::default(),
        spans: Default::default(),
        // Scripts pay no heed to time: a thousand requests may be in one second.
        limits: Limits { work_percent: 0, ..Limits::default() },
        max_connections: 1000,
        turn_bytes: 1 << 20,
        boot_id: [7; 16],
    }
}

/// Everything released, a minute after the last record.
pub fn run(records: impl IntoIterator<Item = Record>) -> Vec<Span> {
    run_with(settings(), records)
}

/// The same with other settings.
pub fn run_with(settings: Settings, records: impl IntoIterator<Item = Record>) -> Vec<Span> {
    let mut pipeline = Pipeline::new(settings).expect("the rules compile");
    let mut now = BootTime::ZERO;
    for record in records {
        now = now.max(record.at());
        pipeline.handle_record(record);
    }
    pipeline.handle_timeout(now + Duration::from_secs(60));
    pipeline.finish(now + Duration::from_secs(60));
    std::iter::from_fn(|| pipeline.poll_span()).collect()
}

/// An attribute as text; empty where the span has none of that name.
pub fn text(span: &Span, key: &str) -> String {
    match span.attributes.get(key) {
        Some(Value::Text(text)) => text.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

/// `service kind name order [rule] ~ links`, children below the parents that are there, siblings by time.
pub fn forest(spans: &[Span]) -> String {
    fn walk(spans: &[Span], parent: Option<&Span>, depth: usize, out: &mut String) {
        let mut level: Vec<&Span> = spans
            .iter()
            .filter(|span| match parent {
                Some(parent) => span.parent == Some(parent.span_id) && span.trace_id == parent.trace_id,
                None => !spans
                    .iter()
                    .any(|other| Some(other.span_id) == span.parent && other.trace_id == span.trace_id),
            })
            .collect();
        level.sort_by_key(|span| (span.start, span.span_id));
        for span in level {
            let rule = span.evidence.map_or("root", |evidence| evidence.rule.name());
            let name = |at: (TraceId, SpanId)| {
                let linked = spans.iter().find(|span| (span.trace_id, span.span_id) == at);
                linked.map_or("nothing".to_owned(), |span| format!("{} {}", span.resource.service, span.name))
            };
            let links: String =
                span.links.iter().map(|link| format!(" ~ {}", name((link.trace_id, link.span_id)))).collect();
            let order = text(span, "order.id");
            out.push_str(&"  ".repeat(depth));
            out.push_str(&format!(
                "{} {:?} {} order={order} [{rule}]{links}\n",
                span.resource.service, span.kind, span.name
            ));
            walk(spans, Some(span), depth + 1, out);
        }
    }
    let mut out = String::new();
    walk(spans, None, 0, &mut out);
    out
}
