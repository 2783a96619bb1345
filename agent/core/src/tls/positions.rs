//! Where bytes of the plaintext stand on the wire, for one direction.
//!
//! Sessions count the plaintext from 0 without holes; an operation's identity is where it stands on the wire, which both ends
//! see alike. *Owns* the last places, at most [`MAX_SPANS`] of them. *Must not know* records.

use std::collections::VecDeque;

/// Records whose places are kept: a head or a message that is spread over more is not looked for on the wire.
const MAX_SPANS: usize = 256;

/// Plaintext `plain..plain + len` stands at `wire`.
#[derive(Clone, Copy, Debug)]
struct Span {
    plain: u64,
    wire: u64,
    len: u64,
}

#[derive(Debug, Default)]
pub(super) struct Positions {
    spans: VecDeque<Span>,
    /// End of the plaintext.
    end: u64,
}

impl Positions {
    /// End of the plaintext: the position of the next byte.
    #[cfg(test)]
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.spans.capacity() * size_of::<Span>()
    }

    /// The next `len` bytes stand at `wire`. Returns their position in the plaintext.
    pub(super) fn push(&mut self, wire: u64, len: u64) -> u64 {
        let plain = self.end;
        self.end = self.end.saturating_add(len);
        if len > 0 {
            // First out, then in: the buffer never grows beyond the bound.
            while self.spans.len() >= MAX_SPANS {
                self.spans.pop_front();
            }
            self.spans.push_back(Span { plain, wire, len });
        }
        plain
    }

    /// Where a byte of the plaintext stands on the wire; an end stands after the byte before it. `None`: no longer known.
    pub(super) fn wire(&self, plain: u64, is_end: bool) -> Option<u64> {
        let at =
            self.spans.partition_point(|span| if is_end { span.plain < plain } else { span.plain <= plain });
        let span = self.spans.get(at.checked_sub(1)?)?;
        // A position after the last byte is that of the byte to come: as near as can be told.
        Some(span.wire.saturating_add((plain - span.plain).min(span.len)))
    }

    /// How much of the plaintext stands before a position on the wire.
    pub(super) fn plain(&self, wire: u64) -> u64 {
        let at = self.spans.partition_point(|span| span.wire <= wire);
        match at.checked_sub(1).and_then(|at| self.spans.get(at)) {
            Some(span) => span.plain.saturating_add((wire - span.wire).min(span.len)),
            None => self.spans.front().map_or(0, |span| span.plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree() {
        let mut positions = Positions::default();
        assert_eq!(positions.push(105, 10), 0);
        assert_eq!(positions.push(137, 5), 10);
        assert_eq!(positions.push(200, 0), 15);
        for (plain, wire) in [(0, 105), (9, 114), (10, 137), (14, 141)] {
            assert_eq!((positions.wire(plain, false), positions.plain(wire)), (Some(wire), plain));
        }
        assert_eq!(positions.wire(10, true), Some(115), "the end of the first record");
        assert_eq!(positions.plain(120), 10, "the tag of the first record");
        assert_eq!(positions.plain(10), 0);
        assert_eq!(positions.end(), 15);
    }

    #[test]
    fn old_places_are_forgotten() {
        let mut positions = Positions::default();
        for n in 0..2 * MAX_SPANS as u64 {
            positions.push(n * 100, 1);
        }
        assert_eq!(positions.wire(0, false), None);
        assert_eq!(positions.wire(MAX_SPANS as u64 + 1, false), Some((MAX_SPANS as u64 + 1) * 100));
    }
}
