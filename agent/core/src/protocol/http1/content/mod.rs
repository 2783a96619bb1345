//! A body with a content coding → its plain beginning.
//!
//! *Owns* decompression within a bound, for key extraction only. *Must not know* what it decodes.
//! *Spec*: RFC 9110, section 8.4 (gzip, deflate); RFC 7932 (br); RFC 8878 and RFC 9659 (zstd).

use std::io::Read;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Codings applied one over the other that are undone.
const MAX_CODINGS: usize = 3;
/// Bytes of brotli given at a time. Behind the length of a block come 50 bits at least of codes, and 24 of the first command that stands
/// for more than 2 KB (RFC 7932, sections 3.4, 5 and 9.2): nine bytes, so that the length is seen before the command is.
const PIECE: usize = 8;
/// Bytes decoded at a time.
const BLOCK_LEN: usize = 4096;

/// Bytes decoded for each byte of a body. JSON of one order hardly shrinks, a list of a thousand that differ in a number only to a
/// thirty-sixth (`a_body_of_orders_is_within_the_bound` measures it); what shrinks to less is made to.
const MAX_RATIO: usize = 64;
/// Bytes decoded of the shortest body.
const MIN_DECODED: usize = 4096;

/// Undoes `coding`, the value of `Content-Encoding`, giving at most `bound` bytes, and no more than `MAX_RATIO` for each byte of
/// `body` and `MIN_DECODED`.
///
/// `body` may be the beginning of a body only: what can be decoded of it is returned. `None` when a coding is not
/// known, or when not even one byte can be decoded of a body that has some. For each coding, work is linear in the body's
/// length and `bound`, and memory is `bound` and the coding's window: 32 KiB (deflate), 16 MiB (br) at most, none for zstd.
pub fn decode(coding: &str, body: &[u8], bound: usize) -> Option<Vec<u8>> {
    let bound = bound.min(body.len().saturating_mul(MAX_RATIO).saturating_add(MIN_DECODED));
    let codings = coding.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut plain: Option<Vec<u8>> = None;
    // The last coding named was applied last, so it is undone first.
    for (count, name) in codings.rev().enumerate() {
        if count >= MAX_CODINGS {
            return None;
        }
        let coded = plain.as_deref().unwrap_or(body);
        if name.eq_ignore_ascii_case("identity") {
            continue;
        }
        plain = Some(decode_one(name, coded, bound)?);
    }
    let mut plain = plain.unwrap_or_else(|| body.get(..bound).unwrap_or(body).to_vec());
    plain.truncate(bound);
    Some(plain)
}

fn decode_one(name: &str, coded: &[u8], bound: usize) -> Option<Vec<u8>> {
    if coded.is_empty() {
        return Some(Vec::new());
    }
    if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
        return read_bounded(MultiGzDecoder::new(coded), bound);
    }
    if name.eq_ignore_ascii_case("deflate") {
        // "deflate" is the zlib format; some servers send it bare (RFC 9110, section 8.4.1.2).
        return read_bounded(ZlibDecoder::new(coded), bound)
            .or_else(|| read_bounded(DeflateDecoder::new(coded), bound));
    }
    if name.eq_ignore_ascii_case("br") {
        return brotli(coded, bound);
    }
    if name.eq_ignore_ascii_case("zstd") {
        return super::zstd::decode(coded, bound);
    }
    None
}

/// What comes out of a brotli stream before its end, an error or the bound.
///
/// The decoder hands nothing out before its window is full: a block says how long it is (RFC 7932, section 9.2), 16 MiB at most, and
/// 25 bytes cost a millisecond. So it gets its bytes a few at a time, and none behind the header of a block that is longer than all
/// that may be decoded.
fn brotli(coded: &[u8], bound: usize) -> Option<Vec<u8>> {
    let alloc = StandardAlloc::default;
    // "Strict" is RFC 7932; the extension to it has windows of 1 GiB.
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let most =
        i32::try_from(coded.len().saturating_mul(MAX_RATIO).saturating_add(MIN_DECODED)).unwrap_or(i32::MAX);
    let (mut left, mut read, mut total) = (0, 0, 0);
    let mut plain = Vec::new();
    let mut block = [0; BLOCK_LEN];
    while plain.len() < bound {
        if left == 0 {
            left = coded.len().saturating_sub(read).min(PIECE);
        }
        let (mut room, mut written) = (block.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            coded,
            &mut room,
            &mut written,
            &mut block,
            &mut total,
            &mut state,
        );
        plain.extend_from_slice(block.get(..written).unwrap_or_default());
        if state.meta_block_remaining_len > most {
            break;
        }
        match result {
            BrotliResult::NeedsMoreOutput => {}
            // There may be more of what was decoded already, or of what was not given yet.
            BrotliResult::NeedsMoreInput if room == 0 || read < coded.len() => {}
            BrotliResult::ResultFailure if plain.is_empty() => return None,
            // At the end of what is there.
            BrotliResult::ResultFailure | BrotliResult::NeedsMoreInput | BrotliResult::ResultSuccess => break,
        }
    }
    plain.truncate(bound);
    (!plain.is_empty() || state.meta_block_remaining_len <= most).then_some(plain)
}

/// What comes out before an end, an error or the bound. An error at once is `None`.
fn read_bounded(mut decoder: impl Read, bound: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut block = [0; BLOCK_LEN];
    while plain.len() < bound {
        match decoder.read(&mut block) {
            Ok(0) => break,
            Ok(n) => plain.extend_from_slice(block.get(..n).unwrap_or_default()),
            Err(_) if plain.is_empty() => return None,
            Err(_) => break,
        }
    }
    plain.truncate(bound);
    Some(plain)
}

#[cfg(test)]
mod tests;
