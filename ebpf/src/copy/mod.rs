//! User memory into data records: a [`Source`] and a [`Share`] → records of one operation.
//!
//! *Owns* size classes, and dividing an operation into records that tile it.
//!
//! An operation is `skip` bytes left out, `copy` bytes copied, and a tail left out. Each record says how many bytes
//! of the stream it stands for; the last one also stands for the tail.

mod segments;
mod verifier;

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use spoor_common::{
    Counter,
    limits::{CLASSES, MAX_RECORDS},
    record::{DATA_BUDGET, DATA_UNREADABLE, DataHeader},
};

pub(crate) use self::segments::total;
pub(crate) use self::verifier::forget;
use self::{segments::gathered, verifier::bound};
use crate::{emit, maps::count, rare::rare, syscall::Source, verdict::Share};

const HEADER: usize = size_of::<DataHeader>();

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
        rare(Counter::NoBufferBytes, u64::from(moved), u64::from(source.syscall));
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
        rare(Counter::FaultBytes, len.wrapping_sub(captured), len.wrapping_sub(captured));
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
