//! Facts about this machine that loading depends on: kernel release, capabilities, the agent's PID namespace,
//! system call numbers.

use std::{fs, io, os::unix::fs::MetadataExt};

use spoor_common::{Settings, config::NO_SYSCALL};

/// `CAP_SYS_PTRACE`: memory of other users' processes, and most of their `/proc`.
pub const CAP_SYS_PTRACE: u32 = 19;
/// `CAP_SYS_ADMIN`, which contains what BPF needs.
pub const CAP_SYS_ADMIN: u32 = 21;
/// `CAP_PERFMON`: tracing programs.
pub const CAP_PERFMON: u32 = 38;
/// `CAP_BPF`: maps and programs.
pub const CAP_BPF: u32 = 39;

/// `uname -r`.
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map(|s| s.trim().to_owned()).unwrap_or_default()
}

/// Major and minor number of a kernel release such as `6.18.44-generic`.
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The effective capabilities of this process as a bit set.
pub fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether a bit set of capabilities has `capability`, or `CAP_SYS_ADMIN`.
pub fn capable(effective: u64, capability: u32) -> bool {
    effective & (1 << capability | 1 << CAP_SYS_ADMIN) != 0
}

/// How the kernel tells the agent from others: its PID namespace and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Myself {
    pub tgid: u32,
    /// Device of the namespace file, as the kernel encodes device numbers.
    pub pidns_dev: u64,
    pub pidns_ino: u64,
}

/// Reads [`Myself`].
pub fn myself() -> io::Result<Myself> {
    let ns = fs::metadata("/proc/self/ns/pid")?;
    Ok(Myself { tgid: std::process::id(), pidns_dev: kernel_dev(ns.dev()), pidns_ino: ns.ino() })
}

/// `st_dev` packs major and minor numbers differently from the kernel's `dev_t`, which is `major << 20 | minor`.
fn kernel_dev(st_dev: u64) -> u64 {
    let major = (st_dev >> 8) & 0xfff;
    let minor = (st_dev & 0xff) | ((st_dev >> 12) & 0xfff00);
    major << 20 | minor
}

/// Settings that depend on the architecture only. `None`: not supported.
///
/// Numbers are those of Linux `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`.
pub fn architecture() -> Option<Settings> {
    let mut settings = Settings::filled(NO_SYSCALL);
    let numbers = match std::env::consts::ARCH {
        "x86_64" => {
            settings.x86 = 1;
            [0, 1, 19, 20, 44, 45, 46, 47, 307, 299, 40, 275]
        }
        "aarch64" => {
            settings.x86 = 0;
            [63, 64, 65, 66, 206, 207, 211, 212, 269, 243, 71, 76]
        }
        _ => return None,
    };
    [
        settings.nr_read,
        settings.nr_write,
        settings.nr_readv,
        settings.nr_writev,
        settings.nr_sendto,
        settings.nr_recvfrom,
        settings.nr_sendmsg,
        settings.nr_recvmsg,
        settings.nr_sendmmsg,
        settings.nr_recvmmsg,
        settings.nr_sendfile,
        settings.nr_splice,
    ] = numbers;
    Some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_of_distributions_are_read() {
        let check = |release: &str, expected| assert_eq!(kernel_version(release), expected, "{release}");
        check("6.18.44-fc", Some((6, 18)));
        check("5.15.0-127-generic", Some((5, 15)));
        check("6.3", Some((6, 3)));
        check("", None);
        check("six", None);
    }

    #[test]
    fn device_numbers_are_those_of_the_kernel() {
        assert_eq!(kernel_dev(4), 4);
        assert_eq!(kernel_dev(0x0801), 8 << 20 | 1);
        assert_eq!(kernel_dev(0x10_0002), 0x102);
    }

    #[test]
    fn capabilities_are_implied_by_sys_admin() {
        assert!(capable(1 << CAP_BPF, CAP_BPF));
        assert!(capable(1 << CAP_SYS_ADMIN, CAP_PERFMON));
        assert!(!capable(1 << CAP_BPF, CAP_PERFMON));
    }
}
