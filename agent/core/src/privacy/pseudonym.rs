//! Keys that are not to leave as they are → keyed hashes in their place.
//!
//! *Owns* which attributes are replaced, and where else the same value could show: every text of a span but those that hold
//! nothing from traffic. Joins are made before, with the values themselves; trace identifiers are derived from the hash, so
//! that nobody without the key finds an order by its trace. All agents of a deployment need the same key. *Must not know* where
//! the key is kept, nor what a span is.
//! *Spec*: HMAC (RFC 2104) with SHA-256 over namespace, a zero byte and the canonical value; the first 16 bytes are shown,
//! as 32 hexadecimal digits.

use std::borrow::Cow;
use std::collections::HashSet;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::last_look::{Holds, Outgoing, holds};
use super::redact::REDACTED;
use crate::percent;
use crate::trace::{Value, hex_text};

/// The shortest key: with fewer bytes, hashes of order numbers are soon guessed.
pub const MIN_SECRET: usize = 16;

const ORDER_ID: &str = "order.id";

/// A key that an operation names, or its tree's order.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub namespace: &'a str,
    pub value: &'a str,
}

/// Replaces chosen attributes by keyed hashes.
#[derive(Clone)]
pub struct Pseudonyms {
    mac: Hmac<Sha256>,
    names: HashSet<String>,
    /// `order.id` is among the names.
    orders: bool,
}

impl std::fmt::Debug for Pseudonyms {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pseudonyms").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Pseudonyms {
    /// `None` when no attribute is named, or the key is too short.
    pub fn new(names: &[String], secret: &[u8]) -> Option<Self> {
        if names.is_empty() || secret.len() < MIN_SECRET {
            return None;
        }
        let mac = Hmac::new_from_slice(secret).ok()?;
        let orders = names.iter().any(|name| name == ORDER_ID);
        Some(Self { mac, names: names.iter().cloned().collect(), orders })
    }

    /// What stands for an order's key outside; `None`: the key itself.
    pub fn order(&self, key: Key<'_>) -> Option<String> {
        self.orders.then(|| self.hash(key.namespace, key.value))
    }

    /// A short text that is the same for all agents with the same key and names.
    pub fn fingerprint(&self) -> String {
        let mut names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        names.sort_unstable();
        self.hash("spoor.fingerprint", &names.join(","))
    }

    fn hash(&self, namespace: &str, value: &str) -> String {
        let mut mac = self.mac.clone();
        mac.update(namespace.as_bytes());
        mac.update(&[0]);
        mac.update(value.as_bytes());
        hex_text(mac.finalize().into_bytes().get(..16).unwrap_or_default())
    }

    /// Replaces what is to be replaced; `keys` are those that the operation names, and its tree's order.
    pub fn apply(&self, outgoing: &mut impl Outgoing, keys: &[Key<'_>]) {
        let keys = if self.orders { keys } else { &[] };
        let mut known: Vec<Known> =
            keys.iter().map(|key| Known::new(key.value, self.hash(key.namespace, key.value))).collect();
        outgoing.attributes(&mut |attributes| {
            attributes.change(|name, value| {
                let key = keys.iter().zip(&known).find(|(key, _)| self.is_key(name, value, key));
                if let Some((_, known)) = key {
                    return Some(Value::from(known.hashed.clone()));
                }
                if !self.names.contains(name) {
                    return None;
                }
                let mut replaced = |given: &str| {
                    let hashed = self.hash(name, given);
                    known.push(Known::new(given, hashed.clone()));
                    hashed
                };
                match value {
                    Value::Texts(all) => {
                        Some(Value::Texts(all.iter().map(|given| replaced(given)).collect()))
                    }
                    _ => text(value).map(|given| Value::from(replaced(&given))),
                }
            });
        });
        hide(outgoing, &known, |name| {
            self.names.contains(name) || (self.orders && holds(name) == Holds::Key)
        });
    }

    /// The attribute is this order's key, in its own namespace or another.
    fn is_key(&self, name: &str, value: &Value, key: &Key<'_>) -> bool {
        let is_named = name == ORDER_ID
            || name
                .strip_prefix("order.")
                .and_then(|rest| rest.strip_suffix(".id"))
                .is_some_and(|namespace| namespace == key.namespace);
        is_named && matches!(value, Value::Text(text) if text == key.value)
    }
}

/// A value that must not show, and what stands for it.
struct Known {
    /// In small letters of ASCII, where it is more than one word (`10.0.0.1`): it is looked for as a whole, too.
    phrase: Option<String>,
    /// In lower case, without hyphens.
    plain: String,
    is_number: bool,
    hashed: String,
}

impl Known {
    fn new(value: &str, hashed: String) -> Self {
        let plain: String = value.chars().filter(|c| *c != '-').flat_map(char::to_lowercase).collect();
        let is_number = !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_digit());
        let phrase = (!value.chars().all(is_word)).then(|| value.to_ascii_lowercase());
        Self { phrase, plain, is_number, hashed }
    }

    /// The text with what stands for the value wherever all of it stands by itself, as a part of no longer word or number.
    fn replaced_in(&self, text: &str) -> Option<String> {
        let phrase = self.phrase.as_deref().filter(|phrase| text.len() >= phrase.len())?;
        let small = text.to_ascii_lowercase();
        let mut out = String::new();
        let mut from = 0;
        for (at, _) in small.match_indices(phrase) {
            let joins = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            let before = text.get(..at).and_then(|before| before.chars().next_back());
            let after = text.get(at + phrase.len()..).and_then(|after| after.chars().next());
            if !joins(before) && !joins(after) {
                out.push_str(text.get(from..at).unwrap_or(""));
                out.push_str(&self.hashed);
                from = at + phrase.len();
            }
        }
        out.push_str(text.get(from..).unwrap_or(""));
        (from > 0).then_some(out)
    }

    /// It stands in a word of text. Digits beside a number make it another one, but for zeros before it.
    fn is_in(&self, word: &str) -> bool {
        let bytes = word.as_bytes();
        let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
        !self.plain.is_empty()
            && word.match_indices(&self.plain).any(|(at, _)| {
                let zeros = word.get(..at).unwrap_or("").trim_end_matches('0').len();
                !self.is_number || !(digit(zeros.checked_sub(1)) || digit(Some(at + self.plain.len())))
            })
    }
}

/// Where a known value stands in other text, in whatever form.
fn hide(outgoing: &mut impl Outgoing, known: &[Known], is_replaced: impl Fn(&str) -> bool) {
    let free = |how: Holds| {
        matches!(how, Holds::Path | Holds::Query | Holds::Url | Holds::Destination | Holds::Text)
    };
    let shown = |text: &str, free: bool| {
        let replaced = known.iter().fold(Cow::Borrowed(text), |text, known| match known.replaced_in(&text) {
            Some(new) => Cow::Owned(new),
            None => text,
        });
        words(&replaced, |word| hidden_word(word, known, free))
    };
    let name = outgoing.name();
    *name = shown(name, false);
    if let Some(description) = outgoing.description() {
        *description = shown(description, true);
    }
    outgoing.attributes(&mut |attributes| {
        attributes.change(|name, value| {
            let how = holds(name);
            if how == Holds::Nothing || is_replaced(name) {
                return None;
            }
            if how == Holds::Address {
                // The client behind no proxy is the peer: hashed under one name, it is not told under the other.
                let Value::Text(text) = value else { return None };
                let same =
                    known.iter().find(|known| known.phrase.as_deref() == Some(&*text.to_ascii_lowercase()));
                return same.map(|known| Value::from(known.hashed.clone()));
            }
            // Names of hosts, programs and the schema have digits of their own: only the value itself is taken out.
            let is_free = free(how) && !matches!(name, "server.address" | "rpc.method" | "db.namespace");
            let shown = |text: &str| shown(text, is_free && !name.starts_with("spoor."));
            match value {
                Value::Text(text) => {
                    let new = shown(text);
                    (new != *text).then(|| Value::from(new))
                }
                Value::Texts(texts) => {
                    let new: Vec<String> = texts.iter().map(|text| shown(text)).collect();
                    (new != *texts).then_some(Value::Texts(new))
                }
                Value::Int(number) => {
                    let plain = number.to_string();
                    known
                        .iter()
                        .find(|known| known.plain == plain)
                        .map(|known| Value::from(known.hashed.clone()))
                }
                Value::Float(_) | Value::Bool(_) => None,
            }
        });
    });
}

/// So many digits together may be the key of an order that the operation does not name by itself (`queue.declare order-470811`),
/// in names and texts that have fewer digits of their own.
const SHORTEST_KEY: usize = 4;

/// A character of a word: letters, digits, hyphens, underscores, what is percent-encoded.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '%')
}

/// What stands for a word; `None` leaves it. In free text any word with a digit may be a key in another form.
fn hidden_word(word: &str, known: &[Known], free: bool) -> Option<String> {
    let plain: String = word.chars().filter(|c| *c != '-').flat_map(char::to_lowercase).collect();
    if let Some(same) = known.iter().find(|known| known.plain == plain) {
        return Some(same.hashed.clone());
    }
    // What stands for a value has digits of its own.
    if known.iter().any(|known| known.hashed == word) {
        return None;
    }
    if known.iter().any(|known| known.is_in(&plain)) {
        return Some(REDACTED.to_owned());
    }
    let mut runs = word.split(|c: char| !c.is_ascii_digit());
    if runs.any(|run| run.len() >= SHORTEST_KEY) {
        return Some(REDACTED.to_owned());
    }
    let has_digit = word.bytes().any(|b| b.is_ascii_digit());
    // `v1`, `s3`, `utf8`: a short word and a digit or two.
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let version = letters.len() <= 3
        && !letters.is_empty()
        && letters.bytes().all(|b| b.is_ascii_alphabetic())
        && word.len() - letters.len() <= 2;
    (free && has_digit && !version).then(|| REDACTED.to_owned())
}

/// Text with its words replaced.
fn words(text: &str, mut replace: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let word_len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_len);
        let plain = percent::decode(word, false);
        let new = match &plain {
            _ if word.is_empty() => None,
            Some(plain) if plain == word => replace(word),
            // Encoded: its own words are looked at, and it goes as a whole.
            Some(plain) => plain
                .split(|c: char| !is_word(c))
                .any(|part| replace(part).is_some())
                .then(|| REDACTED.to_owned()),
            None => Some(REDACTED.to_owned()),
        };
        match new {
            Some(new) => out.push_str(&new),
            None => out.push_str(word),
        }
        let gap_len = after.find(is_word).unwrap_or(after.len());
        let (gap, after) = after.split_at(gap_len);
        out.push_str(gap);
        rest = after;
    }
    out
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.to_string()),
        Value::Int(number) => Some(number.to_string()),
        Value::Bool(_) | Value::Float(_) | Value::Texts(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Attributes;

    const SECRET: &[u8] = b"a key of sixteen bytes or more";

    fn pseudonyms(names: &[&str]) -> Pseudonyms {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Pseudonyms::new(&names, SECRET).unwrap()
    }

    fn order(value: &str) -> Key<'_> {
        Key { namespace: "order", value }
    }

    #[test]
    fn hash_is_the_published_one() {
        // printf 'order\0004711' | openssl dgst -sha256 -hmac 'a key of sixteen bytes or more'
        assert_eq!(
            pseudonyms(&["order.id"]).order(order("4711")).as_deref(),
            Some("e03964c08870660eb3846690bb49fdbe")
        );
    }

    #[test]
    fn short_keys_and_empty_lists_are_refused() {
        assert!(Pseudonyms::new(&["order.id".to_owned()], b"short").is_none());
        assert!(Pseudonyms::new(&[], SECRET).is_none());
    }

    #[test]
    fn orders_stay_when_only_others_are_hashed() {
        assert_eq!(pseudonyms(&["user.id"]).order(order("4711")), None);
    }

    #[test]
    fn keys_are_hidden_wherever_they_stand() {
        let known = [Known::new("4711", "HASH".to_owned()), Known::new("SO-17", "CRM".to_owned())];
        let hidden = |text: &str, free| words(text, |word| hidden_word(word, &known, free));
        assert_eq!(hidden("/api/v1/orders/4711/items", true), "/api/v1/orders/HASH/items");
        assert_eq!(hidden("/orders/04711?x=SO-17", true), "/orders/REDACTED?x=CRM");
        assert_eq!(hidden("orders:order.4711.created", true), "orders:order.HASH.created");
        assert_eq!(hidden("SELECT orders2 WHERE a = 4711", false), "SELECT orders2 WHERE a = HASH");
        assert_eq!(hidden("process orders:order.x4711", false), "process orders:order.REDACTED");
        assert_eq!(hidden("order-004711 471 147", false), "REDACTED 471 147");
        assert_eq!(hidden("a%2F4711%2fb v1", true), "REDACTED v1");
        assert_eq!(hidden("", true), "");
        assert_eq!(hidden("ü/4711/é", true), "ü/HASH/é");
    }

    struct One(String, Attributes);

    impl Outgoing for One {
        fn name(&mut self) -> &mut String {
            &mut self.0
        }

        fn description(&mut self) -> Option<&mut String> {
            None
        }

        fn attributes(&mut self, visit: &mut dyn FnMut(&mut Attributes)) {
            visit(&mut self.1);
        }
    }

    #[test]
    fn an_address_is_hidden_under_every_name_that_has_it() {
        let hashes = pseudonyms(&["client.address"]);
        for (address, written) in [("10.1.2.3", "10.1.2.3"), ("2001:db8::c0fe", "2001:DB8::C0FE")] {
            let hashed = hashes.hash("client.address", address);
            let mut one = One(format!("queue.declare {address}:5672"), Attributes::default());
            let forwarded = "http.request.header.x-forwarded-for";
            one.1.set_named("client.address", address);
            one.1.set_named("network.peer.address", address);
            one.1.set_named("network.peer.port", 5672_i64);
            one.1.set_named("server.address", "10.1.2.30");
            one.1.set_named("url.query", format!("ip={written}&page=x"));
            one.1.set_named(forwarded, Value::Texts(vec![format!("{written}, a.example")]));
            hashes.apply(&mut one, &[]);
            let text = |name: &str| one.1.get(name).cloned();
            assert_eq!(text("client.address"), Some(Value::from(hashed.as_str())));
            assert_eq!(text("network.peer.address"), Some(Value::from(hashed.as_str())));
            assert_eq!(text("network.peer.port"), Some(Value::Int(5672)));
            assert_eq!(text("url.query"), Some(Value::from(format!("ip={hashed}&page=x"))));
            assert_eq!(text(forwarded), Some(Value::Texts(vec![format!("{hashed}, a.example")])));
            assert_eq!(text("server.address"), Some(Value::from("10.1.2.30")));
            assert!(one.0.starts_with(&format!("queue.declare {hashed}:")), "{}", one.0);
        }
        // Another address is another client's proxy.
        let mut one = One(String::new(), Attributes::default());
        one.1.set_named("client.address", "10.1.2.3");
        one.1.set_named("network.peer.address", "10.1.2.4");
        hashes.apply(&mut one, &[]);
        assert_eq!(one.1.get("network.peer.address"), Some(&Value::from("10.1.2.4")));
    }

    #[test]
    fn words_of_the_conventions_stay_where_keys_are_hashed() {
        let mut attributes = Attributes::default();
        for (name, value) in [
            ("tls.protocol.name", "tls"),
            ("tls.protocol.version", "1.3"),
            ("tls.cipher", "TLS_CHACHA20_POLY1305_SHA256"),
            ("jsonrpc.protocol.version", "2.0"),
            ("graphql.operation.type", "query"),
        ] {
            attributes.set_named(name, value);
        }
        let mut one = One(String::new(), attributes.clone());
        pseudonyms(&["order.id"]).apply(&mut one, &[order("2")]);
        assert_eq!(one.1, attributes);
    }

    #[test]
    fn each_value_of_a_list_is_replaced() {
        let name = "http.request.header.x-user";
        let hashes = pseudonyms(&[name]);
        let mut one = One("GET".to_owned(), Attributes::default());
        one.1.set_named(name, Value::Texts(vec!["jane".to_owned(), "joe".to_owned()]));
        hashes.apply(&mut one, &[]);
        let expected = ["jane", "joe"].map(|value| hashes.hash(name, value)).to_vec();
        assert_eq!(one.1.get(name), Some(&Value::Texts(expected)));
    }

    #[test]
    fn debug_text_does_not_show_the_key() {
        assert!(!format!("{:?}", pseudonyms(&["order.id"])).contains("sixteen"));
    }
}
