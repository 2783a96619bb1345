//! The settings of the core, as plain values: the shell reads them from files, variables and flags.
//!
//! *Owns* the sections that more than one room reads, with their defaults, and how a duration is written.
//! *Must not know* where settings come from. Settings of one room stand in that room ([`crate::order::settings`], [`crate::causality::settings`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes captured until the direction of a connection changes, unless the configuration says otherwise.
pub const DEFAULT_TURN_BYTES: u32 = 1 << 20;

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

/// What traffic may make the agent use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory in bytes for what is held of traffic: bodies and headers of what is open, tables of connections, operations until
    /// their tree is complete. When it is used up, who holds most gives: the oldest trees leave early, and the connections that hold
    /// most lose bodies. Spans that wait for the back end have `export.spool.memory_bytes` of their own. Half of the memory that
    /// the DaemonSet allows, a quarter of what the systemd unit does: change them together.
    pub memory_bytes: usize,
    /// Time in percent of one core for one second of traffic. When it is used up, cgroups that took more than their part wait: their
    /// operations are counted, and are no spans. Only when live; 0: no bound.
    pub work_percent: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, work_percent: 100 }
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
