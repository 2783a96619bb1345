//! Publishes and deliveries of equal messages in, edges from delivery to publish out.
//!
//! Two uses of one table: on the broker's node, the publish the broker read and the delivery it wrote; without a view of
//! the broker, the publish a producer wrote and the delivery a consumer read.
//!
//! *Owns* pairing by canonical message, first in first out among equals, per queue. *Must not know* AMQP frames.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use sha2::{Digest, Sha256};

use crate::operation::OpId;
use crate::record::{BootNs, ConnId};

/// A canonical message inside one broker: half of a SHA-256, for there are many and they are kept for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageKey([u8; 16]);

impl MessageKey {
    /// `broker` is the broker's process, or its address when only its clients are seen.
    pub fn new(broker: &str, digest: &[u8; 32]) -> Self {
        let whole = Sha256::new().chain_update(digest).chain_update(broker).finalize();
        let mut key = [0; 16];
        key.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        Self(key)
    }
}

/// A delivery of a message.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub op: OpId,
    pub at: BootNs,
    /// The queue, or the consumer when the queue is not known: copies of one message go to several.
    pub destination: String,
    /// The destination is a queue: whatever leaves it leaves in the order it came.
    pub is_queue: bool,
    pub redelivered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Publish {
    at: BootNs,
    op: OpId,
    conn: ConnId,
    /// Some destination had it.
    delivered: bool,
    /// It and its predecessor may have been queued the other way round.
    doubtful: bool,
}

#[derive(Debug, Default)]
struct Entry {
    /// Publishes of this message in the order the broker read them.
    publishes: Vec<Publish>,
    /// By destination: copies of one message go to few.
    used: Vec<Used>,
    /// Deliveries whose publish is not over yet (its confirm comes after the delivery).
    waiting: Vec<Delivery>,
}

/// What the deliveries to one destination have used up.
#[derive(Debug)]
struct Used {
    /// A hash of its name.
    destination: u64,
    /// Publishes used up.
    count: usize,
    /// The one used last.
    last: Option<OpId>,
}

/// What is known of a destination whatever the message.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// The latest publish that is known to have been delivered: what came before it has left too.
    passed: BootNs,
    /// When that was found out.
    known_at: BootNs,
}

/// Publishes and deliveries by message, bounded by number; the oldest messages are forgotten first.
#[derive(Debug)]
pub struct Messages {
    /// A tree, for a hash table that is always full doubles its size in the end.
    entries: BTreeMap<MessageKey, Entry>,
    age: VecDeque<MessageKey>,
    capacity: usize,
    /// By hash of the destination.
    progress: HashMap<u64, Progress>,
    /// When it was last found out that something was lost: a delivery may be among it.
    missed_at: BootNs,
}

/// Equal messages that the broker reads this close to each other from different connections have no known order.
const TOGETHER_NS: u64 = 50_000_000;
/// Publishes of one equal message remembered at once.
const MAX_EQUAL: usize = 1024;
/// Destinations remembered; beyond it all are learned anew.
const MAX_DESTINATIONS: usize = 16_384;

impl Messages {
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            age: VecDeque::new(),
            capacity,
            progress: HashMap::new(),
            missed_at: 0,
        }
    }

    /// Something was lost, found out at `now`.
    pub fn missed(&mut self, now: BootNs) {
        self.missed_at = self.missed_at.max(now);
    }

    /// A publish whose last byte was moved at `at`. Returns the deliveries that were waiting for it, with this publish
    /// or an equal one: `(delivery, publish)`.
    pub fn publish(&mut self, key: MessageKey, op: OpId, at: BootNs, conn: ConnId) -> Vec<(OpId, OpId)> {
        let entry = self.entry(key);
        if entry.publishes.len() >= MAX_EQUAL {
            entry.publishes.remove(0);
            for used in &mut entry.used {
                used.count = used.count.saturating_sub(1);
            }
        }
        if entry.publishes.is_empty() {
            // Most messages are unique.
            entry.publishes.reserve_exact(1);
        }
        let position = entry.publishes.partition_point(|earlier| earlier.at <= at);
        entry.publishes.insert(position, Publish { at, op, conn, delivered: false, doubtful: false });
        let waiting = std::mem::take(&mut entry.waiting);
        let mut pairs = Vec::new();
        for delivery in waiting {
            match self.take(key, &delivery) {
                Taken::Publish(publish) => pairs.push((delivery.op, publish)),
                Taken::OneOfSeveral => {}
                Taken::NotYet => self.entry(key).waiting.push(delivery),
            }
        }
        pairs
    }

    /// A delivery. Returns its publish if that is known already; otherwise it waits for it.
    pub fn deliver(&mut self, key: MessageKey, delivery: Delivery) -> Option<OpId> {
        match self.take(key, &delivery) {
            Taken::Publish(publish) => Some(publish),
            Taken::OneOfSeveral => None,
            Taken::NotYet => {
                let entry = self.entry(key);
                if entry.waiting.len() < MAX_EQUAL {
                    entry.waiting.push(delivery);
                }
                None
            }
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

    fn entry(&mut self, key: MessageKey) -> &mut Entry {
        if !self.entries.contains_key(&key) {
            if self.age.len() >= self.capacity
                && let Some(oldest) = self.age.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.age.push_back(key);
        }
        self.entries.entry(key).or_default()
    }

    /// The publish this delivery is of: the next unused one for its destination, or for a redelivery the last used one.
    ///
    /// Deliveries are missed: those before the agent came, those lost. So of several equal messages the oldest is only
    /// believed to be next where the queue is known to have come that far.
    fn take(&mut self, key: MessageKey, delivery: &Delivery) -> Taken {
        let destination = hash(&delivery.destination);
        let since = self.missed_at;
        let progress = self.progress.get(&destination).copied().filter(|progress| progress.known_at > since);
        let entry = self.entry(key);
        let used = entry.used(destination);
        if delivery.redelivered
            && let Some(last) = used.last
        {
            return Taken::Publish(last);
        }
        let count = used.count;
        // A message cannot leave before it came.
        let end = entry.publishes.partition_point(|publish| publish.at <= delivery.at);
        let unused = entry.publishes.get(count..end).unwrap_or_default();
        let passed = progress.map_or(0, |progress| progress.passed.saturating_sub(TOGETHER_NS));
        let is_left = |publish: &Publish| publish.at >= passed && (delivery.is_queue || !publish.delivered);
        let mut left = unused.iter().enumerate().filter(|(_, publish)| is_left(publish));
        let mut unordered = None;
        let (index, is_certain) = match (unused.len(), left.next(), left.next()) {
            (0, ..) => return Taken::NotYet,
            (1, ..) => (0, true),
            (_, None, _) => (0, false),
            (_, Some((only, _)), None) => (only, true),
            (_, Some((first, one)), Some((second, next))) => {
                let has_order = one.conn == next.conn || one.at.abs_diff(next.at) > TOGETHER_NS;
                unordered = (!has_order).then_some(count + second);
                (first, delivery.is_queue && progress.is_some() && has_order)
            }
        };
        if let Some(next) = unordered.and_then(|next| entry.publishes.get_mut(next)) {
            next.doubtful = true;
        }
        let Some(publish) = entry.publishes.get_mut(count + index) else { return Taken::NotYet };
        publish.delivered = true;
        let is_certain = is_certain && !publish.doubtful;
        let (op, at) = (publish.op, publish.at);
        let used = entry.used(destination);
        used.count = count + index + 1;
        used.last = is_certain.then_some(op);
        if !is_certain {
            return Taken::OneOfSeveral;
        }
        self.passed(destination, at, delivery.at);
        Taken::Publish(op)
    }

    fn passed(&mut self, destination: u64, publish_at: BootNs, delivery_at: BootNs) {
        if self.progress.len() >= MAX_DESTINATIONS && !self.progress.contains_key(&destination) {
            self.progress.clear();
        }
        let new = Progress { passed: publish_at, known_at: delivery_at };
        let progress = self.progress.entry(destination).or_insert(new);
        progress.passed = progress.passed.max(publish_at);
        progress.known_at = progress.known_at.max(delivery_at);
    }
}

/// What a delivery is of.
enum Taken {
    Publish(OpId),
    /// Equal publishes that cannot be told apart.
    OneOfSeveral,
    NotYet,
}

fn hash(destination: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    destination.hash(&mut hasher);
    hasher.finish()
}

impl Entry {
    fn used(&mut self, destination: u64) -> &mut Used {
        let index = self.used.iter().position(|used| used.destination == destination);
        let index = index.unwrap_or_else(|| {
            if self.used.len() >= MAX_EQUAL {
                self.used.remove(0);
            }
            self.used.reserve_exact(1);
            self.used.push(Used { destination, count: 0, last: None });
            self.used.len() - 1
        });
        &mut self.used[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId(1);

    fn key(n: u8) -> MessageKey {
        MessageKey::new("b", &[n; 32])
    }

    fn delivery(op: u64, at: BootNs, queue: &str, redelivered: bool) -> Delivery {
        Delivery { op: OpId(op), at, destination: queue.to_owned(), is_queue: true, redelivered }
    }

    /// A queue that has been seen at work.
    fn watched(queue: &str) -> Messages {
        let mut messages = Messages::new(8);
        messages.publish(key(200), OpId(901), 1, CONN);
        assert_eq!(messages.deliver(key(200), delivery(902, 2, queue, false)), Some(OpId(901)));
        messages
    }

    #[test]
    fn of_equal_messages_that_may_have_left_unseen_none_is_guessed() {
        let mut messages = Messages::new(8);
        messages.publish(key(1), OpId(1), 10, CONN);
        messages.publish(key(1), OpId(2), 20, CONN);
        assert_eq!(messages.deliver(key(1), delivery(11, 30, "q", false)), None);

        let mut messages = watched("q");
        messages.publish(key(1), OpId(1), 10, CONN);
        messages.missed(15);
        messages.publish(key(1), OpId(2), 20, CONN);
        assert_eq!(messages.deliver(key(1), delivery(11, 30, "q", false)), None);
    }

    #[test]
    fn what_was_published_before_something_that_has_left_the_queue_has_left_too() {
        let late = 10 * TOGETHER_NS;
        let mut messages = Messages::new(8);
        messages.publish(key(1), OpId(1), 10, CONN);
        messages.publish(key(2), OpId(2), late, CONN);
        assert_eq!(messages.deliver(key(2), delivery(12, late + 1, "q", false)), Some(OpId(2)));
        messages.publish(key(1), OpId(3), late + 2, CONN);
        assert_eq!(messages.deliver(key(1), delivery(13, late + 3, "q", false)), Some(OpId(3)));
    }

    #[test]
    fn consumers_of_an_unknown_queue_do_not_both_get_the_same_message() {
        let consumer = |op, at, name| Delivery { is_queue: false, ..delivery(op, at, name, false) };
        let mut messages = Messages::new(8);
        messages.publish(key(1), OpId(1), 10, CONN);
        assert_eq!(messages.deliver(key(1), consumer(11, 20, "a")), Some(OpId(1)));
        messages.publish(key(1), OpId(2), 30, CONN);
        assert_eq!(messages.deliver(key(1), consumer(12, 40, "b")), Some(OpId(2)));
    }

    #[test]
    fn equal_messages_pair_first_in_first_out() {
        let mut messages = watched("q");
        messages.publish(key(1), OpId(1), 10, CONN);
        messages.publish(key(1), OpId(2), 20, CONN);
        assert_eq!(messages.deliver(key(1), delivery(11, 30, "q", false)), Some(OpId(1)));
        assert_eq!(messages.deliver(key(1), delivery(12, 31, "q", false)), Some(OpId(2)));
        assert_eq!(messages.deliver(key(1), delivery(13, 32, "q", false)), None);
    }

    #[test]
    fn equal_messages_of_two_connections_at_the_same_time_cannot_be_told_apart() {
        let mut messages = watched("q");
        messages.publish(key(1), OpId(1), 1_000, CONN);
        messages.publish(key(1), OpId(2), 1_000 + TOGETHER_NS, ConnId(2));
        messages.publish(key(1), OpId(3), 2_001 + 2 * TOGETHER_NS, CONN);
        let later = 3 * TOGETHER_NS;
        assert_eq!(messages.deliver(key(1), delivery(11, later, "q", false)), None);
        assert_eq!(messages.deliver(key(1), delivery(12, later, "q", false)), None);
        assert_eq!(messages.deliver(key(1), delivery(13, later, "q", false)), Some(OpId(3)));
    }

    #[test]
    fn copies_to_several_queues_have_the_same_publish() {
        let mut messages = Messages::new(8);
        messages.publish(key(1), OpId(1), 10, CONN);
        assert_eq!(messages.deliver(key(1), delivery(11, 30, "a", false)), Some(OpId(1)));
        assert_eq!(messages.deliver(key(1), delivery(12, 30, "b", false)), Some(OpId(1)));
    }

    #[test]
    fn a_redelivery_is_of_the_same_publish() {
        let mut messages = watched("a");
        messages.publish(key(1), OpId(1), 10, CONN);
        messages.publish(key(1), OpId(2), 11, CONN);
        assert_eq!(messages.deliver(key(1), delivery(11, 30, "a", false)), Some(OpId(1)));
        assert_eq!(messages.deliver(key(1), delivery(12, 40, "a", true)), Some(OpId(1)));
        assert_eq!(messages.deliver(key(1), delivery(13, 50, "a", false)), Some(OpId(2)));
    }

    #[test]
    fn a_delivery_seen_before_its_publish_is_over_waits_for_it() {
        let mut messages = Messages::new(8);
        assert_eq!(messages.deliver(key(1), delivery(11, 30, "a", false)), None);
        assert_eq!(messages.publish(key(1), OpId(1), 20, CONN), [(OpId(11), OpId(1))]);
    }

    #[test]
    fn a_message_cannot_leave_before_it_came() {
        let mut messages = Messages::new(8);
        messages.publish(key(1), OpId(1), 50, CONN);
        assert_eq!(messages.deliver(key(1), delivery(11, 30, "a", false)), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut messages = Messages::new(4);
        for n in 0..100 {
            messages.publish(key(n), OpId(u64::from(n)), 1, CONN);
            assert!(messages.len() <= 4);
        }
        for n in 0..10_000 {
            messages.publish(key(99), OpId(n), n, CONN);
            messages.deliver(key(98), delivery(n, n, &n.to_string(), false));
        }
        assert!(messages.entries[&key(98)].used.len() <= MAX_EQUAL);
        assert!(messages.entries[&key(99)].publishes.len() <= MAX_EQUAL);
    }
}
