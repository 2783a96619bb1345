//! Keys that are not to leave as they are in, keyed hashes in their place out.
//!
//! *Owns* which attributes are replaced and what else of a span could show the same value. Joins are made before, with the
//! values themselves; trace identifiers are derived from the hash, so that nobody without the key finds an order by its
//! trace. All agents of a deployment need the same key. *Must not know* where the key is kept.
//! *Spec*: HMAC (RFC 2104) with SHA-256 over namespace, a zero byte and the canonical value; the first 16 bytes are shown,
//! as 32 hexadecimal digits.

use std::collections::HashSet;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::order::{OrderKey, alias_attribute};
use crate::span::{Span, Status, semconv};
use crate::trace::Value;

/// What stands for text that may hold a hashed key in another form.
const REDACTED: &str = "REDACTED";

/// The shortest key: with fewer bytes, hashes of order numbers are soon guessed.
pub const MIN_SECRET: usize = 16;

/// Attributes of free text from traffic, in which a key may stand.
const FREE_TEXT: [&str; 11] = [
    semconv::URL_PATH,
    semconv::URL_FULL,
    semconv::URL_QUERY,
    semconv::MESSAGING_DESTINATION_NAME,
    semconv::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY,
    semconv::SPOOR_MESSAGING_DEATH_QUEUE,
    semconv::MESSAGING_MESSAGE_ID,
    semconv::MESSAGING_MESSAGE_CONVERSATION_ID,
    semconv::AWS_S3_KEY,
    semconv::AWS_S3_COPY_SOURCE,
    semconv::USER_AGENT_ORIGINAL,
];

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
        let orders = names.iter().any(|name| name == semconv::ORDER_ID);
        Some(Self { mac, names: names.iter().cloned().collect(), orders })
    }

    /// The key under which an order is known outside: `order` itself when orders are not hashed.
    pub fn order(&self, order: &OrderKey) -> OrderKey {
        if !self.orders {
            return order.clone();
        }
        OrderKey {
            namespace: Arc::clone(&order.namespace),
            value: self.hash(&order.namespace, &order.value).into(),
        }
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
        mac.finalize().into_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Replaces what is to be replaced in a span; `keys` are those that its operation names, and its tree's order.
    pub fn apply(&self, span: &mut Span, keys: &[OrderKey]) {
        let aliases: Vec<(String, &OrderKey)> =
            keys.iter().map(|key| (alias_attribute(&key.namespace), key)).collect();
        let replaced: Vec<(String, String)> = span
            .attributes
            .iter()
            .filter_map(|(name, value)| {
                let key = match name {
                    semconv::ORDER_ID if self.orders => keys.iter().find(|key| is_text(value, &key.value)),
                    _ if self.orders => aliases.iter().find(|(alias, _)| alias == name).map(|(_, key)| *key),
                    _ => None,
                };
                let hashed = match key {
                    Some(key) => self.hash(&key.namespace, &key.value),
                    None if self.names.contains(name) => self.hash(name, &text(value)?),
                    None => return None,
                };
                Some((name.to_owned(), hashed))
            })
            .collect();
        for (name, hashed) in replaced {
            span.attributes.replace(&name, Value::from(hashed));
        }
        if self.orders {
            self.hide(span, keys);
        }
    }

    /// Where an order's number stands in other text, in whatever form.
    fn hide(&self, span: &mut Span, keys: &[OrderKey]) {
        let known: Vec<(String, String)> = keys
            .iter()
            .map(|key| (key.value.to_ascii_lowercase(), self.hash(&key.namespace, &key.value)))
            .collect();
        let hidden: Vec<(String, Value)> = span
            .attributes
            .iter()
            .filter_map(|(name, value)| {
                let Value::Text(given) = value else { return None };
                if self.names.contains(name) || name.starts_with("order.") && name.ends_with(".id") {
                    return None;
                }
                let free = FREE_TEXT.contains(&name);
                let new = words(given, |word| hidden_word(word, &known, free));
                (new != *given).then(|| (name.to_owned(), Value::from(new)))
            })
            .collect();
        for (name, value) in hidden {
            span.attributes.replace(&name, value);
        }
        span.name = words(&span.name, |word| hidden_word(word, &known, false));
        if let Status::Error(description) = &mut span.status {
            *description = words(description, |word| hidden_word(word, &known, true));
        }
    }
}

/// What stands for a word; `None` leaves it. In free text any word with a digit may be a key in another form.
fn hidden_word(word: &str, known: &[(String, String)], free: bool) -> Option<String> {
    let plain = word.to_ascii_lowercase();
    if let Some((_, hashed)) = known.iter().find(|(value, _)| *value == plain) {
        return Some(hashed.clone());
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

/// Text with its words (letters, digits, hyphens, underscores) replaced.
fn words(text: &str, mut replace: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    while !rest.is_empty() {
        let word_len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_len);
        match replace(word).filter(|_| !word.is_empty()) {
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

fn is_text(value: &Value, wanted: &str) -> bool {
    matches!(value, Value::Text(text) if text == wanted)
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

    const SECRET: &[u8] = b"a key of sixteen bytes or more";

    fn pseudonyms(names: &[&str]) -> Pseudonyms {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Pseudonyms::new(&names, SECRET).unwrap()
    }

    fn order(value: &str) -> OrderKey {
        OrderKey { namespace: "order".into(), value: value.into() }
    }

    #[test]
    fn hash_is_the_published_one() {
        // printf 'order\0004711' | openssl dgst -sha256 -hmac 'a key of sixteen bytes or more'
        assert_eq!(
            &*pseudonyms(&["order.id"]).order(&order("4711")).value,
            "e03964c08870660eb3846690bb49fdbe"
        );
    }

    #[test]
    fn short_keys_and_empty_lists_are_refused() {
        assert!(Pseudonyms::new(&["order.id".to_owned()], b"short").is_none());
        assert!(Pseudonyms::new(&[], SECRET).is_none());
    }

    #[test]
    fn orders_stay_when_only_others_are_hashed() {
        assert_eq!(pseudonyms(&["user.id"]).order(&order("4711")), order("4711"));
    }

    #[test]
    fn keys_are_hidden_wherever_they_stand() {
        let known = [("4711".to_owned(), "HASH".to_owned()), ("so-17".to_owned(), "CRM".to_owned())];
        let hidden = |text: &str, free| words(text, |word| hidden_word(word, &known, free));
        assert_eq!(hidden("/api/v1/orders/4711/items", true), "/api/v1/orders/HASH/items");
        assert_eq!(hidden("/orders/04711?x=SO-17", true), "/orders/REDACTED?x=CRM");
        assert_eq!(hidden("orders:order.4711.created", true), "orders:order.HASH.created");
        assert_eq!(hidden("SELECT orders2 WHERE a = 4711", false), "SELECT orders2 WHERE a = HASH");
        assert_eq!(hidden("", true), "");
        assert_eq!(hidden("ü/4711/é", true), "ü/HASH/é");
    }

    #[test]
    fn debug_text_does_not_show_the_key() {
        assert!(!format!("{:?}", pseudonyms(&["order.id"])).contains("sixteen"));
    }
}
