//! Messages that a broker has read and handed to nobody → which of them lie in their queues, since when and in which.
//!
//! ```text
//!   published ─▶ lies ─▶ handed over (nothing is said) ─▶ taken, refused: over
//!                 ▲                                    └─▶ put back
//!                 └──────────────────────────────────────────┘
//! ```
//!
//! Said only where the broker's own sockets are seen, where messages of the same address were seen to come to a queue, and where
//! nothing was lost since: absence is evidence only where presence would have been seen.
//!
//! *Owns* what is remembered of such messages, bounded. *Must not know* how deliveries find their publish ([`super::message`]).
//! *Spec*: AMQP 0-9-1, `basic.publish`, `queue.declare`, `queue.purge`, `queue.delete`.

use super::message::{Address, MessageKey, Messages, Outcome};
use crate::bounded::Bounded;
use crate::hash::Keyed;
use crate::record::{OpId, Tgid};
use crate::time::BootTime;

/// Messages remembered that may lie in a queue, those published longest ago are forgotten first; some 100 bytes each.
const MAX_LYING: usize = 57_344;
/// Deliveries remembered that are not settled. RabbitMQ allows 65,535 of one channel; most have some tens.
const MAX_HANDED: usize = 57_344;
/// Addresses remembered with their queue.
const MAX_ROUTES: usize = 16_384;
/// Brokers remembered; one node has few.
const MAX_BROKERS: usize = 64;
/// Longest name of a queue (AMQP 0-9-1, "queue-name").
const MAX_QUEUE: usize = 255;

/// Whether a message lies in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// It does, since then.
    Lies(BootTime),
    /// Somebody has it and has not said what becomes of it; or which of several equal ones that is, is not known.
    Unsaid,
    /// It does not, or that is not known any more.
    Gone,
}

/// A message that was published.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub key: MessageKey,
    pub address: Address,
    pub at: BootTime,
    /// When its queue drops it, if it drops it of its age.
    pub expires_at: Option<BootTime>,
    /// The broker.
    pub by: Tgid,
}

/// Where messages of an address come to.
#[derive(Debug)]
struct Route {
    /// `None`: to a queue whose name is not known, or to several.
    queue: Option<String>,
    /// It was emptied then, or is no more.
    emptied_at: BootTime,
}

/// Messages that may lie in queues.
#[derive(Debug)]
pub struct Lying {
    sent: Bounded<OpId, Sent>,
    /// Messages that somebody has, by their delivery.
    handed: Bounded<OpId, MessageKey>,
    /// How many of each.
    with_others: Bounded<MessageKey, u32, Keyed>,
    routes: Bounded<u64, Route, Keyed>,
    /// When something of a broker was lost last, or it ended: a delivery may have been among it.
    missed: Bounded<Tgid, BootTime>,
    /// When something was lost last of which it is not known whose it was.
    lost_at: BootTime,
}

impl Default for Lying {
    fn default() -> Self {
        Self::new()
    }
}

impl Lying {
    pub fn new() -> Self {
        Self {
            sent: Bounded::new(MAX_LYING),
            handed: Bounded::new(MAX_HANDED),
            with_others: Bounded::for_foreign_keys(MAX_HANDED),
            routes: Bounded::for_foreign_keys(MAX_ROUTES),
            missed: Bounded::new(MAX_BROKERS),
            lost_at: BootTime::ZERO,
        }
    }

    /// The broker has read a message.
    pub fn published(&mut self, op: OpId, sent: Sent) {
        self.missed.slot_or_insert_with(sent.by, || BootTime::ZERO);
        self.sent.insert(op, sent);
    }

    /// It became none, or left all queues.
    pub fn gone(&mut self, op: OpId) {
        self.sent.remove(&op);
    }

    /// A consumer was handed a message, and has not settled it.
    pub fn handed(&mut self, delivery: OpId, key: MessageKey, at: BootTime) {
        if let Some((_, forgotten)) = self.handed.insert(delivery, key) {
            // Somebody has it still, and it will not be known who.
            self.lost(at);
            self.settle(forgotten);
        }
        let slot = self.with_others.slot_or_insert_with(key, || 0);
        if let Some(count) = self.with_others.at_mut(slot) {
            *count += 1;
        }
    }

    /// That delivery is over.
    pub fn over(&mut self, delivery: OpId) {
        if let Some(key) = self.handed.remove(&delivery) {
            self.settle(key);
        }
    }

    fn settle(&mut self, key: MessageKey) {
        let Some(count) = self.with_others.get_mut(&key) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.with_others.remove(&key);
        }
    }

    /// A delivery was found to be of this publish.
    pub fn paired(&mut self, publish: OpId, outcome: Outcome, over_at: BootTime) {
        match outcome {
            Outcome::Taken | Outcome::Refused => self.gone(publish),
            Outcome::PutBack => {
                if let Some(sent) = self.sent.get_mut(&publish) {
                    sent.at = sent.at.max(over_at);
                }
            }
        }
    }

    /// Messages of this address come to that queue.
    pub fn routed(&mut self, address: Address, queue: Option<&str>) {
        let queue = queue.filter(|queue| queue.len() <= MAX_QUEUE);
        match self.routes.get_mut(&address.exact()) {
            Some(route) => {
                if route.queue.as_deref() != queue {
                    route.queue = None;
                }
            }
            None => {
                let route = Route { queue: queue.map(str::to_owned), emptied_at: BootTime::ZERO };
                self.routes.insert(address.exact(), route);
            }
        }
    }

    /// What lay in that queue is gone, whatever its address was.
    pub fn emptied(&mut self, queue: &str, at: BootTime) {
        let routes: Vec<u64> =
            self.routes.iter().filter(|(_, route)| route.leads_to(queue)).map(|(hash, _)| *hash).collect();
        for hash in routes {
            if let Some(route) = self.routes.get_mut(&hash) {
                route.emptied_at = route.emptied_at.max(at);
            }
        }
    }

    /// Something that a process read or wrote was lost, found out at `now`; or the process ended.
    pub fn missed(&mut self, by: Tgid, now: BootTime) {
        if let Some(missed) = self.missed.get_mut(&by) {
            *missed = (*missed).max(now);
        }
    }

    /// Something was lost, and whose is not known.
    pub fn lost(&mut self, now: BootTime) {
        self.lost_at = self.lost_at.max(now);
    }

    /// The queue that a message may lie in, inside by its name where that is known. `None`: it lies in none, or that is not known.
    pub fn queue(&self, op: OpId) -> Option<Option<&str>> {
        let sent = self.sent.get(&op)?;
        Some(self.routes.get(&sent.address.exact())?.queue.as_deref())
    }

    /// Where a message is at `now`, as far as it is known.
    pub fn whereabouts(&self, op: OpId, messages: &Messages, now: BootTime) -> Whereabouts {
        let Some(sent) = self.sent.get(&op) else { return Whereabouts::Gone };
        let Some(route) = self.routes.get(&sent.address.exact()) else { return Whereabouts::Gone };
        // Of a broker that is forgotten it is not known what was lost.
        let missed_at = self.missed.get(&sent.by).copied().unwrap_or(now);
        let is_gone = sent.at <= missed_at.max(self.lost_at).max(route.emptied_at)
            || sent.expires_at.is_some_and(|expires_at| expires_at <= now)
            || !messages.is_published(sent.key);
        if is_gone {
            return Whereabouts::Gone;
        }
        if self.with_others.contains_key(&sent.key) || !messages.is_decided(sent.key) {
            return Whereabouts::Unsaid;
        }
        Whereabouts::Lies(sent.at)
    }

    /// What was forgotten at the bounds.
    pub fn forgotten(&self) -> u64 {
        let tables = [
            self.sent.forgotten(),
            self.handed.forgotten(),
            self.with_others.forgotten(),
            self.routes.forgotten(),
            self.missed.forgotten(),
        ];
        tables.into_iter().fold(0, u64::saturating_add)
    }
}

impl Route {
    fn leads_to(&self, queue: &str) -> bool {
        self.queue.as_deref().is_none_or(|own| own == queue)
    }
}
