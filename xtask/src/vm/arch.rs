//! Processors of guests: which one → how QEMU plays it.

use std::fmt;

use crate::setup::targets::{self, Target};

/// A processor, by Debian's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    #[default]
    Amd64,
    Arm64,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
        })
    }
}

impl Arch {
    /// What its programs are cross-compiled for; `None`: this machine's.
    pub(crate) fn target(self) -> Option<&'static Target> {
        match self {
            Arch::Amd64 => None,
            Arch::Arm64 => Some(&targets::ARM64),
        }
    }

    pub(crate) fn qemu(self) -> &'static str {
        match self {
            Arch::Amd64 => "qemu-system-x86_64",
            Arch::Arm64 => "qemu-system-aarch64",
        }
    }

    pub(crate) fn qemu_package(self) -> &'static str {
        match self {
            Arch::Amd64 => "qemu-system-x86",
            Arch::Arm64 => "qemu-system-arm",
        }
    }

    /// QEMU's options for machine and processor.
    pub(crate) fn machine(self) -> &'static [&'static str] {
        match self {
            // QEMU 7.2 spoils the flags of `cmpxchg16b` now and then; 6.12 panics over it. Without it the kernel takes a
            // lock.
            Arch::Amd64 => &["-cpu", "max,-cx16"],
            Arch::Arm64 => &["-machine", "virt", "-cpu", "cortex-a72"],
        }
    }

    /// The guest's serial line.
    pub(crate) fn console(self) -> &'static str {
        match self {
            Arch::Amd64 => "ttyS0",
            Arch::Arm64 => "ttyAMA0",
        }
    }
}
