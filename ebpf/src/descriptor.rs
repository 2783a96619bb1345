//! A descriptor of a task → the kernel's file behind it.
//!
//! Nothing keeps the table from changing meanwhile: whoever asks checks what it got.

use crate::{
    kernel::{Object, peek},
    maps::offset,
};

/// Whether descriptor `fd` of `task` is `file`.
#[inline(always)]
pub(crate) fn owns(task: Object, fd: u32, file: Object) -> bool {
    descriptor(task, fd).is_some_and(|found| found.0 as u64 == file.0 as u64)
}

/// The `struct file` behind descriptor `fd` of `task`.
#[inline(always)]
pub(crate) fn descriptor(task: Object, fd: u32) -> Option<Object> {
    let table = task.follow(offset!(task_files)).follow(offset!(files_fdt));
    if fd >= table.load::<u32>(offset!(fdt_max_fds)) {
        return None;
    }
    let slots: u64 = table.load(offset!(fdt_fd));
    let slot = slots.wrapping_add(u64::from(fd).wrapping_mul(8));
    peek::<u64>(slot as *const u8).filter(|file| *file != 0).map(|file| Object(file as *const u8))
}
