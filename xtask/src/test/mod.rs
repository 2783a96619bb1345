//! `cargo xtask test`: every test there is, and one line of totals at the end.
//!
//! | part | programs | needs |
//! |---|---|---|
//! | fast | unit tests of every crate; `fast` and `allocations` of `tests/tests`; all of `journeys/tests` | the compiler |
//! | live | `live` of `tests/tests`, a process a module ([`live`]) | root, the eBPF toolchain, servers |
//!
//! A test that cannot run here says so itself: it writes its name and the reason to the file that `SPOOR_SKIPPED`
//! names and returns. Those are taken from the passed ones and shown.

pub(crate) mod live;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
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
    /// Only tests that need neither privileges, nor the eBPF toolchain, nor servers: three minutes once they are built.
    ///
    /// Unit tests of every crate, recorded traffic through the core, snapshots, hostile inputs, the fuzz targets over
    /// their corpus. It says what it leaves out.
    #[arg(long)]
    fast: bool,
    /// Install nothing: skip what cannot run as the machine is.
    #[arg(long)]
    no_setup: bool,
    /// Only tests whose name contains this; a name begins with its module, as in `operator::agent_killed…`.
    filter: Option<String>,
}

/// What the fast part runs of [`build::PACKAGES`]: unit tests, and the programs of `tests/tests` that need nothing.
const FAST: [&str; 10] =
    ["--lib", "--bins", "--test", "fast", "--test", "allocations", "--test", "demo", "--test", "program"];

/// What has run so far.
#[derive(Debug, Default)]
struct Totals {
    passed: u32,
    failed: u32,
    skipped: Vec<(String, String)>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let filter = args.filter.as_deref();
    let mut totals = Totals::default();
    if shell::is_root()
        && !args.fast
        && !args.no_setup
        && let Err(error) = setup::run(&setup::Args::default())
    {
        eprintln!("setup: {error:#}; tests that need what is missing are skipped");
    }
    // First, so that what embeds the eBPF object is compiled with it once.
    let agent = if args.fast { Err("only fast tests are wanted".to_owned()) } else { agent()? };
    // For the tests of the image, some of which are live.
    if agent.is_ok() && setup::targets::missing(&setup::targets::STATIC).is_empty() {
        build::static_binary()?;
    }
    if !args.live {
        totals.run("xtask", of_xtask(), filter.as_slice())?;
        let binary = agent.clone().or_else(|_| binary())?;
        let mut cargo = cargo_test();
        cargo.args(FAST).env("SPOOR_AGENT", binary);
        totals.run("fast", cargo, filter.as_slice())?;
    }
    if !args.fast {
        live::run(&mut totals, &agent, filter)?;
    }
    for (name, reason) in &totals.skipped {
        println!("skipped {name}: {reason}");
    }
    if args.fast {
        live::say_what_is_left_out()?;
    }
    println!("test: all parts done, {:.1} s", start.elapsed().as_secs_f64());
    println!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped.len());
    match totals.failed {
        0 => Ok(()),
        failed => bail!("{failed} tests failed"),
    }
}

/// The command without an eBPF object, which replays, checks configurations and prints: what the fast tests start.
///
/// It is built together with the tests. By itself it would have dependencies with other features than they have, and all of
/// those would be built once more, in the middle of the first test that starts it.
fn binary() -> Result<PathBuf> {
    shell::timed("test: build", || {
        let mut build = shell::cargo(["build", "--quiet"]);
        build.args(build::PACKAGES).args(FAST);
        shell::run(build)
    })?;
    Ok(build::directory().join("debug/spoor"))
}

/// `cargo xtask bless`: the fast tests, which rewrite what they expect.
pub(crate) fn bless(filter: Option<&str>) -> Result<()> {
    let mut cargo = cargo_test();
    cargo.args(FAST).env("UPDATE_EXPECT", "1").env("SPOOR_AGENT", binary()?).args(filter);
    shell::run(cargo)?;
    shell::run(shell::command("git", ["status", "--short"]))
}

/// Tests of the packages under test; which of them is still to say.
fn cargo_test() -> Command {
    let mut cargo = shell::cargo(["test", "--no-fail-fast"]);
    cargo.args(build::PACKAGES);
    cargo
}

fn of_xtask() -> Command {
    shell::cargo(["test", "--package", "xtask"])
}

impl Totals {
    /// Runs one `cargo test` with `args` for the tests' program, shows what is worth seeing of it, adds up what it says
    /// and says how long it took.
    fn run(&mut self, part: &str, mut cargo: Command, args: &[&str]) -> Result<()> {
        let start = Instant::now();
        let skipped = Scratch::new("skipped")?;
        cargo.arg("--").args(args).env("SPOOR_SKIPPED", &skipped.0);
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
    use super::count;

    #[test]
    fn totals_are_read_from_the_result_line() {
        let line = "FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.00s";
        assert_eq!((count(line, " passed"), count(line, " failed")), (12, 3));
        assert_eq!(count("nonsense", " passed"), 0);
    }
}
