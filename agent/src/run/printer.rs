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

/// The reader of standard output is gone, or nothing more can be written there.
#[derive(Debug)]
pub(super) struct Closed;

/// What became of spans that were to be printed.
#[derive(Debug, Default)]
pub(super) struct Printed {
    /// Those that were not.
    pub(super) missing: u64,
    /// The reader was gone before the end.
    pub(super) closed: bool,
    /// Why nothing more could be written, where the reader was not simply gone.
    pub(super) error: Option<io::Error>,
}

/// Hands spans to the printing thread.
#[derive(Debug)]
pub(super) struct Printer {
    spans: SyncSender<Span>,
    thread: JoinHandle<io::Result<()>>,
    /// The thread has ended: nobody takes spans any more.
    closed: bool,
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
        Ok(Self { spans, thread, closed: false, given: 0, written, dropped: 0 })
    }

    /// Prints a span. With `wait_unless` it waits for the reader until that end was asked for and is over; else, and then, what
    /// does not fit is dropped and counted, and so is everything once the reader is gone.
    pub(super) fn push(&mut self, mut span: Span, wait_unless: Option<&Stop>) -> Result<(), Closed> {
        if self.closed {
            self.dropped += 1;
            return Err(Closed);
        }
        loop {
            match self.spans.try_send(span) {
                Ok(()) => {
                    self.given += 1;
                    return Ok(());
                }
                Err(TrySendError::Disconnected(_)) => {
                    self.closed = true;
                    // With what was on its way.
                    self.dropped += 1 + self.unwritten();
                    return Err(Closed);
                }
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

    /// Spans that were given to the thread and have not left for standard output.
    fn unwritten(&self) -> u64 {
        self.given.saturating_sub(self.written.load(Ordering::Relaxed))
    }

    /// Spans dropped so far because the reader was too slow, or is gone.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Prints what is left, until the end that was asked for is over. Without such an end it waits for the reader.
    pub(super) fn finish(self, stop: &Stop) -> Printed {
        let (given, written) = (self.given, self.written.clone());
        let unwritten = move || given.saturating_sub(written.load(Ordering::Relaxed));
        let missing = self.dropped;
        drop(self.spans);
        while !self.thread.is_finished() {
            if stop.is_over() {
                // The thread stays behind: nothing can take it out of a write that does not return.
                return Printed { missing: missing + unwritten(), ..Printed::default() };
            }
            ended(&self.thread, Instant::now() + TICK);
        }
        // What was on its way is among them already where that was noticed before.
        let missing = if self.closed { missing } else { missing + unwritten() };
        match self.thread.join() {
            Ok(Ok(())) => Printed { missing: self.dropped, ..Printed::default() },
            Ok(Err(error)) if error.kind() == ErrorKind::BrokenPipe => {
                Printed { missing, closed: true, error: None }
            }
            Ok(Err(error)) => Printed { missing, closed: true, error: Some(error) },
            Err(_) => {
                let error = io::Error::other("the printing thread panicked");
                Printed { missing, closed: true, error: Some(error) }
            }
        }
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
