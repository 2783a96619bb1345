//! Records of all connections → protocol [`Event`]s with their connection.
//!
//! *Owns* the table of connections: addresses, roles, wire identity, one stream per direction, the detected session,
//! and the verdicts that tell the kernel what to copy. *Must not know* operations of other connections, orders, spans.

mod flow;
mod look;
mod opening;
mod preface;
pub mod snapshot;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::bounded::{Bounded, Slot};
use crate::operation::Operation;
use crate::protocol::snapshot::Texts;
use crate::protocol::{Event, Events, PerProtocol, Protocol, Session};
use crate::record::{Close, Conn, ConnId, Data, OpId, Role};
use crate::settings;
use crate::stream::Window;
use crate::time::BootTime;
use crate::tls;
use flow::{Context, Flow};
use opening::Opening;
pub use opening::{Unwanted, Wanted};
use snapshot::{Connection, Waiting};
pub use stats::{Stats, TlsStats};

/// Captured bytes that all connections together may hold back: waiting for order, or for detection.
const MAX_BUFFERED: usize = 32 << 20;
/// Closed connections whose late records are recognised.
const MAX_REMEMBERED: usize = 4096;
/// A connection that holds no more has nothing to give that would be worth what it loses: its session, its readers, a few entries.
const MIN_GIVEN: usize = 8 << 10;
/// How often sessions are told the time.
const SWEEP: Duration = Duration::from_secs(1);

/// What is known of a connection, shared by everything that came from it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnInfo {
    /// As first seen, with later updates folded in.
    pub conn: Conn,
    /// The role, from the kernel or from the protocol. `None` until either tells.
    pub role: Option<Role>,
    /// What it speaks, once detected.
    pub protocol: Option<Protocol>,
    /// The client behind the proxy at the other end, where that says so in front of the stream (PROXY protocol).
    pub client: Option<SocketAddr>,
    /// The TLS that it was opened from. `None`: it is in the clear, or stays closed.
    pub tls: Option<Arc<tls::Facts>>,
}

/// A shared [`ConnInfo`].
pub type ConnRef = Arc<ConnInfo>;

/// What the kernel should do with a connection from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictUpdate {
    pub conn: ConnId,
    pub verdict: Verdict,
}

/// See `spoor_common::verdict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours: copy nothing, report nothing.
    Ignore,
    /// Copy at most so many bytes per turn.
    Capture { turn_bytes: u32 },
    /// Report lengths only up to this position of a direction, then capture again.
    Skip { direction: crate::record::Direction, until_pos: u64 },
}

/// Makes the session of a detected protocol.
type MakeSession = fn(Protocol, Role, &settings::Protocols) -> Box<dyn Session>;

/// All connections. Sans-I/O: `handle_*` in, `poll_*` out.
///
/// ```text
///   Conn, Data, Close ─▶ Connections ─▶ (ConnRef, Event)   per operation, in order
///                            └────────▶ VerdictUpdate       what the kernel should copy
/// ```
///
/// Time is record time: call [`Connections::handle_timeout`] only when every record up to `now` was handled, else what
/// is still in the ring counts as lost. The time of a record counts as well.
#[derive(Debug)]
pub struct Connections {
    /// The one that did nothing for longest is the oldest.
    table: Bounded<ConnId, Flow>,
    context: Context,
    /// Deadlines of flows that wait for something.
    timers: BTreeSet<(BootTime, ConnId)>,
    next_sweep: BootTime,
    now: BootTime,
    buffered: usize,
    held: usize,
    /// Connections that ended not long ago.
    closed: Bounded<ConnId, ()>,
}

impl Connections {
    /// No connection yet; at most `max_connections` (at least one) are known at once.
    pub fn new(limits: &settings::Protocols, max_connections: usize) -> Self {
        let context = Context {
            limits: limits.clone(),
            turn_bytes: settings::DEFAULT_TURN_BYTES,
            window: Window::default(),
            make_session: Protocol::session,
            events: Events::default(),
            shared: PerProtocol::from_fn(Protocol::shared),
            out: VecDeque::new(),
            verdicts: VecDeque::new(),
            stats: Stats::default(),
            waiting: Waiting::default(),
            tls: Opening::new(max_connections),
        };
        Self {
            table: Bounded::new(max_connections),
            context,
            timers: BTreeSet::new(),
            next_sweep: BootTime::ZERO,
            now: BootTime::ZERO,
            buffered: 0,
            held: 0,
            closed: Bounded::new(MAX_REMEMBERED),
        }
    }

    /// Sets the bytes per turn that verdicts ask the kernel for (`capture.turn_bytes`).
    pub fn with_turn_bytes(mut self, turn_bytes: u32) -> Self {
        self.context.turn_bytes = turn_bytes;
        self
    }

    /// Opens TLS connections whose secrets come to be known ([`Connections::handle_secret`]); without it they are counted and
    /// left alone.
    pub fn with_tls(mut self, bounds: tls::Bounds) -> Self {
        self.open_tls(bounds);
        self
    }

    /// The same from now on.
    pub fn open_tls(&mut self, bounds: tls::Bounds) {
        self.context.tls.open(bounds);
    }

    /// From now on they are left alone again. What waits for a secret waits on.
    pub fn leave_tls(&mut self) {
        self.context.tls.leave();
    }

    /// Asks for secrets of connections that wait for one ([`Connections::poll_wanted`]).
    pub fn begin_search(&mut self) {
        self.context.tls.is_searched = true;
    }

    /// Asks no more, forgets what was found, and closes what was opened with it.
    pub fn end_search(&mut self) {
        self.context.tls.end_search();
        for slot in self.table.by_age().collect::<Vec<_>>() {
            if let Some(flow) = self.table.at_mut(slot) {
                flow.forget_found(self.now, &mut self.context);
            }
            self.settle(slot);
        }
    }

    /// The next connection whose secret is wanted.
    pub fn poll_wanted(&mut self) -> Option<Wanted> {
        self.context.tls.poll_wanted()
    }

    /// The next connection whose secret was wanted and is no more.
    pub fn poll_unwanted(&mut self) -> Option<Unwanted> {
        self.context.tls.poll_unwanted()
    }

    /// A secret came to be known: what waited for it is opened.
    pub fn handle_secret(&mut self, known: tls::Known) {
        let waiting = self.context.tls.learn(known, self.now);
        for id in waiting {
            let Some(slot) = self.table.slot(&id) else { continue };
            if let Some(flow) = self.table.at_mut(slot) {
                flow.unseal(self.now, &mut self.context);
            }
            self.settle(slot);
        }
    }

    /// First sight of a connection, or more about it.
    pub fn handle_conn(&mut self, conn: Conn) {
        self.advance(conn.at);
        match self.table.slot(&conn.id) {
            Some(slot) => {
                if let Some(flow) = self.table.at_mut(slot) {
                    flow.update(conn);
                }
            }
            None => {
                let known = self.context.waiting.claim(&conn);
                let slot = self.open(conn, true);
                if let Some(flow) = self.table.at_mut(slot) {
                    flow.known = known;
                }
            }
        }
    }

    /// Bytes moved.
    pub fn handle_data(&mut self, data: Data) {
        self.advance(data.at);
        self.context.stats.records += 1;
        let slot = match self.table.slot(&data.conn) {
            Some(slot) => slot,
            None if self.closed.contains_key(&data.conn) => {
                self.context.stats.late_records += 1;
                return;
            }
            None => {
                self.context.stats.unannounced += 1;
                self.context.waiting.unknown(data.conn);
                self.open(Conn::unannounced(&data), false)
            }
        };
        self.table.touch(slot);
        if let Some(flow) = self.table.at_mut(slot) {
            flow.handle_data(data, self.now, &mut self.context);
        }
        self.settle(slot);
    }

    /// A connection ended. Its session ends when records that may still come late have had their time.
    pub fn handle_close(&mut self, close: Close) {
        self.advance(close.at);
        let Some(slot) = self.table.slot(&close.conn) else { return self.context.waiting.closed(close.conn) };
        if let Some(flow) = self.table.at_mut(slot) {
            flow.close(close, &mut self.context);
        }
        self.settle(slot);
    }

    /// Time passed, and every record up to `now` was handled.
    pub fn handle_timeout(&mut self, now: BootTime) {
        self.advance(now);
        if self.next_sweep <= self.now {
            self.next_sweep = self.now + SWEEP;
            for slot in self.table.by_age().collect::<Vec<_>>() {
                if let Some(flow) = self.table.at_mut(slot) {
                    flow.sweep(self.now, &mut self.context);
                }
                self.count(slot);
            }
        }
    }

    /// No more records: ends every connection, those whose close was not seen as abandoned.
    pub fn finish(&mut self, now: BootTime) {
        self.advance(now);
        while let Some(slot) = self.table.oldest() {
            self.context.stats.abandoned +=
                u64::from(self.table.at(slot).is_some_and(|flow| !flow.is_closing()));
            self.end(slot);
        }
    }

    /// What the next agent should know of connections, those that have not spoken since this one began among them. Takes
    /// nothing away.
    pub fn export(&self, texts: &mut Texts) -> Vec<Connection> {
        let mut all: Vec<Connection> = self.table.values().filter_map(|flow| flow.export(texts)).collect();
        all.extend(self.context.waiting.connections().map(|(one, from)| snapshot::again(one, from, texts)));
        snapshot::within_bound(all)
    }

    /// Takes what an earlier agent of this boot of the machine had learned. Before the first record.
    pub fn restore(&mut self, all: Vec<Connection>, texts: Vec<Arc<str>>, now: BootTime) {
        self.context.waiting.restore(all, texts, now, self.table.capacity());
    }

    /// What became of what an earlier agent had learned.
    pub fn restored(&self) -> snapshot::Stats {
        self.context.waiting.stats
    }

    /// The next event, in the order its connection's bytes moved.
    pub fn poll_event(&mut self) -> Option<(ConnRef, Event)> {
        self.context.out.pop_front()
    }

    /// The next change of what the kernel should copy.
    pub fn poll_verdict(&mut self) -> Option<VerdictUpdate> {
        self.context.verdicts.pop_front()
    }

    /// When [`Connections::handle_timeout`] would change something.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let sweep = (!self.table.is_empty()).then_some(self.next_sweep);
        let first = self.timers.first().map(|(at, _)| *at);
        [sweep, first].into_iter().flatten().min()
    }

    /// What is known of a connection.
    pub fn info(&self, id: ConnId) -> Option<&ConnRef> {
        self.table.get(&id).map(Flow::info)
    }

    /// What is known so far of an operation of a connection that is not over, see [`Session::peek`].
    pub fn peek(&self, id: ConnId, op: OpId) -> Option<Operation> {
        self.table.get(&id)?.peek(op)
    }

    /// Connections known now.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// No connection is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Captured bytes held back, waiting for order or for detection.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Bytes that all connections hold, with what their sessions hold.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Memory is short: no more than `down_to` bytes are to be held. Those give who hold most: first bodies and values of what is open,
    /// then all that their sessions hold; then the connections that did nothing for longest are given up.
    pub fn relieve(&mut self, down_to: usize) {
        let before = self.held;
        let held =
            |table: &Bounded<ConnId, Flow>, slot: &Slot| table.at(*slot).map_or(0, |flow| flow.accounted.all);
        let mut by_size: Vec<Slot> = self.table.by_age().collect();
        by_size.sort_by_cached_key(|slot| std::cmp::Reverse(held(&self.table, slot)));
        for give in [Flow::give_values, Flow::give_session] {
            for slot in &by_size {
                if self.held <= down_to {
                    break;
                }
                // In the order of before: some have given by now.
                if held(&self.table, slot) <= MIN_GIVEN {
                    continue;
                }
                if let Some(flow) = self.table.at_mut(*slot) {
                    give(flow, self.now, &mut self.context);
                }
                self.settle(*slot);
            }
        }
        while self.held > down_to
            && let Some(oldest) = self.table.oldest()
        {
            self.context.stats.evicted_for_memory += 1;
            self.end(oldest);
        }
        self.context.stats.given_up_bytes += before.saturating_sub(self.held) as u64;
    }

    /// What was forgotten at bounds, by table: ends of connections, whose late records open them anew, and what connections
    /// of a protocol told about each other.
    pub fn forgotten(&self) -> [(&'static str, u64); 3] {
        let shared = self.context.shared.iter().filter_map(|(_, shared)| shared.as_ref());
        let told = shared.map(|shared| shared.forgotten()).sum();
        let secrets = self.context.tls.secrets.forgotten();
        [("connection_ends", self.closed.forgotten()), ("shared_statements", told), ("tls_secrets", secrets)]
    }

    /// Totals.
    pub fn stats(&self) -> &Stats {
        &self.context.stats
    }

    /// Moves time forward and wakes the flows that waited for that.
    fn advance(&mut self, at: BootTime) {
        self.now = self.now.max(at);
        self.context.tls.secrets.expire(self.now);
        while let Some((deadline, id)) = self.timers.first().copied()
            && deadline <= self.now
        {
            self.timers.pop_first();
            let Some(slot) = self.table.slot(&id) else { continue };
            let Some(flow) = self.table.at_mut(slot) else { continue };
            flow.deadline = None;
            if flow.handle_timeout(self.now, &mut self.context) {
                self.forget(slot);
            } else {
                self.settle(slot);
            }
        }
    }

    fn open(&mut self, conn: Conn, is_announced: bool) -> Slot {
        while self.table.is_full()
            && let Some(oldest) = self.table.oldest()
        {
            self.context.stats.evicted +=
                u64::from(self.table.at(oldest).is_some_and(|flow| !flow.is_closing()));
            self.end(oldest);
        }
        self.context.stats.opened += 1;
        self.closed.remove(&conn.id);
        self.table.insert_new(conn.id, Flow::new(conn, is_announced, self.context.window)).0
    }

    /// Brings the timers and the memory account in line with a flow that did something.
    fn settle(&mut self, slot: Slot) {
        self.count(slot);
        if self.buffered > MAX_BUFFERED {
            if let Some(flow) = self.table.at_mut(slot) {
                flow.relieve(self.now, &mut self.context);
            }
            self.count(slot);
        }
        let Some(flow) = self.table.at_mut(slot) else { return };
        let id = flow.info().conn.id;
        // What is due already is done at the next record or timeout.
        let deadline = flow.poll_timeout(self.context.window, self.context.tls.bounds.after_end);
        if deadline != flow.deadline {
            if let Some(old) = flow.deadline {
                self.timers.remove(&(old, id));
            }
            flow.deadline = deadline;
            self.timers.extend(deadline.map(|at| (at, id)));
        }
    }

    /// Brings the accounts in line with what a flow holds.
    fn count(&mut self, slot: Slot) {
        let Some(flow) = self.table.at_mut(slot) else { return };
        let held = flow.held();
        let before = std::mem::replace(&mut flow.accounted, held);
        if held != before {
            self.buffered = self.buffered.saturating_sub(before.back).saturating_add(held.back);
            self.held = self.held.saturating_sub(before.all).saturating_add(held.all);
        }
    }

    /// Ends a flow now.
    fn end(&mut self, slot: Slot) {
        if let Some(flow) = self.table.at_mut(slot) {
            flow.end(self.now, &mut self.context);
        }
        self.forget(slot);
    }

    fn forget(&mut self, slot: Slot) {
        let Some(flow) = self.table.remove_at(slot) else { return };
        let id = flow.info().conn.id;
        if let Some(deadline) = flow.deadline {
            self.timers.remove(&(deadline, id));
        }
        self.buffered = self.buffered.saturating_sub(flow.accounted.back);
        self.held = self.held.saturating_sub(flow.accounted.all);
        if flow.is_closing() {
            self.context.stats.closed += 1;
            self.closed.insert(id, ());
        }
    }
}
