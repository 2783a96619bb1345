//! The options of `cargo xtask demo`: one definition for the demo's program and for xtask, which passes them on.

use clap::ValueEnum;

/// Run a shop, a CRM, an MES, an object store, RabbitMQ and PostgreSQL on loopback and trace their orders.
///
/// Everything runs in a temporary directory and on free ports of loopback, and ends with this program. The services
/// are ordinary programs in Python, Node.js and Java, without tracing code. A few orders fail on purpose: the store
/// refuses an upload, the MES database refuses a plan, a message is rejected. Their traces are compared with the
/// services' own logs. Needs root, as the agent does.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End after the first orders; succeed only if their traces are complete.
    #[arg(long)]
    pub(crate) once: bool,
    /// Orders to begin with; in every ten, three fail on purpose and two come from partners.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) orders: u32,
    /// Orders at the same time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) concurrency: u32,
    /// Start the agent before the services, or when they are up and their connections are open.
    #[arg(long, value_enum, default_value_t = When::Last)]
    pub(crate) agent: When,
    /// Put every connection under TLS; the agent finds the secrets in the memory of the programs.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Also start the orders' server, and print a link to its pages; with `--once`, each order's status changes there are compared
    /// with the services' own databases.
    #[arg(long, conflicts_with = "otlp_endpoint")]
    pub(crate) serve: bool,
    /// With the orders' server, also let things go wrong after the first orders, one after the other: the object store is away, the
    /// CRM hangs, the MES has ended, an order is made twice, the agent is killed. What the pages say of each, and who warns, is printed.
    #[arg(long, requires = "serve", conflicts_with_all = ["once", "tls"])]
    pub(crate) failures: bool,
    /// Also send the spans to this OTLP endpoint, a Collector or Jaeger: http://localhost:4317
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    /// `grpc`, `http/protobuf` or `http/json`.
    #[arg(long, value_name = "PROTOCOL", requires = "otlp_endpoint")]
    pub(crate) otlp_protocol: Option<String>,
    /// What to print: the trees of a good and of a failed order, those of all first orders, or all spans as OTLP/JSON lines.
    #[arg(long, value_enum, default_value_t = Print::Two)]
    pub(crate) print: Print,
    /// Leave the directory with logs, truth and spans where it is.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    First,
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Print {
    Two,
    All,
    OtlpJson,
}
