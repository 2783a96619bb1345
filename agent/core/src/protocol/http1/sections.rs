//! Header sections and bodies of both directions → filled exchanges; then whatever a tunnel carries, counted.
//!
//! *Owns* what is decided once a header section is complete. *Must not know* how messages start.

use super::body::{self, Body, Framing, Progress};
use super::exchange::{Half, Open};
use super::multipart::Multipart;
use super::{Http1Session, State, current};
use crate::operation::Completeness;
use crate::operation::http::{Exchange, Headers, bounded_authority};
use crate::protocol::reader::Input;
use crate::protocol::{Discard, Event, Events, Session as _, http2};
use crate::record::{Point, Sender};
use crate::settings::Protocols;

impl Http1Session {
    pub(super) fn request_head(&mut self, input: &mut Input<'_>, out: &mut Events) -> bool {
        let Some(end_len) = self.fields(Half::Request, input) else { return false };
        let end = input.point_after(end_len);
        input.advance(end_len);
        self.report_head(Half::Request, out);
        let Some(open) = current(&mut self.open, self.request.op) else {
            return self.not_a_start(Half::Request, input, out);
        };
        let exchange = &mut open.exchange;
        let (framing, odd) = body::request_framing(&exchange.request_headers, exchange.version);
        exchange.ambiguous_framing |= odd;
        exchange.authority = authority(exchange);
        if framing != Framing::None {
            open.multipart = Multipart::of(&exchange.request_headers);
        }
        match Body::new(framing) {
            Some(body) => self.request.state = State::Body(body),
            None if framing == Framing::Unknown => {
                self.request.lose();
                self.lost_message(Half::Request, out);
                input.advance(usize::MAX);
            }
            None => self.request_ends(end, out),
        }
        true
    }

    pub(super) fn response_head(&mut self, input: &mut Input<'_>, out: &mut Events) -> bool {
        if self.response.state == State::InterimHead {
            let mut ignored = Default::default();
            let Some(end_len) = self.response.head.fields(input, &mut ignored, self.max_header_bytes, 0)
            else {
                return false;
            };
            input.advance(end_len);
            self.response.next_message();
            return true;
        }
        let Some(end_len) = self.fields(Half::Response, input) else { return false };
        let end = input.point_after(end_len);
        input.advance(end_len);
        self.report_head(Half::Response, out);
        if self.upgrades_to_http2() {
            self.http2_begins(end, out);
            return true;
        }
        let Some(open) = current(&mut self.open, self.response.op) else {
            return self.not_a_start(Half::Response, input, out);
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
            None if framing == Framing::Unknown => {
                self.response.lose();
                input.advance(usize::MAX);
            }
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
            return stream.head.fields(input, &mut Default::default(), self.max_header_bytes, 0);
        };
        let headers = open.headers(half);
        let before = headers.bytes_len();
        let end = stream.head.fields(input, headers, self.max_header_bytes, bound);
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

    pub(super) fn body(&mut self, half: Half, input: &mut Input<'_>, out: &mut Events) -> bool {
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
                self.lost_message(half, out);
            }
        }
        true
    }

    pub(super) fn pass(&mut self, half: Half, input: &mut Input<'_>, out: &mut Events) -> bool {
        if let Some(next) = &mut self.upgraded {
            // What came in the record of the `101` behind it.
            let from = if half == Half::Request { Sender::Client } else { Sender::Server };
            next.bytes(from, input.pos(), input.rest(), input.latest(), out);
        }
        self.passed_len = self.passed_len.saturating_add(input.advance(usize::MAX) as u64);
        true
    }

    pub(super) fn message_ends(&mut self, half: Half, end: Point, out: &mut Events) {
        match half {
            Half::Request => self.request_ends(end, out),
            Half::Response => self.response_ends(end, out),
        }
    }

    /// The client offered HTTP/2 and the server took it (RFC 7540, section 3.2). The request must be whole: the rest of a
    /// body would come in the way of the preface.
    fn upgrades_to_http2(&self) -> bool {
        let switches = |open: &&Open| open.exchange.status == Some(101) && open.requested;
        let Some(open) = self.open.front().filter(switches) else { return false };
        let names = |headers: &Headers| {
            let protocols = headers.get("upgrade").unwrap_or_default().split(|byte| *byte == b',');
            protocols.into_iter().any(|name| name.trim_ascii().eq_ignore_ascii_case(b"h2c"))
        };
        names(&open.exchange.request_headers) && names(&open.exchange.response_headers)
    }

    /// The request stays open: its response comes on stream 1.
    fn http2_begins(&mut self, end: Point, out: &mut Events) {
        let Some(mut open) = self.open.pop_front() else { return };
        self.retained = self.retained.saturating_sub(open.retained);
        if let Some(response) = &mut open.response {
            response.end = end;
        }
        let limits = Protocols {
            kept_body_bytes: self.kept_body_bytes,
            max_header_bytes: self.max_header_bytes,
            max_open_operations: self.max_open,
            ..Protocols::default()
        };
        let mut next = http2::Http2Session::upgraded(self.role, &limits, open);
        let early = self.request.reader.rest();
        if !early.is_empty() {
            let last = self.request.last;
            let pos = last.pos.saturating_sub(early.len() as u64);
            let mark = last.mark(end.pos);
            next.bytes(Sender::Client, pos, early, mark, out);
        }
        self.upgraded = Some(Box::new(next));
        self.tunnel_begins(end, out);
    }

    pub(super) fn tunnel_begins(&mut self, end: Point, out: &mut Events) {
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
}

/// The host the request names: an absolute-form target outweighs `Host` (RFC 9112, section 3.2.2).
fn authority(exchange: &Exchange) -> String {
    match exchange.absolute() {
        Some((authority, _)) => bounded_authority(authority),
        None if exchange.method == "CONNECT" => bounded_authority(&exchange.target),
        None => bounded_authority(&String::from_utf8_lossy(
            exchange.request_headers.get("host").unwrap_or_default(),
        )),
    }
}
