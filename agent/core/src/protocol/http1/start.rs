//! Start lines of both directions → opened exchanges and answered ones.
//!
//! *Owns* finding where a message starts, for certain or by a guess that is given up when a better one comes.
//! *Must not know* what follows the line.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::exchange::{self, Half, Open};
use super::head::Line;
use super::{Http1Session, State, start_line};
use crate::operation::Extent;
use crate::operation::http::{Exchange, bounded_target};
use crate::protocol::reader::Input;
use crate::protocol::{Discard, Event, Events};

/// What a header section ends with.
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

enum StartLine {
    /// A line of so many bytes without its end.
    Text(usize),
    /// Something else was taken.
    Taken,
    Wait,
}

impl Http1Session {
    /// While seeking, what was left of an earlier record is only a guess; a record that begins like a message for
    /// certain outweighs it.
    pub(super) fn give_up_guess(&mut self, half: Half, fresh: &[u8], out: &mut Events) {
        let stream = self.stream(half);
        if stream.state != State::Seek || stream.reader.is_empty() {
            return;
        }
        let begins = match half {
            Half::Request => start_line::has_known_method(fresh),
            Half::Response => fresh.starts_with(b"HTTP/1."),
        };
        if begins {
            stream.head.restart();
            let bytes = stream.reader.reset() as u64;
            out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
        }
    }

    /// Takes a request line, or what stands in its place. `false`: more bytes are needed.
    pub(super) fn request_start(&mut self, input: &mut Input<'_>, out: &mut Events) -> bool {
        let text = match self.start_line(Half::Request, input, out) {
            StartLine::Text(text) => text,
            StartLine::Taken => return true,
            StartLine::Wait => return false,
        };
        let line = input.rest().get(..text).unwrap_or_default();
        let Some(line) = start_line::request_line(line) else {
            return self.not_a_start(Half::Request, input, out);
        };
        let (target, target_cut) = bounded_target(line.target);
        let exchange = Exchange {
            version: line.version,
            method: String::from_utf8_lossy(line.method).into_owned(),
            target,
            target_cut,
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
    pub(super) fn response_start(&mut self, input: &mut Input<'_>, out: &mut Events) -> bool {
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
        let Some(line) = start_line::status_line(line) else {
            return self.not_a_start(Half::Response, input, out);
        };
        if ahead {
            return false;
        }
        if !self.response_is_expected(input.point(), out) {
            // What answers a lost request is in order; nobody knows whose it is.
            let reason = self.pairing.unexpected();
            return self.not_awaited(Half::Response, reason, input, out);
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
                // While seeking, only what is likely is waited for: the end of a body must not become a method.
                let certain = stream.state == State::Start;
                let may_be = match half {
                    Half::Request => {
                        start_line::may_be_request(rest)
                            && (certain || start_line::may_have_known_method(rest))
                    }
                    Half::Response => start_line::may_be_status(rest),
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
                self.lost_message(half, out);
                StartLine::Taken
            }
        }
    }

    /// Everything at hand belongs to no message that is known: the next record may start one.
    pub(super) fn not_a_start(&mut self, half: Half, input: &mut Input<'_>, out: &mut Events) -> bool {
        self.not_awaited(half, Discard::Invalid, input, out)
    }

    /// The same, of which something is known, where a start was certain.
    fn not_awaited(&mut self, half: Half, certain: Discard, input: &mut Input<'_>, out: &mut Events) -> bool {
        let stream = self.stream(half);
        let was_certain = stream.state == State::Start;
        stream.lose();
        let belongs = stream.op.is_some();
        let bytes = input.advance(usize::MAX) as u64;
        if was_certain {
            self.lost_message(half, out);
        }
        if !belongs {
            let reason = if was_certain { certain } else { Discard::Unsynchronised };
            out.push(Event::Discarded { reason, bytes });
        }
        true
    }

    /// The bytes up to the end of the header section, if it is at hand: what the fields will need.
    fn head_size(&self, input: &Input<'_>) -> usize {
        let rest = input.rest().get(..self.max_header_bytes).unwrap_or(input.rest());
        END.find(rest).unwrap_or(0)
    }

    /// Takes the start line that was found before.
    fn take_line(&self, input: &mut Input<'_>) {
        if let Some(end) = memchr::memchr(b'\n', input.rest()) {
            input.advance(end + 1);
        }
    }
}
