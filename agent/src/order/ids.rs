//! Identifiers derived from what both ends of a connection see, and from orders. Version 1.
