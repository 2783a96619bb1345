//! Records in, the spans that the whole core makes of them out, with default settings and in the records' own time.

use spoor::pipeline::{Pipeline, Settings};
use spoor::record::Record;
use spoor::span::{Span, Value};

/// Defaults, for a machine of their own.
pub fn settings() -> Settings {
    Settings {
        protocols: Default::default(),
        joining: Default::default(),
        order: Default::default(),
        spans: Default::default(),
        max_connections: 1000,
        turn_bytes: 1 << 20,
        boot_id: [7; 16],
        host_id: "host".to_owned(),
    }
}

/// Everything released, a minute after the last record.
pub fn run(records: impl IntoIterator<Item = Record>) -> Vec<Span> {
    run_with(settings(), records)
}

/// The same with other settings.
pub fn run_with(settings: Settings, records: impl IntoIterator<Item = Record>) -> Vec<Span> {
    let mut pipeline = Pipeline::new(settings).expect("the rules compile");
    let mut now = 0;
    for record in records {
        now = now.max(record.at());
        pipeline.handle_record(record);
    }
    pipeline.handle_timeout(now + 60_000_000_000);
    pipeline.finish(now + 60_000_000_000);
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
