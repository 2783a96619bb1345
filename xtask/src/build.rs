//! The eBPF object and the agent with it embedded.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell;

/// Builds the eBPF object for the BPF target, then the agent around it; the path of the agent's binary.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let mut cargo = shell::cargo(["build", "--package", "spoor"]);
    if release {
        cargo.arg("--release");
    }
    shell::run(cargo)?;
    Ok(shell::root().join("target").join(if release { "release" } else { "debug" }).join("spoor"))
}
