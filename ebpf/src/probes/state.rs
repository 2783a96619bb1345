//! Connections begin and end: `inet_sock_set_state`, `tcp_destroy_sock`.
//!
//! Kernel: `net/ipv4/af_inet.c`, `trace_inet_sock_set_state(const struct sock *sk, int oldstate, int newstate)`;
//! `net/ipv4/tcp.c`, `trace_tcp_destroy_sock(struct sock *sk)`. Checked on 6.18. Both may run in a soft interrupt
//! with an unrelated task: nothing is taken from the current task here.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use spoor_common::record::{CLOSE_RESET, ROLE_CLIENT, ROLE_SERVER, TRANSPORT_TCP};

use crate::{
    emit,
    kernel::pointed_to,
    maps::offset,
    socket::{self, SENT, State},
};

const ECONNRESET: i32 = 104;
const EPIPE: i32 = 32;

#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn set_state(ctx: BtfTracePointContext) -> i32 {
    let sk = pointed_to(&ctx, 0);
    let (old, new) = (ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    if new == socket::TCP_ESTABLISHED {
        let role = match old {
            socket::TCP_SYN_SENT => ROLE_CLIENT,
            socket::TCP_SYN_RECV => ROLE_SERVER,
            _ => return 0,
        };
        if socket::transport(sk) == TRANSPORT_TCP
            && let Some(state) = socket::state_or_new(sk)
            && state.flags & socket::KNOWN == 0
        {
            socket::begin(state, sk, role);
        }
        return 0;
    }
    let Some(state) = socket::state(sk) else { return 0 };
    match new {
        // Closed by its owner, as opposed to one direction shut down.
        socket::TCP_FIN_WAIT1 | socket::TCP_LAST_ACK if socket::shutdown(sk) == socket::SHUTDOWN_BOTH => {
            end(state, 0);
        }
        socket::TCP_CLOSE => {
            // `tcp_reset` leaves one of these. Without them the owner may still read; see `destroy_sock`.
            let error: i32 = sk.load(offset!(sk_err));
            if error == ECONNRESET || error == EPIPE {
                end(state, CLOSE_RESET);
            }
        }
        _ => {}
    }
    0
}

#[btf_tracepoint(function = "tcp_destroy_sock")]
pub(crate) fn destroy_sock(ctx: BtfTracePointContext) -> i32 {
    let sk = pointed_to(&ctx, 0);
    if let Some(state) = socket::state(sk) {
        end(state, 0);
        socket::forget(sk);
    }
    0
}

/// Reports the end once. Should data follow nevertheless, the connection is introduced again.
#[inline(always)]
fn end(state: &mut State, flags: u32) {
    if state.flags & SENT != 0 {
        state.flags &= !SENT;
        emit::close(state.cookie, flags);
    }
}
