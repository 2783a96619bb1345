//! Several user buffers into one record: an array of `struct iovec` → gathered bytes.
//!
//! *Owns* walking that array. *Must not know* how an operation is divided into records.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use spoor_common::limits::{CLASSES, MAX_SEGMENTS, SEGMENTS_PER_RECORD};

use super::{
    Cursor, HEADER, finish,
    verifier::{bound, forget},
};
use crate::{emit, syscall::user};

/// `sizeof(struct iovec)` of 64-bit programs.
const IOVEC: u64 = 16;

/// One record from several buffers. Returns 1 to stop.
pub(super) extern "C" fn gathered(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `operation` passes its cursor.
    let cursor = unsafe { &mut *context.cast::<Cursor>() };
    let left = cursor.copy as usize;
    // VERIFIER: it does not relate where a segment goes and how long it is, so a class takes twice its size.
    if left <= CLASSES[1] {
        gathered_class::<{ CLASSES[1] }, { 2 * CLASSES[1] + HEADER }>(cursor, fill_1 as *mut c_void)
    } else if left <= CLASSES[2] {
        gathered_class::<{ CLASSES[2] }, { 2 * CLASSES[2] + HEADER }>(cursor, fill_2 as *mut c_void)
    } else {
        gathered_class::<{ CLASSES[3] }, { 2 * CLASSES[3] + HEADER }>(cursor, fill_3 as *mut c_void)
    }
}

#[inline(always)]
fn gathered_class<const PAYLOAD: usize, const SIZE: usize>(cursor: &mut Cursor, fill: *mut c_void) -> i64 {
    let record = emit::reserve_data::<SIZE>();
    if record.is_null() {
        emit::data_lost(cursor.rest as u32);
        cursor.rest = 0;
        return 1;
    }
    cursor.payload = record.wrapping_add(HEADER);
    cursor.filled = 0;
    cursor.room = if cursor.copy > PAYLOAD as u64 { PAYLOAD as u64 } else { cursor.copy };
    // SAFETY: the callback has the helper's signature and is given its own context.
    unsafe { bpf_loop(SEGMENTS_PER_RECORD, fill, (&raw mut *cursor).cast(), 0) };
    cursor.payload = core::ptr::null_mut();
    let filled = cursor.filled;
    // A record that ran out of steps is sent as it is; the next one goes on.
    let failed = cursor.broken != 0 && filled == 0;
    finish(cursor, record, filled, failed)
}

extern "C" fn fill_1(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `gathered_class` passes the cursor of `operation`.
    fill::<{ CLASSES[1] as u64 }>(unsafe { &mut *context.cast() })
}

extern "C" fn fill_2(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: as above.
    fill::<{ CLASSES[2] as u64 }>(unsafe { &mut *context.cast() })
}

extern "C" fn fill_3(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: as above.
    fill::<{ CLASSES[3] as u64 }>(unsafe { &mut *context.cast() })
}

/// Copies one segment, or what fits of it, behind what the record has. Returns 1 to stop.
#[inline(always)]
fn fill<const PAYLOAD: u64>(cursor: &mut Cursor) -> i64 {
    if cursor.filled >= cursor.room {
        return 1;
    }
    if cursor.segment_len == 0 && !next_segment(cursor) {
        // VERIFIER: a callback returns 0 or 1, and a number that is loaded could be any.
        return if cursor.broken != 0 { 1 } else { 0 };
    }
    let open = cursor.room.wrapping_sub(cursor.filled);
    let take = if cursor.segment_len < open { cursor.segment_len } else { open };
    let take = bound!(take, PAYLOAD);
    let at = bound!(cursor.filled, PAYLOAD);
    let payload = cursor.payload;
    if payload.is_null() {
        return 1;
    }
    // SAFETY: the record has room for two payloads of the class; `at` and `take` are each at most one.
    let failed = unsafe {
        bpf_probe_read_user(payload.wrapping_add(at as usize).cast(), take as u32, cursor.segment as *const _)
    };
    if failed != 0 {
        cursor.broken = 1;
        return 1;
    }
    cursor.segment = cursor.segment.wrapping_add(take);
    cursor.segment_len = forget!(cursor.segment_len.wrapping_sub(take), cursor.header.at_ns);
    cursor.filled = forget!(at.wrapping_add(take), cursor.header.at_ns);
    0
}

/// Moves to the next segment, past what is not wanted. False when there is nothing to copy from it.
#[inline(always)]
fn next_segment(cursor: &mut Cursor) -> bool {
    let entry = if cursor.segments == 0 { None } else { user::<[u64; 2]>(cursor.address) };
    let Some([base, len]) = entry else {
        cursor.broken = 1;
        return false;
    };
    cursor.segments = forget!(cursor.segments.wrapping_sub(1), cursor.header.at_ns);
    cursor.address = cursor.address.wrapping_add(IOVEC);
    let skip = if cursor.skip < len { cursor.skip } else { len };
    cursor.skip = forget!(cursor.skip.wrapping_sub(skip), cursor.header.at_ns);
    cursor.segment = base.wrapping_add(skip);
    cursor.segment_len = forget!(len.wrapping_sub(skip), cursor.header.at_ns);
    cursor.segment_len != 0
}

/// Sum of the lengths of `segments` entries of an array of `struct iovec`.
#[inline(always)]
pub(crate) fn total(address: u64, segments: u32) -> u64 {
    let mut sum = Sum { address, total: 0 };
    let steps = if segments > MAX_SEGMENTS { MAX_SEGMENTS } else { segments };
    // SAFETY: the callback has the helper's signature and is given its own context.
    unsafe { bpf_loop(steps, add_segment as *mut c_void, (&raw mut sum).cast(), 0) };
    sum.total
}

#[repr(C)]
struct Sum {
    address: u64,
    total: u64,
}

extern "C" fn add_segment(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `total` passes its sum.
    let sum = unsafe { &mut *context.cast::<Sum>() };
    match user::<u64>(sum.address.wrapping_add(8)) {
        Some(len) => sum.total = sum.total.wrapping_add(len),
        None => return 1,
    }
    sum.address = sum.address.wrapping_add(IOVEC);
    0
}
