//! The configuration: one YAML file, every key also an environment variable, unknown keys refused.
//!
//! *Owns* the typed settings with their defaults and bounds ([`Config`]), and reading them ([`load()`]).
//! The core takes its sections as plain values and never reads a file or the environment.

pub mod check;
pub mod decode;
pub mod document;
pub mod environment;
pub mod load;
pub mod node;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use load::{Flag, Loaded, load};
pub use node::Place;

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
    pub protocols: Protocols,
    pub services: Services,
    pub select: Select,
    pub kubernetes: Kubernetes,
    pub joining: Joining,
    pub order: Order,
    pub spans: Spans,
    pub sampling: Sampling,
    pub privacy: Privacy,
    pub export: Export,
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
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            ring_bytes: 16 << 20,
            first_look_bytes: 16 << 10,
            turn_bytes: 1 << 20,
            max_connections: 65_536,
        }
    }
}

/// Bounds of the parsers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Protocols {
    /// Bytes of a body, message or value kept for key extraction.
    pub kept_body_bytes: usize,
    /// Largest HTTP header block.
    pub max_header_bytes: usize,
    /// Longest SQL text kept.
    pub max_statement_bytes: usize,
    /// Operations open on one connection.
    pub max_open_operations: usize,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            kept_body_bytes: 64 << 10,
            max_header_bytes: 64 << 10,
            max_statement_bytes: 16 << 10,
            max_open_operations: 4096,
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

/// What is traced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// Only processes for which one of these holds are traced; empty: all but the excluded.
    pub include: Vec<Selector>,
    /// Processes for which one of these holds are not traced. Wins over `include`.
    pub exclude: Vec<Selector>,
    /// Leave alone what runs and observes the machine: init, ssh, container runtimes, Kubernetes' own, collectors, other
    /// tracers. Without effect where `include` names what is traced.
    pub default_excludes: bool,
    /// Leave alone processes that export OpenTelemetry by themselves. Spoor understands their context, so it need not.
    pub exclude_instrumented: bool,
}

impl Default for Select {
    fn default() -> Self {
        Self { include: Vec::new(), exclude: Vec::new(), default_excludes: true, exclude_instrumented: false }
    }
}

/// Conditions on a process; all that are given must hold. Texts are globs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    /// Path of the executable.
    pub exe: Option<String>,
    /// Command line, arguments joined by blanks.
    pub command: Option<String>,
    /// Name of the service it was found to be.
    pub service: Option<String>,
    /// A port it listens on.
    pub port: Option<u16>,
    /// Process identifier on the host.
    pub pid: Option<u32>,
    /// Name of its container, or the beginning of its identifier (12 digits at least).
    pub container: Option<String>,
    /// Kubernetes namespace.
    pub namespace: Option<String>,
    /// Name of its pod.
    pub pod: Option<String>,
    /// Labels of its pod.
    pub pod_labels: std::collections::BTreeMap<String, String>,
    /// One of its cgroup paths.
    pub cgroup: Option<String>,
    /// Its network namespace: `host`, or the inode number of `/proc/PID/ns/net`.
    pub netns: Option<String>,
}

/// What Kubernetes' API says of the pods of this node. Without it, names of pods and containers come from the container
/// runtime's files, labels and annotations from nowhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// `null`: when it runs in a pod and `node` is known.
    pub enabled: Option<bool>,
    /// The node whose pods are listed: `spec.nodeName`, by the downward API as SPOOR_KUBERNETES_NODE.
    pub node: String,
    /// URL of the API; empty: as the pod's environment says.
    pub api: String,
    /// Token of the service account.
    pub token_file: String,
    /// Certificate authority of the API.
    pub ca_file: String,
    /// Time between two lists. Containers that are not known are asked for earlier.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub refresh: Duration,
    /// Labels `app.kubernetes.io/instance` and `app.kubernetes.io/name` name services before the Deployment does.
    pub well_known_labels: bool,
}

impl Default for Kubernetes {
    fn default() -> Self {
        let account = "/var/run/secrets/kubernetes.io/serviceaccount";
        Self {
            enabled: None,
            node: String::new(),
            api: String::new(),
            token_file: format!("{account}/token"),
            ca_file: format!("{account}/ca.crt"),
            refresh: Duration::from_secs(30),
            well_known_labels: false,
        }
    }
}

/// How spans are joined to trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Joining {
    /// Rules that may make an edge, by name.
    pub rules: Vec<String>,
    /// Edges below this confidence are not made.
    pub min_confidence: f32,
    /// Longest wait for evidence about an operation's cause after the operation is over.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub decide_within: Duration,
    /// How long a tree is held for late spans after its root is over.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub linger: Duration,
    /// Longest time a tree is held at all.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub max_hold: Duration,
    /// Operations held at once; the oldest trees are released first.
    pub max_held_operations: usize,
    /// Honour `traceparent` and its kin: `covered` (from processes on this node), `all`, `none`.
    pub trusted_context: String,
}

impl Default for Joining {
    fn default() -> Self {
        let rules = ["context", "wire", "message", "thread", "last_read", "value", "transaction"];
        Self {
            rules: rules.map(str::to_owned).to_vec(),
            min_confidence: 0.6,
            decide_within: Duration::from_secs(10),
            linger: Duration::from_secs(2),
            max_hold: Duration::from_secs(300),
            max_held_operations: 200_000,
            trusted_context: "covered".to_owned(),
        }
    }
}

/// How orders are recognised. See `order::rules` for the meaning of each key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Order {
    /// Shared by all agents of one deployment: part of every trace identifier.
    pub deployment: String,
    /// Time after which an order's spans go to a new trace; zero never splits.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub window: Duration,
    /// Where keys are found.
    pub keys: Vec<crate::order::rules::KeyRule>,
    /// Further attributes lifted from traffic.
    pub attributes: Vec<crate::order::rules::AttributeRule>,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            deployment: String::new(),
            window: Duration::from_secs(24 * 3600),
            keys: crate::order::rules::default_keys(),
            attributes: crate::order::rules::default_attributes(),
        }
    }
}

/// What spans carry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Spans {
    /// Path templates that name the spans of HTTP requests, the first that fits: `/users/{user_id}/orders`. A segment in
    /// braces, or `*`, is any one segment, `(a|b)` one of those. Paths of `order.keys` come after these.
    pub routes: Vec<String>,
    /// HTTP request headers to export, by name. Those that carry credentials are never exported.
    pub request_headers: Vec<String>,
    /// HTTP response headers to export.
    pub response_headers: Vec<String>,
    /// Statements that take at least so long are marked `spoor.slow`; zero marks none.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub slow_statement: Duration,
    /// Operations open for longer count as pending in the metrics.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub pending_after: Duration,
}

impl Default for Spans {
    fn default() -> Self {
        Self {
            routes: crate::order::defaults::collection_paths(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            slow_statement: Duration::from_secs(1),
            pending_after: Duration::from_secs(30),
        }
    }
}

/// Which orders are exported: by the order, so that every node decides alike and an order is whole or not there. Metrics
/// count all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Part of the orders, and of the traces without an order, that is kept: 0 to 1.
    pub ratio: f64,
    /// Orders kept in any case: `4711`, or with their namespace `crm/SO-17`.
    pub orders: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { ratio: 1.0, orders: Vec::new() }
    }
}

/// What leaves in another form. Joins are made before, with the values themselves.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// Attributes that leave as keyed hashes only (HMAC-SHA-256): `order.id` for all order numbers, and names of
    /// `order.attributes`. Trace identifiers are then derived from the hash. Every agent needs the same key.
    pub hash: Vec<String>,
    /// The key, at least 16 bytes. Better in `hash_secret_file`, or in the environment.
    pub hash_secret: String,
    /// File with the key; a line break at its end is no part of it.
    pub hash_secret_file: Option<String>,
}

impl std::fmt::Debug for Privacy {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Privacy").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// The port for probes and Prometheus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where `/metrics`, `/live` and `/ready` are served; empty: nowhere. It has no authentication: outside a pod, keep it
    /// on loopback.
    pub listen: String,
}

impl Admin {
    /// Used unless something else is set. If it is taken, the agent runs without.
    pub const DEFAULT: &str = "127.0.0.1:9797";
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: Self::DEFAULT.to_owned() }
    }
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
    /// Largest request in bytes, encoded and before compression. Back ends often refuse more than 4 MiB.
    pub max_request_bytes: usize,
    /// Send the agent's own metrics (records, losses, operations, spans) too.
    pub metrics: bool,
    /// Time between two sets of metrics.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub metrics_interval: Duration,
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
            protocol: None,
            insecure: None,
            headers: Default::default(),
            compression: Compression::Gzip,
            timeout: Duration::from_secs(10),
            certificate: None,
            client_certificate: None,
            client_key: None,
            max_request_bytes: 2 << 20,
            metrics: true,
            metrics_interval: Duration::from_secs(60),
        }
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
    /// Spans waiting in memory before the spool is used, or dropped (oldest first) without one.
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

/// Durations as `250ms`, `2s`, `5m`, `24h`, or `0`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is not a duration such as `250ms`, `2s`, `5m`, `24h`"))
        })
    }

    /// The shortest exact form.
    pub fn format(value: Duration) -> String {
        let ms = value.as_millis();
        match ms {
            0 => "0".to_owned(),
            _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
            _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
            _ => format!("{ms}ms"),
        }
    }

    pub fn parse(text: &str) -> Option<Duration> {
        let text = text.trim();
        if text == "0" {
            return Some(Duration::ZERO);
        }
        let split = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(split);
        let number: u64 = number.parse().ok()?;
        let ms = match unit {
            "ms" => number,
            "s" => number.checked_mul(1000)?,
            "m" => number.checked_mul(60_000)?,
            "h" => number.checked_mul(3_600_000)?,
            _ => return None,
        };
        Some(Duration::from_millis(ms))
    }
}
