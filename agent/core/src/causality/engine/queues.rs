//! What a broker's own sockets say of its queues → [`Queued`](crate::causality::across::message::Queued), and what is asked of that.
//!
//! *Owns* which action of AMQP says what of a queue. *Must not know* how the queue of a message is known.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::time::Duration;

use super::Engine;
use super::messages::{Named, broker_name, delivery};
use crate::causality::across::message::{Address, Consumer, Destination, Handed, Lying, MessageKey, Outcome};
use crate::conn::{ConnInfo, ConnRef};
use crate::operation::amqp::{Action, ActionKind, Deliver, Method};
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
            let Detail::Amqp(action) = &op.detail else { continue };
            let Some(deliver) = delivered(action) else { continue };
            // A message that was not captured whole may be any.
            let Some(named) = Named::new(info, op, action) else { return Default::default() };
            taken.extend(keys_of(&named, deliver));
        }
        self.queued.lying(now, after, &taken)
    }

    /// Publishes whose messages came out of their queue since this was asked last.
    pub fn take_handed(&mut self) -> Vec<OpId> {
        self.queued.take_handed()
    }

    /// What the broker's own sockets say of its queues.
    pub(super) fn at_broker(
        &mut self,
        info: &ConnInfo,
        op: &Operation,
        action: &Action,
        named: Option<&Named<'_>>,
    ) {
        let (conn, channel) = (info.conn.id, action.channel);
        match &action.kind {
            ActionKind::Method(method) => self.asked_of_broker(info, op, action, method),
            ActionKind::Publish(publish) if publish.outcome.may_be_queued() => {
                let Some(named) = named else { return };
                let (exchange, routing_key) = (&publish.exchange, &publish.routing_key);
                let keys = [Some(named.key(exchange, routing_key)), named.loose(exchange, routing_key)];
                let address = named.address(&self.hasher, exchange, routing_key);
                let (at, expires) = (op.request.end.at, publish.content.expires().is_some());
                self.queued.published(op.id, keys, address, at, expires);
            }
            ActionKind::Return(publish) => {
                let Some(named) = named else { return };
                let (exchange, routing_key) = (&publish.exchange, &publish.routing_key);
                self.queued.returned(named.key(exchange, routing_key));
                named.loose(exchange, routing_key).into_iter().for_each(|key| self.queued.returned(key));
            }
            ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => {
                let broker = broker_name(info, true);
                let address = Address::new(&self.hasher, &broker, &deliver.exchange, &deliver.routing_key);
                let destination = Destination::queue(&self.hasher, &broker, "");
                let delivery = delivery(conn, op, action, deliver, address, destination);
                let tag = self.hasher.hash_one(&deliver.consumer_tag);
                let queue = |name: &String| (self.hasher.hash_one((broker.as_str(), name)), name.clone());
                self.queued.handed_on(Handed {
                    keys: named.map(|named| keys_of(named, deliver).collect()).unwrap_or_default(),
                    is_dead: deliver.content.death().is_some(),
                    address,
                    queue: deliver.queue.as_ref().map(queue),
                    consumer: (!delivery.pulled).then_some(Consumer { conn, channel, tag }),
                    at: delivery.at,
                    put_back: (delivery.outcome == Outcome::PutBack).then_some(delivery.over_at),
                    in_order: !delivery.redelivered && !delivery.has_priority && !delivery.delayed,
                });
            }
            ActionKind::Publish(_) | ActionKind::Get(None) | ActionKind::Settle(_) => {}
        }
    }

    fn asked_of_broker(&mut self, info: &ConnInfo, op: &Operation, action: &Action, method: &Method) {
        let (conn, channel) = (info.conn.id, action.channel);
        let went_well = op.response.is_some() && method.error.is_none();
        let named = || self.hasher.hash_one((broker_name(info, true).as_str(), &method.target));
        match method.name.as_str() {
            "queue.declare" if went_well && method.keeps => self.queued.declared(named()),
            "queue.purge" | "queue.delete" | "queue.unbind" => self.queued.changed(named()),
            "exchange.delete" | "exchange.unbind" => self.queued.rerouted(),
            "basic.consume" => self.queued.subscribed(named()),
            "basic.cancel" if method.is_by_server => self.queued.changed(named()),
            "basic.cancel" => self.queued.left(conn, Some(channel), Some(named())),
            "channel.close" => self.queued.left(conn, Some(channel), None),
            _ => {}
        }
    }
}

/// By what a delivered message may be known, as its broker has it: by its own address, and by that where it was published before it
/// died.
fn keys_of<'a>(named: &'a Named<'a>, deliver: &'a Deliver) -> impl Iterator<Item = MessageKey> + 'a {
    let own = (deliver.exchange.as_str(), deliver.routing_key.as_str());
    let addresses = std::iter::once(own).chain(named.died_at());
    addresses.flat_map(|(exchange, routing_key)| {
        std::iter::once(named.key(exchange, routing_key)).chain(named.loose(exchange, routing_key))
    })
}

fn delivered(action: &Action) -> Option<&Deliver> {
    match &action.kind {
        ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => Some(deliver),
        _ => None,
    }
}
