//! Encoded batches that could not be sent → the same batches in the same order, across restarts.
//!
//! *Owns* a directory of segment files, bounded in bytes and age; the oldest segment is dropped first and counted.
//! A batch is given out again until it is acknowledged, so a killed agent repeats at most one and loses none.
//! What stands in the directory and is no segment of the agent's own is left alone, and named once in the log.
//! *Must not know* what a batch contains.

mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use crate::files::{Directory, FileError};
use segment::Segment;

/// How far the spool was delivered.
const CURSOR: &str = "cursor";

/// What a spool may take.
#[derive(Clone, Debug)]
pub struct Limits {
    pub max_bytes: u64,
    pub max_age: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error(
        "the spool directory `{0}` is used by another running agent: give each agent its own by `export.spool.directory`"
    )]
    InUse(PathBuf),
    #[error(
        "the spool cannot be used: {0}; `export.spool.directory` has to name a directory that only the agent's user may \
         write, or none"
    )]
    File(#[from] FileError),
    #[error(
        "a batch of {len} bytes does not fit into a spool of {max} bytes: raise `export.spool.max_bytes`"
    )]
    TooLarge { len: u64, max: u64 },
}

/// Spans discarded by the spool, by cause, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// The oldest, to stay within `max_bytes`.
    pub full: u64,
    /// Older than `max_age`.
    pub expired: u64,
    /// Behind a record whose checksum was wrong.
    pub damaged: u64,
    /// Segments that were cut at such a record when the spool was opened; how many spans that were is not known.
    pub damaged_segments: u64,
}

/// A batch given out. It stays in the spool until [`Spool::acknowledge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub payload: Bytes,
    pub span_count: u32,
    place: Place,
    next_offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    sequence: u64,
    offset: u64,
}

/// A spool that is open for reading and writing.
#[derive(Debug)]
pub struct Spool {
    directory: Directory,
    limits: Limits,
    segment_bytes: u64,
    /// Oldest first; the last one is written to if `writer` is there.
    segments: VecDeque<Segment>,
    /// Where the oldest segment is read next.
    read_offset: u64,
    writer: Option<File>,
    next_sequence: u64,
    discarded: Discarded,
    /// Held for as long as the spool is open.
    _lock: File,
}

impl Spool {
    /// Opens or creates the spool, and repairs what a killed agent left: unfinished records are cut off.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, SpoolError> {
        let directory = Directory::open_or_create(path)?;
        let lock = directory.lock("lock")?.ok_or_else(|| SpoolError::InUse(path.to_owned()))?;
        let mut segments = VecDeque::new();
        let mut discarded = Discarded::default();
        let mut next_sequence = 1;
        for sequence in segment::list(&directory)? {
            // A name is never used twice, whatever stands behind it.
            next_sequence = sequence.saturating_add(1);
            match Segment::scan(&directory, sequence) {
                Ok((segment, damaged)) => {
                    discarded.damaged_segments += u64::from(damaged);
                    match segment.is_empty() {
                        true => directory.remove(&segment.name)?,
                        false => segments.push_back(segment),
                    }
                }
                Err(error @ FileError::Io { .. }) => return Err(error.into()),
                Err(error) => tracing::warn!("left alone in the spool: {error}"),
            }
        }
        // Small enough that dropping the oldest segment drops little, large enough to have few files.
        let segment_bytes = (limits.max_bytes / 16).clamp(64 << 10, 16 << 20);
        let mut spool = Self {
            directory,
            limits,
            segment_bytes,
            segments,
            read_offset: segment::START,
            writer: None,
            next_sequence,
            discarded,
            _lock: lock,
        };
        spool.restore_cursor()?;
        Ok(spool)
    }

    /// Adds the newest batch, durable when this returns. Drops the oldest segments when there is no room.
    pub fn append(&mut self, payload: &[u8], span_count: u32, unix_ms: u64) -> Result<(), SpoolError> {
        let too_large = |len| SpoolError::TooLarge { len, max: self.limits.max_bytes };
        let record =
            record::encode(payload, span_count, unix_ms).ok_or_else(|| too_large(payload.len() as u64))?;
        let needed = record.len() as u64;
        if needed + segment::START > self.limits.max_bytes {
            return Err(too_large(needed));
        }
        while self.len_bytes() + needed + segment::START > self.limits.max_bytes {
            self.discarded.full += self.drop_oldest()?;
        }
        let rotate = self.segments.back().is_none_or(|last| last.len + needed > self.segment_bytes);
        if rotate {
            self.writer = None;
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.new_segment()?,
        };
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        match segment::write(&mut writer, &record, segment.len) {
            Ok(()) => {
                segment.add(needed, span_count, unix_ms);
                self.writer = Some(writer);
                Ok(())
            }
            Err(failed) => {
                // The next attempt goes on in the same file: on a full disk every new one would be one more that is empty.
                self.writer = failed.is_whole.then_some(writer);
                let path = self.directory.path_of(&segment.name);
                Err(FileError::Io { what: "write", path, source: failed.source }.into())
            }
        }
    }

    /// The oldest batch, after dropping what is too old at `unix_ms`.
    pub fn oldest(&mut self, unix_ms: u64) -> Result<Option<Entry>, SpoolError> {
        let max_age_ms = u64::try_from(self.limits.max_age.as_millis()).unwrap_or(u64::MAX);
        while let Some(first) = self.segments.front() {
            if unix_ms.saturating_sub(first.newest_unix_ms) > max_age_ms {
                self.discarded.expired += self.drop_oldest()?;
                continue;
            }
            if self.read_offset >= first.len {
                self.drop_oldest()?;
                continue;
            }
            match first.read(&self.directory, self.read_offset)? {
                Some((head, payload, next_offset)) => {
                    let place = Place { sequence: first.sequence, offset: self.read_offset };
                    return Ok(Some(Entry { payload, span_count: head.span_count, place, next_offset }));
                }
                None => self.discarded.damaged += self.drop_oldest()?,
            }
        }
        Ok(None)
    }

    /// Forgets a batch that was delivered. Does nothing when it was dropped in the meantime.
    pub fn acknowledge(&mut self, entry: &Entry) -> Result<(), SpoolError> {
        let Some(first) = self.segments.front_mut() else { return Ok(()) };
        if first.sequence != entry.place.sequence || self.read_offset != entry.place.offset {
            return Ok(());
        }
        first.unread_spans = first.unread_spans.saturating_sub(u64::from(entry.span_count));
        self.read_offset = entry.next_offset;
        if self.read_offset >= first.len {
            self.drop_oldest()?;
            return Ok(());
        }
        let cursor = segment::Cursor { sequence: first.sequence, offset: self.read_offset };
        self.save_cursor(cursor)
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.span_count() == 0
    }

    /// Spans waiting.
    pub fn span_count(&self) -> u64 {
        self.segments.iter().map(|segment| segment.unread_spans).sum()
    }

    /// Size of all segments.
    pub fn len_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// What was discarded since the spool was opened.
    pub fn discarded(&self) -> Discarded {
        self.discarded
    }

    fn new_segment(&mut self) -> Result<File, SpoolError> {
        let created = Segment::create(&self.directory, self.next_sequence);
        let is_taken = matches!(&created, Err(FileError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists);
        if created.is_ok() || is_taken {
            self.next_sequence = self.next_sequence.saturating_add(1);
        }
        let (segment, file) = created?;
        if self.segments.is_empty() {
            self.read_offset = segment::START;
        }
        self.segments.push_back(segment);
        Ok(file)
    }

    /// Removes the oldest segment; returns the spans in it that were not delivered.
    fn drop_oldest(&mut self) -> Result<u64, SpoolError> {
        let Some(first) = self.segments.pop_front() else { return Ok(0) };
        if self.segments.is_empty() {
            self.writer = None;
        }
        self.read_offset = segment::START;
        self.directory.remove(&first.name)?;
        Ok(first.unread_spans)
    }

    fn save_cursor(&self, cursor: segment::Cursor) -> Result<(), SpoolError> {
        Ok(self.directory.replace(CURSOR, &cursor.encode(), false)?)
    }

    /// Skips what was acknowledged before the restart. A missing or damaged cursor repeats batches, never loses any.
    fn restore_cursor(&mut self) -> Result<(), SpoolError> {
        let Some(cursor) = self.load_cursor() else { return Ok(()) };
        while self.segments.front().is_some_and(|first| first.sequence < cursor.sequence) {
            self.drop_oldest()?;
        }
        if let Some(first) = self.segments.front_mut()
            && first.sequence == cursor.sequence
            && let Ok(Some(skipped)) = first.spans_before(&self.directory, cursor.offset)
        {
            first.unread_spans = first.unread_spans.saturating_sub(skipped);
            self.read_offset = cursor.offset;
        }
        // A sequence number is never used twice, even after everything was delivered.
        self.next_sequence = self.next_sequence.max(cursor.sequence.saturating_add(1));
        Ok(())
    }

    fn load_cursor(&self) -> Option<segment::Cursor> {
        match self.directory.read(CURSOR, segment::Cursor::LEN) {
            Ok(bytes) => segment::Cursor::decode(&bytes?),
            Err(error) => {
                tracing::warn!("what was delivered before the start may be sent again: {error}");
                None
            }
        }
    }
}
