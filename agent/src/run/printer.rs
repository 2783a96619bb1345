//! Spans → standard output, on a thread of its own, so that a slow reader does not make capture wait, nor the end.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::stop::{Stop, ended};
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
/// How often a wait for the reader looks whether the end was asked for.
const LOOK: Duration = Duration::from_millis(5);

/// The reader of standard output is gone.
#[derive(Debug)]
pub(super) struct Closed;

/// Hands spans to the printing thread.
#[derive(Debug)]
pub(super) struct Printer {
    spans: SyncSender<Span>,
    thread: JoinHandle<io::Result<()>>,
    /// Given to the thread, and known to have been written by it.
    given: u64,
    written: Arc<AtomicU64>,
    dropped: u64,
}

impl Printer {
    pub(super) fn start(form: Print, host: Host) -> io::Result<Self> {
        Self::start_to(form, host, io::stdout())
    }

    fn start_to(form: Print, host: Host, to: impl Write + Send + 'static) -> io::Result<Self> {
        let (spans, receiver) = sync_channel(WAITING);
        let written = Arc::new(AtomicU64::new(0));
        let mut incoming = Incoming { spans: receiver, taken: 0, written: written.clone() };
        let out = BufWriter::with_capacity(64 << 10, to);
        let thread =
            std::thread::Builder::new().name("spoor-print".to_owned()).spawn(move || match form {
                Print::Tree => trees(&mut incoming, out),
                Print::OtlpJson => lines(&mut incoming, out, host),
            })?;
        Ok(Self { spans, thread, given: 0, written, dropped: 0 })
    }

    /// Prints a span. With `wait_unless` it waits for the reader until that end was asked for and is over; else, and then, what
    /// does not fit is dropped and counted.
    pub(super) fn push(&mut self, mut span: Span, wait_unless: Option<&Stop>) -> Result<(), Closed> {
        loop {
            match self.spans.try_send(span) {
                Ok(()) => {
                    self.given += 1;
                    return Ok(());
                }
                Err(TrySendError::Disconnected(_)) => return Err(Closed),
                Err(TrySendError::Full(back)) if wait_unless.is_some_and(|stop| !stop.is_over()) => {
                    span = back
                }
                Err(TrySendError::Full(_)) => {
                    self.dropped += 1;
                    return Ok(());
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Spans dropped so far because the reader was too slow.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Prints what is left, until the end that was asked for is over; returns the spans that were not printed because the reader
    /// was too slow. Without such an end it waits for the reader.
    pub(super) fn finish(self, stop: &Stop) -> u64 {
        drop(self.spans);
        while !self.thread.is_finished() {
            if stop.is_over() {
                // The thread stays behind: nothing can take it out of a write that does not return.
                return self.dropped + self.given.saturating_sub(self.written.load(Ordering::Relaxed));
            }
            ended(&self.thread, Instant::now() + TICK);
        }
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

/// Spans as the thread takes them.
struct Incoming {
    spans: Receiver<Span>,
    taken: u64,
    /// Those that have left for standard output: what is in a buffer, or in a tree that is held, has not.
    written: Arc<AtomicU64>,
}

impl Incoming {
    fn next(&mut self, wait: Duration) -> Result<Span, RecvTimeoutError> {
        let span = self.spans.recv_timeout(wait)?;
        self.taken += 1;
        Ok(span)
    }

    /// All that was taken is written, but for so many.
    fn written_but(&self, held: usize) {
        self.written.store(self.taken.saturating_sub(held as u64), Ordering::Relaxed);
    }
}

fn trees(spans: &mut Incoming, out: impl Write) -> io::Result<()> {
    let mut printer = TreePrinter::new(out, Style::of_stdout(), QUIET);
    let started = Instant::now();
    let mut next_tick = Instant::now() + TICK;
    loop {
        match spans.next(next_tick.saturating_duration_since(Instant::now())) {
            Ok(span) => printer.push(span, started.elapsed())?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return printer.finish(),
        }
        if Instant::now() >= next_tick {
            printer.tick(started.elapsed())?;
            next_tick = Instant::now() + TICK;
        }
        spans.written_but(printer.held());
    }
}

fn lines(spans: &mut Incoming, out: impl Write, host: Host) -> io::Result<()> {
    let mut writer = JsonLines::new(out, host);
    loop {
        match spans.next(TICK) {
            Ok(span) => writer.push(span)?,
            // Nothing more for now: whoever reads along sees it.
            Err(RecvTimeoutError::Timeout) => {
                writer.flush()?;
                spans.written_but(0);
            }
            Err(RecvTimeoutError::Disconnected) => return writer.flush(),
        }
    }
}
