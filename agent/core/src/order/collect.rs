//! Values found at named places → a [`Found`] without duplicates and contradictions.
//!
//! *Owns* which rules hold for an operation, and what several values mean. *Must not know* how places are read.

use super::compile::{RuleId, Rules, Target};
use super::path::Path;
use super::rules::Part;
use super::{Found, OrderKey, alias_attribute, json};
use crate::operation::Detail;
use crate::operation::amqp::ActionKind;
use crate::trace::Value;

/// Different identity keys listed; more name nothing anyway.
const MAX_KEYS: usize = 8;
/// Different attribute values remembered.
const MAX_VALUES: usize = 64;
/// Values one JSON document may offer.
const MAX_OFFERS: usize = 256;

/// Gathers what one operation offers.
pub(super) struct Collector<'r> {
    rules: &'r Rules,
    /// Whether each rule's conditions hold, apart from the part.
    active: Vec<bool>,
    part: Part,
    keys: Vec<(u16, OrderKey)>,
    too_many: bool,
    values: Vec<(RuleId, Part, Value)>,
    /// Bytes that content codings were undone to.
    pub(super) decoded_len: usize,
}

impl<'r> Collector<'r> {
    pub(super) fn new(rules: &'r Rules, detail: &Detail) -> Self {
        let http = if let Detail::Http(exchange) = detail { Some(exchange) } else { None };
        let path = http.map(|exchange| Path::new(exchange.path()));
        let destinations: [&str; 3] = match detail {
            Detail::Amqp(action) => match &action.kind {
                ActionKind::Publish(publish) | ActionKind::Return(publish) => {
                    [&publish.exchange, &publish.routing_key, ""]
                }
                ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => {
                    [&deliver.exchange, &deliver.routing_key, deliver.queue.as_deref().unwrap_or("")]
                }
                _ => [""; 3],
            },
            _ => [""; 3],
        };
        let active = rules.rules.iter().map(|rule| {
            let method = rule.method.as_deref();
            method.is_none_or(|method| {
                http.is_some_and(|exchange| exchange.method.eq_ignore_ascii_case(method))
            }) && rule
                .path
                .as_ref()
                .is_none_or(|template| path.as_ref().is_some_and(|path| template.fits(path)))
                && rule.destination.as_deref().is_none_or(|pattern| {
                    destinations.iter().any(|name| !name.is_empty() && glob(pattern, name))
                })
        });
        let active = active.collect();
        Self {
            rules,
            active,
            part: Part::Request,
            keys: Vec::new(),
            too_many: false,
            values: Vec::new(),
            decoded_len: 0,
        }
    }

    /// What is offered from now on comes from this half of the operation.
    pub(super) fn part(&mut self, part: Part) {
        self.part = part;
    }

    pub(super) fn holds(&self, rule: RuleId) -> bool {
        let at = usize::from(rule);
        self.active.get(at).copied().unwrap_or(false)
            && self.rules.rules.get(at).is_some_and(|rule| rule.part.is_none_or(|part| part == self.part))
    }

    /// A value at a place that `rule` names. Returns whether it is one of the rule's type.
    pub(super) fn offer(&mut self, rule: RuleId, found: &str) -> bool {
        let Some(compiled) = self.rules.rules.get(usize::from(rule)).filter(|_| self.holds(rule)) else {
            return false;
        };
        match &compiled.target {
            Target::Key { namespace, rank } => {
                let Some(value) = compiled.kind.key(found) else { return false };
                let known = self.keys.iter().any(|(r, key)| r == rank && *key.value == *value);
                if !known {
                    if self.keys.len() == MAX_KEYS {
                        self.too_many = true;
                        return true;
                    }
                    self.keys.push((*rank, OrderKey { namespace: namespace.clone(), value: value.into() }));
                }
                true
            }
            Target::Alias(_) => {
                let Some(value) = compiled.kind.key(found) else { return false };
                self.remember(rule, Value::from(value));
                true
            }
            Target::Attribute(_) => {
                let Some(value) = compiled.kind.attribute(found) else { return false };
                self.remember(rule, value);
                true
            }
        }
    }

    pub(super) fn offer_all(&mut self, rules: &[RuleId], found: &str) {
        rules.iter().for_each(|rule| {
            self.offer(*rule, found);
        });
    }

    fn remember(&mut self, rule: RuleId, value: Value) {
        let entry = (rule, self.part, value);
        if self.values.len() < MAX_VALUES && !self.values.contains(&entry) {
            self.values.push(entry);
        }
    }

    /// Scans a JSON document for named fields and paths.
    pub(super) fn json(&mut self, body: &[u8], whole: bool) {
        let rules = self.rules;
        if rules.stems.as_ref().is_none_or(|stems| !stems.is_match(body)) {
            return;
        }
        let mut sink = JsonSink { rules, offers: Vec::new(), in_array: Vec::new(), overflow: false };
        let outcome = json::scan(body, whole, &mut sink);
        if outcome == json::Outcome::Several {
            return;
        }
        self.too_many |= sink.overflow;
        for (rule, value) in &sink.offers {
            self.offer(*rule, value);
        }
    }

    /// A field of a form, by its plain or nested name.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        let rules = self.rules;
        self.offer_all(rules.fields.find(name.as_bytes()), value);
        if let Some(path) = super::form::nested(name) {
            let path: Vec<&[u8]> = path.iter().map(|step| step.as_bytes()).collect();
            for rule in by_path(rules, &path) {
                self.offer(rule, value);
            }
        }
    }

    pub(super) fn finish(&mut self) -> Found {
        self.keys.sort_by_key(|(rank, _)| *rank);
        let mut found = Found {
            keys: std::mem::take(&mut self.keys).into_iter().map(|(_, key)| key).collect(),
            too_many: self.too_many,
            ..Found::default()
        };
        let has_order = found.order().is_some();
        // Keys of further namespaces, if there is only one of each.
        let main = found.keys.first().map(|key| key.namespace.clone());
        for key in found.keys.iter().filter(|key| Some(&key.namespace) != main.as_ref() && has_order) {
            if found.keys.iter().filter(|other| other.namespace == key.namespace).count() == 1 {
                found.attributes.push((alias_attribute(&key.namespace), Value::from(&*key.value)));
            }
        }
        let usable = |rule: RuleId| {
            let rule = self.rules.rules.get(usize::from(rule));
            rule.filter(|rule| has_order || !rule.needs_order).map(|rule| &rule.target)
        };
        let name = |rule: RuleId| match usable(rule)? {
            Target::Alias(name) | Target::Attribute(name) => Some(name),
            Target::Key { .. } => None,
        };
        for (rule, _, _) in &self.values {
            let Some(wanted) = name(*rule) else { continue };
            if found.attributes.iter().any(|(known, _)| known == wanted) {
                continue;
            }
            // What the response says is newer; several different values of one half say nothing.
            let same = self.values.iter().filter(|(rule, _, _)| name(*rule) == Some(wanted));
            let Some(part) = same.clone().map(|(_, part, _)| *part).max() else { continue };
            let mut latest = same.filter(|(_, p, _)| *p == part).map(|(_, _, value)| value);
            if let Some(value) = latest.next()
                && latest.all(|other| other == value)
            {
                found.attributes.push((wanted.clone(), value.clone()));
            }
        }
        found
    }
}

/// `*` stands for any characters.
fn glob(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return name.ends_with(piece);
        }
        let Some(at) = name.find(piece) else { return false };
        name = name.get(at + piece.len()..).unwrap_or("");
    }
    true
}

/// The rules whose JSON path ends in exactly this path.
fn by_path<'a>(rules: &'a Rules, path: &'a [&'a [u8]]) -> impl Iterator<Item = RuleId> + 'a {
    let mut buffer = [0; 64];
    let last = path.last().and_then(|last| super::compile::normal(last, &mut buffer));
    let candidates = last.and_then(|last| rules.json_paths.get(last)).map_or(&[][..], Vec::as_slice);
    let fits = move |steps: &[Box<[u8]>]| {
        steps.len() == path.len()
            && steps.iter().zip(path).all(|(step, name)| {
                let mut buffer = [0; 64];
                super::compile::normal(name, &mut buffer) == Some(step)
            })
    };
    candidates.iter().filter(move |(steps, _)| fits(steps)).map(|(_, id)| *id)
}

struct JsonSink<'r> {
    rules: &'r Rules,
    offers: Vec<(RuleId, String)>,
    /// Inside an open array: the only value so far of each rule, `None` after a second one.
    in_array: Vec<(RuleId, Option<String>)>,
    overflow: bool,
}

impl JsonSink<'_> {
    fn accept(&mut self, rule: RuleId, value: &str) {
        if self.offers.len() == MAX_OFFERS {
            self.overflow = true;
        } else if !self.offers.iter().any(|(r, v)| *r == rule && v == value) {
            self.offers.push((rule, value.to_owned()));
        }
    }

    fn hold(&mut self, rule: RuleId, value: &str) {
        match self.in_array.iter_mut().find(|(r, _)| *r == rule) {
            Some((_, only)) if only.as_deref() == Some(value) => {}
            Some((_, only)) => *only = None,
            None => self.in_array.push((rule, Some(value.to_owned()))),
        }
    }
}

impl json::Visitor for JsonSink<'_> {
    fn scalar(&mut self, path: &[&[u8]], value: &str, in_array: bool) {
        let Some(name) = path.last() else { return };
        let rules = self.rules;
        for rule in rules.fields.find(name) {
            if in_array { self.hold(*rule, value) } else { self.accept(*rule, value) }
        }
        if !in_array {
            for rule in by_path(rules, path) {
                self.accept(rule, value);
            }
        }
    }

    fn array(&mut self) {
        for (rule, only) in std::mem::take(&mut self.in_array) {
            if let Some(value) = only {
                self.accept(rule, &value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs() {
        for (pattern, name, fits) in [
            ("orders", "orders", true),
            ("orders", "orders.new", false),
            ("orders.*", "orders.new", true),
            ("*.orders", "mes.orders", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, name), fits, "{pattern} {name}");
        }
    }
}
