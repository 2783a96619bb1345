//! Processes and threads begin, change and end: `sched_process_fork`, `sched_process_exec`, `sched_process_exit`.
//!
//! Kernel: `trace_sched_process_fork(parent, child)`, `trace_sched_process_exec(task, old_pid, bprm)`,
//! `trace_sched_process_exit(task, …)`; the first argument used is the same in all versions. Checked on 6.18.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use spoor_common::record::{PROCESS_EXEC, PROCESS_EXIT, PROCESS_FORK, PROCESS_THREAD};

use crate::{
    emit,
    kernel::pointed_to,
    maps::{TRACED, offset},
};

#[btf_tracepoint(function = "sched_process_fork")]
pub(crate) fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let parent = pointed_to(&ctx, 0);
    let child = pointed_to(&ctx, 1);
    let tgid: u32 = child.load(offset!(task_tgid));
    if child.load::<u32>(offset!(task_pid)) == tgid {
        emit::process(PROCESS_FORK, child, parent.load(offset!(task_tgid)));
    } else if TRACED.get_ptr(tgid).is_some() {
        // Who began a thread may have begun it for what it was working on.
        emit::process(PROCESS_THREAD, child, parent.load(offset!(task_pid)));
    }
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
pub(crate) fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = pointed_to(&ctx, 0);
    #[cfg(not(feature = "untyped"))]
    crate::look::leave(task.load(offset!(task_tgid)));
    emit::process(PROCESS_EXEC, task, 0);
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
pub(crate) fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let task = pointed_to(&ctx, 0);
    // Threads that still live; the one that ends has been taken off.
    if task.follow(offset!(task_signal)).load::<i32>(offset!(signal_live)) == 0 {
        #[cfg(not(feature = "untyped"))]
        crate::look::leave(task.load(offset!(task_tgid)));
        emit::process(PROCESS_EXIT, task, 0);
    }
    0
}
