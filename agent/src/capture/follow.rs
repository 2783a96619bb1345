//! Processes whose tasks are to be followed, into the kernel: a process and its [`Runtime`] → map entries.
//!
//! *Must not know* how a runtime was found.

use std::fmt;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData};
use spoor_common::chain::{Runtime, node, python};
use spoor_common::names::{self, JUMP_DATA, JUMP_NODE, JUMP_PYTHON};
use spoor_core::record::Tgid;

use super::error::CaptureError;
use super::jumps::Jumps;
use super::load::{known, map_error, take};

/// The kernel's map of followed processes.
pub struct Followed {
    pythons: HashMap<MapData, u32, [u64; python::Layout::LEN]>,
    nodes: HashMap<MapData, u32, [u64; node::Layout::LEN]>,
    /// How often these were changed: a socket looks into them only then.
    set: Array<MapData, u64>,
    set_count: u64,
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed").field("set_count", &self.set_count).finish_non_exhaustive()
    }
}

impl Followed {
    /// Loads the programs that follow and makes them known to those that see sends and receives. A kernel that refuses one runtime's
    /// still follows the other's.
    pub(super) fn new(ebpf: &mut Ebpf, jumps: &mut Jumps) -> Result<Self, CaptureError> {
        jumps.need(ebpf, &[JUMP_DATA])?;
        known("tasks of CPython are not followed", jumps.need(ebpf, &[JUMP_PYTHON]));
        known("connections of Node.js are not followed", jumps.need(ebpf, &[JUMP_NODE]));
        let pythons = take(ebpf, names::RUNTIMES)?.try_into().map_err(map_error)?;
        let nodes = take(ebpf, names::NODES)?.try_into().map_err(map_error)?;
        let set = take(ebpf, names::RUNTIMES_SET)?.try_into().map_err(map_error)?;
        Ok(Self { pythons, nodes, set, set_count: 0 })
    }

    /// Follows a process from its next operations on.
    pub fn follow(&mut self, tgid: Tgid, runtime: &Runtime) -> Result<(), CaptureError> {
        match runtime {
            Runtime::Python(layout) => self.pythons.insert(tgid.0, layout.words(), 0),
            Runtime::Node(layout) => self.nodes.insert(tgid.0, layout.words(), 0),
        }
        .map_err(map_error)?;
        self.changed()
    }

    /// Follows it no more.
    pub fn leave(&mut self, tgid: Tgid) -> Result<(), CaptureError> {
        // One that is gone already was forgotten by the map.
        let _ = self.pythons.remove(&tgid.0);
        let _ = self.nodes.remove(&tgid.0);
        self.changed()
    }

    fn changed(&mut self) -> Result<(), CaptureError> {
        self.set_count += 1;
        self.set.set(0, self.set_count, 0).map_err(map_error)
    }
}
