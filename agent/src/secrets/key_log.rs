//! Key log files → [`Known`] secrets.
//!
//! *Owns* reading them, whole or while they grow. *Must not know* the format: [`Reader`] does.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files::FileError;
use spoor_core::tls::Known;
use spoor_core::tls::keylog::{Counts, Reader};
use zeroize::Zeroizing;

/// Bytes read of a key log at a time.
const PIECE: usize = 64 << 10;
/// Bytes read of a key log per turn of the live loop, so that a large one does not stop it: some 8,000 connections.
const MAX_PER_TURN: u64 = 4 << 20;

/// Why a key log cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the key log `{path}`: {source}")]
pub struct KeyLogError {
    path: PathBuf,
    source: io::Error,
}

/// A key log that may grow.
#[derive(Debug)]
pub struct KeyLog {
    path: PathBuf,
    open: Option<Open>,
    /// That it cannot be read was said.
    is_told: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode: another file may take its place.
    identity: (u64, u64),
    offset: u64,
    reader: Reader,
}

impl KeyLog {
    /// A file that need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, open: None, is_told: false }
    }

    /// Reads a file that is whole; `found` is called for every secret in it.
    pub fn read_all(path: &Path, mut found: impl FnMut(Known)) -> Result<Counts, KeyLogError> {
        let failed = |source| KeyLogError { path: path.to_owned(), source };
        let mut open = open(path).map_err(failed)?;
        while open.read(u64::MAX, &mut found).map_err(failed)? > 0 {}
        open.reader.finish(&mut found);
        Ok(open.reader.counts())
    }

    /// Reads what was added since the last time. A file that was replaced or cut is read from its beginning.
    pub fn turn(&mut self, mut found: impl FnMut(Known)) {
        match self.read_on(&mut found) {
            Ok(()) => self.is_told = false,
            // It comes with the first program that writes it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.open = None,
            Err(error) => {
                self.open = None;
                if !std::mem::replace(&mut self.is_told, true) {
                    tracing::warn!("cannot read the key log `{}`: {error}", self.path.display());
                }
            }
        }
    }

    fn read_on(&mut self, found: &mut impl FnMut(Known)) -> io::Result<()> {
        let now = std::fs::metadata(&self.path)?;
        let identity = (now.dev(), now.ino());
        let is_same = |open: &Open| open.identity == identity && open.offset <= now.len();
        if !self.open.as_ref().is_some_and(is_same) {
            self.open = Some(open(&self.path)?);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.offset < now.len() {
            open.read(MAX_PER_TURN, found)?;
        }
        Ok(())
    }
}

impl Open {
    /// Reads at most so many bytes. Returns how many there were.
    fn read(&mut self, most: u64, found: &mut impl FnMut(Known)) -> io::Result<u64> {
        let mut piece = Zeroizing::new(vec![0; PIECE]);
        let mut total = 0;
        self.file.seek(SeekFrom::Start(self.offset))?;
        while total < most {
            let len = match self.file.read(&mut piece) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.reader.read(piece.get(..len).unwrap_or_default(), &mut *found);
            self.offset += len as u64;
            total += len as u64;
        }
        Ok(total)
    }
}

/// Opens a plain file, and nothing else: a program that writes into a FIFO would get `EPIPE` from a reader that comes and goes.
fn open(path: &Path) -> io::Result<Open> {
    let file = crate::files::open(path).map_err(FileError::into_io)?;
    let stat = file.metadata()?;
    Ok(Open { file, identity: (stat.dev(), stat.ino()), offset: 0, reader: Reader::default() })
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    fn line(random: u8) -> String {
        format!("CLIENT_TRAFFIC_SECRET_0 {} {}\n", format!("{random:02x}").repeat(32), "5a".repeat(32))
    }

    fn turn(log: &mut KeyLog) -> Vec<u8> {
        let mut found = Vec::new();
        log.turn(|known| found.push(known.client_random[0]));
        found
    }

    #[test]
    fn a_key_log_is_followed_through_growth_replacement_and_absence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.log");
        let mut log = KeyLog::new(path.clone());
        assert_eq!(turn(&mut log), b"", "it is not there yet");
        std::fs::write(&path, line(1)).unwrap();
        assert_eq!(turn(&mut log), [1]);
        assert_eq!(turn(&mut log), b"");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        let (first, second) = (line(2), line(3));
        // Half a line is read when it is whole.
        file.write_all(&[first.as_bytes(), &second.as_bytes()[..40]].concat()).unwrap();
        assert_eq!(turn(&mut log), [2]);
        file.write_all(&second.as_bytes()[40..]).unwrap();
        assert_eq!(turn(&mut log), [3]);
        std::fs::write(&path, line(4)).unwrap();
        assert_eq!(turn(&mut log), [4], "it was cut");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(turn(&mut log), b"");
        std::fs::write(&path, line(5)).unwrap();
        assert_eq!(turn(&mut log), [5]);
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let error = KeyLog::read_all(directory.path(), |_| ()).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the key log"), "{error}");
        assert_eq!(turn(&mut KeyLog::new(directory.path().to_owned())), b"");
        let whole = directory.path().join("keys.log");
        std::fs::write(&whole, line(9).trim_end()).unwrap();
        let mut found = 0;
        let counts = KeyLog::read_all(&whole, |_| found += 1).unwrap();
        assert_eq!((found, counts.secrets, counts.invalid), (1, 1, 0), "the last line has no end");
    }
}
