//! Extraction rules as they stand in the configuration, and their defaults.

use serde::{Deserialize, Serialize};

/// Where one kind of key is found. Filled by the owner of `order`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyRule {
    pub name: String,
}

/// A further attribute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttributeRule {
    pub name: String,
}

pub fn default_keys() -> Vec<KeyRule> {
    Vec::new()
}

pub fn default_attributes() -> Vec<AttributeRule> {
    Vec::new()
}
