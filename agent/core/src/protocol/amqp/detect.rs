//! AMQP 0-9-1 by its protocol header and its frames (AMQP 0-9-1, sections 4.2.2 and 4.2.3).

use crate::protocol::detect::Sniff;
use crate::record::Sender;

/// What a client sends first.
const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// Largest frame believed. RabbitMQ's default limit is 128 KiB; nobody negotiates more than this.
const MAX_FRAME_SIZE: usize = 16 << 20;
const FRAME_END: u8 = 0xCE;
/// Frames looked at in one record.
const MAX_FRAMES: usize = 16;

/// The protocol header, or whole frames of which one tells its sender.
pub(super) fn sniff(bytes: &[u8]) -> Sniff {
    if bytes.starts_with(PROTOCOL_HEADER) {
        return Sniff::Yes(Sender::Client);
    }
    if PROTOCOL_HEADER.starts_with(bytes) {
        return Sniff::Maybe;
    }
    let mut rest = bytes;
    let mut whole_frames = 0;
    for _ in 0..MAX_FRAMES {
        match frame(rest) {
            Frame::Whole { sender: Some(sender), .. } => return Sniff::Yes(sender),
            Frame::Whole { len, sender: None } => {
                whole_frames += 1;
                rest = rest.get(len..).unwrap_or_default();
            }
            // A method cut by the end of the bytes: its class and method are there, its end octet is not.
            Frame::Cut { sender: Some(sender) } if whole_frames > 0 => return Sniff::Yes(sender),
            Frame::Cut { .. } => return Sniff::Maybe,
            Frame::No => return Sniff::No,
        }
        if rest.is_empty() {
            break;
        }
    }
    Sniff::Maybe
}

enum Frame {
    No,
    /// It begins like a frame and is cut by the end of the bytes.
    Cut {
        sender: Option<Sender>,
    },
    /// A frame of `len` bytes with its end octet.
    Whole {
        len: usize,
        sender: Option<Sender>,
    },
}

/// Type, channel, size, payload, end octet.
fn frame(bytes: &[u8]) -> Frame {
    let Some((&kind, rest)) = bytes.split_first() else { return Frame::Cut { sender: None } };
    if !matches!(kind, 1 | 2 | 3 | 8) {
        return Frame::No;
    }
    let Some((header, payload)) = rest.split_at_checked(6) else { return Frame::Cut { sender: None } };
    let [channel_high, channel_low, a, b, c, d] = header else { return Frame::No };
    let channel = u16::from_be_bytes([*channel_high, *channel_low]);
    let Ok(size) = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])) else { return Frame::No };
    if size > MAX_FRAME_SIZE {
        return Frame::No;
    }
    let end = payload.get(size);
    if end.is_some_and(|octet| *octet != FRAME_END) {
        return Frame::No;
    }
    let content = payload.get(..size).unwrap_or(payload);
    let (fits, sender) = match kind {
        1 => method(content, channel, size),
        // Class `basic`, weight 0, body size, flags: 14 bytes at least.
        2 => (size >= 14 && channel > 0 && begins(content, &[0, 60, 0, 0]), None),
        3 => (channel > 0, None),
        _ => (size == 0 && channel == 0, None),
    };
    match end {
        _ if !fits => Frame::No,
        Some(_) => Frame::Whole { len: size + 8, sender },
        None => Frame::Cut { sender },
    }
}

/// Class, method, arguments. Class `connection` lives on channel 0, the others never do.
fn method(content: &[u8], channel: u16, size: usize) -> (bool, Option<Sender>) {
    let [class_high, class_low, method_high, method_low, ..] = content else {
        return (size >= 4, None);
    };
    let class = u16::from_be_bytes([*class_high, *class_low]);
    let method = u16::from_be_bytes([*method_high, *method_low]);
    let Some(senders) = senders(class, method) else { return (false, None) };
    let fits = (class == 10) == (channel == 0);
    (fits, senders)
}

/// `None`: no such method. `Some(None)`: both sides send it.
fn senders(class: u16, method: u16) -> Option<Option<Sender>> {
    const CLIENT: Option<Option<Sender>> = Some(Some(Sender::Client));
    const SERVER: Option<Option<Sender>> = Some(Some(Sender::Server));
    match (class, method) {
        // connection: start, secure, tune, open-ok, blocked, unblocked, update-secret-ok | their replies, open, update-secret.
        (10, 10 | 20 | 30 | 41 | 60 | 61 | 71) => SERVER,
        (10, 11 | 21 | 31 | 40 | 70) => CLIENT,
        // close, close-ok
        (10, 50 | 51) => Some(None),
        // channel: open, open-ok; flow and close go both ways.
        (20, 10) => CLIENT,
        (20, 11) => SERVER,
        (20, 20 | 21 | 40 | 41) => Some(None),
        // access.request, the relic of 0-8 that old clients send.
        (30, 10) => CLIENT,
        (30, 11) => SERVER,
        // exchange: declare, delete, bind, unbind | -ok
        (40, 10 | 20 | 30 | 40) => CLIENT,
        (40, 11 | 21 | 31 | 51) => SERVER,
        // queue: declare, bind, purge, delete, unbind | -ok
        (50, 10 | 20 | 30 | 40 | 50) => CLIENT,
        (50, 11 | 21 | 31 | 41 | 51) => SERVER,
        // basic: qos, consume, publish, get, reject, recover-async, recover
        (60, 10 | 20 | 40 | 70 | 90 | 100 | 110) => CLIENT,
        // qos-ok, consume-ok, return, deliver, get-ok, get-empty, recover-ok
        (60, 11 | 21 | 50 | 60 | 71 | 72 | 111) => SERVER,
        // cancel, cancel-ok, ack, nack: the server cancels consumers and confirms publishes.
        (60, 30 | 31 | 80 | 120) => Some(None),
        // confirm and tx
        (85, 10) => CLIENT,
        (85, 11) => SERVER,
        (90, 10 | 20 | 30) => CLIENT,
        (90, 11 | 21 | 31) => SERVER,
        _ => None,
    }
}

/// `bytes` begins with `expected`, as far as it goes.
fn begins(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(byte, wanted)| byte == wanted)
}
