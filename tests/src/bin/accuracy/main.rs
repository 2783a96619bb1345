//! `cargo xtask accuracy`: how many causes the agent finds in programs of every kind.

#![forbid(unsafe_code)]

mod args;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use spoor_tests::accuracy::run::{Options, replay, run};
use spoor_tests::accuracy::runtime::chosen;
use spoor_tests::accuracy::{backend, tokio_service};

use crate::args::Args;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask accuracy", bin_name = "cargo xtask accuracy")]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    let outcome = match std::env::var("SPOOR_ACCURACY_ROLE").as_deref() {
        Ok("backend") => port().and_then(backend::serve).map(|()| true),
        Ok("tokio") => port().and_then(tokio_service::serve).map(|()| true),
        _ => measure(&Command::parse().args),
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

fn port() -> Result<u16> {
    std::env::var("PORT").context("there is no PORT")?.parse().context("PORT is no number")
}

/// `Ok(false)`: it ran, but a promise is broken.
fn measure(args: &Args) -> Result<bool> {
    let options = Options {
        runtimes: chosen(&args.runtime)?,
        concurrencies: args.concurrency.iter().map(|n| *n as usize).collect(),
        duration: Duration::from_secs(args.seconds),
        seed: args.seed,
        record: args.record.clone(),
        config: args.config.clone(),
    };
    let program = std::env::current_exe().context("cannot find this program")?;
    let report = match &args.replay {
        Some(folder) => replay(&options, folder, &program.with_file_name("spoor"))?,
        None => run(&options, &program, &|step| eprintln!("accuracy: {step}"))?,
    };
    if args.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{report}");
    }
    for cell in &report.cells {
        for example in &cell.verdict.examples {
            eprintln!("{} × {}: {example}", cell.runtime, cell.concurrency);
        }
    }
    let broken = report.broken();
    for sentence in &broken {
        eprintln!("broken: {sentence}");
    }
    Ok(broken.is_empty())
}
