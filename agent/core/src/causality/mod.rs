//! Events of all connections in, [`Edge`]s between operations out: what was caused by what, by which rule, how sure.
//!
//! *Owns* the rules of joining inside a process, across the wire and through messages, and their ranking.
//! *Must not know* spans, how orders are named in bytes (it compares keys it is given), or where records came from.
//!
//! ```text
//!   Opened, Requested, Responded ─▶ process::Processes   who read and wrote what, on which thread
//!   Closed (keys, wire identity) ─▶ process, wire, message ─▶ Edge
//! ```
//!
//! A message that was asked for (`basic.get`) is no cause of the asking: its way is told as a [`Passage`], not as an edge.
//!
//! An edge inside a process is decided late, when every request that could be the cause is over and has shown its
//! keys, or at a bounded time. Below the configured confidence no edge is made.

pub mod across;
pub mod engine;
pub mod inside;

use crate::record::{BootNs, OpId};

/// A rule that joins an operation to its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// `traceparent` or a like header in the operation's own bytes.
    Context,
    /// Both ends of one operation have the same wire identity.
    Wire,
    /// The broker forwarded this very message.
    Message,
    /// The thread served only this request.
    Thread,
    /// The thread read it last, and nothing else could be the cause.
    LastRead,
    /// It carries the identity key of exactly one request in flight.
    Value,
    /// It ran in one transaction with an operation whose cause is known.
    Transaction,
    /// Nothing else was in flight, in a process that does nothing unasked.
    Alone,
}

impl Rule {
    /// The name on the wire (`spoor.parent.rule`), in the configuration and in `--print tree`.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Context => "context",
            Rule::Wire => "wire",
            Rule::Message => "message",
            Rule::Thread => "thread",
            Rule::LastRead => "last_read",
            Rule::Value => "value",
            Rule::Transaction => "transaction",
            Rule::Alone => "alone",
        }
    }

    /// All rules, strongest first.
    pub const ALL: [Rule; 8] = [
        Rule::Context,
        Rule::Wire,
        Rule::Message,
        Rule::Thread,
        Rule::Value,
        Rule::Transaction,
        Rule::LastRead,
        Rule::Alone,
    ];

    /// The rule of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// Which rules may make an edge, and how sure they must be.
#[derive(Clone, Debug)]
pub struct Policy {
    pub rules: std::collections::BTreeSet<Rule>,
    pub min_confidence: f32,
    /// Longest wait for evidence after an operation is over, nanoseconds.
    pub decide_within_ns: u64,
    /// How long an edge by message between clients waits for the broker's own view.
    pub broker_wait_ns: u64,
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
    pub again_since: Option<BootNs>,
}
