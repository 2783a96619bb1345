//! Embeds the eBPF object: `SPOOR_EBPF_OBJECT`, else what `cargo xtask build` left in `target/bpf`, else nothing.
//!
//! Without one the agent still builds and replays files; capturing says what to do.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

/// Where `cargo xtask build` leaves the object, from the workspace's root.
const BUILT: &str = "target/bpf/bpfel-unknown-none/release/spoor-ebpf";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=SPOOR_EBPF_OBJECT");
    let to = PathBuf::from(env::var("OUT_DIR")?).join("spoor-ebpf");
    let from = match env::var_os("SPOOR_EBPF_OBJECT") {
        Some(path) => {
            let path = PathBuf::from(path);
            if !path.is_file() {
                return Err(format!("SPOOR_EBPF_OBJECT: no file at {}", path.display()).into());
            }
            path
        }
        None => {
            let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("..");
            root.join(BUILT)
        }
    };
    // A file that is not there yet counts as changed once it is.
    println!("cargo:rerun-if-changed={}", from.display());
    let object = if from.is_file() { fs::read(&from)? } else { Vec::new() };
    fs::write(to, object)?;
    Ok(())
}
