//! Who a socket is and what is kept with it: a `struct sock` → its [`State`].
//!
//! *Owns* the per-socket state, transports, the kernel's socket constants; positions are in `base` and `position`.
//! *Must not know* where the bytes lie in user memory.

mod base;
mod position;
#[cfg_attr(feature = "untyped", path = "untyped.rs")]
#[cfg_attr(not(feature = "untyped"), path = "typed.rs")]
mod storage;

use spoor_common::record::{EGRESS, TRANSPORT_MPTCP, TRANSPORT_TCP, TRANSPORT_UNIX};

pub(crate) use self::base::{begin, join};
pub(crate) use self::position::advance;
pub(crate) use self::storage::{cookie, forget, settle_cookie, state, state_or_new, tcp, unix, unix_peer};
use crate::{kernel::Object, maps::offset};

pub(crate) const AF_UNIX: u16 = 1;
pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_MPTCP: u16 = 262;
const SOCK_STREAM: u16 = 1;

pub(crate) const TCP_ESTABLISHED: i32 = 1;
pub(crate) const TCP_SYN_SENT: i32 = 2;
pub(crate) const TCP_SYN_RECV: i32 = 3;
pub(crate) const TCP_FIN_WAIT1: i32 = 4;
pub(crate) const TCP_CLOSE: i32 = 7;
pub(crate) const TCP_LAST_ACK: i32 = 9;

const RCV_SHUTDOWN: u8 = 1;
const SEND_SHUTDOWN: u8 = 2;
pub(crate) const SHUTDOWN_BOTH: u8 = RCV_SHUTDOWN | SEND_SHUTDOWN;

/// Positions and bases are set.
pub(crate) const KNOWN: u32 = 1 << 0;
/// User space has the connection's record.
pub(crate) const SENT: u32 = 1 << 1;
/// The connection was seen from its first byte on.
pub(crate) const FROM_START: u32 = 1 << 2;
/// The bases hold.
pub(crate) const WIRE: u32 = 1 << 3;
/// The record that user space has says who the other end is.
pub(crate) const PEER_SENT: u32 = 1 << 4;
/// The agent's own.
pub(crate) const OWN: u32 = 1 << 5;
/// Two threads have written.
const MANY_WRITERS: u32 = 1 << 6;
/// Two threads have read.
const MANY_READERS: u32 = 1 << 7;
/// The last operation was a read.
pub(crate) const LAST_INGRESS: u32 = 1 << 8;
/// Its process is followed and is CPython, see [`crate::chain`].
#[cfg(not(feature = "untyped"))]
pub(crate) const FOLLOWED: u32 = 1 << 9;
/// Its process is followed and is Node.js.
#[cfg(not(feature = "untyped"))]
pub(crate) const FOLLOWED_NODE: u32 = 1 << 10;
/// Something was written that nothing was read after.
#[cfg(not(feature = "untyped"))]
pub(crate) const WAITED_FOR: u32 = 1 << 11;
/// Its process is looked at, see [`crate::look`].
#[cfg(not(feature = "untyped"))]
pub(crate) const LOOKED_AT: u32 = 1 << 12;

/// One direction of a socket.
#[repr(C)]
pub(crate) struct Flow {
    /// Position after the last operation.
    pub(crate) end: u64,
    /// Last position at which every byte the kernel had counted was reported.
    settled: u64,
    /// No bytes are copied before this position.
    pub(crate) skip_until: u64,
    /// Sequence number of the first data byte.
    pub(crate) base: u32,
    /// Bytes copied before there was a verdict.
    pub(crate) looked: u32,
    /// Thread of the first operation.
    tid: u32,
    /// Where the counter stood, in its low half, when it was ahead of the only thread's reports.
    jumped_to: u32,
}

/// What is kept with a socket. Starts as zeros.
#[repr(C)]
pub(crate) struct State {
    pub(crate) flags: u32,
    /// A [`spoor_common::verdict`] kind.
    pub(crate) verdict: u32,
    pub(crate) turn_bytes: u32,
    pub(crate) turn_used: u32,
    pub(crate) cookie: u64,
    /// Cookie of the other end of a Unix socket.
    pub(crate) peer: u64,
    /// Time of the last operation.
    pub(crate) last_at_ns: u64,
    pub(crate) egress: Flow,
    pub(crate) ingress: Flow,
    /// Thread in the middle of a `sendmmsg` or `recvmmsg`, 0 for none.
    pub(crate) batch_tid: u32,
    /// Its next message.
    pub(crate) batch_next: u32,
    pub(crate) role: u8,
    pub(crate) transport: u8,
    pub(crate) padding: [u8; 6],
    /// Number of the socket's inode, where the state is not stored with the socket: the next socket at the same
    /// address has another one. 0 while it is not known.
    pub(crate) inode: u64,
    /// How many verdicts had been set when one was last looked for.
    pub(crate) heard: u64,
    /// Whose operations are charged for it, see [`crate::budget`]; 0 until the first one.
    pub(crate) cgroup: u64,
    /// How many times the processes that are followed had changed when this one's was last looked up.
    #[cfg(not(feature = "untyped"))]
    pub(crate) followed_heard: u64,
    /// The same of those that are looked at.
    #[cfg(not(feature = "untyped"))]
    pub(crate) looks_heard: u64,
    /// Its sends that were.
    #[cfg(not(feature = "untyped"))]
    pub(crate) looks: u64,
}

impl State {
    #[inline(always)]
    pub(crate) fn flow(&mut self, direction: u8) -> &mut Flow {
        if direction == EGRESS { &mut self.egress } else { &mut self.ingress }
    }
}

/// Where an operation lies in its direction, and where the other direction stood.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) pos: u64,
    pub(crate) other_pos: u64,
    pub(crate) certain: bool,
}

/// The transport of a stream socket that is captured, or 0.
#[inline(always)]
pub(crate) fn transport(sk: Object) -> u8 {
    let family: u16 = sk.load(offset!(sk_family));
    let protocol: u16 = sk.load(offset!(sk_protocol));
    match family {
        AF_INET | AF_INET6 if protocol == IPPROTO_TCP => TRANSPORT_TCP,
        AF_INET | AF_INET6 if protocol == IPPROTO_MPTCP => TRANSPORT_MPTCP,
        AF_UNIX if sk.load::<u16>(offset!(sk_type)) == SOCK_STREAM => TRANSPORT_UNIX,
        _ => 0,
    }
}

/// Which directions are shut down, as the kernel keeps it.
#[inline(always)]
pub(crate) fn shutdown(sk: Object) -> u8 {
    sk.load(offset!(sk_shutdown))
}
