//! Bytes from anywhere in one sender's stream → the next certain frame boundary.
//!
//! A boundary is certain when the bytes after it walk as frames: each header allowed, each frame-end octet where its
//! header says, each method one that this sender may send; over two whole frames, or one and then to the end of
//! what was captured. Bodies may hold anything, so a candidate that cannot be refuted yet holds up those after it.
//!
//! *Owns* that judgement. *Must not know* channels' state: a stranger's stream has none.

use super::content;
use super::frame::{
    self, DEFAULT_FRAME_MAX, END, Frame, HEADER_LEN, Kind, OVERHEAD, PROTOCOL_HEADER, Parsed,
};
use super::method;
use crate::record::Sender;

/// Clients number channels from 1 up, and RabbitMQ allows 2,047 unless told otherwise. Frames of higher channels are
/// read, but are no evidence of a boundary: a frame-end octet read as part of a channel number gives 0xCE00 and more.
const HIGHEST_CHANNEL: u16 = 0x0fff;

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// A frame begins at this offset.
    Found(usize),
    /// None begins before this offset; whether one begins there, more bytes will tell.
    Undecided(usize),
}

/// Looks for the first frame boundary. `frame_max` bounds a whole frame.
pub(super) fn search(bytes: &[u8], from: Sender, frame_max: u32) -> Search {
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        match judge(rest, from, frame_max) {
            Judgement::Frames => return Search::Found(offset),
            Judgement::Open => return Search::Undecided(offset),
            Judgement::Other => offset += 1,
        }
    }
    Search::Undecided(offset)
}

/// How much some bytes look like AMQP 0-9-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// They are: the protocol header, or frames that walk.
    Certain,
    /// They may be the beginning of it.
    Open,
    /// They are not.
    None,
}

/// For the choice of protocol: whether the first bytes seen of one sender are AMQP 0-9-1, at the start of a connection
/// or at a frame boundary in the middle of one.
pub fn likeness(bytes: &[u8], from: Sender) -> Likeness {
    if bytes.starts_with(&PROTOCOL_HEADER) {
        return Likeness::Certain;
    }
    if PROTOCOL_HEADER.starts_with(bytes) {
        return Likeness::Open;
    }
    match judge(bytes, from, DEFAULT_FRAME_MAX) {
        Judgement::Frames => Likeness::Certain,
        Judgement::Open => Likeness::Open,
        Judgement::Other => Likeness::None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    /// Frames, for certain.
    Frames,
    /// Nothing speaks against it, but less than one whole frame is there.
    Open,
    /// Something else.
    Other,
}

fn judge(bytes: &[u8], from: Sender, frame_max: u32) -> Judgement {
    let mut rest = bytes;
    let mut whole = 0;
    while !rest.is_empty() {
        match check(rest, from, frame_max) {
            Check::Whole { len, certain } => {
                whole += 1;
                if certain || whole == 2 {
                    return Judgement::Frames;
                }
                rest = rest.get(len..).unwrap_or_default();
            }
            Check::Part => break,
            Check::No => return Judgement::Other,
        }
    }
    if whole > 0 { Judgement::Frames } else { Judgement::Open }
}

enum Check {
    /// A frame of this length; `certain` when its bytes cannot be anything else.
    Whole {
        len: usize,
        certain: bool,
    },
    /// The beginning of what may be a frame.
    Part,
    No,
}

fn check(bytes: &[u8], from: Sender, frame_max: u32) -> Check {
    let frame = match frame::read(bytes, frame_max) {
        Parsed::Complete(frame) => frame,
        Parsed::Incomplete => return Check::Part,
        Parsed::Invalid => return Check::No,
    };
    if frame.channel > HIGHEST_CHANNEL {
        return Check::No;
    }
    let size = frame.size as usize;
    let visible = bytes.get(HEADER_LEN..).unwrap_or_default();
    let payload = visible.get(..size).unwrap_or(visible);
    let allowed = match frame.kind {
        Kind::Heartbeat => true,
        // Clients and brokers send no empty body frames.
        Kind::Body => size > 0,
        Kind::Header => header_allowed(payload),
        Kind::Method => method_allowed(frame, payload, from),
    };
    if !allowed {
        return Check::No;
    }
    match visible.get(size) {
        None => Check::Part,
        Some(&END) => Check::Whole { len: size + OVERHEAD, certain: frame.kind == Kind::Heartbeat },
        Some(_) => Check::No,
    }
}

/// Class `basic`, weight 0, and at least the flags of a property list that fits; as far as visible.
fn header_allowed(payload: &[u8]) -> bool {
    let fixed = [(0, 0), (1, content::BASIC as u8), (2, 0), (3, 0)];
    let bytes_fit = fixed.iter().all(|(at, octet)| payload.get(*at).is_none_or(|byte| byte == octet));
    // Class basic has fourteen properties: the two lowest flags are clear.
    bytes_fit && payload.get(13).is_none_or(|low| low & 3 == 0)
}

/// A method this sender may send, on a channel where it belongs; as far as visible.
fn method_allowed(frame: Frame, payload: &[u8], from: Sender) -> bool {
    let Some(id) = method::id(payload) else { return true };
    let on_zero = frame.channel == 0;
    method::lookup(id).is_some_and(|spec| spec.may_come_from(from))
        && on_zero == (id.0 == method::CONNECTION)
        // Arguments that cannot be read are an objection only when all of the payload is there.
        && (payload.len() < frame.size as usize || method::arguments(id, payload).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    const ACK: &[u8] =
        b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x00\x07\x00\xce";

    fn check(bytes: &[u8], from: Sender, expected: Search) {
        assert_eq!(search(bytes, from, DEFAULT_FRAME_MAX), expected, "{bytes:?}");
    }

    #[test]
    fn a_frame_up_to_the_end_of_the_record_is_a_boundary() {
        check(ACK, Sender::Client, Search::Found(0));
        let mut bytes = b"tail of a body\xce".to_vec();
        bytes.extend_from_slice(ACK);
        check(&bytes, Sender::Client, Search::Found(15));
        bytes.extend_from_slice(&ACK[..5]);
        check(&bytes, Sender::Client, Search::Found(15));
    }

    #[test]
    fn what_follows_a_frame_must_be_a_frame() {
        let mut bytes = ACK.to_vec();
        bytes.push(b'x');
        check(&bytes, Sender::Client, Search::Undecided(bytes.len()));
    }

    #[test]
    fn a_part_of_a_frame_stays_open() {
        for end in 1..ACK.len() {
            check(&ACK[..end], Sender::Client, Search::Undecided(0));
        }
    }

    #[test]
    fn a_method_of_the_other_sender_is_no_boundary() {
        let publish = fixture::publish(1, "ex", "rk", false);
        check(&publish, Sender::Client, Search::Found(0));
        let Search::Undecided(_) = search(&publish, Sender::Server, DEFAULT_FRAME_MAX) else {
            panic!("servers do not publish")
        };
    }

    #[test]
    fn a_frame_end_octet_is_not_read_as_a_channel() {
        // `basic.nack` with both bits set ends in 03 CE: with the next frame's header, that looks like a body of 64 KiB.
        let nack = fixture::ack(1, 120, 7, 3);
        let bytes = [&nack[1..], ACK].concat();
        check(&bytes, Sender::Client, Search::Found(nack.len() - 1));
    }

    #[test]
    fn a_heartbeat_is_certain_by_itself() {
        check(b"\x08\x00\x00\x00\x00\x00\x00\xcegarbage", Sender::Server, Search::Found(0));
    }

    #[test]
    fn likeness_of_starts_and_middles() {
        for (bytes, expected) in [
            (&b"AMQP\x00\x00\x09\x01"[..], Likeness::Certain),
            (b"AMQ", Likeness::Open),
            (b"AMQP\x00\x01\x00\x00", Likeness::None),
            (ACK, Likeness::Certain),
            (&ACK[..9], Likeness::Open),
            (b"GET / HTTP/1.1\r\n", Likeness::None),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", Likeness::None),
        ] {
            assert_eq!(likeness(bytes, Sender::Client), expected, "{bytes:?}");
        }
    }
}
