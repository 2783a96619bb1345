//! The beginning of a Zstandard stream → the beginning of what it holds, for key extraction only.
//!
//! ```text
//!   stream:  (skippable frame │ frame)*
//!   frame:   magic │ header │ block* │ checksum         block:  raw │ one byte repeated │ literals + sequences
//! ```
//!
//! A decoder of our own, because the bytes are anybody's and the process is privileged, and because only the beginning is wanted:
//! then what was decoded of a frame *is* its window. Memory is `bound`, one block's literals (128 KiB) and three small tables; work is
//! linear in the input and `bound`. The reference library is C. The crate `ruzstd` can be bounded in memory since its 0.9, but copies
//! unchecked, and not in time: 1,420 bytes that repeat two letters cost it 21 ms for 256 KiB, the reference 0.03 ms and this 0.02 ms
//! (30 November 2026; 37 KB of JSON: 0.09, 0.02 and 0.09 ms).
//!
//! *Owns* the format. *Must not know* what it decodes. Dictionaries and checksums are not used: a frame that names a dictionary is
//! refused, and damage shows in what is decoded.
//! *Spec*: RFC 8878; RFC 9659 for the largest window.

mod bits;
mod fse;
mod huffman;
mod sequences;

use huffman::Huffman;
use sequences::Sequences;

/// "Decoders MUST support a window of 8 MB, and encoders MUST NOT use a larger one" (RFC 9659, section 3).
const MAX_WINDOW: u64 = 8 << 20;
/// RFC 8878, section 3.1.1.2.4: "Block_Maximum_Size".
const MAX_BLOCK: usize = 128 << 10;

const MAGIC: u32 = 0xfd2f_b528;
/// Sixteen magic numbers with the same upper 28 bits.
const SKIPPABLE: u32 = 0x184d_2a50;

/// What was decoded ends here: the bytes end, or they are none of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End;

/// Decodes at most `bound` bytes. `None` when not even one byte can be decoded of something that has some.
pub(super) fn decode(coded: &[u8], bound: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut input = Input(coded);
    let mut ended_well = true;
    while !input.0.is_empty() && plain.len() < bound {
        if frame(&mut input, &mut plain, bound).is_err() {
            ended_well = false;
            break;
        }
    }
    plain.truncate(bound);
    (ended_well || !plain.is_empty()).then_some(plain)
}

/// Bytes not read yet.
#[derive(Clone, Copy, Debug)]
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], End> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(End)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, End> {
        self.take(1).and_then(|bytes| bytes.first().copied().ok_or(End))
    }

    /// A little-endian number of up to eight bytes.
    fn number(&mut self, len: usize) -> Result<u64, End> {
        let bytes = self.take(len)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The same for lengths that fit a block.
    fn small(&mut self, len: usize) -> Result<usize, End> {
        usize::try_from(self.number(len)?).map_err(|_| End)
    }
}

/// Section 3.1.1.
fn frame(input: &mut Input<'_>, plain: &mut Vec<u8>, bound: usize) -> Result<(), End> {
    let magic = u32::try_from(input.number(4)?).map_err(|_| End)?;
    if magic & !0xf == SKIPPABLE {
        let len = input.small(4)?;
        input.take(len)?;
        return Ok(());
    }
    if magic != MAGIC {
        return Err(End);
    }
    let header = header(input)?;
    let mut blocks = Blocks {
        huffman: None,
        sequences: Sequences::default(),
        literals: Vec::new(),
        begin: plain.len(),
        window: usize::try_from(header.window).map_err(|_| End)?,
        bound,
    };
    while plain.len() < bound {
        let is_last = blocks.block(input, plain)?;
        if is_last {
            if header.has_checksum {
                input.take(4)?;
            }
            return Ok(());
        }
    }
    Ok(())
}

struct Header {
    window: u64,
    has_checksum: bool,
}

/// Section 3.1.1.1.
fn header(input: &mut Input<'_>) -> Result<Header, End> {
    let descriptor = input.byte()?;
    let is_single_segment = descriptor & 0x20 != 0;
    let is_reserved_bit_set = descriptor & 0x08 != 0;
    if is_reserved_bit_set {
        return Err(End);
    }
    let window = match is_single_segment {
        true => None,
        false => {
            let byte = input.byte()?;
            let base = 1_u64 << (10 + (byte >> 3));
            Some(base + base / 8 * u64::from(byte & 7))
        }
    };
    let dictionary = input.number([0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or(0))?;
    if dictionary != 0 {
        return Err(End);
    }
    let content = match (descriptor >> 6, is_single_segment) {
        (0, false) => None,
        (0, true) => Some(input.number(1)?),
        (1, _) => Some(input.number(2)? + 256),
        (2, _) => Some(input.number(4)?),
        _ => Some(input.number(8)?),
    };
    // "Window_Size is Frame_Content_Size" of a single segment.
    let window = window.or(content).ok_or(End)?;
    if window > MAX_WINDOW && !is_single_segment {
        return Err(End);
    }
    Ok(Header { window, has_checksum: descriptor & 0x04 != 0 })
}

/// What the blocks of a frame have in common.
struct Blocks {
    huffman: Option<Huffman>,
    sequences: Sequences,
    literals: Vec<u8>,
    /// Where the frame begins in the output.
    begin: usize,
    window: usize,
    bound: usize,
}

impl Blocks {
    /// Section 3.1.1.2; whether it is the last one.
    fn block(&mut self, input: &mut Input<'_>, plain: &mut Vec<u8>) -> Result<bool, End> {
        let head = input.small(3)?;
        let (is_last, kind, len) = (head & 1 != 0, head >> 1 & 3, head >> 3);
        if len > MAX_BLOCK.min(self.window) {
            return Err(End);
        }
        let room = self.bound.saturating_sub(plain.len());
        match kind {
            0 => {
                // Of a block that is cut off, what there is.
                let some = input.0.get(..len).unwrap_or(input.0);
                plain.extend_from_slice(some.get(..room).unwrap_or(some));
                input.take(len)?;
            }
            1 => {
                let byte = input.byte()?;
                plain.resize(plain.len() + len.min(room), byte);
            }
            2 => {
                let mut block = Input(input.take(len)?);
                self.literals(&mut block)?;
                let window = sequences::Window { begin: self.begin, len: self.window, bound: self.bound };
                self.sequences.run(block, &self.literals, window, plain)?;
            }
            _ => return Err(End),
        }
        Ok(is_last)
    }

    /// Section 3.1.1.3.1.
    fn literals(&mut self, block: &mut Input<'_>) -> Result<(), End> {
        let first = block.0.first().copied().ok_or(End)?;
        let (kind, format) = (first & 3, first >> 2 & 3);
        self.literals.clear();
        if kind < 2 {
            let (len, shift) = match format {
                1 => (2, 4),
                3 => (3, 4),
                _ => (1, 3),
            };
            let regenerated = block.small(len)? >> shift;
            if regenerated > MAX_BLOCK {
                return Err(End);
            }
            match kind {
                0 => self.literals.extend_from_slice(block.take(regenerated)?),
                _ => self.literals.resize(regenerated, block.byte()?),
            }
            return Ok(());
        }
        let (head_len, bits, streams) = match format {
            0 => (3, 10, 1),
            1 => (3, 10, 4),
            2 => (4, 14, 4),
            _ => (5, 18, 4),
        };
        let head = block.number(head_len)? >> 4;
        let mask = (1_u64 << bits) - 1;
        let regenerated = usize::try_from(head & mask).map_err(|_| End)?;
        let compressed = usize::try_from(head >> bits & mask).map_err(|_| End)?;
        if regenerated > MAX_BLOCK {
            return Err(End);
        }
        let mut coded = Input(block.take(compressed)?);
        // "Treeless": the tree of the block before.
        if kind == 2 {
            self.huffman = Some(Huffman::read(&mut coded)?);
        }
        let huffman = self.huffman.as_ref().ok_or(End)?;
        huffman.decode(coded, streams, regenerated, &mut self.literals)
    }
}

#[cfg(test)]
mod tests;
