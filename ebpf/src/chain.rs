//! Who waits for whom, at a send: a thread in its system call → a record of its tasks, before that of the data.
//!
//! *Owns* which sockets' processes are followed, and running a walk in bounded turns. *Must not know* how a walk goes
//! ([`spoor_common::chain`], the same source as in user space), nor what a runtime is.
//!
//! A process that is not followed costs a comparison at each send: a socket looks its process up only when the processes that
//! are followed have changed. What follows runs as a program of its own, for it takes more stack than is left, and jumps back.
//! Reads are those of the helper, which faults no page in and changes nothing. Nothing is tried twice.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{bpf_get_current_pid_tgid, bpf_loop, bpf_ringbuf_reserve, bpf_ringbuf_submit},
    programs::BtfTracePointContext,
};
use spoor_common::{
    Counter, VERSION,
    chain::{
        Memory, Runtime, STEPS,
        python::{BROKEN, COMPLETE, DEEP, SEVERAL, Walk},
    },
    config::MISSING,
    names::{JUMP_CHAIN, JUMP_SEND},
    record::{self, ChainRecord},
};

use crate::{
    emit,
    kernel::{Object, current_task},
    maps::{JUMPS, RUNTIMES, RUNTIMES_SET, WALKS, count, offset, setting},
    socket::{self, FOLLOWED, State},
    syscall::{is_of_program, user},
};

/// A walk of this CPU.
#[repr(C)]
pub(crate) struct Scratch {
    /// A walk is under way. What interrupts it, and sends too, has none.
    busy: u64,
    walk: Walk,
}

/// The memory of the current program.
struct User;

impl Memory for User {
    #[inline(always)]
    fn words<const N: usize>(&self, at: u64) -> Option<[u64; N]> {
        user::<[u64; N]>(at)
    }
}

/// Whether the process that uses a socket is followed.
#[inline(always)]
pub(crate) fn is_followed(state: &mut State) -> bool {
    // A runtime is in the map before it is counted.
    let Some(&set) = RUNTIMES_SET.get(0) else { return false };
    if set != state.followed_heard {
        state.followed_heard = set;
        // SAFETY: the helper has no preconditions.
        let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
        state.flags &= !FOLLOWED;
        if RUNTIMES.get_ptr(tgid).is_some() {
            state.flags |= FOLLOWED;
        }
    }
    state.flags & FOLLOWED != 0
}

/// Goes on in the program that follows, which comes back to the one that reports the data. Comes back itself where there is none.
#[inline(always)]
pub(crate) fn jump(ctx: &BtfTracePointContext) {
    // SAFETY: nothing is held here that the other program would have to give back.
    unsafe {
        JUMPS.tail_call(ctx, JUMP_CHAIN);
        JUMPS.tail_call(ctx, JUMP_SEND);
    }
}

/// Goes on in the program that reports the data.
#[inline(always)]
pub(crate) fn jump_back(ctx: &BtfTracePointContext) {
    // SAFETY: as above.
    unsafe { JUMPS.tail_call(ctx, JUMP_SEND) };
}

/// What a turn is given.
#[repr(C)]
struct Turn {
    walk: *mut Walk,
    runtime: *const Runtime,
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
    let Some(runtime) = RUNTIMES.get_ptr((pid_tgid >> 32) as u32) else {
        // It is followed no more, or another process uses the socket by now: until the next change nobody looks for it again.
        state.flags &= !FOLLOWED;
        return;
    };
    let Some(scratch) = WALKS.get_ptr_mut(0) else { return };
    // SAFETY: an element of an array stays where it is and is this CPU's own; who interrupts sees that it is busy. A runtime that is
    // replaced meanwhile is of another process, whose addresses lead nowhere in this one.
    let (scratch, runtime) = unsafe { (&mut *scratch, &*runtime) };
    if scratch.busy != 0 {
        count(Counter::ChainsUntold, 1);
        return;
    }
    scratch.busy = 1;
    let walk = &mut scratch.walk;
    walk.begin(&User, runtime, task.load(offset!(task_fsbase)));
    let mut turn = Turn { walk: &raw mut *walk, runtime: &raw const *runtime };
    // SAFETY: the callback has the helper's signature and is given the context it expects.
    unsafe { bpf_loop(STEPS, step as *mut c_void, (&raw mut turn).cast(), 0) };
    walk.finish();
    match walk.end {
        COMPLETE => {
            count(Counter::ChainsComplete, 1);
            tell(walk, cookie, pid_tgid);
        }
        BROKEN => {
            count(Counter::ChainsBroken, 1);
            tell(walk, cookie, pid_tgid);
        }
        SEVERAL => count(Counter::ChainsSeveral, 1),
        DEEP => count(Counter::ChainsDeep, 1),
        _ => count(Counter::ChainsWithoutTask, 1),
    }
    scratch.busy = 0;
}

/// One step of a walk. Returns 1 to stop.
extern "C" fn step(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `follow` passes its turn, whose pointers hold while it runs.
    let (walk, runtime) = unsafe {
        let turn = &mut *context.cast::<Turn>();
        (&mut *turn.walk, &*turn.runtime)
    };
    // VERIFIER: a callback returns 0 or 1.
    if walk.step(&User, runtime) { 0 } else { 1 }
}

/// Hands a chain to user space, unless the ring fills up: then the data need the room.
#[inline(always)]
fn tell(walk: &Walk, cookie: u64, pid_tgid: u64) {
    if emit::waiting(emit::data_ring()) > setting!(wake_bytes) {
        count(Counter::ChainsUntold, 1);
        return;
    }
    // SAFETY: reserved with the size of the record that is written, and submitted on the only way out.
    unsafe {
        let to =
            bpf_ringbuf_reserve(emit::data_ring(), size_of::<ChainRecord>() as u64, 0).cast::<ChainRecord>();
        if to.is_null() {
            count(Counter::ChainsUntold, 1);
            return;
        }
        let to = &mut *to;
        to.kind = record::CHAIN;
        to.version = VERSION;
        to.is_broken = u8::from(walk.end != COMPLETE);
        to.len = walk.len as u8;
        to.tid = pid_tgid as u32;
        to.at_ns = emit::now_ns();
        to.cookie = cookie;
        to.tgid = (pid_tgid >> 32) as u32;
        to.padding = 0;
        to.tasks = walk.ids;
        bpf_ringbuf_submit((&raw mut *to).cast(), emit::NO_WAKEUP);
    }
}
