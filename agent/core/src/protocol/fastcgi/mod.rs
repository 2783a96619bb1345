//! Bytes of one FastCGI connection → events of its exchanges.
//!
//! ```text
//!   client:  BEGIN_REQUEST · PARAMS … PARAMS(empty) · STDIN … STDIN(empty)      server:  STDOUT, STDERR … · END_REQUEST
//! ```
//!
//! Records name their request, so that several can be under way on one connection. A request's variables and an answer's header are
//! those of CGI (`cgi`). *Owns* records, streams and their ends. *Must not know* spans, orders, other connections.
//! *Spec*: FastCGI Specification 1.0 (Open Market, 1996). What applications write to STDERR is not kept.

mod detect;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::record::{HEADER_LEN, Header, Kind, Parsed};
use super::cgi::answer::Head;
use super::detect::Sniff;
use super::http1::exchange::{self, Half, OPEN_BYTES, Open};
use super::http1::multipart::Multipart;
use super::reader::{Input, Reader};
use super::registry::Spec;
/// Nothing: each request says all there is to know.
pub use super::snapshot::Nothing as Learned;
use super::{Discard, End, Event, Events, Session, cgi};
use crate::operation::http::Exchange;
use crate::operation::{Completeness, Extent, Interaction, Operation};
use crate::record::{Mark, OpId, Point, Role, Sender};
use crate::settings::Protocols;
use crate::time::BootTime;

/// Open requests of one connection retain at most this many times the bounds of a single one.
const RETAINED_FACTOR: usize = 8;

pub(super) const SPEC: Spec = Spec {
    name: "fastcgi",
    title: "FastCGI",
    interaction: Interaction::Call,
    // PHP-FPM's is 9000, which others use for HTTP: the first record tells.
    ports: &[],
    sniff: detect::sniff,
    weak_sender: None,
    session: |role, limits| Box::new(FastCgiSession::new(role, limits)),
    shared: None,
    #[cfg(test)]
    example: tests::example,
};

/// One connection.
#[derive(Debug)]
pub struct FastCgiSession {
    role: Role,
    kept_body_bytes: usize,
    max_header_bytes: usize,
    max_open: usize,
    client: Side,
    server: Side,
    open: BTreeMap<u16, Request>,
    /// Bytes retained by `open`.
    retained: usize,
    /// Bytes of its variables and header lines that are not whole.
    pieces: usize,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    reader: Reader,
    state: State,
    /// Nothing came yet.
    has_begun: bool,
    last: Point,
}

/// What the next byte of a direction belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Unknown: a record is awaited at the beginning of what one call moved.
    #[default]
    Seek,
    Header,
    Content {
        header: Header,
        left: u16,
    },
    Padding(u8),
}

/// A request that is not over.
#[derive(Debug)]
struct Request {
    open: Open,
    /// Variables whose end has not come.
    params: Vec<u8>,
    /// Some of them were lost, or did not fit.
    has_holes: bool,
    /// Their end was seen.
    is_told: bool,
    head: Head,
}

impl FastCgiSession {
    /// `role` is that of the observed process on this connection.
    pub fn new(role: Role, limits: &Protocols) -> Self {
        Self {
            role,
            kept_body_bytes: limits.kept_body_bytes,
            max_header_bytes: limits.max_header_bytes,
            max_open: limits.max_open_operations.max(1),
            client: Side::default(),
            server: Side::default(),
            open: BTreeMap::new(),
            retained: 0,
            pieces: 0,
        }
    }

    fn side(&mut self, from: Sender) -> &mut Side {
        match from {
            Sender::Client => &mut self.client,
            Sender::Server => &mut self.server,
        }
    }

    /// The first byte of a connection begins a record, and so does that of the other direction.
    fn first_sight(&mut self, from: Sender, pos: u64) {
        if std::mem::replace(&mut self.side(from).has_begun, true) || pos > 0 {
            return;
        }
        for side in [&mut self.client, &mut self.server] {
            if side.last == Point::default() {
                side.state = State::Header;
            }
        }
    }

    fn run(&mut self, from: Sender, input: &mut Input<'_>, out: &mut Events) {
        while !input.rest().is_empty() {
            let state = self.side(from).state;
            match state {
                State::Seek if self.is_record(from, input.rest()) => self.side(from).state = State::Header,
                State::Seek => discard(Discard::Unsynchronised, input, out),
                State::Header => match record::read(input.rest(), from) {
                    Parsed::Incomplete => return,
                    Parsed::Invalid => {
                        self.side(from).state = State::Seek;
                        discard(Discard::Invalid, input, out);
                    }
                    Parsed::Complete(header) => {
                        let start = input.point();
                        input.advance(HEADER_LEN);
                        self.begins(header, start, out);
                        self.goes_on(from, header, header.len, input.point(), out);
                    }
                },
                State::Content { header, left } => {
                    let taken = usize::from(left).min(input.rest().len());
                    let bytes = input.rest().get(..taken).unwrap_or_default();
                    self.content(header, bytes, out);
                    let end = input.point_after(taken);
                    input.advance(taken);
                    self.goes_on(from, header, left.saturating_sub(taken as u16), end, out);
                }
                State::Padding(left) => {
                    let taken = input.advance(usize::from(left));
                    self.pad(from, left.saturating_sub(taken as u8));
                }
            }
        }
    }

    /// `left` bytes of a record's content are to come after `at`.
    fn goes_on(&mut self, from: Sender, header: Header, left: u16, at: Point, out: &mut Events) {
        if left > 0 {
            self.side(from).state = State::Content { header, left };
            return;
        }
        self.pad(from, header.padding);
        self.ends(header, at, out);
    }

    fn pad(&mut self, from: Sender, left: u8) {
        self.side(from).state = if left > 0 { State::Padding(left) } else { State::Header };
    }

    /// While seeking, only what is certain is taken for a record: a request's beginning, or an answer to an open one.
    fn is_record(&self, from: Sender, bytes: &[u8]) -> bool {
        match (from, record::read(bytes, from)) {
            (Sender::Client, Parsed::Complete(_)) => detect::begin(bytes) != Sniff::No,
            (Sender::Server, Parsed::Complete(header)) => self.open.contains_key(&header.request),
            _ => false,
        }
    }

    /// A record's header went by.
    fn begins(&mut self, header: Header, start: Point, out: &mut Events) {
        match header.kind {
            Kind::Begin => self.open(header.request, start, out),
            Kind::Stdout | Kind::Stderr | Kind::End => {
                if let Some(request) = self.open.get_mut(&header.request) {
                    request.open.response.get_or_insert(Extent { start, end: start });
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, id: u16, start: Point, out: &mut Events) {
        // Its end was not seen: the application has the number for another one.
        self.give_up(id, start.at, out);
        if self.open.len() >= self.max_open
            && let Some(oldest) = self.open.keys().next().copied()
        {
            self.give_up(oldest, start.at, out);
            out.push(Event::Discarded { reason: Discard::Limit, bytes: 0 });
        }
        let exchange = cgi::exchange([], SPEC.name);
        let open = Open::new(out.new_op(), start, exchange);
        out.push(Event::Opened { op: open.id, shape: exchange::shape(self.role), point: start });
        let request =
            Request { open, params: Vec::new(), has_holes: false, is_told: false, head: Head::default() };
        self.open.insert(id, request);
    }

    /// A piece of a record's content.
    fn content(&mut self, header: Header, bytes: &[u8], out: &mut Events) {
        let room = self
            .kept_body_bytes
            .saturating_add(self.max_header_bytes)
            .saturating_mul(RETAINED_FACTOR)
            .saturating_sub(self.retained)
            .saturating_sub(self.pieces);
        let Some(request) = self.open.get_mut(&header.request) else {
            if header.kind != Kind::Management {
                out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes: bytes.len() as u64 });
            }
            return;
        };
        let pieces = request.pieces();
        let held = match header.kind {
            Kind::Params => {
                let bound = request.params.len().saturating_add(room);
                request.params(bytes, self.max_header_bytes.min(bound), out);
                0
            }
            Kind::Stdin => {
                let bound = request.open.exchange.request_body.bytes.len().saturating_add(room);
                request.open.content(Half::Request, bytes, self.kept_body_bytes.min(bound))
            }
            Kind::Stdout => {
                let before = request.open.exchange.response_headers.bytes_len();
                let taken =
                    request.head.feed(bytes, self.max_header_bytes.min(room), &mut request.open.exchange);
                let fields = request.open.exchange.response_headers.bytes_len().saturating_sub(before);
                let body = bytes.get(taken..).unwrap_or_default();
                let bound = request.open.exchange.response_body.bytes.len().saturating_add(room);
                let kept = request.open.content(Half::Response, body, self.kept_body_bytes.min(bound));
                fields.saturating_add(kept)
            }
            _ => 0,
        };
        request.open.retained = request.open.retained.saturating_add(held);
        self.retained = self.retained.saturating_add(held);
        self.pieces = self.pieces.saturating_add(request.pieces()).saturating_sub(pieces);
    }

    /// All variables of a request are there, or all that will be.
    fn variables(&mut self, id: u16) {
        let Some(request) = self.open.get_mut(&id) else { return };
        let pieces = request.pieces();
        let held = request.variables();
        request.open.retained = request.open.retained.saturating_add(held);
        self.retained = self.retained.saturating_add(held);
        self.pieces = self.pieces.saturating_add(request.pieces()).saturating_sub(pieces);
    }

    /// A record's last byte of content went by.
    fn ends(&mut self, header: Header, end: Point, out: &mut Events) {
        let Some(request) = self.open.get_mut(&header.request) else { return };
        match header.kind {
            Kind::Params if header.len == 0 => self.variables(header.request),
            Kind::Params | Kind::Data | Kind::Begin | Kind::Abort => request.open.request.end = end,
            Kind::Stdin if header.len == 0 && !request.open.requested => {
                request.open.request.end = end;
                request.open.requested = true;
                out.push(Event::Requested { op: request.open.id, point: end });
            }
            Kind::Stdin if !request.open.requested => request.open.request.end = end,
            Kind::Stdout | Kind::Stderr | Kind::End => {
                if let Some(response) = &mut request.open.response {
                    response.end = end;
                }
                if header.kind == Kind::End {
                    self.close(header.request, end.at, Completeness::Complete, out);
                }
            }
            Kind::Stdin | Kind::Management => {}
        }
    }

    fn give_up(&mut self, id: u16, at: BootTime, out: &mut Events) {
        self.close(id, at, Completeness::Abandoned, out);
    }

    fn close(&mut self, id: u16, at: BootTime, completeness: Completeness, out: &mut Events) {
        // Of an application that answers before it has read all variables, what came is all there is.
        self.variables(id);
        let Some(request) = self.open.remove(&id) else { return };
        self.retained = self.retained.saturating_sub(request.open.retained);
        self.pieces = self.pieces.saturating_sub(request.pieces());
        let completeness = match completeness {
            Completeness::Complete => Completeness::Complete,
            _ if request.open.gap_len > 0 => Completeness::Gap(request.open.gap_len),
            other => other,
        };
        out.push(Event::Closed(Box::new(request.open.close(self.role, at, completeness))));
    }

    /// `len` bytes of a record's content, or what follows it, were not captured. Returns how many were not its.
    fn hole(&mut self, from: Sender, pos: u64, len: u64, mark: Mark, out: &mut Events) -> u64 {
        let mut rest = len;
        let mut at = pos;
        while rest > 0 {
            let state = self.side(from).state;
            match state {
                State::Content { header, left } => {
                    let taken = rest.min(u64::from(left));
                    self.content_hole(header, taken);
                    (rest, at) = (rest - taken, at.saturating_add(taken));
                    self.goes_on(from, header, left.saturating_sub(taken as u16), mark.point(at), out);
                }
                State::Padding(left) => {
                    let taken = rest.min(u64::from(left));
                    (rest, at) = (rest - taken, at.saturating_add(taken));
                    self.pad(from, left.saturating_sub(taken as u8));
                }
                State::Header | State::Seek => return rest,
            }
        }
        0
    }

    fn content_hole(&mut self, header: Header, len: u64) {
        let Some(request) = self.open.get_mut(&header.request) else { return };
        match header.kind {
            Kind::Params => {
                request.has_holes = true;
                request.open.gap_len = request.open.gap_len.saturating_add(len);
            }
            Kind::Stdin => request.open.content_gap(Half::Request, len, self.kept_body_bytes),
            Kind::Stdout if request.head.is_over() => {
                request.open.content_gap(Half::Response, len, self.kept_body_bytes);
            }
            Kind::Stdout => {
                let pieces = request.pieces();
                request.head.lose();
                request.open.gap_len = request.open.gap_len.saturating_add(len);
                self.pieces = self.pieces.saturating_add(request.pieces()).saturating_sub(pieces);
            }
            _ => {}
        }
    }

    /// `lost` bytes were not captured, and whose records they were is not known.
    fn records_lost(&mut self, from: Sender, lost: u64) {
        self.pieces = 0;
        for request in self.open.values_mut() {
            match from {
                // All of it came before.
                Sender::Client if request.open.requested => {}
                Sender::Client => {
                    request.has_holes = true;
                    request.open.content_doubt(Half::Request, lost);
                }
                Sender::Server => {
                    request.head.lose();
                    request.open.content_doubt(Half::Response, lost);
                }
            }
            self.pieces = self.pieces.saturating_add(request.pieces());
        }
    }
}

impl Request {
    /// Bytes of what is not whole.
    fn pieces(&self) -> usize {
        self.params.capacity().saturating_add(self.head.held())
    }

    /// More of its variables, of which at most `bound` bytes are kept.
    fn params(&mut self, bytes: &[u8], bound: usize, out: &mut Events) {
        let room = if self.has_holes || self.is_told { 0 } else { bound.saturating_sub(self.params.len()) };
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.params.extend_from_slice(kept);
        let left_out = bytes.len() - kept.len();
        if left_out > 0 && !self.has_holes && !self.is_told {
            // What follows would be read in the wrong place.
            self.has_holes = true;
            out.push(Event::Discarded { reason: Discard::Limit, bytes: left_out as u64 });
        }
    }

    /// Makes a request of its variables. Returns the bytes held from now on.
    fn variables(&mut self) -> usize {
        if self.params.is_empty() {
            return 0;
        }
        let params = std::mem::take(&mut self.params);
        let exchange = cgi::exchange(pairs(&params), SPEC.name);
        self.is_told = true;
        let held = exchange.held();
        if self.open.exchange.request_body.len == 0 {
            self.open.multipart = Multipart::of(&exchange.request_headers);
        }
        let known = std::mem::take(&mut *self.open.exchange);
        *self.open.exchange = Exchange {
            request_body: known.request_body,
            status: known.status,
            response_headers: known.response_headers,
            response_body: known.response_body,
            uploads: known.uploads,
            ..exchange
        };
        held
    }
}

/// Name-value pairs: length of the name, of the value, name, value (section 3.4). A pair that is not whole ends them.
fn pairs(mut params: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let name_len = length(&mut params)?;
        let value_len = length(&mut params)?;
        let (name, rest) = params.split_at_checked(name_len)?;
        let (value, rest) = rest.split_at_checked(value_len)?;
        params = rest;
        Some((name, value))
    })
}

/// One byte below 128, or four with the first bit set.
fn length(params: &mut &[u8]) -> Option<usize> {
    let first = *params.first()?;
    if first < 0x80 {
        *params = params.get(1..)?;
        return Some(usize::from(first));
    }
    let (four, rest) = params.split_first_chunk::<4>()?;
    *params = rest;
    usize::try_from(u32::from_be_bytes(*four) & 0x7fff_ffff).ok()
}

fn discard(reason: Discard, input: &mut Input<'_>, out: &mut Events) {
    let bytes = input.advance(usize::MAX) as u64;
    out.push(Event::Discarded { reason, bytes });
}

impl Session for FastCgiSession {
    fn bytes(&mut self, from: Sender, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events) {
        self.first_sight(from, pos);
        let mut input = self.side(from).reader.begin(pos, bytes, mark);
        self.run(from, &mut input, out);
        let side = self.side(from);
        side.reader.finish(input);
        side.last = mark.point(pos.saturating_add(bytes.len() as u64));
    }

    fn gap(&mut self, from: Sender, pos: u64, len: u64, mark: Mark, out: &mut Events) {
        self.first_sight(from, pos);
        let lost = self.hole(from, pos, len, mark, out);
        let side = self.side(from);
        side.last = mark.point(pos.saturating_add(len));
        if lost == 0 {
            return;
        }
        side.state = State::Seek;
        let bytes = side.reader.reset() as u64;
        if bytes > 0 {
            out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
        }
        self.records_lost(from, lost);
    }

    fn begins_at(&mut self, from: Sender, _: u64) {
        self.first_sight(from, 0);
    }

    fn held(&self) -> usize {
        let readers = self.client.reader.held() + self.server.reader.held();
        size_of::<Self>()
            + readers
            + self.pieces
            + self.open.len() * (size_of::<Request>() + OPEN_BYTES)
            + self.retained
    }

    fn relieve(&mut self) {
        for request in self.open.values_mut() {
            self.retained = self.retained.saturating_sub(request.open.forget_bodies());
        }
    }

    fn end(&mut self, end: End, at: BootTime, out: &mut Events) {
        for from in [Sender::Client, Sender::Server] {
            let bytes = self.side(from).reader.reset() as u64;
            if bytes > 0 {
                out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
            }
        }
        let completeness = match end {
            End::Closed | End::Reset => Completeness::Cut,
            End::Abandoned => Completeness::Abandoned,
        };
        while let Some(id) = self.open.keys().next().copied() {
            self.close(id, at, completeness, out);
        }
        debug_assert_eq!((self.retained, self.pieces), (0, 0), "what is held has drifted");
    }

    fn peek(&self, op: OpId) -> Option<Operation> {
        self.open.values().find(|request| request.open.id == op)?.open.peek(self.role)
    }
}
