//! The number of a cipher suite → what it is made of.
//!
//! *Owns* the suites that are opened. *Must not know* keys.
//! *Spec*: IANA's registry of TLS cipher suites; RFC 8446 B.4, RFC 5246 A.5, RFC 5288, RFC 5289, RFC 5487, RFC 7905, RFC 8442.

/// A version of the protocol that is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    Tls12,
    Tls13,
}

impl Version {
    /// As `tls.protocol.version` has it.
    pub fn name(self) -> &'static str {
        match self {
            Version::Tls12 => "1.2",
            Version::Tls13 => "1.3",
        }
    }
}

/// What protects records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bulk {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    Aes128Cbc(Hash),
    Aes256Cbc(Hash),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha384,
}

impl Hash {
    pub(super) fn len(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
        }
    }
}

impl Bulk {
    pub(super) fn key_len(self) -> usize {
        match self {
            Bulk::Aes128Gcm | Bulk::Aes128Cbc(_) => 16,
            Bulk::Aes256Gcm | Bulk::Aes256Cbc(_) | Bulk::ChaCha20Poly1305 => 32,
        }
    }
}

/// A cipher suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) id: u16,
    /// IANA's name. `None`: how keys were agreed on was not seen.
    pub(super) name: Option<&'static str>,
    pub(super) version: Version,
    pub(super) bulk: Bulk,
    /// Of the key schedule.
    pub(super) hash: Hash,
}

impl Suite {
    /// `None`: not opened.
    pub(super) fn of(id: u16) -> Option<&'static Self> {
        SUITES.iter().find(|suite| suite.id == id)
    }

    /// Those of TLS 1.3 whose secrets have this length.
    pub(super) fn with_secret(len: usize) -> impl Iterator<Item = &'static Self> {
        SUITES.iter().filter(move |suite| suite.version == Version::Tls13 && suite.hash.len() == len)
    }

    /// What a key of TLS 1.2 is used with of which only the length is known: GCM.
    pub(super) fn of_key(len: usize) -> Option<&'static Self> {
        OF_KEYS.iter().find(|suite| suite.bulk.key_len() == len)
    }
}

const OF_KEYS: &[Suite] = &[
    Suite { name: None, ..v12(0, "", Bulk::Aes128Gcm, Hash::Sha256) },
    Suite { name: None, ..v12(0, "", Bulk::Aes256Gcm, Hash::Sha384) },
];

const fn v13(id: u16, name: &'static str, bulk: Bulk, hash: Hash) -> Suite {
    Suite { id, name: Some(name), version: Version::Tls13, bulk, hash }
}

const fn v12(id: u16, name: &'static str, bulk: Bulk, hash: Hash) -> Suite {
    Suite { id, name: Some(name), version: Version::Tls12, bulk, hash }
}

#[rustfmt::skip]
const SUITES: &[Suite] = {
    use Bulk::{Aes128Cbc, Aes128Gcm, Aes256Cbc, Aes256Gcm, ChaCha20Poly1305};
    use Hash::{Sha1, Sha256, Sha384};
    &[
        v13(0x1301, "TLS_AES_128_GCM_SHA256", Aes128Gcm, Sha256),
        v13(0x1302, "TLS_AES_256_GCM_SHA384", Aes256Gcm, Sha384),
        v13(0x1303, "TLS_CHACHA20_POLY1305_SHA256", ChaCha20Poly1305, Sha256),
        v12(0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Aes128Gcm, Sha256),
        v12(0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Aes256Gcm, Sha384),
        v12(0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Aes128Gcm, Sha256),
        v12(0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Aes256Gcm, Sha384),
        v12(0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", ChaCha20Poly1305, Sha256),
        v12(0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", ChaCha20Poly1305, Sha256),
        v12(0xccaa, "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256", ChaCha20Poly1305, Sha256),
        v12(0xccab, "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256", ChaCha20Poly1305, Sha256),
        v12(0xccac, "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256", ChaCha20Poly1305, Sha256),
        v12(0xccad, "TLS_DHE_PSK_WITH_CHACHA20_POLY1305_SHA256", ChaCha20Poly1305, Sha256),
        v12(0x009c, "TLS_RSA_WITH_AES_128_GCM_SHA256", Aes128Gcm, Sha256),
        v12(0x009d, "TLS_RSA_WITH_AES_256_GCM_SHA384", Aes256Gcm, Sha384),
        v12(0x009e, "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", Aes128Gcm, Sha256),
        v12(0x009f, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384", Aes256Gcm, Sha384),
        v12(0x00a8, "TLS_PSK_WITH_AES_128_GCM_SHA256", Aes128Gcm, Sha256),
        v12(0x00a9, "TLS_PSK_WITH_AES_256_GCM_SHA384", Aes256Gcm, Sha384),
        v12(0x00aa, "TLS_DHE_PSK_WITH_AES_128_GCM_SHA256", Aes128Gcm, Sha256),
        v12(0x00ab, "TLS_DHE_PSK_WITH_AES_256_GCM_SHA384", Aes256Gcm, Sha384),
        v12(0xd001, "TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256", Aes128Gcm, Sha256),
        v12(0xd002, "TLS_ECDHE_PSK_WITH_AES_256_GCM_SHA384", Aes256Gcm, Sha384),
        v12(0xc009, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", Aes128Cbc(Sha1), Sha256),
        v12(0xc00a, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", Aes256Cbc(Sha1), Sha256),
        v12(0xc013, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", Aes128Cbc(Sha1), Sha256),
        v12(0xc014, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", Aes256Cbc(Sha1), Sha256),
        v12(0xc023, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", Aes128Cbc(Sha256), Sha256),
        v12(0xc024, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384", Aes256Cbc(Sha384), Sha384),
        v12(0xc027, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", Aes128Cbc(Sha256), Sha256),
        v12(0xc028, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384", Aes256Cbc(Sha384), Sha384),
        v12(0x002f, "TLS_RSA_WITH_AES_128_CBC_SHA", Aes128Cbc(Sha1), Sha256),
        v12(0x0033, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA", Aes128Cbc(Sha1), Sha256),
        v12(0x0035, "TLS_RSA_WITH_AES_256_CBC_SHA", Aes256Cbc(Sha1), Sha256),
        v12(0x0039, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA", Aes256Cbc(Sha1), Sha256),
        v12(0x003c, "TLS_RSA_WITH_AES_128_CBC_SHA256", Aes128Cbc(Sha256), Sha256),
        v12(0x003d, "TLS_RSA_WITH_AES_256_CBC_SHA256", Aes256Cbc(Sha256), Sha256),
        v12(0x0067, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256", Aes128Cbc(Sha256), Sha256),
        v12(0x006b, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256", Aes256Cbc(Sha256), Sha256),
    ]
};
