//! A released tree → its spans: trace identifier, span identifiers, parents, links.
//!
//! *Owns* which operations become spans, which are the other end's view of one, and what late operations inherit.
//! *Must not know* names and attributes of spans, nor how parents were found.
//!
//! An operation seen at both ends of a connection inside one node is two spans for HTTP (client, server), one for a
//! statement or a publish (the client's; the server's view is absorbed), and for a delivery the broker's dwell and the
//! consumer's processing.
//!
//! Long because what a tree has in common and what becomes of each of its operations decide each other.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::bounded::Bounded;
use crate::causality::settings::{Joining, TrustedContext};
use crate::causality::{Edge, Rule};
use crate::conn::ConnInfo;
use crate::operation::amqp::ActionKind;
use crate::operation::postgres::{TransactionEnd, TransactionNumber};
use crate::operation::{Detail, OpSide, Operation};
use crate::order::ids::{self, SpanEnd};
use crate::order::window::Window;
use crate::order::{self, OrderKey, TraceContext};
use crate::privacy::pseudonym::Pseudonyms;
use crate::record::{ConnId, OpId, Role};
use crate::span::Span;
use crate::span::build::{TraceRule, Work};
use crate::span::sample::Sampler;
use crate::time::{BootTime, WallTime};
use crate::trace::{SpanId, TraceId};
use crate::trees::agents::{OtherAgents, RemoteEnd};
use crate::trees::apart;
use crate::trees::hold::{Member, Tree};
use crate::trees::orders::Orders;
use crate::trees::{Finished, REMEMBERED, Stats};

/// Where an operation ended up.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) trace_rule: TraceRule,
    pub(crate) order: Option<OrderKey>,
}

/// What identifiers depend on.
pub(crate) struct Settings<'a> {
    pub(crate) joining: &'a Joining,
    pub(crate) order: &'a order::settings::Order,
    /// Identifies this boot of this machine: part of identifiers that no other node can compute.
    pub(crate) boot_id: [u8; 16],
}

/// Gives trees their identifiers.
#[derive(Debug)]
pub(crate) struct Identifier {
    pub(crate) deployment: String,
    pub(crate) window: Window,
    pub(crate) boot_id: [u8; 16],
    trust: TrustedContext,
    pub(crate) elsewhere: OtherAgents,
    pub(crate) kin: Orders,
    pub(crate) sampler: Sampler,
    pub(crate) pseudonyms: Option<Pseudonyms>,
    placements: Bounded<OpId, Placement>,
    /// Those of publishes: a message may wait in its queue for long.
    publishes: Bounded<OpId, Placement>,
    /// When the broker had read a publish: the start of its dwell.
    pub(crate) arrivals: Bounded<OpId, BootTime>,
    /// What an operation released while open will be a child of.
    pub(crate) pending_edges: Bounded<OpId, Edge>,
    /// How transaction blocks ended, by connection and number.
    transactions: Bounded<(ConnId, TransactionNumber), TransactionEnd>,
    /// Traces whose root span was exported; `None` where none is wanted.
    pub(crate) roots: Option<Bounded<TraceId, ()>>,
}

/// What all spans of a tree have in common.
#[derive(Debug)]
pub(crate) struct TreeFacts {
    pub(crate) trace_id: TraceId,
    pub(crate) trace_rule: TraceRule,
    pub(crate) order: Option<OrderKey>,
    /// The order's own trace, where in-band context put the tree into another.
    pub(crate) order_trace: Option<TraceId>,
    /// Broker's deliveries of this tree that become a dwell, with their publish.
    pub(crate) dwells: FxHashMap<OpId, OpId>,
    /// What is known of the work that operations of this tree caused.
    pub(crate) work: FxHashMap<OpId, Work>,
    /// The same order as other systems number it.
    pub(crate) aliases: Vec<OrderKey>,
    /// Operations whose other end another agent sees.
    pub(crate) crossings: FxHashMap<OpId, RemoteEnd>,
    /// Messages that were asked for: the client's operation, and the edge to the publish.
    pub(crate) pulls: FxHashMap<OpId, Edge>,
    pub(crate) sampled: bool,
}

/// A tree whose spans are being built.
#[derive(Debug)]
pub(crate) struct Placing {
    /// Parts of it that are in other traces, not looked at yet.
    parts: VecDeque<Vec<Member>>,
    /// What is known of the work that operations of parts not looked at yet caused, in whichever part that is.
    work: FxHashMap<OpId, Work>,
    /// What is left of the part whose spans are being built.
    left: VecDeque<(Member, Output)>,
    facts: Option<TreeFacts>,
    /// Bytes of the operations that are left.
    bytes: usize,
}

impl Placing {
    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Operations that are left.
    pub(crate) fn left(&self) -> usize {
        self.left.len() + self.parts.iter().map(Vec::len).sum::<usize>()
    }
}

/// Aliases of a tree that are looked at.
const MAX_ALIASES: usize = 4;

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Nothing.
    None,
    /// A span of its own.
    Span,
    /// The server's view of an operation whose client is not seen: a span, marked.
    Observed,
    /// The other end's view of the operation given: no span.
    Absorbed(OpId),
    /// The server's view of an operation whose client another agent sees: no span.
    Elsewhere,
    /// The broker's view of a delivery: a dwell, when the publish is known, or when another agent will name it.
    Dwell { publish: Option<OpId>, consumed: bool, awaited: bool },
}

impl Identifier {
    pub(crate) fn new(settings: Settings<'_>) -> Self {
        let trust = match settings.joining.rules.contains(&Rule::Context) {
            true => settings.joining.trusted_context,
            false => TrustedContext::None,
        };
        Self {
            deployment: settings.order.deployment.clone(),
            window: settings.order.window,
            boot_id: settings.boot_id,
            trust,
            elsewhere: OtherAgents::new(settings.joining),
            kin: Orders::default(),
            sampler: Sampler::default(),
            pseudonyms: None,
            placements: Bounded::new(REMEMBERED),
            publishes: Bounded::new(REMEMBERED),
            arrivals: Bounded::new(REMEMBERED),
            pending_edges: Bounded::new(REMEMBERED),
            transactions: Bounded::new(REMEMBERED),
            roots: None,
        }
    }

    /// What was forgotten at the bounds of its tables.
    pub(crate) fn stats(&self) -> Stats {
        let (ends, messages) = self.elsewhere.forgotten();
        Stats {
            placements: self.placements.forgotten().saturating_add(self.publishes.forgotten()),
            arrivals: self.arrivals.forgotten(),
            pending_edges: self.pending_edges.forgotten(),
            orders: self.kin.forgotten(),
            ends,
            messages,
            roots: self.roots.as_ref().map_or(0, Bounded::forgotten),
            transactions: self.transactions.forgotten(),
        }
    }

    /// An operation is over: what it says of others that wait for their spans.
    pub(crate) fn learn(&mut self, conn: &ConnInfo, operation: &Operation) {
        if let Detail::Postgres(statement) = &operation.detail
            && let (Some(block), Some(how)) = (statement.transaction, statement.ends)
        {
            self.transactions.add((conn.conn.id, block.number), how);
        }
    }

    /// What became of the transaction block of a statement.
    pub(crate) fn transaction_end(&self, finished: &Finished) -> Option<TransactionEnd> {
        let Detail::Postgres(statement) = &finished.operation.detail else { return None };
        // The end itself may be all that is left of it.
        let known = self.transactions.get(&(finished.conn.conn.id, statement.transaction?.number));
        statement.ends.or(known.copied())
    }

    /// Identifiers from now on.
    pub(crate) fn set_order(&mut self, order: &order::settings::Order) {
        self.deployment.clone_from(&order.deployment);
        self.window = order.window;
    }

    /// Whether an order's trees stand under one span, from now on.
    pub(crate) fn set_order_root(&mut self, wanted: bool) {
        self.roots = wanted.then(|| self.roots.take().unwrap_or_else(|| Bounded::new(REMEMBERED)));
    }

    /// Places every operation of a tree. Its spans are built one after the other, parents before children: a tree may be as large as
    /// memory allows, and its spans are larger.
    pub(crate) fn place(&mut self, mut tree: Tree) -> Placing {
        for leaf in &mut tree.finished {
            let pending = self.pending_edges.remove(&leaf.finished.operation.id);
            leaf.edge = leaf.edge.or(pending);
        }
        for (op, edge) in tree.open {
            if let Some(edge) = edge {
                self.pending_edges.add(op, edge);
            }
        }
        let work = work(&tree.finished);
        let has_context = tree.finished.iter().any(|leaf| self.context(leaf).is_some());
        let parts = if has_context && self.window != Window::Request {
            apart::split(tree.finished).into_iter().collect()
        } else {
            VecDeque::from([tree.finished])
        };
        Placing { parts, work, left: VecDeque::new(), facts: None, bytes: tree.bytes }
    }

    /// Builds the spans of the next operation of a tree. Returns whether there may be more.
    pub(crate) fn build_next(&mut self, placing: &mut Placing, spans: &mut VecDeque<Span>) -> bool {
        while placing.left.is_empty() {
            let Some(part) = placing.parts.pop_front() else {
                // Not before: a large tree would lose spans of its own.
                self.trim();
                return false;
            };
            self.place_part(part, placing);
        }
        let (Some((leaf, fate)), Some(facts)) = (placing.left.pop_front(), &placing.facts) else {
            return true;
        };
        placing.bytes = placing.bytes.saturating_sub(leaf.bytes);
        self.build(&leaf, fate, facts, spans);
        let operation = &leaf.finished.operation;
        if operation.shape == OpSide::Relayed && leaf.finished.is_publish() {
            self.arrivals.add(operation.id, operation.request.end.at);
        }
        true
    }

    /// Places the operations of a tree that are in one trace.
    fn place_part(&mut self, leaves: Vec<Member>, placing: &mut Placing) {
        let Some((mut trunk, met)) = self.facts(&leaves) else { return };
        let caused = leaves.iter().filter_map(|leaf| placing.work.remove_entry(&leaf.finished.operation.id));
        trunk.work = caused.collect();
        let fates: Vec<Output> = leaves.iter().map(|leaf| self.fate(leaf, &met, &trunk)).collect();
        for (leaf, fate) in leaves.iter().zip(&fates) {
            match fate {
                // Neither may be named as a parent: no span of theirs is exported.
                Output::None
                | Output::Absorbed(_)
                | Output::Dwell { publish: None, consumed: true, awaited: false } => {}
                Output::Elsewhere => self.remember_elsewhere(leaf, &trunk),
                Output::Dwell { publish: Some(publish), .. } => {
                    trunk.dwells.insert(leaf.finished.operation.id, *publish);
                    self.remember(leaf, *fate, &trunk);
                }
                _ => self.remember(leaf, *fate, &trunk),
            }
        }
        for (leaf, fate) in leaves.iter().zip(&fates) {
            if let Output::Absorbed(by) = fate
                && let Some(placement) = self.placement(*by).cloned()
            {
                self.insert(leaf, placement);
            }
        }
        placing.left = leaves.into_iter().zip(fates).collect();
        placing.facts = Some(trunk);
    }

    /// What the operations of a tree that are in one trace have in common, and those whose other end is in the tree too.
    pub(crate) fn facts(&self, leaves: &[Member]) -> Option<(TreeFacts, FxHashSet<OpId>)> {
        let mut trunk = self.trunk(leaves)?;
        let by_wire =
            |leaf: &Member| leaf.edge.filter(|edge| edge.rule == Rule::Wire).map(|edge| edge.parent);
        let met: FxHashSet<OpId> = leaves.iter().filter_map(by_wire).collect();
        for leaf in leaves {
            let op = leaf.finished.operation.id;
            let is_met = met.contains(&op) || by_wire(leaf).is_some();
            if let Some(crossing) = self.crossing(&leaf.finished, is_met) {
                trunk.crossings.insert(op, crossing);
            }
            if let Some(passage) = leaf.passage.as_ref().filter(|passage| passage.pulled) {
                // What the broker itself saw is better than what its client's agent concluded.
                match by_wire(leaf) {
                    Some(client) => trunk.pulls.insert(client, passage.edge),
                    None => Some(*trunk.pulls.entry(op).or_insert(passage.edge)),
                };
            }
        }
        Some((trunk, met))
    }

    /// Keeps to the bounds.
    fn trim(&mut self) {
        self.placements.trim();
        self.publishes.trim();
        self.arrivals.trim();
        self.pending_edges.trim();
        self.transactions.trim();
    }

    pub(crate) fn fate(&self, leaf: &Member, met: &FxHashSet<OpId>, trunk: &TreeFacts) -> Output {
        let operation = &leaf.finished.operation;
        if leaf.finished.is_left_out {
            return Output::None;
        }
        // The server skipped it after an error: it was asked for and never done.
        if matches!(&operation.detail, Detail::Postgres(statement) if statement.skipped) {
            return Output::None;
        }
        if operation.shape != OpSide::Relayed {
            return Output::Span;
        }
        let crossing = trunk.crossings.get(&operation.id);
        if leaf.finished.is_delivery() {
            let publish = leaf
                .edge
                .filter(|edge| edge.rule == Rule::Message && self.arrivals.contains_key(&edge.parent))
                .map(|edge| edge.parent);
            return Output::Dwell {
                publish,
                consumed: crossing.is_some() || met.contains(&operation.id),
                awaited: crossing.is_some_and(|crossing| crossing.meeting.is_some()),
            };
        }
        match leaf.edge.filter(|edge| edge.rule == Rule::Wire) {
            Some(edge) => Output::Absorbed(edge.parent),
            None if crossing.is_some() => Output::Elsewhere,
            None => Output::Observed,
        }
    }

    fn trunk(&self, leaves: &[Member]) -> Option<TreeFacts> {
        let first = leaves.first()?;
        let started = first.finished.started();
        let order = named_order(leaves);
        let mut trunk = TreeFacts {
            trace_id: TraceId([0; 16]),
            trace_rule: TraceRule::Wire,
            order,
            order_trace: None,
            dwells: FxHashMap::default(),
            work: FxHashMap::default(),
            aliases: Vec::new(),
            crossings: FxHashMap::default(),
            pulls: FxHashMap::default(),
            sampled: true,
        };
        self.choose_trace(&mut trunk, leaves, started);
        if let Some(order) = &trunk.order {
            trunk.aliases = aliases(order, leaves);
        }
        trunk.sampled = self.sampler.keeps(trunk.order.as_ref(), trunk.trace_id);
        Some(trunk)
    }

    /// Which trace a tree is in, and why.
    fn choose_trace(&self, trunk: &mut TreeFacts, leaves: &[Member], started: WallTime) {
        // A tree that continues one that was released already stays with it.
        let inherited = leaves.iter().find_map(|leaf| {
            let edge = leaf.edge.filter(|edge| edge.rule != Rule::Message)?;
            let keeps_apart = self.window != Window::Request && apart::names_its_order(leaf);
            let placement = self.placement(edge.parent)?;
            (placement.trace_rule != TraceRule::Context || !keeps_apart).then_some(placement)
        });
        if let Some(placement) = inherited {
            trunk.trace_id = placement.trace_id;
            trunk.trace_rule = placement.trace_rule;
            trunk.order = trunk.order.take().or_else(|| placement.order.clone());
            return;
        }
        let named = trunk.order.as_ref().filter(|_| self.window != Window::Request);
        let own = named
            .map(|order| self.shown(order))
            .map(|order| ids::trace_id_from_order(&self.deployment, &order, self.window.length(), started));
        if let Some(context) = leaves.iter().find_map(|leaf| self.context(leaf)) {
            trunk.trace_id = context.trace_id;
            trunk.trace_rule = TraceRule::Context;
            trunk.order_trace = own;
            return;
        }
        if let Some(trace_id) = own {
            trunk.trace_id = trace_id;
            trunk.trace_rule = TraceRule::Order;
            return;
        }
        let producer = leaves.iter().find_map(|leaf| {
            let edge = leaf.edge.filter(|edge| edge.rule == Rule::Message)?;
            self.placement(edge.parent)
        });
        if let Some(placement) = producer {
            trunk.trace_id = placement.trace_id;
            trunk.trace_rule = placement.trace_rule;
            trunk.order = trunk.order.take().or_else(|| placement.order.clone());
            return;
        }
        if let Some(first) = leaves.first() {
            let root = first.finished.seed(&self.boot_id);
            trunk.trace_id = ids::trace_id_from_wire(&root);
        }
    }

    /// Context in the operation's own bytes, if it is honoured.
    pub(crate) fn context<'a>(&self, leaf: &'a Member) -> Option<&'a TraceContext> {
        let context = leaf.finished.found.context.as_ref()?;
        let written_here = leaf.finished.operation.shape == OpSide::Outgoing
            || leaf.edge.is_some_and(|edge| matches!(edge.rule, Rule::Wire | Rule::Message))
            || self.crossing(&leaf.finished, false).is_some();
        match self.trust {
            TrustedContext::All => Some(context),
            TrustedContext::Covered => written_here.then_some(context),
            TrustedContext::None => None,
        }
    }

    /// Contexts that other agents' processes wrote are honoured.
    pub(crate) fn trusts_agents(&self) -> bool {
        self.trust != TrustedContext::None
    }

    fn remember(&mut self, leaf: &Member, fate: Output, trunk: &TreeFacts) {
        let own = self.own_message_span(&leaf.finished);
        let placement = self.place_of(leaf, fate, trunk, own);
        self.insert(leaf, placement);
    }

    /// Where an operation's span is; `own`: that of the message, where the operation has it.
    pub(crate) fn place_of(
        &self,
        leaf: &Member,
        fate: Output,
        trunk: &TreeFacts,
        own: Option<SpanId>,
    ) -> Placement {
        let finished = &leaf.finished;
        let identity = finished.seed(&self.boot_id);
        let end = match fate {
            Output::Dwell { publish, awaited, .. } if awaited || publish.is_some() => SpanEnd::Dwell,
            _ => span_end(finished),
        };
        let span_id = own.unwrap_or_else(|| ids::span_id(&identity, end));
        let mut placement = Placement {
            trace_id: trunk.trace_id,
            span_id,
            trace_rule: trunk.trace_rule,
            order: trunk.order.clone(),
        };
        // The other agent looks for it where its own bytes say, whatever this tree is about.
        let crossing = trunk.crossings.get(&finished.operation.id).filter(|crossing| crossing.sends);
        if let Some(meeting) = crossing.and_then(|crossing| crossing.meeting.as_ref())
            && meeting.trace_id != placement.trace_id
        {
            placement.trace_id = meeting.trace_id;
            placement.trace_rule = meeting.rule;
            placement.order = meeting.order.clone().or(placement.order);
        }
        placement
    }

    /// Where the other agent's span of this operation is.
    fn remember_elsewhere(&mut self, leaf: &Member, trunk: &TreeFacts) {
        let crossing = trunk.crossings.get(&leaf.finished.operation.id);
        if let Some(meeting) = crossing.and_then(|crossing| crossing.meeting.as_ref())
            && let Some((span_id, _)) = self.sender(&leaf.finished)
        {
            let (trace_id, trace_rule) = (meeting.trace_id, meeting.rule);
            self.insert(leaf, Placement { trace_id, span_id, trace_rule, order: meeting.order.clone() });
        }
    }

    fn insert(&mut self, leaf: &Member, placement: Placement) {
        let table = if leaf.finished.is_publish() { &mut self.publishes } else { &mut self.placements };
        table.add(leaf.finished.operation.id, placement);
    }

    pub(crate) fn placement(&self, op: OpId) -> Option<&Placement> {
        self.placements.get(&op).or_else(|| self.publishes.get(&op))
    }
}

/// When each operation's children began and ended: a delivery's work, as far as it shows.
fn work(leaves: &[Member]) -> FxHashMap<OpId, Work> {
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
fn named_order(leaves: &[Member]) -> Option<OrderKey> {
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

/// Keys of further namespaces that operations carry together with the order's own.
fn aliases(order: &OrderKey, leaves: &[Member]) -> Vec<OrderKey> {
    let mut aliases: Vec<OrderKey> = Vec::new();
    for found in leaves.iter().map(|leaf| &leaf.finished.found).filter(|found| found.keys.len() > 1) {
        if found.order() != Some(order) {
            continue;
        }
        let others = found.keys.iter().filter(|key| key.namespace != order.namespace);
        for key in others {
            if aliases.len() < MAX_ALIASES && !aliases.contains(key) {
                aliases.push(key.clone());
            }
        }
    }
    aliases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::Confidence;
    use crate::time::ns;
    use crate::trees::hold::tests::finished;

    #[test]
    fn work_that_its_order_keeps_apart_is_still_the_work_of_its_cause() {
        let (joining, order) = (Joining::default(), order::settings::Order::default());
        let mut identifier = Identifier::new(Settings { joining: &joining, order: &order, boot_id: [1; 16] });
        let member = |op, at, parent: Option<u64>| {
            let mut finished = finished(op);
            finished.operation.request.start.at = ns(at);
            finished.operation.ended_at = ns(at + 5);
            let (rule, confidence) = (Rule::Value, Confidence(0.97));
            let edge = parent.map(|parent| Edge { child: OpId(op), parent: OpId(parent), rule, confidence });
            Member { finished, edge, passage: None, bytes: 0 }
        };
        let (mut cause, mut work) = (member(1, 10, None), member(2, 20, Some(1)));
        let (trace_id, parent_id) = (TraceId([3; 16]), SpanId([3; 8]));
        cause.finished.found.context = Some(TraceContext { trace_id, parent_id, header: "traceparent" });
        work.finished.found.keys = vec![OrderKey { namespace: "order".into(), value: "17".into() }];
        let mut placing = identifier.place(Tree { finished: vec![cause, work], ..Tree::default() });
        assert_eq!(placing.parts.len(), 2);
        let mut parts = std::mem::take(&mut placing.parts);
        identifier.place_part(parts.pop_front().unwrap(), &mut placing);
        let known = placing.facts.as_ref().and_then(|facts| facts.work.get(&OpId(1)).copied()).unwrap();
        assert_eq!((known.started_at, known.last_at), (Some(ns(20)), Some(ns(25))));
    }

    #[test]
    fn its_tables_are_bounded_and_what_they_forget_is_counted() {
        let (joining, order) = (Joining::default(), order::settings::Order::default());
        let mut identifier = Identifier::new(Settings { joining: &joining, order: &order, boot_id: [1; 16] });
        let op = |n: usize| OpId(n as u64);
        let placement = Placement {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([1; 8]),
            trace_rule: TraceRule::Wire,
            order: None,
        };
        for n in 0..REMEMBERED + 1 {
            identifier.placements.add(op(n), placement.clone());
        }
        for n in 0..REMEMBERED + 2 {
            identifier.publishes.add(op(n), placement.clone());
        }
        for n in 0..REMEMBERED + 4 {
            identifier.arrivals.add(op(n), BootTime::ZERO);
        }
        let edge = |n| Edge { child: op(n), parent: op(n), rule: Rule::Wire, confidence: Confidence(1.0) };
        for n in 0..REMEMBERED + 5 {
            identifier.pending_edges.add(op(n), edge(n));
        }
        identifier.set_order_root(true);
        let roots = identifier.roots.as_mut().expect("they are wanted");
        for n in 0..REMEMBERED + 6 {
            roots.insert(TraceId((n as u128 + 1).to_be_bytes()), ());
        }
        for n in 0..REMEMBERED + 7 {
            let block = (ConnId(1), TransactionNumber(n as u64));
            identifier.transactions.add(block, TransactionEnd::Committed);
        }
        identifier.trim();
        let expected = Stats {
            placements: 3,
            arrivals: 4,
            pending_edges: 5,
            roots: 6,
            transactions: 7,
            ..Stats::default()
        };
        assert_eq!(identifier.stats(), expected);
    }
}
