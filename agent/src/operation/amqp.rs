//! An AMQP 0-9-1 action: a publish, a delivery, a get, a settlement, or a synchronous method.

use super::Kept;
use crate::record::BootNs;

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
    Get(Option<Deliver>),
    /// `basic.ack`, `basic.nack` or `basic.reject` of one or several deliveries, as an action of its own.
    Settle(Settle),
    /// Any other method and its reply: declare, bind, consume, open, close, …
    Method(Method),
}

/// A message's content: properties, header table, body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    pub properties: Properties,
    pub body: Kept,
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
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The channel is not in confirm mode, or no answer was seen.
    #[default]
    Unconfirmed,
    Confirmed,
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

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deliver {
    pub exchange: String,
    pub routing_key: String,
    /// Known from `basic.consume` or `basic.get`; `None` when subscribed before the agent started.
    pub queue: Option<String>,
    pub consumer_tag: String,
    pub delivery_tag: u64,
    pub redelivered: bool,
    /// The consumer asked for no acknowledgements, where that is known.
    pub no_ack: Option<bool>,
    pub content: Content,
    pub settlement: Option<Settlement>,
    pub settled_at: Option<BootNs>,
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
    /// Deliveries it settled, as far as they were known.
    pub message_count: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// `queue.declare`, `channel.close`, …
    pub name: String,
    /// Queue or exchange it names.
    pub target: String,
    /// Reply code and text of `channel.close` or `connection.close` that answered it, or that it carries.
    pub error: Option<(u16, String)>,
}

impl Content {
    /// Replaced by the amqp branch.
    pub fn canonical_digest(&self) -> Option<[u8; 32]> {
        None
    }
}
