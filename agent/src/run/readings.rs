//! The counts of all stages as readings of the agent's own metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::reload::Reloads;
use super::state::Totals as State;
use crate::capture::load::Totals as Kernel;
use crate::chains::{Refusal, Totals as Chains};
use crate::export::{Totals, open_work};
use crate::metrics::readings::Reading;
use crate::secrets::memory::Totals as Secrets;
use crate::source::live::Gauges;
use spoor_core::conn::Stats as Connections;
use spoor_core::pipeline::snapshot::Stats as Restored;
use spoor_core::pipeline::{Open, Stats};
use spoor_core::record::ClockPair;
use spoor_core::time::{BootTime, WallTime};

/// Everything there is to say at one moment.
pub(super) struct Moment<'a> {
    pub(super) stats: &'a Stats,
    pub(super) exported: Option<&'a Totals>,
    /// Events of open work.
    pub(super) told: open_work::Totals,
    pub(super) kernel: Option<&'a Kernel>,
    pub(super) live: Option<Gauges>,
    /// Work in progress, with the clocks that date it.
    pub(super) open: &'a [Open],
    pub(super) clock: ClockPair,
    /// Processes known: traced, and left alone.
    pub(super) processes: (u64, u64),
    /// Processes left out because they were gone before they could be judged.
    pub(super) unjudged: u64,
    /// By whoever looks processes up, by table.
    pub(super) forgotten: [(&'static str, u64); 2],
    /// The search for secrets in memory.
    pub(super) secrets: Option<&'a Secrets>,
    /// The search for runtimes whose tasks can be followed.
    pub(super) chains: Option<Chains>,
    pub(super) not_printed: u64,
    pub(super) reloads: Option<&'a Reloads>,
    /// What became of what an earlier run had learned, and of the file that this one writes.
    pub(super) restored: &'a Restored,
    pub(super) state: Option<State>,
}

pub(super) fn readings(moment: &Moment<'_>) -> Vec<Reading> {
    let stats = moment.stats;
    let mut all = Vec::with_capacity(112);
    let mut add = |metric, value| all.push(Reading::plain(metric, value));
    add("spoor.records", stats.records);
    add("spoor.captured", stats.bytes);
    add("spoor.spans", stats.spans);
    add("spoor.spans.unsampled", stats.unsampled);
    add("spoor.spans.unprinted", moment.not_printed);
    add("spoor.held", stats.held);
    add("spoor.held.size", stats.held_bytes);
    add("spoor.logs.suppressed", crate::telemetry::suppressed());
    let mut add = |metric, key, label: &'static str, value| {
        all.push(Reading::labelled(metric, key, label, value));
    };
    for (protocol, count) in stats.operations.by_name() {
        add("spoor.operations", "protocol", protocol, count);
    }
    for (rule, count) in &stats.edges {
        add("spoor.edges", "rule", rule, *count);
    }
    for (table, count) in
        stats.forgotten.iter().map(|(table, count)| (*table, *count)).chain(moment.forgotten)
    {
        add("spoor.forgotten", "table", table, count);
    }
    add("spoor.trees", "reason", "complete", stats.trees.saturating_sub(stats.trees_forced));
    let given_up = &stats.given_up;
    add("spoor.trees", "reason", "bound", stats.trees_forced.saturating_sub(given_up.trees_early));
    add("spoor.trees", "reason", "memory", given_up.trees_early);
    for (cause, count) in [
        ("work_exceeded", given_up.operations_over_work),
        ("work_exceeded_undecoded", given_up.operations_undecoded),
        ("memory_short_untaken", given_up.operations_waiting),
    ] {
        add("spoor.discarded", "cause", cause, count);
    }
    add("spoor.lost", "cause", "records_lost", stats.lost_records);
    add("spoor.processes", "state", "traced", moment.processes.0);
    add("spoor.processes", "state", "excluded", moment.processes.1);
    add("spoor.discarded", "cause", "process_gone", moment.unjudged);
    connections(&stats.connections, &mut add);
    if let Some(kernel) = moment.kernel {
        for (name, count) in kernel.iter() {
            add("spoor.kernel.events", "name", name, count);
            if super::summary::is_loss(name) {
                add("spoor.lost", "cause", name, count);
            }
        }
    }
    if let Some(gauges) = moment.live {
        add("spoor.discarded", "cause", "connection_unintroduced", gauges.unintroduced);
        add("spoor.discarded", "cause", "verdict_refused", gauges.refused_verdicts);
        add("spoor.discarded", "cause", "chain_unclaimed", gauges.unclaimed_chains);
    }
    if let Some(totals) = moment.exported {
        add("spoor.export.queue", "place", "memory", totals.waiting);
        add("spoor.export.queue", "place", "spool", totals.spooled);
        for (cause, count) in totals.dropped.by_cause() {
            add("spoor.export.dropped", "cause", cause, count);
        }
        for (metric, value) in [
            ("spoor.export.offered", totals.offered),
            ("spoor.export.spans", totals.exported),
            ("spoor.export.requests", totals.requests),
            ("spoor.export.recovered", totals.recovered),
            ("spoor.export.retries", totals.retries),
            ("spoor.export.last_success.timestamp", totals.last_success_unix),
        ] {
            all.push(Reading::plain(metric, value));
        }
    }
    if let Some(secrets) = moment.secrets {
        search(secrets, &mut all);
        let unasked = moment.stats.connections.tls.unasked;
        all.push(Reading::labelled("spoor.tls.searches", "result", "unasked", unasked));
    }
    if let Some(chains) = moment.chains {
        all.push(Reading::plain("spoor.chains.processes", chains.followed));
        for (refusal, count) in Refusal::ALL.iter().zip(chains.refused) {
            all.push(Reading::labelled("spoor.chains.refused", "cause", refusal.name(), count));
        }
        all.push(Reading::labelled("spoor.chains.refused", "cause", "crowded", chains.crowded));
    }
    for (result, count) in [
        ("taken", moment.told.sent),
        ("too_many", moment.told.too_many),
        ("refused", moment.told.refused),
        ("away", moment.told.away),
    ] {
        all.push(Reading::labelled("spoor.open_work.events", "result", result, count));
    }
    open(moment, &mut all);
    if let Some(state) = moment.state {
        learned(moment.restored, state, &mut all);
    }
    if let Some(reloads) = moment.reloads {
        all.push(Reading::labelled("spoor.config.reloads", "result", "applied", reloads.applied));
        all.push(Reading::labelled("spoor.config.reloads", "result", "refused", reloads.refused));
        all.push(Reading::plain("spoor.config.loaded.timestamp", reloads.loaded_unix));
    }
    all
}

fn search(totals: &Secrets, all: &mut Vec<Reading>) {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    for (result, counter) in [
        ("found", &totals.found),
        ("found_in_copies", &totals.copied),
        ("not_found", &totals.not_found),
        ("gone", &totals.gone),
        ("denied", &totals.denied),
        ("crowded", &totals.crowded),
    ] {
        all.push(Reading::labelled("spoor.tls.searches", "result", result, of(counter)));
    }
    all.push(Reading::plain("spoor.tls.search.size", of(&totals.bytes)));
    all.push(Reading::plain("spoor.tls.search.candidates", of(&totals.candidates)));
    all.push(Reading::plain("spoor.tls.search.time", of(&totals.cpu_ns) / 1_000_000));
}

fn connections(stats: &Connections, add: &mut impl FnMut(&'static str, &'static str, &'static str, u64)) {
    let others = [("opaque", stats.opaque), ("other", stats.not_ours), ("undecided", stats.undecided)];
    for (protocol, count) in stats.detected.by_name().into_iter().chain(others) {
        add("spoor.connections", "protocol", protocol, count);
    }
    add("spoor.tls.connections", "state", "opened", stats.tls.opened);
    for (cause, count) in stats.tls.by_cause() {
        add("spoor.tls.connections", "state", cause, count);
    }
    for (result, count) in [
        ("opened", stats.tls.records),
        ("failed", stats.tls.failed_records),
        ("early_data", stats.tls.early_records),
        ("malformed", stats.tls.malformed),
    ] {
        add("spoor.tls.records", "result", result, count);
    }
    for (reason, count) in
        [("closed", stats.closed), ("evicted", stats.evicted), ("abandoned", stats.abandoned)]
    {
        add("spoor.connections.ended", "reason", reason, count);
    }
    for (cause, count) in [
        ("late_record", stats.late_records),
        ("reordered_record", stats.reordered),
        ("connection_unannounced", stats.unannounced),
        ("connection_evicted", stats.evicted),
        ("misdetected", stats.misdetected),
        ("memory_short", stats.relieved),
        ("memory_short_values", stats.gave_values),
        ("memory_short_session", stats.gave_session),
        ("memory_short_connection", stats.evicted_for_memory),
        ("unsynchronised", stats.unsynchronised),
        ("invalid", stats.invalid),
        ("limit", stats.limit),
    ] {
        add("spoor.discarded", "cause", cause, count);
    }
    add("spoor.operations.blind", "cause", "prepared_before", stats.blind_operations);
    for (cause, bytes) in [
        ("gap", stats.gap_bytes),
        ("missing", stats.missing_bytes),
        ("repeated", stats.trimmed_bytes),
        ("impossible_position", stats.dropped_bytes),
        ("not_ours", stats.ignored_bytes),
        ("ciphertext", stats.ciphertext_bytes),
        ("forgotten", stats.forgotten_bytes),
        ("memory_short", stats.given_up_bytes),
        ("unsynchronised", stats.unsynchronised_bytes),
        ("invalid", stats.invalid_bytes),
        ("limit", stats.limit_bytes),
    ] {
        add("spoor.discarded.size", "cause", cause, bytes);
    }
}

/// What was taken over from an earlier run.
fn learned(restored: &Restored, state: State, all: &mut Vec<Reading>) {
    let connections = restored.connections;
    for (kind, count) in [
        ("connection_unbroken", connections.unbroken),
        ("connection_with_gap", connections.broken),
        ("statement", connections.statements),
        ("consumer", connections.consumers),
        ("process", restored.processes),
    ] {
        all.push(Reading::labelled("spoor.state.restored", "kind", kind, count));
    }
    for (cause, count) in [
        ("other_boot", restored.other_boot),
        ("expired", connections.expired + restored.processes_expired),
        ("changed", connections.changed + restored.processes_changed),
        ("impossible_position", connections.impossible),
        ("useless_after_gap", connections.useless),
        ("limit", connections.over_limit),
        ("closed", connections.closed),
        ("file_refused", state.refused),
    ] {
        all.push(Reading::labelled("spoor.state.dropped", "cause", cause, count));
    }
    let waiting = connections.waiting + restored.processes_waiting;
    all.push(Reading::plain("spoor.state.waiting", waiting));
    all.push(Reading::plain("spoor.state.failures", state.failed));
    all.push(Reading::plain("spoor.state.saved.timestamp", state.saved_unix));
}

/// Services named alike (two processes of one) are one series.
fn open(moment: &Moment<'_>, all: &mut Vec<Reading>) {
    let mut sums: BTreeMap<(&str, &'static str), (u64, u64, BootTime)> = BTreeMap::new();
    for open in moment.open {
        let sum = sums.entry((&open.service, open.protocol)).or_insert((0, 0, BootTime::MAX));
        *sum = (sum.0 + open.count, sum.1 + open.pending, sum.2.min(open.oldest));
    }
    for ((service, protocol), (count, pending, oldest)) in sums {
        let since = moment.clock.boot.since(oldest);
        let oldest_unix = (moment.clock.wall - since).since(WallTime::ZERO).as_secs();
        for (metric, value) in [
            ("spoor.operations.open", count),
            ("spoor.operations.pending", pending),
            ("spoor.operations.oldest.timestamp", oldest_unix),
        ] {
            let labels = vec![("service.name", service.to_owned().into()), ("protocol", protocol.into())];
            all.push(Reading { metric, labels, value });
        }
    }
}
