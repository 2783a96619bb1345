//! FastCGI by the record that begins a request, and by records that answer one.

use super::record::{self, HEADER_LEN, Kind, Parsed};
use crate::protocol::detect::Sniff;
use crate::record::Sender;

/// Records that are followed to tell an answer.
const MAX_RECORDS: usize = 8;

/// The beginning of a request; or an answer up to its last record, each record where the one before ends.
pub(super) fn sniff(bytes: &[u8]) -> Sniff {
    match begin(bytes) {
        Sniff::No => answer(bytes),
        told => told,
    }
}

/// FCGI_BEGIN_REQUEST: role 1 to 3, flags 0 or 1 (FCGI_KEEP_CONN), and nothing where the specification reserves bytes (section 5.1).
pub(super) fn begin(bytes: &[u8]) -> Sniff {
    let parsed = record::read(bytes, Sender::Client);
    let is_begin = bytes.get(1).is_none_or(|kind| *kind == 1);
    let body = |at: usize, fits: fn(u8) -> bool| bytes.get(HEADER_LEN + at).is_none_or(|byte| fits(*byte));
    let fits = is_begin
        && bytes.get(7).is_none_or(|reserved| *reserved == 0)
        && body(0, |role| role == 0)
        && body(1, |role| (1..=3).contains(&role))
        && body(2, |flags| flags <= 1)
        && (3..8).all(|at| body(at, |reserved| reserved == 0));
    match parsed {
        Parsed::Invalid => Sniff::No,
        _ if !fits => Sniff::No,
        Parsed::Complete(_) if bytes.len() >= HEADER_LEN + 8 => Sniff::Yes(Sender::Client),
        Parsed::Complete(_) | Parsed::Incomplete => Sniff::Maybe,
    }
}

fn answer(bytes: &[u8]) -> Sniff {
    let mut rest = bytes;
    for _ in 0..MAX_RECORDS {
        let header = match record::read(rest, Sender::Server) {
            Parsed::Invalid => return Sniff::No,
            Parsed::Incomplete => return Sniff::Maybe,
            Parsed::Complete(header) => header,
        };
        let len = HEADER_LEN + usize::from(header.len) + usize::from(header.padding);
        let Some(next) = rest.get(len..) else { return Sniff::Maybe };
        if header.kind == Kind::End && rest.len() < bytes.len() {
            return Sniff::Yes(Sender::Server);
        }
        rest = next;
    }
    Sniff::Maybe
}
