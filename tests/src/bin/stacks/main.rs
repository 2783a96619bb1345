//! `cargo xtask stacks`: what the agent makes of the software of the field.

#![forbid(unsafe_code)]

mod args;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use spoor_tests::peers;
use spoor_tests::stacks::report::When;
use spoor_tests::stacks::run::{Options, run};
use spoor_tests::stacks::stack::{Stack, chosen};

use crate::args::Args;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask stacks", bin_name = "cargo xtask stacks")]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    match measure(&Command::parse().args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `Ok(false)`: it ran, but a goal is broken.
fn measure(args: &Args) -> Result<bool> {
    let stacks = chosen(&args.only)?;
    if args.list {
        list(&stacks);
        return Ok(true);
    }
    let whens = [When::First, When::Later].into_iter().filter(|when| match args.agent.as_deref() {
        Some(chosen) => when.name() == chosen,
        None => true,
    });
    let options = Options {
        stacks,
        whens: whens.collect(),
        orders: args.orders,
        times: args.times,
        seed: args.seed,
        record: args.record.clone(),
    };
    peers::watch_signals("stacks")?;
    let report = run(&options, &|step| eprintln!("stacks: {step}"))?;
    if args.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{report}");
    }
    for row in report.rows.iter().filter(|row| !row.broken().is_empty()) {
        for example in row.verdicts.iter().flat_map(|verdict| &verdict.examples) {
            eprintln!("{}, {}: {example}", row.stack, row.when.words());
        }
    }
    let broken = report.broken();
    for sentence in &broken {
        eprintln!("broken: {sentence}");
    }
    Ok(broken.is_empty())
}

fn list(stacks: &[&Stack]) {
    for stack in stacks {
        println!("{}: {}", stack.name, stack.missing().unwrap_or_else(|| "can run".to_owned()));
    }
}
