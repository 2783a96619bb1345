//! Identifiers derived from what both ends of a connection see, and from orders. Version 1.
//!
//! Connections, positions and orders in; the same identifiers on every node out. Nothing is agreed on between agents but this
//! page. *Must not know* which operations are joined.
//!
//! Every identifier is the beginning of a SHA-256 over a sequence of fields, each as its length (4 bytes, big-endian) and its
//! bytes; integers are big-endian at their full width. The first field names the derivation and its version. An identifier
//! that would be all zero has its last bit set.
//!
//! | identifier | bytes | fields |
//! |---|---|---|
//! | wire, TCP | 16 | `spoor.wire.1`, client's first sequence number (4), server's (4), sender (1: `0` client, `1` server), position of the request's first byte in the sender's direction (8) |
//! | wire, Unix | 16 | `spoor.unix.1`, boot ID (16), client's cookie (8), server's (8), sender (1), position (8) |
//! | wire, Unix, older than the agent | 16 | `spoor.unix.2`, boot ID (16), client's cookie (8), server's (8), sender (1), position (8), content |
//! | local | 16 | `spoor.local.1`, boot ID (16), cookie (8), sender (1), position (8) |
//! | span | 8 | `spoor.span.1`, wire or local identifier (16), end (1: `0` client, `1` server, `2` dwell) |
//! | message span | 8 | `spoor.message.1`, message ID, canonical message (32) |
//! | window phase | 8 | `spoor.phase.1`, namespace, value |
//! | order trace | 16 | `spoor.trace.1`, deployment, namespace, value, window in seconds (8), index of the window (8) |
//! | wire trace | 16 | `spoor.wiretrace.1`, wire or local identifier (16) |
//! | transaction | 8 | `spoor.transaction.1`, client's first sequence number (4), server's (4), number of the transaction on its connection (8) |
//! | transaction, local | 8 | `spoor.localtransaction.1`, cookie (8), when the connection came to be known (8), number (8) |
//! | root of an order | 8 | `spoor.root.1`, order trace (16) |
//!
//! The index of a window is `(start + phase mod window) / window` in nanoseconds since the Unix epoch; without a window it is 0.
//! Sequence numbers are those of the first data bytes. Both ends of an older Unix connection count from the agent's start, but may
//! differ by what was on its way then: so the content of the request is in it too (of HTTP the method, the target, and name and value
//! of each header field; of PostgreSQL the text and the parameters; of a message its canonical digest and, of a delivery, its tag), and
//! ends that cannot be of one operation are not joined ([`crate::causality::across::wire`]).
//!
//! | vector | value |
//! |---|---|
//! | wire: first sequence numbers 1000 and 4000000000, client, position 4711 | `5130cadcb5613df19dd9612b21fbadc8` |
//! | its client, server and dwell span | `5eb52e42712efd0b`, `9ee8082d94040311`, `09c7ec866d395d99` |
//! | its trace | `492f427c1c64b6c71e4b60fdf04d8bef` |
//! | order `17` of namespace `order`, deployment `acme`, 24 h, at 1795000000 s: window 20775 | `6fe6c760005a59f14b80e7f8074b5618` |
//! | the same without a window | `9d8d84b64fc5aaee9536a8c80ac81862` |
//! | root span of the one with a window | `1d63f34239760be5` |
//! | transaction 3 of the connection above | `0237a5a5e15ec676` |
//!
//! The tests hold one vector of each derivation.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::OrderKey;
use crate::conn::ConnInfo;
use crate::operation::amqp::ActionKind;
use crate::operation::postgres::{Cell, TransactionNumber};
use crate::operation::{Detail, Operation};
use crate::record::{Role, Sender, Transport};
use crate::time::WallTime;
use crate::trace::{SpanId, TraceId};

/// The version of all derivations, for resources (`spoor.ids.version`).
pub const VERSION: i64 = 1;

/// One operation as both ends of its connection know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireId(pub [u8; 16]);

/// What the identifiers of an operation are derived from: its wire identity, or what only this machine knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seed([u8; 16]);

impl From<WireId> for Seed {
    fn from(wire: WireId) -> Self {
        Self(wire.0)
    }
}

impl std::fmt::Display for WireId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        crate::trace::hex(f, &self.0)
    }
}

/// What of an operation a span shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanEnd {
    /// Seen by the process that connected.
    Client,
    /// Seen by the process that accepted.
    Server,
    /// A message's time in a queue; derived from its delivery.
    Dwell,
}

/// The wire identity of an operation. `None`: its connection cannot be matched with its other end. `boot_id` is that of the
/// observed machine (`/proc/sys/kernel/random/boot_id`), live or recorded; only Unix sockets need it.
pub fn wire_id(conn: &ConnInfo, op: &Operation, boot_id: &[u8; 16]) -> Option<WireId> {
    wire_id_at(conn, op.sender(), op.request.start.pos, boot_id).or_else(|| of_older_unix(conn, op, boot_id))
}

/// The same of a Unix connection that is older than the agent.
fn of_older_unix(conn: &ConnInfo, op: &Operation, boot_id: &[u8; 16]) -> Option<WireId> {
    if conn.conn.transport != Transport::Unix {
        return None;
    }
    let (own, peer) = (conn.conn.id.0, conn.conn.peer?.0);
    let (client, server) = if conn.role? == Role::Client { (own, peer) } else { (peer, own) };
    let hash = Hasher::new("spoor.unix.2").bytes(boot_id).u64(client).u64(server);
    let mut hash = hash.sender(op.sender()).u64(op.request.start.pos);
    match &op.detail {
        Detail::Http(exchange) if !exchange.method.is_empty() => {
            hash = hash.text(&exchange.method).text(&exchange.target);
            for field in exchange.request_headers.iter() {
                hash = hash.text(field.name).bytes(field.value);
            }
        }
        Detail::Postgres(statement) => {
            hash = hash.text(statement.text.as_deref()?);
            for parameter in &statement.parameters {
                hash = match &parameter.value {
                    Some(Cell::Text(text)) => hash.text(text),
                    Some(Cell::Opaque(len)) => hash.u32(*len),
                    None => hash.bytes(&[]),
                };
            }
        }
        Detail::Amqp(action) => {
            hash = hash.bytes(&action.kind.content()?.canonical_digest()?);
            if let ActionKind::Deliver(deliver) = &action.kind {
                hash = hash.u64(deliver.delivery_tag);
            }
        }
        Detail::Http(_) => return None,
    }
    Some(WireId(hash.finish()))
}

/// The same of an operation that has begun: `sender` sent its first byte, which is at `position` of that direction.
pub fn wire_id_at(conn: &ConnInfo, sender: Sender, position: u64, boot_id: &[u8; 16]) -> Option<WireId> {
    let is_client = conn.role? == Role::Client;
    match conn.conn.transport {
        Transport::Tcp => {
            let base = conn.conn.wire?;
            let (client, server) =
                if is_client { (base.egress, base.ingress) } else { (base.ingress, base.egress) };
            let hash = Hasher::new("spoor.wire.1").u32(client).u32(server).sender(sender).u64(position);
            Some(WireId(hash.finish()))
        }
        // Both ends count from the first byte only if both saw it.
        Transport::Unix if conn.conn.from_start => {
            let (own, peer) = (conn.conn.id.0, conn.conn.peer?.0);
            let (client, server) = if is_client { (own, peer) } else { (peer, own) };
            let hash = Hasher::new("spoor.unix.1").bytes(boot_id).u64(client).u64(server);
            Some(WireId(hash.sender(sender).u64(position).finish()))
        }
        Transport::Unix | Transport::Mptcp => None,
    }
}

/// Its operations have wire identities.
pub fn has_wire(conn: &ConnInfo) -> bool {
    match conn.conn.transport {
        Transport::Tcp => conn.conn.wire.is_some(),
        Transport::Unix => conn.conn.from_start && conn.conn.peer.is_some(),
        Transport::Mptcp => false,
    }
}

/// The wire identity, or one that holds on this machine only.
pub fn identity(conn: &ConnInfo, op: &Operation, boot_id: &[u8; 16]) -> Seed {
    wire_id(conn, op, boot_id).map_or_else(|| local(conn, op, boot_id), Seed::from)
}

/// The identity of an operation that has no wire identity: it holds on this machine only.
pub fn local(conn: &ConnInfo, op: &Operation, boot_id: &[u8; 16]) -> Seed {
    let hash = Hasher::new("spoor.local.1").bytes(boot_id).u64(conn.conn.id.0);
    Seed(hash.sender(op.sender()).u64(op.request.start.pos).finish())
}

/// The span of one end of an operation.
pub fn span_id(seed: &Seed, end: SpanEnd) -> SpanId {
    let end = match end {
        SpanEnd::Client => 0,
        SpanEnd::Server => 1,
        SpanEnd::Dwell => 2,
    };
    SpanId(Hasher::new("spoor.span.1").fixed(seed.0).fixed([end]).finish())
}

/// The span of a publish with a message ID: computable from the message alone on both sides of a broker. `canonical` is
/// [`Content::canonical_digest`](crate::operation::amqp::Content), what brokers leave of a message.
pub fn message_span_id(message_id: &str, canonical: &[u8; 32]) -> SpanId {
    SpanId(Hasher::new("spoor.message.1").text(message_id).bytes(canonical).finish())
}

/// One transaction of one connection: alike at both ends and in every agent, as long as the connection is known by its sequence
/// numbers.
pub fn transaction_id(conn: &ConnInfo, number: TransactionNumber) -> [u8; 8] {
    let is_client = conn.role.unwrap_or(Role::Client) == Role::Client;
    match conn.conn.wire.filter(|_| conn.conn.transport == Transport::Tcp) {
        Some(base) => {
            let (client, server) =
                if is_client { (base.egress, base.ingress) } else { (base.ingress, base.egress) };
            Hasher::new("spoor.transaction.1").u32(client).u32(server).u64(number.0).finish()
        }
        None => {
            let hash = Hasher::new("spoor.localtransaction.1").u64(conn.conn.id.0);
            hash.u64(conn.conn.at.as_nanos()).u64(number.0).finish()
        }
    }
}

/// The span under which all trees of an order's trace stand, where such a span is wanted.
pub fn root_span_id(trace_id: TraceId) -> SpanId {
    SpanId(Hasher::new("spoor.root.1").bytes(&trace_id.0).finish())
}

/// The index of the window that `start` is in. Orders change windows at different moments.
pub fn window_index(key: &OrderKey, window: Duration, start: WallTime) -> u64 {
    let window_ns = window.as_nanos();
    if window_ns == 0 {
        return 0;
    }
    let phase: [u8; 8] = Hasher::new("spoor.phase.1").text(&key.namespace).text(&key.value).finish();
    let phase = u128::from(u64::from_be_bytes(phase)) % window_ns;
    ((u128::from(start.as_nanos()) + phase) / window_ns) as u64
}

/// The trace of an order in the window that its tree's root started in. `window` zero never splits.
pub fn trace_id_from_order(deployment: &str, key: &OrderKey, window: Duration, start: WallTime) -> TraceId {
    trace_id_of_window(deployment, key, window, window_index(key, window, start))
}

/// The trace of an order in the window of this index.
pub fn trace_id_of_window(deployment: &str, key: &OrderKey, window: Duration, index: u64) -> TraceId {
    let hash = Hasher::new("spoor.trace.1").text(deployment).text(&key.namespace).text(&key.value);
    TraceId(hash.u64(window.as_secs()).u64(index).finish())
}

/// The trace of a tree without an order, from its root operation.
pub fn trace_id_from_wire(root: &Seed) -> TraceId {
    TraceId(Hasher::new("spoor.wiretrace.1").fixed(root.0).finish())
}

/// A SHA-256 over fields with their lengths. Nearly always they fit into two blocks: these are gathered, and hashed at once.
struct Hasher {
    gathered: [u8; 128],
    len: usize,
    /// Those that did not fit.
    more: Option<Sha256>,
}

impl Hasher {
    #[inline]
    fn new(derivation: &str) -> Self {
        Self { gathered: [0; 128], len: 0, more: None }.text(derivation)
    }

    #[inline]
    fn bytes(mut self, bytes: &[u8]) -> Self {
        let len = (bytes.len() as u32).to_be_bytes();
        let end = self.len + len.len() + bytes.len();
        if self.more.is_none()
            && let Some((length, field)) =
                self.gathered.get_mut(self.len..end).and_then(|room| room.split_first_chunk_mut::<4>())
        {
            *length = len;
            field.copy_from_slice(bytes);
            self.len = end;
            return self;
        }
        self.spill(len, bytes);
        self
    }

    /// A field whose length is known when it is compiled, as most are.
    #[inline]
    fn fixed<const N: usize>(mut self, bytes: [u8; N]) -> Self {
        let len = (N as u32).to_be_bytes();
        if self.more.is_none()
            && let Some((length, field)) =
                self.gathered.get_mut(self.len..).and_then(|room| room.split_first_chunk_mut::<4>())
            && let Some(field) = field.first_chunk_mut::<N>()
        {
            *length = len;
            *field = bytes;
            self.len += 4 + N;
            return self;
        }
        self.spill(len, &bytes);
        self
    }

    #[cold]
    fn spill(&mut self, len: [u8; 4], bytes: &[u8]) {
        let gathered = self.gathered.get(..self.len).unwrap_or_default();
        let hash = self.more.get_or_insert_with(|| Sha256::new().chain_update(gathered));
        hash.update(len);
        hash.update(bytes);
    }

    #[inline]
    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    #[inline]
    fn u32(self, n: u32) -> Self {
        self.fixed(n.to_be_bytes())
    }

    #[inline]
    fn u64(self, n: u64) -> Self {
        self.fixed(n.to_be_bytes())
    }

    #[inline]
    fn sender(self, sender: Sender) -> Self {
        self.fixed([u8::from(sender == Sender::Server)])
    }

    /// The first bytes, never all zero.
    fn finish<const N: usize>(self) -> [u8; N] {
        let hash = match self.more {
            Some(more) => more.finalize(),
            None => Sha256::digest(self.gathered.get(..self.len).unwrap_or_default()),
        };
        let mut out = [0; N];
        out.iter_mut().zip(hash.iter()).for_each(|(slot, byte)| *slot = *byte);
        never_zero(out)
    }
}

/// All zero means "none" in OpenTelemetry.
fn never_zero<const N: usize>(mut id: [u8; N]) -> [u8; N] {
    if let (true, Some(last)) = (id.iter().all(|byte| *byte == 0), id.last_mut()) {
        *last = 1;
    }
    id
}

#[cfg(test)]
mod tests;
