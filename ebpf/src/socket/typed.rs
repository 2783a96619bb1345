//! State stored with the socket, for hooks that give a socket the verifier knows: a `struct sock` → its state.

use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_sk_storage_get, bpf_skc_to_tcp_sock, bpf_skc_to_unix_sock,
};

use super::State;
use crate::{
    kernel::Object,
    maps::{STATES, offset},
};

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

/// The socket is gone. Its state goes with it.
#[inline(always)]
pub(crate) fn forget(_sk: Object) {}

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

/// The state has the kernel's cookie from the start.
#[inline(always)]
pub(crate) fn settle_cookie(_state: &mut State, _sk: Object) {}

/// The cookie of a Unix socket's other end; 0 while it has none or there is no other end.
#[inline(always)]
pub(crate) fn unix_peer(unix: Object) -> u64 {
    let peer = unix.follow(offset!(unix_peer));
    if peer.is_null() { 0 } else { peer.load(offset!(sk_cookie)) }
}
