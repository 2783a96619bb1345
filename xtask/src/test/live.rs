//! The live part: names of tests → a process for each module, one test at a time in it.
//!
//! Why a module has a process to itself, and shares the machine with no other, is in `tests/tests/live/main.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Totals, cargo_test};
use crate::{setup, shell};

/// The program of `tests/tests`.
pub(crate) const PROGRAM: &str = "live";
/// Its module that needs nothing but a kernel: what the guests of `cargo xtask vm` run.
pub(crate) const CAPTURE: &str = "capture::";

/// Runs the tests whose name contains `filter` against `agent`; without one, counts them as skipped and says why.
pub(super) fn run(totals: &mut Totals, agent: &Result<PathBuf, String>, filter: Option<&str>) -> Result<()> {
    let modules = by_module(&list(filter)?);
    let agent = match agent {
        Ok(agent) => agent,
        Err(reason) => {
            let names = modules.into_values().flatten();
            totals.skipped.extend(names.map(|name| (name, reason.clone())));
            return Ok(());
        }
    };
    for sentence in setup::missing(setup::SERVICES) {
        println!("{sentence}: tests that need it are skipped, `cargo xtask setup` installs it");
    }
    for (module, names) in &modules {
        let mut cargo = cargo_test();
        cargo.args(["--test", PROGRAM]).env("SPOOR_AGENT", agent);
        let args: Vec<&str> =
            ["--test-threads=1", "--exact"].into_iter().chain(names.iter().map(String::as_str)).collect();
        totals.run(&format!("live, {module}"), cargo, &args)?;
    }
    Ok(())
}

/// What `--list` prints of the tests whose name contains `filter`.
fn list(filter: Option<&str>) -> Result<String> {
    let mut list = cargo_test();
    list.args(["--quiet", "--test", PROGRAM, "--"]).args(filter).args(["--list", "--format", "terse"]);
    shell::output(list).with_context(|| {
        format!("cannot list the live tests: `cargo test --package spoor-tests --test {PROGRAM} -- --list` says why")
    })
}

/// The tests in a list, by the module that their names begin with.
fn by_module(list: &str) -> BTreeMap<String, Vec<String>> {
    let mut modules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in list.lines().filter_map(|line| line.strip_suffix(": test")) {
        let module = name.split("::").next().unwrap_or(name);
        modules.entry(module.to_owned()).or_default().push(name.to_owned());
    }
    modules
}

/// For a run of the fast part alone: what there is besides, and how to run it.
pub(super) fn say_what_is_left_out() -> Result<()> {
    let folder = shell::root().join("tests/tests").join(PROGRAM);
    let mut tests = 0;
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        tests += text.lines().filter(|line| line.trim() == "#[test]").count();
    }
    println!(
        "left out: {tests} tests of tests/tests/{PROGRAM}, which load the agent into this machine's kernel and start \
         PostgreSQL, RabbitMQ and programs of many languages: `sudo -E cargo xtask test --live`"
    );
    println!("left out: other kernels and every rung of the hook ladder: `sudo -E cargo xtask vm`");
    println!("left out: fuzzing beyond the corpus: `cargo xtask fuzz`");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::by_module;

    #[test]
    fn tests_are_told_apart_by_their_module() {
        let list = "capture::a_read_is_seen: test\noperator::four_capabilities_are_enough: test\ncapture::b: test\n\n";
        let modules = by_module(list);
        let modules: Vec<(&str, usize)> =
            modules.iter().map(|(module, names)| (module.as_str(), names.len())).collect();
        assert_eq!(modules, [("capture", 2), ("operator", 1)]);
    }
}
