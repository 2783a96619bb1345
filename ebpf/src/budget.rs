//! One cgroup's part of the rings: who moves bytes and how many → whether they may be reported.
//!
//! *Owns* the account of each cgroup, and what a cgroup is where two versions of them are in use.
//!
//! While the reader keeps up, nobody is asked. Once a quarter of a ring waits for it, a cgroup may fill as much of the
//! ring as is still free, and never more than its budget. Whoever floods a ring so leaves as much of it to the others as
//! it takes; two that flood it leave a third. What is refused is a hole of known length in the cgroup's own streams.
//! Tasks in the root cgroup, which is nobody's container, have no bound.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;
use spoor_common::{
    config::{MISSING, NO_SUBSYSTEM},
    limits::{CLASSES, CONTROL_RING_BYTES},
    record::{DataHeader, UnixConnRecord},
};

use crate::{
    emit,
    kernel::{Object, peek},
    maps::{CGROUPS, offset, setting},
};

/// Identifier of the root of every hierarchy.
const ROOT: u64 = 1;
/// Marks identifiers of version 1's hierarchy.
const VERSION_1: u64 = 1 << 62;
/// Marks the accounts of the control ring.
const CONTROL: u64 = 1 << 63;
/// What the kernel puts before each record.
const RECORD_HEADER: u64 = 8;
/// A pointer in an array of them.
const POINTER: u32 = 8;

/// What a cgroup has in a ring, at most: what it wrote since its mark was set, and in the time before. When the reader
/// has passed the mark, what was written before it is gone.
///
/// Several CPUs may write it at once. A sum that is lost that way lets a little more through.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Account {
    /// Position in the ring.
    mark: u64,
    before: u64,
    since: u64,
}

/// The cgroup of a task, the current one: by version 2, or where that has it at its root, by version 1's controller
/// `pids`, which every container runtime uses.
#[inline(always)]
pub(crate) fn cgroup(task: Object) -> u64 {
    // SAFETY: the helper has no preconditions.
    let unified = unsafe { bpf_get_current_cgroup_id() };
    if unified > ROOT || setting!(pids_subsystem) == NO_SUBSYSTEM || offset!(css_set_subsys) == MISSING {
        return unified;
    }
    let at = offset!(css_set_subsys).wrapping_add((setting!(pids_subsystem) as u32).wrapping_mul(POINTER));
    let set = next(task, offset!(task_cgroups));
    let node = next(next(next(set, at), offset!(css_cgroup)), offset!(cgroup_kn));
    match peek::<u64>(node.field(offset!(kn_id))) {
        Some(id) if id > ROOT => id | VERSION_1,
        _ => ROOT,
    }
}

/// The object that a pointer in another one leads to.
///
/// VERIFIER: copied by a helper also in the typed build, for what may be loaded through these pointers, some of which
/// only RCU protects, differs from version to version.
#[inline(always)]
fn next(object: Object, offset: u32) -> Object {
    Object(peek::<u64>(object.field(offset)).unwrap_or(0) as *const u8)
}

/// Whether an operation of which `copy` bytes are to be copied may be reported.
#[inline(always)]
pub(crate) fn admits_data(cgroup: u64, copy: u32, gathered: bool) -> bool {
    let budget = setting!(cgroup_data_bytes);
    if budget == 0 || cgroup <= ROOT || emit::waiting(emit::data_ring()) <= setting!(wake_bytes) {
        return true;
    }
    charge(emit::data_ring(), setting!(ring_bytes), budget, cgroup, cost(copy, gathered))
}

/// Whether a connection may be introduced.
#[inline(always)]
pub(crate) fn admits_connection(cgroup: u64) -> bool {
    const SIZE: u64 = size_of::<UnixConnRecord>() as u64 + RECORD_HEADER;
    let budget = setting!(cgroup_control_bytes);
    let ring_bytes = CONTROL_RING_BYTES as u64;
    if budget == 0 || cgroup <= ROOT || emit::waiting(emit::control_ring()) <= ring_bytes / 4 {
        return true;
    }
    charge(emit::control_ring(), ring_bytes, budget, cgroup | CONTROL, SIZE)
}

/// What the records of an operation take of the ring, by their size classes.
#[inline(always)]
fn cost(copy: u32, gathered: bool) -> u64 {
    let copy = u64::from(copy);
    let class = if copy <= CLASSES[0] as u64 && !gathered {
        CLASSES[0] as u64
    } else if copy <= CLASSES[1] as u64 {
        CLASSES[1] as u64
    } else if copy <= CLASSES[2] as u64 {
        CLASSES[2] as u64
    } else if copy <= CLASSES[3] as u64 {
        CLASSES[3] as u64
    } else {
        copy.wrapping_add(CLASSES[4] as u64)
    };
    // Gathering takes twice the class.
    let payload = if gathered { class.wrapping_mul(2) } else { class };
    payload.wrapping_add(size_of::<DataHeader>() as u64 + RECORD_HEADER)
}

/// Adds to an account, unless the cgroup has as much in the ring as it may.
#[inline(always)]
fn charge(ring: *mut c_void, ring_bytes: u64, budget: u64, key: u64, cost: u64) -> bool {
    let (read, written) = emit::progress(ring);
    let Some(account) = CGROUPS.get_ptr_mut(key) else {
        let _ = CGROUPS.insert(key, Account { mark: written, before: 0, since: cost }, 0);
        return true;
    };
    // SAFETY: an entry stays readable until the program ends; see `Account` for who else writes it.
    let Some(account) = (unsafe { account.as_mut() }) else { return true };
    if read >= account.mark {
        account.before = account.since;
        account.since = 0;
        account.mark = written;
    }
    let free = ring_bytes.saturating_sub(written.wrapping_sub(read));
    let bound = if free < budget { free } else { budget };
    let has = account.before.wrapping_add(account.since);
    if has.wrapping_add(cost) > bound {
        return false;
    }
    account.since = account.since.wrapping_add(cost);
    true
}
