//! Header fields → the framing of the body; then body bytes → content.
//!
//! *Owns* where a message ends. *Must not know* what its content means.
//! *Spec*: RFC 9112, sections 6 and 7.
//!
//! ```text
//!   Size ─▶ (Extension) ─▶ Data ─▶ DataEnd ─▶ Size …      size 0 ─▶ Trailer ─▶ done
//! ```

use crate::operation::http::Headers;

/// How the end of a message's body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks and a trailer section.
    Chunked,
    /// Everything until the connection closes.
    UntilClose,
    /// It cannot be told.
    Unknown,
}

/// The framing of a request's body, and whether recipients may disagree about it.
pub(super) fn request_framing(headers: &Headers, version: &str) -> (Framing, bool) {
    match declared(headers, version) {
        (Declared::Nothing, odd) => (Framing::None, odd),
        (Declared::Length(len), odd) => (Framing::Length(len), odd),
        (Declared::Chunked, odd) => (Framing::Chunked, odd),
        // A request whose last coding is not chunked has no known end, the server refuses it (RFC 9112, section 6.3).
        (Declared::OtherCoding | Declared::Contradiction, _) => (Framing::Unknown, true),
    }
}

/// The framing of a final response's body. `method` is that of the request.
pub(super) fn response_framing(headers: &Headers, method: &str, status: u16) -> (Framing, bool) {
    // Responses to HEAD, 1xx, 204 and 304 end with their header section, whatever the fields say.
    if method == "HEAD" || (100..200).contains(&status) || matches!(status, 204 | 304) {
        return (Framing::None, false);
    }
    match declared(headers, "1.1") {
        (Declared::Nothing, odd) => (Framing::UntilClose, odd),
        (Declared::Length(len), odd) => (Framing::Length(len), odd),
        (Declared::Chunked, odd) => (Framing::Chunked, odd),
        (Declared::OtherCoding, _) => (Framing::UntilClose, true),
        (Declared::Contradiction, _) => (Framing::Unknown, true),
    }
}

enum Declared {
    Nothing,
    Length(u64),
    Chunked,
    /// A transfer coding that does not end with chunked.
    OtherCoding,
    /// Lengths that are no numbers, or differ.
    Contradiction,
}

/// The length that a message says its content has; `None` when it says none, or something that is none.
pub(in crate::protocol) fn content_length(headers: &Headers) -> Option<u64> {
    let (length, contradiction) = lengths(headers);
    length.filter(|_| !contradiction)
}

/// The first length named, and whether another one, or something that is no length, stands beside it.
fn lengths(headers: &Headers) -> (Option<u64>, bool) {
    let mut length = None;
    let mut contradiction = false;
    for value in headers.get_all("content-length") {
        // A list of equal values counts once (RFC 9112, section 6.3, item 5).
        for part in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let number = decimal(part);
            contradiction |= number.is_none() || length.is_some_and(|known| Some(known) != number);
            length = length.or(number);
        }
    }
    (length, contradiction)
}

fn declared(headers: &Headers, version: &str) -> (Declared, bool) {
    let (length, contradiction) = lengths(headers);
    let mut codings = headers.get_all("transfer-encoding").peekable();
    if codings.peek().is_some() {
        // Transfer-Encoding overrides Content-Length; both together may be an attack (RFC 9112, section 6.3, item 3).
        // A sender of HTTP/1.0 does not know chunked, so its framing is faulty (section 6.1).
        let odd = length.is_some() || contradiction || version == "1.0";
        let last = codings.last().unwrap_or_default();
        let last = last.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        let chunked = last.eq_ignore_ascii_case(b"chunked");
        return if chunked { (Declared::Chunked, odd) } else { (Declared::OtherCoding, true) };
    }
    match length {
        _ if contradiction => (Declared::Contradiction, true),
        Some(len) => (Declared::Length(len), false),
        None => (Declared::Nothing, false),
    }
}

/// `1*DIGIT` within 64 bits: no sign, no blank, no other base.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// A body on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

/// Where in the chunked coding the next byte is (RFC 9112, section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the size, of which `digits` hexadecimal digits were read.
    Size { size: u64, digits: u8 },
    /// After the size, up to the line end: extensions, or the blanks some servers pad with.
    Extension { size: u64 },
    /// In the data, with so many bytes to come.
    Data(u64),
    /// After the data, where CRLF or LF must stand.
    DataEnd { cr: bool },
    /// In the trailer section, with so much of the current line read.
    Trailer(LineStart),
}

/// What was read of a line of which only emptiness matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineStart {
    Nothing,
    Cr,
    Text,
}

/// How far a body came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    More,
    /// The last byte was taken.
    Done,
    /// These bytes cannot stand here.
    Broken,
}

/// What a hole did to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hole {
    /// All of it is content, and more is to come.
    Inside,
    /// The first `n` bytes of it are content and end the body.
    Ends(u64),
    /// Where the body goes on cannot be told. The first `n` bytes of it are content.
    Lost(u64),
}

impl Body {
    /// `None` for framings without a body to read.
    pub(super) fn new(framing: Framing) -> Option<Body> {
        match framing {
            Framing::None | Framing::Unknown | Framing::Length(0) => None,
            Framing::Length(len) => Some(Body::Length(len)),
            Framing::Chunked => Some(Body::Chunked(Chunk::Size { size: 0, digits: 0 })),
            Framing::UntilClose => Some(Body::UntilClose),
        }
    }

    /// Takes bytes of the body, gives content to `content`, and returns how many bytes it took.
    pub(super) fn feed(&mut self, bytes: &[u8], mut content: impl FnMut(&[u8])) -> (usize, Progress) {
        match self {
            Body::UntilClose => {
                content(bytes);
                (bytes.len(), Progress::More)
            }
            Body::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                content(bytes.get(..n).unwrap_or_default());
                *left -= n as u64;
                (n, if *left == 0 { Progress::Done } else { Progress::More })
            }
            Body::Chunked(chunk) => {
                let mut rest = bytes;
                loop {
                    let (n, progress) = chunk.step(rest, &mut content);
                    rest = rest.get(n..).unwrap_or_default();
                    if progress != Progress::More || rest.is_empty() {
                        return (bytes.len() - rest.len(), progress);
                    }
                }
            }
        }
    }

    /// Steps over `len` bytes that were not seen.
    pub(super) fn gap(&mut self, len: u64) -> Hole {
        match self {
            Body::UntilClose => Hole::Inside,
            Body::Length(left) if len < *left => {
                *left -= len;
                Hole::Inside
            }
            Body::Length(left) => Hole::Ends(std::mem::take(left)),
            Body::Chunked(Chunk::Data(left)) if len < *left => {
                *left -= len;
                Hole::Inside
            }
            Body::Chunked(chunk @ Chunk::Data(_)) => {
                let Chunk::Data(left) = *chunk else { return Hole::Lost(0) };
                if len == left {
                    *chunk = Chunk::DataEnd { cr: false };
                    return Hole::Inside;
                }
                Hole::Lost(left)
            }
            Body::Chunked(_) => Hole::Lost(0),
        }
    }

    /// Bytes that are content for certain, whatever they are.
    pub(super) fn certain_content(&self) -> u64 {
        match self {
            Body::Length(left) | Body::Chunked(Chunk::Data(left)) => *left,
            Body::Chunked(_) | Body::UntilClose => 0,
        }
    }
}

impl Chunk {
    /// Takes at least one byte of `bytes`, which is not empty, unless it is broken.
    fn step(&mut self, bytes: &[u8], content: &mut impl FnMut(&[u8])) -> (usize, Progress) {
        let Some(&first) = bytes.first() else { return (0, Progress::More) };
        match *self {
            Chunk::Size { size, digits } => match (first as char).to_digit(16) {
                // 16 digits are 64 bits: more, even zeros, are no honest size.
                Some(_) if digits == 16 => (0, Progress::Broken),
                Some(digit) => {
                    *self = Chunk::Size { size: size << 4 | u64::from(digit), digits: digits + 1 };
                    (1, Progress::More)
                }
                None if digits > 0 && matches!(first, b';' | b' ' | b'\t' | b'\r' | b'\n') => {
                    *self = Chunk::Extension { size };
                    (0, Progress::More)
                }
                None => (0, Progress::Broken),
            },
            Chunk::Extension { size } => {
                let Some(end) = memchr::memchr(b'\n', bytes) else { return (bytes.len(), Progress::More) };
                *self = if size == 0 { Chunk::Trailer(LineStart::Nothing) } else { Chunk::Data(size) };
                (end + 1, Progress::More)
            }
            Chunk::Data(left) => {
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                content(bytes.get(..n).unwrap_or_default());
                let left = left - n as u64;
                *self = if left == 0 { Chunk::DataEnd { cr: false } } else { Chunk::Data(left) };
                (n, Progress::More)
            }
            Chunk::DataEnd { cr: false } if first == b'\r' => {
                *self = Chunk::DataEnd { cr: true };
                (1, Progress::More)
            }
            Chunk::DataEnd { .. } if first == b'\n' => {
                *self = Chunk::Size { size: 0, digits: 0 };
                (1, Progress::More)
            }
            Chunk::DataEnd { .. } => (0, Progress::Broken),
            Chunk::Trailer(start) => match memchr::memchr(b'\n', bytes) {
                None => {
                    let only_cr = start == LineStart::Nothing && bytes == b"\r";
                    *self = Chunk::Trailer(if only_cr { LineStart::Cr } else { LineStart::Text });
                    (bytes.len(), Progress::More)
                }
                Some(end) => {
                    let ends = match start {
                        LineStart::Nothing => end == 0 || (end == 1 && first == b'\r'),
                        LineStart::Cr => end == 0,
                        LineStart::Text => false,
                    };
                    *self = Chunk::Trailer(LineStart::Nothing);
                    (end + 1, if ends { Progress::Done } else { Progress::More })
                }
            },
        }
    }
}
