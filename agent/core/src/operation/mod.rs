//! An [`Operation`]: one request with its response, one publish, one delivery, one statement, as one process saw it.
//!
//! *Owns* the shape of what protocols report. *Must not know* spans, orders, other connections.

pub mod amqp;
pub mod http;
pub mod postgres;
mod setup;
#[cfg(test)]
pub(crate) mod testing;

use crate::record::{OpId, Point, Role, Sender};
use crate::time::BootTime;

/// What kind of conversation an operation belongs to, as far as it matters for its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interaction {
    /// The thread that asks usually waits for the answer: HTTP, PostgreSQL.
    Call,
    /// Messages: answers come when they come.
    Message,
}

/// What an operation is to the process it was seen in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpSide {
    /// Work that came to the process and that other operations may be caused by: a request it serves, a message delivered to it.
    Incoming,
    /// Work the process asked of another: a request it sends, a statement, a publish.
    Outgoing,
    /// The server's view of work that passes through it (a broker's or database server's side of a connection): no cause of what its
    /// process does, unless the process passes that very work on, as a proxy of a database does.
    Relayed,
}

/// The bytes of one half of an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Its first byte.
    pub start: Point,
    /// Its last byte. `pos` is the position *after* it.
    pub end: Point,
}

impl Extent {
    /// Bytes on the wire.
    pub fn len(&self) -> u64 {
        self.end.pos.saturating_sub(self.start.pos)
    }

    /// No byte on the wire.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How much of an operation was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completeness {
    /// All of it.
    #[default]
    Complete,
    /// Bytes inside it were not captured: their number.
    Gap(u64),
    /// The connection ended before the response did.
    Cut,
    /// Given up at a bound of time or number while still open, or at the agent's end.
    Abandoned,
}

/// One operation, finished or given up.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    pub id: OpId,
    pub shape: OpSide,
    /// The role of the observed process on this connection.
    pub role: Role,
    /// The request, publish, delivery or statement.
    pub request: Extent,
    /// The response, confirm, settlement or result, when one was seen.
    pub response: Option<Extent>,
    /// When it was over.
    pub ended_at: BootTime,
    pub completeness: Completeness,
    pub detail: Detail,
}

impl Operation {
    /// Who sent its first byte: what both ends call the operation by, and where it stands on the wire, depend on it. No arm for the
    /// rest: of a protocol whose servers begin operations, a wrong one would make wrong identities in silence.
    pub fn sender(&self) -> Sender {
        match &self.detail {
            Detail::Http(_) | Detail::Postgres(_) => Sender::Client,
            Detail::Amqp(action) => action.kind.sender(),
        }
    }

    /// Forgets the bytes of bodies, parameters and rows, and headers but those that spans show. They are for keys and identity
    /// only: once those are found, an operation that waits for its tree needs neither the memory nor the secrets. Lengths stay.
    pub fn forget_values(&mut self, is_shown: fn(&[u8]) -> bool) {
        match &mut self.detail {
            Detail::Http(exchange) => exchange.forget_values(is_shown),
            Detail::Amqp(action) => {
                if let Some(content) = action.kind.content_mut() {
                    content.forget_values();
                }
            }
            Detail::Postgres(statement) => {
                statement.parameters = Vec::new();
                statement.first_rows = Vec::new();
                statement.columns = Vec::new();
                statement.column_tables = Vec::new();
            }
        }
    }

    /// Forgets the bytes of bodies that have a content coding. Returns whether there were any.
    pub(crate) fn leave_coded(&mut self) -> bool {
        match &mut self.detail {
            Detail::Http(exchange) => {
                let halves = [
                    (&exchange.request_headers, &mut exchange.request_body),
                    (&exchange.response_headers, &mut exchange.response_body),
                ];
                halves.into_iter().fold(false, |left, (headers, body)| {
                    let is_coded = !body.bytes.is_empty()
                        && (headers.get("content-encoding").is_some()
                            || headers.get("grpc-encoding").is_some());
                    if is_coded {
                        body.forget_bytes();
                    }
                    left | is_coded
                })
            }
            Detail::Amqp(action) => match action.kind.content_mut() {
                Some(content)
                    if content.properties.content_encoding.is_some() && !content.body.bytes.is_empty() =>
                {
                    content.body.forget_bytes();
                    true
                }
                _ => false,
            },
            Detail::Postgres(_) => false,
        }
    }

    /// Bytes of its texts and values: what it holds beside its own fields.
    pub(crate) fn held(&self) -> usize {
        match &self.detail {
            Detail::Http(exchange) => size_of::<http::Exchange>() + exchange.held(),
            Detail::Amqp(action) => size_of::<amqp::Action>() + action.held(),
            Detail::Postgres(statement) => size_of::<postgres::Statement>() + statement.held(),
        }
    }
}

/// The protocol's part of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Detail {
    Http(Box<http::Exchange>),
    Amqp(Box<amqp::Action>),
    Postgres(Box<postgres::Statement>),
}

/// What is kept of a body or value: enough for keys, never all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The first bytes, at most the configured bound. Of a multipart form its fields without its files; of a JSON document
    /// that is larger than the bound, the same with its long strings cut.
    pub bytes: Vec<u8>,
    /// Length on the wire (after transfer decoding, before content decoding).
    pub len: u64,
    /// Bytes among those walked by that are not in `bytes`: of files and long strings.
    pub left_out: u64,
    /// A gap lies inside `bytes`: what follows the gap is not in it.
    pub holed: bool,
}

impl Kept {
    /// Keeps the length only. What was whole is no longer.
    pub fn forget_bytes(&mut self) {
        self.bytes = Vec::new();
        self.left_out = 0;
    }

    /// Bytes that it holds.
    pub(crate) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// Every byte is there, but for files and long strings.
    pub fn is_whole(&self) -> bool {
        !self.holed && self.bytes.len() as u64 + self.left_out == self.len
    }
}
