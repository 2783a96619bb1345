//! RST_STREAM, SETTINGS and GOAWAY → what they end or change.
//!
//! *Owns* their payloads. *Must not know* where frames end.
//! *Spec*: RFC 9113, sections 6.4, 6.5 and 6.8.

use super::frame::{self, Header};
use super::{Half, Http2Session};
use crate::operation::Completeness;
use crate::operation::http::Reset;
use crate::protocol::Events;
use crate::record::{Point, Sender};

/// Identifiers of settings (section 6.5.2).
pub(super) const HEADER_TABLE_SIZE: u16 = 1;
const MAX_FRAME_SIZE: u16 = 5;

impl Http2Session {
    pub(super) fn control(
        &mut self,
        half: Half,
        header: Header,
        payload: &[u8],
        end: Point,
        out: &mut Events,
    ) {
        match header.kind {
            frame::RST_STREAM => self.reset(half, header.stream, payload, end, out),
            frame::GOAWAY => self.goaway(half, payload, end, out),
            frame::SETTINGS if !header.has(frame::ACK) => self.settings(half, payload),
            _ => {}
        }
    }

    fn reset(&mut self, half: Half, id: u32, payload: &[u8], end: Point, out: &mut Events) {
        let Some(code) = number(payload, 0) else { return };
        self.extend(half, id, end);
        let reset = Reset { by: sender(half), code, goaway: false };
        self.finish(id, end.at, Some(reset), Completeness::Complete, out);
    }

    /// The server says which streams it took up; the others may be tried again elsewhere. A client's says nothing of its own.
    fn goaway(&mut self, half: Half, payload: &[u8], end: Point, out: &mut Events) {
        let (Some(last), Some(code)) = (number(payload, 0), number(payload, 4)) else { return };
        if half == Half::Request {
            return;
        }
        let last = last & 0x7fff_ffff;
        while let Some((&id, stream)) = self.streams.last_key_value()
            && id > last
            && stream.open.response.is_none()
        {
            let reset = Reset { by: Sender::Server, code, goaway: true };
            self.finish(id, end.at, Some(reset), Completeness::Complete, out);
        }
    }

    /// What a side says of itself holds for what the other one sends.
    fn settings(&mut self, half: Half, payload: &[u8]) {
        let other = match half {
            Half::Request => &mut self.response,
            Half::Response => &mut self.request,
        };
        for (identifier, value) in settings(payload) {
            match identifier {
                HEADER_TABLE_SIZE => other.hpack.allow(value),
                MAX_FRAME_SIZE => other.max_frame = other.max_frame.map(|max| max.max(value)),
                _ => {}
            }
        }
    }
}

/// Identifiers and values of a SETTINGS payload.
pub(super) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.chunks_exact(6).filter_map(|setting| match *setting {
        [a, b, c, d, e, f] => Some((u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))),
        _ => None,
    })
}

fn number(payload: &[u8], at: usize) -> Option<u32> {
    payload.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

fn sender(half: Half) -> Sender {
    match half {
        Half::Request => Sender::Client,
        Half::Response => Sender::Server,
    }
}
