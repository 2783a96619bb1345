//! The programs that a send or a receive goes on in, into the kernel: loaded where somebody needs them, and put into its table.

use std::collections::HashSet;
use std::fmt;

use aya::Btf as KernelTypes;
use aya::Ebpf;
use aya::maps::{MapData, ProgramArray};
use aya::programs::BtfTracePoint;
use spoor_common::names::{self, JUMP_PROGRAMS};

use super::error::CaptureError;
use super::load::{chain, map_error, take};

/// The jump tables, which keep the programs in them.
pub(super) struct Jumps {
    sends: ProgramArray<MapData>,
    receives: ProgramArray<MapData>,
    types: KernelTypes,
    loaded: HashSet<(&'static str, u32)>,
}

impl fmt::Debug for Jumps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jumps").field("loaded", &self.loaded).finish_non_exhaustive()
    }
}

impl Jumps {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, CaptureError> {
        let sends = take(ebpf, names::JUMPS)?.try_into().map_err(map_error)?;
        let receives = take(ebpf, names::RECEIVE_JUMPS)?.try_into().map_err(map_error)?;
        let types = KernelTypes::from_sys_fs().map_err(|error| CaptureError::Object(chain(&error)))?;
        Ok(Self { sends, receives, types, loaded: HashSet::new() })
    }

    /// Loads the programs of these places, unless they are. The one that reports the data has to be among them: all others go on in
    /// it.
    pub(super) fn need(&mut self, ebpf: &mut Ebpf, places: &[u32]) -> Result<(), CaptureError> {
        for (table, place, program) in JUMP_PROGRAMS.iter().filter(|(_, place, _)| places.contains(place)) {
            if !self.loaded.insert((*table, *place)) {
                continue;
            }
            let refused = |reason: String| CaptureError::Refused { program: program.function, reason };
            let loaded: &mut BtfTracePoint = ebpf
                .program_mut(program.function)
                .ok_or_else(|| CaptureError::Object(format!("no program `{}`", program.function)))?
                .try_into()
                .map_err(|error: aya::programs::ProgramError| refused(chain(&error)))?;
            loaded.load(program.target, &self.types).map_err(|error| refused(chain(&error)))?;
            let fd = loaded.fd().map_err(|error| refused(chain(&error)))?;
            let jumps = if *table == names::JUMPS { &mut self.sends } else { &mut self.receives };
            jumps.set(*place, fd, 0).map_err(map_error)?;
        }
        Ok(())
    }
}
