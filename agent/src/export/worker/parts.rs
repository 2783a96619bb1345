//! A batch that is too large for the back end → its parts, each small enough, in order.
//!
//! ```text
//!   too large ─▶ two halves ─▶ first half: taken, or too large in its turn ─▶ … ─▶ second half
//! ```
//!
//! *Owns* the parts until they are settled: a batch of the spool is acknowledged with its last part, and parts that cannot be
//! sent now go to the spool, so that a killed agent loses none of them. What the back end takes of them is what later batches aim
//! at. *Must not know* how a batch is halved: `split` does.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Batch, Entry, Taken, Worker, repeats, unix_ms};

/// After so many single spans of a batch that are refused as too large, with nothing taken between them, its size is not what
/// the back end means: the rest of it is refused as well, and not sent span by span.
const MAX_SINGLE_REFUSED: u32 = 3;

/// Requests of several spans are not made smaller than this: what takes less takes spans one by one.
const MIN_REQUEST_BYTES: usize = 16 << 10;

/// What is left to send of a batch that was too large.
#[derive(Debug, Default)]
pub(super) struct Parts {
    waiting: VecDeque<Batch>,
    /// The batch in the spool, which is settled with its last part. `None`: it came from memory.
    entry: Option<Entry>,
    /// Single spans that were refused since a part was taken.
    single_refused: u32,
}

impl Parts {
    pub(super) fn next(&mut self) -> Option<Batch> {
        self.waiting.pop_front()
    }

    fn span_count(&self) -> u64 {
        self.waiting.iter().map(|part| u64::from(part.span_count)).sum()
    }
}

impl Worker {
    /// A batch that is too large goes on as its halves.
    pub(super) fn split(&mut self, taken: Taken, halves: [Batch; 2], reason: &str) {
        if let Some(held_back) = self.advice.due(Instant::now()) {
            let (uri, spans) = (&self.uri, taken.batch().span_count);
            tracing::warn!(
                held_back = repeats(held_back),
                "{uri} takes no request of {spans} spans ({reason}): it gets two of half the size; lower \
                 `export.otlp.max_request_bytes` to spare it the first one"
            );
        }
        let entry = match taken {
            Taken::Spool(entry) => Some(entry),
            Taken::Memory(_) | Taken::Part(_) => None,
        };
        let parts = self.parts.get_or_insert_with(|| Parts { entry, ..Parts::default() });
        for half in halves.into_iter().rev() {
            parts.waiting.push_front(half);
        }
        self.note_parts();
    }

    /// One span alone is too large for the back end, or it means something else than the size.
    pub(super) fn refuse_single(&mut self, taken: &Taken, reason: &str) {
        let mut spans = u64::from(taken.batch().span_count);
        if let Some(parts) = &mut self.parts {
            parts.single_refused += 1;
            if parts.single_refused >= MAX_SINGLE_REFUSED {
                spans += parts.span_count();
                parts.waiting.clear();
            }
        }
        self.refuse(spans, reason);
        self.settle(taken);
    }

    /// What waits as parts of a batch from memory counts as being sent.
    fn note_parts(&self) {
        let from_memory = self.parts.as_ref().filter(|parts| parts.entry.is_none());
        self.shared.lock().in_flight = from_memory.map_or(0, Parts::span_count);
    }

    /// Parts that are not sent now go to the spool, if there is one that takes them.
    pub(super) fn put_parts_back(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        let Some(mut parts) = self.parts.take() else { return };
        while let Some(part) = parts.waiting.front() {
            if let Err(error) = spool.append(&part.payload, part.span_count, unix_ms()) {
                self.parts = Some(parts);
                self.note_parts();
                return self.tell_disk(&error);
            }
            parts.waiting.pop_front();
        }
        if let Some(entry) = &parts.entry
            && let Err(error) = spool.acknowledge(entry)
        {
            self.tell_disk(&error);
        }
        self.note_parts();
    }

    /// A part was taken: so much the back end takes, and what comes is made no larger.
    pub(super) fn part_was_taken(&mut self, len: usize) {
        self.shared.lock().lower_aim(len.max(MIN_REQUEST_BYTES));
        if let Some(parts) = &mut self.parts {
            parts.single_refused = 0;
        }
    }

    /// The part on its way is done with.
    pub(super) fn settle_part(&mut self) {
        if let Some(parts) = self.parts.take_if(|parts| parts.waiting.is_empty())
            && let Some(entry) = &parts.entry
        {
            self.acknowledge(entry);
        }
        self.note_parts();
    }

    /// A part could not be sent: it is the next one again, or waits in the spool with the others.
    pub(super) fn give_back_part(&mut self, part: Batch) {
        self.parts.get_or_insert_default().waiting.push_front(part);
        self.put_parts_back();
    }
}
