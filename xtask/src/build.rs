//! The eBPF object and the agent with it embedded.
//!
//! *Owns* the compiler flags of the BPF target, and where the object goes: `target/bpf`, which `agent/build.rs` reads.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::setup::targets::{self, Target};
use crate::shell::{self, cargo, cargo_of, timed};

/// `build-std` needs a nightly compiler; everything else is built by the pinned stable one.
const TOOLCHAIN: &str = "nightly";
/// Little-endian BPF: x86-64 and arm64.
const TARGET: &str = "bpfel-unknown-none";
/// Debug information and the linker's flag make the BTF that BTF maps and typed globals need.
const FLAGS: [&str; 2] = ["-Cdebuginfo=2", "-Clink-arg=--btf"];
/// What is built and tested together, always: with other packages, dependencies would have other features and be built again.
pub(crate) const PACKAGES: [&str; 5] = ["--workspace", "--exclude", "spoor-ebpf", "--exclude", "xtask"];
/// All programs, and one of tests: with it what only tests depend on has its say in the features. This one is small.
pub(crate) const PROGRAMS: [&str; 3] = ["--bins", "--test", "demo"];

/// Build the eBPF object and the agent with it embedded; print the path of the binary.
///
/// Needs what `cargo xtask setup` installs: a nightly compiler with rust-src, and bpf-linker.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Optimised, as it is deployed.
    #[arg(long)]
    release: bool,
    /// One statically linked binary, for x86-64 or for arm64. What building it needs is installed.
    #[arg(long, value_name = "TRIPLE", value_parser = targets::TRIPLES)]
    target: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<PathBuf> {
    let Some(target) = args.target.as_deref().and_then(targets::named) else { return build(args.release) };
    build_for(target, args.release)
}

/// As [`build`], for another machine, statically linked.
pub(crate) fn build_for(target: &Target, release: bool) -> Result<PathBuf> {
    targets::need(target)?;
    objects()?;
    timed(&format!("build: agent for {}", target.triple), || agent_for(target, release))
}

/// The binary that goes into images.
pub(crate) fn static_binary() -> Result<PathBuf> {
    timed("build: static agent", || agent_for(&targets::STATIC, false))
}

/// Builds the eBPF object for the BPF target, then the agent around it; the path of the agent's binary.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    objects()?;
    timed("build: agent", || agent(release))
}

/// Builds the eBPF objects. They are the same for every processor: what differs is told them by the loader.
pub(crate) fn objects() -> Result<()> {
    timed("build: eBPF objects", || {
        object(&[], "spoor-ebpf")?;
        object(&["--features", "untyped"], "spoor-ebpf-untyped")
    })
}

fn agent_for(target: &Target, release: bool) -> Result<PathBuf> {
    let mut build = cargo(["build", "--package", "spoor", "--bins", "--target", target.triple]);
    build.args(release.then_some("--release")).envs(target.environment());
    shell::run(build)?;
    Ok(directory().join(target.triple).join(profile(release)).join("spoor"))
}

pub(crate) fn directory() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::root().join("target"), PathBuf::from)
}

fn profile(release: bool) -> &'static str {
    if release { "release" } else { "debug" }
}

fn agent(release: bool) -> Result<PathBuf> {
    let mut build = cargo(["build"]);
    if release {
        // What is deployed has no feature that only tests want.
        build.args(["--release", "--package", "spoor", "--package", "spoor-tests", "--bins"]);
    } else {
        build.args(PACKAGES).args(PROGRAMS);
    }
    shell::run(build)?;
    Ok(directory().join(profile(release)).join("spoor"))
}

/// The object for hooks with typed arguments, or with `untyped` that for the others; see `spoor_common::names::Build`.
fn object(features: &[&str], name: &str) -> Result<()> {
    let to = shell::root().join("target/bpf");
    let mut build =
        cargo_of(TOOLCHAIN, ["build", "--release", "--package", "spoor-ebpf", "--target", TARGET]);
    build.args(features);
    build.args(["-Z", "build-std=core"]).arg("--target-dir").arg(&to);
    build.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    shell::run(build).context("cannot build the eBPF object; `cargo xtask setup` installs its toolchain")?;
    let object = to.join(TARGET).join("release/spoor-ebpf");
    if !object.is_file() {
        bail!("no eBPF object at {} after its build", object.display());
    }
    // Both builds end in the same file: each is kept under its own name, and touched only when it is another.
    let objects = to.join("objects");
    let kept = objects.join(name);
    let new = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    if fs::read(&kept).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::create_dir_all(&objects).with_context(|| format!("cannot create {}", objects.display()))?;
    fs::write(&kept, new).with_context(|| format!("cannot write {}", kept.display()))
}
