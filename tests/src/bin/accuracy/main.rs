//! `cargo xtask accuracy`: how many causes the agent finds in programs of every kind.

#![forbid(unsafe_code)]

mod args;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use spoor_tests::accuracy::run::{Apart, Options, replay, run};
use spoor_tests::accuracy::runtime::chosen;
use spoor_tests::accuracy::{backend, tokio_service};
use spoor_tests::netns::{self, Pair, Side};

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

/// The namespace of the services, in the program that runs in the other one.
const FAR: &str = "SPOOR_ACCURACY_FAR";
const NEAR: &str = "SPOOR_ACCURACY_NEAR";

/// Makes two namespaces and runs this program again in one of them. It is told of the other.
fn in_namespaces() -> Result<bool> {
    if let Some(reason) = netns::missing() {
        bail!("{reason}");
    }
    let pair = Pair::new()?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut again = pair.near().command(&program.to_string_lossy());
    again.args(std::env::args_os().skip(1)).env(FAR, pair.far().name()).env(NEAR, pair.near().name());
    let status = again.status().context("cannot run in a network namespace")?;
    Ok(status.success())
}

fn port() -> Result<u16> {
    std::env::var("PORT").context("there is no PORT")?.parse().context("PORT is no number")
}

/// `Ok(false)`: it ran, but a promise is broken.
fn measure(args: &Args) -> Result<bool> {
    let name = |variable| std::env::var(variable).ok();
    let sides = name(NEAR)
        .zip(name(FAR))
        .map(|(near, far)| Apart { near: Side::named(&near), far: Side::named(&far) });
    if args.two_agents && sides.is_none() {
        return in_namespaces();
    }
    let options = Options {
        runtimes: chosen(&args.runtime)?,
        concurrencies: args.concurrency.iter().map(|n| *n as usize).collect(),
        duration: Duration::from_secs(args.seconds),
        seed: args.seed,
        record: args.record.clone(),
        config: args.config.clone(),
        apart: sides,
    };
    let program = std::env::current_exe().context("cannot find this program")?;
    let report = match &args.replay {
        Some(folder) => replay(&options, folder, &program.with_file_name("spoor"))?,
        None => run(&options, &program, &|step| eprintln!("accuracy: {step}"))?,
    };
    if let Some(file) = &args.csv {
        let written = std::fs::write(file, report.to_csv());
        written.with_context(|| format!("cannot write {}", file.display()))?;
    }
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
