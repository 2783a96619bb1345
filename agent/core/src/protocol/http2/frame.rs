//! Nine bytes → a frame header; and how much bytes look like frames.
//!
//! *Owns* the frame header, what each type must look like, and the evidence for a frame boundary. *Must not know* streams'
//! states, who is connected.
//! *Spec*: RFC 9113, sections 4 and 6; RFC 7838 (ALTSVC), RFC 8336 (ORIGIN), RFC 9218 (PRIORITY_UPDATE).

use super::hpack;
use crate::record::Sender;

/// The client's preface (section 3.4).
pub(in crate::protocol) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame header.
pub(in crate::protocol) const HEADER_LEN: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
const ALTSVC: u8 = 10;
const ORIGIN: u8 = 12;
const PRIORITY_UPDATE: u8 = 16;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const WITH_PRIORITY: u8 = 0x20;

/// Longest frame believed while looking for a boundary. Few peers allow more than the initial 16 KiB.
const MAX_LIKELY_LEN: u32 = 1 << 20;
/// Streams are believed to be numbered up to here while looking for a boundary.
const MAX_LIKELY_STREAM: u32 = 1 << 28;
/// The highest error code in use (section 7).
const MAX_ERROR: u32 = 0xd;

/// A frame header: length (24 bits), type, flags, stream identifier (31 bits), all big-endian (section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Of the payload.
    pub(super) len: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Header {
    /// `None`: there are not nine bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Header> {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes.first_chunk::<HEADER_LEN>()?;
        Some(Header {
            len: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            // The reserved bit is ignored (section 4.1).
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_len(&self) -> usize {
        HEADER_LEN.saturating_add(self.len as usize)
    }

    /// What the receiver would answer with a connection error: no peer goes on after it, so this is no frame.
    pub(super) fn is_possible(&self) -> bool {
        let (on_stream, len) = (self.stream != 0, self.len);
        match self.kind {
            DATA => on_stream && (!self.has(PADDED) || len >= 1),
            HEADERS => {
                let fixed = u32::from(self.has(PADDED)) + if self.has(WITH_PRIORITY) { 5 } else { 0 };
                on_stream && len >= fixed
            }
            PRIORITY => on_stream && len == 5,
            RST_STREAM => on_stream && len == 4,
            SETTINGS => !on_stream && len % 6 == 0 && (!self.has(ACK) || len == 0),
            PUSH_PROMISE => on_stream && len >= 4 + u32::from(self.has(PADDED)),
            PING => !on_stream && len == 8,
            GOAWAY => !on_stream && len >= 8,
            WINDOW_UPDATE => len == 4,
            CONTINUATION => on_stream,
            // Types that are not known are ignored (section 4.1).
            _ => true,
        }
    }

    /// A type of RFC 9113 itself.
    pub(super) fn is_known(&self) -> bool {
        self.kind <= CONTINUATION
    }

    /// Stricter: what peers really send.
    fn is_likely(&self, reserved: u8) -> bool {
        let flags = match self.kind {
            DATA => END_STREAM | PADDED,
            HEADERS => END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY,
            SETTINGS | PING => ACK,
            PUSH_PROMISE => END_HEADERS | PADDED,
            CONTINUATION => END_HEADERS,
            PRIORITY | RST_STREAM | GOAWAY | WINDOW_UPDATE => 0,
            ALTSVC | ORIGIN | PRIORITY_UPDATE => 0,
            _ => return false,
        };
        let len = match self.kind {
            DATA => MAX_LIKELY_LEN,
            HEADERS | CONTINUATION | PUSH_PROMISE => 1 << 16,
            SETTINGS => 6 * 32,
            _ => 1 << 10,
        };
        self.is_possible()
            && self.flags & !flags == 0
            && self.len <= len
            && self.stream <= MAX_LIKELY_STREAM
            && reserved & 0x80 == 0
    }
}

/// How much bytes look like frames, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) struct Evidence {
    /// What was seen speaks for frames; see [`chain`].
    pub(in crate::protocol) points: u32,
    /// The bytes ended before enough was seen, and nothing spoke against it: with so many bytes there is more to see.
    pub(in crate::protocol) needs: Option<usize>,
    /// Who sent them, if a header block tells.
    pub(in crate::protocol) sender: Option<Sender>,
    /// The last frame ends where the bytes end.
    pub(in crate::protocol) exact: bool,
}

/// Frames looked at in one go.
const MAX_CHAIN: usize = 8;
/// A frame whose type, length and content all fit: 60 bits and more that are as they must be.
const STRONG: u32 = 2;
/// A DATA frame says little: a plausible length, a stream.
const WEAK: u32 = 1;

/// Follows frames from the beginning of `bytes` until `enough` points were found. `None`: these are no frames.
///
/// The last frame may be cut off by the end of the bytes; its header must fit, too. Header blocks of at most `budget` bytes
/// together are looked into.
pub(in crate::protocol) fn chain(bytes: &[u8], enough: u32, budget: &mut usize) -> Option<Evidence> {
    let mut evidence = Evidence { points: 0, needs: None, sender: None, exact: false };
    let mut at = 0_usize;
    let mut block_of = None;
    for _ in 0..MAX_CHAIN {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(header) = Header::read(rest) else {
            evidence.exact = rest.is_empty();
            evidence.needs = Some(at.saturating_add(HEADER_LEN));
            return may_begin(rest).then_some(evidence);
        };
        if !header.is_likely(rest.get(5).copied().unwrap_or_default()) {
            return None;
        }
        // Nothing comes between the parts of a header block (section 4.3).
        if block_of.is_some_and(|stream| header.kind != CONTINUATION || header.stream != stream) {
            return None;
        }
        let end = at.saturating_add(header.frame_len());
        let Some(payload) = rest.get(HEADER_LEN..header.frame_len()) else {
            evidence.points = evidence.points.saturating_add(WEAK);
            evidence.needs = Some(end);
            return may_be_payload(&header, rest.get(HEADER_LEN..).unwrap_or_default()).then_some(evidence);
        };
        if header.kind == HEADERS {
            *budget = budget.checked_sub(payload.len())?;
        }
        let points = points(&header, payload, block_of, &mut evidence.sender)?;
        evidence.points = evidence.points.saturating_add(points);
        let opens_block = matches!(header.kind, HEADERS | CONTINUATION | PUSH_PROMISE);
        block_of = (opens_block && !header.has(END_HEADERS)).then_some(header.stream);
        at = end;
        if evidence.points >= enough && block_of.is_none() {
            break;
        }
    }
    evidence.exact = at == bytes.len();
    Some(evidence)
}

/// A frame header cut off by the end of the bytes.
fn may_begin(bytes: &[u8]) -> bool {
    let &[a, ref rest @ ..] = bytes else { return true };
    // No likely frame is longer than 1 MiB.
    if a > 0x10 {
        return false;
    }
    match rest {
        [_, _, kind, ..] => *kind <= CONTINUATION || matches!(*kind, ALTSVC | ORIGIN | PRIORITY_UPDATE),
        _ => true,
    }
}

/// What a whole frame counts. `None`: its content does not fit its type.
fn points(
    header: &Header,
    payload: &[u8],
    block_of: Option<u32>,
    sender: &mut Option<Sender>,
) -> Option<u32> {
    let number = |at: usize| payload.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    let fits = match header.kind {
        // A length of zero with no flag does nothing, so nobody sends it, but a row of zeros looks like it.
        DATA if header.len == 0 => return header.has(END_STREAM).then_some(WEAK),
        DATA if header.has(PADDED) => {
            let (pad, content) = payload.split_first()?;
            return (usize::from(*pad) <= content.len()).then_some(WEAK);
        }
        DATA => return Some(WEAK),
        HEADERS if header.has(END_HEADERS) => {
            let look = hpack::look(block(header, payload)?)?;
            // Clients open odd streams, servers even ones (section 5.1.1).
            *sender = look.sender.or(*sender);
            true
        }
        // The first part of a block, or a later one: what it holds cannot be told from here.
        HEADERS | PUSH_PROMISE => return Some(WEAK),
        CONTINUATION => return block_of.map(|_| WEAK),
        PRIORITY => number(0)? & 0x7fff_ffff != header.stream,
        RST_STREAM => number(0)? <= MAX_ERROR,
        SETTINGS => payload.chunks_exact(6).all(|setting| matches!(setting, [0 | 1 | 0xf0..=0xff, ..])),
        GOAWAY => number(0)? >> 31 == 0 && number(4)? <= MAX_ERROR,
        WINDOW_UPDATE => matches!(number(0)?, 1..=0x7fff_ffff),
        PING => return Some(STRONG),
        _ => return Some(WEAK),
    };
    fits.then_some(STRONG)
}

/// The beginning of a payload that is cut off by the end of the bytes.
fn may_be_payload(header: &Header, bytes: &[u8]) -> bool {
    match header.kind {
        DATA => header.len > 0 || header.has(END_STREAM),
        SETTINGS => bytes.chunks(6).all(|setting| matches!(setting, [0 | 1 | 0xf0..=0xff, ..])),
        WINDOW_UPDATE | RST_STREAM => bytes.first().is_none_or(|first| *first < 0x80),
        _ => true,
    }
}

/// The part of a HEADERS, PUSH_PROMISE or CONTINUATION payload that is header block: without padding, priority and
/// promised stream. `None`: the padding is longer than the payload (sections 6.1 and 6.2).
pub(super) fn block<'a>(header: &Header, payload: &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = payload;
    let mut pad = 0;
    if header.kind != CONTINUATION && header.has(PADDED) {
        let (len, after) = rest.split_first()?;
        (pad, rest) = (usize::from(*len), after);
    }
    let skipped = match header.kind {
        HEADERS if header.has(WITH_PRIORITY) => 5,
        PUSH_PROMISE => 4,
        _ => 0,
    };
    let rest = rest.get(skipped..)?;
    rest.get(..rest.len().checked_sub(pad)?)
}

/// The name of an error code (section 7), as the IANA registry has it.
pub(crate) fn error_name(code: u32) -> Option<&'static str> {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    NAMES.get(usize::try_from(code).ok()?).copied()
}
