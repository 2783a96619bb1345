//! Finished spans of the pipeline to all who want them.

use std::sync::Arc;
use std::time::Duration;

use super::printer::{Closed, Printer};
use super::{RunError, rules_digest};
use crate::admin::Board;
use crate::cli::Print;
use crate::config::Config;
use crate::export::{Exporter, Host, Totals};
use spoor_core::pipeline::Pipeline;

/// How long the end of a run waits for the back end.
const LAST_DELIVERY: Duration = Duration::from_secs(10);
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
}

/// What became of the spans.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivered {
    pub(super) exported: Option<Totals>,
    pub(super) not_printed: u64,
}

impl Delivery {
    pub(super) fn start(
        config: &Config,
        host: Host,
        print: Option<Print>,
        may_wait: bool,
        board: Option<Arc<Board>>,
    ) -> Result<Self, RunError> {
        let exporter = Exporter::start(&config.export, host.clone())?;
        let printer =
            print.map(|form| Printer::start(form, host.clone())).transpose().map_err(RunError::Start)?;
        Ok(Self { exporter, printer, board, host, may_wait })
    }

    /// Takes all finished spans.
    pub(super) fn take(&mut self, pipeline: &mut Pipeline) -> Result<(), Closed> {
        let Some(first) = pipeline.poll_span() else { return Ok(()) };
        let mut durations = self.board.as_ref().map(|board| board.durations());
        let mut next = Some(first);
        while let Some(span) = next {
            if let Some(durations) = &mut durations {
                durations.observe(&span);
            }
            next = pipeline.poll_span();
            if !span.sampled {
                continue;
            }
            if let Some(exporter) = &self.exporter {
                if self.may_wait {
                    exporter.wait_for_room(LONGEST_WAIT);
                }
                exporter.offer(&span);
            }
            if let Some(printer) = &mut self.printer {
                printer.push(span, self.may_wait)?;
            }
        }
        Ok(())
    }

    /// Exports as another configuration says. Without an endpoint the exporter in place delivers what it has and ends.
    pub(super) fn reload(&mut self, config: &Config) -> Result<(), RunError> {
        self.host.rules_digest = rules_digest(config).as_str().into();
        let otlp = &config.export.otlp;
        let wanted = !(otlp.endpoint.is_empty() && otlp.traces_endpoint.is_empty());
        match (&self.exporter, wanted) {
            (Some(exporter), true) => exporter.retarget(otlp, &self.host)?,
            (None, true) => self.exporter = Exporter::start(&config.export, self.host.clone())?,
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

    /// Delivers what waits.
    pub(super) fn finish(self) -> Delivered {
        // Both at once: the printer's thread works while the exporter is waited for.
        let exported = self.exporter.map(|exporter| exporter.shutdown(LAST_DELIVERY));
        let not_printed = self.printer.map_or(0, Printer::finish);
        Delivered { exported, not_printed }
    }
}
