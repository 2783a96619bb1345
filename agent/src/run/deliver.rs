//! Finished spans of the pipeline to all who want them.

use std::time::Duration;

use super::RunError;
use super::printer::{Closed, Printer};
use crate::cli::Print;
use crate::config::Config;
use crate::export::{Exporter, Host, Totals};
use crate::pipeline::Pipeline;

/// How long the end of a run waits for the back end.
const LAST_DELIVERY: Duration = Duration::from_secs(10);
/// How long a replay waits for the back end to take more before it drops spans.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The printer and the exporter of a run.
#[derive(Debug)]
pub(super) struct Delivery {
    exporter: Option<Exporter>,
    printer: Option<Printer>,
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
    ) -> Result<Self, RunError> {
        let exporter = Exporter::start(&config.export, host.clone())?;
        let printer = print.map(|form| Printer::start(form, host)).transpose().map_err(RunError::Start)?;
        Ok(Self { exporter, printer, may_wait })
    }

    /// Takes all finished spans.
    pub(super) fn take(&mut self, pipeline: &mut Pipeline) -> Result<(), Closed> {
        while let Some(span) = pipeline.poll_span() {
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

    pub(super) fn exporter(&self) -> Option<&Exporter> {
        self.exporter.as_ref()
    }

    /// Delivers what waits.
    pub(super) fn finish(self) -> Delivered {
        // Both at once: the printer's thread works while the exporter is waited for.
        let exported = self.exporter.map(|exporter| exporter.shutdown(LAST_DELIVERY));
        let not_printed = self.printer.map_or(0, Printer::finish);
        Delivered { exported, not_printed }
    }
}
