//! Facts and journeys → how long things took, to learn from.

use super::{Journey, Outcome, StageMark, verdict};
use crate::facts::{At, Fact, Settled, Step, Unseen};
use crate::model::{Kind, Model, What, shape};

/// How long something took, and whether it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Length {
    pub what: What,
    /// When it was over.
    pub at: At,
    pub micros: i64,
    pub failed: bool,
}

/// Work by which its length is learned, whether it is over or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing<'a> {
    Answers,
    Calls(&'a str),
    Stores(&'a str),
    Writes(&'a str),
    Reads(&'a str),
    Waits(&'a str),
    Handles(&'a str),
}

impl Doing<'_> {
    /// What its length is counted as. Services and hosts are a house's own; what a tracer or a service names freely goes
    /// without what may be a number.
    pub(super) fn what(self, service: &str) -> What {
        let service = service.to_owned();
        let (kind, of, with) = match self {
            Doing::Answers => (Kind::Served, service, String::new()),
            Doing::Calls(peer) => (Kind::Called, service, peer.to_owned()),
            Doing::Stores(bucket) => (Kind::Called, service, shape(bucket)),
            Doing::Writes(collection) => (Kind::Wrote, service, shape(collection)),
            Doing::Reads(collection) => (Kind::Read, service, shape(collection)),
            Doing::Waits(queue) => (Kind::Queue, shape(queue), String::new()),
            Doing::Handles(queue) => (Kind::Taken, shape(queue), service),
        };
        What { kind, of, with }
    }
}

/// What one operation tells of its service, its queue and whom it worked with.
pub fn length(fact: &Fact) -> Option<Length> {
    let doing = match &fact.step {
        Step::Served { .. } => Doing::Answers,
        Step::Called { peer, .. } => Doing::Calls(peer),
        Step::Stored { bucket, .. } => Doing::Stores(bucket),
        Step::Wrote { collection, .. } => Doing::Writes(collection),
        Step::Read { collection } => Doing::Reads(collection),
        Step::Waited { queue, .. } => Doing::Waits(queue),
        Step::Handled { queue, .. } => Doing::Handles(queue),
        Step::Published { .. } | Step::Ended { .. } | Step::Other | Step::Open { .. } => return None,
    };
    let died = matches!(&fact.step, Step::Waited { died: Some(_), .. });
    let rejected = matches!(&fact.step, Step::Handled { settled: Settled::Rejected | Settled::PutBack, .. });
    Some(Length {
        what: doing.what(&fact.service),
        at: fact.to,
        micros: fact.to.since(fact.from),
        failed: fact.trouble.is_some() || died || rejected,
    })
}

/// What of an operation was not seen.
pub fn unseen(fact: &Fact) -> Option<Length> {
    let why = match fact.unseen? {
        Unseen::Gap => "gap",
        Unseen::Cut => "cut",
        Unseen::Open => "open",
        Unseen::Start => "start",
    };
    Some(Length {
        what: What { kind: Kind::Unseen, of: fact.service.clone(), with: why.to_owned() },
        at: fact.to,
        micros: fact.to.since(fact.from),
        failed: false,
    })
}

/// Stages of one way that are told apart.
const MAX_STAGES: usize = 20;
/// Between the stages of a way.
pub const THEN: &str = " → ";

/// How long the order was at each stage that it left, and, of one that ended, its way and how long all of it took.
pub fn lengths(journey: &Journey, model: &Model) -> Vec<Length> {
    let mut reached: Vec<(At, &StageMark)> =
        journey.stages.iter().filter_map(|mark| Some((mark.at?, mark))).collect();
    // Stable: of two stages at one time the model's order decides.
    reached.sort_by_key(|(at, _)| *at);
    let stages = reached.iter().zip(reached.iter().skip(1)).map(|((from, left), (to, next))| Length {
        what: What { kind: Kind::Stage, of: model.in_clear(&left.name), with: model.in_clear(&next.name) },
        at: *to,
        micros: to.since(*from),
        failed: false,
    });
    let whole = verdict::finished(journey, model).map(|end| Length {
        what: What { kind: Kind::Whole, of: String::new(), with: String::new() },
        at: end.since,
        micros: end.since.since(journey.began),
        failed: false,
    });
    let end = verdict::finished(journey, model).or_else(|| verdict::refused(journey, model));
    let way = end.map(|end| {
        let names: Vec<String> =
            reached.iter().take(MAX_STAGES).map(|(_, mark)| model.in_clear(&mark.name)).collect();
        Length {
            what: What { kind: Kind::Way, of: names.join(THEN), with: end.outcome.name().to_owned() },
            at: end.since,
            micros: end.since.since(journey.began),
            failed: end.outcome != Outcome::Finished,
        }
    });
    stages.chain(whole).chain(way).collect()
}
