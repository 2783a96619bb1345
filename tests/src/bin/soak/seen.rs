//! Requests of spans → a count of distinct ones.
//!
//! An identifier is kept of each span, not the span, so that a long run does not fill the memory.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use spoor_tests::receiver::Take;

/// Duplicates that are told by name.
const SHOWN: usize = 10;

/// What arrived since the start, over all outages.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The request each span came with.
    spans: HashMap<([u8; 16], [u8; 8]), u64>,
    pub(crate) requests: u64,
    /// Spans that had come before.
    pub(crate) duplicates: u64,
    /// Some of these.
    pub(crate) examples: Vec<String>,
    /// Spans whose identifiers are not 16 and 8 bytes long.
    pub(crate) malformed: u64,
}

impl Seen {
    /// Distinct spans.
    pub(crate) fn distinct(&self) -> u64 {
        self.spans.len() as u64
    }
}

impl Take for Seen {
    fn take(&mut self, request: ExportTraceServiceRequest) {
        self.requests += 1;
        let groups = request.resource_spans.into_iter().flat_map(|group| group.scope_spans);
        for span in groups.flat_map(|scope| scope.spans) {
            let (Ok(trace), Ok(id)) =
                (<[u8; 16]>::try_from(span.trace_id), <[u8; 8]>::try_from(span.span_id))
            else {
                self.malformed += 1;
                continue;
            };
            if let Some(first) = self.spans.insert((trace, id), self.requests) {
                self.duplicates += 1;
                if self.examples.len() < SHOWN {
                    let id = u64::from_be_bytes(id);
                    let observed = span.attributes.iter().any(|field| field.key == "spoor.observed_from");
                    let whose = if observed { ", as the server saw it" } else { "" };
                    self.examples.push(format!(
                        "{}{whose} ({id:016x}) in request {first} and again in {}",
                        span.name, self.requests
                    ));
                }
            }
        }
    }
}
