//! A name → the bytes of the file, or of standard input, without the compression they may have; and how far they were read.
//!
//! *Owns* telling compressions apart, by their first bytes. A decoder's memory is bounded whatever a header claims. *Must not know*
//! what the bytes are. *Spec*: RFC 1952 (gzip), RFC 8878 (zstd), the .xz file format 1.2.1.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::SourceError;

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;
/// What an .xz file may ask for: `xz -9` asks for 64 MiB.
const MAX_XZ_KIB: u32 = 256 << 10;

/// What standard input is called in messages.
pub(super) const STANDARD_INPUT: &str = "standard input";

/// How far a file was read, while it is.
#[derive(Clone, Debug, Default)]
pub struct Position {
    read: Arc<AtomicU64>,
    /// Of the file as it is on disk; `None` for what has no length.
    pub len: Option<u64>,
}

impl Position {
    /// Bytes read so far.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

/// Bytes that come out.
type Bytes = Box<dyn BufRead + Send>;

/// A file that is open.
pub struct Opened {
    /// For messages.
    pub name: String,
    pub bytes: Bytes,
    pub position: Position,
}

/// Opens a file; `-` is standard input.
pub fn open(path: &Path) -> Result<Opened, SourceError> {
    let name = path.display().to_string();
    if name == "-" {
        let (name, position) = (STANDARD_INPUT.to_owned(), Position::default());
        let bytes = plain(&name, io::stdin(), &position)?;
        return Ok(Opened { name, bytes, position });
    }
    let failed = |source| SourceError::Open { file: name.clone(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(ErrorKind::IsADirectory.into()));
    }
    let position = Position { len: metadata.is_file().then_some(metadata.len()), ..Position::default() };
    let bytes = plain(&name, file, &position)?;
    Ok(Opened { name, bytes, position })
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Takes off a compression.
fn plain(name: &str, from: impl Read + Send + 'static, position: &Position) -> Result<Bytes, SourceError> {
    let mut from = BufReader::with_capacity(BUFFER, Counted { from, read: position.read.clone() });
    let failed = |source| SourceError::Read { file: name.to_owned(), offset: 0, source };
    // As many as there are: a pipe may give them one by one.
    let mut start = Vec::new();
    from.by_ref().take(6).read_to_end(&mut start).map_err(failed)?;
    let other = |is, program| Err(SourceError::Compressed { file: name.to_owned(), is, program });
    let whole = Cursor::new(start.clone()).chain(from);
    Ok(match start.as_slice() {
        [0x1f, 0x8b, ..] => buffered(MultiGzDecoder::new(whole)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => buffered(XzReader::new_mem_limit(whole, true, MAX_XZ_KIB)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => buffered(Frames::new(whole)),
        [b'B', b'Z', b'h', ..] => return other("bzip2", "bzip2 -dc"),
        [0x04, 0x22, 0x4d, 0x18, ..] => return other("lz4", "lz4 -dc"),
        [b'P', b'K', 3, 4, ..] => return other("zip", "unzip -p"),
        _ => Box::new(whole),
    })
}

fn buffered(from: impl Read + Send + 'static) -> Bytes {
    Box::new(BufReader::with_capacity(BUFFER, from))
}

/// Counts what is read.
struct Counted<R> {
    from: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.from.read(buffer)?;
        self.read.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

/// A zstd file: any number of frames, of which some are to be skipped.
struct Frames<R: Read> {
    /// `None` after the end, or after an error.
    state: Option<Frame<R>>,
}

enum Frame<R: Read> {
    Between(Peeked<R>),
    Inside(Box<StreamingDecoder<Peeked<R>, FrameDecoder>>),
}

/// What was looked at already, and then the rest.
struct Peeked<R> {
    ahead: Cursor<[u8; 4]>,
    from: R,
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.ahead.read(buffer)? {
            0 => self.from.read(buffer),
            len => Ok(len),
        }
    }
}

impl<R: Read> Frames<R> {
    fn new(from: R) -> Self {
        let mut ahead = Cursor::new([0; 4]);
        ahead.set_position(4);
        Self { state: Some(Frame::Between(Peeked { ahead, from })) }
    }

    /// The next frame, those to be skipped left out. `None`: the file ends.
    fn next(mut peeked: Peeked<R>) -> io::Result<Option<Frame<R>>> {
        loop {
            let mut magic = [0; 4];
            let mut len = 0;
            while len < magic.len() {
                match peeked.read(magic.get_mut(len..).unwrap_or_default())? {
                    0 if len == 0 => return Ok(None),
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    read => len += read,
                }
            }
            // Skippable frames, RFC 8878, section 3.1.2.
            if u32::from_le_bytes(magic) & 0xffff_fff0 != 0x184d_2a50 {
                peeked.ahead = Cursor::new(magic);
                let decoder = StreamingDecoder::new(peeked).map_err(io::Error::other)?;
                return Ok(Some(Frame::Inside(Box::new(decoder))));
            }
            let mut len = [0; 4];
            peeked.read_exact(&mut len)?;
            let len = u64::from(u32::from_le_bytes(len));
            if io::copy(&mut peeked.by_ref().take(len), &mut io::sink())? < len {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.state.take() {
                None => return Ok(0),
                Some(Frame::Between(peeked)) => self.state = Self::next(peeked)?,
                Some(Frame::Inside(mut decoder)) => {
                    let len = decoder.read(buffer)?;
                    self.state = Some(match len {
                        0 if !buffer.is_empty() => Frame::Between(decoder.into_inner()),
                        _ => Frame::Inside(decoder),
                    });
                    if len > 0 || buffer.is_empty() {
                        return Ok(len);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let position = Position::default();
        let mut out = Vec::new();
        let from = plain("x", Cursor::new(bytes), &position);
        from.map_err(io::Error::other)?.read_to_end(&mut out).map(|_| out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// What a program makes of the bytes; `None`: it is not here.
    fn by(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut child =
            Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let (mut to, bytes) = (child.stdin.take()?, bytes.to_vec());
        let writer = std::thread::spawn(move || to.write_all(&bytes));
        let output = child.wait_with_output().ok()?;
        writer.join().ok()?.ok()?;
        Some(output.stdout)
    }

    #[test]
    fn compressed_files_are_read_as_what_they_hold() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        assert_eq!(read(text.clone()).unwrap(), text);
        assert_eq!(read(gzip(&text)).unwrap(), text);
        assert_eq!(read(zstd(&text)).unwrap(), text);
        // Several in one file, one of them to be skipped.
        let twice = text.repeat(2);
        assert_eq!(read([gzip(&text), gzip(&text)].concat()).unwrap(), twice);
        let skipped = b"\x5f\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        assert_eq!(read([zstd(&text), skipped, zstd(&text)].concat()).unwrap(), twice);
        for program in ["gzip", "xz", "zstd"] {
            match by(program, &text) {
                Some(bytes) => assert!(read(bytes).unwrap() == text, "{program}"),
                None => println!("skipped: {program} is not here"),
            }
        }
    }

    #[test]
    fn what_is_cut_or_damaged_is_an_error_and_no_panic() {
        let text = b"orders ".repeat(1000);
        let mut all = vec![("gzip", gzip(&text)), ("zstd", zstd(&text))];
        all.extend(by("xz", &text).map(|bytes| ("xz", bytes)));
        for (by, whole) in all {
            assert!(read(whole.clone()).unwrap() == text, "{by}");
            for len in 7..whole.len() {
                let cut = read(whole[..len].to_vec());
                assert!(
                    cut.is_err(),
                    "{by}: {len} of {} bytes are the file for all that is said",
                    whole.len()
                );
                let mut wrong = whole.clone();
                wrong[len] ^= 0x5a;
                let _ = read(wrong);
            }
        }
    }

    #[test]
    fn other_compressions_are_named_with_the_program_that_reads_them() {
        for (start, name) in
            [(&b"BZh9"[..], "bzip2 -dc"), (b"\x04\x22\x4d\x18", "lz4 -dc"), (b"PK\x03\x04", "unzip -p")]
        {
            let error = plain("x", Cursor::new(start.to_vec()), &Position::default()).err().unwrap();
            assert!(error.to_string().contains(&format!("`{name} x | spoor replay -`")), "{error}");
            let error =
                plain(STANDARD_INPUT, Cursor::new(start.to_vec()), &Position::default()).err().unwrap();
            let name = name.replace("unzip -p", "funzip");
            assert!(error.to_string().ends_with(&format!(": put `{name} |` before this command")), "{error}");
        }
    }
}
