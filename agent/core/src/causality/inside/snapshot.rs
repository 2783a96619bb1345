//! What a process has shown of how it works out, and in again for the same process under the next agent.
//!
//! *Owns* what of it is worth keeping: the counts that rules are believed by, and which threads work on several things at
//! once. Operations are not: they are over, or were closed by the agent that saw them. *Must not know* which process it is,
//! files.
//!
//! What was in flight while nobody watched is not known, as after lost records: around the change only keys prove something.

use serde::{Deserialize, Serialize};

use super::proof::{Count, Proof};
use super::{MAX_THREADS, Processes};
use crate::record::BootNs;

/// Changes when a kind of guess comes to mean another thing, or stands in another place: counts of another layout are worth
/// nothing.
const LAYOUT: u32 = 2;

/// How a process works, as far as keys have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    layout: u32,
    /// Right and wrong guesses of each kind.
    counts: Vec<(u32, u32)>,
    /// Threads that were seen with several things at once: reading proves less.
    multiplexing: Vec<u32>,
}

impl Processes {
    /// What is known of a process. `None`: nothing worth keeping.
    pub fn export(&self, tgid: u32) -> Option<Snapshot> {
        let process = self.processes.get(&tgid).filter(|process| !process.ended)?;
        let counts: Vec<(u32, u32)> =
            process.proof.counts().map(|count| (count.right, count.wrong)).collect();
        let threads = process.threads.iter().filter(|(_, thread)| thread.multiplexes);
        let mut multiplexing: Vec<u32> = threads.map(|(tid, _)| *tid).collect();
        multiplexing.sort_unstable();
        let is_known = !multiplexing.is_empty() || counts.iter().any(|count| *count != (0, 0));
        is_known.then_some(Snapshot { layout: LAYOUT, counts, multiplexing })
    }

    /// Goes on with what was known of this very process. `false`: it means nothing here, or more is known already.
    pub fn import(&mut self, tgid: u32, learned: &Snapshot, now: BootNs) -> bool {
        let is_new = self.processes.get(&tgid).is_none_or(|process| process.proof.is_empty());
        let counts = learned.counts.iter().map(|(right, wrong)| Count { right: *right, wrong: *wrong });
        let Some(proof) = Proof::resumed(counts).filter(|_| is_new && learned.layout == LAYOUT) else {
            return false;
        };
        let process = self.processes.entry(tgid).or_default();
        process.proof = proof;
        for tid in learned.multiplexing.iter().take(MAX_THREADS) {
            process.thread(*tid).multiplexes = true;
        }
        self.missed(tgid, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::proof::{PROOF, Signal};
    use super::*;
    use crate::causality::Policy;

    fn processes() -> Processes {
        Processes::new(Policy {
            rules: Default::default(),
            min_confidence: 0.0,
            decide_within_ns: 0,
            broker_wait_ns: 0,
        })
    }

    /// A process that reads and works on one thread, as keys have shown.
    fn experienced() -> Processes {
        let mut processes = processes();
        let process = processes.processes.entry(7).or_default();
        (0..PROOF).for_each(|_| process.proof.count(Signal::ReadAlone, true));
        process.proof.count(Signal::Serving, false);
        process.thread(71).multiplexes = true;
        process.thread(72);
        processes
    }

    #[test]
    fn what_keys_have_shown_holds_on() {
        let learned = experienced().export(7).unwrap();
        let mut next = processes();
        assert!(next.import(7, &learned, 1000));
        let process = &next.processes[&7];
        assert!(process.proof.holds(Signal::ReadAlone) && !process.proof.holds(Signal::Answers));
        assert!(process.threads[&71].multiplexes && process.threads.len() == 1);
        assert_eq!(process.missed, [1000], "what was in flight is not known");
        assert_eq!(next.export(7), Some(learned));
    }

    #[test]
    fn counts_that_cannot_be_are_not_taken_over() {
        let good = experienced().export(7).unwrap();
        let refused = |learned: Snapshot| {
            let mut next = processes();
            assert!(!next.import(7, &learned, 0), "{learned:?}");
            assert_eq!(next.export(7), None);
        };
        refused(Snapshot { layout: LAYOUT + 1, ..good.clone() });
        refused(Snapshot { counts: good.counts[1..].to_vec(), ..good.clone() });
        refused(Snapshot { counts: vec![(u32::MAX, u32::MAX); good.counts.len()], ..good.clone() });
        refused(Snapshot::default());
        let mut known = experienced();
        assert!(!known.import(7, &good, 0), "what this agent has seen itself is newer");
    }

    #[test]
    fn processes_that_have_shown_nothing_or_ended_are_left_out() {
        let mut processes = experienced();
        assert_eq!(processes.export(8), None);
        processes.processes.entry(8).or_default().thread(81);
        assert_eq!(processes.export(8), None);
        processes.process_ended(7, 0);
        assert_eq!(processes.export(7), None);
    }
}
