//! State in a table by the socket's address, for hooks that give plain addresses: a `struct sock` → its state.
//!
//! Addresses are used again. A TCP socket's entry goes with it (`tcp_destroy_sock`); Unix and Multipath TCP sockets
//! have no such hook, there the number of its inode tells one socket from the next.

use spoor_common::{
    config::MISSING,
    record::{TRANSPORT_TCP, TRANSPORT_UNIX},
};

use super::{State, transport};
use crate::{
    emit,
    kernel::Object,
    maps::{BLANK, STATES, offset},
};

const BPF_NOEXIST: u64 = 1;
/// Tells cookies made here from the kernel's.
const OURS: u64 = 1 << 63;

/// The state of a socket that has one.
#[inline(always)]
pub(crate) fn state(sk: Object) -> Option<&'static mut State> {
    let state = lookup(sk)?;
    if state.transport != TRANSPORT_TCP && state.inode != 0 {
        let now = inode(sk);
        if now != 0 && now != state.inode {
            forget(sk);
            return None;
        }
    }
    Some(state)
}

/// The state of a socket, created when it has none.
#[inline(always)]
pub(crate) fn state_or_new(sk: Object) -> Option<&'static mut State> {
    if let Some(state) = state(sk) {
        return Some(state);
    }
    let blank = BLANK.get(0)?;
    let _ = STATES.insert(sk.0 as u64, blank, BPF_NOEXIST);
    let state = lookup(sk)?;
    state.inode = inode(sk);
    Some(state)
}

#[inline(always)]
fn lookup(sk: Object) -> Option<&'static mut State> {
    let found = STATES.get_ptr_mut(sk.0 as u64)?;
    // SAFETY: an entry stays readable until the program ends. Programs on other CPUs may write the same state: fields
    // are plain integers, and what they disagree on is found by `advance`.
    unsafe { found.as_mut() }
}

/// The socket is gone.
#[inline(always)]
pub(crate) fn forget(sk: Object) {
    let _ = STATES.remove(sk.0 as u64);
}

/// Number of the socket's inode; 0 for one that no descriptor has named yet.
#[inline(always)]
fn inode(sk: Object) -> u64 {
    let file = sk.follow(offset!(sk_socket)).follow(offset!(socket_file));
    file.follow(offset!(file_inode)).load(offset!(inode_number))
}

/// The socket as `struct tcp_sock`, null if it is none.
#[inline(always)]
pub(crate) fn tcp(sk: Object) -> Object {
    if transport(sk) == TRANSPORT_TCP { sk } else { Object(core::ptr::null()) }
}

/// The socket as `struct unix_sock`, null if it is none.
#[inline(always)]
pub(crate) fn unix(sk: Object) -> Object {
    if offset!(unix_peer) != MISSING && transport(sk) == TRANSPORT_UNIX {
        sk
    } else {
        Object(core::ptr::null())
    }
}

/// The socket's cookie. The kernel gives one to those that ask for it; the others get one here.
#[inline(always)]
pub(crate) fn cookie(sk: Object) -> u64 {
    let kernels: u64 = sk.load(offset!(sk_cookie));
    if kernels != 0 { kernels } else { (sk.0 as u64).rotate_left(20) ^ emit::now_ns() | OURS }
}

/// Takes the kernel's cookie if it has given one meanwhile. Only before user space has heard of the connection.
#[inline(always)]
pub(crate) fn settle_cookie(state: &mut State, sk: Object) {
    let kernels: u64 = sk.load(offset!(sk_cookie));
    if kernels != 0 {
        state.cookie = kernels;
    }
}

/// The cookie of a Unix socket's other end; 0 while it has no state or there is no other end.
#[inline(always)]
pub(crate) fn unix_peer(unix: Object) -> u64 {
    let peer = unix.follow(offset!(unix_peer));
    if peer.is_null() {
        return 0;
    }
    // Only what user space knows, or is about to be told: until then the cookie may change.
    match lookup(peer) {
        Some(state) if state.flags & super::SENT != 0 => state.cookie,
        _ => 0,
    }
}
