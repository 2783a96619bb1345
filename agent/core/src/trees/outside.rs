//! Orders and spans as they are known inside in, as they are known outside out.
//!
//! *Owns* where keyed hashes take the place of keys. *Must not know* how they are made, nor how spans are placed.

use crate::order::OrderKey;
use crate::span::Span;
use crate::trees::hold::Member;
use crate::trees::identify::{Identifier, TreeFacts};

impl Identifier {
    /// An order as it is known outside.
    pub(crate) fn shown(&self, order: &OrderKey) -> OrderKey {
        self.pseudonyms.as_ref().map_or_else(|| order.clone(), |pseudonyms| pseudonyms.order(order))
    }

    /// A span without the keys that are not to leave.
    pub(crate) fn hidden(&self, mut span: Span, leaf: &Member, trunk: &TreeFacts) -> Span {
        if let Some(pseudonyms) = &self.pseudonyms {
            let mut keys = leaf.finished.found.keys.clone();
            keys.extend(
                trunk.order.iter().filter(|order| !leaf.finished.found.keys.contains(order)).cloned(),
            );
            pseudonyms.apply(&mut span, &keys);
        }
        span
    }
}
