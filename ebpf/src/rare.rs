//! Something that should seldom happen → its counter, and a line in the agent's log where that is at debug level.
//!
//! *Owns* the sentences, and that each is said once in [`INTERVAL_NS`]. *Must not know* what is done about it.
//!
//! While the agent does not log at debug level, the loader sets the level to zero. It is a read-only global, so the
//! verifier sees that nothing can come here and removes it: what remains is the counter.

use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_log_ebpf::{
    debug,
    macro_support::{Level, level_enabled},
};
use spoor_common::{Counter, names::LOG_TARGET};

use crate::{
    emit::now_ns,
    maps::{TOLD, count},
};

/// The same cause is told again after this: often enough to see that it lasts, seldom enough to read a log by.
const INTERVAL_NS: u64 = 10_000_000_000;

/// Counts a cause, and tells it. `detail` is what [`tell`] says of it.
#[inline(always)]
pub(crate) fn rare(cause: Counter, by: u64, detail: u64) {
    count(cause, by);
    if level_enabled(Level::Debug) {
        tell(cause as u32, detail);
    }
}

/// Says what happened, once in a while.
///
/// VERIFIER: what is exported is a global function to the verifier: it is gone through once for itself, with arguments
/// that could be any, and not once more for every way that leads to it, of which there are thousands.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell(cause: u32, detail: u64) -> i32 {
    let Some(last) = TOLD.get_ptr_mut(cause) else { return 0 };
    let now = now_ns();
    // SAFETY: an element of an array stays where it is. Two CPUs may both find it due and tell it twice.
    unsafe {
        if *last != 0 && now.wrapping_sub(*last) < INTERVAL_NS {
            return 0;
        }
        *last = now;
    }
    // SAFETY: the helper has no preconditions.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    /// One sentence with its detail.
    macro_rules! say {
        ($text:literal) => {
            debug!(&(), target: LOG_TARGET, $text, detail, tgid)
        };
    }
    if cause == Counter::DataLost as u32 {
        say!("the data ring is full: a record of {} bytes is lost (process {})");
    } else if cause == Counter::CgroupLost as u32 {
        say!(
            "the data ring fills up and cgroup {} has had its part of it: its operations are lost (process {})"
        );
    } else if cause == Counter::ConnLost as u32 {
        say!("the control ring is full: the connection of socket {} is told later (process {})");
    } else if cause == Counter::CloseLost as u32 {
        say!("the control ring is full: the end of socket {} is lost (while process {} ran)");
    } else if cause == Counter::ProcessLost as u32 {
        say!("the control ring fills up: what became of process {} is lost (while process {} ran)");
    } else if cause == Counter::StateFailed as u32 {
        say!("no memory for the state of a socket: an operation of {} bytes is lost (process {})");
    } else if cause == Counter::NoBufferBytes as u32 {
        say!("system call {} has no buffer that can be read: its bytes keep their length only (process {})");
    } else if cause == Counter::FaultBytes as u32 {
        say!("a read of user memory is refused: {} bytes keep their length only (process {})");
    } else if cause == Counter::PositionUncertain as u32 {
        say!("two threads use socket {} at once: the position of an operation is not certain (process {})");
    } else if cause == Counter::WireUnknown as u32 {
        say!("the sequence numbers of socket {} do not add up: it has no identity on the wire (process {})");
    }
    0
}
