//! Typed pointers into the kernel and loads from them: an object and a field's offset in, the field's value out.
//!
//! *Owns* every read of kernel memory.
//!
//! The pointers come from arguments of BTF tracepoints or from helpers, so the verifier knows their types and lets
//! a program load from them directly; a bad address reads as zero. Offsets are read-only globals, hence constants
//! to the verifier. Checked on 6.18.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs};

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
    #[inline(always)]
    pub(crate) fn load<T: Copy>(self, offset: u32) -> T {
        // SAFETY: the verifier has checked that the object's type has a field there; page faults are handled.
        unsafe { core::ptr::read_volatile(self.0.wrapping_add(offset as usize).cast::<T>()) }
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
