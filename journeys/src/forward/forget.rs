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
use crate::facts::{Key, PEOPLE, forget_in, numbers};

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
                    changed |= leave(span, person);
                }
            }
            Whom::Order { numbers: gone, attributes } => {
                let before = spans.len();
                spans.retain(|span| !numbers(span, attributes).iter().any(|number| gone.contains(number)));
                changed |= spans.len() < before;
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

/// A person leaves a span; whether they were there.
fn leave(span: &mut Span, person: &str) -> bool {
    let mut changed = forget_in(&mut span.name, person);
    if let Some(status) = &mut span.status {
        changed |= forget_in(&mut status.message, person);
    }
    changed |= leave_attributes(&mut span.attributes, person);
    for event in &mut span.events {
        changed |= forget_in(&mut event.name, person) | leave_attributes(&mut event.attributes, person);
    }
    for link in &mut span.links {
        changed |= leave_attributes(&mut link.attributes, person);
    }
    changed
}

fn leave_attributes(attributes: &mut Vec<KeyValue>, person: &str) -> bool {
    let before = attributes.len();
    attributes.retain(|pair| {
        let names_somebody = PEOPLE.iter().any(|(name, _)| pair.key == *name);
        !(names_somebody && is(pair.value.as_ref(), person))
    });
    let left = attributes.len() < before;
    let values = attributes.iter_mut().filter_map(|pair| pair.value.as_mut());
    // All of them: `any` would stop at the first.
    values.fold(left, |changed, value| changed | leave_value(value, person))
}

/// A value is the person's number.
fn is(value: Option<&AnyValue>, person: &str) -> bool {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text == person,
        Some(Value::IntValue(number)) => number.to_string() == person,
        _ => false,
    }
}

fn leave_value(value: &mut AnyValue, person: &str) -> bool {
    match &mut value.value {
        Some(Value::StringValue(text)) => forget_in(text, person),
        Some(Value::ArrayValue(array)) => {
            array.values.iter_mut().fold(false, |changed, value| changed | leave_value(value, person))
        }
        Some(Value::KvlistValue(list)) => leave_attributes(&mut list.values, person),
        _ => false,
    }
}
