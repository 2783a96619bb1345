//! The counts of a run that has ended → what it has to say of them on standard error.

use super::deliver::Delivered;
use crate::capture::load::Totals;
use spoor_core::pipeline::Stats;

/// The counts of a run, on standard error.
pub(super) fn print(stats: &Stats, delivered: &Delivered, kernel: Option<&Totals>) {
    crate::telemetry::say(&text(stats, delivered, kernel));
}

/// What a file holds and nothing was made of, and what it does not show.
pub(super) fn print_unread(unread: &[(&'static str, u64)]) {
    if !unread.is_empty() {
        let list: Vec<String> = unread.iter().map(|(what, count)| format!("{count} {what}")).collect();
        crate::telemetry::say(&format!("not in the capture, or not read: {}\n", list.join(", ")));
    }
}

/// `http 1204, amqp 96, postgresql 310`
pub(super) fn by_protocol(stats: &Stats) -> String {
    let all = stats.operations.by_name().into_iter().map(|(name, count)| format!("{name} {count}"));
    all.collect::<Vec<_>>().join(", ")
}

fn text(stats: &Stats, delivered: &Delivered, kernel: Option<&Totals>) -> String {
    let mut text = format!(
        "seen: {} records, {}; {} operations ({}); spans {}, trees {}\n",
        stats.records,
        size(stats.bytes),
        stats.operations.total(),
        by_protocol(stats),
        stats.spans,
        stats.trees,
    );
    let tls = &stats.connections.tls;
    if tls.seen > 0 {
        let closed = tls.by_cause().into_iter().filter(|(_, count)| *count > 0);
        let closed: String =
            closed.map(|(cause, count)| format!(", {count} closed ({})", why_closed(cause))).collect();
        text += &format!("TLS: {} of {} connections opened{closed}\n", tls.opened, tls.seen);
    }
    if let Some(totals) = &delivered.exported {
        text += &format!("exported: {} spans, requests {}", totals.exported, totals.requests);
        if totals.spooled > 0 {
            text += &format!(", {} wait in the spool", totals.spooled);
        }
        text.push('\n');
    }
    let mut lost: Vec<(String, u64)> = Vec::new();
    if stats.lost_records > 0 {
        lost.push(("records the kernel could not deliver".to_owned(), stats.lost_records));
    }
    if stats.connections.missing_bytes > 0 {
        // Holes between records. They are part of what the kernel counts below, or something nobody counted.
        lost.push(("bytes in no record".to_owned(), stats.connections.missing_bytes));
    }
    if stats.connections.evicted > 0 {
        lost.push((
            "connections given up at `capture.max_connections`".to_owned(),
            stats.connections.evicted,
        ));
    }
    if stats.trees_forced > 0 {
        lost.push(("trees released early".to_owned(), stats.trees_forced));
    }
    let given_up = &stats.given_up;
    let connections = &stats.connections;
    for (what, count) in [
        (
            "operations left out (`limits.work_percent`: their cgroup had its part)",
            given_up.operations_over_work,
        ),
        ("operations left undecoded (`limits.work_percent`)", given_up.operations_undecoded),
        (
            "operations left out (`limits.memory_bytes`: spans were taken too slowly)",
            given_up.operations_waiting,
        ),
        ("times bodies given up (`limits.memory_bytes`)", connections.gave_values),
        ("sessions given up (`limits.memory_bytes`)", connections.gave_session),
        ("connections given up (`limits.memory_bytes`)", connections.evicted_for_memory),
    ] {
        lost.extend((count > 0).then(|| (what.to_owned(), count)));
    }
    if let Some(totals) = &delivered.exported {
        let causes = totals.dropped.by_cause().into_iter().filter(|(_, count)| *count > 0);
        lost.extend(
            causes.map(|(cause, count)| (format!("spans dropped ({})", cause.replace('_', " ")), count)),
        );
    }
    if delivered.printed.missing > 0 {
        let why = if delivered.printed.closed { "closed" } else { "too slow" };
        lost.push((format!("spans not printed (standard output {why})"), delivered.printed.missing));
    }
    if delivered.late > 0 {
        lost.push(("spans finished too late to be delivered".to_owned(), delivered.late));
    }
    let kernel =
        kernel.into_iter().flat_map(Totals::iter).filter(|(name, count)| *count > 0 && is_loss(name));
    lost.extend(kernel.map(|(name, count)| (format!("kernel {}", name.replace('_', " ")), count)));
    if lost.is_empty() {
        text += "lost: nothing\n";
    } else {
        let list: Vec<String> = lost.iter().map(|(what, count)| format!("{count} {what}")).collect();
        text += &format!("lost: {}\n", list.join(", "));
    }
    let blind = stats.connections.blind_operations;
    if blind > 0 {
        text += &format!(
            "without a text: {blind} statements that were prepared before the agent came (restart the pool once, and they have one)\n"
        );
    }
    if !stats.forgotten.is_empty() {
        let tables =
            stats.forgotten.iter().map(|(table, count)| format!("{count} {}", table.replace('_', " ")));
        text += &format!("forgotten for newer ones: {}\n", tables.collect::<Vec<_>>().join(", "));
    }
    text
}

/// Counters of the kernel side that stand for something that was not seen.
pub(super) fn is_loss(name: &str) -> bool {
    ["lost", "failed", "no_buffer", "fault", "uncertain"].iter().any(|word| name.contains(word))
}

/// A cause for which TLS stays closed, for people.
fn why_closed(cause: &str) -> &str {
    match cause {
        "suite" => "a cipher suite that is not opened",
        "version" => "TLS 1.1 or older",
        "compression" => "compressed records",
        "secret" => "no secret",
        "limit" => "too much waited for its secret",
        "broken" => "records that do not open",
        other => other,
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// An error and its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::printer::Printed;

    #[test]
    fn every_cause_has_words_of_its_own() {
        let mut stats = Stats::default();
        stats.connections.tls.seen = 10;
        for (cause, _) in stats.connections.tls.by_cause() {
            assert_ne!(why_closed(cause), cause);
        }
    }

    #[test]
    fn what_was_not_printed_is_told_with_its_reason() {
        let said = |closed| {
            let printed = Printed { missing: 3, closed, error: None };
            text(&Stats::default(), &Delivered { printed, ..Delivered::default() }, None)
        };
        assert!(
            said(true).contains("lost: 3 spans not printed (standard output closed)\n"),
            "{}",
            said(true)
        );
        assert!(said(false).contains("(standard output too slow)"), "{}", said(false));
    }
}
