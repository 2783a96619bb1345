//! Finished spans → one OTLP/JSON `ExportTraceServiceRequest` per line.
//!
//! The format of the Collector's file exporter, read back by its `otlpjsonfile` receiver.
//! *Spec*: opentelemetry-proto v1.11 `docs/specification.md`, "JSON Protobuf Encoding".

use std::io::{self, Write};

use super::Host;
use super::otlp::encode;
use spoor_core::span::Span;

/// Spans of one line.
const MAX_SPANS: usize = 512;

/// Collects spans and writes them line by line.
#[derive(Debug)]
pub struct JsonLines<W> {
    out: W,
    host: Host,
    spans: Vec<Span>,
}

impl<W: Write> JsonLines<W> {
    pub fn new(out: W, host: Host) -> Self {
        Self { out, host, spans: Vec::new() }
    }

    /// Adds a span. It is written at the latest by the next [`Self::flush`].
    pub fn push(&mut self, span: Span) -> io::Result<()> {
        self.spans.push(span);
        if self.spans.len() >= MAX_SPANS { self.line() } else { Ok(()) }
    }

    /// Writes what was collected.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.spans.is_empty() {
            self.line()?;
        }
        self.out.flush()
    }

    /// Writes what was collected and gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }

    fn line(&mut self) -> io::Result<()> {
        let request = encode::request(&self.spans, &self.host);
        self.spans.clear();
        // In one write: a reader of a pipe never sees half a line of ours mixed with others.
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.out.write_all(&line)
    }
}
