//! HTTP/2 by the client's preface and by its frames (RFC 9113, sections 3.4 and 4).

use super::frame::{PREFACE, chain};
use crate::protocol::detect::Sniff;
use crate::record::Sender;

/// So much of the preface is nobody else's.
const ENOUGH_OF_PREFACE: usize = 16;
/// Points that frames must have (see [`chain`]) beside a header block that tells its sender.
const ENOUGH: u32 = 3;
/// Bytes of header blocks looked into.
const MAX_LOOKED_AT: usize = 32 << 10;

/// The preface, or frames of which one holds a header block that tells its sender.
pub(super) fn sniff(bytes: &[u8]) -> Sniff {
    if bytes.starts_with(PREFACE.get(..ENOUGH_OF_PREFACE).unwrap_or(PREFACE)) {
        let rest = bytes.get(..PREFACE.len()).unwrap_or(bytes);
        return if PREFACE.starts_with(rest) { Sniff::Yes(Sender::Client) } else { Sniff::No };
    }
    if PREFACE.starts_with(bytes) {
        return Sniff::Maybe;
    }
    let mut budget = MAX_LOOKED_AT;
    let Some(evidence) = chain(bytes, u32::MAX, &mut budget) else { return Sniff::No };
    match evidence.sender {
        Some(sender) if evidence.exact || evidence.points >= ENOUGH => Sniff::Yes(sender),
        _ => Sniff::Maybe,
    }
}
