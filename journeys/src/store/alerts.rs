//! Alerts and what is told of them, as pages and channels see them.
//!
//! *Owns* what a store of alerts is ([`Alerts`]). *Must not know* pages, roles, nor how anything is sent.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{OrderId, StoreError};
use crate::facts::{At, Fact};
use crate::rules::{Held, RuleSet, Severity, State};

/// An alert's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertId(pub i64);

/// An alert, opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub id: AlertId,
    pub rule: String,
    /// `None`: it is about a place, or a group.
    pub order: Option<OrderId>,
    /// The order's number; empty of a place and a group.
    pub number: String,
    /// So many orders are in the group, or were at most of one that is over; `None` of what is no group.
    pub members: Option<u64>,
    pub grouped_in: Option<AlertId>,
    pub severity: Severity,
    pub state: State,
    pub held: Held,
    pub fired_at: Option<At>,
    pub resolved_at: Option<At>,
    pub late: bool,
    /// Who took it, and when.
    pub taken: Option<(String, At)>,
    pub snoozed_until: Option<At>,
    pub notes: Vec<Note>,
    /// What channels were told.
    pub told: Vec<Told>,
    /// By this others know it.
    pub fingerprint: String,
}

impl Alert {
    /// In one word, as pages and the API say it.
    pub fn word(&self, now: At) -> &'static str {
        match self.state {
            State::Firing if self.snoozed_until.is_some_and(|until| until > now) => "snoozed",
            State::Firing if self.taken.is_some() => "acknowledged",
            other => other.name(),
        }
    }
}

/// What somebody wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub at: At,
    pub by: String,
    pub text: String,
}

/// What a channel was told, or will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub channel: String,
    pub what: What,
    pub at: At,
    pub attempts: u32,
    pub done_at: Option<At>,
    /// `sent`, or why not.
    pub result: String,
}

/// What a channel is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Fired,
    Resolved,
    /// It still fires.
    Still,
}

impl What {
    pub const ALL: [What; 3] = [What::Fired, What::Resolved, What::Still];

    pub fn name(self) -> &'static str {
        match self {
            What::Fired => "fired",
            What::Resolved => "resolved",
            What::Still => "still",
        }
    }
}

/// Something to be told now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The row of the outbox: the same number is the same message again.
    pub id: i64,
    pub channel: String,
    pub what: What,
    pub attempts: u32,
    /// Since when it is due.
    pub at: At,
    pub alert: Alert,
}

/// How telling ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Result {
    Sent,
    /// It will be tried again then.
    Again(At, String),
    /// It is given up.
    Dropped(String),
}

/// Which alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Open ones when none is named.
    pub state: Option<State>,
    pub rule: Option<String>,
    pub order: Option<OrderId>,
    /// Members of this group; without it, those that are in none.
    pub group: Option<AlertId>,
    pub limit: usize,
}

/// Longest list of alerts, and longest note.
pub const MAX_ALERTS: usize = 200;
pub const MAX_NOTE: usize = 500;
pub const MAX_NOTES: usize = 50;

/// How many alerts there are: rule, state and number.
pub type AlertCounts = Vec<(String, State, u64)>;

/// Messages that wait or were given up, by channel, and since when the oldest waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    pub waiting: Vec<(String, u64, At)>,
}

/// Keeps alerts. All methods may block on a disk.
pub trait Alerts: fmt::Debug + Send + Sync {
    /// The rules that are in force.
    fn rules(&self) -> Option<Arc<RuleSet>>;

    /// Alerts, the latest first.
    fn alerts(&self, wanted: &Wanted) -> std::result::Result<Vec<Alert>, StoreError>;

    fn alert(&self, id: AlertId) -> std::result::Result<Option<Alert>, StoreError>;

    /// Somebody takes an open alert: it is not told again.
    fn acknowledge(&self, id: AlertId, note: Note) -> std::result::Result<bool, StoreError>;

    /// Nobody hears of it until then.
    fn snooze(&self, id: AlertId, until: At, note: Note) -> std::result::Result<bool, StoreError>;

    fn alert_counts(&self) -> std::result::Result<AlertCounts, StoreError>;

    /// Looks which agents are silent, and warns of them.
    fn watch_agents(&self, now: At) -> std::result::Result<(), StoreError>;

    /// Looks at what many orders do.
    fn watch_places(&self, now: At) -> std::result::Result<(), StoreError>;

    /// Claims messages of a channel that are due: they come again when nobody says what became of them.
    fn due_messages(
        &self,
        channel: &str,
        now: At,
        limit: usize,
    ) -> std::result::Result<Vec<Message>, StoreError>;

    /// What became of a message.
    fn told(&self, message: &Message, result: &Result, now: At) -> std::result::Result<(), StoreError>;

    /// What a channel was told to fire and that is not over: Alertmanager wants to hear of it again and again.
    fn still_firing(&self, channel: &str, limit: usize) -> std::result::Result<Vec<Alert>, StoreError>;

    /// Opens or ends an alert of the program's own, such as a channel that does not work.
    fn own_alert(&self, rule: &str, place: &str, holds: bool, now: At)
    -> std::result::Result<(), StoreError>;

    fn outbox_counts(&self) -> std::result::Result<OutboxCounts, StoreError>;

    /// Goes through so many orders that were heard of since then, oldest first: their facts.
    fn each_order(
        &self,
        since: At,
        limit: u64,
        each: &mut dyn FnMut(Vec<Fact>),
    ) -> std::result::Result<u64, StoreError>;
}
