//! A journey and the time of day → where the order is now, why, and when that may change.
//!
//! The first reason that applies is given: an end, then a failure, then what is lost, then who waits, then nothing special.
//! Absence is never taken for evidence unless presence is usual (see [`Usual`]).
//!
//! Long because every reason has its condition here, one after the other in the order in which they apply.

use serde::{Deserialize, Serialize};

use super::usually::{Usually, usually};
use super::{Certainty, Change, Disagreement, Incident, Journey, LEASE, Message, OpenWork, Record, stages};
use crate::facts::{At, FactId, Sent, Settled, TroubleKind, Work};
use crate::model::{Model, Usual};
use crate::time::{MINUTE, SECOND};

/// How an order is, in one of seven words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Moving,
    /// For a person, within the limit.
    Waiting,
    Stuck,
    Lost,
    Failed,
    Finished,
    /// Nothing is known of any status, and nothing happens.
    Quiet,
}

impl Outcome {
    pub const ALL: [Outcome; 7] = [
        Outcome::Moving,
        Outcome::Waiting,
        Outcome::Stuck,
        Outcome::Lost,
        Outcome::Failed,
        Outcome::Finished,
        Outcome::Quiet,
    ];

    /// As the API and the store write it.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Moving => "moving",
            Outcome::Waiting => "waiting",
            Outcome::Stuck => "stuck",
            Outcome::Lost => "lost",
            Outcome::Failed => "failed",
            Outcome::Finished => "finished",
            Outcome::Quiet => "quiet",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

/// What is to be said about an order at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub outcome: Outcome,
    /// Since when it is so.
    pub since: At,
    pub reason: Reason,
    /// What proves it.
    pub evidence: Vec<FactId>,
    /// At this time the verdict may be another one, if nothing happens before.
    pub due: Option<At>,
    /// What other orders do that are where this one is.
    pub usual: Option<Usually>,
}

/// A status and the record that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Says {
    pub service: String,
    pub collection: String,
    pub status: String,
    pub at: At,
    pub certainty: Certainty,
}

/// Why an order is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Reason {
    Finished {
        says: Says,
        took_micros: i64,
    },
    /// A status says that it ended badly; the failure nearest before it, where one was seen.
    Refused {
        says: Says,
        by: Option<Box<Incident>>,
    },
    /// Something failed and nothing followed.
    Broke {
        by: Box<Incident>,
        says: Option<Says>,
    },
    /// A consumer took a message and never said what became of it.
    NotSettled {
        service: String,
        queue: String,
        since: At,
        attempts: u32,
    },
    /// A service waits for something that does not come.
    Hangs {
        service: String,
        /// What it was asked to do.
        operation: String,
        on: Hang,
        since: At,
    },
    /// A message lies in a queue.
    InQueue {
        /// The queue, or the destination of a message of which no queue is known.
        queue: String,
        since: At,
        /// Who takes from it, and how many messages it has, where that is known.
        consumers: Option<u32>,
        depth: Option<u32>,
    },
    Lost(Lost),
    /// One system is further than another one knows.
    Disagree {
        ahead: Says,
        behind: Says,
    },
    SomebodysTurn {
        who: String,
        stage: String,
        since: At,
        limit_micros: Option<i64>,
    },
    NoProgress {
        since: At,
        says: Option<Says>,
    },
    /// Who looked at the services where it was is silent: what was so before need not be so.
    NotSeen {
        node: String,
        since: At,
        /// When the other was so.
        at: At,
        before: Box<Reason>,
    },
    Moving {
        stage: Option<String>,
        since: At,
    },
    Nothing,
}

/// What a service waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hang {
    /// Another one's answer; empty where that is not known.
    Answer(String),
    /// Its database.
    Database,
    /// Nothing that can be seen: it has not answered.
    Itself,
}

/// How a message was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Lost {
    /// No queue wanted it.
    Returned { service: String, destination: String, at: At },
    /// The broker refused it.
    Refused { service: String, destination: String, at: At },
    /// Sent, and taken by nobody, where messages are usually seen to be taken.
    NotTaken { service: String, destination: String, at: At },
    /// Rejected, and no status says what follows.
    Rejected { service: String, queue: String, at: At, dead_letter: Option<String> },
    /// A system was told of a status of an order it does not have.
    NoSuchOrder { service: String, status: String, at: At },
}

/// The verdict at `now`. `now` before the last fact is that fact's time: a clock that was set back judges nothing away.
pub fn verdict(journey: &Journey, model: &Model, usual: &Usual, now: At) -> Verdict {
    let now = now.max(journey.last);
    let Some(agent) = usual.blind(now, journey.services()) else { return seen(journey, model, usual, now) };
    // What can be told is what was so when somebody looked.
    let at = agent.at.max(journey.last);
    let verdict = seen(journey, model, usual, at);
    let (node, since) = (agent.node.clone(), agent.at);
    match verdict.reason {
        // What a status ended stays ended.
        Reason::Finished { .. } | Reason::Refused { .. } | Reason::Nothing => verdict,
        before => Verdict {
            reason: Reason::NotSeen { node, since, at, before: Box::new(before) },
            due: verdict.due.map(|due| due.max(now.after(MINUTE))),
            usual: None,
            ..verdict
        },
    }
}

/// The verdict at `now`, where all that happens is seen.
fn seen(journey: &Journey, model: &Model, usual: &Usual, now: At) -> Verdict {
    let mut verdict = finished(journey, model)
        .or_else(|| refused(journey, model))
        .or_else(|| hangs(journey, usual, now))
        .or_else(|| broke(journey, model, now))
        .or_else(|| not_settled(journey, model, now))
        .or_else(|| lost(journey, model, usual, now))
        .or_else(|| disagree(journey, model, now))
        .or_else(|| turn(journey, model, now))
        .or_else(|| no_progress(journey, model, now))
        .unwrap_or_else(|| moving(journey));
    // What a status ends stays ended until another fact comes.
    let ended = matches!(verdict.reason, Reason::Finished { .. } | Reason::Refused { .. });
    verdict.due = due(journey, model, usual, now).filter(|_| !ended);
    verdict.usual = usually(&verdict.reason, &verdict.evidence, journey, model, usual);
    verdict
}

fn says(record: &Record, change: &Change) -> Says {
    Says {
        service: record.service.clone(),
        collection: record.collection.clone(),
        status: change.to.clone(),
        at: change.at,
        certainty: change.certainty,
    }
}

/// The main record ended well, or all did.
pub(super) fn finished(journey: &Journey, model: &Model) -> Option<Verdict> {
    let ends_well = |record: &Record| {
        record.current().is_some_and(|now| model.is_final(&record.service, &record.collection, &now.to))
    };
    let furthest = journey.records.iter().find(|record| ends_well(record))?;
    let main = journey.records.first()?;
    let none_bad = journey
        .records
        .iter()
        .all(|record| record.current().is_none_or(|now| !stages::is_bad(record, now, model)));
    if !none_bad || !(ends_well(main) || journey.records.iter().all(ends_well)) {
        return None;
    }
    let record = if ends_well(main) { main } else { furthest };
    let change = record.current()?;
    Some(Verdict {
        outcome: Outcome::Finished,
        since: change.at,
        reason: Reason::Finished { says: says(record, change), took_micros: change.at.since(journey.began) },
        evidence: change.evidence.clone(),
        due: None,
        usual: None,
    })
}

/// Some record says that it ended badly: the first one that said so.
pub(super) fn refused(journey: &Journey, model: &Model) -> Option<Verdict> {
    let bad = journey.records.iter().filter_map(|record| {
        let now = record.current().filter(|now| stages::is_bad(record, now, model))?;
        Some((record, now))
    });
    let (record, change) = bad.min_by_key(|(_, change)| change.at)?;
    let cause = journey
        .incidents
        .iter()
        .filter(|incident| !incident.passed_on && incident.at <= change.at.after(SECOND))
        .max_by_key(|incident| incident.at);
    let mut evidence = change.evidence.clone();
    evidence.extend(cause.iter().flat_map(|cause| cause.evidence.iter().copied()));
    Some(Verdict {
        outcome: Outcome::Failed,
        since: change.at,
        reason: Reason::Refused { says: says(record, change), by: cause.cloned().map(Box::new) },
        evidence,
        due: None,
        usual: None,
    })
}

/// Something goes on, for longer than it usually does: of several what went on first, or what that waits for.
fn hangs(journey: &Journey, usual: &Usual, now: At) -> Option<Verdict> {
    let hanging = |open: &&OpenWork| open.is_known(now) && open.hangs_from(usual) <= now;
    let first = journey.open.iter().find(hanging)?;
    let open = journey.open.iter().filter(hanging).find(|open| first.waits_for(open)).unwrap_or(first);
    let (service, operation, since) = (open.service.clone(), open.operation.clone(), open.since);
    let hangs = |on| Reason::Hangs { service: service.clone(), operation: operation.clone(), on, since };
    let reason = match &open.work {
        Work::Call { peer } => hangs(Hang::Answer(usual.named(peer).to_owned())),
        Work::Statement { .. } => hangs(Hang::Database),
        Work::Answer | Work::Other | Work::Over => hangs(Hang::Itself),
        Work::Handling { queue, redelivered } => Reason::NotSettled {
            service: service.clone(),
            queue: queue.clone(),
            since,
            attempts: if *redelivered { 2 } else { 1 },
        },
        Work::Waiting { queue, destination, consumers, depth } => Reason::InQueue {
            queue: queue.as_ref().unwrap_or(destination).clone(),
            since,
            consumers: *consumers,
            depth: *depth,
        },
    };
    let evidence = open.publish.into_iter().chain([open.evidence]).collect();
    Some(Verdict { outcome: Outcome::Stuck, since, reason, evidence, due: None, usual: None })
}

/// The last thing that happened is a failure, and nobody tried again for a while.
fn broke(journey: &Journey, model: &Model, now: At) -> Option<Verdict> {
    let incident = journey
        .incidents
        .iter()
        .filter(|incident| !incident.passed_on && incident.resolved.is_none())
        .filter(|incident| !has_reason_of_its_own(incident))
        .max_by_key(|incident| incident.last_at)?;
    let later =
        journey.records.iter().flat_map(|record| &record.changes).any(|change| change.at > incident.last_at);
    let until = incident.last_at.after(model.retry_within.0);
    if later || now < until {
        return None;
    }
    let says = latest(journey).map(|(record, change)| says(record, change));
    Some(Verdict {
        outcome: Outcome::Failed,
        since: incident.last_at,
        reason: Reason::Broke { by: Box::new(incident.clone()), says },
        evidence: incident.evidence.clone(),
        due: None,
        usual: None,
    })
}

/// Writes that found no row and messages that were rejected are losses, which say more.
fn has_reason_of_its_own(incident: &Incident) -> bool {
    let code = incident.trouble.code.as_str();
    code == "no_row" || (incident.trouble.kind == TroubleKind::Message && matches!(code, "reject" | "nack"))
}

/// The last change of all records.
fn latest(journey: &Journey) -> Option<(&Record, &Change)> {
    let current = journey.records.iter().filter_map(|record| Some((record, record.current()?)));
    current.max_by_key(|(_, change)| change.at)
}

/// Nothing of the order happened after `at`, up to a second of things that were under way.
fn is_last(journey: &Journey, at: At) -> bool {
    journey.progress.is_none_or(|progress| progress <= at.after(SECOND))
}

fn not_settled(journey: &Journey, model: &Model, now: At) -> Option<Verdict> {
    let (message, handling) = journey
        .messages
        .iter()
        .flat_map(|message| message.handled.iter().map(move |handling| (message, handling)))
        .filter(|(_, handling)| handling.settled == Settled::Unknown)
        .max_by_key(|(_, handling)| handling.to)?;
    let again = message.handled.iter().any(|other| {
        other.from > handling.from && !matches!(other.settled, Settled::Unknown | Settled::PutBack)
    });
    if again || !is_last(journey, handling.to) || now < handling.to.after(model.retry_within.0) {
        return None;
    }
    let attempts = message.handled.iter().filter(|other| other.service == handling.service).count();
    Some(Verdict {
        outcome: Outcome::Stuck,
        since: handling.from,
        reason: Reason::NotSettled {
            service: handling.service.clone(),
            queue: handling.queue.clone(),
            since: handling.from,
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        },
        evidence: vec![handling.evidence],
        due: None,
        usual: None,
    })
}

fn lost(journey: &Journey, model: &Model, usual: &Usual, now: At) -> Option<Verdict> {
    let of_message = journey.messages.iter().filter_map(|message| message_lost(journey, message, usual));
    let no_order = journey.incidents.iter().filter(|incident| incident.trouble.code == "no_row");
    let no_order = no_order.map(|incident| {
        let how = Lost::NoSuchOrder {
            service: incident.service.clone(),
            status: incident.trouble.message.clone(),
            at: incident.last_at,
        };
        (incident.last_at, how, incident.evidence.clone())
    });
    let (at, how, evidence) = of_message.chain(no_order).max_by_key(|(at, ..)| *at)?;
    if !is_last(journey, at) || now < at.after(model.retry_within.0) {
        return None;
    }
    let reason = Reason::Lost(how);
    Some(Verdict { outcome: Outcome::Lost, since: at, reason, evidence, due: None, usual: None })
}

fn message_lost(journey: &Journey, message: &Message, usual: &Usual) -> Option<(At, Lost, Vec<FactId>)> {
    let (service, destination, at) = (message.service.clone(), message.destination.clone(), message.at);
    let evidence = message.evidence.clone();
    match message.sent {
        Sent::Returned => return Some((at, Lost::Returned { service, destination, at }, evidence)),
        Sent::Refused => return Some((at, Lost::Refused { service, destination, at }, evidence)),
        Sent::Confirmed | Sent::Unconfirmed => {}
    }
    let Some(last) = message.handled.iter().max_by_key(|handling| handling.to) else {
        // Who saw it wait knows where it is.
        let waits =
            journey.open.iter().any(|open| open.publish.is_some_and(|id| message.evidence.contains(&id)));
        let expected = message.waited.is_empty() && !waits && usual.is_expected(&message.destination);
        return expected.then_some((at, Lost::NotTaken { service, destination, at }, evidence));
    };
    if last.settled != Settled::Rejected {
        return None;
    }
    let dead =
        journey.messages.iter().flat_map(|other| &other.waited).find(|wait| {
            wait.died.as_ref().is_some_and(|died| died.queue == last.queue) && wait.to >= last.from
        });
    let how = Lost::Rejected {
        service: last.service.clone(),
        queue: last.queue.clone(),
        at: last.to,
        dead_letter: dead.map(|wait| wait.queue.clone()),
    };
    Some((last.to, how, vec![last.evidence]))
}

/// A record is at an end or a further stage, and another one, which follows it otherwise, is not there after a while.
fn disagree(journey: &Journey, model: &Model, now: At) -> Option<Verdict> {
    let Disagreement { ahead, behind } = journey.disagreement(model)?;
    let since = ahead.1.at;
    let until = since.after(model.agree_within.0);
    let mut evidence = ahead.1.evidence.clone();
    evidence.extend(&behind.1.evidence);
    (now >= until).then(|| Verdict {
        outcome: Outcome::Stuck,
        since,
        reason: Reason::Disagree { ahead: says(ahead.0, ahead.1), behind: says(behind.0, behind.1) },
        evidence,
        due: None,
        usual: None,
    })
}

/// A stage at which a person has to act.
fn turn(journey: &Journey, model: &Model, now: At) -> Option<Verdict> {
    let mark = journey.stage()?;
    let stage = model.stages.iter().find(|stage| stage.name == mark.name)?;
    let (who, since) = (stage.waits_for.clone()?, mark.at?);
    let due = stage.limit.map(|limit| since.after(limit.0));
    let late = due.is_some_and(|due| now >= due);
    Some(Verdict {
        outcome: if late { Outcome::Stuck } else { Outcome::Waiting },
        since,
        reason: Reason::SomebodysTurn {
            who,
            stage: stage.name.clone(),
            since,
            limit_micros: stage.limit.map(|limit| limit.0),
        },
        evidence: mark.evidence.clone(),
        due: None,
        usual: None,
    })
}

fn limit(journey: &Journey, model: &Model) -> i64 {
    let stage = journey.stage().and_then(|mark| model.stages.iter().find(|stage| stage.name == mark.name));
    stage.and_then(|stage| stage.limit).unwrap_or(model.stuck_after).0
}

fn no_progress(journey: &Journey, model: &Model, now: At) -> Option<Verdict> {
    let since = journey.progress?;
    let last = latest(journey);
    (now >= since.after(limit(journey, model))).then(|| Verdict {
        outcome: Outcome::Stuck,
        since,
        reason: Reason::NoProgress { since, says: last.map(|(record, change)| says(record, change)) },
        evidence: last.map(|(_, change)| change.evidence.clone()).unwrap_or_default(),
        due: None,
        usual: None,
    })
}

fn moving(journey: &Journey) -> Verdict {
    if journey.progress.is_none() {
        return Verdict {
            outcome: Outcome::Quiet,
            since: journey.began,
            reason: Reason::Nothing,
            evidence: Vec::new(),
            due: None,
            usual: None,
        };
    }
    let mark = journey.stage();
    let since = mark.and_then(|mark| mark.at).unwrap_or(journey.began);
    Verdict {
        outcome: Outcome::Moving,
        since,
        reason: Reason::Moving { stage: mark.map(|mark| mark.name.clone()), since },
        evidence: mark.map(|mark| mark.evidence.clone()).unwrap_or_default(),
        due: None,
        usual: None,
    }
}

/// The next time after `now` at which a rule above may say something else about the same facts.
fn due(journey: &Journey, model: &Model, usual: &Usual, now: At) -> Option<At> {
    let open = journey.open.iter().flat_map(|open| [open.hangs_from(usual), open.told.after(LEASE)]);
    let failures = journey.incidents.iter().map(|incident| incident.last_at);
    let messages = journey.messages.iter().flat_map(|message| {
        std::iter::once(message.at).chain(message.handled.iter().map(|handling| handling.to))
    });
    let retries = failures.chain(messages).map(|at| at.after(model.retry_within.0));
    let agree = journey.disagreement(model).map(|found| found.ahead.1.at.after(model.agree_within.0));
    let limit = limit(journey, model);
    let stuck = journey.progress.map(|progress| progress.after(limit));
    let turn = journey.stage().and_then(|mark| mark.at).map(|at| at.after(limit));
    retries.chain(agree).chain(stuck).chain(turn).chain(open).filter(|due| *due > now).min()
}
