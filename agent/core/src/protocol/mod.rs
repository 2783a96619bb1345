//! Bytes of one connection in stream order → [`Event`]s about its operations.
//!
//! *Owns* the list of protocols, the contract every one fulfils ([`Session`]) and the choice among them ([`detect`]).
//! *Must not know* where bytes came from, who else is connected, spans, orders.
//!
//! Every session is incremental, bounded, free of panics, tolerant of starting anywhere in a stream, and
//! aware of gaps. `Incomplete` is not an error, and no input is.

pub mod amqp;
mod cgi;
mod condense;
pub mod detect;
pub mod fastcgi;
pub mod http1;
pub mod http2;
pub mod postgres;
pub mod proxy;
pub mod reader;
mod registry;
pub mod scgi;
pub mod snapshot;
pub mod uwsgi;

pub use self::registry::{PerProtocol, Shared};
use self::snapshot::{Past, Texts};
use crate::operation::{OpSide, Operation};
use crate::record::{Mark, OpId, Point, Sender, Tgid, Worker};
use crate::time::BootTime;

// The folders are `mod` lines above as well: rustfmt follows no module that a macro declares.
registry::protocols! {
    Http1 = http1,
    Http2 = http2,
    Amqp = amqp,
    Postgres = postgres,
    FastCgi = fastcgi,
    Scgi = scgi,
    Uwsgi = uwsgi,
}

/// What a session tells the core, in the order it becomes known.
///
/// For each operation: `Opened`, then at most one `Requested`, at most one `Sent`, and exactly one `Closed`. Causality reads all but the
/// last to know who was doing what at a moment, and what for; spans are built from `Closed` alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first byte of a request, publish, delivery or statement is known.
    Opened { op: OpId, shape: OpSide, point: Point },
    /// Its last request byte was moved.
    Requested { op: OpId, point: Point },
    /// A message is whole and on its way, though what becomes of it shows much later: its delivery is not to wait for that.
    Sent(Box<Operation>),
    /// It is over, or given up. Carries everything that is known of it.
    Closed(Box<Operation>),
    /// Bytes of this connection are in no record: what they said, and who moved them, is not known. `since`: when the last byte before
    /// them moved, by whom. Not from sessions.
    Missed { bytes: u64, since: BootTime, by: Tgid },
    /// From a moment on this connection may bring requests that cannot be read, to whoever reads from it: it is encrypted. `is_watched`: whoever moves its bytes
    /// is told all the same ([`Event::Hidden`]). Not from sessions.
    Unread { by: Tgid, since: BootTime, is_watched: bool },
    /// Somebody read something from a connection that is not read here. Not from sessions.
    Hidden { by: Worker, at: BootTime },
    /// The connection brings no more of them: it was closed then, though it may yet be read. Not from sessions.
    UnreadOver { at: BootTime },
    /// They can be read after all, or it brings none. Not from sessions.
    Read,
    /// Something was discarded, and why; feeds the counters.
    Discarded { reason: Discard, bytes: u64 },
}

/// Why a session discarded bytes or a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Discard {
    /// Not at a message boundary yet (joined in mid-stream or after a gap).
    Unsynchronised,
    /// Bytes that the protocol does not allow here.
    Invalid,
    /// A configured or built-in bound was reached.
    Limit,
}

/// Where sessions put their events, and where they get operation identifiers from.
#[derive(Debug, Default)]
pub struct Events {
    queue: std::collections::VecDeque<Event>,
    next_op: u64,
}

impl Events {
    /// A fresh identifier, never used before in this pipeline.
    pub fn new_op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    pub fn push(&mut self, event: Event) {
        self.queue.push_back(event);
    }

    pub fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }
}

/// Why a connection's bytes stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Orderly close.
    Closed,
    /// Reset by either side.
    Reset,
    /// The agent stops, or the connection is evicted: nothing is known about its end.
    Abandoned,
}

/// What a session still needs from the kernel for one sender's bytes, for capture verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Everything.
    All,
    /// Nothing of the next `n` bytes: they are body bytes past what is kept.
    Skip(u64),
    /// Nothing of this connection any more.
    Nothing,
}

/// One connection's protocol state, both directions.
///
/// Bytes of each sender arrive in order and tile the stream with gaps: after `bytes(s, pos, b)` the next call for `s`
/// has `pos + b.len()`. Calls for both senders interleave in the order the observed process moved the bytes.
pub trait Session: std::fmt::Debug + Send {
    /// Bytes of one sender, moved at `mark`.
    fn bytes(&mut self, from: Sender, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events);

    /// `len` bytes that moved but were not captured.
    fn gap(&mut self, from: Sender, pos: u64, len: u64, mark: Mark, out: &mut Events);

    /// No more bytes: closes every open operation, marked with how it ended.
    fn end(&mut self, end: End, at: BootTime, out: &mut Events);

    /// Before its first byte: what it speaks begins at `pos` of this sender's stream, because something else stood before.
    fn begins_at(&mut self, from: Sender, pos: u64) {
        let _ = (from, pos);
    }

    /// Time passed without bytes; lets a session close what is kept open by a bound only.
    fn timeout(&mut self, now: BootTime, out: &mut Events) {
        let _ = (now, out);
    }

    /// Both sides agreed to go on under TLS, and what follows in both directions is no longer this session's.
    fn is_sealed(&self) -> bool {
        false
    }

    /// What it needs from the kernel next.
    fn want(&self, from: Sender) -> Want {
        let _ = from;
        Want::All
    }

    /// Bytes that it holds: what is open, what it has learned, what waits for the rest of a message. Asked after every record, so it
    /// keeps count.
    fn held(&self) -> usize;

    /// Memory is short: gives up the bodies and values of what is open. Lengths, and what spans show, stay.
    fn relieve(&mut self) {}

    /// What is known so far of an operation that is not over, once all of its request was seen. `None`: it is not open.
    fn peek(&self, op: OpId) -> Option<Operation>;

    /// What it has learned that the stream does not say again, for the session of the agent that comes next. `None`:
    /// nothing.
    fn export(&self, texts: &mut Texts) -> Option<Snapshot> {
        let _ = texts;
        None
    }

    /// Takes over, before the first byte, what a session of the same connection had learned. Returns whether anything was
    /// kept.
    fn import(&mut self, past: &Past<'_>) -> bool {
        let _ = past;
        false
    }
}

#[cfg(test)]
mod tests;
