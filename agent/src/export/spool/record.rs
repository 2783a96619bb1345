//! The bytes of a spool segment: a magic number, then records of length, checksum, span count, time and payload.
//!
//! ```text
//!   segment:  "SPOORSP1"  record*
//!   record:   u32 payload length │ u32 CRC-32 of what follows │ u32 spans │ u64 Unix ms │ payload     (little-endian)
//! ```
//!
//! A writer killed at any byte leaves a valid prefix: what follows the last whole record with a right checksum is
//! not read.

/// First bytes of every segment; the last one is the version.
pub(super) const MAGIC: &[u8; 8] = b"SPOORSP1";

/// Bytes of a record before its payload.
pub(super) const HEAD_LEN: usize = 20;

/// The part of the head covered by the checksum together with the payload starts here.
const CHECKED_FROM: usize = 8;

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) payload_len: u32,
    crc: u32,
    pub(super) span_count: u32,
    pub(super) unix_ms: u64,
}

impl Head {
    pub(super) fn parse(bytes: &[u8; HEAD_LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, time @ ..] = *bytes;
        Self {
            payload_len: u32::from_le_bytes([a, b, c, d]),
            crc: u32::from_le_bytes([e, f, g, h]),
            span_count: u32::from_le_bytes([i, j, k, l]),
            unix_ms: u64::from_le_bytes(time),
        }
    }

    /// Whether `payload` is what was written with this head.
    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        payload.len() as u64 == u64::from(self.payload_len)
            && checksum(&checked_head(self.span_count, self.unix_ms), payload) == self.crc
    }
}

/// A record as bytes, to be written at once.
pub(super) fn encode(payload: &[u8], span_count: u32, unix_ms: u64) -> Option<Vec<u8>> {
    let payload_len = u32::try_from(payload.len()).ok()?;
    let checked = checked_head(span_count, unix_ms);
    let mut record = Vec::with_capacity(HEAD_LEN + payload.len());
    record.extend_from_slice(&payload_len.to_le_bytes());
    record.extend_from_slice(&checksum(&checked, payload).to_le_bytes());
    record.extend_from_slice(&checked);
    record.extend_from_slice(payload);
    Some(record)
}

fn checked_head(span_count: u32, unix_ms: u64) -> [u8; HEAD_LEN - CHECKED_FROM] {
    let [a, b, c, d] = span_count.to_le_bytes();
    let [e, f, g, h, i, j, k, l] = unix_ms.to_le_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}
