//! Bytes of one side of a connection → whole messages, each with the kept beginning of its body.
//!
//! ```text
//!   Begin ──first byte 0──▶ Startup ──StartupMessage──▶ Header ◀──────────────────────┐
//!     │                        │ SSLRequest answered S/G                             │ end of body
//!     │ anywhere else          ▼                           │ tag, length              │
//!     ▼                      Opaque                        ▼                          │
//!   Lost ──boundary found──▶ Header                       Body ── bytes or gap ───────┘
//!     ▲──────────── impossible header, gap past the end of a message ──┘
//! ```
//!
//! *Owns* message boundaries: finding them, keeping them over gaps, and how much of a body is kept.
//! *Must not know* what a message means.
//! *Spec*: PostgreSQL documentation, sections 55.2.1 "Start-up" and 55.7 "Message Formats".

use crate::protocol::reader::{Input, Reader};
use crate::protocol::{Discard, Event, Events};
use crate::record::{Mark, Point, Sender};

/// One message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// The tag, or one of the tags below for what has none.
    pub(super) tag: u8,
    /// The kept beginning of the body.
    pub(super) body: &'a [u8],
    /// The body's length on the wire.
    pub(super) len: u64,
    /// Bytes that would have been kept but were not captured.
    pub(super) missing: u64,
    pub(super) start: Point,
    pub(super) end: Point,
}

/// A message without a tag from the client: StartupMessage, SSLRequest, GSSENCRequest or CancelRequest.
pub(super) const STARTUP: u8 = 0;
/// The server's answer to SSLRequest or GSSENCRequest, a byte on its own.
pub(super) const ENCRYPTION: u8 = 1;

/// What takes messages.
pub(super) trait Sink {
    /// Bytes of the body of a message with this tag that it wants to see.
    fn keep(&self, sender: Sender, tag: u8) -> usize;

    /// Takes a message. The answer says how this side goes on.
    fn message(&mut self, sender: Sender, message: Message<'_>, out: &mut Events) -> Next;

    /// Bytes were lost and with them an unknown number of messages.
    fn lost(&mut self, sender: Sender, len: u64, point: Point, out: &mut Events);
}

/// How a side goes on after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// With a tagged message.
    Tagged,
    /// The client: with another message without a tag.
    Untagged,
    /// No more messages can be read on this connection.
    Opaque,
}

/// Longest message of any kind: what the server itself can allocate (`MaxAllocSize`).
const MAX_LARGE: u32 = 0x3fff_ffff;
/// Longest message of a kind that is short by nature, and the longest StartupMessage (`PQ_SMALL_MESSAGE_LIMIT`,
/// `MAX_STARTUP_PACKET_LENGTH`).
const MAX_SMALL: u32 = 10_000;
/// Longest description of rows or parameters: 65535 of them.
const MAX_DESCRIPTION: u32 = 16 << 20;

#[derive(Debug, Default)]
enum State {
    /// Nothing was seen yet.
    #[default]
    Begin,
    /// At the start of a message without a tag.
    Startup,
    /// At the answer to a request for encryption.
    Encryption,
    /// At the start of a message.
    Header,
    /// Inside a message.
    Body(Partial),
    /// Not at a known boundary.
    Lost,
    /// Encrypted, or not ours.
    Opaque,
}

/// A message whose end has not come.
#[derive(Debug)]
struct Partial {
    tag: u8,
    start: Point,
    len: u64,
    /// Bytes of the body still to come.
    left: u64,
    /// Bytes of `head` still to be filled; none after a gap in it.
    wanted: usize,
    head: Vec<u8>,
    missing: u64,
}

/// One side of a connection.
#[derive(Debug)]
pub(super) struct Side {
    sender: Sender,
    reader: Reader,
    state: State,
}

impl Side {
    pub(super) fn new(sender: Sender) -> Self {
        Self { sender, reader: Reader::default(), state: State::Begin }
    }

    /// The connection was seen from its first byte: the server's side begins at a message.
    pub(super) fn begin_at_message(&mut self) {
        if matches!(self.state, State::Begin) {
            self.state = State::Header;
        }
    }

    /// The next byte answers a request for encryption.
    pub(super) fn expect_encryption(&mut self) {
        if matches!(self.state, State::Begin | State::Header) {
            self.state = State::Encryption;
        }
    }

    /// The next byte begins a message.
    pub(super) fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Header) && self.reader.is_empty()
    }

    /// Goes on with a connection that began long before: the next byte begins a message, or a boundary has to be found.
    pub(super) fn join(&mut self, between_messages: bool) {
        self.state = if between_messages { State::Header } else { State::Lost };
    }

    /// Nothing more can be read.
    pub(super) fn close(&mut self) {
        self.state = State::Opaque;
        self.reader.reset();
    }

    /// Bytes that it holds.
    pub(super) fn held(&self) -> usize {
        let partial = match &self.state {
            State::Body(partial) => partial.head.capacity(),
            _ => 0,
        };
        self.reader.held() + partial
    }

    pub(super) fn is_opaque(&self) -> bool {
        matches!(self.state, State::Opaque)
    }

    /// Bytes that come next and are not wanted.
    pub(super) fn unwanted(&self) -> u64 {
        match &self.state {
            State::Body(partial) if partial.wanted == 0 => partial.left,
            _ => 0,
        }
    }

    pub(super) fn bytes(
        &mut self,
        pos: u64,
        bytes: &[u8],
        mark: Mark,
        sink: &mut impl Sink,
        out: &mut Events,
    ) {
        if self.is_opaque() || bytes.is_empty() {
            return;
        }
        let mut reader = std::mem::take(&mut self.reader);
        let mut input = reader.begin(pos, bytes, mark);
        while self.step(&mut input, sink, out) {}
        if self.is_opaque() {
            input.advance(usize::MAX);
        }
        reader.finish(input);
        self.reader = reader;
    }

    /// Takes one step; `false` when more bytes are needed.
    fn step(&mut self, input: &mut Input<'_>, sink: &mut impl Sink, out: &mut Events) -> bool {
        if input.rest().is_empty() {
            return false;
        }
        match &mut self.state {
            State::Opaque => false,
            State::Begin => {
                // A length comes first and is short, so its first byte is 0; no tag is.
                let at_start = self.sender == Sender::Client && input.rest().first() == Some(&0);
                self.state = if at_start { State::Startup } else { State::Lost };
                true
            }
            State::Startup => self.startup(input, sink, out),
            State::Encryption => self.encryption(input, sink, out),
            State::Header => self.header(input, sink, out),
            State::Body(partial) => {
                let rest = input.rest();
                let take = usize::try_from(partial.left).unwrap_or(usize::MAX).min(rest.len());
                let kept = take.min(partial.wanted);
                partial.head.extend_from_slice(rest.get(..kept).unwrap_or_default());
                partial.wanted -= kept;
                partial.left -= take as u64;
                let end = input.point_after(take);
                input.advance(take);
                self.finish_body(end, sink, out);
                true
            }
            State::Lost => match boundary(self.sender, input.rest()) {
                Some(skipped) => {
                    self.discard(Discard::Unsynchronised, input.advance(skipped), out);
                    self.state = State::Header;
                    true
                }
                None => {
                    self.discard(Discard::Unsynchronised, input.advance(usize::MAX), out);
                    false
                }
            },
        }
    }

    fn discard(&self, reason: Discard, len: usize, out: &mut Events) {
        if len > 0 {
            out.push(Event::Discarded { reason, bytes: len as u64 });
        }
    }

    /// Section 55.2.1: the first message has a length and a code, no tag.
    fn startup(&mut self, input: &mut Input<'_>, sink: &mut impl Sink, out: &mut Events) -> bool {
        let rest = input.rest();
        let Some(len) = word(rest, 0) else { return false };
        if !(8..=MAX_SMALL).contains(&len) || word(rest, 4).is_some_and(|code| !is_startup_code(code)) {
            self.discard(Discard::Invalid, input.advance(1), out);
            self.state = State::Lost;
            return true;
        }
        let Some(message) = rest.get(..len as usize) else { return false };
        let body = message.get(4..).unwrap_or_default();
        let (start, end) = (input.point(), input.point_after(len as usize));
        let message = Message { tag: STARTUP, body, len: body.len() as u64, missing: 0, start, end };
        let next = sink.message(self.sender, message, out);
        input.advance(len as usize);
        self.go_on(next);
        true
    }

    fn encryption(&mut self, input: &mut Input<'_>, sink: &mut impl Sink, out: &mut Events) -> bool {
        match input.rest().first() {
            Some(answer @ (b'S' | b'G' | b'N')) => {
                let body = [*answer];
                let (start, end) = (input.point(), input.point_after(1));
                let message = Message { tag: ENCRYPTION, body: &body, len: 1, missing: 0, start, end };
                let next = sink.message(self.sender, message, out);
                input.advance(1);
                self.go_on(next);
            }
            // A server that knows no encryption request answers with an error.
            _ => self.state = State::Header,
        }
        true
    }

    fn header(&mut self, input: &mut Input<'_>, sink: &mut impl Sink, out: &mut Events) -> bool {
        let rest = input.rest();
        let Some(tag) = rest.first().copied() else { return false };
        let Some(len) = word(rest, 1) else {
            // An impossible tag needs no length to be seen.
            if range(self.sender, tag).is_some() {
                return false;
            }
            self.invalid(input, sink, out);
            return true;
        };
        if !is_possible(self.sender, tag, len) {
            self.invalid(input, sink, out);
            return true;
        }
        let body_len = len as usize - 4;
        let (start, keep) = (input.point(), sink.keep(self.sender, tag).min(body_len));
        let rest = rest.get(5..).unwrap_or_default();
        if let Some(body) = rest.get(..body_len) {
            let body = body.get(..keep).unwrap_or_default();
            let end = input.point_after(5 + body_len);
            let message = Message { tag, body, len: body_len as u64, missing: 0, start, end };
            let next = sink.message(self.sender, message, out);
            input.advance(5 + body_len);
            self.go_on(next);
            return true;
        }
        input.advance(5);
        self.state = State::Body(Partial {
            tag,
            start,
            len: body_len as u64,
            left: body_len as u64,
            wanted: keep,
            head: Vec::new(),
            missing: 0,
        });
        true
    }

    /// The bytes here are no message.
    fn invalid(&mut self, input: &mut Input<'_>, sink: &mut impl Sink, out: &mut Events) {
        sink.lost(self.sender, 0, input.point(), out);
        self.discard(Discard::Invalid, input.advance(1), out);
        self.state = State::Lost;
    }

    fn go_on(&mut self, next: Next) {
        self.state = match next {
            Next::Tagged => State::Header,
            Next::Untagged => State::Startup,
            Next::Opaque => State::Opaque,
        };
    }

    /// Hands over the message when its last byte has come.
    fn finish_body(&mut self, end: Point, sink: &mut impl Sink, out: &mut Events) {
        if !matches!(&self.state, State::Body(partial) if partial.left == 0) {
            return;
        }
        if let State::Body(Partial { tag, start, len, head, missing, .. }) = std::mem::take(&mut self.state) {
            let next = sink.message(self.sender, Message { tag, body: &head, len, missing, start, end }, out);
            self.go_on(next);
        }
    }

    /// A gap inside a message is stepped over; one past its end loses the boundary.
    pub(super) fn gap(&mut self, pos: u64, len: u64, mark: Mark, sink: &mut impl Sink, out: &mut Events) {
        if self.is_opaque() || len == 0 {
            return;
        }
        let point = |pos: u64| mark.point(pos);
        let mut left = len;
        if let State::Body(partial) = &mut self.state {
            let inside = partial.left.min(left);
            partial.missing += inside.min(partial.wanted as u64);
            // What comes after a hole does not continue what was kept.
            partial.wanted = 0;
            partial.left -= inside;
            left -= inside;
            self.finish_body(point(pos.saturating_add(inside)), sink, out);
        }
        // Nothing else has a known length: what was begun is lost.
        if left > 0 && !self.is_opaque() {
            let cut = self.reader.reset();
            self.discard(Discard::Unsynchronised, cut, out);
            self.state = State::Lost;
            sink.lost(self.sender, left, point(pos.saturating_add(len)), out);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}

/// Protocol 3.x, and the codes of CancelRequest, SSLRequest and GSSENCRequest.
fn is_startup_code(code: u32) -> bool {
    code >> 16 == 3 || (80_877_102..=80_877_104).contains(&code)
}

/// Shortest and longest length a message with this tag can have, itself included; `None`: no such message.
fn range(sender: Sender, tag: u8) -> Option<(u32, u32)> {
    Some(match (sender, tag) {
        (Sender::Client, b'H' | b'S' | b'X' | b'c')
        | (Sender::Server, b'1' | b'2' | b'3' | b'I' | b'c' | b'n' | b's') => (4, 4),
        (Sender::Client, b'C' | b'D') => (6, MAX_SMALL),
        (Sender::Client, b'E') => (9, MAX_SMALL),
        (Sender::Client, b'P') => (8, MAX_LARGE),
        (Sender::Client, b'B') => (12, MAX_LARGE),
        (Sender::Client, b'F') => (14, MAX_LARGE),
        (Sender::Client, b'Q' | b'f') => (5, MAX_LARGE),
        (Sender::Client, b'd') | (Sender::Server, b'd') => (4, MAX_LARGE),
        (Sender::Client, b'p') => (4, 1 << 16),
        (Sender::Server, b'Z') => (5, 5),
        (Sender::Server, b'R') => (8, 1 << 16),
        (Sender::Server, b'K') => (12, 268),
        (Sender::Server, b'S') => (6, MAX_DESCRIPTION),
        (Sender::Server, b'C') => (5, MAX_SMALL),
        (Sender::Server, b'E' | b'N') => (5, MAX_LARGE),
        (Sender::Server, b'A') => (10, MAX_SMALL),
        (Sender::Server, b'G' | b'H' | b'W') => (7, 7 + 2 * 65_535),
        (Sender::Server, b'T' | b't') => (6, MAX_DESCRIPTION),
        (Sender::Server, b'D') => (6, MAX_LARGE),
        (Sender::Server, b'V') => (8, MAX_LARGE),
        (Sender::Server, b'v') => (12, MAX_SMALL),
        _ => return None,
    })
}

fn is_possible(sender: Sender, tag: u8, len: u32) -> bool {
    range(sender, tag).is_some_and(|(least, most)| (least..=most).contains(&len))
}

/// Where in the bytes a message starts, judged by walking over tags and lengths from there.
///
/// The start of what one call moved is the likely place: one message that fits it is enough there. Anywhere else it takes
/// three messages in a row, or two that end exactly where the bytes end, or the one that ends a turn.
fn boundary(sender: Sender, bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find(|at| {
        let rest = bytes.get(*at..).unwrap_or_default();
        let (count, ends_here, last) = walk(sender, rest);
        let ends_turn =
            ends_here && matches!((sender, last), (Sender::Server, b'Z') | (Sender::Client, b'S'));
        let needed = if *at == 0 || ends_turn {
            1
        } else if ends_here {
            2
        } else {
            3
        };
        count >= needed
    })
}

/// Walks over at most three messages: how many fit, whether the last ends with the bytes, and its tag.
/// A message that is cut at the end counts when its beginning fits.
fn walk(sender: Sender, mut rest: &[u8]) -> (usize, bool, u8) {
    let mut count = 0;
    let mut last = 0;
    while count < 3 {
        let (Some(tag), Some(len)) = (rest.first().copied(), word(rest, 1)) else { break };
        let body = rest.get(5..).unwrap_or_default();
        if !is_possible(sender, tag, len) || !fits(sender, tag, len as usize - 4, body) {
            return (0, false, 0);
        }
        count += 1;
        last = tag;
        rest = body.get(len as usize - 4..).unwrap_or_default();
    }
    (count, rest.is_empty(), last)
}

/// Whether the body (or its beginning, when it is cut) looks like one of this message. Constant time.
fn fits(sender: Sender, tag: u8, len: usize, body: &[u8]) -> bool {
    let whole = body.get(..len);
    let ends_in_zero = whole.is_none_or(|body| body.last() == Some(&0));
    let starts_as_text =
        || body.iter().take(len.min(16)).all(|byte| matches!(byte, 0 | b'\t' | b'\n' | b'\r' | 0x20..));
    match (sender, tag) {
        (Sender::Client, b'Q') => ends_in_zero && starts_as_text(),
        (Sender::Client, b'P' | b'B') => starts_as_text() || body.first() == Some(&0),
        (Sender::Client, b'C' | b'D') => ends_in_zero && matches!(body.first(), Some(b'S' | b'P') | None),
        (Sender::Client, b'f') => ends_in_zero,
        (Sender::Server, b'Z') => matches!(body.first(), Some(b'I' | b'T' | b'E') | None),
        (Sender::Server, b'C') => ends_in_zero && body.first().is_none_or(u8::is_ascii_uppercase),
        (Sender::Server, b'S') => ends_in_zero && body.first().is_none_or(u8::is_ascii_alphabetic),
        (Sender::Server, b'E' | b'N') => ends_in_zero && matches!(body.first(), Some(b'S') | None),
        // As many columns as there can be, each with at least a length.
        (Sender::Server, b'D') => {
            word_16(body).is_none_or(|columns| columns <= 1664 && columns * 4 + 2 <= len)
        }
        (Sender::Server, b'T') => {
            word_16(body).is_none_or(|columns| columns <= 1664 && columns * 19 + 2 <= len)
        }
        (Sender::Server, b't') => word_16(body).is_none_or(|parameters| parameters * 4 + 2 == len),
        (Sender::Server, b'G' | b'H' | b'W') => body.first().is_none_or(|format| *format <= 1),
        _ => true,
    }
}

fn word_16(bytes: &[u8]) -> Option<usize> {
    bytes.get(..2)?.try_into().ok().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
}
