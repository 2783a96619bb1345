//! An [`Operation`](crate::operation::Operation) and its place in; a [`Span`](super::Span) out.
