//! Messages at both ends of a broker, or of a connection to one → edges from a publish to its deliveries.
//!
//! *Owns* what of an operation is told to [`Messages`](crate::causality::across::message::Messages), and what is made of a pair. *Must not
//! know* how pairs are found.

use std::hash::BuildHasher;
use std::time::Duration;

use super::Engine;
use crate::causality::across::message::{
    Address, Delivery, Destination, MessageKey, Outcome, Pair, Published, Stamp,
};
use crate::causality::rules::{
    MESSAGE, MESSAGE_UNBROKERED, MESSAGE_UNBROKERED_WITH_ID, MESSAGE_WITH_ID, Row,
};
use crate::causality::{Edge, Passage};
use crate::conn::ConnInfo;
use crate::operation::amqp::{Action, ActionKind, Content, Deliver, Settlement};
use crate::operation::{OpSide, Operation};
use crate::record::{ConnId, Endpoint};

impl Engine {
    /// Enters a publish or delivery where its counterpart is looked for, and what consumers ask of their broker.
    pub(super) fn message(
        &mut self,
        info: &ConnInfo,
        op: &Operation,
        action: &Action,
        named: Option<&Named<'_>>,
    ) {
        let at_broker = op.shape == OpSide::Relayed;
        let messages = if at_broker { &mut self.brokered } else { &mut self.unbrokered };
        let conn = info.conn.id;
        match &action.kind {
            ActionKind::Settle(_) => return messages.settled(conn, op.request.start.at),
            ActionKind::Method(method) => {
                // An end that is not seen comes with that of the connection; without an answer, the request's end is the operation's.
                if may_bring_messages(&method.name) {
                    match op.response {
                        Some(response) => messages.called(conn, op.request.start.at, response.end.at),
                        None => messages.asked(conn, op.request.start.at, op.ended_at),
                    }
                }
                return;
            }
            ActionKind::Publish(_) | ActionKind::Deliver(_) | ActionKind::Get(_) | ActionKind::Return(_) => {}
        }
        let Some(named) = named else { return };
        match &action.kind {
            ActionKind::Publish(publish) => {
                let (exchange, routing_key) = (&publish.exchange, &publish.routing_key);
                let published = Published {
                    op: op.id,
                    at: op.request.end.at,
                    conn,
                    address: named.address(&self.hasher, exchange, routing_key),
                    delay: Duration::from_millis(named.stamp.delay_ms),
                    expires: named.content.expires(),
                };
                let key = named.key(exchange, routing_key);
                messages.publish(key, named.loose(exchange, routing_key), published);
            }
            ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => {
                let key = |exchange: &str, routing_key: &str| {
                    let exact = named.key(exchange, routing_key);
                    // Without a time they are the same.
                    let Some(loose) = named.loose(exchange, routing_key) else { return exact };
                    let is_loose = !messages.is_published(exact)
                        && (named.content.is_stamped() || messages.is_published(loose));
                    if is_loose { loose } else { exact }
                };
                let origin = named.died_at().map(|(exchange, routing_key)| key(exchange, routing_key));
                let key = key(&deliver.exchange, &deliver.routing_key);
                let address = named.address(&self.hasher, &deliver.exchange, &deliver.routing_key);
                let destination = match &deliver.queue {
                    Some(queue) => Destination::queue(&self.hasher, &named.broker, queue),
                    None => Destination::consumer(&self.hasher, conn, action.channel, &deliver.consumer_tag),
                };
                let delivery = Delivery {
                    dead_lettered: named.content.death().is_some(),
                    ..delivery(conn, op, action, deliver, address, destination)
                };
                messages.deliver(key, origin, delivery);
            }
            ActionKind::Get(None) | ActionKind::Return(_) | ActionKind::Settle(_) | ActionKind::Method(_) => {
            }
        }
    }

    pub(super) fn drain_pairs(&mut self) {
        while let Some(pair) = self.brokered.poll_pair() {
            self.pair(pair, true);
        }
        while let Some(pair) = self.unbrokered.poll_pair() {
            self.pair(pair, false);
        }
    }

    fn pair(&mut self, pair: Pair, at_broker: bool) {
        let row = row(pair.has_id, at_broker);
        if !self.policy.allows(row.rule, row.confidence) {
            return;
        }
        let edge =
            Edge { child: pair.delivery, parent: pair.publish, rule: row.rule, confidence: row.confidence };
        if pair.pulled || pair.again_since.is_some() {
            self.passages.push_back(Passage { edge, pulled: pair.pulled, again_since: pair.again_since });
        }
        if pair.pulled {
            return;
        }
        self.inside.linked(edge.child, edge.parent);
        if at_broker {
            self.edges.push_back(edge);
        } else {
            let due = pair.over_at + self.policy.broker_wait;
            self.unsure.insert((due, edge.child), edge);
            self.unsure_due.insert(edge.child, due);
        }
    }
}

/// A message at its broker, by all that tells it from others.
pub(super) struct Named<'a> {
    pub(super) content: &'a Content,
    pub(super) broker: String,
    digest: [u8; 32],
    stamp: Stamp,
}

impl<'a> Named<'a> {
    /// `None`: it is no message, or not all of it was seen.
    pub(super) fn new(info: &ConnInfo, op: &Operation, action: &'a Action) -> Option<Self> {
        let content = action.kind.content()?;
        let digest = content.canonical_digest()?;
        let stamp =
            Stamp { timestamp: content.properties.timestamp, delay_ms: content.delay_ms().unsigned_abs() };
        Some(Self { content, broker: broker_name(info, op.shape == OpSide::Relayed), digest, stamp })
    }

    pub(super) fn key(&self, exchange: &str, routing_key: &str) -> MessageKey {
        MessageKey::new(&self.broker, &self.digest, exchange, routing_key, self.stamp)
    }

    /// The same whatever its time, for the broker may write its own in the place of the publisher's; where it has one.
    pub(super) fn loose(&self, exchange: &str, routing_key: &str) -> Option<MessageKey> {
        self.stamp.timestamp?;
        let unstamped = Stamp { timestamp: None, ..self.stamp };
        Some(MessageKey::new(&self.broker, &self.digest, exchange, routing_key, unstamped))
    }

    pub(super) fn address(&self, hasher: &impl BuildHasher, exchange: &str, routing_key: &str) -> Address {
        Address::new(hasher, &self.broker, exchange, routing_key)
    }

    /// Exchange and routing key with which it was published first, if it is dead-lettered.
    pub(super) fn died_at(&self) -> Option<(&'a str, &'a str)> {
        let death = self.content.death()?;
        Some((death.first_exchange?, death.first_routing_key?))
    }
}

/// A publish that was entered before it was over.
pub(super) fn is_told(action: &Action) -> bool {
    matches!(&action.kind, ActionKind::Publish(publish) if publish.is_told)
}

/// A delivery that is over, or a `basic.get` that was answered.
pub(super) fn delivery(
    conn: ConnId,
    op: &Operation,
    action: &Action,
    deliver: &Deliver,
    address: Address,
    destination: Destination,
) -> Delivery {
    let pulled = matches!(action.kind, ActionKind::Get(_));
    let properties = &deliver.content.properties;
    let outcome = match deliver.settlement {
        Some(Settlement::Nack { requeue: true } | Settlement::Reject { requeue: true }) => Outcome::PutBack,
        Some(Settlement::Nack { requeue: false } | Settlement::Reject { requeue: false }) => Outcome::Refused,
        Some(Settlement::Ack) => Outcome::Taken,
        // Its channel or connection is gone. What becomes of a got message is not known here.
        None if deliver.no_ack == Some(false) && !pulled => Outcome::PutBack,
        None => Outcome::Taken,
    };
    Delivery {
        op: op.id,
        // A got message leaves with the response, a delivered one is itself the request.
        at: op.response.filter(|_| pulled).map_or(op.request.start.at, |response| response.start.at),
        destination,
        redelivered: deliver.redelivered,
        dead_lettered: false,
        outcome,
        over_at: deliver.settled_at.unwrap_or(op.ended_at),
        pulled,
        has_id: properties.message_id.is_some(),
        is_marked: properties.message_id.is_some() || properties.correlation_id.is_some(),
        conn,
        address,
        delayed: deliver.content.delay_ms() < 0,
        has_priority: properties.priority.is_some_and(|priority| priority > 0),
    }
}

/// The broker may hand on messages because of it: who consumes, how many at once, what goes back to its queue and, by the end of a
/// transaction, what was settled in it.
fn may_bring_messages(method: &str) -> bool {
    method.starts_with("basic.") || method.starts_with("tx.") || method == "channel.flow"
}

/// The row of the table by which a pair of equal messages is one message.
fn row(has_id: bool, at_broker: bool) -> &'static Row {
    match (at_broker, has_id) {
        (true, true) => &MESSAGE_WITH_ID,
        (true, false) => &MESSAGE,
        (false, true) => &MESSAGE_UNBROKERED_WITH_ID,
        (false, false) => &MESSAGE_UNBROKERED,
    }
}

pub(super) fn broker_name(info: &ConnInfo, at_broker: bool) -> String {
    if at_broker {
        return info.conn.thread.tgid.to_string();
    }
    match &info.conn.remote {
        Endpoint::Inet(address) => address.to_string(),
        Endpoint::Unix(path) => path.clone(),
        Endpoint::Unknown => String::new(),
    }
}
