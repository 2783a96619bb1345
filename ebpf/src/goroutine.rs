//! Who works where a Go program's threads do not tell: a task's registers in, the goroutine that made the call out.
//!
//! Go moves goroutines between threads at every wait. Its compiler keeps the running one in a register (`g`: R14 on
//! x86-64 since Go 1.17, X28 on arm64), also at the entry of a system call, so no probe has to be set in the program.
//! Nothing has to be known of the program either: a goroutine's description begins with the bounds of its stack, and
//! the stack pointer lies between them. C code in a Go program runs on a thread's stack and is not taken for one.
//!
//! *Owns* how a goroutine is told. *Must not know* what is done with it.
//! *Spec*: Go, `src/cmd/compile/abi-internal.md` ("Architecture specifics"); `src/runtime/runtime2.go` (`g.stack`, whose
//! place "is known to" assembly and C); `src/runtime/malloc.go` (`arenaHint`).

use spoor_common::record::GOROUTINE;

use crate::{
    kernel::{Object, registers},
    maps::{offset, setting},
    syscall::{is_of_program, user},
};

/// Go's heap, where the stacks of goroutines are, begins here: `0x00c0 << 32` on x86-64, `0x0040 << 32` on arm64.
/// It asks for places 1 TiB apart, one after the other, until one is free.
const HEAP_X86: u64 = 0xc0 << 32;
const HEAP_ARM: u64 = 0x40 << 32;
/// The sixteenth of these places. The stacks of threads are far above with address spaces of 47 bits and more, so that other
/// programs cost one comparison: what they have in the register is an address only by chance, and reading there would fault.
const HEAP_END: u64 = 0x10 << 40;
/// The runtime's own bound is 1 GB.
const MAX_STACK: u64 = 1 << 30;
/// Of arm64's registers, the one with `g`.
const ARM_G: u32 = 28;

/// The goroutine that made the current system call, as a number that no thread has; `tid` where there is none.
#[inline(always)]
pub(crate) fn worker(task: Object, tid: u32) -> u32 {
    let regs = registers(task);
    let sp: u64 = regs.load(offset!(regs_sp));
    let heap = if setting!(x86) == 1 { HEAP_X86 } else { HEAP_ARM };
    if sp < heap || sp >= HEAP_END || !is_of_program(task) {
        return tid;
    }
    let g: u64 = if setting!(x86) == 1 {
        regs.load(offset!(x86_r14))
    } else {
        regs.load(offset!(arm_regs).wrapping_add(ARM_G * 8))
    };
    match user::<[u64; 2]>(g) {
        // Descriptions are aligned and lie within one heap: what is cut off is the same for all.
        Some([low, high]) if low < sp && sp <= high && high - low <= MAX_STACK => (g >> 3) as u32 | GOROUTINE,
        _ => tid,
    }
}
