//! Bytes of one HTTP/1.x connection → events of its exchanges.
//!
//! *Owns* message boundaries (`start`, `head`, `body`), the pairing of responses with requests, what is kept of
//! both (`exchange`, `multipart`), and [`content`] decoding. *Must not know* what a target, field or body means.
//! *Spec*: RFC 9110, RFC 9112.
//!
//! Each direction is a little machine:
//!
//! ```text
//!   Seek ─ start line at a record's start ─▶ Head ─ empty line ─▶ Body ─ last byte ─▶ Start ─ start line ─▶ Head …
//!    ▲                                        │ hole                │ hole of unknown reach  │ hole, nonsense
//!    └────────────────────────────────────────┴─────────────────────┴────────────────────────┘
//! ```
//!
//! Responses answer requests in order (RFC 9112, section 9.3.2), so pairing is a queue. After a hole that may have hidden
//! a message, the queue is trusted only where the connection was not pipelined: then a new request means that everything
//! before it is over. Otherwise pairing is given up until the connection has been quiet, or
//! requests and responses went by turns for a while: a response is never guessed.

pub(super) mod body;
pub mod content;
mod detect;
pub(super) mod exchange;
mod head;
mod holes;
pub(super) mod multipart;
mod pairing;
mod sections;
mod start;
pub(crate) mod start_line;
#[cfg(test)]
mod tests;
mod zstd;

use std::collections::VecDeque;

use self::body::Body;
use self::exchange::{Half, OPEN_BYTES, Open};
use self::head::HeadReader;
use self::pairing::Pairing;
use super::http2;
use super::reader::Reader;
use super::registry::Spec;
/// Nothing: each message says all there is to know.
pub use super::snapshot::Nothing as Learned;
use crate::operation::{Completeness, Interaction, Operation};
use crate::protocol::{Discard, End, Event, Events, Want};
use crate::record::{Mark, OpId, Point, Role, Sender};
use crate::settings::Protocols;
use crate::time::BootTime;

/// A skip shorter than this is not worth a verdict.
const MIN_SKIP: u64 = 64 << 10;
/// Bytes before the end of a body that are captured again, so that its end is seen.
const SKIP_MARGIN: u64 = 16 << 10;
/// Open exchanges of one connection retain at most this many times the bounds of a single one.
const RETAINED_FACTOR: usize = 8;

pub(super) const SPEC: Spec = Spec {
    name: "http",
    title: "HTTP/1.x",
    interaction: Interaction::Call,
    ports: &[
        80..=80,
        3000..=3000,
        5000..=5000,
        8000..=8000,
        8008..=8008,
        8080..=8090,
        8888..=8888,
        9000..=9000,
        9090..=9090,
        9200..=9200,
    ],
    sniff: detect::sniff,
    weak_sender: Some(detect::weak_sender),
    session: |role, limits| Box::new(Http1Session::new(role, limits)),
    shared: None,
    #[cfg(test)]
    example: tests::example,
};

/// One HTTP/1.x connection.
#[derive(Debug)]
pub struct Http1Session {
    role: Role,
    kept_body_bytes: usize,
    max_header_bytes: usize,
    max_open: usize,
    request: Stream,
    response: Stream,
    /// Exchanges in the order of their requests. Only the first may be in the middle of its response, only the last in
    /// the middle of its request.
    open: VecDeque<Open>,
    pairing: Pairing,
    /// Bytes retained by `open`.
    retained: usize,
    passed_len: u64,
    /// What the connection speaks since `101 Switching Protocols` to `h2c`.
    upgraded: Option<Box<http2::Http2Session>>,
}

/// One direction.
#[derive(Debug)]
struct Stream {
    reader: Reader,
    state: State,
    head: HeadReader,
    /// The exchange the current message belongs to. `None` between messages, and when it was closed before its bytes ended.
    op: Option<OpId>,
    /// After the last byte that was moved.
    last: Point,
    /// Nothing came yet.
    is_new: bool,
}

/// What the next byte of a direction belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Unknown: a start line at the beginning of a record is awaited. With `op`, bytes until then are that message's.
    Seek,
    /// A start line, for certain.
    Start,
    /// Header fields.
    Head,
    /// Header fields of a 1xx response, which are of no use.
    InterimHead,
    Body(Body),
    /// Another protocol, after CONNECT or an upgrade.
    Tunnel,
}

impl Stream {
    fn new() -> Stream {
        Stream {
            reader: Reader::default(),
            state: State::Seek,
            head: HeadReader::default(),
            op: None,
            last: Point::default(),
            is_new: true,
        }
    }

    fn moved(&mut self, end: u64, mark: Mark) {
        self.last = mark.point(end);
    }

    /// The next message's start line is next.
    fn next_message(&mut self) {
        self.state = State::Start;
        self.op = None;
        self.head.restart();
    }

    /// Where the next message starts is not known any more.
    fn lose(&mut self) {
        self.state = State::Seek;
        self.head.restart();
    }
}

impl Http1Session {
    /// `role` is that of the observed process on this connection.
    pub fn new(role: Role, limits: &Protocols) -> Http1Session {
        Http1Session {
            role,
            kept_body_bytes: limits.kept_body_bytes,
            max_header_bytes: limits.max_header_bytes,
            max_open: limits.max_open_operations.max(1),
            request: Stream::new(),
            response: Stream::new(),
            open: VecDeque::new(),
            pairing: Pairing::default(),
            retained: 0,
            passed_len: 0,
            upgraded: None,
        }
    }

    /// Bytes passed through since the connection was upgraded or became a tunnel.
    pub fn passed_len(&self) -> u64 {
        self.passed_len
    }

    /// Exchanges open at the moment.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    fn request_bytes(&mut self, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events) {
        self.give_up_guess(Half::Request, bytes, out);
        self.next_request_instead_of_body(bytes, out);
        self.first_sight(Half::Request, pos);
        let mut input = self.request.reader.begin(pos, bytes, mark);
        while !input.rest().is_empty() {
            let goes_on = match self.request.state {
                State::Seek | State::Start => self.request_start(&mut input, out),
                State::Head | State::InterimHead => self.request_head(&mut input, out),
                State::Body(_) => self.body(Half::Request, &mut input, out),
                State::Tunnel => self.pass(Half::Request, &mut input, out),
            };
            if !goes_on {
                break;
            }
        }
        self.request.reader.finish(input);
        self.request.moved(pos.saturating_add(bytes.len() as u64), mark);
    }

    fn response_bytes(&mut self, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events) {
        self.give_up_guess(Half::Response, bytes, out);
        self.next_response_after_unmarked_end(bytes, out);
        self.first_sight(Half::Response, pos);
        let mut input = self.response.reader.begin(pos, bytes, mark);
        while !input.rest().is_empty() {
            let goes_on = match self.response.state {
                State::Seek | State::Start => self.response_start(&mut input, out),
                State::Head | State::InterimHead => self.response_head(&mut input, out),
                State::Body(_) => self.body(Half::Response, &mut input, out),
                State::Tunnel => self.pass(Half::Response, &mut input, out),
            };
            if !goes_on {
                break;
            }
        }
        self.response.reader.finish(input);
        self.response.moved(pos.saturating_add(bytes.len() as u64), mark);
    }

    /// The first byte of a connection begins a message, and so does that of the other direction. A later first sight
    /// may be anywhere.
    fn first_sight(&mut self, half: Half, pos: u64) {
        let (stream, other) = match half {
            Half::Request => (&mut self.request, &mut self.response),
            Half::Response => (&mut self.response, &mut self.request),
        };
        if !std::mem::take(&mut stream.is_new) {
            return;
        }
        stream.state = if pos == 0 { State::Start } else { State::Seek };
        if pos == 0 && other.is_new {
            other.state = State::Start;
        }
    }

    fn retained_max(&self) -> usize {
        self.kept_body_bytes.saturating_add(self.max_header_bytes).saturating_mul(RETAINED_FACTOR)
    }

    fn stream(&mut self, half: Half) -> &mut Stream {
        match half {
            Half::Request => &mut self.request,
            Half::Response => &mut self.response,
        }
    }
}

impl super::Session for Http1Session {
    fn bytes(&mut self, from: Sender, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events) {
        if let Some(next) = &mut self.upgraded {
            return next.bytes(from, pos, bytes, mark, out);
        }
        match from {
            Sender::Client => {
                let was_idle = self.open.is_empty();
                self.request_bytes(pos, bytes, mark, out);
                if was_idle {
                    self.read_ahead(out);
                }
            }
            Sender::Server => self.response_bytes(pos, bytes, mark, out),
        }
    }

    fn gap(&mut self, from: Sender, pos: u64, len: u64, mark: Mark, out: &mut Events) {
        if len == 0 {
            return;
        }
        if let Some(next) = &mut self.upgraded {
            return next.gap(from, pos, len, mark, out);
        }
        let half = match from {
            Sender::Client => Half::Request,
            Sender::Server => Half::Response,
        };
        let start = mark.point(pos);
        self.first_sight(half, pos);
        let stream = match half {
            Half::Request => &mut self.request,
            Half::Response => &mut self.response,
        };
        let left = stream.reader.reset() as u64;
        if left > 0 {
            out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes: left });
        }
        match stream.state {
            State::Tunnel => self.passed_len = self.passed_len.saturating_add(len),
            State::Body(body) => self.body_gap(half, body, pos, len, mark, out),
            State::Start => self.gap_between(half, start, len, out),
            State::Head | State::InterimHead | State::Seek => {
                let was_seeking = stream.state == State::Seek;
                stream.lose();
                if let Some(open) = current(&mut self.open, stream.op) {
                    open.gap_len = open.gap_len.saturating_add(len).saturating_add(left);
                } else if half == Half::Response && was_seeking {
                    self.response_begins_in_gap(start, len);
                }
                self.lost_message(half, out);
            }
        }
        self.stream(half).moved(pos.saturating_add(len), mark);
    }

    fn begins_at(&mut self, from: Sender, _: u64) {
        // The same as a first byte at position 0.
        self.first_sight(if from == Sender::Client { Half::Request } else { Half::Response }, 0);
    }

    fn held(&self) -> usize {
        let readers = self.request.reader.held() + self.response.reader.held();
        let next = self.upgraded.as_ref().map_or(0, |next| next.held());
        size_of::<Self>() + readers + self.open.len() * OPEN_BYTES + self.retained + next
    }

    fn relieve(&mut self) {
        if let Some(next) = &mut self.upgraded {
            return next.relieve();
        }
        for open in &mut self.open {
            self.retained = self.retained.saturating_sub(open.forget_bodies());
        }
    }

    fn timeout(&mut self, now: BootTime, out: &mut Events) {
        if let Some(next) = &mut self.upgraded {
            next.timeout(now, out);
        }
    }

    fn end(&mut self, end: End, at: BootTime, out: &mut Events) {
        if let Some(next) = &mut self.upgraded {
            return next.end(end, at, out);
        }
        for half in [Half::Request, Half::Response] {
            let bytes = self.stream(half).reader.reset() as u64;
            if bytes > 0 {
                out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
            }
        }
        let to_close = self.response.state == State::Body(Body::UntilClose);
        while let Some(mut open) = self.open.pop_front() {
            let responding = self.response.op == Some(open.id);
            if responding && let Some(response) = &mut open.response {
                response.end = self.response.last;
            }
            if self.request.op == Some(open.id) && !open.requested {
                open.request.end = self.request.last;
            }
            // The close is the end of such a body; whether all of it came cannot be told.
            let ended = open.answered || (responding && to_close && end == End::Closed);
            let completeness = match end {
                _ if ended => Completeness::Complete,
                End::Closed | End::Reset if responding && open.gap_len > 0 => Completeness::Gap(open.gap_len),
                End::Closed | End::Reset => Completeness::Cut,
                End::Abandoned => Completeness::Abandoned,
            };
            let at = match open.response {
                Some(response) if ended => response.end.at,
                _ => at,
            };
            self.close(open, at, completeness, out);
        }
        debug_assert_eq!(self.retained, 0, "what is retained has drifted");
        self.request.lose();
        self.response.lose();
        self.request.op = None;
        self.response.op = None;
    }

    fn peek(&self, op: OpId) -> Option<Operation> {
        if let Some(next) = &self.upgraded {
            return next.peek(op);
        }
        self.open.iter().find(|open| open.id == op)?.peek(self.role)
    }

    fn want(&self, from: Sender) -> Want {
        if let Some(next) = &self.upgraded {
            return next.want(from);
        }
        let (half, stream) = match from {
            Sender::Client => (Half::Request, &self.request),
            Sender::Server => (Half::Response, &self.response),
        };
        match stream.state {
            State::Tunnel => Want::Nothing,
            State::Body(body) if stream.reader.is_empty() => {
                let ends = [self.open.back(), self.open.front()];
                let found = ends.into_iter().flatten().find(|open| Some(open.id) == stream.op);
                let satisfied = found.is_none_or(|open| open.is_satisfied(half, self.kept_body_bytes));
                let skip = body.certain_content().saturating_sub(SKIP_MARGIN);
                if satisfied && skip >= MIN_SKIP { Want::Skip(skip) } else { Want::All }
            }
            _ => Want::All,
        }
    }
}

/// The exchange `op` of the queue: its first or its last.
fn current(open: &mut VecDeque<Open>, op: Option<OpId>) -> Option<&mut Open> {
    let op = op?;
    if open.back().is_some_and(|last| last.id == op) {
        return open.back_mut();
    }
    open.front_mut().filter(|first| first.id == op)
}
