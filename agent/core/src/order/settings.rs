//! How orders are recognised and what their spans carry: the sections `order` and `spans` of the configuration.
//!
//! *Owns* these settings and their defaults. *Must not know* how they are read.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{AttributeRule, KeyRule, default_attributes, default_keys};
use super::window::Window;
use crate::settings::duration;

/// How orders are recognised. See [`super::rules`] for the meaning of each key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Order {
    /// Shared by all agents of one deployment: part of every trace identifier.
    pub deployment: String,
    /// Time after which an order's spans go to a new trace; `0`: never, `request`: each request has one of its own.
    #[schemars(with = "String")]
    pub window: Window,
    /// Letter case tells paths apart: `/Orders/17` is not what a template `/orders/{order_id}` means.
    pub exact_paths: bool,
    /// Where keys are found. What is given here comes before the built-in rules.
    pub keys: Vec<KeyRule>,
    /// The built-in rules hold beside those of `keys`; `false`: only those of `keys`.
    pub builtin_keys: bool,
    /// Further attributes lifted from traffic. What is given here comes before the built-in rules.
    pub attributes: Vec<AttributeRule>,
    /// The built-in rules hold beside those of `attributes`; `false`: only those of `attributes`.
    pub builtin_attributes: bool,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            deployment: String::new(),
            window: Window::Every(Duration::from_secs(24 * 3600)),
            exact_paths: false,
            keys: default_keys(),
            builtin_keys: true,
            attributes: default_attributes(),
            builtin_attributes: true,
        }
    }
}

impl Order {
    /// Puts the built-in rules behind those that somebody gave, where they hold: what is not given is at its default. A rule is
    /// there once.
    pub fn complete(&mut self, keys_given: bool, attributes_given: bool) {
        complete(&mut self.keys, default_keys(), keys_given, self.builtin_keys);
        complete(&mut self.attributes, default_attributes(), attributes_given, self.builtin_attributes);
    }
}

fn complete<T: PartialEq>(rules: &mut Vec<T>, builtin: Vec<T>, given: bool, wanted: bool) {
    if !given {
        rules.clear();
    }
    if wanted {
        for rule in builtin {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
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
    /// Spans of GraphQL are named after their operation too (`mutation Confirm`), not only after its type. Clients choose these
    /// names: their number is theirs.
    pub graphql_operations: bool,
    /// HTTP request headers to export, by name. Those that carry credentials are never exported.
    pub request_headers: Vec<String>,
    /// HTTP response headers to export.
    pub response_headers: Vec<String>,
    /// Export spans of what only sets a connection up or looks after it and does not fail: AMQP's opening, closing, declaring, binding
    /// and subscribing, PostgreSQL's `SET`, `SHOW`, `RESET`, `DISCARD`, `DEALLOCATE` and `SELECT 1`. Metrics count them in any case.
    pub connection_setup: bool,
    /// Statements that take at least so long are marked `spoor.slow`; zero marks none.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub slow_statement: Duration,
    /// One span `order` of a service `orders` in each order's trace, under which all its trees stand: one title and one tree per
    /// order. It is exported with the first tree; its end is that tree's, for when an order is over is not known. Every agent
    /// that sees the order exports it, under the same identifier.
    pub order_root: bool,
    /// Operations open for longer count as pending in the metrics, and are told of (`export.otlp.open_work`).
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub pending_after: Duration,
}

impl Default for Spans {
    fn default() -> Self {
        Self {
            routes: super::defaults::collection_paths(),
            graphql_operations: false,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            connection_setup: false,
            slow_statement: Duration::from_secs(1),
            order_root: false,
            pending_after: Duration::from_secs(30),
        }
    }
}
