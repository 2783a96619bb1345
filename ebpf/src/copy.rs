//! User memory into data records: a [`Source`] and a [`Share`] in, records of one operation out.
//!
//! *Owns* size classes, walking `iovec`s, and dividing an operation into records that tile it.
//!
//! An operation is `skip` bytes left out, `copy` bytes copied, and a tail left out. Each record says how many bytes
//! of the stream it stands for; the last one also stands for the tail.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use spoor_common::{
    Counter,
    limits::{CLASSES, MAX_RECORDS, MAX_SEGMENTS, SEGMENTS_PER_RECORD},
    record::{DATA_BUDGET, DATA_UNREADABLE, DataHeader},
};

use crate::{
    emit,
    maps::count,
    syscall::{Source, user},
    verdict::Share,
};

const HEADER: usize = size_of::<DataHeader>();
/// `sizeof(struct iovec)` of 64-bit programs.
const IOVEC: u64 = 16;

/// Limits `$value` to `0..=$max` with the very comparison the verifier sees.
///
/// VERIFIER: LLVM likes to compare a copy of a length and to use the original; then its bounds are not known.
macro_rules! bound {
    ($value:expr, $max:expr) => {{
        let mut value: u64 = $value;
        #[cfg(target_arch = "bpf")]
        // SAFETY: two instructions on one register.
        unsafe {
            core::arch::asm!(
                "if {value} <= {max} goto +1",
                "{value} = {max}",
                value = inout(reg) value,
                max = const $max,
            );
        }
        #[cfg(not(target_arch = "bpf"))]
        if value > $max {
            value = $max;
        }
        value
    }};
}

/// `$value`, about which the verifier now knows nothing; neither does it know `$unknown`.
///
/// VERIFIER: a loop is accepted as soon as a step ends in a state that it has seen before. A value that counts down
/// from a known limit, or whose bounds move with every step, is a new state every time.
macro_rules! forget {
    ($value:expr, $unknown:expr) => {{
        let mut value: u64 = $value;
        let unknown: u64 = $unknown;
        #[cfg(target_arch = "bpf")]
        // SAFETY: two instructions on one register.
        unsafe {
            core::arch::asm!(
                "{value} ^= {unknown}",
                "{value} ^= {unknown}",
                value = inout(reg) value,
                unknown = in(reg) unknown,
            );
        }
        #[cfg(not(target_arch = "bpf"))]
        {
            value ^= unknown;
            value ^= unknown;
        }
        value
    }};
}

/// An operation on its way into records. Lives on the stack of the probe; callbacks see it by address.
///
/// VERIFIER: what changes from step to step takes eight bytes, for a known value of four is never given up.
#[repr(C)]
struct Cursor {
    /// Header of the next record.
    header: DataHeader,
    /// Next byte, or next entry of the array of segments.
    address: u64,
    /// Next byte of the current segment.
    segment: u64,
    /// Bytes left in the current segment.
    segment_len: u64,
    /// Payload of the record being filled.
    payload: *mut u8,
    /// Bytes filled of it, and to fill.
    filled: u64,
    room: u64,
    /// Entries left in the array.
    segments: u64,
    /// Bytes left to copy, and to report.
    copy: u64,
    rest: u64,
    /// Bytes at the start that are not wanted.
    skip: u64,
    /// The rest cannot be read.
    broken: u64,
}

/// Reports an operation of `moved` bytes.
#[inline(always)]
pub(crate) fn operation(header: DataHeader, source: &Source, share: Share, moved: u32) {
    let mut cursor = Cursor {
        header,
        address: source.address,
        segment: 0,
        segment_len: 0,
        payload: core::ptr::null_mut(),
        filled: 0,
        room: 0,
        segments: forget!(u64::from(source.segments), header.at_ns),
        copy: forget!(u64::from(share.copy), header.at_ns),
        rest: forget!(u64::from(moved), header.at_ns),
        skip: u64::from(share.skip),
        broken: 0,
    };
    if source.address == 0 {
        count(Counter::NoBufferBytes, u64::from(moved));
        emit::length_only(&cursor.header, moved, DATA_UNREADABLE);
        return;
    }
    if share.copy == 0 {
        count(Counter::BudgetBytes, u64::from(moved));
        emit::length_only(&cursor.header, moved, DATA_BUDGET);
        return;
    }
    if share.skip != 0 {
        count(Counter::BudgetBytes, u64::from(share.skip));
        emit::length_only(&cursor.header, share.skip, DATA_BUDGET);
        cursor.header.pos = cursor.header.pos.wrapping_add(u64::from(share.skip));
        cursor.rest = cursor.rest.wrapping_sub(u64::from(share.skip));
    }
    if cursor.segments == 0 {
        cursor.address = cursor.address.wrapping_add(u64::from(share.skip));
        run(whole as *mut c_void, &mut cursor);
    } else {
        run(gathered as *mut c_void, &mut cursor);
    }
    if cursor.rest != 0 {
        count(Counter::BudgetBytes, cursor.rest);
        emit::length_only(&cursor.header, cursor.rest as u32, DATA_BUDGET);
    }
}

/// Calls `step` until it stops.
#[inline(always)]
fn run(step: *mut c_void, cursor: &mut Cursor) {
    // SAFETY: the callback has the helper's signature and is given the context it expects.
    unsafe { bpf_loop(MAX_RECORDS, step, (&raw mut *cursor).cast(), 0) };
}

/// One record from one buffer. Returns 1 to stop.
extern "C" fn whole(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `operation` passes its cursor.
    let cursor = unsafe { &mut *context.cast::<Cursor>() };
    let left = cursor.copy as usize;
    if left <= CLASSES[0] {
        whole_class::<{ CLASSES[0] }, { CLASSES[0] + HEADER }>(cursor)
    } else if left <= CLASSES[1] {
        whole_class::<{ CLASSES[1] }, { CLASSES[1] + HEADER }>(cursor)
    } else if left <= CLASSES[2] {
        whole_class::<{ CLASSES[2] }, { CLASSES[2] + HEADER }>(cursor)
    } else if left <= CLASSES[3] {
        whole_class::<{ CLASSES[3] }, { CLASSES[3] + HEADER }>(cursor)
    } else {
        whole_class::<{ CLASSES[4] }, { CLASSES[4] + HEADER }>(cursor)
    }
}

#[inline(always)]
fn whole_class<const PAYLOAD: usize, const SIZE: usize>(cursor: &mut Cursor) -> i64 {
    let record = emit::reserve_data::<SIZE>();
    if record.is_null() {
        emit::data_lost(cursor.rest as u32);
        cursor.rest = 0;
        return 1;
    }
    let size = bound!(cursor.copy, PAYLOAD as u64);
    // SAFETY: the record has room for a header and `PAYLOAD` bytes, and `size` is not more.
    let failed = unsafe {
        bpf_probe_read_user(record.wrapping_add(HEADER).cast(), size as u32, cursor.address as *const _)
    };
    cursor.address = cursor.address.wrapping_add(size);
    finish(cursor, record, size, failed != 0)
}

/// One record from several buffers. Returns 1 to stop.
extern "C" fn gathered(_index: u64, context: *mut c_void) -> i64 {
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

/// Completes and submits a record with `captured` bytes. Returns 1 when the operation is reported.
#[inline(always)]
fn finish(cursor: &mut Cursor, record: *mut u8, captured: u64, failed: bool) -> i64 {
    let captured = if failed { 0 } else { captured };
    let left = cursor.copy.wrapping_sub(captured);
    let last = failed || cursor.broken != 0 || left == 0;
    let len = if last { cursor.rest } else { captured };
    let mut flags = 0;
    if failed || cursor.broken != 0 {
        flags = DATA_UNREADABLE;
        count(Counter::FaultBytes, len.wrapping_sub(captured));
    } else if len > captured {
        flags = DATA_BUDGET;
        count(Counter::BudgetBytes, len.wrapping_sub(captured));
    }
    emit::write_header(record, &cursor.header, len as u32, captured as u32, flags);
    emit::submit_data(record);
    count(Counter::DataRecords, 1);
    count(Counter::DataBytes, captured);
    cursor.copy = forget!(left, cursor.header.at_ns);
    cursor.rest = forget!(cursor.rest.wrapping_sub(len), cursor.header.at_ns);
    cursor.header.pos = cursor.header.pos.wrapping_add(len);
    i64::from(last)
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
