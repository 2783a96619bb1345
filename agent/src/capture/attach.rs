//! Programs onto their tracepoints: loaded maps in, running probes out.

use std::io;

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, ProgramError},
    sys::SyscallError,
};
use spoor_common::names::{self, Program};

use super::{error::CaptureError, load};

/// Loads every program of rung A and attaches it: life cycle first, so that no socket's first byte is seen before
/// its handshake.
pub(super) fn attach(ebpf: &mut Ebpf) -> Result<(), CaptureError> {
    let btf = Btf::from_sys_fs().map_err(|error| CaptureError::Object(load::chain(&error)))?;
    let programs = || names::LIFE_CYCLE.iter().chain(&names::SOCKET_LENGTH);
    for program in programs() {
        find(ebpf, program)?.load(program.tracepoint, &btf).map_err(|error| refused(program, error))?;
    }
    for program in programs() {
        find(ebpf, program)?.attach().map_err(|error| refused(program, error))?;
    }
    Ok(())
}

fn find<'a>(ebpf: &'a mut Ebpf, program: &Program) -> Result<&'a mut BtfTracePoint, CaptureError> {
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
