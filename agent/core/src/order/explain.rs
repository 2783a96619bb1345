//! Operations → which rule found which key where, and what operations without a key showed instead.
//!
//! For `spoor replay --explain-keys`: whoever teaches Spoor the numbers of a system sees what its rules find on real traffic.
//! *Owns* the account, its bounds and what of it may be shown. *Must not know* how it is printed.
//!
//! What is shown of operations without a key are texts with digits in them that tell of nobody and are no secret; nothing else
//! is kept of any value. Where keys leave as hashes only, no value is kept at all.

use std::collections::BTreeMap;

use super::compile::{RuleId, Rules};
use super::document::{At, Visitor};
use crate::operation::amqp::ActionKind;
use crate::operation::{Detail, Operation};
use crate::privacy::{self, NO_KEYS, redact};
use crate::sql;

/// Kinds of operations that are told apart.
const MAX_OPERATIONS: usize = 512;
/// Places with numbers in one kind of them.
const MAX_PLACES: usize = 32;
/// Values shown of a place.
const MAX_VALUES: usize = 3;
/// Keys and numbers noted of one operation.
const MAX_NOTES: usize = 64;
/// Characters of what an operation is called.
const MAX_LABEL: usize = 100;
/// Longest value that may be a number of something.
const MAX_NUMBER: usize = 40;

/// Where in an operation a value stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    #[default]
    Path,
    Query,
    Header,
    Body,
    Grpc,
    Upload,
    Location,
    MessageHeader,
    MessageProperty,
    Statement,
    Document,
    Row,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Place::Path => "path",
            Place::Query => "query",
            Place::Header => "header",
            Place::Body => "body",
            Place::Grpc => "gRPC message",
            Place::Upload => "upload",
            Place::Location => "Location",
            Place::MessageHeader => "message header",
            Place::MessageProperty => "message property",
            Place::Statement => "statement",
            Place::Document => "JSON in statement",
            Place::Row => "row",
        }
    }
}

/// What was noted of one operation.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) taken: Vec<(RuleId, Place, String)>,
    shown: Vec<(String, String)>,
}

impl Notes {
    pub(super) fn take(&mut self, rule: RuleId, place: Place, value: &str) {
        let note = (rule, place, value.to_owned());
        if self.taken.len() < MAX_NOTES && !self.taken.contains(&note) {
            self.taken.push(note);
        }
    }

    /// A value at `place`, under `name`.
    pub(super) fn show(&mut self, name: &str, place: impl FnOnce() -> String, value: &str) {
        let value = value.trim();
        if self.shown.len() < MAX_NOTES
            && is_number(value)
            && !privacy::is_secret(name)
            && !privacy::is_telling(value)
        {
            self.shown.push((place(), value.to_owned()));
        }
    }
}

/// It may number something: a text without blanks, with digits, and no measure, flag, date or version.
fn is_number(value: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | '#' | '№');
    value.len() <= MAX_NUMBER
        && value.contains(|c: char| c.is_ascii_digit())
        && value != "0"
        && !(value.len() <= 3 && value.starts_with(['v', 'V']))
        && value.chars().all(is_part)
        && !(value.len() == 10 && value.split('-').map(str::len).eq([4, 2, 2]))
}

impl Visitor for Notes {
    fn scalar(&mut self, path: &[At<'_>], value: &str, _in_array: bool) {
        let name = super::document::last_name(path).unwrap_or_default();
        let shown = || {
            path.iter().fold("$".to_owned(), |shown, at| match at {
                At::Name(name) => format!("{shown}.{}", String::from_utf8_lossy(name)),
                At::Index(index) => format!("{shown}[{index}]"),
            })
        };
        self.show(&String::from_utf8_lossy(name), shown, value);
    }

    fn array(&mut self) {}
}

/// Values of one place, and how many operations had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examples {
    pub count: u64,
    /// The first few that differ.
    pub values: Vec<String>,
    /// The first few kinds of operations.
    pub operations: Vec<String>,
}

impl Examples {
    fn add(&mut self, value: Option<&str>, operation: &str) {
        self.count += 1;
        let note = |list: &mut Vec<String>, text: &str| {
            if list.len() < MAX_VALUES && !list.iter().any(|known| known == text) {
                list.push(text.to_owned());
            }
        };
        if let Some(value) = value {
            note(&mut self.values, value);
        }
        note(&mut self.operations, operation);
    }
}

/// Operations of one kind without a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nameless {
    pub count: u64,
    /// What looked like a number, by where it stood.
    pub shown: BTreeMap<String, Examples>,
}

/// The account of all operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Keys may be shown as they are.
    shows_values: bool,
    /// Operations that name one order; that name several, and so none; that name none.
    pub named: u64,
    pub ambiguous: u64,
    pub nameless_count: u64,
    /// By the rule, as it stands in the configuration (`order.keys[0]`), and the place.
    pub found: BTreeMap<(String, Place), Examples>,
    /// By what the operations are.
    pub nameless: BTreeMap<String, Nameless>,
}

impl Explanation {
    pub fn new(shows_values: bool) -> Self {
        Self { shows_values, ..Self::default() }
    }

    /// Adds what `rules` make of an operation.
    pub fn add(&mut self, rules: &Rules, op: &Operation) {
        let (found, notes) = rules.explained(op);
        let label = label(op);
        for (rule, place, value) in &notes.taken {
            let rule = rules.label(*rule);
            let value = Some(value.as_str()).filter(|_| self.shows_values);
            self.found.entry((rule, *place)).or_default().add(value, &label);
        }
        match (found.order().is_some(), found.keys.is_empty()) {
            (true, _) => self.named += 1,
            (false, false) => self.ambiguous += 1,
            (false, true) => self.add_nameless(&label, &notes),
        }
    }

    fn add_nameless(&mut self, label: &str, notes: &Notes) {
        self.nameless_count += 1;
        if self.nameless.len() >= MAX_OPERATIONS && !self.nameless.contains_key(label) {
            return;
        }
        let shows_values = self.shows_values;
        let nameless = self.nameless.entry(label.to_owned()).or_default();
        nameless.count += 1;
        for (place, value) in &notes.shown {
            if nameless.shown.len() >= MAX_PLACES && !nameless.shown.contains_key(place) {
                continue;
            }
            let examples = nameless.shown.entry(place.clone()).or_default();
            examples.add(Some(value.as_str()).filter(|_| shows_values), label);
        }
    }
}

/// What an operation is, without what it is about.
fn label(op: &Operation) -> String {
    let label = match &op.detail {
        Detail::Http(exchange) => {
            format!("{} {}", exchange.method, shape(&redact::path(exchange.path(), NO_KEYS)))
        }
        Detail::Amqp(action) => {
            let (verb, exchange, key) = match &action.kind {
                ActionKind::Publish(publish) => ("publish", &publish.exchange, &publish.routing_key),
                ActionKind::Return(publish) => ("return", &publish.exchange, &publish.routing_key),
                ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => {
                    ("deliver", &deliver.exchange, &deliver.routing_key)
                }
                _ => return "AMQP method".to_owned(),
            };
            let target = format!("{exchange}:{key}");
            format!("{verb} {}", shape(&redact::destination(&target, NO_KEYS)))
        }
        Detail::Postgres(statement) => match statement.text.as_deref().map(sql::summary) {
            Some(summary) if !summary.is_empty() => summary,
            _ => "statement without text".to_owned(),
        },
    };
    label.chars().take(MAX_LABEL).collect()
}

/// A path or destination with `{}` for each part that has digits.
fn shape(path: &str) -> String {
    let is_end = |c: char| matches!(c, '/' | ':' | '.');
    let mut out = String::with_capacity(path.len());
    for piece in path.split_inclusive(is_end) {
        let (part, end) = piece
            .strip_suffix(is_end)
            .map_or((piece, ""), |part| (part, piece.get(part.len()..).unwrap_or("")));
        let is_version = part.len() <= 3 && part.starts_with(['v', 'V']);
        let numbers = !is_version && part.contains(|c: char| c.is_ascii_digit());
        out.push_str(if numbers { "{}" } else { part });
        out.push_str(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::extract::tests::{defaults, http, op, publish, request, sql, statement};
    use super::*;
    use crate::operation::amqp::{Content, Properties, Value};

    fn explained(shows_values: bool) -> Explanation {
        let mut explanation = Explanation::new(shows_values);
        let body = r#"{"doc": {"no": "SO-123", "lines": [{"n": 7}]}, "total": 17.5, "phone": "+7 916 123-45-67",
            "password": "abc123", "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x1", "card": "4111111111111111", "at": "2026-11-20"}"#;
        let headers = vec![("doc".to_owned(), Value::Int(5))];
        let properties = Properties { headers, ..Properties::default() };
        let content = Content { properties, ..Content::default() };
        for detail in [
            http(request("GET", "/orders/17", "")),
            http(request("POST", "/orders/17/merge?order_id=18", "")),
            http(request("POST", "/api/v1/docs/55?page=2", body)),
            publish(content),
            sql(statement("UPDATE docs SET a = $1 WHERE doc_id = 9", &["x1"])),
            sql(statement("COMMIT", &[])),
        ] {
            explanation.add(&defaults(), &op(detail));
        }
        explanation
    }

    #[test]
    fn rules_are_named_with_what_they_found_where() {
        let explanation = explained(true);
        assert_eq!((explanation.named, explanation.ambiguous, explanation.nameless_count), (1, 1, 4));
        let path = &explanation.found[&("order.keys[0]".to_owned(), Place::Path)];
        assert_eq!((path.count, path.values.as_slice()), (2, &["17".to_owned()][..]));
        assert_eq!(path.operations, ["GET /orders/{}", "POST /orders/{}/merge"]);
        assert_eq!(explanation.found[&("order.keys[0]".to_owned(), Place::Query)].values, ["18"]);
    }

    #[test]
    fn what_else_was_there_is_shown_unless_it_tells_of_somebody() {
        let explanation = explained(true);
        let shown = |operation: &str| {
            let places = explanation.nameless.get(operation).map(|nameless| &nameless.shown);
            let places = places
                .into_iter()
                .flatten()
                .map(|(place, examples)| format!("{place}={}", examples.values.join(",")));
            places.collect::<Vec<_>>()
        };
        let docs = ["$.doc.lines[0].n=7", "$.doc.no=SO-123", "path segment=55", "query page=2"];
        assert_eq!(shown("POST /api/v1/docs/{}"), docs);
        assert_eq!(shown("publish shop:order.created"), ["header doc=5"]);
        assert_eq!(shown("UPDATE docs"), ["column a=x1", "column doc_id=9"]);
        assert_eq!(shown("COMMIT"), Vec::<String>::new());
    }

    #[test]
    fn where_keys_are_hashed_no_value_is_kept() {
        let explanation = explained(false);
        let all =
            explanation.found.values().chain(explanation.nameless.values().flat_map(|n| n.shown.values()));
        assert!(all.clone().count() > 0 && all.clone().all(|examples| examples.values.is_empty()));
    }
}
