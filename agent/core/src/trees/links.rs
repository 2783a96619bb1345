//! Placed operations of a tree → their spans with parents and links.
//!
//! A span's parent is in its own trace and exported; everything else it has to do with is linked: the producer of a message,
//! the cause in another trace, what other agents export, the order's other traces.
//!
//! *Owns* parents and links. *Must not know* which trace a tree is in and why, nor names and attributes of spans.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::causality::rules::CONTEXT;
use crate::causality::{Edge, Rule};
use crate::operation::OpSide;
use crate::order::ids::{self, SpanEnd};
use crate::order::window::Window;
use crate::span::build::{self, Identity, Placed, TraceRule};
use crate::span::{Evidence, Link, Span};
use crate::trace::SpanContext;
use crate::trace::{Attributes, SpanId, TraceId};
use crate::trees::Finished;
use crate::trees::hold::Member;
use crate::trees::identify::{Identifier, Output, Placement, TreeFacts};

impl Identifier {
    pub(crate) fn build(
        &mut self,
        leaf: &Member,
        fate: Output,
        trunk: &TreeFacts,
        spans: &mut VecDeque<Span>,
    ) {
        let finished = leaf.finished.as_ref();
        let op = finished.operation.id;
        self.build_pulled(leaf, trunk, spans);
        let Some(own) = self.placement(op).cloned() else { return };
        match fate {
            Output::None | Output::Absorbed(_) | Output::Elsewhere => {}
            Output::Span | Output::Observed => {
                let identity = self.identity(leaf, &own, trunk);
                let work = trunk.work.get(&op).copied().unwrap_or_default();
                let placed = self.placed(finished, identity, trunk, &own, fate == Output::Observed);
                let span = build::build_with(&placed, work);
                self.push(span, leaf, trunk, &own, spans);
                self.build_signpost(leaf, trunk, &own, spans);
            }
            Output::Dwell { publish, consumed, awaited } => {
                let arrival = publish.and_then(|publish| self.arrivals.get(&publish).copied());
                let again = leaf.passage.as_ref().and_then(|passage| passage.again_since);
                let has_dwell = arrival.is_some() || awaited;
                if has_dwell {
                    let identity = self.identity(leaf, &own, trunk);
                    let placed = self.placed(finished, identity, trunk, &own, false);
                    let span = build::build_dwell(again.or(arrival), &placed);
                    self.push(span, leaf, trunk, &own, spans);
                }
                if !consumed {
                    let wire = finished.seed(&self.boot_id);
                    // Not the consumer's own identifier: its span may still come, from here or from another node.
                    let place = Placement { span_id: ids::span_id(&wire, SpanEnd::Server), ..own.clone() };
                    let mut identity = self.identity(leaf, &place, trunk);
                    if has_dwell {
                        identity.parent = Some(own.span_id);
                    }
                    let span = build::build(&self.placed(finished, identity, trunk, &place, true));
                    self.push(span, leaf, trunk, &place, spans);
                }
            }
        }
    }

    /// Where the sender's agent looks for this operation, which names no order, while its tree does: only this agent knows.
    fn build_signpost(
        &mut self,
        leaf: &Member,
        trunk: &TreeFacts,
        own: &Placement,
        spans: &mut VecDeque<Span>,
    ) {
        let finished = leaf.finished.as_ref();
        let crossing = trunk.crossings.get(&finished.operation.id).filter(|crossing| !crossing.sends);
        let Some(SpanContext { trace_id, span_id }) =
            crossing.and_then(|crossing| self.receiver(finished, crossing, false))
        else {
            return;
        };
        if trace_id == own.trace_id {
            return;
        }
        let mut identity = Identity::new(trace_id, span_id);
        identity.links.push(link(own.trace_id, own.span_id, "order"));
        let place = Placement { trace_id, span_id, trace_rule: TraceRule::Wire, order: own.order.clone() };
        let mut span = build::build_signpost(&self.placed(finished, identity, trunk, &place, false));
        span.sampled = trunk.sampled;
        spans.push_back(self.hidden(span, leaf, trunk));
    }

    /// The dwell of a message that was asked for: the broker's view of a `basic.get`.
    fn build_pulled(&mut self, leaf: &Member, trunk: &TreeFacts, spans: &mut VecDeque<Span>) {
        let finished = leaf.finished.as_ref();
        let pulled = leaf.passage.as_ref().filter(|passage| passage.pulled);
        let Some(passage) = pulled.filter(|_| finished.operation.shape == OpSide::Relayed) else { return };
        let Some(&arrival) = self.arrivals.get(&passage.edge.parent) else { return };
        let seed = finished.seed(&self.boot_id);
        let span_id = ids::span_id(&seed, SpanEnd::Dwell);
        // It belongs to the message: whoever asked did not know which it would be.
        let own = match self.placement(passage.edge.parent) {
            Some(publish) => Placement { span_id, ..publish.clone() },
            None => Placement {
                trace_id: trunk.trace_id,
                span_id,
                trace_rule: trunk.trace_rule,
                order: trunk.order.clone(),
            },
        };
        let mut identity = Identity::new(own.trace_id, own.span_id);
        self.attach(&mut identity, passage.edge);
        let placed = self.placed(finished, identity, trunk, &own, false);
        let span = build::build_dwell(Some(passage.again_since.unwrap_or(arrival)), &placed);
        self.push(span, leaf, trunk, &own, spans);
    }

    /// A span is finished: what it has in common with other traces is added, what may not leave is taken away.
    fn push(
        &mut self,
        mut span: Span,
        leaf: &Member,
        trunk: &TreeFacts,
        own: &Placement,
        spans: &mut VecDeque<Span>,
    ) {
        let is_of_tree = own.trace_id == trunk.trace_id;
        span.sampled =
            if is_of_tree { trunk.sampled } else { self.sampler.keeps(own.order.as_ref(), own.trace_id) };
        span.sampled &= !leaf.finished.found.is_left_out;
        self.link_kin(&mut span, leaf, trunk, own);
        if own.trace_rule == TraceRule::Order && span.parent.is_none() && span.sampled {
            self.under_root(&mut span, leaf, trunk, spans);
        }
        // A parent is no link as well: back ends with one reference to a span (Jaeger's model) would take the link's for it.
        let (trace_id, parent) = (span.trace_id, span.parent);
        span.links.retain(|link| link.trace_id != trace_id || Some(link.span_id) != parent);
        spans.push_back(self.hidden(span, leaf, trunk));
    }

    /// Puts the root of a tree under its order's own span, where one is wanted, which is exported before the first of them.
    fn under_root(&mut self, span: &mut Span, leaf: &Member, trunk: &TreeFacts, spans: &mut VecDeque<Span>) {
        let Some(roots) = &mut self.roots else { return };
        let span_id = ids::root_span_id(span.trace_id);
        if !roots.contains_key(&span.trace_id) {
            roots.insert(span.trace_id, ());
            let root = build::build_order_root(span, span_id);
            spans.push_back(self.hidden(root, leaf, trunk));
        }
        span.parent = Some(span_id);
    }

    /// Links the root of an order's trace to the order's other traces, and a span to its own order's where that is not its
    /// tree's.
    fn link_kin(&mut self, span: &mut Span, leaf: &Member, trunk: &TreeFacts, own: &Placement) {
        let order = leaf.finished.found.order().or(own.order.as_ref());
        // What trace context names as the parent is nothing of this agent's.
        let is_root = span.evidence.is_none_or(|evidence| evidence.rule == Rule::Context);
        let Some(order) = order.filter(|order| is_root || own.order.as_ref() != Some(*order)) else { return };
        // What is not exported must not be linked to.
        let at = SpanContext { trace_id: span.trace_id, span_id: span.span_id };
        let known = if span.sampled { self.kin.meet(order, at) } else { [None, None] };
        let until = if self.window == Window::Request { 1 } else { known.len() };
        for SpanContext { trace_id, span_id } in known.into_iter().take(until).flatten() {
            span.links.push(link(trace_id, span_id, "order"));
        }
        if is_root && span.sampled && own.order.as_ref() == trunk.order.as_ref() {
            for alias in &trunk.aliases {
                for SpanContext { trace_id, span_id } in self.kin.meet(alias, at).into_iter().flatten() {
                    span.links.push(link(trace_id, span_id, "alias"));
                }
            }
        }
        if let Some(order_trace) = trunk.order_trace.filter(|_| is_root)
            && span.links.iter().all(|link| link.trace_id != order_trace)
        {
            // Nothing of the order's own trace has been exported here: a link would lead nowhere.
            span.attributes.set("spoor.order.trace_id", order_trace.to_string());
        }
    }

    pub(crate) fn placed<'a>(
        &self,
        finished: &'a Finished,
        identity: Identity,
        trunk: &'a TreeFacts,
        own: &Placement,
        observed_from_server: bool,
    ) -> Placed<'a> {
        // An operation that names one order itself belongs to that one, whatever its tree says.
        let order = finished.found.order().or(trunk.order.as_ref());
        Placed {
            op: &finished.operation,
            conn: &finished.conn,
            found: &finished.found,
            resource: Arc::clone(&finished.resource),
            identity,
            order,
            trace_rule: own.trace_rule,
            wire: finished.wire,
            observed_from_server,
            clock: finished.clock,
            transaction_end: self.transaction_end(finished),
            texts: finished.texts.as_deref(),
        }
    }

    pub(crate) fn identity(&self, leaf: &Member, own: &Placement, trunk: &TreeFacts) -> Identity {
        let finished = leaf.finished.as_ref();
        let op = finished.operation.id;
        let mut identity = Identity::new(own.trace_id, own.span_id);
        match leaf.edge {
            // The broker's own agent knows better when the message left, and names the producer.
            Some(edge) if edge.rule == Rule::Message && self.meets(leaf, own, trunk) => {
                self.attach_elsewhere(&mut identity, leaf, trunk);
                if let Some(publish) = self.placement(edge.parent) {
                    identity.links.push(link(publish.trace_id, publish.span_id, edge.rule.name()));
                }
            }
            Some(edge) => {
                self.attach(&mut identity, edge);
                // The processing of a message names its producer too, not only the broker's dwell it is a child of.
                if let Some(publish) =
                    trunk.dwells.get(&edge.parent).and_then(|publish| self.placement(*publish))
                {
                    identity.links.push(link(publish.trace_id, publish.span_id, Rule::Message.name()));
                }
            }
            None => self.attach_elsewhere(&mut identity, leaf, trunk),
        }
        if let Some(publish) = trunk.pulls.get(&op).and_then(|edge| self.placement(edge.parent)) {
            identity.links.push(link(publish.trace_id, publish.span_id, Rule::Message.name()));
        }
        if let Some(crossing) = trunk.crossings.get(&op).filter(|crossing| crossing.sends) {
            let named = own.order.is_some() && crossing.meeting.is_none();
            if let Some(SpanContext { trace_id, span_id }) = self.receiver(finished, crossing, named) {
                identity.links.push(link(trace_id, span_id, Rule::Wire.name()));
            }
        }
        identity
    }

    /// Another agent exports the cause of this operation, in the same trace.
    fn meets(&self, leaf: &Member, own: &Placement, trunk: &TreeFacts) -> bool {
        let crossing = trunk.crossings.get(&leaf.finished.operation.id).filter(|crossing| !crossing.sends);
        let meeting = crossing.and_then(|crossing| crossing.meeting.as_ref());
        meeting.is_some_and(|meeting| meeting.trace_id == own.trace_id)
    }

    /// A cause that this agent does not see: another agent's span, or the one that trace context names.
    fn attach_elsewhere(&self, identity: &mut Identity, leaf: &Member, trunk: &TreeFacts) {
        let finished = leaf.finished.as_ref();
        let crossing = trunk.crossings.get(&finished.operation.id).filter(|crossing| !crossing.sends);
        if let Some(meeting) = crossing.and_then(|crossing| crossing.meeting.as_ref())
            && let Some((sender, evidence)) = self.sender(finished)
        {
            if meeting.trace_id == identity.trace_id {
                identity.parent = Some(sender);
                identity.evidence = Some(evidence);
            } else {
                identity.links.push(link(meeting.trace_id, sender, evidence.rule.name()));
            }
            return;
        }
        if let Some(SpanContext { trace_id, span_id }) =
            self.producer(finished).filter(|_| !trunk.pulls.contains_key(&finished.operation.id))
        {
            identity.links.push(link(trace_id, span_id, Rule::Message.name()));
        }
        if let Some(context) = &finished.found.context {
            if self.context(leaf).is_some() && context.trace_id == identity.trace_id {
                identity.parent = Some(context.parent_id);
                identity.evidence = Some(Evidence { rule: CONTEXT.rule, confidence: CONTEXT.confidence });
            } else {
                identity.links.push(link(context.trace_id, context.parent_id, "context"));
            }
        }
    }

    /// Makes the edge's parent the span's parent, or a link where it is in another trace or not exported.
    fn attach(&self, identity: &mut Identity, edge: Edge) {
        let Some(parent) = self.placement(edge.parent) else { return };
        if parent.span_id == identity.span_id {
            return;
        }
        if parent.trace_id == identity.trace_id {
            identity.parent = Some(parent.span_id);
            identity.evidence = Some(Evidence { rule: edge.rule, confidence: edge.confidence });
        }
        if edge.rule == Rule::Message || parent.trace_id != identity.trace_id {
            identity.links.push(link(parent.trace_id, parent.span_id, edge.rule.name()));
        }
    }
}

fn link(trace_id: TraceId, span_id: SpanId, rule: &str) -> Link {
    let mut attributes = Attributes::default();
    attributes.set("spoor.link.rule", rule);
    Link { trace_id, span_id, attributes }
}
