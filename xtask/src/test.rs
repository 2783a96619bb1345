//! `cargo xtask test`: every test there is, and one line of totals at the end.
//!
//! A test that cannot run here says so itself: it writes its name and the reason to the file that `SPOOR_SKIPPED`
//! names and returns. Those are taken from the passed ones and shown.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{build, setup, shell};

/// Run all tests: unit and property tests, replay, the live kernel, and the reference flow end to end.
///
/// The live part builds the agent with its eBPF object. As root it first installs what is missing, as
/// `cargo xtask setup` does; tests that still cannot run are skipped, with the reason.
/// The last line reads `N passed, N failed, N skipped`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only tests on the live kernel, the reference flow among them.
    #[arg(long, conflicts_with = "fast")]
    live: bool,
    /// Only tests that need neither privileges nor servers.
    #[arg(long)]
    fast: bool,
    /// Install nothing: skip what cannot run as the machine is.
    #[arg(long)]
    no_setup: bool,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Tests of `tests/tests/` that need the live kernel: files of this name, or of this beginning.
const LIVE: &[&str] = &["live_", "reference_flow", "accuracy"];

#[derive(Debug, Default)]
struct Totals {
    passed: u32,
    failed: u32,
    skipped: Vec<(String, String)>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let mut totals = Totals::default();
    if shell::is_root()
        && !args.fast
        && !args.no_setup
        && let Err(error) = setup::run(&setup::Args::default())
    {
        eprintln!("setup: {error:#}; tests that need what is missing are skipped");
    }
    let (live, fast): (Vec<String>, Vec<String>) = targets()?.into_iter().partition(|name| is_live(name));
    // First, so that what embeds the eBPF object is compiled with it once.
    let agent = if args.fast { Err("only fast tests are wanted".to_owned()) } else { agent()? };
    // For the tests of the image, some of which are live.
    if agent.is_ok() && setup::targets::missing(&setup::targets::STATIC).is_empty() {
        build::static_binary()?;
    }
    if !args.live {
        totals.run("xtask", shell::cargo(["test", "--package", "xtask"]), args.filter.as_deref(), &[])?;
        let mut cargo = shell::cargo(["test", "--no-fail-fast", "--lib", "--bins"]);
        cargo.args(["--package", "spoor", "--package", "spoor-common", "--package", "spoor-tests"]);
        cargo.args(fast.iter().flat_map(|name| ["--test", name]));
        cargo.envs(agent.iter().map(|agent| ("SPOOR_AGENT", agent)));
        totals.run("fast", cargo, args.filter.as_deref(), &[])?;
    }
    if !args.fast {
        totals.live(&agent, &live, args.filter.as_deref())?;
    }
    for (name, reason) in &totals.skipped {
        println!("skipped {name}: {reason}");
    }
    println!("test: all parts done, {:.1} s", start.elapsed().as_secs_f64());
    println!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped.len());
    match totals.failed {
        0 => Ok(()),
        failed => bail!("{failed} tests failed"),
    }
}

/// `cargo xtask bless`: the fast tests, which rewrite what they expect.
pub(crate) fn bless(filter: Option<&str>) -> Result<()> {
    let mut cargo = shell::cargo(["test", "--no-fail-fast"]);
    cargo.args(["--package", "spoor", "--package", "spoor-tests"]).env("UPDATE_EXPECT", "1");
    for name in targets()?.iter().filter(|name| !is_live(name)) {
        cargo.args(["--test", name]);
    }
    cargo.args(["--lib"]).args(filter);
    shell::run(cargo)?;
    shell::run(shell::command("git", ["status", "--short"]))
}

impl Totals {
    /// The tests on the live kernel, one at a time: they share the machine's sockets.
    fn live(
        &mut self,
        agent: &Result<PathBuf, String>,
        targets: &[String],
        filter: Option<&str>,
    ) -> Result<()> {
        if targets.is_empty() {
            return Ok(());
        }
        let select = |cargo: &mut Command| {
            cargo.args(targets.iter().flat_map(|name| ["--test", name]));
        };
        let agent = match agent {
            Ok(agent) => agent,
            Err(reason) => {
                let mut list = shell::cargo(["test", "--quiet", "--package", "spoor-tests"]);
                select(&mut list);
                list.args(["--"]).args(filter).arg("--list");
                let names = shell::output(list).context("cannot list the live tests")?;
                let names = names.lines().filter_map(|line| line.strip_suffix(": test"));
                self.skipped.extend(names.map(|name| (name.to_owned(), reason.clone())));
                return Ok(());
            }
        };
        for sentence in setup::missing(setup::SERVICES) {
            println!("{sentence}: tests that need it are skipped, `cargo xtask setup` installs it");
        }
        let mut cargo = shell::cargo(["test", "--no-fail-fast", "--package", "spoor-tests"]);
        select(&mut cargo);
        cargo.env("SPOOR_AGENT", agent);
        self.run("live", cargo, filter, &["--test-threads=1"])
    }

    /// Runs one `cargo test`, shows what is worth seeing of it, adds up what it says and says how long it took.
    fn run(&mut self, part: &str, mut cargo: Command, filter: Option<&str>, args: &[&str]) -> Result<()> {
        let start = Instant::now();
        let skipped = Scratch::new("skipped")?;
        cargo.arg("--").args(filter).args(args).env("SPOOR_SKIPPED", &skipped.0);
        cargo.envs(setup::tools::directory().ok().map(|tools| ("SPOOR_TOOLS", tools)));
        let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
        let stdout = child.stdout.take().context("cargo test has no output")?;
        let (mut passed, mut failed) = (0, 0);
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what cargo test prints")?;
            if let Some(result) = line.strip_prefix("test result: ") {
                passed += count(result, " passed");
                failed += count(result, " failed");
            }
            let is_noise = line.is_empty() || line.ends_with(" ... ok") || line == "running 0 tests";
            if !is_noise {
                println!("{line}");
            }
        }
        let succeeded = child.wait()?.success();
        if !succeeded && failed == 0 {
            // It did not get as far as running tests: one failure, so that nobody reads this as success.
            failed = 1;
        }
        let log = fs::read_to_string(&skipped.0).unwrap_or_default();
        let log = log.lines().filter_map(|line| line.split_once('\t'));
        let before = self.skipped.len();
        self.skipped.extend(log.map(|(name, reason)| (name.to_owned(), reason.to_owned())));
        let passed = u32::saturating_sub(passed, (self.skipped.len() - before) as u32);
        println!("test: {part}: {passed} passed, {failed} failed, {:.1} s", start.elapsed().as_secs_f64());
        self.passed += passed;
        self.failed += failed;
        Ok(())
    }
}

/// The agent with its eBPF object, or why this machine can have none. An agent that does not build is an error: nobody
/// should read skipped tests as success then.
fn agent() -> Result<Result<PathBuf, String>> {
    if !shell::is_root() {
        return Ok(Err("loading eBPF programs needs root".to_owned()));
    }
    match setup::missing(setup::BUILD).as_slice() {
        [] => build::build(false).map(Ok),
        missing => Ok(Err(format!("{} (`cargo xtask setup` installs it)", missing.join(", ")))),
    }
}

/// The number before `unit` in `ok. 5 passed; 0 failed; …`.
fn count(result: &str, unit: &str) -> u32 {
    let before = result.split(unit).next().unwrap_or("");
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
    digits.parse().unwrap_or(0)
}

/// The integration tests of `tests/tests/`.
fn targets() -> Result<Vec<String>> {
    let folder = shell::root().join("tests/tests");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        if path.is_dir() && path.join("main.rs").is_file() || path.extension().is_some_and(|e| e == "rs") {
            names.extend(name(&path));
        }
    }
    names.sort();
    Ok(names)
}

fn is_live(name: &str) -> bool {
    LIVE.iter().any(|live| name.starts_with(live))
}

/// An empty file of this process, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("spoor-{name}-{}", std::process::id()));
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it any more; a leftover in the temporary directory does no harm.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{count, is_live};

    #[test]
    fn totals_are_read_from_the_result_line() {
        let line = "FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.00s";
        assert_eq!((count(line, " passed"), count(line, " failed")), (12, 3));
        assert_eq!(count("nonsense", " passed"), 0);
    }

    #[test]
    fn live_targets_are_told_by_name() {
        assert!(is_live("live_kernel") && is_live("reference_flow") && !is_live("replay"));
    }
}
