//! Bytes of a connection that carries one request after the other, each behind a block of variables → events of its exchanges.
//!
//! ```text
//!   client:  Head ─ variables ─▶ Body(content length) ─▶ Head …          server:  header ─▶ body, to its length or to the close
//! ```
//!
//! *Owns* the order of things, which SCGI and uwsgi share. *Must not know* how variables are written: a [`Framing`] does.

use std::marker::PhantomData;

use super::answer::Head;
use crate::operation::{Completeness, Extent, Operation};
use crate::protocol::http1::body;
use crate::protocol::http1::exchange::{self, Half, Open};
use crate::protocol::http1::multipart::Multipart;
use crate::protocol::reader::{Input, Reader};
use crate::protocol::{Discard, End, Event, Events, Session};
use crate::record::{Mark, OpId, Point, Role, Sender};
use crate::settings::Protocols;
use crate::time::BootTime;

/// How a request's variables are written.
pub(in crate::protocol) trait Framing: std::fmt::Debug + Send {
    /// Its name on spans and in metrics.
    const NAME: &'static str;

    /// Reads the beginning of a request. `bound` is the longest block of variables that is waited for.
    fn block(bytes: &[u8], bound: usize) -> Block;

    /// The variables of a block.
    fn variables(block: &[u8]) -> Vec<(&[u8], &[u8])>;
}

/// The beginning of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Block {
    Incomplete,
    Invalid,
    /// Variables of `len` bytes at `start`; the body begins at `end`.
    Whole {
        start: usize,
        len: usize,
        end: usize,
    },
}

/// One connection.
#[derive(Debug)]
pub(in crate::protocol) struct Once<F> {
    role: Role,
    kept_body_bytes: usize,
    max_header_bytes: usize,
    requests: Reader,
    request: State,
    head: Head,
    open: Option<Open>,
    /// Bytes of the answer's body to come, where it says how many.
    left: Option<u64>,
    last: [Point; 2],
    framing: PhantomData<F>,
}

/// What the client sends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    /// Not a request: what follows is unknown.
    Lost,
}

impl<F: Framing> Once<F> {
    pub(in crate::protocol) fn new(role: Role, limits: &Protocols) -> Self {
        Self {
            role,
            kept_body_bytes: limits.kept_body_bytes,
            max_header_bytes: limits.max_header_bytes,
            requests: Reader::default(),
            request: State::Head,
            head: Head::default(),
            open: None,
            left: None,
            last: [Point::default(); 2],
            framing: PhantomData,
        }
    }

    fn client(&mut self, input: &mut Input<'_>, out: &mut Events) {
        while !input.rest().is_empty() {
            match self.request {
                State::Lost => self.discard(Discard::Unsynchronised, input, out),
                State::Head => match F::block(input.rest(), self.max_header_bytes) {
                    Block::Incomplete => return,
                    Block::Invalid => {
                        self.request = State::Lost;
                        self.discard(Discard::Invalid, input, out);
                    }
                    Block::Whole { start, len, end } => self.begin((start, len), end, input, out),
                },
                State::Body(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.rest().len());
                    let bytes = input.rest().get(..taken).unwrap_or_default();
                    if let Some(open) = &mut self.open {
                        open.content(Half::Request, bytes, self.kept_body_bytes);
                    }
                    let end = input.point_after(taken);
                    input.advance(taken);
                    self.body_moved(left, taken as u64, end, out);
                }
            }
        }
    }

    fn begin(&mut self, block: (usize, usize), end: usize, input: &mut Input<'_>, out: &mut Events) {
        let (start, len) = block;
        let variables = input.rest().get(start..start.saturating_add(len)).unwrap_or_default();
        let exchange = super::exchange(F::variables(variables), F::NAME);
        let left = body::content_length(&exchange.request_headers).unwrap_or(0);
        let multipart = Multipart::of(&exchange.request_headers);
        self.answered(Completeness::Abandoned, input.point().at, out);
        let mut open = Open::new(out.new_op(), input.point(), exchange);
        open.multipart = multipart;
        out.push(Event::Opened { op: open.id, shape: exchange::shape(self.role), point: open.request.start });
        self.open = Some(open);
        self.head = Head::default();
        self.left = None;
        let end_point = input.point_after(end);
        input.advance(end);
        self.body_moved(left, 0, end_point, out);
    }

    /// `moved` of the `left` bytes of a request's body went by, up to `end`.
    fn body_moved(&mut self, left: u64, moved: u64, end: Point, out: &mut Events) {
        let left = left.saturating_sub(moved);
        self.request = if left > 0 { State::Body(left) } else { State::Head };
        if left == 0
            && let Some(open) = self.open.as_mut().filter(|open| !open.requested)
        {
            open.request.end = end;
            open.requested = true;
            out.push(Event::Requested { op: open.id, point: end });
        }
    }

    fn server(&mut self, bytes: &[u8], start: Point, end: Point, out: &mut Events) {
        let bound = self.max_header_bytes;
        let Some(open) = &mut self.open else {
            return out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes: bytes.len() as u64 });
        };
        open.response.get_or_insert(Extent { start, end: start }).end = end;
        let was_over = self.head.is_over();
        let taken = self.head.feed(bytes, bound, &mut open.exchange);
        if !was_over && self.head.is_over() {
            let length = body::content_length(&open.exchange.response_headers);
            let has_none = matches!(open.exchange.status, Some(204 | 304)) || open.exchange.method == "HEAD";
            self.left = if has_none { Some(0) } else { length };
        }
        let body = bytes.get(taken..).unwrap_or_default();
        open.content(Half::Response, body, self.kept_body_bytes);
        self.answer_moved(body.len() as u64, end, out);
    }

    fn answer_moved(&mut self, moved: u64, end: Point, out: &mut Events) {
        let Some(left) = &mut self.left else { return };
        *left = left.saturating_sub(moved);
        if *left == 0 && self.head.is_over() {
            self.answered(Completeness::Complete, end.at, out);
        }
    }

    /// Closes the exchange under way.
    fn answered(&mut self, completeness: Completeness, at: BootTime, out: &mut Events) {
        let Some(mut open) = self.open.take() else { return };
        if !open.requested {
            open.request.end = self.last[Sender::Client as usize];
        }
        let completeness = match completeness {
            Completeness::Abandoned | Completeness::Cut if open.gap_len > 0 => {
                Completeness::Gap(open.gap_len)
            }
            other => other,
        };
        out.push(Event::Closed(Box::new(open.close(self.role, at, completeness))));
    }

    fn discard(&self, reason: Discard, input: &mut Input<'_>, out: &mut Events) {
        let bytes = input.advance(usize::MAX) as u64;
        out.push(Event::Discarded { reason, bytes });
    }
}

impl<F: Framing> Session for Once<F> {
    fn bytes(&mut self, from: Sender, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events) {
        let end = mark.point(pos.saturating_add(bytes.len() as u64));
        match from {
            Sender::Client => {
                let mut input = self.requests.begin(pos, bytes, mark);
                self.client(&mut input, out);
                self.requests.finish(input);
            }
            Sender::Server => self.server(bytes, mark.point(pos), end, out),
        }
        self.last[from as usize] = end;
    }

    fn gap(&mut self, from: Sender, pos: u64, len: u64, mark: Mark, out: &mut Events) {
        if len == 0 {
            return;
        }
        let end = mark.point(pos.saturating_add(len));
        match (from, self.request) {
            (Sender::Client, State::Body(left)) if len <= left => {
                if let Some(open) = &mut self.open {
                    open.content_gap(Half::Request, len, self.kept_body_bytes);
                }
                self.body_moved(left, len, end, out);
            }
            (Sender::Client, _) => {
                let bytes = self.requests.reset() as u64;
                if bytes > 0 {
                    out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
                }
                if let Some(open) = &mut self.open {
                    open.gap_len = open.gap_len.saturating_add(len);
                }
                // A request begins at the beginning of a record, as far as can be told.
                self.request = State::Head;
            }
            (Sender::Server, _) => {
                let is_body = self.head.is_over();
                let Some(open) = &mut self.open else { return };
                open.response.get_or_insert(Extent { start: mark.point(pos), end }).end = end;
                if is_body {
                    open.content_gap(Half::Response, len, self.kept_body_bytes);
                } else {
                    self.head.lose();
                    open.gap_len = open.gap_len.saturating_add(len);
                }
                self.answer_moved(len, end, out);
            }
        }
        self.last[from as usize] = end;
    }

    fn end(&mut self, end: End, at: BootTime, out: &mut Events) {
        let bytes = self.requests.reset() as u64;
        if bytes > 0 {
            out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
        }
        let Some(open) = &self.open else { return };
        // Without a length, the close is the end of the answer.
        let is_over = self.head.is_over() && self.left.is_none() && open.requested;
        let (completeness, at) = match (end, open.response) {
            (End::Closed, Some(response)) if is_over => (Completeness::Complete, response.end.at),
            (End::Closed | End::Reset, _) => (Completeness::Cut, at),
            (End::Abandoned, _) => (Completeness::Abandoned, at),
        };
        self.answered(completeness, at, out);
    }

    fn held(&self) -> usize {
        let open = self.open.as_ref().map_or(0, Open::held);
        size_of::<Self>() + self.requests.held() + self.head.held() + open
    }

    fn relieve(&mut self) {
        if let Some(open) = &mut self.open {
            open.forget_bodies();
        }
    }

    fn peek(&self, op: OpId) -> Option<Operation> {
        self.open.as_ref().filter(|open| open.id == op)?.peek(self.role)
    }
}
