//! Ctrl-C and SIGTERM → everything that waits gives up, and what was started is stopped on the way out.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::interrupt;

/// From now on a signal interrupts (see [`interrupt`]); `program` says so on standard error.
pub fn watch_signals(program: &'static str) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot watch signals")?;
    let (mut interrupted, mut terminated) = runtime.block_on(async {
        anyhow::Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    })?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
        });
        eprintln!("\n{program}: stopping");
        interrupt();
    });
    Ok(())
}
