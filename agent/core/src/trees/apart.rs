//! A tree in which trace context was found → what stays with the context, and what its order's key keeps in the order's trace.
//!
//! Trace context says where the request goes that carries it, and what that request's own threads do. Whoever writes it does not say
//! what other work is done for the order: an operation whose only tie to the request is the order's number would be in the order's
//! trace without it, and stays there, linked to the request. Otherwise one client's header would take a part of another one's work
//! out of its order.
//!
//! ```text
//!   request (context, order 17)                 trace of the context
//!     ├─ thread ─▶ statement                    trace of the context
//!     └─ value ──▶ statement (order 17)         trace of order 17, linked to the request
//!                    └─ thread ─▶ …             trace of order 17
//! ```
//!
//! *Owns* the cut. *Must not know* identifiers.

use rustc_hash::FxHashMap;

use crate::causality::Rule;
use crate::record::OpId;
use crate::trees::hold::Member;

/// Only its order's number ties it to its cause.
pub(super) fn names_its_order(leaf: &Member) -> bool {
    leaf.edge.is_some_and(|edge| edge.rule == Rule::Value) && leaf.finished.found.order().is_some()
}

/// The parts of a tree, each in the order of its operations, the part with the tree's first operation first.
pub(super) fn split(leaves: Vec<Member>) -> Vec<Vec<Member>> {
    if !leaves.iter().any(names_its_order) {
        return vec![leaves];
    }
    let parents: FxHashMap<OpId, (bool, Option<OpId>)> = leaves
        .iter()
        .map(|leaf| (leaf.finished.operation.id, (names_its_order(leaf), leaf.edge.map(|edge| edge.parent))))
        .collect();
    let mut heads: FxHashMap<OpId, Option<OpId>> = FxHashMap::default();
    let mut parts: Vec<Vec<Member>> = vec![Vec::new()];
    let mut places: FxHashMap<Option<OpId>, usize> = FxHashMap::from_iter([(None, 0)]);
    for leaf in leaves {
        let head = head(leaf.finished.operation.id, &parents, &mut heads);
        let place = *places.entry(head).or_insert_with(|| {
            parts.push(Vec::new());
            parts.len() - 1
        });
        if let Some(part) = parts.get_mut(place) {
            part.push(leaf);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// The nearest operation, from this one up, that its order keeps apart. Edges have no cycles; those looked at are remembered, so that a
/// deep tree takes linear time.
fn head(
    op: OpId,
    parents: &FxHashMap<OpId, (bool, Option<OpId>)>,
    heads: &mut FxHashMap<OpId, Option<OpId>>,
) -> Option<OpId> {
    let mut path = Vec::new();
    let mut at = Some(op);
    let head = loop {
        let Some(current) = at else { break None };
        if let Some(known) = heads.get(&current) {
            break *known;
        }
        match parents.get(&current) {
            Some((true, _)) => break Some(current),
            Some((false, parent)) => {
                path.push(current);
                at = *parent;
            }
            // Its cause is in another tree.
            None => break None,
        }
    };
    heads.extend(path.into_iter().map(|passed| (passed, head)));
    head
}
