//! Typed pointers into the kernel and loads from them: an object and a field's offset → the field's value.
//!
//! *Owns* every read of kernel memory.
//!
//! In the typed build the pointers come from arguments of BTF tracepoints or from helpers, so the verifier knows their
//! types and lets a program load from them directly; a bad address reads as zero. Offsets are read-only globals, hence
//! constants to the verifier. In the untyped build every load is a copy by a helper. Checked on 6.18, 6.12, 6.1.

use core::mem::MaybeUninit;

#[cfg(feature = "untyped")]
use aya_ebpf::EbpfContext as _;
use aya_ebpf::{
    helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs},
    programs::BtfTracePointContext,
};

/// A kernel object. The number is its address.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Object(pub(crate) *const u8);

impl Object {
    #[inline(always)]
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The value of type `T` at `offset`.
    ///
    /// VERIFIER: `T` is as wide as the field, or narrower; an access may not span two fields.
    #[cfg(not(feature = "untyped"))]
    #[inline(always)]
    pub(crate) fn load<T: Copy>(self, offset: u32) -> T {
        // SAFETY: the verifier has checked that the object's type has a field there; page faults are handled.
        unsafe { core::ptr::read_volatile(self.0.wrapping_add(offset as usize).cast::<T>()) }
    }

    /// The value of type `T` at `offset`; zeros where it cannot be read. `T` is made of integers, or a pointer.
    #[cfg(feature = "untyped")]
    #[inline(always)]
    pub(crate) fn load<T: Copy>(self, offset: u32) -> T {
        let mut value = MaybeUninit::<T>::zeroed();
        let from = self.0.wrapping_add(offset as usize);
        // SAFETY: the destination is a local of the given size; the helper refuses addresses it cannot read, and then
        // zeros are what is left.
        unsafe {
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from.cast());
            value.assume_init()
        }
    }

    /// The object that the pointer at `offset` points to.
    #[inline(always)]
    pub(crate) fn follow(self, offset: u32) -> Object {
        Object(self.load::<*const u8>(offset))
    }

    /// The address of the field at `offset`.
    #[inline(always)]
    pub(crate) fn field(self, offset: u32) -> *const u8 {
        self.0.wrapping_add(offset as usize)
    }
}

/// Reads a value through an address the verifier knows nothing about. `T` is made of integers.
#[inline(always)]
pub(crate) fn peek<T: Copy>(address: *const u8) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the destination is a local of the given size; the helper refuses addresses it cannot read.
    let failed =
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address.cast()) };
    // SAFETY: the helper has filled it.
    if failed == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// The object that argument `index` of a BTF tracepoint points to.
///
/// VERIFIER: it knows the type of an argument that is loaded, and then refuses to compute with its address; the untyped
/// build copies it instead.
#[inline(always)]
pub(crate) fn pointed_to(ctx: &BtfTracePointContext, index: usize) -> Object {
    #[cfg(not(feature = "untyped"))]
    return Object(ctx.arg::<*const u8>(index));
    #[cfg(feature = "untyped")]
    return Object(peek::<u64>(ctx.as_ptr().cast::<u8>().wrapping_add(index * 8)).unwrap_or(0) as *const u8);
}

/// The current task.
#[inline(always)]
pub(crate) fn current_task() -> Object {
    // SAFETY: the helper has no preconditions.
    Object(unsafe { bpf_get_current_task_btf() } as *const u8)
}

/// Registers of a task at its entry into the kernel.
#[inline(always)]
pub(crate) fn registers(task: Object) -> Object {
    // SAFETY: `task` comes from `bpf_get_current_task_btf`.
    Object(unsafe { bpf_task_pt_regs(task.0 as *mut _) } as *const u8)
}

/// Argument `index` of the kernel function whose entry the registers are of.
#[cfg(feature = "untyped")]
#[inline(always)]
pub(crate) fn argument(regs: Object, index: u32) -> u64 {
    use crate::maps::{offset, setting};
    if setting!(x86) == 1 {
        match index {
            0 => regs.load(offset!(x86_di)),
            1 => regs.load(offset!(x86_si)),
            2 => regs.load(offset!(x86_dx)),
            3 => regs.load(offset!(x86_cx)),
            _ => regs.load(offset!(x86_r8)),
        }
    } else {
        regs.load(offset!(arm_regs).wrapping_add(index * 8))
    }
}

/// What the kernel function returned whose return the registers are of.
#[cfg(feature = "untyped")]
#[inline(always)]
pub(crate) fn returned(regs: Object) -> u64 {
    use crate::maps::{offset, setting};
    if setting!(x86) == 1 { regs.load(offset!(x86_ax)) } else { regs.load(offset!(arm_regs)) }
}
