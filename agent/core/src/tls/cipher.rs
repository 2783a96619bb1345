//! The keys of one direction: records under them → what was in them.
//!
//! ```text
//!   TLS 1.3 AEAD   header 5 │ ciphertext of (content, type 1, zeros) │ tag 16
//!   TLS 1.2 GCM    header 5 │ nonce 8 │ ciphertext │ tag 16
//!   TLS 1.2 ChaCha header 5 │ ciphertext │ tag 16
//!   TLS 1.2 CBC    header 5 │ IV 16 │ ciphertext of (content, MAC, padding)                 MAC first, then encrypted
//!                  header 5 │ IV 16 │ ciphertext of (content, padding) │ MAC                encrypted first (RFC 7366)
//! ```
//!
//! In all of them a byte of content stands where the byte of ciphertext stood that it came from: content byte *n* of a record
//! at *p* is at *p* + 5 + [`Keys::front`] + *n*.
//!
//! *Owns* what a record's number has to do with opening it, and finding that number. *Must not know* streams.
//! *Spec*: RFC 8446 section 5; RFC 5246 section 6.2.3; RFC 5288; RFC 7905; RFC 7366.

use aes::cipher::{
    Array, BlockCipherEncrypt, BlockModeDecrypt, KeyInit, KeyIvInit, StreamCipher, StreamCipherSeek,
};
use aes::{Aes128, Aes256};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20::ChaCha20;
use chacha20poly1305::ChaCha20Poly1305;
use zeroize::{Zeroize, Zeroizing};

use super::schedule::{expand_labels, key_block, mac};
use super::suite::{Bulk, Hash, Suite, Version};

pub(super) const HEADER_LEN: usize = 5;
const TAG_LEN: usize = 16;
const BLOCK: usize = 16;
/// Numbers tried at once: as many blocks as AES-NI has in flight.
const BATCH: usize = 8;

/// Content types (RFC 8446, section 5.1).
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// What a record that is looked for may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinds {
    /// Data, handshake messages or alerts.
    Any,
    /// Data: what nearly all records hold, where a number is not known at all.
    Data,
}

/// What was in a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// The content type.
    pub(super) kind: u8,
    pub(super) content: Vec<u8>,
    /// Zeros after the content (TLS 1.3).
    pub(super) padding: usize,
}

enum Cipher {
    Gcm128(Box<(Aes128, Aes128Gcm)>),
    Gcm256(Box<(Aes256, Aes256Gcm)>),
    ChaCha(Box<(Zeroizing<[u8; 32]>, ChaCha20Poly1305)>),
    Cbc { key: Zeroizing<Vec<u8>>, mac_key: Zeroizing<Vec<u8>>, hash: Hash, is_encrypted_first: bool },
}

/// Keys of one direction. Wiped when dropped.
pub(super) struct Keys {
    version: Version,
    cipher: Cipher,
    /// All of it, or the implicit part of TLS 1.2's GCM: the first 4 bytes.
    iv: Zeroizing<[u8; 12]>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Keys {
    /// TLS 1.3: from a traffic secret.
    pub(super) fn v13(suite: &Suite, secret: &[u8]) -> Option<Self> {
        if secret.len() != suite.hash.len() {
            return None;
        }
        let (mut key, mut iv) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 12]));
        let key = key.get_mut(..suite.bulk.key_len())?;
        expand_labels(suite.hash, secret, &mut [("key", &mut *key), ("iv", iv.as_mut_slice())]);
        Some(Self { version: Version::Tls13, cipher: Cipher::aead(suite.bulk, key)?, iv })
    }

    /// TLS 1.2: those of the client and of the server, from the master secret.
    pub(super) fn v12(
        suite: &Suite,
        master: &[u8],
        client_random: &[u8; 32],
        server_random: &[u8; 32],
        is_encrypted_first: bool,
    ) -> Option<[Self; 2]> {
        let (mac_len, iv_len) = match suite.bulk {
            Bulk::Aes128Gcm | Bulk::Aes256Gcm => (0, 4),
            Bulk::ChaCha20Poly1305 => (0, 12),
            // The IV is in the record since TLS 1.1.
            Bulk::Aes128Cbc(hash) | Bulk::Aes256Cbc(hash) => (hash.len(), 0),
        };
        let key_len = suite.bulk.key_len();
        let len = 2 * (mac_len + key_len + iv_len);
        let block = key_block(suite.hash, master, server_random, client_random, len);
        // client MAC key, server MAC key, client key, server key, client IV, server IV
        let part = |from: usize, len: usize, is_server: bool| {
            let from = from + usize::from(is_server) * len;
            block.get(from..from + len)
        };
        let keys = |is_server| {
            let mac_key = part(0, mac_len, is_server)?;
            let key = part(2 * mac_len, key_len, is_server)?;
            let mut iv = Zeroizing::new([0; 12]);
            iv.get_mut(..iv_len)?.copy_from_slice(part(2 * (mac_len + key_len), iv_len, is_server)?);
            let cipher = match suite.bulk {
                Bulk::Aes128Cbc(hash) | Bulk::Aes256Cbc(hash) => Cipher::Cbc {
                    key: Zeroizing::new(key.to_vec()),
                    mac_key: Zeroizing::new(mac_key.to_vec()),
                    hash,
                    is_encrypted_first,
                },
                aead => Cipher::aead(aead, key)?,
            };
            Some(Self { version: Version::Tls12, cipher, iv })
        };
        Some([keys(false)?, keys(true)?])
    }

    /// TLS 1.2 with GCM: from the key of one direction and the part of its nonce that does not travel.
    pub(super) fn v12_of_key(suite: &Suite, key: &[u8], salt: &[u8; 4]) -> Option<Self> {
        let mut iv = Zeroizing::new([0; 12]);
        iv.first_chunk_mut::<4>()?.copy_from_slice(salt);
        Some(Self { version: Version::Tls12, cipher: Cipher::aead(suite.bulk, key)?, iv })
    }

    /// Bytes of a record's body before the ciphertext.
    pub(super) fn front(&self) -> usize {
        match (&self.cipher, self.version) {
            (Cipher::Cbc { .. }, _) => BLOCK,
            (Cipher::Gcm128(_) | Cipher::Gcm256(_), Version::Tls12) => 8,
            _ => 0,
        }
    }

    /// Bytes of a record's body after the content, at least.
    pub(super) fn back(&self) -> usize {
        match (&self.cipher, self.version) {
            (Cipher::Cbc { hash, .. }, _) => hash.len() + 1,
            (_, Version::Tls13) => TAG_LEN + 1,
            (_, Version::Tls12) => TAG_LEN,
        }
    }

    /// Opens a record with its number. `None`: it is not under these keys, or has another number, or was changed.
    pub(super) fn open(&self, head: &[u8; HEADER_LEN], body: &[u8], number: u64) -> Option<Opened> {
        let inner = body.get(self.front()..)?;
        if let Cipher::Cbc { key, mac_key, hash, is_encrypted_first } = &self.cipher {
            let iv = body.first_chunk::<BLOCK>()?;
            let content = if *is_encrypted_first {
                let (text, tag) = inner.split_at_checked(inner.len().checked_sub(hash.len())?)?;
                let head = mac_head(head, number, BLOCK + text.len());
                is_same(&mac(*hash, mac_key, &[&head, iv, text]), tag).then_some(())?;
                let mut content = decrypt_cbc(key, iv, text)?;
                unpad(&mut content)?;
                content
            } else {
                let mut content = decrypt_cbc(key, iv, inner)?;
                unpad(&mut content)?;
                let tag = content.split_off(content.len().checked_sub(hash.len())?);
                let head = mac_head(head, number, content.len());
                is_same(&mac(*hash, mac_key, &[&head, &content]), &tag).then_some(())?;
                content
            };
            return Some(Opened { kind: head[0], content, padding: 0 });
        }
        let (text, tag) = inner.split_at_checked(inner.len().checked_sub(TAG_LEN)?)?;
        let tag = tag.first_chunk::<TAG_LEN>()?;
        let nonce = self.nonce(body, number)?;
        let long;
        let data: &[u8] = match self.version {
            Version::Tls13 => head,
            Version::Tls12 => {
                long = mac_head(head, number, text.len());
                &long
            }
        };
        let mut content = text.to_vec();
        self.cipher.open(&nonce, data, &mut content, tag)?;
        match self.version {
            Version::Tls12 => Some(Opened { kind: head[0], content, padding: 0 }),
            Version::Tls13 => {
                // The type is the last byte that is not zero.
                let end = content.iter().rposition(|byte| *byte != 0)?;
                let padding = content.len() - end - 1;
                let kind = content.get(end).copied()?;
                content.truncate(end);
                Some(Opened { kind, content, padding })
            }
        }
    }

    /// The first number of `numbers` under which a record opens, and how many were tried.
    ///
    /// In counter modes one block tells nearly always that a number is wrong: the last byte of the inner plaintext is a
    /// content type, or a zero of padding.
    pub(super) fn find(
        &self,
        head: &[u8; HEADER_LEN],
        body: &[u8],
        numbers: std::ops::Range<u64>,
        kinds: Kinds,
    ) -> (Option<(u64, Opened)>, u64) {
        let mut tried = 0;
        let mut next = numbers.start;
        while next < numbers.end {
            let count = (numbers.end - next).min(BATCH as u64);
            // Where there is one number only, as for nearly all candidates, the other blocks would be for nothing.
            let likely = match count {
                1 => [self.likely::<1>(body, next, kinds)[0]; BATCH],
                _ => self.likely::<BATCH>(body, next, kinds),
            };
            for (number, is_likely) in (next..next + count).zip(likely) {
                tried += 1;
                if is_likely && let Some(opened) = self.open(head, body, number) {
                    return (Some((number, opened)), tried);
                }
            }
            next += count;
        }
        (None, tried)
    }

    /// Bytes at the end of the content that may be padding instead: how many are is said by the last one, which only a whole record
    /// authenticates (RFC 5246, section 6.2.3.2: up to 255).
    pub(super) fn most_padding(&self) -> usize {
        if matches!(self.cipher, Cipher::Cbc { .. }) { 255 } else { 0 }
    }

    /// The content of a record whose number is known, as far as it was captured: not authenticated. `body` is the beginning.
    pub(super) fn reveal(&self, body: &[u8], number: u64) -> Option<Vec<u8>> {
        let text = body.get(self.front()..)?;
        match &self.cipher {
            Cipher::Cbc { key, .. } => {
                let (whole, _) = text.split_at(text.len() - text.len() % BLOCK);
                decrypt_cbc(key, body.first_chunk()?, whole)
            }
            cipher => {
                let mut content = text.to_vec();
                cipher.stream(&self.nonce(body, number)?, &mut content);
                Some(content)
            }
        }
    }

    /// A number that the record itself suggests: what TLS 1.2 with GCM sends as the nonce counts up with the number.
    pub(super) fn explicit_nonce(&self, body: &[u8]) -> Option<u64> {
        let is_sent =
            self.version == Version::Tls12 && matches!(self.cipher, Cipher::Gcm128(_) | Cipher::Gcm256(_));
        body.first_chunk().filter(|_| is_sent).map(|nonce| u64::from_be_bytes(*nonce))
    }

    fn nonce(&self, body: &[u8], number: u64) -> Option<[u8; 12]> {
        let mut nonce = *self.iv;
        if self.front() == 8 {
            nonce.last_chunk_mut::<8>()?.copy_from_slice(body.first_chunk::<8>()?);
        } else {
            for (byte, number) in nonce.iter_mut().skip(4).zip(number.to_be_bytes()) {
                *byte ^= number;
            }
        }
        Some(nonce)
    }

    /// Which of the next numbers the record may have.
    fn likely<const N: usize>(&self, body: &[u8], from: u64, kinds: Kinds) -> [bool; N] {
        let mut likely = [true; N];
        let Some(last) = body.len().checked_sub(TAG_LEN + 1).filter(|_| self.version == Version::Tls13)
        else {
            return likely;
        };
        let Some(byte) = body.get(last) else { return likely };
        let nonces: [[u8; 12]; N] =
            std::array::from_fn(|at| self.nonce(body, from.saturating_add(at as u64)).unwrap_or_default());
        let before = last.checked_sub(1).and_then(|before| body.get(before));
        let keys = self.cipher.stream_bytes(&nonces, last);
        let is_kind = |byte: u8| match kinds {
            Kinds::Any => matches!(byte, ALERT..=APPLICATION_DATA),
            Kinds::Data => byte == APPLICATION_DATA,
        };
        for (likely, (key_before, key)) in likely.iter_mut().zip(keys) {
            *likely = match byte ^ key {
                // Padding: before it there is more of it, or the type.
                0 => before.zip(key_before).is_none_or(|(byte, key)| byte ^ key == 0 || is_kind(byte ^ key)),
                kind => is_kind(kind),
            };
        }
        likely
    }
}

impl Cipher {
    fn aead(bulk: Bulk, key: &[u8]) -> Option<Self> {
        Some(match bulk {
            Bulk::Aes128Gcm => {
                let aes = Aes128::new_from_slice(key).ok()?;
                Self::Gcm128(Box::new((aes.clone(), Aes128Gcm::from(aes))))
            }
            Bulk::Aes256Gcm => {
                let aes = Aes256::new_from_slice(key).ok()?;
                Self::Gcm256(Box::new((aes.clone(), Aes256Gcm::from(aes))))
            }
            Bulk::ChaCha20Poly1305 => {
                let aead = ChaCha20Poly1305::new_from_slice(key).ok()?;
                Self::ChaCha(Box::new((Zeroizing::new(*key.first_chunk()?), aead)))
            }
            Bulk::Aes128Cbc(_) | Bulk::Aes256Cbc(_) => return None,
        })
    }

    fn open(&self, nonce: &[u8; 12], data: &[u8], content: &mut [u8], tag: &[u8; TAG_LEN]) -> Option<()> {
        let (nonce, tag) = (Array(*nonce), Array(*tag));
        let content = content.into();
        match self {
            Self::Gcm128(keys) => keys.1.decrypt_inout_detached(&nonce, data, content, &tag),
            Self::Gcm256(keys) => keys.1.decrypt_inout_detached(&nonce, data, content, &tag),
            Self::ChaCha(keys) => keys.1.decrypt_inout_detached(&nonce, data, content, &tag),
            Self::Cbc { .. } => return None,
        }
        .ok()
    }

    /// Lays the key stream over the beginning of a ciphertext.
    fn stream(&self, nonce: &[u8; 12], content: &mut [u8]) {
        match self {
            Self::Gcm128(keys) => gcm_stream(&keys.0, nonce, content),
            Self::Gcm256(keys) => gcm_stream(&keys.0, nonce, content),
            Self::ChaCha(keys) => {
                let mut stream = ChaCha20::new(&Array(*keys.0), &Array(*nonce));
                // Block 0 is the one-time key of the tag.
                if stream.try_seek(64_u32).is_ok() {
                    let _ = stream.try_apply_keystream(content);
                }
            }
            Self::Cbc { .. } => {}
        }
    }

    /// One byte of each key stream: the one at `offset` of the ciphertext; and the one before it, if it is in the same block.
    fn stream_bytes<const N: usize>(&self, nonces: &[[u8; 12]; N], offset: usize) -> [(Option<u8>, u8); N] {
        let blocks = |encrypt: &dyn Fn(&mut [aes::Block])| {
            let mut blocks = nonces.map(|nonce| gcm_block(&nonce, offset / BLOCK));
            encrypt(&mut blocks);
            let at = offset % BLOCK;
            blocks.map(|block| {
                let before = at.checked_sub(1).and_then(|before| block.get(before).copied());
                (before, block.get(at).copied().unwrap_or_default())
            })
        };
        match self {
            Self::Gcm128(keys) => blocks(&|all| keys.0.encrypt_blocks(all)),
            Self::Gcm256(keys) => blocks(&|all| keys.0.encrypt_blocks(all)),
            Self::ChaCha(keys) => nonces.map(|nonce| {
                let mut bytes = [0; 2];
                let mut stream = ChaCha20::new(&Array(*keys.0), &Array(nonce));
                // Block 0 is the tag's, so that there is a byte before the first.
                if stream.try_seek(63 + offset as u64).is_ok() {
                    let _ = stream.try_apply_keystream(&mut bytes);
                }
                ((offset > 0).then_some(bytes[0]), bytes[1])
            }),
            Self::Cbc { .. } => [(None, 0); N],
        }
    }
}

/// The input of GCM's block cipher for a block of ciphertext: counter 1 is the tag's.
fn gcm_block(nonce: &[u8; 12], block: usize) -> aes::Block {
    let counter = (block as u32).wrapping_add(2).to_be_bytes();
    let mut input = aes::Block::default();
    input.iter_mut().zip(nonce.iter().chain(&counter)).for_each(|(to, byte)| *to = *byte);
    input
}

fn gcm_stream(
    aes: &impl BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>,
    nonce: &[u8; 12],
    content: &mut [u8],
) {
    for (number, piece) in content.chunks_mut(BLOCK).enumerate() {
        let mut block = gcm_block(nonce, number);
        aes.encrypt_block(&mut block);
        piece.iter_mut().zip(&block).for_each(|(byte, key)| *byte ^= key);
        block.zeroize();
    }
}

/// seq_num + type + version + length: what TLS 1.2 authenticates beside the content.
pub(super) fn mac_head(head: &[u8; HEADER_LEN], number: u64, len: usize) -> [u8; 13] {
    let mut all = [0; 13];
    let len = (len as u16).to_be_bytes();
    let parts = number.to_be_bytes().into_iter().chain(head[..3].iter().copied()).chain(len);
    all.iter_mut().zip(parts).for_each(|(to, byte)| *to = byte);
    all
}

fn decrypt_cbc(key: &[u8], iv: &[u8; BLOCK], text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(BLOCK) {
        return None;
    }
    let mut blocks: Vec<aes::Block> = text.as_chunks::<BLOCK>().0.iter().map(|block| Array(*block)).collect();
    if key.len() == 16 {
        cbc::Decryptor::<Aes128>::new_from_slices(key, iv).ok()?.decrypt_blocks(&mut blocks);
    } else {
        cbc::Decryptor::<Aes256>::new_from_slices(key, iv).ok()?.decrypt_blocks(&mut blocks);
    }
    Some(blocks.iter().flatten().copied().collect())
}

/// Takes TLS' padding off: n + 1 bytes of value n.
fn unpad(content: &mut Vec<u8>) -> Option<()> {
    let len = usize::from(*content.last()?);
    let end = content.len().checked_sub(len + 1)?;
    content.get(end..)?.iter().all(|byte| usize::from(*byte) == len).then_some(())?;
    content.truncate(end);
    Some(())
}

/// Nobody who could measure it is told how long it takes.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a == b
}
