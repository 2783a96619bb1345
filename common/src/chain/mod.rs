//! Where one thread works for many requests: memory of a program → the tasks that wait for the one at work.
//!
//! A runtime that suspends tasks keeps, for each, who is resumed by its end: else it could resume nobody. While a thread
//! stands in a system call, that chain can be followed by reading alone, from the task that writes up to one that nobody
//! waits for. It is a fact of the program and no guess about scheduling: pools, queues and locks do not change it.
//!
//! ```text
//!   at the send:  running task ──awaited by──▶ task ──awaited by──▶ … ──▶ the task that answers a request
//! ```
//!
//! The same source runs in the kernel, where a step is one turn of a bounded loop, and in tests over images of memory.
//!
//! *Owns* what a walk is told ([`Runtime`]), what it reads through ([`Memory`]), and how it goes, a file for each runtime.
//! *Must not know* how a runtime was found in a process, requests, what is made of a chain.
//!
//! A wrong chain is worse than none. What leads from one task to the next is believed only where following it comes back:
//! the types are the runtime's own by their addresses, and the task that is said to wait is waiting for that very thing. Where
//! nothing leads back, as from a group of tasks to the task it belongs to, that one cannot end before.

pub mod python;

use crate::words::words;

/// Tasks of one chain, the one at work and the one at the end included. Frameworks put two or three tasks around a request.
pub const TASKS: usize = 8;
/// Steps of one walk, of at most five reads each. A deep chain of a web service takes some 60.
pub const STEPS: u32 = 256;

/// A program's memory.
pub trait Memory {
    /// `N` words from an address on. `None`: they cannot be read.
    fn words<const N: usize>(&self, at: u64) -> Option<[u64; N]>;

    /// One word.
    #[inline(always)]
    fn word(&self, at: u64) -> Option<u64> {
        self.words::<1>(at).map(|[word]| word)
    }
}

words! {
    /// What is known of a process: where its runtime keeps what a walk needs. Addresses, and offsets in bytes.
    pub struct Runtime : u64 {
        /// From the thread's pointer to the address of its state.
        thread_state,
        /// In a thread's state: its innermost frame, or what holds it.
        state_frame,
        /// 1: what holds it; the frame is at `holder_frame` in that.
        frame_is_held,
        holder_frame,
        /// In a frame: the one that called it; the word with its owner's kind, and how far to shift it.
        frame_previous,
        frame_owner,
        frame_owner_shift,
        frame_code,
        frame_locals,
        /// In code: how many locals its frames have.
        code_locals,
        /// In a coroutine: its frame.
        coroutine_frame,
        /// The dictionary of running tasks by loop.
        running,
        /// Types by their addresses.
        task_type,
        future_type,
        unicode_type,
        long_type,
        coroutine_type,
        generator_type,
        builtin_type,
        /// Methods of types in C that are told their type.
        builtin_method_type,
        function_type,
        method_type,
        cell_type,
        partial_type,
        group_type,
        /// In a future: its first callback. Its context and the list of further ones follow.
        future_callback,
        /// In a task: what it waits for, its coroutine, its name.
        task_waiter,
        task_coroutine,
        task_name,
        /// In a text: its bytes.
        unicode_bytes,
        /// How an instance keeps its attributes: one of `python::VALUES_*`.
        values,
    }
}
