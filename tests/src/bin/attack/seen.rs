//! Requests of spans → which of the victim's operations arrived, and how many spans show what must not be there.
//!
//! Counts and the text that is asked for are kept, not spans: an attack is many of them.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use spoor_tests::receiver::Take;

/// What arrived.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) spans: u64,
    /// Numbers of the victim's requests whose client span, and whose server span, came.
    pub(crate) clients: BTreeSet<u32>,
    pub(crate) servers: BTreeSet<u32>,
    /// Spans with the path that was watched for.
    pub(crate) watched: u64,
    /// Those of them that are in the trace that was named, and all that are in it.
    pub(crate) moved: u64,
    pub(crate) foreign: u64,
    /// All requests as text, where it is kept.
    pub(crate) text: String,
    watch: Watch,
}

/// What to look for beside the victim's work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    /// A path's beginning.
    pub(crate) path: Option<&'static str>,
    /// The trace in which these must not be.
    pub(crate) foreign: Option<[u8; 16]>,
    pub(crate) text: bool,
}

impl Take for Seen {
    fn take(&mut self, request: ExportTraceServiceRequest) {
        let watch = &self.watch;
        if watch.text {
            self.text.push_str(&format!("{request:?}\n"));
        }
        let groups = request.resource_spans.iter().flat_map(|group| &group.scope_spans);
        for span in groups.flat_map(|scope| &scope.spans) {
            self.spans += 1;
            let is_foreign = watch.foreign.is_some_and(|trace| span.trace_id == trace);
            self.foreign += u64::from(is_foreign);
            let Some(path) = path(span) else { continue };
            if watch.path.is_some_and(|watched| path.contains(watched)) {
                self.watched += 1;
                self.moved += u64::from(is_foreign);
            }
            let Some(number) = number(path) else { continue };
            match span.kind() {
                SpanKind::Client => self.clients.insert(number),
                SpanKind::Server => self.servers.insert(number),
                _ => false,
            };
        }
    }
}

impl Seen {
    /// Nothing yet.
    pub(crate) fn by(watch: Watch) -> Self {
        Self { watch, ..Self::default() }
    }

    /// Of so many requests of the victim, the spans that did not come; each request has two.
    pub(crate) fn missing(&self, asked: u32) -> u64 {
        let seen = self.clients.range(1..=asked).count() + self.servers.range(1..=asked).count();
        2 * u64::from(asked) - seen as u64
    }
}

/// A server's path or a client's whole URL.
fn path(span: &Span) -> Option<&str> {
    let of = |key: &str| span.attributes.iter().find(|attribute| attribute.key == key);
    let attribute = of("url.path").or_else(|| of("url.full"))?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The number of a request of the victim's.
fn number(path: &str) -> Option<u32> {
    let (_, rest) = path.split_once(crate::victim::PATH)?;
    rest.parse().ok()
}
