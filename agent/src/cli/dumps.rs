//! This process → one whose memory is written to no file and read by no neighbour.
//!
//! The memory of an agent, or of a replay, holds what was sent: passwords, bodies, keys. Two switches, for a kernel can be set up
//! either way:
//!
//! - `RLIMIT_CORE` 0: no core file. A kernel that pipes dumps to a program (`core_pattern` with `|`) does not look at it.
//! - `PR_SET_DUMPABLE` 0: no dump at all, neither into a file nor into a pipe.
//!
//! The second one also gives the files below `/proc/PID` to root: `mem`, `environ`, `maps` and `fd` of the agent can then be read by
//! root and by whoever has `CAP_SYS_PTRACE`, no longer by other processes of the agent's own user, and nobody else can attach a
//! debugger to it. What the agent reads of *itself* there (`stat`, `limits`, `fd`, `ns`) and of others stays as it is: a process
//! may always look at itself, and others are read by the agent's capabilities.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Switches core dumps of this process off, by both switches, whatever becomes of the first one.
pub(super) fn switch_off() -> io::Result<()> {
    let no_file = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let no_dump = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    Ok(no_file.and(no_dump)?)
}
