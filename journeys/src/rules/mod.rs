//! What a house wants to be warned of → for each order and each place at a time: nothing, soon, or a warning.
//!
//! *Owns* rules, working time, and the life of an alert. Pure: no clock, no file, no socket; time is an argument, so a month
//! runs in a second. *Must not know* how alerts are kept, nor how they are told to anybody.
//!
//! ```text
//! file of YAML ─ file ─▶ RuleSet ─┬─ order: journey, now ─▶ Standing ─┐
//!                                 └─ window: counts, now ─▶ Standing ─┴─ life ─▶ pending · firing · resolved
//! ```
//!
//! A rule that speaks of one order is a function of its facts: it says when it will say something else, and nobody looks
//! before. A rule that speaks of many reads counters of the last minutes.

mod calendar;
pub mod channel;
mod file;
pub mod heartbeat;
mod life;
mod limit;
mod order;
mod pattern;
pub mod storm;
pub mod test_file;
pub mod text;
pub mod trial;
pub mod window;

use serde::{Deserialize, Serialize};

pub use self::calendar::Calendar;
pub use self::file::{BUILT_IN, RuleSet, RulesError};
pub use self::life::{LATE, Life, State, Step, step};
pub use self::limit::{Factor, Level, Limited, Share};
pub use self::order::{Subject, stand};
pub use self::pattern::Pattern;
use crate::facts::At;
use crate::fold::Outcome;
use crate::model::Title;

/// One thing to be warned of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub id: String,
    pub when: When,
    /// It must be so for this long before anybody is told.
    pub hold: i64,
    /// It must have been over for this long before the alert ends.
    pub keep: i64,
    pub severity: Severity,
    pub filter: Filter,
    /// Channels, instead of those that the routes name.
    pub notify: Vec<String>,
    /// Templates of the house; empty ones are the built-in texts.
    pub text: Title,
    /// Where somebody reads what to do.
    pub runbook: Option<String>,
    /// The house wrote something of it; what is left of the built-in rules only informs while a store is young.
    pub is_own: bool,
    /// What the rule is, as YAML, for the page.
    pub source: String,
}

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    Order(OrderWhen),
    Window(window::WindowWhen),
}

impl When {
    /// As a file names it.
    pub fn name(&self) -> &'static str {
        match self {
            When::Order(when) => when.name(),
            When::Window(when) => when.name(),
        }
    }
}

/// What may be so of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderWhen {
    /// It is at one of these stages for longer than the limit.
    StageAge { stages: Vec<Pattern>, limit: Limited, calendar: Option<Calendar> },
    /// A message was sent and nobody took it, where messages are usually seen to be taken.
    MessageWaits { queue: Pattern, limit: Limited },
    /// A message lies in a queue from which nobody takes, for longer than the limit.
    QueueWithoutConsumer { queue: Pattern, limit_micros: i64 },
    /// A message came back, was refused, or was rejected; or a system was told of an order that it does not have.
    Lost { lasts: i64 },
    /// Nothing happened for longer than the limit.
    NoProgress { stages: Vec<Pattern>, limit: Limited, calendar: Option<Calendar> },
    /// It came to a stage or an outcome.
    Enters { what: Entered, lasts: i64 },
    /// A system put it back to an earlier status.
    Backwards { lasts: i64 },
    /// It came to `before`, or to any later stage, without having been at `stage`.
    Skipped { stage: String, before: Option<String>, lasts: i64 },
    /// One system is further than another one knows, for longer than the limit; these systems, or any.
    Disagree { records: Vec<String>, limit_micros: i64 },
    /// A system came to the same status twice.
    Repeated { record: Option<String>, to: String, lasts: i64 },
    /// A system that the model knows has a status that it does not know.
    UnknownStatus { lasts: i64 },
    /// A message about it came to a queue.
    EntersQueue { queue: Pattern, lasts: i64 },
}

impl OrderWhen {
    pub fn name(&self) -> &'static str {
        match self {
            OrderWhen::StageAge { .. } => "stage_age",
            OrderWhen::MessageWaits { .. } => "message_waits",
            OrderWhen::QueueWithoutConsumer { .. } => "queue_without_consumer",
            OrderWhen::Lost { .. } => "lost",
            OrderWhen::NoProgress { .. } => "no_progress",
            OrderWhen::Enters { .. } => "enters",
            OrderWhen::Backwards { .. } => "backwards",
            OrderWhen::Skipped { .. } => "skipped",
            OrderWhen::Disagree { .. } => "disagree",
            OrderWhen::Repeated { .. } => "repeated",
            OrderWhen::UnknownStatus { .. } => "unknown_status",
            OrderWhen::EntersQueue { .. } => "enters_queue",
        }
    }
}

/// What an order comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered {
    Stage(String),
    Outcome(Outcome),
}

/// How much an alert matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    #[default]
    Warning,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == name)
    }
}

/// Which orders a rule is for: each list that is given must have one of the order's; all orders when none is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    pub partner: Vec<String>,
    pub seller: Vec<String>,
    pub user: Vec<String>,
    pub operator: Vec<String>,
    /// Numbering systems, such as `crm`.
    pub namespace: Vec<String>,
}

impl Filter {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How one order or place stands to a rule at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not so; at `next` it may be, if nothing happens before.
    Quiet {
        next: Option<At>,
    },
    /// What is usual is not known yet. It may be at `next`.
    Sleeps {
        next: Option<At>,
    },
    Holds(Held),
}

impl Standing {
    /// Nothing, until a fact comes.
    pub const NEVER: Standing = Standing::Quiet { next: None };

    pub fn next(&self) -> Option<At> {
        match self {
            Standing::Quiet { next } | Standing::Sleeps { next } => *next,
            Standing::Holds(held) => held.until,
        }
    }
}

/// A rule's condition is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since when the order waits, the stage lasts, the message lies.
    pub since: At,
    /// Since when that is too much.
    pub due: At,
    /// An event is told for so long.
    pub until: Option<At>,
    /// The stage, system, queue or host that it is about, without what may be a number.
    pub place: String,
    pub measured: Measured,
}

/// The figures behind an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measured {
    /// Nothing but that it is so.
    #[default]
    Fact,
    /// An age beyond a limit.
    Age { limit_micros: i64 },
    /// So many hundredths of a per cent of so many.
    Share { share: u32, limit: u32, of: u64 },
    /// A length of time beyond a limit, of so many.
    Length { micros: i64, limit_micros: i64, of: u64 },
    /// A number beyond or below a limit.
    Count { count: u64, limit: u64 },
}
