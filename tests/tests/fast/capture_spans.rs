//! Captures of real clients through the whole core: detection, parsers, rules and spans, as `spoor replay` does it.

use std::path::PathBuf;
use std::time::Duration;

use spoor::config::Services;
use spoor::source;
use spoor_core::pipeline::{Pipeline, Stats};
use spoor_core::record::Record;
use spoor_core::span::{Span, SpanKind};
use spoor_core::time::BootTime;
use spoor_core::trace::Value;
use spoor_tests::recorded::fixtures;
use spoor_tests::whole_core::settings;

fn fixture(name: &str) -> PathBuf {
    fixtures().join(name)
}

/// The spans of a capture.
fn replay(name: &str) -> (Vec<Span>, Stats) {
    let file = std::fs::read(fixture(name)).expect("the capture is there");
    let from = std::io::Cursor::new(file);
    let mut source = source::read(name.to_owned(), from, &Services::default()).expect("a capture");
    let mut pipeline = Pipeline::new(settings()).expect("the default rules compile");
    let mut now = BootTime::ZERO;
    while let Some(record) = source.next().expect("a whole capture") {
        now = now.max(Record::at(&record));
        pipeline.handle_record(record);
    }
    pipeline.finish(now + Duration::from_secs(60));
    let spans = std::iter::from_fn(|| pipeline.poll_span()).collect();
    (spans, pipeline.stats().clone())
}

fn text(span: &Span, key: &str) -> String {
    match span.attributes.get(key) {
        Some(Value::Text(text)) => text.to_string(),
        Some(Value::Int(number)) => number.to_string(),
        _ => String::new(),
    }
}

#[test]
fn every_operation_of_an_object_store_is_named() {
    let (spans, _) = replay("http1/boto3_s3.pcap");
    let mut clients: Vec<&Span> = spans.iter().filter(|span| span.kind == SpanKind::Client).collect();
    clients.sort_by_key(|span| span.start);
    let lines = clients.iter().map(|span| {
        let parts = ["rpc.method", "aws.s3.bucket", "aws.s3.key", "aws.s3.part_number", "aws.s3.copy_source"];
        let parts = parts.map(|key| text(span, key)).join(" ");
        format!("{}\n", parts.trim_end())
    });
    expect_test::expect![[r#"
        S3/CreateBucket models
        S3/PutObject models orders/4711/gear.stl
        S3/GetObject models orders/4711/gear.stl
        S3/HeadObject models orders/4711/gear.stl
        S3/CopyObject models copy.stl  models/orders/4711/gear.stl
        S3/CreateMultipartUpload models large ö.stl
        S3/UploadPart models large ö.stl 1
        S3/UploadPartCopy models large ö.stl 2 models/copy.stl
        S3/ListParts models large ö.stl
        S3/CompleteMultipartUpload models large ö.stl
        S3/AbortMultipartUpload models large ö.stl
        S3/ListObjectsV2 models
        S3/DeleteObjects models
        S3/DeleteObject models orders/4711/gear.stl
        S3/GetObject models nothing
    "#]]
    .assert_eq(&lines.collect::<String>());
}

#[test]
fn context_in_a_comment_of_a_statement_is_honoured() {
    let (spans, _) = replay("postgres/ruby_pg.pcap");
    let commented: Vec<&Span> =
        spans.iter().filter(|span| span.trace_id.to_string() == "4bf92f3577b34da6a3ce929d0e0e4736").collect();
    let [span] = commented.as_slice() else { panic!("{} spans", commented.len()) };
    assert_eq!(text(span, "db.query.text"), "SELECT ?");
    assert_eq!(span.parent.map(|parent| parent.to_string()).as_deref(), Some("00f067aa0ba902b7"));
}

#[test]
fn every_connection_is_detected() {
    for (name, http1, amqp, postgres) in [
        ("http1/java_clients.pcap", 1, 0, 0),
        ("http1/node_clients.pcap", 1, 0, 0),
        ("amqp/lapin.pcap", 0, 1, 0),
        ("amqp/bunny.pcap", 0, 1, 0),
        ("postgres/pgx.pcap", 0, 0, 1),
        ("postgres/tokio_postgres.pcap", 0, 0, 1),
        ("postgres/protocol_32.pcap", 0, 0, 1),
    ] {
        let (spans, stats) = replay(name);
        assert!(!spans.is_empty(), "{name}");
        let found: Vec<&str> = stats
            .operations
            .by_name()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(protocol, _)| protocol)
            .collect();
        let expected = [("http", http1), ("amqp", amqp), ("postgresql", postgres)];
        let expected: Vec<&str> =
            expected.into_iter().filter(|(_, count)| *count == 1).map(|(protocol, _)| protocol).collect();
        assert_eq!(found, expected, "{name}");
        assert_eq!((stats.connections.misdetected, stats.connections.not_ours), (0, 0), "{name}");
    }
}

/// Captures and recordings below a folder.
fn recorded(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => found.extend(recorded(&path)),
            Some("pcap" | "pcapng" | "spoor") => found.push(path),
            _ => {}
        }
    }
    found
}

/// A back end that keeps one reference to a span takes the link's kind for the parent's (Jaeger's model: `FOLLOWS_FROM`).
#[test]
fn no_span_links_to_its_own_parent() {
    let (mut seen, mut children_of_messages) = (0, 0);
    for path in recorded(&fixtures()) {
        let Ok(mut source) = source::open(&path, &Services::default()) else { continue };
        let mut pipeline = Pipeline::new(settings()).expect("the default rules compile");
        let mut now = BootTime::ZERO;
        while let Ok(Some(record)) = source.next() {
            now = now.max(Record::at(&record));
            pipeline.handle_record(record);
        }
        pipeline.finish(now + Duration::from_secs(60));
        while let Some(span) = pipeline.poll_span() {
            seen += 1;
            children_of_messages += usize::from(text(&span, "spoor.parent.rule") == "message");
            let own = |link: &spoor_core::span::Link| {
                (link.trace_id, Some(link.span_id)) == (span.trace_id, span.parent)
            };
            assert!(!span.links.iter().any(own), "{}: {span:?}", path.display());
        }
    }
    assert!(seen > 1000 && children_of_messages > 10, "{seen} spans, {children_of_messages} of messages");
}
