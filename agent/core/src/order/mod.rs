//! Operations → the order they belong to.
//!
//! *Owns* extraction rules ([`rules`]), canonical values ([`value`]), and identifiers derived from orders ([`ids`]).
//! *Must not know* how operations are joined, spans, exporters.
//!
//! ```text
//!   settings::Order ─▶ Rules::compile ─▶ Rules::extract(&Operation) ─▶ Found { keys, attributes, context, route }
//! ```
//!
//! A wrong order is worse than none: several different keys of one namespace in one operation name none, a list of orders is
//! not an order, a row counts only if it is the only one, and what was cut off does not count at all.

pub mod body;
mod call;
mod collect;
pub mod compile;
pub mod context;
pub mod defaults;
mod document;
pub mod explain;
pub mod extract;
pub mod form;
pub mod ids;
pub mod json;
mod names;
pub mod path;
mod protobuf;
pub mod rules;
pub mod settings;
mod sql;
pub mod value;
pub mod window;
mod xml;
mod xmlrpc;

use std::sync::Arc;

pub use compile::{RuleError, Rules};

use crate::trace::{SpanId, TraceId, Value};

/// A business key in canonical form: `value` of the numbering system `namespace`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey {
    pub namespace: Arc<str>,
    pub value: Arc<str>,
}

/// Further facts of an order, as attributes of a span: name and value.
pub type Facts = Vec<(String, Value)>;

/// What an operation's own bytes say about the order it belongs to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Identity keys, without duplicates, those of the main namespace first.
    pub keys: Vec<OrderKey>,
    /// More identity keys than can be listed were there: names none.
    pub too_many: bool,
    /// Attributes for the span, by the configured rules.
    pub attributes: Facts,
    /// Trace context carried by the operation itself, whose span somebody may export.
    pub context: Option<TraceContext>,
    /// The trace ID that it carries, whether or not anybody exports that trace.
    pub trace_id: Option<TraceId>,
    /// The configured path template that an HTTP request fits: its route.
    pub route: Option<Arc<str>>,
    /// It only sets its connection up, and such spans are not wanted.
    pub is_left_out: bool,
    /// What an HTTP request calls, where its body says so.
    pub call: Option<Box<Call>>,
}

/// A call that HTTP carries. Names are of programs, never of things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    JsonRpc {
        method: String,
        /// `2.0`; `None` for 1.0.
        version: Option<String>,
        /// A number.
        id: Option<String>,
        /// Code of the answer's error.
        error: Option<String>,
    },
    XmlRpc {
        method: String,
        /// Code of the answer's fault.
        fault: Option<String>,
    },
    Soap {
        method: String,
        /// The answer is a fault.
        failed: bool,
    },
    GraphQl {
        /// `query`, `mutation` or `subscription`.
        kind: Option<&'static str>,
        name: Option<String>,
        /// The name may name the span.
        shown: bool,
    },
}

impl Call {
    /// Its method, action or operation.
    pub fn name(&self) -> Option<&str> {
        match self {
            Call::JsonRpc { method, .. } | Call::XmlRpc { method, .. } | Call::Soap { method, .. } => {
                Some(method)
            }
            Call::GraphQl { name, .. } => name.as_deref(),
        }
    }

    /// Bytes that it holds, with its own fields.
    fn held(&self) -> usize {
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        let texts = match self {
            Call::JsonRpc { method, version, id, error } => {
                method.capacity() + of(version) + of(id) + of(error)
            }
            Call::XmlRpc { method, fault } => method.capacity() + of(fault),
            Call::Soap { method, .. } => method.capacity(),
            Call::GraphQl { name, .. } => of(name),
        };
        size_of::<Self>() + texts
    }
}

impl Found {
    /// Bytes that it holds beside its own fields.
    pub(crate) fn held(&self) -> usize {
        let keys = self.keys.iter().map(|key| size_of::<OrderKey>() + key.value.len());
        let attributes = self
            .attributes
            .iter()
            .map(|(name, value)| size_of::<(String, Value)>() + name.len() + value.held());
        // Shared with the template, or a copy of its own where the template has alternatives.
        let route = self.route.as_ref().map_or(0, |route| route.len());
        let call = self.call.as_ref().map_or(0, |call| call.held());
        keys.chain(attributes).sum::<usize>() + route + call
    }

    /// The order this operation names by itself: the only key of the first namespace that has any. Keys of further
    /// namespaces number the same order in other systems.
    pub fn order(&self) -> Option<&OrderKey> {
        let (first, others) = self.keys.split_first()?;
        let only = others.iter().all(|other| other.namespace != first.namespace);
        (only && !self.too_many).then_some(first)
    }
}

/// The attribute under which a key of a further namespace is exported.
pub fn alias_attribute(namespace: &str) -> String {
    format!("order.{namespace}.id")
}

/// In-band trace context (`traceparent`, `b3`, `uber-trace-id`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub parent_id: SpanId,
    /// The header it came from.
    pub header: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_accounted_for() {
        let found = |call: Option<Call>, route: Option<&str>| {
            Found { call: call.map(Box::new), route: route.map(Arc::from), ..Found::default() }.held()
        };
        assert_eq!(found(None, None), 0);
        assert_eq!(found(None, Some("/orders/{id}")), 12);
        let text = |len: usize| "x".repeat(len);
        for (call, texts) in [
            (
                Call::JsonRpc {
                    method: text(100),
                    version: Some(text(3)),
                    id: Some(text(19)),
                    error: Some(text(6)),
                },
                128,
            ),
            (Call::XmlRpc { method: text(100), fault: Some(text(6)) }, 106),
            (Call::Soap { method: text(100), failed: true }, 100),
            (Call::GraphQl { kind: None, name: Some(text(100)), shown: true }, 100),
        ] {
            let held = found(Some(call.clone()), None);
            assert!(held >= size_of::<Call>() + texts, "{call:?}: {held}");
        }
    }
}
