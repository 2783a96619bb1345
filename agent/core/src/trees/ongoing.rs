//! A tree that is held, with operations that are not over → the spans that these would be by now.
//!
//! Placed by the same rules as a tree that is released: unless more shows until then, the span that comes has the same
//! identifiers. Nothing is remembered, so whoever asks changes nothing.
//!
//! *Owns* nothing. *Must not know* who is told.

use rustc_hash::FxHashSet;

use crate::causality::Edge;
use crate::order::window::Window;
use crate::record::OpId;
use crate::span::{Span, Status, build};
use crate::trees::Finished;
use crate::trees::apart;
use crate::trees::hold::Member;
use crate::trees::identify::{Identifier, Output, Placement, TreeFacts};

impl Identifier {
    /// What a held operation will be a child of, where its tree has been released before it.
    pub(crate) fn pending_edge(&self, op: OpId) -> Option<Edge> {
        self.pending_edges.get(&op).copied()
    }

    /// The spans of those `wanted`, of a tree in the order its operations began. Those that belong to no order, or will not be exported,
    /// have none.
    pub(crate) fn ongoing(&self, members: Vec<Member>, wanted: &FxHashSet<OpId>) -> Vec<(OpId, Span)> {
        let has_context = members.iter().any(|leaf| self.context(leaf).is_some());
        let parts = match has_context && self.window != Window::Request {
            true => apart::split(members),
            false => vec![members],
        };
        let mut spans = Vec::new();
        for leaves in parts {
            let is_wanted = |leaf: &&Member| wanted.contains(&leaf.finished.operation.id);
            if !leaves.iter().any(|leaf| is_wanted(&leaf)) {
                continue;
            }
            let Some((trunk, met)) = self.facts(&leaves) else { continue };
            for leaf in leaves.iter().filter(is_wanted) {
                let span = self.ongoing_span(leaf, &leaves, &trunk, &met);
                spans.extend(span.map(|span| (leaf.finished.operation.id, span)));
            }
        }
        spans
    }

    fn ongoing_span(
        &self,
        leaf: &Member,
        leaves: &[Member],
        trunk: &TreeFacts,
        met: &FxHashSet<OpId>,
    ) -> Option<Span> {
        let finished = leaf.finished.as_ref();
        if self.fate(leaf, met, trunk) != Output::Span {
            return None;
        }
        let own = self.ongoing_place(leaf, trunk);
        let is_sampled = match own.trace_id == trunk.trace_id {
            true => trunk.sampled,
            false => self.sampler.keeps(own.order.as_ref(), own.trace_id),
        };
        let order = finished.found.order().or(trunk.order.as_ref());
        if !is_sampled || finished.found.is_left_out || order.is_none() {
            return None;
        }
        let mut identity = self.identity(leaf, &own, trunk);
        // It has no place yet where it is held too.
        let cause = leaf.edge.filter(|_| identity.parent.is_none()).map(|edge| edge.parent);
        if let Some(cause) = leaves.iter().find(|other| Some(other.finished.operation.id) == cause)
            && self.fate(cause, met, trunk) == Output::Span
        {
            let cause = self.ongoing_place(cause, trunk);
            identity.parent = (cause.trace_id == own.trace_id).then_some(cause.span_id);
        }
        identity.links = Vec::new();
        let mut span = build::build(&self.placed(finished, identity, trunk, &own, false));
        // They would say how it ended.
        span.status = Status::Unset;
        span.attributes.retain(|name| !matches!(name, "error.type" | "spoor.incomplete"));
        span.sampled = true;
        Some(self.hidden(span, leaf, trunk))
    }

    fn ongoing_place(&self, leaf: &Member, trunk: &TreeFacts) -> Placement {
        self.place_of(leaf, Output::Span, trunk, self.free_message_span(&leaf.finished))
    }
}

impl Member {
    /// One that is looked at, and not held.
    pub(crate) fn seen(finished: Finished, edge: Option<Edge>) -> Self {
        Self { finished: Box::new(finished), edge, passage: None, bytes: 0 }
    }
}
