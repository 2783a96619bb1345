//! A journey → the records that contradict each other, and the stage the order is at.

use super::{Change, Journey, Record, StageMark, StageState, stages};
use crate::model::Model;

/// Two records that contradict each other, with what they say now.
#[derive(Clone, Copy, Debug)]
pub struct Disagreement<'a> {
    pub ahead: (&'a Record, &'a Change),
    pub behind: (&'a Record, &'a Change),
}

impl Journey {
    /// The records that contradict each other: one that has had a status which the other has had as well or has not
    /// reached, and is further now. Only statuses that both systems are known to share are compared.
    pub fn disagreement(&self, model: &Model) -> Option<Disagreement<'_>> {
        self.disagreements(model).into_iter().next()
    }

    /// All such pairs.
    pub fn disagreements(&self, model: &Model) -> Vec<Disagreement<'_>> {
        let rank = |record: &Record, change: &Change| {
            let at = model.stage(&record.service, &record.collection, &change.to)?;
            model.stages.get(at).filter(|stage| !stage.is_bad).map(|_| at)
        };
        let ends = |record: &Record, change: &Change| {
            model.is_final(&record.service, &record.collection, &change.to)
                || stages::is_bad(record, change, model)
        };
        let now: Vec<(&Record, &Change)> =
            self.records.iter().filter_map(|record| Some((record, record.current()?))).collect();
        let mut found = Vec::new();
        for ahead in &now {
            for behind in &now {
                let ended = ends(ahead.0, ahead.1) && !ends(behind.0, behind.1);
                // The one behind can say what the one ahead says: otherwise it has no such status, and is right as it is.
                let could = model.record(&behind.0.service, &behind.0.collection).and_then(|(name, _)| {
                    let at = rank(ahead.0, ahead.1)?;
                    model.stages.get(at)?.from.get(name)
                });
                let later = rank(ahead.0, ahead.1) > rank(behind.0, behind.1) && could.is_some();
                if ended || later {
                    found.push(Disagreement { ahead: *ahead, behind: *behind });
                }
            }
        }
        found
    }

    /// The stage the order is at.
    pub fn stage(&self) -> Option<&StageMark> {
        let here = |mark: &&StageMark| matches!(mark.state, StageState::Current | StageState::Failed);
        self.stages
            .iter()
            .find(here)
            .or_else(|| self.stages.iter().rev().find(|mark| mark.state == StageState::Done))
    }
}
