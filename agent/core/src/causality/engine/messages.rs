//! Messages at both ends of a broker, or of a connection to one → edges from a publish to its deliveries.
//!
//! *Owns* what of an operation is told to [`Messages`] and of which messages lie in their queues, and what is made of a pair.
//! *Must not know* how pairs are found.

use std::time::Duration;

use super::Engine;
use crate::causality::across::lying::{Sent, Whereabouts};
use crate::causality::across::message::{
    Address, Delivery, Destination, MessageKey, Messages, Outcome, Pair, Published, Stamp,
};
use crate::causality::rules::{
    MESSAGE, MESSAGE_UNBROKERED, MESSAGE_UNBROKERED_WITH_ID, MESSAGE_WITH_ID, Row,
};
use crate::causality::{Edge, Passage};
use crate::conn::ConnInfo;
use crate::operation::amqp::{Action, ActionKind, Content, Deliver, Method, PublishOutcome, Settlement};
use crate::operation::{Detail, OpSide, Operation};
use crate::record::{ConnId, Endpoint, OpId};
use crate::time::BootTime;

impl Engine {
    /// Enters a publish or delivery where its counterpart is looked for, and what consumers ask of their broker.
    fn message(&mut self, info: &ConnInfo, op: &Operation, action: &Action) {
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
        let Some(named) = Named::new(info, op, action) else { return };
        match &action.kind {
            ActionKind::Publish(publish) => {
                let (exchange, routing_key) = (&publish.exchange, &publish.routing_key);
                let delay = Duration::from_millis(named.stamp.delay_ms);
                let published = Published {
                    op: op.id,
                    at: op.request.end.at,
                    conn,
                    address: Address::new(&self.hasher, &named.broker, exchange, routing_key),
                    delay,
                    expires: named.content.expires(),
                };
                // The broker may write a time of its own in the place of the publisher's.
                let loose = named.stamp.timestamp.map(|_| named.loose(exchange, routing_key));
                let key = named.key(exchange, routing_key);
                messages.publish(key, loose, published);
                // An exchange that keeps it back is no queue.
                if at_broker && delay.is_zero() {
                    let Published { at, address, expires, .. } = published;
                    let expires_at = expires.map(|expires| at + expires);
                    let sent = Sent { key, address, at, expires_at, by: info.conn.thread.tgid };
                    self.lying.published(op.id, sent);
                }
            }
            ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => {
                let key = named.delivered(messages, &deliver.exchange, &deliver.routing_key);
                let address =
                    Address::new(&self.hasher, &named.broker, &deliver.exchange, &deliver.routing_key);
                if at_broker {
                    self.lying.routed(address, deliver.queue.as_deref());
                }
                let destination = match &deliver.queue {
                    Some(queue) => Destination::queue(&self.hasher, &named.broker, queue),
                    None => Destination::consumer(&self.hasher, conn, action.channel, &deliver.consumer_tag),
                };
                let delivery = Delivery {
                    dead_lettered: named.content.death().is_some(),
                    ..delivery(conn, op, action, deliver, address, destination)
                };
                let origin = named.origin(messages);
                messages.deliver(key, origin, delivery);
            }
            ActionKind::Get(None) | ActionKind::Return(_) | ActionKind::Settle(_) | ActionKind::Method(_) => {
            }
        }
    }

    /// A message was handed over, and what becomes of it is not known: it lies in no queue meanwhile.
    fn handed(&mut self, info: &ConnInfo, op: &Operation, action: &Action) {
        let (ActionKind::Deliver(deliver), OpSide::Relayed) = (&action.kind, op.shape) else { return };
        let Some(named) = Named::new(info, op, action) else { return };
        let key = named.delivered(&self.brokered, &deliver.exchange, &deliver.routing_key);
        let origin = named.origin(&self.brokered).filter(|origin| self.brokered.is_published(*origin));
        self.lying.handed(op.id, origin.unwrap_or(key), op.request.start.at);
    }

    /// What a call to a broker says of its queues.
    fn queues(&mut self, info: &ConnInfo, op: &Operation, method: &Method) {
        if op.shape != OpSide::Relayed || method.error.is_some() || method.target.is_empty() {
            return;
        }
        match method.name.as_str() {
            // "The default exchange … is implicitly bound to every queue, with a routing key equal to the queue name."
            "queue.declare" => {
                let address = Address::new(&self.hasher, &broker_name(info, true), "", &method.target);
                self.lying.routed(address, Some(&method.target));
            }
            "queue.purge" | "queue.delete" => self.lying.emptied(&method.target, op.ended_at),
            _ => {}
        }
    }

    /// A message is on its way, before it is known what becomes of it: a publish is over later, so is a delivery ([`Engine::closed`]).
    pub fn sent(&mut self, info: &ConnInfo, op: &Operation) {
        let Detail::Amqp(action) = &op.detail else { return };
        match &action.kind {
            ActionKind::Publish(_) => {
                self.message(info, op, action);
                self.drain_pairs();
            }
            _ => self.handed(info, op, action),
        }
    }

    /// An operation of messages is over.
    pub(super) fn message_over(&mut self, info: &ConnInfo, op: &Operation, action: &Action) {
        match &action.kind {
            // It was entered before it was over.
            ActionKind::Publish(publish) if publish.is_told => {}
            _ => self.message(info, op, action),
        }
        match &action.kind {
            ActionKind::Publish(publish) if became_none(&publish.outcome) => self.lying.gone(op.id),
            ActionKind::Deliver(_) => self.lying.over(op.id),
            ActionKind::Method(method) => self.queues(info, op, method),
            _ => {}
        }
        let messages = match op.shape {
            OpSide::Relayed => &mut self.brokered,
            OpSide::Incoming | OpSide::Outgoing => &mut self.unbrokered,
        };
        messages.closed(op.id, op.request.start.at);
        self.drain_pairs();
    }

    /// The queue that a message may lie in, by its publish as the broker read it; inside by its name where that is known.
    pub fn queue_of(&self, publish: OpId) -> Option<Option<&str>> {
        self.lying.queue(publish)
    }

    /// Whether such a message lies in a queue at `now`.
    pub fn whereabouts(&self, publish: OpId, now: BootTime) -> Whereabouts {
        self.lying.whereabouts(publish, &self.brokered, now)
    }

    fn drain_pairs(&mut self) {
        while let Some(pair) = self.brokered.poll_pair() {
            self.pair(pair, true);
        }
        while let Some(pair) = self.unbrokered.poll_pair() {
            self.pair(pair, false);
        }
    }

    fn pair(&mut self, pair: Pair, at_broker: bool) {
        if at_broker {
            self.lying.paired(pair.publish, pair.outcome, pair.over_at);
        }
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
struct Named<'a> {
    content: &'a Content,
    broker: String,
    digest: [u8; 32],
    stamp: Stamp,
}

impl<'a> Named<'a> {
    /// `None`: it is no message, or not all of it was seen.
    fn new(info: &ConnInfo, op: &Operation, action: &'a Action) -> Option<Self> {
        let content = action.kind.content()?;
        let digest = content.canonical_digest()?;
        let stamp =
            Stamp { timestamp: content.properties.timestamp, delay_ms: content.delay_ms().unsigned_abs() };
        Some(Self { content, broker: broker_name(info, op.shape == OpSide::Relayed), digest, stamp })
    }

    fn key(&self, exchange: &str, routing_key: &str) -> MessageKey {
        MessageKey::new(&self.broker, &self.digest, exchange, routing_key, self.stamp)
    }

    /// The same whatever its time.
    fn loose(&self, exchange: &str, routing_key: &str) -> MessageKey {
        let unstamped = Stamp { timestamp: None, ..self.stamp };
        MessageKey::new(&self.broker, &self.digest, exchange, routing_key, unstamped)
    }

    /// By which of both it was published, as far as that is known.
    fn delivered(&self, messages: &Messages, exchange: &str, routing_key: &str) -> MessageKey {
        let exact = self.key(exchange, routing_key);
        // Without a time they are the same.
        if self.stamp.timestamp.is_none() || messages.is_published(exact) {
            return exact;
        }
        let loose = self.loose(exchange, routing_key);
        if self.content.is_stamped() || messages.is_published(loose) { loose } else { exact }
    }

    /// Where it was published first, if it is dead-lettered.
    fn origin(&self, messages: &Messages) -> Option<MessageKey> {
        let death = self.content.death()?;
        Some(self.delivered(messages, death.first_exchange?, death.first_routing_key?))
    }
}

/// The broker dropped it, or never had it as a message.
fn became_none(outcome: &PublishOutcome) -> bool {
    match outcome {
        PublishOutcome::Unconfirmed
        | PublishOutcome::Unknown
        | PublishOutcome::Confirmed
        | PublishOutcome::Committed => false,
        PublishOutcome::Refused
        | PublishOutcome::Returned { .. }
        | PublishOutcome::RolledBack
        | PublishOutcome::Error { .. } => true,
    }
}

/// A delivery that is over, or a `basic.get` that was answered.
fn delivery(
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

fn broker_name(info: &ConnInfo, at_broker: bool) -> String {
    if at_broker {
        return info.conn.thread.tgid.to_string();
    }
    match &info.conn.remote {
        Endpoint::Inet(address) => address.to_string(),
        Endpoint::Unix(path) => path.clone(),
        Endpoint::Unknown => String::new(),
    }
}
