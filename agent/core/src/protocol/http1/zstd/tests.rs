//! Against the reference library: what it writes is read, what both read is the same, and damage is bounded.

use super::*;

/// Numbers of a fixed sequence.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Contents that make an encoder use all it has: blocks of all kinds, trees, tables of all modes, offsets used again.
fn contents(lens: &[usize]) -> Vec<Vec<u8>> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut all = vec![Vec::new(), b"x".to_vec(), vec![0; 300]];
    for len in lens.iter().copied() {
        all.push(vec![7; len]);
        all.push(b"ab".repeat(len / 2));
        all.push((0..len).map(|_| numbers.next() as u8).collect());
        all.push((0..len).map(|_| b"abcd"[numbers.below(4)]).collect());
        all.push((0..len).map(|at| (at * at / 7) as u8).collect());
        all.push((0..len).map(|_| (numbers.next() & numbers.next() & numbers.next()) as u8).collect());
        let mut orders = String::new();
        while orders.len() < len {
            let (id, status) = (numbers.below(100_000), ["new", "paid", "sent"][numbers.below(3)]);
            orders += &format!("{{\"order_id\": {id}, \"status\": \"{status}\"}},\n");
        }
        all.push(orders.into_bytes());
    }
    all
}

fn encoded(plain: &[u8], level: i32) -> Vec<u8> {
    zstd::bulk::compress(plain, level).unwrap()
}

/// What the reference library makes of it; `None` when it finds an error.
fn reference(coded: &[u8], bound: usize) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(coded).unwrap();
    decoder.window_log_max(23).unwrap();
    let mut plain = Vec::new();
    decoder.take(bound as u64).read_to_end(&mut plain).ok().map(|_| plain)
}

#[test]
fn what_the_reference_writes_is_read_at_every_level() {
    for plain in contents(&[10, 1000, 20_000, 300_000]) {
        for level in [-5, 1, 3, 7, 13, 19] {
            let coded = encoded(&plain, level);
            assert_eq!(
                decode(&coded, 1 << 20).as_ref(),
                Some(&plain),
                "{} bytes, level {level}",
                plain.len()
            );
            for bound in [0, 1, plain.len() / 3, plain.len()] {
                let beginning = &plain[..bound.min(plain.len())];
                assert_eq!(decode(&coded, bound).as_deref(), Some(beginning), "{bound} of {}", plain.len());
            }
            // Without the length in front, with a checksum.
            let mut stream = zstd::stream::Encoder::new(Vec::new(), level).unwrap();
            stream.include_checksum(true).unwrap();
            std::io::Write::write_all(&mut stream, &plain).unwrap();
            assert_eq!(decode(&stream.finish().unwrap(), 1 << 20).as_ref(), Some(&plain));
        }
    }
}

#[test]
fn damage_is_bounded_and_never_read_as_something_else_than_the_reference_reads() {
    let coded: Vec<Vec<u8>> = contents(&[200, 5000])
        .iter()
        .flat_map(|plain| [1, 3, 19].map(|level| encoded(plain, level)))
        .collect();
    let mut numbers = Numbers(7);
    let mut same = 0;
    for _ in 0..20_000 {
        let mut damaged = coded[numbers.below(coded.len())].clone();
        for _ in 0..=numbers.below(4) {
            // Half of the damage in the headers, where it changes most.
            let reach = if numbers.below(2) == 0 { 40 } else { usize::MAX };
            let at = numbers.below(damaged.len().min(reach));
            match numbers.below(4) {
                0 => damaged[at] = numbers.next() as u8,
                1 => damaged[at] ^= 1 << numbers.below(8),
                2 if damaged.len() > 1 => drop(damaged.remove(at)),
                _ => damaged.insert(at, numbers.next() as u8),
            }
        }
        const BOUND: usize = 40_000;
        let Some(plain) = decode(&damaged, BOUND) else { continue };
        assert!(plain.len() <= BOUND);
        // The reference does not look at the end of some streams, so it reads a little more than the format allows.
        if let Some(expected) = reference(&damaged, BOUND) {
            assert!(expected.starts_with(&plain), "{damaged:?}");
            same += 1;
        }
    }
    assert!(same > 500, "{same}");
}

#[test]
fn a_small_bomb_gives_the_bound_and_no_more() {
    for plain in [vec![0; 16 << 20], b"ab".repeat(8 << 20), b"abc".repeat(5 << 20)] {
        let bomb = encoded(&plain, 19);
        assert!(bomb.len() < 4 << 10, "{}", bomb.len());
        let decoded = decode(&bomb, 256 << 10).unwrap();
        assert_eq!(decoded.len(), 256 << 10);
        assert!(decoded.capacity() <= 1 << 20, "{}", decoded.capacity());
    }
}

#[test]
fn frames_are_read_one_after_another_and_skippable_ones_are_skipped() {
    let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"any"].concat();
    let both = [encoded(b"one ", 3), skipped.clone(), encoded(b"two", 3)].concat();
    assert_eq!(decode(&both, 100).as_deref(), Some(&b"one two"[..]));
    assert_eq!(decode(&skipped, 100).as_deref(), Some(&b""[..]));
    assert_eq!(
        decode(&both[..both.len() - 1], 100).as_deref(),
        Some(&b"one tw"[..]),
        "of the last block, what is there"
    );
    assert_eq!(decode(b"", 100).as_deref(), Some(&b""[..]));
    assert_eq!(decode(b"something else", 100), None);
}

/// A frame of one block, by hand: magic, a window of 1 KiB, the block.
fn frame_of(descriptor: u8, block: &[u8]) -> Vec<u8> {
    [&[0x28, 0xb5, 0x2f, 0xfd, descriptor, 0][..], block].concat()
}

#[test]
fn what_the_format_forbids_is_refused() {
    // Last block, one byte repeated: three bytes of header, "kind" in bits 1 and 2, the length above.
    let repeated = |len: u32| [&(1 | 1 << 1 | len << 3).to_le_bytes()[..3], b"x"].concat();
    assert_eq!(decode(&frame_of(0, &repeated(1024)), 2000), Some(vec![b'x'; 1024]));
    assert_eq!(decode(&frame_of(0, &repeated(1025)), 2000), None, "larger than its window");
    assert_eq!(decode(&frame_of(0x08, &repeated(3)), 2000), None, "a reserved bit");
    assert_eq!(decode(&frame_of(0, &[1 | 3 << 1, 0, 0]), 2000), None, "a reserved kind of block");
    // A dictionary of number 7: nobody has it.
    assert_eq!(decode(&[&[0x28, 0xb5, 0x2f, 0xfd, 1, 0, 7][..], &repeated(3)].concat(), 2000), None);
}
