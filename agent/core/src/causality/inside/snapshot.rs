//! How a process works, as it has shown → what the next agent goes on with for the same process.
//!
//! *Owns* what of it is worth keeping: the counts that rules are believed by, and which threads work on several things at
//! once. Operations are not: they are over, or were closed by the agent that saw them. *Must not know* which process it is,
//! files.
//!
//! What was in flight while nobody watched is not known, as after lost records: around the change only keys prove something.

use crate::record::{Tgid, Tid};
use serde::{Deserialize, Serialize};

use super::Inside;
use super::thresholds::MAX_THREADS;
use super::trust::{Count, Gap, Signal, Trust};
use crate::time::BootTime;

/// How a process works, as far as keys have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Right and wrong guesses of each kind.
    trust: Trust,
    /// Threads that were seen with several things at once: reading proves less.
    multiplexing: Vec<Tid>,
    /// Counts without names, as earlier agents wrote them.
    #[serde(flatten, skip_serializing)]
    listed: Listed,
}

/// Counts by place instead of by name: what agents wrote until these had names. Only read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Listed {
    layout: u32,
    counts: Vec<(u32, u32)>,
}

impl Listed {
    /// The only layout that is still read, …
    const LAYOUT: u32 = 2;

    /// … and the kinds of guesses in it, in order of their places.
    fn signals() -> impl Iterator<Item = Signal> {
        [
            Signal::Serving,
            Signal::Answers,
            Signal::Answered,
            Signal::ReadAlone,
            Signal::InFlight,
            Signal::SameThreadAnswers,
            Signal::SameThreadReads,
            Signal::Named,
            Signal::NamedInFlight,
            Signal::Facts,
            Signal::Begun,
            Signal::Alone,
            Signal::OneOfOrder,
            Signal::Awaited,
            Signal::AwaitedAtFirst,
        ]
        .into_iter()
        .chain(Gap::all().map(Signal::ReadRequest))
        .chain(Gap::all().map(Signal::ReadResponse))
        .chain(Gap::all().map(Signal::ReadAndReuse))
    }

    /// The same by name. `None`: it is of a layout that is not read any more.
    fn named(&self) -> Option<Trust> {
        if self.layout != Self::LAYOUT || self.counts.len() != Self::signals().count() {
            return None;
        }
        let mut trust = Trust::default();
        for (signal, (right, wrong)) in Self::signals().zip(&self.counts) {
            trust.set(signal, Count { right: *right, wrong: *wrong });
        }
        Some(trust)
    }
}

impl Snapshot {
    /// What it says about guesses. `None`: nothing, or nothing that a process can have shown.
    fn trust(&self) -> Option<Trust> {
        let trust = match self.listed == Listed::default() {
            true => self.trust.clone(),
            false => self.listed.named()?,
        };
        let says_something = !trust.is_empty() || !self.multiplexing.is_empty();
        (says_something && trust.is_possible()).then_some(trust)
    }
}

impl Inside {
    /// What is known of a process. `None`: nothing worth keeping.
    pub fn export(&self, tgid: Tgid) -> Option<Snapshot> {
        let process = self.table.processes.get(&tgid).filter(|process| !process.ended)?;
        let threads = process.threads.iter().filter(|(_, thread)| thread.multiplexes);
        let mut multiplexing: Vec<Tid> = threads.map(|(tid, _)| *tid).collect();
        multiplexing.sort_unstable();
        let is_known = !multiplexing.is_empty() || !process.trust.is_empty();
        is_known.then(|| Snapshot { trust: process.trust.clone(), multiplexing, listed: Listed::default() })
    }

    /// Goes on with what was known of this very process. `false`: it means nothing here, or more is known already.
    pub fn import(&mut self, tgid: Tgid, learned: &Snapshot, now: BootTime) -> bool {
        let is_new = self.table.processes.get(&tgid).is_none_or(|process| process.trust.is_empty());
        let Some(trust) = learned.trust().filter(|_| is_new) else { return false };
        let Some(process) = self.table.process(tgid) else { return false };
        process.trust = trust;
        for tid in learned.multiplexing.iter().take(MAX_THREADS) {
            process.thread(*tid).multiplexes = true;
        }
        self.missed(tgid, now, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::table::Loss;
    use super::super::thresholds::{FULL, PROOF};
    use super::super::trust::Proof;
    use super::*;
    use crate::causality::Policy;
    use crate::time::ns;

    fn inside() -> Inside {
        Inside::new(Policy {
            rules: Default::default(),
            min_confidence: 0.0,
            decide_within: Duration::ZERO,
            broker_wait: Duration::ZERO,
        })
    }

    /// A process that reads and works on one thread, as keys have shown.
    fn experienced() -> Inside {
        let mut inside = inside();
        let process = inside.table.process(Tgid(7)).unwrap();
        (0..PROOF).for_each(|_| process.trust.count(Signal::ReadAlone, true));
        process.trust.count(Signal::Serving, false);
        process.thread(Tid(71)).multiplexes = true;
        process.thread(Tid(72));
        inside
    }

    #[test]
    fn what_keys_have_shown_holds_on() {
        let learned = experienced().export(Tgid(7)).unwrap();
        let learned: Snapshot = serde_json::from_str(&serde_json::to_string(&learned).unwrap()).unwrap();
        let mut next = inside();
        assert!(next.import(Tgid(7), &learned, ns(1000)));
        let process = next.table.processes.get(&Tgid(7)).unwrap();
        let holds = |signal| process.trust.holds(signal, Proof::FULL);
        assert!(holds(Signal::ReadAlone) && !holds(Signal::Answers));
        assert!(process.threads[&Tid(71)].multiplexes && process.threads.len() == 1);
        assert_eq!(process.losses, [Loss::at(ns(1000))], "what was in flight is not known");
        assert_eq!(next.export(Tgid(7)), Some(learned));
    }

    #[test]
    fn counts_without_names_are_still_read() {
        let counts: Vec<String> = (0..33).map(|place| format!("[{},{}]", place + 1, place % 2)).collect();
        let of_layout = |layout: u32| {
            let text =
                format!(r#"{{"layout":{layout},"counts":[{}],"multiplexing":[71]}}"#, counts.join(","));
            serde_json::from_str::<Snapshot>(&text).unwrap()
        };
        assert!(!inside().import(Tgid(7), &of_layout(1), ns(0)), "a layout that nobody knows any more");
        let mut next = inside();
        assert!(next.import(Tgid(7), &of_layout(2), ns(0)));
        let text = serde_json::to_string(&next.export(Tgid(7)).unwrap()).unwrap();
        for (name, count) in [
            ("serving", r#"{"right":1,"wrong":0}"#),
            ("awaited_at_first", r#"{"right":15,"wrong":0}"#),
            ("read_request", r#"[{"right":16,"wrong":1}"#),
            ("read_and_reuse", r#"[{"right":28,"wrong":1}"#),
        ] {
            assert!(text.contains(&format!("\"{name}\":{count}")), "{name} in {text}");
        }
    }

    #[test]
    fn counts_that_cannot_be_are_not_taken_over() {
        let good = experienced().export(Tgid(7)).unwrap();
        let refused = |learned: Snapshot| {
            let mut next = inside();
            assert!(!next.import(Tgid(7), &learned, BootTime::ZERO), "{learned:?}");
            assert_eq!(next.export(Tgid(7)), None);
        };
        let mut impossible = good.clone();
        impossible.trust.set(Signal::Awaited, Count { right: FULL, wrong: 0 });
        refused(impossible);
        let listed = |layout, counts| Listed { layout, counts };
        refused(Snapshot { listed: listed(3, vec![(1, 0); 33]), ..good.clone() });
        refused(Snapshot { listed: listed(2, vec![(1, 0); 32]), ..good.clone() });
        refused(Snapshot { listed: listed(2, vec![(u32::MAX, u32::MAX); 33]), ..good.clone() });
        refused(Snapshot::default());
        let mut known = experienced();
        assert!(!known.import(Tgid(7), &good, BootTime::ZERO), "what this agent has seen itself is newer");
    }

    #[test]
    fn processes_that_have_shown_nothing_or_ended_are_left_out() {
        let mut inside = experienced();
        assert_eq!(inside.export(Tgid(8)), None);
        inside.table.process(Tgid(8)).unwrap().thread(Tid(81));
        assert_eq!(inside.export(Tgid(8)), None);
        inside.process_ended(Tgid(7), BootTime::ZERO);
        assert_eq!(inside.export(Tgid(7)), None);
    }
}
