//! Completed socket operations: `sock_send_length` and `sock_recv_length`, rung A of the hook ladder.
//!
//! Kernel: `net/socket.c`, `trace_sock_send_length(struct sock *sk, int ret, int flags)` and its twin, after the
//! protocol's `sendmsg` or `recvmsg` has returned. Since 6.3; checked on 6.18.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use spoor_common::names::JUMP_LOOK;
use spoor_common::record::{EGRESS, INGRESS};

use crate::{
    chain,
    kernel::Object,
    look,
    maps::{JUMPS, RECEIVE_JUMPS},
    operation::{Moment, operation},
};

#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn send_length(ctx: BtfTracePointContext) -> i32 {
    match sent(&ctx, Moment::FIRST) {
        Some(JUMP_LOOK) => look::jump(&ctx),
        Some(follower) => chain::jump(&ctx, &JUMPS, follower),
        None => {}
    }
    0
}

/// The same of a process that is looked at: first what its stack points to, …
#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn send_look(ctx: BtfTracePointContext) -> i32 {
    match look::look(socket(&ctx)) {
        Some(follower) => chain::jump(&ctx, &JUMPS, follower),
        None => chain::jump_back(&ctx, &JUMPS),
    }
    0
}

/// The same of a process whose tasks are followed: first who waits, …
#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn send_python(ctx: BtfTracePointContext) -> i32 {
    chain::python::follow(socket(&ctx));
    chain::jump_back(&ctx, &JUMPS);
    0
}

#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn send_node(ctx: BtfTracePointContext) -> i32 {
    chain::node::follow(socket(&ctx), EGRESS);
    chain::jump_back(&ctx, &JUMPS);
    0
}

/// … then what was sent.
#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn send_followed(ctx: BtfTracePointContext) -> i32 {
    sent(&ctx, Moment::DONE);
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
pub(crate) fn recv_length(ctx: BtfTracePointContext) -> i32 {
    if let Some(follower) = received(&ctx, Moment::FIRST) {
        chain::jump(&ctx, &RECEIVE_JUMPS, follower);
    }
    0
}

/// The same of a process whose tasks are followed: first who waits for it, …
#[btf_tracepoint(function = "sock_recv_length")]
pub(crate) fn recv_node(ctx: BtfTracePointContext) -> i32 {
    chain::node::follow(socket(&ctx), INGRESS);
    chain::jump_back(&ctx, &RECEIVE_JUMPS);
    0
}

/// … then what was received.
#[btf_tracepoint(function = "sock_recv_length")]
pub(crate) fn recv_followed(ctx: BtfTracePointContext) -> i32 {
    received(&ctx, Moment::DONE);
    0
}

#[inline(always)]
fn socket(ctx: &BtfTracePointContext) -> Object {
    Object(ctx.arg::<*const u8>(0))
}

/// The kernel passes no flags of a send: it always passes 0.
#[inline(always)]
fn sent(ctx: &BtfTracePointContext, moment: Moment) -> Option<u32> {
    operation(socket(ctx), ctx.arg::<i32>(1), 0, EGRESS, moment)
}

#[inline(always)]
fn received(ctx: &BtfTracePointContext, moment: Moment) -> Option<u32> {
    operation(socket(ctx), ctx.arg::<i32>(1), ctx.arg::<i32>(2), INGRESS, moment)
}
