//! What the pipeline learns to a file, now and then and at the end; from the file to the next agent's pipeline at its start.
//!
//! ```text
//!   start ─▶ read, restore ─▶ … every `state.save_every`: snapshot ─▶ thread: write … ─▶ end: snapshot, write
//! ```
//!
//! Nothing here stops an agent: what cannot be read is left, what cannot be written is told and tried again. Of several agents
//! with one directory, the first one writes; the others read what is there at their start, and one of them goes on writing when
//! the first one has ended.
//!
//! *Owns* when the file is read and written, and by whom. *Must not know* what is in it.

pub mod file;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::file::FileError;
use crate::clock;
use crate::config::Config;
use crate::telemetry::Seldom;
use spoor_core::pipeline::Pipeline;
use spoor_core::pipeline::snapshot::{Snapshot, Stats};

const FILE: &str = "learned";
const LOCK: &str = "learned.lock";
/// How often failures are told.
const TELL_EVERY: Duration = Duration::from_secs(300);

/// The file of an agent, and when it is written next.
#[derive(Debug)]
pub(super) struct Keeper {
    directory: PathBuf,
    /// `None`: only at the end.
    every: Option<Duration>,
    next: Instant,
    /// Held for as long as this agent is the one that writes.
    lock: Option<File>,
    writing: Option<JoinHandle<Result<(), FileError>>>,
    totals: Totals,
    seldom: Seldom,
}

/// What became of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// When it was last written, seconds since the Unix epoch; 0 for never.
    pub(super) saved_unix: u64,
    /// Files that were not used.
    pub(super) refused: u64,
    /// Times that it could not be written.
    pub(super) failed: u64,
}

/// Where the file is. `None`: it is not wanted, or there is no directory for it.
pub fn directory(config: &Config) -> Option<PathBuf> {
    let named = [&config.state.directory, &config.export.spool.directory];
    let directory = named.into_iter().find(|directory| !directory.is_empty());
    directory.filter(|_| config.state.keep).map(PathBuf::from)
}

impl Keeper {
    /// `None`: nothing is kept.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let directory = directory(config)?;
        // It names statements and queues: for the agent's user only.
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(&directory) {
            let shown = directory.display();
            tracing::warn!(
                "what is learned is not kept for a restart: cannot create directory `{shown}`: {error}"
            );
            return None;
        }
        let every = Some(config.state.save_every).filter(|every| !every.is_zero());
        Some(Self {
            directory,
            every,
            next: Instant::now() + every.unwrap_or_default(),
            lock: None,
            writing: None,
            totals: Totals::default(),
            seldom: Seldom::new(TELL_EVERY),
        })
    }

    /// Gives the pipeline what an earlier agent left, and says so.
    pub(super) fn load(&mut self, pipeline: &mut Pipeline) {
        match file::read(&self.directory.join(FILE)) {
            Ok(None) => {}
            Ok(Some(learned)) => {
                let now = clock::boot_ns();
                let (connections, processes) = (learned.connections.len(), learned.processes.len());
                let age = Duration::from_nanos(now.saturating_sub(learned.at)).as_secs();
                pipeline.restore(learned, now);
                let Stats { connections: taken, processes_waiting, other_boot, .. } = pipeline.restored();
                if other_boot > 0 {
                    tracing::info!("what was learned before the machine started anew is of no use any more");
                } else if connections + processes > 0 {
                    tracing::info!(
                        "taken over from an earlier run, {age} s old: {} of {connections} connections, {processes_waiting} of \
                         {processes} processes, each as soon as it is seen to be the same",
                        taken.waiting,
                    );
                }
            }
            Err(error) => {
                self.totals.refused += 1;
                tracing::warn!("starting without what was learned before: {error}");
            }
        }
    }

    /// Writes the file, if it is time.
    pub(super) fn turn(&mut self, pipeline: &Pipeline) {
        let Some(every) = self.every else { return };
        if Instant::now() < self.next || self.writing.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        self.next = Instant::now() + every;
        self.join();
        if !self.may_write() {
            return;
        }
        // What can take long, the disk, waits on a thread of its own.
        let (path, learned) = (self.directory.join(FILE), pipeline.snapshot());
        let write = move || file::write(&path, &learned);
        match std::thread::Builder::new().name("spoor-state".to_owned()).spawn(write) {
            Ok(thread) => self.writing = Some(thread),
            Err(source) => self.failed(&FileError::Io {
                what: "start a thread to write",
                path: self.directory.clone(),
                source,
            }),
        }
    }

    /// Writes the file for the last time: `learned` is of the moment before the pipeline was finished.
    pub(super) fn finish(&mut self, learned: &Snapshot) {
        self.join();
        if self.may_write() {
            let written = file::write(&self.directory.join(FILE), learned);
            self.note(written);
        }
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    fn join(&mut self) {
        if let Some(Ok(written)) = self.writing.take().map(JoinHandle::join) {
            self.note(written);
        }
    }

    fn note(&mut self, written: Result<(), FileError>) {
        match written {
            Ok(()) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.totals.saved_unix = now.as_secs();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &FileError) {
        self.totals.failed += 1;
        if self.seldom.due(Instant::now()).is_some() {
            tracing::warn!("what is learned is not kept for a restart: {error}");
        }
    }

    /// This agent is the one that writes, from now on at least.
    fn may_write(&mut self) -> bool {
        if self.lock.is_none() {
            match lock(&self.directory.join(LOCK)) {
                Ok(lock) => self.lock = lock,
                Err(error) => self.failed(&error),
            }
        }
        self.lock.is_some()
    }
}

/// `None`: another agent has it.
fn lock(path: &Path) -> Result<Option<File>, FileError> {
    let error = |source| FileError::Io { what: "lock", path: path.to_owned(), source };
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(error)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(error(source)),
    }
}

#[cfg(test)]
mod tests;
