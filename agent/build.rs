//! Embeds the eBPF objects: those in the directory `SPOOR_EBPF_OBJECTS`, else what `cargo xtask build` left in
//! `target/bpf`, else nothing.
//!
//! Without one the agent still builds and replays files; capturing says what to do.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

/// Where `cargo xtask build` leaves the objects, from the workspace's root.
const BUILT: &str = "target/bpf/objects";
/// The kernel side for hooks with typed arguments, and for the others.
const OBJECTS: [&str; 2] = ["spoor-ebpf", "spoor-ebpf-untyped"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=SPOOR_EBPF_OBJECTS");
    let chosen = env::var_os("SPOOR_EBPF_OBJECTS").map(PathBuf::from);
    let built = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("..").join(BUILT);
    let directory = chosen.clone().unwrap_or(built);
    for name in OBJECTS {
        let from = directory.join(name);
        if chosen.is_some() && !from.is_file() {
            return Err(format!("SPOOR_EBPF_OBJECTS: no file at {}", from.display()).into());
        }
        // A file that is not there yet counts as changed once it is.
        println!("cargo:rerun-if-changed={}", from.display());
        let object = if from.is_file() { fs::read(&from)? } else { Vec::new() };
        fs::write(PathBuf::from(env::var("OUT_DIR")?).join(name), object)?;
    }
    Ok(())
}
