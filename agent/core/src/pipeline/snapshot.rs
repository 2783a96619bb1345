//! What the core has learned and cannot learn again from the middle of streams out, for the next agent; and in again.
//!
//! ```text
//!   connections, processes ─▶ snapshot ─▶ Snapshot ─ a file ─▶ Snapshot ─▶ restore ─▶ connections, processes
//! ```
//!
//! A process is the same when the machine has not started anew and identifier, start and executable agree.
//! What connections are, and what of them survives, is in [`conn::learned`](crate::conn::snapshot).
//!
//! *Owns* processes' identities, and what may be written down: a file holds nothing that a span could not hold. *Must not know*
//! files.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Pipeline;
use crate::causality::engine::Engine;
use crate::causality::inside::snapshot::Snapshot as Shown;
use crate::conn::snapshot::Connection;
use crate::order::value::is_personal;
use crate::protocol::snapshot::{self as protocol, Texts};
use crate::record::{BootNs, ProcessEvent, ProcessEventKind, ProcessInfo};
use crate::span::query_text;
use crate::sql;

/// Processes that were not seen for so long are not waited for.
const MAX_ABSENCE_NS: u64 = 24 * 3600 * 1_000_000_000;
/// Processes whose identity is known, and that are waited for.
const MAX_PROCESSES: usize = 16_384;

/// Everything that one agent leaves to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Identifies the boot of the machine: everything else is of that boot.
    pub boot_id: [u8; 16],
    pub at: BootNs,
    /// Texts of statements as they may be exported, by place.
    pub texts: Vec<String>,
    pub connections: Vec<Connection>,
    pub processes: Vec<Process>,
}

/// A process, and what it has shown of how it works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    pub tgid: u32,
    /// As `/proc` gives it.
    pub start_ns: BootNs,
    /// It can become another program and keep both of the above.
    pub exe: String,
    pub seen_at: BootNs,
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
    known: HashMap<u32, (BootNs, String)>,
    waiting: HashMap<u32, Process>,
    stats: Stats,
}

impl Pipeline {
    /// What the next agent should know. Takes nothing away; before [`Pipeline::finish`], which ends everything.
    pub fn snapshot(&self) -> Snapshot {
        let mut texts = Texts::default();
        let connections = self.connections.export(&mut texts);
        Snapshot {
            boot_id: self.boot_id,
            at: self.now,
            texts: texts.into_list().iter().map(|text| exportable(text)).collect(),
            connections: connections
                .into_iter()
                .map(|one| harmless(one, self.identifier.pseudonyms.is_some()))
                .collect(),
            processes: self.histories.export(&self.engine, self.now),
        }
    }

    /// Takes what an earlier agent had learned, at `now`. Before the first record. What is of another boot of the machine, or
    /// of one that cannot be identified, is left.
    pub fn restore(&mut self, learned: Snapshot, now: BootNs) {
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
    pub(super) fn introduced(&mut self, info: &ProcessInfo, engine: &mut Engine, now: BootNs) {
        let is_known = info.start_ns != 0 && !info.exe.is_empty();
        if is_known && (self.known.len() < MAX_PROCESSES || self.known.contains_key(&info.tgid)) {
            self.known.insert(info.tgid, (info.start_ns, info.exe.clone()));
        }
        let Some(before) = self.waiting.remove(&info.tgid) else { return };
        let is_same = is_known && before.start_ns == info.start_ns && before.exe == info.exe;
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

    fn export(&self, engine: &Engine, now: BootNs) -> Vec<Process> {
        let known = self.known.iter().filter_map(|(tgid, (start_ns, exe))| {
            let shown = engine.export(*tgid)?;
            Some(Process { tgid: *tgid, start_ns: *start_ns, exe: exe.clone(), seen_at: now, shown })
        });
        let mut all: Vec<Process> = known.chain(self.waiting.values().cloned()).collect();
        all.sort_unstable_by_key(|process| process.tgid);
        all
    }

    fn restore(&mut self, mut all: Vec<Process>, now: BootNs) {
        let before = all.len();
        all.retain(|process| process.seen_at <= now && now - process.seen_at <= MAX_ABSENCE_NS);
        all.truncate(MAX_PROCESSES);
        self.stats.processes_expired += (before - all.len()) as u64;
        self.waiting = all.into_iter().map(|process| (process.tgid, process)).collect();
    }
}

/// A statement's text as a span shows it.
fn exportable(text: &str) -> String {
    query_text(text, sql::is_parameterised(text))
}

/// The same connection without what no span may hold. `hashed`: keys leave as hashes only, and addresses of messages, which can
/// hold them in another form, not at all.
fn harmless(mut connection: Connection, hashed: bool) -> Connection {
    match &mut connection.learned {
        protocol::Snapshot::Postgres(postgres) => {
            postgres.database.take_if(|database| is_personal(database));
            postgres.statements.retain(|statement| !is_personal(&statement.name));
            for statement in &mut postgres.statements {
                let is_named = statement.columns.iter().all(|column| !is_personal(&column.name));
                if !is_named {
                    statement.columns.clear();
                }
            }
        }
        protocol::Snapshot::Amqp(amqp) => {
            amqp.vhost.take_if(|vhost| is_personal(vhost));
            amqp.channels.iter_mut().for_each(|channel| harmless_channel(channel, hashed));
        }
        protocol::Snapshot::Http2(http2) => {
            for (name, value) in http2.request.fields.iter_mut().chain(&mut http2.response.fields) {
                let named = name.as_deref().filter(|name| name.len() <= MAX_FIELD && !is_personal(name));
                let is_harmless =
                    named.zip(value.as_deref()).is_some_and(|(name, value)| is_harmless_field(name, value));
                value.take_if(|_| !is_harmless);
                if named.is_none() {
                    *name = None;
                }
            }
        }
    }
    connection
}

/// A queue whose name tells of a person is one that is not known.
fn harmless_channel(channel: &mut protocol::Channel, hashed: bool) {
    channel.consumers.retain(|consumer| !is_personal(&consumer.tag));
    channel.asked.retain(|asked| !is_personal(&asked.name));
    channel.inferred.retain(|(tag, _)| !is_personal(tag));
    for one in &mut channel.unsettled {
        if hashed || is_personal(&one.exchange) || is_personal(&one.routing_key) {
            one.exchange.clear();
            one.routing_key.clear();
        }
    }
    let consumers = channel.consumers.iter_mut().map(|consumer| &mut consumer.queue);
    let asked = channel.asked.iter_mut().filter_map(|asked| asked.queue.as_mut());
    let inferred = channel.inferred.iter_mut().filter_map(|(_, queue)| queue.as_mut());
    let unsettled = channel.unsettled.iter_mut().map(|one| &mut one.queue);
    for queue in consumers.chain(asked).chain(inferred).chain(unsettled).chain([&mut channel.last_queue]) {
        if is_personal(queue) {
            queue.clear();
        }
    }
    // Unlike a subscription without a queue, an inferred queue has a name.
    channel.inferred.retain(|(_, queue)| queue.as_deref() != Some(""));
}

/// Longest header field that is written down.
const MAX_FIELD: usize = 128;

/// Header fields that say how something is sent, not what: all others may be credentials or tell of people. Of paths, those
/// that name a method of a service (gRPC over HTTP/2, "Requests"): others hold numbers and names.
fn is_harmless_field(name: &str, value: &str) -> bool {
    let is_allowed = match name {
        ":method"
        | ":scheme"
        | ":status"
        | "te"
        | "accept-encoding"
        | "content-encoding"
        | "grpc-encoding"
        | "grpc-accept-encoding"
        | "grpc-status"
        | "user-agent" => true,
        "content-type" => !value.contains(';'),
        ":authority" => value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)),
        ":path" => is_service_method(value),
        _ => false,
    };
    is_allowed && value.len() <= MAX_FIELD && !is_personal(value)
}

/// `/package.Service/Method`.
fn is_service_method(path: &str) -> bool {
    let is_word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let parts = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
    parts.is_some_and(|(service, method)| {
        service.contains('.') && service.split('.').all(is_word) && is_word(method)
    })
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
