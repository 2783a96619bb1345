//! Values found at named places → a [`Found`] without duplicates and contradictions.
//!
//! *Owns* which rules hold for an operation, and what several values mean. *Must not know* how places are read.

use super::call;
use super::compile::{RuleId, Rules, Target};
use super::document::{At, Sink, Weak, is_at, last_name};
use super::explain::{Notes, Place};
use super::names::{Buffer, normal};
use super::path::Path;
use super::rules::Part;
use super::{Call, Found, OrderKey, alias_attribute, json, xml, xmlrpc};
use crate::operation::Detail;
use crate::operation::amqp::ActionKind;
use crate::trace::Value;

/// Different identity keys listed; more name nothing anyway.
const MAX_KEYS: usize = 8;
/// Different attribute values remembered.
const MAX_VALUES: usize = 64;

/// Gathers what one operation offers.
pub(super) struct Collector<'r> {
    rules: &'r Rules,
    /// Whether each rule's conditions hold, apart from the part.
    active: Vec<bool>,
    part: Part,
    keys: Vec<(u16, OrderKey)>,
    too_many: bool,
    values: Vec<(RuleId, Part, Value)>,
    /// Of an HTTP exchange.
    status: Option<u16>,
    is_http: bool,
    /// What the request calls.
    pub(super) call: Option<Call>,
    /// Where what is offered now stands; for the notes.
    pub(super) place: Place,
    /// What was taken and what was shown, where somebody asks.
    pub(super) notes: Option<Box<Notes>>,
    /// Bytes that content codings were undone to.
    pub(super) decoded_len: usize,
}

impl<'r> Collector<'r> {
    /// `path` is that of an HTTP request.
    pub(super) fn new(rules: &'r Rules, detail: &Detail, path: Option<&Path<'_>>) -> Self {
        let http = if let Detail::Http(exchange) = detail { Some(exchange) } else { None };
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
        let status = http.and_then(|exchange| exchange.status);
        let has_status = |statuses: &[std::ops::RangeInclusive<u16>]| {
            status.is_some_and(|status| statuses.iter().any(|range| range.contains(&status)))
        };
        let active = rules.rules.iter().map(|rule| {
            let method = rule.method.as_deref();
            method.is_none_or(|method| {
                http.is_some_and(|exchange| exchange.method.eq_ignore_ascii_case(method))
            }) && rule.path.as_ref().is_none_or(|template| path.is_some_and(|path| template.fits(path)))
                && (rule.statuses.is_empty() || has_status(&rule.statuses))
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
            status,
            is_http: http.is_some(),
            call: None,
            place: Place::Path,
            notes: None,
            decoded_len: 0,
        }
    }

    /// What is offered from now on comes from this half of the operation.
    pub(super) fn part(&mut self, part: Part) {
        self.part = part;
    }

    pub(super) fn holds(&self, rule: RuleId) -> bool {
        let at = usize::from(rule);
        let calls =
            |wanted: &str| self.call.as_ref().and_then(Call::name).is_some_and(|name| glob(wanted, name));
        self.active.get(at).copied().unwrap_or(false)
            && self.rules.rules.get(at).is_some_and(|rule| {
                rule.part.is_none_or(|part| part == self.part) && rule.call.as_deref().is_none_or(calls)
            })
    }

    /// Something has named a key.
    pub(super) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// A response that is no success says nothing by a weak name, unless the rule knows better.
    fn is_denied(&self, rule: RuleId, weak: Weak) -> bool {
        let success = self.status.is_none_or(|status| (200..300).contains(&status));
        let names_status =
            || self.rules.rules.get(usize::from(rule)).is_some_and(|rule| !rule.statuses.is_empty());
        weak != Weak::No && self.part == Part::Response && !success && !names_status()
    }

    /// A value at a place that `rule` names. Returns whether it is one of the rule's type.
    pub(super) fn offer(&mut self, rule: RuleId, found: &str) -> bool {
        let Some(compiled) = self.rules.rules.get(usize::from(rule)).filter(|_| self.holds(rule)) else {
            return false;
        };
        match &compiled.target {
            Target::Key { namespace, rank } => {
                let Some(value) = compiled.kind.key(found) else { return false };
                if let Some(notes) = &mut self.notes {
                    notes.take(rule, self.place, &value);
                }
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
                if let Some(notes) = &mut self.notes {
                    notes.take(rule, self.place, &value);
                }
                self.remember(rule, Value::from(&*value));
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

    /// Scans a JSON document for named fields and paths. `problem`: it tells what went wrong (RFC 9457).
    pub(super) fn json(&mut self, body: &[u8], whole: bool, problem: bool) {
        if let Some(notes) = &mut self.notes {
            json::scan(body, whole, &mut **notes);
        }
        let rules = self.rules;
        let answers = self.part == Part::Response && matches!(self.call, Some(Call::JsonRpc { .. }));
        let is_worth = || {
            answers
                || rules.stems.as_ref().is_none_or(|stems| stems.is_match(body))
                || (rules.wide_fields && (!body.is_ascii() || memchr::memmem::find(body, b"\\u").is_some()))
        };
        if !is_worth() {
            return;
        }
        let mut sink = Sink::new(rules, self.is_http);
        if json::scan(body, whole, &mut sink) == json::Outcome::Several {
            return;
        }
        let members = std::mem::take(&mut sink.members);
        match (self.part, &mut self.call) {
            (Part::Request, call @ None) if self.is_http => *call = members.call(),
            (Part::Response, Some(Call::JsonRpc { error, .. })) => {
                *error = members.error().map(str::to_owned)
            }
            _ => {}
        }
        if matches!(self.call, Some(Call::JsonRpc { .. })) {
            sink.mark_as_call();
        }
        self.take(sink, problem);
    }

    /// Scans an XML document, which may be XML-RPC or SOAP.
    pub(super) fn xml(&mut self, text: &str, whole: bool, action: Option<&str>) {
        let mut sink = Sink::new(self.rules, self.is_http);
        let is_rpc = xmlrpc::is_message(text);
        if let Some(notes) = &mut self.notes {
            if is_rpc {
                xmlrpc::scan(text, &mut **notes).method
            } else {
                xml::scan(text, whole, &mut **notes).soap
            };
        }
        if is_rpc {
            let learned = xmlrpc::scan(text, &mut sink);
            let method = learned.method.as_deref().and_then(call::method_name);
            match (self.part, method, &mut self.call) {
                (Part::Request, Some(method), call @ None) if self.is_http => {
                    *call = Some(Call::XmlRpc { method, fault: None });
                }
                (Part::Response, _, Some(Call::XmlRpc { fault, .. })) => {
                    *fault = learned.fault.filter(|code| call::is_error_code(code));
                }
                _ => {}
            }
        } else {
            let learned = xml::scan(text, whole, &mut sink);
            let is_fault = learned.soap.as_deref() == Some("Fault");
            match (self.part, &mut self.call) {
                (Part::Request, call @ None)
                    if self.is_http && (learned.soap.is_some() || action.is_some()) =>
                {
                    *call = call::soap(action, learned.soap.as_deref());
                }
                (Part::Response, Some(Call::Soap { failed, .. })) => *failed = is_fault,
                _ => {}
            }
        }
        self.take(sink, false);
    }

    fn take(&mut self, mut sink: Sink<'_>, problem: bool) {
        sink.finish();
        self.too_many |= sink.overflow;
        for offer in &sink.offers {
            if !(self.is_denied(offer.rule, offer.weak) || (problem && offer.weak != Weak::No)) {
                self.offer(offer.rule, &offer.value);
            }
        }
    }

    /// A value under a name, whether a rule names it or not.
    pub(super) fn show(&mut self, name: &str, kind: &str, value: &str) {
        if let Some(notes) = &mut self.notes {
            notes.show(kind, name, value);
        }
    }

    /// A field of a form, by its plain or nested name.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        self.show(name, "field", value);
        let rules = self.rules;
        self.offer_all(rules.fields.find_field(name.as_bytes()), value);
        if let Some(path) = super::form::nested(name) {
            let path: Vec<At<'_>> = path.into_iter().map(|step| At::Name(step.as_bytes().into())).collect();
            let mut buffer = Buffer::new();
            let last = last_name(&path).and_then(|last| normal(last, &mut buffer));
            let candidates = last.and_then(|last| rules.json_paths.get(last)).map_or(&[][..], Vec::as_slice);
            for (_, rule) in candidates.iter().filter(|(steps, _)| is_at(steps, &path)) {
                self.offer(*rule, value);
            }
        }
    }

    pub(super) fn finish(&mut self) -> Found {
        self.keys.sort_by_key(|(rank, _)| *rank);
        let mut found = Found {
            keys: std::mem::take(&mut self.keys).into_iter().map(|(_, key)| key).collect(),
            too_many: self.too_many,
            call: self.call.take().map(Box::new),
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
