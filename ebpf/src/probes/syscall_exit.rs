//! Returns of system calls: `sys_exit`, rung D of the hook ladder, the last resort.
//!
//! Kernel: `kernel/entry/common.c`, `trace_sys_exit(struct pt_regs *regs, long ret)`. It fires for every system call
//! of the machine. Sockets are found by walking from the descriptor. What moves bytes without a system call of its own,
//! such as `io_uring`, is not seen: its bytes show as a gap.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_loop, macros::btf_tracepoint, programs::BtfTracePointContext};
use spoor_common::{
    limits::MAX_SEGMENTS,
    record::{EGRESS, INGRESS},
};

use crate::{
    copy::forget,
    descriptor::descriptor,
    kernel::{Object, current_task, peek, pointed_to},
    maps::{offset, setting},
    operation::{Moment, operation},
    socket,
    syscall::{self, MMSGHDR, arguments, user},
};

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
/// `msg_len` in `struct mmsghdr` of 64-bit programs.
const MSG_LEN: u64 = 56;

#[btf_tracepoint(function = "sys_exit")]
pub(crate) fn syscall_exit(ctx: BtfTracePointContext) -> i32 {
    let ret = ctx.arg::<i64>(1);
    if ret < 0 {
        return 0;
    }
    let call = arguments(pointed_to(&ctx, 0));
    let nr = call.nr;
    let (fd, direction, flags) = if nr == setting!(nr_read) || nr == setting!(nr_readv) {
        (call.first, INGRESS, 0)
    } else if nr == setting!(nr_write) || nr == setting!(nr_writev) {
        (call.first, EGRESS, 0)
    } else if nr == setting!(nr_recvfrom) {
        (call.first, INGRESS, call.fourth)
    } else if nr == setting!(nr_recvmsg) {
        (call.first, INGRESS, call.third)
    } else if nr == setting!(nr_recvmmsg) {
        (call.first, INGRESS, call.fourth)
    } else if nr == setting!(nr_sendto)
        || nr == setting!(nr_sendmsg)
        || nr == setting!(nr_sendmmsg)
        || nr == setting!(nr_sendfile)
    {
        (call.first, EGRESS, 0)
    } else if nr == setting!(nr_splice) {
        return splice(call.first, call.third, ret as i32);
    } else {
        return 0;
    };
    let sk = socket_of(fd);
    if sk.is_null() {
        return 0;
    }
    let many = nr == setting!(nr_sendmmsg) || nr == setting!(nr_recvmmsg);
    report(sk, if many { call.second } else { 0 }, ret as u32, flags, direction);
    0
}

/// The operations of one call.
#[repr(C)]
struct Batch {
    sk: u64,
    /// Where the length of the next message is; 0 for a call that is one operation.
    next: u64,
    /// Bytes of the operations that are left.
    left: u64,
    flags: u64,
    direction: u64,
}

/// Reports what a call has moved: `moved` bytes, or as many messages as that where it has an array of `headers`.
#[inline(always)]
fn report(sk: Object, headers: u64, moved: u32, flags: u64, direction: u8) {
    let next = if headers == 0 { 0 } else { headers.wrapping_add(MSG_LEN) };
    let sk_address = sk.0 as u64;
    let mut batch = Batch {
        sk: sk_address,
        next,
        left: u64::from(moved),
        flags: forget!(flags, sk_address),
        direction: forget!(u64::from(direction), sk_address),
    };
    let mut count = 1;
    if next != 0 {
        count = if moved > MAX_SEGMENTS { MAX_SEGMENTS } else { moved };
        batch.left = 0;
        // SAFETY: the callback has the helper's signature and is given its own context.
        unsafe { bpf_loop(count, add_up as *mut c_void, (&raw mut batch).cast(), 0) };
        batch.next = next;
    }
    // VERIFIER: one place only where the core routine is called.
    // SAFETY: as above.
    unsafe { bpf_loop(count, message as *mut c_void, (&raw mut batch).cast(), 0) };
    if next != 0
        && let Some(state) = socket::state(sk)
    {
        syscall::batch_ended(state);
    }
}

/// Length of the next message.
#[inline(always)]
fn next_len(batch: &mut Batch) -> Option<u32> {
    let len = user::<u32>(batch.next)?;
    batch.next = batch.next.wrapping_add(MMSGHDR);
    Some(len)
}

extern "C" fn add_up(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `report` passes its batch.
    let batch = unsafe { &mut *context.cast::<Batch>() };
    let Some(len) = next_len(batch) else { return 1 };
    batch.left = forget!(batch.left.wrapping_add(u64::from(len)), batch.sk);
    0
}

extern "C" fn message(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `report` passes its batch.
    let batch = unsafe { &mut *context.cast::<Batch>() };
    let len = if batch.next == 0 { batch.left as u32 } else { next_len(batch).unwrap_or(0) };
    batch.left = forget!(batch.left.wrapping_sub(u64::from(len)), batch.sk);
    let moment = Moment { returned: true, ahead: batch.left, may_jump: false };
    operation(Object(batch.sk as *const u8), len as i32, batch.flags as i32, batch.direction as u8, moment);
    0
}

/// Between a pipe and a socket: the socket may be at either end.
#[inline(always)]
fn splice(from: u64, to: u64, moved: i32) -> i32 {
    let mut sk = socket_of(to);
    let mut direction = EGRESS;
    if sk.is_null() {
        sk = socket_of(from);
        direction = INGRESS;
    }
    if !sk.is_null() {
        report(sk, 0, moved as u32, 0, direction);
    }
    0
}

/// The `struct sock` behind a descriptor of the current task; null if it is no socket.
#[inline(always)]
fn socket_of(fd: u64) -> Object {
    const NONE: Object = Object(core::ptr::null());
    let Some(file) = descriptor(current_task(), fd as u32) else { return NONE };
    let mode: u16 = file.follow(offset!(file_inode)).load(offset!(inode_mode));
    if mode & S_IFMT != S_IFSOCK {
        return NONE;
    }
    let socket = file.follow(offset!(file_private));
    // The descriptor may have been closed and used again meanwhile.
    if socket.is_null() || peek::<u64>(socket.field(offset!(socket_file))) != Some(file.0 as u64) {
        return NONE;
    }
    socket.follow(offset!(socket_sk))
}
