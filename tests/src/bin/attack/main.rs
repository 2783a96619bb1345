//! `cargo xtask attack`: what untrusted programs can do to the agent and to their neighbours.

#![forbid(unsafe_code)]

mod args;
mod attackers;
mod collector;
mod course;
mod report;
mod role;
mod rows;
mod secrets;
mod seen;
mod spools;
mod victim;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use spoor_tests::agent;
use spoor_tests::peers::{self, go_on};

use crate::args::Args;
use crate::report::{Outcome, Report};
use crate::rows::{Kind, Row, rows};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask attack", bin_name = "cargo xtask attack")]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    let outcome = match role::play() {
        Some(played) => played.map(|()| true),
        None => attack(&Command::parse().args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `Ok(false)`: it ran, but a row does not hold.
fn attack(args: &Args) -> Result<bool> {
    let rows = chosen(&args.row)?;
    if args.list {
        for row in &rows {
            println!("{:24} {}", row.name, row.what);
        }
        return Ok(true);
    }
    let binary = agent::binary().map_err(anyhow::Error::msg)?;
    peers::watch_signals("attack")?;
    let mut report = Report::default();
    for row in &rows {
        eprintln!("attack: {}, {}", row.name, row.what);
        let outcome = match run(row, &binary) {
            Ok(outcome) => outcome,
            Err(error) => {
                go_on()?;
                // Whatever was not seen was not held.
                Outcome { faults: vec![format!("it could not be run: {error:#}")], ..Outcome::default() }
            }
        };
        for fault in &outcome.faults {
            eprintln!("attack: {} does not hold: {fault}", row.name);
        }
        report.rows.push((row.name, row.what, outcome));
    }
    if args.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(report.holds())
}

fn run(row: &Row, binary: &Path) -> Result<Outcome> {
    match &row.kind {
        Kind::Course(course) => course.run(binary),
        Kind::Spool(spool) => spool.run(binary),
        Kind::Secrets(secrets) => secrets.run(binary),
    }
}

/// The rows of these names; all where there are none.
fn chosen(names: &[String]) -> Result<Vec<Row>> {
    let mut all = rows();
    if let Some(name) = names.iter().find(|name| !all.iter().any(|row| row.name == name.as_str())) {
        let known: Vec<&str> = all.iter().map(|row| row.name).collect();
        bail!("there is no row {name:?}; there are: {}", known.join(", "));
    }
    all.retain(|row| names.is_empty() || names.iter().any(|name| name == row.name));
    Ok(all)
}
