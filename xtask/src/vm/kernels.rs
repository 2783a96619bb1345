//! Debian's kernels for guests: a release in, the path of its boot image out.
//!
//! apt fetches them with lists and keys of its own, apart from those of this machine: the kernels are of other Debian
//! releases than it may be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// One kernel to test on.
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    /// The Debian release it is of.
    suite: &'static str,
    /// The rungs it offers.
    pub(crate) rungs: &'static [&'static str],
}

pub(crate) const NAMES: [&str; 2] = ["6.1", "6.12"];
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel { name: NAMES[0], suite: "bookworm", rungs: &["B", "C", "D"] },
    Kernel { name: NAMES[1], suite: "trixie", rungs: &["A", "B", "C", "D"] },
];

/// The kernel that is current in its release: it needs no modules for what the tests do.
const PACKAGE: &str = "linux-image-cloud-amd64";
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The kernel's boot image, fetched if it is not there yet.
pub(crate) fn fetch(kernel: &Kernel) -> Result<PathBuf> {
    let directory = shell::cache()?.join("vm").join(kernel.suite);
    if let Some(image) = boot_image(&directory) {
        return Ok(image);
    }
    if !Path::new(KEYS).exists() {
        bail!("{KEYS} is missing, which tells Debian's packages from others: install debian-archive-keyring");
    }
    let apt = Apt::new(&directory, kernel.suite)?;
    shell::run_quietly(apt.command("apt-get", &["update", "--quiet"]))?;
    let depends = shell::output(apt.command("apt-cache", &["depends", "--important", PACKAGE]))
        .with_context(|| format!("Debian {} has no {PACKAGE}", kernel.suite))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .with_context(|| format!("{PACKAGE} of {} depends on nothing", kernel.suite))?;
    let mut download = apt.command("apt-get", &["download", "--quiet", package]);
    download.current_dir(&directory);
    shell::run_quietly(download)?;
    let archive = find(&directory, |name| name.ends_with(".deb")).context("apt fetched nothing")?;
    let mut unpack = shell::command("dpkg-deb", ["-x"]);
    unpack.arg(&archive).arg(&directory);
    shell::run_quietly(unpack)?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
    boot_image(&directory).with_context(|| format!("no kernel in {package}"))
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
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(directory: &Path, suite: &str) -> Result<Self> {
        let apt = directory.join("apt");
        for below in ["lists/partial", "cache/archives/partial"] {
            let path = apt.join(below);
            fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        }
        let sources = apt.join("sources.list");
        fs::write(&sources, format!("deb [signed-by={KEYS} arch=amd64] {MIRROR} {suite} main\n"))
            .with_context(|| format!("cannot write {}", sources.display()))?;
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        Ok(Self {
            options: vec![
                option("Dir::Etc::SourceList", &sources),
                option("Dir::Etc::SourceParts", Path::new("/dev/null")),
                option("Dir::State::Lists", &apt.join("lists")),
                option("Dir::Cache", &apt.join("cache")),
                // The directory may be below a home that apt's own user cannot read.
                "APT::Sandbox::User=root".to_owned(),
            ],
        })
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let options = self.options.iter().flat_map(|option| ["-o", option.as_str()]);
        shell::command(program, options.chain(args.iter().copied()))
    }
}
