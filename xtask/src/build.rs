//! The eBPF object and the agent with it embedded.
//!
//! *Owns* the compiler flags of the BPF target, and where the object goes: `target/bpf`, which `agent/build.rs` reads.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// `build-std` needs a nightly compiler; everything else is built by the pinned stable one.
const TOOLCHAIN: &str = "nightly";
/// Little-endian BPF: x86-64 and arm64.
const TARGET: &str = "bpfel-unknown-none";
/// Debug information and the linker's flag make the BTF that BTF maps and typed globals need.
const FLAGS: [&str; 2] = ["-Cdebuginfo=2", "-Clink-arg=--btf"];

/// Builds the eBPF object for the BPF target, then the agent around it; the path of the agent's binary.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    object()?;
    let root = root();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Together with the tests and the demo, so that their common dependencies have the same features and are built once.
    cargo.current_dir(&root).args(["build", "--package", "spoor", "--package", "spoor-tests", "--bins"]);
    if release {
        cargo.arg("--release");
    }
    run(cargo, "build the agent")?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join(if release { "release" } else { "debug" }).join("spoor"))
}

/// Builds the eBPF object alone; its path.
pub(crate) fn object() -> Result<PathBuf> {
    let root = root();
    let to = root.join("target").join("bpf");
    let mut cargo = Command::new("rustup");
    cargo
        .current_dir(&root)
        .args(["run", TOOLCHAIN, "cargo"])
        .args(["build", "--release", "--package", "spoor-ebpf", "--target", TARGET, "-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(&to)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        // Set by the cargo that runs this: they would bring back its own toolchain and target directory.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    run(cargo, "build the eBPF object; `cargo xtask setup` installs its toolchain")?;
    let object = to.join(TARGET).join("release").join("spoor-ebpf");
    if !object.is_file() {
        bail!("no eBPF object at {} after its build", object.display());
    }
    Ok(object)
}

fn run(mut command: Command, attempt: &str) -> Result<()> {
    let status =
        command.status().with_context(|| format!("cannot start {:?} to {attempt}", command.get_program()))?;
    if !status.success() {
        bail!("cannot {attempt}: {:?} ended with {status}", command.get_program());
    }
    Ok(())
}

/// The workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
