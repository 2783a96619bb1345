//! Bytes of one HTTP/1.x connection in, events of its exchanges out.
//!
//! *Owns* message boundaries ([`start`], [`head`], [`body`]), the pairing of responses with requests, what is kept of
//! both ([`exchange`], [`multipart`]), and [`content`] decoding. *Must not know* what a target, field or body means.
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
//! before it is over. Otherwise pairing is given up until the connection has been quiet: a response is never guessed.

mod body;
pub mod content;
mod exchange;
mod head;
mod multipart;
mod pairing;
pub(crate) mod start;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::body::{Body, Framing, Hole, Progress};
use self::exchange::{Half, Open};
use self::head::{HeadReader, Line};
use self::multipart::Multipart;
use self::pairing::Pairing;
use super::reader::{Input, Reader};
use super::{Discard, End, Event, Events, Mark, Point, Sender, Want};
use crate::config::Protocols;
use crate::operation::http::Exchange;
use crate::operation::{Completeness, Extent, OpId};
use crate::record::{BootNs, Role};

/// A skip shorter than this is not worth a verdict.
const MIN_SKIP: u64 = 64 << 10;
/// Bytes before the end of a body that are captured again, so that its end is seen.
const SKIP_MARGIN: u64 = 16 << 10;
/// Open exchanges of one connection retain at most this many times the bounds of a single one.
const RETAINED_FACTOR: usize = 8;

/// One HTTP/1.x connection.
#[derive(Debug)]
pub struct Session {
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
        self.last = Point { at: mark.at, pos: end, thread: mark.thread };
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

impl Session {
    /// `role` is that of the observed process on this connection.
    pub fn new(role: Role, limits: &Protocols) -> Session {
        Session {
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
                State::Tunnel => self.pass(&mut input),
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
                State::Tunnel => self.pass(&mut input),
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

    /// While seeking, what was left of an earlier record is only a guess; a record that begins like a message for
    /// certain outweighs it.
    fn give_up_guess(&mut self, half: Half, fresh: &[u8], out: &mut Events) {
        let stream = self.stream(half);
        if stream.state != State::Seek || stream.reader.is_empty() {
            return;
        }
        let begins = match half {
            Half::Request => start::has_known_method(fresh),
            Half::Response => fresh.starts_with(b"HTTP/1."),
        };
        if begins {
            stream.head.restart();
            let bytes = stream.reader.reset() as u64;
            out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
        }
    }

    /// Takes a request line, or what stands in its place. `false`: more bytes are needed.
    fn request_start(&mut self, input: &mut Input<'_>, out: &mut Events) -> bool {
        let text = match self.start_line(Half::Request, input, out) {
            StartLine::Text(text) => text,
            StartLine::Taken => return true,
            StartLine::Wait => return false,
        };
        let line = input.rest().get(..text).unwrap_or_default();
        let Some(line) = start::request_line(line) else {
            return self.not_a_start(Half::Request, input, out);
        };
        let exchange = Exchange {
            version: line.version,
            method: String::from_utf8_lossy(line.method).into_owned(),
            target: String::from_utf8_lossy(line.target).into_owned(),
            ..Exchange::default()
        };
        let start = input.point();
        let quiet_since = self.request.last.at.max(self.response.last.at);
        self.settle_before_request(start, quiet_since, out);
        if self.open.len() >= self.max_open {
            self.lose_pairing(start.at, out);
            out.push(Event::Discarded { reason: Discard::Limit, bytes: 0 });
        }
        let mut open = Open::new(out.new_op(), start, exchange);
        open.exchange.request_headers.reserve(self.head_size(input));
        open.retained = open.exchange.target.len();
        self.retained = self.retained.saturating_add(open.retained);
        out.push(Event::Opened { op: open.id, shape: exchange::shape(self.role), point: start });
        self.request.op = Some(open.id);
        self.request.state = State::Head;
        self.request.head.restart();
        self.open.push_back(open);
        self.take_line(input);
        true
    }

    /// Takes a status line, or what stands in its place. `false`: more bytes are needed.
    fn response_start(&mut self, input: &mut Input<'_>, out: &mut Events) -> bool {
        // The record of a response can overtake the one of its request, where two threads share a connection: it waits.
        let ahead = self.open.is_empty()
            && self.response.state == State::Start
            && self.request.state == State::Start
            && input.rest().len() <= self.max_header_bytes;
        let text = match self.start_line(Half::Response, input, out) {
            StartLine::Text(text) => text,
            StartLine::Taken => return true,
            StartLine::Wait => return false,
        };
        let line = input.rest().get(..text).unwrap_or_default();
        let Some(line) = start::status_line(line) else {
            return self.not_a_start(Half::Response, input, out);
        };
        if ahead {
            return false;
        }
        if !self.response_is_expected(input.point(), out) {
            return self.not_a_start(Half::Response, input, out);
        }
        self.response.head.restart();
        // 1xx responses come before the final one (RFC 9110, section 15.2); 101 is final, for HTTP at least.
        if line.status < 200 && line.status != 101 {
            self.response.state = State::InterimHead;
            self.take_line(input);
            return true;
        }
        let start = input.point();
        let head_size = self.head_size(input);
        let Some(open) = self.open.front_mut() else { return self.not_a_start(Half::Response, input, out) };
        let id = open.id;
        let deduced_end = self.request.op == Some(id) && self.request.state == State::Seek;
        if deduced_end && !open.requested {
            // Its own end was lost: whatever was sent until now belongs to it.
            self.request.op = None;
            let end = self.request.last;
            open.request.end = end;
            open.requested = true;
            out.push(Event::Requested { op: id, point: end });
        }
        if open.response.is_none() {
            open.response = Some(Extent { start, end: start });
            out.push(Event::Responded { op: id, point: start });
        }
        if open.exchange.version.is_empty() {
            open.exchange.version = line.version;
        }
        open.exchange.status = Some(line.status);
        open.exchange.response_headers.reserve(head_size);
        self.response.op = Some(id);
        self.response.state = State::Head;
        self.take_line(input);
        true
    }

    /// Steps over empty lines, and finds the start line's end.
    fn start_line(&mut self, half: Half, input: &mut Input<'_>, out: &mut Events) -> StartLine {
        let bound = self.max_header_bytes;
        let stream = self.stream(half);
        match stream.head.line(input, bound) {
            // Empty lines before a start line are ignored (RFC 9112, section 2.2).
            Line::Whole { text: 0, len } => {
                input.advance(len);
                StartLine::Taken
            }
            Line::Whole { text, .. } => StartLine::Text(text),
            Line::Partial => {
                let rest = input.rest();
                let may_be = match half {
                    Half::Request => start::may_be_request(rest),
                    Half::Response => start::may_be_status(rest),
                };
                if may_be || rest == b"\r" {
                    return StartLine::Wait;
                }
                self.not_a_start(half, input, out);
                StartLine::Taken
            }
            Line::TooLong => {
                let bytes = input.advance(usize::MAX) as u64;
                stream.lose();
                out.push(Event::Discarded { reason: Discard::Limit, bytes });
                self.lost_message(half);
                StartLine::Taken
            }
        }
    }

    /// Everything at hand belongs to no message that is known: the next record may start one.
    fn not_a_start(&mut self, half: Half, input: &mut Input<'_>, out: &mut Events) -> bool {
        let stream = self.stream(half);
        let was_certain = stream.state == State::Start;
        stream.lose();
        let belongs = stream.op.is_some();
        let bytes = input.advance(usize::MAX) as u64;
        if was_certain {
            self.lost_message(half);
        }
        if !belongs {
            let reason = if was_certain { Discard::Invalid } else { Discard::Unsynchronised };
            out.push(Event::Discarded { reason, bytes });
        }
        true
    }

    fn request_head(&mut self, input: &mut Input<'_>, out: &mut Events) -> bool {
        let Some(end_len) = self.fields(Half::Request, input) else { return false };
        let end = input.point_after(end_len);
        input.advance(end_len);
        self.report_head(Half::Request, out);
        let Some(open) = current(&mut self.open, self.request.op) else {
            self.request.lose();
            return true;
        };
        let exchange = &mut open.exchange;
        let (framing, odd) = body::request_framing(&exchange.request_headers, exchange.version);
        exchange.ambiguous_framing |= odd;
        exchange.authority = authority(exchange);
        let coded = exchange.request_headers.get("content-encoding").is_some();
        if framing != Framing::None && !coded {
            let content_type = exchange.request_headers.get("content-type");
            open.multipart = content_type.and_then(Multipart::new).map(Box::new);
        }
        match Body::new(framing) {
            Some(body) => self.request.state = State::Body(body),
            None if framing == Framing::Unknown => {
                self.request.lose();
                self.lost_message(Half::Request);
            }
            None => self.request_ends(end, out),
        }
        true
    }

    fn response_head(&mut self, input: &mut Input<'_>, out: &mut Events) -> bool {
        if self.response.state == State::InterimHead {
            let mut ignored = Default::default();
            let Some(end_len) = self.response.head.fields(input, &mut ignored, 0) else { return false };
            input.advance(end_len);
            self.response.next_message();
            return true;
        }
        let Some(end_len) = self.fields(Half::Response, input) else { return false };
        let end = input.point_after(end_len);
        input.advance(end_len);
        self.report_head(Half::Response, out);
        let Some(open) = current(&mut self.open, self.response.op) else {
            self.response.lose();
            return true;
        };
        let exchange = &mut open.exchange;
        let status = exchange.status.unwrap_or_default();
        // After 101, and after 2xx to CONNECT, the connection is something else (RFC 9110, sections 15.2.2 and 9.3.6).
        if status == 101 || (exchange.method == "CONNECT" && (200..300).contains(&status)) {
            self.tunnel_begins(end, out);
            return true;
        }
        let (framing, odd) = body::response_framing(&exchange.response_headers, &exchange.method, status);
        exchange.ambiguous_framing |= odd;
        match Body::new(framing) {
            Some(body) => self.response.state = State::Body(body),
            None if framing == Framing::Unknown => self.response.lose(),
            None => self.response_ends(end, out),
        }
        true
    }

    /// Reads header fields into the current exchange. The length of the empty line when it is next.
    fn fields(&mut self, half: Half, input: &mut Input<'_>) -> Option<usize> {
        let room = self.retained_max().saturating_sub(self.retained);
        let bound = self.max_header_bytes.min(room);
        let stream = match half {
            Half::Request => &mut self.request,
            Half::Response => &mut self.response,
        };
        let Some(open) = current(&mut self.open, stream.op) else {
            return stream.head.fields(input, &mut Default::default(), 0);
        };
        let headers = open.headers(half);
        let before = headers.bytes_len();
        let end = stream.head.fields(input, headers, bound);
        let more = headers.bytes_len().saturating_sub(before);
        open.retained = open.retained.saturating_add(more);
        self.retained = self.retained.saturating_add(more);
        end
    }

    fn report_head(&mut self, half: Half, out: &mut Events) {
        let head = &self.stream(half).head;
        for (reason, bytes) in [(Discard::Limit, head.over_len), (Discard::Invalid, head.invalid_len)] {
            if bytes > 0 {
                out.push(Event::Discarded { reason, bytes });
            }
        }
    }

    fn body(&mut self, half: Half, input: &mut Input<'_>, out: &mut Events) -> bool {
        let room = self.retained_max().saturating_sub(self.retained);
        let stream = match half {
            Half::Request => &mut self.request,
            Half::Response => &mut self.response,
        };
        let State::Body(body) = &mut stream.state else { return false };
        let mut open = current(&mut self.open, stream.op);
        let mut more = 0;
        let (taken, progress) = body.feed(input.rest(), |content| {
            let Some(open) = open.as_deref_mut() else { return };
            let spare = room.saturating_sub(more);
            let kept_len = match half {
                Half::Request => open.exchange.request_body.bytes.len(),
                Half::Response => open.exchange.response_body.bytes.len(),
            };
            let bound = self.kept_body_bytes.min(kept_len.saturating_add(spare));
            more += open.content(half, content, bound);
        });
        if let Some(open) = open {
            open.retained = open.retained.saturating_add(more);
            self.retained = self.retained.saturating_add(more);
        }
        let end = input.point_after(taken);
        input.advance(taken);
        match progress {
            Progress::More => {}
            Progress::Done => self.message_ends(half, end, out),
            Progress::Broken => {
                stream.lose();
                let bytes = input.advance(usize::MAX) as u64;
                out.push(Event::Discarded { reason: Discard::Invalid, bytes });
                if let Some(open) = current(&mut self.open, stream.op) {
                    open.exchange.ambiguous_framing = true;
                }
                self.lost_message(half);
            }
        }
        true
    }

    fn pass(&mut self, input: &mut Input<'_>) -> bool {
        self.passed_len = self.passed_len.saturating_add(input.advance(usize::MAX) as u64);
        true
    }

    fn body_gap(&mut self, half: Half, mut body: Body, pos: u64, len: u64, mark: Mark, out: &mut Events) {
        let hole = body.gap(len);
        let bound = self.kept_body_bytes;
        let stream = match half {
            Half::Request => &mut self.request,
            Half::Response => &mut self.response,
        };
        stream.state = State::Body(body);
        let content = match hole {
            Hole::Inside => len,
            Hole::Ends(content) | Hole::Lost(content) => content,
        };
        if let Some(open) = current(&mut self.open, stream.op) {
            open.content_gap(half, content, bound);
        }
        match hole {
            Hole::Inside => {}
            Hole::Ends(content) => {
                let end = Point { at: mark.at, pos: pos.saturating_add(content), thread: mark.thread };
                self.message_ends(half, end, out);
                if content < len {
                    self.gap_between(half, end, len - content, out);
                }
            }
            Hole::Lost(content) => {
                stream.lose();
                if let Some(open) = current(&mut self.open, stream.op) {
                    open.gap_len = open.gap_len.saturating_add(len - content).max(1);
                }
                self.lost_message(half);
            }
        }
    }

    /// A hole between messages: it may have hidden whole ones.
    fn gap_between(&mut self, half: Half, start: Point, len: u64, out: &mut Events) {
        self.stream(half).lose();
        self.lost_message(half);
        if half == Half::Response {
            self.response_begins_in_gap(start, len, out);
        }
    }

    fn message_ends(&mut self, half: Half, end: Point, out: &mut Events) {
        match half {
            Half::Request => self.request_ends(end, out),
            Half::Response => self.response_ends(end, out),
        }
    }

    fn tunnel_begins(&mut self, end: Point, out: &mut Events) {
        self.response_ends(end, out);
        // What the client sent in between was not HTTP either.
        let early = self.request.reader.reset() as u64;
        self.passed_len = self.passed_len.saturating_add(early);
        while let Some(open) = self.open.pop_front() {
            let completeness = if open.answered { Completeness::Complete } else { Completeness::Abandoned };
            self.close(open, end.at, completeness, out);
        }
        for stream in [&mut self.request, &mut self.response] {
            stream.op = None;
            stream.state = State::Tunnel;
        }
    }

    /// The bytes up to the end of the header section, if it is at hand: what the fields will need.
    fn head_size(&self, input: &Input<'_>) -> usize {
        let rest = input.rest().get(..self.max_header_bytes).unwrap_or(input.rest());
        memchr::memmem::find(rest, b"\r\n\r\n").unwrap_or(0)
    }

    /// Takes the start line that was found before.
    fn take_line(&self, input: &mut Input<'_>) {
        if let Some(end) = memchr::memchr(b'\n', input.rest()) {
            input.advance(end + 1);
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

enum StartLine {
    /// A line of so many bytes without its end.
    Text(usize),
    /// Something else was taken.
    Taken,
    Wait,
}

impl super::Session for Session {
    fn bytes(&mut self, from: Sender, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events) {
        match from {
            Sender::Client => {
                let was_idle = self.open.is_empty();
                self.request_bytes(pos, bytes, mark, out);
                let is_ahead = self.response.state == State::Start && !self.response.reader.is_empty();
                if was_idle && is_ahead && !self.open.is_empty() {
                    // A response that came before its request can be read now.
                    let last = self.response.last;
                    let mark = Mark { at: last.at, thread: last.thread, other_pos: mark.other_pos };
                    self.response_bytes(last.pos, b"", mark, out);
                }
            }
            Sender::Server => self.response_bytes(pos, bytes, mark, out),
        }
    }

    fn gap(&mut self, from: Sender, pos: u64, len: u64, mark: Mark, out: &mut Events) {
        if len == 0 {
            return;
        }
        let half = match from {
            Sender::Client => Half::Request,
            Sender::Server => Half::Response,
        };
        let start = Point { at: mark.at, pos, thread: mark.thread };
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
                    self.response_begins_in_gap(start, len, out);
                }
                self.lost_message(half);
            }
        }
        self.stream(half).moved(pos.saturating_add(len), mark);
    }

    fn end(&mut self, end: End, at: BootNs, out: &mut Events) {
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
        self.request.lose();
        self.response.lose();
        self.request.op = None;
        self.response.op = None;
    }

    fn want(&self, from: Sender) -> Want {
        let (half, stream) = match from {
            Sender::Client => (Half::Request, &self.request),
            Sender::Server => (Half::Response, &self.response),
        };
        match stream.state {
            State::Tunnel => Want::Nothing,
            State::Body(body) if stream.reader.is_empty() => {
                let found = self.open.iter().find(|open| Some(open.id) == stream.op);
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

/// The host the request names: an absolute-form target outweighs `Host` (RFC 9112, section 3.2.2).
fn authority(exchange: &Exchange) -> String {
    let host = match exchange.absolute() {
        Some((authority, _)) => authority.to_owned(),
        None if exchange.method == "CONNECT" => exchange.target.clone(),
        None => {
            String::from_utf8_lossy(exchange.request_headers.get("host").unwrap_or_default()).into_owned()
        }
    };
    match host.rsplit_once('@') {
        Some((_, host)) => host.to_owned(),
        None => host,
    }
}
