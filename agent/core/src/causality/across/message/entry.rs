//! One message: its publishes, its deliveries that wait, and what each destination has used up.
//!
//! *Owns* what is remembered of equal messages, and its bounds. *Must not know* how they are paired.

use std::time::Duration;

use super::told::{Delivery, Destination};
use super::{MAX_EQUAL, TOGETHER};
use crate::record::{ConnId, OpId};
use crate::time::BootTime;

#[derive(Clone, Copy, Debug)]
pub(super) struct Publish {
    pub(super) at: BootTime,
    pub(super) op: OpId,
    pub(super) conn: ConnId,
    /// Some destination had this message.
    pub(super) delivered: bool,
    /// This publish and the one before may have been queued the other way round.
    pub(super) doubtful: bool,
    pub(super) delay: Duration,
    pub(super) expires: Option<Duration>,
}

impl Publish {
    /// When it came to its queues.
    pub(super) fn queued_at(&self, delivery: &Delivery) -> BootTime {
        if delivery.delayed { self.at + self.delay } else { self.at }
    }

    /// It died of its age, and an equal one from before anything was seen would have died before: that had been for `watched_for`.
    pub(super) fn died_in_view(&self, watched_for: Option<Duration>) -> bool {
        self.expires.zip(watched_for).is_some_and(|(expires, watched_for)| watched_for >= expires)
    }

    /// Its queues have dropped it before.
    pub(super) fn is_expired(&self, delivery: &Delivery) -> bool {
        self.expires.is_some_and(|expires| self.queued_at(delivery) + expires + TOGETHER < delivery.at)
    }
}

/// A message that left its queue and was not taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Back {
    pub(super) publish: OpId,
    pub(super) destination: Destination,
    pub(super) at: BootTime,
    pub(super) refused: bool,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Publishes of this message in the order the broker read them.
    pub(super) publishes: Vec<Publish>,
    /// By destination: copies of one message go to few.
    pub(super) used: Vec<Used>,
    /// Deliveries whose publish is not over yet (its confirm comes after the delivery), or whose order is not known yet, in
    /// the order they left.
    pub(super) waiting: Vec<Delivery>,
    /// In the order they were settled.
    pub(super) back: Vec<Back>,
    /// When the latest publish was seen that was forgotten: it may not have left yet.
    pub(super) forgotten_at: Option<BootTime>,
    /// Of some destination it is not known any more what was used up.
    pub(super) has_forgotten_used: bool,
    /// It waits for what the others of its address show.
    pub(super) is_unproven: bool,
    /// Parts of it that are counted among those of all messages.
    pub(super) counted: usize,
}

/// What the deliveries to one destination have used up.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) destination: u64,
    /// Publishes used up.
    pub(super) count: usize,
    /// A message that left again, and when: this message and those before it had left for the first time by then.
    pub(super) again: Option<(BootTime, usize)>,
}

impl Entry {
    /// All that is remembered of it.
    pub(super) fn parts(&self) -> usize {
        self.publishes.len() + self.used.len() + self.waiting.len() + self.back.len()
    }

    /// Nothing is known any more of a publish that was seen then, or of one before.
    pub(super) fn forgot(&mut self, at: BootTime) {
        self.forgotten_at = self.forgotten_at.max(Some(at));
    }

    /// `forgotten` counts those that had to go.
    pub(super) fn used(&mut self, destination: u64, forgotten: &mut u64) -> &mut Used {
        let index = self.used.iter().position(|used| used.destination == destination);
        let index = index.unwrap_or_else(|| {
            if self.used.len() >= MAX_EQUAL {
                self.used.remove(0);
                self.has_forgotten_used = true;
                *forgotten += 1;
            }
            self.used.reserve_exact(1);
            // This one may be one that is forgotten, and have used up all there is.
            let count = if self.has_forgotten_used { self.publishes.len() } else { 0 };
            self.used.push(Used { destination, count, again: None });
            self.used.len() - 1
        });
        &mut self.used[index]
    }
}
