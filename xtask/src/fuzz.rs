//! `cargo xtask fuzz`: the fuzz targets of `tests/fuzz`, one after the other.

use anyhow::{Context, Result, bail};

use crate::shell;

/// Run the fuzz targets of tests/fuzz, each for a while.
///
/// Uses libFuzzer through cargo-fuzz when it is installed. A crash leaves its input in tests/fuzz/artifacts;
/// put it into the target's corpus, where the ordinary tests replay it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One target; all when left out.
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Print the targets and end.
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let targets = targets()?;
    if args.list {
        targets.iter().for_each(|target| println!("{target}"));
        return Ok(());
    }
    let chosen = match &args.target {
        Some(one) if targets.contains(one) => vec![one.clone()],
        Some(one) => bail!("there is no fuzz target `{one}`; there are: {}", targets.join(", ")),
        None => targets,
    };
    if shell::which("cargo-fuzz").is_none() {
        bail!("cargo-fuzz is not installed: run `cargo install cargo-fuzz` once");
    }
    let seconds = format!("-max_total_time={}", args.seconds);
    for target in &chosen {
        println!("fuzz {target}: {} s", args.seconds);
        let args = ["fuzz", "run", "--fuzz-dir", "tests/fuzz", target, "--", &seconds, "-max_len=65536"];
        shell::run(shell::cargo_of("nightly", args))?;
    }
    println!("fuzz: {} targets, no crash", chosen.len());
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let folder = shell::root().join("tests/fuzz/fuzz_targets");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("no fuzz targets in {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}
