//! SQL text → sanitised text, summary and column bindings. No grammar: a tokenizer and a few walks over its tokens.
//!
//! The text is what a client sent, possibly cut at a bound. Nothing here fails: what is not understood gives nothing.
//!
//! *Owns* what SQL means to spans and orders. *Must not know* protocols, spans, orders.
//! *Spec*: PostgreSQL documentation, chapters 4 "SQL Syntax" and VI "SQL Commands"; OpenTelemetry semantic conventions
//! v1.44.0, "Semantic conventions for database client calls".

mod bindings;
pub mod prepare;
mod returning;
mod sanitize;
pub mod shapes;
mod split;
mod summary;
pub mod token;

#[cfg(test)]
mod vectors;

pub use bindings::{Binding, BoundTo, array_elements, bindings};
pub use returning::returning_table;
pub use sanitize::sanitize;
pub use split::{comment_value, each_statement, statements, with_explicit_escapes};
pub use summary::{MAX_SUMMARY_CHARS, summary};
