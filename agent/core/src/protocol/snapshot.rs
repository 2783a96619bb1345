//! What sessions have learned that the stream does not say again, as plain values: out of one agent, into the next.
//!
//! ```text
//!   session ─export─▶ Snapshot, Texts ─ a file, another agent ─▶ Snapshot, texts ─import─▶ session
//! ```
//!
//! A connection that goes on while no agent watches may change: [`Past::unbroken`] tells whether every byte since was seen.
//! Where it is false, a session keeps what it keeps over lost records, by the same code, and forgets the rest.
//!
//! *Owns* these values and the bound on their texts. *Must not know* whose connection it is, files, what may be written to
//! one: texts are as they were on the wire.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::detect::Protocol;
use crate::record::BootNs;

/// Bytes of all texts together.
const MAX_TEXT_BYTES: usize = 8 << 20;

/// What one session has learned.
///
/// HTTP/1.x is not here: each of its messages says all there is to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Snapshot {
    Postgres(Postgres),
    Amqp(Amqp),
    Http2(Http2),
}

impl Snapshot {
    /// What the connection speaks.
    pub fn protocol(&self) -> Protocol {
        match self {
            Snapshot::Postgres(_) => Protocol::Postgres,
            Snapshot::Amqp(_) => Protocol::Amqp,
            Snapshot::Http2(_) => Protocol::Http2,
        }
    }

    /// What is kept by name: prepared statements and consumers.
    pub fn counts(&self) -> Counts {
        match self {
            Snapshot::Postgres(postgres) => {
                Counts { statements: postgres.statements.len() as u64, consumers: 0 }
            }
            Snapshot::Amqp(amqp) => {
                let consumers = amqp.channels.iter().map(|channel| channel.consumers.len() as u64).sum();
                Counts { statements: 0, consumers }
            }
            Snapshot::Http2(_) => Counts::default(),
        }
    }

    /// About how many bytes it takes in a file, without shared texts.
    pub fn cost(&self) -> usize {
        let sum = match self {
            Snapshot::Postgres(postgres) => {
                let columns = |statement: &Statement| -> usize {
                    statement.columns.iter().map(|column| column.name.len() + 48).sum()
                };
                let cost = |statement: &Statement| {
                    statement.name.len() + 64 + statement.oids.len() * 6 + columns(statement)
                };
                postgres.statements.iter().map(cost).sum::<usize>()
            }
            Snapshot::Amqp(amqp) => {
                let cost = |channel: &Channel| {
                    let consumers = channel
                        .consumers
                        .iter()
                        .map(|consumer| consumer.tag.len() + consumer.queue.len() + 48);
                    let unsettled = channel
                        .unsettled
                        .iter()
                        .map(|one| one.exchange.len() + one.routing_key.len() + one.queue.len() + 48);
                    let inferred = channel
                        .inferred
                        .iter()
                        .map(|(tag, queue)| tag.len() + queue.as_ref().map_or(0, String::len) + 16);
                    consumers.chain(unsettled).chain(inferred).sum::<usize>() + 160
                };
                amqp.channels.iter().map(cost).sum::<usize>()
            }
            Snapshot::Http2(http2) => {
                let len = |part: &Option<String>| part.as_ref().map_or(4, String::len);
                let fields = http2.request.fields.iter().chain(&http2.response.fields);
                fields.map(|(name, value)| len(name) + len(value) + 8).sum::<usize>()
            }
        };
        sum.saturating_add(256)
    }

    /// The same with its texts at other places; a text that has none is not known any more.
    pub fn with_texts(mut self, mut place: impl FnMut(u32) -> Option<u32>) -> Self {
        if let Snapshot::Postgres(postgres) = &mut self {
            for statement in &mut postgres.statements {
                statement.text = statement.text.and_then(&mut place);
            }
            postgres.statements.retain(|statement| statement.text.is_some());
        }
        self
    }
}

/// What an earlier session of the same connection had learned.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    pub learned: &'a Snapshot,
    /// By place.
    pub texts: &'a [Arc<str>],
    /// No byte moved since. Else the session keeps what it would keep over lost bytes.
    pub unbroken: bool,
    /// Now.
    pub at: BootNs,
}

/// How much a session knows by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub statements: u64,
    pub consumers: u64,
}

/// Of a PostgreSQL connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Postgres {
    /// Both directions stand between two messages, and nothing waits for an answer.
    pub at_rest: bool,
    /// Of the start-up message.
    pub database: Option<String>,
    /// `standard_conforming_strings` is off.
    pub backslash_escapes: bool,
    /// Number of the transaction block that is open, and of the last one there was.
    pub transaction: Option<u64>,
    pub transaction_count: u64,
    /// Least recently used first.
    pub statements: Vec<Statement>,
}

/// A prepared statement whose text is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statement {
    pub name: String,
    /// Place in [`Texts`].
    pub text: Option<u32>,
    /// Bytes of its Parse that were not captured.
    pub missing: u64,
    /// Types of its parameters.
    pub oids: Vec<u32>,
    pub columns: Vec<Column>,
}

/// A column of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Column {
    pub name: String,
    pub table: u32,
    pub type_oid: u32,
    pub binary: bool,
}

/// Of an AMQP connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amqp {
    /// Both directions stand between two frames, and between two messages.
    pub at_rest: bool,
    pub vhost: Option<String>,
    pub frame_max: Option<u32>,
    pub channels: Vec<Channel>,
}

/// One channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Channel {
    pub number: u16,
    pub confirm: Confirm,
    pub consumers: Vec<Consumer>,
    /// Methods that are not answered yet, in their order.
    pub asked: Vec<Asked>,
    /// Queues that were inferred, by consumer tag. `None`: what was seen contradicts itself.
    pub inferred: Vec<(String, Option<String>)>,
    pub last_queue: String,
    /// The client settles deliveries here.
    pub settles: bool,
    /// Which deliveries up to this tag are not settled is not known.
    pub unsure_to: Option<u64>,
    /// Highest delivery tag seen.
    pub last_tag: u64,
    /// Deliveries that are not settled.
    pub unsettled: Vec<Unsettled>,
}

/// What is known of a channel's confirm mode, and the tag of its next publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirm {
    Off,
    Exact(u64),
    Inferred(u64),
    /// At least this.
    Learning(u64),
    /// The channel was there before anybody watched.
    #[default]
    Unknown,
}

/// A subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Consumer {
    pub tag: String,
    pub queue: String,
    pub no_ack: bool,
}

/// A method that waits for its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    pub class: u16,
    pub method: u16,
    pub by_server: bool,
    /// The queue or consumer tag that its answer repeats.
    pub name: String,
    /// Of subscriptions and of messages that are asked for.
    pub queue: Option<String>,
    pub no_ack: bool,
}

/// A delivery that is not settled, its address and its queue; empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unsettled {
    pub tag: u64,
    pub exchange: String,
    pub routing_key: String,
    pub queue: String,
}

/// Of an HTTP/2 connection whose directions both stand between two frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Http2 {
    /// Highest stream of the client.
    pub last_stream: u32,
    pub request: Way,
    pub response: Way,
}

/// One direction of an HTTP/2 connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Way {
    /// The dynamic table, oldest entry first; `None` for what is not known of an entry.
    pub fields: Vec<(Option<String>, Option<String>)>,
    /// The table's bound, where it is known.
    pub max: Option<u32>,
    /// No older entries are in the encoder's table.
    pub is_complete: bool,
    /// Largest table the receiver ever allowed, where it is known.
    pub limit: Option<u32>,
    /// Largest frame the receiver ever allowed, where it is known.
    pub max_frame: Option<u32>,
}

/// Texts that several connections have in common, once each: the connections of a pool prepare the same statements.
#[derive(Debug, Default)]
pub struct Texts {
    places: HashMap<Arc<str>, u32>,
    list: Vec<Arc<str>>,
    bytes: usize,
}

impl Texts {
    /// The place of a text. `None`: there is no room for another one.
    pub fn place(&mut self, text: &Arc<str>) -> Option<u32> {
        if let Some(place) = self.places.get(text) {
            return Some(*place);
        }
        let bytes = self.bytes.saturating_add(text.len());
        let place = u32::try_from(self.list.len()).ok().filter(|_| bytes <= MAX_TEXT_BYTES)?;
        self.bytes = bytes;
        self.places.insert(text.clone(), place);
        self.list.push(text.clone());
        Some(place)
    }

    /// All of them, by place.
    pub fn into_list(self) -> Vec<Arc<str>> {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_place_however_many_ask() {
        let mut texts = Texts::default();
        let (one, same, other): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "a".into(), "b".into());
        assert_eq!((texts.place(&one), texts.place(&other), texts.place(&same)), (Some(0), Some(1), Some(0)));
        assert_eq!(texts.into_list(), [one, other]);
    }

    #[test]
    fn texts_are_bounded() {
        let mut texts = Texts::default();
        let long = "x".repeat(MAX_TEXT_BYTES / 2 - 8);
        for n in 0..4 {
            let place = texts.place(&format!("{n}{long}").into());
            assert_eq!(place, (n < 2).then_some(n));
        }
        assert_eq!(texts.place(&"short".into()), Some(2), "a shorter one may still fit");
    }

    #[test]
    fn a_statement_whose_text_has_no_place_is_left_out() {
        let statement = |name: &str, text| Statement { name: name.into(), text, ..Statement::default() };
        let statements = vec![statement("a", Some(0)), statement("b", Some(1)), statement("c", None)];
        let learned = Snapshot::Postgres(Postgres { statements, ..Postgres::default() });
        let Snapshot::Postgres(moved) = learned.with_texts(|place| (place == 1).then_some(7)) else {
            panic!()
        };
        assert_eq!(moved.statements, [statement("b", Some(7))]);
    }
}
