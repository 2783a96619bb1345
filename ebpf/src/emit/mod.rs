//! Records into the rings: facts → reserved and submitted ring memory.
//!
//! *Owns* reservations, wake-ups, and counting what found no room.
//!
//! A record is written where user space will read it; nothing is kept on the side that an interruption could spoil.

mod connection;

use aya_ebpf::helpers::generated::{
    bpf_ktime_get_boot_ns, bpf_ringbuf_query, bpf_ringbuf_reserve, bpf_ringbuf_submit,
};
use spoor_common::{
    Counter, VERSION,
    limits::CONTROL_RING_BYTES,
    record::{self, CloseRecord, DataHeader, ProcessRecord},
};

pub(crate) use self::connection::{Owner, connection};
use crate::{
    kernel::Object,
    maps::{CONTROL, DATA, count, offset, setting},
    rare::rare,
};

const BPF_RB_NO_WAKEUP: u64 = 1;
/// For what goes before a data record.
#[cfg(not(feature = "untyped"))]
pub(crate) const NO_WAKEUP: u64 = BPF_RB_NO_WAKEUP;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;
const BPF_RB_CONS_POS: u64 = 2;
const BPF_RB_PROD_POS: u64 = 3;

/// `CLOCK_BOOTTIME`.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Bytes waiting in a ring.
#[inline(always)]
pub(crate) fn waiting(ring: *mut core::ffi::c_void) -> u64 {
    // SAFETY: `ring` is one of the ring buffers.
    unsafe { bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) }
}

/// How far a ring was read, and how far it was written, in bytes since it was made.
#[inline(always)]
pub(crate) fn progress(ring: *mut core::ffi::c_void) -> (u64, u64) {
    // SAFETY: `ring` is one of the ring buffers.
    unsafe { (bpf_ringbuf_query(ring, BPF_RB_CONS_POS), bpf_ringbuf_query(ring, BPF_RB_PROD_POS)) }
}

#[inline(always)]
pub(crate) fn data_ring() -> *mut core::ffi::c_void {
    (&raw const DATA) as *mut _
}

#[inline(always)]
pub(crate) fn control_ring() -> *mut core::ffi::c_void {
    (&raw const CONTROL) as *mut _
}

/// Room for a data record of `SIZE` bytes with its header, null when the ring is full.
#[inline(always)]
pub(crate) fn reserve_data<const SIZE: usize>() -> *mut u8 {
    // SAFETY: the ring is a ring buffer; the verifier checks that what is reserved is submitted.
    unsafe { bpf_ringbuf_reserve(data_ring(), SIZE as u64, 0).cast() }
}

/// Hands a data record to user space. The reader polls; it is woken only when the ring fills up.
#[inline(always)]
pub(crate) fn submit_data(record: *mut u8) {
    let flags =
        if waiting(data_ring()) > setting!(wake_bytes) { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    // SAFETY: `record` comes from `reserve_data`.
    unsafe { bpf_ringbuf_submit(record.cast(), flags) }
}

/// Copies the header to the start of a reserved record.
#[inline(always)]
pub(crate) fn write_header(record: *mut u8, header: &DataHeader, len: u32, captured: u32, flags: u8) {
    let to = record.cast::<DataHeader>();
    // SAFETY: the record was reserved with room for a header; ring memory is aligned to 8 bytes.
    unsafe {
        let to = &mut *to;
        to.kind = record::DATA;
        to.version = VERSION;
        to.direction = header.direction;
        to.flags = header.flags | flags;
        to.awaited_by = header.awaited_by;
        to.at_ns = header.at_ns;
        to.cookie = header.cookie;
        to.pos = header.pos;
        to.other_pos = header.other_pos;
        to.len = len;
        to.captured = captured;
        to.tgid = header.tgid;
        to.tid = header.tid;
    }
}

/// Counts a data record of `len` moved bytes that found no room.
#[inline(always)]
pub(crate) fn data_lost(len: u32) {
    count(Counter::DataLostBytes, u64::from(len));
    rare(Counter::DataLost, 1, u64::from(len));
}

/// Reports a length without bytes. False when the ring is full.
#[inline(always)]
pub(crate) fn length_only(header: &DataHeader, len: u32, flags: u8) -> bool {
    let record = reserve_data::<{ size_of::<DataHeader>() }>();
    if record.is_null() {
        data_lost(len);
        return false;
    }
    write_header(record, header, len, 0, flags);
    submit_data(record);
    count(Counter::DataRecords, 1);
    true
}

/// Reports the end of a connection.
#[inline(always)]
pub(crate) fn close(cookie: u64, flags: u32) {
    // SAFETY: reserved with the size of the record that is written, and submitted on the only way out.
    unsafe {
        let to =
            bpf_ringbuf_reserve(control_ring(), size_of::<CloseRecord>() as u64, 0).cast::<CloseRecord>();
        if to.is_null() {
            rare(Counter::CloseLost, 1, cookie);
            return;
        }
        *to = CloseRecord {
            kind: record::CLOSE,
            version: VERSION,
            reserved: 0,
            flags,
            at_ns: now_ns(),
            cookie,
        };
        bpf_ringbuf_submit(to.cast(), BPF_RB_NO_WAKEUP);
    }
}

/// Reports a process, or a thread. Processes use one half of the ring only, threads a quarter: a storm of either must not
/// hide connections.
#[inline(always)]
pub(crate) fn process(event: u8, task: Object, parent: u32) {
    let part = if event == record::PROCESS_THREAD { 4 } else { 2 };
    let tgid: u32 = task.load(offset!(task_tgid));
    if waiting(control_ring()) > (CONTROL_RING_BYTES / part) as u64 {
        rare(Counter::ProcessLost, 1, u64::from(tgid));
        return;
    }
    // SAFETY: reserved with the size of the record that is written, and submitted on the only way out.
    unsafe {
        let to =
            bpf_ringbuf_reserve(control_ring(), size_of::<ProcessRecord>() as u64, 0).cast::<ProcessRecord>();
        if to.is_null() {
            rare(Counter::ProcessLost, 1, u64::from(tgid));
            return;
        }
        *to = ProcessRecord {
            kind: record::PROCESS,
            version: VERSION,
            event,
            reserved: 0,
            tgid,
            at_ns: now_ns(),
            parent,
            tid: task.load(offset!(task_pid)),
        };
        bpf_ringbuf_submit(to.cast(), BPF_RB_NO_WAKEUP);
    }
}
