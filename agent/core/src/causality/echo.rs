//! An operation's content → what a proxy leaves of it when it passes the operation on, and what a reply repeats of the message it
//! answers.
//!
//! Proxies change addresses, headers of the hop and the beginning of paths; they leave the method, the end of the path, the query, who
//! asked (`User-Agent`), the body and the status. Proxies of PostgreSQL leave texts and parameters.
//!
//! *Owns* what counts as the same content. *Must not know* processes and times: those decide whether it was passed on.
//! *Spec*: RFC 9110, sections 7.6 (message forwarding) and 10.1.5 (`User-Agent`).

use std::hash::{BuildHasher, Hash, Hasher};

use crate::operation::amqp::{ActionKind, Content};
use crate::operation::http::Exchange;
use crate::operation::postgres::{Cell, Statement, TEXT_CUT};
use crate::operation::{Detail, Kept, Operation};
use crate::trace::TraceId;

/// Content that two operations share. Only compared within one process, so a short hash will do: chance makes two of a million pairs
/// equal once in ten million runs. Traffic chooses the content: what hashes it is to have a seed that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Echo {
    pub(super) asked: Asked,
    /// The same with body and result.
    pub(super) whole: u64,
}

/// What of it shows before the operation is over. Operations that differ in it have different content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked(pub(super) u64);

/// The ID of a trace, as short: as with contents, it is only compared within one process, and traffic chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Carried(pub(super) u64);

impl Carried {
    pub(super) fn new(hasher: &impl BuildHasher, trace: TraceId) -> Self {
        Self(hasher.hash_one(trace))
    }
}

/// Bytes of a body that are compared, beside its length.
const BODY_BYTES: u64 = 512;

/// `None`: it has nothing to tell it from others by, or was not seen whole.
pub(super) fn of(hasher: &impl BuildHasher, operation: &Operation) -> Option<Echo> {
    match &operation.detail {
        Detail::Http(exchange) => of_exchange(hasher, exchange),
        Detail::Postgres(statement) => of_statement(hasher, statement),
        Detail::Amqp(action) => of_message(hasher, &action.kind),
    }
}

/// The same of an operation that is not over. `None`: it may be anything.
pub(super) fn asked(hasher: &impl BuildHasher, operation: &Operation) -> Option<Asked> {
    match &operation.detail {
        Detail::Http(exchange) => asked_by_exchange(hasher, exchange),
        Detail::Postgres(statement) => asked_by_statement(hasher, statement),
        Detail::Amqp(action) => {
            action.kind.content().map(|content| asked_by_message(hasher, &action.kind, content))
        }
    }
}

/// A message that asks for a reply says where to and under which ID; a reply goes there under it, through the default exchange.
fn of_message(hasher: &impl BuildHasher, kind: &ActionKind) -> Option<Echo> {
    let content = kind.content()?;
    reply(kind, content)?;
    let asked = asked_by_message(hasher, kind, content);
    Some(Echo { asked, whole: asked.0 })
}

fn asked_by_message(hasher: &impl BuildHasher, kind: &ActionKind, content: &Content) -> Asked {
    Asked(hasher.hash_one(reply(kind, content)))
}

/// Where the reply goes, and under which ID. `None`: it neither asks for one nor is one.
fn reply<'a>(kind: &'a ActionKind, content: &'a Content) -> Option<(&'a str, &'a str)> {
    let to = match kind {
        ActionKind::Deliver(_) => content.properties.reply_to.as_deref()?,
        ActionKind::Publish(publish) if publish.exchange.is_empty() => publish.routing_key.as_str(),
        _ => return None,
    };
    Some((to, content.properties.correlation_id.as_deref()?))
}

/// Of a request that says neither who asks nor anything in a body, any other may be the same.
fn of_exchange(hasher: &impl BuildHasher, exchange: &Exchange) -> Option<Echo> {
    let status = exchange.status?;
    let body = &exchange.request_body;
    if agent(exchange).is_none() && body.len == 0 {
        return None;
    }
    let asked = asked_by_exchange(hasher, exchange)?;
    let whole = hasher.hash_one((asked, status, body.len, beginning(body)?));
    Some(Echo { asked, whole })
}

fn asked_by_exchange(hasher: &impl BuildHasher, exchange: &Exchange) -> Option<Asked> {
    if exchange.method.is_empty() {
        return None;
    }
    // A proxy's locations are prefixes.
    let end = exchange.path().rsplit('/').find(|segment| !segment.is_empty());
    Some(Asked(hasher.hash_one((&exchange.method, end, exchange.query(), agent(exchange)))))
}

fn agent(exchange: &Exchange) -> Option<&[u8]> {
    exchange.request_header("user-agent").filter(|agent| !agent.is_empty())
}

/// The bytes of a body that are compared. `None`: some of them are not there, and what is there may be equal by chance.
fn beginning(body: &Kept) -> Option<&[u8]> {
    let len = usize::try_from(body.len.min(BODY_BYTES)).ok()?;
    body.bytes.get(..len).filter(|_| body.left_out == 0 && !body.holed)
}

fn of_statement(hasher: &impl BuildHasher, statement: &Statement) -> Option<Echo> {
    let asked = asked_by_statement(hasher, statement)?;
    let error = statement.error.as_ref().map(|error| error.code.as_str());
    let whole = hasher.hash_one((asked, statement.command_tag.as_deref(), error, statement.copy_len));
    Some(Echo { asked, whole })
}

/// Text and parameters, where all of them are known.
fn asked_by_statement(hasher: &impl BuildHasher, statement: &Statement) -> Option<Asked> {
    let text = statement.text.as_deref().filter(|text| !text.ends_with(TEXT_CUT))?;
    if placeholders(text) > statement.parameters.len() {
        return None;
    }
    let mut hash = hasher.build_hasher();
    text.hash(&mut hash);
    for parameter in &statement.parameters {
        match &parameter.value {
            None => hash.write_u8(0),
            Some(Cell::Text(text)) => (1_u8, text).hash(&mut hash),
            Some(Cell::Opaque(len)) => (2_u8, len).hash(&mut hash),
        }
    }
    Some(Asked(hash.finish()))
}

/// The highest number of a parameter (`$1`) in a text; those in quotes count too.
fn placeholders(text: &str) -> usize {
    let number = |after: &str| {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        after.get(..digits)?.parse::<usize>().ok()
    };
    text.split('$').skip(1).filter_map(number).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use super::*;

    fn hasher() -> BuildHasherDefault<DefaultHasher> {
        BuildHasherDefault::default()
    }

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
        of_exchange(&hasher(), &exchange)
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
            of_message(&hasher(), &ActionKind::Deliver(Deliver { content, ..Deliver::default() }))
        };
        let replied = |exchange: &str, to: &str, correlation| {
            let content = content(None, correlation);
            let (exchange, routing_key) = (exchange.to_owned(), to.to_owned());
            of_message(
                &hasher(),
                &ActionKind::Publish(Publish { exchange, routing_key, content, ..Publish::default() }),
            )
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
            of_statement(
                &hasher(),
                &Statement {
                    text: Some(text.to_owned()),
                    parameters: vec![parameter(value)],
                    command_tag: Some(tag.to_owned()),
                    ..Statement::default()
                },
            )
        };
        let sent = statement("SELECT $1", "17", "SELECT 1");
        assert!(sent.is_some());
        assert_eq!(statement("SELECT $1", "17", "SELECT 1"), sent);
        assert_ne!(statement("SELECT $1", "18", "SELECT 1"), sent);
        assert_ne!(statement("SELECT $1", "17", "SELECT 0"), sent);
        assert_eq!(of_statement(&hasher(), &Statement::default()), None, "its text is not known");
    }

    #[test]
    fn what_is_not_there_whole_is_like_nothing_else() {
        let request = |request_body| {
            let (method, target) = ("POST".to_owned(), "/orders".to_owned());
            let exchange =
                Exchange { method, target, status: Some(200), request_body, ..Exchange::default() };
            of_exchange(&hasher(), &exchange)
        };
        let body = |bytes: &[u8], len, left_out, holed| Kept { bytes: bytes.to_vec(), len, left_out, holed };
        let long = vec![b'a'; BODY_BYTES as usize];
        assert!(request(body(b"{}", 2, 0, false)).is_some());
        assert!(request(body(&long, 100_000, 0, false)).is_some(), "the rest is not compared");
        for body in [
            body(b"", 2, 0, false),
            body(&long[1..], 100_000, 0, false),
            body(b"{\"a\":1}", 100_000, 99_993, false),
            body(b"{\"a\"", 5, 0, true),
        ] {
            assert_eq!(request(body.clone()), None, "{body:?}");
        }
        let statement = |text: &str| {
            let text = Some(text.to_owned());
            of_statement(&hasher(), &Statement { text, ..Statement::default() })
        };
        assert!(statement("SELECT 1").is_some());
        assert_eq!(statement("SELECT $1"), None, "its parameter was given up");
        assert_eq!(statement("SELECT a,…"), None);
        assert_eq!(placeholders("a = $1 AND b = $12 AND c = $2 -- $x"), 12);
    }

    #[test]
    fn what_is_asked_shows_before_the_answer() {
        let exchange = |target: &str, status| {
            let exchange = Exchange {
                method: "POST".to_owned(),
                target: target.to_owned(),
                status,
                request_body: Kept { bytes: b"{}".to_vec(), len: 2, holed: false, left_out: 0 },
                ..Exchange::default()
            };
            (asked_by_exchange(&hasher(), &exchange), of_exchange(&hasher(), &exchange))
        };
        let (open, none) = exchange("/shop/orders/17", None);
        let (_, over) = exchange("/orders/17", Some(200));
        assert_eq!((open, none), (over.map(|echo| echo.asked), None));
        assert_ne!(exchange("/orders/18", None).0, open);
        assert_eq!(asked_by_exchange(&hasher(), &Exchange::default()), None, "it may be anything");
    }
}
