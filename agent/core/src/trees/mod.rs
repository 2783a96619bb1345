//! Operations and the edges between them → trees that are held, named and linked.
//!
//! *Owns* how long a tree is held ([`hold`]), the identifiers of its spans ([`identify`]), its links ([`links`]), and what
//! other agents make of the same operations ([`agents`]). *Must not know* records, nor how edges were found.

pub(crate) mod agents;
mod apart;
pub(crate) mod hold;
pub(crate) mod identify;
mod links;
mod ongoing;
mod orders;
mod outside;

use std::sync::Arc;

use crate::conn::ConnRef;
use crate::operation::Operation;
use crate::order::Found;
use crate::order::ids::WireId;
use crate::record::ClockPair;
use crate::span::Resource;
use crate::sql::shapes::Texts;
use crate::trace::SpanId;

/// What is remembered of each kind for operations that come later than their tree.
const REMEMBERED: usize = 53_248;

/// What was forgotten at the bounds of its tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Where operations ended up: what comes later is no child of theirs.
    pub(crate) placements: u64,
    /// When brokers had read publishes: their dwell cannot be told.
    pub(crate) arrivals: u64,
    /// Causes of operations released while they were open.
    pub(crate) pending_edges: u64,
    /// Traces of orders: new ones are not linked to them.
    pub(crate) orders: u64,
    /// Connections of which this agent sees an end.
    pub(crate) ends: u64,
    /// Publishes with a span of the message's own.
    pub(crate) messages: u64,
    /// Traces of orders with a root span: it may be exported again.
    pub(crate) roots: u64,
    /// How transaction blocks ended: their statements do not say it.
    pub(crate) transactions: u64,
}

impl Stats {
    /// Every count, with the name of its table.
    pub(crate) fn by_table(&self) -> [(&'static str, u64); 8] {
        // Taken apart, so that the compiler misses one that is left out.
        let Self { placements, arrivals, pending_edges, orders, ends, messages, roots, transactions } = *self;
        [
            ("placements", placements),
            ("arrivals", arrivals),
            ("pending_edges", pending_edges),
            ("orders", orders),
            ("own_ends", ends),
            ("message_spans", messages),
            ("order_roots", roots),
            ("transaction_ends", transactions),
        ]
    }
}

/// An operation that is over, with everything a span of it needs.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) operation: Operation,
    pub(crate) conn: ConnRef,
    pub(crate) found: Found,
    pub(crate) wire: Option<WireId>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) clock: ClockPair,
    /// There was no time for it: it stands in its tree for others to be counted right, and is no span.
    pub(crate) is_left_out: bool,
    /// The span of the publish, by what both clients of a broker see of the message: where no agent sees the broker.
    pub(crate) message: Option<SpanId>,
    /// What its span shows of a statement, where that was known by the statement's shape: shared with others.
    pub(crate) texts: Option<Arc<Texts>>,
}

impl Finished {
    /// Bytes that it holds, with its own fields.
    pub(crate) fn held(&self) -> usize {
        size_of::<Self>() + self.operation.held() + self.found.held()
    }
}
