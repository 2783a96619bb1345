//! A buffer over one direction's bytes that knows when each byte was moved.
//!
//! Bytes of one socket call in, an [`Input`] over them and what earlier calls left unparsed out. While nothing is left
//! over, nothing is copied: the parser works on the record itself.
//!
//! ```text
//!   let mut input = reader.begin(pos, bytes, mark);
//!   while let Some(message) = parse(&mut input) { … }      // advances as far as it can
//!   reader.finish(input);                                  // keeps the rest, with its marks
//! ```
//!
//! *Owns* positions and marks. *Must not know* protocols. The bound on what may be left over is the parser's: it knows
//! which message is too long, and skips it with [`Input::advance`].

use std::collections::VecDeque;

use crate::record::{Mark, Point};

/// What one direction left unparsed.
#[derive(Debug, Default)]
pub struct Reader {
    rest: Vec<u8>,
    /// Position of the first byte of `rest`, or of the next byte when it is empty.
    pos: u64,
    marks: Marks,
}

/// From which position on which mark holds. Most often there is one: what is parsed came in one call.
#[derive(Debug, Default)]
struct Marks {
    /// Holds at the first byte that is not consumed.
    first: (u64, Mark),
    /// Those of later calls, in order.
    later: VecDeque<(u64, Mark)>,
}

impl Marks {
    fn restart(&mut self, pos: u64, mark: Mark) {
        self.first = (pos, mark);
        self.later.clear();
    }

    /// Everything before `pos` is consumed.
    fn consume(&mut self, pos: u64) {
        while let Some(next) = self.later.pop_front_if(|(from, _)| *from <= pos) {
            self.first = next;
        }
    }

    fn at(&self, pos: u64) -> Mark {
        let later = self.later.iter().rev().find(|(from, _)| *from <= pos);
        later.map_or(self.first.1, |(_, mark)| *mark)
    }
}

/// Bytes to parse: what was left, then what came.
#[derive(Debug)]
pub struct Input<'a> {
    /// Earlier bytes with the new ones appended; empty when there were none.
    joined: Vec<u8>,
    fresh: &'a [u8],
    is_joined: bool,
    head: usize,
    /// Position of the byte at `head`.
    pos: u64,
    marks: Marks,
    latest: Mark,
}

impl Reader {
    /// Starts a parse over everything unparsed. `pos` must continue the stream; after a gap call [`Reader::reset`] first.
    pub fn begin<'a>(&mut self, pos: u64, bytes: &'a [u8], mark: Mark) -> Input<'a> {
        let mut marks = std::mem::take(&mut self.marks);
        if self.rest.is_empty() {
            marks.restart(pos, mark);
            return Input {
                joined: Vec::new(),
                fresh: bytes,
                is_joined: false,
                head: 0,
                pos,
                marks,
                latest: mark,
            };
        }
        marks.later.push_back((pos, mark));
        let mut joined = std::mem::take(&mut self.rest);
        joined.extend_from_slice(bytes);
        Input { joined, fresh: &[], is_joined: true, head: 0, pos: self.pos, marks, latest: mark }
    }

    /// Ends a parse: keeps what `input` did not advance over.
    pub fn finish(&mut self, mut input: Input<'_>) {
        self.pos = input.pos;
        if input.is_joined {
            input.joined.drain(..input.head);
            self.rest = input.joined;
        } else {
            self.rest.clear();
            self.rest.extend_from_slice(input.fresh.get(input.head..).unwrap_or_default());
        }
        self.marks = input.marks;
        if self.rest.is_empty() && self.rest.capacity() > 64 << 10 {
            self.rest = Vec::new();
        }
    }

    /// Forgets what was left over, because the stream has a hole here. Returns how many bytes that were.
    pub fn reset(&mut self) -> usize {
        self.marks.later.clear();
        let len = self.rest.len();
        self.rest = Vec::new();
        len
    }

    /// What is left over.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Memory that unparsed bytes take.
    pub fn held(&self) -> usize {
        self.rest.capacity() + self.marks.later.capacity() * size_of::<(u64, Mark)>()
    }

    /// Bytes left over.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Nothing is left over.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

impl Input<'_> {
    /// What has not been advanced over.
    pub fn rest(&self) -> &[u8] {
        let all = if self.is_joined { self.joined.as_slice() } else { self.fresh };
        all.get(self.head..).unwrap_or_default()
    }

    /// Position of the first byte of [`Input::rest`].
    pub fn pos(&self) -> u64 {
        self.pos
    }

    /// Consumes up to `n` bytes and returns how many there were.
    pub fn advance(&mut self, n: usize) -> usize {
        let n = n.min(self.rest().len());
        self.head += n;
        self.pos += n as u64;
        self.marks.consume(self.pos);
        n
    }

    /// The first unconsumed byte: where it is, when and by whom it was moved.
    pub fn point(&self) -> Point {
        self.point_of(self.pos)
    }

    /// The end of the next `n` bytes: position *after* them, time and thread of the last of them.
    pub fn point_after(&self, n: usize) -> Point {
        let end = self.pos.saturating_add(n as u64);
        Point { pos: end, ..self.point_of(end.saturating_sub(1).max(self.pos)) }
    }

    /// The mark of the call that brought the newest bytes.
    pub fn latest(&self) -> Mark {
        self.latest
    }

    fn point_of(&self, pos: u64) -> Point {
        let mark = self.marks.at(pos);
        mark.point(pos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Worker;
    use crate::time::ns;

    fn mark(at: u64) -> Mark {
        Mark { at: ns(at), thread: Worker::new(1, at as u32), other_pos: 0, awaited_by: None }
    }

    #[test]
    fn bytes_left_over_come_again_with_their_own_mark() {
        let mut reader = Reader::default();
        let mut input = reader.begin(100, b"abcd", mark(1));
        assert_eq!(input.advance(1), 1);
        reader.finish(input);
        assert_eq!(reader.len(), 3);

        let mut input = reader.begin(104, b"ef", mark(2));
        assert_eq!(input.rest(), b"bcdef");
        assert_eq!((input.point().at, input.point().pos), (ns(1), 101));
        assert_eq!((input.point_after(3).at, input.point_after(3).pos), (ns(1), 104));
        assert_eq!((input.point_after(4).at, input.point_after(4).pos), (ns(2), 105));
        input.advance(4);
        assert_eq!(input.point(), Point { at: ns(2), pos: 105, thread: mark(2).thread, awaited_by: None });
        input.advance(9);
        reader.finish(input);
        assert!(reader.is_empty());
    }

    #[test]
    fn reset_forgets_and_tells_how_much() {
        let mut reader = Reader::default();
        let input = reader.begin(0, b"abc", mark(1));
        reader.finish(input);
        assert_eq!(reader.reset(), 3);
        let input = reader.begin(10, b"xyz", mark(2));
        assert_eq!((input.rest(), input.pos()), (&b"xyz"[..], 10));
    }
}
