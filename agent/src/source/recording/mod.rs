//! The file of `spoor record`: [`Record`]s → bytes ([`Writer`]), and back ([`Reader`]).
//!
//! *Owns* the layout below and its version. *Must not know* who produces or uses the records.
//!
//! All integers are little-endian. Strings are a `u16` length and UTF-8. A file is a header, then records up to its
//! end; any prefix of a recording is a recording, so a writer that is killed costs its last record.
//!
//! ```text
//!   header   0  [u8; 8]  magic 89 's' 'p' 'o' 'o' 'r' 0d 0a    (a text-mode transfer breaks it)
//!            8  u16      version, 2; files of version 1 are read, too: see `codec`
//!           10  u16      0
//!           12  u32      length of the body, at most 64 KiB
//!           16  u32      CRC-32 of the body
//!           20  body     u64 boot_ns, u64 unix_ns   clocks at the start
//!                        str boot ID, str host ID, str configuration digest, str agent version
//!                        str contents: `raw` (traffic as it was sent) or `scrubbed` (lengths without bytes)
//!                        (later versions may append fields; readers skip what they do not know)
//!
//!   record   0  u32      length of the payload, at most 16 MiB
//!            4  u8       type: 1 clock, 2 conn, 3 data, 4 close, 5 process, 6 process info, 7 lost, 8 chain
//!            5  u8       0
//!            6  u16      low half of the CRC-32 of bytes 0 to 5: a damaged length is not followed
//!            8  u32      CRC-32 of the payload
//!           12  payload  see `codec`; unknown types and appended fields are skipped
//! ```

mod codec;
pub mod scrub;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

use codec::{Decoder, Encoder};

use super::input::Input;
use super::{Source, SourceError};
use spoor_core::record::{ClockPair, Record};
use spoor_core::time::WallTime;

/// The first bytes of a recording.
pub const MAGIC: [u8; 8] = *b"\x89spoor\r\n";
/// The version this program writes.
pub const VERSION: u16 = 2;
/// The earliest version it reads.
pub const FIRST_VERSION: u16 = 1;
/// Largest payload of a record. Captured bytes beyond it are left out: their length stays.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// Largest body of the header.
const MAX_HEADER: usize = 64 << 10;

/// What a recording says about where it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Both clocks when it was begun.
    pub started: Option<ClockPair>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// What `host.id` is on spans.
    pub host_id: String,
    /// Digest of the configuration in force.
    pub config_digest: String,
    pub agent_version: String,
    pub contents: Contents,
}

/// What the bytes of a recording are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contents {
    /// Traffic as it was sent, with whatever passwords and personal data are in it.
    #[default]
    Raw,
    /// No traffic: see [`scrub`].
    Scrubbed,
}

impl Contents {
    /// The word in the header.
    pub fn name(self) -> &'static str {
        match self {
            Contents::Raw => "raw",
            Contents::Scrubbed => "scrubbed",
        }
    }
}

/// Writes a recording.
///
/// Each record goes out with one `write_all`; wrap a slow `W` in a `BufWriter` and call [`Writer::flush`] at moments
/// that should survive a crash.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    buffer: Vec<u8>,
    records: u64,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    pub fn new(mut to: W, header: &Header) -> io::Result<Self> {
        let mut body = Vec::new();
        let mut encoder = Encoder(&mut body);
        let started = header.started.unwrap_or(ClockPair::UNKNOWN);
        encoder.clocks(started);
        let contents = header.contents.name().to_owned();
        let texts =
            [&header.boot_id, &header.host_id, &header.config_digest, &header.agent_version, &contents];
        for text in texts {
            // Five of these always fit into the longest body.
            encoder.string(text.get(..text.floor_char_boundary(MAX_HEADER / 8)).unwrap_or_default());
        }
        let mut head = Vec::with_capacity(20 + body.len());
        head.extend_from_slice(&MAGIC);
        let mut encoder = Encoder(&mut head);
        encoder.u16(VERSION);
        encoder.u16(0);
        encoder.u32(body.len() as u32);
        encoder.u32(crc32fast::hash(&body));
        head.extend_from_slice(&body);
        to.write_all(&head)?;
        to.flush()?;
        Ok(Self { to, buffer: Vec::new(), records: 0, bytes: head.len() as u64 })
    }

    /// Appends a record.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.resize(12, 0);
        let kind = codec::encode(record, &mut self.buffer);
        let payload = self.buffer.get(12..).unwrap_or_default();
        let crc = crc32fast::hash(payload);
        let mut head = Vec::with_capacity(12);
        let mut encoder = Encoder(&mut head);
        encoder.u32(payload.len() as u32);
        encoder.u8(kind);
        encoder.u8(0);
        let check = head_check(&head);
        let mut encoder = Encoder(&mut head);
        encoder.u16(check);
        encoder.u32(crc);
        if let Some(place) = self.buffer.get_mut(..12) {
            place.copy_from_slice(&head);
        }
        self.to.write_all(&self.buffer)?;
        self.records += 1;
        self.bytes += self.buffer.len() as u64;
        // One large record must not pin its buffer.
        if self.buffer.capacity() > 1 << 20 {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Makes everything written so far reach `W`'s destination.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// Records written.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes written, header included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Flushes and gives back what was written to.
    pub fn into_inner(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.to)
    }
}

/// Reads a recording.
#[derive(Debug)]
pub struct Reader<R> {
    input: Input<R>,
    version: u16,
    header: Header,
    buffer: Vec<u8>,
    is_over: bool,
    records: u64,
    unknown: u64,
    damaged: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the header. `file` is the name for messages.
    pub fn new(file: String, from: R) -> Result<Self, SourceError> {
        let mut input = Input::new(file, from);
        let mut buffer = Vec::new();
        input.rest(&mut buffer, 20, "the header of a recording")?;
        let mut decoder = Decoder(&buffer);
        let head = (|| {
            Some((decoder.array::<8>()?, decoder.u16()?, decoder.u16()?, decoder.u32()?, decoder.u32()?))
        })();
        let Some((magic, version, _, len, crc)) = head else {
            return Err(input.truncated("the header of a recording"));
        };
        if magic != MAGIC {
            return Err(input.damaged(0, "this is not the start of a recording"));
        }
        if !(FIRST_VERSION..=VERSION).contains(&version) {
            return Err(input.version(version.into(), VERSION.into()));
        }
        let len = len as usize;
        if len > MAX_HEADER {
            return Err(input.damaged(12, format!("a header of {len} bytes")));
        }
        input.rest(&mut buffer, len, "the header of a recording")?;
        if crc32fast::hash(&buffer) != crc {
            return Err(input.damaged(20, "the header does not match its checksum"));
        }
        let mut decoder = Decoder(&buffer);
        let header = (|| {
            let started = decoder.clocks()?;
            Some(Header {
                started: (started.wall != WallTime::ZERO).then_some(started),
                boot_id: decoder.string()?,
                host_id: decoder.string()?,
                config_digest: decoder.string()?,
                agent_version: decoder.string()?,
                contents: match (version, decoder.string()) {
                    (_, Some(contents)) if contents == "scrubbed" => Contents::Scrubbed,
                    // The first recordings do not say it, and were all raw.
                    (1, _) | (_, Some(_)) => Contents::Raw,
                    _ => return None,
                },
            })
        })();
        let Some(header) = header else { return Err(input.damaged(20, "the header is too short")) };
        Ok(Self { input, version, header, buffer, is_over: false, records: 0, unknown: 0, damaged: 0 })
    }

    /// The payload and type of the next record that is whole.
    fn advance(&mut self) -> Result<Option<(u64, u8)>, SourceError> {
        let offset = self.input.offset();
        if !self.input.piece(&mut self.buffer, 12, "the head of a record")? {
            return Ok(None);
        }
        let check = head_check(self.buffer.get(..6).unwrap_or_default());
        let mut decoder = Decoder(&self.buffer);
        let head =
            (|| Some((decoder.u32()?, decoder.u8()?, decoder.u8()?, decoder.u16()?, decoder.u32()?)))();
        let Some((len, kind, _, _, crc)) = head.filter(|head| head.3 == check) else {
            return Err(self.input.damaged(offset, "the head of a record does not match its checksum"));
        };
        let len = len as usize;
        if len > MAX_PAYLOAD {
            return Err(self.input.damaged(offset, format!("a record of {len} bytes")));
        }
        self.input.rest(&mut self.buffer, len, "a record")?;
        if crc32fast::hash(&self.buffer) != crc {
            self.damaged += 1;
            let what = format!("a record of {len} bytes does not match its checksum and is left out");
            return Err(self.input.damaged(offset, what));
        }
        Ok(Some((offset, kind)))
    }
}

impl<R: Read + Send> Source for Reader<R> {
    fn next(&mut self) -> Result<Option<Record>, SourceError> {
        while !self.is_over {
            let damaged = self.damaged;
            let (offset, kind) = match self.advance() {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) => {
                    // A record whose payload alone is damaged is stepped over; anything else loses the framing.
                    self.is_over = self.damaged == damaged;
                    return Err(error);
                }
            };
            match codec::decode(self.version, kind, &self.buffer) {
                Ok(Some(record)) => {
                    self.records += 1;
                    return Ok(Some(record));
                }
                Ok(None) => self.unknown += 1,
                Err(what) => {
                    self.damaged += 1;
                    return Err(self.input.damaged(offset, format!("{what}, and the record is left out")));
                }
            }
        }
        self.is_over = true;
        Ok(None)
    }

    fn header(&self) -> Option<&Header> {
        Some(&self.header)
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("records", self.records),
            ("records of unknown type", self.unknown),
            ("damaged records", self.damaged),
        ]
    }
}

/// Guards a record's length and type.
fn head_check(head: &[u8]) -> u16 {
    (crc32fast::hash(head) & 0xffff) as u16
}
