//! A text → whether, and where, it tells of a person.
//!
//! *Owns* e-mail addresses; numbers are in [`numbers`]. *Must not know* where a text came from, nor where it goes.

use std::ops::Range;

use super::numbers::{self, NO_KEYS, Own};

/// Looks like an e-mail address, or holds a number that belongs to a person.
pub fn is_personal(value: &str) -> bool {
    let mut found = false;
    find(value, NO_KEYS, &mut |_| found = true);
    found
}

/// Calls `found` with each place.
pub(super) fn find(value: &str, own: Own<'_>, found: &mut dyn FnMut(Range<usize>)) {
    emails(value, "@", found);
    emails(value, "%40", found);
    numbers::find(value, own, found);
}

/// Something, `@`, something; also percent-encoded.
fn emails(value: &str, at_sign: &str, found: &mut dyn FnMut(Range<usize>)) {
    let first = at_sign.as_bytes().first().copied().unwrap_or_default();
    if memchr::memchr(first, value.as_bytes()).is_none() {
        return;
    }
    for (at, _) in value.match_indices(at_sign) {
        let local = value.get(..at).unwrap_or("");
        let host = value.get(at + at_sign.len()..).unwrap_or("");
        let is_local = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '%');
        let ends_local = local.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+'));
        if ends_local && host.starts_with(char::is_alphanumeric) {
            let start = local.trim_end_matches(is_local).len();
            let after =
                host.trim_start_matches(|c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'));
            found(start..value.len() - after.len());
        }
    }
}
