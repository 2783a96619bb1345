//! Who waited for whom at each write → which request a chain of tasks leads to.
//!
//! A task that answers a request serves it, from when it was read until it is answered. A chain that leads through it is work for
//! that request; what waits for it in turn, such as the task of a connection, may have others. Tasks that were on their way to it,
//! with numbers above all that had been seen when the request came, were made for it, and work for it after the answer too.
//!
//! *Owns* what is remembered of tasks, and its bounds. Tasks are known by numbers that are never used again: one with a name of its
//! own is none of them. *Must not know* rules.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::table::Op;
use super::thresholds::MAX_PROCESSES;
use crate::bounded::Bounded;
use crate::record::{Chain, ConnId, OpId, TaskId, Tgid};
use crate::time::BootTime;

/// How long tasks and writes are remembered: several times as long as an operation waits for its cause. The answer to a request
/// that takes longer to write does not tell who wrote it.
const KEEP: Duration = Duration::from_secs(60);
/// Writes whose chain is remembered until what was written is understood: some seconds of a busy machine.
const MAX_WRITES: usize = 65_536;
/// Tasks of which it is remembered where they led.
const MAX_TASKS: usize = 65_536;
/// Requests that one task answered and that are looked at, the last ones: a connection's task answers all of the connection.
const MAX_SERVED: usize = 256;

/// What is known of all tasks.
#[derive(Debug)]
pub(super) struct Chains {
    /// By connection and time, as data are.
    writes: Bounded<(ConnId, BootTime), Write>,
    sights: Bounded<(Tgid, TaskId), Sights>,
    /// Requests by the task that answered, in the order they were over; up to twice as many as are looked at, so that dropping the
    /// first ones costs little.
    served: FxHashMap<(Tgid, TaskId), Vec<OpId>>,
    /// The highest number seen in a process: it counts up. Those that wrote nothing for longest are the oldest.
    newest: Bounded<Tgid, TaskId>,
}

#[derive(Debug)]
struct Write {
    at: BootTime,
    tasks: Box<[TaskId]>,
}

/// The first and the last write at which others waited for a task.
#[derive(Clone, Copy, Debug)]
struct Sights {
    first: (ConnId, BootTime),
    last: (ConnId, BootTime),
}

impl Default for Chains {
    fn default() -> Self {
        Self {
            writes: Bounded::new(MAX_WRITES),
            sights: Bounded::new(MAX_TASKS),
            served: FxHashMap::default(),
            newest: Bounded::new(MAX_PROCESSES),
        }
    }
}

impl Chains {
    /// A process writes, with this chain.
    pub(super) fn note(&mut self, chain: Chain) {
        let Chain { at, conn, thread, tasks } = chain;
        let (tgid, Some((_, waited_for))) = (thread.tgid, tasks.split_last()) else { return };
        self.count(tgid, &tasks);
        let sight = (conn, at);
        for task in waited_for.iter().filter(|task| task.is_numbered()) {
            match self.sights.get_mut(&(tgid, *task)) {
                Some(sights) => sights.last = sight,
                None => {
                    self.sights.insert((tgid, *task), Sights { first: sight, last: sight });
                }
            }
        }
        let old = at - KEEP;
        while let Some(slot) = self.sights.oldest()
            && self.sights.at(slot).is_some_and(|sights| sights.first.1 < old)
        {
            self.sights.remove_at(slot);
        }
        while let Some(slot) = self.writes.oldest()
            && self.writes.at(slot).is_some_and(|write| write.at < old)
        {
            self.writes.remove_at(slot);
        }
        self.writes.insert((conn, at), Write { at, tasks: tasks.into() });
    }

    /// Keeps the highest number of the process.
    fn count(&mut self, tgid: Tgid, tasks: &[TaskId]) {
        let slot = match self.newest.slot(&tgid) {
            Some(slot) => slot,
            None => {
                let (slot, forgotten) = self.newest.insert_new(tgid, TaskId::default());
                // Else they would be taken for those of a process that gets the number later.
                if let Some((forgotten, _)) = forgotten {
                    self.forget_tasks(forgotten);
                }
                slot
            }
        };
        self.newest.touch(slot);
        if let Some(newest) = self.newest.at_mut(slot) {
            *newest = tasks.iter().fold(*newest, |newest, task| newest.max(*task));
        }
    }

    /// The chain of what was written on a connection then.
    pub(super) fn of(&self, conn: ConnId, at: BootTime) -> Option<&[TaskId]> {
        self.writes.get(&(conn, at)).map(|write| write.tasks.as_ref())
    }

    /// The highest number seen in a chain of the process. Where none was seen, any task may be older than what comes now: there is
    /// no higher one.
    pub(super) fn newest(&self, tgid: Tgid) -> TaskId {
        self.newest.get(&tgid).copied().unwrap_or(TaskId(u64::MAX))
    }

    /// A request is over that this task answered.
    pub(super) fn answered(&mut self, tgid: Tgid, task: TaskId, op: OpId) {
        // Of a process that was forgotten meanwhile nobody would take it away.
        if !self.newest.contains_key(&tgid) {
            return;
        }
        let served = self.served.entry((tgid, task)).or_default();
        if served.len() >= 2 * MAX_SERVED {
            served.drain(..=MAX_SERVED);
        }
        served.push(op);
    }

    /// Such a request is forgotten.
    pub(super) fn forget(&mut self, tgid: Tgid, task: TaskId, op: OpId) {
        if let Some(served) = self.served.get_mut(&(tgid, task)) {
            served.retain(|other| *other != op);
            if served.is_empty() {
                self.served.remove(&(tgid, task));
            }
        }
    }

    /// The process is no more, or another program with numbers of its own.
    pub(super) fn gone(&mut self, tgid: Tgid) {
        if self.newest.remove(&tgid).is_some() {
            self.forget_tasks(tgid);
        }
    }

    fn forget_tasks(&mut self, tgid: Tgid) {
        let old: Vec<_> = self.sights.iter().map(|(key, _)| *key).filter(|(of, _)| *of == tgid).collect();
        for key in old {
            self.sights.remove(&key);
        }
        self.served.retain(|(of, _), _| *of != tgid);
    }

    /// The last requests that a task answered.
    pub(super) fn served(&self, tgid: Tgid, task: TaskId) -> &[OpId] {
        let all = self.served.get(&(tgid, task)).map_or(&[][..], Vec::as_slice);
        all.last_chunk::<MAX_SERVED>().map_or(all, <[OpId; MAX_SERVED]>::as_slice)
    }

    /// The chains of the first and the last write at which others waited for a task, and when.
    pub(super) fn sights(&self, tgid: Tgid, task: TaskId) -> Option<[(&[TaskId], BootTime); 2]> {
        let Sights { first, last } = *self.sights.get(&(tgid, task))?;
        let chain = |(conn, at)| Some((self.of(conn, at)?, at));
        Some([chain(first)?, chain(last)?])
    }

    /// What was forgotten at the bounds.
    pub(super) fn forgotten(&self) -> u64 {
        self.sights.forgotten() + self.writes.forgotten() + self.newest.forgotten()
    }
}

/// Requests of a task that were open then, of all that it answered, the latest to be over first.
pub(super) fn open_at<'a>(
    served: impl Iterator<Item = (OpId, &'a Op)>,
    at: BootTime,
) -> impl Iterator<Item = (OpId, &'a Op)> {
    served
        .take_while(move |(_, op)| op.closed_at.is_none_or(|closed| closed >= at))
        .filter(move |(_, op)| op.is_open_at(at))
}
