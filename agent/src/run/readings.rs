//! The counts of all stages as readings of the agent's own metrics.

use crate::capture::load::Totals as Kernel;
use crate::export::Totals;
use crate::export::metrics::Reading;
use crate::pipeline::Stats;

pub(super) fn readings(stats: &Stats, exported: Option<&Totals>, kernel: Option<&Kernel>) -> Vec<Reading> {
    let mut all = Vec::with_capacity(48);
    let mut add = |metric, attribute, value| all.push(Reading { metric, attribute, value });
    add("spoor.records", None, stats.records);
    add("spoor.captured", None, stats.bytes);
    add("spoor.operations", Some(("protocol", "http")), stats.operations_http);
    add("spoor.operations", Some(("protocol", "amqp")), stats.operations_amqp);
    add("spoor.operations", Some(("protocol", "postgresql")), stats.operations_postgres);
    for (rule, count) in &stats.edges {
        add("spoor.edges", Some(("rule", rule)), *count);
    }
    add("spoor.spans", None, stats.spans);
    add("spoor.trees", Some(("reason", "complete")), stats.trees.saturating_sub(stats.trees_forced));
    add("spoor.trees", Some(("reason", "bound")), stats.trees_forced);
    add("spoor.held", None, stats.held);
    if let Some(kernel) = kernel {
        for (name, count) in kernel.iter().filter(|(name, _)| super::summary::is_loss(name)) {
            add("spoor.lost", Some(("cause", name)), count);
        }
    }
    if let Some(totals) = exported {
        add("spoor.export.spans", None, totals.exported);
        add("spoor.export.retries", None, totals.retries);
        add("spoor.export.queue", Some(("place", "memory")), totals.waiting);
        add("spoor.export.queue", Some(("place", "spool")), totals.spooled);
        for (cause, count) in totals.dropped.by_cause() {
            add("spoor.export.dropped", Some(("cause", cause)), count);
        }
    }
    all
}
