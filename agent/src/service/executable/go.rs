//! Section `.go.buildinfo` → the version of Go that built the program, also in stripped ones.
//!
//! *Spec*: Go, `src/debug/buildinfo/buildinfo.go` ("Magic"): since Go 1.18 the texts follow the header, before that the
//! header has the addresses of two strings.

use std::io::{Read, Seek};

use super::image::{Image, Section};

/// The section's name.
pub(super) const SECTION: &str = ".go.buildinfo";

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Magic, size of a pointer, flags, and room for two pointers.
const HEADER_LEN: usize = 32;
const FLAG_BIG_ENDIAN: u8 = 1;
const FLAG_INLINE: u8 = 2;
/// `go1.27.3 X:jsonv2` and the like.
const MAX_VERSION: u64 = 128;
/// The section also has the list of modules, which may be long; the version comes first.
const READ: u64 = 512;

/// `go1.27.3`.
pub(super) fn version<R: Read + Seek>(image: &Image<'_, R>, section: &Section) -> Option<String> {
    let start = Section { len: section.len.min(READ), ..section.clone() };
    let bytes = image.bytes(&start, READ)?;
    let header = bytes.get(..HEADER_LEN)?;
    if !header.starts_with(MAGIC) {
        return None;
    }
    let (&pointer_len, &flags) = (header.get(MAGIC.len())?, header.get(MAGIC.len() + 1)?);
    let text = if flags & FLAG_INLINE != 0 {
        inline(bytes.get(HEADER_LEN..)?)?
    } else {
        let is_big = flags & FLAG_BIG_ENDIAN != 0;
        if pointer_len != 8 || is_big == image.is_little_endian() {
            return None;
        }
        let number = |bytes: &[u8]| {
            let bytes: [u8; 8] = bytes.try_into().ok()?;
            Some(if is_big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
        };
        // The address of a string, which is the address of its bytes and their number.
        let string = image.bytes_at(number(header.get(16..24)?)?, 16)?;
        let len = number(string.get(8..16)?)?;
        image.bytes_at(number(string.get(..8)?)?, (len <= MAX_VERSION).then_some(len)?)?
    };
    let text = std::str::from_utf8(text).ok()?;
    let is_version = text.starts_with("go") || text.starts_with("devel");
    (is_version && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// A length in groups of seven bits, low ones first, then so many bytes.
fn inline(bytes: &[u8]) -> Option<&[u8]> {
    let mut len = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(3) {
        len |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let len = usize::try_from((len <= MAX_VERSION).then_some(len)?).ok()?;
            return bytes.get(at + 1..)?.get(..len);
        }
    }
    None
}
