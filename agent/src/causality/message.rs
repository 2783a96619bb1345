//! Publishes and deliveries of equal messages in, edges from delivery to publish out.
//!
//! Two uses of one table: on the broker's node, the publish the broker read and the delivery it wrote; without a view of
//! the broker, the publish a producer wrote and the delivery a consumer read.
//!
//! *Owns* pairing by canonical message, first in first out among equals, per queue. *Must not know* AMQP frames.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use sha2::{Digest, Sha256};

use crate::operation::OpId;
use crate::record::{BootNs, ConnId};

/// A canonical message inside one broker: half of a SHA-256, for there are many and they are kept for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    pub redelivered: bool,
}

#[derive(Debug, Default)]
struct Entry {
    /// Publishes of this message in the order the broker read them.
    publishes: Vec<(BootNs, OpId, ConnId)>,
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

/// Publishes and deliveries by message, bounded by number; the oldest messages are forgotten first.
#[derive(Debug)]
pub struct Messages {
    entries: HashMap<MessageKey, Entry>,
    age: VecDeque<MessageKey>,
    capacity: usize,
}

/// Equal messages that the broker reads this close to each other from different connections have no known order.
const TOGETHER_NS: u64 = 50_000_000;
/// Publishes of one equal message remembered at once.
const MAX_EQUAL: usize = 1024;

impl Messages {
    pub fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), age: VecDeque::new(), capacity }
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
        let position = entry.publishes.partition_point(|(earlier, ..)| *earlier <= at);
        entry.publishes.insert(position, (at, op, conn));
        let waiting = std::mem::take(&mut entry.waiting);
        let mut pairs = Vec::new();
        for delivery in waiting {
            match entry.take(&delivery) {
                Taken::Publish(publish) => pairs.push((delivery.op, publish)),
                Taken::OneOfSeveral => {}
                Taken::NotYet => entry.waiting.push(delivery),
            }
        }
        pairs
    }

    /// A delivery. Returns its publish if that is known already; otherwise it waits for it.
    pub fn deliver(&mut self, key: MessageKey, delivery: Delivery) -> Option<OpId> {
        let entry = self.entry(key);
        match entry.take(&delivery) {
            Taken::Publish(publish) => Some(publish),
            Taken::OneOfSeveral => None,
            Taken::NotYet => {
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
}

/// What a delivery is of.
enum Taken {
    Publish(OpId),
    /// Equal publishes that cannot be told apart.
    OneOfSeveral,
    NotYet,
}

impl Entry {
    /// The publish this delivery is of: the next unused one for its destination, or for a redelivery the last used one.
    fn take(&mut self, delivery: &Delivery) -> Taken {
        let used = self.used(&delivery.destination);
        if delivery.redelivered
            && let Some(last) = used.last
        {
            return Taken::Publish(last);
        }
        let count = used.count;
        let Some(&(at, publish, conn)) = self.publishes.get(count) else { return Taken::NotYet };
        // A message cannot leave before it came.
        if at > delivery.at {
            return Taken::NotYet;
        }
        // Of equal messages from two connections at nearly the same time, the broker may have queued either first.
        let is_close = |other: &(BootNs, OpId, ConnId)| {
            other.2 != conn && other.0.abs_diff(at) <= TOGETHER_NS && other.0 <= delivery.at
        };
        let neighbours = [count.checked_sub(1), count.checked_add(1)].into_iter().flatten();
        let ambiguous = neighbours.filter_map(|index| self.publishes.get(index)).any(is_close);
        let used = self.used(&delivery.destination);
        used.count += 1;
        used.last = (!ambiguous).then_some(publish);
        if ambiguous { Taken::OneOfSeveral } else { Taken::Publish(publish) }
    }

    fn used(&mut self, destination: &str) -> &mut Used {
        let mut hasher = DefaultHasher::new();
        destination.hash(&mut hasher);
        let destination = hasher.finish();
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
        Delivery { op: OpId(op), at, destination: queue.to_owned(), redelivered }
    }

    #[test]
    fn equal_messages_pair_first_in_first_out() {
        let mut messages = Messages::new(8);
        messages.publish(key(1), OpId(1), 10, CONN);
        messages.publish(key(1), OpId(2), 20, CONN);
        assert_eq!(messages.deliver(key(1), delivery(11, 30, "q", false)), Some(OpId(1)));
        assert_eq!(messages.deliver(key(1), delivery(12, 31, "q", false)), Some(OpId(2)));
        assert_eq!(messages.deliver(key(1), delivery(13, 32, "q", false)), None);
    }

    #[test]
    fn equal_messages_of_two_connections_at_the_same_time_cannot_be_told_apart() {
        let mut messages = Messages::new(8);
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
        let mut messages = Messages::new(8);
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
