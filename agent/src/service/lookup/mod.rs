//! Records → the same records with a [`ProcessInfo`] before the first of each process.
//!
//! *Owns* which processes were looked up already, what is excluded, and forgetting those that ended.
//!
//! A process that is gone before `/proc` shows it is judged by what is left of it, and left out (and counted) where that does
//! not say that it is traced:
//!
//! 1. a fork of a process that was judged, without another program since: as its parent;
//! 2. with conditions of the configuration (`select.include`, `select.exclude`, `services.exclude`): left out, since a name alone
//!    meets none of them for certain;
//! 3. else by the name that the kernel gave it, against the programs that are left alone by default.

use std::collections::HashSet;

use super::select::Choice;
use super::{Inspected, Inspector};
use spoor_core::bounded::Bounded;
use spoor_core::record::{ConnId, ProcessEventKind, ProcessInfo, Record, Tgid};

/// Processes remembered at once; the ones looked up first are looked up again.
const MAX_PROCESSES: usize = 65_536;
/// Excluded connections remembered.
const MAX_EXCLUDED: usize = 65_536;

/// How processes are looked up: replaced in tests.
pub trait Inspect: Send {
    /// `None` when it is gone.
    fn inspect(&mut self, tgid: Tgid) -> Option<Inspected>;

    /// Whether a process is traced of which nothing is left but its name (empty: not even that).
    fn judge(&self, comm: &str) -> Choice;

    /// Grows when a process that was `unfinished` may be known better.
    fn generation(&self) -> u64;
}

impl Inspect for Inspector {
    fn inspect(&mut self, tgid: Tgid) -> Option<Inspected> {
        Self::inspect(self, tgid)
    }

    fn judge(&self, comm: &str) -> Choice {
        Self::judge(self, comm)
    }

    fn generation(&self) -> u64 {
        Self::generation(self)
    }
}

/// Adds what `/proc` knows to the records of a live source.
pub struct Lookup {
    inspect: Box<dyn Inspect>,
    /// The one looked up first is the oldest.
    known: Bounded<Tgid, Known>,
    /// Processes of which more may be known later, and when they were looked at.
    unfinished: HashSet<Tgid>,
    generation: u64,
    /// The process of the last record: most come in runs.
    last: Option<(Tgid, Known)>,
    /// Forks that run their parent's program: what was known of the parent.
    inherited: Bounded<Tgid, Known>,
    /// Processes that were left out because they were gone before they could be judged.
    unjudged: u64,
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
            inherited: Bounded::new(MAX_PROCESSES),
            unjudged: 0,
            excluded: Bounded::new(MAX_EXCLUDED),
        }
    }

    /// Looks at a record before it is handed on.
    pub fn see(&mut self, record: &Record) -> Verdict {
        let (tgid, comm, conn) = match record {
            Record::Conn(conn) => (conn.thread.tgid, conn.comm.as_str(), conn.id),
            Record::Data(data) => (data.thread.tgid, "", data.conn),
            // It goes with the data that follows.
            Record::Chain(chain) => {
                return match self.known.get(&chain.thread.tgid) {
                    Some(Known::Traced) => Verdict::HandOn,
                    _ => Verdict::Drop,
                };
            }
            Record::Process(event) => {
                match event.kind {
                    // A new process, or one that became another: what was known is no longer true. After its end it
                    // is known on, for data that is still on the way.
                    ProcessEventKind::Fork { parent_tgid } => {
                        self.forget(event.tgid);
                        self.inherit(event.tgid, parent_tgid);
                    }
                    ProcessEventKind::Exec => self.forget(event.tgid),
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
        if tgid == Tgid::default() {
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
                let found = self.inspect.inspect(tgid).unwrap_or_else(|| self.gone(tgid, comm));
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

    /// Processes that were left out because they were gone before they could be judged.
    pub fn unjudged(&self) -> u64 {
        self.unjudged
    }

    /// A process that ended before it could be looked up is named by what the kernel called it.
    fn gone(&mut self, tgid: Tgid, comm: &str) -> Inspected {
        let choice = match self.inherited.get(&tgid) {
            Some(Known::Traced) => Choice::Traced,
            Some(Known::Excluded | Known::Undecided) => Choice::Excluded,
            None => {
                let choice = self.inspect.judge(comm);
                self.unjudged += u64::from(choice == Choice::Excluded);
                choice
            }
        };
        let info =
            ProcessInfo { tgid, comm: comm.to_owned(), service: comm.to_owned(), ..ProcessInfo::default() };
        Inspected { info, choice, unfinished: false }
    }

    /// A fork runs its parent's program until it says otherwise.
    fn inherit(&mut self, tgid: Tgid, parent: Tgid) {
        let Some(known) = self.known.get(&parent).or_else(|| self.inherited.get(&parent)).copied() else {
            return;
        };
        self.inherited.insert(tgid, known);
    }

    fn forget(&mut self, tgid: Tgid) {
        self.inherited.remove(&tgid);
        self.known.remove(&tgid);
        self.unfinished.remove(&tgid);
        self.last = self.last.filter(|(last, _)| *last != tgid);
    }

    fn remember(&mut self, tgid: Tgid, known: Known) {
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

#[cfg(test)]
mod tests;
