//! Processes whose tasks are to be followed, into the kernel: a process and its [`Runtime`] → map entries; and the programs that a send
//! or a receive then goes on in.
//!
//! *Owns* the jump tables. *Must not know* how a runtime was found.

use std::fmt;

use aya::Btf as KernelTypes;
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, ProgramArray};
use aya::programs::BtfTracePoint;
use spoor_common::chain::{Runtime, node, python};
use spoor_common::names::{self, JUMP_PROGRAMS};
use spoor_core::record::Tgid;

use super::error::CaptureError;
use super::load::{chain, map_error, take};

/// The kernel's map of followed processes.
pub struct Followed {
    pythons: HashMap<MapData, u32, [u64; python::Layout::LEN]>,
    nodes: HashMap<MapData, u32, [u64; node::Layout::LEN]>,
    /// How often these were changed: a socket looks into them only then.
    set: Array<MapData, u64>,
    set_count: u64,
    /// Keeps the programs in it.
    _jumps: [ProgramArray<MapData>; 2],
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed").field("set_count", &self.set_count).finish_non_exhaustive()
    }
}

impl Followed {
    /// Loads the programs and makes them known to the one that sees sends.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, CaptureError> {
        let pythons = take(ebpf, names::RUNTIMES)?.try_into().map_err(map_error)?;
        let nodes = take(ebpf, names::NODES)?.try_into().map_err(map_error)?;
        let set = take(ebpf, names::RUNTIMES_SET)?.try_into().map_err(map_error)?;
        let mut sends: ProgramArray<MapData> = take(ebpf, names::JUMPS)?.try_into().map_err(map_error)?;
        let mut receives: ProgramArray<MapData> =
            take(ebpf, names::RECEIVE_JUMPS)?.try_into().map_err(map_error)?;
        let types = KernelTypes::from_sys_fs().map_err(|error| CaptureError::Object(chain(&error)))?;
        for (table, place, program) in JUMP_PROGRAMS {
            let refused = |reason: String| CaptureError::Refused { program: program.function, reason };
            let loaded: &mut BtfTracePoint = ebpf
                .program_mut(program.function)
                .ok_or_else(|| CaptureError::Object(format!("no program `{}`", program.function)))?
                .try_into()
                .map_err(|error: aya::programs::ProgramError| refused(chain(&error)))?;
            loaded.load(program.target, &types).map_err(|error| refused(chain(&error)))?;
            let fd = loaded.fd().map_err(|error| refused(chain(&error)))?;
            let jumps = if table == names::JUMPS { &mut sends } else { &mut receives };
            jumps.set(place, fd, 0).map_err(map_error)?;
        }
        Ok(Self { pythons, nodes, set, set_count: 0, _jumps: [sends, receives] })
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
