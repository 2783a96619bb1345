//! The options of `cargo xtask attack`: one definition for its program and for xtask, which passes them on.

/// Attack a running agent as untrusted programs beside it could, and see what becomes of it and of a neighbour.
///
/// Each row runs the agent, a victim that does numbered work at a steady rate, and processes that attack. It holds when the
/// agent stays within its memory, the victim's work is in the traces, and the agent ends in time. Everything is on loopback
/// and in a temporary directory; load is bounded. Needs root, as the agent does.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this row; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) row: Vec<String>,
    /// Name the rows and end.
    #[arg(long)]
    pub(crate) list: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}
