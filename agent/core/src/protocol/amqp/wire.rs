//! A slice of a frame's payload → AMQP's elementary values (AMQP 0-9-1, section 4.2.5).
//!
//! *Owns* bounds: reading past the end is `None`, never a panic. *Must not know* what the values mean.

/// A position in a payload. All integers are big-endian.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(n)?;
        self.rest = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>()?;
        self.rest = tail;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A short string: one length octet, then that many bytes.
    pub(super) fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    /// A short string as text. The specification says UTF-8; what is not is replaced.
    pub(super) fn text(&mut self) -> Option<String> {
        self.short().map(text)
    }

    /// A long string or table: four length octets, then that many bytes.
    pub(super) fn long(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(usize::try_from(len).ok()?)
    }
}

/// Bytes as text, invalid UTF-8 replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_big_endian_and_end_with_the_payload() {
        let mut cursor = Cursor::new(&[7, 0, 1, 0, 0, 0, 2, 2, b'a', 0xff, 0, 0, 0, 1, b'z', 9]);
        assert_eq!(cursor.u8(), Some(7));
        assert_eq!(cursor.u16(), Some(1));
        assert_eq!(cursor.u32(), Some(2));
        assert_eq!(cursor.text().as_deref(), Some("a\u{fffd}"));
        assert_eq!(cursor.long(), Some(&b"z"[..]));
        assert_eq!(cursor.u16(), None);
        assert_eq!(cursor.u8(), Some(9));
        assert!(cursor.is_empty());
        assert_eq!(cursor.u8(), None);
    }

    #[test]
    fn a_length_past_the_end_is_none() {
        assert_eq!(Cursor::new(&[5, b'a']).short(), None);
        assert_eq!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 1]).long(), None);
    }
}
