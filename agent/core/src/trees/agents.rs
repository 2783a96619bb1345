//! An operation whose other end another agent sees → what both agents compute of it without asking each other.
//!
//! ```text
//!   agent A                                          agent B
//!   span H(wire, client) in the trace ── the wire ──▶ its server's span: H(wire, server), a child of H(wire, client)
//!   that the operation's own bytes name               in the trace that the operation's own bytes name
//! ```
//!
//! Both compute the same identifiers from the sequence numbers, and the same trace from the operation's own bytes: trace
//! context, or the order's key. So the receiver names the sender as its parent, and the sender sees to it that its span is
//! there: in the trace of its own bytes, whatever its tree's. Without key and context the receiver is a root.
//!
//! Who covers a peer is known from `joining.covered`, and an end that this agent sees itself is no other agent's.
//!
//! | operation | sender's span | receiver's span |
//! |---|---|---|
//! | HTTP, gRPC | client | server |
//! | publish, statement, `basic.get` | client | none: the server's view of it stands for nothing |
//! | delivery | dwell in the broker | processing |
//!
//! Where no agent sees the broker, a message with an ID is met by consumers at the span that publish and delivery compute
//! alike from the message itself.
//!
//! *Owns* which operations have their other end elsewhere, and where both ends meet. *Must not know* how trees are placed.

use std::time::Duration;

use crate::bounded::Bounded;
use crate::causality::across::covered::{self, Block};
use crate::causality::rules::WIRE_ELSEWHERE;
use crate::causality::settings::Joining;
use crate::causality::{Confidence, Rule};
use crate::conn::ConnInfo;
use crate::hash::Keyed;
use crate::operation::amqp::ActionKind;
use crate::operation::{Completeness, Detail, OpSide, Operation};
use crate::order::OrderKey;
use crate::order::ids::{self, Seed, SpanEnd};
use crate::order::window::Window;
use crate::record::{Conn, Endpoint, Role, WireBase};
use crate::span::Evidence;
use crate::span::build::TraceRule;
use crate::time::WallTime;
use crate::trace::{SpanContext, SpanId, TraceId};
use crate::trees::identify::Identifier;
use crate::trees::{Finished, REMEMBERED};

/// Clocks of two nodes differ by less: so close to the end of a window the other end may count itself to the next one.
const CLOCKS: Duration = Duration::from_secs(5);
/// A message rarely waits longer where its publish is only computed.
const QUEUED: Duration = Duration::from_secs(600);

/// What is known of other agents.
#[derive(Debug)]
pub(crate) struct OtherAgents {
    covered: Vec<Block>,
    by_wire: bool,
    by_message: bool,
    /// First sequence numbers of connections of which this agent sees an end, as that end has them.
    here: Bounded<(u32, u32), ()>,
    /// Publishes with a span of the message's own: a program can send the same message twice.
    sent: Bounded<SpanId, (), Keyed>,
}

/// The trace that both ends of an operation compute from its own bytes.
#[derive(Clone, Debug)]
pub(crate) struct SharedTrace {
    pub(crate) trace_id: TraceId,
    pub(crate) rule: TraceRule,
    pub(crate) order: Option<OrderKey>,
}

/// An operation that two agents see one end each of.
#[derive(Clone, Debug)]
pub(crate) struct RemoteEnd {
    /// This agent sees the end whose span is the parent.
    pub(crate) sends: bool,
    /// `None`: its bytes name no trace.
    pub(crate) meeting: Option<SharedTrace>,
}

impl OtherAgents {
    pub(crate) fn new(joining: &Joining) -> Self {
        let has = |rule: Rule| joining.rules.contains(&rule);
        let is_sure = |confidence: Confidence| confidence.0 >= joining.min_confidence;
        Self {
            covered: covered::blocks(&joining.covered),
            by_wire: has(Rule::Wire) && is_sure(WIRE_ELSEWHERE.confidence),
            by_message: has(Rule::Message),
            here: Bounded::new(REMEMBERED),
            sent: Bounded::for_foreign_keys(REMEMBERED),
        }
    }

    /// Connections and messages forgotten: their other end may be taken for another agent's, or have two spans.
    pub(crate) fn forgotten(&self) -> (u64, u64) {
        (self.here.forgotten(), self.sent.forgotten())
    }

    /// There may be other agents.
    pub(crate) fn is_known(&self) -> bool {
        !self.covered.is_empty()
    }

    /// Another agent sees the other end of this connection.
    fn covers(&self, conn: &ConnInfo) -> bool {
        let Some(WireBase { egress, ingress }) = conn.conn.wire else { return false };
        let Endpoint::Inet(peer) = &conn.conn.remote else { return false };
        !self.here.contains_key(&(ingress, egress))
            && self.covered.iter().any(|block| block.contains(peer.ip()))
    }

    /// This agent sees the other end.
    fn sees(&self, conn: &ConnInfo) -> bool {
        conn.conn.wire.is_some_and(|WireBase { egress, ingress }| self.here.contains_key(&(ingress, egress)))
    }
}

impl Identifier {
    /// A connection of which this agent sees this end.
    pub(crate) fn introduced(&mut self, conn: &Conn) {
        if let (true, Some(WireBase { egress, ingress })) = (self.elsewhere.is_known(), conn.wire) {
            self.elsewhere.here.insert((egress, ingress), ());
        }
    }

    /// The span of the publish of this message, as the broker's clients compute it; `None` where it is not needed, because
    /// an agent sees the broker, or not known.
    pub(crate) fn message_span(&self, conn: &ConnInfo, op: &Operation) -> Option<SpanId> {
        let elsewhere = &self.elsewhere;
        let Detail::Amqp(action) = &op.detail else { return None };
        let is_client = elsewhere.is_known() && elsewhere.by_message && op.role == Role::Client;
        if !is_client || elsewhere.sees(conn) || elsewhere.covers(conn) {
            return None;
        }
        let content = match &action.kind {
            ActionKind::Publish(publish) => &publish.content,
            ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => &deliver.content,
            _ => return None,
        };
        let id = content.properties.message_id.as_deref().filter(|id| !id.is_empty())?;
        Some(ids::message_span_id(id, &content.canonical_digest()?))
    }

    /// The same, once per span: whoever sends a message twice has two spans.
    pub(crate) fn own_message_span(&mut self, finished: &Finished) -> Option<SpanId> {
        let span = self.free_message_span(finished)?;
        self.elsewhere.sent.insert(span, ());
        Some(span)
    }

    /// That span, as long as no other publish has it.
    pub(crate) fn free_message_span(&self, finished: &Finished) -> Option<SpanId> {
        let span = finished.message.filter(|_| finished.is_publish())?;
        (!self.elsewhere.sent.contains_key(&span)).then_some(span)
    }

    /// What the operation has to do with other agents. `is_met`: its other end is in its tree.
    pub(crate) fn crossing(&self, finished: &Finished, is_met: bool) -> Option<RemoteEnd> {
        if is_met || !self.elsewhere.is_known() {
            return None;
        }
        let op = &finished.operation;
        let by_message = finished.is_publish() && finished.message.is_some();
        let by_wire =
            self.elsewhere.by_wire && finished.wire.is_some() && self.elsewhere.covers(&finished.conn);
        if !by_message && !by_wire {
            return None;
        }
        let sends =
            if finished.is_delivery() { op.shape == OpSide::Relayed } else { op.role == Role::Client };
        let meeting = match by_wire {
            true => self.meeting(finished, CLOCKS),
            false => self.order_meeting(finished, CLOCKS),
        };
        Some(RemoteEnd { sends, meeting })
    }

    fn meeting(&self, finished: &Finished, margin: Duration) -> Option<SharedTrace> {
        // What one end has not seen whole may have shown the other one more.
        if finished.operation.completeness != Completeness::Complete {
            return None;
        }
        if let Some(context) = finished.found.context.as_ref().filter(|_| self.trusts_agents()) {
            let order = finished.found.order().cloned();
            return Some(SharedTrace { trace_id: context.trace_id, rule: TraceRule::Context, order });
        }
        self.order_meeting(finished, margin)
    }

    fn order_meeting(&self, finished: &Finished, margin: Duration) -> Option<SharedTrace> {
        if self.window == Window::Request {
            return None;
        }
        let order = finished.found.order()?;
        let shown = self.shown(order);
        let start = finished.started();
        let at = |time| ids::trace_id_from_order(&self.deployment, &shown, self.window.length(), time);
        let trace_id = at(start);
        let is_certain = at(start - margin) == trace_id && at(start + margin) == trace_id;
        is_certain.then(|| SharedTrace { trace_id, rule: TraceRule::Order, order: Some(order.clone()) })
    }

    /// The sender's span, and why it is the parent.
    pub(crate) fn sender(&self, finished: &Finished) -> Option<(SpanId, Evidence)> {
        let end = if finished.is_delivery() { SpanEnd::Dwell } else { SpanEnd::Client };
        let span = ids::span_id(&Seed::from(finished.wire?), end);
        Some((span, Evidence { rule: WIRE_ELSEWHERE.rule, confidence: WIRE_ELSEWHERE.confidence }))
    }

    /// Where the receiver's span is, as far as it can be known here. `named`: this end's tree belongs to an order that the
    /// operation does not name; the other end's may too.
    pub(crate) fn receiver(
        &self,
        finished: &Finished,
        crossing: &RemoteEnd,
        named: bool,
    ) -> Option<SpanContext> {
        let end = match &finished.operation.detail {
            Detail::Http(_) => SpanEnd::Server,
            Detail::Amqp(_) if finished.is_delivery() => SpanEnd::Client,
            // The server's view has no span.
            Detail::Amqp(_) | Detail::Postgres(_) => return None,
        };
        let seed = Seed::from(finished.wire?);
        let span_id = ids::span_id(&seed, end);
        if let Some(meeting) = &crossing.meeting {
            return Some(SpanContext { trace_id: meeting.trace_id, span_id });
        }
        // A root without an order, and without a trace of its own: a delivery's may be that of its producer.
        let is_own = finished.operation.completeness == Completeness::Complete
            && !finished.is_delivery()
            && (self.window == Window::Request || (!named && finished.found.order().is_none()));
        is_own.then(|| SpanContext { trace_id: ids::trace_id_from_wire(&seed), span_id })
    }

    /// The publish that this delivery's message came from, where no agent sees the broker.
    pub(crate) fn producer(&self, finished: &Finished) -> Option<SpanContext> {
        let span_id = finished.message.filter(|_| !finished.is_publish())?;
        Some(SpanContext { trace_id: self.order_meeting(finished, QUEUED)?.trace_id, span_id })
    }
}

impl Finished {
    pub(crate) fn is_publish(&self) -> bool {
        matches!(&self.operation.detail, Detail::Amqp(action) if matches!(action.kind, ActionKind::Publish(_)))
    }

    pub(crate) fn is_delivery(&self) -> bool {
        matches!(&self.operation.detail, Detail::Amqp(action) if matches!(action.kind, ActionKind::Deliver(_)))
    }

    /// What its identifiers are derived from: the wire identity was found when it was over.
    pub(crate) fn seed(&self, boot_id: &[u8; 16]) -> Seed {
        self.wire.map_or_else(|| ids::local(&self.conn, &self.operation, boot_id), Seed::from)
    }

    /// When it began.
    pub(crate) fn started(&self) -> WallTime {
        self.clock.wall_at(self.operation.request.start.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_tables_are_bounded_and_what_they_forget_is_counted() {
        let mut agents = OtherAgents::new(&Joining::default());
        for n in 0..REMEMBERED as u32 + 2 {
            agents.here.insert((n, n), ());
            agents.sent.insert(SpanId(u64::from(n).to_be_bytes()), ());
        }
        agents.here.insert((u32::MAX, 0), ());
        assert_eq!(agents.forgotten(), (3, 2));
    }
}
