//! What the core has learned and cannot learn again from the middle of streams ⇄ plain values for the next agent.
//!
//! ```text
//!   connections, processes ─▶ snapshot ─▶ Snapshot ─ a file ─▶ Snapshot ─▶ restore ─▶ connections, processes
//! ```
//!
//! A process is the same when the machine has not started anew and identifier, start and executable agree.
//! What connections are, and what of them survives, is in [`conn::snapshot`](crate::conn::snapshot).
//!
//! *Owns* processes' identities, and that only what is harmless is written down: a file holds nothing that a span could not hold. *Must not know*
//! files.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Pipeline;
use crate::causality::engine::Engine;
use crate::causality::inside::snapshot::Snapshot as Shown;
use crate::conn::snapshot::Connection;
use crate::protocol::snapshot::{Discretion, Texts};
use crate::record::{ProcessEvent, ProcessEventKind, ProcessInfo, Tgid};
use crate::sql;
use crate::time::BootTime;

/// Processes that were not seen for so long are not waited for.
const MAX_ABSENCE: Duration = Duration::from_secs(24 * 3600);
/// Processes whose identity is known, and that are waited for.
const MAX_PROCESSES: usize = 16_384;

/// Everything that one agent leaves to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Identifies the boot of the machine: everything else is of that boot.
    pub boot_id: [u8; 16],
    pub at: BootTime,
    /// Texts of statements as they may be exported, by place.
    pub texts: Vec<String>,
    pub connections: Vec<Connection>,
    pub processes: Vec<Process>,
}

/// A process, and what it has shown of how it works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    pub tgid: Tgid,
    /// As `/proc` gives it.
    #[serde(rename = "start_ns")]
    pub started_at: BootTime,
    /// It can become another program and keep both of the above.
    pub exe: String,
    pub seen_at: BootTime,
    pub shown: Shown,
}

/// What became of what an earlier agent had learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub connections: crate::conn::snapshot::Stats,
    /// Processes not seen yet.
    pub processes_waiting: u64,
    pub processes: u64,
    /// Processes not seen for too long, …
    pub processes_expired: u64,
    /// … and those that are another one by now, or whose counts mean nothing any more.
    pub processes_changed: u64,
    /// Connections and processes of another boot of the machine.
    pub other_boot: u64,
}

/// Identities of processes, and what waits for them.
#[derive(Debug, Default)]
pub(super) struct Histories {
    known: HashMap<Tgid, (BootTime, String)>,
    waiting: HashMap<Tgid, Process>,
    stats: Stats,
}

impl Pipeline {
    /// What the next agent should know. Takes nothing away; before [`Pipeline::finish`], which ends everything.
    pub fn snapshot(&self) -> Snapshot {
        let mut texts = Texts::default();
        let discretion = Discretion { hashed: self.identifier.pseudonyms.is_some() };
        let connections = self.connections.export(&mut texts);
        Snapshot {
            boot_id: self.boot_id,
            at: self.now,
            texts: texts.into_list().iter().map(|text| sql::sanitize(text)).collect(),
            connections: connections
                .into_iter()
                .map(|one| Connection { learned: one.learned.harmless(discretion), ..one })
                .collect(),
            processes: self.histories.export(&self.engine, self.now),
        }
    }

    /// Takes what an earlier agent had learned, at `now`. Before the first record. What is of another boot of the machine, or
    /// of one that cannot be identified, is left.
    pub fn restore(&mut self, learned: Snapshot, now: BootTime) {
        self.now = self.now.max(now);
        if learned.boot_id != self.boot_id || self.boot_id == [0; 16] {
            self.histories.stats.other_boot += (learned.connections.len() + learned.processes.len()) as u64;
            return;
        }
        let texts: Vec<Arc<str>> = learned.texts.into_iter().map(Arc::from).collect();
        self.connections.restore(learned.connections, texts, self.now);
        self.histories.restore(learned.processes, self.now);
    }

    /// What became of it.
    pub fn restored(&self) -> Stats {
        Stats {
            connections: self.connections.restored(),
            processes_waiting: self.histories.waiting.len() as u64,
            ..self.histories.stats
        }
    }
}

impl Histories {
    /// A process was looked up: goes on with what it had shown, if it is the same.
    pub(super) fn introduced(&mut self, info: &ProcessInfo, engine: &mut Engine, now: BootTime) {
        let is_known = info.started_at != BootTime::ZERO && !info.exe.is_empty();
        if is_known && (self.known.len() < MAX_PROCESSES || self.known.contains_key(&info.tgid)) {
            self.known.insert(info.tgid, (info.started_at, info.exe.clone()));
        }
        let Some(before) = self.waiting.remove(&info.tgid) else { return };
        let is_same = is_known && before.started_at == info.started_at && before.exe == info.exe;
        if is_same && engine.import(info.tgid, &before.shown, now) {
            self.stats.processes += 1;
        } else {
            self.stats.processes_changed += 1;
        }
    }

    /// A process began, ended, or is another program from now on.
    pub(super) fn changed(&mut self, event: &ProcessEvent) {
        match event.kind {
            ProcessEventKind::Fork { .. } | ProcessEventKind::Exec | ProcessEventKind::Exit => {
                self.known.remove(&event.tgid);
                self.stats.processes_changed += u64::from(self.waiting.remove(&event.tgid).is_some());
            }
            ProcessEventKind::Thread { .. } => {}
        }
    }

    fn export(&self, engine: &Engine, now: BootTime) -> Vec<Process> {
        let known = self.known.iter().filter_map(|(tgid, (started_at, exe))| {
            let shown = engine.export(*tgid)?;
            Some(Process { tgid: *tgid, started_at: *started_at, exe: exe.clone(), seen_at: now, shown })
        });
        let mut all: Vec<Process> = known.chain(self.waiting.values().cloned()).collect();
        all.sort_unstable_by_key(|process| process.tgid);
        all
    }

    fn restore(&mut self, mut all: Vec<Process>, now: BootTime) {
        let before = all.len();
        all.retain(|process| {
            now.checked_since(process.seen_at).is_some_and(|absence| absence <= MAX_ABSENCE)
        });
        all.truncate(MAX_PROCESSES);
        self.stats.processes_expired += (before - all.len()) as u64;
        self.waiting = all.into_iter().map(|process| (process.tgid, process)).collect();
    }
}

#[cfg(test)]
mod tests;
