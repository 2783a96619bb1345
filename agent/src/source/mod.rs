//! The live kernel ([`live`]), recordings of `spoor record` and pcap or pcapng captures → [`Record`]s.
//!
//! *Owns* telling file formats apart ([`open`]) and the words for what is wrong with one ([`SourceError`]).
//! *Must not know* protocols, spans, or how records are used.
//!
//! A damaged file never costs what is whole: every complete record before the damage comes out first, then the error
//! that says where and what, then nothing, or, where the format allows, what follows.

pub mod file;
mod input;
pub mod live;
pub mod pcap;
pub mod recording;

use std::io::{BufRead, Read};
use std::path::Path;

use crate::config::Services;
use spoor_core::record::Record;
use spoor_core::tls::Known;

/// Records of a file, one after the other.
pub trait Source: Send {
    /// The next record. `None` is the end.
    ///
    /// An error for which [`SourceError::is_warning`] holds leaves the source usable: call again until `None`.
    fn next(&mut self) -> Result<Option<Record>, SourceError>;

    /// What the file holds and nothing was made of, and what it does not show, by name, for the summary: what is not zero.
    fn unread(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Secrets of TLS connections that the file held before the record that came last; never part of a record.
    fn secrets(&mut self) -> Vec<Known> {
        Vec::new()
    }

    /// Where and when the records were made; `None` for a capture, which does not say.
    fn header(&self) -> Option<&recording::Header> {
        None
    }

    /// What was counted on the way, by name, for the log.
    fn counts(&self) -> Vec<(&'static str, u64)>;
}

/// What is wrong with a file, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot open `{file}`")]
    Open {
        file: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read `{file}` at byte {offset}")]
    Read {
        file: String,
        offset: u64,
        #[source]
        source: std::io::Error,
    },
    #[error("`{file}` is {is}: {}", unpacked(file, program))]
    Compressed { file: String, is: &'static str, program: &'static str },
    #[error("`{file}` is neither a recording nor a pcap or pcapng capture: it starts with {start}")]
    UnknownFormat { file: String, start: String },
    #[error("`{file}` has format version {found}, this program reads up to version {supported}")]
    Version { file: String, found: u32, supported: u32 },
    #[error("`{file}` ends at byte {offset} inside {what}: everything before it was read")]
    Truncated { file: String, offset: u64, what: &'static str },
    #[error("`{file}` is damaged at byte {offset}: {what}")]
    Damaged { file: String, offset: u64, what: String },
}

/// How a compressed file is read all the same. What came through a pipe has no name that a program could open.
fn unpacked(file: &str, program: &str) -> String {
    match file {
        // unzip reads files only.
        file::STANDARD_INPUT if program.starts_with("unzip") => {
            "put `funzip |` before this command".to_owned()
        }
        file::STANDARD_INPUT => format!("put `{program} |` before this command"),
        file => format!("`{program} {file} | spoor replay -` reads it"),
    }
}

impl SourceError {
    /// The file is usable up to there, or even after it.
    pub fn is_warning(&self) -> bool {
        matches!(self, SourceError::Truncated { .. } | SourceError::Damaged { .. })
    }
}

/// Opens a file, whatever its format, also one that is compressed; `-` is standard input.
/// `services.names` with a port name the processes of a capture, which has none.
pub fn open(path: &Path, services: &Services) -> Result<Box<dyn Source>, SourceError> {
    let opened = file::open(path)?;
    read(opened.name, opened.bytes, services)
}

/// Reads a stream that is known as `file` in messages.
pub fn read<R>(file: String, mut from: R, services: &Services) -> Result<Box<dyn Source>, SourceError>
where
    R: BufRead + Send + 'static,
{
    let mut start = Vec::new();
    let taken = from.by_ref().take(8).read_to_end(&mut start);
    taken.map_err(|source| SourceError::Read { file: file.clone(), offset: 0, source })?;
    let whole = std::io::Cursor::new(start.clone()).chain(from);
    if start == recording::MAGIC {
        Ok(Box::new(recording::Reader::new(file, whole)?))
    } else if pcap::is_capture(&start) {
        Ok(Box::new(pcap::Reader::new(file, whole, services)?))
    } else {
        Err(SourceError::UnknownFormat { file, start: told(&start) })
    }
}

/// Bytes for a message: the text if it is one.
fn told(start: &[u8]) -> String {
    match std::str::from_utf8(start) {
        Ok("") => "nothing, it is empty".to_owned(),
        Ok(text) if !text.contains(char::is_control) => format!("`{text}`"),
        _ => start.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &'static [u8], expected: &str) {
        let Err(error) = read("x.bin".to_owned(), bytes, &Services::default()) else { panic!("it opened") };
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_unknown_format_is_told_with_what_it_starts_with() {
        let neither = "`x.bin` is neither a recording nor a pcap or pcapng capture: it starts with";
        check(b"", &format!("{neither} nothing, it is empty"));
        check(b"#!/bin/sh -e", &format!("{neither} `#!/bin/s`"));
        check(b"\x7fELF\x02\x01\x01\x00rest", &format!("{neither} 7f 45 4c 46 02 01 01 00"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let Err(error) = open(Path::new("/nonexistent/x.spoor"), &Services::default()) else { panic!() };
        assert_eq!(error.to_string(), "cannot open `/nonexistent/x.spoor`");
        assert!(!error.is_warning());
    }
}
