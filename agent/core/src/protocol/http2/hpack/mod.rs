//! Header blocks of one direction → their fields; what cannot be known of them is said, never guessed.
//!
//! *Owns* HPACK: representations ([`Decoder`]), the tables (`table`), the Huffman code (`huffman`), and telling header
//! blocks from other bytes (`look`). *Must not know* frames, streams, what a field means.
//! *Spec*: RFC 7541.
//!
//! Work is linear in a block's length plus what its receiver takes: an indexed field is handed on without being copied.

mod huffman;
mod look;
mod table;
#[cfg(test)]
mod tests;

pub(in crate::protocol) use self::look::look;
use self::table::{Lookup, Table};
use crate::protocol::http2::snapshot::Compression;

/// A scratch buffer larger than this is not kept.
const KEPT_SCRATCH: usize = 16 << 10;

/// One header field. `None`: it cannot be known, because a table entry was inserted before the connection was joined, or
/// by a block that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

impl Field<'_> {
    /// As both ends count it (section 4.1), as far as it is known.
    pub fn size(&self) -> usize {
        let len = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        table::OVERHEAD.saturating_add(len(self.name)).saturating_add(len(self.value))
    }
}

/// A block that is not HPACK, or does not fit the blocks before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The decoding context of one direction.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The largest table the receiver ever allowed. `None`: not known.
    limit: Option<usize>,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Why decoding stopped.
enum Stop {
    /// The block ends inside a field.
    Short,
    Malformed,
}

impl Decoder {
    /// Of a connection seen from its first byte, or of one joined later.
    pub fn new(from_start: bool) -> Decoder {
        let limit = from_start.then_some(4096);
        Decoder { table: Table::new(from_start), limit, name: Vec::new(), value: Vec::new() }
    }

    /// What the next agent's decoder needs to go on with the next block.
    pub(in crate::protocol) fn export(&self) -> Compression {
        let text = |part: Option<&[u8]>| std::str::from_utf8(part?).ok().map(str::to_owned);
        Compression {
            fields: self.table.fields().map(|(name, value)| (text(name), text(value))).collect(),
            max: self.table.bound().and_then(|max| u32::try_from(max).ok()),
            is_complete: self.table.is_complete(),
            limit: self.limit.and_then(|limit| u32::try_from(limit).ok()),
            max_frame: None,
        }
    }

    /// Goes on where another decoder of this direction stopped: between the same two blocks.
    pub(in crate::protocol) fn import(&mut self, learned: &Compression) {
        let fields = learned.fields.iter().map(|(name, value)| (name.as_deref(), value.as_deref()));
        self.table = Table::resumed(fields, learned.max.map(|max| max as usize), learned.is_complete);
        self.limit = learned.limit.map(|limit| limit as usize);
    }

    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        self.table.held() + self.name.capacity() + self.value.capacity()
    }

    /// The receiver of this direction announced `SETTINGS_HEADER_TABLE_SIZE`. Whether the sender has seen it cannot be told,
    /// so only the largest ever announced is a bound.
    pub fn allow(&mut self, size: u32) {
        self.limit = self.limit.map(|limit| limit.max(size as usize));
    }

    /// The receiver may have announced another limit, unseen.
    pub fn forget_limit(&mut self) {
        self.limit = None;
    }

    /// A header block was missed.
    pub fn lose(&mut self) {
        self.table.lose();
        self.limit = None;
    }

    /// Decodes a whole block. After an error the context is lost, as it is for its receiver.
    pub fn decode(&mut self, block: &[u8], mut sink: impl FnMut(Field<'_>)) -> Result<(), Malformed> {
        let result = self.fields(block, &mut sink);
        self.tidy();
        result.map_err(|_| {
            self.lose();
            Malformed
        })
    }

    /// Decodes the beginning of a block whose rest is missing. The context is lost.
    pub fn decode_beginning(
        &mut self,
        block: &[u8],
        mut sink: impl FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let result = self.fields(block, &mut sink);
        self.tidy();
        self.lose();
        match result {
            Ok(()) | Err(Stop::Short) => Ok(()),
            Err(Stop::Malformed) => Err(Malformed),
        }
    }

    fn fields(&mut self, block: &[u8], sink: &mut dyn FnMut(Field<'_>)) -> Result<(), Stop> {
        let mut rest = block;
        let mut first = true;
        while let Some(byte) = rest.first().copied() {
            if byte & 0x80 != 0 {
                self.indexed(&mut rest, sink)?;
            } else if byte & 0x40 != 0 {
                self.literal(&mut rest, 6, true, sink)?;
            } else if byte & 0x20 == 0 {
                // Without indexing, or never indexed.
                self.literal(&mut rest, 4, false, sink)?;
            } else {
                let size = integer(&mut rest, 5)?;
                // Only at the beginning of a block, within what the receiver allows (sections 4.2 and 6.3).
                if !first || self.limit.is_some_and(|limit| size > limit) {
                    return Err(Stop::Malformed);
                }
                self.table.resize(size);
                continue;
            }
            first = false;
        }
        Ok(())
    }

    /// Section 6.1.
    fn indexed(&mut self, rest: &mut &[u8], sink: &mut dyn FnMut(Field<'_>)) -> Result<(), Stop> {
        let index = integer(rest, 7)?;
        match self.table.get(index) {
            Lookup::Entry(name, value) => sink(Field { name, value }),
            Lookup::Unknown => sink(Field { name: None, value: None }),
            Lookup::Invalid => return Err(Stop::Malformed),
        }
        Ok(())
    }

    /// Section 6.2.
    fn literal(
        &mut self,
        rest: &mut &[u8],
        prefix: u32,
        insert: bool,
        sink: &mut dyn FnMut(Field<'_>),
    ) -> Result<(), Stop> {
        let index = integer(rest, prefix)?;
        let name = match index {
            0 => Some(string(rest, &mut self.name)?),
            _ => match self.table.get(index) {
                // Copied: inserting may evict the entry the name is taken from.
                Lookup::Entry(Some(name), _) => {
                    self.name.clear();
                    self.name.extend_from_slice(name);
                    Some(self.name.as_slice())
                }
                Lookup::Entry(None, _) | Lookup::Unknown => None,
                Lookup::Invalid => return Err(Stop::Malformed),
            },
        };
        let value = Some(string(rest, &mut self.value)?);
        sink(Field { name, value });
        if insert {
            self.table.insert(name, value);
        }
        Ok(())
    }

    /// One huge string must not hold its memory for the life of the connection.
    fn tidy(&mut self) {
        for scratch in [&mut self.name, &mut self.value] {
            if scratch.capacity() > KEPT_SCRATCH {
                *scratch = Vec::new();
            }
        }
    }
}

/// An integer with a prefix of so many bits (section 5.1). Larger than 32 bits, or longer than such a number needs: malformed.
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, Stop> {
    let (first, mut bytes) = rest.split_first().ok_or(Stop::Short)?;
    let mask = u8::MAX >> (8 - prefix.clamp(1, 8));
    let mut value = u64::from(first & mask);
    if first & mask == mask {
        let mut shift = 0;
        loop {
            let (byte, after) = bytes.split_first().ok_or(Stop::Short)?;
            bytes = after;
            value = value.saturating_add(u64::from(byte & 0x7f) << shift);
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 28 {
                return Err(Stop::Malformed);
            }
        }
    }
    *rest = bytes;
    u32::try_from(value).map(|value| value as usize).map_err(|_| Stop::Malformed)
}

/// A string as it is written: whether it is Huffman-coded, and its octets (section 5.2).
fn raw_string<'a>(rest: &mut &'a [u8]) -> Result<(bool, &'a [u8]), Stop> {
    let coded = rest.first().ok_or(Stop::Short)? & 0x80 != 0;
    let len = integer(rest, 7)?;
    let (octets, after) = rest.split_at_checked(len).ok_or(Stop::Short)?;
    *rest = after;
    Ok((coded, octets))
}

fn string<'s, 'b: 's>(rest: &mut &'b [u8], scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Stop> {
    let (coded, octets) = raw_string(rest)?;
    if !coded {
        return Ok(octets);
    }
    scratch.clear();
    if huffman::decode(octets, scratch) { Ok(scratch) } else { Err(Stop::Malformed) }
}
