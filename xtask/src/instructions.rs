//! `cargo xtask bench instructions`: what an operation costs in instructions, against the figures that are committed.
//!
//! Instructions do not change on a busy machine, and by less than a percent between machines of one architecture: so a change
//! that costs three percent is seen. Counted by valgrind, on the benchmark `pipeline` as it is released.
//!
//! The emulated processor has no SHA instructions, so hashes run in software there, which real processors do not do: the rounds of
//! SHA-256 are left out of what is compared, and shown beside it. Caches, branch prediction and system calls are not seen.
//!
//! *Owns* the reading of callgrind's files. *Must not know* what the rows do.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::shell;

/// What each row may cost: its name, instructions without the rounds of SHA-256.
const BOUNDS: &str = "tests/benches/instructions.csv";
/// A row may cost so much more than that, in percent; one that costs so much less is to be written down anew.
const TOLERANCE: u64 = 3;
/// What is counted, as callgrind calls it: the benchmark's own function.
const MEASURED: &str = "*drive*";

/// Count the instructions of an operation under valgrind, and fail where they are more than what is committed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write what was counted to the file of bounds.
    #[arg(long)]
    bless: bool,
}

/// What one row costs.
struct Counted {
    name: String,
    /// Without those of `sha`.
    instructions: u64,
    /// The rounds of SHA-256, in software.
    sha: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let program = build()?;
    let folder = shell::root().join("target/tmp");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let bounds = std::fs::read_to_string(shell::root().join(BOUNDS))
        .with_context(|| format!("cannot read {BOUNDS}"))?;
    let mut counted = Vec::new();
    for name in bounds.lines().skip(1).filter_map(|line| line.rsplit_once(',')).map(|(name, _)| name) {
        let row = count(&program, name, &folder.join("callgrind.out"))?;
        println!("{:<34} {:>8} and {:>6} of SHA-256 in software", row.name, row.instructions, row.sha);
        counted.push(row);
    }
    if args.bless {
        let rows = counted.iter().map(|row| format!("{},{}\n", row.name, row.instructions));
        let text = format!("row,instructions\n{}", rows.collect::<String>());
        return std::fs::write(shell::root().join(BOUNDS), text)
            .with_context(|| format!("cannot write {BOUNDS}"));
    }
    let of_row = |row: &Counted| match bound(&bounds, &row.name) {
        Some(bound) => judge(row, bound),
        None => {
            Some(format!("{}: {} instructions, and no figure is written down", row.name, row.instructions))
        }
    };
    let wrong: Vec<String> = counted.iter().filter_map(of_row).collect();
    if !wrong.is_empty() {
        bail!("{}\n{BOUNDS} has what is expected; `--bless` writes it anew", wrong.join("\n"));
    }
    Ok(())
}

/// The benchmark as it is released.
fn build() -> Result<PathBuf> {
    let mut cargo = shell::cargo([
        "bench",
        "--no-run",
        "--package",
        "spoor-tests",
        "--bench",
        "pipeline",
        "--message-format",
        "json",
    ]);
    cargo.stderr(Stdio::inherit());
    let output = cargo.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the benchmark does not build");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let of_bench = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "pipeline" && message["target"]["kind"][0] == "bench";
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    };
    messages.lines().find_map(of_bench).context("cargo names no benchmark `pipeline`")
}

fn count(program: &Path, name: &str, file: &Path) -> Result<Counted> {
    let mut valgrind = shell::command("valgrind", ["--tool=callgrind", "--dump-line=no"]);
    valgrind
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--callgrind-out-file={}", file.display()));
    valgrind.arg(program).args(["--count", name]);
    let output = valgrind.output().context("cannot start valgrind: `apt-get install valgrind`")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("valgrind failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    // `HTTP request, both ends    20000    20000    0    …`
    let operations =
        said.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    let operations = operations
        .filter(|count| *count > 0)
        .with_context(|| format!("the benchmark has no row `{name}`"))?;
    let profile = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (all, sha) = sums(&profile);
    Ok(Counted { name: name.to_owned(), instructions: (all - sha) / operations, sha: sha / operations })
}

/// The instructions of a profile: all of them, and those of SHA-256's rounds.
///
/// Format: valgrind manual, section 6.5.2 "Callgrind Format Specification". A function is `fn=(1) name`, later `fn=(1)`; its costs are
/// lines of a place and a count, but for the line behind `calls=`, which has those of the function that is called.
fn sums(profile: &str) -> (u64, u64) {
    let mut is_round = std::collections::HashMap::new();
    let (mut all, mut sha, mut in_round, mut is_called) = (0, 0, false, false);
    for line in profile.lines() {
        if let Some((id, name)) =
            line.strip_prefix("fn=").map(|rest| rest.split_once(' ').unwrap_or((rest, "")))
        {
            in_round = *is_round
                .entry(id.to_owned())
                .or_insert_with(|| name.contains("sha2") && name.contains("compress"));
        } else if let Some((id, name)) = line.strip_prefix("cfn=").and_then(|rest| rest.split_once(' ')) {
            is_round
                .entry(id.to_owned())
                .or_insert_with(|| name.contains("sha2") && name.contains("compress"));
        } else if line.starts_with("calls=") {
            is_called = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '*')) {
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
            if !std::mem::take(&mut is_called) {
                all += cost;
                sha += if in_round { cost } else { 0 };
            }
        }
    }
    (all, sha)
}

fn bound(bounds: &str, name: &str) -> Option<u64> {
    let of = |line: &str| line.rsplit_once(',').filter(|(of, _)| *of == name)?.1.trim().parse().ok();
    bounds.lines().find_map(of)
}

/// What is wrong with what a row costs.
fn judge(row: &Counted, bound: u64) -> Option<String> {
    let Counted { name, instructions, .. } = row;
    let percent = 100.0 * (*instructions as f64 / bound as f64 - 1.0);
    let is_much = *instructions * 100 > bound * (100 + TOLERANCE);
    let is_little = *instructions * 100 < bound * (100 - TOLERANCE);
    match (is_much, is_little) {
        (true, _) => Some(format!("{name}: {instructions} instructions, {percent:.1} % over {bound}")),
        (_, true) => {
            Some(format!("{name}: {instructions} instructions, {percent:.1} % under {bound}: write it down"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_functions_are_summed_and_those_of_calls_are_not() {
        let profile = "version: 1\nevents: Ir\n\nfl=(1) a.rs\nfn=(1) drive\n0 100\ncfi=(2) b.rs\ncfn=(2) sha2::sha256::compress256\n\
            calls=3 0\n0 5000\n0 11\n\nfl=(2)\nfn=(2)\n0 7\ncfn=(3) sha2::sha256::soft::compress\ncalls=3 0\n0 4993\n\
            fn=(3)\n0 4993\n\nfn=(4) sha2::digest\n+0 2\nfn=(1)\n* 1\ntotals: 5114\n";
        assert_eq!(sums(profile), (100 + 11 + 7 + 4993 + 2 + 1, 7 + 4993));
    }

    #[test]
    fn a_row_may_cost_three_percent_more_or_less() {
        let judged = |instructions| judge(&Counted { name: "row".to_owned(), instructions, sha: 0 }, 10_000);
        assert!(judged(10_300).is_none() && judged(9_700).is_none());
        assert!(judged(10_301).is_some_and(|said| said.contains("over")));
        assert!(judged(9_699).is_some_and(|said| said.contains("write it down")));
        let bounds = "row,instructions\nHTTP request, both ends,10000\n";
        assert_eq!(bound(bounds, "HTTP request, both ends"), Some(10_000));
        assert_eq!(bound(bounds, "row"), None);
    }
}
