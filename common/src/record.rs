//! The layouts of what goes through the ring buffers.
//!
//! Every record starts with its kind and [`crate::VERSION`]. Data records and chains go through the data ring, all others
//! through the control ring, so that a flood of data cannot hide a connection. Both rings are ordered in
//! themselves; across them a [`DataHeader`] may overtake its [`ConnRecord`].

use crate::chain::TASKS;
use crate::limits::{COMM_LEN, PATH_LEN};

/// Kind of [`DataHeader`].
pub const DATA: u8 = 1;
/// Kind of [`ConnRecord`].
pub const CONN: u8 = 2;
/// Kind of [`CloseRecord`].
pub const CLOSE: u8 = 3;
/// Kind of [`ProcessRecord`].
pub const PROCESS: u8 = 4;
/// Kind of [`UnixConnRecord`].
pub const UNIX_CONN: u8 = 5;
/// Kind of [`ChainRecord`].
pub const CHAIN: u8 = 6;
/// Kind of [`ObjectRecord`].
pub const OBJECT: u8 = 7;

/// Written to the socket.
pub const EGRESS: u8 = 0;
/// Read from the socket.
pub const INGRESS: u8 = 1;

/// The buffer was out of reach or a page of it could not be read.
pub const DATA_UNREADABLE: u8 = 1 << 0;
/// Bytes were left out because of a verdict or a budget.
pub const DATA_BUDGET: u8 = 1 << 1;
/// Bytes are the plaintext of a TLS connection.
pub const DATA_PLAINTEXT: u8 = 1 << 2;
/// The position is not certain.
pub const DATA_UNCERTAIN: u8 = 1 << 3;

/// Set in [`DataHeader::tid`]: it is a goroutine. Linux has no threads of such numbers (`PID_MAX_LIMIT` is 2^22).
pub const GOROUTINE: u32 = 1 << 31;

/// One piece of one socket operation: `len` bytes moved from position `pos` on, `captured` of them follow the header.
///
/// The record in the ring is as long as its size class; bytes after `captured` mean nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DataHeader {
    pub kind: u8,
    pub version: u8,
    pub direction: u8,
    pub flags: u8,
    /// The goroutine that waits for this operation; 0 where there is none or that is not known.
    pub awaited_by: u32,
    /// `CLOCK_BOOTTIME` at the completion of the call, nanoseconds.
    pub at_ns: u64,
    pub cookie: u64,
    pub pos: u64,
    pub other_pos: u64,
    pub len: u32,
    pub captured: u32,
    pub tgid: u32,
    /// The thread; with [`GOROUTINE`] set, the goroutine.
    pub tid: u32,
}

/// Who waits for whom at a send, or for what is received. It comes before the data records of that operation, through the same ring and
/// of the same thread, and goes with the first of them on its connection.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ChainRecord {
    pub kind: u8,
    pub version: u8,
    /// 1: the walk met something that is not as it must be; the tasks mean nothing.
    pub is_broken: u8,
    /// Tasks that count.
    pub len: u8,
    pub tid: u32,
    pub at_ns: u64,
    pub cookie: u64,
    pub tgid: u32,
    /// [`EGRESS`] or [`INGRESS`].
    pub direction: u32,
    /// The task that sent, the one that waits for it, and so on. Numbers of the runtime's own, 0 for a task without; or a connection
    /// on which a request came, with [`crate::chain::node::CONNECTION`].
    pub tasks: [u64; TASKS],
}

/// A copy of what a thread's stack points to, see [`crate::look`]. It comes before the data records of the send.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ObjectRecord {
    pub kind: u8,
    pub version: u8,
    /// A mode of [`crate::look`].
    pub mode: u8,
    /// 1: it is behind a pointer of the object.
    pub is_pointee: u8,
    /// Where the copy is, and what marks it as this one.
    pub slot: u32,
    pub seal: u64,
    pub at_ns: u64,
    pub cookie: u64,
    /// The object, and the first byte that was copied.
    pub object: u64,
    pub address: u64,
    pub tgid: u32,
    /// Bytes.
    pub len: u32,
}

/// TCP.
pub const TRANSPORT_TCP: u8 = 1;
/// Multipath TCP.
pub const TRANSPORT_MPTCP: u8 = 2;
/// Unix stream socket.
pub const TRANSPORT_UNIX: u8 = 3;

/// The role is not known.
pub const ROLE_UNKNOWN: u8 = 0;
/// The socket connected.
pub const ROLE_CLIENT: u8 = 1;
/// The socket was accepted.
pub const ROLE_SERVER: u8 = 2;

/// Positions start at the connection's first byte and the agent saw it open.
pub const CONN_FROM_START: u32 = 1 << 0;
/// `egress_base` and `ingress_base` hold.
pub const CONN_WIRE: u32 = 1 << 1;
/// The socket belongs to the agent.
pub const CONN_OWN: u32 = 1 << 2;

/// First sight of a connection by a process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ConnRecord {
    pub kind: u8,
    pub version: u8,
    pub transport: u8,
    pub role: u8,
    pub flags: u32,
    pub at_ns: u64,
    pub cookie: u64,
    pub cgroup: u64,
    /// Cookie of the other end (Unix); 0 when unknown.
    pub peer: u64,
    pub tgid: u32,
    pub tid: u32,
    pub netns: u32,
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub family: u16,
    pub reserved: u16,
    /// Sequence number of the first data byte written.
    pub egress_base: u32,
    /// Sequence number of the first data byte read.
    pub ingress_base: u32,
    /// Host order.
    pub local_port: u16,
    /// Host order.
    pub remote_port: u16,
    pub padding: u32,
    /// Network order; IPv4 uses the first four bytes.
    pub local: [u8; 16],
    /// Network order; IPv4 uses the first four bytes.
    pub remote: [u8; 16],
    pub comm: [u8; COMM_LEN],
}

/// No path: both ends are unnamed, or the socket is one of a pair.
pub const PATH_NONE: u32 = 0;
/// The path is that of this end.
pub const PATH_LOCAL: u32 = 1;
/// The path is that of the other end.
pub const PATH_REMOTE: u32 = 2;

/// First sight of a Unix connection: the same with the path that one end is bound to.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UnixConnRecord {
    pub conn: ConnRecord,
    /// Which end has the path.
    pub side: u32,
    /// Bytes of `path` that count. A first byte of 0 marks an abstract name.
    pub path_len: u32,
    pub path: [u8; PATH_LEN],
    pub padding: u32,
}

/// The connection was reset.
pub const CLOSE_RESET: u32 = 1 << 0;

/// The end of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CloseRecord {
    pub kind: u8,
    pub version: u8,
    pub reserved: u16,
    pub flags: u32,
    pub at_ns: u64,
    pub cookie: u64,
}

/// A process was forked.
pub const PROCESS_FORK: u8 = 1;
/// A process replaced its image.
pub const PROCESS_EXEC: u8 = 2;
/// The last thread of a process ended.
pub const PROCESS_EXIT: u8 = 3;
/// A thread of a process with captured connections began.
pub const PROCESS_THREAD: u8 = 4;

/// A process started, replaced its image, or ended, or a thread of it started.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ProcessRecord {
    pub kind: u8,
    pub version: u8,
    pub event: u8,
    pub reserved: u8,
    pub tgid: u32,
    pub at_ns: u64,
    /// For a fork, the process that forked; for a thread, the thread that began it.
    pub parent: u32,
    /// For a thread, itself.
    pub tid: u32,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<DataHeader>() == 56 && align_of::<DataHeader>() == 8);
    assert!(offset_of!(DataHeader, awaited_by) == 4);
    assert!(offset_of!(DataHeader, at_ns) == 8);
    assert!(offset_of!(DataHeader, cookie) == 16);
    assert!(offset_of!(DataHeader, pos) == 24);
    assert!(offset_of!(DataHeader, other_pos) == 32);
    assert!(offset_of!(DataHeader, len) == 40);
    assert!(offset_of!(DataHeader, captured) == 44);
    assert!(offset_of!(DataHeader, tgid) == 48);
    assert!(offset_of!(DataHeader, tid) == 52);
    assert!(size_of::<ChainRecord>() == 32 + 8 * TASKS && align_of::<ChainRecord>() == 8);
    assert!(offset_of!(ChainRecord, cookie) == 16 && offset_of!(ChainRecord, tasks) == 32);
    assert!(size_of::<ObjectRecord>() == 56 && align_of::<ObjectRecord>() == 8);
    assert!(offset_of!(ObjectRecord, object) == 32 && offset_of!(ObjectRecord, tgid) == 48);
    assert!(size_of::<ConnRecord>() == 120 && align_of::<ConnRecord>() == 8);
    assert!(offset_of!(ConnRecord, tgid) == 40);
    assert!(offset_of!(ConnRecord, egress_base) == 56);
    assert!(offset_of!(ConnRecord, local) == 72);
    assert!(offset_of!(ConnRecord, comm) == 104);
    assert!(size_of::<UnixConnRecord>() == 240);
    assert!(size_of::<CloseRecord>() == 24);
    assert!(size_of::<ProcessRecord>() == 24);
};
