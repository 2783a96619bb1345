//! Bytes → hexadecimal digits and back; bytes and a key → the digest that only the key can make.
//!
//! *Spec*: HMAC-SHA-256 (RFC 2104).

use chacha20poly1305::aead::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Length of a digest and of its key, in bytes.
pub(crate) const LEN: usize = 32;

/// Two lower-case digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that digits of either case stand for; `None` for anything else, and for an odd number of them.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// HMAC-SHA-256 of parts one after the other.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; LEN] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes any length"));
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_bytes_are_the_same() {
        assert_eq!(hex(&[0, 0x0f, 0xa0]), "000fa0");
        for (text, bytes) in
            [("000fA0", Some(vec![0, 0x0f, 0xa0])), ("", Some(vec![])), ("0", None), ("0g", None)]
        {
            assert_eq!(from_hex(text), bytes, "{text}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_standard() {
        // RFC 4231, test case 1, whose key of 20 bytes is padded with zeros in any case.
        let mut key = [0; LEN];
        key[..20].fill(0x0b);
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(hex(&hmac(&key, &[b"Hi ", b"There"])), expected);
    }
}
