//! Operations with their place in a tree in, finished [`Span`]s out.
//!
//! *Owns* span names, kinds, statuses and attributes (OpenTelemetry semantic conventions, see [`semconv`]).
//! *Must not know* how spans travel, nor how their parents were found.

mod amqp;
pub mod build;
mod http;
mod postgres;
pub mod pseudonym;
pub mod redact;
mod rpc;
mod s3;
pub mod sample;
pub mod semconv;

use std::fmt;
use std::sync::Arc;

use compact_str::CompactString;

pub use self::postgres::query_text;
use crate::causality::{Confidence, Rule};

/// 16 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// 8 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

/// Lower-case hexadecimal digits, many at a time: the formatter would be asked for every single byte.
pub(crate) fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
    bytes.chunks(16).try_for_each(|bytes| {
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        let text = text.get(..2 * bytes.len()).unwrap_or_default();
        f.write_str(std::str::from_utf8(text).unwrap_or_default())
    })
}

/// OpenTelemetry's span kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// OpenTelemetry's span status. `Error` may carry a description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    #[default]
    Unset,
    Error(String),
}

/// An attribute value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(CompactString),
    Int(i64),
    Float(f64),
    Bool(bool),
    Texts(Vec<String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text.into())
    }
}

impl From<CompactString> for Value {
    fn from(text: CompactString) -> Self {
        Value::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}

/// Attributes in the order they were added; keys are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<(&'static str, Value)>, Vec<(String, Value)>);

impl Attributes {
    /// Room for so many conventional attributes.
    pub fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count), Vec::new())
    }

    /// Sets a conventional attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some(slot) => slot.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// Sets an attribute whose name comes from the configuration.
    pub fn set_named(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.1.iter_mut().find(|(k, _)| k == key) {
            Some(slot) => slot.1 = value,
            None => self.1.push((key.to_owned(), value)),
        }
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        let fixed = self.0.iter().map(|(key, value)| (*key, value));
        fixed.chain(self.1.iter().map(|(key, value)| (key.as_str(), value)))
    }
}

/// Who a span belongs to: becomes one OTLP resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resource {
    /// `service.name`.
    pub service: String,
    pub service_namespace: Option<String>,
    /// `service.instance.id`.
    pub instance: String,
    pub pid: Option<u32>,
    pub exe: Option<String>,
    pub container_id: Option<String>,
    /// Further resource attributes the shell found: Kubernetes, the process' own declaration.
    pub attributes: Vec<(String, String)>,
}

/// A reference to another span.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub attributes: Attributes,
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    pub name: &'static str,
    pub unix_ns: u64,
    pub attributes: Attributes,
}

/// Why a span has its parent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    pub rule: Rule,
    pub confidence: Confidence,
}

/// A finished span with its identifiers.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent: Option<SpanId>,
    /// `None` for roots. Also exported as `spoor.parent.rule` and `spoor.parent.confidence`.
    pub evidence: Option<Evidence>,
    pub name: String,
    pub kind: SpanKind,
    pub start_unix_ns: u64,
    pub end_unix_ns: u64,
    pub status: Status,
    pub attributes: Attributes,
    pub links: Vec<Link>,
    pub events: Vec<SpanEvent>,
    pub resource: Arc<Resource>,
    /// It is exported. What is not is still part of the durations that metrics show.
    pub sampled: bool,
}
