//! `cargo xtask demo`: prepares what the demo needs, then hands over to its program.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};

pub(crate) use self::args::Args;
use crate::{build, setup, shell};

#[path = "../../tests/src/bin/demo/args.rs"]
mod args;

pub(crate) fn run() -> Result<()> {
    if !shell::is_root() {
        bail!("the demo needs root to load eBPF programs: run `sudo -E cargo xtask demo`");
    }
    setup::run(&setup::Args::default())?;
    // As the tests build it: nobody waits for an optimiser to see a demo, and `cargo xtask test` needs no second build.
    let agent = build::build(false)?;
    let mut demo = std::process::Command::new(agent.with_file_name("demo"));
    demo.env("SPOOR_AGENT", agent).args(std::env::args_os().skip(2));
    // In place of this program, so that Ctrl-C reaches the demo alone and its exit code is ours.
    Err(demo.exec()).context("cannot start the demo")
}
