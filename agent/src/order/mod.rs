//! Operations in, the order they belong to out.
//!
//! *Owns* extraction rules ([`rules`]), canonical values, and identifiers derived from orders ([`ids`]).
//! *Must not know* how operations are joined, spans, exporters.

pub mod extract;
pub mod ids;
pub mod rules;

use std::sync::Arc;

use crate::span::{SpanId, TraceId, Value};

/// A business key in canonical form: `value` of the numbering system `namespace`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey {
    pub namespace: Arc<str>,
    pub value: Arc<str>,
}

/// What an operation's own bytes say about the order it belongs to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Identity keys, without duplicates. Exactly one names the operation's order; several name none.
    pub keys: Vec<OrderKey>,
    /// More identity keys than can be listed were there: names none.
    pub too_many: bool,
    /// Attributes for the span, by the configured rules.
    pub attributes: Vec<(String, Value)>,
    /// Trace context carried by the operation itself.
    pub context: Option<TraceContext>,
}

impl Found {
    /// The order this operation names by itself.
    pub fn order(&self) -> Option<&OrderKey> {
        match self.keys.as_slice() {
            [only] if !self.too_many => Some(only),
            _ => None,
        }
    }
}

/// In-band trace context (`traceparent`, `b3`, `uber-trace-id`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub parent_id: SpanId,
    /// The header it came from.
    pub header: &'static str,
}
