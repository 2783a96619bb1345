//! An AMQP 0-9-1 action: a publish, a delivery, a get, a settlement, or a method with its answer.
//!
//! *Owns* the shape of what the AMQP session reports, and a message's identity ([`Content::canonical_digest`]).
//! *Must not know* frames.
//!
//! Long because a message's identity, what it says of its death and what it holds are told beside its shape.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::operation::Kept;
use crate::record::{OpId, Sender};
use crate::time::BootTime;

/// One action on a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    pub channel: u16,
    /// Virtual host, when `connection.open` was seen.
    pub vhost: Option<String>,
    pub kind: ActionKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ActionKind {
    /// `basic.publish`, closed by its confirm or return, or at its last body frame when the channel is not in confirm mode.
    Publish(Publish),
    /// `basic.deliver`, closed by its settlement; without acknowledgements at its last body frame.
    Deliver(Deliver),
    /// `basic.get` with `get-ok` or `get-empty`. The message is `None` when the queue was empty.
    /// Its request is the `get`, its response the message; a later settlement is a [`Settle`] of its own.
    Get(Option<Deliver>),
    /// `basic.return` of a publish that is no longer open, because its channel is not in confirm mode. The outcome is
    /// [`PublishOutcome::Returned`], the request is the return itself.
    Return(Publish),
    /// `basic.ack`, `basic.nack` or `basic.reject` of one or several deliveries, as an action of its own.
    Settle(Settle),
    /// Any other method and its reply: declare, bind, consume, open, close, …
    Method(Method),
}

impl Action {
    /// Bytes that it holds beside its own fields.
    pub(crate) fn held(&self) -> usize {
        let vhost = self.vhost.as_ref().map_or(0, String::capacity);
        let kind = match &self.kind {
            ActionKind::Publish(publish) | ActionKind::Return(publish) => publish.held(),
            ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => deliver.held(),
            // Short strings of methods (AMQP 0-9-1, section 4.2.5.3: 255 bytes at most) are part of an entry.
            ActionKind::Get(None) | ActionKind::Settle(_) => 0,
            ActionKind::Method(method) => method.held(),
        };
        vhost + kind
    }
}

impl ActionKind {
    /// Who sent its first byte: the client, except for what brokers send by themselves.
    pub fn sender(&self) -> Sender {
        match self {
            ActionKind::Publish(_) | ActionKind::Get(_) | ActionKind::Settle(_) => Sender::Client,
            ActionKind::Deliver(_) | ActionKind::Return(_) => Sender::Server,
            ActionKind::Method(method) if method.is_by_server => Sender::Server,
            ActionKind::Method(_) => Sender::Client,
        }
    }

    /// The message it carries.
    pub fn content(&self) -> Option<&Content> {
        match self {
            ActionKind::Publish(publish) | ActionKind::Return(publish) => Some(&publish.content),
            ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => Some(&deliver.content),
            ActionKind::Method(method) => method.lost.as_ref().map(|lost| &lost.content),
            ActionKind::Get(None) | ActionKind::Settle(_) => None,
        }
    }

    /// The message it carries, to be filled.
    pub fn content_mut(&mut self) -> Option<&mut Content> {
        match self {
            ActionKind::Publish(publish) | ActionKind::Return(publish) => Some(&mut publish.content),
            ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => Some(&mut deliver.content),
            ActionKind::Method(method) => method.lost.as_mut().map(|lost| &mut lost.content),
            ActionKind::Get(None) | ActionKind::Settle(_) => None,
        }
    }
}

/// A message's content: properties, header table, body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    pub properties: Properties,
    /// Some properties were not captured, or a bound cut the header table.
    pub properties_cut: bool,
    pub body: Kept,
}

/// The queue that answers to direct reply-to are read from, and what the routing key of each begins with (RabbitMQ, "Direct Reply-to").
pub const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A message that the default exchange takes by such a routing key: an answer to one client, whose own name follows a dot.
pub fn is_direct_reply(exchange: &str, routing_key: &str) -> bool {
    exchange.is_empty()
        && routing_key.strip_prefix(DIRECT_REPLY_TO).is_some_and(|client| client.starts_with('.'))
}

/// Longest name of a task that is one, in bytes.
const MAX_TASK_LEN: usize = 128;

/// Body bytes that are part of a message's identity.
pub const IDENTITY_BYTES: usize = 1024;

impl Content {
    /// What a message is known by from its publish to its delivery: SHA-256 over what brokers leave unchanged.
    /// `None` when some of it was not captured.
    ///
    /// Left out: exchange, routing key, `expiration` (removed by dead-lettering), `timestamp` and the header `timestamp_in_ms`
    /// (written by RabbitMQ's `message_interceptors.incoming.set_header_timestamp`), the headers `CC`, `BCC` and every
    /// `x-*` (added and removed by brokers), and the rest of a `reply_to` that begins with `amq.rabbitmq.reply-to`
    /// (rewritten by direct reply-to). An empty header table is the same as none. Version 1 had the timestamps in it.
    ///
    /// The input of the hash, all integers big-endian:
    ///
    /// ```text
    ///   "spoor amqp message 2\0"
    ///   per property that is set, in the order of AMQP 0-9-1:   number (1 octet, 1 = content-type … 14 = cluster-id), value
    ///   0xFF, body length (8 octets), the first min(length, 1024) body bytes
    ///
    ///   text            length (4), bytes
    ///   octet           1 octet            (delivery-mode, priority)
    ///   table           number of fields (4), then per field, sorted by name and then by encoded value: name (text), value
    ///   field value     't' 1 octet │ 'n' 16 octets signed, any integer │ 'd' 8 octets IEEE 754, any float
    ///                   'D' scale (1) value (4) │ 'S' text or bytes │ 'T' 8 octets │ 'A' number (4), values │ 'F' table │ 'V'
    /// ```
    ///
    /// Integers of any width are one type, floats too, and fields are sorted, because brokers rewrite tables they touch.
    ///
    /// | message | digest |
    /// |---|---|
    /// | no properties, empty body | `a81bc6a6ad2061ebf250e5464dc45cf9391c4a170bdf2bfbdf78a9efaa1a886b` |
    /// | `message_id` = `m-1`, `content_type` = `application/json`, body `{"order":4711}` | `2e69c8650b59bcf16f2087ce440486c9ad7bd78ba9c922acbc3dec2df79a7f4d` |
    /// | `delivery_mode` = 2, headers `b` = 1 and `a` = `x`, body 2,000 times `z` | `9d27ced6b42697c658780d07f1adaf60c9fb1b753cdc64c3c99cc2e8228316b9` |
    pub fn canonical_digest(&self) -> Option<[u8; 32]> {
        let wanted = usize::try_from(self.body.len).unwrap_or(usize::MAX).min(IDENTITY_BYTES);
        // Bytes before a hole are where they belong: only what is missing of the first 1,024 matters.
        let body = self.body.bytes.get(..wanted)?;
        if self.properties_cut {
            return None;
        }
        let mut hash = Canonical(Sha256::new());
        hash.0.update(b"spoor amqp message 2\0");
        hash.properties(&self.properties);
        hash.0.update([0xff]);
        hash.0.update(self.body.len.to_be_bytes());
        hash.0.update(body);
        Some(hash.0.finalize().into())
    }
}

impl Content {
    /// How long a delayed exchange is asked to keep it, in milliseconds; negative once it has (rabbitmq-delayed-message-exchange).
    pub fn delay_ms(&self) -> i64 {
        match field(&self.properties.headers, "x-delay") {
            Some(Value::Int(delay)) => *delay,
            Some(Value::Uint(delay)) => i64::try_from(*delay).unwrap_or(i64::MAX),
            _ => 0,
        }
    }

    /// How long it may wait in its queue: `expiration`, a number of milliseconds as text.
    pub fn expires(&self) -> Option<Duration> {
        self.properties.expiration.as_deref()?.parse().ok().map(Duration::from_millis)
    }

    /// The broker has written when it came.
    pub fn is_stamped(&self) -> bool {
        field(&self.properties.headers, TIMESTAMP_IN_MS).is_some()
    }

    /// The task that a message of Celery asks for: the path of a function, or the name that it was given.
    ///
    /// Celery, "Message Protocol", version 2: the headers `lang` and `task` are in every message of it, `task` alone may be anybody's.
    /// A text that no program has for a name of its own is none.
    pub fn task(&self) -> Option<&str> {
        let text = |name: &str| match field(&self.properties.headers, name) {
            Some(Value::Text(bytes) | Value::Bytes(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        };
        text("lang")?;
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | ':' | '/' | '<' | '>');
        text("task").filter(|name| (1..=MAX_TASK_LEN).contains(&name.len()) && name.chars().all(is_name))
    }

    /// Forgets the body, and of the header table all but what brokers say of dead letters and Celery of its task.
    pub(super) fn forget_values(&mut self) {
        self.body.forget_bytes();
        let has_task = self.task().is_some();
        let keeps = |name: &str| is_of_death(name) || (has_task && (name == "task" || name == "lang"));
        let headers = &mut self.properties.headers;
        if headers.iter().any(|(name, _)| keeps(name)) {
            headers.retain(|(name, _)| keeps(name));
            headers.shrink_to_fit();
        } else {
            *headers = Vec::new();
        }
    }

    fn held(&self) -> usize {
        let p = &self.properties;
        let texts = [
            &p.content_type,
            &p.content_encoding,
            &p.correlation_id,
            &p.reply_to,
            &p.expiration,
            &p.message_id,
            &p.kind,
            &p.user_id,
            &p.app_id,
            &p.cluster_id,
        ];
        let texts = texts.into_iter().flatten().map(String::capacity);
        texts.sum::<usize>() + held_by_table(&p.headers) + self.body.held()
    }
}

/// [`Content::death`] reads it.
fn is_of_death(name: &str) -> bool {
    name == "x-death" || name.starts_with("x-first-death-")
}

fn held_by_table(table: &[(String, Value)]) -> usize {
    let entry = |(name, value): &(String, Value)| name.capacity() + held_by_value(value);
    size_of_val(table) + table.iter().map(entry).sum::<usize>()
}

/// Tables nest as deep as they are read.
fn held_by_value(value: &Value) -> usize {
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) => bytes.capacity(),
        Value::Array(values) => {
            size_of_val(values.as_slice()) + values.iter().map(held_by_value).sum::<usize>()
        }
        Value::Table(table) => held_by_table(table),
        _ => 0,
    }
}

/// How a message came to a dead-letter exchange, by the headers RabbitMQ gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death<'a> {
    /// The queue it died in last.
    pub queue: Option<&'a str>,
    /// `rejected`, `expired`, `maxlen` or `delivery_limit`.
    pub reason: Option<&'a str>,
    /// How often it died there for that reason.
    pub count: Option<u64>,
    /// Where it was published before it died for the first time.
    pub first_exchange: Option<&'a str>,
    pub first_routing_key: Option<&'a str>,
}

impl Content {
    /// Its last death, if it was dead-lettered.
    ///
    /// `x-death` is an array of tables, the latest first, one per queue and reason; `x-first-death-*` name the first one
    /// (RabbitMQ, "Dead Letter Exchanges": "Effects on Messages").
    pub fn death(&self) -> Option<Death<'_>> {
        let headers = &self.properties.headers;
        let Some(Value::Array(deaths)) = field(headers, "x-death") else { return None };
        let tables = || {
            deaths.iter().filter_map(|death| if let Value::Table(table) = death { Some(table) } else { None })
        };
        let last = tables().next()?;
        let first_queue = field(headers, "x-first-death-queue").and_then(text);
        let is_first = |table: &&Vec<(String, Value)>| field(table, "queue").and_then(text) == first_queue;
        // Tables move to the front when the message dies in their queue again: the last need not be the first.
        let first = tables().find(is_first).or_else(|| tables().next_back()).unwrap_or(last);
        let routing_key = match field(first, "routing-keys") {
            Some(Value::Array(keys)) => keys.first().and_then(text),
            _ => None,
        };
        Some(Death {
            queue: field(last, "queue").and_then(text),
            reason: field(last, "reason").and_then(text),
            count: field(last, "count").and_then(|count| match count {
                Value::Int(count) => u64::try_from(*count).ok(),
                Value::Uint(count) => Some(*count),
                _ => None,
            }),
            first_exchange: field(headers, "x-first-death-exchange")
                .or_else(|| field(first, "exchange"))
                .and_then(text),
            first_routing_key: routing_key,
        })
    }
}

fn field<'a>(table: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    table.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// Writes the canonical encoding into the hash.
struct Canonical(Sha256);

impl Canonical {
    fn properties(&mut self, p: &Properties) {
        self.property_text(1, p.content_type.as_deref());
        self.property_text(2, p.content_encoding.as_deref());
        let headers: Vec<_> = p.headers.iter().filter(|(name, _)| !is_broker_header(name)).collect();
        if !headers.is_empty() {
            let mut encoded = vec![3];
            encode_fields(headers.into_iter(), &mut encoded);
            self.0.update(encoded);
        }
        if let Some(mode) = p.delivery_mode {
            self.0.update([4, mode]);
        }
        if let Some(priority) = p.priority {
            self.0.update([5, priority]);
        }
        self.property_text(6, p.correlation_id.as_deref());
        let reply_to = p.reply_to.as_deref();
        let same = |to| if str::starts_with(to, DIRECT_REPLY_TO) { DIRECT_REPLY_TO } else { to };
        self.property_text(7, reply_to.map(same));
        self.property_text(9, p.message_id.as_deref());
        self.property_text(11, p.kind.as_deref());
        self.property_text(12, p.user_id.as_deref());
        self.property_text(13, p.app_id.as_deref());
        self.property_text(14, p.cluster_id.as_deref());
    }

    fn property_text(&mut self, number: u8, text: Option<&str>) {
        if let Some(text) = text {
            self.0.update([number]);
            self.0.update((text.len() as u32).to_be_bytes());
            self.0.update(text);
        }
    }
}

/// Written by brokers that are told to, with the property `timestamp`.
const TIMESTAMP_IN_MS: &str = "timestamp_in_ms";

fn is_broker_header(name: &str) -> bool {
    matches!(name, "CC" | "BCC" | TIMESTAMP_IN_MS) || name.starts_with("x-")
}

fn encode_fields<'a>(fields: impl Iterator<Item = &'a (String, Value)>, to: &mut Vec<u8>) {
    let mut encoded: Vec<(&str, Vec<u8>)> = fields
        .map(|(name, value)| {
            let mut bytes = Vec::new();
            encode_value(value, &mut bytes);
            (name.as_str(), bytes)
        })
        .collect();
    encoded.sort();
    to.extend_from_slice(&(encoded.len() as u32).to_be_bytes());
    for (name, value) in encoded {
        encode_bytes(name.as_bytes(), to);
        to.extend_from_slice(&value);
    }
}

fn encode_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    to.extend_from_slice(bytes);
}

/// Values nest at most as deep as the session reads them.
fn encode_value(value: &Value, to: &mut Vec<u8>) {
    let mut integer = |value: i128| {
        to.push(b'n');
        to.extend_from_slice(&value.to_be_bytes());
    };
    match value {
        Value::Int(value) => integer(i128::from(*value)),
        Value::Uint(value) => integer(i128::from(*value)),
        Value::Bool(value) => to.extend_from_slice(&[b't', u8::from(*value)]),
        Value::Float(value) => {
            to.push(b'd');
            to.extend_from_slice(&value.to_bits().to_be_bytes());
        }
        Value::Decimal { scale, value } => {
            to.extend_from_slice(&[b'D', *scale]);
            to.extend_from_slice(&value.to_be_bytes());
        }
        Value::Text(bytes) | Value::Bytes(bytes) => {
            to.push(b'S');
            encode_bytes(bytes, to);
        }
        Value::Timestamp(value) => {
            to.push(b'T');
            to.extend_from_slice(&value.to_be_bytes());
        }
        Value::Array(values) => {
            to.push(b'A');
            to.extend_from_slice(&(values.len() as u32).to_be_bytes());
            for value in values {
                encode_value(value, to);
            }
        }
        Value::Table(fields) => {
            to.push(b'F');
            encode_fields(fields.iter(), to);
        }
        Value::Void => to.push(b'V'),
    }
}

/// Content properties of class `basic` (AMQP 0-9-1, section 1.8).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub headers: Vec<(String, Value)>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    pub expiration: Option<String>,
    pub message_id: Option<String>,
    pub timestamp: Option<u64>,
    pub kind: Option<String>,
    pub user_id: Option<String>,
    pub app_id: Option<String>,
    pub cluster_id: Option<String>,
}

/// A field value of a table, in RabbitMQ's reading of the type octets.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Decimal { scale: u8, value: i32 },
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    Timestamp(u64),
    Array(Vec<Value>),
    Table(Vec<(String, Value)>),
    Void,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Publish {
    pub exchange: String,
    pub routing_key: String,
    pub mandatory: bool,
    pub content: Content,
    /// The broker's answer.
    pub outcome: PublishOutcome,
    /// It was told before it was over ([`Event::Sent`](crate::protocol::Event::Sent)).
    pub is_told: bool,
}

impl Publish {
    fn held(&self) -> usize {
        self.exchange.capacity() + self.routing_key.capacity() + self.content.held()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The channel is not in confirm mode, or no answer was seen.
    #[default]
    Unconfirmed,
    /// Whether the channel is in confirm mode is not known, or which publish the broker's answers mean.
    Unknown,
    Confirmed,
    /// The transaction that it belongs to was committed: the broker has it.
    Committed,
    /// That transaction was rolled back, or its channel ended before it was committed: it never became a message.
    RolledBack,
    /// `basic.nack` from the broker.
    Refused,
    /// `basic.return`: no queue took it.
    Returned {
        code: u16,
        text: String,
    },
    /// The channel or connection was closed with an error while it was open.
    Error {
        code: u16,
        text: String,
    },
}

impl PublishOutcome {
    /// A queue may have it, as far as is known.
    pub fn may_be_queued(&self) -> bool {
        matches!(self, Self::Unconfirmed | Self::Unknown | Self::Confirmed | Self::Committed)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deliver {
    pub exchange: String,
    pub routing_key: String,
    /// Known from `basic.consume` or `basic.get`. Of a consumer that subscribed before the agent started, from messages
    /// of the default exchange, whose routing key is the queue; `None` as long as there are none.
    pub queue: Option<String>,
    pub consumer_tag: String,
    pub delivery_tag: u64,
    pub redelivered: bool,
    /// The consumer asked for no acknowledgements, where that is known.
    pub no_ack: Option<bool>,
    pub content: Content,
    pub settlement: Option<Settlement>,
    /// When the settlement was moved.
    pub settled_at: Option<BootTime>,
}

impl Deliver {
    fn held(&self) -> usize {
        let queue = self.queue.as_ref().map_or(0, String::capacity);
        let address = self.exchange.capacity() + self.routing_key.capacity();
        queue + address + self.consumer_tag.capacity() + self.content.held()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    Ack,
    Nack { requeue: bool },
    Reject { requeue: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    pub settlement: Settlement,
    pub delivery_tag: u64,
    pub multiple: bool,
    /// Deliveries it settled, as far as they were known; 0 where lost bytes may have changed how many there were.
    pub message_count: u32,
    /// The delivery, where it settled exactly one and that was known.
    pub delivery: Option<OpId>,
    /// What the deliveries have in common, as far as they were known.
    pub source: Option<Source>,
}

/// Where deliveries came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Empty where several were settled whose addresses differ, and for the default exchange.
    pub exchange: String,
    pub routing_key: String,
    pub queue: Option<String>,
}

impl Source {
    pub fn of(deliver: &Deliver) -> Self {
        Self {
            exchange: deliver.exchange.clone(),
            routing_key: deliver.routing_key.clone(),
            queue: deliver.queue.clone(),
        }
    }

    /// What this and another delivery have in common: all of it, or the queue, or nothing.
    pub fn common(self, other: Self) -> Option<Self> {
        if self.queue != other.queue {
            return None;
        }
        if self.exchange == other.exchange && self.routing_key == other.routing_key {
            return Some(self);
        }
        self.queue.is_some().then_some(Self { exchange: String::new(), routing_key: String::new(), ..self })
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Method {
    /// `queue.declare`, `channel.close`, …
    pub name: String,
    /// The broker asks: `connection.blocked`, `channel.close` of a refusal, `basic.cancel` of a queue that is gone.
    pub is_by_server: bool,
    /// Queue or exchange it names, as far as it names one.
    pub target: String,
    /// Reply code and text of `channel.close` or `connection.close` that answered it, or that it carries.
    pub error: Option<(u16, String)>,
    /// Why the broker takes no more publishes: free text of `connection.blocked`.
    pub reason: Option<String>,
    /// The last publish of a channel that the broker closed because of one: it never became a message. It was over already,
    /// because the channel is not in confirm mode.
    pub lost: Option<Box<Publish>>,
    /// `queue.declare`: the queue stays without consumers, and drops no message for its age or because it is full.
    pub keeps: bool,
}

impl Method {
    /// Bytes that it holds beside its own fields and its short strings.
    pub(crate) fn held(&self) -> usize {
        self.lost.as_ref().map_or(0, |lost| size_of::<Publish>() + lost.held())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(properties: Properties, body: &[u8]) -> Content {
        let kept = body.get(..body.len().min(IDENTITY_BYTES)).unwrap_or(body).to_vec();
        Content {
            properties,
            properties_cut: false,
            body: Kept { bytes: kept, len: body.len() as u64, holed: false, left_out: 0 },
        }
    }

    fn digest(content: &Content) -> String {
        let digest = content.canonical_digest().expect("everything is there");
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    fn header(name: &str, value: Value) -> (String, Value) {
        (name.to_owned(), value)
    }

    fn third() -> Properties {
        let headers = vec![header("b", Value::Int(1)), header("a", Value::Text(b"x".to_vec()))];
        Properties { delivery_mode: Some(2), headers, ..Properties::default() }
    }

    #[test]
    fn published_vectors() {
        let properties = Properties {
            message_id: text("m-1"),
            content_type: text("application/json"),
            ..Properties::default()
        };
        for (content, expected) in [
            (
                content(Properties::default(), b""),
                "a81bc6a6ad2061ebf250e5464dc45cf9391c4a170bdf2bfbdf78a9efaa1a886b",
            ),
            (
                content(properties, br#"{"order":4711}"#),
                "2e69c8650b59bcf16f2087ce440486c9ad7bd78ba9c922acbc3dec2df79a7f4d",
            ),
            (
                content(third(), &[b'z'; 2000]),
                "9d27ced6b42697c658780d07f1adaf60c9fb1b753cdc64c3c99cc2e8228316b9",
            ),
        ] {
            assert_eq!(digest(&content), expected, "{content:?}");
        }
    }

    #[test]
    fn what_brokers_change_does_not_count() {
        let published = digest(&content(third(), b"body"));
        let mut delivered = third();
        delivered.expiration = text("60000");
        delivered.headers = vec![
            header("a", Value::Bytes(b"x".to_vec())),
            header("b", Value::Uint(1)),
            header("x-death", Value::Array(vec![Value::Table(vec![header("count", Value::Int(1))])])),
            header("CC", Value::Array(Vec::new())),
        ];
        assert_eq!(digest(&content(delivered, b"body")), published);

        let reply_to = |to| content(Properties { reply_to: text(to), ..Properties::default() }, b"");
        let direct = digest(&reply_to("amq.rabbitmq.reply-to"));
        assert_eq!(digest(&reply_to("amq.rabbitmq.reply-to.g1h2AA")), direct);
        assert_ne!(digest(&reply_to("answers")), direct);
    }

    #[test]
    fn everything_else_counts() {
        let base = digest(&content(third(), b"body"));
        let mut other = third();
        other.headers = vec![header("b", Value::Int(2)), header("a", Value::Text(b"x".to_vec()))];
        assert_ne!(digest(&content(other, b"body")), base);
        assert_ne!(digest(&content(Properties { message_id: text("1"), ..third() }, b"body")), base);
        assert_ne!(digest(&content(Properties { correlation_id: text("1"), ..third() }, b"body")), base);
        assert_ne!(digest(&content(third(), b"bodz")), base);
        assert_ne!(digest(&content(third(), &[b'z'; 2001])), digest(&content(third(), &[b'z'; 2000])));
    }

    #[test]
    fn the_first_address_of_a_dead_message_is_known_in_every_round() {
        let words = |text: &str| Value::Text(text.as_bytes().to_vec());
        let death = |queue, reason, exchange, key, count| {
            Value::Table(vec![
                header("count", Value::Int(count)),
                header("reason", words(reason)),
                header("queue", words(queue)),
                header("exchange", words(exchange)),
                header("routing-keys", Value::Array(vec![words(key)])),
            ])
        };
        let work = |count| death("work", "rejected", "orders", "new", count);
        let wait = |count| death("wait", "expired", "retry", "later", count);
        let first =
            [header("x-first-death-queue", words("work")), header("x-first-death-exchange", words("orders"))];
        for (deaths, queue, reason, count) in [
            (vec![work(1)], "work", "rejected", 1),
            (vec![wait(1), work(1)], "wait", "expired", 1),
            (vec![work(2), wait(1)], "work", "rejected", 2),
        ] {
            let mut headers = vec![header("x-death", Value::Array(deaths))];
            headers.extend(first.clone());
            let content = content(Properties { headers, ..Properties::default() }, b"body");
            let expected = Death {
                queue: Some(queue),
                reason: Some(reason),
                count: Some(count),
                first_exchange: Some("orders"),
                first_routing_key: Some("new"),
            };
            assert_eq!(content.death(), Some(expected));
        }
        assert_eq!(content(third(), b"body").death(), None);
        let empty = vec![header("x-death", Value::Array(Vec::new()))];
        assert_eq!(content(Properties { headers: empty, ..Properties::default() }, b"").death(), None);
    }

    #[test]
    fn unknown_bytes_give_no_identity() {
        let mut cut = content(third(), b"body");
        cut.properties_cut = true;
        assert_eq!(cut.canonical_digest(), None);

        let mut holed = content(third(), &[b'z'; 3000]);
        holed.body.bytes.truncate(1023);
        holed.body.holed = true;
        assert_eq!(holed.canonical_digest(), None);

        // The hole is behind the bytes that count.
        let mut whole = content(third(), &[b'z'; 3000]);
        let expected = whole.canonical_digest();
        whole.body.holed = true;
        assert_eq!(whole.canonical_digest(), expected);
    }
}
