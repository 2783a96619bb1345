//! What was learned in, the bytes of a file that holds it out, and back.
//!
//! ```text
//!   "SPOORLS1" │ u32 length │ u32 CRC-32 of the payload │ payload: JSON of [`Snapshot`]          (little-endian)
//! ```
//!
//! The last byte of the magic number is the version: a file of another one is not read. Fields may come and go within a
//! version; those that are missing have their defaults. Nobody but the agent's user may write the file, and still no file
//! can do more harm than being refused: its size is bounded, and so is everything that is made of it.
//!
//! *Owns* the layout, and that the file changes as a whole or not at all. *Must not know* when it is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use spoor_core::pipeline::snapshot::Snapshot;

const MAGIC: &[u8; 8] = b"SPOORLS1";
const HEAD_LEN: usize = MAGIC.len() + 8;
/// Larger files are not read, and none is written.
const MAX_BYTES: usize = 32 << 20;
/// Who may write it besides its owner: nobody.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// Why a file was not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot {what} `{path}`: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{0}` is not a plain file that only the agent's user may write")]
    NotOurs(PathBuf),
    #[error("`{path}` is damaged: {why}")]
    Damaged { path: PathBuf, why: &'static str },
    #[error("`{0}` was written by another version")]
    OtherVersion(PathBuf),
    #[error("what was learned takes {0} bytes, more than a file may have")]
    TooLarge(usize),
}

/// The bytes of a file.
pub fn encode(learned: &Snapshot) -> Result<Vec<u8>, FileError> {
    let mut bytes = vec![0; HEAD_LEN];
    // Writing to memory cannot fail, and the types have no map with keys that are not text.
    let _ = serde_json::to_writer(&mut bytes, learned);
    if bytes.len() > MAX_BYTES {
        return Err(FileError::TooLarge(bytes.len()));
    }
    let (head, payload) = bytes.split_at_mut(HEAD_LEN);
    let (len, crc) = (payload.len() as u32, crc32fast::hash(payload));
    head.copy_from_slice(&[&MAGIC[..], &len.to_le_bytes(), &crc.to_le_bytes()].concat());
    Ok(bytes)
}

/// What a file's bytes say.
pub fn decode(bytes: &[u8], path: &Path) -> Result<Snapshot, FileError> {
    let damaged = |why| FileError::Damaged { path: path.to_owned(), why };
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| damaged("it is too short"))?;
    if magic != MAGIC {
        let is_ours = magic.starts_with(MAGIC.get(..7).unwrap_or_default());
        return Err(if is_ours {
            FileError::OtherVersion(path.to_owned())
        } else {
            damaged("it is another file")
        });
    }
    let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it is too short"))?;
    let (crc, payload) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it is too short"))?;
    if payload.len() as u64 != u64::from(u32::from_le_bytes(*len)) {
        return Err(damaged("its length is wrong"));
    }
    if crc32fast::hash(payload) != u32::from_le_bytes(*crc) {
        return Err(damaged("its checksum is wrong"));
    }
    serde_json::from_slice(payload).map_err(|_| damaged("it cannot be understood"))
}

/// Reads a file. `None`: there is none.
pub(super) fn read(path: &Path) -> Result<Option<Snapshot>, FileError> {
    let io = |source| FileError::Io { what: "read", path: path.to_owned(), source };
    let no_links = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let mut file = match OpenOptions::new().read(true).custom_flags(no_links).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let metadata = file.metadata().map_err(io)?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !own || !metadata.is_file() || metadata.mode() & OTHERS_MAY_WRITE != 0 {
        return Err(FileError::NotOurs(path.to_owned()));
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > MAX_BYTES {
        return Err(FileError::Damaged { path: path.to_owned(), why: "it is too large" });
    }
    decode(&bytes, path).map(Some)
}

/// Replaces the file, durably: whoever reads it meanwhile sees the old one or the new one.
pub(super) fn write(path: &Path, learned: &Snapshot) -> Result<(), FileError> {
    let bytes = encode(learned)?;
    // One name for all: what an agent that was killed left is written over. Only one agent writes, see `Lock`.
    let temporary = path.with_extension("new");
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| FileError::Io { what, path, source }
    };
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(io("create", &temporary))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(io("replace", path))?;
    // The new name outlives a power cut only when the directory is written, too.
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io("write", directory))
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
