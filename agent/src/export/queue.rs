//! Encoded batches waiting for the back end in memory: bounded in bytes, the oldest dropped first.

use std::collections::VecDeque;

use bytes::Bytes;

/// An encoded `ExportTraceServiceRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Protobuf.
    pub payload: Bytes,
    pub span_count: u32,
}

/// Batches, oldest first.
#[derive(Debug)]
pub struct Queue {
    batches: VecDeque<Batch>,
    bytes: usize,
    span_count: u64,
    max_bytes: usize,
}

impl Queue {
    pub fn new(max_bytes: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, span_count: 0, max_bytes }
    }

    /// Adds the newest batch. Returns the number of spans that were dropped to make room, oldest first; that can be
    /// those of this batch.
    pub fn push_back(&mut self, batch: Batch) -> u64 {
        self.account(&batch);
        self.batches.push_back(batch);
        self.shrink()
    }

    /// Gives back a batch that was taken and could not be sent: it is the oldest again.
    pub fn push_front(&mut self, batch: Batch) -> u64 {
        self.account(&batch);
        self.batches.push_front(batch);
        self.shrink()
    }

    /// Takes the oldest batch.
    pub fn pop_front(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.bytes = self.bytes.saturating_sub(batch.payload.len());
        self.span_count = self.span_count.saturating_sub(u64::from(batch.span_count));
        Some(batch)
    }

    /// Bytes waiting.
    pub fn len_bytes(&self) -> usize {
        self.bytes
    }

    /// Spans waiting.
    pub fn span_count(&self) -> u64 {
        self.span_count
    }

    /// More than half of the room is taken.
    pub fn is_filling(&self) -> bool {
        self.bytes > self.max_bytes / 2
    }

    fn account(&mut self, batch: &Batch) {
        self.bytes += batch.payload.len();
        self.span_count += u64::from(batch.span_count);
    }

    fn shrink(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes > self.max_bytes {
            match self.pop_front() {
                Some(batch) => dropped += u64::from(batch.span_count),
                None => break,
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(len: usize, span_count: u32) -> Batch {
        Batch { payload: Bytes::from(vec![0; len]), span_count }
    }

    #[test]
    fn oldest_batches_are_dropped_and_counted_when_full() {
        let mut queue = Queue::new(100);
        assert_eq!(queue.push_back(batch(40, 1)), 0);
        assert_eq!(queue.push_back(batch(40, 2)), 0);
        assert_eq!(queue.push_back(batch(90, 4)), 3);
        assert_eq!((queue.len_bytes(), queue.span_count()), (90, 4));
        assert_eq!(queue.pop_front().map(|b| b.span_count), Some(4));
        assert_eq!((queue.len_bytes(), queue.span_count()), (0, 0));
    }

    #[test]
    fn returned_batch_is_the_oldest_again() {
        let mut queue = Queue::new(100);
        queue.push_back(batch(10, 1));
        queue.push_back(batch(10, 2));
        let first = queue.pop_front().unwrap();
        assert_eq!(queue.push_front(first), 0);
        assert_eq!(queue.pop_front().map(|b| b.span_count), Some(1));
        assert_eq!(queue.pop_front().map(|b| b.span_count), Some(2));
    }

    #[test]
    fn returned_batch_is_dropped_when_newer_ones_took_its_room() {
        let mut queue = Queue::new(100);
        queue.push_back(batch(60, 1));
        let first = queue.pop_front().unwrap();
        queue.push_back(batch(60, 2));
        assert_eq!(queue.push_front(first), 1);
        assert_eq!(queue.pop_front().map(|b| b.span_count), Some(2));
    }

    #[test]
    fn batch_larger_than_the_queue_is_dropped() {
        let mut queue = Queue::new(100);
        assert_eq!(queue.push_back(batch(101, 7)), 7);
        assert_eq!(queue.pop_front(), None);
    }
}
