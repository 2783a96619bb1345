//! TCP segments of a capture in, the records of both ends' sockets out.
//!
//! What a capture does not have is stood in for, always in the same way:
//!
//! | record | from |
//! |---|---|
//! | process, thread | one `tgid` (= `tid`) per server address and port; one per client connection |
//! | service name | the configured name of the server's port, else `address:port` of a server, `address` of a client |
//! | time | the packet's; a segment that fills a hole is read when it arrives |
//! | `other_pos` of a write | the acknowledgement in the packet: what its sender had received |
//! | `other_pos` of a read | what its receiver had sent by then |
//! | close | the second FIN, or a reset |
//! | wire identity | both initial sequence numbers, when the handshake was captured |
//!
//! Sequence numbers become 64-bit positions here; order, overlap and holes are [`Assembler`]'s work. A hole is a gap
//! once the other end has acknowledged what is missing, or when too much waits behind it.
//!
//! *Owns* the connection table of a capture. *Must not know* packets' outer headers, nor what TCP carries.
//! *Spec*: RFC 9293.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use super::packet::Segment;
use crate::config::Services;
use crate::conn::table::{Slot, Table};
use crate::protocol::Mark;
use crate::record::*;
use crate::stream::{Assembler, Chunk, Window};

/// Connections followed at once.
const MAX_CONNECTIONS: usize = 65_536;
/// Server addresses remembered as processes.
const MAX_SERVERS: usize = 1 << 20;
/// Bytes of all connections that may wait for a hole to fill.
const MAX_BUFFERED: usize = 64 << 20;
/// What may wait behind a hole: a large receive window, and several retransmission timeouts.
const WINDOW: Window = Window { bytes: 4 << 20, records: 8192, ns: 10_000_000_000 };
/// Data captured later than its acknowledgement still counts, so much later: queues of a card can swap.
const SWAPPED_NS: u64 = 50_000_000;

/// All TCP connections of a capture.
#[derive(Debug)]
pub(super) struct Tracker {
    table: Table<(SocketAddr, SocketAddr), Flow>,
    buffered: usize,
    /// The latest packet's time.
    now: BootNs,
    names: HashMap<u16, (String, Option<String>)>,
    /// Process of each server address.
    servers: HashMap<SocketAddr, u32>,
    next_tgid: u32,
    next_conn: u64,
    connections: u64,
    mid_stream: u64,
    evicted: u64,
    missing: u64,
    repeated: u64,
    strays: u64,
}

/// One TCP connection.
#[derive(Debug)]
struct Flow {
    client: End,
    server: End,
    /// Who is the server is certain: a SYN was seen.
    has_roles: bool,
    is_announced: bool,
    /// With its wire identity.
    is_whole_announced: bool,
    is_reset: bool,
    is_closed: bool,
    accounted: usize,
}

/// One end: its address, its socket, and the stream of bytes it sends.
#[derive(Debug)]
struct End {
    address: SocketAddr,
    conn: ConnId,
    thread: Thread,
    /// The sequence number at position 0. `None` until either end named one.
    first: Option<u32>,
    /// It came from a SYN: the initial sequence number + 1.
    has_isn: bool,
    sent: Assembler,
    /// Position of the FIN: all that it sends.
    fin: Option<u64>,
    /// The other end has all bytes up to here, since when.
    acked: Option<(u64, BootNs)>,
}

/// Which end sent a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Tracker {
    pub(super) fn new(services: &Services) -> Self {
        let names = services
            .names
            .iter()
            .rev()
            .filter_map(|rule| Some((rule.port?, (rule.name.clone(), rule.namespace.clone()))));
        Self {
            table: Table::new(),
            buffered: 0,
            now: 0,
            names: names.collect(),
            servers: HashMap::new(),
            next_tgid: 1,
            next_conn: 1,
            connections: 0,
            mid_stream: 0,
            evicted: 0,
            missing: 0,
            repeated: 0,
            strays: 0,
        }
    }

    /// Takes a segment captured at `at`.
    pub(super) fn handle(&mut self, segment: &Segment<'_>, at: BootNs, out: &mut VecDeque<Record>) {
        self.now = self.now.max(at);
        let key =
            if segment.from <= segment.to { (segment.from, segment.to) } else { (segment.to, segment.from) };
        let mut slot = self.table.slot(key);
        if let Some(old) = slot
            && self.table.get(old).is_some_and(|flow| flow.is_replaced_by(segment))
        {
            self.end(old, at, out);
            slot = None;
        }
        let slot = match slot {
            Some(slot) => slot,
            // Only a handshake or data tells of a connection; a late acknowledgement or reset does not.
            None if segment.flags.rst() || (segment.len == 0 && !segment.flags.syn()) => {
                self.strays += 1;
                return;
            }
            None => self.open(key, segment, at, out),
        };
        self.table.touch(slot);
        let Some(flow) = self.table.get_mut(slot) else { return };
        if flow.is_closed {
            self.strays += 1;
            return;
        }
        flow.handle(segment, at);
        let is_whole = flow.is_whole();
        if !flow.is_announced && (is_whole || segment.len > 0) {
            flow.is_whole_announced = is_whole;
            self.announce(slot, at, out);
        } else if flow.is_announced && is_whole && !flow.is_whole_announced {
            flow.is_whole_announced = true;
            out.extend(flow.conns(at));
        }
        self.deliver(slot, at, out);
    }

    /// The file ends: every hole becomes a gap.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Record>) {
        while let Some(slot) = self.table.oldest() {
            self.end(slot, self.now, out);
        }
    }

    pub(super) fn counts(&self) -> [(&'static str, u64); 6] {
        [
            ("TCP connections", self.connections),
            ("TCP connections joined in mid-stream", self.mid_stream),
            ("TCP connections given up at the bound", self.evicted),
            ("TCP bytes missing from the capture", self.missing),
            ("TCP bytes captured again", self.repeated),
            ("TCP segments outside a connection", self.strays),
        ]
    }

    fn open(
        &mut self,
        key: (SocketAddr, SocketAddr),
        segment: &Segment<'_>,
        at: BootNs,
        out: &mut VecDeque<Record>,
    ) -> Slot {
        while self.table.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.table.oldest()
        {
            self.evicted += 1;
            self.end(oldest, at, out);
        }
        self.connections += 1;
        self.mid_stream += u64::from(!segment.flags.syn());
        let is_from_client = match (segment.flags.syn(), segment.flags.ack()) {
            (true, is_answer) => !is_answer,
            // Joined in mid-stream, a guess that only names depend on.
            (false, _) => self.looks_like_server(segment.to, segment.from),
        };
        let (client, server) =
            if is_from_client { (segment.from, segment.to) } else { (segment.to, segment.from) };
        let mut end = |address| {
            let conn = ConnId(self.next_conn);
            self.next_conn += 1;
            End {
                address,
                conn,
                thread: Thread::default(),
                first: None,
                has_isn: false,
                sent: Assembler::new(Some(0), WINDOW),
                fin: None,
                acked: None,
            }
        };
        let flow = Flow {
            client: end(client),
            server: end(server),
            has_roles: segment.flags.syn(),
            is_announced: false,
            is_whole_announced: false,
            is_reset: false,
            is_closed: false,
            accounted: 0,
        };
        self.table.insert(key, flow)
    }

    fn looks_like_server(&self, address: SocketAddr, other: SocketAddr) -> bool {
        let known = |address: SocketAddr| {
            self.servers.contains_key(&address) || self.names.contains_key(&address.port())
        };
        match (known(address), known(other)) {
            (true, false) => true,
            (false, true) => false,
            _ => address.port() < other.port(),
        }
    }

    /// Tells of both ends' processes and sockets.
    fn announce(&mut self, slot: Slot, at: BootNs, out: &mut VecDeque<Record>) {
        let Some(flow) = self.table.get_mut(slot) else { return };
        flow.is_announced = true;
        let process = |tgid: u32, (service, service_namespace): (String, Option<String>)| {
            let info =
                ProcessInfo { at, tgid, start_ns: at, service, service_namespace, ..Default::default() };
            Record::ProcessInfo(Box::new(info))
        };
        let mut new_tgid = || {
            let tgid = self.next_tgid;
            self.next_tgid = self.next_tgid.wrapping_add(1).max(1);
            tgid
        };
        let server = flow.server.address;
        if self.servers.len() >= MAX_SERVERS && !self.servers.contains_key(&server) {
            self.servers.clear();
        }
        let server_tgid = *self.servers.entry(server).or_insert_with(|| {
            let tgid = new_tgid();
            let name = self.names.get(&server.port()).cloned();
            out.push_back(process(tgid, name.unwrap_or_else(|| (server.to_string(), None))));
            tgid
        });
        let client_tgid = new_tgid();
        out.push_back(process(client_tgid, (flow.client.address.ip().to_string(), None)));
        flow.server.thread = Thread { tgid: server_tgid, tid: server_tgid };
        flow.client.thread = Thread { tgid: client_tgid, tid: client_tgid };
        out.extend(flow.conns(at));
    }

    /// Hands out what is in order now.
    fn deliver(&mut self, slot: Slot, at: BootNs, out: &mut VecDeque<Record>) {
        let Some(flow) = self.table.get_mut(slot) else { return };
        if self.buffered.saturating_sub(flow.accounted).saturating_add(flow.buffered()) > MAX_BUFFERED {
            flow.client.sent.finish();
            flow.server.sent.finish();
        }
        flow.deliver(at, out);
        flow.close_if_over(at, out);
        let held = flow.buffered();
        self.buffered = self.buffered.saturating_sub(flow.accounted).saturating_add(held);
        flow.accounted = held;
    }

    /// Forgets a connection, with everything that still waits handed out.
    fn end(&mut self, slot: Slot, at: BootNs, out: &mut VecDeque<Record>) {
        let Some(mut flow) = self.table.remove(slot) else { return };
        self.buffered = self.buffered.saturating_sub(flow.accounted);
        flow.client.sent.finish();
        flow.server.sent.finish();
        flow.deliver(at, out);
        flow.close_if_over(at, out);
        for end in [&flow.client, &flow.server] {
            let stats = end.sent.stats();
            self.missing = self.missing.saturating_add(stats.missing);
            self.repeated = self.repeated.saturating_add(stats.trimmed);
        }
    }
}

impl Flow {
    /// A SYN that is not a repetition begins another connection between the same ports.
    fn is_replaced_by(&self, segment: &Segment<'_>) -> bool {
        if !segment.flags.syn() {
            return false;
        }
        let (sender, receiver) = self.ends(self.side_of(segment));
        let first = Some(segment.seq.wrapping_add(1));
        let is_repeated = sender.has_isn && sender.first == first;
        // The answer names the second initial sequence number and acknowledges the SYN, with data that came on it.
        let is_sent = |pos: u64| receiver.sent.expected().is_some_and(|expected| pos <= expected);
        let is_answer = segment.flags.ack()
            && !sender.has_isn
            && receiver.has_isn
            && receiver.position(segment.ack).is_some_and(is_sent);
        !is_repeated && (!is_answer || self.is_closed)
    }

    fn side_of(&self, segment: &Segment<'_>) -> Side {
        if segment.from == self.client.address { Side::Client } else { Side::Server }
    }

    /// The end of that side, and the other one.
    fn ends(&self, side: Side) -> (&End, &End) {
        match side {
            Side::Client => (&self.client, &self.server),
            Side::Server => (&self.server, &self.client),
        }
    }

    fn ends_mut(&mut self, side: Side) -> (&mut End, &mut End) {
        match side {
            Side::Client => (&mut self.client, &mut self.server),
            Side::Server => (&mut self.server, &mut self.client),
        }
    }

    /// Both initial sequence numbers are known.
    fn is_whole(&self) -> bool {
        self.client.has_isn && self.server.has_isn
    }

    fn buffered(&self) -> usize {
        self.client.sent.buffered().saturating_add(self.server.sent.buffered())
    }

    fn handle(&mut self, segment: &Segment<'_>, at: BootNs) {
        let flags = segment.flags;
        let (sender, receiver) = self.ends_mut(self.side_of(segment));
        // A SYN takes one sequence number; data may ride on it (RFC 9293, 3.4; RFC 7413).
        let first = if flags.syn() { segment.seq.wrapping_add(1) } else { segment.seq };
        sender.has_isn |= flags.syn() && sender.first.is_none_or(|known| known == first);
        sender.first.get_or_insert(first);
        let mut other_pos = 0;
        if flags.ack() {
            // The answer to a SYN acknowledges exactly that SYN.
            receiver.has_isn |= flags.syn() && receiver.first.is_none_or(|known| known == segment.ack);
            receiver.first.get_or_insert(segment.ack);
            other_pos = receiver.acknowledge(segment.ack, at);
        }
        if let Some(pos) = sender.position(first) {
            if segment.len > 0 {
                let mark = Mark { at, thread: sender.thread, other_pos };
                sender.sent.push(pos, segment.len.into(), Bytes::copy_from_slice(segment.payload), mark);
            }
            if flags.fin() {
                sender.fin.get_or_insert(pos.saturating_add(segment.len.into()));
            }
        }
        self.is_reset |= flags.rst();
    }

    /// Hands out what is in order: a write at its sender, a read at its receiver.
    fn deliver(&mut self, at: BootNs, out: &mut VecDeque<Record>) {
        for side in [Side::Client, Side::Server] {
            let (sender, receiver) = self.ends_mut(side);
            sender.give_up_acknowledged(at);
            while let Some(chunk) = sender.sent.pop() {
                tell(sender, receiver, &chunk, at, out);
            }
        }
    }

    /// After both FINs, with everything before them, or a reset.
    fn close_if_over(&mut self, at: BootNs, out: &mut VecDeque<Record>) {
        let is_over = self.is_reset || (self.client.is_done() && self.server.is_done());
        if !is_over || std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        if self.is_reset {
            self.client.sent.finish();
            self.server.sent.finish();
            self.deliver(at, out);
        }
        if self.is_announced {
            for conn in [self.client.conn, self.server.conn] {
                out.push_back(Record::Close(Close { at, conn, reset: self.is_reset }));
            }
        }
    }

    fn conns(&self, at: BootNs) -> [Record; 2] {
        [Side::Client, Side::Server].map(|side| Record::Conn(Box::new(self.conn(side, at))))
    }

    fn conn(&self, side: Side, at: BootNs) -> Conn {
        let (own, other) = self.ends(side);
        let role = match side {
            Side::Client => Role::Client,
            Side::Server => Role::Server,
        };
        let isn = |end: &End| end.first.filter(|_| end.has_isn);
        let wire = isn(own).zip(isn(other)).map(|(egress, ingress)| WireBase { egress, ingress });
        Conn {
            at,
            id: own.conn,
            transport: Transport::Tcp,
            local: Endpoint::Inet(own.address),
            remote: Endpoint::Inet(other.address),
            netns: 0,
            role: self.has_roles.then_some(role),
            from_start: wire.is_some(),
            thread: own.thread,
            comm: String::new(),
            cgroup: 0,
            wire,
            peer: None,
        }
    }
}

impl End {
    /// Position of a sequence number: the one nearest to what is expected next. `None` before the stream's start.
    fn position(&self, seq: u32) -> Option<u64> {
        let expected = self.sent.expected()?;
        // The low half of a position counts like a sequence number.
        let expected_seq = self.first?.wrapping_add(expected as u32);
        expected.checked_add_signed(seq.wrapping_sub(expected_seq).cast_signed().into())
    }

    /// The other end has everything before a sequence number. Returns its position, without the FIN.
    fn acknowledge(&mut self, ack: u32, at: BootNs) -> u64 {
        let pos = self.position(ack).unwrap_or_default().min(self.fin.unwrap_or(u64::MAX));
        let expected = self.sent.expected().unwrap_or_default();
        if pos > expected {
            let since = self.acked.filter(|(acked, _)| *acked > expected).map_or(at, |(_, since)| since);
            self.acked = Some((pos, since));
        }
        pos
    }

    /// What the other end acknowledged was sent, even if the capture does not have it.
    fn give_up_acknowledged(&mut self, now: BootNs) {
        if let Some((pos, since)) = self.acked
            && now >= since.saturating_add(SWAPPED_NS)
        {
            self.sent.skip_to(pos, Mark { at: now, thread: self.thread, other_pos: 0 });
            self.acked = None;
        }
    }

    /// It sent its FIN and everything before it.
    fn is_done(&self) -> bool {
        self.fin.is_some_and(|fin| self.sent.expected().is_some_and(|expected| expected >= fin))
    }
}

/// A chunk as the write of one end and the read of the other.
fn tell(sender: &End, receiver: &End, chunk: &Chunk, at: BootNs, out: &mut VecDeque<Record>) {
    let mark = chunk.mark();
    let bytes = match chunk {
        Chunk::Bytes { bytes, .. } => bytes.clone(),
        Chunk::Gap { .. } => Bytes::new(),
    };
    // A sequence number is 32 bits wide, so a longer chunk does not exist.
    let len = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
    let flags = DataFlags { unreadable: bytes.is_empty(), ..DataFlags::default() };
    let write = Data {
        at: mark.at,
        conn: sender.conn,
        direction: Direction::Egress,
        pos: chunk.pos(),
        other_pos: mark.other_pos,
        len,
        bytes: bytes.clone(),
        thread: sender.thread,
        flags,
    };
    let read = Data {
        at: at.max(mark.at),
        conn: receiver.conn,
        direction: Direction::Ingress,
        other_pos: receiver.sent.delivered().unwrap_or_default(),
        thread: receiver.thread,
        ..write.clone()
    };
    out.extend([Record::Data(write), Record::Data(read)]);
}
