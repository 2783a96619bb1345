//! The eBPF toolchain: a nightly compiler with the standard library's source, and bpf-linker with its LLVM.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Found, Need, debian};
use crate::shell;

pub(crate) const NIGHTLY: Need = Need {
    name: "nightly compiler with rust-src",
    why: "core is compiled for the BPF target from source, which only a nightly compiler can",
    look: nightly,
    install: install_nightly,
};

pub(crate) const BPF_LINKER: Need = Need {
    name: "bpf-linker",
    why: "the linker of the BPF target",
    look: bpf_linker,
    install: install_bpf_linker,
};

const BPF_LINKER_VERSION: &str = "0.13.0";
/// The LLVM versions that bpf-linker can be built with, newest first.
const LLVM_VERSIONS: [u32; 3] = [23, 22, 21];

fn nightly() -> Found {
    let Some(sysroot) = shell::output(rustc(["--print", "sysroot"])) else {
        return Found::Missing("the toolchain `nightly`".to_owned());
    };
    let sources = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    if !sources.is_file() {
        return Found::Missing("the component rust-src of the toolchain `nightly`".to_owned());
    }
    Found::Present(shell::output(rustc(["--version"])).unwrap_or_default())
}

fn install_nightly() -> Result<()> {
    let remedy = "rustup could not bring the nightly compiler; with a network, run \
                  `rustup toolchain install nightly --profile minimal --component rust-src`";
    // A toolchain that is there is kept as it is: `toolchain install` would update it.
    let args = match shell::output(rustc(["--version"])) {
        Some(_) => vec!["component", "add", "rust-src", "--toolchain", "nightly"],
        None => vec!["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"],
    };
    shell::run(shell::command("rustup", args)).context(remedy)
}

fn bpf_linker() -> Found {
    let Some(path) = find_bpf_linker() else {
        return Found::Missing(format!("bpf-linker {BPF_LINKER_VERSION}"));
    };
    match shell::output(shell::command(&path.to_string_lossy(), ["--version"])) {
        Some(version) if version.contains(BPF_LINKER_VERSION) => Found::Present(version),
        Some(version) => Found::Missing(format!("bpf-linker {BPF_LINKER_VERSION} ({version} is there)")),
        None => Found::Missing(format!("a bpf-linker that runs ({} does not)", path.display())),
    }
}

fn find_bpf_linker() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let installed = home.map(|home| home.join("bin/bpf-linker")).filter(|path| path.is_file());
    installed.or_else(|| shell::which("bpf-linker"))
}

fn install_bpf_linker() -> Result<()> {
    let llvm = llvm()?;
    let feature = format!("llvm-{llvm}");
    eprintln!("setup: building bpf-linker {BPF_LINKER_VERSION} against LLVM {llvm}, about a minute");
    let mut cargo =
        shell::cargo(["install", "--quiet", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked"]);
    cargo.args(["--force", "--no-default-features", "--features", &feature]);
    cargo.env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"));
    shell::run(cargo)
}

/// An LLVM that bpf-linker can be built with and that reads what the nightly compiler writes; installs one if need be.
fn llvm() -> Result<u32> {
    let verbose =
        shell::output(rustc(["--version", "--verbose"])).context("the nightly compiler does not run")?;
    let oldest = llvm_of_compiler(&verbose).context("the nightly compiler does not name its LLVM version")?;
    let usable: Vec<u32> = LLVM_VERSIONS.into_iter().filter(|version| *version >= oldest).collect();
    let present = |version: &&u32| Path::new(&format!("/usr/lib/llvm-{version}/bin/llvm-config")).exists();
    if let Some(version) = usable.iter().find(present) {
        return Ok(*version);
    }
    debian::update()?;
    // The closest version first: it is the one the compiler was tested with.
    for version in usable.iter().rev() {
        let package = format!("llvm-{version}-dev");
        if debian::is_offered(&package) {
            debian::install(&[package.as_str()])?;
            return Ok(*version);
        }
    }
    bail!(
        "bpf-linker {BPF_LINKER_VERSION} needs LLVM {oldest} to {newest} for this nightly compiler, and apt offers none of \
         them; install one under /usr/lib/llvm-<version>, or bpf-linker {BPF_LINKER_VERSION} by hand",
        newest = LLVM_VERSIONS[0]
    )
}

/// The major number in `LLVM version: 22.1.4`.
fn llvm_of_compiler(verbose: &str) -> Option<u32> {
    let version = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

fn rustc<const N: usize>(args: [&str; N]) -> std::process::Command {
    let mut command = shell::command("rustup", ["run", "nightly", "rustc"]);
    command.args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::llvm_of_compiler;

    #[test]
    fn compiler_names_its_llvm() {
        assert_eq!(llvm_of_compiler("rustc 1.97.0-nightly\nhost: x\nLLVM version: 22.1.4\n"), Some(22));
        assert_eq!(llvm_of_compiler("rustc 1.97.0-nightly"), None);
    }
}
