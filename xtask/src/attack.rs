//! `cargo xtask attack`: prepares what the attacks need, then hands over to its program.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};

pub(crate) use self::args::Args;
use crate::{build, setup, shell};

#[path = "../../tests/src/bin/attack/args.rs"]
mod args;

pub(crate) fn run() -> Result<()> {
    if !shell::is_root() {
        bail!("the attacks need root to load eBPF programs: run `sudo -E cargo xtask attack`");
    }
    setup::run(&setup::Args::default())?;
    let agent = build::build(false)?;
    let mut attack = std::process::Command::new(agent.with_file_name("attack"));
    attack.env("SPOOR_AGENT", agent).args(std::env::args_os().skip(2));
    // In place of this program, so that its exit code is ours.
    Err(attack.exec()).context("cannot start the attacks")
}
