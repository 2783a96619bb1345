//! The eBPF object and the agent with it embedded.
//!
//! *Owns* the compiler flags of the BPF target, and where the object goes: `target/bpf`, which `agent/build.rs` reads.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell::{self, cargo, cargo_of, timed};

/// `build-std` needs a nightly compiler; everything else is built by the pinned stable one.
const TOOLCHAIN: &str = "nightly";
/// Little-endian BPF: x86-64 and arm64.
const TARGET: &str = "bpfel-unknown-none";
/// Debug information and the linker's flag make the BTF that BTF maps and typed globals need.
const FLAGS: [&str; 2] = ["-Cdebuginfo=2", "-Clink-arg=--btf"];

/// Builds the eBPF object for the BPF target, then the agent around it; the path of the agent's binary.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    timed("build: eBPF objects", objects)?;
    timed("build: agent", || agent(release))
}

fn agent(release: bool) -> Result<PathBuf> {
    // Together with the tests and the demo, so that their common dependencies have the same features and are built once.
    let mut build = cargo(["build", "--package", "spoor", "--package", "spoor-tests", "--bins"]);
    if release {
        build.arg("--release");
    }
    shell::run(build)?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::root().join("target"), PathBuf::from);
    Ok(target.join(if release { "release" } else { "debug" }).join("spoor"))
}

/// The object for hooks with typed arguments, and the one for the others; see `spoor_common::names::Build`.
fn objects() -> Result<()> {
    object(&[], "spoor-ebpf")?;
    object(&["--features", "untyped"], "spoor-ebpf-untyped")
}

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
