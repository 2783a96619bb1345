//! A connection under TLS: its chunks → plaintext, into detection and a session like any other.
//!
//! *Owns* when a connection counts as opened or closed, and that operations stand where their bytes are on the wire.
//! *Must not know* keys and records.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::opening::{Unwanted, Wanted};
use super::{Context, Flow, State, sender};
use crate::operation::{Extent, Interaction};
use crate::protocol::{End, Event};
use crate::record::{ConnId, Direction, Endpoint, OpId, Point, Role, Sender};
use crate::stream::Chunk;
use crate::time::BootTime;
use crate::tls;

/// Where brokers of AMQP listen under TLS (IANA's registry of ports).
const AMQPS: u16 = 5671;

/// What is under TLS.
#[derive(Debug)]
pub(super) struct Sealed {
    session: tls::Session,
    /// The first byte of what is open: in the plaintext, and on the wire if the client sent it, and if the server did.
    begun: BTreeMap<OpId, (u64, [Option<u64>; 2])>,
    is_opened: bool,
    /// What the process reads was opened, or asks for nothing: each direction has a secret of its own, and that of what it writes shows no request.
    is_read: bool,
    /// It was told that the process has read something that cannot be read here.
    is_hidden: bool,
    /// Whose secret it waits for, once it was told.
    asked: Option<tls::ClientRandom>,
}

/// An entry of `begun`, with its part of the tree's nodes.
const BEGUN_BYTES: usize = 2 * size_of::<(OpId, (u64, [Option<u64>; 2]))>();

impl Sealed {
    /// Captured bytes.
    pub(super) fn held(&self) -> usize {
        self.session.held()
    }

    /// What is known beside them.
    pub(super) fn state_bytes(&self) -> usize {
        let begun = self.begun.len().saturating_mul(BEGUN_BYTES);
        self.session.state_bytes().saturating_add(begun).saturating_add(size_of::<Self>())
    }

    /// A record of it was opened.
    pub(super) fn is_opened(&self) -> bool {
        self.is_opened
    }

    pub(super) fn poll_timeout(&self) -> Option<BootTime> {
        self.session.poll_timeout()
    }

    /// It waits for its secret.
    pub(super) fn is_waiting(&self) -> bool {
        self.session.poll_timeout().is_some()
    }
}

/// What the secrets of a connection are called of whose handshake nothing was seen: no client's random begins so.
fn own_name(conn: ConnId) -> tls::ClientRandom {
    let mut name = tls::ClientRandom::default();
    if let Some(first) = name.first_chunk_mut() {
        *first = conn.0.to_be_bytes();
    }
    name
}

impl Flow {
    /// The connection speaks TLS, and it is to be opened: what was seen so far is its ciphertext.
    pub(super) fn seal(&mut self, now: BootTime, cx: &mut Context) {
        let since = self.seen_since().unwrap_or(now);
        let State::Detecting(look) = std::mem::replace(&mut self.state, State::Detecting(Box::default()))
        else {
            return;
        };
        let at_record = begins_with_hello(look.pending.iter());
        let session = tls::Session::new(at_record, self.info.role, cx.tls.bounds)
            .with_name(own_name(self.info.conn.id));
        // PostgreSQL's client asks, and is asked for nothing: there is nothing to be hidden.
        let is_read = is_of_postgres(look.pending.iter());
        let sealed = Sealed {
            session,
            begun: BTreeMap::new(),
            is_opened: false,
            is_read,
            is_hidden: false,
            asked: None,
        };
        cx.stats.tls.seen += 1;
        self.tls = Some(Box::new(sealed));
        if !is_read && !at_record {
            self.hide(since, cx);
        }
        self.want_all(cx);
        for (direction, chunk) in look.pending {
            self.take_sealed(direction, &chunk, now, cx);
        }
    }

    /// A chunk of ciphertext.
    pub(super) fn take_sealed(
        &mut self,
        direction: Direction,
        chunk: &Chunk,
        now: BootTime,
        cx: &mut Context,
    ) {
        let Some(sealed) = &mut self.tls else { return };
        sealed.session.offer(direction, chunk);
        if direction == Direction::Ingress && !sealed.is_read && sealed.session.has_read() {
            let mark = chunk.mark();
            if !sealed.is_hidden {
                self.hide(mark.at, cx);
            }
            if let Chunk::Bytes { .. } = chunk {
                cx.out.push_back((Arc::clone(&self.info), Event::Hidden { by: mark.thread, at: mark.at }));
            }
        }
        self.unseal(now, cx);
    }

    /// From now on the process may have read what cannot be read here. A handshake asks for nothing, nor does a connection that is
    /// kept for later.
    fn hide(&mut self, since: BootTime, cx: &mut Context) {
        if let Some(sealed) = &mut self.tls {
            sealed.is_hidden = true;
        }
        self.say_unread(since, true, cx);
        if let Some(close) = self.closing {
            self.say_over(close.at, cx);
        }
    }

    /// The connection was closed: what it hides goes no further, while its records wait for their secret a little longer.
    pub(super) fn say_over(&self, at: BootTime, cx: &mut Context) {
        if self.tls.as_ref().is_some_and(|sealed| sealed.is_hidden && !sealed.is_read) {
            cx.out.push_back((Arc::clone(&self.info), Event::UnreadOver { at }));
        }
    }

    /// Hands on what can be opened now.
    pub(in crate::conn) fn unseal(&mut self, now: BootTime, cx: &mut Context) {
        loop {
            let Some(sealed) = &mut self.tls else { return };
            let next = sealed.session.poll(&cx.tls.secrets, now);
            cx.stats.tls.add(sealed.session.take_counts());
            match sealed.session.phase() {
                tls::Phase::Closed(cause) => return self.stay_closed(cause, now, cx),
                tls::Phase::Open if !sealed.is_opened => {
                    sealed.is_opened = true;
                    cx.stats.tls.opened += 1;
                    self.tell_facts();
                }
                _ => {}
            }
            match next {
                Some((direction, chunk)) => {
                    self.note_read(direction, cx);
                    self.take_plain(direction, chunk, now, cx);
                }
                None => return self.ask_for_secret(cx),
            }
        }
    }

    /// What the process reads is plaintext from now on: nothing is hidden in it any more.
    fn note_read(&mut self, direction: Direction, cx: &mut Context) {
        if let Some(sealed) = &mut self.tls
            && direction == Direction::Ingress
            && !std::mem::replace(&mut sealed.is_read, true)
            && sealed.is_hidden
        {
            cx.out.push_back((Arc::clone(&self.info), Event::Read));
        }
    }

    /// Its secret is hardly to be found any more, or need not be.
    pub(super) fn unwant_sealed(&self, is_over: bool, cx: &mut Context) {
        if let Some(name) = self.tls.as_ref().and_then(|sealed| sealed.session.asked()) {
            cx.tls.unwant(Unwanted { tgid: self.moved_by, name, is_over });
        }
    }

    /// No more bytes, or no more time.
    pub(super) fn end_sealed(&mut self, cx: &mut Context) {
        self.unwant_sealed(false, cx);
        let Some(sealed) = &self.tls else { return };
        if !sealed.is_opened {
            cx.stats.tls.closed(tls::Cause::Secret);
            cx.stats.opaque += 1;
        }
    }

    /// Time passed.
    pub(super) fn expire_sealed(&mut self, now: BootTime, cx: &mut Context) {
        let Some(sealed) = &mut self.tls else { return };
        if sealed.session.poll_timeout().is_some_and(|due| due <= now) {
            sealed.session.handle_timeout(now);
            self.unseal(now, cx);
        }
    }

    /// Secrets from memory are not to be used any more.
    pub(in crate::conn) fn forget_found(&mut self, now: BootTime, cx: &mut Context) {
        let Some(sealed) = &mut self.tls else { return };
        if sealed.session.is_found() && !matches!(sealed.session.phase(), tls::Phase::Closed(_)) {
            sealed.session.close(tls::Cause::Secret);
            self.unseal(now, cx);
        }
    }

    /// Memory is short: what waits for a secret waits no longer.
    pub(super) fn relieve_sealed(&mut self, now: BootTime, cx: &mut Context) {
        let Some(sealed) = &mut self.tls else { return };
        if sealed.session.phase() == tls::Phase::Waiting {
            sealed.session.close(tls::Cause::Limit);
            self.unseal(now, cx);
        }
    }

    fn stay_closed(&mut self, cause: tls::Cause, now: BootTime, cx: &mut Context) {
        self.unwant_sealed(false, cx);
        cx.stats.tls.closed(cause);
        cx.stats.opaque += 1;
        // Nothing more is captured of it; nothing more comes of one that is over.
        if self.may_be_asked() == Some(false) {
            cx.out.push_back((Arc::clone(&self.info), Event::Read));
        } else if !self.is_closing() {
            self.say_unread(now, false, cx);
        }
        // What was open is told while it is still known where it stands on the wire.
        if let State::Speaking(talk) = &mut self.state {
            talk.session.end(End::Abandoned, now, &mut cx.events);
            self.publish(cx);
        }
        self.ignore(cx);
    }

    /// Whether the other end may ask the process for something: as the client of a server, or as a broker that delivers (IANA's port
    /// `amqps`). `None`: it is not known who is the client.
    pub(super) fn may_be_asked(&self) -> Option<bool> {
        let client = self.tls.as_ref().and_then(|sealed| sealed.session.client());
        let role = self.info.role.or(client.map(|client| match client {
            Direction::Egress => Role::Client,
            Direction::Ingress => Role::Server,
        }));
        let is_broker = matches!(&self.info.conn.remote, Endpoint::Inet(address) if address.port() == AMQPS);
        role.map(|role| role == Role::Server || is_broker)
    }

    fn ask_for_secret(&mut self, cx: &mut Context) {
        let Some(sealed) = &mut self.tls else { return };
        let name = sealed.session.wants();
        let id = self.info.conn.id;
        if let Some(name) = name
            && sealed.asked.replace(name) != Some(name)
        {
            cx.tls.wait(name, id);
        }
        if cx.tls.is_searched
            && let Some(proof) = sealed.session.poll_proof(self.spoke_at)
            && !cx.tls.want(Wanted { conn: id, tgid: self.moved_by, at: self.spoke_at, proof })
        {
            cx.stats.tls.unasked += 1;
        }
    }

    fn tell_facts(&mut self) {
        let Some(sealed) = &self.tls else { return };
        let role = sealed.session.client().map(|client| match client {
            Direction::Egress => Role::Client,
            Direction::Ingress => Role::Server,
        });
        let facts = sealed.session.facts().map(Arc::new);
        let info = Arc::make_mut(&mut self.info);
        info.tls = facts;
        info.role = info.role.or(role);
    }

    /// Puts an event's operation where its bytes stand on the wire. Returns whether that is known.
    pub(super) fn place(&mut self, event: &mut Event) -> bool {
        let Some(sealed) = &mut self.tls else { return true };
        let role = self.info.role.unwrap_or(Role::Client);
        match event {
            Event::Opened { op, point, .. } => {
                let wires = [Sender::Client, Sender::Server]
                    .map(|from| sealed.session.wire(direction(role, from), point.pos, false));
                sealed.begun.insert(*op, (point.pos, wires));
                // Who begins a message's operation shows when it is over, and nobody asks where it stands before.
                let is_call =
                    self.info.protocol.is_none_or(|protocol| protocol.interaction() == Interaction::Call);
                match wires[0] {
                    Some(wire) if is_call => point.pos = wire,
                    None if is_call => return false,
                    _ => {}
                }
                true
            }
            Event::Requested { op, point } => {
                // As far from the beginning as in the plaintext.
                if let Some((plain, [Some(wire), _])) = sealed.begun.get(op) {
                    point.pos = wire.saturating_add(point.pos.saturating_sub(*plain));
                }
                true
            }
            Event::Closed(operation) => {
                let begun = sealed.begun.remove(&operation.id);
                let from = operation.sender();
                let start = operation.request.start.pos;
                let known = begun
                    .filter(|(plain, _)| *plain == start)
                    .and_then(|(_, wires)| wires[usize::from(from == Sender::Server)])
                    .or_else(|| sealed.session.wire(direction(role, from), start, false));
                let (request, answer) = (direction(role, from), direction(role, from).opposite());
                let first = known.unwrap_or(start);
                let shift = |point: &mut Point, plain: u64, base: u64, direction| {
                    let far = base.saturating_add(point.pos.saturating_sub(plain));
                    point.pos = sealed.session.wire(direction, point.pos, true).unwrap_or(far).max(base);
                };
                operation.request.start.pos = first;
                shift(&mut operation.request.end, start, first, request);
                if let Some(Extent { start, end }) = &mut operation.response {
                    let plain = start.pos;
                    start.pos = sealed.session.wire(answer, plain, false).unwrap_or(plain);
                    shift(end, plain, start.pos, answer);
                }
                known.is_some()
            }
            // Only its message is looked at.
            Event::Sent(_)
            | Event::Missed { .. }
            | Event::Unread { .. }
            | Event::Hidden { .. }
            | Event::UnreadOver { .. }
            | Event::Read
            | Event::Discarded { .. } => true,
        }
    }
}

/// The direction in which a sender's bytes move, seen from a socket of that role.
fn direction(role: Role, from: Sender) -> Direction {
    if sender(role, Direction::Ingress) == from { Direction::Ingress } else { Direction::Egress }
}

/// What was captured begins with the handshake: whoever spoke first begins with the record of a hello. Many programs read a record's
/// header by itself, so that its body is in a chunk of its own.
fn begins_with_hello<'a>(mut chunks: impl Iterator<Item = &'a (Direction, Chunk)> + Clone) -> bool {
    let Some((direction, _)) = chunks.clone().next() else { return false };
    let mut head = Vec::with_capacity(HELLO_HEAD);
    while head.len() < HELLO_HEAD {
        match chunks.next() {
            Some((of, Chunk::Bytes { bytes, .. })) if of == direction => {
                head.extend(bytes.iter().take(HELLO_HEAD - head.len()));
            }
            Some((of, _)) if of != direction => {}
            // A gap, or no more.
            _ => return false,
        }
    }
    matches!(head.as_slice(), [22, 3, _, _, _, 1 | 2])
}

/// It began with PostgreSQL's `SSLRequest`: whoever sent it asks, and is asked for nothing.
fn is_of_postgres<'a>(mut chunks: impl Iterator<Item = &'a (Direction, Chunk)>) -> bool {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    chunks.any(|(direction, chunk)| match chunk {
        Chunk::Bytes { bytes, .. } => *direction == Direction::Egress && bytes.starts_with(&SSL_REQUEST),
        Chunk::Gap { .. } => false,
    })
}

/// A record's header and the type of its first message.
const HELLO_HEAD: usize = 6;
