//! What traffic chooses → a number that nobody outside can foretell.
//!
//! Keys of tables, and contents that are compared in this process only. Each [`Keyed`] has a key that the system drew, so that
//! nobody can choose values that meet in one place; what other agents must find alike is hashed by
//! [`ids`](crate::order::ids), what must withstand whoever knows the key by a MAC. A short text costs a sixth of what the standard
//! library's hash does.
//!
//! *Spec*: none; a multiplication to 128 bits, folded, as wyhash, foldhash and aHash use it for the same purpose.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashes of one key.
#[derive(Clone, Debug)]
pub struct Keyed {
    start: u64,
    key: u64,
}

impl Keyed {
    /// With a key of its own.
    pub fn new() -> Self {
        let drawn = RandomState::new();
        // An even factor would lose a bit at each step.
        Self { start: drawn.hash_one(0_u8), key: drawn.hash_one(1_u8) | 1 }
    }
}

impl Default for Keyed {
    fn default() -> Self {
        Self::new()
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folded;

    #[inline]
    fn build_hasher(&self) -> Folded {
        Folded { state: self.start, key: self.key }
    }
}

/// A hash being made.
#[derive(Clone, Debug)]
pub struct Folded {
    state: u64,
    key: u64,
}

/// Both halves of the product: every bit of it depends on all bits of both.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Folded {
    #[inline]
    fn take(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.key);
    }

    #[inline]
    fn take_two(&mut self, one: u64, two: u64) {
        self.state = fold(self.state ^ one, self.key ^ two);
    }
}

impl Hasher for Folded {
    #[inline]
    fn finish(&self) -> u64 {
        fold(self.state, self.key ^ 0x9e37_79b9_7f4a_7c15)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let wide = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let narrow = |bytes: Option<&[u8; 4]>| bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
        self.take(bytes.len() as u64);
        let mut rest = bytes;
        while let Some((chunk, behind)) = rest.split_first_chunk::<16>() {
            self.take_two(wide(chunk.first_chunk()), wide(chunk.last_chunk()));
            rest = behind;
        }
        // What is left may be read twice, never outside.
        match rest {
            [] => {}
            [first, ..] if rest.len() < 4 => {
                let middle = rest.get(rest.len() / 2).copied().unwrap_or_default();
                let last = rest.last().copied().unwrap_or_default();
                self.take(u64::from(*first) | u64::from(middle) << 8 | u64::from(last) << 16);
            }
            _ if rest.len() < 8 => self.take(narrow(rest.first_chunk()) | narrow(rest.last_chunk()) << 32),
            _ => self.take_two(wide(rest.first_chunk()), wide(rest.last_chunk())),
        }
    }

    #[inline]
    fn write_u8(&mut self, n: u8) {
        self.take(u64::from(n));
    }

    #[inline]
    fn write_u16(&mut self, n: u16) {
        self.take(u64::from(n));
    }

    #[inline]
    fn write_u32(&mut self, n: u32) {
        self.take(u64::from(n));
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.take(n);
    }

    #[inline]
    fn write_usize(&mut self, n: usize) {
        self.take(n as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_key_has_hashes_of_its_own() {
        let (one, two) = (Keyed::new(), Keyed::new());
        assert_eq!(one.hash_one("order"), one.clone().hash_one("order"));
        assert_ne!(one.hash_one("order"), two.hash_one("order"));
    }

    #[test]
    fn texts_of_all_lengths_that_differ_in_one_bit_have_different_hashes() {
        let keyed = Keyed::new();
        let mut seen = HashSet::new();
        let mut count = 0;
        for len in 0..70 {
            let text = vec![b'a'; len];
            assert!(seen.insert(keyed.hash_one(text.as_slice())), "{len} bytes");
            count += 1;
            for bit in 0..8 * len {
                let mut other = text.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(keyed.hash_one(other.as_slice())), "{len} bytes, bit {bit}");
                count += 1;
            }
        }
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn hashes_of_numbers_are_spread_over_both_ends() {
        let keyed = Keyed::new();
        // A table takes the low bits for the place, and the high ones to tell entries apart.
        for shift in [0, 54] {
            let mut places = vec![0_u32; 1024];
            for n in 0..102_400_u64 {
                places[(keyed.hash_one(n) >> shift & 1023) as usize] += 1;
            }
            let most = places.iter().max().copied().unwrap_or_default();
            assert!(most < 180, "{most} of 102,400 in one of 1,024 places");
        }
    }

    #[test]
    fn fields_that_are_parted_elsewhere_have_other_hashes() {
        let keyed = Keyed::new();
        assert_ne!(keyed.hash_one(("ab", "c")), keyed.hash_one(("a", "bc")));
        assert_ne!(keyed.hash_one(("", "abc")), keyed.hash_one(("abc", "")));
    }
}
