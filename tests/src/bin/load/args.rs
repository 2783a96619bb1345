//! The options of `cargo xtask bench load`: one definition for the program and for xtask, which passes them on.

/// What the agent takes while nginx serves 0, 1,000 and 10,000 requests per second, and what rate nginx keeps with it.
///
/// nginx and the load share one processor, the agent has the others. Each rate has an agent of its own. The pairs run as
/// fast as nginx can, without the agent and with it in turn. Needs root, as the agent does.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests per second, one figure after the other.
    #[arg(long, value_delimiter = ',', default_value = "0,1000,10000")]
    pub(crate) rates: Vec<u64>,
    /// How long each rate and each half of a pair runs.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Runs without and with the agent.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=50))]
    pub(crate) pairs: u64,
    /// Connections that are kept open.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=500))]
    pub(crate) connections: u64,
}
