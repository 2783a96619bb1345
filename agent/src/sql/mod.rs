//! SQL text in; sanitised text, summary and column bindings out. One pass, no grammar.
//!
//! *Must not know* protocols, spans, orders.

pub mod token;
