//! Requests that wait → sealed files in a folder, oldest first, bounded in bytes.
//!
//! *Owns* the folder `forward/`. What is on disk is sealed like everything else; a file opens under its own name only.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::Counts;
use crate::private;
use crate::store::seal::{FileKey, SealError};

/// The level that costs least for requests of some hundred kilobytes.
const LEVEL: i32 = 1;
/// A request is at most so large, unpacked: what is larger was not written here.
const MAX_UNPACKED: usize = crate::intake::MAX_REQUEST_LEN;
/// A file takes whole blocks of a disk, however small it is: most file systems have them of so many bytes.
const BLOCK_LEN: u64 = 4_096;

/// Why a request could not be kept or given.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("cannot {doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0}")]
    Seal(#[from] SealError),
    #[error("the request {0} in the spool does not open")]
    Unreadable(String),
    #[error("the server stops")]
    Closed,
}

/// Requests on disk.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    key: FileKey,
    max_bytes: u64,
    waiting: Mutex<Waiting>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Numbers and what they take on disk, oldest first.
    files: VecDeque<(u64, u64)>,
    bytes: u64,
    next: u64,
    /// The one that is being sent: it does not make room for others, so each request is sent or let go, never both.
    sending: Option<u64>,
}

impl Waiting {
    /// What the one that is being sent takes: no other makes room there.
    fn busy_bytes(&self) -> u64 {
        let busy = self.files.front().filter(|(number, _)| Some(*number) == self.sending);
        busy.map_or(0, |(_, bytes)| *bytes)
    }

    /// Takes out the oldest one that may go.
    fn oldest_idle(&mut self) -> Option<u64> {
        let at = usize::from(self.files.front().is_some_and(|(number, _)| Some(*number) == self.sending));
        let (number, bytes) = self.files.remove(at)?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(number)
    }

    /// Takes a request out; whether it was there.
    fn remove(&mut self, number: u64) -> bool {
        let at = self.files.iter().position(|(one, _)| *one == number);
        match at.and_then(|at| self.files.remove(at)) {
            Some((_, bytes)) => {
                self.bytes = self.bytes.saturating_sub(bytes);
                true
            }
            None => false,
        }
    }
}

impl Spool {
    /// Opens or makes the folder; what waits there waits on.
    pub fn open(
        folder: &Path,
        key: FileKey,
        max_bytes: u64,
        counts: Arc<Counts>,
    ) -> Result<Self, SpoolError> {
        private::folder(folder).map_err(failed("make the folder", folder))?;
        let mut files: Vec<(u64, u64)> = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed("list", folder))?.flatten() {
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            let len = entry.metadata().map(|data| data.len());
            if let (Some(number), Ok(len)) = (number, len) {
                files.push((number, on_disk(len)));
            }
        }
        files.sort_unstable();
        let next = files.last().map_or(0, |(number, _)| number.saturating_add(1));
        let bytes = files.iter().map(|(_, bytes)| bytes).sum();
        counts.waiting.store(files.len() as u64, Ordering::Relaxed);
        let waiting = Mutex::new(Waiting { files: files.into(), bytes, next, sending: None });
        Ok(Self { folder: folder.to_owned(), key, max_bytes, waiting, counts })
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Keeps a request; it is on disk when this returns well. The oldest ones make room; one for which all of them together
    /// could make none is let go itself, and nothing for it.
    pub fn push(&self, request: &[u8]) -> Result<(), SpoolError> {
        let packed =
            zstd::bulk::compress(request, LEVEL).map_err(failed("compress a request for", &self.folder))?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let number = waiting.next;
        let name = name(number);
        let sealed = self.key.seal(&name, &packed)?;
        let bytes = on_disk(sealed.len() as u64);
        if waiting.busy_bytes().saturating_add(bytes) > self.max_bytes {
            self.count_dropped();
            return Ok(());
        }
        while waiting.bytes.saturating_add(bytes) > self.max_bytes {
            let Some(gone) = waiting.oldest_idle() else { break };
            self.count_dropped();
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.remove(gone);
        }
        self.write(&name, &sealed)?;
        waiting.next = number.saturating_add(1);
        waiting.bytes = waiting.bytes.saturating_add(bytes);
        waiting.files.push_back((number, bytes));
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn count_dropped(&self) {
        let dropped = self.counts.dropped.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // Ever more seldom: who does not look at the first will look at the thousandth.
        if dropped.is_power_of_two() {
            tracing::warn!(
                dropped,
                "requests for the other back end were let go: it is away for too long, or they are larger than the spool"
            );
        }
    }

    /// Writes a file, which is whole or as it was.
    fn write(&self, name: &str, sealed: &[u8]) -> Result<(), SpoolError> {
        let (path, new) = (self.folder.join(name), self.folder.join("new"));
        let write = || {
            let mut file = private::create(&new)?;
            file.write_all(sealed)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(&self.folder)?.sync_all()
        };
        write().map_err(failed("write", &path))
    }

    /// The request that has waited for longest, and its name; it stays until it is [`Self::done`].
    pub fn oldest(&self) -> Result<Option<(String, Vec<u8>)>, SpoolError> {
        let number = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.sending = waiting.files.front().map(|(number, _)| *number);
            waiting.sending
        };
        number.map(|number| Ok((name(number), self.read(number)?))).transpose()
    }

    fn read(&self, number: u64) -> Result<Vec<u8>, SpoolError> {
        let name = name(number);
        let path = self.folder.join(&name);
        let sealed = match fs::read(&path) {
            Ok(sealed) => sealed,
            // Somebody removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SpoolError::Unreadable(name));
            }
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let request = self.key.unseal(&name, &sealed);
        let request = request.and_then(|packed| zstd::bulk::decompress(&packed, MAX_UNPACKED).ok());
        request.ok_or(SpoolError::Unreadable(name))
    }

    /// A request needs to wait no longer.
    pub fn done(&self, name: &str) {
        let Ok(number) = name.parse::<u64>() else { return };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.sending == Some(number) {
            waiting.sending = None;
        }
        if waiting.remove(number) {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.remove(number);
        }
    }

    /// Looks at every request that waits, while nobody sends: it stays as it is (`Kept`), becomes another one, or leaves. One
    /// that does not open leaves: nobody could send it.
    pub fn change_all(&self, change: impl Fn(&[u8]) -> Changed) -> Result<u64, SpoolError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers: Vec<u64> = waiting.files.iter().map(|(number, _)| *number).collect();
        let mut count = 0;
        for number in numbers {
            let changed = match self.read(number) {
                Ok(request) => change(&request),
                Err(SpoolError::Unreadable(_)) => Changed::Gone,
                Err(error) => return Err(error),
            };
            match changed {
                Changed::Kept => continue,
                Changed::To(request) => {
                    let name = name(number);
                    let packed = zstd::bulk::compress(&request, LEVEL)
                        .map_err(failed("compress a request for", &self.folder))?;
                    self.write(&name, &self.key.seal(&name, &packed)?)?;
                }
                Changed::Gone => {
                    waiting.remove(number);
                    self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
                    let path = self.folder.join(name(number));
                    match fs::remove_file(&path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(failed("remove", &path)(error));
                        }
                        _ => {}
                    }
                }
            }
            count += 1;
        }
        Ok(count)
    }

    fn remove(&self, number: u64) {
        let path = self.folder.join(name(number));
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "a request stays in the spool and may be sent again");
        }
    }
}

/// What becomes of a request that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    Kept,
    To(Vec<u8>),
    Gone,
}

/// What a file of that length takes.
fn on_disk(len: u64) -> u64 {
    len.div_ceil(BLOCK_LEN).max(1).saturating_mul(BLOCK_LEN)
}

/// In the order of their numbers when sorted as text, too.
fn name(number: u64) -> String {
    format!("{number:020}")
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError::File { doing, path, source }
}
