//! What was learned → the bytes of a file that holds it, and back.
//!
//! ```text
//!   "SPOORLS1" │ u32 length │ u32 CRC-32 of the payload │ payload: JSON of [`Snapshot`]          (little-endian)
//! ```
//!
//! The last byte of the magic number is the version: a file of another one is not read. Fields may come and go within a
//! version; those that are missing have their defaults. Nobody but the agent's user may write the file (see [`files`]), and
//! still no file can do more harm than being refused: its size is bounded, and so is everything that is made of it.
//!
//! [`files`]: crate::files
//!
//! *Owns* the layout, and that the file changes as a whole or not at all. *Must not know* when it is written.

use std::path::{Path, PathBuf};

use crate::files::{Directory, FileError as Unusable};
use spoor_core::pipeline::snapshot::Snapshot;

const MAGIC: &[u8; 8] = b"SPOORLS1";
const HEAD_LEN: usize = MAGIC.len() + 8;
/// Larger files are not read, and none is written.
const MAX_BYTES: usize = 32 << 20;
const NAME: &str = "learned";

/// Why a file was not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("cannot start a thread to write it: {0}")]
    Thread(std::io::Error),
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

/// Reads the file of a directory. `None`: there is none.
pub(super) fn read(directory: &Directory) -> Result<Option<Snapshot>, FileError> {
    let Some(bytes) = directory.read(NAME, MAX_BYTES as u64)? else { return Ok(None) };
    decode(&bytes, &directory.path_of(NAME)).map(Some)
}

/// Replaces the file, durably: whoever reads it meanwhile sees the old one or the new one.
pub(super) fn write(directory: &Directory, learned: &Snapshot) -> Result<(), FileError> {
    // Only one agent writes, see `Keeper`.
    Ok(directory.replace(NAME, &encode(learned)?, true)?)
}

#[cfg(test)]
mod tests;
