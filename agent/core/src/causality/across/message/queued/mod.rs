//! What a broker was given and has not handed on → the messages that lie in a queue now.
//!
//! That nothing is seen of a message proves little by itself: a message may have been wanted by no queue, its queue may be gone with
//! its consumer, a delivery may have been missed. So a message lies in a queue only where
//!
//! - the broker itself was seen to read it, on its own sockets, where all that it hands on is seen as well,
//! - messages of its address were seen to come out of one queue, each of them ([`ENOUGH`]),
//! - that queue is still there: it was declared to stay without consumers and to drop nothing, or somebody still takes from it,
//! - and nothing was lost since.
//!
//! ```text
//!   t0 publish a · t1 deliver a (from q) · … · t8 the consumer's connection ends · t9 publish b ⇒ b lies in q, nobody takes from it
//! ```
//!
//! *Owns* what is known of queues, their consumers and what they hold. *Must not know* orders, spans.
//! *Spec*: AMQP 0-9-1 section 1.7.2.1 (`queue.declare`: exclusive, auto-delete); RabbitMQ, "Time-To-Live and Expiration",
//! "Queue Length Limit" (what a queue may drop). A limit that a policy of the broker sets is not in the traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::habits::Address;
use super::told::MessageKey;
use crate::bounded::{Bounded, Slot};
use crate::hash::Keyed;
use crate::record::{ConnId, OpId};
use crate::time::BootTime;

/// Messages remembered that no queue was seen to hand on; those published longest ago are forgotten first. Some 200 bytes each.
const MAX_MESSAGES: usize = 16_384;
/// Addresses and queues remembered.
const MAX_ADDRESSES: usize = 4_096;
/// Consumers remembered of one queue; of a queue with more, how many they are is not known.
const MAX_CONSUMERS: usize = 64;
/// Messages of an address that must have been seen to come out of its queue.
///
/// One may be of a queue that somebody bound for a moment; not measured. That nearly none went astray is what tells.
const ENOUGH: u32 = 3;
/// Messages that the broker reads this close to each other have no known order in their queue, as `TOGETHER` of the parent module
/// says; far more than that.
const ORDERED: Duration = Duration::from_secs(1);
/// Of so many messages that came out one may have left unseen.
const ASTRAY_IN: u32 = 100;
/// Connections remembered that are over. A delivery becomes known later than its connection's end only while records wait for others, for
/// seconds.
const MAX_ENDED: usize = 4_096;
/// Operations that the broker has begun and not ended, remembered. Beyond, nothing is told: one of them may be of any message.
const MAX_OPEN: usize = 1 << 16;

/// A queue, or all that is known of one: the address of the messages that come out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum QueueId {
    /// Hash of broker and name.
    Named(u64),
    /// Its consumers subscribed before anything was seen.
    Of(u64),
}

/// Who takes from a queue: a subscription on a channel, by a hash of its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumer {
    pub conn: ConnId,
    pub channel: u16,
    pub tag: u64,
}

/// A message that came out of a queue.
#[derive(Debug)]
pub struct Handed {
    /// By which it may be known; empty where it was not captured whole.
    pub keys: Vec<MessageKey>,
    /// It was dead-lettered: its address says nothing of where it was published.
    pub is_dead: bool,
    pub address: Address,
    /// Hash of broker and name, and the name.
    pub queue: Option<(u64, String)>,
    /// `None`: it was asked for.
    pub consumer: Option<Consumer>,
    pub at: BootTime,
    /// It went back, then.
    pub put_back: Option<BootTime>,
    /// It came in the order of its queue: neither again nor with a priority.
    pub in_order: bool,
}

/// A message that lies in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lying {
    /// Its publish, as the broker read it.
    pub op: OpId,
    pub since: BootTime,
    pub queue: Option<String>,
    /// Those that were seen to take from it and have not gone. `None`: that is not known.
    pub consumers: Option<usize>,
    /// So many messages are known to lie there, this one among them; there may be more.
    pub depth: usize,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    keys: [Option<MessageKey>; 2],
    address: Address,
    since: BootTime,
    /// It may leave its queue unseen.
    expires: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// `None`: nothing came out yet. Where several queues have copies, none is told.
    queue: Option<QueueId>,
    several: bool,
    handed: u32,
    /// Messages that left their queue and were not seen to, for one behind them came out: they went unseen, or somebody has them yet.
    astray: u32,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    name: Option<String>,
    /// It stays without consumers, and drops nothing.
    stays: bool,
    consumers: Vec<Consumer>,
    /// Somebody subscribed for whom nothing came out yet.
    awaits: bool,
    /// There are more consumers than are remembered, or somebody asks for messages one by one.
    unsure: bool,
}

/// What a broker holds, bounded.
#[derive(Debug)]
pub struct Queued {
    messages: FxHashMap<OpId, Message>,
    by_age: BTreeSet<(BootTime, OpId)>,
    by_key: FxHashMap<MessageKey, BTreeSet<(BootTime, OpId)>>,
    by_address: FxHashMap<u64, BTreeSet<(BootTime, OpId)>>,
    /// Deliveries, and what may turn out to be some, that are not over.
    open: FxHashMap<OpId, ConnId>,
    /// Queues from which somebody takes over a connection: those that have a consumer there, and no others.
    taken_over: FxHashMap<ConnId, BTreeSet<QueueId>>,
    ways: Bounded<u64, Way, Keyed>,
    queues: Bounded<QueueId, Queue, Keyed>,
    /// Connections that are over: what they were handed may become known later.
    ended: Bounded<ConnId, ()>,
    /// What came out before it was known to be published: a confirm may come after the message is settled.
    early: Bounded<MessageKey, BootTime, Keyed>,
    /// Publishes whose messages came out since that was asked for.
    handed: Vec<OpId>,
    forgotten: u64,
}

impl Default for Queued {
    fn default() -> Self {
        Self {
            messages: FxHashMap::default(),
            by_age: BTreeSet::new(),
            by_key: FxHashMap::default(),
            by_address: FxHashMap::default(),
            open: FxHashMap::default(),
            taken_over: FxHashMap::default(),
            ways: Bounded::for_foreign_keys(MAX_ADDRESSES),
            queues: Bounded::for_foreign_keys(MAX_ADDRESSES),
            ended: Bounded::new(MAX_ENDED),
            early: Bounded::for_foreign_keys(MAX_MESSAGES),
            handed: Vec::new(),
            forgotten: 0,
        }
    }
}

impl Queued {
    /// The broker took a message.
    pub fn published(
        &mut self,
        op: OpId,
        keys: [Option<MessageKey>; 2],
        address: Address,
        at: BootTime,
        expires: bool,
    ) {
        let mut early = keys.iter().flatten();
        if early.any(|key| self.early.get(key).is_some_and(|out| *out >= at)) {
            for key in keys.iter().flatten() {
                self.early.remove(key);
            }
            return;
        }
        if self.messages.len() >= MAX_MESSAGES
            && let Some((_, oldest)) = self.by_age.first().copied()
        {
            self.remove(oldest);
            self.forgotten += 1;
        }
        self.enter(op, Message { keys, address, since: at, expires });
    }

    /// An operation of the broker's began that may be a delivery.
    pub fn opened(&mut self, op: OpId, conn: ConnId) {
        if self.open.len() < MAX_OPEN {
            self.open.insert(op, conn);
        }
    }

    /// It is over.
    pub fn closed(&mut self, op: OpId) {
        self.open.remove(&op);
    }

    /// Operations that may be deliveries and are not over. `None`: more than `most`.
    pub fn open(&self, most: usize) -> Option<Vec<(OpId, ConnId)>> {
        (self.open.len() <= most.min(MAX_OPEN - 1))
            .then(|| self.open.iter().map(|(op, conn)| (*op, *conn)).collect())
    }

    /// It gave one back to its publisher: no queue wanted it.
    pub fn returned(&mut self, key: MessageKey) {
        if let Some((_, op)) = self.by_key.get(&key).and_then(|ops| ops.last().copied()) {
            self.remove(op);
        }
    }

    /// It handed one on, and what became of that is known.
    pub fn handed_on(&mut self, handed: Handed) {
        let Handed { keys, is_dead, address, queue, consumer, at, put_back, in_order } = handed;
        let id = match &queue {
            Some((hash, _)) => QueueId::Named(*hash),
            None => QueueId::Of(address.exact),
        };
        let op = keys.iter().find_map(|key| self.first_of(*key, at));
        if op.is_none() && put_back.is_none() {
            for key in keys {
                self.early.insert(key, at);
            }
        }
        let since = op.and_then(|op| self.messages.get(&op)).map(|message| message.since);
        match (op, put_back) {
            (Some(op), None) => {
                self.remove(op);
                if self.handed.len() < MAX_MESSAGES {
                    self.handed.push(op);
                }
            }
            (Some(op), Some(again)) => self.lies_again(op, again),
            (None, _) => {}
        }
        let astray = match since {
            // Whatever came well before it left before it, whether that was seen or not.
            Some(since) if in_order && !is_dead => self.overtaken(address, since),
            _ => 0,
        };
        if !is_dead {
            let slot = self.ways.slot_or_insert_with(address.exact, Way::default);
            if let Some(way) = self.ways.at_mut(slot) {
                way.several |= way.queue.is_some_and(|known| known != id);
                way.queue = Some(id);
                way.handed = way.handed.saturating_add(1);
                way.astray = way.astray.saturating_add(astray);
                // It was overtaken while somebody had it.
                way.astray = way.astray.saturating_sub(u32::from(op.is_none()));
            }
        }
        let is_over = consumer.is_some_and(|consumer| self.ended.contains_key(&consumer.conn));
        let slot = self.queue(id);
        let Some(known) = self.queues.at_mut(slot) else { return };
        known.name = queue.map(|(_, name)| name);
        known.awaits = false;
        match consumer {
            None => known.unsure = true,
            Some(_) if is_over => {}
            Some(consumer) if known.consumers.contains(&consumer) => {}
            Some(_) if known.consumers.len() >= MAX_CONSUMERS => known.unsure = true,
            Some(consumer) => {
                self.taken_over.entry(consumer.conn).or_default().insert(id);
                known.consumers.push(consumer);
            }
        }
    }

    /// A queue was declared that stays without consumers, and drops nothing.
    pub fn declared(&mut self, queue: u64) {
        let slot = self.queue(QueueId::Named(queue));
        if let Some(queue) = self.queues.at_mut(slot) {
            queue.stays = true;
        }
    }

    /// Where what is known of a queue is; for a new one, the one that was met longest ago is forgotten.
    fn queue(&mut self, id: QueueId) -> Slot {
        if let Some(slot) = self.queues.slot(&id) {
            return slot;
        }
        let (slot, forgotten) = self.queues.insert_new(id, Queue::default());
        if let Some((id, queue)) = forgotten {
            self.is_gone(id, &queue);
        }
        slot
    }

    /// Nothing is known of a queue any more.
    fn is_gone(&mut self, id: QueueId, queue: &Queue) {
        for consumer in &queue.consumers {
            if let Some(queues) = self.taken_over.get_mut(&consumer.conn) {
                queues.remove(&id);
                if queues.is_empty() {
                    self.taken_over.remove(&consumer.conn);
                }
            }
        }
    }

    /// Somebody subscribed to a queue: until something comes out of it for them, how many take from it is not known.
    pub fn subscribed(&mut self, queue: u64) {
        if let Some(queue) = self.queues.get_mut(&QueueId::Named(queue)) {
            queue.awaits = true;
        }
    }

    /// A queue was emptied, bound in another way or deleted: what was known of it and its messages is none any more.
    pub fn changed(&mut self, queue: u64) {
        let id = QueueId::Named(queue);
        let from_it = |way: &Way| way.several || way.queue == Some(id);
        let ways = self.ways.iter().filter(|(_, way)| from_it(way));
        let addresses: Vec<u64> = ways.map(|(address, _)| *address).collect();
        for address in addresses {
            self.ways.remove(&address);
            let there = self.by_address.get(&address).into_iter().flatten();
            let there: Vec<OpId> = there.map(|(_, op)| *op).collect();
            there.into_iter().for_each(|op| self.remove(op));
        }
        if let Some(queue) = self.queues.remove(&id) {
            self.is_gone(id, &queue);
        }
    }

    /// An exchange goes elsewhere from now on, or nowhere.
    pub fn rerouted(&mut self) {
        self.missed();
        self.ways = Bounded::for_foreign_keys(MAX_ADDRESSES);
    }

    /// Consumers are gone: those of a connection, of one of its channels, or of one of its channels from one queue.
    pub fn left(&mut self, conn: ConnId, channel: Option<u16>, queue: Option<u64>) {
        if channel.is_none() {
            self.ended.insert(conn, ());
        }
        let Some(queues) = self.taken_over.get_mut(&conn) else { return };
        let is_meant = |id: &QueueId| queue.is_none_or(|queue| *id == QueueId::Named(queue));
        queues.retain(|id| {
            let Some(known) = self.queues.get_mut(id).filter(|_| is_meant(id)) else { return true };
            let stays = |consumer: &Consumer| {
                consumer.conn != conn || channel.is_some_and(|channel| consumer.channel != channel)
            };
            known.consumers.retain(stays);
            known.consumers.iter().any(|consumer| consumer.conn == conn)
        });
        if queues.is_empty() {
            self.taken_over.remove(&conn);
        }
    }

    /// Something was lost: a delivery may be among it.
    pub fn missed(&mut self) {
        self.messages.clear();
        self.by_age.clear();
        self.by_key.clear();
        self.by_address.clear();
    }

    /// Nothing has been on its way for so long.
    pub fn is_quiet(&self, now: BootTime, after: Duration) -> bool {
        self.by_age.first().is_none_or(|(since, _)| *since + after > now)
    }

    /// Publishes whose messages came out of their queue since this was asked last.
    pub fn take_handed(&mut self) -> Vec<OpId> {
        std::mem::take(&mut self.handed)
    }

    /// Messages that were forgotten at the bound.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// What has lain in a queue for `after`, the longest first, and publishes whose messages somebody has, by their keys: `taken`.
    pub fn lying(
        &self,
        now: BootTime,
        after: Duration,
        taken: &BTreeSet<MessageKey>,
    ) -> (Vec<Lying>, Vec<OpId>) {
        let mut in_hands = Vec::new();
        let mut depths: BTreeMap<QueueId, usize> = BTreeMap::new();
        let mut lying: Vec<(QueueId, Lying)> = Vec::new();
        for (since, op) in &self.by_age {
            let Some(message) = self.messages.get(op) else { continue };
            let is_taken = message.keys.iter().flatten().any(|key| taken.contains(key));
            let is_one =
                message.keys[0].is_some_and(|key| self.by_key.get(&key).is_some_and(|ops| ops.len() == 1));
            if is_taken {
                in_hands.push(*op);
            }
            if is_taken || message.expires {
                continue;
            }
            let Some((id, queue)) = self.queue_of(message.address) else { continue };
            *depths.entry(id).or_default() += 1;
            if is_one && *since + after <= now {
                let consumers = (!queue.unsure && !queue.awaits).then_some(queue.consumers.len());
                let queue = queue.name.clone();
                lying.push((id, Lying { op: *op, since: *since, queue, consumers, depth: 0 }));
            }
        }
        let depth = |id: QueueId| depths.get(&id).copied().unwrap_or_default();
        let lying = lying.into_iter().map(|(id, lying)| Lying { depth: depth(id), ..lying });
        (lying.collect(), in_hands)
    }

    /// The queue in which messages of an address lie, where that is certain.
    fn queue_of(&self, address: Address) -> Option<(QueueId, &Queue)> {
        let way = self.ways.get(&address.exact)?;
        if way.several || way.handed < ENOUGH || way.astray.saturating_mul(ASTRAY_IN) > way.handed {
            return None;
        }
        let id = way.queue?;
        let queue = self.queues.get(&id)?;
        (queue.stays || !queue.consumers.is_empty()).then_some((id, queue))
    }

    fn first_of(&self, key: MessageKey, until: BootTime) -> Option<OpId> {
        self.by_key.get(&key)?.first().filter(|(since, _)| *since <= until).map(|(_, op)| *op)
    }

    /// Forgets what must have left before a message of this address that came at `since`; how many those were.
    fn overtaken(&mut self, address: Address, since: BootTime) -> u32 {
        let Some(all) = self.by_address.get(&address.exact) else { return 0 };
        let before: Vec<OpId> = all.range(..(since - ORDERED, OpId(0))).map(|(_, op)| *op).collect();
        before.iter().for_each(|op| self.remove(*op));
        u32::try_from(before.len()).unwrap_or(u32::MAX)
    }

    fn lies_again(&mut self, op: OpId, since: BootTime) {
        let Some(message) = self.messages.get(&op).copied() else { return };
        self.remove(op);
        self.enter(op, Message { since, ..message });
    }

    fn enter(&mut self, op: OpId, message: Message) {
        let place = (message.since, op);
        self.messages.insert(op, message);
        self.by_age.insert(place);
        self.by_address.entry(message.address.exact).or_default().insert(place);
        for key in message.keys.into_iter().flatten() {
            self.by_key.entry(key).or_default().insert(place);
        }
    }

    fn remove(&mut self, op: OpId) {
        fn without<K: std::hash::Hash + Eq>(
            of: &mut FxHashMap<K, BTreeSet<(BootTime, OpId)>>,
            key: &K,
            place: (BootTime, OpId),
        ) {
            if let Some(places) = of.get_mut(key) {
                places.remove(&place);
                if places.is_empty() {
                    of.remove(key);
                }
            }
        }
        let Some(message) = self.messages.remove(&op) else { return };
        let place = (message.since, op);
        self.by_age.remove(&place);
        without(&mut self.by_address, &message.address.exact, place);
        message.keys.iter().flatten().for_each(|key| without(&mut self.by_key, key, place));
    }
}

#[cfg(test)]
mod tests;
