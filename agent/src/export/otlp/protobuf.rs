//! Fields → the bytes of a protobuf message, each written once.
//!
//! The generated types want a `String` for every key and value and walk each message twice, once for its length: that was
//! half of what exporting a span cost. Whatever is written here is read back by the generated types in the tests.
//!
//! *Owns* the wire format. *Must not know* which messages there are.
//! *Spec*: protobuf.dev, "Encoding".

/// Wire types of protobuf.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LEN: u32 = 2;
const FIXED32: u32 = 5;

/// The longest varint of 64 bits.
const MAX_VARINT: usize = 10;

/// A message that is being written. Fields with their default value are written too where they are asked for: who writes
/// leaves them out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Goes on behind what has been written before.
    pub(super) fn onto(written: Vec<u8>) -> Self {
        Self(written)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// `int64`, `uint32`, `bool` and enumerations; negative numbers as their two's complement.
    pub(super) fn varint(&mut self, field: u32, value: u64) {
        self.key(field, VARINT);
        self.number(value);
    }

    pub(super) fn fixed32(&mut self, field: u32, value: u32) {
        self.key(field, FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// `fixed64`, and the bits of a `double`.
    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        self.key(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// `bytes` and `string`.
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.prefix(field, value.len());
        self.0.extend_from_slice(value);
    }

    /// A `KeyValue` with a text, which nearly all attributes are: its lengths are known before it is written.
    pub(super) fn text_pair(&mut self, field: u32, key: &str, value: &str) {
        // KeyValue.key = 1, .value = 2; AnyValue.string_value = 1
        let (key_len, value_len) = (key.len(), value.len());
        let inner = 2 + value_len;
        let whole = 2 + key_len + 2 + inner;
        if whole < 0x80 && field < 16 {
            let tag = |field: u32| (field << 3 | LEN) as u8;
            self.0.reserve(2 + whole);
            self.0.extend_from_slice(&[tag(field), whole as u8, tag(1), key_len as u8]);
            self.0.extend_from_slice(key.as_bytes());
            self.0.extend_from_slice(&[tag(2), inner as u8, tag(1), value_len as u8]);
            self.0.extend_from_slice(value.as_bytes());
            return;
        }
        self.message(field, |to| {
            to.bytes(1, key.as_bytes());
            to.message(2, |to| to.bytes(1, value.as_bytes()));
        });
    }

    /// A nested message in parts that have been written before, with their total length.
    pub(super) fn parts(&mut self, field: u32, parts: &[&[u8]]) {
        self.prefix(field, parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
    }

    /// The key and length of a nested message: its bytes follow.
    pub(super) fn prefix(&mut self, field: u32, len: usize) {
        self.key(field, LEN);
        self.number(len as u64);
    }

    /// A nested message.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field, LEN);
        // Nearly all are shorter than 128 bytes, so that their length takes one.
        let at = self.0.len();
        self.0.push(0);
        write(self);
        let len = self.0.len() - at - 1;
        if let (0..0x80, Some(short)) = (len, self.0.get_mut(at)) {
            *short = len as u8;
        } else {
            let mut length = Self::with_capacity(MAX_VARINT);
            length.number(len as u64);
            self.0.splice(at..=at, length.0);
        }
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.number(u64::from(field << 3 | wire_type));
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use prost::encoding::varint::{decode_varint, encode_varint};

    use super::*;

    #[test]
    fn numbers_are_those_of_another_implementation() {
        let edges = (0..64).flat_map(|bit| {
            let power = 1_u64 << bit;
            [power - 1, power, power + 1]
        });
        for value in edges.chain([u64::MAX]) {
            let mut ours = Writer::default();
            ours.number(value);
            let mut theirs = Vec::new();
            encode_varint(value, &mut theirs);
            assert_eq!(ours.0, theirs, "{value}");
            assert_eq!(decode_varint(&mut ours.as_bytes()), Ok(value));
        }
    }

    #[test]
    fn nested_messages_of_any_length_are_the_same_as_their_bytes_written_at_once() {
        for len in [0, 1, 125, 126, 127, 128, 129, 16_383, 16_384, 100_000] {
            let inner = vec![7; len];
            let mut nested = Writer::default();
            nested.message(3, |message| {
                message.0.extend_from_slice(&inner);
            });
            let mut whole = Writer::default();
            whole.bytes(3, &inner);
            let mut parts = Writer::default();
            let (first, second) = inner.split_at(len / 2);
            parts.parts(3, &[first, second]);
            assert_eq!(nested, whole, "{len}");
            assert_eq!(parts, whole, "{len}");
        }
    }
}
