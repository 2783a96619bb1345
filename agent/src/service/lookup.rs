//! Records in, the same records with a [`ProcessInfo`] before the first of each process out.
//!
//! *Owns* which processes were looked up already, what is excluded, and forgetting those that ended.

use std::collections::HashSet;

use super::select::Choice;
use super::{Inspected, Inspector};
use spoor_core::bounded::Bounded;
use spoor_core::record::{ConnId, ProcessEventKind, ProcessInfo, Record};

/// Processes remembered at once; the ones looked up first are looked up again.
const MAX_PROCESSES: usize = 65_536;
/// Excluded connections remembered.
const MAX_EXCLUDED: usize = 65_536;

/// How processes are looked up: replaced in tests.
pub trait Inspect: Send {
    /// `None` when it is gone.
    fn inspect(&mut self, tgid: u32) -> Option<Inspected>;

    /// Grows when a process that was `unfinished` may be known better.
    fn generation(&self) -> u64;
}

impl Inspect for Inspector {
    fn inspect(&mut self, tgid: u32) -> Option<Inspected> {
        Self::inspect(self, tgid)
    }

    fn generation(&self) -> u64 {
        Self::generation(self)
    }
}

/// Adds what `/proc` knows to the records of a live source.
pub struct Lookup {
    inspect: Box<dyn Inspect>,
    /// The one looked up first is the oldest.
    known: Bounded<u32, Known>,
    /// Processes of which more may be known later, and when they were looked at.
    unfinished: HashSet<u32>,
    generation: u64,
    /// The process of the last record: most come in runs.
    last: Option<(u32, Known)>,
    excluded: Bounded<ConnId, ()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Traced,
    Excluded,
    /// Excluded until more is known of it.
    Undecided,
}

/// What to do with a record.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Hand it on, after this.
    Introduce(Box<ProcessInfo>),
    HandOn,
    /// It is of an excluded process, and the first of this connection: the kernel can ignore it from now on.
    Exclude(ConnId),
    /// It is of an excluded process.
    Drop,
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl Lookup {
    pub fn new(inspector: Inspector) -> Self {
        Self::with(Box::new(inspector))
    }

    pub fn with(inspect: Box<dyn Inspect>) -> Self {
        Self {
            generation: inspect.generation(),
            inspect,
            known: Bounded::new(MAX_PROCESSES),
            unfinished: HashSet::new(),
            last: None,
            excluded: Bounded::new(MAX_EXCLUDED),
        }
    }

    /// Looks at a record before it is handed on.
    pub fn see(&mut self, record: &Record) -> Verdict {
        let (tgid, comm, conn) = match record {
            Record::Conn(conn) => (conn.thread.tgid, conn.comm.as_str(), conn.id),
            Record::Data(data) => (data.thread.tgid, "", data.conn),
            Record::Process(event) => {
                match event.kind {
                    // A new process, or one that became another: what was known is no longer true. After its end it
                    // is known on, for data that is still on the way.
                    ProcessEventKind::Fork { .. } | ProcessEventKind::Exec => self.forget(event.tgid),
                    ProcessEventKind::Exit | ProcessEventKind::Thread { .. } => {}
                }
                return Verdict::HandOn;
            }
            Record::Close(close) => {
                return if self.excluded.remove(&close.conn).is_some() {
                    Verdict::Drop
                } else {
                    Verdict::HandOn
                };
            }
            Record::Clock(_) | Record::ProcessInfo(_) | Record::Lost(_) => return Verdict::HandOn,
        };
        if tgid == 0 {
            return Verdict::HandOn;
        }
        self.look_again();
        let known = match self.last.filter(|(last, _)| *last == tgid) {
            Some((_, known)) => Some(known),
            None => self.known.get(&tgid).copied(),
        };
        let known = match known {
            Some(known) => known,
            None => {
                let found = self.inspect.inspect(tgid).unwrap_or_else(|| gone(tgid, comm));
                let known = match (found.choice, found.unfinished) {
                    (Choice::Traced, _) => Known::Traced,
                    (Choice::Excluded, false) => Known::Excluded,
                    (Choice::Excluded, true) => Known::Undecided,
                };
                self.remember(tgid, known);
                if found.unfinished && self.unfinished.len() < MAX_PROCESSES {
                    self.unfinished.insert(tgid);
                }
                let info = found.info;
                if known == Known::Traced && !info.service.is_empty() {
                    self.last = Some((tgid, known));
                    return Verdict::Introduce(Box::new(ProcessInfo { at: record.at(), ..info }));
                }
                known
            }
        };
        self.last = Some((tgid, known));
        match known {
            Known::Traced => Verdict::HandOn,
            Known::Excluded if self.exclude_conn(conn) => Verdict::Exclude(conn),
            // The kernel is told when it is decided.
            Known::Excluded | Known::Undecided => Verdict::Drop,
        }
    }

    /// Processes known now: traced, and excluded.
    pub fn counts(&self) -> (u64, u64) {
        let excluded = self.known.values().filter(|known| **known != Known::Traced).count() as u64;
        (self.known.len() as u64 - excluded, excluded)
    }

    /// What was forgotten at its bounds, by table.
    pub fn forgotten(&self) -> [(&'static str, u64); 2] {
        [("looked_up_processes", self.known.forgotten()), ("excluded_connections", self.excluded.forgotten())]
    }

    /// Processes known now.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Processes of which more may be known by now are looked at again, each with its next record.
    fn look_again(&mut self) {
        if self.unfinished.is_empty() {
            return;
        }
        let generation = self.inspect.generation();
        if generation != self.generation {
            self.generation = generation;
            for tgid in std::mem::take(&mut self.unfinished) {
                self.known.remove(&tgid);
            }
            self.last = None;
        }
    }

    fn forget(&mut self, tgid: u32) {
        self.known.remove(&tgid);
        self.unfinished.remove(&tgid);
        self.last = self.last.filter(|(last, _)| *last != tgid);
    }

    fn remember(&mut self, tgid: u32, known: Known) {
        if let Some((oldest, _)) = self.known.insert(tgid, known) {
            self.unfinished.remove(&oldest);
        }
    }

    /// Whether it was not excluded before.
    fn exclude_conn(&mut self, conn: ConnId) -> bool {
        let is_new = !self.excluded.contains_key(&conn);
        self.excluded.insert(conn, ());
        is_new
    }
}

/// A process that ended before it could be looked up is named by what the kernel called it.
fn gone(tgid: u32, comm: &str) -> Inspected {
    let info =
        ProcessInfo { tgid, comm: comm.to_owned(), service: comm.to_owned(), ..ProcessInfo::default() };
    Inspected { info, choice: Choice::Traced, unfinished: false }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;

    use super::*;
    use spoor_core::record::{Data, DataFlags, Direction, ProcessEvent, Worker};
    use spoor_core::time::BootTime;

    const AT: BootTime = BootTime::from_nanos(7);

    fn data(tgid: u32, conn: u64) -> Record {
        Record::Data(Data {
            at: AT,
            conn: ConnId(conn),
            direction: Direction::Egress,
            pos: 0,
            other_pos: 0,
            len: 0,
            bytes: Bytes::new(),
            thread: Worker::new(tgid, tgid),
            awaited_by: None,
            flags: DataFlags::default(),
        })
    }

    fn event(tgid: u32, kind: ProcessEventKind) -> Record {
        Record::Process(ProcessEvent { at: AT, tgid, kind })
    }

    /// Process 9 is gone, 5 is excluded, 6 and 7 are not known well until the generation grows: then 7 is traced.
    struct Fake(Arc<AtomicU64>);

    impl Inspect for Fake {
        fn inspect(&mut self, tgid: u32) -> Option<Inspected> {
            let late = self.generation() > 0;
            let info = ProcessInfo { tgid, service: format!("s{tgid}"), ..ProcessInfo::default() };
            let choice = match tgid {
                9 => return None,
                5 | 6 => Choice::Excluded,
                7 if !late => Choice::Excluded,
                _ => Choice::Traced,
            };
            Some(Inspected { info, choice, unfinished: matches!(tgid, 6 | 7) && !late })
        }

        fn generation(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn lookup() -> Lookup {
        Lookup::with(Box::new(Fake(Arc::default())))
    }

    fn introduced(verdict: &Verdict) -> Option<(&str, BootTime)> {
        match verdict {
            Verdict::Introduce(info) => Some((&info.service, info.at)),
            _ => None,
        }
    }

    #[test]
    fn each_process_is_introduced_once_before_its_first_record() {
        let mut lookup = lookup();
        assert_eq!(introduced(&lookup.see(&data(1, 1))), Some(("s1", AT)));
        assert_eq!(lookup.see(&data(1, 2)), Verdict::HandOn);
        assert_eq!(introduced(&lookup.see(&data(2, 3))), Some(("s2", AT)));
        assert_eq!(lookup.see(&data(1, 1)), Verdict::HandOn);
    }

    #[test]
    fn process_that_became_another_is_introduced_again() {
        for kind in [ProcessEventKind::Exec, ProcessEventKind::Fork { parent_tgid: 3 }] {
            let mut lookup = lookup();
            lookup.see(&data(1, 1));
            assert_eq!(lookup.see(&event(1, kind)), Verdict::HandOn);
            assert!(introduced(&lookup.see(&data(1, 1))).is_some());
        }
    }

    #[test]
    fn process_that_ended_is_known_on() {
        let mut lookup = lookup();
        lookup.see(&data(1, 1));
        lookup.see(&event(1, ProcessEventKind::Exit));
        assert_eq!(lookup.see(&data(1, 1)), Verdict::HandOn);
    }

    #[test]
    fn process_gone_before_it_was_seen_has_the_name_the_kernel_gave() {
        let gone = gone(9, "curl").info;
        assert_eq!((gone.service.as_str(), gone.exe.as_str()), ("curl", ""));
        // Data alone has no name: the connection's own stands.
        assert_eq!(lookup().see(&data(9, 1)), Verdict::HandOn);
    }

    #[test]
    fn excluded_processes_are_left_alone() {
        let mut lookup = lookup();
        assert_eq!(lookup.see(&data(5, 1)), Verdict::Exclude(ConnId(1)));
        assert_eq!(lookup.see(&data(5, 1)), Verdict::Drop);
        assert_eq!(lookup.see(&data(5, 2)), Verdict::Exclude(ConnId(2)));
        let close = Record::Close(spoor_core::record::Close { at: AT, conn: ConnId(1), reset: false });
        assert_eq!(lookup.see(&close), Verdict::Drop);
        assert_eq!(lookup.see(&close), Verdict::HandOn);
    }

    #[test]
    fn process_that_becomes_known_better_is_decided_again() {
        let generation = Arc::new(AtomicU64::new(0));
        let mut lookup = Lookup::with(Box::new(Fake(generation.clone())));
        for tgid in [6, 7] {
            assert_eq!(lookup.see(&data(tgid, tgid.into())), Verdict::Drop, "the kernel is not told yet");
        }
        generation.store(1, Ordering::Relaxed);
        assert_eq!(lookup.see(&data(6, 6)), Verdict::Exclude(ConnId(6)));
        assert_eq!(introduced(&lookup.see(&data(7, 7))), Some(("s7", AT)));
        assert_eq!(lookup.see(&data(7, 7)), Verdict::HandOn);
    }

    #[test]
    fn memory_is_bounded() {
        let mut lookup = lookup();
        for tgid in 10..200_010 {
            lookup.see(&data(tgid, 1));
        }
        assert_eq!(lookup.len(), MAX_PROCESSES);
        assert_eq!(lookup.forgotten()[0].1, 200_000 - MAX_PROCESSES as u64);
        for conn in 0..100_000 {
            lookup.see(&data(5, conn));
        }
        assert_eq!(lookup.forgotten()[1].1, 100_000 - MAX_EXCLUDED as u64);
    }
}
