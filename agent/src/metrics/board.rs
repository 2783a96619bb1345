//! What the agent's loop last said of itself, for whoever asks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::durations::Durations;
use super::prometheus::{Format, Page, Process};
use super::readings::Reading;
use crate::clock;

/// The loop turns ten times a second; after this long it hangs.
const LONGEST_TURN: Duration = Duration::from_secs(30);

/// Shared between the loop, which writes, and the admin port and the metrics exporter, which read.
#[derive(Debug)]
pub struct Board {
    started: Instant,
    started_unix: Duration,
    /// Milliseconds after `started`.
    turned_ms: AtomicU64,
    capturing: AtomicBool,
    /// Connections to the admin port that had to make room for others.
    admin_given_up: AtomicU64,
    /// The hooks in use, once there are any.
    rung: OnceLock<char>,
    readings: Mutex<Vec<Reading>>,
    durations: Mutex<Durations>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            started_unix: clock::unix(),
            turned_ms: AtomicU64::new(0),
            capturing: AtomicBool::new(false),
            admin_given_up: AtomicU64::new(0),
            rung: OnceLock::new(),
            readings: Mutex::default(),
            durations: Mutex::default(),
        }
    }
}

/// Numbers stay numbers also when a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// The loop turned.
    pub fn turn(&self) {
        self.turned_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    /// Records are handled, or no longer.
    pub fn set_capturing(&self, capturing: bool) {
        self.turn();
        self.capturing.store(capturing, Ordering::Relaxed);
    }

    /// The rung of the hook ladder that capture hangs on; the first one said counts.
    pub fn set_rung(&self, rung: char) {
        let _ = self.rung.set(rung);
    }

    /// Connections to the admin port that had to make room for others, since the start.
    pub(super) fn set_admin_given_up(&self, count: u64) {
        self.admin_given_up.store(count, Ordering::Relaxed);
    }

    /// The newest numbers, all of them: what is left out is not shown.
    pub fn update(&self, readings: Vec<Reading>) {
        *lock(&self.readings) = readings;
    }

    /// The newest numbers.
    pub fn readings(&self) -> Vec<Reading> {
        lock(&self.readings).clone()
    }

    /// The histograms, to add to.
    pub fn durations(&self) -> MutexGuard<'_, Durations> {
        lock(&self.durations)
    }

    /// Why the agent should be started again, when it should.
    pub fn live(&self) -> Result<(), String> {
        let still_ms = self.age_ms().saturating_sub(self.turned_ms.load(Ordering::Relaxed));
        match still_ms <= LONGEST_TURN.as_millis() as u64 {
            true => Ok(()),
            false => Err(format!("nothing was handled for {} s", still_ms / 1000)),
        }
    }

    /// Why nothing is traced, when nothing is.
    pub fn ready(&self) -> Result<(), String> {
        self.live()?;
        match self.capturing.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("not capturing: starting or ending".to_owned()),
        }
    }

    /// Everything as Prometheus reads it.
    pub fn page(&self, format: Format) -> String {
        let mut page = Page::new(format);
        let uname = rustix::system::uname();
        let kernel = uname.release().to_string_lossy();
        let rung = self.rung.get().map_or_else(|| "none".to_owned(), char::to_string);
        page.build(&[
            ("version", env!("CARGO_PKG_VERSION")),
            ("arch", std::env::consts::ARCH),
            ("kernel", &kernel),
            ("rung", &rung),
        ]);
        page.readings(&self.readings());
        let (series, counts) = {
            let durations = self.durations();
            (durations.series(), durations.counts())
        };
        page.readings(&[
            Reading::plain("spoor.durations.overflow", counts.overflowed),
            Reading::labelled("spoor.durations.forgotten", "cause", "idle", counts.idle),
            Reading::labelled("spoor.durations.forgotten", "cause", "share", counts.share),
            Reading::plain("spoor.admin.closed", self.admin_given_up.load(Ordering::Relaxed)),
        ]);
        page.durations(&series);
        if let Some(process) = self.process() {
            page.process(&process);
        }
        page.finish()
    }

    fn age_ms(&self) -> u64 {
        self.started.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }

    fn process(&self) -> Option<Process> {
        let own = procfs::process::Process::myself().ok()?;
        let stat = own.stat().ok()?;
        let ticks = procfs::ticks_per_second().max(1) as f64;
        let limits = own.limits().ok()?;
        let max_descriptors = match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(value) => value,
            procfs::process::LimitValue::Unlimited => u64::MAX,
        };
        Some(Process {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
            virtual_bytes: stat.vsize,
            open_descriptors: own.fd_count().unwrap_or(0) as u64,
            max_descriptors,
            start_unix_seconds: self.started_unix.as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_is_ready_while_it_captures() {
        let board = Board::default();
        assert!(board.live().is_ok() && board.ready().is_err());
        board.set_capturing(true);
        assert!(board.ready().is_ok());
        board.set_capturing(false);
        assert!(board.ready().is_err());
    }

    #[test]
    fn agent_whose_loop_hangs_is_not_live() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(40));
        let Some(started) = long_ago else { return };
        let board = Board { started, ..Board::default() };
        assert_eq!(board.live(), Err("nothing was handled for 40 s".to_owned()));
        board.turn();
        assert!(board.live().is_ok());
    }
}
