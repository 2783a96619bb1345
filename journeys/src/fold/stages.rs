//! Records → the bar of stages.
//!
//! Each record's *current* value is a stage, and the order's stage is the furthest of them: a late fact cannot move an
//! order back, work that is done again does. No clock of one system is compared with that of another.

use super::{Change, Record, StageMark, StageState};
use crate::model::Model;

pub(super) fn marks(records: &[Record], model: &Model) -> Vec<StageMark> {
    let known = records.iter().any(|record| stage_of(record, record.current(), model).is_some());
    if known { of_model(records, model) } else { of_main_record(records, model) }
}

fn stage_of(record: &Record, change: Option<&Change>, model: &Model) -> Option<usize> {
    model.stage(&record.service, &record.collection, &change?.to)
}

/// Some record ended badly.
pub(super) fn is_bad(record: &Record, change: &Change, model: &Model) -> bool {
    model.is_bad(&record.service, &record.collection, &change.to)
}

fn of_model(records: &[Record], model: &Model) -> Vec<StageMark> {
    let good = |at: &usize| model.stages.get(*at).is_some_and(|stage| !stage.is_bad);
    let failed = records.iter().any(|record| record.current().is_some_and(|now| is_bad(record, now, model)));
    let current =
        records.iter().filter_map(|record| stage_of(record, record.current(), model)).filter(good).max();
    // A record that says `rejected` no longer says how far the order came.
    let ever = records.iter().flat_map(|record| {
        record.changes.iter().filter_map(move |change| stage_of(record, Some(change), model))
    });
    let furthest = if failed { ever.filter(good).max() } else { current };
    let mut marks = Vec::new();
    for (at, stage) in model.stages.iter().enumerate().filter(|(at, _)| good(at)) {
        let first = records
            .iter()
            .flat_map(|record| record.changes.iter().map(move |change| (record, change)))
            .filter(|(record, change)| stage_of(record, Some(change), model) == Some(at))
            .map(|(_, change)| change)
            .min_by_key(|change| change.at);
        let state = match furthest {
            Some(here) if at == here && failed => StageState::Failed,
            Some(here) if at == here && stage.is_final => StageState::Done,
            Some(here) if at == here => StageState::Current,
            Some(here) if at < here && first.is_some() => StageState::Done,
            Some(here) if at < here => StageState::Skipped,
            _ => StageState::Ahead,
        };
        marks.push(mark(&stage.name, state, first));
    }
    marks
}

/// The statuses of the record that was there first, in the order in which it had them.
fn of_main_record(records: &[Record], model: &Model) -> Vec<StageMark> {
    let Some(main) = records.first() else { return Vec::new() };
    let failed = records.iter().any(|record| record.current().is_some_and(|now| is_bad(record, now, model)));
    let mut values: Vec<&Change> = Vec::new();
    for change in main.changes.iter().filter(|change| !is_bad(main, change, model)) {
        if !values.iter().any(|other| other.to == change.to) {
            values.push(change);
        }
    }
    let current = main.current().map(|now| now.to.as_str());
    let here =
        values.iter().position(|change| Some(change.to.as_str()) == current).or(values.len().checked_sub(1));
    let mut marks = Vec::new();
    for (at, change) in values.into_iter().enumerate() {
        let is_final = model.is_final(&main.service, &main.collection, &change.to);
        let state = match here {
            Some(here) if at == here && failed => StageState::Failed,
            Some(here) if at == here && !is_final => StageState::Current,
            Some(here) if at <= here => StageState::Done,
            // It was further and went back.
            _ => StageState::Ahead,
        };
        marks.push(mark(&change.to, state, Some(change)));
    }
    marks
}

fn mark(name: &str, state: StageState, first: Option<&Change>) -> StageMark {
    StageMark {
        name: name.to_owned(),
        state,
        at: first.map(|change| change.at),
        evidence: first.map(|change| change.evidence.clone()).unwrap_or_default(),
    }
}
