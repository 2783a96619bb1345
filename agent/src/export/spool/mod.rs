//! Encoded batches that could not be sent in, the same batches in the same order out, across restarts.
//!
//! *Owns* a directory of segment files, bounded in bytes and age; the oldest segment is dropped first and counted.
//! A batch is given out again until it is acknowledged, so a killed agent repeats at most one and loses none.
//! *Must not know* what a batch contains.

mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use segment::Segment;

/// What a spool may take.
#[derive(Clone, Debug)]
pub struct Limits {
    pub max_bytes: u64,
    pub max_age: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("the spool directory `{0}` is used by another running agent: give each agent its own")]
    InUse(PathBuf),
    #[error("cannot {what} `{path}` of the spool: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
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
    directory: PathBuf,
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
    pub fn open(directory: &Path, limits: Limits) -> Result<Self, SpoolError> {
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| SpoolError::Io { what, path, source }
        };
        // Spans name orders, users and statements: for the agent's user only.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io("create directory", directory))?;
        let lock = lock(directory)?;
        let mut segments = VecDeque::new();
        let mut discarded = Discarded::default();
        for (sequence, path) in segment::list(directory).map_err(io("list", directory))? {
            let (segment, damaged) = Segment::scan(sequence, &path).map_err(io("read", &path))?;
            discarded.damaged_segments += u64::from(damaged);
            match segment.is_empty() {
                true => fs::remove_file(&path).map_err(io("remove", &path))?,
                false => segments.push_back(segment),
            }
        }
        let next_sequence = segments.back().map_or(1, |last| last.sequence.saturating_add(1));
        // Small enough that dropping the oldest segment drops little, large enough to have few files.
        let segment_bytes = (limits.max_bytes / 16).clamp(64 << 10, 16 << 20);
        let mut spool = Self {
            directory: directory.to_owned(),
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
        segment::write(&mut writer, &record, segment.len).map_err(|source| SpoolError::Io {
            what: "write",
            path: segment.path.clone(),
            source,
        })?;
        segment.add(needed, span_count, unix_ms);
        self.writer = Some(writer);
        Ok(())
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
            let read = first.read(self.read_offset).map_err(|source| SpoolError::Io {
                what: "read",
                path: first.path.clone(),
                source,
            })?;
            match read {
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
        let sequence = self.next_sequence;
        // Never used again, also when this fails half way.
        self.next_sequence += 1;
        let (segment, file) = Segment::create(&self.directory, sequence).map_err(|source| {
            SpoolError::Io { what: "create a segment in", path: self.directory.clone(), source }
        })?;
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
        match fs::remove_file(&first.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(SpoolError::Io { what: "remove", path: first.path, source })
            }
            _ => Ok(first.unread_spans),
        }
    }

    fn cursor_path(&self) -> PathBuf {
        self.directory.join("cursor")
    }

    fn save_cursor(&self, cursor: segment::Cursor) -> Result<(), SpoolError> {
        let path = self.cursor_path();
        cursor.save(&path).map_err(|source| SpoolError::Io { what: "write", path, source })
    }

    /// Skips what was acknowledged before the restart. A missing or damaged cursor repeats batches, never loses any.
    fn restore_cursor(&mut self) -> Result<(), SpoolError> {
        let Some(cursor) = segment::Cursor::load(&self.cursor_path()) else { return Ok(()) };
        while self.segments.front().is_some_and(|first| first.sequence < cursor.sequence) {
            self.drop_oldest()?;
        }
        if let Some(first) = self.segments.front_mut()
            && first.sequence == cursor.sequence
            && let Ok(Some(skipped)) = first.spans_before(cursor.offset)
        {
            first.unread_spans = first.unread_spans.saturating_sub(skipped);
            self.read_offset = cursor.offset;
        }
        // A sequence number is never used twice, even after everything was delivered.
        self.next_sequence = self.next_sequence.max(cursor.sequence.saturating_add(1));
        Ok(())
    }
}

fn lock(directory: &Path) -> Result<File, SpoolError> {
    let path = directory.join("lock");
    let error = |source| SpoolError::Io { what: "lock", path: path.clone(), source };
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(error(source)),
    }
}
