//! `cargo xtask accuracy`: prepares what the measurement needs, then hands over to its program.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};

pub(crate) use self::args::Args;
use crate::{build, setup, shell};

#[path = "../../tests/src/bin/accuracy/args.rs"]
mod args;

pub(crate) fn run() -> Result<()> {
    if !shell::is_root() {
        bail!("the measurement needs root to load eBPF programs: run `sudo -E cargo xtask accuracy`");
    }
    setup::run(&setup::Args::default())?;
    let agent = build::build(false)?;
    let mut accuracy = std::process::Command::new(agent.with_file_name("accuracy"));
    accuracy.env("SPOOR_AGENT", agent).args(std::env::args_os().skip(2));
    // In place of this program, so that its exit code is ours.
    Err(accuracy.exec()).context("cannot start the measurement")
}
