//! What user space has decided about a connection.

use crate::words::words;

/// Nothing decided: a first look per turn, a bounded number of times, then lengths only.
pub const UNDECIDED: u64 = 0;
/// Copy up to `turn_bytes` per turn.
pub const CAPTURE: u64 = 1;
/// No records at all.
pub const IGNORE: u64 = 2;

words! {
    /// One decision. It is read from the map at the connection's next event, kept with the socket and taken out of
    /// the map.
    pub struct Verdict : u64 {
        /// [`CAPTURE`], [`IGNORE`] or [`UNDECIDED`].
        kind,
        /// Bytes copied per turn; a turn lasts until the direction changes, or until a pause.
        turn_bytes,
        /// No bytes are copied of what is written before this position.
        skip_egress_until,
        /// No bytes are copied of what is read before this position.
        skip_ingress_until,
    }
}

words! {
    /// To which connections to come a verdict applies: those of one process to or from one port.
    pub struct InheritKey : u32 {
        /// Network namespace (inode number).
        netns,
        /// Port of the server's end, host order.
        server_port,
        /// Process, as the initial PID namespace numbers it.
        tgid,
        /// [`crate::record::ROLE_CLIENT`] or [`crate::record::ROLE_SERVER`].
        role,
    }
}

const _: () = {
    assert!(size_of::<Verdict>() == 32);
    assert!(size_of::<InheritKey>() == 16);
};
