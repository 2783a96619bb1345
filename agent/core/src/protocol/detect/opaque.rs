//! Protocols that are recognised so that nobody wonders: TLS.

use super::Kind;

/// Longest TLS record with its expansion (RFC 5246, section 6.2.3).
const MAX_TLS_RECORD: usize = (1 << 14) + 2048;

/// TLS at any record.
pub fn sniff_opaque(bytes: &[u8]) -> Option<Kind> {
    is_tls(bytes).then_some(Kind::Tls)
}

/// The beginning of a record whose rest is to come: many programs read a record's header by itself.
pub(super) fn may_be_opaque(bytes: &[u8]) -> bool {
    match bytes {
        [20..=23, 3] | [20..=23, 3, 0..=4] | [20..=23, 3, 0..=4, _] => true,
        _ => tls_header(bytes).is_some_and(|(_, len)| bytes.len() < 5 + len),
    }
}

/// A hello, or records whose lengths lead from one to the next (RFC 8446, section 5.1).
fn is_tls(bytes: &[u8]) -> bool {
    let Some((kind, len)) = tls_header(bytes) else { return false };
    // ClientHello and ServerHello: handshake type, a 24-bit length, a legacy version.
    if kind == 22
        && let Some([1 | 2, 0, high, low, 3, 0..=4]) = bytes.get(5..11)
    {
        return u16::from_be_bytes([*high, *low]) >= 38;
    }
    // In mid-stream: the next record's header stands where this one says, or this one ends exactly here.
    match bytes.get(5 + len..) {
        Some([]) => len >= 16 && kind != 20,
        Some(next) => next.len() >= 5 && tls_header(next).is_some(),
        None => false,
    }
}

fn tls_header(bytes: &[u8]) -> Option<(u8, usize)> {
    let [kind @ 20..=23, 3, 0..=4, high, low, ..] = bytes else { return None };
    let len = usize::from(*high) << 8 | usize::from(*low);
    (1..=MAX_TLS_RECORD).contains(&len).then_some((*kind, len))
}
