//! Who a socket is and where in its streams it stands: a `struct sock` in, [`State`] and positions out.
//!
//! *Owns* the per-socket state, 64-bit positions, wire identity, roles.
//! *Must not know* where the bytes lie in user memory.
//!
//! TCP positions come from the socket's own sequence numbers; Unix and Multipath TCP sockets have none, there the
//! bytes moved are counted, also when their record is lost.

use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_sk_storage_get, bpf_skc_to_tcp_sock, bpf_skc_to_unix_sock,
};
use spoor_common::{
    config::MISSING,
    record::{EGRESS, ROLE_CLIENT, ROLE_SERVER, TRANSPORT_MPTCP, TRANSPORT_TCP, TRANSPORT_UNIX},
};

use crate::{
    kernel::Object,
    maps::{STATES, offset},
};

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

/// One direction of a socket.
#[repr(C)]
pub(crate) struct Flow {
    /// Position after the last operation.
    pub(crate) end: u64,
    /// Highest position the kernel's counter was seen at by an operation of this direction.
    seen: u64,
    /// No bytes are copied before this position.
    pub(crate) skip_until: u64,
    /// Sequence number of the first data byte.
    pub(crate) base: u32,
    /// Bytes copied before there was a verdict.
    pub(crate) looked: u32,
    /// Thread of the first operation.
    tid: u32,
    padding: u32,
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

/// The state of a socket that has one.
#[inline(always)]
pub(crate) fn state(sk: Object) -> Option<&'static mut State> {
    lookup(sk, 0)
}

/// The state of a socket, created when it has none.
#[inline(always)]
pub(crate) fn state_or_new(sk: Object) -> Option<&'static mut State> {
    const BPF_SK_STORAGE_GET_F_CREATE: u64 = 1;
    lookup(sk, BPF_SK_STORAGE_GET_F_CREATE)
}

#[inline(always)]
fn lookup(sk: Object, flags: u64) -> Option<&'static mut State> {
    // SAFETY: `sk` is a `struct sock` by its BTF type; the map's value type is `State`. Storage lives at least until
    // the program ends. Programs on other CPUs may write the same state: fields are plain integers, and what they
    // disagree on is found by `advance`.
    unsafe {
        bpf_sk_storage_get((&raw const STATES) as *mut _, sk.0 as *mut _, core::ptr::null_mut(), flags)
            .cast::<State>()
            .as_mut()
    }
}

/// The socket as `struct tcp_sock`, null if it is none.
#[inline(always)]
pub(crate) fn tcp(sk: Object) -> Object {
    // SAFETY: `sk` is a `struct sock` by its BTF type.
    Object(unsafe { bpf_skc_to_tcp_sock(sk.0 as *mut _) } as *const u8)
}

/// The socket as `struct unix_sock`, null if it is none.
#[inline(always)]
pub(crate) fn unix(sk: Object) -> Object {
    // SAFETY: `sk` is a `struct sock` by its BTF type.
    Object(unsafe { bpf_skc_to_unix_sock(sk.0 as *mut _) } as *const u8)
}

/// The socket's cookie, given to it now if it had none.
#[inline(always)]
pub(crate) fn cookie(sk: Object) -> u64 {
    // SAFETY: `sk` is a `struct sock` by its BTF type.
    unsafe { bpf_get_socket_cookie(sk.0 as *mut _) }
}

/// Fills the state of a socket whose handshake has just ended. Its positions are zero.
#[inline(always)]
pub(crate) fn begin(state: &mut State, sk: Object, role: u8) {
    state.transport = transport(sk);
    state.role = role;
    state.cookie = cookie(sk);
    let tcp = tcp(sk);
    if !tcp.is_null() {
        // Linux counts the SYN as acknowledged data on the connecting side only.
        let counted = u32::from(role == ROLE_CLIENT);
        let acked: u64 = tcp.load(offset!(bytes_acked));
        let received: u64 = tcp.load(offset!(bytes_received));
        state.egress.base =
            tcp.load::<u32>(offset!(snd_una)).wrapping_sub(acked as u32).wrapping_add(counted);
        state.ingress.base = tcp.load::<u32>(offset!(rcv_nxt)).wrapping_sub(received as u32);
        state.flags |= WIRE;
    }
    state.flags |= FROM_START | KNOWN;
}

/// Fills the state of a socket that is older than the agent, at the completion of its operation of `moved` bytes.
#[inline(always)]
pub(crate) fn join(state: &mut State, sk: Object, transport: u8, direction: u8, moved: u64) {
    state.transport = transport;
    state.cookie = cookie(sk);
    let tcp = if transport == TRANSPORT_TCP { tcp(sk) } else { Object(core::ptr::null()) };
    if !tcp.is_null() {
        let shutdown = shutdown(sk);
        let fin_sent = u32::from(shutdown & SEND_SHUTDOWN != 0);
        // First sample of both directions, then a second one: another CPU may be between two stores.
        let una: u32 = tcp.load(offset!(snd_una));
        let acked: u64 = tcp.load(offset!(bytes_acked));
        let next: u32 = tcp.load(offset!(snd_nxt));
        let sent: u64 = tcp.load(offset!(bytes_sent));
        let again: u64 = tcp.load(offset!(bytes_retrans));
        let rcv_nxt: u32 = tcp.load(offset!(rcv_nxt));
        let received: u64 = tcp.load(offset!(bytes_received));
        let acked_base = una.wrapping_sub(acked as u32);
        let sent_base = next.wrapping_sub(sent as u32).wrapping_add(again as u32);
        let ingress_base = rcv_nxt.wrapping_sub(received as u32);
        let received_again: u64 = tcp.load(offset!(bytes_received));
        let steady = ingress_base == tcp.load::<u32>(offset!(rcv_nxt)).wrapping_sub(received_again as u32);

        // `bytes_acked` counts the SYN on the connecting side only, `bytes_sent` on neither. A FIN that was sent is
        // in `snd_nxt`.
        let counted = sent_base.wrapping_sub(acked_base).wrapping_sub(fin_sent);
        let role = match counted {
            0 => ROLE_SERVER,
            1 => ROLE_CLIENT,
            _ => 0,
        };
        state.role = role;
        let syn = if role == ROLE_CLIENT { 1 } else { 0 };
        state.egress.base = acked_base.wrapping_add(syn);
        state.ingress.base = ingress_base;
        if role != 0 && steady {
            state.flags |= WIRE;
        }
        let write_seq: u32 = tcp.load(offset!(write_seq));
        let copied: u32 = tcp.load(offset!(copied_seq));
        let fin_read = shutdown & RCV_SHUTDOWN != 0 && copied == rcv_nxt;
        let egress = acked
            .wrapping_sub(u64::from(syn))
            .wrapping_add(u64::from(write_seq.wrapping_sub(una).wrapping_sub(fin_sent)));
        let ingress =
            received.wrapping_sub(u64::from(rcv_nxt.wrapping_sub(copied))).wrapping_sub(u64::from(fin_read));
        state.egress.end = egress;
        state.ingress.end = ingress;
        let flow = state.flow(direction);
        flow.end = flow.end.wrapping_sub(moved);
        if state.egress.end == 0 && state.ingress.end == 0 {
            state.flags |= FROM_START;
        }
        state.egress.seen = state.egress.end;
        state.ingress.seen = state.ingress.end;
    }
    state.flags |= KNOWN;
}

#[inline(always)]
pub(crate) fn shutdown(sk: Object) -> u8 {
    sk.load(offset!(sk_shutdown))
}

/// Extends the sequence number `now` to the position nearest to `near`.
#[inline(always)]
fn position(base: u32, near: u64, now: u32) -> u64 {
    let ahead = now.wrapping_sub(base.wrapping_add(near as u32)) as i32;
    near.wrapping_add(ahead as i64 as u64)
}

/// Moves the state past an operation of `moved` bytes and says where it lies.
#[inline(always)]
pub(crate) fn advance(state: &mut State, sk: Object, direction: u8, moved: u64, tid: u32) -> Place {
    let many = if direction == EGRESS { MANY_WRITERS } else { MANY_READERS };
    let flow = state.flow(direction);
    if flow.tid == 0 {
        flow.tid = tid;
    } else if flow.tid != tid {
        state.flags |= many;
    }
    let tcp = if state.transport == TRANSPORT_TCP { tcp(sk) } else { Object(core::ptr::null()) };
    if tcp.is_null() {
        let other_pos = state.flow(direction ^ 1).end;
        let pos = claim(state.flow(direction), moved);
        return Place { pos, other_pos, certain: true };
    }
    if offset!(ulp_ops) != MISSING && !tcp.follow(offset!(ulp_ops)).is_null() {
        // Kernel TLS: the program's bytes are plaintext, the sequence numbers count ciphertext.
        let other_pos = state.flow(direction ^ 1).end;
        let pos = claim(state.flow(direction), moved);
        return Place { pos, other_pos, certain: false };
    }
    let shutdown = shutdown(sk);
    let (seq, fin): (u32, u8) = if direction == EGRESS {
        (tcp.load(offset!(write_seq)), SEND_SHUTDOWN)
    } else {
        (tcp.load(offset!(copied_seq)), RCV_SHUTDOWN)
    };
    let (other_seq, other_fin): (u32, u8) = if direction == EGRESS {
        (tcp.load(offset!(copied_seq)), RCV_SHUTDOWN)
    } else {
        (tcp.load(offset!(write_seq)), SEND_SHUTDOWN)
    };

    let other = state.flow(direction ^ 1);
    let mut other_pos = position(other.base, other.end, other_seq);
    // A FIN takes a sequence number but is no byte.
    if shutdown & other_fin != 0 && other_pos == other.end.wrapping_add(1) {
        other_pos = other.end;
    }

    let shared = state.flags & many != 0;
    let flow = state.flow(direction);
    let mut now = position(flow.base, flow.end, seq);
    let expected = flow.end.wrapping_add(moved);
    if shutdown & fin != 0 && now == expected.wrapping_add(1) {
        now = expected;
    }
    if !shared {
        // One thread: what lies between is a move that has no event, such as `splice` out of the socket.
        let pos = now.wrapping_sub(moved);
        let certain = pos >= flow.end;
        flow.end = now;
        flow.seen = now;
        return Place { pos, other_pos, certain };
    }
    // Several threads: the counter may already include what another one has moved but not reported. Positions then
    // follow the order of reports, and are certain only while reports and counter agree.
    let pos = claim(flow, moved);
    let certain = pos == flow.seen && now == pos.wrapping_add(moved);
    if now as i64 > flow.seen as i64 {
        flow.seen = now;
    }
    Place { pos, other_pos, certain }
}

/// Takes the next `moved` bytes of a direction, also against other CPUs.
#[inline(always)]
fn claim(flow: &mut Flow, moved: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut before = moved;
        // SAFETY: one atomic instruction on an aligned field of a map value.
        unsafe {
            core::arch::asm!(
                "{value} = atomic_fetch_add((u64 *)({address} + 0), {value})",
                value = inout(reg) before,
                address = in(reg) &raw mut flow.end,
            );
        }
        before
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let before = flow.end;
        flow.end = before.wrapping_add(moved);
        before
    }
}

/// The cookie of a Unix socket's other end; 0 while it has none or there is no other end.
#[inline(always)]
pub(crate) fn unix_peer(unix: Object) -> u64 {
    let peer = unix.follow(offset!(unix_peer));
    if peer.is_null() { 0 } else { peer.load(offset!(sk_cookie)) }
}
