//! One segment file: created, appended to, scanned after a restart, read record by record.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::record::{HEAD_LEN, Head, MAGIC};

/// Offset of the first record.
pub(super) const START: u64 = MAGIC.len() as u64;

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    /// Length of the valid prefix.
    pub(super) len: u64,
    /// Spans that were not acknowledged.
    pub(super) unread_spans: u64,
    pub(super) newest_unix_ms: u64,
}

impl Segment {
    pub(super) fn create(directory: &Path, sequence: u64) -> io::Result<(Self, File)> {
        let path = directory.join(format!("{sequence:020}.segment"));
        let mut file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path)?;
        file.write_all(MAGIC)?;
        Ok((Self { sequence, path, len: START, unread_spans: 0, newest_unix_ms: 0 }, file))
    }

    /// Reads a segment left by an earlier run and cuts it after its last valid record. Also returns whether that was
    /// for a whole record with a wrong checksum, not for one that was being written.
    pub(super) fn scan(sequence: u64, path: &Path) -> io::Result<(Self, bool)> {
        let file_len = fs::metadata(path)?.len();
        let mut segment =
            Self { sequence, path: path.to_owned(), len: START, unread_spans: 0, newest_unix_ms: 0 };
        let mut magic = [0; MAGIC.len()];
        let mut reader = BufReader::new(File::open(path)?);
        let known = reader.read_exact(&mut magic).is_ok() && magic == *MAGIC;
        if !known {
            return Ok((segment, file_len >= START));
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
            OpenOptions::new().write(true).open(path)?.set_len(offset)?;
        }
        Ok((segment, damaged))
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
    pub(super) fn read(&self, offset: u64) -> io::Result<Option<(Head, Bytes, u64)>> {
        let mut reader = File::open(&self.path)?;
        reader.seek(SeekFrom::Start(offset))?;
        Ok(match self.read_at(&mut reader, offset)? {
            ReadAt::Record(head, payload, next) => Some((head, payload, next)),
            ReadAt::Damaged | ReadAt::End => None,
        })
    }

    /// Spans in the records before `offset`; `None` when `offset` is not the start of a record or the end.
    pub(super) fn spans_before(&self, offset: u64) -> io::Result<Option<u64>> {
        let mut reader = BufReader::new(File::open(&self.path)?);
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

/// Appends a record to a file of length `len`; on an error (a full disk) takes back what was written of it.
pub(super) fn write(file: &mut File, record: &[u8], len: u64) -> io::Result<()> {
    let written = file.write_all(record).and_then(|()| file.sync_data());
    if written.is_err() {
        // When even this fails, the next scan cuts the unfinished record off.
        let _ = file.set_len(len);
    }
    written
}

/// Segments of a directory, oldest first.
pub(super) fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "segment")
            && let Some(sequence) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
        {
            found.push((sequence, path));
        }
    }
    found.sort();
    Ok(found)
}

/// How far the spool was delivered: replaced as a whole after each batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) sequence: u64,
    pub(super) offset: u64,
}

impl Cursor {
    /// Two 64-bit numbers and the CRC-32 of both.
    pub(super) fn save(self, path: &Path) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(20);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        fs::rename(new, path)
    }

    pub(super) fn load(path: &Path) -> Option<Self> {
        let bytes: [u8; 20] = fs::read(path).ok()?.try_into().ok()?;
        let (numbers, crc) = bytes.split_at(16);
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
