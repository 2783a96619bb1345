//! The options of `cargo xtask accuracy`: one definition for its program and for xtask, which passes them on.

use std::path::PathBuf;

/// Measure how many causes the agent finds, in services of every runtime, against the services' own logs.
///
/// Services in each runtime serve requests with random work: calls, statements, transactions, messages, in parallel and one
/// after the other, from pools larger and smaller than the number of requests. Everything runs in a temporary directory and
/// on free ports of loopback. Fails when a promise is broken. Needs root, as the agent does.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this runtime; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) runtime: Vec<String>,
    /// Only this number of requests at a time; may be given several times.
    #[arg(long, value_name = "N", default_values_t = [1, 10, 50, 200], value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) concurrency: Vec<u32>,
    /// How long each load lasts.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// What the random work begins with.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write the table to this file as CSV, as `docs/measurements/` keeps it.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Also keep a recording of each runtime's traffic in this folder, for `spoor replay`.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) record: Option<PathBuf>,
    /// Measure nothing: judge what this agent makes of the recordings in this folder. Needs no privilege.
    #[arg(long, value_name = "FOLDER", conflicts_with = "record")]
    pub(crate) replay: Option<PathBuf>,
    /// Run the services in a network namespace of their own, with address translation before it, and an agent for each side
    /// that sees nothing of the other.
    #[arg(long, conflicts_with_all = ["record", "replay", "config"])]
    pub(crate) two_agents: bool,
    /// Configuration of the agent.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
