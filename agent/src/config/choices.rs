//! The sections by which an operator chooses: what is traced, in which form it leaves, what is kept, and who may ask.
//!
//! *Owns* these settings and their defaults. *Must not know* how they are read.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

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

/// What leaves in another form. Joins are made before, with the values themselves.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// Attributes that leave as keyed hashes only (HMAC-SHA-256): `order.id` for all order numbers, names of `order.attributes`, and
    /// any other, such as `client.address`. Trace identifiers are then derived from the hash. Every agent needs the same key.
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

/// Connections under TLS. Without their secrets they are counted and left alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Whose memory is read for the secrets of its connections. Nothing is written to it, and no private key of a certificate
    /// is looked for.
    pub open: OpenTls,
    /// Files to which programs write the secrets of their connections (`SSLKEYLOGFILE`, RFC 9850): those connections are
    /// opened, TLS 1.3 and 1.2. Who may read such a file may read the traffic.
    pub key_logs: Vec<String>,
    /// What the search in memory may cost.
    pub memory: TlsMemory,
}

/// Whose TLS connections are opened with secrets from memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OpenTls {
    /// Those of processes that `select.include` names. Where it names none, nobody's.
    #[default]
    Selected,
    /// Those of every traced process.
    All,
    /// Nobody's: no memory is read.
    Off,
}

/// The search for secrets in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsMemory {
    /// Part of one core, in percent, that it may use on average; a second is saved for bursts.
    pub cpu_percent: u32,
    /// Bytes of one process that are read for one search. What lies beyond is not looked at.
    pub max_bytes: u64,
}

impl Default for TlsMemory {
    fn default() -> Self {
        Self { cpu_percent: 5, max_bytes: 4 << 30 }
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

/// What the agent has learned is kept for the next run: texts of prepared statements, queues of consumers, how processes
/// work. It holds nothing that a span could not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Keep it, where there is a directory for it.
    pub keep: bool,
    /// Where; empty: in `export.spool.directory`; without one in `/var/lib/spoor`, where that is there and can be written, else nowhere.
    pub directory: String,
    /// How often it is written besides at the end, for agents that are killed; `0`: never.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub save_every: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self { keep: true, directory: String::new(), save_every: Duration::from_secs(30) }
    }
}
