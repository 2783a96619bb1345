//! CPython: a thread in a send → the tasks that wait for it.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_loop};
use spoor_common::{
    Counter,
    chain::python::{Layout, STEPS, Walk},
    config::MISSING,
    record::EGRESS,
};

use super::{Told, User, ended};
use crate::{
    kernel::{Object, current_task},
    maps::{RUNTIMES, WALKS, count, offset, setting},
    socket::{self, FOLLOWED},
    syscall::is_of_program,
};

/// What a turn is given.
#[repr(C)]
struct Turn {
    walk: *mut Walk,
    layout: *const Layout,
}

/// Follows who waits for the current thread's work on a socket, and tells.
#[inline(always)]
pub(crate) fn follow(sk: Object) {
    let Some(state) = socket::state(sk) else { return };
    let cookie = state.cookie;
    let task = current_task();
    if offset!(task_fsbase) == MISSING || setting!(x86) == 0 || !is_of_program(task) {
        return;
    }
    // SAFETY: the helper has no preconditions.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let Some(layout) = RUNTIMES.get_ptr((pid_tgid >> 32) as u32) else {
        // It is followed no more, or another process uses the socket by now: until the next change nobody looks for it again.
        state.flags &= !FOLLOWED;
        return;
    };
    let Some(scratch) = WALKS.get_ptr_mut(0) else { return };
    // SAFETY: an element of an array stays where it is and is this CPU's own; who interrupts sees that it is busy. A layout that is
    // replaced meanwhile is of another process, whose addresses lead nowhere in this one.
    let (scratch, layout) = unsafe { (&mut *scratch, &*layout) };
    if scratch.busy != 0 {
        count(Counter::ChainsUntold, 1);
        return;
    }
    scratch.busy = 1;
    let walk = &mut scratch.python;
    walk.begin(&User, layout, task.load(offset!(task_fsbase)));
    let mut turn = Turn { walk: &raw mut *walk, layout: &raw const *layout };
    // SAFETY: the callback has the helper's signature and is given the context it expects.
    unsafe { bpf_loop(STEPS, step as *mut c_void, (&raw mut turn).cast(), 0) };
    walk.finish();
    ended(&Told { end: walk.end, len: walk.len, tasks: walk.ids, direction: EGRESS, cookie, pid_tgid });
    scratch.busy = 0;
}

/// One step of a walk. Returns 1 to stop.
extern "C" fn step(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `follow` passes its turn, whose pointers hold while it runs.
    let (walk, layout) = unsafe {
        let turn = &mut *context.cast::<Turn>();
        (&mut *turn.walk, &*turn.layout)
    };
    // VERIFIER: a callback returns 0 or 1.
    if walk.step(&User, layout) { 0 } else { 1 }
}
