//! Debian's kernels for guests: a release → the path of its boot image.
//!
//! apt fetches them with lists and keys of its own, apart from those of this machine: the kernels are of other Debian
//! releases than it may be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::arch::Arch;
use crate::shell;

/// One kernel to test on.
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    /// The Debian release it is of.
    suite: &'static str,
    /// The rungs it offers on x86-64, and on arm64, where `fexit` came with 6.4.
    amd64: &'static [&'static str],
    arm64: &'static [&'static str],
}

impl Kernel {
    /// The rungs it offers.
    pub(crate) fn rungs(&self, arch: Arch) -> &'static [&'static str] {
        match arch {
            Arch::Amd64 => self.amd64,
            Arch::Arm64 => self.arm64,
        }
    }
}

pub(crate) const NAMES: [&str; 2] = ["6.1", "6.12"];
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel { name: NAMES[0], suite: "bookworm", amd64: &["B", "C", "D"], arm64: &["C", "D"] },
    Kernel { name: NAMES[1], suite: "trixie", amd64: &["A", "B", "C", "D"], arm64: &["A", "B", "C", "D"] },
];

const MIRROR: &str = "http://deb.debian.org/debian";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The kernel's boot image, fetched if it is not there yet.
pub(crate) fn fetch(kernel: &Kernel, arch: Arch) -> Result<PathBuf> {
    let directory = directory(kernel.suite, arch)?;
    if let Some(image) = boot_image(&directory) {
        return Ok(image);
    }
    let apt = Apt::new(&directory, kernel.suite, arch)?;
    // The kernel that is current in its release: it needs no modules for what the tests do.
    let name = format!("linux-image-cloud-{arch}");
    let depends = shell::output(apt.command("apt-cache", &["depends", "--important", &name]))
        .with_context(|| format!("Debian {} has no {name}", kernel.suite))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .with_context(|| format!("{name} of {} depends on nothing", kernel.suite))?;
    apt.unpack(package)?;
    let image = boot_image(&directory).with_context(|| format!("no kernel in {package}"))?;
    plain(&image)?;
    Ok(image)
}

/// A busybox for guests of another processor, statically linked.
pub(crate) fn busybox(arch: Arch) -> Result<PathBuf> {
    let suite = KERNELS.first().map_or("stable", |kernel| kernel.suite);
    let directory = directory(suite, arch)?;
    let busybox = directory.join("bin/busybox");
    if !busybox.is_file() {
        Apt::new(&directory, suite, arch)?.unpack("busybox-static")?;
    }
    Ok(busybox)
}

fn directory(suite: &str, arch: Arch) -> Result<PathBuf> {
    let name = match arch {
        Arch::Amd64 => suite.to_owned(),
        Arch::Arm64 => format!("{suite}-{arch}"),
    };
    Ok(shell::cache()?.join("vm").join(name))
}

/// Replaces a kernel that decompresses itself under UEFI (`zboot`) by what it holds: QEMU boots without firmware.
///
/// Linux `drivers/firmware/efi/libstub/zboot-header.S`: `MZ`, `zimg` at 4, offset and size of the payload at 8 and 12,
/// how it is compressed at 24.
fn plain(image: &Path) -> Result<()> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    if bytes.get(4..8) != Some(b"zimg") {
        return Ok(());
    }
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let payload = word(8).zip(word(12)).and_then(|(at, len)| bytes.get(at..at.checked_add(len)?));
    let payload = payload.with_context(|| format!("{} is cut short", image.display()))?;
    let how = bytes.get(24..28).unwrap_or_default();
    let program = if how == b"zstd" { "zstd" } else { "gzip" };
    let packed = image.with_file_name("payload");
    fs::write(&packed, payload).with_context(|| format!("cannot write {}", packed.display()))?;
    let mut unpack = shell::command("sh", ["-c", "\"$0\" -dc < \"$1\" > \"$2\"", program]);
    unpack.arg(&packed).arg(image);
    shell::run_quietly(unpack)?;
    fs::remove_file(&packed).with_context(|| format!("cannot remove {}", packed.display()))
}

fn boot_image(directory: &Path) -> Option<PathBuf> {
    find(&directory.join("boot"), |name| name.starts_with("vmlinuz-"))
}

fn find(directory: &Path, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?.flatten();
    entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted))
}

/// apt with everything of its own below one directory.
struct Apt<'a> {
    directory: &'a Path,
    options: Vec<String>,
}

impl<'a> Apt<'a> {
    /// Fetches the lists of a release.
    fn new(directory: &'a Path, suite: &str, arch: Arch) -> Result<Self> {
        if !Path::new(KEYS).exists() {
            bail!(
                "{KEYS} is missing, which tells Debian's packages from others: install debian-archive-keyring"
            );
        }
        let apt = directory.join("apt");
        for below in ["lists/partial", "cache/archives/partial"] {
            let path = apt.join(below);
            fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        }
        let sources = apt.join("sources.list");
        fs::write(&sources, format!("deb [signed-by={KEYS} arch={arch}] {MIRROR} {suite} main\n"))
            .with_context(|| format!("cannot write {}", sources.display()))?;
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        let apt = Self {
            directory,
            options: vec![
                option("Dir::Etc::SourceList", &sources),
                option("Dir::Etc::SourceParts", Path::new("/dev/null")),
                option("Dir::State::Lists", &apt.join("lists")),
                option("Dir::Cache", &apt.join("cache")),
                // The directory may be below a home that apt's own user cannot read.
                "APT::Sandbox::User=root".to_owned(),
                format!("APT::Architecture={arch}"),
                format!("APT::Architectures={arch}"),
            ],
        };
        shell::run_quietly(apt.command("apt-get", &["update", "--quiet"]))?;
        Ok(apt)
    }

    /// Fetches a package and unpacks it into the directory.
    fn unpack(&self, package: &str) -> Result<()> {
        let mut download = self.command("apt-get", &["download", "--quiet", package]);
        download.current_dir(self.directory);
        shell::run_quietly(download)?;
        let archive = find(self.directory, |name| name.ends_with(".deb")).context("apt fetched nothing")?;
        let mut unpack = shell::command("dpkg-deb", ["-x"]);
        unpack.arg(&archive).arg(self.directory);
        shell::run_quietly(unpack)?;
        fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let options = self.options.iter().flat_map(|option| ["-o", option.as_str()]);
        shell::command(program, options.chain(args.iter().copied()))
    }
}
