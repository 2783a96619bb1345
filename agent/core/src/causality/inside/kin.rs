//! Processes of one service → those among them that take messages.
//!
//! A worker may take its tasks in one process and do them in others (prefork pools: Celery, RQ, Resque): what a pool's process does was
//! caused by a message that another process took. How the task came to it, a pipe or shared memory, is not seen.
//!
//! *Owns* which processes may work for each other. *Must not know* operations.

use std::hash::BuildHasher;

use rustc_hash::FxBuildHasher;

use crate::bounded::Bounded;
use crate::record::{ProcessInfo, Tgid};

/// Processes whose service is remembered.
const MAX_PROCESSES: usize = 16_384;
/// Services with processes that take messages.
const MAX_SERVICES: usize = 4096;
/// Such processes of one service; the first are forgotten first.
const MAX_TAKERS: usize = 16;

/// Who is kin to whom, bounded.
#[derive(Debug)]
pub(super) struct Kin {
    /// A hash of what kin have in common.
    families: Bounded<Tgid, u64>,
    takers: Bounded<u64, Vec<Tgid>>,
}

impl Kin {
    pub(super) fn new() -> Self {
        Self { families: Bounded::new(MAX_PROCESSES), takers: Bounded::new(MAX_SERVICES) }
    }

    /// A process became known: it is kin to those that run the same executable for the same service in the same container.
    pub(super) fn introduced(&mut self, info: &ProcessInfo) {
        let ProcessInfo { tgid, exe, service, service_namespace, container_id, .. } = info;
        if exe.is_empty() || service.is_empty() {
            self.families.remove(tgid);
            return;
        }
        let family = FxBuildHasher.hash_one((exe, service, service_namespace, container_id));
        self.families.insert(*tgid, family);
    }

    /// The process took a message.
    pub(super) fn took(&mut self, tgid: Tgid) {
        let Some(family) = self.families.get(&tgid) else { return };
        let slot = self.takers.slot_or_insert_with(*family, Vec::new);
        self.takers.touch(slot);
        let Some(takers) = self.takers.at_mut(slot).filter(|takers| !takers.contains(&tgid)) else { return };
        if takers.len() >= MAX_TAKERS {
            takers.remove(0);
        }
        takers.push(tgid);
    }

    /// Its kin that took messages.
    pub(super) fn takers(&self, tgid: Tgid) -> impl Iterator<Item = Tgid> {
        let family = self.families.get(&tgid).copied();
        let takers = family.and_then(|family| self.takers.get(&family)).into_iter().flatten().copied();
        // An identifier may be another process's by now.
        takers.filter(move |taker| *taker != tgid && self.families.get(taker).copied() == family)
    }

    /// What was forgotten at the bounds.
    pub(super) fn forgotten(&self) -> u64 {
        self.families.forgotten().saturating_add(self.takers.forgotten())
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
        let takers = |kin: &Kin, tgid| kin.takers(Tgid(tgid)).map(|tgid| tgid.0).collect::<Vec<_>>();
        assert_eq!(takers(&kin, 2), [1, 3]);
        assert_eq!((takers(&kin, 4), takers(&kin, 9)), (vec![], vec![]));
        kin.introduced(&info(3, "another"));
        assert_eq!(takers(&kin, 2), [1]);
        kin.introduced(&info(2, ""));
        assert!(takers(&kin, 2).is_empty());
    }

    #[test]
    fn it_is_bounded() {
        let mut kin = Kin::new();
        for tgid in 0..MAX_PROCESSES as u32 + 5 {
            kin.introduced(&info(tgid, "tasks"));
            kin.took(Tgid(tgid));
        }
        assert_eq!(kin.forgotten(), 5);
        assert_eq!(kin.takers(Tgid(20)).count(), MAX_TAKERS);
    }
}
