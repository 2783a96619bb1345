//! Programs onto their hooks: a loaded object and a rung → running probes.
//!
//! *Owns* the order of attaching: life cycle first, so that no socket's first byte is seen before its handshake.

use std::{collections::HashSet, io};

use aya::{
    Btf as KernelTypes, Ebpf,
    programs::{BtfTracePoint, FExit, KProbe, ProgramError},
    sys::SyscallError,
};
use spoor_common::names::{self, Hook, Program, Rung};

use super::{btf::Btf, error::CaptureError, load};

/// The programs of a rung that this kernel has targets for, or the name of a target that it lacks.
pub(super) fn programs<'a>(rung: &'a Rung, kernel: &Btf) -> Result<Vec<&'a Program>, String> {
    let mut chosen = Vec::new();
    for program in names::LIFE_CYCLE.iter().chain(rung.programs) {
        let there = match program.hook {
            Hook::Tracepoint => kernel.has_typedef(&format!("btf_trace_{}", program.target)),
            Hook::Exit | Hook::Probe | Hook::ReturnProbe => kernel.arguments(program.target).is_some(),
        };
        match there {
            true => chosen.push(program),
            false if program.optional => {}
            false if program.hook == Hook::Tracepoint => {
                return Err(format!("no tracepoint `{}`", program.target));
            }
            false => return Err(format!("no function `{}`", program.target)),
        }
    }
    Ok(chosen)
}

/// Loads the programs and attaches them.
pub(super) fn attach(ebpf: &mut Ebpf, programs: &[&Program]) -> Result<(), CaptureError> {
    let types = KernelTypes::from_sys_fs().map_err(|error| CaptureError::Object(load::chain(&error)))?;
    let mut loaded = HashSet::new();
    for program in programs {
        // One function may hang on several targets.
        if loaded.insert(program.function) {
            load_one(ebpf, program, &types)?.map_err(|error| refused(program, error))?;
        }
    }
    for program in programs {
        let attached = attach_one(ebpf, program)?;
        match attached {
            Ok(()) => {}
            // The function exists, but this kernel lets nobody hang on it.
            Err(_) if program.optional => {}
            Err(error) => return Err(refused(program, error)),
        }
    }
    Ok(())
}

fn load_one(
    ebpf: &mut Ebpf,
    program: &Program,
    types: &KernelTypes,
) -> Result<Result<(), ProgramError>, CaptureError> {
    Ok(match program.hook {
        Hook::Tracepoint => find::<BtfTracePoint>(ebpf, program)?.load(program.target, types),
        Hook::Exit => find::<FExit>(ebpf, program)?.load(program.target, types),
        Hook::Probe | Hook::ReturnProbe => find::<KProbe>(ebpf, program)?.load(),
    })
}

fn attach_one(ebpf: &mut Ebpf, program: &Program) -> Result<Result<(), ProgramError>, CaptureError> {
    Ok(match program.hook {
        Hook::Tracepoint => find::<BtfTracePoint>(ebpf, program)?.attach().map(drop),
        Hook::Exit => find::<FExit>(ebpf, program)?.attach().map(drop),
        Hook::Probe | Hook::ReturnProbe => find::<KProbe>(ebpf, program)?.attach(program.target, 0).map(drop),
    })
}

fn find<'a, P>(ebpf: &'a mut Ebpf, program: &Program) -> Result<&'a mut P, CaptureError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let name = program.function;
    ebpf.program_mut(name)
        .ok_or_else(|| CaptureError::Object(format!("no program `{name}`")))?
        .try_into()
        .map_err(|error: ProgramError| CaptureError::Object(load::chain(&error)))
}

fn refused(program: &Program, error: ProgramError) -> CaptureError {
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    match &error {
        // The verifier's refusals are EACCES or EINVAL with a log; EPERM without one is a matter of privilege.
        ProgramError::LoadError { io_error, verifier_log }
            if denied(io_error)
                && io_error.raw_os_error() == Some(1)
                && verifier_log.to_string().is_empty() =>
        {
            load::not_permitted("load eBPF programs")
        }
        ProgramError::SyscallError(SyscallError { io_error, .. }) if denied(io_error) => {
            load::not_permitted("attach eBPF programs")
        }
        _ => CaptureError::Refused { program: program.function, reason: load::chain(&error) },
    }
}
