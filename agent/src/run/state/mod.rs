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

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::file::FileError;
use super::stop::ended;
use crate::clock;
use crate::config::Config;
use crate::files::Directory;
use crate::telemetry::Seldom;
use spoor_core::pipeline::Pipeline;
use spoor_core::pipeline::snapshot::{Snapshot, Stats};

const LOCK: &str = "learned.lock";
/// How often failures are told.
const TELL_EVERY: Duration = Duration::from_secs(300);

/// The file of an agent, and when it is written next.
#[derive(Debug)]
pub(super) struct Keeper {
    directory: Arc<Directory>,
    /// `None`: only at the end.
    every: Option<Duration>,
    next: Instant,
    /// Held for as long as this agent is the one that writes.
    lock: Option<File>,
    writing: Option<JoinHandle<Result<(), FileError>>>,
    /// That the disk takes too long was said.
    said_slow: bool,
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

/// Where it is kept unless somebody says otherwise: what packages and manifests give the agent.
const USUAL: &str = "/var/lib/spoor";

/// Where the file is. `None`: it is not wanted, or there is no directory for it.
pub fn directory(config: &Config) -> Option<PathBuf> {
    directory_or(config, Path::new(USUAL))
}

/// Without a directory that is named: `usual`, where it is there and can be written. It is not made.
fn directory_or(config: &Config, usual: &Path) -> Option<PathBuf> {
    if !config.state.keep {
        return None;
    }
    let named = [&config.state.directory, &config.export.spool.directory];
    match named.into_iter().find(|directory| !directory.is_empty()) {
        Some(named) => Some(PathBuf::from(named)),
        None => {
            let may_write = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
            let usable = usual.is_dir() && rustix::fs::access(usual, may_write).is_ok();
            usable.then(|| usual.to_owned())
        }
    }
}

impl Keeper {
    /// `None`: nothing is kept.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let directory = directory(config)?;
        // It names statements and queues, and is believed: for the agent's user only.
        let directory = match Directory::open_or_create(&directory) {
            Ok(directory) => Arc::new(directory),
            Err(error) => {
                tracing::warn!(
                    "what is learned is not kept for a restart: {error}; `state.directory` names another directory"
                );
                return None;
            }
        };
        let every = Some(config.state.save_every).filter(|every| !every.is_zero());
        Some(Self {
            directory,
            every,
            next: Instant::now() + every.unwrap_or_default(),
            lock: None,
            writing: None,
            said_slow: false,
            totals: Totals::default(),
            seldom: Seldom::new(TELL_EVERY),
        })
    }

    /// Gives the pipeline what an earlier agent left, and says so.
    pub(super) fn load(&mut self, pipeline: &mut Pipeline) {
        match file::read(&self.directory) {
            Ok(None) => {}
            Ok(Some(learned)) => {
                let now = clock::boot();
                let (connections, processes) = (learned.connections.len(), learned.processes.len());
                let age = now.since(learned.at).as_secs();
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
        self.write(pipeline.snapshot());
    }

    /// Writes the file for the last time: `learned` is of the moment before the pipeline was finished.
    pub(super) fn finish(&mut self, learned: Snapshot, until: Instant) {
        self.wait(until);
        if self.writing.is_none() && self.may_write() {
            self.write(learned);
        }
    }

    /// Waits until what was begun is written, but no longer than `until`: a disk can take for ever.
    pub(super) fn wait(&mut self, until: Instant) {
        match &self.writing {
            Some(writing) if !ended(writing, until) => {
                if !std::mem::replace(&mut self.said_slow, true) {
                    tracing::warn!(
                        "what is learned is not kept for a restart: the disk takes too long to write it"
                    );
                }
            }
            _ => self.join(),
        }
    }

    /// What can take long, the disk, waits on a thread of its own.
    fn write(&mut self, learned: Snapshot) {
        let directory = self.directory.clone();
        let write = move || file::write(&directory, &learned);
        match std::thread::Builder::new().name("spoor-state".to_owned()).spawn(write) {
            Ok(thread) => self.writing = Some(thread),
            Err(source) => self.failed(&FileError::Thread(source)),
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
            Ok(()) => self.totals.saved_unix = clock::unix().as_secs(),
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
            match self.directory.lock(LOCK) {
                Ok(lock) => self.lock = lock,
                Err(error) => self.failed(&error.into()),
            }
        }
        self.lock.is_some()
    }
}

#[cfg(test)]
mod tests;
