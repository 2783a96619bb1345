//! The options of `cargo xtask bench soak`: one definition for the program and for xtask, which passes them on.

/// Run the reference flow for a long time, with the collector away in the middle, and balance the books.
///
/// Succeeds only if every order ended as it was meant to, every span the agent finished was received exactly once, every
/// hole in what it read is a loss the kernel counted, and its resident memory stays flat. Needs root, as the agent does.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// How long orders come.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=24 * 60))]
    pub(crate) minutes: u64,
    /// How long the collector is away in the middle; without it, a tenth of the time.
    #[arg(long, value_name = "MINUTES")]
    pub(crate) away: Option<u64>,
    /// Orders at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) concurrency: u32,
    /// Leave the directory with logs and truth where it is.
    #[arg(long)]
    pub(crate) keep: bool,
}
