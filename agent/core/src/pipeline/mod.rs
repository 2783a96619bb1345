//! All records, the time → finished spans, verdicts: the sans-I/O façade.
//!
//! The live agent, `spoor replay`, the tests and the fuzzers all drive this one type. It has no socket, no clock, no
//! task: time comes with the records and with [`Pipeline::handle_timeout`], and everything it has to say is polled.
//!
//! ```text
//!   Record ─▶ conn ─(ConnRef, Event)─▶ causality ─Edge─▶ hold ─Tree─▶ identify ─▶ Span
//!                                  └─ Operation ─▶ order ─Found─┘
//! ```
//!
//! *Owns* the order in which the stages see things. *Must not know* how records arrive and spans leave.
//!
//! Long because it is the one list of what comes in, what goes out, and who is asked in which order.

mod in_flight;
mod lying;
mod open_work;
mod services;
pub mod snapshot;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::account::{Account, Holder};
use crate::bounded::Bounded;
use crate::causality::engine::{self, Engine};
use crate::conn::{ConnRef, Connections, Unwanted, VerdictUpdate, Wanted};
use crate::operation::{Detail, Interaction, OpSide, Operation};
use crate::order::explain::Explanation;
use crate::order::extract::Rules;
use crate::order::ids::{self, WireId};
use crate::order::rules::RuleError;
use crate::privacy::pseudonym::Pseudonyms;
use crate::protocol::{Event, PerProtocol, Protocol};
use crate::record::{ClockPair, ConnId, OpId, ProcessInfo, Record, Sender, Tgid};

use crate::span::sample::Sampler;
use crate::span::{self, Resource, Span};
use crate::sql::shapes::Shapes;
use crate::time::BootTime;
use crate::trees::Finished;
use crate::trees::hold::{self, Hold};
use crate::trees::identify::{self, Identifier, Placing};
use crate::work::{Done, Owner, Work};
use crate::{order, settings, tls};
pub use in_flight::Open;
use in_flight::{Begun, OpenOperations};
use lying::Lies;
use open_work::Ledger;
pub use open_work::{OpenWork, TellSettings, What};
use services::Services;
use snapshot::Histories;

/// What a pipeline needs to know before its first record.
#[derive(Clone, Debug)]
pub struct Settings {
    pub protocols: settings::Protocols,
    pub joining: crate::causality::settings::Joining,
    pub order: order::settings::Order,
    pub spans: order::settings::Spans,
    pub limits: settings::Limits,
    pub max_connections: usize,
    /// Bytes captured per turn of a connection whose protocol is known.
    pub turn_bytes: u32,
    /// Identifies this boot of this machine: part of identifiers that no other node can compute.
    pub boot_id: [u8; 16],
}

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    pub records: u64,
    pub bytes: u64,
    /// Records the source could not deliver, and their bytes.
    pub lost_records: u64,
    pub lost_bytes: u64,
    /// Operations that are over.
    pub operations: PerProtocol<u64>,
    /// Edges made, by rule.
    pub edges: BTreeMap<&'static str, u64>,
    /// Entries forgotten at the bounds of tables, by table; those without any are left out.
    pub forgotten: BTreeMap<&'static str, u64>,
    pub spans: u64,
    /// Of these, left out by the sampler.
    pub unsampled: u64,
    pub trees: u64,
    /// Trees released by a bound of time or number.
    pub trees_forced: u64,
    /// Operations held now, bytes held for all that is open and waits, and the most of them there ever were.
    pub held: u64,
    pub held_bytes: u64,
    pub most_held_bytes: u64,
    /// What was given up for the bounds on memory and time.
    pub given_up: GivenUp,
    pub connections: crate::conn::Stats,
}

/// What was given up to keep to the bounds on memory and time; connections count theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct GivenUp {
    /// Trees released before they were complete, because memory was short.
    pub trees_early: u64,
    /// Operations that are no spans: they waited for somebody to take those before, and memory was short.
    pub operations_waiting: u64,
    /// Operations that are no spans because their cgroup had more than its part of the time.
    pub operations_over_work: u64,
    /// Operations whose bodies were left as they were coded, for the same reason.
    pub operations_undecoded: u64,
}

/// Spans built ahead of being taken.
const MAX_AHEAD: usize = 256;
/// Processes remembered after their end, for spans that come late.
const MAX_PROCESSES: usize = 16_384;

/// Records in, spans out.
#[derive(Debug)]
pub struct Pipeline {
    connections: Connections,
    engine: Engine,
    rules: Rules,
    shapes: Shapes,
    hold: Hold,
    open: OpenOperations,
    /// Which of them others were told of.
    ledger: Ledger,
    /// Messages that lie in queues, as far as somebody asks.
    lies: Lies,
    services: Services,
    /// Open calls: where they begin in their stream, and their wire identity.
    wires: FxHashMap<OpId, (u64, WireId)>,
    identifier: Identifier,
    processes: Bounded<Tgid, Arc<Resource>>,
    histories: Histories,
    clock: ClockPair,
    boot_id: [u8; 16],
    now: BootTime,
    account: Account,
    work: Work,
    /// The tree whose spans are being built.
    placing: Option<Placing>,
    spans: VecDeque<Span>,
    stats: Stats,
    explanation: Option<Box<Explanation>>,
}

impl Pipeline {
    /// Fails only when a rule of the configuration cannot be used.
    pub fn new(settings: Settings) -> Result<Self, RuleError> {
        let limits = hold::Limits {
            linger: settings.joining.linger,
            max_hold: settings.joining.max_hold,
            max_operations: settings.joining.max_held_operations,
        };
        let mut identifier = Identifier::new(identify::Settings {
            joining: &settings.joining,
            order: &settings.order,
            boot_id: settings.boot_id,
        });
        identifier.set_order_root(settings.spans.order_root);
        Ok(Self {
            connections: Connections::new(&settings.protocols, settings.max_connections)
                .with_turn_bytes(settings.turn_bytes),
            engine: Engine::new(engine::policy(&settings.joining)),
            rules: Rules::compile(&settings.order)?.with_spans(&settings.spans)?,
            shapes: Shapes::default(),
            hold: Hold::new(limits),
            open: OpenOperations::default(),
            ledger: Ledger::default(),
            lies: Lies::default(),
            services: Services::default(),
            wires: FxHashMap::default(),
            identifier,
            processes: Bounded::new(MAX_PROCESSES),
            histories: Histories::default(),
            clock: ClockPair::UNKNOWN,
            boot_id: settings.boot_id,
            now: BootTime::ZERO,
            account: Account::new(settings.limits.memory_bytes),
            work: Work::new(settings.limits.work_percent),
            placing: None,
            spans: VecDeque::new(),
            stats: Stats::default(),
            explanation: None,
        })
    }

    /// Opens TLS connections whose secrets come to be known; without it they are counted and left alone.
    pub fn with_tls(mut self, bounds: tls::Bounds) -> Self {
        self.open_tls(bounds);
        self
    }

    /// The same from now on.
    pub fn open_tls(&mut self, bounds: tls::Bounds) {
        self.connections.open_tls(bounds);
    }

    /// From now on they are left alone again.
    pub fn leave_tls(&mut self) {
        self.connections.leave_tls();
    }

    /// Asks for secrets of TLS connections that wait for one ([`Pipeline::poll_wanted`]).
    pub fn begin_search(&mut self) {
        self.connections.begin_search();
    }

    /// Asks for no more secrets, forgets those that were found, and closes the connections that were opened with them.
    pub fn end_search(&mut self) {
        self.connections.end_search();
        self.drain_events();
        self.drain_edges();
    }

    /// The next TLS connection whose secret is wanted; the answer is [`Pipeline::handle_secret`], or none.
    pub fn poll_wanted(&mut self) -> Option<Wanted> {
        self.connections.poll_wanted()
    }

    /// The next one whose secret was wanted and is no more.
    pub fn poll_unwanted(&mut self) -> Option<Unwanted> {
        self.connections.poll_unwanted()
    }

    /// What is exported; without it, everything.
    pub fn with_sampler(mut self, sampler: Sampler) -> Self {
        self.identifier.sampler = sampler;
        self
    }

    /// Which keys leave as keyed hashes only; without it, none.
    pub fn with_pseudonyms(mut self, pseudonyms: Option<Pseudonyms>) -> Self {
        self.identifier.pseudonyms = pseudonyms;
        self
    }

    /// Keeps an account of which rule finds which key, from now on. Where keys leave as hashes it has no values.
    pub fn explain_keys(&mut self) {
        self.explanation = Some(Box::new(Explanation::new(self.identifier.pseudonyms.is_none())));
    }

    /// That account, if one is kept.
    pub fn explanation(&self) -> Option<&Explanation> {
        self.explanation.as_deref()
    }

    /// Puts other rules in force for operations that close from now on. Changes nothing when one cannot be used.
    pub fn set_rules(
        &mut self,
        order: &order::settings::Order,
        spans: &order::settings::Spans,
    ) -> Result<(), RuleError> {
        self.rules = Rules::compile(order)?.with_spans(spans)?;
        self.identifier.set_order(order);
        self.identifier.set_order_root(spans.order_root);
        Ok(())
    }

    /// Puts other choices of what is exported, and how, in force.
    pub fn set_export(&mut self, sampler: Sampler, pseudonyms: Option<Pseudonyms>) {
        self.identifier.sampler = sampler;
        self.identifier.pseudonyms = pseudonyms;
    }

    /// Takes one fact in. Records of one connection come in the order of [`crate::conn`]'s tolerance; others freely.
    pub fn handle_record(&mut self, record: Record) {
        self.stats.records += 1;
        self.now = self.now.max(record.at());
        match record {
            Record::Clock(pair) => self.clock = pair,
            Record::Conn(conn) => {
                self.identifier.introduced(&conn);
                self.connections.handle_conn(*conn);
            }
            Record::Data(data) => {
                self.stats.bytes += u64::from(data.len);
                self.connections.handle_data(data);
            }
            Record::Chain(chain) => self.engine.chained(*chain),
            Record::Close(close) => {
                let tgid = self.connections.info(close.conn).map(|info| info.conn.thread.tgid);
                self.connections.handle_close(close);
                self.drain_events();
                self.engine.conn_closed(close.conn, tgid, self.now);
            }
            Record::Process(event) => {
                self.histories.changed(&event);
                self.engine.process_changed(&event);
            }
            Record::ProcessInfo(info) => {
                self.histories.introduced(&info, &mut self.engine, self.now);
                self.engine.process_introduced(&info);
                self.name_process(&info);
            }
            Record::Lost(lost) => {
                if lost.records > self.stats.lost_records {
                    self.engine.lost(self.now);
                }
                self.stats.lost_records = lost.records;
                self.stats.lost_bytes = lost.bytes;
            }
        }
        self.drain_events();
        self.drain_edges();
        if self.hold.next_timeout().is_some_and(|due| due <= self.now)
            || self.engine.next_timeout().is_some_and(|due| due <= self.now)
        {
            self.run_timers();
        }
        self.keep_to_memory();
    }

    /// A secret of a TLS connection came to be known. It is no [`Record`]: a record may be written to a file.
    pub fn handle_secret(&mut self, known: tls::Known) {
        self.connections.handle_secret(known);
        self.drain_events();
        self.drain_edges();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: BootTime) {
        self.now = self.now.max(now);
        self.connections.handle_timeout(self.now);
        self.drain_events();
        self.run_timers();
        self.keep_to_memory();
    }

    /// The earliest time at which [`Pipeline::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        [self.connections.poll_timeout(), self.engine.next_timeout(), self.hold.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A finished span. There are more of them than fit into memory at once: each is built when the one before is taken.
    pub fn poll_span(&mut self) -> Option<Span> {
        while self.spans.is_empty() && self.build_next() {}
        self.spans.pop_front()
    }

    /// Memory is short until some more spans are taken.
    pub fn is_pressed(&self) -> bool {
        let mut account = self.account;
        account.set(self.connections.held(), self.trees_bytes());
        account.asks().is_some()
    }

    /// What the kernel should do from now on with a connection.
    pub fn poll_verdict(&mut self) -> Option<VerdictUpdate> {
        self.connections.poll_verdict()
    }

    /// Nobody takes spans any more. Returns how many operations are none because of that.
    pub fn abandon(&mut self) -> u64 {
        let placing = self.placing.take().map_or(0, |placing| placing.left());
        let spans = std::mem::take(&mut self.spans).len();
        (placing + spans) as u64 + self.hold.abandon()
    }

    /// What is known of a connection.
    pub fn conn(&self, id: ConnId) -> Option<&ConnRef> {
        self.connections.info(id)
    }

    /// No more records: closes what is open, decides what is undecided, releases every tree.
    pub fn finish(&mut self, now: BootTime) {
        self.now = self.now.max(now);
        self.connections.finish(self.now);
        self.drain_events();
        self.engine.finish();
        self.drain_edges();
        self.hold.release_all();
        self.drain_trees();
    }

    /// Services that spans which leave are of, the first ones up to a bound.
    pub fn services(&self) -> &BTreeSet<String> {
        &self.services.names
    }

    /// Work in progress, by service and protocol; `pending` counts what began before `before`.
    pub fn open(&self, before: BootTime) -> Vec<Open> {
        self.open.summary(before, |tgid| {
            self.processes
                .get(&tgid)
                .map_or_else(|| "unknown_service".to_owned(), |known| known.service.clone())
        })
    }

    pub fn stats(&self) -> Stats {
        Stats {
            held: self.hold.len() as u64,
            held_bytes: (self.connections.held() + self.trees_bytes()) as u64,
            most_held_bytes: self.account.most() as u64,
            given_up: GivenUp {
                trees_early: self.hold.given_up().early,
                operations_waiting: self.hold.given_up().operations,
                ..self.stats.given_up
            },
            trees_forced: self.hold.forced_count(),
            forgotten: self.forgotten(),
            connections: *self.connections.stats(),
            ..self.stats.clone()
        }
    }

    /// What was forgotten at the bounds of all tables.
    fn forgotten(&self) -> BTreeMap<&'static str, u64> {
        let own = [
            ("process_names", self.processes.forgotten()),
            ("open_operations", self.open.forgotten()),
            ("told_operations", self.ledger.untold()),
            ("statement_shapes", self.shapes.forgotten()),
        ];
        let causality = self.engine.stats().by_table();
        let trees = self.identifier.stats().by_table();
        own.into_iter()
            .chain(self.connections.forgotten())
            .chain(causality)
            .chain(trees)
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    fn run_timers(&mut self) {
        self.engine.handle_timeout(self.now);
        if self.peek_at_open() {
            self.engine.handle_timeout(self.now);
        }
        self.drain_edges();
        self.hold.handle_timeout(self.now);
        self.drain_trees();
    }

    /// Requests that hang are asked what they have shown so far. Returns whether there were any.
    fn peek_at_open(&mut self) -> bool {
        let mut any = false;
        while let Some((conn, op)) = self.engine.poll_to_peek() {
            any = true;
            if let Some(operation) = self.connections.peek(conn, op).filter(is_work) {
                self.engine.shown(&operation, &self.rules.extract(&operation));
            }
        }
        any
    }

    fn drain_events(&mut self) {
        while let Some((conn, event)) = self.connections.poll_event() {
            match event {
                Event::Opened { op, shape, point } => {
                    let family = conn.protocol.map_or(Interaction::Call, Protocol::interaction);
                    if shape != OpSide::Relayed
                        && let Some(protocol) = conn.protocol
                    {
                        let (at, tgid) = (point.at, point.thread.tgid);
                        let look_at = open_work::NEVER;
                        self.open.opened(op, Begun { at, conn: conn.conn.id, tgid, protocol, look_at });
                    }
                    self.engine.opened(&conn, op, shape, family, point);
                    self.hold.opened(op, self.now);
                    // Who begins a message's operation shows only in its bytes.
                    if family == Interaction::Call
                        && let Some(role) = conn.role
                        && let Some(wire) = ids::wire_id_at(&conn, Sender::Client, point.pos, &self.boot_id)
                    {
                        self.engine.begun(op, role, wire);
                        self.wires.insert(op, (point.pos, wire));
                    }
                }
                Event::Requested { op, point } => self.engine.requested(op, point),
                Event::Sent(operation) => self.engine.sent(&conn, &operation),
                Event::Closed(operation) => self.close(conn, *operation),
                Event::Missed { since, by, .. } => {
                    self.engine.missed(by, since, self.now);
                    // Another process may have the connection by now.
                    if by != conn.conn.thread.tgid {
                        self.engine.missed(conn.conn.thread.tgid, since, self.now);
                    }
                }
                Event::Unread { by, since, is_watched } => {
                    self.engine.unread(conn.conn.id, by, (since, is_watched));
                }
                Event::Hidden { by, at } => self.engine.hidden(conn.conn.id, by, at),
                Event::UnreadOver { at } => self.engine.unread_over(conn.conn.id, at),
                Event::Read => self.engine.read(conn.conn.id, self.now),
                Event::Discarded { .. } => {}
            }
        }
    }

    fn close(&mut self, conn: ConnRef, mut operation: Operation) {
        if let Some(protocol) = conn.protocol {
            self.stats.operations[protocol] += 1;
        }
        self.open.closed(operation.id);
        self.ledger.closed(operation.id, self.clock.wall_at(operation.ended_at));
        let owner = Owner::new(conn.conn.cgroup, operation.request.start.thread.tgid);
        let is_left_out = !self.work.allows(owner, self.now);
        let is_left_coded =
            !is_left_out && !self.work.allows_decoding(owner, self.now) && operation.leave_coded();
        self.stats.given_up.operations_over_work += u64::from(is_left_out);
        self.stats.given_up.operations_undecoded += u64::from(is_left_coded);
        let seen = match &operation.detail {
            Detail::Postgres(statement) if !is_left_out => {
                statement.text.as_deref().and_then(|text| self.shapes.look(text))
            }
            _ => None,
        };
        let (mut found, decoded_len) = match is_left_out {
            true => Default::default(),
            false => self.rules.extract_seen(&operation, seen.as_ref()),
        };
        let texts = seen.map(|seen| Arc::clone(seen.texts));
        found.is_left_out = self.rules.leaves_out(&operation);
        if let Some(explanation) = &mut self.explanation {
            explanation.add(&self.rules, &operation);
        }
        let start = operation.request.start.pos;
        let told = self.wires.remove(&operation.id).filter(|(pos, _)| *pos == start);
        let wire = match told {
            // Positions may have become uncertain since.
            Some((_, wire)) => ids::has_wire(&conn).then_some(wire),
            None => ids::wire_id(&conn, &operation, &self.boot_id),
        };
        let is_read = !is_left_out && !is_left_coded;
        self.engine.closed(&conn, &operation, &found, wire.filter(|_| told.is_none()), is_read);
        let message = self.identifier.message_span(&conn, &operation);
        self.identifier.learn(&conn, &operation);
        // All that is read of them has been read. A tree can be held for minutes.
        operation.forget_values(span::is_shown);
        let exported_len = operation.held();
        if !is_left_out {
            self.work.did(owner, Done { decoded_len, exported_len }, self.now);
        }
        let resource = self.resource(&conn, &operation);
        let settled = operation.shape != OpSide::Outgoing || self.engine.is_settled(operation.id);
        let finished = Finished {
            operation,
            conn,
            found,
            wire,
            resource,
            clock: self.clock,
            is_left_out,
            message,
            texts,
        };
        self.hold.closed(Box::new(finished), settled, self.now);
    }

    fn drain_edges(&mut self) {
        while let Some(edge) = self.engine.poll_edge() {
            *self.stats.edges.entry(edge.rule.name()).or_default() += 1;
            self.hold.edge(edge, self.now);
        }
        while let Some(passage) = self.engine.poll_passage() {
            self.hold.passage(passage, self.now);
        }
        while let Some((op, other)) = self.engine.poll_bond() {
            self.hold.bond(op, other, self.now);
        }
        while let Some(op) = self.engine.poll_settled() {
            self.hold.settled(op, self.now);
        }
    }

    /// Places trees and builds spans ahead, a few.
    fn drain_trees(&mut self) {
        while self.spans.len() < MAX_AHEAD && self.build_next() {}
    }

    /// Builds the spans of another operation. Returns whether there may be more.
    fn build_next(&mut self) -> bool {
        let Some(placing) = &mut self.placing else {
            let Some(tree) = self.hold.poll_tree() else { return false };
            self.stats.trees += 1;
            self.placing = Some(self.identifier.place(tree));
            return true;
        };
        let before = self.spans.len();
        if !self.identifier.build_next(placing, &mut self.spans) {
            self.placing = None;
        }
        for span in self.spans.range(before..) {
            self.lies.leaves(span);
            self.services.leaves(span);
        }
        self.stats.spans += (self.spans.len() - before) as u64;
        self.stats.unsampled += self.spans.range(before..).filter(|span| !span.sampled).count() as u64;
        true
    }

    /// Where too much is held, who holds most gives.
    fn keep_to_memory(&mut self) {
        self.tell_account();
        match self.account.asks() {
            None => return,
            Some((Holder::Connections, down_to)) => {
                self.connections.relieve(down_to);
                self.drain_events();
                self.drain_edges();
            }
            Some((Holder::Trees, down_to)) => {
                // What is on its way out is as good as given.
                self.hold.release_down_to(down_to);
                self.drain_trees();
            }
        }
        self.tell_account();
        if let Some(bytes) = self.account.beyond() {
            // Nobody takes spans, or not fast enough.
            self.hold.drop_down_to(self.hold.ready_bytes().saturating_sub(bytes));
            self.tell_account();
        }
    }

    fn tell_account(&mut self) {
        self.account.set(self.connections.held(), self.trees_bytes());
    }

    fn trees_bytes(&self) -> usize {
        self.hold.bytes() + self.placing.as_ref().map_or(0, Placing::bytes)
    }

    fn name_process(&mut self, info: &ProcessInfo) {
        let resource = Resource {
            service: info.service.clone(),
            service_namespace: info.service_namespace.clone(),
            instance: format!("{}-{}", info.tgid, info.started_at.as_nanos()),
            pid: Some(info.tgid.0),
            exe: Some(info.exe.clone()).filter(|exe| !exe.is_empty()),
            container_id: info.container_id.clone(),
            attributes: info.attributes.clone(),
        };
        self.processes.insert(info.tgid, Arc::new(resource));
    }

    /// Who did it: the process that moved the bytes, else the one that opened the connection.
    fn resource(&self, conn: &ConnRef, operation: &Operation) -> Arc<Resource> {
        let tgid = operation.request.start.thread.tgid;
        if let Some(known) = self.processes.get(&tgid) {
            return Arc::clone(known);
        }
        let comm =
            Some(conn.conn.comm.clone()).filter(|comm| !comm.is_empty() && conn.conn.thread.tgid == tgid);
        let service =
            comm.map_or_else(|| "unknown_service".to_owned(), |comm| format!("unknown_service:{comm}"));
        let resource = Resource {
            service,
            instance: tgid.to_string(),
            pid: Some(tgid.0).filter(|pid| *pid != 0),
            ..Resource::default()
        };
        Arc::new(resource)
    }
}

/// Other operations may be caused by it: it came to the process, or passes through it.
fn is_work(operation: &Operation) -> bool {
    match operation.detail {
        // A broker does nothing of its own for a message.
        Detail::Amqp(_) => operation.shape == OpSide::Incoming,
        Detail::Http(_) => true,
        Detail::Postgres(_) => operation.shape == OpSide::Relayed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{CgroupId, Close, Conn, Endpoint, NetNs, Transport, Worker};

    fn pipeline() -> Pipeline {
        Pipeline::new(Settings {
            protocols: settings::Protocols::default(),
            joining: crate::causality::settings::Joining::default(),
            order: order::settings::Order::default(),
            spans: order::settings::Spans::default(),
            limits: settings::Limits::default(),
            max_connections: 16,
            turn_bytes: settings::DEFAULT_TURN_BYTES,
            boot_id: [1; 16],
        })
        .expect("the default rules compile")
    }

    #[test]
    fn what_is_forgotten_is_in_the_stats_by_table() {
        let mut pipeline = pipeline();
        assert!(pipeline.stats().forgotten.is_empty());
        for tgid in 0..MAX_PROCESSES as u32 + 3 {
            let info = ProcessInfo { tgid: Tgid(tgid), service: "shop".to_owned(), ..ProcessInfo::default() };
            pipeline.handle_record(Record::ProcessInfo(Box::new(info)));
        }
        for n in 0..5000_u64 {
            let (at, id) = (BootTime::from_nanos(n * 1_000_000_000), ConnId(n));
            pipeline.handle_record(Record::Conn(Box::new(Conn {
                at,
                id,
                transport: Transport::Tcp,
                local: Endpoint::Unknown,
                remote: Endpoint::Unknown,
                netns: NetNs(1),
                role: None,
                from_start: true,
                thread: Worker::new(1, 1),
                comm: String::new(),
                cgroup: CgroupId(1),
                wire: None,
                peer: None,
            })));
            pipeline.handle_record(Record::Close(Close { at, conn: id, reset: false }));
        }
        pipeline.finish(BootTime::from_nanos(5_000_000_000_000));
        let stats = pipeline.stats();
        let table = |name| stats.forgotten.get(name).copied();
        assert_eq!(table("process_names"), Some(3), "{:?}", stats.forgotten);
        assert_eq!(table("connection_ends"), Some(5000 - 4096), "{:?}", stats.forgotten);
    }
}
