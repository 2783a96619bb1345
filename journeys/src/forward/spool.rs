//! Requests that wait → sealed files in a folder, oldest first, bounded in bytes.
//!
//! *Owns* the folder `forward/`. What is on disk is sealed like everything else; a file opens under its own name only.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::private;
use crate::store::seal::{FileKey, SealError};

/// The level that costs least for requests of some hundred kilobytes.
const LEVEL: i32 = 1;
/// A request is at most so large, unpacked: what is larger was not written here.
const MAX_UNPACKED: usize = crate::intake::MAX_REQUEST_LEN;

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
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Numbers and sizes, oldest first.
    files: VecDeque<(u64, u64)>,
    bytes: u64,
    next: u64,
}

impl Spool {
    /// Opens or makes the folder; what waits there waits on.
    pub fn open(folder: &Path, key: FileKey, max_bytes: u64) -> Result<Self, SpoolError> {
        private::folder(folder).map_err(failed("make the folder", folder))?;
        let mut files: Vec<(u64, u64)> = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed("list", folder))?.flatten() {
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            let len = entry.metadata().map(|data| data.len());
            if let (Some(number), Ok(len)) = (number, len) {
                files.push((number, len));
            }
        }
        files.sort_unstable();
        let next = files.last().map_or(0, |(number, _)| number.saturating_add(1));
        let bytes = files.iter().map(|(_, len)| len).sum();
        let waiting = Mutex::new(Waiting { files: files.into(), bytes, next });
        Ok(Self { folder: folder.to_owned(), key, max_bytes, waiting, dropped: AtomicU64::new(0) })
    }

    /// Requests that were let go because there was no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Keeps a request; it is on disk when this returns well. The oldest ones make room.
    pub fn push(&self, request: &[u8]) -> Result<(), SpoolError> {
        let packed =
            zstd::bulk::compress(request, LEVEL).map_err(failed("compress a request for", &self.folder))?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let number = waiting.next;
        let name = name(number);
        let sealed = self.key.seal(&name, &packed)?;
        let len = sealed.len() as u64;
        while waiting.bytes.saturating_add(len) > self.max_bytes && !waiting.files.is_empty() {
            if let Some((oldest, len)) = waiting.files.pop_front() {
                waiting.bytes = waiting.bytes.saturating_sub(len);
                let dropped = self.dropped.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                self.remove(oldest);
                // Ever more seldom: who does not look at the first will look at the thousandth.
                if dropped.is_power_of_two() {
                    tracing::warn!(
                        dropped,
                        "requests for the other back end were let go: it is away for too long"
                    );
                }
            }
        }
        let (path, new) = (self.folder.join(&name), self.folder.join("new"));
        let write = || {
            let mut file = private::create(&new)?;
            file.write_all(&sealed)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(&self.folder)?.sync_all()
        };
        write().map_err(failed("write", &path))?;
        waiting.next = number.saturating_add(1);
        waiting.bytes = waiting.bytes.saturating_add(len);
        waiting.files.push_back((number, len));
        Ok(())
    }

    /// The request that has waited for longest, and its name.
    pub fn oldest(&self) -> Result<Option<(String, Vec<u8>)>, SpoolError> {
        let number = {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.files.front().map(|(number, _)| *number)
        };
        let Some(number) = number else { return Ok(None) };
        let name = name(number);
        let path = self.folder.join(&name);
        let sealed = match fs::read(&path) {
            Ok(sealed) => sealed,
            // It was let go in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SpoolError::Unreadable(name));
            }
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let request = self.key.unseal(&name, &sealed);
        let request = request.and_then(|packed| zstd::bulk::decompress(&packed, MAX_UNPACKED).ok());
        request.map(|request| Some((name.clone(), request))).ok_or(SpoolError::Unreadable(name))
    }

    /// A request needs to wait no longer.
    pub fn done(&self, name: &str) {
        let Ok(number) = name.parse::<u64>() else { return };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, len)) = waiting.files.pop_front_if(|(oldest, _)| *oldest == number) {
            waiting.bytes = waiting.bytes.saturating_sub(len);
            self.remove(number);
        }
    }

    fn remove(&self, number: u64) {
        let path = self.folder.join(name(number));
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "a request stays in the spool and may be sent again");
        }
    }
}

/// In the order of their numbers when sorted as text, too.
fn name(number: u64) -> String {
    format!("{number:020}")
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError::File { doing, path, source }
}
