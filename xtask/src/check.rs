//! `cargo xtask check`: the cheap part of CI.

use anyhow::Result;

use crate::shell::cargo;
use crate::{shell, tidy};

pub(crate) fn run() -> Result<()> {
    shell::run(cargo(["fmt", "--all", "--check"]))?;
    // The eBPF crate is checked for the host: its types are the same, and no BPF toolchain is needed.
    shell::run(cargo(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    tidy::run()?;
    let mut doc = cargo(["doc", "--quiet", "--no-deps", "--workspace", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "--deny warnings");
    shell::run(doc)?;
    if shell::which("cargo-deny").is_some() {
        shell::run(cargo([
            "deny",
            "--all-features",
            "--log-level",
            "error",
            "check",
            "bans",
            "licenses",
            "sources",
        ]))?;
    } else {
        println!("deny: skipped, cargo-deny is not installed (`cargo install cargo-deny`)");
    }
    println!("check: done");
    Ok(())
}
