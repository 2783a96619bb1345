//! The command line → one of the commands run, an exit code.
//!
//! *Owns* options, their help, and the words for what went wrong. Exit codes: 0 done, 1 failed, 2 wrong usage or
//! configuration. *Must not know* how the commands do what they do.

mod arguments;
mod config;
mod doctor;
mod dumps;
mod manual;
mod order;
mod seccomp;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;

use crate::config::{ConfigError, Loaded};
use crate::files::FileError;
use crate::{run, telemetry};
pub use arguments::Print;
use arguments::{Arguments, Command, Settings};

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The user has to call it differently, or configure it differently.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot install the seccomp profile: {0}")]
    Profile(FileError),
    #[error("cannot write the manual pages: {0}")]
    Manual(std::io::Error),
    #[error(transparent)]
    Run(#[from] run::RunError),
    #[error(transparent)]
    Order(#[from] order::OrderError),
}

/// How long the last words may take, when whoever reads standard error does not.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let refused = dumps::switch_off();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output, which may be closed by now (`spoor --help | head`).
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked { 0 } else { 2 });
        }
    };
    let filter =
        arguments.log.clone().or_else(|| std::env::var("RUST_LOG").ok()).filter(|text| !text.is_empty());
    let result = match telemetry::init(arguments.log_format, filter.as_deref()) {
        Ok(()) => {
            if let Err(error) = refused {
                tracing::warn!(
                    "core dumps of this process cannot be switched off ({error}): one would hold traffic"
                );
            }
            execute(arguments.command)
        }
        Err(reason) => Err(Failure::Usage(reason)),
    };
    let code = result.unwrap_or_else(|failure| {
        telemetry::print(&format!("error: {}", sentence(&failure)));
        ExitCode::from(match failure {
            Failure::Usage(_) | Failure::Config(_) => 2,
            Failure::Run(error) if error.is_usage() => 2,
            Failure::Order(error) if error.is_usage() => 2,
            Failure::Run(_) | Failure::Profile(_) | Failure::Manual(_) | Failure::Order(_) => 1,
        })
    });
    telemetry::flush(LAST_WORDS);
    code
}

fn execute(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(options) => {
            let settings = load(&options.settings)?;
            let again = || load(&options.settings).map_err(|failure| sentence(&failure));
            run::live(&settings, options.settings.print, &again)?;
        }
        Command::Record(options) => {
            let settings = load(&options.config.as_settings())?;
            run::record(&settings, &options.output, options.seconds, options.scrub)?;
        }
        Command::Replay(options) if options.explain_keys => {
            run::explain_keys(&load(&options.settings)?, &options.file, &options.keys)?;
        }
        Command::Replay(options) => {
            let settings = load(&options.settings)?;
            run::replay(&settings, &options.file, &options.keys, options.settings.print, options.timeout)?;
        }
        Command::Order(options) => return Ok(order::run(&options)?),
        Command::Doctor(options) => return doctor::run(&options),
        Command::Config { command } => config::run(&command)?,
        Command::Seccomp { install } => seccomp::run(install.as_deref())?,
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { all: Some(directory), .. } => manual::pages(&directory)?,
        Command::Man { command, all: None } => manual::print(command.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load(settings: &Settings) -> Result<crate::config::Config, Failure> {
    let Loaded { config, warnings } =
        crate::config::load(settings.config.as_deref(), &environment(), &settings.flags())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// Variables whose name or value is no UTF-8 cannot be ours.
fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// An error with its causes, as one sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}
