//! Bytes of one HTTP/2 connection → events of its exchanges: one for each stream that the client opened.
//!
//! *Owns* frames (`frame`, `feed`), header compression ([`hpack`]), streams (`stream`, `heads`), and finding frames again
//! after a loss (`seek`). *Must not know* what a field or a body means.
//! *Spec*: RFC 9113; RFC 7540, section 3.2 (upgrade from HTTP/1.1).
//!
//! Each direction is a little machine:
//!
//! ```text
//!   Preface ─ 24 bytes ─▶ Frames ⇄ Data, Skip         a hole inside a payload: its end is known, frames go on there
//!                           ▲  │
//!                  frames   │  │ a hole over a frame header, nonsense: header compression is unknown from here
//!                  for sure └─ Seek ◀─ joined in mid-stream
//! ```
//!
//! A hole that may have hidden frames puts the open streams in doubt: a message that had not ended may have ended there.
//! The other direction's end, or ten quiet seconds, then end the exchange, marked with the bytes that are missing.

mod control;
mod detect;
mod feed;
pub(in crate::protocol) mod frame;
mod heads;
pub mod hpack;
mod loss;
mod messages;
mod seek;
pub mod snapshot;
mod stream;
#[cfg(test)]
mod tests;
mod upgrade;

use std::collections::BTreeMap;
use std::time::Duration;

use self::feed::{Block, State};
use self::frame::Header;
pub(crate) use self::frame::error_name;
use self::hpack::Decoder;
use self::seek::Seeker;
pub use self::snapshot::Learned;
use self::stream::Stream;
use super::http1::exchange::{Half, OPEN_BYTES, Open};
use super::reader::Reader;
use super::registry::Spec;
use crate::operation::{Completeness, Interaction, Operation};
use crate::protocol::Snapshot;
use crate::protocol::snapshot::{Past, Texts};
use crate::protocol::{Discard, End, Event, Events, Want};
use crate::record::{Mark, OpId, Point, Role, Sender};
use crate::settings::Protocols;
use crate::time::BootTime;

/// A skip shorter than this is not worth a verdict.
const MIN_SKIP: u64 = 64 << 10;
/// Bytes before the end of a payload that are captured again, so that the next frame is seen.
const SKIP_MARGIN: u64 = 16 << 10;
/// Open exchanges of one connection retain at most this many times the bounds of a single one.
const RETAINED_FACTOR: usize = 8;
/// The initial `SETTINGS_MAX_FRAME_SIZE` (RFC 9113, section 6.5.2).
const DEFAULT_MAX_FRAME: u32 = 16_384;
/// A message in doubt counts as over when nothing more of it came for so long.
const DOUBT: Duration = Duration::from_secs(10);

pub(super) const SPEC: Spec = Spec {
    name: "http",
    title: "HTTP/2",
    interaction: Interaction::Call,
    ports: &[50051..=50051],
    sniff: detect::sniff,
    weak_sender: None,
    session: |role, limits| Box::new(Http2Session::new(role, limits)),
    shared: None,
    #[cfg(test)]
    example: tests::example,
};

/// One HTTP/2 connection.
#[derive(Debug)]
pub struct Http2Session {
    role: Role,
    kept_body_bytes: usize,
    max_header_bytes: usize,
    max_open: usize,
    request: Way,
    response: Way,
    /// Open exchanges by stream.
    streams: BTreeMap<u32, Stream>,
    /// The highest stream of the client that was seen: identifiers only grow (RFC 9113, section 5.1.1).
    last_stream: u32,
    /// Bytes retained by `streams`.
    retained: usize,
    /// Streams may be in doubt.
    has_doubts: bool,
}

/// One direction.
#[derive(Debug)]
struct Way {
    reader: Reader,
    state: State,
    hpack: Decoder,
    /// A header block that goes on in CONTINUATION frames.
    block: Option<Block>,
    /// Bytes of fields in the last header section, or half as many as before it.
    fields_len: usize,
    seeker: Seeker,
    /// The largest payload its receiver ever allowed (`SETTINGS_MAX_FRAME_SIZE`). `None`: not known.
    max_frame: Option<u32>,
    /// After the last byte that was moved.
    last: Point,
    /// Nothing came yet.
    is_new: bool,
    /// No frame came yet: a server's first one is SETTINGS.
    is_first: bool,
}

impl Way {
    fn new(state: State, from_start: bool, is_new: bool) -> Way {
        Way {
            reader: Reader::default(),
            state,
            hpack: Decoder::new(from_start),
            block: None,
            fields_len: 0,
            seeker: Seeker::default(),
            max_frame: from_start.then_some(DEFAULT_MAX_FRAME),
            last: Point::default(),
            is_new,
            is_first: from_start,
        }
    }

    /// Its receiver takes a payload of this length (RFC 9113, section 4.2). Where that is not known, a type that is not
    /// known must keep to the initial limit: nobody sends large ones, but bytes that are no frames look like that.
    fn allows(&self, header: &Header) -> bool {
        match self.max_frame {
            Some(max) => header.len <= max,
            None => header.len <= DEFAULT_MAX_FRAME || header.is_known(),
        }
    }

    /// Bytes that it holds.
    fn held(&self) -> usize {
        let block = self.block.as_ref().map_or(0, |block| block.bytes.capacity());
        self.reader.held() + self.hpack.held() + block
    }

    /// Its receiver may have allowed more, unseen.
    fn forget_limits(&mut self) {
        self.max_frame = None;
        self.hpack.forget_limit();
    }

    /// Where the next frame starts is not known any more, nor what the compression's table holds.
    fn lose(&mut self) {
        self.state = State::Seek;
        self.hpack.lose();
        self.block = None;
        self.seeker = Seeker::default();
        self.is_first = false;
    }
}

impl Http2Session {
    /// `role` is that of the observed process on this connection.
    pub fn new(role: Role, limits: &Protocols) -> Http2Session {
        let way = || Way::new(State::Seek, false, true);
        Http2Session::with(role, limits, way(), way())
    }

    /// The connection after `101 Switching Protocols`: `open` is the request that asked for it, now stream 1, whole and
    /// half-closed (RFC 7540, section 3.2). Both directions start afresh.
    pub(in crate::protocol) fn upgraded(role: Role, limits: &Protocols, open: Open) -> Http2Session {
        let request = Way::new(State::Preface, true, false);
        let response = Way::new(State::Frames, true, false);
        let mut session = Http2Session::with(role, limits, request, response);
        if let Some(size) = upgrade::header_table_size(&open.exchange) {
            session.response.hpack.allow(size);
        }
        session.retained = open.retained;
        session.last_stream = 1;
        session.streams.insert(1, Stream::upgraded(open));
        session
    }

    fn with(role: Role, limits: &Protocols, request: Way, response: Way) -> Http2Session {
        Http2Session {
            role,
            kept_body_bytes: limits.kept_body_bytes,
            max_header_bytes: limits.max_header_bytes,
            max_open: limits.max_open_operations.max(1),
            request,
            response,
            streams: BTreeMap::new(),
            last_stream: 0,
            retained: 0,
            has_doubts: false,
        }
    }

    /// Exchanges open at the moment.
    pub fn open_count(&self) -> usize {
        self.streams.len()
    }

    /// The first byte of a connection begins both directions; one that is seen later was joined in mid-stream.
    fn first_sight(&mut self, half: Half, pos: u64) {
        let other = match half {
            Half::Request => Half::Response,
            Half::Response => Half::Request,
        };
        if !std::mem::take(&mut self.way(half).is_new) {
            return;
        }
        if pos > 0 {
            *self.way(half) = Way::new(State::Seek, false, false);
        } else if self.way(other).is_new {
            self.request = Way::new(State::Preface, true, half == Half::Response);
            self.response = Way::new(State::Frames, true, half == Half::Request);
        } else if !self.way(half).is_first {
            let state = if half == Half::Request { State::Preface } else { State::Frames };
            *self.way(half) = Way::new(state, true, false);
        }
    }

    fn way(&mut self, half: Half) -> &mut Way {
        match half {
            Half::Request => &mut self.request,
            Half::Response => &mut self.response,
        }
    }

    fn retained_max(&self) -> usize {
        self.kept_body_bytes.saturating_add(self.max_header_bytes).saturating_mul(RETAINED_FACTOR)
    }

    /// Closes an exchange that was taken out of `streams`.
    fn close(&mut self, stream: Stream, at: BootTime, completeness: Completeness, out: &mut Events) {
        self.retained = self.retained.saturating_sub(stream.open.retained);
        out.push(Event::Closed(Box::new(stream.close(self.role, at, completeness))));
    }
}

fn half_of(from: Sender) -> Half {
    match from {
        Sender::Client => Half::Request,
        Sender::Server => Half::Response,
    }
}

impl super::Session for Http2Session {
    fn bytes(&mut self, from: Sender, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events) {
        let half = half_of(from);
        self.first_sight(half, pos);
        self.feed(half, pos, bytes, mark, out);
        let end = pos.saturating_add(bytes.len() as u64);
        self.way(half).last = mark.point(end);
    }

    fn begins_at(&mut self, from: Sender, _: u64) {
        // The same as a first byte at position 0.
        self.first_sight(half_of(from), 0);
    }

    fn gap(&mut self, from: Sender, pos: u64, len: u64, mark: Mark, out: &mut Events) {
        if len == 0 {
            return;
        }
        let half = half_of(from);
        self.first_sight(half, pos);
        self.hole(half, pos, len, mark, out);
        let end = pos.saturating_add(len);
        self.way(half).last = mark.point(end);
    }

    fn end(&mut self, end: End, at: BootTime, out: &mut Events) {
        for half in [Half::Request, Half::Response] {
            let bytes = self.way(half).reader.reset() as u64;
            if bytes > 0 {
                out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
            }
        }
        while let Some((_, stream)) = self.streams.pop_first() {
            let completeness = match end {
                _ if stream.open.answered => Completeness::Complete,
                End::Closed | End::Reset if stream.is_in_doubt() => Completeness::Gap(stream.open.gap_len),
                End::Closed | End::Reset => Completeness::Cut,
                End::Abandoned => Completeness::Abandoned,
            };
            let at = match stream.open.response {
                Some(response) if stream.open.answered => response.end.at,
                _ => at,
            };
            self.close(stream, at, completeness, out);
        }
        debug_assert_eq!(self.retained, 0, "what is retained has drifted");
        self.request.lose();
        self.response.lose();
    }

    fn held(&self) -> usize {
        let ways = self.request.held() + self.response.held();
        size_of::<Self>() + ways + self.streams.len() * (size_of::<Stream>() + OPEN_BYTES) + self.retained
    }

    fn relieve(&mut self) {
        for stream in self.streams.values_mut() {
            self.retained = self.retained.saturating_sub(stream.open.forget_bodies());
        }
    }

    fn timeout(&mut self, now: BootTime, out: &mut Events) {
        if self.has_doubts {
            self.settle_doubts(now, out);
        }
    }

    fn peek(&self, op: OpId) -> Option<Operation> {
        self.streams.values().find(|stream| stream.open.id == op)?.open.peek(self.role)
    }

    fn want(&self, from: Sender) -> Want {
        let (half, way) = match from {
            Sender::Client => (Half::Request, &self.request),
            Sender::Server => (Half::Response, &self.response),
        };
        let left = match &way.state {
            _ if !way.reader.is_empty() => 0,
            State::Data(data) => {
                let stream = self.streams.get(&data.stream);
                let satisfied = stream.is_none_or(|stream| stream.is_satisfied(half, self.kept_body_bytes));
                if satisfied { u64::from(data.left) } else { 0 }
            }
            State::Skip(left) => *left,
            _ => 0,
        };
        let skip = left.saturating_sub(SKIP_MARGIN);
        if skip >= MIN_SKIP { Want::Skip(skip) } else { Want::All }
    }

    fn export(&self, _: &mut Texts) -> Option<Snapshot> {
        self.learned().map(Snapshot::Http2)
    }

    fn import(&mut self, past: &Past<'_>) -> bool {
        match past.learned {
            Snapshot::Http2(learned) if past.unbroken => {
                self.resume(learned);
                true
            }
            _ => false,
        }
    }
}
