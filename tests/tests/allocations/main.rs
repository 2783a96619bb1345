//! What is asked of the allocator: on the steady path (`steady`), for bodies of any size (`sizes`), and under attack (`attacks`).
//!
//! A program of its own because the allocator is the process's: this one counts for each thread by itself, so that the tests
//! run side by side and see only what they do.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

mod attacks;
mod sizes;
mod steady;

/// What a thread has asked for so far.
#[derive(Clone, Copy)]
struct Asked {
    allocations: u64,
    /// Bytes that it holds; below zero where it frees what another thread has asked for.
    held: i64,
    /// The most that it held since [`held`] was called.
    most: i64,
}

thread_local! {
    static ASKED: Cell<Asked> = const { Cell::new(Asked { allocations: 0, held: 0, most: 0 }) };
}

/// Counts `allocations` and a change of the bytes held.
fn count(allocations: u64, bytes: i64) {
    // While a thread ends there is nothing to count.
    let _ = ASKED.try_with(|asked| {
        let before = asked.get();
        let held = before.held + bytes;
        asked.set(Asked { allocations: before.allocations + allocations, held, most: before.most.max(held) });
    });
}

/// The system's allocator, counted.
struct Counting;

// SAFETY: every call is handed on to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: as above; `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count(1, len as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread asks for memory while it runs `run`.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ASKED.with(Cell::get).allocations;
    run();
    ASKED.with(Cell::get).allocations - before
}

/// Bytes that this thread holds now. From here on [`most_held`] looks for the most.
fn held() -> i64 {
    let asked = ASKED.with(Cell::get);
    ASKED.with(|cell| cell.set(Asked { most: asked.held, ..asked }));
    asked.held
}

/// The most that this thread held at once since it called [`held`].
fn most_held() -> i64 {
    ASKED.with(Cell::get).most
}
