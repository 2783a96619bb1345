//! The signals that end a run in order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks a live run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    End,
    /// To read the configuration again.
    Reload,
}

/// SIGHUP besides what ends a run. At a terminal it is the terminal that hangs up: the end.
#[derive(Debug)]
pub(super) struct Signals {
    stop: Stop,
    hangup: Signal,
    at_terminal: bool,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let at_terminal = io::IsTerminal::is_terminal(&io::stderr());
        Ok(Self { stop: Stop::new()?, hangup: signal(SignalKind::hangup())?, at_terminal })
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            () = self.stop.asked() => Asked::End,
            _ = self.hangup.recv() => if self.at_terminal { Asked::End } else { Asked::Reload },
        }
    }
}

/// Ctrl-C and SIGTERM. After [`Stop::new`] they no longer kill the process.
#[derive(Debug)]
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The first signal.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The same as a flag, for a loop that never waits. A second signal ends the process at once.
pub(super) fn flag() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("spoor-signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let Ok(mut stop) = Stop::new() else { return };
            stop.asked().await;
            set.store(true, Ordering::Relaxed);
            stop.asked().await;
            std::process::exit(130);
        });
    })?;
    Ok(flag)
}
