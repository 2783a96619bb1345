//! One segment file: created, appended to, scanned after a restart, read record by record.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use bytes::Bytes;

use super::record::{HEAD_LEN, Head, MAGIC};
use crate::files::{Directory, FileError};

/// Offset of the first record.
pub(super) const START: u64 = MAGIC.len() as u64;
/// Larger payloads are damage: `export.otlp.max_request_bytes` is not larger, and the resource of a span little more.
const MAX_PAYLOAD: u32 = 96 << 20;
/// Sequence numbers beyond this were not given by an agent; there is always a next one.
const MAX_SEQUENCE: u64 = u64::MAX / 2;

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    /// Of its file.
    pub(super) name: String,
    /// Length of the valid prefix.
    pub(super) len: u64,
    /// Spans that were not acknowledged.
    pub(super) unread_spans: u64,
    pub(super) newest_unix_ms: u64,
}

impl Segment {
    fn new(sequence: u64) -> Self {
        Self { sequence, name: name(sequence), len: START, unread_spans: 0, newest_unix_ms: 0 }
    }

    pub(super) fn create(directory: &Directory, sequence: u64) -> Result<(Self, File), FileError> {
        let segment = Self::new(sequence);
        let mut file = directory.create_new(&segment.name)?;
        if let Err(source) = file.write_all(MAGIC) {
            // A full disk: the same name is tried again.
            let _ = directory.remove(&segment.name);
            return Err(FileError::Io { what: "write", path: directory.path_of(&segment.name), source });
        }
        Ok((segment, file))
    }

    /// Reads a segment left by an earlier run and cuts it after its last valid record. Also returns whether that was
    /// for a whole record with a wrong checksum, not for one that was being written.
    pub(super) fn scan(directory: &Directory, sequence: u64) -> Result<(Self, bool), FileError> {
        let mut segment = Self::new(sequence);
        // Gone since it was listed: as good as empty.
        let Some(file) = directory.edit(&segment.name)? else { return Ok((segment, false)) };
        let path = directory.path_of(&segment.name);
        let damaged = segment.scan_file(&file);
        damaged.map(|damaged| (segment, damaged)).map_err(|source| FileError::Io {
            what: "read",
            path,
            source,
        })
    }

    fn scan_file(&mut self, file: &File) -> io::Result<bool> {
        let segment = self;
        let file_len = file.metadata()?.len();
        let mut magic = [0; MAGIC.len()];
        let mut reader = BufReader::new(file);
        let known = reader.read_exact(&mut magic).is_ok() && magic == *MAGIC;
        if !known {
            return Ok(file_len >= START);
        }
        segment.len = file_len;
        let mut offset = START;
        let mut damaged = false;
        loop {
            match segment.read_at(&mut reader, offset)? {
                ReadAt::Record(head, _, next) => {
                    segment.unread_spans += u64::from(head.span_count);
                    segment.newest_unix_ms = segment.newest_unix_ms.max(head.unix_ms);
                    offset = next;
                }
                ReadAt::Damaged => {
                    damaged = true;
                    break;
                }
                ReadAt::End => break,
            }
        }
        segment.len = offset;
        if offset < file_len {
            file.set_len(offset)?;
        }
        Ok(damaged)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len <= START
    }

    pub(super) fn add(&mut self, len: u64, span_count: u32, unix_ms: u64) {
        self.len += len;
        self.unread_spans += u64::from(span_count);
        self.newest_unix_ms = self.newest_unix_ms.max(unix_ms);
    }

    /// The record at `offset` and the offset of the next; `None` when it is damaged.
    pub(super) fn read(
        &self,
        directory: &Directory,
        offset: u64,
    ) -> Result<Option<(Head, Bytes, u64)>, FileError> {
        self.with_file(directory, |mut file| {
            file.seek(SeekFrom::Start(offset))?;
            Ok(match self.read_at(&mut file, offset)? {
                ReadAt::Record(head, payload, next) => Some((head, payload, next)),
                ReadAt::Damaged | ReadAt::End => None,
            })
        })
    }

    /// Spans in the records before `offset`; `None` when `offset` is not the start of a record or the end.
    pub(super) fn spans_before(&self, directory: &Directory, offset: u64) -> Result<Option<u64>, FileError> {
        self.with_file(directory, |file| {
            let mut reader = BufReader::new(file);
            reader.seek(SeekFrom::Start(START))?;
            let (mut at, mut spans) = (START, 0);
            while at < offset {
                match self.read_at(&mut reader, at)? {
                    ReadAt::Record(head, _, next) => {
                        spans += u64::from(head.span_count);
                        at = next;
                    }
                    ReadAt::Damaged | ReadAt::End => return Ok(None),
                }
            }
            Ok((at == offset).then_some(spans))
        })
    }

    /// Reads in its file. One that is gone has nothing.
    fn with_file<T>(
        &self,
        directory: &Directory,
        read: impl FnOnce(&File) -> io::Result<Option<T>>,
    ) -> Result<Option<T>, FileError> {
        let Some(file) = directory.open(&self.name)? else { return Ok(None) };
        let io = |source| FileError::Io { what: "read", path: directory.path_of(&self.name), source };
        read(&file).map_err(io)
    }

    fn read_at(&self, reader: &mut impl Read, offset: u64) -> io::Result<ReadAt> {
        let left = self.len.saturating_sub(offset);
        if left < HEAD_LEN as u64 {
            return Ok(ReadAt::End);
        }
        let mut head = [0; HEAD_LEN];
        if !read_whole(reader, &mut head)? {
            return Ok(ReadAt::End);
        }
        let head = Head::parse(&head);
        // A length that leads past the end is a record that was being written, or damage: never allocate for it.
        if u64::from(head.payload_len) > left - HEAD_LEN as u64 {
            return Ok(ReadAt::End);
        }
        if head.payload_len > MAX_PAYLOAD {
            return Ok(ReadAt::Damaged);
        }
        let mut payload = vec![0; head.payload_len as usize];
        if !read_whole(reader, &mut payload)? {
            return Ok(ReadAt::End);
        }
        if !head.fits(&payload) {
            return Ok(ReadAt::Damaged);
        }
        let next = offset + HEAD_LEN as u64 + u64::from(head.payload_len);
        Ok(ReadAt::Record(head, payload.into(), next))
    }
}

fn name(sequence: u64) -> String {
    format!("{sequence:020}.segment")
}

enum ReadAt {
    Record(Head, Bytes, u64),
    Damaged,
    End,
}

fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// A record could not be written.
#[derive(Debug)]
pub(super) struct WriteFailed {
    pub(super) source: io::Error,
    /// What was written of it was taken back: the file ends with a whole record.
    pub(super) is_whole: bool,
}

/// Appends a record to a file of length `len`; on an error (a full disk) takes back what was written of it.
pub(super) fn write(file: &mut File, record: &[u8], len: u64) -> Result<(), WriteFailed> {
    let written = file.write_all(record).and_then(|()| file.sync_data());
    // When even this fails, the next scan cuts the unfinished record off.
    written.map_err(|source| WriteFailed { source, is_whole: file.set_len(len).is_ok() })
}

/// Sequence numbers of the segments in a directory, oldest first.
pub(super) fn list(directory: &Directory) -> Result<Vec<u64>, FileError> {
    let number = |name: &str| {
        let sequence = name.strip_suffix(".segment")?.parse().ok()?;
        // Written as an agent writes it: one number has one name.
        (sequence <= MAX_SEQUENCE && self::name(sequence) == name).then_some(sequence)
    };
    let mut found: Vec<u64> = directory.names()?.iter().filter_map(|name| number(name.to_str()?)).collect();
    found.sort_unstable();
    Ok(found)
}

/// How far the spool was delivered: replaced as a whole after each batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) sequence: u64,
    pub(super) offset: u64,
}

impl Cursor {
    pub(super) const LEN: u64 = 20;

    /// Two 64-bit numbers and the CRC-32 of both.
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LEN as usize);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// `None` when the bytes are damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, crc) = bytes.split_at_checked(16)?;
        if crc32fast::hash(numbers).to_le_bytes() != crc {
            return None;
        }
        let (sequence, offset) = numbers.split_at(8);
        Some(Self {
            sequence: u64::from_le_bytes(sequence.try_into().ok()?),
            offset: u64::from_le_bytes(offset.try_into().ok()?),
        })
    }
}
