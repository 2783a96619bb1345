//! The eBPF object into the kernel: [`Options`] → a running [`Capture`].
//!
//! *Owns* the checks before loading, the way down the ladder of hooks, globals, map sizes, and turning refusals into
//! sentences with a remedy.

use std::{fs, io};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapError},
};
use spoor_common::{
    Counter, Offsets, Settings,
    config::NO_SUBSYSTEM,
    limits::CONTROL_RING_BYTES,
    look,
    names::{self, Build, JUMP_RUNG, LADDER, Rung},
};

use super::{
    attach,
    btf::Btf,
    error::CaptureError,
    follow::Followed,
    jumps::Jumps,
    log::{self, KernelLog},
    look::Looked,
    offsets,
    ring::Rings,
    system::{self, CAP_BPF, CAP_PERFMON},
    verdict::Verdicts,
};

/// The eBPF objects, empty when the binary was built without.
static TYPED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/spoor-ebpf"));
static UNTYPED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/spoor-ebpf-untyped"));

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
    /// Part of each ring, in percent, that one cgroup may fill while its reader is behind; 0 for no bound.
    pub cgroup_percent: u32,
    /// The rung to use, by name; `None` for the best that works.
    pub rung: Option<char>,
    /// The kernel side says in the log what it seldom meets, see [`super::log`].
    pub explain: bool,
    /// Who waits for whom in processes is followed, where the rung can.
    pub chains: bool,
    /// What stacks point to is copied of processes that are asked for, where the rung can.
    pub objects: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: 16 << 20,
            first_look_bytes: 16 << 10,
            cgroup_percent: 50,
            rung: None,
            explain: false,
            chains: false,
            objects: false,
        }
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
    /// Processes whose tasks are followed; `None` where nobody's are.
    pub followed: Option<Followed>,
    /// Processes of which is copied what a stack points to; `None` where of nobody.
    pub looked: Option<Looked>,
    /// The programs that they go on in.
    _jumps: Option<Jumps>,
    /// What the kernel side says, where that was asked for.
    pub log: Option<KernelLog>,
    pub rung: &'static Rung,
    /// Better rungs, and why each does not work here.
    pub refused: Vec<(char, String)>,
}

impl Capture {
    /// Loads and attaches the probes on the best rung that works. Everything a kernel or a container can lack is an
    /// error of its own.
    pub fn start(options: Options) -> Result<Self, CaptureError> {
        let Options { ring_bytes, rung: wanted, explain, .. } = options;
        if TYPED.is_empty() || UNTYPED.is_empty() {
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
        let offsets = offsets::resolve(&kernel).map_err(CaptureError::MissingFields)?;
        let mut settings = settings(&options)?;
        // `tcp_recvmsg(sk, msg, len, nonblock, flags, addr_len)` until 5.18.
        settings.recv_nonblock = u64::from(kernel.arguments("tcp_recvmsg") == Some(6));

        settings.pids_subsystem = kernel.enumerator("pids_cgrp_id").map_or(NO_SUBSYSTEM, u64::from);

        let mut refused: Vec<(char, CaptureError)> = Vec::new();
        for rung in LADDER.iter().filter(|rung| wanted.is_none_or(|wanted| wanted == rung.name)) {
            let start =
                |explain| Self::start_on(rung, &kernel, &offsets, &settings, Options { explain, ..options });
            let started = match start(explain) {
                // What the programs would say makes them larger. That is no reason to see nothing.
                Err(error) if explain => start(false).inspect(|_| {
                    tracing::warn!(
                        "the kernel side says nothing in this log: with what it would say, {error}"
                    );
                }),
                started => started,
            };
            match started {
                Ok(mut capture) => {
                    let reason = |(name, error): (char, CaptureError)| (name, error.to_string());
                    capture.refused = refused.into_iter().map(reason).collect();
                    return Ok(capture);
                }
                // No other rung needs less memory.
                Err(error @ CaptureError::Map { .. }) => return Err(error),
                Err(error) => refused.push((rung.name, error)),
            }
        }
        // A kernel may refuse one kind of program for want of something else; all kinds, for want of privilege.
        if !refused.is_empty()
            && refused.iter().all(|(_, error)| matches!(error, CaptureError::NotPermitted { .. }))
        {
            return Err(refused.swap_remove(0).1);
        }
        let reasons: Vec<String> =
            refused.iter().map(|(name, error)| format!("rung {name}: {error}")).collect();
        Err(CaptureError::NoRung { release: system::kernel_release(), reasons: reasons.join("; ") })
    }

    fn start_on(
        rung: &'static Rung,
        kernel: &Btf,
        offsets: &Offsets,
        settings: &Settings,
        Options { ring_bytes, explain, chains, objects, .. }: Options,
    ) -> Result<Self, CaptureError> {
        let programs = attach::programs(rung, kernel).map_err(CaptureError::Lacks)?;
        let object = match rung.build {
            Build::Typed => TYPED,
            Build::Untyped => UNTYPED,
        };
        let (offsets, settings) = (offsets.words(), settings.words());
        let mut loader = EbpfLoader::new();
        log::prepare(&mut loader, explain);
        let mut ebpf = loader
            .override_global(names::OFFSETS, &offsets, true)
            .override_global(names::SETTINGS, &settings, true)
            .map_max_entries(names::DATA_RING, ring_bytes)
            .map_max_entries(names::SLOTS, if objects { look::SLOTS as u32 } else { 1 })
            .map_max_entries(names::SMALL_SLOTS, if objects { look::SMALL_SLOTS as u32 } else { 1 })
            // Socket storage is used by the programs only.
            .allow_unsupported_maps()
            .load(object)
            .map_err(load_error)?;
        let rings = Rings::new(take(&mut ebpf, names::DATA_RING)?, take(&mut ebpf, names::CONTROL_RING)?)?;
        let [by_cookie, set, inherited] = [names::VERDICTS, names::VERDICTS_SET, names::INHERITED];
        let verdicts =
            Verdicts::new(take(&mut ebpf, by_cookie)?, take(&mut ebpf, set)?, take(&mut ebpf, inherited)?)?;
        let counters = Counters::new(take(&mut ebpf, names::COUNTERS)?)?;
        let log = if explain { Some(KernelLog::new(&mut ebpf)?) } else { None };
        // Before the first send is seen. Without them all else is traced all the same.
        let wanted = (chains || objects) && rung.name == JUMP_RUNG;
        let mut jumps = if wanted { known("no send goes on elsewhere", Jumps::new(&mut ebpf)) } else { None };
        let (mut followed, mut looked) = (None, None);
        if let Some(jumps) = &mut jumps {
            if chains {
                followed = known("nobody's tasks are followed", Followed::new(&mut ebpf, jumps));
            }
            if objects {
                let new = Looked::new(&mut ebpf, jumps);
                looked = known("TLS connections of some milliseconds stay closed", new);
            }
        }
        attach::attach(&mut ebpf, &programs)?;
        Ok(Self {
            _ebpf: ebpf,
            rings,
            verdicts,
            counters,
            followed,
            looked,
            _jumps: jumps,
            log,
            rung,
            refused: Vec::new(),
        })
    }
}

fn settings(options: &Options) -> Result<Settings, CaptureError> {
    let Some(mut settings) = system::architecture() else {
        let reason = format!("no system call numbers are known for {}", std::env::consts::ARCH);
        return Err(CaptureError::NoRung { release: system::kernel_release(), reasons: reason });
    };
    let me = system::myself()
        .map_err(|source| CaptureError::Io { attempt: "read the agent's PID namespace", source })?;
    settings.own_tgid = u64::from(me.tgid);
    settings.pidns_dev = me.pidns_dev;
    settings.pidns_ino = me.pidns_ino;
    settings.first_look_bytes = u64::from(options.first_look_bytes);
    settings.wake_bytes = u64::from(options.ring_bytes / 4);
    settings.ring_bytes = u64::from(options.ring_bytes);
    let part = |ring: u64| ring / 100 * u64::from(options.cgroup_percent.min(100));
    settings.cgroup_data_bytes = part(settings.ring_bytes);
    settings.cgroup_control_bytes = part(CONTROL_RING_BYTES as u64);
    Ok(settings)
}

/// What can be done without, if it is there; else it is said what is missed.
pub(super) fn known<T>(without: &str, what: Result<T, CaptureError>) -> Option<T> {
    what.inspect_err(|error| tracing::warn!("{without}: {error}")).ok()
}

pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, CaptureError> {
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
