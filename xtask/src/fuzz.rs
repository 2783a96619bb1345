//! `cargo xtask fuzz`: the fuzz targets of `tests/fuzz`, one after the other.
//!
//! *Owns* where inputs and crashes go. The instrumentation stands in `tests/fuzz/.cargo/config.toml`, so that plain cargo
//! and cargo-fuzz build the same there.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{setup, shell};

/// Run the fuzz targets of tests/fuzz, each for a while.
///
/// Needs the nightly compiler, for libFuzzer's instrumentation, and a C++ compiler, which builds libFuzzer. Inputs found
/// on the way are kept in target/fuzz/corpus. A crash leaves its input in target/fuzz/crashes: put it into
/// tests/fixtures/fuzz-corpus, where the ordinary tests replay it.
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
    let missing = setup::missing(&[setup::toolchain::NIGHTLY]);
    if !missing.is_empty() {
        bail!("{} (`cargo xtask setup` installs it)", missing.join(", "));
    }
    let root = shell::root();
    let work = root.join("target/fuzz");
    let host = host()?;
    // The crate's own folder: its flags are read from there. They apply to the given target, not to build scripts.
    let mut build = shell::cargo_of("nightly", ["build", "--release", "--target", &host]);
    match &args.target {
        Some(one) => build.args(["--bin", one]),
        None => build.arg("--bins"),
    };
    build.current_dir(root.join("tests/fuzz")).arg("--target-dir").arg(&work);
    shell::timed("fuzz: build", || shell::run(build))?;
    for target in &chosen {
        println!("fuzz {target}: {} s", args.seconds);
        let (found, crashes) = (work.join("corpus").join(target), work.join("crashes").join(target));
        for folder in [&found, &crashes] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let binary = work.join(&host).join("release").join(target);
        let mut fuzzer = shell::command(&binary.to_string_lossy(), ["-max_len=65536", "-timeout=10"]);
        fuzzer.arg(format!("-max_total_time={}", args.seconds));
        // New inputs go to the first folder; the others are only read.
        fuzzer.arg(format!("-artifact_prefix={}/", crashes.display())).arg(&found);
        let seeds = root.join("tests/fixtures/fuzz-corpus").join(target);
        fuzzer.args(seeds.is_dir().then_some(seeds));
        let said = shell::run_for_errors(fuzzer)
            .with_context(|| format!("{target} failed: the input is in {}", crashes.display()))?;
        // `Done 123 runs in 61 second(s)`
        let runs = said.lines().rev().find(|line| line.starts_with("Done ")).unwrap_or("no run was counted");
        println!("fuzz {target}: {runs}, no crash");
    }
    println!("fuzz: {} targets, no crash", chosen.len());
    Ok(())
}

/// The host's target triple.
fn host() -> Result<String> {
    let verbose =
        shell::output(shell::command("rustc", ["--version", "--verbose"])).context("rustc does not run")?;
    let host = verbose.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

fn targets() -> Result<Vec<String>> {
    let folder = shell::root().join("tests/fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("no fuzz targets in {}", folder.display()))?;
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
