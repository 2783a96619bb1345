//! Operations and the edges between them → trees that are held, named and linked.
//!
//! *Owns* how long a tree is held ([`hold`]), the identifiers of its spans ([`identify`]), its links ([`links`]), and what
//! other agents make of the same operations ([`agents`]). *Must not know* records, nor how edges were found.

pub(crate) mod agents;
pub(crate) mod hold;
pub(crate) mod identify;
mod links;
mod orders;
mod outside;

use std::sync::Arc;

use crate::conn::ConnRef;
use crate::operation::Operation;
use crate::order::Found;
use crate::order::ids::WireId;
use crate::record::ClockPair;
use crate::span::Resource;
use crate::trace::SpanId;

/// An operation that is over, with everything a span of it needs.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) operation: Operation,
    pub(crate) conn: ConnRef,
    pub(crate) found: Found,
    pub(crate) wire: Option<WireId>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) clock: ClockPair,
    /// The span of the publish, by what both clients of a broker see of the message: where no agent sees the broker.
    pub(crate) message: Option<SpanId>,
}
