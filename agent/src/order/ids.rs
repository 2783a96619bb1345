//! Identifiers derived from what both ends of a connection see, and from orders. Version 1.

/// One operation as both ends of its connection know it: H(version, both first sequence numbers, sender, position).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireId(pub [u8; 16]);
