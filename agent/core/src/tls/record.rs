//! Chunks of one direction → TLS records with their positions.
//!
//! ```text
//!   At ──header──▶ At, a record comes out when it is whole
//!    │  a gap inside a record whose header was seen: Cut, then Rest until its end
//!    │  a gap over a header, or no header: Lost
//!   Lost ──bytes that can only be a header──▶ At
//! ```
//!
//! Pieces tile the stream from the first record on. *Owns* the framing and finding it again.
//! *Must not know* keys. *Spec*: RFC 8446 section 5.1, RFC 5246 section 6.2.

use bytes::Bytes;

use super::cipher::HEADER_LEN;
use crate::record::Mark;
use crate::stream::Chunk;

/// The longest body: TLS 1.2's, with its expansion (RFC 5246, section 6.2.3).
pub(super) const MAX_BODY: usize = (1 << 14) + 2048;
/// Heartbeats (RFC 6520) are no longer in use, and are framed like everything else.
const LAST_KIND: u8 = 24;

pub(super) type Header = [u8; HEADER_LEN];

/// Length of the body.
pub(super) fn body_len(header: &Header) -> usize {
    usize::from(header[3]) << 8 | usize::from(header[4])
}

/// What the stream is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A whole record at a position. `first` and `last` are the marks of its first and its last byte.
    Record { pos: u64, header: Header, body: Bytes, first: Mark, last: Mark },
    /// A record of which only the beginning was captured.
    Cut { pos: u64, header: Header, prefix: Bytes, first: Mark },
    /// Bytes of which it is not known where records begin in them.
    Hole { pos: u64, len: u64, mark: Mark },
}

impl Piece {
    /// Captured bytes it holds.
    pub(super) fn held(&self) -> usize {
        match self {
            Piece::Record { body: held, .. } | Piece::Cut { prefix: held, .. } => held.len(),
            Piece::Hole { .. } => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the beginning of a record, or inside one of which every byte was captured so far.
    At,
    /// Inside a record with a gap, up to its end.
    Rest {
        until: u64,
    },
    Lost,
}

/// Finds records.
#[derive(Debug)]
pub(super) struct Framer {
    state: State,
    /// The beginning of a record.
    partial: Vec<u8>,
    /// Its position and the mark of its first byte.
    start: u64,
    first: Mark,
    /// Times that what stood where a header should be was none.
    pub(super) malformed: u64,
}

impl Framer {
    /// `at_record`: the stream begins with a record.
    pub(super) fn new(at_record: bool) -> Self {
        let state = if at_record { State::At } else { State::Lost };
        Self { state, partial: Vec::new(), start: 0, first: Mark::default(), malformed: 0 }
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.partial.len()
    }

    pub(super) fn push(&mut self, chunk: &Chunk, out: &mut impl FnMut(Piece)) {
        match chunk {
            Chunk::Bytes { pos, bytes, mark } => self.bytes(*pos, bytes.clone(), *mark, out),
            Chunk::Gap { pos, len, mark } => self.gap(*pos, *len, *mark, out),
        }
    }

    fn bytes(&mut self, mut pos: u64, mut bytes: Bytes, mark: Mark, out: &mut impl FnMut(Piece)) {
        // Each turn takes bytes, or goes from one state to another that will.
        while !bytes.is_empty() {
            let taken = match self.state {
                State::Rest { until } => {
                    let left = usize::try_from(until.saturating_sub(pos)).unwrap_or(usize::MAX);
                    if left <= bytes.len() {
                        self.state = State::At;
                    }
                    left.min(bytes.len())
                }
                State::Lost => {
                    let found = find(&bytes);
                    let lost = found.unwrap_or(bytes.len());
                    if lost > 0 {
                        out(Piece::Hole { pos, len: lost as u64, mark });
                    }
                    if found.is_some() {
                        self.state = State::At;
                    }
                    lost
                }
                State::At if self.partial.is_empty() => self.begin(pos, &bytes, mark, out),
                State::At => self.go_on(&bytes, mark, out),
            };
            let _ = bytes.split_to(taken.min(bytes.len()));
            pos = pos.saturating_add(taken as u64);
        }
    }

    /// At the first byte of a record. Returns how many bytes were taken.
    fn begin(&mut self, pos: u64, bytes: &Bytes, mark: Mark, out: &mut impl FnMut(Piece)) -> usize {
        if let Some(header) = bytes.first_chunk::<HEADER_LEN>() {
            if !is_header(header) {
                self.malformed += 1;
                self.state = State::Lost;
                // Not this one again.
                out(Piece::Hole { pos, len: 1, mark });
                return 1;
            }
            let end = HEADER_LEN + body_len(header);
            if end <= bytes.len() {
                let body = bytes.slice(HEADER_LEN..end);
                out(Piece::Record { pos, header: *header, body, first: mark, last: mark });
                return end;
            }
        }
        (self.start, self.first) = (pos, mark);
        self.partial.extend_from_slice(bytes);
        bytes.len()
    }

    /// Inside a record. Returns how many bytes were taken.
    fn go_on(&mut self, bytes: &Bytes, mark: Mark, out: &mut impl FnMut(Piece)) -> usize {
        let known = self.partial.first_chunk::<HEADER_LEN>().copied();
        let end = known.map_or(HEADER_LEN, |header| HEADER_LEN + body_len(&header));
        let taken = end.saturating_sub(self.partial.len()).min(bytes.len());
        self.partial.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        let Some(header) = self.partial.first_chunk::<HEADER_LEN>().copied() else { return taken };
        if known.is_none() && !is_header(&header) {
            self.malformed += 1;
            self.state = State::Lost;
            self.give_up(out);
        } else if self.partial.len() >= HEADER_LEN + body_len(&header) {
            let body = Bytes::from(std::mem::take(&mut self.partial)).slice(HEADER_LEN..);
            out(Piece::Record { pos: self.start, header, body, first: self.first, last: mark });
        }
        taken
    }

    /// What was kept of a record is part of a hole.
    fn give_up(&mut self, out: &mut impl FnMut(Piece)) {
        let len = std::mem::take(&mut self.partial).len() as u64;
        if len > 0 {
            out(Piece::Hole { pos: self.start, len, mark: self.first });
        }
    }

    fn gap(&mut self, pos: u64, len: u64, mark: Mark, out: &mut impl FnMut(Piece)) {
        let gap_end = pos.saturating_add(len);
        let until = match (self.state, self.partial.first_chunk::<HEADER_LEN>().copied()) {
            (State::At, Some(header)) => {
                let prefix = Bytes::from(std::mem::take(&mut self.partial)).slice(HEADER_LEN..);
                out(Piece::Cut { pos: self.start, header, prefix, first: self.first });
                self.start.saturating_add((HEADER_LEN + body_len(&header)) as u64)
            }
            (State::At | State::Lost, _) => {
                self.give_up(out);
                pos
            }
            (State::Rest { until }, _) => until,
        };
        self.state = match gap_end.cmp(&until) {
            std::cmp::Ordering::Less => State::Rest { until },
            std::cmp::Ordering::Equal if gap_end != pos => State::At,
            _ => {
                out(Piece::Hole { pos: until, len: gap_end - until, mark });
                State::Lost
            }
        };
    }
}

fn is_header(header: &Header) -> bool {
    let [kind, major, minor, ..] = *header;
    (super::cipher::CHANGE_CIPHER_SPEC..=LAST_KIND).contains(&kind)
        && major == 3
        && minor <= 4
        && body_len(header) <= MAX_BODY
}

/// Where a record begins. At the very beginning, what one socket call moved, a header is enough, if what follows its body is
/// one as well or is not there; elsewhere what follows must be there.
fn find(bytes: &[u8]) -> Option<usize> {
    let header_at =
        |at: usize| bytes.get(at..)?.first_chunk::<HEADER_LEN>().filter(|header| is_header(header));
    if let Some(header) = header_at(0) {
        let next = HEADER_LEN + body_len(header);
        if next >= bytes.len() || header_at(next).is_some() || bytes.len() - next < HEADER_LEN {
            return Some(0);
        }
    }
    // Records of the versions that are opened say 3, 3 after their type.
    memchr::memmem::find_iter(bytes, &[3, 3]).filter_map(|at| at.checked_sub(1)).find(|at| {
        header_at(*at).is_some_and(|header| {
            let next = at + HEADER_LEN + body_len(header);
            next == bytes.len() || header_at(next).is_some()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![kind, 3, 3, (len >> 8) as u8, len as u8];
        bytes.extend((0..len).map(|at| at as u8 ^ 0xa5));
        bytes
    }

    fn frame(at_record: bool, chunks: &[Chunk]) -> Vec<Piece> {
        let (mut framer, mut pieces) = (Framer::new(at_record), Vec::new());
        for chunk in chunks {
            framer.push(chunk, &mut |piece| pieces.push(piece));
        }
        pieces
    }

    fn bytes(pos: usize, bytes: &[u8]) -> Chunk {
        Chunk::Bytes { pos: pos as u64, bytes: Bytes::copy_from_slice(bytes), mark: Mark::default() }
    }

    fn gap(pos: usize, len: usize) -> Chunk {
        Chunk::Gap { pos: pos as u64, len: len as u64, mark: Mark::default() }
    }

    fn shown(pieces: &[Piece]) -> String {
        let one = |piece: &Piece| match piece {
            Piece::Record { pos, body, .. } => format!("record {pos}+{}", body.len()),
            Piece::Cut { pos, prefix, header, .. } => {
                format!("cut {pos}+{}/{}", prefix.len(), body_len(header))
            }
            Piece::Hole { pos, len, .. } => format!("hole {pos}+{len}"),
        };
        pieces.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn every_split_gives_the_same_records() {
        let all = [record(22, 10), record(20, 1), record(23, 0), record(23, 40)].concat();
        for first in 0..=all.len() {
            for second in first..=all.len() {
                let pieces = [(0, first), (first, second), (second, all.len())];
                let chunks: Vec<Chunk> = pieces
                    .iter()
                    .filter(|(from, to)| from < to)
                    .map(|(from, to)| bytes(*from, &all[*from..*to]))
                    .collect();
                assert_eq!(
                    shown(&frame(true, &chunks)),
                    "record 0+10, record 15+1, record 21+0, record 26+40"
                );
            }
        }
    }

    #[test]
    fn every_gap_costs_the_records_it_touches() {
        let all = [record(23, 30), record(23, 30), record(23, 30), record(23, 30)].concat();
        for from in 0..all.len() {
            for to in from + 1..=all.len() {
                let mut chunks = vec![gap(from, to - from)];
                if from > 0 {
                    chunks.insert(0, bytes(0, &all[..from]));
                }
                if to < all.len() {
                    chunks.push(bytes(to, &all[to..]));
                }
                let pieces = frame(true, &chunks);
                // Whole records are those of the stream.
                for piece in &pieces {
                    if let Piece::Record { pos, body, .. } = piece {
                        assert_eq!((pos % 35, body.len()), (0, 30), "{from}..{to}: {}", shown(&pieces));
                    }
                }
                let whole = pieces.iter().filter(|piece| matches!(piece, Piece::Record { .. })).count();
                // At most the record after the gap is lost too: its header was, or stands where none can be told.
                let touched = (to - 1) / 35 - from / 35 + 1;
                assert!(whole + touched >= 3, "{from}..{to}: {}", shown(&pieces));
            }
        }
    }

    #[test]
    fn a_connection_is_joined_at_the_next_header() {
        let all = [record(23, 300), record(23, 30)].concat();
        let chunks = [bytes(100, &all[100..305]), bytes(305, &all[305..310]), bytes(310, &all[310..])];
        assert_eq!(shown(&frame(false, &chunks)), "hole 100+205, record 305+30");
        let chunks = [bytes(100, &all[100..])];
        assert_eq!(shown(&frame(false, &chunks)), "hole 100+205, record 305+30");
    }

    #[test]
    fn what_is_no_header_is_a_hole() {
        let all = [record(23, 3), b"GET / HTTP/1.1\r\n".to_vec(), record(23, 4)].concat();
        assert_eq!(shown(&frame(true, &[bytes(0, &all)])), "record 0+3, hole 8+1, hole 9+15, record 24+4");
    }
}
