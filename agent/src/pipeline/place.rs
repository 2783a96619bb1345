//! A released tree in, its spans out: trace identifier, span identifiers, parents, links.
//!
//! *Owns* which operations become spans, which are the other end's view of one, and what late operations inherit.
//! *Must not know* names and attributes of spans, nor how parents were found.
//!
//! An operation seen at both ends of a connection inside one node is two spans for HTTP (client, server), one for a
//! statement or a publish (the client's; the server's view is absorbed), and for a delivery the broker's dwell and the
//! consumer's processing.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::forest::{Leaf, Tree};
use super::{Finished, Settings};
use crate::causality::{Confidence, Edge, Rule};
use crate::operation::amqp::ActionKind;
use crate::operation::{Detail, OpId, Shape};
use crate::order::ids::{self, SpanEnd};
use crate::order::{OrderKey, TraceContext};
use crate::record::{BootNs, Role};
use crate::span::build::{self, Identity, Placed, TraceRule, Work};
use crate::span::pseudonym::Pseudonyms;
use crate::span::sample::Sampler;
use crate::span::{Attributes, Evidence, Link, Span, SpanId, TraceId};

/// What is remembered of each kind for operations that come later than their tree: what a hash table of 131,072 slots
/// holds without growing while entries come and go, and a tree with them.
const REMEMBERED: usize = 53_248;

/// Facts about operations, bounded by number: the oldest are forgotten first.
#[derive(Debug)]
struct Remembered<V> {
    facts: FxHashMap<OpId, V>,
    age: VecDeque<OpId>,
}

impl<V> Default for Remembered<V> {
    fn default() -> Self {
        Self { facts: FxHashMap::default(), age: VecDeque::new() }
    }
}

impl<V> Remembered<V> {
    fn insert(&mut self, op: OpId, fact: V) {
        if self.facts.insert(op, fact).is_none() {
            self.age.push_back(op);
        }
    }

    /// Keeps to the bound. Not while a tree is placed: a large one would lose spans of its own.
    fn forget_oldest(&mut self) {
        let over = self.age.len().saturating_sub(REMEMBERED);
        for oldest in self.age.drain(..over) {
            self.facts.remove(&oldest);
        }
    }

    fn get(&self, op: OpId) -> Option<&V> {
        self.facts.get(&op)
    }

    fn remove(&mut self, op: OpId) -> Option<V> {
        self.facts.remove(&op)
    }
}

/// Where an operation ended up.
#[derive(Clone, Debug)]
struct Placement {
    trace_id: TraceId,
    span_id: SpanId,
    trace_rule: TraceRule,
    order: Option<OrderKey>,
}

/// Whose trace context is honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    All,
    /// Written by a process this agent sees.
    Covered,
    None,
}

/// Gives trees their identifiers.
#[derive(Debug)]
pub(super) struct Placer {
    deployment: String,
    window: std::time::Duration,
    boot_id: [u8; 16],
    trust: Trust,
    pub(super) sampler: Sampler,
    pub(super) pseudonyms: Option<Pseudonyms>,
    placements: Remembered<Placement>,
    /// Those of publishes: a message may wait in its queue for long.
    publishes: Remembered<Placement>,
    /// When the broker had read a publish: the start of its dwell.
    arrivals: Remembered<BootNs>,
    /// What an operation released while open will be a child of.
    pending_edges: Remembered<Edge>,
}

/// What all spans of a tree have in common.
pub(super) struct Trunk {
    trace_id: TraceId,
    trace_rule: TraceRule,
    pub(super) order: Option<OrderKey>,
    /// The order's own trace, where in-band context put the tree into another.
    order_trace: Option<TraceId>,
    /// Broker's deliveries of this tree that become a dwell, with their publish.
    dwells: FxHashMap<OpId, OpId>,
    /// What is known of the work that operations of this tree caused.
    work: FxHashMap<OpId, Work>,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    None,
    /// A span of its own.
    Span,
    /// The server's view of an operation whose client is not seen: a span, marked.
    Observed,
    /// The other end's view of the operation given: no span.
    Absorbed(OpId),
    /// The broker's view of a delivery: a dwell, when the publish is known.
    Dwell { publish: Option<OpId>, consumed: bool },
}

impl Placer {
    pub(super) fn new(settings: &Settings) -> Self {
        let trust = match settings.joining.trusted_context.as_str() {
            "all" => Trust::All,
            "none" => Trust::None,
            _ => Trust::Covered,
        };
        Self {
            deployment: settings.order.deployment.clone(),
            window: settings.order.window,
            boot_id: settings.boot_id,
            trust,
            sampler: Sampler::default(),
            pseudonyms: None,
            placements: Remembered::default(),
            publishes: Remembered::default(),
            arrivals: Remembered::default(),
            pending_edges: Remembered::default(),
        }
    }

    /// Identifiers from now on.
    pub(super) fn set_order(&mut self, order: &crate::config::Order) {
        self.deployment.clone_from(&order.deployment);
        self.window = order.window;
    }

    /// Places every operation of a tree and builds its spans, parents before children.
    pub(super) fn place(&mut self, mut tree: Tree, spans: &mut VecDeque<Span>) {
        for leaf in &mut tree.finished {
            let pending = self.pending_edges.remove(leaf.finished.operation.id);
            leaf.edge = leaf.edge.or(pending);
        }
        let leaves = tree.finished;
        let Some(mut trunk) = self.trunk(&leaves) else { return };
        let fates: Vec<Fate> = leaves.iter().map(|leaf| self.fate(leaf, &leaves)).collect();
        for (leaf, fate) in leaves.iter().zip(&fates) {
            match fate {
                // Neither may be named as a parent: no span of theirs is exported.
                Fate::None | Fate::Absorbed(_) | Fate::Dwell { publish: None, consumed: true } => {}
                Fate::Dwell { publish: Some(publish), .. } => {
                    trunk.dwells.insert(leaf.finished.operation.id, *publish);
                    self.remember(leaf, *fate, &trunk);
                }
                _ => self.remember(leaf, *fate, &trunk),
            }
        }
        for (leaf, fate) in leaves.iter().zip(&fates) {
            if let Fate::Absorbed(by) = fate
                && let Some(placement) = self.placement(*by).cloned()
            {
                self.insert(leaf, placement);
            }
        }
        for (op, edge) in tree.open {
            if let Some(edge) = edge {
                self.pending_edges.insert(op, edge);
            }
        }
        let before = spans.len();
        for (leaf, fate) in leaves.iter().zip(&fates) {
            self.build(leaf, *fate, &trunk, spans);
        }
        if !self.sampler.keeps(trunk.order.as_ref(), trunk.trace_id) {
            spans.range_mut(before..).for_each(|span| span.sampled = false);
        }
        for leaf in &leaves {
            let operation = &leaf.finished.operation;
            if operation.shape == Shape::Relayed && is_publish(leaf) {
                self.arrivals.insert(operation.id, operation.request.end.at);
            }
        }
        self.placements.forget_oldest();
        self.publishes.forget_oldest();
        self.arrivals.forget_oldest();
        self.pending_edges.forget_oldest();
    }

    fn fate(&self, leaf: &Leaf, leaves: &[Leaf]) -> Fate {
        let operation = &leaf.finished.operation;
        // The server skipped it after an error: it was asked for and never done.
        if matches!(&operation.detail, Detail::Postgres(statement) if statement.skipped) {
            return Fate::None;
        }
        if operation.shape != Shape::Relayed {
            return Fate::Span;
        }
        if is_delivery(leaf) {
            let publish = leaf
                .edge
                .filter(|edge| edge.rule == Rule::Message && self.arrivals.get(edge.parent).is_some())
                .map(|edge| edge.parent);
            let consumed = leaves.iter().any(|other| {
                other.edge.is_some_and(|edge| edge.rule == Rule::Wire && edge.parent == operation.id)
            });
            return Fate::Dwell { publish, consumed };
        }
        match leaf.edge.filter(|edge| edge.rule == Rule::Wire) {
            Some(edge) => Fate::Absorbed(edge.parent),
            None => Fate::Observed,
        }
    }

    fn trunk(&self, leaves: &[Leaf]) -> Option<Trunk> {
        let first = leaves.first()?;
        let start_unix_ns = unix_ns(&first.finished);
        let order = named_order(leaves);
        let mut trunk = Trunk {
            trace_id: TraceId([0; 16]),
            trace_rule: TraceRule::Wire,
            order,
            order_trace: None,
            dwells: FxHashMap::default(),
            work: work(leaves),
        };
        // A tree that continues one that was released already stays with it.
        let inherited = leaves.iter().find_map(|leaf| {
            let edge = leaf.edge.filter(|edge| edge.rule != Rule::Message)?;
            self.placement(edge.parent)
        });
        if let Some(placement) = inherited {
            trunk.trace_id = placement.trace_id;
            trunk.trace_rule = placement.trace_rule;
            trunk.order = trunk.order.or_else(|| placement.order.clone());
            return Some(trunk);
        }
        let own = trunk
            .order
            .as_ref()
            .map(|order| self.shown(order))
            .map(|order| ids::trace_id_from_order(&self.deployment, &order, self.window, start_unix_ns));
        if let Some(context) = leaves.iter().find_map(|leaf| self.context(leaf)) {
            trunk.trace_id = context.trace_id;
            trunk.trace_rule = TraceRule::Context;
            trunk.order_trace = own;
            return Some(trunk);
        }
        if let Some(trace_id) = own {
            trunk.trace_id = trace_id;
            trunk.trace_rule = TraceRule::Order;
            return Some(trunk);
        }
        let producer = leaves.iter().find_map(|leaf| {
            let edge = leaf.edge.filter(|edge| edge.rule == Rule::Message)?;
            self.placement(edge.parent)
        });
        if let Some(placement) = producer {
            trunk.trace_id = placement.trace_id;
            trunk.trace_rule = placement.trace_rule;
            trunk.order.clone_from(&placement.order);
            return Some(trunk);
        }
        let root = ids::identity(&first.finished.conn, &first.finished.operation, &self.boot_id);
        trunk.trace_id = ids::trace_id_from_wire(&root);
        Some(trunk)
    }

    /// Context in the operation's own bytes, if it is honoured.
    fn context<'a>(&self, leaf: &'a Leaf) -> Option<&'a TraceContext> {
        let context = leaf.finished.found.context.as_ref()?;
        let written_here = leaf.finished.operation.shape == Shape::Outgoing
            || leaf.edge.is_some_and(|edge| matches!(edge.rule, Rule::Wire | Rule::Message));
        match self.trust {
            Trust::All => Some(context),
            Trust::Covered => written_here.then_some(context),
            Trust::None => None,
        }
    }

    fn remember(&mut self, leaf: &Leaf, fate: Fate, trunk: &Trunk) {
        let finished = &leaf.finished;
        let identity = ids::identity(&finished.conn, &finished.operation, &self.boot_id);
        let end = match fate {
            Fate::Dwell { publish: Some(_), .. } => SpanEnd::Dwell,
            _ => span_end(finished),
        };
        let placement = Placement {
            trace_id: trunk.trace_id,
            span_id: ids::span_id(&identity, end),
            trace_rule: trunk.trace_rule,
            order: trunk.order.clone(),
        };
        self.insert(leaf, placement);
    }

    fn insert(&mut self, leaf: &Leaf, placement: Placement) {
        let table = if is_publish(leaf) { &mut self.publishes } else { &mut self.placements };
        table.insert(leaf.finished.operation.id, placement);
    }

    fn placement(&self, op: OpId) -> Option<&Placement> {
        self.placements.get(op).or_else(|| self.publishes.get(op))
    }

    fn build(&self, leaf: &Leaf, fate: Fate, trunk: &Trunk, spans: &mut VecDeque<Span>) {
        let finished = leaf.finished.as_ref();
        let op = finished.operation.id;
        let Some(own) = self.placement(op).cloned() else { return };
        match fate {
            Fate::None | Fate::Absorbed(_) => {}
            Fate::Span | Fate::Observed => {
                let identity = self.identity(leaf, own.span_id, trunk);
                let is_root = identity.parent.is_none();
                let work = trunk.work.get(&op).copied().unwrap_or_default();
                let placed = self.placed(finished, identity, trunk, fate == Fate::Observed);
                let mut span = build::build_with(&placed, work);
                if let Some(order_trace) = trunk.order_trace.filter(|_| is_root) {
                    span.attributes.set("spoor.order.trace_id", order_trace.to_string());
                }
                spans.push_back(self.hidden(span, leaf, trunk));
            }
            Fate::Dwell { publish, consumed } => {
                let arrival = publish.and_then(|publish| self.arrivals.get(publish).copied());
                if let Some(arrival) = arrival {
                    let identity = self.identity(leaf, own.span_id, trunk);
                    let placed = self.placed(finished, identity, trunk, false);
                    spans.push_back(self.hidden(build::build_dwell(arrival, &placed), leaf, trunk));
                }
                if !consumed {
                    let wire = ids::identity(&finished.conn, &finished.operation, &self.boot_id);
                    // Not the consumer's own identifier: its span may still come, from here or from another node.
                    let mut identity = self.identity(leaf, ids::span_id(&wire, SpanEnd::Server), trunk);
                    if arrival.is_some() {
                        identity.parent = Some(own.span_id);
                    }
                    let span = build::build(&self.placed(finished, identity, trunk, true));
                    spans.push_back(self.hidden(span, leaf, trunk));
                }
            }
        }
    }

    fn placed<'a>(
        &self,
        finished: &'a Finished,
        identity: Identity,
        trunk: &'a Trunk,
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
            trace_rule: trunk.trace_rule,
            wire: finished.wire,
            observed_from_server,
            clock: finished.clock,
        }
    }

    fn identity(&self, leaf: &Leaf, span_id: SpanId, trunk: &Trunk) -> Identity {
        let mut identity =
            Identity { trace_id: trunk.trace_id, span_id, parent: None, evidence: None, links: Vec::new() };
        match leaf.edge {
            Some(edge) => {
                self.attach(&mut identity, edge);
                // The processing of a message names its producer too, not only the broker's dwell it is a child of.
                if let Some(publish) =
                    trunk.dwells.get(&edge.parent).and_then(|publish| self.placement(*publish))
                {
                    identity.links.push(link(publish.trace_id, publish.span_id, Rule::Message.name()));
                }
            }
            None => {
                if let Some(context) = &leaf.finished.found.context {
                    if self.context(leaf).is_some() && context.trace_id == trunk.trace_id {
                        identity.parent = Some(context.parent_id);
                        identity.evidence =
                            Some(Evidence { rule: Rule::Context, confidence: Confidence(1.0) });
                    } else {
                        identity.links.push(link(context.trace_id, context.parent_id, "context"));
                    }
                }
            }
        }
        identity
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

fn is_publish(leaf: &Leaf) -> bool {
    matches!(&leaf.finished.operation.detail, Detail::Amqp(action) if matches!(action.kind, ActionKind::Publish(_)))
}

fn is_delivery(leaf: &Leaf) -> bool {
    matches!(&leaf.finished.operation.detail, Detail::Amqp(action) if matches!(action.kind, ActionKind::Deliver(_)))
}

/// When each operation's children began and ended: a delivery's work, as far as it shows.
fn work(leaves: &[Leaf]) -> FxHashMap<OpId, Work> {
    let mut work: FxHashMap<OpId, Work> = FxHashMap::default();
    for leaf in leaves {
        // A settlement ends the work, it is no evidence of its beginning.
        let settles = matches!(&leaf.finished.operation.detail, Detail::Amqp(action) if matches!(action.kind, ActionKind::Settle(_)));
        if let Some(edge) = leaf.edge.filter(|edge| edge.rule != Rule::Wire && !settles) {
            let operation = &leaf.finished.operation;
            let known = work.entry(edge.parent).or_default();
            let started = operation.request.start.at;
            known.started_at = Some(known.started_at.map_or(started, |at| at.min(started)));
            known.last_at = known.last_at.max(Some(operation.ended_at));
        }
    }
    work
}

/// The one order a tree belongs to: the only one its operations name, else the one its root names.
fn named_order(leaves: &[Leaf]) -> Option<OrderKey> {
    let mut named = leaves.iter().filter_map(|leaf| leaf.finished.found.order());
    let first = named.next()?;
    if named.all(|other| other == first) {
        return Some(first.clone());
    }
    leaves.first().and_then(|root| root.finished.found.order()).cloned()
}

fn span_end(finished: &Finished) -> SpanEnd {
    match finished.operation.role {
        Role::Client => SpanEnd::Client,
        Role::Server => SpanEnd::Server,
    }
}

fn unix_ns(finished: &Finished) -> u64 {
    let at = finished.operation.request.start.at;
    let clock = finished.clock;
    if at >= clock.boot_ns {
        clock.unix_ns.saturating_add(at - clock.boot_ns)
    } else {
        clock.unix_ns.saturating_sub(clock.boot_ns - at)
    }
}

fn link(trace_id: TraceId, span_id: SpanId, rule: &str) -> Link {
    let mut attributes = Attributes::default();
    attributes.set("spoor.link.rule", rule);
    Link { trace_id, span_id, attributes }
}
