//! What is told of a message that is published or delivered.
//!
//! *Owns* the identity of messages and the shapes in which they are entered. *Must not know* what pairs them.

use std::hash::BuildHasher;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::habits::Address;
use crate::record::{ConnId, OpId};
use crate::time::BootTime;

/// A canonical message with its address inside one broker: half of a SHA-256, for there are many and they are kept for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey([u8; 16]);

/// Where a message was published, and what of its headers tells it from others that are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp {
    /// Its time, where the publisher wrote one.
    pub timestamp: Option<u64>,
    /// How long a delayed exchange keeps it, in milliseconds: those of different delays do not come first in first out.
    pub delay_ms: u64,
}

impl MessageKey {
    /// `broker` is the broker's process, or its address when only its clients are seen. Exchange and routing key are those
    /// it was published with: brokers hand them on.
    pub fn new(broker: &str, digest: &[u8; 32], exchange: &str, routing_key: &str, stamp: Stamp) -> Self {
        let mut hash = Sha256::new().chain_update(digest);
        for part in [broker, exchange, routing_key] {
            hash.update((part.len() as u32).to_be_bytes());
            hash.update(part);
        }
        hash.update(stamp.delay_ms.to_be_bytes());
        if let Some(timestamp) = stamp.timestamp {
            hash.update(timestamp.to_be_bytes());
        }
        let mut key = [0; 16];
        key.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        Self(key)
    }
}

/// A message that was published.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    pub op: OpId,
    /// When its last byte was moved.
    pub at: BootTime,
    pub conn: ConnId,
    pub address: Address,
    /// How long a delayed exchange keeps it.
    pub delay: Duration,
    /// How long it may wait in its queue.
    pub expires: Option<Duration>,
}

/// The queue a delivery left, or its consumer where the queue is not known: copies of one message go to several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    pub(super) hash: u64,
    /// Whatever leaves it leaves in the order it came.
    pub(super) is_queue: bool,
}

impl Destination {
    /// A queue of one broker; others may have one of that name. Traffic chooses names: `hasher` is to have a seed that nobody knows.
    pub fn queue(hasher: &impl BuildHasher, broker: &str, name: &str) -> Self {
        Self { hash: hasher.hash_one((broker, name)), is_queue: true }
    }

    pub fn consumer(hasher: &impl BuildHasher, conn: ConnId, channel: u16, tag: &str) -> Self {
        Self { hash: hasher.hash_one((conn, channel, tag)), is_queue: false }
    }
}

/// What became of a delivered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message is the consumer's.
    Taken,
    /// The message went back to its queue.
    PutBack,
    /// The message was refused for good: dropped, or sent to the queue's dead-letter exchange.
    Refused,
}

/// A delivery of a message that is over.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub op: OpId,
    /// When the message began to leave the broker.
    pub at: BootTime,
    pub destination: Destination,
    pub redelivered: bool,
    /// The message came by a dead-letter exchange.
    pub dead_lettered: bool,
    pub outcome: Outcome,
    /// When the outcome was settled.
    pub over_at: BootTime,
    /// The message was asked for (`basic.get`).
    pub pulled: bool,
    /// The message has an ID.
    pub has_id: bool,
    /// It has one, or that of the conversation that it is a part of: no other is equal to it unless its publisher repeats it.
    pub is_marked: bool,
    /// The consumer's connection.
    pub conn: ConnId,
    pub address: Address,
    /// A delayed exchange had kept the message.
    pub delayed: bool,
    /// What has a priority overtakes what has less.
    pub has_priority: bool,
}

/// A delivery and the publish it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub delivery: OpId,
    pub publish: OpId,
    /// When the delivery was over.
    pub over_at: BootTime,
    /// Since when the message was waiting again: it had left its queue before.
    pub again_since: Option<BootTime>,
    pub pulled: bool,
    pub has_id: bool,
}
