//! How spans are joined to trees, as plain values: the shell reads them from files, variables and flags.
//!
//! *Owns* the section `joining` and its defaults. *Must not know* where settings come from.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rule;
use crate::settings::duration;

/// How spans are joined to trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Joining {
    /// Rules that may make an edge, by name.
    pub rules: Vec<Rule>,
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
    pub trusted_context: TrustedContext,
    /// Addresses, as peers appear under them, whose processes other agents see: `10.0.0.0/8`, `192.0.2.7`, or `all`. A span
    /// may then be the child of one that another agent exports.
    pub covered: Vec<String>,
}

impl Default for Joining {
    fn default() -> Self {
        Self {
            rules: Rule::ALL.to_vec(),
            min_confidence: 0.6,
            decide_within: Duration::from_secs(10),
            linger: Duration::from_secs(2),
            max_hold: Duration::from_secs(300),
            max_held_operations: 200_000,
            trusted_context: TrustedContext::Covered,
            covered: Vec::new(),
        }
    }
}

/// Whose `traceparent` and kin are honoured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrustedContext {
    /// That of processes on this node.
    #[default]
    Covered,
    /// Everybody's.
    All,
    /// Nobody's.
    None,
}
