//! A person or an order → gone from the requests that wait for another back end.
//!
//! What was sent already is there, and has to be forgotten there. What comes later is passed on as it comes.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::spool::{Changed, Spool, SpoolError};
use crate::facts::{KEYS, Key, PEOPLE, forget_in, numbers};

/// Whom or what is forgotten.
#[derive(Clone, Copy, Debug)]
pub enum Whom<'a> {
    /// The number by which systems know a person.
    Person(&'a str),
    /// All numbers of an order, and the attributes of spans that name one.
    Order { numbers: &'a BTreeSet<Key>, attributes: &'a [String] },
}

/// Takes somebody out of all requests that wait, while no server runs; how many requests changed or left.
pub fn forget(spool: &Spool, whom: Whom<'_>) -> Result<u64, SpoolError> {
    spool.change_all(|request| match ExportTraceServiceRequest::decode(request) {
        Ok(request) => without(request, whom),
        // It would be refused anyhow.
        Err(_) => Changed::Gone,
    })
}

fn without(mut request: ExportTraceServiceRequest, whom: Whom<'_>) -> Changed {
    let mut changed = false;
    let scopes = request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans);
    for spans in scopes.map(|scope| &mut scope.spans) {
        match whom {
            Whom::Person(person) => {
                for span in spans {
                    changed |= leave(span, Leaving::Person(person));
                }
            }
            Whom::Order { numbers: gone, attributes } => {
                let before = spans.len();
                spans.retain(|span| !numbers(span, attributes).iter().any(|number| gone.contains(number)));
                changed |= spans.len() < before;
                // Those of others that do not name an order by an attribute may name it by a path.
                for span in spans {
                    for number in gone {
                        changed |= leave(span, Leaving::Order(&number.value, attributes));
                    }
                }
            }
        }
    }
    let mut scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    match scopes.all(|scope| scope.spans.is_empty()) {
        _ if !changed => Changed::Kept,
        true => Changed::Gone,
        false => Changed::To(request.encode_to_vec()),
    }
}

/// Whose number leaves a span.
#[derive(Clone, Copy)]
enum Leaving<'a> {
    Person(&'a str),
    /// And the attributes of spans that name an order.
    Order(&'a str, &'a [String]),
}

impl Leaving<'_> {
    fn number(&self) -> &str {
        match self {
            Leaving::Person(number) | Leaving::Order(number, _) => number,
        }
    }

    /// An attribute that is this number goes as a whole.
    fn is_named_by(&self, attribute: &str) -> bool {
        matches!(self, Leaving::Person(_)) && names_somebody(attribute)
    }

    /// An attribute is the number of somebody or something else, which may be the same by chance.
    fn leaves_alone(&self, attribute: &str) -> bool {
        match self {
            Leaving::Person(_) => false,
            Leaving::Order(_, attributes) => {
                attribute == KEYS
                    || names_somebody(attribute)
                    || attributes.iter().any(|name| name == attribute)
            }
        }
    }
}

fn names_somebody(attribute: &str) -> bool {
    PEOPLE.iter().any(|(name, _)| attribute == *name)
}

/// A number leaves a span; whether it was there.
fn leave(span: &mut Span, leaving: Leaving<'_>) -> bool {
    let mut changed = forget_in(&mut span.name, leaving.number());
    if let Some(status) = &mut span.status {
        changed |= forget_in(&mut status.message, leaving.number());
    }
    changed |= leave_attributes(&mut span.attributes, leaving);
    for event in &mut span.events {
        changed |= forget_in(&mut event.name, leaving.number());
        changed |= leave_attributes(&mut event.attributes, leaving);
    }
    for link in &mut span.links {
        changed |= leave_attributes(&mut link.attributes, leaving);
    }
    changed
}

fn leave_attributes(attributes: &mut Vec<KeyValue>, leaving: Leaving<'_>) -> bool {
    let before = attributes.len();
    attributes.retain(|pair| !(leaving.is_named_by(&pair.key) && is(pair.value.as_ref(), leaving.number())));
    let left = attributes.len() < before;
    let others = attributes.iter_mut().filter(|pair| !leaving.leaves_alone(&pair.key));
    let values = others.filter_map(|pair| pair.value.as_mut());
    // All of them: `any` would stop at the first.
    values.fold(left, |changed, value| changed | leave_value(value, leaving))
}

/// A value is the person's number.
fn is(value: Option<&AnyValue>, person: &str) -> bool {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text == person,
        Some(Value::IntValue(number)) => number.to_string() == person,
        _ => false,
    }
}

fn leave_value(value: &mut AnyValue, leaving: Leaving<'_>) -> bool {
    match &mut value.value {
        Some(Value::StringValue(text)) => forget_in(text, leaving.number()),
        // An integer is one word.
        Some(Value::IntValue(number)) => {
            let mut text = number.to_string();
            let changed = forget_in(&mut text, leaving.number());
            if changed {
                value.value = Some(Value::StringValue(text));
            }
            changed
        }
        Some(Value::ArrayValue(array)) => {
            array.values.iter_mut().fold(false, |changed, value| changed | leave_value(value, leaving))
        }
        Some(Value::KvlistValue(list)) => leave_attributes(&mut list.values, leaving),
        _ => false,
    }
}
