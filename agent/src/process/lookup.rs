//! Records in, the same records with a [`ProcessInfo`] before the first of each process out.
//!
//! *Owns* which processes were looked up already, what is excluded, and forgetting those that ended.

use std::collections::{HashMap, HashSet, VecDeque};

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::config::Services;
use crate::record::{ConnId, ProcessEventKind, ProcessInfo, Record};

/// Processes remembered at once; the ones looked up first are looked up again.
const MAX_PROCESSES: usize = 65_536;
/// Excluded connections remembered.
const MAX_EXCLUDED: usize = 65_536;

/// How a process is looked up: replaced in tests.
pub type Inspect = Box<dyn FnMut(u32, &Services) -> Option<ProcessInfo> + Send>;

/// Adds what `/proc` knows to the records of a live source.
pub struct Lookup {
    services: Services,
    exclude: GlobSet,
    inspect: Inspect,
    known: HashMap<u32, Known>,
    order: VecDeque<u32>,
    /// The process of the last record: most come in runs.
    last: Option<(u32, Known)>,
    excluded: HashSet<ConnId>,
    excluded_order: VecDeque<ConnId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Traced,
    Excluded,
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
    pub fn new(services: &Services) -> Self {
        Self::with(services, Box::new(super::inspect))
    }

    pub fn with(services: &Services, inspect: Inspect) -> Self {
        let mut exclude = GlobSetBuilder::new();
        // The configuration was checked: a pattern that is none cannot come here.
        services.exclude.iter().filter_map(|pattern| Glob::new(pattern).ok()).for_each(|glob| {
            exclude.add(glob);
        });
        Self {
            services: services.clone(),
            exclude: exclude.build().unwrap_or_default(),
            inspect,
            known: HashMap::new(),
            order: VecDeque::new(),
            last: None,
            excluded: HashSet::new(),
            excluded_order: VecDeque::new(),
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
                    ProcessEventKind::Exit => {}
                }
                return Verdict::HandOn;
            }
            Record::Close(close) => {
                return if self.excluded.remove(&close.conn) { Verdict::Drop } else { Verdict::HandOn };
            }
            Record::Clock(_) | Record::ProcessInfo(_) | Record::Lost(_) => return Verdict::HandOn,
        };
        if tgid == 0 {
            return Verdict::HandOn;
        }
        let known = match self.last.filter(|(last, _)| *last == tgid) {
            Some((_, known)) => Some(known),
            None => self.known.get(&tgid).copied(),
        };
        let known = match known {
            Some(known) => known,
            None => {
                let info = (self.inspect)(tgid, &self.services).unwrap_or_else(|| gone(tgid, comm));
                let excluded = !info.exe.is_empty() && self.exclude.is_match(&info.exe);
                let known = if excluded { Known::Excluded } else { Known::Traced };
                self.remember(tgid, known);
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
            Known::Excluded => Verdict::Drop,
        }
    }

    /// Processes known now: traced, and excluded.
    pub fn counts(&self) -> (u64, u64) {
        let excluded = self.known.values().filter(|known| **known == Known::Excluded).count() as u64;
        (self.known.len() as u64 - excluded, excluded)
    }

    /// Processes known now.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn forget(&mut self, tgid: u32) {
        self.known.remove(&tgid);
        self.last = self.last.filter(|(last, _)| *last != tgid);
    }

    fn remember(&mut self, tgid: u32, known: Known) {
        self.known.insert(tgid, known);
        self.order.push_back(tgid);
        while self.order.len() > MAX_PROCESSES {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// Whether it was not excluded before.
    fn exclude_conn(&mut self, conn: ConnId) -> bool {
        if !self.excluded.insert(conn) {
            return false;
        }
        self.excluded_order.push_back(conn);
        while self.excluded_order.len() > MAX_EXCLUDED {
            if let Some(oldest) = self.excluded_order.pop_front() {
                self.excluded.remove(&oldest);
            }
        }
        true
    }
}

/// A process that ended before it could be looked up is named by what the kernel called it.
fn gone(tgid: u32, comm: &str) -> ProcessInfo {
    ProcessInfo { tgid, comm: comm.to_owned(), service: comm.to_owned(), ..ProcessInfo::default() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::{BootNs, Data, DataFlags, Direction, ProcessEvent, Thread};

    const AT: BootNs = 7;

    fn data(tgid: u32, conn: u64) -> Record {
        Record::Data(Data {
            at: AT,
            conn: ConnId(conn),
            direction: Direction::Egress,
            pos: 0,
            other_pos: 0,
            len: 0,
            bytes: Bytes::new(),
            thread: Thread { tgid, tid: tgid },
            flags: DataFlags::default(),
        })
    }

    fn event(tgid: u32, kind: ProcessEventKind) -> Record {
        Record::Process(ProcessEvent { at: AT, tgid, kind })
    }

    /// Process 9 is gone, 5 is excluded.
    fn lookup() -> Lookup {
        let services = Services { exclude: vec!["/usr/sbin/*".to_owned()], ..Services::default() };
        let inspect = |tgid, _: &Services| {
            let exe = if tgid == 5 { "/usr/sbin/sshd" } else { "/usr/bin/shop" };
            let service = format!("s{tgid}");
            (tgid != 9).then(|| ProcessInfo { tgid, exe: exe.to_owned(), service, ..ProcessInfo::default() })
        };
        Lookup::with(&services, Box::new(inspect))
    }

    fn introduced(verdict: &Verdict) -> Option<(&str, BootNs)> {
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
        let gone = gone(9, "curl");
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
        let close = Record::Close(crate::record::Close { at: AT, conn: ConnId(1), reset: false });
        assert_eq!(lookup.see(&close), Verdict::Drop);
        assert_eq!(lookup.see(&close), Verdict::HandOn);
    }

    #[test]
    fn memory_is_bounded() {
        let mut lookup = lookup();
        for tgid in 10..200_010 {
            lookup.see(&data(tgid, 1));
        }
        assert!(lookup.len() <= MAX_PROCESSES);
    }
}
