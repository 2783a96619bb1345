//! Work done for each cgroup → whether there is time for more of it.
//!
//! The agent reads everybody's traffic with one thread. Bytes are bounded by the ring and the [account](crate::account); this
//! bounds time: 25 bytes of brotli or 12 of HPACK may stand for a thousand times as much work. As long as the thread has time
//! to spare, everybody has all he asks for. Beyond, each has an equal part, and who asks for more is left out, counted.
//!
//! ```text
//!   a second:  │ cgroup a ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇ │ b ▇▇ │ c ▇ │  ◀ all of it is used up:  a had more than a third and waits
//!                                                          for the next second, b and c go on
//! ```
//!
//! Work is counted in nanoseconds of a slow core, by what was measured (`docs/measurements/2026-11-30-attack.md`); time is that of
//! records, so the same records are always judged alike.
//!
//! *Owns* who may go on. *Must not know* what the work is.

use std::time::Duration;

use crate::bounded::Bounded;
use crate::record::{CgroupId, Tgid};
use crate::time::BootTime;

/// An operation, from its first byte to its exported span, apart from what its length costs.
const OPERATION_NS: u64 = 10_000;
/// A byte that a content coding was undone to and keys were looked for in: 256 KiB cost 1.1 ms.
const DECODED_BYTE_NS: u64 = 4;
/// A byte of an operation that becomes attributes: looked at for secrets, encoded. 56 KB cost 0.47 ms.
const EXPORTED_BYTE_NS: u64 = 8;

/// What is shared out anew each time.
const PERIOD: Duration = Duration::from_secs(1);
/// Of a period, the part in which bytes may be decoded for one owner, whether there is time or not: nothing that is read for keys needs
/// more than the 62 MB that this is.
const DECODING: u64 = 4;
/// Owners known at once; the one that worked longest ago is forgotten, and counts anew.
const MAX_OWNERS: usize = 4096;

/// Whom work is done for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// Everything in a container or service of the system.
    Cgroup(CgroupId),
    /// A process of the root's cgroup, and all of a machine without cgroups of version 2.
    Process(Tgid),
}

impl Owner {
    pub(crate) fn new(cgroup: CgroupId, process: Tgid) -> Self {
        if cgroup > CgroupId::ROOT { Owner::Cgroup(cgroup) } else { Owner::Process(process) }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) decoded_len: usize,
    pub(crate) exported_len: usize,
}

/// An owner's work in the period that began at `since`.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    since: BootTime,
    work_ns: u64,
    decoding_ns: u64,
}

/// All work of the period.
#[derive(Debug)]
pub(crate) struct Work {
    /// There is so much time in a period; `None`: as much as is wanted.
    capacity_ns: Option<u64>,
    since: BootTime,
    work_ns: u64,
    /// Owners that worked in this period, and in the one before.
    active: u64,
    before: u64,
    owners: Bounded<Owner, Share>,
}

impl Work {
    /// `percent` of one core; 0: no bound.
    pub(crate) fn new(percent: u32) -> Self {
        let capacity_ns = u64::from(percent) * (PERIOD.as_nanos() as u64 / 100);
        Self {
            capacity_ns: Some(capacity_ns).filter(|ns| *ns > 0),
            since: BootTime::ZERO,
            work_ns: 0,
            active: 0,
            before: 0,
            owners: Bounded::new(MAX_OWNERS),
        }
    }

    /// There is time for another operation of this owner.
    pub(crate) fn allows(&mut self, owner: Owner, now: BootTime) -> bool {
        let Some(capacity) = self.capacity_ns else { return true };
        self.turn(now);
        if self.work_ns < capacity {
            return true;
        }
        let share = self.share(owner).work_ns;
        // One that did nothing yet is one more to share with.
        let sharers = self.active.max(self.before) + u64::from(share == 0);
        share < capacity / sharers.max(2)
    }

    /// There is time to undo a content coding for this owner.
    pub(crate) fn allows_decoding(&mut self, owner: Owner, now: BootTime) -> bool {
        let Some(capacity) = self.capacity_ns else { return true };
        self.turn(now);
        self.share(owner).decoding_ns < capacity / DECODING
    }

    /// Counts an operation.
    pub(crate) fn did(&mut self, owner: Owner, done: Done, now: BootTime) {
        if self.capacity_ns.is_none() {
            return;
        }
        self.turn(now);
        let decoding_ns = done.decoded_len as u64 * DECODED_BYTE_NS;
        let work_ns = OPERATION_NS + decoding_ns + done.exported_len as u64 * EXPORTED_BYTE_NS;
        self.work_ns = self.work_ns.saturating_add(work_ns);
        let since = self.since;
        let slot = self.owners.slot_or_insert_with(owner, Share::default);
        self.owners.touch(slot);
        let Some(share) = self.owners.at_mut(slot) else { return };
        if share.since != since || share.work_ns == 0 {
            *share = Share { since, ..Share::default() };
            self.active += 1;
        }
        share.work_ns = share.work_ns.saturating_add(work_ns);
        share.decoding_ns = share.decoding_ns.saturating_add(decoding_ns);
    }

    /// What an owner did in this period.
    fn share(&self, owner: Owner) -> Share {
        self.owners.get(&owner).copied().filter(|share| share.since == self.since).unwrap_or_default()
    }

    /// Begins a new period when the last one is over.
    fn turn(&mut self, now: BootTime) {
        let passed = now.since(self.since);
        if passed >= PERIOD {
            self.before = if passed < 2 * PERIOD { self.active } else { 0 };
            (self.since, self.work_ns, self.active) = (now, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ns;

    const SECOND: u64 = 1_000_000_000;

    fn owner(cgroup: u64) -> Owner {
        Owner::new(CgroupId(cgroup), Tgid(1))
    }

    /// Operations of each owner that were done, of so many asked for one by one within a second.
    fn done(work: &mut Work, begin: u64, asked: &[(u64, u64)], each: Done) -> Vec<u64> {
        let most = asked.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let mut done = vec![0; asked.len()];
        for step in 0..most {
            for (index, (cgroup, count)) in asked.iter().enumerate() {
                // Spread evenly over the second.
                if step * count / most == (step + 1) * count / most {
                    continue;
                }
                let now = ns(begin + step * SECOND / most);
                if work.allows(owner(*cgroup), now) {
                    work.did(owner(*cgroup), each, now);
                    done[index] += 1;
                }
            }
        }
        done
    }

    #[test]
    fn who_asks_for_too_much_gets_his_part_and_the_others_all_they_ask_for() {
        let mut work = Work::new(100);
        // 100,000 operations are a second.
        for second in 1..5 {
            let got =
                done(&mut work, second * SECOND, &[(7, 500_000), (8, 10_000), (9, 100)], Done::default());
            assert!(got[0] < 100_000 && got[0] > 33_000, "{second}: {got:?}");
            assert_eq!(got[1..], [10_000, 100], "{second}");
        }
    }

    #[test]
    fn nobody_waits_while_there_is_time() {
        let mut work = Work::new(100);
        let got = done(&mut work, SECOND, &[(7, 60_000), (8, 6_000)], Done::default());
        assert_eq!(got, [60_000, 6_000]);
        let mut unbounded = Work::new(0);
        assert_eq!(done(&mut unbounded, SECOND, &[(7, 500_000)], Done::default()), [500_000]);
    }

    #[test]
    fn bytes_decoded_are_bounded_for_each_owner() {
        let mut work = Work::new(100);
        let each = Done { decoded_len: 256 << 10, exported_len: 0 };
        let mut decoded = 0;
        for step in 0..10_000 {
            let now = ns(SECOND + step);
            if work.allows_decoding(owner(7), now) {
                work.did(owner(7), each, now);
                decoded += each.decoded_len;
            }
            assert!(work.allows_decoding(owner(8), now));
        }
        assert!((62_500_000..62_800_000).contains(&decoded), "{decoded}");
        assert!(work.allows_decoding(owner(7), ns(3 * SECOND)), "the next second");
    }

    #[test]
    fn a_cgroup_is_one_owner_and_the_root_is_none() {
        let owner = |cgroup, process| Owner::new(CgroupId(cgroup), Tgid(process));
        assert_eq!(owner(17, 1), owner(17, 2));
        assert_ne!(owner(1, 1), owner(1, 2));
        assert_ne!(owner(0, 1), owner(17, 1));
    }

    #[test]
    fn owners_are_bounded() {
        let mut work = Work::new(100);
        for cgroup in 2..20_000 {
            work.did(owner(cgroup), Done::default(), ns(SECOND));
        }
        assert_eq!(work.owners.len(), MAX_OWNERS);
    }
}
