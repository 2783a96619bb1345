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
    let times = journey.records.iter().flat_map(|record| {
        let name = model.record(&record.service, &record.collection).map(|(name, _)| name);
        let of_once = model.stages.iter().filter(|stage| stage.once);
        let statuses = of_once.filter_map(move |stage| stage.from.get(name?)).flatten();
        statuses.filter_map(move |status| {
            let changes = || record.changes.iter().filter(|change| change.to == *status);
            let (first, last) = several(changes())?;
            Some(Again { record, status: &changes().next()?.to, first, last })
        })
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
