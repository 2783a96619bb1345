//! A run that goes on → what it says of itself on standard error meanwhile.
//!
//! | run | at a terminal | else |
//! |---|---|---|
//! | live | a line every 10 s | a line of the log every minute |
//! | live, and nothing was understood for 30 s | a hint, once | the same |
//! | live, and something was lost | a warning, at most every 30 s | the same |
//! | replay | a bar: bytes, rate, time left | nothing |
//!
//! Nothing is shown where it would be written into trees on the same terminal.

use std::io::{IsTerminal, stderr, stdout};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::deliver::Delivery;
use super::summary::by_protocol;
use crate::cli::Print;
use crate::export::Totals;
use crate::source::file::Position;
use spoor_core::pipeline::{Pipeline, Stats};
use spoor_core::protocol::Protocol;

/// How often a terminal is told that it goes on.
const SHOW_EVERY: Duration = Duration::from_secs(10);
/// How often the log is.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// How often losses are told.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// Without an operation for so long, somebody wonders why.
const HINT_AFTER: Duration = Duration::from_secs(30);
/// How often a replay's bar moves.
const MOVE_EVERY: Duration = Duration::from_millis(250);

/// What a live run says.
#[derive(Debug)]
pub(super) struct Status {
    began: Instant,
    line: Option<Line>,
    next: Instant,
    next_losses: Instant,
    /// Losses told already.
    lost: u64,
    dropped: u64,
    hinted: bool,
}

/// Where it says that it goes on.
#[derive(Clone, Copy, Debug)]
enum Line {
    Terminal,
    Log,
}

impl Line {
    fn every(self) -> Duration {
        match self {
            Self::Terminal => SHOW_EVERY,
            Self::Log => LOG_EVERY,
        }
    }
}

impl Status {
    /// `print`: what goes to standard output meanwhile.
    pub(super) fn new(print: Option<Print>) -> Self {
        let line = match (stderr().is_terminal(), print.is_some() && stdout().is_terminal()) {
            (true, true) => None,
            (true, false) => Some(Line::Terminal),
            (false, _) => Some(Line::Log),
        };
        let began = Instant::now();
        let next = began + line.map_or(LOG_EVERY, Line::every);
        Self { began, line, next, next_losses: began + TELL_EVERY, lost: 0, dropped: 0, hinted: false }
    }

    /// Says what is due. `processes`: how many are traced.
    pub(super) fn tell(&mut self, pipeline: &Pipeline, delivery: &Delivery, processes: u64) {
        let now = Instant::now();
        let hint_is_due = !self.hinted && now.saturating_duration_since(self.began) >= HINT_AFTER;
        if now < self.next && now < self.next_losses && !hint_is_due {
            return;
        }
        let stats = pipeline.stats();
        let exported = delivery.exporter().map(crate::export::Exporter::totals);
        if hint_is_due {
            self.hinted = true;
            if let Some(hint) = hint(&stats, processes) {
                tracing::warn!("{hint}");
            }
        }
        if now >= self.next {
            let text = status(&stats, exported.as_ref(), processes);
            match self.line {
                Some(Line::Terminal) => {
                    crate::telemetry::say(&format!("{} s: {text}", self.began.elapsed().as_secs()));
                }
                Some(Line::Log) => tracing::info!("{text}"),
                None => {}
            }
            self.next = now + self.line.map_or(LOG_EVERY, Line::every);
        }
        if now >= self.next_losses {
            self.next_losses = now + TELL_EVERY;
            self.losses(&stats, exported.map_or(0, |totals| totals.dropped.total()));
        }
    }

    fn losses(&mut self, stats: &Stats, dropped: u64) {
        if stats.lost_records > self.lost {
            let more = stats.lost_records - self.lost;
            tracing::warn!("the kernel could not deliver {more} records; raise `capture.ring_bytes`");
            self.lost = stats.lost_records;
        }
        if dropped > self.dropped {
            tracing::warn!("{} spans could not be exported and were dropped", dropped - self.dropped);
            self.dropped = dropped;
        }
    }
}

/// `4 processes; operations: http 1204, amqp 96, postgresql 310; 1610 spans, 1598 sent, 12 wait`
fn status(stats: &Stats, exported: Option<&Totals>, processes: u64) -> String {
    let mut text =
        format!("{processes} processes; operations: {}; {} spans", by_protocol(stats), stats.spans);
    if let Some(totals) = exported {
        text += &format!(", {} sent, {} wait", totals.exported, totals.waiting + totals.spooled);
        if totals.dropped.total() > 0 {
            text += &format!(", {} dropped", totals.dropped.total());
        }
    }
    text
}

/// Why nothing may have been understood so far; `None`: something was.
fn hint(stats: &Stats, processes: u64) -> Option<String> {
    if stats.operations.total() > 0 || stats.held > 0 {
        return None;
    }
    let seconds = HINT_AFTER.as_secs();
    if stats.records == 0 {
        return Some(format!(
            "nothing was seen for {seconds} s: no traced process has used a socket; `select` and `services.exclude` say who is traced"
        ));
    }
    let connections = &stats.connections;
    let known: u64 = connections.detected.by_name().into_iter().map(|(_, count)| count).sum();
    Some(format!(
        "no operation for {seconds} s: {} records of {processes} processes; of {} connections {known} speak a protocol that is read, {} are \
         encrypted, {} speak something else; spoor reads {}, under TLS where `tls` says so (docs/tls.md)",
        stats.records,
        connections.opened,
        connections.opaque,
        connections.not_ours,
        Protocol::ALL.map(Protocol::title).join(", ")
    ))
}

/// How far a replay is.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    position: Position,
    next: Instant,
}

impl Progress {
    pub(super) fn replay(name: &str, position: Position) -> Self {
        // Trees on the same terminal would be written over.
        let target = match stdout().is_terminal() {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(position.len, target);
        let form = match position.len {
            Some(_) => "{prefix}: {bytes} of {total_bytes} ({percent} %), {bytes_per_sec}, {eta} left, {msg}",
            None => "{prefix}: {bytes}, {bytes_per_sec}, {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        Self { bar, position, next: Instant::now() }
    }

    pub(super) fn tell(&mut self, pipeline: &Pipeline) {
        let now = Instant::now();
        if self.bar.is_hidden() || now < self.next {
            return;
        }
        self.next = now + MOVE_EVERY;
        let stats = pipeline.stats();
        self.bar.set_message(format!("{} records, {} spans", stats.records, stats.spans));
        self.bar.set_position(self.position.read());
    }

    pub(super) fn clear(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_says_what_it_has_seen_and_sent() {
        let mut stats = Stats { spans: 1610, ..Stats::default() };
        assert!(
            status(&stats, None, 4).starts_with("4 processes; operations: http 0, "),
            "{}",
            status(&stats, None, 4)
        );
        let totals = Totals { exported: 1598, waiting: 5, spooled: 7, ..Totals::default() };
        assert!(status(&stats, Some(&totals), 4).ends_with("; 1610 spans, 1598 sent, 12 wait"));
        stats.spans = 1;
        let totals = Totals {
            dropped: crate::export::exporter::Dropped { shutdown: 3, ..Default::default() },
            ..totals
        };
        assert!(status(&stats, Some(&totals), 4).ends_with(", 3 dropped"));
    }

    #[test]
    fn whoever_sees_nothing_is_told_what_came_instead() {
        let nothing = Stats::default();
        assert!(hint(&nothing, 0).unwrap().contains("no traced process has used a socket"));
        let mut encrypted = Stats { records: 639, ..Stats::default() };
        encrypted.connections.opened = 17;
        encrypted.connections.opaque = 14;
        let said = hint(&encrypted, 3).unwrap();
        assert!(
            said.contains("639 records of 3 processes")
                && said.contains("14 are encrypted")
                && said.contains("`tls` says so"),
            "{said}"
        );
        assert!(Protocol::ALL.iter().all(|protocol| said.contains(protocol.title())), "{said}");
        assert_eq!(hint(&Stats { held: 1, ..encrypted }, 3), None, "something is on its way");
    }
}
