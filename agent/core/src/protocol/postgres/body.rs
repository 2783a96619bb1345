//! The body of one message → its fields. Integers are big-endian, strings end in a zero byte.
//!
//! A body may be cut (its rest was not kept): a field that is not there whole is `None`.
//!
//! *Spec*: PostgreSQL documentation, section 55.7 "Message Formats".

use crate::charset::Charset;

/// Reads fields one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a> {
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A string without its zero byte; `None` when that is missing.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let len = memchr::memchr(0, self.rest)?;
        let text = self.take(len)?;
        self.take(1)?;
        Some(text)
    }

    /// A string, and whether its end is there.
    pub(super) fn string_or_cut(&mut self) -> (&'a [u8], bool) {
        match self.string() {
            Some(text) => (text, true),
            None => (std::mem::take(&mut self.rest), false),
        }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Text of at most `max` bytes, cut at a character; bytes that are none in `charset` become U+FFFD.
pub(super) fn text(bytes: &[u8], max: usize, charset: Charset) -> String {
    let mut text = charset.text(bytes.get(..max).unwrap_or(bytes)).into_owned();
    if bytes.len() > max && text.ends_with('\u{fffd}') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_order_and_end() {
        let mut body = Body::new(b"\x07ab\0\0\x05\0\0\0\x09\xff\xff\xff\xffrest");
        assert_eq!(body.u8(), Some(7));
        assert_eq!(body.string(), Some(&b"ab"[..]));
        assert_eq!(body.u16(), Some(5));
        assert_eq!(body.u32(), Some(9));
        assert_eq!(body.i32(), Some(-1));
        assert_eq!(body.string(), None);
        assert_eq!(body.string_or_cut(), (&b"rest"[..], false));
        assert_eq!(body.u8(), None);
    }

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(text("aé".as_bytes(), 2, Charset::UTF8), "a");
        assert_eq!(text("aé".as_bytes(), 3, Charset::UTF8), "aé");
        assert_eq!(text(b"a\xff", 9, Charset::UTF8), "a\u{fffd}");
        assert_eq!(text(b"\xe7\xe0\xea\xe0\xe7", 3, Charset::of_postgres(b"WIN1251")), "зак");
    }
}
