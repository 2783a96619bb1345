//! Events of all connections → edges, passages, and which operations are decided. The façade of causality.
//!
//! *Owns* which part of causality sees which event. *Must not know* spans, trees.
//!
//! Long because it is the one list of who sees which event, and says of each action of AMQP what it is to causality.

mod queues;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use super::echo::{self, Carried};
use super::rules::{MESSAGE, MESSAGE_UNBROKERED, MESSAGE_UNBROKERED_WITH_ID, MESSAGE_WITH_ID, Row, WIRE};
use super::{Edge, Passage, Policy, Stats};
use crate::causality::across::message::{
    Address, Delivery, Destination, MessageKey, Messages, Outcome, Pair, Published, Queued, Stamp,
};
use crate::causality::across::wire::{End, Side, Wires};
use crate::causality::inside::snapshot::Snapshot;
use crate::causality::inside::{Closing, Inside, Interaction, Opening, Showing};
use crate::conn::ConnInfo;
use crate::hash::Keyed;
use crate::operation::amqp::{Action, ActionKind, Deliver, Settlement};
use crate::operation::{Completeness, Detail, OpSide, Operation};
use crate::order::ids::WireId;
use crate::order::{Found, OrderKey};
use crate::record::{
    Chain, ConnId, Endpoint, OpId, Point, ProcessEvent, ProcessEventKind, ProcessInfo, Role, TaskId, Tgid,
    Transport, Worker,
};
use crate::time::BootTime;

/// Operations waiting for their other end.
const MAX_WIRES: usize = 57_344;
/// Messages remembered, those waiting in queues among them; some 300 bytes each, and four times that where many are equal.
const MAX_MESSAGES: usize = 57_344;

/// Everything that finds causes.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    inside: Inside,
    wires: Wires,
    /// Seen on the broker's own sockets: exact.
    brokered: Messages,
    /// Seen on its clients' sockets only.
    unbrokered: Messages,
    /// What brokers hold, by their own sockets.
    queued: Queued,
    /// Edges by message between clients. They are held back, for the broker's own view may make better ones.
    unsure: BTreeMap<(BootTime, OpId), Edge>,
    unsure_due: HashMap<OpId, BootTime>,
    edges: VecDeque<Edge>,
    passages: VecDeque<Passage>,
    /// For names and contents, which traffic chooses: nobody can make two of them alike.
    hasher: Keyed,
}

impl Engine {
    pub fn new(policy: Policy) -> Self {
        Self {
            inside: Inside::new(policy.clone()),
            policy,
            wires: Wires::new(MAX_WIRES),
            brokered: Messages::new(MAX_MESSAGES),
            unbrokered: Messages::new(MAX_MESSAGES),
            queued: Queued::default(),
            unsure: BTreeMap::new(),
            unsure_due: HashMap::new(),
            edges: VecDeque::new(),
            passages: VecDeque::new(),
            hasher: Keyed::new(),
        }
    }

    pub fn opened(&mut self, info: &ConnInfo, op: OpId, shape: OpSide, family: Interaction, point: Point) {
        match (family, shape) {
            (Interaction::Message, OpSide::Relayed) => {
                self.brokered.opened(op, point.at);
                self.queued.opened(op, info.conn.id);
            }
            (Interaction::Message, OpSide::Incoming) => self.unbrokered.opened(op, point.at),
            (Interaction::Message, OpSide::Outgoing) | (Interaction::Call, _) => {}
        }
        self.inside.opened(Opening { op, shape, family, conn: info.conn.id, point });
    }

    pub fn requested(&mut self, op: OpId, point: Point) {
        self.inside.requested(op, point);
    }

    /// The wire identity of a call that has begun: both ends are joined before either is over.
    pub fn begun(&mut self, op: OpId, role: Role, wire: WireId) {
        let side = if role == Role::Client { Side::Sender } else { Side::Receiver };
        self.meet(wire, End { op, side, times: None });
    }

    /// An operation is over. `wire` is its identity, if there is one and it was not told before. Keys of one not `read` are not known.
    pub fn closed(
        &mut self,
        info: &ConnInfo,
        op: &Operation,
        found: &Found,
        wire: Option<WireId>,
        is_read: bool,
    ) {
        if self.inside.remembers(op.id) {
            self.inside.closed(closing(&self.hasher, op, found, is_read));
        }
        if let Some(wire) = wire {
            let times =
                (info.conn.transport == Transport::Unix).then_some((op.request.start.at, op.ended_at));
            self.meet(wire, End { op: op.id, side: side(op), times });
        }
        if let Detail::Amqp(action) = &op.detail {
            self.message(info, op, action);
            let messages = match op.shape {
                OpSide::Relayed => &mut self.brokered,
                OpSide::Incoming | OpSide::Outgoing => &mut self.unbrokered,
            };
            messages.closed(op.id, op.request.start.at);
            self.queued.closed(op.id);
            self.drain_pairs();
        }
    }

    /// Who waited for whom when a process wrote: told before what it wrote.
    pub fn chained(&mut self, chain: Chain) {
        self.inside.chained(chain);
    }

    /// `tgid`: whose it was, where that is still known.
    pub fn conn_closed(&mut self, conn: ConnId, tgid: Option<Tgid>, now: BootTime) {
        self.inside.conn_closed(conn, tgid, now);
        self.queued.left(conn, None, None);
    }

    /// Something a process read or wrote was lost, after `since` and before `now`.
    pub fn missed(&mut self, tgid: Tgid, since: BootTime, now: BootTime) {
        self.inside.missed(tgid, since, now);
        self.brokered.missed(now);
        self.unbrokered.missed(now);
        self.queued.missed();
    }

    /// From now on a connection may bring a process requests that are not read.
    pub fn unread(&mut self, conn: ConnId, by: Tgid, since: (BootTime, bool)) {
        self.inside.unread(conn, by, since);
    }

    /// Somebody read something from such a connection.
    pub fn hidden(&mut self, conn: ConnId, by: Worker, at: BootTime) {
        self.inside.hidden(conn, by, at);
    }

    /// Such a connection brings no more, though what it brought may yet be read.
    pub fn unread_over(&mut self, conn: ConnId, at: BootTime) {
        self.inside.unread_over(conn, at);
    }

    /// They are, or it brings none.
    pub fn read(&mut self, conn: ConnId, now: BootTime) {
        self.inside.read(conn, now);
    }

    /// Records were lost, found out at `now`, and whose is not known.
    pub fn lost(&mut self, now: BootTime) {
        self.inside.lost(now);
        self.queued.missed();
    }

    pub fn process_changed(&mut self, event: &ProcessEvent) {
        match event.kind {
            ProcessEventKind::Fork { .. } => self.inside.process_began(event.tgid),
            ProcessEventKind::Exec => self.inside.process_replaced(event.tgid),
            ProcessEventKind::Exit => self.inside.process_ended(event.tgid, event.at),
            ProcessEventKind::Thread { tid, creator } => {
                self.inside.thread_began(event.tgid, tid, creator);
            }
        }
    }

    /// Who a process is became known.
    pub fn process_introduced(&mut self, info: &ProcessInfo) {
        self.inside.process_introduced(info);
    }

    /// What a process has shown of how it works. `None`: nothing.
    pub fn export(&self, tgid: Tgid) -> Option<Snapshot> {
        self.inside.export(tgid)
    }

    /// Goes on with what an earlier agent knew of this very process. Returns whether it is of use.
    pub fn import(&mut self, tgid: Tgid, learned: &Snapshot, now: BootTime) -> bool {
        self.inside.import(tgid, learned, now)
    }

    pub fn handle_timeout(&mut self, now: BootTime) {
        self.inside.handle_timeout(now);
        while let Some(entry) = self.unsure.first_entry().filter(|entry| entry.key().0 <= now) {
            let edge = entry.remove();
            self.unsure_due.remove(&edge.child);
            self.edges.push_back(edge);
        }
    }

    /// A request open for long that may be the cause of what is next: what it showed is needed before [`Engine::handle_timeout`].
    pub fn poll_to_peek(&mut self) -> Option<(ConnId, OpId)> {
        self.inside.poll_to_peek()
    }

    /// What such a request has shown so far.
    pub fn shown(&mut self, operation: &Operation, found: &Found) {
        let asked = echo::asked(&self.hasher, operation);
        self.inside
            .shown(operation.id, Showing { keys: keys(found), facts: found.attributes.clone(), asked });
    }

    pub fn next_timeout(&self) -> Option<BootTime> {
        let unsure = self.unsure.keys().next().map(|(due, _)| *due);
        [unsure, self.inside.next_timeout()].into_iter().flatten().min()
    }

    pub fn finish(&mut self) {
        self.inside.finish();
        self.edges.extend(std::mem::take(&mut self.unsure).into_values());
        self.unsure_due.clear();
    }

    pub fn poll_edge(&mut self) -> Option<Edge> {
        self.edges.pop_front().or_else(|| self.inside.poll_edge())
    }

    /// More about a message's way.
    pub fn poll_passage(&mut self) -> Option<Passage> {
        self.passages.pop_front()
    }

    /// Operations that belong to one order, though neither caused the other.
    pub fn poll_bond(&mut self) -> Option<(OpId, OpId)> {
        self.inside.poll_bond()
    }

    pub fn poll_settled(&mut self) -> Option<OpId> {
        self.inside.poll_settled()
    }

    /// Nothing more will be decided about this operation's cause inside its process.
    pub fn is_settled(&self, op: OpId) -> bool {
        self.inside.is_settled(op)
    }

    /// What was forgotten at the bounds of its tables.
    pub fn stats(&self) -> Stats {
        let (links, inside) = self.inside.forgotten();
        let mut stats = Stats { wires: self.wires.forgotten(), links, inside, ..Stats::default() };
        stats.queued_messages = self.queued.forgotten();
        stats.add_messages(self.brokered.forgotten());
        stats.add_messages(self.unbrokered.forgotten());
        stats
    }

    /// Enters one end of an operation where the other is looked for.
    fn meet(&mut self, wire: WireId, end: End) {
        if self.policy.allows(WIRE.rule, WIRE.confidence)
            && let Some(edge) = self.wires.enter(wire, end)
        {
            if let Some(due) = self.unsure_due.remove(&edge.child) {
                self.unsure.remove(&(due, edge.child));
            }
            self.inside.linked(edge.child, edge.parent);
            self.edges.push_back(edge);
        }
    }

    /// Enters a publish or delivery where its counterpart is looked for, and what consumers ask of their broker.
    fn message(&mut self, info: &ConnInfo, op: &Operation, action: &Action) {
        let at_broker = op.shape == OpSide::Relayed;
        if at_broker {
            self.at_broker(info, op, action);
        }
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
        let Some(content) = action.kind.content() else { return };
        let Some(digest) = content.canonical_digest() else { return };
        let broker = broker_name(info, at_broker);
        let key = |exchange: &str, routing_key: &str, stamp: Stamp| {
            MessageKey::new(&broker, &digest, exchange, routing_key, stamp)
        };
        let stamp =
            Stamp { timestamp: content.properties.timestamp, delay_ms: content.delay_ms().unsigned_abs() };
        let unstamped = Stamp { timestamp: None, ..stamp };
        match &action.kind {
            ActionKind::Publish(publish) => {
                let (exchange, routing_key) = (&publish.exchange, &publish.routing_key);
                let published = Published {
                    op: op.id,
                    at: op.request.end.at,
                    conn,
                    address: Address::new(&self.hasher, &broker, exchange, routing_key),
                    delay: Duration::from_millis(stamp.delay_ms),
                    expires: content.expires(),
                };
                // The broker may write a time of its own in the place of the publisher's.
                let loose = stamp.timestamp.map(|_| key(exchange, routing_key, unstamped));
                messages.publish(key(exchange, routing_key, stamp), loose, published);
            }
            ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => {
                let key = |exchange: &str, routing_key: &str| {
                    let exact = key(exchange, routing_key, stamp);
                    // Without a time they are the same.
                    if stamp.timestamp.is_none() || messages.is_published(exact) {
                        return exact;
                    }
                    let loose = key(exchange, routing_key, unstamped);
                    if content.is_stamped() || messages.is_published(loose) { loose } else { exact }
                };
                let death = content.death();
                let origin =
                    death.and_then(|death| Some(key(death.first_exchange?, death.first_routing_key?)));
                let key = key(&deliver.exchange, &deliver.routing_key);
                let address = Address::new(&self.hasher, &broker, &deliver.exchange, &deliver.routing_key);
                let destination = match &deliver.queue {
                    Some(queue) => Destination::queue(&self.hasher, &broker, queue),
                    None => Destination::consumer(&self.hasher, conn, action.channel, &deliver.consumer_tag),
                };
                let delivery = Delivery {
                    dead_lettered: death.is_some(),
                    ..delivery(conn, op, action, deliver, address, destination)
                };
                messages.deliver(key, origin, delivery);
            }
            ActionKind::Get(None) | ActionKind::Return(_) | ActionKind::Settle(_) | ActionKind::Method(_) => {
            }
        }
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

fn side(op: &Operation) -> Side {
    let delivered =
        matches!(&op.detail, Detail::Amqp(action) if matches!(action.kind, ActionKind::Deliver(_)));
    // Everything but a delivery is started by the client.
    match (op.role, delivered) {
        (Role::Client, false) | (Role::Server, true) => Side::Sender,
        (Role::Server, false) | (Role::Client, true) => Side::Receiver,
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

fn closing(hasher: &impl BuildHasher, op: &Operation, found: &Found, is_read: bool) -> Closing {
    let transaction = match &op.detail {
        Detail::Postgres(statement) => statement.transaction,
        Detail::Http(_) | Detail::Amqp(_) => None,
    };
    let named = match &op.detail {
        Detail::Amqp(action) => match &action.kind {
            ActionKind::Settle(settle) => settle.delivery,
            _ => None,
        },
        _ => None,
    };
    let delivery = match &op.detail {
        Detail::Amqp(action) => match &action.kind {
            ActionKind::Deliver(deliver) => TaskId::of_delivery(&deliver.consumer_tag, deliver.delivery_tag),
            _ => None,
        },
        _ => None,
    };
    Closing {
        op: op.id,
        named,
        delivery,
        at: op.ended_at,
        response_start: op.response.map(|response| response.start),
        response_end: op.response.map(|response| response.end),
        keys: keys(found),
        answered: op.response.is_some()
            && !matches!(op.completeness, Completeness::Cut | Completeness::Abandoned),
        facts: found.attributes.clone(),
        echo: echo::of(hasher, op),
        trace: found.trace_id.map(|trace| Carried::new(hasher, trace)),
        transaction,
        is_read,
    }
}

/// Keys that an operation shows.
fn keys(found: &Found) -> Vec<OrderKey> {
    if found.too_many { Vec::new() } else { found.keys.clone() }
}

/// Longest wait, after a delivery between clients is over, for the broker's own view of it.
///
/// Both ends see the end of a delivery within moments. Not measured; it must exceed the reordering of records of two processors,
/// and stay below half of `joining.linger`, for which a tree is held.
const MAX_BROKER_WAIT: Duration = Duration::from_millis(500);

/// The policy of the configuration.
pub fn policy(joining: &super::settings::Joining) -> Policy {
    Policy {
        rules: joining.rules.iter().copied().collect(),
        min_confidence: joining.min_confidence,
        decide_within: joining.decide_within,
        // The tree is held for longer than that.
        broker_wait: (joining.linger / 2).min(MAX_BROKER_WAIT),
    }
}
