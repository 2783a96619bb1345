//! Why capture cannot start: each error says what was attempted, what is missing and what helps.

use std::io;

/// Capture cannot start, or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error(
        "this binary was built without its eBPF object; run `cargo xtask build` and use the binary it names"
    )]
    NoObject,
    #[error(
        "the kernel has no type information at /sys/kernel/btf/vmlinux; \
         use a kernel with CONFIG_DEBUG_INFO_BTF (all current distributions have it)"
    )]
    NoBtf(#[source] io::Error),
    #[error("cannot read the kernel's type information: {0}")]
    Btf(#[from] super::btf::BtfError),
    #[error("this kernel lacks fields that the probes need: {}; please report it with `uname -r`", .0.join(", "))]
    MissingFields(Vec<String>),
    #[error(
        "not permitted to {attempt}: the agent needs {needs}; run it as root, or give the container these capabilities"
    )]
    NotPermitted { attempt: &'static str, needs: &'static str },
    #[error(
        "no way to see socket traffic works on kernel {release}: {reasons}; use Linux 6.3 or later, or an older one \
         with fexit or kprobes. `spoor replay` works on any kernel"
    )]
    NoRung { release: String, reasons: String },
    #[error("this kernel has {0}")]
    Lacks(String),
    #[error("cannot create map `{name}`: {source}{}", .hint.map(|h| format!("; {h}")).unwrap_or_default())]
    Map { name: String, hint: Option<&'static str>, source: io::Error },
    #[error("capture.ring_bytes is {0}, which is no power of two between 64 KiB and 1 GiB")]
    RingSize(u32),
    #[error("the kernel refuses program `{program}`: {reason}")]
    Refused { program: &'static str, reason: String },
    #[error("the embedded eBPF object is damaged or of another version: {0}")]
    Object(String),
    #[error("cannot {attempt}: {source}")]
    Io { attempt: &'static str, source: io::Error },
}
