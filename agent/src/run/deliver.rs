//! Finished spans of the pipeline to all who want them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::printer::{Closed, Printer};
use super::stop::Stop;
use super::{RunError, rules_digest};
use crate::admin::Board;
use crate::cli::Print;
use crate::config::Config;
use crate::export::{Exporter, Host, Totals};
use spoor_core::pipeline::Pipeline;
use spoor_core::span::Span;

/// How long the end of a run waits for the back end, when nobody asked for the end.
const LAST_DELIVERY: Duration = Duration::from_secs(10);
/// How often a wait looks whether the end was asked for.
const LOOK: Duration = Duration::from_millis(50);
/// How many spans are taken between two looks at the time.
const LOOK_EVERY: u32 = 64;
/// How long the exporter has, before the process ends by force, to put what waits into the spool.
const LAST_RESORT: Duration = Duration::from_millis(300);
/// How long a replay waits for the back end to take more before it drops spans.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The printer and the exporter of a run.
#[derive(Debug)]
pub(super) struct Delivery {
    exporter: Option<Exporter>,
    printer: Option<Printer>,
    /// Counts how long things took.
    board: Option<Arc<Board>>,
    host: Host,
    /// The source can wait (a file), so nothing has to be dropped.
    may_wait: bool,
    stop: Stop,
    /// Finished after the end was over.
    late: u64,
}

/// What became of the spans.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivered {
    pub(super) exported: Option<Totals>,
    pub(super) not_printed: u64,
    /// Spans that were finished too late to be exported or printed.
    pub(super) late: u64,
}

impl Delivery {
    pub(super) fn start(
        config: &Config,
        host: Host,
        print: Option<Print>,
        may_wait: bool,
        board: Option<Arc<Board>>,
        stop: &Stop,
    ) -> Result<Self, RunError> {
        let exporter = Exporter::start(&config.export, host.clone())?;
        let printer =
            print.map(|form| Printer::start(form, host.clone())).transpose().map_err(RunError::Start)?;
        let delivery = Self { exporter, printer, board, host, may_wait, stop: stop.clone(), late: 0 };
        delivery.prepare_for_the_worst();
        Ok(delivery)
    }

    /// When the end takes too long, wherever it hangs, what the exporter has goes to the spool.
    fn prepare_for_the_worst(&self) {
        let Some(exporter) = &self.exporter else { return };
        let closer = exporter.closer();
        self.stop.at_last(move || {
            closer.close(LAST_RESORT);
        });
    }

    /// Takes all finished spans. When the end is over, the rest is counted as lost.
    pub(super) fn take(&mut self, pipeline: &mut Pipeline) -> Result<(), Closed> {
        self.take_until(pipeline, None).map(|_| ())
    }

    /// The same until a moment, if memory does not ask for more. Returns whether there are some left.
    pub(super) fn take_until(
        &mut self,
        pipeline: &mut Pipeline,
        until: Option<Instant>,
    ) -> Result<bool, Closed> {
        let Some(first) = pipeline.poll_span() else { return Ok(false) };
        let board = self.board.clone();
        let mut durations = board.as_ref().map(|board| board.durations());
        if let Some(durations) = &mut durations {
            durations.turn(Instant::now());
        }
        let mut next = Some(first);
        let mut count = 0_u32;
        while let Some(span) = next {
            count = count.wrapping_add(1);
            if count.is_multiple_of(LOOK_EVERY) && self.stop.is_over() {
                self.late += 1 + pipeline.abandon();
                return Ok(false);
            }
            if let Some(durations) = &mut durations {
                durations.observe(&span);
            }
            if span.sampled {
                self.hand_on(span)?;
            }
            let is_late = || until.is_some_and(|until| Instant::now() >= until);
            if count.is_multiple_of(LOOK_EVERY) && is_late() && !pipeline.is_pressed() {
                return Ok(true);
            }
            next = pipeline.poll_span();
        }
        Ok(false)
    }

    /// To the exporter and the printer.
    fn hand_on(&mut self, span: Span) -> Result<(), Closed> {
        if let Some(exporter) = &self.exporter {
            if self.may_wait {
                let give_up = Instant::now() + LONGEST_WAIT;
                while !exporter.wait_for_room(LOOK) && !self.stop.is_over() && Instant::now() < give_up {}
            }
            exporter.offer(&span);
        }
        match &mut self.printer {
            Some(printer) => printer.push(span, self.may_wait.then_some(&self.stop)),
            None => Ok(()),
        }
    }

    /// Exports as another configuration says. Without an endpoint the exporter in place delivers what it has and ends.
    pub(super) fn reload(&mut self, config: &Config) -> Result<(), RunError> {
        self.host.rules_digest = rules_digest(config).as_str().into();
        let otlp = &config.export.otlp;
        let wanted = !(otlp.endpoint.is_empty() && otlp.traces_endpoint.is_empty());
        match (&self.exporter, wanted) {
            (Some(exporter), true) => exporter.retarget(otlp, &self.host)?,
            (None, true) => {
                self.exporter = Exporter::start(&config.export, self.host.clone())?;
                self.prepare_for_the_worst();
            }
            (_, false) => {
                if let Some(old) = self.exporter.take() {
                    // Nobody waits for it but this thread of its own.
                    std::thread::spawn(move || old.shutdown(LAST_DELIVERY));
                }
            }
        }
        Ok(())
    }

    pub(super) fn exporter(&self) -> Option<&Exporter> {
        self.exporter.as_ref()
    }

    /// Spans that did not fit on the way to standard output.
    pub(super) fn not_printed(&self) -> u64 {
        self.printer.as_ref().map_or(0, Printer::dropped)
    }

    /// Delivers what waits, as long as the end may take.
    pub(super) fn finish(self) -> Delivered {
        self.stop.doing("delivering spans");
        // Both at once: the printer's thread works while the exporter is waited for.
        let left = self.stop.until().map(|until| until.saturating_duration_since(Instant::now()));
        let longest = left.map_or(LAST_DELIVERY, |left| left.min(LAST_DELIVERY));
        let exported = self.exporter.map(|exporter| exporter.shutdown(longest));
        self.stop.doing("writing to standard output");
        let not_printed = self.printer.map_or(0, |printer| printer.finish(&self.stop));
        Delivered { exported, not_printed, late: self.late }
    }
}
