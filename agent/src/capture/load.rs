//! The eBPF object into the kernel: [`Options`] in, a running [`Capture`] out.
//!
//! *Owns* the checks before loading, globals, map sizes, and turning refusals into sentences with a remedy.

use std::{fs, io};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapError},
};
use spoor_common::{Counter, Settings, VERSION, names};

use super::{
    attach,
    btf::Btf,
    error::CaptureError,
    offsets,
    ring::Rings,
    system::{self, CAP_BPF, CAP_PERFMON},
    verdict::Verdicts,
};

/// The eBPF object, empty when the binary was built without.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/spoor-ebpf"));

pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MIN_RING_BYTES: u32 = 64 << 10;
const MAX_RING_BYTES: u32 = 1 << 30;

/// What the kernel side is told at load.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the data ring, a power of two.
    pub ring_bytes: u32,
    /// Bytes copied per direction of a connection without a verdict.
    pub first_look_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes: 16 << 20, first_look_bytes: 16 << 10 }
    }
}

/// Programs attached to the kernel. Dropping it detaches them.
#[derive(Debug)]
pub struct Capture {
    /// Keeps programs and links.
    _ebpf: Ebpf,
    pub rings: Rings,
    pub verdicts: Verdicts,
    pub counters: Counters,
}

impl Capture {
    /// Loads and attaches the probes. Everything a kernel or a container can lack is an error of its own.
    pub fn start(options: Options) -> Result<Self, CaptureError> {
        let Options { ring_bytes, first_look_bytes } = options;
        if OBJECT.is_empty() {
            return Err(CaptureError::NoObject);
        }
        if !ring_bytes.is_power_of_two() || !(MIN_RING_BYTES..=MAX_RING_BYTES).contains(&ring_bytes) {
            return Err(CaptureError::RingSize(ring_bytes));
        }
        if let Some(effective) = system::effective_capabilities()
            && !(system::capable(effective, CAP_BPF) && system::capable(effective, CAP_PERFMON))
        {
            return Err(not_permitted("load eBPF programs"));
        }
        let bytes = fs::read(VMLINUX).map_err(CaptureError::NoBtf)?;
        let kernel = Btf::parse(bytes)?;
        for program in names::SOCKET_LENGTH.iter().chain(&names::LIFE_CYCLE) {
            if !kernel.has_typedef(&format!("btf_trace_{}", program.tracepoint)) {
                let release = system::kernel_release();
                return Err(CaptureError::NoTracepoint { tracepoint: program.tracepoint, release });
            }
        }
        let offsets = offsets::resolve(&kernel).map_err(CaptureError::MissingFields)?;
        drop(kernel);
        let settings = settings(first_look_bytes, ring_bytes)?;

        let (offsets, settings) = (offsets.words(), settings.words());
        let mut ebpf = EbpfLoader::new()
            .override_global(names::OFFSETS, &offsets, true)
            .override_global(names::SETTINGS, &settings, true)
            .map_max_entries(names::DATA_RING, ring_bytes)
            // Socket storage is used by the programs only.
            .allow_unsupported_maps()
            .load(OBJECT)
            .map_err(load_error)?;
        let rings = Rings::new(take(&mut ebpf, names::DATA_RING)?, take(&mut ebpf, names::CONTROL_RING)?)?;
        let verdicts = Verdicts::new(take(&mut ebpf, names::VERDICTS)?, take(&mut ebpf, names::INHERITED)?)?;
        let counters = Counters::new(take(&mut ebpf, names::COUNTERS)?)?;
        attach::attach(&mut ebpf)?;
        Ok(Self { _ebpf: ebpf, rings, verdicts, counters })
    }
}

fn settings(first_look_bytes: u32, ring_bytes: u32) -> Result<Settings, CaptureError> {
    let Some(mut settings) = system::architecture() else {
        let reason = format!("no system call numbers are known for {}", std::env::consts::ARCH);
        return Err(CaptureError::Refused { program: "send_length", reason });
    };
    let me = system::myself()
        .map_err(|source| CaptureError::Io { attempt: "read the agent's PID namespace", source })?;
    settings.version = u64::from(VERSION);
    settings.own_tgid = u64::from(me.tgid);
    settings.pidns_dev = me.pidns_dev;
    settings.pidns_ino = me.pidns_ino;
    settings.first_look_bytes = u64::from(first_look_bytes);
    settings.wake_bytes = u64::from(ring_bytes / 4);
    Ok(settings)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, CaptureError> {
    ebpf.take_map(name).ok_or_else(|| CaptureError::Object(format!("no map `{name}`")))
}

/// What loading and tracing need.
pub(super) fn not_permitted(attempt: &'static str) -> CaptureError {
    CaptureError::NotPermitted { attempt, needs: "CAP_BPF and CAP_PERFMON" }
}

fn load_error(error: EbpfError) -> CaptureError {
    match error {
        EbpfError::MapError(error) => map_error(error),
        EbpfError::BtfError(aya::BtfError::LoadError { io_error, .. })
            if io_error.kind() == io::ErrorKind::PermissionDenied =>
        {
            not_permitted("load type information")
        }
        other => CaptureError::Object(chain(&other)),
    }
}

pub(super) fn map_error(error: MapError) -> CaptureError {
    match error {
        MapError::CreateError { io_error, .. } if io_error.kind() == io::ErrorKind::PermissionDenied => {
            not_permitted("create eBPF maps")
        }
        MapError::CreateError { name, io_error } => {
            let hint = (name == names::DATA_RING)
                .then_some("set capture.ring_bytes to a smaller power of two or give the agent more memory");
            CaptureError::Map { name, hint, source: io_error }
        }
        other => CaptureError::Object(chain(&other)),
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// Totals that the kernel side keeps.
pub struct Counters(aya::maps::PerCpuArray<aya::maps::MapData, u64>);

/// One reading of all [`Counter`]s, summed over CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals([u64; Counter::LEN]);

impl Totals {
    /// The total of one counter.
    pub fn of(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or_default()
    }

    /// Every counter with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Counter::ALL.iter().map(|&counter| (counter.text(), self.of(counter)))
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.read().iter().flat_map(Totals::iter)).finish()
    }
}

impl Counters {
    fn new(map: Map) -> Result<Self, CaptureError> {
        Ok(Self(map.try_into().map_err(map_error)?))
    }

    /// Reads all totals.
    pub fn read(&self) -> Result<Totals, CaptureError> {
        let mut totals = Totals::default();
        for (index, total) in (0u32..).zip(&mut totals.0) {
            let per_cpu = self.0.get(&index, 0).map_err(map_error)?;
            *total = per_cpu.iter().fold(0, |sum: u64, n| sum.wrapping_add(*n));
        }
        Ok(totals)
    }
}
