//! Bytes → numbers of a few bits, from the front or from the back.

use super::End;

/// Eight bytes from `at` on as a little-endian number; bytes beyond the end are zero.
fn load(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(whole) => u64::from_le_bytes(*whole),
        None => rest.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)),
    }
}

fn mask(count: u32) -> u64 {
    (1_u64 << count.min(63)) - 1
}

/// Bits of a table's description: from the first byte on, lowest bit first (section 4.1.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Forward<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Forward<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bits, at most 32; zeros beyond the end.
    pub(super) fn peek(&self, count: u32) -> u64 {
        load(self.bytes, self.at / 8) >> (self.at % 8) & mask(count)
    }

    pub(super) fn skip(&mut self, count: u32) -> Result<(), End> {
        self.at += count as usize;
        if self.at > self.bytes.len() * 8 { Err(End) } else { Ok(()) }
    }

    pub(super) fn read(&mut self, count: u32) -> Result<u64, End> {
        let value = self.peek(count);
        self.skip(count)?;
        Ok(value)
    }

    /// Bytes of which at least one bit was read.
    pub(super) fn bytes_read(&self) -> usize {
        self.at.div_ceil(8)
    }
}

/// Bits of symbols: from the last byte to the first one, highest bit first; the highest bit that is set only marks the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backward<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Backward<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, End> {
        let last = bytes.last().copied().ok_or(End)?;
        // "The last byte is never zero": it has the mark.
        let unused = last.leading_zeros() as usize + 1;
        let left = (bytes.len() * 8).checked_sub(unused).filter(|_| last != 0).ok_or(End)?;
        Ok(Self { bytes, left })
    }

    /// The next `count` bits, at most 32; zeros beyond the beginning.
    pub(super) fn peek(&self, count: u32) -> u64 {
        match self.left.checked_sub(count as usize) {
            Some(from) => load(self.bytes, from / 8) >> (from % 8) & mask(count),
            None => (load(self.bytes, 0) & mask(self.left as u32)) << (count as usize - self.left),
        }
    }

    pub(super) fn skip(&mut self, count: u32) -> Result<(), End> {
        self.left = self.left.checked_sub(count as usize).ok_or(End)?;
        Ok(())
    }

    pub(super) fn read(&mut self, count: u32) -> Result<u64, End> {
        let value = self.peek(count);
        self.skip(count)?;
        Ok(value)
    }

    /// All bits were read, and none too many.
    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }
}
