//! `cargo xtask bench`: what an operation costs, and what a long run takes.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};

use crate::{build, instructions, setup, shell};

#[path = "../../tests/src/bin/load/args.rs"]
mod load;
#[path = "../../tests/src/bin/soak/args.rs"]
mod soak;

/// Measure what capture and the core cost, against the figures the design promises.
///
/// The kernel part needs root; close other programs first, the figures are nanoseconds.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only benchmarks whose name contains this.
    filter: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Instructions(instructions::Args),
    Load(load::Args),
    Soak(soak::Args),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Some(Command::Instructions(args)) => return instructions::run(args),
        Some(Command::Load(_)) => return hand_over("load"),
        Some(Command::Soak(_)) => return hand_over("soak"),
        None => {}
    }
    let benches = names()?;
    if benches.is_empty() {
        bail!("there are no benchmarks: neither agent/benches nor tests/benches has a file");
    }
    let agent = build::build(true)?;
    let chosen =
        benches.iter().filter(|(_, name)| args.filter.as_deref().is_none_or(|filter| name.contains(filter)));
    let mut ran = 0;
    for (package, name) in chosen {
        let mut cargo = shell::cargo(["bench", "--quiet", "--package", package, "--bench", name]);
        cargo.env("SPOOR_AGENT", &agent);
        shell::run(cargo)?;
        ran += 1;
    }
    if ran == 0 {
        let names: Vec<&str> = benches.iter().map(|(_, name)| name.as_str()).collect();
        bail!("no benchmark's name contains it; there are: {}", names.join(", "));
    }
    Ok(())
}

/// Prepares what a measurement needs, then hands over to its program.
fn hand_over(program: &str) -> Result<()> {
    if !shell::is_root() {
        bail!("it needs root to load eBPF programs: run `sudo -E cargo xtask bench {program}`");
    }
    setup::run(&setup::Args::default())?;
    // As it is deployed: memory and CPU are among what is measured.
    let agent = build::build(true)?;
    let mut measurement = std::process::Command::new(agent.with_file_name(program));
    measurement.env("SPOOR_AGENT", agent).args(std::env::args_os().skip(3));
    // In place of this program, so that its exit code is ours.
    Err(measurement.exec()).with_context(|| format!("cannot start `{program}`"))
}

/// Package and name of each benchmark.
fn names() -> Result<Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    for (package, folder) in [("spoor", "agent/benches"), ("spoor-tests", "tests/benches")] {
        let Ok(entries) = std::fs::read_dir(shell::root().join(folder)) else { continue };
        for entry in entries {
            let path = entry?.path();
            if let (Some("rs"), Some(stem)) =
                (path.extension().and_then(|e| e.to_str()), path.file_stem().and_then(|s| s.to_str()))
            {
                found.push((package, stem.to_owned()));
            }
        }
    }
    found.sort();
    Ok(found)
}
