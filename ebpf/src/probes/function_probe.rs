//! Entries and returns of the protocols' own functions: kprobes, rung C of the hook ladder.
//!
//! The functions are those of rung B. A return probe does not see the arguments: the entry notes the socket under the
//! task's identifier. These functions do not call each other.

use aya_ebpf::{
    helpers::generated::bpf_get_current_pid_tgid,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use spoor_common::record::{EGRESS, INGRESS};

use crate::{
    kernel::{Object, argument, returned},
    maps::{CALLS, Call, offset, setting},
    operation::{Moment, operation},
};

#[inline(always)]
fn task_id() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_pid_tgid() }
}

#[inline(always)]
fn enter(sk: Object, flags: u64, direction: u8) -> u32 {
    let call = Call { sk: sk.0 as u64, flags: flags as u32, direction: u32::from(direction) };
    // When the table is full, the operation is not seen: its bytes show as a gap.
    let _ = CALLS.insert(task_id(), call, 0);
    0
}

/// The flags of a `recvmsg`, which has had one more argument before them.
#[inline(always)]
fn recv_flags(regs: Object) -> u64 {
    if setting!(recv_nonblock) == 1 { argument(regs, 4) } else { argument(regs, 3) }
}

#[kprobe]
pub(crate) fn send_entry(ctx: ProbeContext) -> u32 {
    let regs = Object(ctx.regs.cast());
    enter(Object(argument(regs, 0) as *const u8), 0, EGRESS)
}

#[kprobe]
pub(crate) fn recv_entry(ctx: ProbeContext) -> u32 {
    let regs = Object(ctx.regs.cast());
    enter(Object(argument(regs, 0) as *const u8), recv_flags(regs), INGRESS)
}

#[kprobe]
pub(crate) fn unix_send_entry(ctx: ProbeContext) -> u32 {
    let regs = Object(ctx.regs.cast());
    enter(Object(argument(regs, 0) as *const u8).follow(offset!(socket_sk)), 0, EGRESS)
}

#[kprobe]
pub(crate) fn unix_recv_entry(ctx: ProbeContext) -> u32 {
    let regs = Object(ctx.regs.cast());
    // `unix_stream_recvmsg(sock, msg, size, flags)` never had another argument.
    enter(Object(argument(regs, 0) as *const u8).follow(offset!(socket_sk)), argument(regs, 3), INGRESS)
}

#[kretprobe]
pub(crate) fn socket_call_return(ctx: RetProbeContext) -> u32 {
    let id = task_id();
    // SAFETY: only this task writes under its identifier; the value is copied at once.
    let Some(&Call { sk, flags, direction }) = (unsafe { CALLS.get(id) }) else { return 0 };
    let _ = CALLS.remove(id);
    if sk != 0 {
        let ret = returned(Object(ctx.regs.cast()));
        operation(Object(sk as *const u8), ret as i32, flags as i32, direction as u8, Moment::DONE);
    }
    0
}
