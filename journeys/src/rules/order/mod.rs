//! One order and one rule at a time → how they stand, and when that may change by itself.
//!
//! A full look at every order at every moment would find nothing earlier than the times that are named here: `next`, or the
//! verdict's own `due`, is never later than the first moment at which the answer is another one, unless a fact comes.

use super::limit::{Known, Limited};
use super::{Calendar, Entered, Filter, Held, Measured, OrderWhen, Pattern, Standing};
use crate::facts::{At, Person, PersonRole, Sent, Work};
use crate::fold::{
    self, Change, Journey, LEASE, Lost, OpenWork, Outcome, Reason, Record, StageState, Verdict,
};
use crate::model::{Kind, Model, Usual, shape};
use crate::time::{HOUR, MINUTE};

/// A limit that is learned may be another one tomorrow: the last look before it is due is so long before.
const CLOSEST_LOOK: i64 = MINUTE;
/// And where nothing is learned yet, somebody looks again after so long, and then after twice the time.
const FIRST_LOOK: i64 = HOUR;

/// An order as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub journey: &'a Journey,
    pub verdict: &'a Verdict,
    pub model: &'a Model,
    pub usual: &'a Usual,
}

/// How an order stands to a rule at `now`. `now` before the last fact is that fact's time.
pub fn stand(when: &OrderWhen, filter: &Filter, order: &Subject<'_>, now: At) -> Standing {
    if !fits(filter, order.journey) {
        return Standing::NEVER;
    }
    // What time alone makes of an order is not known while nobody looks.
    let now = match &order.verdict.reason {
        Reason::NotSeen { at, .. } => *at,
        _ => now.max(order.journey.last),
    };
    match when {
        OrderWhen::StageAge { stages, limit, calendar } => {
            stage_age(order, stages, *limit, calendar.as_ref(), now)
        }
        OrderWhen::NoProgress { stages, limit, calendar } => {
            no_progress(order, stages, *limit, calendar.as_ref(), now)
        }
        OrderWhen::MessageWaits { queue, limit } => message_waits(order, queue, *limit, now),
        OrderWhen::QueueWithoutConsumer { queue, limit_micros } => {
            queue_without_consumer(order, queue, *limit_micros, now)
        }
        OrderWhen::Lost { lasts } => lost(order, *lasts, now),
        OrderWhen::Enters { what, lasts } => enters(order, what, *lasts, now),
        OrderWhen::Backwards { lasts } => happened(backwards(order), *lasts, now),
        OrderWhen::Skipped { stage, before, lasts } => {
            happened(skipped(order, stage, before.as_deref()), *lasts, now)
        }
        OrderWhen::Disagree { records, limit_micros } => disagree(order, records, *limit_micros, now),
        OrderWhen::Repeated { record, to, lasts } => {
            happened(repeated(order, record.as_deref(), to), *lasts, now)
        }
        OrderWhen::UnknownStatus { lasts } => happened(unknown_status(order), *lasts, now),
        OrderWhen::EntersQueue { queue, lasts } => happened(enters_queue(order, queue), *lasts, now),
    }
}

fn fits(filter: &Filter, journey: &Journey) -> bool {
    let has = |role: PersonRole, wanted: &[String]| {
        let is_one = |person: &Person| person.role == role && wanted.contains(&person.id);
        wanted.is_empty() || journey.people.iter().any(is_one)
    };
    has(PersonRole::Partner, &filter.partner)
        && has(PersonRole::Seller, &filter.seller)
        && has(PersonRole::User, &filter.user)
        && has(PersonRole::Operator, &filter.operator)
        && (filter.namespace.is_empty()
            || journey.keys.iter().any(|key| filter.namespace.contains(&key.namespace)))
}

/// Of an order that has ended, failed or is lost no rule says that it is late as well.
fn goes_on(verdict: &Verdict) -> bool {
    !matches!(verdict.outcome, Outcome::Finished | Outcome::Failed | Outcome::Lost)
}

fn stage_age(
    order: &Subject<'_>,
    stages: &[Pattern],
    limit: Limited,
    calendar: Option<&Calendar>,
    now: At,
) -> Standing {
    let Some((stage, since)) = here(order).filter(|(stage, _)| is_among(stages, stage)) else {
        return Standing::NEVER;
    };
    if !goes_on(order.verdict) {
        return Standing::NEVER;
    }
    let known = limit.at_stage(Some(stage), order.model, order.usual);
    aged(known, limit.is_learned(), since, calendar, || order.model.in_clear(stage), now)
}

fn no_progress(
    order: &Subject<'_>,
    stages: &[Pattern],
    limit: Limited,
    calendar: Option<&Calendar>,
    now: At,
) -> Standing {
    let Some(since) = order.journey.progress.filter(|_| goes_on(order.verdict)) else {
        return Standing::NEVER;
    };
    let stage = order.journey.stage().map(|mark| mark.name.as_str());
    if !stage.map_or(is_among(stages, ""), |stage| is_among(stages, stage)) {
        return Standing::NEVER;
    }
    let known = limit.at_stage(stage, order.model, order.usual);
    let place = || stage.map(|stage| order.model.in_clear(stage)).unwrap_or_default();
    aged(known, limit.is_learned(), since, calendar, place, now)
}

fn is_among(stages: &[Pattern], stage: &str) -> bool {
    stages.is_empty() || stages.iter().any(|pattern| pattern.fits(stage))
}

/// The stage where the order is, and since when: work that is done again begins again.
fn here<'a>(order: &Subject<'a>) -> Option<(&'a str, At)> {
    let mark = order.journey.stage().filter(|mark| mark.state == StageState::Current)?;
    let is_here = |record: &Record, change: &Change| {
        let known = order.model.stage(&record.service, &record.collection, &change.to);
        match known.and_then(|at| order.model.stages.get(at)) {
            Some(stage) => stage.name == mark.name,
            None => change.to == mark.name,
        }
    };
    let records = order.journey.records.iter();
    let since = records.filter_map(|record| record.current().filter(|now| is_here(record, now)));
    let since = since.map(|change| change.at).min().or(mark.at)?;
    Some((mark.name.as_str(), since))
}

/// Something lasts since `since`; beyond the limit it is too long.
fn aged(
    limit: Known,
    is_learned: bool,
    since: At,
    calendar: Option<&Calendar>,
    place: impl FnOnce() -> String,
    now: At,
) -> Standing {
    let limit_micros = match limit {
        Known::Micros(micros) => micros,
        Known::NotYet => return Standing::Sleeps { next: Some(now.after(now.since(since).max(FIRST_LOOK))) },
        Known::None => return Standing::NEVER,
    };
    let due = calendar.map_or(since.after(limit_micros), |calendar| calendar.after(since, limit_micros));
    if now < due {
        let left = due.since(now);
        // Half of the way each time: what is learned meanwhile is not missed by more than that.
        let next = if is_learned { now.after((left / 2).max(CLOSEST_LOOK).min(left)) } else { due };
        return Standing::Quiet { next: Some(next) };
    }
    let measured = Measured::Age { limit_micros };
    Standing::Holds(Held { since, due, until: None, place: place(), measured })
}

fn message_waits(order: &Subject<'_>, queue: &Pattern, limit: Limited, now: At) -> Standing {
    let waits = order.journey.messages.iter().filter(|message| {
        matches!(message.sent, Sent::Confirmed | Sent::Unconfirmed)
            && message.waited.is_empty()
            && message.handled.is_empty()
            && queue.fits(&message.destination)
            && order.usual.is_expected(&message.destination)
    });
    let Some(first) = waits.min_by_key(|message| message.at) else { return Standing::NEVER };
    let place = shape(&first.destination);
    let known = limit.of(order.usual, |what| what.kind == Kind::Queue && what.of == place);
    aged(known, limit.is_learned(), first.at, None, || place.clone(), now)
}

/// Somebody told, lately enough, that a message lies in a queue and nobody takes from it.
fn queue_without_consumer(order: &Subject<'_>, queue: &Pattern, limit_micros: i64, now: At) -> Standing {
    let in_queue = |open: &OpenWork| match &open.work {
        Work::Waiting { queue: name, destination, consumers: Some(0), .. } if open.is_known(now) => {
            let name = name.as_ref().unwrap_or(destination);
            queue.fits(name).then(|| (open.since, shape(name), open.told))
        }
        _ => None,
    };
    let waits = order.journey.open.iter().filter_map(in_queue).min();
    let Some((since, place, told)) = waits.filter(|_| goes_on(order.verdict)) else { return Standing::NEVER };
    let standing = aged(Known::Micros(limit_micros), false, since, None, || place, now);
    match standing {
        Standing::Holds(held) => Standing::Holds(Held { until: Some(told.after(LEASE)), ..held }),
        quiet => quiet,
    }
}

fn lost(order: &Subject<'_>, lasts: i64, now: At) -> Standing {
    match reason(order) {
        // That a message is not taken is `message_waits`.
        Reason::Lost(Lost::NotTaken { .. }) => soon(order),
        Reason::Lost(_) => happened(Some((began(order), place(order))), lasts, now),
        _ => soon(order),
    }
}

fn enters(order: &Subject<'_>, what: &Entered, lasts: i64, now: At) -> Standing {
    match what {
        Entered::Stage(wanted) => {
            let records = order.journey.records.iter().filter_map(|record| {
                let now = record.current()?;
                let at = order.model.stage(&record.service, &record.collection, &now.to);
                let stage = at.and_then(|at| order.model.stages.get(at)).map(|stage| stage.name.as_str());
                (stage.unwrap_or(now.to.as_str()) == wanted).then_some(now.at)
            });
            let at = records.min().map(|at| (at, order.model.in_clear(wanted)));
            happened(at, lasts, now)
        }
        Entered::Outcome(wanted) if order.verdict.outcome == *wanted => {
            happened(Some((began(order), place(order))), lasts, now)
        }
        Entered::Outcome(_) => soon(order),
    }
}

/// The verdict may be another one then.
fn soon(order: &Subject<'_>) -> Standing {
    Standing::Quiet { next: order.verdict.due }
}

/// When the verdict became what it is: some follow only when nothing else happened for a while.
fn began(order: &Subject<'_>) -> At {
    let (since, model) = (order.verdict.since, order.model);
    if let Some(open) = hanging(order) {
        return open.hangs_from(order.usual);
    }
    match reason(order) {
        // It was over, and nobody said what became of it.
        Reason::NotSettled { .. } => {
            let handled = order.journey.messages.iter().flat_map(|message| &message.handled);
            let mut left = handled.filter(|handling| order.verdict.evidence.contains(&handling.evidence));
            left.next().map_or(since, |handling| handling.to).after(model.retry_within.0)
        }
        Reason::Broke { .. } | Reason::Lost(_) => since.after(model.retry_within.0),
        Reason::Disagree { .. } => since.after(model.agree_within.0),
        Reason::SomebodysTurn { limit_micros, .. } if order.verdict.outcome == Outcome::Stuck => {
            since.after(limit_micros.unwrap_or(0))
        }
        Reason::NoProgress { .. } => {
            let stage = order.journey.stage();
            let stage = stage.and_then(|mark| model.stages.iter().find(|stage| stage.name == mark.name));
            since.after(stage.and_then(|stage| stage.limit).unwrap_or(model.stuck_after).0)
        }
        _ => since,
    }
}

/// The work in which the order hangs, where that is the verdict: it is too long only from a time on.
fn hanging<'a>(order: &Subject<'a>) -> Option<&'a OpenWork> {
    let hangs =
        matches!(reason(order), Reason::Hangs { .. } | Reason::InQueue { .. } | Reason::NotSettled { .. });
    let is_proof = |open: &&OpenWork| hangs && order.verdict.evidence.contains(&open.evidence);
    order.journey.open.iter().find(is_proof)
}

/// Why the order is as it is, or was when somebody looked.
fn reason<'a>(order: &Subject<'a>) -> &'a Reason {
    match &order.verdict.reason {
        Reason::NotSeen { before, .. } => before,
        reason => reason,
    }
}

/// Where the verdict is about.
fn place(order: &Subject<'_>) -> String {
    match reason(order) {
        Reason::Hangs { service, .. } | Reason::Lost(Lost::NoSuchOrder { service, .. }) => service.clone(),
        Reason::InQueue { queue, .. } | Reason::Lost(Lost::Rejected { queue, .. }) => shape(queue),
        Reason::Lost(
            Lost::Returned { destination, .. }
            | Lost::Refused { destination, .. }
            | Lost::NotTaken { destination, .. },
        ) => shape(destination),
        Reason::Refused { says, by: None } => says.service.clone(),
        Reason::Refused { by: Some(by), .. } | Reason::Broke { by, .. } => by.service.clone(),
        Reason::NotSettled { queue, .. } => shape(queue),
        Reason::Disagree { behind, .. } => behind.service.clone(),
        Reason::SomebodysTurn { stage, .. } => order.model.in_clear(stage),
        Reason::Finished { .. }
        | Reason::NoProgress { .. }
        | Reason::NotSeen { .. }
        | Reason::Moving { .. }
        | Reason::Nothing => {
            let stage = order.journey.stage();
            stage.map(|mark| order.model.in_clear(&mark.name)).unwrap_or_default()
        }
    }
}

/// Something that is told for a while after it happened.
fn happened(event: Option<(At, String)>, lasts: i64, now: At) -> Standing {
    let Some((at, place)) = event else { return Standing::NEVER };
    let until = at.after(lasts);
    if now >= until {
        return Standing::NEVER;
    }
    if now < at {
        return Standing::Quiet { next: Some(at) };
    }
    Standing::Holds(Held { since: at, due: at, until: Some(until), place, measured: Measured::Fact })
}

/// The last time that some system put the order back.
fn backwards(order: &Subject<'_>) -> Option<(At, String)> {
    let back = |record: &Record| -> Option<At> {
        let rank = |change: &Change| {
            let at = order.model.stage(&record.service, &record.collection, &change.to)?;
            order.model.stages.get(at).filter(|stage| !stage.is_bad).map(|_| at)
        };
        let is_bad = |change: &Change| order.model.is_bad(&record.service, &record.collection, &change.to);
        let changes = record.changes.iter().enumerate().skip(1);
        let back = changes.filter(|(at, change)| {
            let Some(before) = at.checked_sub(1).and_then(|before| record.changes.get(before)) else {
                return false;
            };
            // Whoever tries again after a failure goes forward.
            match (rank(before), rank(change)) {
                (Some(before), Some(after)) => after < before,
                _ if is_bad(before) || is_bad(change) => false,
                // Nobody says which is further: a status that it had before is no step on.
                (None, None) => record.changes.iter().take(*at).any(|earlier| earlier.to == change.to),
                _ => false,
            }
        });
        back.map(|(_, change)| change.at).max()
    };
    let records = order.journey.records.iter();
    records.filter_map(|record| back(record).map(|at| (at, record.service.clone()))).max()
}

fn skipped(order: &Subject<'_>, stage: &str, before: Option<&str>) -> Option<(At, String)> {
    let marks = &order.journey.stages;
    let at = marks.iter().position(|mark| mark.name == stage && mark.state == StageState::Skipped)?;
    let from = match before {
        Some(before) => marks.iter().position(|mark| mark.name == before)?,
        None => at + 1,
    };
    let reached = marks.iter().skip(from.max(at + 1)).filter_map(|mark| mark.at).min()?;
    Some((reached, order.model.in_clear(stage)))
}

fn disagree(order: &Subject<'_>, records: &[String], limit_micros: i64, now: At) -> Standing {
    let is_meant = |record: &Record| {
        let name = order.model.record(&record.service, &record.collection).map(|(name, _)| name);
        records.is_empty() || records.iter().any(|wanted| Some(wanted.as_str()) == name)
    };
    let pairs = order.journey.disagreements(order.model).into_iter();
    let pairs = pairs.filter(|pair| is_meant(pair.ahead.0) && is_meant(pair.behind.0));
    let Some(first) = pairs.min_by_key(|pair| (pair.ahead.1.at, pair.behind.0.name())) else {
        return Standing::NEVER;
    };
    aged(Known::Micros(limit_micros), false, first.ahead.1.at, None, || first.behind.0.service.clone(), now)
}

/// The second time that a system came to a status, or wrote it again.
fn repeated(order: &Subject<'_>, wanted: Option<&str>, to: &str) -> Option<(At, String)> {
    let again = order.journey.records.iter().filter_map(|record| {
        let name = order.model.record(&record.service, &record.collection).map(|(name, _)| name);
        let is_meant = wanted.is_none_or(|wanted| Some(wanted) == name || wanted == record.service);
        let meant = record.changes.iter().filter(|change| is_meant && change.to == to);
        fold::several(meant).map(|(_, last)| (last, record.service.clone()))
    });
    again.max()
}

/// The last time that a system which the model names came to a status which it does not.
fn unknown_status(order: &Subject<'_>) -> Option<(At, String)> {
    let model = order.model;
    let unknown = order.journey.records.iter().filter_map(|record| {
        let (name, _) = model.record(&record.service, &record.collection)?;
        // Of a system that is in no stage the model says nothing.
        let is_used = model.stages.iter().any(|stage| stage.from.contains_key(name));
        let is_known = |change: &Change| {
            let (service, collection, status) = (&record.service, &record.collection, &change.to);
            model.stage(service, collection, status).is_some()
                || model.is_bad(service, collection, status)
                || model.is_final(service, collection, status)
        };
        let last = record
            .changes
            .iter()
            .filter(|change| is_used && !is_known(change))
            .max_by_key(|change| change.at)?;
        Some((last.at, record.service.clone()))
    });
    unknown.max()
}

fn enters_queue(order: &Subject<'_>, queue: &Pattern) -> Option<(At, String)> {
    let messages = order.journey.messages.iter();
    let came = messages.flat_map(|message| {
        let waited = message.waited.iter().map(|wait| (wait.from, &wait.queue));
        waited.chain(message.handled.iter().map(|handling| (handling.from, &handling.queue)))
    });
    came.filter(|(_, name)| queue.fits(name)).map(|(at, name)| (at, shape(name))).max()
}

#[cfg(test)]
mod tests;
