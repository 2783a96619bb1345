//! Maps and globals. Names are those of [`spoor_common::names`].

use aya_ebpf::{
    Global,
    btf_maps::{Array, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use spoor_common::{Counter, Offsets, Settings, Verdict, config::MISSING, limits, verdict::InheritKey};

#[cfg(not(feature = "untyped"))]
use aya_ebpf::btf_maps::{HashMap, ProgramArray, SkStorage};
#[cfg(not(feature = "untyped"))]
use spoor_common::{
    chain::{node, python},
    look::{self, Look, Slot, SmallSlot},
    names::JUMPS_LEN,
};

#[cfg(not(feature = "untyped"))]
use crate::chain::Scratch;
#[cfg(not(feature = "untyped"))]
use crate::look::{Spent, Work};
use crate::{budget::Account, socket::State};

/// Data records.
#[btf_map]
pub(crate) static DATA: RingBuf<u8, { limits::DATA_RING_BYTES }> = RingBuf::new();

/// Connections, closes, processes.
#[btf_map]
pub(crate) static CONTROL: RingBuf<u8, { limits::CONTROL_RING_BYTES }> = RingBuf::new();

/// What is known of a socket, freed with it.
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static STATES: SkStorage<State> = SkStorage::new();

/// What is known of a socket, by the address of its `struct sock`.
#[cfg(feature = "untyped")]
#[btf_map]
pub(crate) static STATES: LruHashMap<u64, State, { limits::SOCKETS }> = LruHashMap::new();

/// One state of zeros: too large for the stack.
#[cfg(feature = "untyped")]
#[btf_map]
pub(crate) static BLANK: Array<State, 1> = Array::new();

/// A socket call between its entry and its return.
#[cfg(feature = "untyped")]
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Call {
    /// Address of the `struct sock`.
    pub(crate) sk: u64,
    pub(crate) flags: u32,
    pub(crate) direction: u32,
}

/// Socket calls under way, by process and thread.
#[cfg(feature = "untyped")]
#[btf_map]
pub(crate) static CALLS: LruHashMap<u64, Call, { limits::CALLS }> = LruHashMap::new();

/// Verdicts by cookie, taken at the socket's next event.
#[btf_map]
pub(crate) static VERDICTS: LruHashMap<u64, Verdict, { limits::VERDICTS }> = LruHashMap::new();

/// How many of these have been set: where nothing is new, nothing is looked for.
#[btf_map]
pub(crate) static VERDICTS_SET: Array<u64, 1> = Array::new();

/// Verdicts for connections to come.
#[btf_map]
pub(crate) static INHERITED: LruHashMap<InheritKey, Verdict, { limits::INHERITED }> = LruHashMap::new();

/// What cgroups have in the rings, see [`crate::budget`].
#[btf_map]
pub(crate) static CGROUPS: LruHashMap<u64, Account, { limits::CGROUPS }> = LruHashMap::new();

/// Processes with connections that user space knows.
#[btf_map]
pub(crate) static TRACED: LruHashMap<u32, u8, { limits::TRACED }> = LruHashMap::new();

/// What is known of processes whose tasks are followed, see [`crate::chain`].
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static RUNTIMES: HashMap<u32, python::Layout, { limits::RUNTIMES }> = HashMap::new();

/// The same of Node.js.
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static NODES: HashMap<u32, node::Layout, { limits::RUNTIMES }> = HashMap::new();

/// How many times these have been changed.
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static RUNTIMES_SET: Array<u64, 1> = Array::new();

/// The walk that is under way.
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static WALKS: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Processes of which is copied what a thread's stack points to, see [`crate::look`].
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static LOOKS: HashMap<u32, Look, { look::PROCESSES }> = HashMap::new();

/// How many times these have been changed.
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static LOOKS_SET: Array<u64, 1> = Array::new();

/// The look that is under way.
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();

/// What was copied in this second.
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static SPENT: Array<Spent, 1> = Array::new();

/// Copies, until user space takes them and wipes them.
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static SLOTS: Array<Slot, { look::SLOTS }> = Array::new();

/// The same for small ones.
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static SMALL_SLOTS: Array<SmallSlot, { look::SMALL_SLOTS }> = Array::new();

/// Programs that a send goes on in.
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static JUMPS: ProgramArray<JUMPS_LEN> = ProgramArray::new();

/// The same of a receive.
#[cfg(not(feature = "untyped"))]
#[btf_map]
pub(crate) static RECEIVE_JUMPS: ProgramArray<JUMPS_LEN> = ProgramArray::new();

/// Totals by [`Counter`].
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { Counter::LEN }> = PerCpuArray::new();

/// When each [`Counter`]'s cause was last told in the log, see [`crate::rare`].
#[btf_map]
pub(crate) static TOLD: Array<u64, { Counter::LEN }> = Array::new();

/// Where fields lie in this kernel.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Global<Offsets> = Global::new(Offsets::filled(MISSING));

/// Settings of the loader.
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Global<Settings> = Global::new(Settings::filled(0));

/// One of the [`SETTINGS`]. Each is read by itself: a copy of the whole would not fit the stack.
macro_rules! setting {
    ($field:ident) => {
        $crate::maps::word::<_, u64>(
            &$crate::maps::SETTINGS,
            core::mem::offset_of!(spoor_common::Settings, $field),
        )
    };
}

/// One of the [`OFFSETS`].
macro_rules! offset {
    ($field:ident) => {
        $crate::maps::word::<_, u32>(
            &$crate::maps::OFFSETS,
            core::mem::offset_of!(spoor_common::Offsets, $field),
        )
    };
}

/// The word at `offset` of a global; use [`setting`] and [`offset`](offset!).
#[inline(always)]
pub(crate) fn word<T, W: Copy>(global: &Global<T>, offset: usize) -> W {
    // SAFETY: `Global` is a transparent wrapper of an initialised struct of `W`, and `offset` that of one of its
    // fields. Volatile, for the loader replaces what the compiler sees.
    unsafe { core::ptr::read_volatile((&raw const *global).cast::<W>().byte_add(offset)) }
}

pub(crate) use {offset, setting};

/// Adds to a total of this CPU.
#[inline(always)]
pub(crate) fn count(counter: Counter, by: u64) {
    if let Some(total) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot belongs to this CPU. A program that interrupts this one may lose an increment of a
        // total that is only reported; it cannot corrupt it.
        unsafe { *total += by };
    }
}
