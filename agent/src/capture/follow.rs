//! Processes whose tasks are to be followed, into the kernel: a process and its [`Runtime`] → map entries.
//!
//! *Must not know* how a runtime was found.

use std::fmt;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData};
use spoor_common::chain::Runtime;
use spoor_common::names::{self, JUMP_CHAIN, JUMP_SEND};
use spoor_core::record::Tgid;

use super::error::CaptureError;
use super::jumps::Jumps;
use super::load::{map_error, take};

/// The kernel's map of followed processes.
pub struct Followed {
    runtimes: HashMap<MapData, u32, [u64; Runtime::LEN]>,
    /// How often `runtimes` was changed: a socket looks into it only then.
    set: Array<MapData, u64>,
    set_count: u64,
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed").field("set_count", &self.set_count).finish_non_exhaustive()
    }
}

impl Followed {
    /// Loads the program that follows and makes it known to the one that sees sends.
    pub(super) fn new(ebpf: &mut Ebpf, jumps: &mut Jumps) -> Result<Self, CaptureError> {
        jumps.need(ebpf, &[JUMP_SEND, JUMP_CHAIN])?;
        let runtimes = take(ebpf, names::RUNTIMES)?.try_into().map_err(map_error)?;
        let set = take(ebpf, names::RUNTIMES_SET)?.try_into().map_err(map_error)?;
        Ok(Self { runtimes, set, set_count: 0 })
    }

    /// Follows a process from its next sends on.
    pub fn follow(&mut self, tgid: Tgid, runtime: &Runtime) -> Result<(), CaptureError> {
        self.runtimes.insert(tgid.0, runtime.words(), 0).map_err(map_error)?;
        self.changed()
    }

    /// Follows it no more.
    pub fn leave(&mut self, tgid: Tgid) -> Result<(), CaptureError> {
        // One that is gone already was forgotten by the map.
        let _ = self.runtimes.remove(&tgid.0);
        self.changed()
    }

    fn changed(&mut self) -> Result<(), CaptureError> {
        self.set_count += 1;
        self.set.set(0, self.set_count, 0).map_err(map_error)
    }
}
