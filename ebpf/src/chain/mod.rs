//! Who waits for whom, at a send or for what is received: a thread in its system call → a record of its tasks, before that of the
//! data.
//!
//! *Owns* which sockets' processes are followed, and at which operations, and running a walk in bounded turns, a file for each runtime.
//! *Must not know* how a walk goes ([`spoor_common::chain`], the same source as in user space), nor what a runtime is.
//!
//! A process that is not followed costs a comparison at each operation: a socket looks its process up only when the processes that
//! are followed have changed. What follows runs as a program of its own, for it takes more stack than is left, and jumps back.
//! Reads are those of the helper, which faults no page in and changes nothing. Nothing is tried twice.

pub(crate) mod node;
pub(crate) mod python;

use aya_ebpf::{
    btf_maps::ProgramArray,
    helpers::generated::{bpf_get_current_pid_tgid, bpf_ringbuf_reserve, bpf_ringbuf_submit},
    programs::BtfTracePointContext,
};
use spoor_common::{
    Counter, VERSION,
    chain::{self, BROKEN, COMPLETE, DEEP, Memory, SEVERAL, TASKS},
    names::{JUMP_DATA, JUMP_NODE, JUMP_PYTHON, JUMPS_LEN},
    record::{self, ChainRecord, EGRESS, ROLE_CLIENT, ROLE_SERVER},
};

use crate::{
    emit,
    maps::{NODES, RUNTIMES, RUNTIMES_SET, count, setting},
    socket::{FOLLOWED, FOLLOWED_NODE, State, WAITED_FOR},
    syscall::user,
};

/// A walk of this CPU.
#[repr(C)]
pub(crate) struct Scratch {
    /// A walk is under way. What interrupts it, and sends too, has none.
    busy: u64,
    python: chain::python::Walk,
    node: chain::node::Walk,
    hints: chain::node::Hints,
}

/// The memory of the current program.
struct User;

impl Memory for User {
    #[inline(always)]
    fn words<const N: usize>(&self, at: u64) -> Option<[u64; N]> {
        user::<[u64; N]>(at)
    }
}

/// The program that follows tasks at this operation, where its process is followed and the operation tells.
#[inline(always)]
pub(crate) fn follower(state: &mut State, direction: u8) -> Option<u32> {
    // A runtime is in its map before it is counted.
    let &set = RUNTIMES_SET.get(0)?;
    if set != state.followed_heard {
        state.followed_heard = set;
        // SAFETY: the helper has no preconditions.
        let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
        state.flags &= !(FOLLOWED | FOLLOWED_NODE);
        if RUNTIMES.get_ptr(tgid).is_some() {
            state.flags |= FOLLOWED;
        } else if NODES.get_ptr(tgid).is_some() {
            state.flags |= FOLLOWED_NODE;
        }
    }
    if state.flags & FOLLOWED != 0 {
        // Its tasks read nothing: the loop does.
        return (direction == EGRESS).then_some(JUMP_PYTHON);
    }
    if state.flags & FOLLOWED_NODE == 0 {
        return None;
    }
    if direction == EGRESS {
        state.flags |= WAITED_FOR;
        // A question. Who waits for its answer is looked for when that comes.
        return (state.role != ROLE_CLIENT).then_some(JUMP_NODE);
    }
    // Only the first piece of an answer finds everything as it was while it was waited for.
    let is_first = state.flags & WAITED_FOR != 0;
    state.flags &= !WAITED_FOR;
    (is_first && state.role != ROLE_SERVER).then_some(JUMP_NODE)
}

/// Goes on in the program that follows, which comes back to the one that reports the data. Comes back itself where there is none.
#[inline(always)]
pub(crate) fn jump(ctx: &BtfTracePointContext, jumps: &ProgramArray<JUMPS_LEN>, follower: u32) {
    // VERIFIER: a jump to a place that is known is a direct one.
    // SAFETY: nothing is held here that the other program would have to give back.
    unsafe {
        if follower == JUMP_PYTHON {
            jumps.tail_call(ctx, JUMP_PYTHON);
        } else {
            jumps.tail_call(ctx, JUMP_NODE);
        }
        jumps.tail_call(ctx, JUMP_DATA);
    }
}

/// Goes on in the program that reports the data.
#[inline(always)]
pub(crate) fn jump_back(ctx: &BtfTracePointContext, jumps: &ProgramArray<JUMPS_LEN>) {
    // SAFETY: as above.
    unsafe { jumps.tail_call(ctx, JUMP_DATA) };
}

/// What a walk found.
struct Told {
    end: u64,
    len: u64,
    tasks: [u64; TASKS],
    direction: u8,
    cookie: u64,
    pid_tgid: u64,
}

/// Counts how a walk ended, and tells what it found.
#[inline(always)]
fn ended(told: &Told) {
    match told.end {
        COMPLETE => {
            count(Counter::ChainsComplete, 1);
            tell(told);
        }
        BROKEN => {
            count(Counter::ChainsBroken, 1);
            tell(told);
        }
        SEVERAL => count(Counter::ChainsSeveral, 1),
        DEEP => count(Counter::ChainsDeep, 1),
        _ => count(Counter::ChainsWithoutTask, 1),
    }
}

/// Hands a chain to user space, unless the ring fills up: then the data need the room.
#[inline(always)]
fn tell(told: &Told) {
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
        to.is_broken = u8::from(told.end != COMPLETE);
        to.len = told.len as u8;
        to.tid = told.pid_tgid as u32;
        to.at_ns = emit::now_ns();
        to.cookie = told.cookie;
        to.tgid = (told.pid_tgid >> 32) as u32;
        to.direction = u32::from(told.direction);
        to.tasks = told.tasks;
        bpf_ringbuf_submit((&raw mut *to).cast(), emit::NO_WAKEUP);
    }
}
