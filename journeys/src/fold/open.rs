//! Facts → work that was not over when it was told last.
//!
//! Whoever tells of open work tells again while it goes on. What is not told again within a [`LEASE`] is not known any more:
//! its end was not seen, which is no end.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::lengths::Doing;
use crate::facts::{At, Fact, FactId, Step, Work};
use crate::model::{Usual, What};
use crate::time::MINUTE;

/// Open work is told every minute: who was not heard of for three may be gone.
pub const LEASE: i64 = 3 * MINUTE;
/// So many times as long as nearly all of its kind takes is no hanging yet.
const PATIENCE: i64 = 2;
const NEARLY_ALL: u64 = 95;

/// Work that was not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWork {
    pub service: String,
    /// The span's name.
    pub operation: String,
    pub work: Work,
    pub since: At,
    /// When it was told last.
    pub told: At,
    /// The message's publish, of a wait in a queue.
    pub publish: Option<FactId>,
    pub evidence: FactId,
}

impl OpenWork {
    /// It is known to go on at `now`.
    pub fn is_known(&self, now: At) -> bool {
        now.since(self.told) < LEASE
    }

    /// When it takes longer than it usually may; at once where nothing is usual.
    pub fn hangs_from(&self, usual: &Usual) -> At {
        let times = self.what().and_then(|what| usual.times.get(&what));
        let enough = times.filter(|times| times.usual().is_some());
        self.since.after(enough.map_or(0, |times| times.percentile(NEARLY_ALL).saturating_mul(PATIENCE)))
    }

    /// What its length will be counted as.
    fn what(&self) -> Option<What> {
        let doing = match &self.work {
            Work::Answer => Doing::Answers,
            Work::Call { peer } => Doing::Calls(peer),
            Work::Statement { collection, writes: true } => Doing::Writes(collection),
            Work::Statement { collection, writes: false } => Doing::Reads(collection),
            Work::Handling { queue, .. } => Doing::Handles(queue),
            Work::Waiting { queue, .. } => Doing::Waits(queue.as_ref()?),
            Work::Other => return None,
        };
        Some(doing.what(&self.service))
    }

    /// How long such work usually takes, where that is known.
    pub fn usually(&self, usual: &Usual) -> Option<i64> {
        usual.times.get(&self.what()?)?.usual()
    }
}

pub(super) fn open(facts: &[Fact]) -> Vec<OpenWork> {
    // Of two that wait for each other the lower one is what hangs.
    let waited_for: BTreeSet<FactId> =
        facts.iter().filter(|fact| fact.is_open()).filter_map(Fact::parent_id).collect();
    let work = |fact: &Fact| {
        let Step::Open { work } = &fact.step else { return None };
        let publish = matches!(work, Work::Waiting { .. }).then(|| fact.parent_id()).flatten();
        let is_over = publish.is_some_and(|publish| is_taken(facts, publish, work));
        (!is_over && !waited_for.contains(&fact.id)).then(|| OpenWork {
            service: fact.service.clone(),
            operation: fact.name.clone(),
            work: work.clone(),
            since: fact.from,
            told: fact.to,
            publish,
            evidence: fact.id,
        })
    };
    let mut open: Vec<OpenWork> = facts.iter().filter_map(work).collect();
    open.sort_by_key(|open| (open.since, open.evidence));
    open
}

/// A message left the queue in which it waited: its time there is over, or somebody works on it.
fn is_taken(facts: &[Fact], publish: FactId, work: &Work) -> bool {
    let Work::Waiting { queue, .. } = work else { return false };
    facts.iter().filter(|fact| fact.parent_id() == Some(publish)).any(|fact| {
        let from = match &fact.step {
            Step::Waited { queue, .. }
            | Step::Handled { queue, .. }
            | Step::Open { work: Work::Handling { queue, .. } } => queue,
            _ => return false,
        };
        // A copy may lie in another queue of the same exchange.
        queue.as_ref().is_none_or(|queue| from == queue || from.ends_with(&format!(":{queue}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Sent, Settled};
    use crate::fold::{Hang, Lost, Reason, Usually, gather, journey, verdict};
    use crate::model::{Kind, Model};
    use crate::testing::fact;
    use crate::time::SECOND;

    /// Work of `service` that was not over, from second `from` on, when it was told at second `told`.
    fn goes_on(id: u64, parent: Option<u64>, service: &str, (from, told): (i64, i64), work: Work) -> Fact {
        Fact {
            to: At(told * SECOND),
            parent: parent.map(u64::to_be_bytes),
            name: "POST /rates".to_owned(),
            ..fact("4711", id, from, service, Step::Open { work })
        }
    }

    fn call(id: u64, told: i64) -> Fact {
        goes_on(id, None, "crm", (10, told), Work::Call { peer: "api.dpd.ru".to_owned() })
    }

    /// The reason at a second, with nothing usual.
    fn reason_at(facts: &[Fact], second: i64) -> Reason {
        let journey = journey(&gather(facts.to_vec()), &Model::default());
        verdict(&journey, &Model::default(), &Usual::default(), At(second * SECOND)).reason
    }

    #[test]
    fn what_hangs_is_told_until_its_span_comes_in_whichever_order() {
        let hangs = |reason: Reason| match reason {
            Reason::Hangs { service, on: Hang::Answer(peer), since, .. } => Some((service, peer, since)),
            _ => None,
        };
        let expected = Some(("crm".to_owned(), "api.dpd.ru".to_owned(), At(10 * SECOND)));
        for facts in [vec![call(1, 40)], vec![call(1, 40), call(1, 100)], vec![call(1, 100), call(1, 40)]] {
            assert_eq!(hangs(reason_at(&facts, 101)), expected);
        }
        // Not told again, it is not known any more; told again, it is.
        assert_eq!(hangs(reason_at(&[call(1, 40)], 40 + 179)), expected);
        assert_eq!(hangs(reason_at(&[call(1, 40)], 40 + 180)), None);
        assert_eq!(hangs(reason_at(&[call(1, 40), call(1, 100)], 40 + 180)), expected);
        // The span has an end, even where a clock says that it came before the last event.
        let step = Step::Called { peer: "api.dpd.ru".to_owned(), answer: Some(200), changes: true };
        let over =
            Fact { to: At(99 * SECOND), name: "POST /rates".to_owned(), ..fact("4711", 1, 10, "crm", step) };
        for facts in [vec![call(1, 100), over.clone()], vec![over, call(1, 100)]] {
            assert_eq!(hangs(reason_at(&facts, 101)), None);
            let journey = journey(&gather(facts), &Model::default());
            assert_eq!((journey.open.len(), journey.progress), (0, Some(At(99 * SECOND))));
        }
    }

    #[test]
    fn the_lowest_of_several_that_wait_for_each_other_is_what_hangs() {
        let answer = goes_on(1, None, "shop", (9, 100), Work::Answer);
        let below = goes_on(
            2,
            Some(1),
            "crm",
            (10, 100),
            Work::Statement { collection: "orders".to_owned(), writes: true },
        );
        let Reason::Hangs { service, on, .. } = reason_at(&[answer.clone(), below], 101) else {
            panic!("it hangs")
        };
        assert_eq!((service.as_str(), on), ("crm", Hang::Database));
        let Reason::Hangs { service, on, .. } = reason_at(&[answer], 101) else { panic!("it hangs") };
        assert_eq!((service.as_str(), on), ("shop", Hang::Itself));
    }

    #[test]
    fn what_usually_takes_as_long_does_not_hang_yet() {
        let mut usual = Usual::default();
        let what = What { kind: Kind::Called, of: "crm".to_owned(), with: "api.dpd.ru".to_owned() };
        usual.add(&what, crate::model::class(60 * SECOND), 30, 0);
        let at = |second: i64, told: i64| {
            let journey = journey(&gather(vec![call(1, told)]), &Model::default());
            verdict(&journey, &Model::default(), &usual, At(second * SECOND))
        };
        let early = at(100, 90);
        assert!(matches!(early.reason, Reason::Moving { .. }), "{early:?}");
        let due = early.due.expect("it may hang later");
        assert!(due > At(120 * SECOND) && due < At(140 * SECOND), "twice as long: {due:?}");
        let late = at(140, 139);
        assert!(matches!(late.reason, Reason::Hangs { .. }), "{late:?}");
        let Some(Usually::Last { micros }) = late.usual else { panic!("{late:?}") };
        assert!((micros - 60 * SECOND).abs() < 4 * SECOND, "{micros}");
        assert_eq!(late.due, Some(At((139 + 180) * SECOND)), "then it is not known any more");
    }

    #[test]
    fn open_work_is_compared_with_what_was_learned_of_the_same_work_when_it_was_over() {
        let queue = || "orders.4711.created".to_owned();
        let (peer, table) = (|| "api.dpd.ru".to_owned(), || "orders_2026".to_owned());
        let pairs = [
            (Work::Answer, Step::Served { answer: Some(200), changes: true }),
            (Work::Call { peer: peer() }, Step::Called { peer: peer(), answer: None, changes: true }),
            (
                Work::Statement { collection: table(), writes: true },
                Step::Wrote { collection: table(), rows: 1, transaction: None },
            ),
            (Work::Statement { collection: table(), writes: false }, Step::Read { collection: table() }),
            (
                Work::Handling { queue: queue(), redelivered: false },
                Step::Handled { queue: queue(), settled: Settled::Acknowledged, redelivered: false },
            ),
            (
                Work::Waiting { queue: Some(queue()), destination: queue(), consumers: None, depth: None },
                Step::Waited { queue: queue(), died: None },
            ),
        ];
        for (work, step) in pairs {
            let over = crate::fold::length(&fact("4711", 1, 10, "crm", step)).expect("a length").what;
            let mut usual = Usual::default();
            usual.add(&over, crate::model::class(60 * SECOND), 30, 0);
            let known = open(&[goes_on(1, None, "crm", (10, 20), work.clone())])[0].usually(&usual);
            assert!(
                known.is_some_and(|micros| (micros - 60 * SECOND).abs() < 4 * SECOND),
                "{work:?}: {known:?}"
            );
        }
    }

    #[test]
    fn a_message_waits_in_its_queue_until_somebody_takes_it_from_there() {
        let sent =
            Step::Published { destination: "orders:order.confirmed".to_owned(), outcome: Sent::Confirmed };
        let sent = fact("4711", 1, 10, "crm", sent);
        let work = Work::Waiting {
            queue: Some("mes.orders".to_owned()),
            destination: "orders:order.confirmed".to_owned(),
            consumers: Some(0),
            depth: Some(7),
        };
        let waits = goes_on(2, Some(1), "crm", (10, 100), work);
        let in_queue = |facts: &[Fact]| match reason_at(facts, 101) {
            Reason::InQueue { queue, since, consumers, depth } => Some((queue, since, consumers, depth)),
            _ => None,
        };
        let expected = Some(("mes.orders".to_owned(), At(10 * SECOND), Some(0), Some(7)));
        assert_eq!(in_queue(&[sent.clone(), waits.clone()]), expected);
        let taken = |id, queue: &str| {
            let step =
                Step::Handled { queue: queue.to_owned(), settled: Settled::Acknowledged, redelivered: false };
            Fact { parent: Some(1_u64.to_be_bytes()), ..fact("4711", id, 90, "mes", step) }
        };
        assert_eq!(in_queue(&[sent.clone(), waits.clone(), taken(3, "mail")]), expected, "a copy of it");
        for queue in ["mes.orders", "orders:order.confirmed:mes.orders"] {
            assert_eq!(in_queue(&[sent.clone(), waits.clone(), taken(3, queue)]), None, "{queue}");
        }
        let works = Work::Handling { queue: "mes.orders".to_owned(), redelivered: true };
        let works = goes_on(4, Some(1), "mes", (95, 100), works);
        let reason = reason_at(&[sent.clone(), waits.clone(), works], 101);
        assert!(matches!(reason, Reason::NotSettled { attempts: 2, .. }), "{reason:?}");
        // Nobody takes it, where messages are usually taken; but where it is, is known, even when nobody tells any more.
        let usual = Usual {
            destinations: [("orders:order.confirmed".to_owned(), (1_000, 1_000))].into(),
            ..Usual::default()
        };
        let lost = |facts: Vec<Fact>| {
            let journey = journey(&gather(facts), &Model::default());
            let reason = verdict(&journey, &Model::default(), &usual, At(400 * SECOND)).reason;
            matches!(reason, Reason::Lost(Lost::NotTaken { .. }))
        };
        assert!(lost(vec![sent.clone()]) && !lost(vec![sent, waits]));
    }
}
