//! The text of a file as it is written, with where each field stands.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::RulesError;
use crate::model::{Limit, Title};
use crate::rules::calendar::CalendarText;
use crate::rules::channel::{ChannelText, RouteText};
use crate::rules::heartbeat::HeartbeatText;
use crate::rules::limit::NumberOrText;
use crate::rules::{Filter, Level, Limited, Severity};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileText {
    pub(super) rules: Vec<Spanned<RuleText>>,
    pub(super) calendars: BTreeMap<String, Spanned<CalendarText>>,
    pub(super) channels: BTreeMap<String, Spanned<ChannelText>>,
    pub(super) routes: Vec<Spanned<RouteText>>,
    pub(super) pages: Option<Spanned<String>>,
    pub(super) heartbeat: Option<Spanned<HeartbeatText>>,
}

pub(super) type Given<T> = Option<Spanned<T>>;

/// All fields that some kind of rule has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RuleText {
    pub(super) id: String,
    pub(super) when: Given<String>,
    pub(super) off: Given<bool>,
    pub(super) severity: Given<Severity>,
    #[serde(rename = "for")]
    pub(super) hold: Given<Limit>,
    pub(super) keep_firing_for: Given<Limit>,
    pub(super) lasts: Given<Limit>,
    pub(super) filter: Given<Filter>,
    pub(super) notify: Given<Vec<String>>,
    pub(super) text: Given<Title>,
    pub(super) runbook: Given<String>,
    pub(super) stage: Given<String>,
    pub(super) stages: Given<Vec<String>>,
    pub(super) limit: Given<Limited>,
    pub(super) calendar: Given<String>,
    pub(super) queue: Given<String>,
    pub(super) outcome: Given<String>,
    pub(super) before: Given<String>,
    pub(super) records: Given<Vec<String>>,
    pub(super) record: Given<String>,
    pub(super) to: Given<String>,
    pub(super) place: Given<PlaceText>,
    pub(super) event: Given<String>,
    pub(super) above: Given<AboveText>,
    pub(super) below: Given<Level>,
    pub(super) min: Given<u64>,
    pub(super) window: Given<Limit>,
    pub(super) quantile: Given<f64>,
    pub(super) service: Given<String>,
    pub(super) route: Given<String>,
}

/// `mes`, or `{ outside: "api.*" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum PlaceText {
    Service(String),
    Of(PlaceOf),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceOf {
    pub(super) outside: String,
}

/// A share, a length or a number: what it is, the kind of rule decides.
#[derive(Clone, Debug)]
pub(super) struct AboveText(String);

impl<'de> Deserialize<'de> for AboveText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(match NumberOrText::deserialize(from)? {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        }))
    }
}

impl AboveText {
    /// Read as what the rule wants.
    pub(super) fn read<'de, T: Deserialize<'de>>(&self) -> Result<T, String> {
        let value: serde_json::Value = match self.0.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => self.0.clone().into(),
        };
        T::deserialize(value).map_err(|error| error.to_string())
    }
}

/// Calls a macro with each field that a kind of rule may or may not have, and its name.
macro_rules! fields {
    ($each:ident) => {
        $each! {
            (lasts, "lasts"), (stage, "stage"), (stages, "stages"), (limit, "limit"), (calendar, "calendar"),
            (queue, "queue"), (outcome, "outcome"), (before, "before"), (records, "records"), (record, "record"),
            (to, "to"), (place, "place"), (event, "event"), (above, "above"), (below, "below"), (min, "min"),
            (window, "window"), (quantile, "quantile"), (service, "service"), (route, "route")
        }
    };
}

impl RuleText {
    /// The fields of `over`, and of `self` where it gives none.
    pub(super) fn under(self, over: RuleText) -> RuleText {
        macro_rules! both {
            ($(($field:ident, $name:literal)),*) => {
                RuleText {
                    id: over.id,
                    when: over.when.or(self.when),
                    off: over.off.or(self.off),
                    severity: over.severity.or(self.severity),
                    hold: over.hold.or(self.hold),
                    keep_firing_for: over.keep_firing_for.or(self.keep_firing_for),
                    filter: over.filter.or(self.filter),
                    notify: over.notify.or(self.notify),
                    text: over.text.or(self.text),
                    runbook: over.runbook.or(self.runbook),
                    $($field: over.$field.or(self.$field),)*
                }
            };
        }
        fields!(both)
    }

    /// Fields that are given and that the kind does not have.
    pub(super) fn beside(&self, known: &[&str]) -> Option<(&'static str, Option<Place>)> {
        macro_rules! find {
            ($(($field:ident, $name:literal)),*) => {
                [$((self.$field.is_some(), $name, self.$field.as_ref().map(Place::of)),)*]
            };
        }
        let given = fields!(find);
        given
            .into_iter()
            .find(|(given, name, _)| *given && !known.contains(name))
            .map(|(_, name, at)| (name, at))
    }
}

/// Where something stands in a file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Place {
    pub(super) fn of<T>(given: &Spanned<T>) -> Self {
        Self { line: given.referenced.line(), column: given.referenced.column() }
    }

    pub(super) fn says(self, message: impl Into<String>) -> RulesError {
        RulesError { line: self.line, column: self.column, message: message.into() }
    }
}

pub(super) fn parse(yaml: &str) -> Result<FileText, RulesError> {
    serde_saphyr::from_str(yaml).map_err(|error| {
        let error = error.without_snippet();
        let place = error
            .location()
            .map_or(Place { line: 1, column: 1 }, |at| Place { line: at.line(), column: at.column() });
        place.says(match error {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
            serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => {
                unknown("value", variant, expected)
            }
            other => other.to_string(),
        })
    })
}

/// `unknown key `limt`; did you mean `limit`?`
pub(super) fn unknown(what: &str, given: &str, known: &[&str]) -> String {
    let scored = known.iter().map(|name| (strsim::normalized_damerau_levenshtein(given, name), name));
    let nearest = scored.filter(|(score, _)| *score >= 0.55).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, name)) => format!("unknown {what} `{given}`; did you mean `{name}`?"),
        None => format!("unknown {what} `{given}`; known are {}", known.join(", ")),
    }
}

/// The rules of a text, field by field as they are written there.
pub(super) fn written(yaml: &str) -> BTreeMap<String, Written> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Rules {
        rules: Vec<Written>,
    }
    let rules: Rules = serde_saphyr::from_str(yaml).unwrap_or_default();
    let id = |rule: &Written| rule.get("id").and_then(|id| id.as_str()).map(str::to_owned);
    rules.rules.into_iter().filter_map(|rule| Some((id(&rule)?, rule))).collect()
}

pub(super) type Written = serde_json::Map<String, serde_json::Value>;

/// A field a line.
pub(super) fn lines(rule: &Written) -> String {
    let line = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    };
    rule.iter().map(line).collect::<Vec<_>>().join("\n")
}
