//! One sender's bytes → frames: whole ones for methods and content headers, piecemeal for bodies.
//!
//! ```text
//!            ┌────────── invalid, or a gap over a boundary ─────────┐
//!            ▼                                                      │
//!   Seeking ──boundary found──▶ Boundary ──header──▶ Body{left} ──▶ End ─┐
//!      ▲                           ▲  │                                  │
//!      └── start of the stream     └──┴── whole method or header ◀───────┘
//! ```
//!
//! *Owns* the frame layout and where in it one direction stands. *Must not know* channels.
//!
//! *Spec*: AMQP 0-9-1 section 4.2.3: type (8 bits), channel (16), size (32), payload of that size, frame-end (8, 0xCE).

use super::sync::{self, Search};
use crate::protocol::reader::{Input, Reader};
use crate::record::{Point, Sender};

/// Type, channel, size.
pub const HEADER_LEN: usize = 7;

/// "The frame-end octet MUST always be the hexadecimal value %xCE."
pub const END: u8 = 0xCE;

/// "AMQP", 0, and the version 0-9-1: the client's first eight bytes, and the server's only ones when it refuses.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// Bytes of a frame besides its payload.
pub const OVERHEAD: usize = HEADER_LEN + 1;

/// RabbitMQ's default `frame_max`; most clients accept it.
pub const DEFAULT_FRAME_MAX: u32 = 128 << 10;

/// "frame-min-size": no peer may agree on less.
pub const SMALLEST_FRAME_MAX: u32 = 4096;

/// Bound for a connection that joined in mid-stream or agreed on no limit: whole frame, in bytes.
pub const LARGEST_FRAME: u32 = 16 << 20;

/// Method and content header frames up to this size are read; larger ones are stepped over.
pub const LARGEST_BUFFERED: usize = 256 << 10;

/// Frame types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Method,
    Header,
    Body,
    Heartbeat,
}

/// The first seven bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub channel: u16,
    /// Bytes of payload.
    pub size: u32,
}

/// The outcome of reading a frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    Complete(Frame),
    Incomplete,
    Invalid,
}

/// Reads a frame header. `frame_max` bounds the whole frame.
pub fn read(bytes: &[u8], frame_max: u32) -> Parsed {
    let kind = match bytes.first() {
        None => return Parsed::Incomplete,
        Some(1) => Kind::Method,
        Some(2) => Kind::Header,
        Some(3) => Kind::Body,
        Some(8) => Kind::Heartbeat,
        Some(_) => return Parsed::Invalid,
    };
    let Some(&[_, c0, c1, s0, s1, s2, s3]) = bytes.first_chunk::<HEADER_LEN>() else {
        return Parsed::Incomplete;
    };
    let (channel, size) = (u16::from_be_bytes([c0, c1]), u32::from_be_bytes([s0, s1, s2, s3]));
    let valid = match kind {
        // A method has at least its class and number; a content header its class, weight, size and flags.
        Kind::Method => size >= 4,
        Kind::Header => channel != 0 && size >= 14,
        Kind::Body => channel != 0,
        // "The channel number MUST be zero for all heartbeat frames"; they carry nothing.
        Kind::Heartbeat => channel == 0 && size == 0,
    };
    if !valid || u64::from(size) + OVERHEAD as u64 > u64::from(frame_max) {
        return Parsed::Invalid;
    }
    Parsed::Complete(Frame { kind, channel, size })
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// More bytes are needed.
    Wait,
    /// The protocol header went by.
    ProtocolHeader,
    /// A whole method or content header frame is at the head of the input: [`Frame::size`] bytes of payload after
    /// [`HEADER_LEN`]. The caller advances over all of it.
    Whole(Frame),
    /// A body frame's header went by.
    BodyStart { frame: Frame, start: Point },
    /// So many bytes of body are at the head of the input. The caller advances over them.
    Body { channel: u16, len: usize },
    /// The end of a body frame went by; `end` is the position after it.
    BodyEnd { channel: u16, end: Point },
    /// A method or content header frame that was too long, or that a gap lies in, went by.
    Damaged { frame: Frame, limit: bool },
    /// Not at a boundary: these bytes were passed over.
    Passed(u64),
    /// The bytes at the boundary are no frame. The search for a boundary begins.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No boundary is known. `started` is false until a byte of this direction was seen.
    Seeking {
        started: bool,
    },
    Boundary,
    /// Inside a frame whose payload is passed on or over as it comes.
    Payload {
        frame: Frame,
        left: u32,
    },
    /// Before the frame-end octet.
    End {
        frame: Frame,
    },
}

/// One direction's place in its frames.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    pub(super) reader: Reader,
    /// The frame that is being passed over is too long, instead of holed.
    limit: bool,
}

/// What a gap did to a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hole {
    /// It lies in the payload of this frame: so many of its bytes are unknown, and the boundary is still certain.
    Inside { frame: Frame, len: u32, ended: bool },
    /// The boundary is lost; so many bytes that had been held back are discarded.
    Lost { discarded: usize },
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { state: State::Seeking { started: false }, reader: Reader::default(), limit: false }
    }

    /// No byte of this direction was seen yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.state == State::Seeking { started: false } && self.reader.is_empty()
    }

    /// The stream's start is known to be here.
    pub(super) fn start(&mut self) {
        self.state = State::Boundary;
    }

    /// The next byte begins a frame.
    pub(super) fn is_between_frames(&self) -> bool {
        self.state == State::Boundary && self.reader.is_empty()
    }

    /// Bytes left in the payload of the body frame that is under way.
    pub(super) fn body_left(&self) -> Option<(u16, u32)> {
        match self.state {
            State::Payload { frame, left } => Some((frame.channel, left)),
            _ => None,
        }
    }

    /// Takes one step. `frame_max` bounds a whole frame, where that was negotiated.
    pub(super) fn step(&mut self, from: Sender, input: &mut Input<'_>, frame_max: Option<u32>) -> Item {
        match self.state {
            State::Seeking { started } => self.seek(from, input, frame_max, started),
            State::Boundary => self.boundary(input, frame_max.unwrap_or(LARGEST_FRAME)),
            State::Payload { frame, left } => self.payload(input, frame, left),
            State::End { frame } => self.frame_end(input, frame),
        }
    }

    fn seek(&mut self, from: Sender, input: &mut Input<'_>, frame_max: Option<u32>, started: bool) -> Item {
        if !started && let Some(item) = self.protocol_header(input) {
            return item;
        }
        if !input.rest().is_empty() {
            self.state = State::Seeking { started: true };
        }
        let bound = frame_max.unwrap_or(DEFAULT_FRAME_MAX).min(LARGEST_BUFFERED as u32);
        let (passed, found) = match sync::search(input.rest(), from, bound) {
            Search::Found(offset) => (offset, true),
            Search::Undecided(offset) => (offset, false),
        };
        if found {
            self.state = State::Boundary;
        }
        let passed = input.advance(passed);
        match (passed, found) {
            (0, false) => Item::Wait,
            (passed, _) => Item::Passed(passed as u64),
        }
    }

    fn boundary(&mut self, input: &mut Input<'_>, frame_max: u32) -> Item {
        if input.rest().first() == Some(&b'A')
            && let Some(item) = self.protocol_header(input)
        {
            return item;
        }
        let frame = match read(input.rest(), frame_max) {
            Parsed::Incomplete => return Item::Wait,
            Parsed::Invalid => return self.lost(),
            Parsed::Complete(frame) => frame,
        };
        let size = frame.size as usize;
        match frame.kind {
            Kind::Heartbeat => {
                if input.rest().len() < OVERHEAD {
                    return Item::Wait;
                }
                input.advance(HEADER_LEN);
                self.frame_end(input, frame)
            }
            Kind::Body => {
                let start = input.point();
                input.advance(HEADER_LEN);
                self.state = match frame.size {
                    0 => State::End { frame },
                    left => State::Payload { frame, left },
                };
                Item::BodyStart { frame, start }
            }
            Kind::Method | Kind::Header if size > LARGEST_BUFFERED => {
                input.advance(HEADER_LEN);
                self.limit = true;
                self.state = State::Payload { frame, left: frame.size };
                self.payload(input, frame, frame.size)
            }
            Kind::Method | Kind::Header => match input.rest().get(HEADER_LEN + size) {
                None => Item::Wait,
                Some(&END) => Item::Whole(frame),
                Some(_) => self.lost(),
            },
        }
    }

    /// `None`: this is no protocol header.
    fn protocol_header(&mut self, input: &mut Input<'_>) -> Option<Item> {
        let rest = input.rest();
        if rest.is_empty() {
            return Some(Item::Wait);
        }
        if rest.starts_with(&PROTOCOL_HEADER) {
            input.advance(PROTOCOL_HEADER.len());
            self.state = State::Boundary;
            return Some(Item::ProtocolHeader);
        }
        PROTOCOL_HEADER.starts_with(rest).then_some(Item::Wait)
    }

    fn payload(&mut self, input: &mut Input<'_>, frame: Frame, left: u32) -> Item {
        let len = input.rest().len().min(left as usize);
        if len == 0 {
            return Item::Wait;
        }
        let after = left.saturating_sub(len as u32);
        self.state = match after {
            0 => State::End { frame },
            left => State::Payload { frame, left },
        };
        if frame.kind == Kind::Body {
            return Item::Body { channel: frame.channel, len };
        }
        input.advance(len);
        match after {
            0 => self.frame_end(input, frame),
            _ => Item::Wait,
        }
    }

    fn frame_end(&mut self, input: &mut Input<'_>, frame: Frame) -> Item {
        match input.rest().first() {
            None => Item::Wait,
            Some(&END) => {
                let end = input.point_after(1);
                input.advance(1);
                self.state = State::Boundary;
                self.ended(frame, end)
            }
            Some(_) => self.lost(),
        }
    }

    fn ended(&mut self, frame: Frame, end: Point) -> Item {
        let limit = std::mem::take(&mut self.limit);
        match frame.kind {
            Kind::Body => Item::BodyEnd { channel: frame.channel, end },
            Kind::Heartbeat => Item::Passed(0),
            Kind::Method | Kind::Header => Item::Damaged { frame, limit },
        }
    }

    fn lost(&mut self) -> Item {
        self.state = State::Seeking { started: true };
        self.limit = false;
        Item::Lost
    }

    /// `len` bytes went by unseen. `frame_max` as in [`Decoder::step`].
    pub(super) fn gap(&mut self, len: u64, frame_max: Option<u32>) -> Hole {
        let (frame, left) = match self.state {
            State::Payload { frame, left } => (frame, u64::from(left)),
            State::End { frame } => (frame, 0),
            _ => return self.gap_in_buffered(len, frame_max),
        };
        self.step_over(frame, left, len)
    }

    /// A method or content header frame was waiting for its rest.
    fn gap_in_buffered(&mut self, len: u64, frame_max: Option<u32>) -> Hole {
        let held = self.reader.len();
        let header = match self.state {
            State::Boundary => read(self.reader.rest(), frame_max.unwrap_or(LARGEST_FRAME)),
            _ => Parsed::Invalid,
        };
        let Parsed::Complete(frame) = header else {
            let discarded = self.reader.reset();
            self.lost();
            return Hole::Lost { discarded };
        };
        let seen = held.saturating_sub(HEADER_LEN) as u64;
        match self.step_over(frame, u64::from(frame.size).saturating_sub(seen), len) {
            Hole::Lost { .. } => Hole::Lost { discarded: self.reader.reset() },
            inside => inside,
        }
    }

    /// A gap of `len` bytes where `left` bytes of payload and the frame-end octet were to come.
    fn step_over(&mut self, frame: Frame, left: u64, len: u64) -> Hole {
        let Some(after) = (left + 1).checked_sub(len) else {
            self.lost();
            return Hole::Lost { discarded: 0 };
        };
        self.state = match after {
            0 => State::Boundary,
            1 => State::End { frame },
            _ => State::Payload { frame, left: (after - 1) as u32 },
        };
        Hole::Inside { frame, len: len.min(left) as u32, ended: after == 0 }
    }
}
