//! A JSON body as it streams by → the same without what is in its long strings.
//!
//! ```text
//!   {"file": "JVBERi0xLjQK… 90 KB …", "order_id": 17}   ─▶   {"file": "JVBERi0x… 1 KB", "order_id": 17}
//! ```
//!
//! A body is kept up to a bound; what is small must not be lost behind what is large. *Owns* where strings begin and end.
//! *Must not know* names, framing.
//! *Spec*: RFC 8259, section 7.

use memchr::{memchr, memchr2};

/// Bytes of a string that are kept: more than the longest value that is looked at, so that it is seen to be none.
const MAX_STRING_LEN: usize = 1040;
/// Longest body that is walked for what stands behind its long strings: a drawing or a photograph as base64. Longer ones stay
/// cut off, for each byte of them has to be copied out of the kernel.
pub(super) const MAX_BODY_LEN: u64 = 16 << 20;

/// Where in a body its next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol) struct Condenser {
    in_string: bool,
    /// Behind a backslash.
    escaped: bool,
    /// Bytes of the string so far.
    string_len: usize,
}

/// Whether the body that begins so is JSON.
pub(super) fn is_json(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    matches!(start.trim_ascii_start().first(), Some(b'{' | b'['))
}

impl Condenser {
    /// One that has gone over what is kept already, which becomes shorter.
    pub(super) fn over(kept: &mut Vec<u8>) -> Self {
        let mut condenser = Self::default();
        let all = std::mem::take(kept);
        condenser.feed(&all, kept, usize::MAX);
        condenser
    }

    /// The next bytes; what is kept of them goes to `kept`, at most `bound` bytes in all. `false`: the bound is met, and not
    /// all of the bytes were looked at.
    pub(super) fn feed(&mut self, bytes: &[u8], kept: &mut Vec<u8>, bound: usize) -> bool {
        let mut rest = bytes;
        while let [first, after @ ..] = rest {
            let (part, following) = match first {
                // One byte: the end of a string, a backslash in it, what stands behind that.
                _ if self.escaped => ((rest.get(..1).unwrap_or_default()), after),
                b'"' | b'\\' if self.in_string => ((rest.get(..1).unwrap_or_default()), after),
                // A run of others.
                _ => {
                    let end = match self.in_string {
                        true => memchr2(b'"', b'\\', rest),
                        false => memchr(b'"', rest).map(|at| at + 1),
                    };
                    rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]))
                }
            };
            // An escape is kept whole, or not at all; the end of a string always is.
            let is_end = self.in_string && !self.escaped && *first == b'"';
            let keeps = match part {
                _ if !self.in_string || is_end => part,
                _ if self.escaped || *first == b'\\' => {
                    let begun = self.string_len.saturating_sub(usize::from(self.escaped));
                    if begun < MAX_STRING_LEN { part } else { &[] }
                }
                _ => part.get(..MAX_STRING_LEN.saturating_sub(self.string_len)).unwrap_or(part),
            };
            let room = bound.saturating_sub(kept.len());
            if keeps.len() > room {
                kept.extend_from_slice(keeps.get(..room).unwrap_or_default());
                return false;
            }
            kept.extend_from_slice(keeps);
            match self.in_string {
                _ if is_end => self.in_string = false,
                true => {
                    self.escaped = !self.escaped && *first == b'\\';
                    self.string_len = self.string_len.saturating_add(part.len());
                }
                false => {
                    self.in_string = part.ends_with(b"\"");
                    self.string_len = 0;
                }
            }
            rest = following;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn condensed(parts: &[&[u8]]) -> Vec<u8> {
        let mut kept = Vec::new();
        let mut condenser = Condenser::default();
        for part in parts {
            assert!(condenser.feed(part, &mut kept, usize::MAX));
        }
        kept
    }

    #[test]
    fn only_long_strings_become_shorter() {
        let short = br#" {"a": "b\"\\", "c": ["\u0041", 17, {"d": ""}], "e": "\\"} "#;
        assert_eq!(condensed(&[short]), short);
        let long = format!(r#"{{"file": "{}", "order_id": 17}}"#, "A".repeat(90_000));
        let kept = condensed(&[long.as_bytes()]);
        assert!(kept.len() < 1100 && kept.ends_with(br#"A", "order_id": 17}"#), "{}", kept.len());
        // An escape is not torn, and no quote is hidden by half of one.
        for lead in 0..8 {
            let text = format!("{}{}", "x".repeat(MAX_STRING_LEN - 4 + lead), r#"\"\\\""#.repeat(50));
            let kept = condensed(&[format!(r#"{{"t": "{text}", "n": 1}}"#).as_bytes()]);
            let parsed: serde_json::Value = serde_json::from_slice(&kept).expect("still JSON");
            assert_eq!(parsed.get("n"), Some(&serde_json::Value::from(1)));
        }
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut kept = Vec::new();
        let body = r#"{"a": 1, "b": 2}"#.repeat(100);
        assert!(!Condenser::default().feed(body.as_bytes(), &mut kept, 100));
        assert!(kept.len() <= 100 && body.as_bytes().starts_with(&kept));
    }

    proptest! {
        #[test]
        fn every_split_keeps_the_same(body in "[\"\\\\{}:,a-c ]{0,60}", long in 0usize..2, cut in 0usize..60) {
            let body = body.replace('c', &"c".repeat(1 + long * 1050)).into_bytes();
            let (head, tail) = body.split_at(cut.min(body.len()));
            prop_assert_eq!(condensed(&[head, tail]), condensed(&[&body]));
            let mut over = head.to_vec();
            let mut condenser = Condenser::over(&mut over);
            condenser.feed(tail, &mut over, usize::MAX);
            prop_assert_eq!(over, condensed(&[&body]));
        }
    }
}
