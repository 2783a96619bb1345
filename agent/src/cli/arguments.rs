//! The options of every command, and their help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Flag, OtlpProtocol, duration};
use crate::telemetry::LogFormat;

/// A zero-code tracer: one trace per business order, from the bytes that cross the kernel's sockets.
#[derive(Debug, Parser)]
#[command(
    name = "spoor",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  spoor doctor                                          what this machine allows
  spoor run --print tree                                watch traces in the terminal
  spoor run --otlp-endpoint http://localhost:4317       send them to a collector or Jaeger
  spoor record --output orders.spoor --seconds 60       keep what was seen, to look at it elsewhere
  spoor replay orders.spoor --print tree                needs no privilege

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,

    /// How log lines look; they go to standard error
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        env = "SPOOR_LOG_FORMAT"
    )]
    pub(super) log_format: LogFormat,

    /// What is logged, such as `debug` or `info,spoor::conn=trace`; RUST_LOG works too
    #[arg(long, global = true, value_name = "FILTER", env = "SPOOR_LOG")]
    pub(super) log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Trace this machine until Ctrl-C
    Run(RunOptions),
    /// Write what the kernel reports to a file, for replay, tests and bug reports
    Record(RecordOptions),
    /// Trace what a file holds: a recording, a pcap or a pcapng capture
    Replay(ReplayOptions),
    /// Say where an order is, since when and why: asks spoor-serve
    Order(super::order::OrderOptions),
    /// Say what this kernel, these privileges and this configuration allow
    Doctor(DoctorOptions),
    /// Print a script that completes this command line in a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page of spoor, or of one of its commands
    Man {
        /// A command, such as `run`
        #[arg(value_name = "COMMAND")]
        command: Option<String>,

        /// Write all pages into this directory instead, as spoor.1, spoor-run.1 and so on
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        all: Option<PathBuf>,
    },
    /// Print the seccomp profile of the agent: the system calls that it needs, and no other
    Seccomp {
        /// Write it into this file instead, as a pod does for the kubelet
        #[arg(long, value_name = "FILE")]
        install: Option<PathBuf>,
    },
    /// Check a configuration file, or print the default one or its schema
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spoor run --print tree
  spoor run --config /etc/spoor/spoor.yaml --otlp-endpoint http://collector:4317
  spoor run --print otlp-json > traces.jsonl

It prints `ready:` on standard error once it sees traffic. Ctrl-C or SIGTERM delivers what was captured, then ends.")]
pub(super) struct RunOptions {
    #[command(flatten)]
    pub(super) settings: Settings,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spoor record --output orders.spoor --seconds 60

A recording holds captured bytes as they were sent, passwords included: treat it like the traffic itself.
With --scrub it holds none of them, only what moved where, when and how much.")]
pub(super) struct RecordOptions {
    #[command(flatten)]
    pub(super) config: ConfigOption,

    /// The file to write; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(super) output: PathBuf,

    /// Stop after so many seconds; without it, Ctrl-C stops
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) seconds: Option<u64>,

    /// Leave out everything that was sent: connections, lengths and times stay
    #[arg(long)]
    pub(super) scrub: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spoor replay orders.spoor --print tree
  spoor replay orders.pcap.gz --print tree
  tcpdump -i any -U -w - 'port 8080 or port 5672' | spoor replay -
  spoor replay orders.spoor --otlp-endpoint http://localhost:4317
  spoor replay orders.spoor --explain-keys
  spoor replay orders.pcapng --keys keys.log            open TLS with the secrets that SSLKEYLOGFILE wrote

Secrets inside a pcapng file are used without --keys.
Without --print and without an endpoint it prints trees. Spans that the back end does not take are a failure.")]
pub(super) struct ReplayOptions {
    /// A recording of `spoor record`, a pcap or a pcapng file, also compressed by gzip, xz or zstd; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    /// Say which rule found which key in which operations, and what looks like a number in those without one
    #[arg(long)]
    pub(super) explain_keys: bool,
    /// Open TLS connections with the secrets of a key log, as SSLKEYLOGFILE makes them; may be given more than once
    #[arg(long, value_name = "KEYLOG")]
    pub(super) keys: Vec<PathBuf>,

    /// How long to wait for a back end that takes nothing; what it has not taken by then is a failure
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub(super) timeout: Duration,

    #[command(flatten)]
    pub(super) settings: Settings,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "not a duration such as `250ms`, `2s`, `5m`, `24h`".to_owned())
}

#[derive(Debug, Args)]
pub(super) struct DoctorOptions {
    #[command(flatten)]
    pub(super) config: ConfigOption,

    /// Print the findings as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a file and say what is wrong with it, where, and whose rules it has
    Check {
        /// The file; without it, the one of --config or SPOOR_CONFIG
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,

        #[command(flatten)]
        config: ConfigOption,
    },
    /// Print every setting with its default and its meaning, as a file to start from
    Default,
    /// Print every setting with its meaning, type, default and environment variable, as Markdown
    Reference,
    /// Print the joining rules in the order in which they are asked, with their evidence and confidence, as Markdown
    Rules,
    /// Print the JSON Schema of the configuration, for editors
    Schema,
}

#[derive(Debug, Args)]
pub(super) struct ConfigOption {
    /// The configuration file; `spoor config default` prints one
    #[arg(long, short, value_name = "FILE", env = "SPOOR_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

impl ConfigOption {
    pub(super) fn as_settings(&self) -> Settings {
        Settings { config: self.config.clone(), ..Settings::default() }
    }
}

#[derive(Debug, Default, Args)]
pub(super) struct Settings {
    /// The configuration file; `spoor config default` prints one
    #[arg(long, short, value_name = "FILE", env = "SPOOR_CONFIG")]
    pub(super) config: Option<PathBuf>,

    /// Where spans are sent, such as http://localhost:4317; OTEL_EXPORTER_OTLP_ENDPOINT works too
    #[arg(long, value_name = "URL")]
    pub(super) otlp_endpoint: Option<String>,

    /// How they are sent; without it, http/protobuf for port 4318, else grpc
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    pub(super) otlp_protocol: Option<OtlpProtocol>,

    /// Print finished spans on standard output
    #[arg(long, value_enum, value_name = "FORM")]
    pub(super) print: Option<Print>,
}

/// What is printed on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Print {
    /// Traces as indented trees, for people
    Tree,
    /// One OTLP/JSON ExportTraceServiceRequest per line, as the Collector's file exporter writes
    OtlpJson,
}

impl Settings {
    /// The settings given as options: they win over all others.
    pub(super) fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        let mut add = |option, path, value: &str| flags.push(Flag { option, path, value: value.to_owned() });
        if let Some(endpoint) = &self.otlp_endpoint {
            add("--otlp-endpoint", &["export", "otlp", "endpoint"], endpoint);
            // An endpoint of one signal would win over the one given here.
            add("--otlp-endpoint", &["export", "otlp", "traces_endpoint"], "");
            add("--otlp-endpoint", &["export", "otlp", "metrics_endpoint"], "");
            add("--otlp-endpoint", &["export", "otlp", "logs_endpoint"], "");
        }
        if let Some(name) = self.otlp_protocol.and_then(|protocol| protocol.to_possible_value()) {
            add("--otlp-protocol", &["export", "otlp", "protocol"], name.get_name());
            // That of one signal would win over the one given here.
            add("--otlp-protocol", &["export", "otlp", "for_traces", "protocol"], name.get_name());
            add("--otlp-protocol", &["export", "otlp", "for_metrics", "protocol"], name.get_name());
            add("--otlp-protocol", &["export", "otlp", "for_logs", "protocol"], name.get_name());
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn options_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_endpoint_given_as_an_option_wins_over_one_of_a_signal() {
        let arguments =
            Arguments::try_parse_from(["spoor", "run", "--otlp-endpoint", "http://flag:4317"]).unwrap();
        let Command::Run(options) = arguments.command else { panic!() };
        let variable = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT".to_owned(), "http://variable:4317".to_owned());
        let loaded = crate::config::load(None, &[variable], &options.settings.flags()).unwrap();
        let otlp = loaded.config.export.otlp;
        assert_eq!((otlp.endpoint.as_str(), otlp.traces_endpoint.as_str()), ("http://flag:4317", ""));
    }
}
