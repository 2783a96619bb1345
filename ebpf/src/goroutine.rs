//! Who works where a Go program's threads do not tell: a task's registers → the goroutine that made the call.
//!
//! Go moves goroutines between threads at every wait. Its compiler keeps the running one in a register (`g`: R14 on
//! x86-64 since Go 1.17, X28 on arm64), also at the entry of a system call, so no probe has to be set in the program.
//! Nothing has to be known of the program either: a goroutine's description begins with the bounds of its stack, and
//! the stack pointer lies between them. C code in a Go program runs on a thread's stack and is not taken for one.
//!
//! Go's HTTP client does not write a request where it is made: it hands it to a goroutine that belongs to the connection, and
//! waits on a channel that goes along with it. So do many programs of their own. The outermost function of the goroutine that
//! writes holds that channel, and the channel holds who waits on it: if that is one goroutine, the work is likely its. The
//! functions it has called hold more, but also what earlier calls have left on the stack.
//!
//! *Owns* how goroutines are told. *Must not know* what is done with them.
//! *Spec*: Go, `src/cmd/compile/abi-internal.md` ("Architecture specifics"); `src/runtime/runtime2.go` (`g.stack`, whose
//! place "is known to" assembly and C; `sudog`); `src/runtime/chan.go` (`hchan`, `waitq`); `src/runtime/malloc.go`
//! (`arenaHint`).

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use spoor_common::record::GOROUTINE;

use crate::{
    copy::forget,
    kernel::{Object, registers},
    maps::{offset, setting},
    syscall::{is_of_program, user},
};

/// Go's heap, where the stacks of goroutines are, begins at `0x00c0 << 32` on x86-64 and `0x0040 << 32` on arm64, since Go 1.26
/// anywhere in the lower half of what programs have (a quarter on x86-64).
const HEAP: u64 = 1 << 32;
/// The stacks of threads are above with address spaces of 47 bits and more, so that other programs cost one comparison: what
/// they have in the register is an address only by chance, and reading there would fault.
const HEAP_END_X86: u64 = 1 << 46;
const HEAP_END_ARM: u64 = 1 << 47;
/// The runtime's own bound is 1 GB.
const MAX_STACK: u64 = 1 << 30;
/// Of arm64's registers, the one with `g`.
const ARM_G: u32 = 28;

/// Words of a stack that are looked at together.
const STEP: usize = 2;
/// So many times at most: a kilobyte.
const STEPS: u32 = 64;
/// Before the outermost function's frame there is room for its arguments, within so many bytes of the stack's end.
const BEFORE_FRAMES: u64 = 64;
/// A frame this small is that of a function which the compiler has put around the one that was asked for.
const SMALL_FRAME: u64 = 64;
/// Where a channel keeps the first goroutine that waits to receive: the earlier of two places until Go 1.22, after which
/// the number of a slot is in its place. In the earlier versions the last one that waits is in the later place.
const WAITING: u64 = 56;
/// A waiting goroutine and the next one, in the description of a wait.
const WAITER: u64 = 0;
/// The channel it is for; since Go 1.26 one and two words later.
const WAITS_ON: u64 = 80;
/// Several goroutines wait.
const SEVERAL: u64 = u64::MAX;

/// Who made a system call.
#[derive(Clone, Copy)]
pub(crate) struct Worker {
    /// The thread, or the goroutine as a number that no thread has.
    pub(crate) tid: u32,
    /// The only goroutine that waits for what this one does, 0 where there is none or where that is not known.
    pub(crate) awaited_by: u32,
}

/// Who made the current system call, and if `awaited` is asked for who waits for it.
#[inline(always)]
pub(crate) fn worker(task: Object, tid: u32, awaited: bool) -> Worker {
    let thread = Worker { tid, awaited_by: 0 };
    let regs = registers(task);
    let sp: u64 = regs.load(offset!(regs_sp));
    let heap_end = if setting!(x86) == 1 { HEAP_END_X86 } else { HEAP_END_ARM };
    if sp < HEAP || sp >= heap_end || !is_of_program(task) {
        return thread;
    }
    let g: u64 = if setting!(x86) == 1 {
        regs.load(offset!(x86_r14))
    } else {
        regs.load(offset!(arm_regs).wrapping_add(ARM_G * 8))
    };
    match user::<[u64; 2]>(g) {
        Some([low, high]) if low < sp && sp <= high && high - low <= MAX_STACK => {
            let awaited_by = if awaited { waiting_for(g, low, high, sp, heap_end) } else { 0 };
            Worker { tid: number(g), awaited_by }
        }
        _ => thread,
    }
}

/// The only goroutine that waits for goroutine `g`, with a stack from `low` to `high` that is in use from `sp` on; 0 where there is
/// none.
///
/// VERIFIER: what is known of a value where ways meet again is forgotten, for all that follows is gone through once more for
/// each thing that is known.
#[inline(always)]
fn waiting_for(g: u64, low: u64, high: u64, sp: u64, heap_end: u64) -> u32 {
    let (link, room, waiter) = (high - BEFORE_FRAMES, forget!(BEFORE_FRAMES, g), forget!(0, g));
    let mut search = Search { g, low, high, heap_end, sp, at: high, link, room, waiter };
    // SAFETY: the callback has the helper's signature and is given the context it expects.
    unsafe { bpf_loop(STEPS, look as *mut c_void, (&raw mut search).cast(), 0) };
    let waiting = match search.waiter {
        0 | SEVERAL => 0,
        waiter => number(waiter),
    };
    forget!(u64::from(waiting), g) as u32
}

/// Descriptions are aligned and lie within one heap: what is cut off is the same for all.
#[inline(always)]
fn number(g: u64) -> u32 {
    (g >> 3) as u32 | GOROUTINE
}

/// Who waits for a goroutine, as far as was looked.
#[repr(C)]
struct Search {
    g: u64,
    /// Its stack.
    low: u64,
    high: u64,
    heap_end: u64,
    /// Below it nothing is in use.
    sp: u64,
    /// The word after those to be looked at next: from the outermost function inwards.
    at: u64,
    /// Where the frame begins: the function that is called from it keeps an address from here on, within `room`.
    link: u64,
    room: u64,
    waiter: u64,
}

/// Looks at the next words of a stack. Returns 1 to stop.
extern "C" fn look(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `worker` passes its search.
    let search = unsafe { &mut *context.cast::<Search>() };
    search.at = search.at.wrapping_sub((STEP * 8) as u64);
    if search.at < search.sp {
        return 1;
    }
    let Some(words) = user::<[u64; STEP]>(search.at) else { return 1 };
    for (index, word) in words.into_iter().enumerate().rev() {
        if search.ends_frame(search.at.wrapping_add((index * 8) as u64), word) {
            return 1;
        }
        search.consider(word);
        search.room = forget!(search.room, search.g);
        search.waiter = forget!(search.waiter, search.g);
    }
    i64::from(search.waiter == SEVERAL)
}

impl Search {
    /// The word at `place` is the frame pointer that the next function has kept. What is around the function itself is passed.
    #[inline(always)]
    fn ends_frame(&mut self, place: u64, word: u64) -> bool {
        if word.wrapping_sub(self.link) >= self.room {
            return false;
        }
        if word.wrapping_sub(place) > SMALL_FRAME {
            return true;
        }
        self.link = place;
        self.room = 8;
        false
    }

    /// A place on the heap, and none of this stack.
    #[inline(always)]
    fn is_object(&self, word: u64) -> bool {
        word & 7 == 0 && word >= HEAP && word < self.heap_end && (word < self.low || word >= self.high)
    }

    /// Of a word that is the address of a channel on which one goroutine waits, notes who that is.
    #[inline(always)]
    fn consider(&mut self, word: u64) {
        if !self.is_object(word) {
            return;
        }
        let Some([first, second]) = user::<[u64; 2]>(word.wrapping_add(WAITING)) else { return };
        let wait = if self.is_object(first) { first } else { second };
        if !self.is_object(wait) {
            return;
        }
        let Some([waiter, next]) = user::<[u64; 2]>(wait.wrapping_add(WAITER)) else { return };
        if next != 0 || !self.is_object(waiter) || waiter == self.g {
            return;
        }
        let Some(on) = user::<[u64; 3]>(wait.wrapping_add(WAITS_ON)) else { return };
        if !on.contains(&word) {
            return;
        }
        self.waiter = if self.waiter == 0 || self.waiter == waiter { waiter } else { SEVERAL };
    }
}
