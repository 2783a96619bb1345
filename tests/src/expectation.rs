//! Spans and a case's expectations → what is not as it should be, as sentences.
//!
//! *Owns* the form of the files `tests/fixtures/field/*.json`. *Must not know* how the spans were made.
//!
//! ```json
//! {
//!   "what": "what the input holds",
//!   "reports": ["public reports of the same"],
//!   "expect": [{"spans": {"kind": "server", "url.path": "/a"}, "count": 1, "attributes": {"order.id": "17"}}]
//! }
//! ```
//!
//! An expectation speaks of the spans that it selects: there is at least one, or as many as `count` or `at_least` says,
//! and the rest of it is true of each of them. Fields that this module does not know are refused, so that no expectation
//! is left out in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::forest::{self, Span};

/// One input's file of expectations.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the input holds.
    pub what: String,
    /// Public reports of the same, where it was found by them.
    #[serde(default)]
    pub reports: Vec<String>,
    /// No two spans have the same identifier.
    #[serde(default)]
    unique_span_ids: bool,
    expect: Vec<Expectation>,
}

/// What is true of the spans it selects.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    spans: Select,
    /// So many are selected.
    count: Option<usize>,
    /// At least so many are; one where neither is said.
    at_least: Option<usize>,
    /// Each has these.
    #[serde(default)]
    attributes: BTreeMap<String, Want>,
    /// None has these.
    #[serde(default)]
    absent: Vec<String>,
    /// These stand nowhere in its name, attributes and status.
    #[serde(default)]
    text_absent: Vec<String>,
    /// Its status is an error, or is none.
    failed: Option<bool>,
    /// It has no parent.
    #[serde(default)]
    root: bool,
    /// Its parent is one of these.
    parent: Option<Select>,
    /// Its parent has the same values of these attributes (where a URL is whole in one and a path in the other: its path).
    #[serde(default)]
    same_in_parent: Vec<String>,
    /// It is in the trace of one of these.
    trace_of: Option<Select>,
    /// It is in the trace of none of these, which are there.
    not_trace_of: Option<Select>,
    /// Milliseconds, least and most.
    lasts_ms: Option<[f64; 2]>,
}

/// Which spans: `name`, `kind`, `service`, or any attribute; of those the `nth` by their start, from 0.
#[derive(Clone, Debug, Deserialize)]
struct Select {
    nth: Option<usize>,
    #[serde(flatten)]
    wanted: BTreeMap<String, Want>,
}

/// A value, or what is true of its text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Want {
    Text(Matches),
    Value(Value),
}

/// One of these is true.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Matches {
    Begins(Vec<String>),
    Ends(Vec<String>),
    Contains(Vec<String>),
}

impl Case {
    /// Reads a file of expectations.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// What is not as expected; nothing where all is.
    pub fn check(&self, spans: &[Span]) -> Vec<String> {
        let mut spans: Vec<&Span> = spans.iter().collect();
        spans.sort_by_key(|span| (span.start_ns, span.end_ns));
        let mut wrong = Vec::new();
        let identifiers: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
        if self.unique_span_ids && identifiers.len() != spans.len() {
            wrong.push(format!("{} spans have {} identifiers", spans.len(), identifiers.len()));
        }
        for expectation in &self.expect {
            wrong.extend(
                expectation.check(&spans).into_iter().map(|what| format!("{}: {what}", expectation.spans)),
            );
        }
        wrong
    }
}

impl Expectation {
    fn check(&self, all: &[&Span]) -> Vec<String> {
        let found = self.spans.find(all);
        let (few, many) = match (self.count, self.at_least) {
            (Some(count), _) => (count, count),
            (None, least) => (least.unwrap_or(1), usize::MAX),
        };
        if !(few..=many).contains(&found.len()) {
            let more = if few == many { "" } else { "at least " };
            return vec![format!("{} spans, wanted {more}{few}", found.len())];
        }
        let mut wrong = Vec::new();
        if let Some(others) = &self.not_trace_of
            && others.find(all).is_empty()
        {
            wrong.push(format!("{others} is not there to be apart from"));
        }
        for span in found {
            self.check_facts(span, &mut wrong);
            self.check_place(span, all, &mut wrong);
        }
        wrong
    }

    /// What it says of itself.
    fn check_facts(&self, span: &Span, wrong: &mut Vec<String>) {
        for (key, want) in &self.attributes {
            let value = span.attribute(key);
            if !want.is_met_by(value) {
                wrong.push(format!(
                    "{key} is {}, not {want}",
                    value.map_or("missing".to_owned(), Value::to_string)
                ));
            }
        }
        for key in &self.absent {
            if let Some(value) = span.attribute(key) {
                wrong.push(format!("has {key} = {value}"));
            }
        }
        let shown = span.attributes().map(|(_, value)| value.to_string());
        let shown: Vec<String> = shown.chain([span.name.clone(), span.message.clone()]).collect();
        for text in self.text_absent.iter().filter(|text| shown.iter().any(|shown| shown.contains(*text))) {
            wrong.push(format!("shows {text:?}"));
        }
        if self.failed.is_some_and(|failed| failed != span.failed) {
            wrong.push(format!("is {}an error", if span.failed { "" } else { "not " }));
        }
        let lasts_ms = (span.end_ns - span.start_ns) as f64 / 1e6;
        if let Some([least, most]) = self.lasts_ms
            && !(least..=most).contains(&lasts_ms)
        {
            wrong.push(format!("lasts {lasts_ms:.1} ms, not {least} to {most}"));
        }
    }

    /// Where it stands among the others.
    fn check_place(&self, span: &Span, all: &[&Span], wrong: &mut Vec<String>) {
        let parent = all.iter().copied().find(|other| other.span_id == span.parent_id);
        let parent_name = || match parent {
            Some(parent) => format!("`{} {}`", parent.service, parent.name),
            None if span.parent_id.is_empty() => "none".to_owned(),
            None => format!("{}, which is not here", span.parent_id),
        };
        if self.root && !span.parent_id.is_empty() {
            wrong.push(format!("has a parent: {}", parent_name()));
        }
        if let Some(wanted) = &self.parent
            && !wanted.find(all).iter().any(|other| other.span_id == span.parent_id)
        {
            wrong.push(format!("its parent is {}, not {wanted}", parent_name()));
        }
        for key in &self.same_in_parent {
            let (own, other) = (comparable(span, key), parent.map(|parent| comparable(parent, key)));
            if other.as_ref() != Some(&own) {
                wrong.push(format!("its {key} is {own:?}, its parent's ({}) {other:?}", parent_name()));
            }
        }
        let is_with = |others: &Select| others.find(all).iter().any(|other| other.trace_id == span.trace_id);
        if let Some(others) = self.trace_of.as_ref().filter(|others| !is_with(others)) {
            wrong.push(format!("is not in the trace of {others}"));
        }
        if let Some(others) = self.not_trace_of.as_ref().filter(|others| is_with(others)) {
            wrong.push(format!("is in the trace of {others}"));
        }
    }
}

/// An attribute's text; of `url.path` also where only `url.full` is there.
fn comparable(span: &Span, key: &str) -> Option<String> {
    let path = || {
        let full = span.text("url.full")?;
        let (_, rest) = full.split_once("://")?;
        let path = &rest[rest.find('/')?..];
        Some(path.split('?').next().unwrap_or(path).to_owned())
    };
    span.text(key).or_else(|| path().filter(|_| key == "url.path"))
}

impl Select {
    /// The spans that it speaks of, by their start.
    fn find<'a>(&self, all: &[&'a Span]) -> Vec<&'a Span> {
        let hits = all.iter().copied().filter(|span| {
            self.wanted.iter().all(|(key, want)| match key.as_str() {
                "name" => want.is_met_by_text(&span.name),
                "service" => want.is_met_by_text(&span.service),
                "kind" => want.is_met_by_text(forest::kind(span.kind)),
                key => want.is_met_by(span.attribute(key)),
            })
        });
        match self.nth {
            Some(nth) => hits.skip(nth).take(1).collect(),
            None => hits.collect(),
        }
    }
}

impl Want {
    fn is_met_by(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (_, None) => false,
            (Self::Value(wanted), Some(value)) => wanted == value,
            (Self::Text(matches), Some(Value::String(text))) => matches.are_met_by(text),
            (Self::Text(matches), Some(other)) => matches.are_met_by(&other.to_string()),
        }
    }

    fn is_met_by_text(&self, text: &str) -> bool {
        match self {
            Self::Value(wanted) => wanted == text,
            Self::Text(matches) => matches.are_met_by(text),
        }
    }
}

impl Matches {
    fn are_met_by(&self, text: &str) -> bool {
        match self {
            Self::Begins(all) => all.iter().any(|start| text.starts_with(start)),
            Self::Ends(all) => all.iter().any(|end| text.ends_with(end)),
            Self::Contains(all) => all.iter().any(|part| text.contains(part)),
        }
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.wanted.iter().map(|(key, want)| format!("{key} {want}")).collect();
        parts.extend(self.nth.map(|nth| format!("number {nth}")));
        write!(f, "[{}]", parts.join(", "))
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value}"),
            Self::Text(Matches::Begins(all)) => write!(f, "that begins with {}", all.join(" or ")),
            Self::Text(Matches::Ends(all)) => write!(f, "that ends in {}", all.join(" or ")),
            Self::Text(Matches::Contains(all)) => write!(f, "with {} in it", all.join(" or ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Span, forest};

    /// A request of `order` and, inside it, a statement whose parent is `parent`.
    fn spans(parent: &str) -> Vec<Span> {
        let span = |id: &str, parent: &str, kind: u64, start: u64, end: u64, key: &str, value: &str| {
            serde_json::json!({
                "traceId": "1".repeat(32), "spanId": id.repeat(16), "parentSpanId": parent.repeat(16), "name": value,
                "kind": kind, "startTimeUnixNano": start.to_string(), "endTimeUnixNano": end.to_string(),
                "attributes": [{"key": key, "value": {"stringValue": value}}],
            })
        };
        let both = [
            span("b", parent, 3, 2_000_000, 3_000_000, "db.query.text", "SELECT secret"),
            span("a", "", 2, 1_000_000, 9_000_000, "url.path", "/orders/17"),
        ];
        let request = serde_json::json!({"resourceSpans": [{"scopeSpans": [{"spans": both}]}]});
        forest::parse(&format!("{request}\n")).expect("two spans")
    }

    #[track_caller]
    fn check(expectation: &str, wrong: &[&str]) {
        let case = format!(r#"{{"what": "", "expect": [{expectation}]}}"#);
        let found = Case::parse(&case).expect("an expectation").check(&spans("a"));
        assert_eq!(found, wrong, "{expectation}");
    }

    #[test]
    fn what_holds_says_nothing() {
        check(
            r#"{"spans": {"kind": "server", "url.path": {"begins": ["/orders/"]}}, "count": 1, "root": true}"#,
            &[],
        );
        check(
            r#"{"spans": {"kind": "client"}, "parent": {"kind": "server"}, "trace_of": {"kind": "server"}}"#,
            &[],
        );
        check(r#"{"spans": {"name": {"contains": ["nothing", "secret"]}}, "lasts_ms": [0.5, 1.5]}"#, &[]);
        check(
            r#"{"spans": {"nth": 0}, "attributes": {"url.path": {"ends": ["17"]}}, "absent": ["order.id"]}"#,
            &[],
        );
        check(r#"{"spans": {"kind": "consumer"}, "count": 0}"#, &[]);
    }

    #[test]
    fn what_does_not_hold_is_said_once_a_span() {
        check(r#"{"spans": {"kind": "consumer"}}"#, &["[kind \"consumer\"]: 0 spans, wanted at least 1"]);
        check(r#"{"spans": {}, "count": 1}"#, &["[]: 2 spans, wanted 1"]);
        check(
            r#"{"spans": {"nth": 1}, "text_absent": ["secret"], "failed": true, "root": true}"#,
            &[
                "[number 1]: shows \"secret\"",
                "[number 1]: is not an error",
                "[number 1]: has a parent: ` /orders/17`",
            ],
        );
        check(
            r#"{"spans": {"nth": 0}, "attributes": {"order.id": "17"}, "absent": ["url.path"], "lasts_ms": [0, 1]}"#,
            &[
                "[number 0]: order.id is missing, not \"17\"",
                "[number 0]: has url.path = \"/orders/17\"",
                "[number 0]: lasts 8.0 ms, not 0 to 1",
            ],
        );
        check(
            r#"{"spans": {"nth": 0}, "parent": {"nth": 1}, "not_trace_of": {"nth": 1}}"#,
            &["[number 0]: its parent is none, not [number 1]", "[number 0]: is in the trace of [number 1]"],
        );
        check(
            r#"{"spans": {"nth": 1}, "same_in_parent": ["db.query.text"]}"#,
            &[
                "[number 1]: its db.query.text is Some(\"SELECT secret\"), its parent's (` /orders/17`) Some(None)",
            ],
        );
    }

    #[test]
    fn nothing_is_apart_from_what_is_not_there() {
        check(
            r#"{"spans": {"nth": 0}, "not_trace_of": {"nth": 7}}"#,
            &["[number 0]: [number 7] is not there to be apart from"],
        );
    }

    #[test]
    fn an_expectation_that_is_not_known_is_refused() {
        for case in [
            r#"{"what": "", "expect": [{"spans": {}, "attrs": {}}]}"#,
            r#"{"what": "", "expects": []}"#,
            r#"{"what": ""}"#,
        ] {
            assert!(Case::parse(case).is_err(), "{case}");
        }
    }

    #[test]
    fn identifiers_that_two_spans_share_are_found() {
        let case = Case::parse(r#"{"what": "", "unique_span_ids": true, "expect": []}"#).expect("a case");
        let mut spans = spans("a");
        assert_eq!(case.check(&spans), Vec::<String>::new());
        spans[0].span_id = spans[1].span_id.clone();
        assert_eq!(case.check(&spans), ["2 spans have 1 identifiers"]);
    }
}
