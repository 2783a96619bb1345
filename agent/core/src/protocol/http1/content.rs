//! A body with a content coding → its plain beginning.
//!
//! *Owns* decompression within a bound, for key extraction only. *Must not know* what it decodes.
//! *Spec*: RFC 9110, section 8.4 (gzip, deflate); RFC 7932 (br); RFC 8878 and RFC 9659 (zstd).

use std::io::Read;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Codings applied one over the other that are undone.
const MAX_CODINGS: usize = 3;
/// Bytes decoded at a time.
const BLOCK_LEN: usize = 4096;

/// Bytes decoded for each byte of a body. JSON of one order hardly shrinks, a list of a thousand that differ in a number only to a
/// thirty-sixth (`a_body_of_orders_is_within_the_bound` measures it); what shrinks to less is made to.
const MAX_RATIO: usize = 64;
/// Bytes decoded of the shortest body.
const MIN_DECODED: usize = 4096;

/// Undoes `coding`, the value of `Content-Encoding`, giving at most `bound` bytes, and no more than [`MAX_RATIO`] for each byte of
/// `body` and [`MIN_DECODED`].
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
fn brotli(coded: &[u8], bound: usize) -> Option<Vec<u8>> {
    let alloc = StandardAlloc::default;
    // "Strict" is RFC 7932; the extension to it has windows of 1 GiB.
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let (mut left, mut read, mut total) = (coded.len(), 0, 0);
    let mut plain = Vec::new();
    let mut block = [0; BLOCK_LEN];
    while plain.len() < bound {
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
        match result {
            BrotliResult::NeedsMoreOutput => {}
            // There may be more of what was decoded already.
            BrotliResult::NeedsMoreInput if room == 0 => {}
            BrotliResult::ResultFailure if plain.is_empty() => return None,
            // At the end of what is there.
            BrotliResult::ResultFailure | BrotliResult::NeedsMoreInput | BrotliResult::ResultSuccess => break,
        }
    }
    plain.truncate(bound);
    Some(plain)
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
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn bare(plain: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn br(plain: &[u8]) -> Vec<u8> {
        let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
        encoder.write_all(plain).unwrap();
        encoder.into_inner()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::encode_all(plain, 3).unwrap()
    }

    /// A coding's name and an encoder for it.
    type Coding = (&'static str, fn(&[u8]) -> Vec<u8>);
    const CODINGS: [Coding; 4] = [("gzip", gzip), ("deflate", zlib), ("br", br), ("zstd", zstd)];

    #[test]
    fn codings_are_undone_within_the_bound() {
        let order = br#"{"order_id": 4711, "status": "new"}"#;
        let check = |coding: &str, body: &[u8], bound: usize, expected: Option<&[u8]>| {
            assert_eq!(decode(coding, body, bound).as_deref(), expected, "{coding}");
        };
        check("gzip", &gzip(order), 1000, Some(order));
        check("X-GZIP", &gzip(order), 1000, Some(order));
        check("deflate", &zlib(order), 1000, Some(order));
        check("deflate", &bare(order), 1000, Some(order));
        check("deflate, gzip", &gzip(&zlib(order)), 1000, Some(order));
        check("identity", order, 1000, Some(order));
        check("", order, 5, Some(&order[..5]));
        check("gzip", &gzip(order), 10, Some(&order[..10]));
        check("gzip", &[gzip(b"two "), gzip(b"members")].concat(), 1000, Some(b"two members"));
        check("gzip", b"", 1000, Some(b""));
        check("gzip", order, 1000, None);
        check("br", &br(order), 1000, Some(order));
        check("BR", &br(order), 10, Some(&order[..10]));
        check("zstd", &zstd(order), 1000, Some(order));
        check("zstd", &zstd(order), 10, Some(&order[..10]));
        check("zstd", &[zstd(b"two "), zstd(b"frames")].concat(), 1000, Some(b"two frames"));
        check("zstd, br", &br(&zstd(order)), 1000, Some(order));
        check("br", b"", 1000, Some(b""));
        check("zstd", order, 1000, None);
        check("compress", order, 1000, None);
        check("gzip,gzip,gzip,gzip", &gzip(order), 1000, None);
    }

    #[test]
    fn a_bomb_gives_no_more_than_the_bound() {
        for (coding, encode) in CODINGS {
            let bomb = encode(&vec![0; 16 << 20]);
            assert!(bomb.len() < 32 << 10, "{coding}: {}", bomb.len());
            assert_eq!(decode(coding, &bomb, 1000).map(|plain| plain.len()), Some(1000), "{coding}");
        }
        // One coding over another: the inner one is no larger than the bound either.
        let nested = gzip(&br(&vec![0; 16 << 20]));
        assert_eq!(decode("br, gzip", &nested, 1000).map(|plain| plain.len()), Some(1000));
    }

    #[test]
    fn a_few_bytes_stand_for_a_few_thousand_at_most() {
        for (coding, encode) in CODINGS {
            let bomb = encode(&vec![b' '; 256 << 10]);
            let most = MIN_DECODED + MAX_RATIO * bomb.len();
            assert_eq!(
                decode(coding, &bomb, 256 << 10).map(|plain| plain.len()),
                Some(most.min(256 << 10)),
                "{coding}"
            );
        }
        // 27 bytes: one letter, a quarter of a million times.
        let bomb = br(&vec![b'a'; 256 << 10]);
        assert!(bomb.len() < 64, "{}", bomb.len());
        assert!(decode("br", &bomb, 256 << 10).is_some_and(|plain| plain.len() < 9000));
        // One coding over another is one body.
        let nested = gzip(&gzip(&vec![0; 16 << 20]));
        let most = MIN_DECODED + MAX_RATIO * nested.len();
        assert!(decode("gzip, gzip", &nested, 256 << 10).is_none_or(|plain| plain.len() <= most));
    }

    #[test]
    fn a_body_of_orders_is_within_the_bound() {
        let alike =
            |n: u32| format!(r#"{{"order_id":{n},"status":"new","items":[{{"sku":"A-{n}","count":1}}]}},"#);
        let list: String = (1..1000).map(alike).collect();
        for (coding, encode) in CODINGS {
            for plain in [alike(4711), list.clone()] {
                let coded = encode(plain.as_bytes());
                assert!(
                    plain.len() < coded.len() * MAX_RATIO * 3 / 4,
                    "{coding}: {} of {}",
                    coded.len(),
                    plain.len()
                );
                assert_eq!(
                    decode(coding, &coded, 1 << 20).map(|decoded| decoded.len()),
                    Some(plain.len()),
                    "{coding}"
                );
            }
        }
    }

    #[test]
    fn a_window_larger_than_the_standard_allows_is_refused() {
        // Magic number, no checksum, a window of 2 GiB, and one empty last block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        assert_eq!(decode("zstd", &frame, 1000), None);
        // Window bits 0b0010001: the large window extension, 30 bits of it.
        assert_eq!(decode("br", &[0x11, 30, 0, 0, 0, 0], 1000), None);
    }

    #[test]
    fn the_beginning_of_a_body_gives_its_beginning() {
        let plain: Vec<u8> =
            (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for (coding, encode) in CODINGS {
            let coded = encode(&plain);
            let part = decode(coding, &coded[..coded.len() / 2], 1 << 20).unwrap();
            assert!(part.len() > plain.len() / 4, "{coding}: {} of {}", part.len(), plain.len());
            assert!(plain.starts_with(&part), "{coding}");
        }
    }

    #[test]
    fn every_prefix_of_a_coded_body_gives_a_prefix() {
        let order = br#"{"order_id": 4711, "status": "new", "items": ["a", "b", "c"]}"#.repeat(20);
        for (coding, encode) in CODINGS {
            let coded = encode(&order);
            for end in 0..coded.len() {
                let part = decode(coding, &coded[..end], 1 << 20);
                assert!(part.is_none_or(|part| order.starts_with(&part)), "{coding}: {end} bytes");
            }
            // Damage anywhere gives something bounded, or nothing.
            for at in 0..coded.len() {
                let mut damaged = coded.clone();
                damaged[at] ^= 0x55;
                assert!(decode(coding, &damaged, 4096).is_none_or(|part| part.len() <= 4096));
            }
        }
    }
}
