//! Records and a house's word that a stage comes once → a status that an order had again.

use super::{Change, Journey, Record};
use crate::facts::At;
use crate::model::Model;

/// A status that an order has once was written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again<'a> {
    pub record: &'a Record,
    pub status: &'a str,
    pub first: At,
    pub last: At,
}

/// The first one of them: what is written after it may only be what others were told.
pub fn again<'a>(journey: &'a Journey, model: &Model) -> Option<Again<'a>> {
    let changes = journey.records.iter().flat_map(|record| record.changes.iter().map(move |of| (record, of)));
    let of_once = changes.filter(|(record, change)| {
        let stage = model.stage(&record.service, &record.collection, &change.to);
        stage.and_then(|at| model.stages.get(at)).is_some_and(|stage| stage.once)
    });
    let times = of_once.filter_map(|(record, change)| {
        let (first, last) = several(record.changes.iter().filter(|other| other.to == change.to))?;
        Some(Again { record, status: &change.to, first, last })
    });
    times.min_by_key(|again| again.last)
}

/// The first and the last time that one of these was written, if there is more than one.
pub fn several<'a>(changes: impl Iterator<Item = &'a Change>) -> Option<(At, At)> {
    let times = changes.flat_map(|change| std::iter::once(change.at).chain(change.again.iter().copied()));
    let (mut count, mut span) = (0, None);
    for at in times {
        count += 1;
        let (first, last) = span.unwrap_or((at, at));
        span = Some((first.min(at), last.max(at)));
    }
    span.filter(|_| count > 1)
}
