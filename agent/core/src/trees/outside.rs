//! Orders and spans as they are known inside → as they are known outside.
//!
//! *Owns* which keys a span could show, and that nothing is done to a span after it was cut. *Must not know* how hashes are made ([`crate::privacy::pseudonym`]).

use std::sync::Arc;

use crate::order::OrderKey;
use crate::privacy::pseudonym::Key;
use crate::span::Span;
use crate::trees::hold::Member;
use crate::trees::identify::{Identifier, TreeFacts};

impl Identifier {
    /// An order as it is known outside.
    pub(crate) fn shown(&self, order: &OrderKey) -> OrderKey {
        let hashed = self.pseudonyms.as_ref().and_then(|pseudonyms| pseudonyms.order(key(order)));
        match hashed {
            Some(hashed) => OrderKey { namespace: Arc::clone(&order.namespace), value: hashed.into() },
            None => order.clone(),
        }
    }

    /// A span without the keys that are not to leave.
    pub(crate) fn hidden(&self, mut span: Span, leaf: &Member, trunk: &TreeFacts) -> Span {
        if let Some(pseudonyms) = &self.pseudonyms {
            let named = &leaf.finished.found.keys;
            let of_tree = trunk.order.iter().filter(|order| !named.contains(order));
            let keys: Vec<Key<'_>> = named.iter().chain(of_tree).map(key).collect();
            pseudonyms.apply(&mut span, &keys);
        }
        // Last of all: half a key is not known as one.
        span.bound();
        span
    }
}

fn key(order: &OrderKey) -> Key<'_> {
    Key { namespace: &order.namespace, value: &order.value }
}
