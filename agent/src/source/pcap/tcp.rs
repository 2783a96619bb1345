//! TCP segments of a capture → the records of both ends' sockets.
//!
//! What a capture does not have is stood in for, always in the same way:
//!
//! | record | from |
//! |---|---|
//! | process, thread | one `tgid` (= `tid`) per server address and port; one per client connection |
//! | service name | the configured name of the server's port, else `address:port` of a server, `address` of a client |
//! | time | the packet's; what a repeated segment was missing for is read when that comes |
//! | `other_pos` | the acknowledgement in the packet: what its sender had received, so its receiver had sent |
//! | close | the second FIN, or a reset |
//! | wire identity | both initial sequence numbers; without a handshake, those of the first packet |
//!
//! A capture on all interfaces of a node has the packets of a connection twice, before and after a translation of addresses
//! (a Kubernetes service). Translation leaves sequence numbers alone: two connections that begin with the same pair of them
//! within moments are one, told as the one whose handshake is whole first.
//!
//! Sequence numbers become 64-bit positions ([`Flow`]); order, overlap and holes are the work of
//! [`Assembler`](spoor_core::stream::Assembler). A hole is a gap once the other end has acknowledged what is missing, or
//! when too much waits behind it.
//!
//! *Owns* the connection table of a capture. *Must not know* packets' outer headers, nor what TCP carries.
//! *Spec*: RFC 9293.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::flow::Flow;
use super::packet::Segment;
use crate::config::Services;
use spoor_core::bounded::{Bounded, Slot};
use spoor_core::hash::Keyed;
use spoor_core::record::*;
use spoor_core::time::BootTime;

/// Connections followed at once.
const MAX_CONNECTIONS: usize = 65_536;
/// Server addresses remembered as processes.
const MAX_SERVERS: usize = 1 << 20;
/// Bytes of all connections that may wait for a hole to fill.
const MAX_BUFFERED: usize = 64 << 20;
/// A packet is translated within moments; a stalled machine included. A pair of initial sequence numbers comes again by chance once in
/// 2^64, and with generators that count from a constant.
const TRANSLATED: Duration = Duration::from_secs(1);

/// A connection by its addresses, and when it began.
type Begun = ((SocketAddr, SocketAddr), BootTime);

/// All TCP connections of a capture.
#[derive(Debug)]
pub(super) struct Tracker {
    table: Bounded<(SocketAddr, SocketAddr), Flow, Keyed>,
    /// Connections told of, by their sequence numbers, and when they began.
    pairs: Bounded<(u32, u32), Begun, Keyed>,
    buffered: usize,
    /// The latest packet's time.
    now: BootTime,
    names: HashMap<u16, (String, Option<String>)>,
    /// Process of each server address.
    servers: HashMap<SocketAddr, Tgid>,
    next_tgid: u32,
    next_conn: u64,
    connections: u64,
    mid_stream: u64,
    evicted: u64,
    missing: u64,
    repeated: u64,
    strays: u64,
    twins: u64,
    twin_segments: u64,
}

impl Tracker {
    pub(super) fn new(services: &Services) -> Self {
        let names = services
            .names
            .iter()
            .rev()
            .filter_map(|rule| Some((rule.port?, (rule.name.clone(), rule.namespace.clone()))));
        Self {
            table: Bounded::for_foreign_keys(MAX_CONNECTIONS),
            pairs: Bounded::for_foreign_keys(MAX_CONNECTIONS),
            buffered: 0,
            now: BootTime::ZERO,
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
            twins: 0,
            twin_segments: 0,
        }
    }

    /// Takes a segment captured at `at`.
    pub(super) fn handle(&mut self, segment: &Segment<'_>, at: BootTime, out: &mut VecDeque<Record>) {
        self.now = self.now.max(at);
        let key =
            if segment.from <= segment.to { (segment.from, segment.to) } else { (segment.to, segment.from) };
        let mut slot = self.table.slot(&key);
        if let Some(old) = slot
            && self.table.at(old).is_some_and(|flow| flow.is_replaced_by(segment))
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
        let Some(flow) = self.table.at_mut(slot) else { return };
        if flow.is_closed {
            self.strays += 1;
            return;
        }
        if flow.is_twin {
            self.twin_segments += 1;
            return;
        }
        flow.expire(at, out);
        flow.handle(segment, at);
        let (pair, opened_at, is_announced) = (flow.pair(), flow.opened_at, flow.is_announced);
        if let Some(pair) = pair.filter(|_| !is_announced)
            && self.is_told(key, pair, opened_at)
        {
            return self.leave_out(slot);
        }
        let Some(flow) = self.table.at_mut(slot) else { return };
        if !flow.is_announced && (pair.is_some() || segment.len > 0) {
            flow.is_paired_announced = pair.is_some();
            self.announce(slot, at, out);
        } else if flow.is_announced && pair.is_some() && !flow.is_paired_announced {
            flow.is_paired_announced = true;
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

    /// What the capture does not have, and what of it was left out.
    pub(super) fn unread(&self) -> [(&'static str, u64); 3] {
        [
            ("TCP connections without their beginning", self.mid_stream),
            ("TCP bytes missing from the capture", self.missing),
            ("TCP connections captured again behind a translation of addresses", self.twins),
        ]
    }

    pub(super) fn counts(&self) -> [(&'static str, u64); 8] {
        [
            ("TCP connections", self.connections),
            ("TCP connections joined in mid-stream", self.mid_stream),
            ("TCP connections given up at the bound", self.evicted),
            ("TCP bytes missing from the capture", self.missing),
            ("TCP bytes captured again", self.repeated),
            ("TCP segments outside a connection", self.strays),
            ("TCP connections captured again behind a translation of addresses", self.twins),
            ("TCP segments of these", self.twin_segments),
        ]
    }

    /// Another connection with these sequence numbers is told of, and began with this one. Else it is remembered as told.
    fn is_told(&mut self, key: (SocketAddr, SocketAddr), pair: (u32, u32), opened_at: BootTime) -> bool {
        if let Some((other, began_at)) = self.pairs.get(&pair).copied()
            && other != key
        {
            let apart =
                if opened_at > began_at { opened_at.since(began_at) } else { began_at.since(opened_at) };
            if apart <= TRANSLATED {
                return true;
            }
        }
        self.pairs.insert(pair, (key, opened_at));
        false
    }

    /// Nothing of this connection is told: it is another's, seen again.
    fn leave_out(&mut self, slot: Slot) {
        self.twins += 1;
        self.twin_segments += 1;
        let Some(flow) = self.table.at_mut(slot) else { return };
        flow.is_twin = true;
        flow.forget();
        self.buffered = self.buffered.saturating_sub(std::mem::take(&mut flow.accounted));
    }

    fn open(
        &mut self,
        key: (SocketAddr, SocketAddr),
        segment: &Segment<'_>,
        at: BootTime,
        out: &mut VecDeque<Record>,
    ) -> Slot {
        while self.table.is_full()
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
            (address, conn)
        };
        let flow = Flow::new(end(client), end(server), segment.flags.syn(), at);
        self.table.insert_new(key, flow).0
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
    fn announce(&mut self, slot: Slot, at: BootTime, out: &mut VecDeque<Record>) {
        let Some(flow) = self.table.at_mut(slot) else { return };
        flow.is_announced = true;
        let process = |tgid: Tgid, (service, service_namespace): (String, Option<String>)| {
            let info =
                ProcessInfo { at, tgid, started_at: at, service, service_namespace, ..Default::default() };
            Record::ProcessInfo(Box::new(info))
        };
        let mut new_tgid = || {
            let tgid = Tgid(self.next_tgid);
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
        flow.server.thread = Worker::new(server_tgid.0, server_tgid.0);
        flow.client.thread = Worker::new(client_tgid.0, client_tgid.0);
        out.extend(flow.conns(at));
    }

    /// Hands out what is in order now.
    fn deliver(&mut self, slot: Slot, at: BootTime, out: &mut VecDeque<Record>) {
        let Some(flow) = self.table.at_mut(slot) else { return };
        if self.buffered.saturating_sub(flow.accounted).saturating_add(flow.buffered()) > MAX_BUFFERED {
            flow.flush(out);
        }
        flow.deliver(at, out);
        flow.close_if_over(at, out);
        let held = flow.buffered();
        self.buffered = self.buffered.saturating_sub(flow.accounted).saturating_add(held);
        flow.accounted = held;
    }

    /// Forgets a connection, with everything that still waits handed out.
    fn end(&mut self, slot: Slot, at: BootTime, out: &mut VecDeque<Record>) {
        let Some(mut flow) = self.table.remove_at(slot) else { return };
        self.buffered = self.buffered.saturating_sub(flow.accounted);
        if flow.is_twin {
            return;
        }
        flow.flush(out);
        flow.close_if_over(at, out);
        for end in [&flow.client, &flow.server] {
            let stats = end.sent.stats();
            self.missing = self.missing.saturating_add(stats.missing);
            self.repeated = self.repeated.saturating_add(stats.trimmed);
        }
    }
}
