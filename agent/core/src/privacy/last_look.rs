//! A finished span → the same without what must not leave, wherever it stands.
//!
//! *Owns* which attributes hold nothing from traffic, and how the others are looked at. *Must not know* spans: only what is
//! [`Outgoing`] of them.
//!
//! Every text is looked at unless it is known to be harmless: an attribute that is new tomorrow is safe tomorrow.

use std::borrow::Cow;

use super::numbers::Own;
use super::redact;
use crate::trace::{Attributes, Value};

/// What leaves the process of a span, or of anything like one.
pub trait Outgoing {
    fn name(&mut self) -> &mut String;
    /// The status' description.
    fn description(&mut self) -> Option<&mut String>;
    /// Its attributes, and those of its links and events.
    fn attributes(&mut self, visit: &mut dyn FnMut(&mut Attributes));
}

/// What an attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Words of the conventions, addresses of sockets, identifiers that Spoor made: nothing that traffic can choose.
    Nothing,
    /// SQL without its literals, names of the schema: cleaned where they were parsed.
    Sql,
    /// The key of an order, which is exported on purpose, or hashed.
    Key,
    Path,
    Query,
    Url,
    Destination,
    Text,
}

pub(super) fn holds(attribute: &str) -> Holds {
    match attribute {
        "error.type"
        | "client.address"
        | "network.peer.address"
        | "network.peer.port"
        | "network.protocol.name"
        | "network.protocol.version"
        | "network.transport"
        | "server.port"
        | "http.request.method"
        | "http.response.status_code"
        | "http.request.body.size"
        | "http.response.body.size"
        | "url.scheme"
        | "messaging.system"
        | "messaging.operation.name"
        | "messaging.operation.type"
        | "messaging.rabbitmq.message.delivery_tag"
        | "messaging.message.body.size"
        | "messaging.batch.message_count"
        | "db.system.name"
        | "db.response.status_code"
        | "db.response.returned_rows"
        | "db.operation.name"
        | "rpc.system.name"
        | "rpc.response.status_code"
        | "order.namespace"
        | "spoor.parent.rule"
        | "spoor.parent.confidence"
        | "spoor.trace.rule"
        | "spoor.link.rule"
        | "spoor.wire.id"
        | "spoor.incomplete"
        | "spoor.missing_bytes"
        | "spoor.observed_from"
        | "spoor.messaging.outcome"
        | "spoor.messaging.settlement"
        | "spoor.db.transaction"
        | "spoor.db.affected_rows" => Holds::Nothing,
        "db.query.text" | "db.query.summary" | "http.route" | "url.template" => Holds::Sql,
        "order.id" => Holds::Key,
        "url.path" | "aws.s3.key" | "aws.s3.copy_source" => Holds::Path,
        "url.query" => Holds::Query,
        "url.full" => Holds::Url,
        "messaging.destination.name"
        | "messaging.destination.template"
        | "messaging.rabbitmq.destination.routing_key"
        | "spoor.messaging.death.queue"
        | "spoor.messaging.vhost"
        | "spoor.messaging.consumer_tag"
        | "server.address" => Holds::Destination,
        name if name.starts_with("http.request.header.") || name.starts_with("http.response.header.") => {
            Holds::Url
        }
        name if name.starts_with("order.") && name.ends_with(".id") => Holds::Key,
        _ => Holds::Text,
    }
}

/// Takes out what is secret or personal. `own` are the keys of its order.
pub fn look(outgoing: &mut impl Outgoing, own: Own<'_>) {
    change(outgoing.name(), |name| redact::destination(name, own));
    if let Some(description) = outgoing.description() {
        change(description, |text| redact::text(text, own));
    }
    outgoing.attributes(&mut |attributes| {
        attributes.change(|name, value| {
            let how = holds(name);
            match value {
                _ if matches!(how, Holds::Nothing | Holds::Sql | Holds::Key) => None,
                Value::Text(text) => changed(how, text, own).map(Value::from),
                Value::Texts(texts) => {
                    let new: Vec<String> = texts
                        .iter()
                        .map(|text| changed(how, text, own).unwrap_or_else(|| text.clone()))
                        .collect();
                    (new != *texts).then_some(Value::Texts(new))
                }
                // A number that somebody asked for under a name of his choice.
                Value::Int(number) if how == Holds::Text && *number > i64::from(u32::MAX) => {
                    changed(how, &number.to_string(), own).map(Value::from)
                }
                Value::Int(_) | Value::Float(_) | Value::Bool(_) => None,
            }
        });
    });
}

fn changed(how: Holds, text: &str, own: Own<'_>) -> Option<String> {
    if !may_hold(text) {
        return None;
    }
    let new = match how {
        Holds::Nothing | Holds::Sql | Holds::Key => return None,
        Holds::Path => Cow::Owned(redact::path(text, own)),
        Holds::Query => Cow::Owned(redact::query(text, own)),
        Holds::Url => Cow::Owned(redact::url(text, own)),
        Holds::Destination => redact::destination(text, own),
        Holds::Text => redact::text(text, own),
    };
    (new != text).then(|| new.into_owned())
}

/// Nearly every text has too few digits for a number, and no sign that could stand before a secret.
fn may_hold(text: &str) -> bool {
    let mut digits = 0usize;
    let mut sign = false;
    for byte in text.bytes() {
        digits += usize::from(byte.is_ascii_digit());
        sign |= matches!(byte, b'@' | b'%' | b'=' | b':' | b' ' | b';' | b'/');
    }
    sign || digits >= 8
        || (text.len() >= 10 && (digits > 0 || memchr::memchr(b'_', text.as_bytes()).is_some()))
}

fn change(text: &mut String, with: impl FnOnce(&str) -> Cow<'_, str>) {
    if !may_hold(text) {
        return;
    }
    let new = match with(text) {
        Cow::Owned(new) => new,
        Cow::Borrowed(_) => return,
    };
    *text = new;
}
