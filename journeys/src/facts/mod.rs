//! What one operation says about one order: OTLP spans → [`Fact`]s.
//!
//! *Owns* the vocabulary that is kept: keys, places, steps, statuses, troubles. Pure: no clock, no file, no socket.
//! *Must not know* what a journey makes of a fact, nor where facts are kept.
//!
//! A fact is all that one span says; the span's identifiers are its identity. So a sender's repetition is the same fact
//! again, and facts may come late, twice and in any order.

mod attributes;
mod key;
mod message;
mod of_event;
mod of_span;
mod sql;
mod text;

use serde::{Deserialize, Serialize};

pub use self::key::Key;
pub use self::of_event::of_event;
pub use self::of_span::{KEYS, PEOPLE, Reading, numbers, of_span};
pub(crate) use self::text::tidy;
use self::text::without_word;
pub use crate::time::At;

/// The identity of a span, and so of the fact it becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FactId {
    pub trace: [u8; 16],
    pub span: [u8; 8],
}

/// One operation of one order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fact {
    /// When it began.
    pub from: At,
    pub id: FactId,
    /// When it was over.
    pub to: At,
    /// The span it was part of, in the same trace.
    pub parent: Option<[u8; 8]>,
    /// `service.name` of who did it.
    pub service: String,
    /// `service.instance.id`: transactions are counted within one.
    pub instance: String,
    /// The span's name, for people who read traces.
    pub name: String,
    /// The order's number as this operation has it.
    pub key: Key,
    /// Further numbers of the same order in this operation.
    pub also: Vec<Key>,
    /// Who is named, by number only.
    pub people: Vec<Person>,
    pub step: Step,
    pub status: Option<Status>,
    pub artifact: Option<ArtifactSeen>,
    pub trouble: Option<Trouble>,
    /// The operation was not seen whole.
    pub unseen: Option<Unseen>,
    /// By which rule and how surely (per cent) the operation was joined to its parent.
    pub joined: Option<(String, u8)>,
}

impl Fact {
    /// The span it was part of.
    pub fn parent_id(&self) -> Option<FactId> {
        self.parent.map(|span| FactId { trace: self.id.trace, span })
    }

    /// It was not over yet.
    pub fn is_open(&self) -> bool {
        matches!(&self.step, Step::Open { work } if *work != Work::Over)
    }

    /// All numbers that it calls its order by.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.key).chain(&self.also)
    }
}

/// Shorter numbers of people stand in texts by chance.
pub const MIN_IN_TEXT: usize = 5;

impl Fact {
    /// Takes a person out; whether they were there. In texts their number goes where it stands as a word of its own.
    pub fn forget(&mut self, person: &str) -> bool {
        let before = self.people.len();
        self.people.retain(|one| one.id != person);
        let mut changed = self.people.len() < before;
        for text in self.texts() {
            changed |= forget_in(text, person);
        }
        changed
    }

    /// Everything by which the operation may name somebody: whoever is named in it, and the words of its texts.
    pub fn may_name(&mut self) -> Vec<String> {
        let mut words: Vec<String> = self.people.iter().map(|person| person.id.clone()).collect();
        for text in self.texts() {
            words.extend(
                text::words(text)
                    .into_iter()
                    .filter(|word| word.chars().count() >= MIN_IN_TEXT)
                    .map(str::to_owned),
            );
        }
        words.sort();
        words.dedup();
        words
    }

    /// All texts that come from traffic and are no number of an order. Services, tables and rules are the house's own.
    fn texts(&mut self) -> Vec<&mut String> {
        let mut texts = vec![&mut self.name];
        if let Some(status) = &mut self.status {
            texts.push(&mut status.value);
        }
        if let Some(trouble) = &mut self.trouble {
            texts.extend([&mut trouble.code, &mut trouble.message]);
        }
        if let Some(seen) = &mut self.artifact {
            texts.extend([&mut seen.file_name, &mut seen.key, &mut seen.format].into_iter().flatten());
        }
        match &mut self.step {
            Step::Called { peer, .. } => texts.push(peer),
            Step::Published { destination, .. } => texts.push(destination),
            Step::Waited { queue, died } => {
                texts.push(queue);
                texts.extend(died.iter_mut().map(|died| &mut died.queue));
            }
            Step::Handled { queue, .. } => texts.push(queue),
            Step::Stored { bucket, object, .. } => texts.extend([bucket, object]),
            Step::Open { work } => match work {
                Work::Call { peer } => texts.push(peer),
                Work::Handling { queue, .. } => texts.push(queue),
                Work::Waiting { queue, destination, .. } => {
                    texts.extend(queue);
                    texts.push(destination);
                }
                Work::Answer | Work::Statement { .. } | Work::Other | Work::Over => {}
            },
            Step::Served { .. }
            | Step::Wrote { .. }
            | Step::Read { .. }
            | Step::Ended { .. }
            | Step::Other => {}
        }
        texts
    }
}

/// Takes a person's number out of a text where it stands as a word of its own; whether it stood there.
pub fn forget_in(text: &mut String, person: &str) -> bool {
    let is_long = person.chars().count() >= MIN_IN_TEXT;
    match is_long.then(|| without_word(text, person)).flatten() {
        Some(without) => {
            *text = without;
            true
        }
        None => false,
    }
}

/// A person or firm, known by a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Person {
    pub role: PersonRole,
    pub id: String,
}

/// What a person is to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonRole {
    User,
    Seller,
    Operator,
    Partner,
}

/// An agent said that it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Its machine, by an identifier.
    pub agent: String,
    /// What people call the machine.
    pub node: String,
    /// How often it says so, in microseconds.
    pub every: i64,
    /// What it sees.
    pub services: Vec<String>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A request was answered by this service. `changes`: it may change something, as a `GET` does not.
    Served { answer: Option<u16>, changes: bool },
    /// This service asked another, at `peer`.
    Called { peer: String, answer: Option<u16>, changes: bool },
    /// A message was given to the broker.
    Published { destination: String, outcome: Sent },
    /// A message lay in the broker from the fact's beginning to its end.
    Waited { queue: String, died: Option<Died> },
    /// A message was taken and worked on.
    Handled { queue: String, settled: Settled, redelivered: bool },
    /// A statement changed rows.
    Wrote { collection: String, rows: i64, transaction: Option<Transaction> },
    /// A statement or request that changes nothing.
    Read { collection: String },
    /// A transaction came to its end.
    Ended { transaction: Transaction, how: End },
    /// An object store was asked to keep, give or remove something.
    Stored { verb: String, bucket: String, object: String },
    /// Anything else.
    Other,
    /// Work that was not over when the fact was told: it lasted from the fact's beginning to its end at least. The operation
    /// itself, once it is over, takes the fact's place.
    Open { work: Work },
}

/// Work that goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// This service has not answered yet.
    Answer,
    /// It waits for the answer of another.
    Call {
        peer: String,
    },
    /// It waits for its database.
    Statement {
        collection: String,
        writes: bool,
    },
    /// It has taken a message and has not said what became of it.
    Handling {
        queue: String,
        redelivered: bool,
    },
    /// A message that was published below the fact's parent lies in a queue, where that is known: how many take from it, and
    /// how many messages it has.
    Waiting {
        queue: Option<String>,
        destination: String,
        consumers: Option<u32>,
        depth: Option<u32>,
    },
    Other,
    /// What was told before is over. What became of it, its operation says.
    Over,
}

/// What the broker said to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// It took responsibility.
    Confirmed,
    /// Nobody asked it to say so.
    Unconfirmed,
    /// It refused (nack), or closed the channel.
    Refused,
    /// No queue wanted it.
    Returned,
}

/// How a message came by a dead-letter exchange.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Died {
    /// The queue it died in.
    pub queue: String,
    /// `rejected`, `expired`, `maxlen`, `delivery_limit`.
    pub reason: String,
}

/// What a consumer said to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    Acknowledged,
    /// No acknowledgement is asked for.
    Automatic,
    /// Back into its queue.
    PutBack,
    /// For good: dead-lettered, or gone.
    Rejected,
    /// Not seen.
    Unknown,
}

/// A transaction block, as an agent names it: exactly, or by its number on a connection that is not named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Transaction {
    /// `spoor.db.transaction.id`, and how it ended where the agent knows.
    Id(String, Option<End>),
    /// `spoor.db.transaction`.
    Number(i64),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Committed,
    RolledBack,
    /// The connection ended before anything was said.
    Unknown,
}

/// A status that an operation names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Status {
    pub value: String,
    /// When the system itself says that it changed.
    pub written_at: Option<At>,
}

/// What an operation says of the order's 3D model.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ArtifactSeen {
    pub file_name: Option<String>,
    pub key: Option<String>,
    pub size: Option<i64>,
    pub format: Option<String>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Trouble {
    pub kind: TroubleKind,
    /// HTTP status, SQLSTATE, AMQP reply code, or a word.
    pub code: String,
    /// As the agent let it pass; may be empty.
    pub message: String,
}

/// Which language the trouble speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    Http,
    Sql,
    Message,
    Connection,
    Other,
}

/// Why an operation was not seen whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unseen {
    /// Bytes were not captured.
    Gap,
    /// The connection ended.
    Cut,
    /// Given up while open.
    Open,
    /// What it began with was not seen.
    Start,
}
