//! Signals → the end of a run, which takes [`LONGEST_END`] at most, whatever the back end, the disk or a reader does.
//!
//! ```text
//!   first SIGINT or SIGTERM ─▶ the loop ends, delivers until 8 s ─▶ at 8.8 s what waits goes to the spool
//!                           ─▶ at 9.3 s the last words ─▶ by 9.5 s exit 1 ─▶ at 9.7 s killed, if even that hangs
//!                second one ─▶ exit 130 at once
//! ```
//!
//! Signals are heard on a thread of their own: the loop may be in the middle of something long, or wait for a disk or a pipe that
//! nobody reads. *Owns* the time an end may take. *Must not know* what is done in it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// After this long the process is gone, whatever hangs. Service managers wait longer: systemd 30 s by our unit, Kubernetes 30 s.
const LONGEST_END: Duration = Duration::from_millis(9700);
/// When it exits, if nothing hangs there.
const EXIT: Duration = Duration::from_millis(9500);
/// The part of it in which things are delivered; what is left is for the last words and for detaching.
const DELIVERY: Duration = Duration::from_secs(8);
/// When the last resort begins: see [`Stop::at_last`].
const LAST: Duration = Duration::from_millis(8800);
/// How long the last words may take: standard error can be a pipe that nobody reads.
const WORDS: Duration = Duration::from_millis(200);
/// All of an end fits into what is promised.
const _: () = {
    assert!(DELIVERY.as_millis() < LAST.as_millis());
    assert!(LAST.as_millis() + 2 * WORDS.as_millis() < EXIT.as_millis());
    assert!(EXIT.as_millis() + WORDS.as_millis() <= LONGEST_END.as_millis());
    assert!(LONGEST_END.as_millis() + WORDS.as_millis() < 10_000);
};
/// What waiting for a thread looks like.
const STEP: Duration = Duration::from_millis(5);
/// The exit code of what Ctrl-C ended, by the shells' convention.
const INTERRUPTED: i32 = 130;

/// What a signal asks a live run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    End,
    /// To read the configuration again.
    Reload,
}

/// The end of a run: whether it was asked for, and until when it may take.
#[derive(Clone)]
pub(super) struct Stop {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    asked: AtomicBool,
    reload: AtomicBool,
    state: Mutex<State>,
    /// For the loop: something was asked.
    loop_wake: Notify,
    /// For the thread of the signals: the end began without one.
    ended: Notify,
}

#[derive(Default)]
struct State {
    began: Option<Instant>,
    doing: &'static str,
    at_last: Option<Box<dyn FnOnce() + Send>>,
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stop").field("is_asked", &self.is_asked()).finish_non_exhaustive()
    }
}

impl Stop {
    /// Hears SIGINT and SIGTERM from now on, and SIGHUP if `reloads`: none of them kills the process any more. At a terminal
    /// SIGHUP is the terminal that hangs up: the end.
    pub(super) fn new(reloads: bool) -> io::Result<Self> {
        let stop = Self::quiet();
        let heard = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _inside = runtime.enter();
            Signals::new(reloads)?
        };
        std::thread::Builder::new()
            .name("spoor-signals".to_owned())
            .spawn(move || runtime.block_on(heard.hear(&mut signals)))?;
        Ok(stop)
    }

    /// Without signals, and so without an end that is forced.
    pub(super) fn quiet() -> Self {
        let stop = Self { shared: Arc::default() };
        stop.doing("tracing");
        stop
    }

    /// The end was asked for, or has begun.
    pub(super) fn is_asked(&self) -> bool {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// The next thing asked for. `End` again and again once it was.
    pub(super) async fn next(&self) -> Asked {
        loop {
            if self.is_asked() {
                return Asked::End;
            }
            if self.shared.reload.swap(false, Ordering::Relaxed) {
                return Asked::Reload;
            }
            self.shared.loop_wake.notified().await;
        }
    }

    /// Begins the end, if no signal did: from now on the time counts. Returns until when things may be delivered.
    pub(super) fn begin(&self) -> Instant {
        self.began() + DELIVERY
    }

    fn began(&self) -> Instant {
        let began = *self.state().began.get_or_insert_with(Instant::now);
        self.shared.asked.store(true, Ordering::Relaxed);
        self.shared.ended.notify_one();
        began
    }

    /// Until when things may be delivered; `None` while nobody asked for the end.
    pub(super) fn until(&self) -> Option<Instant> {
        self.state().began.map(|began| began + DELIVERY)
    }

    /// The end was asked for, and its time for deliveries is over.
    pub(super) fn is_over(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() >= until)
    }

    /// What is being done, for the sentence that is said when it takes too long.
    pub(super) fn doing(&self, what: &'static str) {
        self.state().doing = what;
    }

    /// What to do before the process ends by force: in less than half a second.
    pub(super) fn at_last(&self, act: impl FnOnce() + Send + 'static) {
        self.state().at_last = Some(Box::new(act));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread of the signals: returns never, but ends the process.
    async fn hear(self, signals: &mut Signals) {
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Reload => {
                        self.shared.reload.store(true, Ordering::Relaxed);
                        self.shared.loop_wake.notify_one();
                    }
                    Asked::End => break,
                },
                () = self.shared.ended.notified() => break,
            }
        }
        let began = self.began();
        self.shared.loop_wake.notify_one();
        let last = tokio::time::sleep_until((began + LAST).into());
        tokio::pin!(last);
        loop {
            tokio::select! {
                asked = signals.next() => if asked == Asked::End {
                    exit(INTERRUPTED, "");
                },
                () = &mut last => break,
            }
        }
        let (doing, at_last) = {
            let mut state = self.state();
            (state.doing, state.at_last.take())
        };
        if let Some(act) = at_last
            && let Ok(thread) = std::thread::Builder::new().spawn(act)
        {
            ended(&thread, began + EXIT - WORDS);
        }
        exit(1, doing);
    }
}

/// Ends the process. What it says is said by another thread, for the reader of standard error may be the one that hangs.
fn exit(code: i32, doing: &'static str) -> ! {
    let words = move || {
        if !doing.is_empty() {
            let seconds = EXIT.as_secs();
            crate::telemetry::print(&format!(
                "error: the end took longer than {seconds} s ({doing}): what was not delivered or written by now is lost"
            ));
            crate::telemetry::flush(WORDS);
        }
    };
    if let Ok(thread) = std::thread::Builder::new().spawn(words) {
        ended(&thread, Instant::now() + WORDS);
    }
    // The C library's exit flushes and runs handlers, and could wait for a lock: then the kernel ends it.
    let _ = std::thread::Builder::new().spawn(|| {
        std::thread::sleep(WORDS);
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    });
    std::process::exit(code)
}

/// Waits for the end of a thread, but no longer than `until`. Whether it has ended.
pub(super) fn ended<T>(thread: &JoinHandle<T>, until: Instant) -> bool {
    while !thread.is_finished() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(STEP);
    }
    true
}

/// The signals of a run.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
    at_terminal: bool,
}

impl Signals {
    fn new(reloads: bool) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if reloads { Some(signal(SignalKind::hangup())?) } else { None },
            at_terminal: io::IsTerminal::is_terminal(&io::stderr()),
        })
    }

    async fn next(&mut self) -> Asked {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
            _ = hangup => if self.at_terminal { Asked::End } else { Asked::Reload },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_is_asked_for_once_and_stays_asked_for() {
        let stop = Stop::quiet();
        assert!(!stop.is_asked() && stop.until().is_none() && !stop.is_over());
        stop.shared.reload.store(true, Ordering::Relaxed);
        assert_eq!(stop.next().await, Asked::Reload);
        let until = stop.begin();
        assert_eq!((stop.begin(), stop.until()), (until, Some(until)), "its time does not begin anew");
        assert!(stop.is_asked() && !stop.is_over());
        assert_eq!([stop.next().await, stop.next().await], [Asked::End; 2]);
        stop.state().began = Instant::now().checked_sub(DELIVERY);
        assert!(stop.is_over());
    }

    #[test]
    fn a_thread_that_hangs_is_waited_for_until_its_time_only() {
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || ends.recv());
        let before = Instant::now();
        assert!(!ended(&thread, before + Duration::from_millis(30)));
        assert!(before.elapsed() >= Duration::from_millis(30));
        drop(end);
        assert!(ended(&thread, Instant::now() + Duration::from_secs(60)));
    }
}
