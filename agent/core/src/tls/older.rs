//! A record of TLS 1.2 under AES-GCM → the write key that it is under, where the handshake was not seen.
//!
//! ```text
//!   tag = AES(key, salt │ nonce │ 1) ⊕ GHASH(number, text)          of these only nonce, text and tag travel
//!     the nonce is the number:   tag ⊕ GHASH, decrypted, is salt │ nonce │ 1 or the key is wrong    (JSSE, Go, GnuTLS, BoringSSL)
//!     the nonce began anywhere:  with a salt from memory, GHASH undone is the number or both are wrong      (OpenSSL, Erlang)
//! ```
//!
//! So bytes from memory need neither master secret nor randoms, which programs forget, and no number is guessed: a wrong key passes with
//! a probability of 2⁻⁹⁶ or 2⁻⁶⁴, and then has to open the record.
//!
//! *Owns* what a key is told by, and the salts that were seen. *Must not know* where keys lie.
//! *Spec*: RFC 5288 section 3; NIST SP 800-38D section 7; RFC 8452 appendix A, for GHASH in terms of POLYVAL.

use std::fmt;

use aes::cipher::consts::U16;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes256};
use polyval::hazmat::FieldElement;
use polyval::universal_hash::UniversalHash;
use polyval::{Block, Polyval};
use zeroize::Zeroizing;

use super::cipher::{HEADER_LEN, Keys, mac_head};
use super::proof::Sample;
use super::secret::Secret;
use super::suite::Suite;

/// The part of the nonce that does not travel.
pub(super) const SALT_LEN: usize = 4;
pub(super) type Salt = [u8; SALT_LEN];
const NONCE_LEN: usize = 8;
const BLOCK: usize = 16;

/// A nonce below is taken for a count of records: a million a second for twelve days. One that began anywhere is below once in sixteen
/// million times.
const COUNTED: u64 = 1 << 40;
/// How much of a nonce that began anywhere is the same for all records of a connection.
const PREFIX_LEN: usize = 6;
/// Salts that stood before such a prefix: a connection has one, and what is left of the last records.
const MAX_BEFORE_NONCE: usize = 16;
/// Salts that stood as arrays of four bytes: some 3,000 in a JVM of 23 MB, each tried on every key. 64 KiB of a process that
/// is searched.
const MAX_ARRAYS: usize = 1 << 14;

/// What was tried costs, in blocks of AES: key schedule and GHASH.
pub(super) const KEY_COST: u64 = 1 << 7;
/// Undoing GHASH: 140 products, eight times as much as the rest of a key, measured side by side.
const UNDO_COST: u64 = 1 << 10;
/// A salt: a block of AES that nothing goes on beside, and a product.
const SALT_COST: u64 = 1 << 4;

/// Bytes of a process that may be salts: wiped when they are dropped, and shown nowhere.
#[derive(Clone, Default)]
pub(super) struct Salts(Zeroizing<Vec<Salt>>);

impl fmt::Debug for Salts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Salts({})", self.0.len())
    }
}

impl Salts {
    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.0.capacity() * SALT_LEN
    }

    pub(super) fn all(&self) -> &[Salt] {
        &self.0
    }

    /// Adds one. What has to move is wiped where it was.
    fn push(&mut self, salt: Salt) {
        if self.0.len() == self.0.capacity() {
            let mut larger = Vec::with_capacity(2 * self.0.len().max(8));
            larger.extend_from_slice(&self.0);
            self.0 = Zeroizing::new(larger);
        }
        self.0.push(salt);
    }

    /// Arrays of four bytes: their length before them, in 32 bits as in JVMs or in 64 as in Erlang, zeros behind. `piece` lies at
    /// `address`.
    pub(super) fn collect_arrays(&mut self, piece: &[u8], address: u64) {
        let first = (address.next_multiple_of(8) - address) as usize;
        let (words, _) = piece.get(first..).unwrap_or_default().as_chunks::<8>();
        let (mut before, known) = (0, self.0.len());
        for word in words {
            let [a, b, c, d, 0, 0, 0, 0] = *word else {
                before = u64::from_le_bytes(*word);
                continue;
            };
            let is_array = before >> 32 == 4 || before == 4 || before == 32;
            before = u64::from_le_bytes(*word);
            // Small numbers are none.
            if is_array && (c | d) != 0 && (a | b) != 0 && self.0.len() < MAX_ARRAYS {
                self.push([a, b, c, d]);
            }
        }
        if self.0.len() > known {
            self.0.sort_unstable();
            self.0.dedup();
        }
    }

    /// What stands before the nonces of a direction in a piece of memory. Returns where those are: a key is near them.
    pub(super) fn collect_before_nonces(&mut self, piece: &[u8], samples: &[Sample]) -> Vec<usize> {
        let mut places = Vec::new();
        let Some(nonce) = samples.first().and_then(begun_anywhere) else { return places };
        for at in memchr::memmem::find_iter(piece, nonce.get(..PREFIX_LEN).unwrap_or_default()) {
            let salt = at.checked_sub(SALT_LEN).and_then(|from| piece.get(from..)?.first_chunk());
            let Some(salt) = salt.filter(|salt| **salt != Salt::default()) else { continue };
            if !self.0.contains(salt) {
                if self.0.len() >= MAX_BEFORE_NONCE {
                    break;
                }
                self.push(*salt);
                places.push(at);
            }
        }
        places
    }
}

/// The nonce of a record, unless it is its number.
pub(super) fn begun_anywhere(sample: &Sample) -> Option<[u8; NONCE_LEN]> {
    nonce(sample).filter(|nonce| *nonce >= COUNTED).map(u64::to_be_bytes)
}

/// The nonce that came with a record.
pub(super) fn nonce(sample: &Sample) -> Option<u64> {
    sample.body.first_chunk().map(|nonce| u64::from_be_bytes(*nonce))
}

/// Key and salt as a secret of the connection, and the record's number.
pub(super) struct Found {
    pub(super) suite: &'static Suite,
    pub(super) secret: Secret,
    pub(super) number: u64,
}

/// Tries a key on a record. Returns with what it was found, and what that cost, in blocks of AES.
pub(super) fn test(key: &[u8], sample: &Sample, salts: [&[Salt]; 2]) -> (Option<Found>, u64) {
    let found = match key.len() {
        16 => Aes128::new_from_slice(key).ok().map(|aes| solve(&aes, sample, salts)),
        32 => Aes256::new_from_slice(key).ok().map(|aes| solve(&aes, sample, salts)),
        _ => None,
    };
    let Some((solved, cost)) = found else { return (None, 0) };
    let found = solved.and_then(|(salt, number)| {
        let suite = Suite::of_key(key.len())?;
        let secret = Secret::new(&Zeroizing::new([key, &salt].concat()))?;
        let keys = keys(suite, &secret)?;
        keys.open(&sample.header, &sample.body, number)?;
        Some(Found { suite, secret, number })
    });
    (found, cost)
}

/// Keys of one direction from what was found.
pub(super) fn keys(suite: &'static Suite, secret: &Secret) -> Option<Keys> {
    let (key, salt) = secret.bytes().split_last_chunk::<SALT_LEN>()?;
    Keys::v12_of_key(suite, key, salt)
}

fn solve(
    aes: &(impl BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt<BlockSize = U16>),
    sample: &Sample,
    salts: [&[Salt]; 2],
) -> (Option<(Salt, u64)>, u64) {
    let mut cost = KEY_COST + sample.body.len() as u64 / 16;
    let Some(record) = Record::new(sample) else { return (None, cost) };
    let mut zero = Array([0; BLOCK]);
    aes.encrypt_block(&mut zero);
    // GHASH in terms of POLYVAL: bytes reversed, and the key doubled once.
    let hash_key = FieldElement::from(zero.0).reverse().mulx();
    let is_counted = record.nonce < COUNTED;
    if is_counted {
        let mut block = Array(xor(record.tag, record.hash(hash_key, record.nonce)));
        aes.decrypt_block(&mut block);
        let [a, b, c, d, rest @ ..] = block.0;
        if rest == tail(record.nonce) {
            return (Some(([a, b, c, d], record.nonce)), cost);
        }
    }
    if is_counted || salts.iter().all(|salts| salts.is_empty()) {
        return (None, cost);
    }
    cost += UNDO_COST;
    // tag ⊕ AES(salt…) ⊕ GHASH(0, text) = number · key^blocks
    let rest = xor(record.tag, record.hash(hash_key, 0));
    let undo = inverse(power(hash_key, record.blocks));
    for salt in salts.into_iter().flatten() {
        cost += SALT_COST;
        let mut block = Array([0; BLOCK]);
        let nonce = salt.iter().copied().chain(tail(record.nonce));
        block.iter_mut().zip(nonce).for_each(|(to, byte)| *to = byte);
        aes.encrypt_block(&mut block);
        let number = (FieldElement::from(xor(rest, block.0)).reverse() * undo).reverse();
        let number: [u8; BLOCK] = number.into();
        if let [number @ .., 0, 0, 0, 0, 0, 0, 0, 0] = number {
            return (Some((*salt, u64::from_be_bytes(number))), cost);
        }
    }
    (None, cost)
}

/// What follows the salt in the block that a tag is made with.
fn tail(nonce: u64) -> [u8; NONCE_LEN + 4] {
    let mut tail = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    tail.iter_mut().zip(nonce.to_be_bytes()).for_each(|(to, byte)| *to = byte);
    tail
}

struct Record<'a> {
    header: [u8; HEADER_LEN],
    nonce: u64,
    text: &'a [u8],
    tag: [u8; BLOCK],
    /// By how many blocks its number is multiplied: itself, those of the text, that of the lengths.
    blocks: u64,
}

impl<'a> Record<'a> {
    fn new(sample: &'a Sample) -> Option<Self> {
        let (nonce, rest) = sample.body.split_first_chunk::<NONCE_LEN>()?;
        let (text, tag) = rest.split_last_chunk::<BLOCK>()?;
        let blocks = text.len().div_ceil(BLOCK) as u64 + 2;
        let nonce = u64::from_be_bytes(*nonce);
        Some(Self { header: sample.header, nonce, text, tag: *tag, blocks })
    }

    /// GHASH over what is authenticated, if it has this number.
    fn hash(&self, key: FieldElement, number: u64) -> [u8; BLOCK] {
        let mut hash = Polyval::new(&key.into());
        let mut first = [0; BLOCK];
        let head = mac_head(&self.header, number, self.text.len());
        first.iter_mut().zip(head).for_each(|(to, byte)| *to = byte);
        let (bits, text_bits) = (8 * head.len() as u64, 8 * self.text.len() as u64);
        let mut last = [0; BLOCK];
        let parts = bits.to_be_bytes().into_iter().chain(text_bits.to_be_bytes());
        last.iter_mut().zip(parts).for_each(|(to, byte)| *to = byte);
        let mut update = |block: [u8; BLOCK]| {
            let block: Block = FieldElement::from(block).reverse().into();
            hash.update(&[block]);
        };
        update(first);
        for piece in self.text.chunks(BLOCK) {
            let mut block = [0; BLOCK];
            block.iter_mut().zip(piece).for_each(|(to, byte)| *to = *byte);
            update(block);
        }
        update(last);
        let hash: [u8; BLOCK] = FieldElement::from(hash.finalize()).reverse().into();
        hash
    }
}

fn xor(a: [u8; BLOCK], b: [u8; BLOCK]) -> [u8; BLOCK] {
    (u128::from_ne_bytes(a) ^ u128::from_ne_bytes(b)).to_ne_bytes()
}

/// The element to the power of `exponent`, which is not 0.
fn power(base: FieldElement, exponent: u64) -> FieldElement {
    let mut result = base;
    for bit in (0..exponent.max(1).ilog2()).rev() {
        result *= result;
        if exponent >> bit & 1 == 1 {
            result *= base;
        }
    }
    result
}

/// To the power of 2¹²⁸ − 2, since the field has 2¹²⁸ elements: 2¹²⁷ − 1 by doubling the number of ones (Itoh and Tsujii, 1988), then
/// one zero.
fn inverse(base: FieldElement) -> FieldElement {
    let square = |mut element: FieldElement, times: u32| {
        for _ in 0..times {
            element *= element;
        }
        element
    };
    let (mut ones, mut count) = (base, 1);
    for bit in (0..6).rev() {
        ones = square(ones, count) * ones;
        count *= 2;
        if 127_u32 >> bit & 1 == 1 {
            ones = square(ones, 1) * base;
            count += 1;
        }
    }
    square(ones, 1)
}

#[cfg(test)]
mod tests {
    use aes_gcm::aead::{Aead, Payload};
    use aes_gcm::{Aes128Gcm, Aes256Gcm};

    use super::*;

    fn block(n: u64) -> FieldElement {
        FieldElement::from(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    }

    #[test]
    fn an_inverse_undoes_a_product_in_the_field() {
        for n in 1..50 {
            let (a, b) = (block(n), block(n + 77));
            let undone: [u8; 16] = (a * power(b, n) * inverse(power(b, n))).into();
            let same: [u8; 16] = a.into();
            assert_eq!(undone, same, "{n}");
        }
    }

    fn sample(key: &[u8], salt: Salt, number: u64, nonce: u64, len: usize) -> Sample {
        let text: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let nonce = nonce.to_be_bytes();
        let header = [23, 3, 3, 0, (len + 24) as u8];
        let head = [&number.to_be_bytes()[..], &header[..3], &(len as u16).to_be_bytes()].concat();
        let (payload, whole) = (Payload { msg: &text, aad: &head }, [&salt[..], &nonce].concat());
        let whole = aes_gcm::Nonce::try_from(&whole[..]).unwrap();
        let sealed = match key.len() {
            16 => Aes128Gcm::new_from_slice(key).unwrap().encrypt(&whole, payload),
            _ => Aes256Gcm::new_from_slice(key).unwrap().encrypt(&whole, payload),
        };
        Sample { header, body: [&nonce[..], &sealed.unwrap()].concat().into() }
    }

    #[test]
    fn a_counted_nonce_tells_the_key_alone() {
        for (key, len) in [(vec![7; 16], 1), (vec![9; 32], 200), (vec![3; 16], 16), (vec![4; 32], 0)] {
            let sample = sample(&key, [1, 2, 3, 4], 5, 5, len);
            let (found, _) = test(&key, &sample, [&[], &[]]);
            let found = found.expect("the key");
            assert_eq!(
                (found.number, found.secret.bytes()),
                (5, [&key[..], &[1, 2, 3, 4]].concat().as_slice())
            );
            let mut other = key.clone();
            other[3] ^= 1;
            assert!(test(&other, &sample, [&[], &[]]).0.is_none());
        }
    }

    #[test]
    fn with_a_salt_the_number_is_told_wherever_the_nonce_began() {
        let nonce = 0x8877_6655_4433_2211_u64;
        for (key, len, number) in [(vec![7; 16], 1, 0), (vec![9; 32], 200, 4711), (vec![3; 16], 16, 1 << 33)]
        {
            let salt = [0x91, 2, 0xa3, 4];
            let sample = sample(&key, salt, number, nonce + number, len);
            let memory = [&[0x11; 21][..], &salt, &(nonce + 1).to_be_bytes(), &[0; 9]].concat();
            let mut salts = Salts::default();
            let is_near = (nonce + 1) >> 16 == (nonce + number) >> 16;
            assert_eq!(
                salts.collect_before_nonces(&memory, std::slice::from_ref(&sample)),
                if is_near { vec![25] } else { vec![] }
            );
            if !is_near {
                salts.push(salt);
            }
            let found = test(&key, &sample, [salts.all(), &[]]).0.expect("key and salt");
            assert_eq!(found.number, number);
            assert!(test(&key, &sample, [&[], &[]]).0.is_none(), "no salt was seen");
            assert!(test(&key, &sample, [&[], &[[1, 1, 1, 1]]]).0.is_none(), "another one was");
        }
    }

    #[test]
    fn salts_are_never_shown() {
        let mut salts = Salts::default();
        (0..100).for_each(|n| salts.push([77, 78, 79, n]));
        assert_eq!(salts.all().len(), 100);
        let text = format!("{salts:?}");
        assert!(!text.contains("77") && !text.contains("4d"), "{text}");
    }

    #[test]
    fn arrays_of_four_bytes_are_salts() {
        let jvm = [&[0xaa; 4][..], &4_u32.to_le_bytes(), &[9, 8, 7, 6, 0, 0, 0, 0]].concat();
        let erlang = [&32_u64.to_le_bytes()[..], &[5, 6, 7, 8, 0, 0, 0, 0]].concat();
        let number = [&4_u64.to_le_bytes()[..], &7_u64.to_le_bytes()].concat();
        let memory = [&[1; 3][..], &jvm, &erlang, &number].concat();
        let mut salts = Salts::default();
        salts.collect_arrays(&memory, 0x2005);
        assert_eq!(salts.all(), [[5, 6, 7, 8], [9, 8, 7, 6]]);
        for n in 0..2 * MAX_ARRAYS as u32 {
            let array =
                [&[0xaa; 4][..], &4_u32.to_le_bytes(), &(n | 0x0100_0001).to_le_bytes(), &[0; 4]].concat();
            salts.collect_arrays(&array, 0);
        }
        assert!(salts.all().len() <= MAX_ARRAYS);
    }
}
