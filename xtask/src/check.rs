//! `cargo xtask check`: the cheap part of CI, its steps in the order of what they cost.

use anyhow::Result;

use crate::shell::{self, cargo, timed};
use crate::{docs, tidy};

pub(crate) fn run() -> Result<()> {
    timed("check: everything", || {
        timed("check: fmt", || shell::run(cargo(["fmt", "--all", "--check"])))?;
        timed("check: tidy", tidy::run)?;
        timed("check: clippy", clippy)?;
        timed("check: doc", doc)?;
        timed("check: docs", || docs::run(&docs::Args { check: true }))?;
        if shell::which("cargo-deny").is_none() {
            println!("check: deny skipped, cargo-deny is not installed (`cargo install cargo-deny`)");
            return Ok(());
        }
        timed("check: deny", || {
            shell::run(cargo(["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]))
        })
    })
}

fn clippy() -> Result<()> {
    // The eBPF crate is checked for the host: its types are the same, and no BPF toolchain is needed.
    shell::run(cargo(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
}

fn doc() -> Result<()> {
    let mut doc = cargo(["doc", "--quiet", "--no-deps", "--workspace", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "--deny warnings");
    shell::run(doc)
}
