//! All facts of an order → its [`Journey`]: the same for every order, repetition and division of the facts.
//!
//! *Owns* what a journey is made of. Pure: no clock, no file, no socket; what depends on the time of day is `verdict`'s,
//! which is given it. *Must not know* how facts are kept, nor in which language a person reads.
//!
//! ```text
//! facts ─ gather ─┬─ transactions ─ records ─┬─ stages ─┐
//!                 ├─ visits                  │          ├─ Journey ── verdict(now) ─ Verdict
//!                 ├─ messages                │          │
//!                 └─ incidents ──────────────┴──────────┘
//! ```

mod again;
mod artifacts;
mod disagree;
mod gather;
mod incidents;
mod lengths;
mod messages;
mod open;
mod peers;
mod records;
mod stages;
mod transactions;
mod usually;
mod verdict;
mod visits;

use serde::{Deserialize, Serialize};

pub use self::again::{Again, again, several};
pub use self::disagree::Disagreement;
pub use self::gather::{Gathered, MAX_FACTS, gather};
pub use self::lengths::{Length, THEN, length, lengths, unseen};
pub use self::messages::{Deliveries, deliveries};
pub use self::open::{LEASE, OpenWork};
pub use self::peers::answers;
pub use self::records::is_history;
pub use self::usually::Usually;
pub use self::verdict::{Hang, Lost, Outcome, Reason, Says, Verdict, verdict};
use crate::facts::{At, Died, Fact, FactId, Key, Person, Sent, Settled, Trouble, Unseen};
use crate::model::Model;

/// At most so many facts prove one thing: the first ones.
const MAX_EVIDENCE: usize = 8;
/// Writes of a value that was there already whose times are remembered.
const MAX_AGAIN: usize = 8;

/// Where an order has been and what it is, as far as was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journey {
    /// All its numbers, by numbering system; the first is the one it is called by.
    pub keys: Vec<Key>,
    pub people: Vec<Person>,
    /// The beginning of the first fact and the end of the last.
    pub began: At,
    pub last: At,
    /// The last change, message, write or failure. Who only asks does not move an order.
    pub progress: Option<At>,
    /// One for each place where a status lives, in the order in which they first had one.
    pub records: Vec<Record>,
    pub visits: Vec<Visit>,
    pub messages: Vec<Message>,
    pub incidents: Vec<Incident>,
    pub artifacts: Vec<Artifact>,
    pub gaps: Vec<Gap>,
    /// What was not over when it was told last, longest first.
    pub open: Vec<OpenWork>,
    /// All stages of the model, or those that were reached where there is none.
    pub stages: Vec<StageMark>,
    /// There were more facts than are kept: changes and failures stay, of the rest the first and the last.
    pub truncated: bool,
}

impl Journey {
    /// Services in which it was.
    pub fn services(&self) -> impl Iterator<Item = &str> + Clone {
        let records = self.records.iter().map(|record| record.service.as_str());
        let visits = self.visits.iter().filter_map(|visit| match &visit.place {
            Place::Service(service) => Some(service.as_str()),
            Place::Queue(_) | Place::Storage(_) | Place::Outside(_) => None,
        });
        records.chain(visits).chain(self.open.iter().map(|open| open.service.as_str()))
    }
}

/// A place where a status of the order lives: a table, or a service whose database is not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub service: String,
    /// The table, or `api`.
    pub collection: String,
    /// In time; each has another value than the one before. Never empty.
    pub changes: Vec<Change>,
    /// Writes of the value that it already had.
    pub repeated: u32,
}

impl Record {
    /// The last change: what the record says now.
    pub fn current(&self) -> Option<&Change> {
        self.changes.last()
    }

    /// `service.collection`, by which a model names it.
    pub fn name(&self) -> String {
        format!("{}.{}", self.service, self.collection)
    }
}

/// A status became another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    pub at: At,
    pub from: Option<String>,
    pub to: String,
    /// What the system itself says about when.
    pub written_at: Option<At>,
    pub certainty: Certainty,
    pub by: Vec<Person>,
    pub evidence: Vec<FactId>,
    /// When the same value was written again, before another one was; the first times.
    pub again: Vec<At>,
}

/// How a change is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// It was written and its transaction was committed.
    Committed,
    /// It was written; whether that was committed was not seen.
    Written,
    /// One system told another, which agreed.
    Announced,
    /// Somebody read it: it changed at the latest then.
    Observed,
}

/// A stay of the order at one place. Stays less than a second apart are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    pub place: Place,
    pub from: At,
    pub to: At,
    pub failed: bool,
    /// Operations that it consists of.
    pub count: u32,
    pub evidence: Vec<FactId>,
}

/// Where an order can be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Place {
    Service(String),
    Queue(String),
    Storage(String),
    /// A host that answers calls and is not traced.
    Outside(String),
}

/// A message about the order and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub at: At,
    pub service: String,
    /// Exchange and routing key.
    pub destination: String,
    pub sent: Sent,
    /// The queues it was seen in, with the time it left them.
    pub waited: Vec<Wait>,
    pub handled: Vec<Handling>,
    pub evidence: Vec<FactId>,
}

/// A message's time in one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    pub queue: String,
    pub from: At,
    pub to: At,
    pub died: Option<Died>,
}

/// A message's time with one consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handling {
    pub service: String,
    pub queue: String,
    pub from: At,
    pub to: At,
    pub settled: Settled,
    pub redelivered: bool,
    pub evidence: FactId,
}

/// Something that went wrong, once or repeatedly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    pub at: At,
    pub last_at: At,
    pub service: String,
    /// What was tried: the span's name.
    pub operation: String,
    /// Whom it concerned, when that is another place.
    pub place: Option<Place>,
    pub trouble: Trouble,
    pub times: u32,
    /// Another incident lies below this one: it is only passed on here.
    pub passed_on: bool,
    /// The same operation went well later.
    pub resolved: Option<FactId>,
    pub evidence: Vec<FactId>,
}

/// The 3D model, or another file of the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    pub bucket: String,
    pub object: String,
    pub file_name: Option<String>,
    pub format: Option<String>,
    pub size: Option<i64>,
    pub stored_at: Option<At>,
    pub upload_micros: Option<i64>,
    pub failed: bool,
    /// Who fetched it, and when.
    pub fetched: Vec<(String, At)>,
    pub evidence: Vec<FactId>,
}

/// A time in which something was not seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    pub from: At,
    pub to: At,
    pub service: String,
    pub cause: Unseen,
    pub evidence: FactId,
}

/// One stage on the bar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageMark {
    /// The model's name, or the status itself.
    pub name: String,
    pub state: StageState,
    /// When it was first reached.
    pub at: Option<At>,
    pub evidence: Vec<FactId>,
}

/// How an order stands to a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    Done,
    /// It is here.
    Current,
    /// It came so far and was refused or failed.
    Failed,
    /// It is further without having been here.
    Skipped,
    Ahead,
}

impl StageState {
    /// How a mark is shown: where an order that failed or was lost stands, it stopped.
    pub fn under(self, outcome: Outcome) -> Self {
        match (self, outcome) {
            (StageState::Current, Outcome::Failed | Outcome::Lost) => StageState::Failed,
            _ => self,
        }
    }
}

/// The journey that facts tell, read with `model`.
pub fn journey(gathered: &Gathered, model: &Model) -> Journey {
    let facts = gathered.facts.as_slice();
    let (records, no_row) = records::records(facts);
    let stages = stages::marks(&records, model);
    let mut incidents = incidents::incidents(facts);
    incidents.extend(no_row);
    incidents.sort_by(|a, b| (a.at, &a.evidence).cmp(&(b.at, &b.evidence)));
    Journey {
        keys: keys(facts),
        people: people(facts),
        began: facts.first().map_or(At(0), |fact| fact.from),
        last: facts.iter().map(|fact| fact.to).max().unwrap_or_default(),
        progress: facts.iter().filter_map(gather::progress).max(),
        stages,
        records,
        visits: visits::visits(facts),
        messages: messages::messages(facts),
        incidents,
        artifacts: artifacts::artifacts(facts),
        gaps: gaps(facts),
        open: open::open(facts),
        truncated: gathered.truncated,
    }
}

/// The default numbering system first, then the others by name.
fn keys(facts: &[Fact]) -> Vec<Key> {
    let mut keys: Vec<Key> = facts.iter().flat_map(Fact::keys).cloned().collect();
    keys.sort_by(|a, b| (!a.is_default(), a).cmp(&(!b.is_default(), b)));
    keys.dedup();
    keys
}

fn people(facts: &[Fact]) -> Vec<Person> {
    let mut people: Vec<Person> = facts.iter().flat_map(|fact| &fact.people).cloned().collect();
    people.sort();
    people.dedup();
    people
}

fn gaps(facts: &[Fact]) -> Vec<Gap> {
    let gap = |fact: &Fact| {
        let cause = fact.unseen?;
        Some(Gap { from: fact.from, to: fact.to, service: fact.service.clone(), cause, evidence: fact.id })
    };
    let mut gaps: Vec<Gap> = facts.iter().filter_map(gap).collect();
    gaps.sort();
    gaps
}

/// Adds to what proves something, up to the bound.
fn prove(evidence: &mut Vec<FactId>, id: FactId) {
    if evidence.len() < MAX_EVIDENCE && !evidence.contains(&id) {
        evidence.push(id);
    }
}

#[cfg(test)]
mod tests;
