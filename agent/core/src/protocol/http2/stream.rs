//! One stream on its way: filled from both directions, turned into an operation when both messages are over.
//!
//! *Owns* what is kept of a stream, and when it is over. *Must not know* frames.
//! *Spec*: RFC 9113, section 5.1.

use super::messages::Messages;
use super::{DOUBT, Half, Http2Session};
use crate::operation::http::Reset;
use crate::operation::{Completeness, Extent, Operation};
use crate::protocol::http1::exchange::Open;
use crate::protocol::http1::multipart::Multipart;
use crate::protocol::{Event, Events};
use crate::record::{Point, Role};
use crate::time::BootTime;

/// An exchange that was opened and not closed yet.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) open: Open,
    /// The final response's header section was seen.
    pub(super) has_head: bool,
    /// Each message may have ended in a hole.
    request_doubt: Option<Doubt>,
    response_doubt: Option<Doubt>,
    /// Messages of a gRPC call.
    request_messages: Option<Messages>,
    response_messages: Option<Messages>,
}

/// A hole in which frames of a message may have been.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// When the hole, or the last frame since, was seen.
    since: BootTime,
    /// Bytes of the hole.
    bytes: u64,
}

impl Stream {
    pub(super) fn new(open: Open) -> Stream {
        Stream {
            open,
            has_head: false,
            request_doubt: None,
            response_doubt: None,
            request_messages: None,
            response_messages: None,
        }
    }

    /// The request of an upgrade: it is over, and `101` was its first response.
    pub(super) fn upgraded(mut open: Open) -> Stream {
        open.requested = true;
        open.answered = false;
        open.exchange.status = None;
        open.exchange.response_headers = Default::default();
        open.exchange.http2.stream = 1;
        Stream::new(open)
    }

    /// The request's header section is complete.
    pub(super) fn has_request_head(&mut self) {
        self.open.multipart = Multipart::of(&self.open.exchange.request_headers);
        if self.open.exchange.is_grpc() {
            self.request_messages = Some(Messages::default());
            self.response_messages = Some(Messages::default());
        }
    }

    fn doubt(&mut self, half: Half) -> &mut Option<Doubt> {
        match half {
            Half::Request => &mut self.request_doubt,
            Half::Response => &mut self.response_doubt,
        }
    }

    fn messages(&mut self, half: Half) -> &mut Option<Messages> {
        match half {
            Half::Request => &mut self.request_messages,
            Half::Response => &mut self.response_messages,
        }
    }

    fn is_over(&self, half: Half) -> bool {
        match half {
            Half::Request => self.open.requested,
            Half::Response => self.open.answered,
        }
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.request_doubt.is_some() || self.response_doubt.is_some()
    }

    /// Nothing but the length of this body's coming bytes is of use.
    pub(super) fn is_satisfied(&self, half: Half, bound: usize) -> bool {
        let messages = match half {
            Half::Request => &self.request_messages,
            Half::Response => &self.response_messages,
        };
        self.open.is_satisfied(half, bound) && messages.as_ref().is_none_or(Messages::is_inside)
    }

    /// A message of `half` may have gone on, or ended, in a hole of `bytes`.
    pub(super) fn doubts(&mut self, half: Half, bytes: u64, since: BootTime) {
        if self.is_over(half) {
            return;
        }
        let doubt = self.doubt(half);
        let before = doubt.map_or(0, |doubt| doubt.bytes);
        *doubt = Some(Doubt { since, bytes: before.saturating_add(bytes) });
        self.open.content_doubt(half, bytes);
        if let Some(messages) = self.messages(half) {
            messages.lose();
        }
    }

    /// The response begins: nothing of it was in a hole before.
    pub(super) fn undoubt_response(&mut self) {
        if let Some(doubt) = self.response_doubt.take() {
            self.open.gap_len = self.open.gap_len.saturating_sub(doubt.bytes);
            self.open.exchange.response_body.holed = false;
            if let Some(messages) = &mut self.response_messages {
                *messages = Messages::default();
            }
        }
    }

    pub(super) fn close(mut self, role: Role, at: BootTime, completeness: Completeness) -> Operation {
        let http2 = &mut self.open.exchange.http2;
        http2.request_messages = self.request_messages.and_then(|messages| messages.count());
        http2.response_messages = self.response_messages.and_then(|messages| messages.count());
        self.open.close(role, at, completeness)
    }
}

impl Http2Session {
    /// A frame of this message was seen up to `end`.
    pub(super) fn extend(&mut self, half: Half, id: u32, end: Point) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(doubt) = stream.doubt(half) {
            doubt.since = end.at;
        }
        match half {
            Half::Request if !stream.open.requested => stream.open.request.end = end,
            Half::Response => {
                if let Some(response) = &mut stream.open.response {
                    response.end = end;
                }
            }
            Half::Request => {}
        }
    }

    /// A DATA frame begins at `start`: it is the beginning of a response whose header section was lost.
    pub(super) fn data_begins(&mut self, half: Half, id: u32, start: Point) {
        if half == Half::Response {
            self.response_begins(id, start);
        }
    }

    /// Content of a body, one part after the other.
    pub(super) fn content(&mut self, half: Half, id: u32, content: &[u8]) {
        let room = self.retained_max().saturating_sub(self.retained);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let kept_len = match half {
            Half::Request => stream.open.exchange.request_body.bytes.len(),
            Half::Response => stream.open.exchange.response_body.bytes.len(),
        };
        let bound = self.kept_body_bytes.min(kept_len.saturating_add(room));
        let more = stream.open.content(half, content, bound);
        if let Some(messages) = stream.messages(half) {
            messages.feed(content);
        }
        stream.open.retained = stream.open.retained.saturating_add(more);
        self.retained = self.retained.saturating_add(more);
    }

    /// `len` bytes of a body are in a hole.
    pub(super) fn content_gap(&mut self, half: Half, id: u32, len: u64) {
        let bound = self.kept_body_bytes;
        let Some(stream) = self.streams.get_mut(&id).filter(|_| len > 0) else { return };
        stream.open.content_gap(half, len, bound);
        if let Some(messages) = stream.messages(half) {
            messages.gap(len);
        }
    }

    /// END_STREAM (section 5.1): this side sends no more on the stream.
    pub(super) fn message_ends(&mut self, half: Half, id: u32, end: Point, out: &mut Events) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        *stream.doubt(half) = None;
        let open = &mut stream.open;
        match half {
            Half::Request if !open.requested => {
                open.request.end = end;
                open.requested = true;
                open.multipart = None;
                out.push(Event::Requested { op: open.id, point: end });
            }
            Half::Request => {}
            Half::Response => {
                open.answered = true;
                if let Some(response) = &mut open.response {
                    response.end = end;
                }
            }
        }
        // A request whose end may have been in a hole is over when its response is: servers answer whole requests.
        if open.answered && (open.requested || stream.request_doubt.is_some()) {
            self.finish(id, end.at, None, Completeness::Complete, out);
        }
    }

    /// The first byte of a response.
    pub(super) fn response_begins(&mut self, id: u32, start: Point) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.open.response.is_none() {
            stream.open.response = Some(Extent { start, end: start });
        }
    }

    /// Closes an exchange. `reset`: how it was ended early.
    pub(super) fn finish(
        &mut self,
        id: u32,
        at: BootTime,
        reset: Option<Reset>,
        completeness: Completeness,
        out: &mut Events,
    ) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        // After the response's end, a reset only says that the rest of the request is not wanted (section 8.1).
        if !stream.open.answered {
            stream.open.exchange.http2.reset = reset;
        }
        self.close(stream, at, completeness, out);
    }

    /// Closes what was in doubt for too long: its end was in the hole.
    pub(super) fn settle_doubts(&mut self, now: BootTime, out: &mut Events) {
        let is_old = |doubt: &Doubt| now.since(doubt.since) >= DOUBT;
        let over: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.response_doubt.as_ref().is_some_and(is_old))
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            let Some(stream) = self.streams.remove(&id) else { continue };
            let missing = stream.open.gap_len;
            self.close(stream, now, Completeness::Gap(missing), out);
        }
        self.has_doubts = self.streams.values().any(Stream::is_in_doubt);
    }
}
