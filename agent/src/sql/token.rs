//! SQL text in, tokens out.
