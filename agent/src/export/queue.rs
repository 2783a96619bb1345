//! Encoded batches waiting for the back end in memory: bounded in bytes, the oldest spans of whoever has most dropped first.
//!
//! A sender that finishes more spans than the back end takes loses its own; what its neighbours finish meanwhile keeps its place.
//! A batch holds the spans of many senders, each in a range of its own ([`Share`]), and a request without one of its
//! `ResourceSpans` is a request: dropping cuts ranges out, and makes no batch of its own for each sender.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// An encoded `ExportTraceServiceRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Protobuf.
    pub payload: Bytes,
    pub span_count: u32,
    /// Whose spans are where, in order. What is in none of them goes only with the whole batch.
    pub shares: Arc<[Share]>,
}

/// Whoever finishes spans: a container, or a service outside of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sender(pub u64);

/// The spans of one sender in a batch: one or several whole fields of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub sender: Sender,
    /// Bytes of the payload.
    pub range: Range<usize>,
    pub span_count: u32,
}

impl Batch {
    /// The batch without one of its shares.
    fn without(&self, index: usize) -> Self {
        let Some(out) = self.shares.get(index) else { return self.clone() };
        let Range { start, end } = out.range;
        let payload = [&self.payload[..start], &self.payload[end..]].concat();
        let kept = self.shares.iter().enumerate().filter(|(at, _)| *at != index);
        let shares = kept.map(|(at, share)| {
            let moved = if at > index { end - start } else { 0 };
            Share { range: share.range.start - moved..share.range.end - moved, ..share.clone() }
        });
        Self {
            payload: payload.into(),
            span_count: self.span_count.saturating_sub(out.span_count),
            shares: shares.collect(),
        }
    }
}

/// Batches, oldest first.
#[derive(Debug)]
pub struct Queue {
    batches: VecDeque<Batch>,
    bytes: usize,
    span_count: u64,
    max_bytes: usize,
    /// Bytes that each sender has here.
    held: HashMap<Sender, usize>,
}

impl Queue {
    pub fn new(max_bytes: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, span_count: 0, max_bytes, held: HashMap::new() }
    }

    /// Adds the newest batch. Returns the number of spans that were dropped to make room; that can be those of this batch.
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
        self.discount(&batch);
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
        for Share { sender, range, .. } in batch.shares.iter() {
            *self.held.entry(*sender).or_default() += range.len();
        }
    }

    fn discount(&mut self, batch: &Batch) {
        self.bytes = self.bytes.saturating_sub(batch.payload.len());
        self.span_count = self.span_count.saturating_sub(u64::from(batch.span_count));
        for Share { sender, range, .. } in batch.shares.iter() {
            if let Some(held) = self.held.get_mut(sender) {
                *held = held.saturating_sub(range.len());
                if *held == 0 {
                    self.held.remove(sender);
                }
            }
        }
    }

    fn shrink(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes > self.max_bytes {
            match self.cut_largest().or_else(|| self.pop_front().map(|batch| batch.span_count)) {
                Some(spans) => dropped += u64::from(spans),
                None => break,
            }
        }
        dropped
    }

    /// Drops the oldest spans of the sender that has most here. Returns how many these were; `None`: nobody's are known.
    fn cut_largest(&mut self) -> Option<u32> {
        let (largest, _) = self.held.iter().max_by_key(|(sender, held)| (**held, **sender))?;
        let largest = *largest;
        let of_largest = |batch: &Batch| batch.shares.iter().position(|share| share.sender == largest);
        let (at, index) =
            self.batches.iter().enumerate().find_map(|(at, batch)| Some((at, of_largest(batch)?)))?;
        let left = self.batches[at].without(index);
        let dropped = self.batches[at].span_count - left.span_count;
        let whole = std::mem::replace(&mut self.batches[at], left.clone());
        self.discount(&whole);
        if left.payload.is_empty() {
            self.batches.remove(at);
        } else {
            self.account(&left);
        }
        Some(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(len: usize, span_count: u32) -> Batch {
        Batch { payload: Bytes::from(vec![0; len]), span_count, ..Batch::default() }
    }

    /// A batch of these senders' bytes, ten to a span; each byte says whose it is.
    fn shared(of: &[(u64, usize)]) -> Batch {
        let (mut payload, mut shares) = (Vec::new(), Vec::new());
        for (sender, len) in of {
            let start = payload.len();
            payload.resize(start + len, *sender as u8);
            let span_count = (len / 10) as u32;
            shares.push(Share { sender: Sender(*sender), range: start..payload.len(), span_count });
        }
        let span_count = shares.iter().map(|share| share.span_count).sum();
        Batch { payload: payload.into(), span_count, shares: shares.into() }
    }

    /// What is left, by batch: sender and bytes in the order of the payload. Checks the shares against the payload.
    fn left(queue: &mut Queue) -> Vec<Vec<(u64, usize)>> {
        let mut all = Vec::new();
        while let Some(batch) = queue.pop_front() {
            let mut at = 0;
            for share in batch.shares.iter() {
                assert_eq!(share.range.start, at);
                assert!(
                    batch.payload[share.range.clone()].iter().all(|byte| u64::from(*byte) == share.sender.0)
                );
                at = share.range.end;
            }
            assert_eq!(at, batch.payload.len());
            assert_eq!(batch.span_count, batch.shares.iter().map(|share| share.span_count).sum::<u32>());
            all.push(batch.shares.iter().map(|share| (share.sender.0, share.range.len())).collect());
        }
        assert_eq!((queue.len_bytes(), queue.span_count(), queue.held.len()), (0, 0, 0));
        all
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
    fn whoever_has_most_gives_its_oldest_and_a_neighbour_keeps_its_place() {
        let mut queue = Queue::new(300);
        assert_eq!(queue.push_back(shared(&[(1, 20), (2, 100)])), 0);
        assert_eq!(queue.push_back(shared(&[(2, 100), (1, 20), (3, 30)])), 0);
        assert_eq!(queue.push_back(shared(&[(2, 100)])), 10);
        assert_eq!(queue.push_back(shared(&[(1, 10), (2, 100)])), 10);
        assert_eq!(
            left(&mut queue),
            [vec![(1, 20)], vec![(1, 20), (3, 30)], vec![(2, 100)], vec![(1, 10), (2, 100)]]
        );
    }

    /// One that has all of it loses its oldest batches, as if there were no shares.
    #[test]
    fn a_sender_alone_loses_its_oldest_batches() {
        let mut queue = Queue::new(100);
        (1..=4).for_each(|n| {
            queue.push_back(shared(&[(7, 30 + n)]));
        });
        assert_eq!(left(&mut queue), [vec![(7, 32)], vec![(7, 33)], vec![(7, 34)]]);
    }

    /// Whatever comes: the bound holds, each span is taken once or counted as dropped, and whoever never had more than an equal part
    /// lost nothing.
    #[test]
    fn within_its_part_nobody_loses_anything() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut queue, max) = (Queue::new(1000), 1000);
            let (mut given, mut dropped, mut modest) = (0_u64, 0_u64, 0_usize);
            for _ in 0..60 {
                // Sender 0 has at most a fifth of the room, and there are four others at most.
                let quiet = if modest < 190 { 10 } else { 0 };
                modest += quiet;
                let loud = (0..random.usize(0..3)).map(|_| (random.u64(1..5), 10 * random.usize(1..40)));
                let of: Vec<_> = [(0, quiet)].into_iter().chain(loud).filter(|(_, len)| *len > 0).collect();
                let batch = shared(&of);
                given += u64::from(batch.span_count);
                dropped += queue.push_back(batch);
                assert!(queue.len_bytes() <= max);
            }
            let left = left(&mut queue);
            let bytes = |of: u64| -> usize {
                left.iter().flatten().filter(|(sender, _)| *sender == of).map(|(_, len)| len).sum()
            };
            assert_eq!(bytes(0), modest, "seed {seed}");
            let all: usize = (0..5).map(bytes).sum();
            assert_eq!(given, dropped + (all / 10) as u64, "seed {seed}");
        }
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
        assert_eq!(queue.push_back(shared(&[(1, 110)])), 11);
        assert_eq!(left(&mut queue), [] as [Vec<(u64, usize)>; 0]);
    }
}
