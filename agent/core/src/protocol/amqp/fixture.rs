//! Frames written by hand, for this module's tests.

use super::frame::END;

pub(super) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&channel.to_be_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.push(END);
    bytes
}

pub(super) fn method(channel: u16, id: (u16, u16), arguments: &[u8]) -> Vec<u8> {
    let mut payload = id.0.to_be_bytes().to_vec();
    payload.extend_from_slice(&id.1.to_be_bytes());
    payload.extend_from_slice(arguments);
    frame(1, channel, &payload)
}

pub(super) fn short(text: &str) -> Vec<u8> {
    let mut bytes = vec![text.len() as u8];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

pub(super) fn publish(channel: u16, exchange: &str, routing_key: &str, mandatory: bool) -> Vec<u8> {
    let arguments = [&[0, 0][..], &short(exchange), &short(routing_key), &[u8::from(mandatory)]].concat();
    method(channel, (60, 40), &arguments)
}

pub(super) fn deliver(channel: u16, consumer: &str, tag: u64, redelivered: bool) -> Vec<u8> {
    let address = [short("orders"), short("created")].concat();
    let arguments = [&short(consumer)[..], &tag.to_be_bytes(), &[u8::from(redelivered)], &address].concat();
    method(channel, (60, 60), &arguments)
}

/// A content header with a message ID, if one is given.
pub(super) fn header(channel: u16, body_len: u64, message_id: &str) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend_from_slice(&body_len.to_be_bytes());
    if message_id.is_empty() {
        payload.extend_from_slice(&[0, 0]);
    } else {
        payload.extend_from_slice(&[0, 0x80]);
        payload.extend_from_slice(&short(message_id));
    }
    frame(2, channel, &payload)
}

/// Header and body, the body cut into frames of `chunk` bytes.
pub(super) fn content(channel: u16, message_id: &str, body: &[u8], chunk: usize) -> Vec<u8> {
    let mut bytes = header(channel, body.len() as u64, message_id);
    for part in body.chunks(chunk) {
        bytes.extend_from_slice(&frame(3, channel, part));
    }
    bytes
}

/// `basic.ack` (80) or `basic.nack` (120).
pub(super) fn ack(channel: u16, method_number: u16, tag: u64, bits: u8) -> Vec<u8> {
    method(channel, (60, method_number), &[&tag.to_be_bytes()[..], &[bits]].concat())
}

pub(super) fn consume(channel: u16, queue: &str, tag: &str, bits: u8) -> Vec<u8> {
    let arguments = [&[0, 0][..], &short(queue), &short(tag), &[bits, 0, 0, 0, 0]].concat();
    method(channel, (60, 20), &arguments)
}

/// `channel.close` (20, 40) or `connection.close` (10, 50).
pub(super) fn close(channel: u16, class: u16, number: u16, code: u16, text: &str) -> Vec<u8> {
    let arguments = [&code.to_be_bytes()[..], &short(text), &[0, 60, 0, 40]].concat();
    method(channel, (class, number), &arguments)
}
