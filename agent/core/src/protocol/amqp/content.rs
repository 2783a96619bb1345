//! A content header frame's payload → the body's length and the message's [`Properties`].
//!
//! *Owns* the order and the types of the fourteen properties of class `basic`. *Must not know* bodies.
//!
//! *Spec*: AMQP 0-9-1 section 4.2.6.1: class (16 bits), weight (16, zero), body size (64), property flags (16, the
//! highest bit is the first property; the lowest says that more flags follow), property list.

use super::table;
use super::wire::Cursor;
use crate::operation::amqp::Properties;

/// The class that carries content.
pub const BASIC: u16 = 60;

/// A content header.
#[derive(Debug, Default, PartialEq)]
pub struct Header {
    /// Bytes of body in the body frames that follow.
    pub body_len: u64,
    pub properties: Properties,
    /// Properties after some point could not be read, or a bound was reached.
    pub cut: bool,
}

/// Reads a content header, or the part of it that was captured: `None` unless the body's length is in it and the class
/// is `basic`.
pub fn read(payload: &[u8]) -> Option<Header> {
    let mut cursor = Cursor::new(payload);
    if cursor.u16()? != BASIC {
        return None;
    }
    let _weight = cursor.u16()?;
    let mut header = Header { body_len: cursor.u64()?, ..Header::default() };
    header.cut = properties(&mut cursor, &mut header.properties).is_none_or(|table_cut| table_cut);
    Some(header)
}

/// `None`: bytes are missing. Otherwise whether the header table was cut.
fn properties(cursor: &mut Cursor<'_>, to: &mut Properties) -> Option<bool> {
    let flags = cursor.u16()?;
    // Class basic has fourteen properties, so that a second word of flags would have nothing to say.
    let mut more = flags & 1 != 0;
    while more {
        more = cursor.u16()? & 1 != 0;
    }
    let has = |bit: u32| flags & (1 << bit) != 0;
    let mut table_cut = false;
    if has(15) {
        to.content_type = Some(cursor.text()?);
    }
    if has(14) {
        to.content_encoding = Some(cursor.text()?);
    }
    if has(13) {
        let fields = table::read(cursor.long()?);
        to.headers = fields.fields;
        table_cut = fields.cut;
    }
    if has(12) {
        to.delivery_mode = Some(cursor.u8()?);
    }
    if has(11) {
        to.priority = Some(cursor.u8()?);
    }
    if has(10) {
        to.correlation_id = Some(cursor.text()?);
    }
    if has(9) {
        to.reply_to = Some(cursor.text()?);
    }
    if has(8) {
        to.expiration = Some(cursor.text()?);
    }
    if has(7) {
        to.message_id = Some(cursor.text()?);
    }
    if has(6) {
        to.timestamp = Some(cursor.u64()?);
    }
    if has(5) {
        to.kind = Some(cursor.text()?);
    }
    if has(4) {
        to.user_id = Some(cursor.text()?);
    }
    if has(3) {
        to.app_id = Some(cursor.text()?);
    }
    if has(2) {
        to.cluster_id = Some(cursor.text()?);
    }
    Some(table_cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::amqp::Value;

    fn all() -> Vec<u8> {
        let mut bytes = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xfc];
        for field in [&b"\x02ct"[..], b"\x02ce", b"\x00\x00\x00\x05\x02hdt\x01", b"\x02", b"\x09", b"\x02ci"]
        {
            bytes.extend_from_slice(field);
        }
        for field in [&b"\x02rt"[..], b"\x02ex", b"\x02mi", b"\x00\x00\x00\x00\x00\x00\x00\x07", b"\x02ty"] {
            bytes.extend_from_slice(field);
        }
        for field in [&b"\x02ui"[..], b"\x02ai", b"\x02cl"] {
            bytes.extend_from_slice(field);
        }
        bytes
    }

    #[test]
    fn all_fourteen_properties_are_read_in_order() {
        let text = |s: &str| Some(s.to_owned());
        let expected = Properties {
            content_type: text("ct"),
            content_encoding: text("ce"),
            headers: vec![("hd".to_owned(), Value::Bool(true))],
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: text("ci"),
            reply_to: text("rt"),
            expiration: text("ex"),
            message_id: text("mi"),
            timestamp: Some(7),
            kind: text("ty"),
            user_id: text("ui"),
            app_id: text("ai"),
            cluster_id: text("cl"),
        };
        assert_eq!(read(&all()), Some(Header { body_len: 256, properties: expected, cut: false }));
    }

    #[test]
    fn every_prefix_with_the_length_gives_it_and_says_cut() {
        let all = all();
        for end in 0..all.len() {
            let header = read(&all[..end]);
            assert_eq!(header.is_some(), end >= 12, "{end}");
            assert!(header.is_none_or(|header| header.cut && header.body_len == 256));
        }
    }

    #[test]
    fn another_class_has_no_content() {
        assert_eq!(read(&[0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]), None);
    }
}
