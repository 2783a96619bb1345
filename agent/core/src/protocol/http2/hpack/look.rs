//! Bytes that may be a header block → what they say without any context.
//!
//! *Owns* telling a header block from other bytes, for detection and for finding frames again. *Must not know* frames.
//! *Spec*: RFC 7541, section 6; RFC 9113, sections 8.2 and 8.3.

use super::table::{Lookup, Table};
use super::{Stop, huffman, integer, raw_string};
use crate::record::Sender;

/// Fields looked at; a block may have more.
const MAX_FIELDS: usize = 256;
/// No table anybody uses has more entries.
const MAX_INDEX: usize = 61 + 2048;

/// A well-formed header block, as far as can be told without its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) struct Look {
    /// Who sent it, if a field tells.
    pub(in crate::protocol) sender: Option<Sender>,
}

/// `None`: no header block. A block that is cut off is none.
pub(in crate::protocol) fn look(block: &[u8]) -> Option<Look> {
    let table = Table::new(false);
    let mut rest = block;
    let mut look = Look { sender: None };
    let mut is_regular = false;
    for count in 0..MAX_FIELDS {
        let Some(first) = rest.first().copied() else { return (count > 0).then_some(look) };
        let name = name(&mut rest, first, &table, count).ok()?;
        let Some(name) = name else { continue };
        let sender = match name {
            b":method" | b":scheme" | b":path" | b":authority" | b":protocol" => Some(Sender::Client),
            b":status" => Some(Sender::Server),
            // Pseudo-header fields come first (RFC 9113, section 8.3).
            _ => {
                is_regular = true;
                (name == b"grpc-status").then_some(Sender::Server)
            }
        };
        if name.first() == Some(&b':') && (is_regular || sender.is_none()) {
            return None;
        }
        if sender.is_some() {
            if look.sender.is_some_and(|known| Some(known) != sender) {
                return None;
            }
            look.sender = sender;
        }
    }
    Some(look)
}

/// Steps over one representation. The name where the static table or the block itself has it, and it is short.
fn name<'a>(
    rest: &mut &'a [u8],
    first: u8,
    table: &'a Table,
    count: usize,
) -> Result<Option<&'a [u8]>, Stop> {
    let by_index = |index: usize| match table.get(index) {
        Lookup::Entry(name, _) => Ok(name),
        Lookup::Unknown if index <= MAX_INDEX => Ok(None),
        Lookup::Unknown | Lookup::Invalid => Err(Stop::Malformed),
    };
    if first & 0x80 != 0 {
        return by_index(integer(rest, 7)?);
    }
    if first & 0x60 == 0x20 {
        let size = integer(rest, 5)?;
        return if count < 2 && size <= 1 << 20 { Ok(None) } else { Err(Stop::Malformed) };
    }
    let prefix = if first & 0x40 != 0 { 6 } else { 4 };
    let name = match integer(rest, prefix)? {
        0 => {
            let (coded, octets) = raw_string(rest)?;
            if octets.is_empty() {
                return Err(Stop::Malformed);
            }
            check_name(coded, octets)?
        }
        index => by_index(index)?,
    };
    let (coded, value) = raw_string(rest)?;
    let plausible =
        if coded { huffman::is_valid(value) } else { !value.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')) };
    if plausible { Ok(name) } else { Err(Stop::Malformed) }
}

/// Names are tokens in lower case (RFC 9113, section 8.2.1).
fn check_name(coded: bool, octets: &[u8]) -> Result<Option<&'static [u8]>, Stop> {
    let mut plain = Vec::new();
    let octets = match coded {
        true if huffman::decode(octets, &mut plain) => plain.as_slice(),
        true => return Err(Stop::Malformed),
        false => octets,
    };
    let token = |b: &u8| {
        b.is_ascii_lowercase()
            || b.is_ascii_digit()
            || matches!(
                b,
                b'-' | b'_'
                    | b'.'
                    | b'!'
                    | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'^'
                    | b'`'
                    | b'|'
                    | b'~'
            )
    };
    const KNOWN: [&[u8]; 7] =
        [b":method", b":scheme", b":path", b":authority", b":protocol", b":status", b"grpc-status"];
    if let Some(known) = KNOWN.iter().find(|known| **known == octets) {
        return Ok(Some(known));
    }
    if octets.iter().all(token) { Ok(Some(b"x")) } else { Err(Stop::Malformed) }
}
