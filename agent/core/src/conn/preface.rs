//! The first chunks of a connection → the same without a header of the PROXY protocol in front of them.
//!
//! Positions stay those of the stream: both ends count the header, so that both know an operation by the same place.
//!
//! *Owns* what waits until a header is told from other bytes: at most 107 bytes of a direction. *Must not know* what they carry.

use std::net::SocketAddr;

use super::look::PerDirection;
use crate::protocol::proxy::{self, Prefix};
use crate::record::Direction;
use crate::stream::Chunk;

/// Both directions of a connection until their first bytes are known.
#[derive(Debug, Default)]
pub(super) struct Preface {
    directions: PerDirection<Watch>,
    /// The direction that began with a header, and where that ended.
    pub(super) found: Option<Found>,
}

/// A header that was stepped over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) direction: Direction,
    /// Position of the first byte after it.
    pub(super) end_pos: u64,
    /// The client that the proxy serves.
    pub(super) client: Option<SocketAddr>,
}

/// One direction.
#[derive(Clone, Debug, Default)]
enum Watch {
    /// No byte was seen.
    #[default]
    Fresh,
    /// These may begin a header.
    Held(Vec<Chunk>),
    /// The rest of a header, up to this position.
    Inside(u64),
    /// What comes is what the connection speaks.
    Over,
}

impl Preface {
    /// Of a connection that is met later than at its first byte.
    pub(super) fn over() -> Self {
        Self { directions: PerDirection { ingress: Watch::Over, egress: Watch::Over }, found: None }
    }

    /// A direction has nothing more in front of what it speaks; nor has it, if nothing of it was seen yet and what comes is not
    /// its start.
    pub(super) fn is_over(&mut self, direction: Direction, is_start: bool) -> bool {
        let watch = self.directions.of(direction);
        if matches!(watch, Watch::Fresh) && !is_start {
            *watch = Watch::Over;
        }
        matches!(watch, Watch::Over)
    }

    /// Bytes that wait until a header is told from others, and their places.
    pub(super) fn held(&self) -> usize {
        let held = |watch: &Watch| match watch {
            Watch::Held(held) => {
                let bytes = held.iter().map(|chunk| match chunk {
                    Chunk::Bytes { bytes, .. } => bytes.len(),
                    Chunk::Gap { .. } => 0,
                });
                held.capacity() * size_of::<Chunk>() + bytes.sum::<usize>()
            }
            Watch::Fresh | Watch::Inside(_) | Watch::Over => 0,
        };
        held(&self.directions.ingress) + held(&self.directions.egress)
    }

    /// Takes a chunk; hands out what does not belong to a header.
    pub(super) fn pass(&mut self, direction: Direction, chunk: Chunk) -> Vec<Chunk> {
        let watch = self.directions.of(direction);
        match watch {
            Watch::Over => return vec![chunk],
            Watch::Inside(end) => {
                let end = *end;
                if chunk.end() >= end {
                    *watch = Watch::Over;
                }
                return rest(chunk, end).into_iter().collect();
            }
            Watch::Fresh | Watch::Held(_) => {}
        }
        let mut held = match std::mem::take(watch) {
            Watch::Held(held) => held,
            _ => Vec::new(),
        };
        held.push(chunk);
        let (start, prefix) = read(&held);
        match prefix {
            Prefix::Incomplete => {
                *watch = Watch::Held(held);
                Vec::new()
            }
            Prefix::None => {
                *watch = Watch::Over;
                held
            }
            Prefix::Header { len, client } => {
                let end_pos = start.saturating_add(len as u64);
                self.found = Some(Found { direction, end_pos, client });
                let is_over = held.last().is_some_and(|last| last.end() >= end_pos);
                *watch = if is_over { Watch::Over } else { Watch::Inside(end_pos) };
                held.into_iter().filter_map(|chunk| rest(chunk, end_pos)).collect()
            }
        }
    }
}

/// Position of the first held byte, and what the held bytes are.
fn read(held: &[Chunk]) -> (u64, Prefix) {
    let start = held.first().map_or(0, Chunk::pos);
    match held {
        [Chunk::Bytes { bytes, .. }] => (start, proxy::read(bytes)),
        _ => {
            let mut joined = Vec::new();
            for chunk in held {
                // A hole in it: nothing is known of its length.
                let Chunk::Bytes { bytes, .. } = chunk else { return (start, Prefix::None) };
                joined.extend_from_slice(bytes);
            }
            (start, proxy::read(&joined))
        }
    }
}

/// What of a chunk is at `end` or after it.
fn rest(chunk: Chunk, end: u64) -> Option<Chunk> {
    if chunk.pos() >= end {
        return Some(chunk);
    }
    let skipped = end - chunk.pos();
    if skipped >= chunk.len() {
        return None;
    }
    Some(match chunk {
        Chunk::Bytes { bytes, mark, .. } => {
            let from = usize::try_from(skipped).unwrap_or(usize::MAX).min(bytes.len());
            Chunk::Bytes { pos: end, bytes: bytes.slice(from..), mark }
        }
        Chunk::Gap { len, mark, .. } => Chunk::Gap { pos: end, len: len - skipped, mark },
    })
}
