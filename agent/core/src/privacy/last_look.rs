//! A finished span → the same without what must not leave, wherever it stands.
//!
//! *Owns* which attributes hold nothing from traffic, and how the others are looked at. *Must not know* spans: only what is
//! [`Outgoing`] of them.
//!
//! Every text is looked at unless it is known to be harmless: an attribute that is new tomorrow is safe tomorrow.

use std::borrow::Cow;

use super::numbers::Own;
use super::redact;
use super::signs::{self, Signs};
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
    /// Words of the conventions, identifiers that Spoor made: nothing that traffic can choose.
    Nothing,
    /// The address of a socket, or what a proxy says of one: an address and no other text. It is left as it is, unless the same
    /// value is hashed under another name.
    Address,
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
        "client.address" | "network.peer.address" | "network.local.address" => Holds::Address,
        "error.type"
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
        | "jsonrpc.protocol.version"
        | "graphql.operation.type"
        | "tls.protocol.name"
        | "tls.protocol.version"
        | "tls.cipher"
        | "order.namespace"
        | "spoor.parent.rule"
        | "spoor.parent.confidence"
        | "spoor.trace.rule"
        | "spoor.link.rule"
        | "spoor.wire.id"
        | "spoor.incomplete"
        | "spoor.missing_bytes"
        | "spoor.truncated"
        | "spoor.observed_from"
        | "spoor.messaging.outcome"
        | "spoor.messaging.settlement"
        | "spoor.order.trace_id"
        | "spoor.upload.count"
        | "spoor.upload.size"
        | "spoor.db.transaction"
        | "spoor.db.transaction.id"
        | "spoor.db.transaction.outcome"
        | "spoor.db.copy_size"
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
        // Values first: most of them can hold nothing, and what an attribute holds is told by its name, a long comparison.
        attributes.change(|name, value| match value {
            Value::Text(text) if !may_hold(text) => None,
            Value::Text(text) => changed(holds(name), text, own).map(Value::from),
            Value::Texts(texts) => {
                let how = holds(name);
                let new = texts.iter().map(|text| match may_hold(text) {
                    true => changed(how, text, own).unwrap_or_else(|| text.clone()),
                    false => text.clone(),
                });
                let new: Vec<String> = new.collect();
                (new != *texts).then_some(Value::Texts(new))
            }
            // A number that somebody asked for under a name of his choice.
            Value::Int(number) if *number > i64::from(u32::MAX) && holds(name) == Holds::Text => {
                changed(Holds::Text, &number.to_string(), own).map(Value::from)
            }
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => None,
        });
    });
}

/// What stands for a text that [may hold](may_hold) something. `None`: the text.
fn changed(how: Holds, text: &str, own: Own<'_>) -> Option<String> {
    let new = match how {
        Holds::Nothing | Holds::Address | Holds::Sql | Holds::Key => return None,
        Holds::Path => redact::path(text, own),
        Holds::Query => Cow::Owned(redact::query(text, own)),
        Holds::Url => redact::url(text, own),
        Holds::Destination => redact::destination(text, own),
        Holds::Text => redact::text(text, own),
    };
    match new {
        Cow::Borrowed(_) => None,
        Cow::Owned(new) => (new != text).then_some(new),
    }
}

/// Nearly every text has too few digits for a number, no sign that could stand before a secret, and nothing that the shape of a
/// token has: a digit, a capital, `_` or `-`.
fn may_hold(text: &str) -> bool {
    let Signs { digits, has, .. } = Signs::of(text);
    has & (signs::SIGN | signs::PART) != 0
        || digits >= 8
        || (text.len() >= 10 && (digits > 0 || has & signs::SHAPE != 0))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::privacy::NO_KEYS;

    /// Anything that leaves.
    struct Anything {
        name: String,
        description: String,
        attributes: Vec<Attributes>,
    }

    impl Outgoing for Anything {
        fn name(&mut self) -> &mut String {
            &mut self.name
        }

        fn description(&mut self) -> Option<&mut String> {
            Some(&mut self.description)
        }

        fn attributes(&mut self, visit: &mut dyn FnMut(&mut Attributes)) {
            self.attributes.iter_mut().for_each(visit);
        }
    }

    /// What no place may show, as it is written there, and the part that must be gone.
    const SECRETS: [(&str, &str); 10] = [
        ("AKIAABCDEFGHIJKLMNOP", "ABCDEFGHIJKLMNOP"),
        ("4111 1111 1111 1111", "1111"),
        ("89161230003", "9161230003"),
        ("+7 (916) 123-00-03", "123-00"),
        ("112-233-445 95", "233"),
        ("DE89370400440532013000", "370400"),
        ("eyJhbGciOiJI.eyJzdWIi.zq9", "zq9"),
        ("password=zq9", "zq9"),
        ("https://app:zq9@host/x", "zq9"),
        ("sk_live_zq9000", "zq9"),
    ];

    const PLACES: [&str; 12] = [
        "url.path",
        "url.query",
        "url.full",
        "user_agent.original",
        "messaging.destination.name",
        "messaging.message.id",
        "order.model.file_name",
        "http.request.header.x-one",
        "db.namespace",
        "server.address",
        "spoor.messaging.consumer_tag",
        "an.attribute.of.tomorrow",
    ];

    #[test]
    fn sizes_and_identifiers_that_spoor_makes_are_no_numbers_of_people() {
        let mut attributes = Attributes::default();
        attributes.set("spoor.upload.size", 89_161_230_003_i64);
        attributes.set("spoor.db.copy_size", 89_161_230_003_i64);
        attributes.set("spoor.order.trace_id", "00000000000000008916123000300000");
        attributes.set_named("an.attribute", 89_161_230_003_i64);
        let mut all = Anything {
            name: String::new(),
            description: String::new(),
            attributes: vec![attributes.clone()],
        };
        look(&mut all, NO_KEYS);
        attributes.replace("an.attribute", Value::from("REDACTED"));
        assert_eq!(all.attributes, [attributes]);
    }

    proptest! {
        #[test]
        fn no_secret_leaves_from_any_place(
            secret in 0..SECRETS.len(), place in 0..PLACES.len(), before in "[a-z]{0,6}", after in "[a-z]{0,6}"
        ) {
            let (secret, gone) = SECRETS[secret];
            let text = format!("{before} {secret} {after}").trim().to_owned();
            let mut attributes = Attributes::default();
            attributes.set_named(PLACES[place], text.as_str());
            let mut link = Attributes::default();
            link.set_named(PLACES[place], Value::Texts(vec![text.clone()]));
            let mut all =
                Anything { name: text.clone(), description: text, attributes: vec![attributes, link] };
            look(&mut all, NO_KEYS);
            let shown = format!("{} {} {:?}", all.name, all.description, all.attributes);
            prop_assert!(!shown.contains(gone), "{}: {shown}", PLACES[place]);
        }

        #[test]
        fn what_is_plain_stays(text in "[a-z]{0,8}( [a-z]{1,8}){0,4}", number in 0u32..100_000_000) {
            let mut attributes = Attributes::default();
            attributes.set_named("an.attribute", format!("{number}"));
            let mut all = Anything { name: text.clone(), description: text.clone(), attributes: vec![attributes.clone()] };
            look(&mut all, NO_KEYS);
            prop_assert_eq!(&all.name, &text);
            prop_assert_eq!(&all.description, &text);
            prop_assert_eq!(&all.attributes, &[attributes]);
        }
    }
}
