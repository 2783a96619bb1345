//! The names of the agent's own metrics, and what a moment's numbers look like.
//!
//! *Owns* names, units and help texts, the same for OTLP and Prometheus. *Must not know* where counts come from.
//! *Spec*: naming by `semantic-conventions` 1.44.0 `general/naming.md`, "Metrics".

use std::borrow::Cow;

/// A metric of the agent. Names are OpenTelemetry's way; Prometheus sees `spoor_records_total` and the like.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    /// UCUM; words in braces count things and are no part of Prometheus' names.
    pub unit: &'static str,
    pub description: &'static str,
    /// Only grows, or also shrinks.
    pub counter: bool,
}

const fn counter(name: &'static str, unit: &'static str, description: &'static str) -> Metric {
    Metric { name, unit, description, counter: true }
}

const fn gauge(name: &'static str, unit: &'static str, description: &'static str) -> Metric {
    Metric { name, unit, description, counter: false }
}

/// Every metric that counts. Durations are in [`durations`](super::durations).
pub const METRICS: &[Metric] = &[
    counter("spoor.records", "{record}", "Records handled"),
    counter("spoor.captured", "By", "Bytes that moved through observed sockets"),
    counter("spoor.lost", "{event}", "What was not seen, by cause"),
    counter("spoor.kernel.events", "{event}", "What the kernel side counted, by name"),
    counter("spoor.discarded", "{event}", "Times that something seen could not be used, by cause"),
    counter(
        "spoor.discarded.size",
        "By",
        "Bytes of streams that could not be used or were left alone, by cause",
    ),
    counter(
        "spoor.forgotten",
        "{entry}",
        "Entries of bounded tables forgotten for newer ones, by table: what they would have joined or named later is not",
    ),
    counter("spoor.connections", "{connection}", "Connections seen, by what they speak"),
    counter(
        "spoor.tls.connections",
        "{connection}",
        "Connections under TLS that were to be opened: opened, or closed for want of a suite, a version, a secret",
    ),
    counter("spoor.tls.records", "{record}", "Records of opened TLS connections, by what became of them"),
    counter(
        "spoor.tls.searches",
        "{search}",
        "Searches in memory for secrets of TLS connections: secrets found, and connections without, by cause",
    ),
    counter("spoor.tls.search.size", "By", "Memory of traced processes that was read for secrets"),
    counter("spoor.tls.search.candidates", "{candidate}", "Places in it that were tried"),
    counter("spoor.tls.search.time", "ms", "Processor time that the search used"),
    gauge(
        "spoor.chains.processes",
        "{process}",
        "Processes whose tasks are followed, to know what they work for",
    ),
    counter("spoor.chains.refused", "{process}", "Processes whose tasks are not followed, by cause"),
    counter("spoor.connections.ended", "{connection}", "Connections that are over, by reason"),
    gauge("spoor.processes", "{process}", "Processes known now, by whether they are traced"),
    counter("spoor.operations", "{operation}", "Operations recognised, by protocol"),
    counter(
        "spoor.operations.blind",
        "{operation}",
        "Operations of which something is not known because it was said before the agent came, by cause",
    ),
    gauge("spoor.operations.open", "{operation}", "Operations begun and not over, by service and protocol"),
    gauge(
        "spoor.operations.pending",
        "{operation}",
        "Operations open for longer than `spans.pending_after`, by service and protocol",
    ),
    gauge(
        "spoor.operations.oldest.timestamp",
        "s",
        "When the oldest open operation began (Unix time), by service and protocol",
    ),
    counter(
        "spoor.open_work.events",
        "{event}",
        "Events of what is not over, by what became of them: taken, too many at once, refused, back end away",
    ),
    counter("spoor.edges", "{edge}", "Spans joined to a parent, by rule"),
    counter("spoor.spans", "{span}", "Spans built"),
    counter("spoor.spans.unsampled", "{span}", "Spans left out by `sampling` or `spans.connection_setup`"),
    counter("spoor.spans.unprinted", "{span}", "Spans dropped because standard output was too slow"),
    counter("spoor.trees", "{tree}", "Trees of operations released, by reason"),
    gauge("spoor.held", "{operation}", "Operations held until their tree is complete"),
    gauge(
        "spoor.held.size",
        "By",
        "Memory that traffic makes the agent hold, of what `limits.memory_bytes` allows",
    ),
    counter("spoor.export.offered", "{span}", "Spans given to the exporter"),
    counter("spoor.export.spans", "{span}", "Spans taken by the back end"),
    counter("spoor.export.requests", "{request}", "Requests taken by the back end"),
    counter("spoor.export.recovered", "{span}", "Spans found in the spool at the start"),
    counter("spoor.export.dropped", "{span}", "Spans that will never arrive, by cause"),
    counter("spoor.export.retries", "{request}", "Requests that had to be repeated"),
    gauge("spoor.export.queue", "{span}", "Spans waiting for the back end, by place"),
    gauge(
        "spoor.export.last_success.timestamp",
        "s",
        "When the back end last took spans (Unix time), 0 for never",
    ),
    counter(
        "spoor.durations.overflow",
        "{span}",
        "Durations counted without their labels, at the bound on series",
    ),
    counter(
        "spoor.durations.forgotten",
        "{series}",
        "Series of durations given up, by cause: not used any more, or for the share of other services",
    ),
    counter(
        "spoor.admin.closed",
        "{connection}",
        "Connections to the admin port closed before they were served, to make room",
    ),
    counter(
        "spoor.state.restored",
        "{entry}",
        "What an earlier run had learned and this one goes on with, by kind",
    ),
    counter(
        "spoor.state.dropped",
        "{entry}",
        "What an earlier run had learned and is of no use any more, by cause",
    ),
    gauge("spoor.state.waiting", "{entry}", "What an earlier run had learned and waits to be seen again"),
    counter("spoor.state.failures", "{attempt}", "Times that what was learned could not be written"),
    gauge(
        "spoor.state.saved.timestamp",
        "s",
        "When what was learned was last written (Unix time), 0 for never",
    ),
    counter("spoor.logs.suppressed", "{line}", "Log lines held back because the same was said too often"),
    counter("spoor.config.reloads", "{reload}", "Reloads of the configuration, by result"),
    gauge("spoor.config.loaded.timestamp", "s", "When the configuration in force was loaded (Unix time)"),
];

/// One number of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// A name of [`METRICS`]; others are not shown.
    pub metric: &'static str,
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    pub value: u64,
}

impl Reading {
    pub fn plain(metric: &'static str, value: u64) -> Self {
        Self { metric, labels: Vec::new(), value }
    }

    pub fn labelled(
        metric: &'static str,
        key: &'static str,
        label: impl Into<Cow<'static, str>>,
        value: u64,
    ) -> Self {
        Self { metric, labels: vec![(key, label.into())], value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_well_formed() {
        let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert!(names.iter().all(|name| {
            name.starts_with("spoor.")
                && name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'_'))
        }));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }
}
