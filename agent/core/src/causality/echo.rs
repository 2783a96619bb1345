//! An operation's content → what a proxy leaves of it when it passes the operation on, and what a reply repeats of the message it
//! answers.
//!
//! Proxies change addresses, headers of the hop and the beginning of paths; they leave the method, the end of the path, the query, who
//! asked (`User-Agent`), the body and the status. Proxies of PostgreSQL leave texts and parameters.
//!
//! *Owns* what counts as the same content. *Must not know* processes and times: those decide whether it was passed on.
//! *Spec*: RFC 9110, sections 7.6 (message forwarding) and 10.1.5 (`User-Agent`).

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use crate::operation::amqp::ActionKind;
use crate::operation::http::Exchange;
use crate::operation::postgres::{Cell, Statement};
use crate::operation::{Detail, Kept, Operation};

/// Content that two operations share. Only compared within one process, so a short hash will do: chance makes two of a million pairs
/// equal once in ten million runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Echo(pub(super) u64);

/// Bytes of a body that are compared, beside its length.
const BODY_BYTES: usize = 512;

/// `None`: it has nothing to tell it from others by, or was not seen whole.
pub(super) fn of(operation: &Operation) -> Option<Echo> {
    match &operation.detail {
        Detail::Http(exchange) => of_exchange(exchange),
        Detail::Postgres(statement) => of_statement(statement),
        Detail::Amqp(action) => of_message(&action.kind),
    }
}

/// A message that asks for a reply says where to and under which ID; a reply goes there under it, through the default exchange.
fn of_message(kind: &ActionKind) -> Option<Echo> {
    let (to, content) = match kind {
        ActionKind::Deliver(deliver) => (deliver.content.properties.reply_to.as_deref()?, &deliver.content),
        ActionKind::Publish(publish) if publish.exchange.is_empty() => {
            (publish.routing_key.as_str(), &publish.content)
        }
        _ => return None,
    };
    let correlation = content.properties.correlation_id.as_deref()?;
    let mut hash = FxHasher::default();
    (to, correlation).hash(&mut hash);
    Some(Echo(hash.finish()))
}

/// Of a request that says neither who asks nor anything in a body, any other may be the same.
fn of_exchange(exchange: &Exchange) -> Option<Echo> {
    let agent = exchange.request_header("user-agent").filter(|agent| !agent.is_empty());
    let status = exchange.status?;
    if exchange.method.is_empty() || (agent.is_none() && exchange.request_body.len == 0) {
        return None;
    }
    let mut hash = FxHasher::default();
    hash.write(exchange.method.as_bytes());
    // A proxy's locations are prefixes.
    let end = exchange.path().rsplit('/').find(|segment| !segment.is_empty());
    (end, exchange.query(), agent, status).hash(&mut hash);
    body(&exchange.request_body, &mut hash);
    Some(Echo(hash.finish()))
}

fn of_statement(statement: &Statement) -> Option<Echo> {
    let mut hash = FxHasher::default();
    statement.text.as_deref()?.hash(&mut hash);
    for parameter in &statement.parameters {
        match &parameter.value {
            None => hash.write_u8(0),
            Some(Cell::Text(text)) => text.hash(&mut hash),
            Some(Cell::Opaque(len)) => hash.write_u32(*len),
        }
    }
    let error = statement.error.as_ref().map(|error| error.code.as_str());
    (statement.command_tag.as_deref(), error, statement.copy_len).hash(&mut hash);
    Some(Echo(hash.finish()))
}

fn body(body: &Kept, hash: &mut FxHasher) {
    hash.write_u64(body.len);
    hash.write(body.bytes.get(..BODY_BYTES).unwrap_or(&body.bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(method: &str, target: &str, agent: &str, body: &str, status: u16) -> Option<Echo> {
        let mut exchange = Exchange {
            method: method.to_owned(),
            target: target.to_owned(),
            status: Some(status),
            request_body: Kept { bytes: body.into(), len: body.len() as u64, holed: false, left_out: 0 },
            ..Exchange::default()
        };
        exchange.request_headers.push(b"Host", target.as_bytes());
        exchange.request_headers.push(b"User-Agent", agent.as_bytes());
        of_exchange(&exchange)
    }

    #[test]
    fn a_forwarded_request_is_the_same_whatever_its_path_begins_with() {
        let sent = exchange("GET", "/shop/api/orders/17?x=1", "curl", "", 200);
        assert!(sent.is_some());
        for (other, is_same) in [
            (exchange("GET", "/orders/17?x=1", "curl", "", 200), true),
            (exchange("GET", "/orders/17/?x=1", "curl", "", 200), true),
            (exchange("POST", "/orders/17?x=1", "curl", "", 200), false),
            (exchange("GET", "/orders/18?x=1", "curl", "", 200), false),
            (exchange("GET", "/orders/17?x=2", "curl", "", 200), false),
            (exchange("GET", "/orders/17", "curl", "", 200), false),
            (exchange("GET", "/orders/17?x=1", "wget", "", 200), false),
            (exchange("GET", "/orders/17?x=1", "curl", "", 502), false),
            (exchange("GET", "/orders/17?x=1", "curl", "{}", 200), false),
        ] {
            assert_eq!(other == sent, is_same);
        }
        assert_eq!(exchange("GET", "/", "", "", 200), None, "anybody may have asked so");
        assert!(exchange("POST", "/", "", "{}", 200).is_some());
    }

    #[test]
    fn a_reply_goes_where_the_message_asks_for_it_with_its_correlation() {
        use crate::operation::amqp::{Content, Deliver, Properties, Publish};
        let content = |reply_to: Option<&str>, correlation: Option<&str>| Content {
            properties: Properties {
                reply_to: reply_to.map(str::to_owned),
                correlation_id: correlation.map(str::to_owned),
                ..Properties::default()
            },
            ..Content::default()
        };
        let asked = |reply_to, correlation| {
            let content = content(reply_to, correlation);
            of_message(&ActionKind::Deliver(Deliver { content, ..Deliver::default() }))
        };
        let replied = |exchange: &str, to: &str, correlation| {
            let content = content(None, correlation);
            let (exchange, routing_key) = (exchange.to_owned(), to.to_owned());
            of_message(&ActionKind::Publish(Publish { exchange, routing_key, content, ..Publish::default() }))
        };
        let message = asked(Some("replies"), Some("7"));
        assert!(message.is_some());
        assert_eq!(replied("", "replies", Some("7")), message);
        assert_ne!(replied("", "replies", Some("8")), message);
        assert_ne!(replied("", "others", Some("7")), message);
        assert_eq!(replied("shop", "replies", Some("7")), None);
        assert_eq!((asked(None, Some("7")), asked(Some("replies"), None)), (None, None));
    }

    #[test]
    fn a_forwarded_statement_has_the_same_text_parameters_and_result() {
        let parameter = |value: &str| crate::operation::postgres::Parameter {
            type_oid: 0,
            value: Some(Cell::Text(value.to_owned())),
        };
        let statement = |text: &str, value: &str, tag: &str| {
            of_statement(&Statement {
                text: Some(text.to_owned()),
                parameters: vec![parameter(value)],
                command_tag: Some(tag.to_owned()),
                ..Statement::default()
            })
        };
        let sent = statement("SELECT $1", "17", "SELECT 1");
        assert!(sent.is_some());
        assert_eq!(statement("SELECT $1", "17", "SELECT 1"), sent);
        assert_ne!(statement("SELECT $1", "18", "SELECT 1"), sent);
        assert_ne!(statement("SELECT $1", "17", "SELECT 0"), sent);
        assert_eq!(of_statement(&Statement::default()), None, "its text is not known");
    }
}
