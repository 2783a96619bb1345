//! Finished spans of the pipeline to all who want them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::printer::{Closed, Printed, Printer};
use super::stop::Stop;
use super::{RunError, rules_digest};
use crate::cli::Print;
use crate::config::Config;
use crate::export::{Exporter, Host, Teller, Totals, open_work};
use crate::metrics::Board;
use spoor_core::pipeline::{Pipeline, TellSettings};
use spoor_core::span::Span;

impl Delivered {
    /// Spans that will never reach the back end.
    pub(super) fn lost(&self) -> u64 {
        self.exported.map_or(0, |totals| totals.dropped.total() + self.late)
    }

    /// How a run ends that has no other failure: a reader that has gone away (`| head`) has seen enough, a disk that is full has not.
    pub(super) fn outcome(self) -> Result<(), RunError> {
        match self.printed.error {
            Some(source) => Err(RunError::Print(source)),
            None => Ok(()),
        }
    }
}

/// How long the end of a run waits for the back end, when nobody asked for the end.
const LAST_DELIVERY: Duration = Duration::from_secs(10);
/// How often a wait looks whether the end was asked for.
const LOOK: Duration = Duration::from_millis(50);
/// How many spans are taken between two looks at the time.
const LOOK_EVERY: u32 = 64;
/// How long the exporter has, before the process ends by force, to put what waits into the spool.
const LAST_RESORT: Duration = Duration::from_millis(300);
/// The printer and the exporter of a run.
#[derive(Debug)]
pub(super) struct Delivery {
    exporter: Option<Exporter>,
    /// Of a live run.
    teller: Option<Teller>,
    printer: Option<Printer>,
    /// Counts how long things took.
    board: Option<Arc<Board>>,
    host: Host,
    /// The source can wait (a file), so nothing has to be dropped. `None`: it cannot.
    patience: Option<Patience>,
    stop: Stop,
    /// The back end was waited for in vain: it is not waited for again.
    gave_up: bool,
    /// It was said that nothing more is printed.
    told_closed: bool,
    /// Not even built, because nobody would have read them.
    unprinted: u64,
    /// Finished after the end was over.
    late: u64,
}

/// Why it is of no use to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vain {
    /// The reader of standard output is gone, and nobody else is told of spans.
    Print,
    /// The back end has taken nothing for as long as it was waited for.
    Export,
}

/// How long a back end is waited for that takes nothing.
#[derive(Debug)]
struct Patience {
    longest: Duration,
    /// What was done with when it was last looked at, and when that last changed.
    done: u64,
    since: Instant,
}

impl Patience {
    fn new(longest: Duration) -> Self {
        Self { longest, done: 0, since: Instant::now() }
    }

    /// From now on it is waited for.
    fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// Nothing has become of any span for too long.
    fn is_over(&mut self, totals: &Totals) -> bool {
        let done = totals.exported + totals.spooled + totals.dropped.total();
        if done != self.done {
            self.done = done;
            self.restart();
        }
        self.since.elapsed() >= self.longest
    }
}

/// What became of the spans.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    pub(super) exported: Option<Totals>,
    /// Events of open work.
    pub(super) told: open_work::Totals,
    pub(super) printed: Printed,
    /// Spans that were finished too late to be exported or printed.
    pub(super) late: u64,
}

impl Delivery {
    /// `patience`: how long a back end that takes nothing is waited for, where the source can wait.
    pub(super) fn start(
        config: &Config,
        host: Host,
        print: Option<Print>,
        patience: Option<Duration>,
        board: Option<Arc<Board>>,
        stop: &Stop,
    ) -> Result<Self, RunError> {
        let exporter = Exporter::start(&config.export, host.clone())?;
        let printer =
            print.map(|form| Printer::start(form, host.clone())).transpose().map_err(RunError::Start)?;
        let patience = patience.map(Patience::new);
        let stop = stop.clone();
        let delivery = Self {
            exporter,
            teller: None,
            printer,
            board,
            host,
            patience,
            stop,
            gave_up: false,
            told_closed: false,
            unprinted: 0,
            late: 0,
        };
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
    pub(super) fn take(&mut self, pipeline: &mut Pipeline) -> Result<(), Vain> {
        self.take_until(pipeline, None).map(|_| ())
    }

    /// The same until a moment, if memory does not ask for more. Returns whether there are some left.
    pub(super) fn take_until(
        &mut self,
        pipeline: &mut Pipeline,
        until: Option<Instant>,
    ) -> Result<bool, Vain> {
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
    fn hand_on(&mut self, span: Span) -> Result<(), Vain> {
        if let Some(exporter) = &self.exporter {
            if let Some(patience) = &mut self.patience {
                patience.restart();
                while !exporter.wait_for_room(LOOK) && !self.stop.is_over() {
                    // An export thread that has ended makes no room, however long it is waited for.
                    if exporter.has_ended() || patience.is_over(&exporter.totals()) {
                        self.gave_up = true;
                        self.late += 1;
                        return Err(Vain::Export);
                    }
                }
            }
            exporter.offer(&span);
        }
        let wait_unless = self.patience.is_some().then_some(&self.stop);
        let Some(printer) = &mut self.printer else { return Ok(()) };
        let Err(Closed) = printer.push(span, wait_unless) else { return Ok(()) };
        if self.exporter.is_none() {
            return Err(Vain::Print);
        }
        // Whoever reads along may go; the back end is sent everything all the same.
        if !std::mem::replace(&mut self.told_closed, true) {
            tracing::warn!("standard output is closed: nothing more is printed there, the export goes on");
        }
        Ok(())
    }

    /// What is finished by now is lost, and counted.
    pub(super) fn give_up(&mut self, pipeline: &mut Pipeline, why: Vain) {
        let count = pipeline.abandon();
        match why {
            Vain::Print => self.unprinted += count,
            Vain::Export => self.late += count,
        }
    }

    /// Exports as another configuration says. Without an endpoint the exporter in place delivers what it has and ends.
    pub(super) fn reload(&mut self, config: &Config) -> Result<(), RunError> {
        self.host.rules_digest = rules_digest(config).as_str().into();
        let otlp = &config.export.otlp;
        let teller = Teller::start(otlp, self.host.clone(), self.teller.as_ref())?;
        let wanted = !(otlp.endpoint.is_empty() && otlp.traces_endpoint.is_empty());
        match (&self.exporter, wanted) {
            (Some(exporter), true) => exporter.retarget(otlp, &self.host)?,
            (None, true) => {
                self.exporter = Exporter::start(&config.export, self.host.clone())?;
                self.prepare_for_the_worst();
            }
            (_, false) => {
                if let Some(old) = self.exporter.take() {
                    // Nobody waits for it but this thread of its own; without one it ends at once, as when it is dropped.
                    let end = move || old.shutdown(LAST_DELIVERY);
                    if let Err(error) = std::thread::Builder::new().name("spoor-old".to_owned()).spawn(end) {
                        tracing::warn!(
                            "what waits for the old endpoint is not delivered: no thread: {error}"
                        );
                    }
                }
            }
        }
        self.teller = teller;
        Ok(())
    }

    /// From now on somebody is told what is open, as the configuration says.
    pub(super) fn tell(&mut self, config: &Config) -> Result<(), RunError> {
        self.teller = Teller::start(&config.export.otlp, self.host.clone(), self.teller.as_ref())?;
        Ok(())
    }

    /// Tells what is open by now.
    pub(super) fn turn(&mut self, pipeline: &mut Pipeline, config: &Config) {
        let Some(teller) = self.teller.as_mut().filter(|teller| !teller.is_vain()) else {
            return pipeline.forget_told();
        };
        let settings =
            TellSettings { after: config.spans.pending_after, most: config.export.otlp.max_open_work };
        let events = pipeline.tell_open(settings);
        teller.tell(&events);
    }

    /// Tells that this agent is there, where that is due.
    pub(super) fn alive(&mut self, pipeline: &Pipeline) {
        let now = Instant::now();
        if let Some(teller) =
            self.teller.as_mut().filter(|teller| !teller.is_vain() && teller.is_alive_due(now))
        {
            teller.tell_alive(pipeline.services(), now);
        }
    }

    /// What became of that.
    pub(super) fn told(&self) -> open_work::Totals {
        self.teller.as_ref().map(Teller::totals).unwrap_or_default()
    }

    pub(super) fn exporter(&self) -> Option<&Exporter> {
        self.exporter.as_ref()
    }

    /// Spans that did not get to standard output.
    pub(super) fn not_printed(&self) -> u64 {
        self.unprinted + self.printer.as_ref().map_or(0, Printer::dropped)
    }

    /// Delivers what waits, as long as the end may take.
    pub(super) fn finish(mut self) -> Delivered {
        self.stop.doing("delivering spans");
        let mut longest = LAST_DELIVERY;
        if let (Some(exporter), Some(patience)) = (&self.exporter, &mut self.patience) {
            // Nobody asked for the end: a file can wait until the back end has everything.
            patience.restart();
            while exporter.totals().waiting > 0 && !self.stop.is_asked() {
                if self.gave_up || exporter.has_ended() || patience.is_over(&exporter.totals()) {
                    longest = LAST_RESORT;
                    break;
                }
                std::thread::sleep(LOOK);
            }
        }
        // Both at once: the printer's thread works while the exporter is waited for.
        let left = self.stop.until().map(|until| until.saturating_duration_since(Instant::now()));
        let longest = left.map_or(longest, |left| left.min(longest));
        let told = self.told();
        let exported = self.exporter.map(|exporter| exporter.shutdown(longest));
        self.stop.doing("writing to standard output");
        let mut printed = self.printer.map_or_else(Printed::default, |printer| printer.finish(&self.stop));
        printed.missing += self.unprinted;
        Delivered { exported, told, printed, late: self.late }
    }
}
