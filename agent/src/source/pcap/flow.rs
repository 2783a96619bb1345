//! The segments of one TCP connection → the writes and reads of both its ends.
//!
//! *Owns* positions, handshake, acknowledgement, FIN and reset of one connection. *Must not know* other connections.
//! *Spec*: RFC 9293.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::packet::Segment;
use spoor_core::record::{CgroupId, Mark, NetNs, *};
use spoor_core::stream::{Assembler, Chunk, Window};
use spoor_core::time::BootTime;

/// What may wait behind a hole: a large receive window, and several retransmission timeouts.
const WINDOW: Window = Window { bytes: 4 << 20, records: 8192, time: Duration::from_secs(10) };
/// Data captured later than its acknowledgement still counts, so much later: queues of a card can swap.
const SWAPPED: Duration = Duration::from_millis(50);

/// One TCP connection.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) client: End,
    pub(super) server: End,
    /// Who is the server is certain: a SYN was seen.
    has_roles: bool,
    pub(super) is_announced: bool,
    /// With its wire identity.
    pub(super) is_paired_announced: bool,
    /// The same packets are told of another connection: these are they behind a translation of addresses.
    pub(super) is_twin: bool,
    pub(super) opened_at: BootTime,
    is_reset: bool,
    pub(super) is_closed: bool,
    pub(super) accounted: usize,
}

/// One end: its address, its socket, and the stream of bytes it sends.
#[derive(Debug)]
pub(super) struct End {
    pub(super) address: SocketAddr,
    conn: ConnId,
    pub(super) thread: Worker,
    /// The sequence number at position 0. `None` until either end named one.
    first: Option<u32>,
    /// It came from a SYN: the initial sequence number + 1.
    has_isn: bool,
    pub(super) sent: Assembler,
    /// End of the furthest segment captured.
    captured: u64,
    /// Position of the FIN: all that it sends.
    fin: Option<u64>,
    /// The other end has all bytes up to here, since when.
    acked: Option<(u64, BootTime)>,
}

/// Which end sent a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Flow {
    /// A connection between these addresses. `has_roles`: it is certain who is who.
    pub(super) fn new(
        client: (SocketAddr, ConnId),
        server: (SocketAddr, ConnId),
        has_roles: bool,
        opened_at: BootTime,
    ) -> Self {
        Self {
            client: End::new(client.0, client.1),
            server: End::new(server.0, server.1),
            has_roles,
            is_announced: false,
            is_paired_announced: false,
            is_twin: false,
            opened_at,
            is_reset: false,
            is_closed: false,
            accounted: 0,
        }
    }

    /// A SYN that is not a repetition begins another connection between the same ports.
    pub(super) fn is_replaced_by(&self, segment: &Segment<'_>) -> bool {
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

    /// The sequence numbers at position 0 of both directions, the lower first: what the connection is known by. Without a handshake
    /// they are those of the first packet, which is the same one for both ends.
    pub(super) fn pair(&self) -> Option<(u32, u32)> {
        self.client.first.zip(self.server.first).map(|(one, other)| (one.min(other), one.max(other)))
    }

    pub(super) fn buffered(&self) -> usize {
        self.client.sent.buffered().saturating_add(self.server.sent.buffered())
    }

    pub(super) fn handle(&mut self, segment: &Segment<'_>, at: BootTime) {
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
                let mark = Mark { at, thread: sender.thread, other_pos, awaited_by: None };
                sender.captured = sender.captured.max(pos.saturating_add(segment.len.into()));
                sender.sent.push(pos, segment.len.into(), Bytes::copy_from_slice(segment.payload), mark);
            }
            if flags.fin() {
                sender.fin.get_or_insert(pos.saturating_add(segment.len.into()));
            }
        }
        self.is_reset |= flags.rst();
    }

    /// Hands out what is in order, read when the last missing segment came.
    pub(super) fn deliver(&mut self, at: BootTime, out: &mut VecDeque<Record>) {
        self.tell(Some(at), out);
    }

    /// Gives up segments that were acknowledged and not captured. Only the capture missed them: what came after them
    /// was read in its own time.
    pub(super) fn expire(&mut self, at: BootTime, out: &mut VecDeque<Record>) {
        if !self.is_announced {
            return;
        }
        self.client.give_up_acknowledged(at);
        self.server.give_up_acknowledged(at);
        self.tell(None, out);
    }

    /// Drops what waits.
    pub(super) fn forget(&mut self) {
        self.client.sent = Assembler::new(Some(0), WINDOW);
        self.server.sent = Assembler::new(Some(0), WINDOW);
    }

    /// Gives up every missing segment.
    pub(super) fn flush(&mut self, out: &mut VecDeque<Record>) {
        self.client.sent.finish();
        self.server.sent.finish();
        self.tell(None, out);
    }

    /// Each chunk is a write of one end and a read of the other, at `read_at` or when it was written.
    fn tell(&mut self, read_at: Option<BootTime>, out: &mut VecDeque<Record>) {
        for side in [Side::Client, Side::Server] {
            let (sender, receiver) = self.ends_mut(side);
            while let Some(chunk) = sender.sent.pop() {
                let [write, read] = moved(sender, receiver, &chunk, read_at);
                out.extend([Record::Data(write), Record::Data(read)]);
            }
        }
    }

    /// After both FINs, with everything before them, or a reset.
    pub(super) fn close_if_over(&mut self, at: BootTime, out: &mut VecDeque<Record>) {
        let is_over = self.is_reset || (self.client.is_done() && self.server.is_done());
        if !is_over || std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        if self.is_reset {
            self.flush(out);
        }
        if self.is_announced {
            for conn in [self.client.conn, self.server.conn] {
                out.push_back(Record::Close(Close { at, conn, reset: self.is_reset }));
            }
        }
    }

    pub(super) fn conns(&self, at: BootTime) -> [Record; 2] {
        [Side::Client, Side::Server].map(|side| Record::Conn(Box::new(self.conn(side, at))))
    }

    fn conn(&self, side: Side, at: BootTime) -> Conn {
        let (own, other) = self.ends(side);
        let role = match side {
            Side::Client => Role::Client,
            Side::Server => Role::Server,
        };
        let wire = own.first.zip(other.first).map(|(egress, ingress)| WireBase { egress, ingress });
        Conn {
            at,
            id: own.conn,
            transport: Transport::Tcp,
            local: Endpoint::Inet(own.address),
            remote: Endpoint::Inet(other.address),
            netns: NetNs::UNKNOWN,
            role: self.has_roles.then_some(role),
            from_start: self.is_whole(),
            thread: own.thread,
            comm: String::new(),
            cgroup: CgroupId::UNKNOWN,
            wire,
            peer: None,
        }
    }
}

impl End {
    fn new(address: SocketAddr, conn: ConnId) -> Self {
        Self {
            address,
            conn,
            thread: Worker::default(),
            first: None,
            has_isn: false,
            sent: Assembler::new(Some(0), WINDOW),
            captured: 0,
            fin: None,
            acked: None,
        }
    }

    /// Position of a sequence number: the one nearest to what is expected next. `None` before the stream's start.
    fn position(&self, seq: u32) -> Option<u64> {
        let expected = self.sent.expected()?;
        // The low half of a position counts like a sequence number.
        let expected_seq = self.first?.wrapping_add(expected as u32);
        expected.checked_add_signed(seq.wrapping_sub(expected_seq).cast_signed().into())
    }

    /// The other end has everything before a sequence number. Returns its position, without the FIN.
    fn acknowledge(&mut self, ack: u32, at: BootTime) -> u64 {
        let pos = self.position(ack).unwrap_or_default().min(self.fin.unwrap_or(u64::MAX));
        let expected = self.sent.expected().unwrap_or_default();
        // One more than everything sent is the FIN, captured later or not at all.
        if pos == expected.saturating_add(1) && self.fin.is_none() && self.captured <= expected {
            return expected;
        }
        if pos > expected {
            let since = self.acked.filter(|(acked, _)| *acked > expected).map_or(at, |(_, since)| since);
            self.acked = Some((pos, since));
        }
        pos
    }

    /// What the other end acknowledged was sent, even if the capture does not have it.
    fn give_up_acknowledged(&mut self, now: BootTime) {
        if let Some((pos, since)) = self.acked
            && now >= since + SWAPPED
        {
            self.sent.skip_to(pos, Mark { at: now, thread: self.thread, other_pos: 0, awaited_by: None });
            self.acked = None;
        }
    }

    /// It sent its FIN and everything before it.
    fn is_done(&self) -> bool {
        self.fin.is_some_and(|fin| self.sent.expected().is_some_and(|expected| expected >= fin))
    }
}

/// A chunk as the write of one end and the read of the other.
fn moved(sender: &End, receiver: &End, chunk: &Chunk, read_at: Option<BootTime>) -> [Data; 2] {
    let mark = chunk.mark();
    let bytes = match chunk {
        Chunk::Bytes { bytes, .. } => bytes.clone(),
        Chunk::Gap { .. } => Bytes::new(),
    };
    let write = Data {
        at: mark.at,
        conn: sender.conn,
        direction: Direction::Egress,
        pos: chunk.pos(),
        other_pos: mark.other_pos,
        // A sequence number is 32 bits wide, so a longer chunk does not exist.
        len: u32::try_from(chunk.len()).unwrap_or(u32::MAX),
        flags: DataFlags { unreadable: bytes.is_empty(), ..DataFlags::default() },
        bytes,
        thread: sender.thread,
        awaited_by: None,
    };
    let at = read_at.map_or(mark.at, |at| at.max(mark.at));
    let (conn, direction, thread) = (receiver.conn, Direction::Ingress, receiver.thread);
    let read = Data { at, conn, direction, thread, ..write.clone() };
    [write, read]
}
