//! Publishes and deliveries of equal messages → [`Pair`]s of a delivery and its publish.
//!
//! Two uses of one table: on the broker's node, the publish the broker read and the delivery it wrote; without a view of
//! the broker, the publish a producer wrote and the delivery a consumer read.
//!
//! Deliveries become known when they are settled, in any order, and leave a queue in the order they came. So where several
//! equal messages are about, a delivery waits until none that began before it is still open.
//!
//! An equal message may also have been in the queue before the agent saw anything, or a delivery have been missed. So even the only
//! publish of its kind is a delivery's only if nothing older can have been left in the queue (`consumers`, `progress`), if the
//! message has an ID, or if no two messages of its address are ever equal (`habits`).
//!
//! ```text
//!   publish ─▶ ┌─ per message ─────────────────┐
//!   deliver ─▶ │ publishes  used  waiting  back │ ─▶ Pair
//!   closed  ─▶ └───────────────────────────────┘
//! ```
//!
//! *Owns* pairing by canonical message and address, first in first out among equals, per queue. *Must not know* AMQP frames.
//! *Spec*: RabbitMQ, "Consumer Acknowledgements" (order of what is put back), "Dead Letter Exchanges", "Priority Queue Support",
//! "Time-To-Live and Expiration"; rabbitmq-delayed-message-exchange, README (`x-delay`).
//!
//! Long because pairing, waiting and forgetting change the same entries.

mod consumers;
mod entry;
mod habits;
mod progress;
mod queued;
mod told;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use self::consumers::ANSWERED_WITHIN;
use self::consumers::Consumers;
use self::entry::{Back, Entry, Publish};
pub use self::habits::Address;
use self::habits::Habits;
use self::progress::Progress;
pub use self::queued::{Consumer, Handed, Lying, Queued};
pub use self::told::{Delivery, Destination, MessageKey, Outcome, Pair, Published, Stamp};
use crate::bounded::{Bounded, Slot};
use crate::hash::Keyed;
use crate::record::{ConnId, OpId};
use crate::time::BootTime;

/// Publishes and deliveries by message, bounded by the number of messages and of all that is remembered of them; those that were
/// published longest ago are forgotten first.
#[derive(Debug)]
pub struct Messages {
    entries: Bounded<MessageKey, Entry, Keyed>,
    /// What is remembered of all messages.
    parts: usize,
    /// When the latest publish was seen that was forgotten with its message: it may not have left its queue yet.
    forgotten_at: Option<BootTime>,
    progress: Progress,
    consumers: Consumers,
    habits: Habits,
    /// When it was last found out that something was lost: a delivery may be among it.
    missed_at: BootTime,
    /// Operations that began and are not over, by time: each may be a delivery of an equal message.
    open: BTreeSet<(BootTime, OpId)>,
    /// Messages with deliveries that wait for what began before them.
    blocked: BTreeSet<(BootTime, OpId, MessageKey)>,
    /// Messages with a delivery that would be of their only publish if no two messages of their address were equal: that may show.
    unproven: VecDeque<(Address, MessageKey)>,
    pairs: VecDeque<Pair>,
    /// Of one message, and of what is open.
    forgotten: Forgotten,
}

/// What was forgotten at a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Messages with their publishes and deliveries.
    pub messages: u64,
    /// Publishes and deliveries of one equal message.
    pub equal: u64,
    /// Messages that waited for what the others of their address show.
    pub unproven: u64,
    /// How far destinations had come.
    pub destinations: u64,
    /// Operations that had begun and may have been deliveries.
    pub open: u64,
    /// What connections had asked of the broker.
    pub consumers: u64,
    /// Whether the messages of addresses differ.
    pub addresses: u64,
}

/// Equal messages that the broker reads this close to each other from different connections have no known order.
///
/// The broker reads each connection on its own and queues what it read when it comes to it. Not measured; it must exceed how long
/// a message is on its way from the broker's socket to the queue on a busy machine, which is waits for a processor (some 10 ms).
const TOGETHER: Duration = Duration::from_millis(50);
/// Publishes of one equal message remembered at once, and its deliveries.
const MAX_EQUAL: usize = 1024;
/// What is remembered of all messages at once, for each message that there is room for: a message has a publish and a queue that has
/// used it up, and twice that.
const PARTS: usize = 4;
/// What has been open for so long is not waited for.
///
/// Must exceed what a consumer takes for a message, for a delivery is over when it is settled; bounds how late a delivery of an
/// equal message gets its edge. Not measured.
const PATIENCE: Duration = Duration::from_secs(60);
/// The end of a connection is seen later than what the broker does about it, by at most so much.
///
/// Not measured; it must exceed the wait for the control ring, which is read within milliseconds unless the agent itself gets no
/// processor.
const LATE: Duration = Duration::from_secs(1);
/// Messages remembered that wait for what the others of their address show: several addresses with as many as it takes.
const MAX_UNPROVEN: usize = 512;
/// Open operations remembered.
const MAX_OPEN: usize = 1 << 17;

impl Messages {
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: Bounded::for_foreign_keys(capacity),
            parts: 0,
            forgotten_at: None,
            progress: Progress::new(),
            consumers: Consumers::new(),
            habits: Habits::new(),
            missed_at: BootTime::ZERO,
            open: BTreeSet::new(),
            blocked: BTreeSet::new(),
            unproven: VecDeque::new(),
            pairs: VecDeque::new(),
            forgotten: Forgotten::default(),
        }
    }

    /// Something was lost, found out at `now`.
    pub fn missed(&mut self, now: BootTime) {
        self.missed_at = self.missed_at.max(now);
    }

    /// An operation began that may turn out to be a delivery.
    pub fn opened(&mut self, op: OpId, at: BootTime) {
        self.consumers.watched(at);
        if self.open.len() >= MAX_OPEN {
            self.open.pop_first();
            self.forgotten.open += 1;
        }
        self.open.insert((at, op));
    }

    /// Such an operation is over, whatever it was. What it turned out to be is entered before.
    pub fn closed(&mut self, op: OpId, at: BootTime) {
        self.open.remove(&(at, op));
        while let Some(&(blocked_at, blocked, key)) = self.blocked.first() {
            if self.is_blocked(blocked_at, blocked) {
                return;
            }
            self.blocked.pop_first();
            self.settle(key);
        }
    }

    /// A connection settled a message: there is room for another.
    pub fn settled(&mut self, conn: ConnId, at: BootTime) {
        self.consumers.settled(conn, at);
    }

    /// A connection called the broker for something that may bring it messages, and was answered at `answered`.
    pub fn called(&mut self, conn: ConnId, at: BootTime, answered: BootTime) {
        self.consumers.called(conn, at, answered);
    }

    /// The same, where no answer was seen by `ended`, when the call was over.
    pub fn asked(&mut self, conn: ConnId, at: BootTime, ended: BootTime) {
        self.consumers.asked(conn, at, ended);
    }

    /// A publish of this message is known.
    pub fn is_published(&self, key: MessageKey) -> bool {
        self.entries.get(&key).is_some_and(|entry| !entry.publishes.is_empty())
    }

    /// A message was published. It is found by `loose` too, where the broker may change what tells both apart: then two that differ in
    /// nothing else are equal.
    pub fn publish(&mut self, key: MessageKey, loose: Option<MessageKey>, published: Published) {
        self.consumers.watched(published.at);
        let is_again = self.is_published(loose.unwrap_or(key));
        let is_shown = self.habits.published(published.address, is_again);
        self.enter(key, published);
        if let Some(loose) = loose {
            self.enter(loose, published);
        }
        if is_shown {
            for (address, key) in std::mem::take(&mut self.unproven) {
                if !self.habits.differ(address) {
                    self.unproven.push_back((address, key));
                } else if let Some(entry) = self.entries.get_mut(&key) {
                    entry.is_unproven = false;
                    self.settle(key);
                }
            }
        }
        self.keep_to_bound();
    }

    fn enter(&mut self, key: MessageKey, published: Published) {
        let Published { op, at, conn, address: _, delay, expires } = published;
        let publish = Publish { at, op, conn, delivered: false, doubtful: false, delay, expires };
        let slot = self.slot(key);
        // A message that is published again and again is no older than others.
        self.entries.touch(slot);
        let Some(entry) = self.entries.at_mut(slot) else { return };
        if entry.publishes.len() >= MAX_EQUAL {
            self.forgotten.equal += 1;
            let first = entry.publishes.remove(0);
            // It may be in a queue yet, before those that are remembered.
            entry.forgot(first.at);
            for used in &mut entry.used {
                used.count = used.count.saturating_sub(1);
            }
        }
        if entry.publishes.is_empty() {
            // Most messages are unique.
            entry.publishes.reserve_exact(1);
        }
        let position = entry.publishes.partition_point(|earlier| earlier.at <= at);
        entry.publishes.insert(position, publish);
        match entry.waiting.is_empty() {
            true => self.count(key),
            false => self.settle(key),
        }
    }

    /// A delivery that is over. `origin` is where a dead-lettered message was published first: its own address is the
    /// dead-letter exchange's.
    pub fn deliver(&mut self, key: MessageKey, origin: Option<MessageKey>, mut delivery: Delivery) {
        // A program may also publish again what it was sent, headers and all.
        let is_its_own = self.is_published(key) && origin.is_some_and(|origin| origin != key);
        delivery.dead_lettered &= !is_its_own;
        let key = origin.filter(|origin| !is_its_own && self.is_published(*origin)).unwrap_or(key);
        let slot = self.slot(key);
        let Some(entry) = self.entries.at_mut(slot) else { return };
        if entry.waiting.len() >= MAX_EQUAL {
            self.forgotten.equal += 1;
            return;
        }
        let place = |delivery: &Delivery| (delivery.at, delivery.op);
        let position = entry.waiting.partition_point(|earlier| place(earlier) <= place(&delivery));
        entry.waiting.reserve_exact(1);
        entry.waiting.insert(position, delivery);
        self.settle(key);
        self.keep_to_bound();
    }

    /// Where the entry of a message is, a new one if need be.
    fn slot(&mut self, key: MessageKey) -> Slot {
        if self.entries.is_full() && !self.entries.contains_key(&key) {
            self.forget_oldest();
        }
        self.entries.slot_or_insert_with(key, Entry::default)
    }

    /// Counts what is remembered of a message, after a change.
    fn count(&mut self, key: MessageKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let (before, now) = (entry.counted, entry.parts());
        entry.counted = now;
        self.parts = (self.parts + now).saturating_sub(before);
    }

    fn keep_to_bound(&mut self) {
        while self.parts > PARTS.saturating_mul(self.entries.capacity()) && !self.entries.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((key, entry)) = self.entries.forget_oldest() else { return };
        self.parts = self.parts.saturating_sub(entry.counted);
        let published_at = entry.publishes.last().map(|publish| publish.at);
        self.forgotten_at = self.forgotten_at.max(published_at).max(entry.forgotten_at);
        for delivery in &entry.waiting {
            self.blocked.remove(&(delivery.at, delivery.op, key));
        }
    }

    /// A delivery whose publish has been found.
    pub fn poll_pair(&mut self) -> Option<Pair> {
        self.pairs.pop_front()
    }

    /// What was forgotten at its bounds.
    pub fn forgotten(&self) -> Forgotten {
        Forgotten {
            messages: self.entries.forgotten(),
            destinations: self.progress.forgotten(),
            consumers: self.consumers.forgotten(),
            addresses: self.habits.forgotten(),
            ..self.forgotten
        }
    }

    /// Distinct messages remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// No message is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Something that began before may be a delivery too. One read can bring several: their numbers tell the order.
    fn is_blocked(&self, at: BootTime, op: OpId) -> bool {
        let since = (at - PATIENCE, OpId(0));
        self.open.range(since..(at, op)).next().is_some()
    }

    /// Looks for the publishes of this message's deliveries, the earliest first.
    fn settle(&mut self, key: MessageKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let is_unique = entry.publishes.len() < 2;
        let mut waiting = std::mem::take(&mut entry.waiting);
        let mut blocked = false;
        waiting.retain(|delivery| {
            if !blocked && !is_unique && self.is_blocked(delivery.at, delivery.op) {
                blocked = true;
                self.blocked.insert((delivery.at, delivery.op, key));
            }
            blocked || matches!(self.take(key, delivery), Taken::NotYet)
        });
        // Most wait for nothing, and need no memory for it.
        if !waiting.is_empty()
            && let Some(entry) = self.entries.get_mut(&key)
        {
            entry.waiting = waiting;
        }
        self.count(key);
    }

    /// Pairs a delivery with its publish: the next unused one for its destination, or one that had left before.
    fn take(&mut self, key: MessageKey, delivery: &Delivery) -> Taken {
        let again = delivery.redelivered || delivery.dead_lettered;
        let (taken, again_since) = match again {
            true => self.take_again(key, delivery),
            false => (self.take_next(key, delivery), None),
        };
        let Taken::Publish(publish) = taken else { return taken };
        self.pairs.push_back(Pair {
            delivery: delivery.op,
            publish,
            over_at: delivery.over_at,
            again_since,
            pulled: delivery.pulled,
            has_id: delivery.has_id,
        });
        if delivery.outcome != Outcome::Taken
            && let Some(entry) = self.entries.get_mut(&key)
        {
            if entry.back.len() >= MAX_EQUAL {
                self.forgotten.equal += 1;
                return taken;
            }
            let refused = delivery.outcome == Outcome::Refused;
            let (destination, at) = (delivery.destination, delivery.over_at);
            entry.back.push(Back { publish, destination, at, refused });
        }
        taken
    }

    /// A message that left a queue before: which, is known if there is but one such.
    fn take_again(&mut self, key: MessageKey, delivery: &Delivery) -> (Taken, Option<BootTime>) {
        // Its first way out may have been before anything was seen.
        let is_unique = delivery.is_marked || self.habits.differ(delivery.address);
        let died_after = self.died_after(delivery);
        let Some(entry) = self.entries.get_mut(&key) else { return (Taken::NotYet, None) };
        let fits = |back: &&Back| match delivery.dead_lettered && !delivery.redelivered {
            true => back.refused,
            false => {
                !back.refused && (back.destination == delivery.destination || !delivery.destination.is_queue)
            }
        };
        let until = delivery.at + LATE;
        let mut fitting = entry.back.iter().filter(|back| back.at <= until).filter(fits).copied();
        let first = fitting.next();
        let is_one = first.is_some_and(|first| fitting.all(|other| other.publish == first.publish));
        let before = entry.publishes.partition_point(|publish| publish.at <= delivery.at);
        let taken = match (entry.publishes.get(..before), first) {
            (Some([]) | None, _) => return (Taken::NotYet, None),
            (Some([only]), None) if is_unique || only.died_in_view(died_after) => only.op,
            // How it left may become known later than that it came back.
            (Some([_]), None) => return (Taken::NotYet, None),
            (Some(_), Some(first)) if is_one => first.publish,
            // Of several that may have been put back, none is guessed.
            _ => return (Taken::OneOfSeveral, None),
        };
        if let Some(first) = first.filter(|first| first.publish == taken)
            && let Some(index) =
                entry.back.iter().position(|back| back.publish == taken && back.at == first.at)
        {
            entry.back.remove(index);
        }
        // Its first way out of this queue was not seen, or is not over yet: from now on it is not to be expected there.
        let index = entry.publishes.iter().position(|publish| publish.op == taken).unwrap_or(0);
        if let Some(publish) = entry.publishes.get_mut(index) {
            publish.delivered = true;
        }
        let again = Some((delivery.at, index + 1));
        entry.used(delivery.destination.hash, &mut self.forgotten.equal).again = again;
        (Taken::Publish(taken), first.map(|first| first.at))
    }

    /// A dead-lettered message that nobody had asked for has just died: how long anything had been seen by then. `None`: it may have
    /// died before.
    fn died_after(&mut self, delivery: &Delivery) -> Option<Duration> {
        let came = self.cleared(delivery).filter(|_| delivery.dead_lettered)?;
        Some(came.before.since(self.consumers.watched_since()?))
    }

    /// Deliveries are missed: those before the agent came, those lost. So of equal messages the oldest is only believed to be next
    /// where nothing older can have been left in the queue, and the only one where that holds or where it has no equal.
    fn take_next(&mut self, key: MessageKey, delivery: &Delivery) -> Taken {
        let destination = delivery.destination.hash;
        let cleared = self.cleared(delivery);
        let is_unique = delivery.is_marked || self.habits.differ(delivery.address);
        let Some(entry) = self.entries.get_mut(&key) else { return Taken::NotYet };
        // A publish that is forgotten may be the one that has left now.
        let is_all = match self.forgotten_at.max(entry.forgotten_at) {
            Some(at) => {
                // Those of one message have one delay.
                let delay = entry.publishes.first().map_or(Duration::ZERO, |publish| publish.delay);
                let queued_at = if delivery.delayed { at + delay } else { at };
                cleared.is_some_and(|left| queued_at < left.at_least)
            }
            None => true,
        };
        let is_cleared = cleared.is_some() && is_all;
        let used = entry.used(destination, &mut self.forgotten.equal);
        let again = used.again.filter(|(at, _)| *at < delivery.at).map_or(0, |(_, count)| count);
        let count = used.count.max(again);
        // A message cannot leave before it came.
        let end = entry.publishes.partition_point(|publish| publish.queued_at(delivery) <= delivery.at);
        let unused = entry.publishes.get(count..end).unwrap_or_default();
        if unused.is_empty() {
            return Taken::NotYet;
        }
        let since = cleared.map_or(BootTime::ZERO, |left| left.before);
        let is_queue = delivery.destination.is_queue;
        let is_left = |publish: &Publish| {
            publish.queued_at(delivery) >= since
                && !publish.is_expired(delivery)
                && (is_queue || !publish.delivered)
        };
        let mut left = unused.iter().enumerate().filter(|(_, publish)| is_left(publish));
        let mut unordered = None;
        let is_only = unused.len() == 1;
        let (index, is_certain) = match (left.next(), left.next()) {
            // What has no equal is this one, whatever seems to be known of the queue.
            _ if is_unique && is_only => (0, true),
            (None, _) => (0, false),
            (Some((only, _)), None) => (only, is_cleared),
            (Some((first, one)), Some((second, next))) => {
                let has_order = one.conn == next.conn || one.at.abs_diff(next.at) > TOGETHER;
                unordered = (!has_order).then_some(count + second);
                (first, is_queue && is_cleared && has_order)
            }
        };
        if let Some(next) = unordered.and_then(|next| entry.publishes.get_mut(next)) {
            next.doubtful = true;
        }
        let Some(publish) = entry.publishes.get_mut(count + index) else { return Taken::NotYet };
        if !is_certain && is_only {
            // It may be this one's: no other delivery is certain of it meanwhile.
            publish.doubtful = true;
            if !std::mem::replace(&mut entry.is_unproven, true) {
                self.wait_for_proof(delivery.address, key);
            }
            return Taken::NotYet;
        }
        publish.delivered = true;
        let is_certain = is_certain && (!publish.doubtful || (is_unique && is_only));
        let (op, queued_at) = (publish.op, publish.queued_at(delivery));
        entry.used(destination, &mut self.forgotten.equal).count = count + index + 1;
        if !is_certain {
            return Taken::OneOfSeveral;
        }
        // What has a priority has overtaken others.
        if !delivery.has_priority {
            self.progress.passed(destination, queued_at, delivery.at, self.missed_at);
        }
        Taken::Publish(op)
    }

    /// What others of this address show may prove a delivery of this message.
    fn wait_for_proof(&mut self, address: Address, key: MessageKey) {
        if self.unproven.len() >= MAX_UNPROVEN
            && let Some((_, first)) = self.unproven.pop_front()
            && let Some(entry) = self.entries.get_mut(&first)
        {
            entry.is_unproven = false;
            self.forgotten.unproven += 1;
        }
        self.unproven.push_back((address, key));
    }

    /// What had left the delivery's queue when it began. `None`: something from before anything was seen, or from before a loss, may be
    /// left.
    fn cleared(&mut self, delivery: &Delivery) -> Option<Left> {
        let destination = delivery.destination.hash;
        // Whoever asks for a message is handed what there is. A loss may have hidden what the consumer asked for.
        let idle = self.consumers.idle_since(delivery.conn, delivery.at);
        let idle = idle.filter(|idle| !delivery.pulled && idle.since >= self.missed_at);
        let passed = self.progress.by(destination, delivery.at, self.missed_at);
        // What had waited for a consumer comes behind the answer to its subscription, one message after the other: as long as it may do so
        // a delivery does not prove the queue to be empty.
        let proves = idle.filter(|idle| idle.is_estimated || idle.since + ANSWERED_WITHIN < delivery.at);
        if let Some(idle) = proves {
            self.progress.passed(destination, idle.since, delivery.at, self.missed_at);
        }
        // What the broker had read by then need not have been in the queue by then.
        let emptied = idle.map(|idle| if idle.is_estimated { idle.since - TOGETHER } else { idle.since });
        let before = passed.map(|passed| passed - TOGETHER).max(emptied)?;
        let just = idle.map(|_| delivery.at - (ANSWERED_WITHIN + TOGETHER));
        Some(Left { before, at_least: just.map_or(before, |just| just.max(before)) })
    }
}

/// What had left a queue.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// Whatever came before.
    before: BootTime,
    /// Unless it was delivered and that is not known yet, whatever came before this: what waited while its consumer had room did so for no
    /// longer than the broker takes.
    at_least: BootTime,
}

/// What a delivery is of.
#[derive(Clone, Copy, Debug)]
enum Taken {
    Publish(OpId),
    /// Equal publishes that cannot be told apart.
    OneOfSeveral,
    NotYet,
}

#[cfg(test)]
mod tests;
