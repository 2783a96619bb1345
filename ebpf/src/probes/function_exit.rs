//! Returns of the protocols' own functions with their arguments: `fexit`, rung B of the hook ladder.
//!
//! Kernel: `net/ipv4/tcp.c` `tcp_sendmsg(sk, msg, size)`, `tcp_recvmsg(sk, msg, len, [nonblock,] flags, addr_len)`,
//! `tcp_sendpage(sk, page, offset, size, flags)` (before 6.5); `net/mptcp/protocol.c`; `net/unix/af_unix.c`
//! `unix_stream_*` with a `struct socket` in place of the `struct sock`. The value returned comes behind the arguments.
//! Checked on 6.1 and 6.12.

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_get_func_arg, macros::fexit, programs::FExitContext,
};
use spoor_common::record::{EGRESS, INGRESS};

use crate::{
    kernel::Object,
    maps::{offset, setting},
    operation::{Moment, operation},
};

#[inline(always)]
fn sock(ctx: &FExitContext) -> Object {
    Object(ctx.arg::<*const u8>(0))
}

/// The `struct sock` of the `struct socket` that is the first argument.
#[inline(always)]
fn sock_of_socket(ctx: &FExitContext) -> Object {
    Object(ctx.arg::<*const u8>(0)).follow(offset!(socket_sk))
}

#[inline(always)]
fn sent(sk: Object, ret: i32) -> i32 {
    if !sk.is_null() {
        operation(sk, ret, 0, EGRESS, Moment::DONE);
    }
    0
}

#[inline(always)]
fn received(ctx: &FExitContext) -> i32 {
    // VERIFIER: the context is read at constants only; which argument it is depends on a global.
    let index = if setting!(recv_nonblock) == 1 { 4 } else { 3 };
    let mut flags: u64 = 0;
    // SAFETY: the destination is a local of the size that the helper writes.
    let failed = unsafe { bpf_get_func_arg(ctx.as_ptr(), index, &raw mut flags) };
    let Ok(ret) = ctx.ret::<i32>() else { return 0 };
    if failed == 0 {
        operation(sock(ctx), ret, flags as i32, INGRESS, Moment::DONE);
    }
    0
}

#[fexit(function = "tcp_sendmsg")]
pub(crate) fn tcp_send_exit(ctx: FExitContext) -> i32 {
    sent(sock(&ctx), ctx.arg::<i32>(3))
}

#[fexit(function = "tcp_recvmsg")]
pub(crate) fn tcp_recv_exit(ctx: FExitContext) -> i32 {
    received(&ctx)
}

#[fexit(function = "tcp_sendpage")]
pub(crate) fn tcp_sendpage_exit(ctx: FExitContext) -> i32 {
    sent(sock(&ctx), ctx.arg::<i32>(5))
}

#[fexit(function = "mptcp_sendmsg")]
pub(crate) fn mptcp_send_exit(ctx: FExitContext) -> i32 {
    sent(sock(&ctx), ctx.arg::<i32>(3))
}

#[fexit(function = "mptcp_recvmsg")]
pub(crate) fn mptcp_recv_exit(ctx: FExitContext) -> i32 {
    received(&ctx)
}

#[fexit(function = "unix_stream_sendmsg")]
pub(crate) fn unix_send_exit(ctx: FExitContext) -> i32 {
    sent(sock_of_socket(&ctx), ctx.arg::<i32>(3))
}

#[fexit(function = "unix_stream_recvmsg")]
pub(crate) fn unix_recv_exit(ctx: FExitContext) -> i32 {
    let sk = sock_of_socket(&ctx);
    if !sk.is_null() {
        operation(sk, ctx.arg::<i32>(4), ctx.arg::<i32>(3), INGRESS, Moment::DONE);
    }
    0
}

#[fexit(function = "unix_stream_sendpage")]
pub(crate) fn unix_sendpage_exit(ctx: FExitContext) -> i32 {
    sent(sock_of_socket(&ctx), ctx.arg::<i32>(5))
}
