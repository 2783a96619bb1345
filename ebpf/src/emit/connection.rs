//! Who a connection is: a socket's state and its process → a connection record.
//!
//! *Owns* addresses, ports and the names of Unix sockets.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_probe_read_kernel, bpf_ringbuf_reserve,
    bpf_ringbuf_submit,
};
use spoor_common::{
    Counter, VERSION,
    config::MISSING,
    limits::{COMM_LEN, PATH_LEN},
    record::{self, ConnRecord, UnixConnRecord},
};

use super::{control_ring, now_ns};
use crate::{
    kernel::{Object, peek},
    maps::offset,
    rare::rare,
    socket::{self, State},
};

/// The process that a connection record names.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    pub(crate) netns: u32,
}

/// Reports a connection. False when the ring is full; it is tried again at the connection's next operation.
#[inline(always)]
pub(crate) fn connection(state: &State, sk: Object, owner: &Owner) -> bool {
    if state.transport == record::TRANSPORT_UNIX {
        return unix_connection(state, sk, owner);
    }
    // SAFETY: reserved with the size of the record that is written, and submitted on the only way out.
    unsafe {
        let to = bpf_ringbuf_reserve(control_ring(), size_of::<ConnRecord>() as u64, 0).cast::<ConnRecord>();
        if to.is_null() {
            rare(Counter::ConnLost, 1, state.cookie);
            return false;
        }
        fill(&mut *to, state, owner);
        addresses(&mut *to, sk);
        bpf_ringbuf_submit(to.cast(), 0);
    }
    true
}

/// What both kinds of connection records share.
#[inline(always)]
fn fill(to: &mut ConnRecord, state: &State, owner: &Owner) {
    to.kind = record::CONN;
    to.version = VERSION;
    to.transport = state.transport;
    to.role = state.role;
    let mut flags = 0;
    if state.flags & socket::FROM_START != 0 {
        flags |= record::CONN_FROM_START;
    }
    if state.flags & socket::WIRE != 0 {
        flags |= record::CONN_WIRE;
    }
    if state.flags & socket::OWN != 0 {
        flags |= record::CONN_OWN;
    }
    to.flags = flags;
    to.at_ns = now_ns();
    to.cookie = state.cookie;
    // SAFETY: the helper has no preconditions.
    to.cgroup = unsafe { bpf_get_current_cgroup_id() };
    to.peer = state.peer;
    to.tgid = owner.tgid;
    to.tid = owner.tid;
    to.netns = owner.netns;
    to.family = 0;
    to.reserved = 0;
    to.egress_base = state.egress.base;
    to.ingress_base = state.ingress.base;
    to.local_port = 0;
    to.remote_port = 0;
    to.padding = 0;
    to.local = [0; 16];
    to.remote = [0; 16];
    // SAFETY: the destination is ring memory of that length.
    unsafe { bpf_get_current_comm((&raw mut to.comm).cast(), COMM_LEN as u32) };
}

/// Addresses and ports of an internet socket.
#[inline(always)]
fn addresses(to: &mut ConnRecord, sk: Object) {
    to.family = sk.load(offset!(sk_family));
    to.local_port = sk.load(offset!(sk_num));
    to.remote_port = u16::from_be(sk.load(offset!(sk_dport)));
    if to.family == socket::AF_INET6 && offset!(sk_v6_daddr) != MISSING {
        copy16(&raw mut to.local, sk, offset!(sk_v6_rcv_saddr));
        copy16(&raw mut to.remote, sk, offset!(sk_v6_daddr));
    } else {
        let local: u32 = sk.load(offset!(sk_rcv_saddr));
        let remote: u32 = sk.load(offset!(sk_daddr));
        // SAFETY: the arrays hold sixteen bytes at multiples of eight.
        unsafe {
            (&raw mut to.local).cast::<u32>().write(local);
            (&raw mut to.remote).cast::<u32>().write(remote);
        }
    }
}

/// Copies an IPv6 address. VERIFIER: an array of 32-bit words is read word by word.
#[inline(always)]
fn copy16(to: *mut [u8; 16], sk: Object, offset: u32) {
    let to = to.cast::<u32>();
    // SAFETY: as in `addresses`.
    unsafe {
        to.write(sk.load(offset));
        to.add(1).write(sk.load(offset.wrapping_add(4)));
        to.add(2).write(sk.load(offset.wrapping_add(8)));
        to.add(3).write(sk.load(offset.wrapping_add(12)));
    }
}

#[inline(always)]
fn unix_connection(state: &State, sk: Object, owner: &Owner) -> bool {
    // SAFETY: reserved with the size of the record that is written, and submitted on the only way out.
    unsafe {
        let to = bpf_ringbuf_reserve(control_ring(), size_of::<UnixConnRecord>() as u64, 0)
            .cast::<UnixConnRecord>();
        if to.is_null() {
            rare(Counter::ConnLost, 1, state.cookie);
            return false;
        }
        let to = &mut *to;
        fill(&mut to.conn, state, owner);
        to.conn.kind = record::UNIX_CONN;
        to.conn.family = socket::AF_UNIX;
        to.side = record::PATH_NONE;
        to.path_len = 0;
        to.padding = 0;
        let unix = socket::unix(sk);
        if !unix.is_null() {
            let mut address = unix.follow(offset!(unix_addr));
            if !address.is_null() {
                // An accepted socket has the name of the one that listened.
                to.side = record::PATH_LOCAL;
                to.conn.role = record::ROLE_SERVER;
            } else {
                let peer = unix.follow(offset!(unix_peer));
                if !peer.is_null() {
                    // VERIFIER: the peer is typed as `struct sock`; its name lies behind that type's end.
                    let slot = peer.field(offset!(unix_addr));
                    address = Object(peek::<u64>(slot).unwrap_or(0) as *const u8);
                    if !address.is_null() {
                        to.side = record::PATH_REMOTE;
                        to.conn.role = record::ROLE_CLIENT;
                    }
                }
            }
            if !address.is_null() {
                path(to, address);
            }
        }
        bpf_ringbuf_submit((&raw mut *to).cast(), 0);
    }
    true
}

/// Copies the name of a `struct unix_address`.
#[inline(always)]
fn path(to: &mut UnixConnRecord, address: Object) {
    /// `sun_family` comes before the path.
    const FAMILY_LEN: u32 = 2;
    let len = peek::<u32>(address.field(offset!(unix_address_len))).unwrap_or(0);
    let len = len.saturating_sub(FAMILY_LEN);
    to.path_len = if len > PATH_LEN as u32 { PATH_LEN as u32 } else { len };
    let name = address.field(offset!(unix_address_name)).wrapping_add(FAMILY_LEN as usize);
    // SAFETY: the destination is ring memory of that length; the helper refuses addresses it cannot read. What
    // follows a short name is not counted by `path_len`, and user space does not look at it.
    unsafe { bpf_probe_read_kernel((&raw mut to.path).cast(), PATH_LEN as u32, name.cast()) };
}
