//! The options of `cargo xtask stacks`: one definition for its program and for xtask, which passes them on.

use std::path::PathBuf;

/// Run the agent beside the servers, frameworks, drivers and proxies of the field and count what it makes of them.
///
/// Each stack is real software with a small application, driven by a client that knows what each of its requests leads to.
/// Counted are operations without a span, spans of nothing, and causes of the outgoing operations that name the order:
/// joined, left open, wrong; with the agent there first, and with an agent that comes to a system which has run for a while.
/// Everything runs in a temporary directory and on free ports of loopback. Fails when a row breaks its goal: nothing missing,
/// nothing invented, nothing wrong, 99 % joined. Needs root, as the agent does.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this stack; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// How often each stack is run.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) times: u32,
    /// How many orders, of four requests each.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=8000))]
    pub(crate) orders: u64,
    /// Only with the agent there first, or only with one that comes later.
    #[arg(long, value_name = "WHEN", value_parser = ["first", "later"])]
    pub(crate) agent: Option<String>,
    /// What the names of operations begin with.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also keep a recording of each run in this folder, for `spoor replay`.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) record: Option<PathBuf>,
    /// Print the names of the stacks and what is missing to run them.
    #[arg(long)]
    pub(crate) list: bool,
}
