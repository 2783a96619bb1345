//! Recordings in which every secret is marked → no mark in any output.
//!
//! The recordings are in `tests/fixtures/privacy`, whose README says what they hold. Every output is searched: OTLP as JSON and
//! protobuf, the tree, the metrics, and what is kept for the next run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use prost::Message;
use spoor::export::Host;
use spoor::export::file::JsonLines;
use spoor::export::otlp::encode;
use spoor::export::tree::{Style, TreePrinter};
use spoor::metrics::durations::Durations;
use spoor::metrics::prometheus::{Format, Page};
use spoor::{config, run, source};
use spoor_core::record::Record;
use spoor_core::span::Span;
use spoor_core::time::BootTime;
use spoor_tests::recorded::{MARKS_THAT_SHOW, fixtures};

fn file(name: &str) -> PathBuf {
    fixtures().join("privacy").join(name)
}

/// The spans of a recording and what is kept for the next run, as text.
fn replay(recording: &str, settings: Option<&str>) -> (Vec<Span>, Vec<u8>) {
    let settings = settings.map(file);
    let config = config::load(settings.as_deref(), &[], &[]).expect("the configuration is right").config;
    let mut source = source::open(&file(recording), &config.services).expect("a recording");
    let mut pipeline = run::pipeline(&config, [7; 16]).expect("the configuration's rules compile");
    let mut now = BootTime::ZERO;
    loop {
        match source.next() {
            Ok(Some(record)) => {
                now = now.max(Record::at(&record));
                pipeline.handle_record(record);
                while pipeline.poll_verdict().is_some() {
                    // A file holds what it holds.
                }
            }
            Ok(None) => break,
            Err(error) if error.is_warning() => {}
            Err(error) => panic!("{recording}: {error}"),
        }
    }
    let kept = run::state::file::encode(&pipeline.snapshot()).expect("what is kept is encoded");
    pipeline.finish(now);
    (std::iter::from_fn(|| pipeline.poll_span()).collect(), kept)
}

/// Every output, by its name.
fn outputs(spans: &[Span], kept: Vec<u8>) -> BTreeMap<&'static str, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut lines = JsonLines::new(Vec::new(), Host::local("test"));
    let printed = Printed::default();
    let mut tree = TreePrinter::new(printed.clone(), Style::default(), Duration::ZERO);
    let mut durations = Durations::default();
    for span in spans {
        durations.observe(span);
        lines.push(span.clone()).expect("memory takes lines");
        tree.push(span.clone(), Duration::ZERO).expect("memory takes a tree");
    }
    tree.tick(Duration::MAX).expect("memory takes a tree");
    let mut page = Page::new(Format::OpenMetrics);
    page.durations(&durations.series());
    [
        ("OTLP", text(&encode::request(spans, &Host::local("test")).encode_to_vec())),
        ("OTLP as JSON", text(&lines.finish().expect("memory takes lines"))),
        ("the tree", text(&printed.0.lock().expect("nobody panics"))),
        ("the metrics", page.finish()),
        ("what is kept", text(&kept)),
    ]
    .into()
}

/// A writer that can be read while another owns it.
#[derive(Clone, Default)]
struct Printed(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn around(text: &str, at: usize) -> &str {
    let from = text.floor_char_boundary(at.saturating_sub(100));
    &text[from..text.ceil_char_boundary((at + 40).min(text.len()))]
}

#[test]
fn no_marked_secret_is_in_any_output() {
    let marks: BTreeMap<String, String> =
        serde_json::from_str(&std::fs::read_to_string(file("marked.json")).expect("marks")).expect("JSON");
    assert_eq!(marks.len(), 169);
    let (spans, kept) = replay("marked.spoor", None);
    assert!(spans.len() > 150, "the traffic was understood: {}", spans.len());
    let outputs = outputs(&spans, kept);
    assert!(outputs["the tree"].contains("UPDATE users") && outputs["OTLP as JSON"].contains("REDACTED"));
    let mut shown = Vec::new();
    for (mark, place) in &marks {
        for (output, text) in &outputs {
            let Some(at) = text.find(mark.as_str()) else { continue };
            if !MARKS_THAT_SHOW.iter().any(|(known, _)| known == place) {
                shown.push(format!("{place}: {output}: …{}…\n", around(text, at)));
            }
        }
    }
    assert!(shown.is_empty(), "{} shown:\n{}", shown.len(), shown.concat());
}

#[test]
fn what_is_known_to_show_does() {
    let marks: BTreeMap<String, String> =
        serde_json::from_str(&std::fs::read_to_string(file("marked.json")).expect("marks")).expect("JSON");
    let (spans, kept) = replay("marked.spoor", None);
    let outputs = outputs(&spans, kept);
    for (place, why) in MARKS_THAT_SHOW {
        let mark = marks.iter().find(|(_, known)| *known == place).map(|(mark, _)| mark).expect(place);
        assert!(
            outputs["OTLP as JSON"].contains(mark.as_str()),
            "`{place}` ({why}) does not show: remove it here"
        );
    }
}

#[test]
fn hashed_keys_are_in_no_output_in_any_form() {
    let (plain, _) = replay("hashed.spoor", None);
    let (spans, kept) = replay("hashed.spoor", Some("hashed.yaml"));
    assert_eq!(spans.len(), plain.len());
    assert!(spans.iter().filter(|span| span.attributes.get("order.id").is_some()).count() > 3);
    let mut shown = Vec::new();
    for (output, text) in outputs(&spans, kept) {
        for key in ["470811", "88123"] {
            shown.extend(
                text.match_indices(key).map(|(at, _)| format!("{output}: …{}…\n", around(&text, at))),
            );
        }
    }
    assert!(shown.is_empty(), "{} shown:\n{}", shown.len(), shown.concat());
}
