//! Records of one direction in, bytes in order and gaps out.
//!
//! *Owns* reordering, overlap, holes and memory bounds of one direction of one connection.
//! *Must not know* protocols or connections.
