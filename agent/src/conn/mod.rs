//! Records of all connections in, protocol [`Event`](crate::protocol::Event)s with their connection out.
//!
//! *Owns* the table of connections: addresses, roles, wire identity, one stream per direction, the detected session,
//! and the verdicts that tell the kernel what to copy. *Must not know* operations of other connections, orders, spans.

use std::sync::Arc;

use crate::record::{Conn, ConnId, Role};

/// What is known of a connection, shared by everything that came from it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnInfo {
    /// As first seen, with later updates folded in.
    pub conn: Conn,
    /// The role, from the kernel or from the protocol. `None` until either tells.
    pub role: Option<Role>,
}

/// A shared [`ConnInfo`].
pub type ConnRef = Arc<ConnInfo>;

/// What the kernel should do with a connection from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictUpdate {
    pub conn: ConnId,
    pub verdict: Verdict,
}

/// See `spoor_common::verdict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours: copy nothing, report nothing.
    Ignore,
    /// Copy at most so many bytes per turn.
    Capture { turn_bytes: u32 },
    /// Report lengths only up to this position of a direction, then capture again.
    Skip { direction: crate::record::Direction, until_pos: u64 },
}

/// All connections. Sans-I/O: `handle_*` in, `poll_*` out.
///
/// ```text
///   Conn, Data, Close ─▶ Connections ─▶ (ConnRef, Event)   per operation, in order
///                            └────────▶ VerdictUpdate       what the kernel should copy
/// ```
#[derive(Debug)]
pub struct Connections;
