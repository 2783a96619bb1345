//! The configuration: one YAML file, every key also an environment variable, unknown keys refused.
//!
//! *Owns* the typed settings with their defaults and bounds ([`Config`]), and reading them ([`load()`]).
//! The core takes its sections as plain values and never reads a file or the environment.
//!
//! Long because it is one list of settings, each with its documentation.

pub mod check;
mod choices;
pub mod decode;
pub mod document;
pub mod environment;
pub mod load;
pub mod node;
pub mod reference;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use choices::{Admin, Kubernetes, OpenTls, Privacy, Select, Selector, State, Tls, TlsMemory};
pub use load::{Flag, Loaded, load};
pub use node::Place;
pub use spoor_core::causality::settings::Joining;
pub use spoor_core::order::settings::{Order, Spans};
pub use spoor_core::settings::{Limits, Protocols, Sampling, duration};

/// A setting that cannot be used, and where it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    pub place: Place,
    pub message: String,
}

impl ConfigError {
    pub fn at(place: Place, message: String) -> Self {
        Self { place, message }
    }
}

/// Everything that can be configured. Each section has working defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub capture: Capture,
    pub tls: Tls,
    pub protocols: Protocols,
    pub services: Services,
    pub select: Select,
    pub kubernetes: Kubernetes,
    pub joining: Joining,
    pub order: Order,
    pub spans: Spans,
    pub sampling: Sampling,
    pub limits: Limits,
    pub privacy: Privacy,
    pub export: Export,
    pub state: State,
    pub admin: Admin,
}

/// What the kernel side copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    /// Size of the data ring buffer in bytes, a power of two.
    pub ring_bytes: u32,
    /// Bytes captured per turn and direction of a connection whose protocol is not known yet.
    pub first_look_bytes: u32,
    /// Bytes captured per turn (until the direction changes, or a pause) of a connection whose protocol is known.
    pub turn_bytes: u32,
    /// Connections tracked at once.
    pub max_connections: u32,
    /// Part of the ring buffer, in percent, that records of one cgroup may fill while the agent is behind, so that one
    /// noisy container cannot blind the rest: what goes beyond is lost for that cgroup alone, and counted. 0: no bound.
    pub cgroup_percent: u32,
    /// In programs whose one thread works for many requests (asyncio, Node.js), follow at each send which task waits for which, by reading
    /// the program's memory: addresses and task numbers, nothing else. It tells what caused work that shows no key. On rung A, on
    /// x86-64; a program whose memory is not as its version says is left alone.
    pub chains: bool,
    /// Which hooks to use; by default the best that work here. See `spoor doctor`.
    pub rung: Rung,
}

/// A choice of hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// The best that works.
    #[default]
    Auto,
    /// The tracepoints of socket operations (Linux 6.3).
    A,
    /// `fexit` on the protocols' functions.
    B,
    /// Kprobes on the same functions.
    C,
    /// The tracepoint of system calls' returns, which costs every system call a little.
    D,
}

impl Rung {
    /// The rung's name in [`spoor_common::names::LADDER`]; `None` for [`Rung::Auto`].
    pub fn name(self) -> Option<char> {
        match self {
            Rung::Auto => None,
            Rung::A => Some('A'),
            Rung::B => Some('B'),
            Rung::C => Some('C'),
            Rung::D => Some('D'),
        }
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            ring_bytes: 16 << 20,
            first_look_bytes: 16 << 10,
            turn_bytes: spoor_core::settings::DEFAULT_TURN_BYTES,
            max_connections: 65_536,
            cgroup_percent: 50,
            chains: true,
            rung: Rung::Auto,
        }
    }
}

/// How processes become services, and which are left alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Services {
    /// The first rule that matches names the service.
    pub names: Vec<ServiceName>,
    /// Executables (glob on the path) that are not traced; `select.exclude` has more conditions.
    pub exclude: Vec<String>,
}

/// A naming rule: all conditions given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceName {
    /// Glob on the executable's path.
    pub exe: Option<String>,
    /// Glob on the command line, arguments joined by blanks.
    pub command: Option<String>,
    /// A port it listens on.
    pub port: Option<u16>,
    /// `service.name` of what matches.
    pub name: String,
    /// Its `service.namespace`.
    pub namespace: Option<String>,
}

/// Where spans go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Export {
    pub otlp: Otlp,
    pub spool: Spool,
}

/// The OTLP exporter. The standard `OTEL_EXPORTER_OTLP_*` variables set the same keys.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Otlp {
    /// Where spans are sent, such as `http://localhost:4317`; empty: no export over OTLP. Over HTTP, `/v1/traces` is appended.
    pub endpoint: String,
    /// Where spans are sent when that differs from `endpoint`; used as it is, nothing is appended.
    pub traces_endpoint: String,
    /// Where the agent's own metrics are sent when that differs from `endpoint`; used as it is.
    pub metrics_endpoint: String,
    /// Where events of open work are sent when that differs from `endpoint`; used as it is.
    pub logs_endpoint: String,
    /// `grpc`, `http/protobuf` or `http/json`. `null`: by the endpoint, `http/protobuf` for port 4318 or a path, else `grpc`.
    pub protocol: Option<OtlpProtocol>,
    /// For an endpoint without a scheme: `true` means plain text, `false` TLS.
    pub insecure: Option<bool>,
    /// Sent with every request, for example an authorization.
    pub headers: std::collections::BTreeMap<String, String>,
    /// `gzip` or `none`.
    pub compression: Compression,
    /// Longest time one request may take.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// PEM file with the certificate authorities to trust instead of the machine's own.
    pub certificate: Option<String>,
    /// PEM file with the certificate this agent shows (mutual TLS).
    pub client_certificate: Option<String>,
    /// PEM file with the key of `client_certificate`.
    pub client_key: Option<String>,
    /// What is different for spans.
    pub for_traces: OtlpSignal,
    /// What is different for the agent's own metrics.
    pub for_metrics: OtlpSignal,
    /// What is different for events of open work.
    pub for_logs: OtlpSignal,
    /// Largest request in bytes, encoded and before compression. Back ends often refuse more than 4 MiB.
    pub max_request_bytes: usize,
    /// Send the agent's own metrics (records, losses, operations, spans) too.
    pub metrics: bool,
    /// Time between two sets of metrics.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub metrics_interval: Duration,
    /// Tell of what is not over and belongs to an order, as OTLP log events: after `spans.pending_after`, again every minute, and
    /// when it is over. They say what the span will say. A back end that takes no logs is asked once.
    pub open_work: bool,
    /// Operations told of at once, the oldest first.
    pub max_open_work: usize,
    /// Time between two events that tell the same back end that this agent is there, and which services it sees. Where three of them
    /// do not come, `spoor-serve` says that nothing is seen.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub alive_interval: Duration,
}

impl std::fmt::Debug for Otlp {
    /// Without the values of headers: they are credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Otlp")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            traces_endpoint: String::new(),
            metrics_endpoint: String::new(),
            logs_endpoint: String::new(),
            protocol: None,
            insecure: None,
            headers: Default::default(),
            compression: Compression::Gzip,
            timeout: Duration::from_secs(10),
            certificate: None,
            client_certificate: None,
            client_key: None,
            for_traces: OtlpSignal::default(),
            for_metrics: OtlpSignal::default(),
            for_logs: OtlpSignal::default(),
            max_request_bytes: 2 << 20,
            metrics: true,
            metrics_interval: Duration::from_secs(60),
            open_work: true,
            max_open_work: 1024,
            alive_interval: Duration::from_secs(30),
        }
    }
}

/// Settings of one signal that win over those of all: what the `OTEL_EXPORTER_OTLP_TRACES_*`, `_METRICS_*` and `_LOGS_*`
/// variables set. `null` is as for all.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpSignal {
    /// As `protocol`.
    pub protocol: Option<OtlpProtocol>,
    /// As `insecure`.
    pub insecure: Option<bool>,
    /// As `headers`, which they replace.
    pub headers: Option<std::collections::BTreeMap<String, String>>,
    /// As `compression`.
    pub compression: Option<Compression>,
    /// As `timeout`, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// As `certificate`.
    pub certificate: Option<String>,
    /// As `client_certificate`.
    pub client_certificate: Option<String>,
    /// As `client_key`.
    pub client_key: Option<String>,
}

impl std::fmt::Debug for OtlpSignal {
    /// Without the values of headers: they are credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers = self.headers.as_ref().map(|headers| headers.keys().collect::<Vec<_>>());
        f.debug_struct("OtlpSignal")
            .field("protocol", &self.protocol)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

impl Otlp {
    /// The settings of one signal.
    pub fn with(&self, signal: &OtlpSignal) -> Self {
        let mut own = self.clone();
        own.protocol = signal.protocol.or(own.protocol);
        own.insecure = signal.insecure.or(own.insecure);
        own.headers = signal.headers.clone().unwrap_or(own.headers);
        own.compression = signal.compression.unwrap_or(own.compression);
        own.timeout = signal.timeout_ms.map_or(own.timeout, Duration::from_millis);
        own.certificate = signal.certificate.clone().or(own.certificate);
        own.client_certificate = signal.client_certificate.clone().or(own.client_certificate);
        own.client_key = signal.client_key.clone().or(own.client_key);
        own
    }
}

/// How OTLP travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
pub enum OtlpProtocol {
    #[serde(rename = "grpc")]
    #[value(name = "grpc")]
    Grpc,
    #[serde(rename = "http/protobuf")]
    #[value(name = "http/protobuf")]
    HttpProtobuf,
    #[serde(rename = "http/json")]
    #[value(name = "http/json")]
    HttpJson,
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    Gzip,
    None,
}

/// Finished spans wait here while the back end is away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// Where segments are kept; empty: spans wait in memory only, and are lost when the agent ends.
    pub directory: String,
    /// Size of the spool on disk; the oldest spans are dropped first.
    pub max_bytes: u64,
    /// Older spans are dropped.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub max_age: Duration,
    /// Spans waiting in memory before the spool is used, or dropped without one: the oldest of whoever has most there.
    /// A container is one sender, and outside of containers a service is.
    pub memory_bytes: usize,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            directory: String::new(),
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(24 * 3600),
            memory_bytes: 32 << 20,
        }
    }
}
