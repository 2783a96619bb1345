//! Messages of both sides → events about operations.
//!
//! The server answers strictly in the order it was asked, so what the client sent waits in a queue of [`Unit`]s until its
//! answer comes:
//!
//! ```text
//!   client:  Parse Bind Describe Execute Sync   Parse Bind Execute Sync   ─▶ pushes
//!   server:    1    2      T    D D C     Z       1    2    E       Z     ─▶ pops; after E all up to Sync is skipped
//! ```
//!
//! *Owns* that queue. *Must not know* bytes on the wire.
//! *Spec*: PostgreSQL documentation, section 55.2 "Message Flow".

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::catalog::{Catalog, Key, Prepared};
use super::frame::{ENCRYPTION, Message, Next, STARTUP, Sink};
use super::open::OpenOperations;
use crate::charset::Charset;
use crate::operation::{Completeness, Extent};
use crate::protocol::{Discard, End, Event, Events};
use crate::record::{Point, Role, Sender};
use crate::settings::Protocols;
use crate::time::BootTime;

/// Rows kept per operation.
pub(super) const MAX_ROWS: usize = 4;
/// Bytes of a row kept.
const MAX_ROW_BYTES: usize = 16 << 10;
/// Bytes of an error or notice kept.
const MAX_ERROR_BYTES: usize = 8 << 10;
/// Bytes of a description of rows or parameters kept.
const MAX_DESCRIPTION_BYTES: usize = 16 << 10;
/// Bytes of a message with names only kept.
const MAX_NAMES_BYTES: usize = 2 << 10;
/// Messages that wait for an answer, for each operation that may be open.
const UNITS_PER_OPERATION: usize = 8;
/// A connection whose answers could not be told apart is followed again after so much silence: no server leaves several
/// questions unanswered for so long and then answers.
const QUIET: Duration = Duration::from_secs(10);

/// A simple query without text. It ends the unnamed statement and the unnamed portal; Parse and Bind are longer.
const SHORTEST_QUERY: u64 = 6;

/// Something the client asked for that the server answers.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) what: What,
    /// The operation it belongs to.
    pub(super) key: Option<Key>,
    /// The statement it is about, in case it fails without being executed.
    pub(super) text: Option<Arc<str>>,
    pub(super) extent: Extent,
    /// Bytes of it that were not captured.
    pub(super) missing: u64,
    /// The stretch between two Syncs it was sent in.
    pub(super) segment: u64,
    /// It was asked behind lost bytes of the client: what is answered may be something in them.
    pub(super) late: bool,
}

/// What was asked, and so what the answer can be.
#[derive(Debug)]
pub(super) enum What {
    /// ParseComplete. Holds what had the name before.
    Parse { name: Box<str>, previous: Option<Box<Prepared>> },
    /// BindComplete.
    Bind,
    /// ParameterDescription (of a statement), then RowDescription or NoData.
    Describe { name: Box<str>, is_statement: bool },
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// CloseComplete.
    Close,
    /// ReadyForQuery.
    Sync,
    /// For each statement rows and CommandComplete, at the end ReadyForQuery. The operations that are not over.
    Query { keys: Range<Key> },
    /// FunctionCallResponse, then ReadyForQuery.
    Call,
}

impl Unit {
    pub(super) fn new(what: What, message: &Message<'_>) -> Self {
        let extent = Extent { start: message.start, end: message.end };
        let missing = message.missing;
        Self { what, key: None, text: None, extent, missing, segment: 0, late: false }
    }

    /// It is about this statement.
    pub(super) fn about(mut self, prepared: &Prepared) -> Self {
        self.text = prepared.text.clone();
        self.missing = self.missing.saturating_add(prepared.missing);
        self
    }

    /// A message with this tag can answer it.
    pub(super) fn is_answered_by(&self, tag: u8) -> bool {
        match tag {
            b'1' => matches!(self.what, What::Parse { .. }),
            b'2' => matches!(self.what, What::Bind),
            b'3' => matches!(self.what, What::Close),
            b't' | b'n' => matches!(self.what, What::Describe { .. }),
            b'T' => matches!(self.what, What::Describe { .. } | What::Query { .. }),
            b'V' => matches!(self.what, What::Call),
            b'E' => true,
            _ => matches!(self.what, What::Execute | What::Query { .. }),
        }
    }

    /// ReadyForQuery answers it.
    pub(super) fn ends_turn(&self) -> bool {
        matches!(self.what, What::Sync | What::Query { .. } | What::Call)
    }

    /// How many things of it a message with this tag can be the answer to.
    fn candidates(&self, tag: u8) -> usize {
        match &self.what {
            _ if !self.is_answered_by(tag) => 0,
            // An error is about the whole of it when nothing of it is left.
            What::Query { keys } if tag == b'E' => keys.clone().count().max(1),
            What::Query { keys } => keys.clone().count(),
            _ => 1,
        }
    }

    /// The operations that wait for its answers.
    pub(super) fn keys(&self) -> Range<Key> {
        match (&self.what, self.key) {
            (What::Query { keys }, _) => keys.clone(),
            (What::Execute | What::Call, Some(key)) => key..key.saturating_add(1),
            _ => 0..0,
        }
    }

    /// The operation the next answer is about.
    pub(super) fn current(&self) -> Option<Key> {
        match &self.what {
            What::Query { keys } => (!keys.is_empty()).then_some(keys.start),
            _ => self.key,
        }
    }
}

/// CopyData of a client that does not wait for CopyInResponse.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Early {
    pub(super) len: u64,
    pub(super) end: Point,
    /// CopyDone or CopyFail came, too.
    pub(super) is_over: bool,
}

/// How far the connection's start has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Encryption was asked for.
    Encryption,
    /// StartupMessage was sent; authentication goes on.
    Startup { request: Extent, is_answered: bool },
    /// Statements can come.
    Ready,
}

/// The protocol's state of one connection.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) limits: Protocols,
    pub(super) phase: Phase,
    /// Both sides agreed to go on under TLS.
    pub(super) is_sealed: bool,
    /// What waits for an answer.
    pub(super) units: VecDeque<Unit>,
    pub(super) open: OpenOperations,
    pub(super) catalog: Catalog,
    /// Counts Syncs sent.
    pub(super) segment: u64,
    /// An error came and the Sync that ends its effect was not sent yet.
    pub(super) skipping: bool,
    /// The operation that copies data from the client.
    pub(super) copy_in: Option<Key>,
    /// Data that came before the server agreed to take it.
    pub(super) early: Option<Early>,
    /// Bytes of the server were lost, and with them answers to what was asked by then; until when.
    pub(super) lost: Option<Point>,
    /// How many bytes that were.
    pub(super) lost_len: u64,
    /// Bytes of the client that were lost, at the last time there were any.
    pub(super) client_lost_len: u64,
    /// Bytes were lost, so many, and an answer may be to something that was not seen.
    pub(super) unseen: u64,
    /// The client asks before its last question was answered.
    pub(super) pipelined: bool,
    /// Answers cannot be told apart any more: nothing is paired until all is quiet.
    pub(super) unpaired: bool,
    /// When the last message went by.
    pub(super) last_at: BootTime,
    /// Turns (Syncs, queries) that are not followed because too much was asked at once; counted down by ReadyForQuery.
    pub(super) unfollowed: u64,
    /// `standard_conforming_strings` is off: a backslash escapes in any string.
    pub(super) backslash_escapes: bool,
    /// `client_encoding`: of all texts. UTF-8 until something says otherwise.
    pub(super) charset: Charset,
}

impl Core {
    pub(super) fn new(role: Role, limits: &Protocols) -> Self {
        Self {
            limits: limits.clone(),
            phase: Phase::Ready,
            is_sealed: false,
            units: VecDeque::new(),
            open: OpenOperations::new(role, limits.max_open_operations),
            catalog: Catalog::default(),
            segment: 0,
            skipping: false,
            copy_in: None,
            early: None,
            lost: None,
            lost_len: 0,
            client_lost_len: 0,
            unseen: 0,
            pipelined: false,
            unpaired: false,
            last_at: BootTime::ZERO,
            unfollowed: 0,
            backslash_escapes: false,
            charset: Charset::UTF8,
        }
    }

    /// Bytes that it holds.
    pub(super) fn held(&self) -> usize {
        self.units.capacity() * size_of::<Unit>() + self.open.held() + self.catalog.held()
    }

    /// Queues what the client asked for. After an error the server discards all up to Sync, so nothing is queued.
    pub(super) fn push(&mut self, unit: Unit, out: &mut Events) {
        let late = self.unseen > 0;
        self.early = None;
        if self.unpaired {
            self.give_up(&unit, unit.extent.end.at, out);
            return;
        }
        // The Sync that ends the effect of an error may be among lost bytes.
        if self.skipping && !late && !matches!(unit.what, What::Sync) {
            self.skip(unit, out);
            return;
        }
        self.pipelined |= self.units.back().is_some_and(Unit::ends_turn);
        if self.unfollowed == 0
            && self.units.len() < self.limits.max_open_operations.saturating_mul(UNITS_PER_OPERATION)
        {
            let segment = self.segment;
            self.units.push_back(Unit { segment, late, ..unit });
            return;
        }
        // Too much at once: give up what is open, and wait until the server has answered all that was asked.
        self.unfollowed +=
            self.units.iter().filter(|unit| unit.ends_turn()).count() as u64 + u64::from(unit.ends_turn());
        self.units.clear();
        self.lost = None;
        out.push(Event::Discarded { reason: Discard::Limit, bytes: unit.extent.len() });
        for key in self.open.keys() {
            self.open.close(key, unit.extent.end.at, Completeness::Abandoned, out);
        }
    }

    /// The server discards this without executing it.
    pub(super) fn skip(&mut self, unit: Unit, out: &mut Events) {
        let at = unit.extent.end.at;
        match unit.what {
            What::Parse { name, previous } => match previous {
                Some(previous) if !name.is_empty() => {
                    self.catalog.define(&name, *previous);
                }
                _ => {
                    self.catalog.undefine(&name);
                }
            },
            What::Query { keys } => {
                for key in keys {
                    self.open.skip(key, at, out);
                }
            }
            What::Execute | What::Call => {
                if let Some(key) = unit.key {
                    self.open.skip(key, at, out);
                }
            }
            _ => {}
        }
    }

    /// Bytes that were lost so that the answers to what is asked now may not be told apart.
    pub(super) fn unaccounted(&self) -> u64 {
        let lost = if self.lost.is_some() { self.lost_len } else { 0 };
        self.unseen.saturating_add(lost)
    }

    /// Before something is asked at `at`: what does it say of what was asked before?
    pub(super) fn settle(&mut self, at: BootTime, out: &mut Events) {
        if self.unseen > 0 && self.units.is_empty() && at.since(self.last_at) >= QUIET {
            self.unseen = 0;
            self.unpaired = false;
            self.pipelined = false;
        }
        let Some(lost) = self.lost.filter(|_| self.units.iter().any(Unit::ends_turn)) else { return };
        if self.pipelined {
            self.unpair(lost.at, out);
            return;
        }
        // The client goes on, so it has the answers to all it asked: they were among the lost bytes.
        self.lost = None;
        self.units.clear();
        self.copy_in = None;
        self.skipping = false;
        for key in self.open.keys() {
            self.answer_lost(key, lost.at, true, out);
        }
    }

    /// The end of an operation's answer was lost. When its portal is still open, more of it may be fetched.
    pub(super) fn answer_lost(&mut self, key: Key, at: BootTime, portals_stay: bool, out: &mut Events) {
        if portals_stay && self.catalog.is_executing(key) {
            self.open.suspend(key, true);
        } else {
            self.open.close_at_last_byte(key, at, Completeness::Complete, out);
        }
    }

    /// Gives up to tell which answer belongs to what, until all is quiet.
    pub(super) fn unpair(&mut self, at: BootTime, out: &mut Events) {
        let missing = self.open.most_missing().max(1);
        self.unseen = self.unseen.max(missing);
        self.unpaired = true;
        self.lost = None;
        self.units.clear();
        self.copy_in = None;
        self.skipping = false;
        for key in self.open.keys() {
            self.open.add_missing_if_none(key, missing);
            self.open.close_at_last_byte(key, at, Completeness::Complete, out);
        }
    }

    /// Closes what a message asked for without an answer.
    pub(super) fn give_up(&mut self, unit: &Unit, at: BootTime, out: &mut Events) {
        for key in unit.keys() {
            self.open.close_at_last_byte(key, at, Completeness::Complete, out);
        }
    }

    /// Whether it is certain what a message of the server with this tag answers. Behind lost bytes it is when there is
    /// only one thing it can answer: then what was asked before that was answered in them.
    pub(super) fn is_certain(&mut self, tag: u8, out: &mut Events) -> bool {
        if self.unpaired {
            return false;
        }
        if let Some(lost) = self.lost {
            let mut found = None;
            for (at, unit) in self.units.iter().enumerate() {
                match unit.candidates(tag) {
                    0 => {}
                    1 if found.is_none() && !unit.late => found = Some(at),
                    _ => return false,
                }
            }
            let Some(at) = found else { return false };
            self.lost = None;
            for unit in self.units.drain(..at).collect::<Vec<_>>() {
                self.give_up(&unit, lost.at, out);
            }
        }
        !self.units.front().is_some_and(|unit| unit.late)
    }

    /// No more bytes.
    pub(super) fn end(&mut self, end: End, at: BootTime, out: &mut Events) {
        let how = match end {
            End::Closed | End::Reset => Completeness::Cut,
            End::Abandoned => Completeness::Abandoned,
        };
        // The last rows of a portal were all there is of it when the connection is over, but not when the agent is.
        let suspended = if end == End::Abandoned { how } else { Completeness::Complete };
        for key in self.open.suspended() {
            self.open.close_at_last_byte(key, at, suspended, out);
        }
        if let Phase::Startup { request, is_answered: false } = self.phase {
            self.startup_ended(request, None, at, how, out);
        }
        for key in self.open.keys() {
            self.open.close(key, at, how, out);
        }
        self.units.clear();
    }
}

impl Sink for Core {
    fn keep(&self, sender: Sender, tag: u8) -> usize {
        match (sender, tag) {
            (Sender::Client, b'Q' | b'P') => self.limits.max_statement_bytes.saturating_add(MAX_NAMES_BYTES),
            (Sender::Client, b'B') => self.limits.kept_body_bytes,
            (Sender::Client, b'E' | b'D' | b'C') => MAX_NAMES_BYTES,
            (Sender::Server, b'D') if self.wants_row() => MAX_ROW_BYTES,
            (Sender::Server, b'E' | b'N') => MAX_ERROR_BYTES,
            (Sender::Server, b'T' | b't') => MAX_DESCRIPTION_BYTES,
            (Sender::Server, b'C' | b'S') => MAX_NAMES_BYTES,
            (Sender::Server, b'Z') => 1,
            // Passwords, keys, data of COPY and all else: nothing.
            _ => 0,
        }
    }

    fn message(&mut self, sender: Sender, message: Message<'_>, out: &mut Events) -> Next {
        match (sender, message.tag) {
            (Sender::Client, STARTUP) => self.untagged(&message),
            (Sender::Server, ENCRYPTION) if message.body == b"N" => {
                self.phase = Phase::Ready;
                Next::Tagged
            }
            (Sender::Server, ENCRYPTION) => {
                // `S` for TLS, `G` for GSSAPI, which is left alone.
                self.is_sealed = message.body == b"S";
                Next::Opaque
            }
            (Sender::Client, _) => {
                self.frontend(&message, out);
                self.last_at = message.end.at;
                Next::Tagged
            }
            (Sender::Server, _) => {
                let next = self.backend(&message, out);
                self.last_at = message.end.at;
                next
            }
        }
    }

    fn lost(&mut self, sender: Sender, len: u64, point: Point, out: &mut Events) {
        match sender {
            Sender::Client => {
                self.unseen = self.unseen.saturating_add(len.max(1));
                self.client_lost_len = len.max(1);
                self.early = None;
                // There may have been a Sync among them.
                self.segment += 1;
                // A fetch from a portal that goes on may have been among them.
                for key in self.open.suspended() {
                    self.open.add_missing(key, len.max(1));
                }
                if let Some(key) = self.copy_in {
                    self.open.add_missing(key, len.max(1));
                }
                // Fewer bytes define nothing.
                if len >= SHORTEST_QUERY
                    && let Some(key) = self.catalog.client_lost()
                {
                    self.portal_gone(key, point.at, out);
                }
            }
            Sender::Server => {
                // The end of the connection's start may have been among them.
                if matches!(self.phase, Phase::Startup { .. }) {
                    self.phase = Phase::Ready;
                }
                if self.units.is_empty() {
                    return;
                }
                self.lost = Some(point);
                self.lost_len = len.max(1);
                self.open.block.lost();
                let front = self.units.front().and_then(Unit::current);
                self.open.answers_lost(len.max(1));
                if let Some(key) = front {
                    let start = Point { pos: point.pos.saturating_sub(len), ..point };
                    self.open.respond(key, start, point);
                }
            }
        }
    }
}
