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
//! *Owns* what a walk reads through ([`Memory`]), how it may end, and how it goes, a file for each runtime.
//! *Must not know* how a runtime was found in a process, requests, what is made of a chain.
//!
//! A wrong chain is worse than none. What leads from one task to the next is believed only where following it comes back:
//! the types are the runtime's own by their addresses, and the task that is said to wait is waiting for that very thing. Where
//! nothing leads back, as from a group of tasks to the task it belongs to, that one cannot end before.

pub mod node;
pub mod python;

/// Tasks of one chain, the one at work and the one at the end included. Frameworks put two or three tasks around a request.
pub const TASKS: usize = 8;

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

/// The walk goes on.
pub const UNDER_WAY: u64 = 0;
/// Nobody waits for the last task.
pub const COMPLETE: u64 = 1;
/// Several tasks wait for the last one, or too many to look at.
pub const SEVERAL: u64 = 2;
/// Something could not be read, or is not what it must be.
pub const BROKEN: u64 = 3;
/// More frames, tasks or steps than are followed.
pub const DEEP: u64 = 4;
/// No task made the call: the loop itself, or a thread without one.
pub const NO_TASK: u64 = 5;

/// Where a process has what a walk needs, by its runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Python(python::Layout),
    Node(node::Layout),
}
