//! What this kernel and these privileges allow, for `spoor doctor`: the running system → [`Finding`]s.
//!
//! *Owns* the checks of everything capture depends on. The last of them loads the real programs, for nothing less
//! proves that they load.

use std::{fs, path::Path};

use super::{
    error::CaptureError,
    load::{self, Capture, Options},
    system::{self, CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE},
};

/// How a finding is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Something is worse than it could be.
    Warn,
    /// Capture does not work.
    Fail,
}

/// One fact about the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub name: &'static str,
    pub level: Level,
    /// What was found, in one sentence.
    pub says: String,
    /// What helps, where something does.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, says: says.into(), remedy: None }
    }

    fn warn(name: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, level: Level::Warn, says: says.into(), remedy: Some(remedy.into()) }
    }

    fn fail(name: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, level: Level::Fail, says: says.into(), remedy: Some(remedy.into()) }
    }
}

/// Everything that decides whether capture works here.
pub fn findings() -> Vec<Finding> {
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").ok();
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok();
    vec![
        kernel(&system::kernel_release()),
        type_information(Path::new(load::VMLINUX).exists()),
        capabilities(system::effective_capabilities()),
        locked(lockdown.as_deref()),
        paranoia(paranoid.as_deref(), system::effective_capabilities()),
        cgroups(Path::new("/sys/fs/cgroup/cgroup.controllers").exists()),
        memory(
            system::effective_capabilities(),
            fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok().as_deref(),
        ),
        hooks(Capture::start(Options { ring_bytes: 1 << 20, ..Options::default() })),
    ]
}

fn kernel(release: &str) -> Finding {
    const NAME: &str = "kernel";
    match system::kernel_version(release) {
        Some(version) if version >= (6, 3) => Finding::ok(NAME, format!("Linux {release}")),
        Some(version) if version >= (5, 17) => Finding::ok(
            NAME,
            format!("Linux {release}: without the tracepoints of 6.3, capture hangs on kernel functions"),
        ),
        Some(_) => Finding::fail(
            NAME,
            format!("Linux {release} has no bpf_loop, which the probes need"),
            "use Linux 5.17 or later for live capture, better 6.3; `spoor replay` works on any kernel",
        ),
        None => Finding::warn(
            NAME,
            format!("cannot tell the version of kernel `{release}`"),
            "see below whether the programs load",
        ),
    }
}

fn type_information(exists: bool) -> Finding {
    const NAME: &str = "type information";
    if exists {
        Finding::ok(NAME, format!("{} exists", load::VMLINUX))
    } else {
        Finding::fail(
            NAME,
            format!("there is no {}", load::VMLINUX),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF, as all current distributions have it; \
             in a container, mount /sys/kernel/btf",
        )
    }
}

fn capabilities(effective: Option<u64>) -> Finding {
    const NAME: &str = "capabilities";
    let Some(effective) = effective else {
        return Finding::warn(NAME, "cannot read /proc/self/status", "mount /proc");
    };
    let missing: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|(capability, _)| !system::capable(effective, *capability))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return Finding::ok(NAME, "CAP_BPF and CAP_PERFMON are there");
    }
    Finding::fail(
        NAME,
        format!("{} missing", missing.join(" and ")),
        "run the agent as root, or give it these capabilities",
    )
}

fn locked(lockdown: Option<&str>) -> Finding {
    const NAME: &str = "lockdown";
    // The mode in force is the one in brackets.
    let mode = lockdown.and_then(|text| text.split_once('[')?.1.split_once(']')).map(|(mode, _)| mode);
    match mode {
        Some("confidentiality") => Finding::fail(
            NAME,
            "the kernel is locked down for confidentiality: no program may read memory",
            "boot with lockdown=integrity or without lockdown",
        ),
        Some(mode) => Finding::ok(NAME, format!("{mode}, which allows what the probes do")),
        None => Finding::ok(NAME, "the kernel has none"),
    }
}

fn paranoia(paranoid: Option<&str>, effective: Option<u64>) -> Finding {
    const NAME: &str = "perf_event_paranoid";
    let level = paranoid.map_or("unknown", str::trim);
    if effective.is_some_and(|effective| system::capable(effective, CAP_PERFMON)) {
        return Finding::ok(NAME, format!("{level}, which does not matter with CAP_PERFMON"));
    }
    Finding::warn(NAME, format!("{level}, and CAP_PERFMON is missing"), "give the agent CAP_PERFMON")
}

fn cgroups(unified: bool) -> Finding {
    const NAME: &str = "cgroups";
    if unified {
        return Finding::ok(NAME, "version 2: the kernel names each connection's container");
    }
    Finding::warn(
        NAME,
        "not version 2 alone: the kernel's cgroup identifiers may say nothing here",
        "nothing is lost but speed: containers are looked up in /proc, and told apart by the controller `pids` for \
         `capture.cgroup_percent`",
    )
}

/// Whether secrets of TLS connections can be looked for in memory (`tls.open`). Names of services need the same capability.
fn memory(effective: Option<u64>, yama: Option<&str>) -> Finding {
    const NAME: &str = "memory of processes";
    if yama.is_some_and(|scope| scope.trim() == "3") {
        return Finding::warn(
            NAME,
            "Yama forbids it (kernel.yama.ptrace_scope is 3): TLS connections stay closed, but for key logs",
            "boot with kernel.yama.ptrace_scope=2 or lower, which cannot be done without a restart of the machine",
        );
    }
    if effective.is_some_and(|effective| effective & (1 << CAP_SYS_PTRACE) != 0) {
        return Finding::ok(
            NAME,
            "can be read for secrets of TLS connections, where `tls.open` and `select.include` say so",
        );
    }
    Finding::warn(
        NAME,
        "CAP_SYS_PTRACE is missing: TLS connections stay closed, but for key logs, and services of other users have short names",
        "give the agent CAP_SYS_PTRACE; in a container also `appArmorProfile: Unconfined`, under SELinux the type spc_t",
    )
}

fn hooks(start: Result<Capture, CaptureError>) -> Finding {
    const NAME: &str = "hooks";
    match start {
        Ok(capture) => {
            let rung = capture.rung;
            let better: Vec<String> =
                capture.refused.iter().map(|(name, why)| format!("; not rung {name}: {why}")).collect();
            Finding::ok(
                NAME,
                format!("rung {} ({}) loads and attaches{}", rung.name, rung.hooks, better.concat()),
            )
        }
        Err(error) => {
            let text = error.to_string();
            // Errors end in what helps, behind a semicolon.
            match text.split_once("; ") {
                Some((says, remedy)) => Finding::fail(NAME, says, remedy),
                None => Finding::fail(NAME, text, "see the findings above"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_name_what_is_missing_and_what_helps() {
        let check = |finding: Finding, level, word: &str| {
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.says.contains(word), "{finding:?}");
            assert_eq!(finding.remedy.is_none(), level == Level::Ok, "{finding:?}");
        };
        check(kernel("6.18.44"), Level::Ok, "6.18.44");
        check(kernel("6.1.0-50-cloud-amd64"), Level::Ok, "functions");
        check(kernel("5.15.0-127-generic"), Level::Fail, "5.15.0-127-generic");
        check(kernel(""), Level::Warn, "version");
        check(type_information(true), Level::Ok, "vmlinux");
        check(type_information(false), Level::Fail, "vmlinux");
        check(capabilities(Some(1 << CAP_BPF)), Level::Fail, "CAP_PERFMON missing");
        check(capabilities(Some(0)), Level::Fail, "CAP_BPF and CAP_PERFMON missing");
        check(capabilities(Some(1 << CAP_BPF | 1 << CAP_PERFMON)), Level::Ok, "CAP_BPF");
        check(memory(Some(1 << CAP_SYS_PTRACE), Some("2\n")), Level::Ok, "tls.open");
        check(memory(Some(1 << CAP_SYS_PTRACE), Some("3\n")), Level::Warn, "Yama");
        check(memory(Some(1 << CAP_BPF), None), Level::Warn, "CAP_SYS_PTRACE");
        check(locked(None), Level::Ok, "none");
        check(locked(Some("none [integrity] confidentiality\n")), Level::Ok, "integrity");
        check(locked(Some("none integrity [confidentiality]\n")), Level::Fail, "confidentiality");
        check(paranoia(Some("4\n"), Some(1 << CAP_PERFMON)), Level::Ok, "4");
        check(paranoia(Some("4\n"), Some(0)), Level::Warn, "4");
        check(cgroups(false), Level::Warn, "version 2");
        check(hooks(Err(CaptureError::NoObject)), Level::Fail, "without its eBPF object");
    }
}
