//! What a broker's own sockets say of its queues → [`Queued`](crate::causality::across::message::Queued), and what is asked of that.
//!
//! *Owns* which action of AMQP says what of a queue. *Must not know* how the queue of a message is known.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::time::Duration;

use super::Engine;
use super::messages::{broker_name, delivery};
use crate::causality::across::message::{
    Address, Consumer, Destination, Handed, Lying, MessageKey, Outcome, Stamp,
};
use crate::conn::{ConnInfo, ConnRef};
use crate::operation::amqp::{Action, ActionKind, Content};
use crate::operation::{Detail, Operation};
use crate::record::{ConnId, OpId};
use crate::time::BootTime;

impl Engine {
    /// Nothing has been in a queue for `after`, as far as is known.
    pub fn is_quiet(&self, now: BootTime, after: Duration) -> bool {
        self.queued.is_quiet(now, after)
    }

    /// Deliveries of brokers that are not over. `None`: there are more than `most`.
    pub fn being_handed_on(&self, most: usize) -> Option<Vec<(OpId, ConnId)>> {
        self.queued.open(most)
    }

    /// Messages that have lain in a queue for `after`, and publishes whose messages somebody has. `handed_on`: the deliveries that are
    /// not over, as they are now.
    pub fn lying(
        &self,
        now: BootTime,
        after: Duration,
        handed_on: &[(ConnRef, Operation)],
    ) -> (Vec<Lying>, Vec<OpId>) {
        let mut taken = BTreeSet::new();
        for (info, op) in handed_on {
            let keys = delivered_keys(info, op);
            // A message that was not captured whole may be any.
            if keys.is_empty() && is_delivery(op) {
                return Default::default();
            }
            taken.extend(keys);
        }
        self.queued.lying(now, after, &taken)
    }

    /// Publishes whose messages came out of their queue since this was asked last.
    pub fn take_handed(&mut self) -> Vec<OpId> {
        self.queued.take_handed()
    }

    /// What the broker's own sockets say of its queues.
    pub(super) fn at_broker(&mut self, info: &ConnInfo, op: &Operation, action: &Action) {
        let broker = broker_name(info, true);
        let queue = |name: &str| self.hasher.hash_one((broker.as_str(), name));
        let conn = info.conn.id;
        let (content, channel) = (action.kind.content(), action.channel);
        let digest = || content.and_then(Content::canonical_digest);
        match &action.kind {
            ActionKind::Method(method) => {
                let (named, went_well) =
                    (queue(&method.target), op.response.is_some() && method.error.is_none());
                match method.name.as_str() {
                    "queue.declare" if went_well && method.keeps => self.queued.declared(named),
                    "queue.purge" | "queue.delete" | "queue.unbind" => self.queued.changed(named),
                    "exchange.delete" | "exchange.unbind" => self.queued.rerouted(),
                    "basic.consume" => self.queued.subscribed(named),
                    "basic.cancel" if method.is_by_server => self.queued.changed(named),
                    "basic.cancel" => self.queued.left(conn, Some(channel), Some(named)),
                    "channel.close" => self.queued.left(conn, Some(channel), None),
                    _ => {}
                }
            }
            ActionKind::Publish(publish) if publish.outcome.may_be_queued() => {
                let Some(digest) = digest() else { return };
                let (exchange, routing_key) = (&publish.exchange, &publish.routing_key);
                let keys = message_keys(&broker, &digest, &publish.content, exchange, routing_key);
                let address = Address::new(&self.hasher, &broker, exchange, routing_key);
                let (at, expires) = (op.request.end.at, publish.content.expires().is_some());
                self.queued.published(op.id, keys, address, at, expires);
            }
            ActionKind::Return(publish) => {
                let Some(digest) = digest() else { return };
                let (exchange, routing_key) = (&publish.exchange, &publish.routing_key);
                let keys = message_keys(&broker, &digest, &publish.content, exchange, routing_key);
                keys.into_iter().flatten().for_each(|key| self.queued.returned(key));
            }
            ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => {
                let address = Address::new(&self.hasher, &broker, &deliver.exchange, &deliver.routing_key);
                let destination = Destination::queue(&self.hasher, &broker, "");
                let delivery = delivery(conn, op, action, deliver, address, destination);
                let tag = deliver.consumer_tag.clone();
                self.queued.handed_on(Handed {
                    keys: delivered_keys(info, op),
                    is_dead: deliver.content.death().is_some(),
                    address,
                    queue: deliver.queue.as_ref().map(|name| (queue(name), name.clone())),
                    consumer: (!delivery.pulled).then_some(Consumer { conn, channel, tag }),
                    at: delivery.at,
                    put_back: (delivery.outcome == Outcome::PutBack).then_some(delivery.over_at),
                    in_order: !delivery.redelivered && !delivery.has_priority && !delivery.delayed,
                });
            }
            ActionKind::Publish(_) | ActionKind::Get(None) | ActionKind::Settle(_) => {}
        }
    }
}

/// By what a message may be found at its broker: with its publisher's time, and without, for the broker may write its own.
fn message_keys(
    broker: &str,
    digest: &[u8; 32],
    content: &Content,
    exchange: &str,
    routing_key: &str,
) -> [Option<MessageKey>; 2] {
    let stamp =
        Stamp { timestamp: content.properties.timestamp, delay_ms: content.delay_ms().unsigned_abs() };
    let key = |stamp| MessageKey::new(broker, digest, exchange, routing_key, stamp);
    let unstamped = Stamp { timestamp: None, ..stamp };
    [Some(key(stamp)), stamp.timestamp.map(|_| key(unstamped))]
}

/// By what the message of a delivery may be known, as its broker has it: by its own address, and by that where it was published before
/// it died. Empty: it is none, or was not captured whole.
fn delivered_keys(info: &ConnInfo, op: &Operation) -> Vec<MessageKey> {
    let Detail::Amqp(action) = &op.detail else { return Vec::new() };
    let (ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver))) = &action.kind else {
        return Vec::new();
    };
    let Some(digest) = deliver.content.canonical_digest() else { return Vec::new() };
    let broker = broker_name(info, true);
    let first =
        deliver.content.death().and_then(|death| Some((death.first_exchange?, death.first_routing_key?)));
    let own = (deliver.exchange.as_str(), deliver.routing_key.as_str());
    let keys = [Some(own), first].into_iter().flatten().flat_map(|(exchange, routing_key)| {
        message_keys(&broker, &digest, &deliver.content, exchange, routing_key)
    });
    keys.flatten().collect()
}

fn is_delivery(op: &Operation) -> bool {
    matches!(&op.detail, Detail::Amqp(action) if matches!(action.kind, ActionKind::Deliver(_) | ActionKind::Get(Some(_))))
}
