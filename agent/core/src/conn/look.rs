//! The first chunks of a connection → its protocol; what was seen is kept for the session.
//!
//! *Owns* the bound on what is kept until the protocol is clear, and starting over after a gap.

use std::collections::VecDeque;

use super::Stats;
use crate::protocol::detect::{Detection, Detector};
use crate::record::Direction;
use crate::stream::Chunk;

/// Bytes kept per direction until the protocol is clear, to be replayed into the session.
const PENDING_BYTES: usize = 64 << 10;
/// Chunks kept until then.
const PENDING_CHUNKS: usize = 256;
/// The first look at a connection.
#[derive(Debug, Default)]
pub(super) struct Look {
    detector: Detector,
    /// What was seen, in the order it moved.
    pub(super) pending: VecDeque<(Direction, Chunk)>,
    bytes: PerDirection<usize>,
}

/// One value per direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PerDirection<T> {
    pub(super) ingress: T,
    pub(super) egress: T,
}

impl<T> PerDirection<T> {
    pub(super) fn of(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }
}

impl Look {
    /// Shows the detector a chunk and keeps it for the session.
    pub(super) fn offer(
        &mut self,
        direction: Direction,
        chunk: Chunk,
        server_port: Option<u16>,
        stats: &mut Stats,
    ) -> Detection {
        let detection = match &chunk {
            Chunk::Bytes { bytes, .. } => self.detector.offer(direction, bytes, server_port),
            Chunk::Gap { .. } => self.restart(direction, server_port),
        };
        if let Chunk::Bytes { bytes, .. } = &chunk {
            *self.bytes.of(direction) += bytes.len();
        }
        self.pending.push_back((direction, chunk));
        while *self.bytes.of(direction) > PENDING_BYTES || self.pending.len() > PENDING_CHUNKS {
            let is_full = self.pending.len() > PENDING_CHUNKS;
            let first = self.pending.iter().position(|(other, _)| is_full || *other == direction);
            let Some((of, chunk)) = first.and_then(|first| self.pending.remove(first)) else { break };
            if let Chunk::Bytes { bytes, .. } = chunk {
                let kept = self.bytes.of(of);
                *kept = kept.saturating_sub(bytes.len());
                stats.forgotten_bytes += bytes.len() as u64;
            }
        }
        detection
    }

    /// A hole in one direction: what comes after it does not continue what came before. The other direction's bytes
    /// still stand.
    fn restart(&mut self, holed: Direction, server_port: Option<u16>) -> Detection {
        self.detector = Detector::default();
        let other = holed.opposite();
        let is_gap = |(direction, chunk): &(Direction, Chunk)| {
            *direction == other && matches!(chunk, Chunk::Gap { .. })
        };
        let from = self.pending.iter().rposition(is_gap).map_or(0, |at| at + 1);
        let mut detection = Detection::Undecided;
        for (direction, chunk) in self.pending.iter().skip(from) {
            if let (true, Chunk::Bytes { bytes, .. }) = (*direction == other, chunk) {
                detection = self.detector.offer(other, bytes, server_port);
            }
        }
        detection
    }

    /// Bytes kept.
    pub(super) fn kept(&self) -> usize {
        self.bytes.ingress.saturating_add(self.bytes.egress)
    }

    /// Bytes that the places of what is kept take.
    pub(super) fn entry_bytes(&self) -> usize {
        size_of::<Self>() + self.pending.capacity() * size_of::<(Direction, Chunk)>() + self.detector.held()
    }

    /// Gives up what was kept, to free memory.
    pub(super) fn forget(&mut self, stats: &mut Stats) {
        stats.forgotten_bytes += self.kept() as u64;
        self.pending = VecDeque::new();
        self.bytes = PerDirection::default();
    }
}
