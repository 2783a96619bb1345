//! `cargo xtask stacks`: prepares what the stacks need, then hands over to their program.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};

pub(crate) use self::args::Args;
use crate::{build, setup, shell};

#[path = "../../tests/src/bin/stacks/args.rs"]
mod args;

pub(crate) fn run() -> Result<()> {
    if !shell::is_root() {
        bail!("the stacks need root to load eBPF programs: run `sudo -E cargo xtask stacks`");
    }
    setup::run(&setup::Args::default())?;
    let agent = build::build(false)?;
    let mut stacks = std::process::Command::new(agent.with_file_name("stacks"));
    stacks.env("SPOOR_AGENT", agent).args(std::env::args_os().skip(2));
    // In place of this program, so that its exit code is ours.
    Err(stacks.exec()).context("cannot start the stacks")
}
