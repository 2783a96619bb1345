//! Node.js: a descriptor that is written or read → the connection whose request waits for it.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_loop};
use spoor_common::{
    Counter,
    chain::{
        TASKS,
        node::{Call, Hints, Layout, STEPS, Walk},
    },
    record::INGRESS,
};

use super::{Told, User, ended};
use crate::{
    kernel::{Object, current_task},
    maps::{NODES, RUNTIMES_SET, WALKS, count, offset},
    socket::{self, FOLLOWED_NODE},
    syscall,
};

/// What a turn is given.
#[repr(C)]
struct Turn {
    walk: *mut Walk,
    layout: *const Layout,
    hints: *mut Hints,
}

/// Follows who waits for what is said on a socket, and tells.
#[inline(always)]
pub(crate) fn follow(sk: Object, direction: u8) {
    let Some(state) = socket::state(sk) else { return };
    let cookie = state.cookie;
    // SAFETY: the helper has no preconditions.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let tgid = (pid_tgid >> 32) as u32;
    let Some(layout) = NODES.get_ptr(tgid) else {
        // It is followed no more, or another process uses the socket by now: until the next change nobody looks for it again.
        state.flags &= !FOLLOWED_NODE;
        return;
    };
    // While the main thread is in its call, nothing in the memory of its loop moves.
    if tgid != pid_tgid as u32 {
        return;
    }
    let file = sk.follow(offset!(sk_socket)).follow(offset!(socket_file));
    let Some(fd) = syscall::descriptor_of_call(current_task(), file) else { return };
    let Some(scratch) = WALKS.get_ptr_mut(0) else { return };
    let set = RUNTIMES_SET.get(0).copied().unwrap_or(0);
    // SAFETY: as for CPython.
    let (scratch, layout) = unsafe { (&mut *scratch, &*layout) };
    if scratch.busy != 0 {
        count(Counter::ChainsUntold, 1);
        return;
    }
    scratch.busy = 1;
    let walk = &mut scratch.node;
    let salt = u64::from(tgid) << 32 | (set & 0xffff) << 16;
    walk.begin(&User, layout, Call { fd: u64::from(fd), is_read: direction == INGRESS, salt });
    let mut turn = Turn { walk: &raw mut *walk, layout: &raw const *layout, hints: &raw mut scratch.hints };
    // SAFETY: the callback has the helper's signature and is given the context it expects.
    unsafe { bpf_loop(STEPS, step as *mut c_void, (&raw mut turn).cast(), 0) };
    walk.finish();
    let mut tasks = [0; TASKS];
    if let Some(first) = tasks.first_mut() {
        *first = walk.id;
    }
    ended(&Told { end: walk.end, len: 1, tasks, direction, cookie, pid_tgid });
    scratch.busy = 0;
}

/// One step of a walk. Returns 1 to stop.
extern "C" fn step(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `follow` passes its turn, whose pointers hold while it runs.
    let (walk, layout, hints) = unsafe {
        let turn = &mut *context.cast::<Turn>();
        (&mut *turn.walk, &*turn.layout, &mut *turn.hints)
    };
    // VERIFIER: a callback returns 0 or 1.
    if walk.step(&User, layout, hints) { 0 } else { 1 }
}
