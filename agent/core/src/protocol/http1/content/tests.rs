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
        // A block of brotli is decoded as a whole, or not at all.
        let expected = if coding == "br" { None } else { Some(1000) };
        assert_eq!(decode(coding, &bomb, 1000).map(|plain| plain.len()), expected, "{coding}");
    }
    // One coding over another: the inner one is no larger than the bound either.
    let nested = gzip(&zlib(&vec![0; 16 << 20]));
    assert_eq!(decode("deflate, gzip", &nested, 1000).map(|plain| plain.len()), Some(1000));
}

#[test]
fn a_few_bytes_stand_for_a_few_thousand_at_most() {
    for (coding, encode) in CODINGS {
        let bomb = encode(&vec![b' '; 256 << 10]);
        let most = MIN_DECODED + MAX_RATIO * bomb.len();
        if coding == "br" {
            assert_eq!(decode(coding, &bomb, 256 << 10), None);
            continue;
        }
        assert_eq!(
            decode(coding, &bomb, 256 << 10).map(|plain| plain.len()),
            Some(most.min(256 << 10)),
            "{coding}"
        );
    }
    // What comes before a block that is too long is read.
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
    encoder.write_all(b"{\"order_id\":4711,\"x\":\"").unwrap();
    encoder.flush().unwrap();
    encoder.write_all(&vec![b'a'; 8 << 20]).unwrap();
    let late = encoder.into_inner();
    assert!(late.len() < 1000, "{}", late.len());
    assert_eq!(decode("br", &late, 256 << 10).as_deref(), Some(&b"{\"order_id\":4711,\"x\":\""[..]));
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
    let plain: Vec<u8> = (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
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
