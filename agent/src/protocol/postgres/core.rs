//! Messages of both sides in, events about operations out.
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

use super::catalog::{Catalog, Key, Prepared};
use super::frame::{ENCRYPTION, Message, Next, STARTUP, Sink};
use super::open::OpenOperations;
use crate::config::Protocols;
use crate::operation::{Completeness, Extent};
use crate::protocol::{Discard, End, Event, Events, Point, Sender};
use crate::record::{BootNs, Role};

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

/// Something the client asked for that the server answers.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) what: What,
    /// The operation it belongs to.
    pub(super) key: Option<Key>,
    /// The statement it is about, in case it fails without being executed.
    pub(super) text: Option<Arc<str>>,
    pub(super) parameterised: bool,
    pub(super) extent: Extent,
    /// Bytes of it that were not captured.
    pub(super) missing: u64,
    /// The stretch between two Syncs it was sent in.
    pub(super) segment: u64,
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
        Self { what, key: None, text: None, parameterised: false, extent, missing, segment: 0 }
    }

    /// It is about this statement.
    pub(super) fn about(mut self, prepared: &Prepared) -> Self {
        self.text = prepared.text.clone();
        self.parameterised = prepared.parameterised;
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

    /// The operation the next answer is about.
    pub(super) fn current(&self) -> Option<Key> {
        match &self.what {
            What::Query { keys } => (!keys.is_empty()).then_some(keys.start),
            _ => self.key,
        }
    }
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
    /// Bytes of the server were lost, and with them the answers to what was asked by then; until when.
    pub(super) lost: Option<Point>,
    /// Bytes of the client were lost: so many. Until all is answered, an answer may be to what was in them.
    pub(super) unseen: u64,
    /// Turns (Syncs, queries) that are not followed because too much was asked at once; counted down by ReadyForQuery.
    pub(super) unfollowed: u64,
    /// `standard_conforming_strings` is off: a backslash escapes in any string.
    pub(super) backslash_escapes: bool,
}

impl Core {
    pub(super) fn new(role: Role, limits: &Protocols) -> Self {
        Self {
            limits: limits.clone(),
            phase: Phase::Ready,
            units: VecDeque::new(),
            open: OpenOperations::new(role, limits.max_open_operations),
            catalog: Catalog::default(),
            segment: 0,
            skipping: false,
            copy_in: None,
            lost: None,
            unseen: 0,
            unfollowed: 0,
            backslash_escapes: false,
        }
    }

    /// Queues what the client asked for. After an error the server discards all up to Sync, so nothing is queued.
    pub(super) fn push(&mut self, unit: Unit, out: &mut Events) {
        if self.skipping && !matches!(unit.what, What::Sync) {
            self.skip(unit, out);
            return;
        }
        if self.unfollowed == 0
            && self.units.len() < self.limits.max_open_operations.saturating_mul(UNITS_PER_OPERATION)
        {
            let segment = self.segment;
            self.units.push_back(Unit { segment, ..unit });
            return;
        }
        // Too much at once: give up what is open, and wait until the server has answered all that was asked.
        self.unfollowed +=
            self.units.iter().filter(|unit| unit.ends_turn()).count() as u64 + u64::from(unit.ends_turn());
        self.units.clear();
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

    /// Answers to everything asked before were lost and the client goes on: it has them, so all of that is over.
    pub(super) fn settle_lost(&mut self, out: &mut Events) {
        let Some(lost) = self.lost.filter(|_| self.units.iter().any(Unit::ends_turn)) else { return };
        self.lost = None;
        self.units.clear();
        self.copy_in = None;
        self.skipping = false;
        for key in self.open.keys() {
            self.open.close_at_last_byte(key, lost.at, Completeness::Complete, out);
        }
    }

    /// No more bytes.
    pub(super) fn end(&mut self, end: End, at: BootNs, out: &mut Events) {
        let how = match end {
            End::Closed | End::Reset => Completeness::Cut,
            End::Abandoned => Completeness::Abandoned,
        };
        for key in self.open.suspended() {
            self.open.close_at_last_byte(key, at, Completeness::Complete, out);
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
            (Sender::Server, ENCRYPTION) => Next::Opaque,
            (Sender::Client, _) => {
                self.frontend(&message, out);
                Next::Tagged
            }
            (Sender::Server, _) => self.backend(&message, out),
        }
    }

    fn lost(&mut self, sender: Sender, len: u64, point: Point, out: &mut Events) {
        match sender {
            Sender::Client => {
                self.unseen = self.unseen.saturating_add(len.max(1));
                // A fetch from a portal that goes on may have been among them.
                for key in self.open.suspended() {
                    self.open.add_missing(key, len.max(1));
                }
                if let Some(key) = self.catalog.client_lost() {
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
                let front = self.units.front().and_then(Unit::current);
                for key in self.open.keys() {
                    self.open.add_missing(key, len.max(1));
                }
                if let Some(key) = front {
                    let start = Point { pos: point.pos.saturating_sub(len), ..point };
                    self.open.respond(key, start, point, out);
                }
            }
        }
    }
}
