//! Operations → which rule found which key where, and what operations without a key showed instead.
//!
//! For `spoor replay --explain-keys`: whoever teaches Spoor the numbers of a system sees what its rules find on real traffic.
//! *Owns* the account, its bounds and what of it may be shown. *Must not know* how it is printed.
//!
//! What is shown of operations without a key are texts with digits in them that tell of nobody and are no secret; nothing else
//! is kept of any value:
//!
//! | where it stands | what is kept |
//! |---|---|
//! | below a name that hides it (`{"token": {"value": 17}}`) | nothing |
//! | in a list (`$.params[0]`), or below a name that is itself a value (`$.by_customer.{}`) | the place: no name says what it is |
//! | anywhere else | the place and the value |
//!
//! Where keys leave as hashes only, no value is kept at all. Names come from traffic, too: what cannot be a program's word is
//! `{}`, no place is longer than 160 characters, and nothing in it steers a terminal.

use std::collections::BTreeMap;

use super::compile::{RuleId, Rules};
use super::document::{At, Visitor};
use crate::operation::amqp::ActionKind;
use crate::operation::{Detail, Operation};
use crate::privacy::{NO_KEYS, hides, is_telling, redact, steers};
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
/// Characters of a place.
const MAX_PLACE: usize = 160;
/// Longest value that may be a number of something.
const MAX_NUMBER: usize = 40;
/// Longest name that may be a program's word.
const MAX_WORD: usize = 64;
/// Digits of such a name (`line2`, `base64`); with more of them it numbers something.
const MAX_WORD_DIGITS: usize = 2;
/// Words of such a name: `Номер заказа`.
const MAX_WORDS: usize = 3;

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
    /// Places, with their values where these may be shown.
    shown: Vec<(String, Option<String>)>,
}

impl Notes {
    pub(super) fn take(&mut self, rule: RuleId, place: Place, value: &str) {
        let note = (rule, place, clean(value, MAX_LABEL));
        if self.taken.len() < MAX_NOTES && !self.taken.contains(&note) {
            self.taken.push(note);
        }
    }

    /// A value under `name` at a place of this kind.
    pub(super) fn show(&mut self, kind: &str, name: &str, value: &str) {
        let value = value.trim();
        if self.shown.len() >= MAX_NOTES || !is_number(value) || is_telling(value) || hides(name, value) {
            return;
        }
        // `id[]`, `lines[0]`: a member of a list has no name of its own.
        let is_listed = name
            .strip_suffix(']')
            .and_then(|name| name.rsplit_once('['))
            .is_some_and(|(_, inner)| inner.bytes().all(|byte| byte.is_ascii_digit()));
        let is_named = is_word(name) && !is_listed;
        self.note(format!("{kind} {}", word(name)), value, is_named);
    }

    /// The segments of a path that a span would show.
    pub(super) fn show_path(&mut self, path: &str) {
        for segment in redact::path(path, NO_KEYS).split('/') {
            let segment = segment.split(';').next().unwrap_or("");
            if is_number(segment) && !is_telling(segment) {
                self.note("path segment".to_owned(), segment, true);
            }
        }
    }

    fn note(&mut self, place: String, value: &str, is_shown: bool) {
        if self.shown.len() < MAX_NOTES {
            self.shown.push((clean(&place, MAX_PLACE), is_shown.then(|| value.to_owned())));
        }
    }
}

/// A text from traffic for a terminal: at most so many characters.
fn clean(text: &str, max_chars: usize) -> String {
    let mut chars = text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c });
    let mut out: String = chars.by_ref().take(max_chars).collect();
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// What a name is shown as.
fn word(name: &str) -> &str {
    if is_word(name) { name } else { "{}" }
}

/// A program may have given the name: it is no value, such as an address, a number or a sentence.
fn is_word(name: &str) -> bool {
    let is_part = |c: char| {
        c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '$' | '#' | '№' | '[' | ']' | ' ')
    };
    name.len() <= 2 * MAX_WORD
        && name.chars().count() <= MAX_WORD
        && name.trim_start_matches(['@', '$', '_']).starts_with(|c: char| c.is_alphabetic() || c == '№')
        && name.trim_start_matches('@').chars().all(is_part)
        && name.bytes().filter(u8::is_ascii_digit).count() <= MAX_WORD_DIGITS
        && name.split_whitespace().count() <= MAX_WORDS
        && !is_telling(name)
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
        let value = value.trim();
        if self.shown.len() >= MAX_NOTES || !is_number(value) || is_telling(value) {
            return;
        }
        let mut place = "$".to_owned();
        let mut is_named = false;
        for at in path {
            // A place that is too long is cut in any case: a document chooses how deep it is.
            let is_full = place.len() > MAX_PLACE * 4;
            match at {
                At::Name(name) => {
                    let name = String::from_utf8_lossy(name);
                    // What hides a value hides all that is below it.
                    if hides(&name, value) {
                        return;
                    }
                    is_named = is_word(&name);
                    if !is_full {
                        place.extend([".", word(&name)]);
                    }
                }
                At::Index(index) => {
                    is_named = false;
                    if !is_full {
                        place.push_str(&format!("[{index}]"));
                    }
                }
            }
        }
        self.note(place, value, is_named);
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
            examples.add(value.as_deref().filter(|_| shows_values), label);
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
            // Whatever looks like an address goes, though a span shows the name of a queue that does.
            let target = format!("{exchange}:{key}");
            format!("{verb} {}", shape(&redact::text(&target, NO_KEYS)))
        }
        Detail::Postgres(statement) => match statement.text.as_deref().map(sql::summary) {
            Some(summary) if !summary.is_empty() => summary,
            _ => "statement without text".to_owned(),
        },
    };
    clean(&label, MAX_LABEL)
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

    /// What is shown of one operation without a key: its label, and `place=values` of each place.
    fn shown_of(detail: Detail) -> (String, Vec<String>) {
        let mut explanation = Explanation::new(true);
        explanation.add(&defaults(), &op(detail));
        let (label, nameless) = explanation.nameless.first_key_value().expect("no key");
        let places = nameless.shown.iter();
        (label.clone(), places.map(|(place, e)| format!("{place}={}", e.values.join(","))).collect())
    }

    #[test]
    fn nothing_is_shown_that_a_name_anywhere_above_it_hides() {
        for (body, expected) in [
            (r#"{"password": {"value": "abc123"}, "n": 5}"#, &["$.n=5"][..]),
            (r#"{"user": {"Token": [{"v": "abc123"}]}}"#, &[]),
            (r#"{"passwords": ["abc123"]}"#, &[]),
            // Used for both: plain words may be shown, and no other.
            (r#"{"state": "Zq9xY1", "magic": {"x": "Zq9xY1"}, "page": "Zq9"}"#, &["$.page=Zq9"]),
            // A list's members have no names.
            (
                r#"{"method": "login", "params": ["db1", "u2", "pa55word"]}"#,
                &["$.params[0]=", "$.params[1]=", "$.params[2]="],
            ),
            (r#"[[17, "pa55word"], {"retries": 3}]"#, &["$[0][0]=", "$[0][1]=", "$[1].retries=3"]),
            // Names that are values.
            (
                r#"{"by": {"jane@example.org": 17, "+7 916 123-45-67": 5, "4111111111111111": 6, "SO-1234": {"n": 7}}}"#,
                &["$.by.{}=", "$.by.{}.n=7"],
            ),
        ] {
            assert_eq!(shown_of(http(request("POST", "/rpc", body))).1, expected, "{body}");
        }
        let (label, shown) = shown_of(http(request(
            "GET",
            "/reset/Zq057x/a/AKIAABCDEFGHIJKLMNO1?state=Zq9xY1&jane@example.org=7&n[]=5&a[pin]=1234&m=4",
            "",
        )));
        assert_eq!(label, "GET /reset/REDACTED/a/REDACTED");
        assert_eq!(shown, ["query m=4", "query n[]=", "query {}="]);
    }

    #[test]
    fn labels_and_places_are_safe_to_print() {
        let send = |exchange: &str, key: &str| {
            let publish = crate::operation::amqp::Publish {
                exchange: exchange.to_owned(),
                routing_key: key.to_owned(),
                ..crate::operation::amqp::Publish::default()
            };
            let kind = ActionKind::Publish(publish);
            shown_of(Detail::Amqp(Box::new(crate::operation::amqp::Action { channel: 1, vhost: None, kind })))
                .0
        };
        assert_eq!(send("mail", "jane@example.org"), "publish mail:REDACTED");
        assert_eq!(send("", "celery.17"), "publish :celery.{}");
        let (_, shown) = shown_of(http(request("POST", "/x", r#"{"a\u001b[2J\u202eb": 17, "n": 5}"#)));
        assert_eq!(shown, ["$.n=5", "$.{}="]);
        let deep = format!("{}17{}", r#"{"abcdefghijklmnopqrstuvwxyz":"#.repeat(60), "}".repeat(60));
        let (_, shown) = shown_of(http(request("POST", "/x", &deep)));
        assert!(shown[0].chars().count() <= MAX_PLACE + 4, "{}", shown[0]);
        assert_eq!(clean("a\u{1b}[31m\u{202e}b", 9), "a\u{fffd}[31m\u{fffd}b");
    }

    #[test]
    fn where_keys_are_hashed_no_value_is_kept() {
        let explanation = explained(false);
        let all =
            explanation.found.values().chain(explanation.nameless.values().flat_map(|n| n.shown.values()));
        assert!(all.clone().count() > 0 && all.clone().all(|examples| examples.values.is_empty()));
    }
}
