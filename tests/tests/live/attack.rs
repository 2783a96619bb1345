//! A small part of `cargo xtask attack`: one row, so that all that is under it still stands.

use std::process::{Command, Stdio};

use serde_json::Value;
use spoor_tests::agent;
use spoor_tests::skip::skip;

/// The rows of which one is run here: the smallest that has an attacker, a victim and everything that is measured.
const ROW: &str = "hpack";

#[test]
fn an_attack_leaves_the_agent_in_its_memory_and_a_neighbour_in_the_traces() {
    if let Err(reason) = agent::binary() {
        return skip(&reason);
    }
    let mut program = Command::new(env!("CARGO_BIN_EXE_attack"));
    program.args(["--row", ROW, "--json"]);
    let output = program.stderr(Stdio::inherit()).output().expect("the attack starts");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report in JSON");
    let row = &report["rows"][0];
    assert_eq!(row["row"], ROW);
    assert!(output.status.success() && row["held"] == true, "{report:#}");
    // It was attacked, and there was somebody to lose something.
    assert!(row["spans_received"].as_u64() > Some(4000), "the attacker's spans are among them: {report:#}");
    assert!(row["victim"]["spans"].as_u64() > Some(200), "{report:#}");
    assert!(row["peak_mib"].as_u64() > Some(10) && row["end_seconds"].as_f64() > Some(0.0), "{report:#}");
}

#[test]
fn every_row_has_a_name_of_its_own_and_an_unknown_one_is_refused() {
    let attack = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_attack")).args(args).output().expect("the program starts");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (listed, text) = attack(&["--list"]);
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert!(listed && count > 20 && names.len() == count, "{text}");
    assert!(!attack(&["--list", "--row", "nonsense"]).0);
}
