//! What a thread's stack points to, at a send: copies of it for user space, before the record of the data.
//!
//! *Owns* which sends are looked at, and that it is a bounded number of bytes of a connection and in a second. *Must not know* what
//! the copies are for ([`spoor_common::look`]).
//!
//! Nothing is copied of a process that user space has not named, and a name goes with the process that it was given to: the end of
//! the process, and its becoming another program, take it away here, not in user space. Sockets of other processes cost a comparison
//! at each send, as with [`crate::chain`]. Reads are those of the helper, which faults no page in and changes nothing.
//!
//! VERIFIER: what is known of a value where ways meet again is forgotten. Checked on 6.18.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{
        bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_loop, bpf_probe_read_user,
        bpf_ringbuf_reserve, bpf_ringbuf_submit,
    },
    programs::BtfTracePointContext,
};
use spoor_common::{
    Counter, VERSION,
    look::{
        BYTES_PER_SECOND, FOLLOW, KINDS, LEARN, Look, MAX_LOOKS, MAX_OBJECTS, MAX_POINTEES, MAX_USED,
        NOWHERE, OBJECT_BYTES, POINTEE_BYTES, SLOTS_PER_CPU, SMALL_SLOTS_PER_CPU, STACK_WORDS, USE,
        WINDOW_BYTES, kind,
    },
    names::{JUMP_DATA, JUMP_LOOK},
    record::{self, EGRESS, ObjectRecord, ROLE_SERVER},
};

use crate::{
    chain,
    copy::forget,
    emit,
    kernel::{Object, current_task, registers},
    maps::{JUMPS, LOOKS, LOOKS_SET, SLOTS, SMALL_SLOTS, SPENT, WORK, count, offset, setting},
    socket::{self, LAST_INGRESS, LOOKED_AT, State},
    syscall::{is_of_program, user},
};

/// Words of an object.
const OBJECT_WORDS: usize = OBJECT_BYTES / 8;
/// Addresses that were taken in one look.
const SEEN: usize = 128;
/// Nothing of a program lies below, or above.
const LOWEST: u64 = 1 << 16;
const HIGHEST: u64 = 1 << 47;
/// What is so far above the stack pointer is no other part of the stack: the usual limit of its size.
const STACK: u64 = 8 << 20;
const SECOND_NS: u64 = 1_000_000_000;

/// A look of this CPU.
#[repr(C)]
pub(crate) struct Work {
    /// One is under way. What interrupts it, and sends too, has none.
    busy: u64,
    /// Copies made so far.
    next: u64,
    next_small: u64,
    /// The words that are looked at: of a stack, or of an object.
    words: [u64; OBJECT_WORDS],
    seen: [u64; SEEN],
}

/// What was copied since.
#[repr(C)]
pub(crate) struct Spent {
    since_ns: u64,
    bytes: u64,
}

/// Whether a send on a socket is looked at.
#[inline(always)]
pub(crate) fn is_due(state: &mut State, sk: Object) -> bool {
    // A look is in the map before it is counted.
    let Some(&set) = LOOKS_SET.get(0) else { return false };
    if set != state.looks_heard {
        state.looks_heard = set;
        state.flags &= !LOOKED_AT;
        // SAFETY: the helper has no preconditions.
        let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
        if let Some(look) = LOOKS.get_ptr(tgid) {
            let port = if state.role == ROLE_SERVER {
                sk.load::<u16>(offset!(sk_num))
            } else {
                u16::from_be(sk.load::<u16>(offset!(sk_dport)))
            };
            let kind = kind(state.role, port);
            // SAFETY: an entry stays readable until the program ends.
            let look = unsafe { &*look };
            let kinds: [u64; KINDS] = [look.kind_0, look.kind_1, look.kind_2, look.kind_3];
            if kinds[0] == kind || kinds[1] == kind || kinds[2] == kind || kinds[3] == kind {
                state.flags |= LOOKED_AT;
            }
        }
    }
    // Before both have said something there is nothing yet.
    state.flags & LOOKED_AT != 0
        && state.looks < u64::from(MAX_LOOKS)
        && state.egress.end != 0
        && state.ingress.end != 0
}

/// The process is over, or another program.
#[inline(always)]
pub(crate) fn leave(tgid: u32) {
    let _ = LOOKS.remove(tgid);
}

/// Goes on in the program that looks, which comes back. Goes on with the data where there is none.
#[inline(always)]
pub(crate) fn jump(ctx: &BtfTracePointContext) {
    // SAFETY: nothing is held here that the other program would have to give back.
    unsafe {
        JUMPS.tail_call(ctx, JUMP_LOOK);
        JUMPS.tail_call(ctx, JUMP_DATA);
    }
}

/// What a turn of the loops is given.
#[repr(C)]
struct Turn {
    work: *mut Work,
    look: *mut Look,
    mode: u64,
    sp: u64,
    cookie: u64,
    at_ns: u64,
    tgid: u64,
    /// Addresses in `seen`.
    count: u64,
    most: u64,
    /// The object that has the signature.
    object: u64,
}

/// Copies what the stack of the current thread points to, as its process' look says. Returns the program that follows its tasks, where they are, too.
#[inline(always)]
pub(crate) fn look(sk: Object) -> Option<u32> {
    let state = socket::state(sk)?;
    state.looks += 1;
    let follower = chain::follower(state, EGRESS);
    let task = current_task();
    if !is_of_program(task) {
        return follower;
    }
    // SAFETY: the helper has no preconditions.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    let (Some(look), Some(work)) = (LOOKS.get_ptr_mut(tgid), WORK.get_ptr_mut(0)) else {
        state.flags &= !LOOKED_AT;
        return follower;
    };
    // SAFETY: an element of an array stays where it is and is this CPU's own; who interrupts sees that it is busy. A look that is
    // replaced meanwhile is of another process, whose addresses lead nowhere in this one.
    let (work, look) = unsafe { (&mut *work, &mut *look) };
    if work.busy != 0 || look.left == 0 {
        return follower;
    }
    let mode = look.mode;
    // What is learned from costs more: of each flight, the first send.
    if mode != USE && state.flags & LAST_INGRESS == 0 {
        return follower;
    }
    work.busy = 1;
    // Another CPU may count at the same time: then there is one more.
    look.left -= 1;
    let sp: u64 = registers(task).load(offset!(regs_sp));
    let most = match mode {
        LEARN => MAX_OBJECTS,
        _ => MAX_USED,
    };
    // SAFETY: there is room for so many bytes; the helper refuses addresses it cannot read.
    let failed = unsafe {
        bpf_probe_read_user(work.words.as_mut_ptr().cast(), (STACK_WORDS * 8) as u32, sp as *const _)
    };
    if failed == 0 {
        let mut turn = Turn {
            work: &raw mut *work,
            look: &raw mut *look,
            mode,
            sp,
            cookie: state.cookie,
            at_ns: emit::now_ns(),
            tgid: u64::from(tgid),
            count: forget!(0, sp),
            most,
            object: forget!(0, sp),
        };
        // SAFETY: the callback has the helper's signature and is given the context it expects.
        unsafe { bpf_loop(STACK_WORDS as u32, on_stack as *mut c_void, (&raw mut turn).cast(), 0) };
        if mode == FOLLOW && turn.object != 0 {
            turn.count = forget!(0, sp);
            turn.most = MAX_POINTEES;
            // SAFETY: as above.
            unsafe { bpf_loop(OBJECT_WORDS as u32, in_object as *mut c_void, (&raw mut turn).cast(), 0) };
        }
    }
    work.busy = 0;
    follower
}

/// A word of the stack. Returns 1 to stop.
extern "C" fn on_stack(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `look` passes its turn, whose pointers hold while it runs.
    let (turn, work, look) = unsafe {
        let turn = &mut *context.cast::<Turn>();
        let (work, look) = (&mut *turn.work, &*turn.look);
        (turn, work, look)
    };
    let word = word_at(work, index);
    // Allocators give addresses that are multiples of 16.
    if word & 15 != 0 || !is_elsewhere(word, turn.sp) {
        return 0;
    }
    if turn.mode == LEARN {
        if !is_new(turn, work, word) {
            return 0;
        }
        copy::<OBJECT_BYTES>(turn, work, (word, word), false);
        return i64::from(turn.count >= turn.most);
    }
    if user::<u64>(word.wrapping_add(look.signature_at)) != Some(look.signature) || !is_new(turn, work, word)
    {
        return 0;
    }
    if turn.mode == FOLLOW {
        copy::<OBJECT_BYTES>(turn, work, (word, word), false);
        // SAFETY: there is room for so many bytes; the helper refuses addresses it cannot read.
        let failed = unsafe {
            bpf_probe_read_user(work.words.as_mut_ptr().cast(), OBJECT_BYTES as u32, word as *const _)
        };
        if failed == 0 {
            turn.object = word;
        }
        return 1;
    }
    if look.window_at != NOWHERE {
        copy::<WINDOW_BYTES>(turn, work, (word, word.wrapping_add(look.window_at)), false);
    }
    if look.pointer_at != NOWHERE
        && let Some(pointee) = user::<u64>(word.wrapping_add(look.pointer_at))
    {
        copy::<POINTEE_BYTES>(turn, work, (word, pointee.wrapping_add(look.pointee_at)), true);
    }
    i64::from(turn.count >= turn.most)
}

/// A word of the object that has the signature. Returns 1 to stop.
extern "C" fn in_object(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: as above.
    let (turn, work) = unsafe {
        let turn = &mut *context.cast::<Turn>();
        let work = &mut *turn.work;
        (turn, work)
    };
    let word = word_at(work, index);
    let is_inside = word.wrapping_sub(turn.object) < OBJECT_BYTES as u64;
    if word & 15 != 0 || is_inside || !is_elsewhere(word, turn.sp) || !is_new(turn, work, word) {
        return 0;
    }
    copy::<POINTEE_BYTES>(turn, work, (turn.object, word), true);
    i64::from(turn.count >= turn.most)
}

#[inline(always)]
fn word_at(work: &Work, index: u64) -> u64 {
    // VERIFIER: the bound is seen in the very index that is used.
    let index = (index as usize) & (OBJECT_WORDS - 1);
    // SAFETY: the index is less than the number of words.
    unsafe { *work.words.get_unchecked(index) }
}

/// An address that a program may have, and not one of the stack itself.
#[inline(always)]
fn is_elsewhere(word: u64, sp: u64) -> bool {
    (LOWEST..HIGHEST).contains(&word) && word.wrapping_sub(sp) >= STACK
}

/// It was not taken yet; now it is.
#[inline(always)]
fn is_new(turn: &mut Turn, work: &mut Work, word: u64) -> bool {
    let count = (turn.count as usize) & (SEEN - 1);
    let mut index = 0;
    while index < SEEN {
        if index >= count {
            break;
        }
        // SAFETY: the index is less than the number of addresses.
        if unsafe { *work.seen.get_unchecked(index) } == word {
            return false;
        }
        index += 1;
    }
    // SAFETY: as above.
    unsafe { *work.seen.get_unchecked_mut(count) = word };
    turn.count = forget!(turn.count.wrapping_add(1), turn.sp);
    true
}

/// Copies `LEN` bytes into the next slot and tells where they are.
#[inline(always)]
fn copy<const LEN: usize>(turn: &Turn, work: &mut Work, (object, address): (u64, u64), is_pointee: bool) {
    if emit::waiting(emit::data_ring()) > setting!(wake_bytes) || !may_spend(turn, LEN as u64) {
        count(Counter::ObjectsUntold, 1);
        return;
    }
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let is_small = LEN <= WINDOW_BYTES;
    let next = if is_small { &mut work.next_small } else { &mut work.next };
    let number = *next;
    *next = number.wrapping_add(1);
    let seal = number << 8 | u64::from(cpu & 0xff) | 1 << 63;
    let per_cpu = if is_small { SMALL_SLOTS_PER_CPU } else { SLOTS_PER_CPU };
    let index = (cpu & 3) * per_cpu + (number as u32 & (per_cpu - 1));
    let slot = if is_small {
        SMALL_SLOTS.get_ptr_mut(index).map(<*mut _>::cast::<u64>)
    } else {
        SLOTS.get_ptr_mut(index).map(<*mut _>::cast::<u64>)
    };
    let Some(slot) = slot else { return };
    // SAFETY: an element of an array stays where it is, and has room for `LEN` bytes behind its seal. Another CPU that shares the slot, and user space
    // that wipes it, may write in between: what then lies there is taken for what it says it is by nobody, for user space believes
    // nothing that is not proven.
    let failed = unsafe {
        *slot = 0;
        bpf_probe_read_user(slot.add(1).cast(), LEN as u32, address as *const _)
    };
    if failed != 0 {
        return;
    }
    // SAFETY: as above; reserved with the size of the record that is written, and submitted on the only way out.
    unsafe {
        *slot = seal;
        let to = bpf_ringbuf_reserve(emit::data_ring(), size_of::<ObjectRecord>() as u64, 0)
            .cast::<ObjectRecord>();
        if to.is_null() {
            count(Counter::ObjectsUntold, 1);
            return;
        }
        let to = &mut *to;
        to.kind = record::OBJECT;
        to.version = VERSION;
        to.mode = turn.mode as u8;
        to.is_pointee = u8::from(is_pointee);
        to.slot = index;
        to.seal = seal;
        to.at_ns = turn.at_ns;
        to.cookie = turn.cookie;
        to.object = object;
        to.address = address;
        to.tgid = turn.tgid as u32;
        to.len = LEN as u32;
        bpf_ringbuf_submit((&raw mut *to).cast(), emit::NO_WAKEUP);
    }
    count(Counter::ObjectsCopied, 1);
    count(Counter::ObjectBytes, LEN as u64);
}

/// Charges what all processes together may have copied in a second. CPUs that charge at the same time let a little more through.
#[inline(always)]
fn may_spend(turn: &Turn, bytes: u64) -> bool {
    let Some(spent) = SPENT.get_ptr_mut(0) else { return false };
    // SAFETY: an element of an array stays where it is.
    let spent = unsafe { &mut *spent };
    if turn.at_ns.wrapping_sub(spent.since_ns) > SECOND_NS {
        (spent.since_ns, spent.bytes) = (turn.at_ns, 0);
    }
    let most = if turn.mode == USE { BYTES_PER_SECOND } else { BYTES_PER_SECOND / 2 };
    if spent.bytes >= most {
        return false;
    }
    spent.bytes = spent.bytes.wrapping_add(bytes);
    true
}
