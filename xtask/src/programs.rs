//! Programs of `tests/src/bin` that need a loaded agent: `cargo xtask demo`, `accuracy`, `attack`, `stacks`.
//!
//! What one of them needs is set up and built, and then it takes the place of this program. Each tells its own options.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{build, setup, shell};

#[path = "../../tests/src/bin/accuracy/args.rs"]
pub(crate) mod accuracy;
#[path = "../../tests/src/bin/attack/args.rs"]
pub(crate) mod attack;
#[path = "../../tests/src/bin/demo/args.rs"]
pub(crate) mod demo;
#[path = "../../tests/src/bin/stacks/args.rs"]
pub(crate) mod stacks;

/// Hands over to a program, with the arguments of this one.
///
/// It is built as the tests are: nobody waits for an optimiser, and `cargo xtask test` needs no second build.
pub(crate) fn hand_over(name: &str) -> Result<()> {
    if !shell::is_root() {
        bail!("loading eBPF programs needs root: run `sudo -E cargo xtask {name}`");
    }
    setup::run(&setup::Args::default())?;
    let agent = build::build(false)?;
    let mut program = Command::new(agent.with_file_name(name));
    program.env("SPOOR_AGENT", agent).args(std::env::args_os().skip(2));
    // In place of this program, so that Ctrl-C reaches it alone and its exit code is ours.
    Err(program.exec()).with_context(|| format!("cannot start {name}"))
}
