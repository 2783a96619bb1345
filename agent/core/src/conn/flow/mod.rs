//! Records of one connection → its session's events.
//!
//! ```text
//!   Detecting ──detected──▶ Speaking ──close──▶ gone
//!     ▲  │                     │
//!     │  └─not ours, opaque──▶ Ignored ◀─ too often
//!     └────── not that protocol after all ──────┘
//! ```
//!
//! Under TLS the same, one floor up: `sealed` gives plaintext to these states as if it had moved.
//!
//! Long because everything that can happen to a connection moves it between these states.

mod peek;
mod sealed;
mod snapshot;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::look::{Look, PerDirection};
use super::opening::Opening;
use super::preface::Preface;
use super::{ConnInfo, ConnRef, MakeSession, Stats, Verdict, VerdictUpdate};
use crate::conn::snapshot::{Known, Waiting};
use crate::protocol::detect::Detection;
use crate::protocol::{Discard, End, Event, Events, PerProtocol, Protocol, Session, Shared, Want};
use crate::record::{CgroupId, Close, Conn, Data, Direction, Endpoint, NetNs, Role, Sender, Tgid};
use crate::settings;
use crate::stream::{Chunk, Duplex, Window};
use crate::time::BootTime;
use sealed::Sealed;

/// Shorter skips are not worth a verdict.
const MIN_SKIP: u64 = 64 << 10;
/// A session that finds only nonsense, so many bytes or times, speaks another protocol than was detected.
const NONSENSE_BYTES: u64 = 256 << 10;
const NONSENSE_TIMES: u32 = 64;
/// Detections before a connection is ignored for good.
const MAX_DETECTIONS: u8 = 3;

/// What flows share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) limits: settings::Protocols,
    pub(super) turn_bytes: u32,
    pub(super) window: Window,
    pub(super) make_session: MakeSession,
    /// The sessions' own queue: it hands out operation identifiers.
    pub(super) events: Events,
    /// What connections of one protocol tell about each other's operations.
    pub(super) shared: PerProtocol<Option<Box<dyn Shared>>>,
    pub(super) out: VecDeque<(ConnRef, Event)>,
    pub(super) verdicts: VecDeque<VerdictUpdate>,
    pub(super) stats: Stats,
    /// What an earlier agent had learned.
    pub(super) waiting: Waiting,
    /// Whether TLS is opened, and with what.
    pub(super) tls: Opening,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Flow {
    info: ConnRef,
    duplex: Duplex,
    state: State,
    /// What may stand in front of what it speaks.
    preface: Preface,
    /// Its bytes are under TLS: the state is that of the plaintext.
    tls: Option<Box<Sealed>>,
    detections: u8,
    /// Its `Conn` was seen.
    is_announced: bool,
    /// The streams are those of TLS plaintext.
    is_plaintext: bool,
    /// What the process reads is among it.
    is_read_in_clear: bool,
    /// Positions became uncertain: no wire identity any more, whatever a later `Conn` says.
    is_wire_lost: bool,
    closing: Option<Close>,
    /// End of what the session was given, by direction.
    delivered: PerDirection<u64>,
    /// When the last of it moved and by whom, by direction; before that the connection's beginning.
    moved: PerDirection<Option<(BootTime, Tgid)>>,
    /// What of the streams is in the totals already.
    counted: PerDirection<crate::stream::Stats>,
    /// The last skip announced.
    skipped: PerDirection<u64>,
    /// Verdicts given.
    is_captured: bool,
    is_ignored: bool,
    /// When bytes moved last, or it was introduced, and which process did it: servers accept in one and serve in another.
    spoke_at: BootTime,
    moved_by: Tgid,
    /// What an earlier agent had learned on it, until the first bytes.
    pub(super) known: Option<Box<Known>>,
    /// When it wants [`Flow::handle_timeout`]; kept by the caller's timers.
    pub(super) deadline: Option<BootTime>,
    /// What it holds back, and what it holds in all; kept by the caller's accounts.
    pub(super) accounted: Held,
}

/// Bytes that a connection holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Of the stream, waiting for order or detection.
    pub(super) back: usize,
    /// In all, with what its session holds.
    pub(super) all: usize,
}

/// What every connection holds beside what it says: its own fields, those of [`ConnInfo`], and its places in tables.
const FLOW_BYTES: usize = size_of::<Flow>() + size_of::<ConnInfo>() + crate::account::ENTRY_BYTES;

#[derive(Debug)]
enum State {
    Detecting(Box<Look>),
    Speaking(Box<Talk>),
    Ignored,
}

/// A connection whose protocol is known.
#[derive(Debug)]
struct Talk {
    session: Box<dyn Session>,
    role: Role,
    /// Invalid bytes and times since the last operation was opened.
    nonsense_bytes: u64,
    nonsense_times: u32,
}

impl Flow {
    pub(super) fn new(conn: Conn, is_announced: bool, window: Window) -> Self {
        let (duplex, spoke_at) = (Duplex::new(conn.from_start.then_some(0), window), conn.at);
        let moved_by = conn.thread.tgid;
        Self {
            info: Arc::new(ConnInfo { role: conn.role, conn, protocol: None, client: None, tls: None }),
            duplex,
            state: State::Detecting(Box::default()),
            preface: Preface::default(),
            tls: None,
            detections: 0,
            is_announced,
            is_plaintext: false,
            is_read_in_clear: false,
            is_wire_lost: false,
            closing: None,
            delivered: PerDirection::default(),
            moved: PerDirection::default(),
            counted: PerDirection::default(),
            skipped: PerDirection::default(),
            is_captured: false,
            is_ignored: false,
            spoke_at,
            moved_by,
            known: None,
            deadline: None,
            accounted: Held::default(),
        }
    }

    pub(super) fn info(&self) -> &ConnRef {
        &self.info
    }

    /// Folds another sight of the connection in: what was known stays.
    pub(super) fn update(&mut self, conn: Conn) {
        let is_wire_lost = self.is_wire_lost;
        let is_first = !std::mem::replace(&mut self.is_announced, true);
        let is_speaking = matches!(self.state, State::Speaking(_));
        let info = Arc::make_mut(&mut self.info);
        let known = &mut info.conn;
        if is_first {
            known.transport = conn.transport;
            known.from_start = conn.from_start;
            known.thread = conn.thread;
        }
        if known.local == Endpoint::Unknown {
            known.local = conn.local;
        }
        if known.remote == Endpoint::Unknown {
            known.remote = conn.remote;
        }
        if known.netns == NetNs::UNKNOWN {
            known.netns = conn.netns;
        }
        if known.comm.is_empty() {
            known.comm = conn.comm;
        }
        if known.cgroup == CgroupId::UNKNOWN {
            known.cgroup = conn.cgroup;
        }
        known.role = known.role.or(conn.role);
        known.wire = known.wire.or(conn.wire).filter(|_| !is_wire_lost);
        known.peer = known.peer.or(conn.peer);
        // The session was made with a role; it keeps it.
        if !is_speaking {
            info.role = known.role.or(info.role);
        }
    }

    pub(super) fn handle_data(&mut self, data: Data, now: BootTime, cx: &mut Context) {
        if data.flags.plaintext && !self.is_plaintext {
            self.enter_plaintext(now, cx);
        } else if self.is_plaintext && !data.flags.plaintext {
            cx.stats.ciphertext_bytes += u64::from(data.len);
            return;
        }
        if self.is_plaintext
            && data.direction == Direction::Ingress
            && !std::mem::replace(&mut self.is_read_in_clear, true)
        {
            cx.out.push_back((Arc::clone(&self.info), Event::Read));
        }
        (self.spoke_at, self.moved_by) = (self.spoke_at.max(data.at), data.thread.tgid);
        if let Some(known) = self.known.take() {
            self.go_on(*known, &data, cx);
        }
        if data.flags.position_uncertain {
            self.lose_wire();
        }
        if matches!(self.state, State::Ignored) {
            cx.stats.ignored_bytes += u64::from(data.len);
            return;
        }
        let direction = data.direction;
        let mark = data.mark();
        self.duplex.push(direction, data.pos, u64::from(data.len), data.bytes, mark);
        self.duplex.handle_timeout(now);
        self.pump(now, cx);
    }

    /// The end was seen. Records that another CPU delivers late still count until [`Flow::handle_timeout`].
    pub(super) fn close(&mut self, close: Close, cx: &mut Context) {
        let at = self.closing.get_or_insert(close).at;
        self.unwant_sealed(true, cx);
        self.say_over(at, cx);
    }

    /// Returns whether the connection is over.
    pub(super) fn handle_timeout(&mut self, now: BootTime, cx: &mut Context) -> bool {
        self.duplex.handle_timeout(now);
        self.pump(now, cx);
        self.expire_sealed(now, cx);
        if self.ends_at(cx.window, cx.tls.bounds.after_end).is_some_and(|at| now >= at) {
            self.end(now, cx);
            return true;
        }
        false
    }

    /// When a connection whose end was seen is over: late records have come, and so has a secret that somebody still looks for.
    fn ends_at(&self, window: Window, after_end: Duration) -> Option<BootTime> {
        let is_waiting = self.tls.as_ref().is_some_and(|sealed| sealed.is_waiting());
        let time = if is_waiting { window.time.max(after_end) } else { window.time };
        self.closing.map(|close| close.at + time)
    }

    /// Time for the session's own bounds.
    pub(super) fn sweep(&mut self, now: BootTime, cx: &mut Context) {
        if let State::Speaking(talk) = &mut self.state {
            talk.session.timeout(now, &mut cx.events);
            self.publish(cx);
        }
    }

    pub(super) fn poll_timeout(&self, window: Window, after_end: Duration) -> Option<BootTime> {
        let closing = self.ends_at(window, after_end);
        let sealed = self.tls.as_ref().and_then(|sealed| sealed.poll_timeout());
        [self.duplex.poll_timeout(), closing, sealed].into_iter().flatten().min()
    }

    /// The connection is over, or given up when no close was seen.
    pub(super) fn end(&mut self, now: BootTime, cx: &mut Context) {
        self.duplex.finish();
        self.pump(now, cx);
        let (end, at) = match self.closing {
            Some(close) if close.reset => (End::Reset, close.at),
            Some(close) => (End::Closed, close.at),
            None => (End::Abandoned, now),
        };
        match &mut self.state {
            State::Speaking(talk) => talk.session.end(end, at, &mut cx.events),
            // Of what stays closed nothing can be decided.
            State::Detecting(_) if self.tls.as_ref().is_none_or(|sealed| sealed.is_opened()) => {
                cx.stats.undecided += 1
            }
            State::Detecting(_) | State::Ignored => {}
        }
        self.publish(cx);
        self.end_sealed(cx);
        self.state = State::Ignored;
    }

    /// Whether a close was seen.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Bytes held.
    pub(super) fn held(&self) -> Held {
        let (pending, session) = match &self.state {
            State::Detecting(look) => (look.kept(), look.entry_bytes()),
            State::Speaking(talk) => (0, size_of::<Talk>().saturating_add(talk.session.held())),
            State::Ignored => (0, 0),
        };
        let (sealed, state) =
            self.tls.as_ref().map_or((0, 0), |sealed| (sealed.held(), sealed.state_bytes()));
        let back = self.duplex.buffered().saturating_add(pending).saturating_add(sealed);
        let places = self.duplex.held().saturating_mul(size_of::<Chunk>());
        let all = FLOW_BYTES.saturating_add(places).saturating_add(self.preface.held()).saturating_add(back);
        Held { back, all: all.saturating_add(session).saturating_add(state) }
    }

    /// Gives up bodies and values of what is open, and what waits.
    pub(super) fn give_values(&mut self, now: BootTime, cx: &mut Context) {
        cx.stats.gave_values += 1;
        if self.held().back > 0 {
            self.relieve(now, cx);
        }
        if let State::Speaking(talk) = &mut self.state {
            talk.session.relieve();
        }
    }

    /// Gives up all that its session holds: what is open ends, and what follows is read as on a connection that was joined now.
    pub(super) fn give_session(&mut self, now: BootTime, cx: &mut Context) {
        let (Some(protocol), State::Speaking(talk)) = (self.info.protocol, &mut self.state) else { return };
        cx.stats.gave_session += 1;
        talk.session.end(End::Abandoned, now, &mut cx.events);
        talk.session = (cx.make_session)(protocol, talk.role, &cx.limits);
        self.publish(cx);
    }

    /// Gives up what waits, and what was kept for detection.
    pub(super) fn relieve(&mut self, now: BootTime, cx: &mut Context) {
        cx.stats.relieved += 1;
        let given_up = self.duplex.relieve();
        self.count(cx);
        for (direction, chunk) in given_up {
            self.take(direction, chunk, now, cx);
        }
        self.relieve_sealed(now, cx);
        if let State::Detecting(look) = &mut self.state {
            look.forget(&mut cx.stats);
        }
    }

    /// Hands on every chunk whose turn it is.
    fn pump(&mut self, now: BootTime, cx: &mut Context) {
        while let Some((direction, chunk)) = self.duplex.pop() {
            // What is missing is told before what ends because of it: with that, causes are decided.
            if matches!(chunk, Chunk::Gap { .. }) {
                self.count(cx);
            }
            self.take(direction, chunk, now, cx);
        }
        self.count(cx);
        self.ask(cx);
    }

    /// Adds what happened in the streams since the last time to the totals.
    fn count(&mut self, cx: &mut Context) {
        for direction in [Direction::Ingress, Direction::Egress] {
            let stats = *self.duplex.stream(direction).stats();
            let counted = std::mem::replace(self.counted.of(direction), stats);
            cx.stats.stream(&counted, &stats);
            let bytes = stats.missing.saturating_sub(counted.missing);
            if bytes > 0 && !matches!(self.state, State::Ignored) {
                let conn = &self.info.conn;
                let (since, by) = self.moved.of(direction).unwrap_or((conn.at, conn.thread.tgid));
                cx.out.push_back((Arc::clone(&self.info), Event::Missed { bytes, since, by }));
            }
        }
    }

    /// Forgets both streams.
    fn restart_streams(&mut self, cx: &mut Context) {
        self.count(cx);
        self.duplex = Duplex::new(None, cx.window);
        self.counted = PerDirection::default();
        self.delivered = PerDirection::default();
    }

    fn take(&mut self, direction: Direction, chunk: Chunk, now: BootTime, cx: &mut Context) {
        *self.delivered.of(direction) = chunk.end();
        match &chunk {
            Chunk::Bytes { bytes, mark, .. } => {
                *self.moved.of(direction) = Some((mark.at, mark.thread.tgid));
                cx.stats.bytes += bytes.len() as u64;
            }
            Chunk::Gap { len, .. } => cx.stats.gap_bytes = cx.stats.gap_bytes.saturating_add(*len),
        }
        let is_start = chunk.pos() == 0 && (self.info.conn.from_start || !self.is_announced);
        if self.preface.is_over(direction, is_start) || matches!(self.state, State::Ignored) {
            return self.hear(direction, chunk, now, cx);
        }
        for chunk in self.preface.pass(direction, chunk) {
            self.hear(direction, chunk, now, cx);
        }
    }

    /// A chunk of what the connection speaks.
    fn hear(&mut self, direction: Direction, chunk: Chunk, now: BootTime, cx: &mut Context) {
        if self.tls.is_some() {
            self.take_sealed(direction, &chunk, now, cx);
        } else {
            self.take_plain(direction, chunk, now, cx);
        }
    }

    /// What the program sent or got, in the clear or opened.
    fn take_plain(&mut self, direction: Direction, chunk: Chunk, now: BootTime, cx: &mut Context) {
        match &mut self.state {
            State::Ignored => cx.stats.ignored_bytes = cx.stats.ignored_bytes.saturating_add(chunk.len()),
            State::Speaking(talk) => {
                talk.give(direction, &chunk, &mut cx.events);
                self.publish(cx);
                self.look_for_seal();
                self.doubt(now, cx);
            }
            State::Detecting(look) => {
                let detection = look.offer(direction, chunk, server_port(&self.info), &mut cx.stats);
                self.decide(detection, now, cx);
            }
        }
    }

    pub(super) fn say_unread(&self, since: BootTime, is_watched: bool, cx: &mut Context) {
        let event = Event::Unread { by: self.moved_by, since, is_watched };
        cx.out.push_back((Arc::clone(&self.info), event));
    }

    /// When the first of the bytes was moved by which the protocol is told: they may have waited for others.
    pub(super) fn seen_since(&self) -> Option<BootTime> {
        let State::Detecting(look) = &self.state else { return None };
        look.pending.iter().map(|(_, chunk)| chunk.mark().at).min()
    }

    fn decide(&mut self, detection: Detection, now: BootTime, cx: &mut Context) {
        match detection {
            Detection::Undecided => {}
            Detection::Is { protocol, ingress_sender } => self.speak(protocol, ingress_sender, now, cx),
            // TLS inside of TLS is left alone.
            Detection::Opaque(_) if cx.tls.is_on && self.tls.is_none() => self.seal(now, cx),
            Detection::Opaque(_) => {
                cx.stats.opaque += 1;
                if self.may_be_asked() == Some(true) {
                    let since = self.seen_since().unwrap_or(now);
                    self.say_unread(since, false, cx);
                }
                self.ignore(cx);
            }
            Detection::NotOurs => {
                cx.stats.not_ours += 1;
                self.ignore(cx);
            }
        }
    }

    /// The protocol is known: a session takes over, with everything seen so far.
    fn speak(&mut self, protocol: Protocol, ingress_sender: Sender, now: BootTime, cx: &mut Context) {
        let role = self.info.role.unwrap_or(match ingress_sender {
            Sender::Client => Role::Server,
            Sender::Server => Role::Client,
        });
        let mut session = (cx.make_session)(protocol, role, &cx.limits);
        if let Some(found) = self.preface.found.take() {
            session.begins_at(sender(role, found.direction), found.end_pos);
            Arc::make_mut(&mut self.info).client = found.client;
        }
        let before = self.talk(session, protocol, role, cx);
        let State::Detecting(look) = before else { return };
        for (direction, chunk) in look.pending {
            let State::Speaking(talk) = &mut self.state else {
                self.take_plain(direction, chunk, now, cx);
                continue;
            };
            talk.give(direction, &chunk, &mut cx.events);
            self.publish(cx);
            self.look_for_seal();
        }
        self.doubt(now, cx);
    }

    /// Both sides agreed to go on under TLS: what comes next is a ClientHello.
    fn look_for_seal(&mut self) {
        if matches!(&self.state, State::Speaking(talk) if talk.session.is_sealed()) {
            self.state = State::Detecting(Box::default());
        }
    }

    /// A session takes over from what was before, which it returns.
    fn talk(&mut self, session: Box<dyn Session>, protocol: Protocol, role: Role, cx: &mut Context) -> State {
        if self.info.role.is_none() || self.info.protocol != Some(protocol) {
            let info = Arc::make_mut(&mut self.info);
            info.role = Some(role);
            info.protocol = Some(protocol);
        }
        // The protocol that asked for TLS is the one that is spoken under it: one connection, counted once.
        if self.tls.is_none() || self.detections == 0 {
            cx.stats.detected(protocol);
        }
        self.detections = self.detections.saturating_add(1);
        let talk = Talk { session, role, nonsense_bytes: 0, nonsense_times: 0 };
        let before = std::mem::replace(&mut self.state, State::Speaking(Box::new(talk)));
        self.want_all(cx);
        before
    }

    /// Tells the kernel that this connection is ours.
    fn want_all(&mut self, cx: &mut Context) {
        if !std::mem::replace(&mut self.is_captured, true) {
            let verdict = Verdict::Capture { turn_bytes: cx.turn_bytes };
            cx.verdicts.push_back(VerdictUpdate { conn: self.info.conn.id, verdict });
        }
    }

    fn ignore(&mut self, cx: &mut Context) {
        self.state = State::Ignored;
        // Wipes the keys.
        self.tls = None;
        cx.stats.ignored_bytes += self.duplex.buffered() as u64;
        self.restart_streams(cx);
        self.say_ignore(cx);
    }

    fn say_ignore(&mut self, cx: &mut Context) {
        if !std::mem::replace(&mut self.is_ignored, true) {
            cx.verdicts.push_back(VerdictUpdate { conn: self.info.conn.id, verdict: Verdict::Ignore });
        }
    }

    /// Takes a detection back when what follows is not that protocol.
    fn doubt(&mut self, now: BootTime, cx: &mut Context) {
        let State::Speaking(talk) = &mut self.state else { return };
        if talk.nonsense_bytes < NONSENSE_BYTES && talk.nonsense_times < NONSENSE_TIMES {
            return;
        }
        cx.stats.misdetected += 1;
        talk.session.end(End::Abandoned, now, &mut cx.events);
        self.publish(cx);
        if self.detections >= MAX_DETECTIONS {
            self.ignore(cx);
        } else {
            self.state = State::Detecting(Box::default());
        }
    }

    /// Moves what the session said to the common queue, with what is known of the connection now.
    fn publish(&mut self, cx: &mut Context) {
        while let Some(mut event) = cx.events.pop() {
            if let Event::Closed(operation) = &mut event
                && let Some(protocol) = self.info.protocol
                && let Some(shared) = &mut cx.shared[protocol]
            {
                cx.stats.blind_operations += u64::from(shared.closed(operation, &self.info.conn));
            }
            if let State::Speaking(talk) = &mut self.state {
                talk.judge(&event);
            }
            if let Event::Discarded { reason, bytes } = &event {
                cx.stats.discarded(*reason, *bytes);
            }
            if !self.place(&mut event) {
                cx.stats.tls.unplaced += 1;
                self.lose_wire();
            }
            cx.out.push_back((Arc::clone(&self.info), event));
        }
    }

    /// Tells the kernel what the session needs, where that changed.
    fn ask(&mut self, cx: &mut Context) {
        let State::Speaking(talk) = &self.state else { return };
        let wants = [Direction::Ingress, Direction::Egress]
            .map(|direction| (direction, talk.session.want(sender(talk.role, direction))));
        if wants.iter().all(|(_, want)| *want == Want::Nothing) {
            return self.say_ignore(cx);
        }
        if self.tls.is_some() {
            // Every record counts: the number of the next one says how many were lost.
            return;
        }
        for (direction, want) in wants {
            let Want::Skip(len) = want else { continue };
            let until_pos = self.delivered.of(direction).saturating_add(len);
            let skipped = self.skipped.of(direction);
            if len >= MIN_SKIP && until_pos != *skipped {
                *skipped = until_pos;
                let verdict = Verdict::Skip { direction, until_pos };
                cx.verdicts.push_back(VerdictUpdate { conn: self.info.conn.id, verdict });
            }
        }
    }

    /// The plaintext of a TLS connection appeared: it has a position space of its own, and no wire identity yet.
    fn enter_plaintext(&mut self, now: BootTime, cx: &mut Context) {
        if let State::Speaking(talk) = &mut self.state {
            talk.session.end(End::Abandoned, now, &mut cx.events);
            self.publish(cx);
        }
        cx.stats.ciphertext_bytes += self.duplex.buffered() as u64;
        // The kernel encrypts: there is nothing to open.
        self.end_sealed(cx);
        self.tls = None;
        self.is_plaintext = true;
        if let Some(found) = std::mem::replace(&mut self.preface, Preface::over()).found {
            // It stood before the hello, at a position that means nothing in the plaintext.
            Arc::make_mut(&mut self.info).client = found.client;
        }
        self.lose_wire();
        self.restart_streams(cx);
        self.state = State::Detecting(Box::default());
        (self.is_captured, self.is_ignored) = (false, false);
    }

    fn lose_wire(&mut self) {
        self.is_wire_lost = true;
        if self.info.conn.wire.is_some() {
            Arc::make_mut(&mut self.info).conn.wire = None;
        }
    }
}

impl Talk {
    fn give(&mut self, direction: Direction, chunk: &Chunk, events: &mut Events) {
        let from = sender(self.role, direction);
        match chunk {
            Chunk::Bytes { pos, bytes, mark } => self.session.bytes(from, *pos, bytes, *mark, events),
            Chunk::Gap { pos, len, mark } => self.session.gap(from, *pos, *len, *mark, events),
        }
    }

    /// Watches whether the session makes sense of its bytes.
    fn judge(&mut self, event: &Event) {
        match event {
            Event::Opened { .. } => (self.nonsense_bytes, self.nonsense_times) = (0, 0),
            Event::Discarded { reason: Discard::Invalid, bytes } => {
                self.nonsense_bytes = self.nonsense_bytes.saturating_add(*bytes);
                self.nonsense_times = self.nonsense_times.saturating_add(1);
            }
            _ => {}
        }
    }
}

/// Who sends the bytes of a direction, seen from a socket of that role.
fn sender(role: Role, direction: Direction) -> Sender {
    match (role, direction) {
        (Role::Client, Direction::Egress) | (Role::Server, Direction::Ingress) => Sender::Client,
        (Role::Client, Direction::Ingress) | (Role::Server, Direction::Egress) => Sender::Server,
    }
}

/// The server's port: known from the role, else the one port that is not from the ephemeral range.
fn server_port(info: &ConnInfo) -> Option<u16> {
    /// Start of Linux's default `net.ipv4.ip_local_port_range`.
    const EPHEMERAL: u16 = 32768;
    let port = |endpoint: &Endpoint| match endpoint {
        Endpoint::Inet(address) => Some(address.port()),
        _ => None,
    };
    let (local, remote) = (port(&info.conn.local), port(&info.conn.remote));
    match info.role {
        Some(Role::Server) => local,
        Some(Role::Client) => remote,
        None => match (local?, remote?) {
            (local, EPHEMERAL..) if local < EPHEMERAL => Some(local),
            (EPHEMERAL.., remote) if remote < EPHEMERAL => Some(remote),
            _ => None,
        },
    }
}
