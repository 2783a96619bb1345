//! Spans to standard output on a thread of its own, so that a slow reader does not make capture wait.

use std::io::{self, BufWriter, ErrorKind, Stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cli::Print;
use crate::export::Host;
use crate::export::file::JsonLines;
use crate::export::tree::{Style, TreePrinter};
use spoor_core::span::Span;

/// Spans on their way to the printer.
const WAITING: usize = 16_384;
/// A trace is printed when nothing was added to it for so long.
const QUIET: Duration = Duration::from_millis(1500);
const TICK: Duration = Duration::from_millis(200);

/// The reader of standard output is gone.
#[derive(Debug)]
pub(super) struct Closed;

/// Hands spans to the printing thread.
#[derive(Debug)]
pub(super) struct Printer {
    spans: SyncSender<Span>,
    thread: JoinHandle<io::Result<()>>,
    dropped: u64,
}

impl Printer {
    pub(super) fn start(form: Print, host: Host) -> io::Result<Self> {
        let (spans, receiver) = sync_channel(WAITING);
        let thread =
            std::thread::Builder::new().name("spoor-print".to_owned()).spawn(move || match form {
                Print::Tree => trees(&receiver),
                Print::OtlpJson => lines(&receiver, host),
            })?;
        Ok(Self { spans, thread, dropped: 0 })
    }

    /// Prints a span, waiting for the reader if it `may_wait`, else dropping and counting what does not fit.
    pub(super) fn push(&mut self, span: Span, may_wait: bool) -> Result<(), Closed> {
        if may_wait {
            return self.spans.send(span).map_err(|_| Closed);
        }
        match self.spans.try_send(span) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                self.dropped += 1;
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(Closed),
        }
    }

    /// Spans dropped so far because the reader was too slow.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Prints what is left; returns the spans that were dropped because the reader was too slow.
    pub(super) fn finish(self) -> u64 {
        drop(self.spans);
        match self.thread.join() {
            Ok(Err(error)) if error.kind() != ErrorKind::BrokenPipe => {
                tracing::error!("cannot write to standard output: {error}");
            }
            Ok(_) => {}
            Err(_) => tracing::error!("the printing thread panicked"),
        }
        self.dropped
    }
}

fn out() -> BufWriter<Stdout> {
    BufWriter::with_capacity(64 << 10, io::stdout())
}

fn trees(spans: &Receiver<Span>) -> io::Result<()> {
    let mut printer = TreePrinter::new(out(), Style::of_stdout(), QUIET);
    let started = Instant::now();
    let now = || u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut next_tick = Instant::now() + TICK;
    loop {
        match spans.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
            Ok(span) => printer.push(span, now())?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return printer.finish(),
        }
        if Instant::now() >= next_tick {
            printer.tick(now())?;
            next_tick = Instant::now() + TICK;
        }
    }
}

fn lines(spans: &Receiver<Span>, host: Host) -> io::Result<()> {
    let mut writer = JsonLines::new(out(), host);
    loop {
        match spans.recv_timeout(TICK) {
            Ok(span) => writer.push(span)?,
            // Nothing more for now: whoever reads along sees it.
            Err(RecvTimeoutError::Timeout) => writer.flush()?,
            Err(RecvTimeoutError::Disconnected) => return writer.flush(),
        }
    }
}
