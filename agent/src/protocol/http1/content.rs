//! A body with a content coding in, its plain beginning out.
//!
//! *Owns* decompression within a bound, for key extraction only. *Must not know* what it decodes.
//! *Spec*: RFC 9110, section 8.4.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Codings applied one over the other that are undone.
const MAX_CODINGS: usize = 3;

/// Undoes `coding`, the value of `Content-Encoding`, giving at most `bound` bytes.
///
/// `body` may be the beginning of a body only: what can be decoded of it is returned. `None` when a coding is not
/// known, or when not even one byte can be decoded of a body that has some. Work is linear in `bound` for each coding.
pub fn decode(coding: &str, body: &[u8], bound: usize) -> Option<Vec<u8>> {
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
    None
}

/// What comes out before an end, an error or the bound. An error at once is `None`.
fn read_bounded(mut decoder: impl Read, bound: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut block = [0; 4096];
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
        check("br", order, 1000, None);
        check("gzip,gzip,gzip,gzip", &gzip(order), 1000, None);
    }

    #[test]
    fn a_bomb_gives_no_more_than_the_bound() {
        let bomb = gzip(&vec![0; 16 << 20]);
        assert!(bomb.len() < 32 << 10);
        assert_eq!(decode("gzip", &bomb, 1000).map(|plain| plain.len()), Some(1000));
    }

    #[test]
    fn the_beginning_of_a_body_gives_its_beginning() {
        let plain: Vec<u8> =
            (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let coded = gzip(&plain);
        let part = decode("gzip", &coded[..coded.len() / 2], 1 << 20).unwrap();
        assert!(part.len() > plain.len() / 4, "{} of {}", part.len(), plain.len());
        assert!(plain.starts_with(&part));
    }
}
