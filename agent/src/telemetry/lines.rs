//! Lines → standard error, from a thread of their own: nobody who logs waits for a reader, and one that is gone harms nobody.
//!
//! A container runtime with a full disk, or a pipe into a program that was stopped, takes nothing any more; the loop that captures
//! logs all the same. What does not fit is dropped and counted with the lines that are held back.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Lines on their way.
const WAITING: usize = 4096;
/// How often a flush tries again where nothing more fits.
const STEP: Duration = Duration::from_millis(5);

static LINES: OnceLock<SyncSender<Message>> = OnceLock::new();

enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it was written.
    Flush(SyncSender<()>),
}

/// Starts the thread. Until then, and where no thread can be started, lines are written by whoever has them.
pub(super) fn start() {
    let (lines, incoming) = sync_channel(WAITING);
    let write = move || write_all(&incoming, io::stderr());
    if std::thread::Builder::new().name("spoor-log".to_owned()).spawn(write).is_ok() {
        // A second call, in tests, keeps the first one's thread; the new one ends, for nobody has its sender.
        let _ = LINES.set(lines);
    }
}

fn write_all(incoming: &Receiver<Message>, mut out: impl Write) {
    for message in incoming {
        match message {
            // Whoever read it may be gone.
            Message::Line(line) => {
                if out.write_all(&line).is_err() {
                    count_dropped(&line);
                }
            }
            Message::Flush(done) => drop(done.send(())),
        }
    }
}

/// Hands one or more whole lines on. They are dropped and counted when too many wait already.
pub(super) fn push(line: Vec<u8>) {
    match LINES.get() {
        Some(lines) => push_to(lines, line),
        None if io::stderr().write_all(&line).is_err() => count_dropped(&line),
        None => {}
    }
}

fn push_to(lines: &SyncSender<Message>, line: Vec<u8>) {
    // No room, or the thread is gone.
    if let Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) =
        lines.try_send(Message::Line(line))
        && let Message::Line(line) = back
    {
        count_dropped(&line);
    }
}

fn count_dropped(text: &[u8]) {
    super::count_suppressed(text.iter().filter(|byte| **byte == b'\n').count() as u64);
}

/// Waits until everything that was said is written, but no longer than `longest`.
pub(super) fn flush(longest: Duration) {
    let Some(lines) = LINES.get() else { return };
    flush_to(lines, longest);
}

fn flush_to(lines: &SyncSender<Message>, longest: Duration) {
    let until = Instant::now() + longest;
    let (done, written) = sync_channel(1);
    let mut flush = Message::Flush(done);
    while let Err(TrySendError::Full(back)) = lines.try_send(flush) {
        if Instant::now() >= until {
            return;
        }
        flush = back;
        std::thread::sleep(STEP);
    }
    let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
}

/// Makes a line of each event.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToLines;

impl<'a> MakeWriter<'a> for ToLines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// An event being written: handed on when it is complete.
#[derive(Debug)]
pub(super) struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.0);
        if !line.is_empty() {
            push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing until it is let go.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_is_not_waited_for() {
        let (lines, incoming) = sync_channel(2);
        let (go, stuck) = sync_channel(0);
        let thread = std::thread::spawn(move || write_all(&incoming, Stuck(stuck)));
        let before = Instant::now();
        let counted = crate::telemetry::suppressed();
        (0..100).for_each(|_| push_to(&lines, b"x\ny\n".to_vec()));
        // Two wait, and one is being written by now or is not.
        let dropped = crate::telemetry::suppressed() - counted;
        assert!(dropped >= 2 * 97, "{dropped}");
        flush_to(&lines, Duration::from_millis(30));
        assert!(before.elapsed() >= Duration::from_millis(30));
        drop(go);
        flush_to(&lines, Duration::from_secs(60));
        drop(lines);
        thread.join().unwrap();
    }

    #[test]
    fn an_output_that_is_closed_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let (lines, incoming) = sync_channel(10);
        lines.send(Message::Line(b"x\ny\n".to_vec())).unwrap();
        drop(lines);
        let counted = crate::telemetry::suppressed();
        write_all(&incoming, Closed);
        assert!(crate::telemetry::suppressed() >= counted + 2, "what nobody read is counted");
    }
}
