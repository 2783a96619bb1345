//! Where the bytes lie in user memory: the task's system call → a buffer or a list of them.
//!
//! *Owns* reading system call arguments and proving that the call is about this very socket.
//!
//! A socket operation is not always the current call's: `io_uring` completes work at the end of unrelated calls,
//! `splice` names a pipe first, the kernel has sockets of its own. Bytes are read only if the call is a known one,
//! has not returned yet, and its descriptor is the socket's file. Otherwise only the length is known.
//!
//! Long because every form of call that moves bytes is here once.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_user;

use crate::{
    copy,
    descriptor::owns,
    kernel::{Object, registers},
    maps::{offset, setting},
    socket::State,
};

/// `PF_KTHREAD`, `PF_IO_WORKER`: no system call of a program.
const KERNEL_TASK: u32 = 0x0020_0000 | 0x0000_0010;
/// x86: `TS_COMPAT` in `thread_info.status`, a 32-bit system call.
const TS_COMPAT: u32 = 0x2;
/// arm64: `TIF_32BIT` in `thread_info.flags`.
const TIF_32BIT: u64 = 1 << 22;
const ENOSYS: i64 = 38;
/// `sizeof(struct mmsghdr)` of 64-bit programs.
pub(crate) const MMSGHDR: u64 = 64;
/// Offsets in `struct msghdr` and `struct mmsghdr`.
const MSG_IOV: u64 = 16;

/// No system call.
pub(crate) const NONE: u16 = u16::MAX;

/// Where an operation's bytes are.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    /// Start of the bytes, or of the array of `struct iovec`. 0: out of reach.
    pub(crate) address: u64,
    /// Entries of the array; 0: `address` is the bytes themselves.
    pub(crate) segments: u32,
    pub(crate) syscall: u16,
}

const OUT_OF_REACH: Source = Source { address: 0, segments: 0, syscall: NONE };

/// Reads a value from the memory of the current program. `T` is made of integers.
#[inline(always)]
pub(crate) fn user<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the destination is a local of the given size; the helper refuses addresses it cannot read.
    let failed =
        unsafe { bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _) };
    // SAFETY: the helper has filled it.
    if failed == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// A system call of a 64-bit program.
#[derive(Clone, Copy)]
pub(crate) struct Arguments {
    pub(crate) nr: u64,
    pub(crate) first: u64,
    pub(crate) second: u64,
    pub(crate) third: u64,
    #[cfg_attr(not(feature = "untyped"), expect(dead_code, reason = "flags, which typed hooks are given"))]
    pub(crate) fourth: u64,
    pub(crate) fifth: u64,
}

/// What the task called that entered the kernel with these registers. They outlive the call.
#[inline(always)]
pub(crate) fn arguments(regs: Object) -> Arguments {
    if setting!(x86) == 1 {
        return Arguments {
            nr: regs.load(offset!(x86_orig_ax)),
            first: regs.load(offset!(x86_di)),
            second: regs.load(offset!(x86_si)),
            third: regs.load(offset!(x86_dx)),
            fourth: regs.load(offset!(x86_r10)),
            fifth: regs.load(offset!(x86_r8)),
        };
    }
    let x = offset!(arm_regs);
    Arguments {
        nr: u64::from(regs.load::<u32>(offset!(arm_syscall))),
        // The result takes the place of the first argument.
        first: regs.load(offset!(arm_orig_x0)),
        second: regs.load(x.wrapping_add(8)),
        third: regs.load(x.wrapping_add(16)),
        fourth: regs.load(x.wrapping_add(24)),
        fifth: regs.load(x.wrapping_add(32)),
    }
}

/// Whether the current call is that of a 32-bit program, whose structures are others.
#[inline(always)]
fn is_compat(task: Object) -> bool {
    if setting!(x86) == 1 {
        task.load::<u32>(offset!(task_thread_status)) & TS_COMPAT != 0
    } else {
        task.load::<u64>(offset!(task_thread_flags)) & TIF_32BIT != 0
    }
}

/// The current call is one of a 64-bit program.
#[inline(always)]
pub(crate) fn is_of_program(task: Object) -> bool {
    task.load::<u32>(offset!(task_flags)) & KERNEL_TASK == 0 && !is_compat(task)
}

/// The descriptor that the current call of a 64-bit program is made on, if it is that of `file` and the call has not returned.
#[cfg(not(feature = "untyped"))]
#[inline(always)]
pub(crate) fn descriptor_of_call(task: Object, file: Object) -> Option<u32> {
    if setting!(x86) == 0 || file.is_null() || !is_of_program(task) {
        return None;
    }
    let regs = registers(task);
    if regs.load::<u64>(offset!(x86_ax)) as i64 != -ENOSYS {
        return None;
    }
    let fd = arguments(regs).first as u32;
    owns(task, fd, file).then_some(fd)
}

/// Finds the buffer of the operation of `moved` bytes that `task` has just completed on the socket of `file`.
#[inline(always)]
pub(crate) fn source(
    state: &mut State,
    task: Object,
    file: Object,
    tid: u32,
    moved: i32,
    returned: bool,
) -> Source {
    if !is_of_program(task) {
        return OUT_OF_REACH;
    }
    let regs = registers(task);
    // Entry code stores -ENOSYS there; it stays until the call has returned.
    if setting!(x86) == 1 && !returned && regs.load::<u64>(offset!(x86_ax)) as i64 != -ENOSYS {
        return OUT_OF_REACH;
    }
    let Arguments { nr, first: fd, second, third, fifth, .. } = arguments(regs);
    let syscall = nr as u16;
    if !owns(task, fd as u32, file) {
        return Source { syscall, ..OUT_OF_REACH };
    }
    if nr == setting!(nr_read)
        || nr == setting!(nr_write)
        || nr == setting!(nr_sendto)
        || nr == setting!(nr_recvfrom)
    {
        return Source { address: second, segments: 0, syscall };
    }
    if nr == setting!(nr_readv) || nr == setting!(nr_writev) {
        return Source { address: second, segments: third as u32, syscall };
    }
    if nr == setting!(nr_sendmsg) || nr == setting!(nr_recvmsg) {
        return message(second, syscall);
    }
    if nr == setting!(nr_sendmmsg) {
        return batch(state, tid, second, third as u32, moved, syscall);
    }
    // A time limit ends `recvmmsg` between two messages without a trace.
    if nr == setting!(nr_recvmmsg) && (fifth == 0 || third as u32 == 1 || returned) {
        return batch(state, tid, second, third as u32, moved, syscall);
    }
    Source { syscall, ..OUT_OF_REACH }
}

/// The array of buffers that a `struct msghdr` names.
#[inline(always)]
fn message(header: u64, syscall: u16) -> Source {
    match user::<[u64; 2]>(header.wrapping_add(MSG_IOV)) {
        Some([address, segments]) if segments != 0 => Source { address, segments: segments as u32, syscall },
        _ => Source { syscall, ..OUT_OF_REACH },
    }
}

/// The buffers of one message of a batch. The call completes its messages in order, each is one operation; the
/// number of the next one is kept with the socket. A failed operation ends the call, see [`batch_ended`].
#[inline(always)]
fn batch(state: &mut State, tid: u32, headers: u64, count: u32, moved: i32, syscall: u16) -> Source {
    if count <= 1 {
        return message(headers, syscall);
    }
    if state.batch_tid != 0 && state.batch_tid != tid {
        // Two threads in the middle of a batch on one socket: which message this is cannot be told.
        return Source { syscall, ..OUT_OF_REACH };
    }
    let index = if state.batch_tid == tid { state.batch_next } else { 0 };
    let found = message(headers.wrapping_add(u64::from(index).wrapping_mul(MMSGHDR)), syscall);
    let next = index.wrapping_add(1);
    // A message sent in part ends the call; one received in part does not.
    let partial = u64::from(syscall) == setting!(nr_sendmmsg)
        && copy::total(found.address, found.segments) != u64::from(moved as u32);
    if next >= count || partial {
        batch_ended(state);
    } else {
        state.batch_tid = tid;
        state.batch_next = next;
    }
    found
}

/// Notes that an operation failed, which ends a batch of messages.
#[inline(always)]
pub(crate) fn batch_ended(state: &mut State) {
    state.batch_tid = 0;
    state.batch_next = 0;
}
