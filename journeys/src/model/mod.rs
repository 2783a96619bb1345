//! What a house says of its orders: names of systems, stages, limits. A file of YAML → [`Model`].
//!
//! Everything here adds to what is found without it; nothing given switches a built-in off. Pure.
//! *Must not know* facts: it names services, tables and statuses as texts.

mod usual;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use self::usual::{Agent, Kind, Times, Usual, What, class, shape};
use crate::time::{DAY, HOUR, MINUTE, SECOND};

/// Statuses that end an order well, where no stage says so.
const FINAL: &[&str] = &["finished", "completed", "complete", "done", "delivered", "closed", "paid_out"];
/// Statuses that end it badly: these words, alone or as the last word of several (`upload_failed`).
const BAD: &[&str] =
    &["failed", "rejected", "refused", "cancelled", "canceled", "error", "declined", "expired"];

/// A model, or what there is without one ([`Model::default`]).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// Systems by the short name the rest of the file uses.
    pub records: BTreeMap<String, RecordModel>,
    /// In the order in which an order passes them.
    pub stages: Vec<StageModel>,
    /// Without progress for so long an order is stuck, where its stage sets no limit.
    pub stuck_after: Limit,
    /// A failure is the order's state when nothing follows it for so long: a retry may be under way.
    pub retry_within: Limit,
    /// Systems may differ about an order for so long.
    pub agree_within: Limit,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            stages: Vec::new(),
            stuck_after: Limit(DAY),
            retry_within: Limit(MINUTE),
            agree_within: Limit(5 * MINUTE),
        }
    }
}

/// A system and how to recognise its record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordModel {
    #[serde(rename = "match")]
    pub matches: Match,
    #[serde(default)]
    pub title: Title,
}

/// A service, and one of its tables or all of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    pub service: String,
    pub table: Option<String>,
}

/// A name for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Title {
    pub ru: String,
    pub en: String,
}

/// One stage of an order's way.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageModel {
    pub name: String,
    #[serde(default)]
    pub title: Title,
    /// Which statuses of which systems are this stage.
    pub from: BTreeMap<String, Vec<String>>,
    /// Who has to act (`seller`, `operator`, …).
    pub waits_for: Option<String>,
    /// Longer than this is too long.
    pub limit: Option<Limit>,
    /// Nothing follows.
    #[serde(default, rename = "final")]
    pub is_final: bool,
    /// It ends badly.
    #[serde(default, rename = "bad")]
    pub is_bad: bool,
    /// An order comes to it once: a system that writes it again may have done the work twice.
    #[serde(default)]
    pub once: bool,
}

/// A span of time in microseconds, written as `30s`, `15m`, `4h`, `2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit(pub i64);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse_limit(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is no time: write a number and s, m, h or d, such as 30m"
            ))
        })
    }
}

/// `30s`, `15m`, `4h`, `2d`.
pub(crate) fn parse_limit(text: &str) -> Option<Limit> {
    let text = text.trim();
    let unit = text.chars().next_back()?;
    let number: u32 = text.strip_suffix(unit)?.trim().parse().ok()?;
    let micros = match unit {
        's' => SECOND,
        'm' => MINUTE,
        'h' => HOUR,
        'd' => DAY,
        _ => return None,
    };
    Some(Limit(i64::from(number).checked_mul(micros)?)).filter(|limit| limit.0 > 0)
}

/// A model that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("cannot read the model of orders: {0}")]
    Yaml(String),
    #[error("stage `{stage}` takes statuses of `{record}`, which `records` does not name; it names {known}")]
    UnknownRecord { stage: String, record: String, known: String },
    #[error("stage `{0}` is there twice")]
    Twice(String),
}

impl Model {
    /// Reads and checks the text of a file. Unknown keys are refused with their line and column.
    pub fn parse(yaml: &str) -> Result<Self, ModelError> {
        let model: Self =
            serde_saphyr::from_str(yaml).map_err(|error| ModelError::Yaml(error.to_string()))?;
        for (at, stage) in model.stages.iter().enumerate() {
            if model.stages.iter().take(at).any(|other| other.name == stage.name) {
                return Err(ModelError::Twice(stage.name.clone()));
            }
            if let Some(record) = stage.from.keys().find(|record| !model.records.contains_key(*record)) {
                let known: Vec<&str> = model.records.keys().map(String::as_str).collect();
                return Err(ModelError::UnknownRecord {
                    stage: stage.name.clone(),
                    record: record.clone(),
                    known: known.join(", "),
                });
            }
        }
        Ok(model)
    }

    /// The short name of a record.
    pub fn record(&self, service: &str, collection: &str) -> Option<(&str, &RecordModel)> {
        let fits = |found: &&RecordModel| {
            found.matches.service == service
                && found.matches.table.as_ref().is_none_or(|table| table == collection || collection == "api")
        };
        self.records.iter().find(|(_, record)| fits(record)).map(|(name, record)| (name.as_str(), record))
    }

    /// The stage, by its index, that a status of a record is.
    pub fn stage(&self, service: &str, collection: &str, status: &str) -> Option<usize> {
        let (name, _) = self.record(service, collection)?;
        self.stages.iter().position(|stage| {
            stage.from.get(name).is_some_and(|statuses| statuses.iter().any(|one| one == status))
        })
    }

    /// A stage as it may be written down in clear and leave the house: the house's own words as they are, a status that some
    /// system wrote as [`shape`] leaves it.
    pub fn in_clear(&self, stage: &str) -> String {
        let own = self.stages.iter().any(|one| one.name == stage);
        if own { stage.to_owned() } else { shape(stage) }
    }

    /// Whether a status ends an order badly.
    pub fn is_bad(&self, service: &str, collection: &str, status: &str) -> bool {
        match self.stage(service, collection, status).and_then(|at| self.stages.get(at)) {
            Some(stage) => stage.is_bad,
            None => {
                let status = status.to_ascii_lowercase();
                BAD.iter().any(|bad| status.rsplit(['_', '-', ' ', '.']).next() == Some(bad))
            }
        }
    }

    /// Whether a status ends an order well.
    pub fn is_final(&self, service: &str, collection: &str, status: &str) -> bool {
        match self.stage(service, collection, status).and_then(|at| self.stages.get(at)) {
            Some(stage) => stage.is_final && !stage.is_bad,
            None => FINAL.contains(&status.to_ascii_lowercase().as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUSE: &str = "
records:
  shop: { match: { service: shop, table: orders }, title: { ru: Магазин, en: Shop } }
stages:
  - { name: created, title: { ru: Создан, en: Created }, from: { shop: [created] }, limit: 30m }
  - { name: finished, from: { shop: [finished] }, final: true }
";

    #[test]
    fn a_status_of_a_record_is_a_stage() {
        let model = Model::parse(HOUSE).expect("the house's model is right");
        assert_eq!(model.stage("shop", "orders", "finished"), Some(1));
        assert_eq!(model.stage("shop", "other", "finished"), None);
        assert_eq!(model.stages.first().and_then(|stage| stage.limit), Some(Limit(30 * MINUTE)));
        assert!(model.is_final("shop", "orders", "finished"));
        assert!(model.is_bad("shop", "orders", "upload_failed"), "words end an order without a model, too");
        assert!(!model.is_bad("shop", "orders", "failed_over"));
    }

    #[test]
    fn a_stage_leaves_the_house_as_the_house_calls_it_or_without_numbers_and_addresses() {
        let model = Model::parse("stages: [{ name: step 2, from: {} }]").expect("a model");
        for (stage, expected) in
            [("step 2", "step 2"), ("step 3", "step #"), ("wait for anna@example.org", "wait for #")]
        {
            assert_eq!(model.in_clear(stage), expected);
        }
    }

    #[test]
    fn the_example_that_is_shipped_is_right() {
        let model =
            Model::parse(include_str!("../../../deploy/journeys/model.yaml")).expect("the demo's model");
        assert_eq!(model.stages.len(), 9);
        assert_eq!(model.stuck_after, Limit(DAY));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (given, named) in [
            ("recrods: {}", "recrods"),
            ("stages:\n  - { name: a, from: { shop: [x] } }", "`shop`"),
            ("stuck_after: soon", "`soon` is no time"),
            ("stages:\n  - { name: a, from: {} }\n  - { name: a, from: {} }", "twice"),
        ] {
            let error = Model::parse(given).expect_err(given).to_string();
            assert!(error.contains(named), "{given}: {error}");
        }
    }
}
