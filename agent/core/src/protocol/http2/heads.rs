//! Header blocks → the beginnings and ends of messages.
//!
//! *Owns* what a header section says of its exchange. *Must not know* frames.
//! *Spec*: RFC 9113, sections 8.1 to 8.3.

use super::feed::BlockOf;
use super::hpack::{Decoder, Field, Malformed};
use super::stream::Stream;
use super::{Half, Http2Session};
use crate::operation::Completeness;
use crate::operation::http::{Exchange, Headers, bounded_authority, bounded_target};
use crate::protocol::http1::exchange::{self, Open};
use crate::protocol::http1::start_line::MAX_METHOD_LEN;
use crate::protocol::{Discard, Event, Events};

/// Room for fields of a message that are longer than in the one before.
const SPARE_LEN: usize = 16;
/// Most bytes of fields for which room is made before they are read.
const MAX_EXPECTED_LEN: usize = 2048;

/// A header section, read before it is known whose it is.
#[derive(Debug, Default)]
struct Section {
    method: Option<String>,
    path: Option<String>,
    is_path_cut: bool,
    authority: Option<String>,
    is_https: bool,
    status: Option<u16>,
    /// What tells heads from trailers: pseudo-header fields come first.
    first: First,
    headers: Headers,
    /// Bytes of fields that there will be, most likely: as many as the last time.
    expected_len: usize,
    unknown: u32,
    /// Bytes left out because of the bound.
    over_len: u64,
    /// As both ends count it.
    size: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum First {
    /// No field, or one whose name cannot be known, and no pseudo-header field behind it.
    #[default]
    Unknown,
    /// There is a pseudo-header field of requests, or of responses.
    Request,
    Response,
    /// The first one is no pseudo-header field.
    Regular,
}

impl Section {
    fn take(&mut self, field: Field<'_>, bound: usize) {
        let is_first = self.size == 0;
        self.size = self.size.saturating_add(field.size());
        self.first = match field.name {
            Some(b":status") => First::Response,
            Some([b':', ..]) => First::Request,
            Some(_) if is_first => First::Regular,
            _ => self.first,
        };
        let (Some(name), Some(value)) = (field.name, field.value) else {
            self.unknown = self.unknown.saturating_add(1);
            return;
        };
        if self.size > bound {
            self.over_len = self.over_len.saturating_add((name.len().saturating_add(value.len())) as u64);
            return;
        }
        match name {
            // No method is as long; what is cut is none that is known.
            b":method" => {
                self.method =
                    Some(String::from_utf8_lossy(value.get(..MAX_METHOD_LEN).unwrap_or(value)).into_owned())
            }
            b":path" => {
                let (path, is_cut) = bounded_target(value);
                (self.path, self.is_path_cut) = (Some(path), is_cut);
            }
            b":authority" => self.authority = Some(bounded_authority(&String::from_utf8_lossy(value))),
            b":scheme" => self.is_https = value.eq_ignore_ascii_case(b"https"),
            b":status" => self.status = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
            [b':', ..] => {}
            _ => {
                if self.headers.is_empty() {
                    self.headers.reserve(self.expected_len.saturating_add(SPARE_LEN));
                }
                self.headers.push(name, value);
            }
        }
    }

    fn read(
        decoder: &mut Decoder,
        block: &[u8],
        is_cut: bool,
        bound: usize,
        expected_len: usize,
    ) -> (Section, Result<(), Malformed>) {
        let mut section = Section { expected_len, ..Section::default() };
        let result = match is_cut {
            false => decoder.decode(block, |field| section.take(field, bound)),
            true => decoder.decode_beginning(block, |field| section.take(field, bound)),
        };
        (section, result)
    }

    /// The exchange that a request's header section begins.
    fn into_exchange(self, stream: u32) -> Exchange {
        let mut exchange = Exchange {
            version: "2",
            method: self.method.unwrap_or_default(),
            target: self.path.unwrap_or_default(),
            target_cut: self.is_path_cut,
            request_headers: self.headers,
            ..Exchange::default()
        };
        exchange.http2.stream = stream;
        exchange.http2.is_https = self.is_https;
        exchange.http2.unknown_fields = self.unknown;
        let host = || {
            let host = exchange.request_headers.get("host").unwrap_or_default();
            bounded_authority(&String::from_utf8_lossy(host))
        };
        exchange.authority = self.authority.filter(|named| !named.is_empty()).unwrap_or_else(host);
        if exchange.method == "CONNECT" && exchange.target.is_empty() {
            // It has no path (RFC 9113, section 8.5).
            exchange.target.clone_from(&exchange.authority);
        }
        exchange
    }
}

impl Http2Session {
    /// A whole header block.
    pub(super) fn header_block(&mut self, half: Half, of: BlockOf, block: &[u8], out: &mut Events) {
        self.section(half, of, block, None, out);
    }

    /// The beginning of a header block of which `missing` bytes, or for another reason the rest, cannot be read.
    pub(super) fn header_block_cut(
        &mut self,
        half: Half,
        of: BlockOf,
        block: &[u8],
        missing: u64,
        out: &mut Events,
    ) {
        self.section(half, of, block, Some(missing), out);
    }

    fn section(&mut self, half: Half, of: BlockOf, block: &[u8], cut: Option<u64>, out: &mut Events) {
        let room = self.retained_max().saturating_sub(self.retained);
        let bound = self.max_header_bytes.min(room);
        let way = self.way(half);
        let expected = way.fields_len;
        let (mut section, result) = Section::read(&mut way.hpack, block, cut.is_some(), bound, expected);
        // Trailers, which are short, come in between.
        way.fields_len = section.headers.bytes_len().max(expected / 2).min(MAX_EXPECTED_LEN);
        if section.over_len > 0 {
            out.push(Event::Discarded { reason: Discard::Limit, bytes: section.over_len });
        }
        if result.is_err() {
            out.push(Event::Discarded { reason: Discard::Invalid, bytes: block.len() as u64 });
            // The receiver closes the connection over it, or the context was not what we thought.
            section = Section::default();
        }
        // Streams that a server opens answer requests nobody sent (section 8.4).
        if of.is_promise || of.stream.is_multiple_of(2) {
            return;
        }
        match half {
            Half::Request => self.request_section(of, section, cut, out),
            Half::Response => self.response_section(of, section, cut, out),
        }
        self.last_stream = self.last_stream.max(of.stream);
    }

    fn request_section(&mut self, of: BlockOf, section: Section, cut: Option<u64>, out: &mut Events) {
        if !self.streams.contains_key(&of.stream) {
            // Trailers of a stream that is not known end it; a new stream's identifier is higher than all before.
            let is_new = of.stream > self.last_stream && (self.last_stream > 0 || !of.ends_stream);
            let is_head = match section.first {
                First::Request => true,
                First::Response | First::Regular => false,
                First::Unknown => is_new,
            };
            if !is_head {
                let bytes = of.end.pos.saturating_sub(of.start.pos);
                out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
                return;
            }
            self.open(of, section, out);
        }
        let Some(stream) = self.streams.get_mut(&of.stream) else { return };
        stream.open.gap_len = stream.open.gap_len.saturating_add(cut.unwrap_or(0));
        self.extend(Half::Request, of.stream, of.end);
        if of.ends_stream {
            self.message_ends(Half::Request, of.stream, of.end, out);
        }
    }

    fn open(&mut self, of: BlockOf, section: Section, out: &mut Events) {
        while self.streams.len() >= self.max_open
            && let Some((_, oldest)) = self.streams.pop_first()
        {
            out.push(Event::Discarded { reason: Discard::Limit, bytes: 0 });
            self.close(oldest, of.start.at, Completeness::Abandoned, out);
        }
        let exchange = section.into_exchange(of.stream);
        let mut open = Open::new(out.new_op(), of.start, exchange);
        let kept = &open.exchange;
        open.retained =
            kept.method.len() + kept.target.len() + kept.authority.len() + kept.request_headers.bytes_len();
        self.retained = self.retained.saturating_add(open.retained);
        out.push(Event::Opened { op: open.id, shape: exchange::shape(self.role), point: of.start });
        let mut stream = Stream::new(open);
        stream.has_request_head();
        self.streams.insert(of.stream, stream);
    }

    fn response_section(&mut self, of: BlockOf, mut section: Section, cut: Option<u64>, out: &mut Events) {
        let Some(stream) = self.streams.get_mut(&of.stream) else {
            // It answers a request that was not seen.
            let bytes = of.end.pos.saturating_sub(of.start.pos);
            out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
            return;
        };
        let is_trailers = of.ends_stream
            && match section.first {
                First::Regular => true,
                First::Response => false,
                // Nothing but trailers comes behind the head or content.
                First::Request | First::Unknown => {
                    stream.has_head || stream.open.exchange.response_body.len > 0
                }
            };
        if of.ends_stream && !is_trailers && section.first == First::Unknown && stream.is_in_doubt() {
            // The head, or trailers behind one that was lost: whose fields these are cannot be known.
            let fields = u32::try_from(section.headers.len()).unwrap_or(u32::MAX);
            section.unknown = section.unknown.saturating_add(fields);
            section.headers = Headers::default();
        }
        // 1xx responses come before the final one, which ends the stream or is followed by DATA (section 8.1).
        let is_interim = !is_trailers && section.status.is_some_and(|status| (100..200).contains(&status));
        stream.open.gap_len = stream.open.gap_len.saturating_add(cut.unwrap_or(0));
        if !is_interim {
            let more = section.headers.bytes_len();
            stream.open.retained = stream.open.retained.saturating_add(more);
            self.retained = self.retained.saturating_add(more);
            let exchange = &mut stream.open.exchange;
            exchange.http2.unknown_fields = exchange.http2.unknown_fields.saturating_add(section.unknown);
            if is_trailers {
                exchange.http2.trailers = section.headers;
            } else {
                exchange.status = section.status.or(exchange.status);
                exchange.response_headers = section.headers;
                if !stream.has_head && section.first == First::Response {
                    stream.undoubt_response();
                }
                stream.has_head = true;
            }
            self.response_begins(of.stream, of.start);
        }
        self.extend(Half::Response, of.stream, of.end);
        if of.ends_stream {
            self.message_ends(Half::Response, of.stream, of.end, out);
        }
    }
}
