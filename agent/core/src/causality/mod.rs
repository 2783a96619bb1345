//! Events of all connections → [`Edge`]s between operations: what was caused by what, by which rule, how sure.
//!
//! *Owns* the rules of joining inside a process, across the wire and through messages, and their ranking.
//! *Must not know* spans, how orders are named in bytes (it compares keys it is given), or where records came from.
//!
//! ```text
//!   opened, requested, closed ─▶ inside                          who read and wrote what, on which thread
//!   wire identities, messages ─▶ across::{wire, message} ─▶ Edge
//! ```
//!
//! A message that was asked for (`basic.get`) is no cause of the asking: its way is told as a [`Passage`], not as an edge.
//!
//! An edge inside a process is decided late, when every request that could be the cause is over and has shown its
//! keys, or at a bounded time. Below the configured confidence no edge is made.

pub mod across;
mod echo;
pub mod engine;
pub mod inside;
pub mod rules;
pub mod settings;
pub mod stats;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::OpId;
use crate::time::BootTime;
pub use stats::Stats;

/// Declares the rules, once: their names and the list of all come from here.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal,)*) => {
        /// A rule that joins an operation to its cause.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        pub enum Rule {
            $($(#[$doc])* #[serde(rename = $name)] $rule,)*
        }

        impl Rule {
            /// All rules, strongest first.
            pub const ALL: [Rule; [$($name),*].len()] = [$(Rule::$rule),*];

            /// The name on the wire (`spoor.parent.rule`), in the configuration and in `--print tree`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Rule::$rule => $name,)*
                }
            }
        }
    };
}

rules! {
    /// `traceparent` or a like header in the operation's own bytes.
    Context = "context",
    /// Both ends of one operation have the same wire identity.
    Wire = "wire",
    /// The broker forwarded this very message.
    Message = "message",
    /// Tasks of the process wait for it, of which one answered the request.
    Chain = "chain",
    /// The operation carries on the trace ID of the request.
    Carried = "carried",
    /// The process passed on what it was asked: the same content, within it.
    Forwarded = "forwarded",
    /// The thread served only this request, or was seen to work for it in another way.
    Thread = "thread",
    /// The operation carries the identity key of exactly one request in flight.
    Value = "value",
    /// The operation ran in one transaction with an operation whose cause is known.
    Transaction = "transaction",
    /// The thread read it last, and nothing else could be the cause.
    LastRead = "last_read",
    /// Nothing else was in flight, in a process that does nothing unasked.
    Alone = "alone",
}

/// Which rules may make an edge, and how sure they must be.
#[derive(Clone, Debug)]
pub struct Policy {
    pub rules: std::collections::BTreeSet<Rule>,
    pub min_confidence: f32,
    /// Longest wait for evidence after an operation is over.
    pub decide_within: Duration,
    /// How long an edge by message between clients waits for the broker's own view.
    pub broker_wait: Duration,
}

impl Policy {
    /// An edge by `rule` may be made with this confidence.
    pub fn allows(&self, rule: Rule, confidence: Confidence) -> bool {
        self.rules.contains(&rule) && confidence.0 >= self.min_confidence
    }
}

/// How sure an edge is, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Confidence(pub f32);

/// `child` was caused by `parent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    pub child: OpId,
    pub parent: OpId,
    pub rule: Rule,
    pub confidence: Confidence,
}

/// More about a message's way from its publish to its delivery than an edge can say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passage {
    /// From the delivery, or the `basic.get`, to the publish.
    pub edge: Edge,
    /// The message was asked for: the publish is no cause of the operation.
    pub pulled: bool,
    /// Since when the message was waiting again, where it had left a queue before.
    pub again_since: Option<BootTime>,
}
