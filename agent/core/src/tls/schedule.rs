//! A secret → the keys of records.
//!
//! *Owns* the derivations of both versions. *Must not know* records.
//! *Spec*: RFC 8446, sections 7.1 to 7.3; RFC 5246, sections 5 and 6.3.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384};
use zeroize::Zeroizing;

use super::suite::Hash;

/// HKDF-Expand-Label with an empty context. Leaves `out` as it is if the secret is shorter than the hash.
pub(super) fn expand_label(hash: Hash, secret: &[u8], label: &str, out: &mut [u8]) {
    expand_labels(hash, secret, &mut [(label, out)]);
}

/// Several from one secret: a fourth cheaper than one by one, for what depends on the secret alone is done once.
pub(super) fn expand_labels(hash: Hash, secret: &[u8], all: &mut [(&str, &mut [u8])]) {
    macro_rules! with {
        ($hash:ty) => {{
            let Ok(hkdf) = Hkdf::<$hash>::from_prk(secret) else { return };
            for (label, out) in all {
                // struct { uint16 length; opaque label<7..255> = "tls13 " + Label; opaque context<0..255>; } HkdfLabel
                let (len, label_len) = ((out.len() as u16).to_be_bytes(), [(6 + label.len()) as u8]);
                let info: [&[u8]; 5] = [&len, &label_len, b"tls13 ", label.as_bytes(), &[0]];
                // The lengths are those of keys: far below what HKDF gives at most.
                let _ = hkdf.expand_multi_info(&info, out);
            }
        }};
    }
    match hash {
        Hash::Sha384 => with!(Sha384),
        Hash::Sha256 | Hash::Sha1 => with!(Sha256),
    }
}

/// The secret after a KeyUpdate.
pub(super) fn next_secret(hash: Hash, secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut next = Zeroizing::new(vec![0; hash.len()]);
    expand_label(hash, secret, "traffic upd", &mut next);
    next
}

/// TLS 1.2's key block from the master secret: PRF(master, "key expansion", server random + client random).
pub(super) fn key_block(
    hash: Hash,
    master: &[u8],
    server_random: &[u8; 32],
    client_random: &[u8; 32],
    len: usize,
) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(len + 48));
    let seed = [&b"key expansion"[..], server_random, client_random].concat();
    // P_hash: A(0) = seed, A(i) = HMAC(secret, A(i-1)); the output is HMAC(secret, A(i) + seed) for i = 1, 2, …
    let mut a = mac(hash, master, &[&seed]);
    while out.len() < len {
        out.extend_from_slice(&mac(hash, master, &[&a, &seed]));
        a = mac(hash, master, &[&a]);
    }
    out.truncate(len);
    out
}

/// HMAC over the parts.
pub(super) fn mac(hash: Hash, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    macro_rules! with {
        ($digest:ty) => {{
            let Ok(mut mac) = Hmac::<$digest>::new_from_slice(key) else { return Zeroizing::default() };
            for part in parts {
                mac.update(part);
            }
            Zeroizing::new(mac.finalize().into_bytes().to_vec())
        }};
    }
    match hash {
        Hash::Sha1 => with!(sha1::Sha1),
        Hash::Sha256 => with!(Sha256),
        Hash::Sha384 => with!(Sha384),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 8448, section 3: "Simple 1-RTT Handshake".
    #[test]
    fn keys_of_rfc_8448() {
        let server = hex(
            "a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43",
        );
        let (mut key, mut iv) = ([0; 16], [0; 12]);
        expand_label(Hash::Sha256, &server, "key", &mut key);
        expand_label(Hash::Sha256, &server, "iv", &mut iv);
        assert_eq!(key[..], hex("9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56"));
        assert_eq!(iv[..], hex("cf 78 2b 88 dd 83 54 9a ad f1 e9 84"));
        let client = hex(
            "9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 04 a5",
        );
        expand_label(Hash::Sha256, &client, "key", &mut key);
        expand_label(Hash::Sha256, &client, "iv", &mut iv);
        assert_eq!(key[..], hex("17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51"));
        assert_eq!(iv[..], hex("5b 78 92 3d ee 08 57 90 33 e5 23 d9"));
    }
}
