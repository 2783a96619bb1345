//! Processes of one service → those among them that take messages.
//!
//! A worker may take its tasks in one process and do them in others (prefork pools: Celery, RQ, Resque): what a pool's process does was
//! caused by a message that another process took. How the task came to it, a pipe or shared memory, is not seen.
//!
//! And they run the same program: what one of them has shown about what is done for answered requests holds for all.
//!
//! *Owns* which processes may work for each other, and what they have shown together. *Must not know* operations.

use std::hash::{BuildHasher, RandomState};

use crate::bounded::Bounded;
use crate::record::{ProcessInfo, Tgid};

/// Processes whose service is remembered.
const MAX_PROCESSES: usize = 16_384;
/// Services with processes that take messages.
const MAX_SERVICES: usize = 4096;
/// Such processes of one service. Of a service with more, nothing is said: they take their messages for themselves.
const MAX_TAKERS: usize = 16;

/// Who is kin to whom, bounded.
#[derive(Debug)]
pub(super) struct Kin {
    /// A hash of what kin have in common.
    families: Bounded<Tgid, u64>,
    takers: Bounded<u64, Takers>,
    /// What the processes of a service have shown about work for answered requests.
    habits: Bounded<u64, Habit>,
    /// Processes choose their names: none is to look like another's kin.
    hasher: RandomState,
    /// Services with takers that there was no room for.
    crowded_out: u64,
}

#[derive(Debug, Default)]
struct Takers {
    processes: Vec<Tgid>,
    /// There are more than are remembered.
    is_crowded: bool,
}

/// How often nothing was done for a request that had been answered, and how often something was.
#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    before: u32,
    late: u32,
}

impl Kin {
    pub(super) fn new() -> Self {
        Self {
            families: Bounded::new(MAX_PROCESSES),
            takers: Bounded::new(MAX_SERVICES),
            habits: Bounded::new(MAX_SERVICES),
            hasher: RandomState::new(),
            crowded_out: 0,
        }
    }

    /// A process became known: it is kin to those that run the same executable for the same service in the same container.
    pub(super) fn introduced(&mut self, info: &ProcessInfo) {
        let ProcessInfo { tgid, exe, service, service_namespace, container_id, .. } = info;
        if exe.is_empty() || service.is_empty() {
            self.gone(*tgid);
            return;
        }
        let family = self.hasher.hash_one((exe, service, service_namespace, container_id));
        if self.families.get(tgid).is_some_and(|known| *known != family) {
            self.gone(*tgid);
        }
        self.families.insert(*tgid, family);
    }

    /// The process is no more, or is another one.
    pub(super) fn gone(&mut self, tgid: Tgid) {
        let Some(family) = self.families.remove(&tgid) else { return };
        if let Some(takers) = self.takers.get_mut(&family) {
            takers.processes.retain(|taker| *taker != tgid);
        }
    }

    /// The process took a message.
    pub(super) fn took(&mut self, tgid: Tgid) {
        let Some(family) = self.families.get(&tgid) else { return };
        let slot = self.takers.slot_or_insert_with(*family, Takers::default);
        self.takers.touch(slot);
        let Some(takers) = self.takers.at_mut(slot) else { return };
        if takers.processes.contains(&tgid) {
            return;
        }
        if takers.processes.len() >= MAX_TAKERS {
            // Counted once: those beyond are not told apart.
            self.crowded_out += u64::from(!std::mem::replace(&mut takers.is_crowded, true));
            return;
        }
        takers.processes.push(tgid);
    }

    /// Its kin that took messages. `None`: there are more of them than are known.
    pub(super) fn takers(&self, tgid: Tgid) -> Option<impl Iterator<Item = Tgid>> {
        let family = self.families.get(&tgid).copied();
        let takers = family.and_then(|family| self.takers.get(&family));
        if takers.is_some_and(|takers| takers.is_crowded) {
            return None;
        }
        // An identifier may be another process's by now.
        let is_kin = move |taker: &Tgid| *taker != tgid && self.families.get(taker).copied() == family;
        Some(takers.into_iter().flat_map(|takers| &takers.processes).copied().filter(is_kin))
    }

    /// A process has shown that what names an order is done before the answer, or `late`.
    pub(super) fn showed(&mut self, tgid: Tgid, late: bool) {
        let Some(family) = self.families.get(&tgid) else { return };
        let slot = self.habits.slot_or_insert_with(*family, Habit::default);
        self.habits.touch(slot);
        if let Some(habit) = self.habits.at_mut(slot) {
            let count = if late { &mut habit.late } else { &mut habit.before };
            *count = count.saturating_add(1);
        }
    }

    /// The process and its kin have shown it so often, and never otherwise.
    pub(super) fn were_never_late(&self, tgid: Tgid, seen: u32) -> bool {
        let habit = self.families.get(&tgid).and_then(|family| self.habits.get(family));
        habit.is_some_and(|habit| habit.late == 0 && habit.before >= seen)
    }

    /// What was forgotten at the bounds.
    pub(super) fn forgotten(&self) -> u64 {
        [self.families.forgotten(), self.takers.forgotten(), self.habits.forgotten(), self.crowded_out]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(tgid: u32, service: &str) -> ProcessInfo {
        let (exe, service) = ("/usr/bin/python3".to_owned(), service.to_owned());
        ProcessInfo { tgid: Tgid(tgid), exe, service, ..ProcessInfo::default() }
    }

    #[test]
    fn processes_of_one_service_know_those_of_it_that_take_messages() {
        let mut kin = Kin::new();
        for (tgid, service) in [(1, "tasks"), (2, "tasks"), (3, "tasks"), (4, "shop")] {
            kin.introduced(&info(tgid, service));
        }
        (1..=4).for_each(|tgid| kin.took(Tgid(tgid)));
        kin.took(Tgid(1));
        kin.took(Tgid(9));
        let takers = |kin: &Kin, tgid| kin.takers(Tgid(tgid)).unwrap().map(|tgid| tgid.0).collect::<Vec<_>>();
        assert_eq!(takers(&kin, 2), [1, 3]);
        assert_eq!((takers(&kin, 4), takers(&kin, 9)), (vec![], vec![]));
        kin.introduced(&info(3, "another"));
        assert_eq!(takers(&kin, 2), [1]);
        kin.introduced(&info(2, ""));
        assert!(takers(&kin, 2).is_empty());
    }

    #[test]
    fn a_process_that_is_gone_takes_nothing() {
        let mut kin = Kin::new();
        (1..=40).for_each(|tgid| {
            kin.introduced(&info(tgid, "tasks"));
            kin.took(Tgid(tgid));
            kin.gone(Tgid(tgid));
        });
        kin.introduced(&info(41, "tasks"));
        assert_eq!(kin.takers(Tgid(41)).unwrap().count(), 0);
        assert_eq!(kin.forgotten(), 0);
    }

    #[test]
    fn of_a_service_with_more_takers_than_are_remembered_nothing_is_said() {
        let mut kin = Kin::new();
        for tgid in 0..=MAX_TAKERS as u32 + 1 {
            kin.introduced(&info(tgid, "tasks"));
        }
        (1..=MAX_TAKERS as u32).for_each(|tgid| kin.took(Tgid(tgid)));
        assert_eq!(kin.takers(Tgid(0)).unwrap().count(), MAX_TAKERS);
        kin.took(Tgid(MAX_TAKERS as u32 + 1));
        assert!(kin.takers(Tgid(0)).is_none());
        assert_eq!(kin.forgotten(), 1);
    }

    #[test]
    fn it_is_bounded() {
        let mut kin = Kin::new();
        (0..MAX_PROCESSES as u32 + 5).for_each(|tgid| kin.introduced(&info(tgid, "tasks")));
        assert_eq!(kin.forgotten(), 5);
    }
}
