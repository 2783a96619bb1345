//! Events of all connections → edges, passages, and which operations are decided. The façade of causality.
//!
//! *Owns* which part of causality sees which event. *Must not know* spans, trees.

mod messages;
mod queues;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use super::echo::{self, Carried};
use super::rules::WIRE;
use super::{Edge, Passage, Policy, Stats};
use crate::causality::across::message::{Messages, Queued};
use crate::causality::across::wire::{End, Side, Wires};
use crate::causality::inside::snapshot::Snapshot;
use crate::causality::inside::{Closing, Inside, Interaction, Opening, Showing};
use crate::conn::ConnInfo;
use crate::hash::Keyed;
use crate::operation::amqp::ActionKind;
use crate::operation::{Completeness, Detail, OpSide, Operation};
use crate::order::ids::WireId;
use crate::order::{Found, OrderKey};
use crate::record::{
    Chain, ConnId, OpId, Point, ProcessEvent, ProcessEventKind, ProcessInfo, Role, TaskId, Tgid, Transport,
    Worker,
};
use crate::time::BootTime;
use messages::{Named, is_told};

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
            let named = Named::new(info, op, action);
            if op.shape == OpSide::Relayed {
                self.at_broker(info, op, action, named.as_ref());
            }
            if !is_told(action) {
                self.message(info, op, action, named.as_ref());
            }
            let messages = match op.shape {
                OpSide::Relayed => &mut self.brokered,
                OpSide::Incoming | OpSide::Outgoing => &mut self.unbrokered,
            };
            messages.closed(op.id, op.request.start.at);
            self.queued.closed(op.id);
            self.drain_pairs();
        }
    }

    /// A message is on its way, before it is known what becomes of it: its publish is over later ([`Engine::closed`]).
    pub fn sent(&mut self, info: &ConnInfo, op: &Operation) {
        if let Detail::Amqp(action) = &op.detail {
            self.message(info, op, action, Named::new(info, op, action).as_ref());
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
