//! Content of one side of a gRPC call → the number of its messages, while the content streams by.
//!
//! *Owns* the length-prefixed framing: a flag for compression, four bytes of length, big-endian. *Must not know* protobuf.
//! *Spec*: gRPC over HTTP/2, "Length-Prefixed-Message".

/// Counts messages by their first bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Messages {
    count: u64,
    /// Bytes of the current prefix that were seen, 0 to 4.
    prefix_len: u8,
    len: u32,
    /// Bytes of the current message to come.
    left: u64,
    is_lost: bool,
}

const PREFIX_LEN: u8 = 5;

impl Messages {
    pub(super) fn feed(&mut self, mut content: &[u8]) {
        while !self.is_lost && !content.is_empty() {
            if self.left > 0 {
                let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(content.len());
                self.left = self.left.saturating_sub(len as u64);
                content = content.get(len..).unwrap_or_default();
                continue;
            }
            let Some((byte, rest)) = content.split_first() else { return };
            content = rest;
            if self.prefix_len == 0 {
                self.len = 0;
            } else {
                self.len = self.len << 8 | u32::from(*byte);
            }
            self.prefix_len = self.prefix_len.saturating_add(1);
            if self.prefix_len == PREFIX_LEN {
                self.count = self.count.saturating_add(1);
                self.left = u64::from(self.len);
                self.prefix_len = 0;
            }
        }
    }

    /// So many bytes were not seen: within a message that is no loss.
    pub(super) fn gap(&mut self, len: u64) {
        match self.left.checked_sub(len) {
            Some(left) if self.left > 0 => self.left = left,
            _ => self.is_lost = true,
        }
    }

    /// An unknown number of bytes was not seen.
    pub(super) fn lose(&mut self) {
        self.is_lost = true;
    }

    /// The next bytes belong to a message, or the count is lost anyway.
    pub(super) fn is_inside(&self) -> bool {
        self.left > 0 || self.is_lost
    }

    /// Messages begun.
    pub(super) fn count(&self) -> Option<u64> {
        (!self.is_lost).then_some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let content = b"\0\0\0\0\x03abc\x01\0\0\0\0\0\0\0\x01\0x";
        for size in 1..content.len() {
            let mut messages = Messages::default();
            content.chunks(size).for_each(|piece| messages.feed(piece));
            assert_eq!(messages.count(), Some(3), "pieces of {size}");
        }
    }

    #[test]
    fn a_hole_inside_a_message_loses_nothing() {
        let mut messages = Messages::default();
        messages.feed(b"\0\0\0\0\x0aab");
        assert!(messages.is_inside());
        messages.gap(8);
        messages.feed(b"\0\0\0\0\0");
        assert_eq!(messages.count(), Some(2));
        messages.gap(1);
        assert_eq!(messages.count(), None);
    }
}
