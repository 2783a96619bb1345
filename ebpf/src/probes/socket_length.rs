//! Completed socket operations: `sock_send_length` and `sock_recv_length`, rung A of the hook ladder.
//!
//! Kernel: `net/socket.c`, `trace_sock_send_length(struct sock *sk, int ret, int flags)` and its twin, after the
//! protocol's `sendmsg` or `recvmsg` has returned. Since 6.3; checked on 6.18.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use spoor_common::record::{EGRESS, INGRESS};

use crate::{
    chain,
    kernel::Object,
    look,
    operation::{Left, Moment, operation},
};

#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn send_length(ctx: BtfTracePointContext) -> i32 {
    // The kernel passes no flags of a send: it always passes 0.
    match operation(Object(ctx.arg::<*const u8>(0)), ctx.arg::<i32>(1), 0, EGRESS, Moment::FIRST) {
        Left::Nothing => {}
        Left::Chain => chain::jump(&ctx),
        Left::Look => look::jump(&ctx),
    }
    0
}

/// The same of a process that is looked at: first what its stack points to, …
#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn send_look(ctx: BtfTracePointContext) -> i32 {
    if look::look(Object(ctx.arg::<*const u8>(0))) {
        chain::jump(&ctx);
    } else {
        chain::jump_back(&ctx);
    }
    0
}

/// The same of a process whose tasks are followed: first who waits, …
#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn send_chain(ctx: BtfTracePointContext) -> i32 {
    chain::follow(Object(ctx.arg::<*const u8>(0)));
    chain::jump_back(&ctx);
    0
}

/// … then what was sent.
#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn send_followed(ctx: BtfTracePointContext) -> i32 {
    operation(Object(ctx.arg::<*const u8>(0)), ctx.arg::<i32>(1), 0, EGRESS, Moment::DONE);
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
pub(crate) fn recv_length(ctx: BtfTracePointContext) -> i32 {
    operation(Object(ctx.arg::<*const u8>(0)), ctx.arg::<i32>(1), ctx.arg::<i32>(2), INGRESS, Moment::DONE);
    0
}
