//! Content of a `multipart/form-data` body → [`Upload`]s and the same form without its files, while the body streams by.
//!
//! ```text
//!   Content ─ delimiter ─▶ Fields ─ empty line ─▶ Content …      closing delimiter ─▶ End
//! ```
//!
//! *Owns* part syntax, and which parts are kept: fields, wherever they stand, but for large ones. Nothing of a file is.
//! *Must not know* framing or transport.
//! *Spec*: RFC 7578; RFC 2046, section 5.1; RFC 8187 (`filename*`).

use memchr::memmem;

use crate::operation::http::{Headers, Upload};

/// Files reported of one body.
const MAX_UPLOADS: usize = 32;
/// Longest header section of a part; longer ones make a part without a name.
const MAX_FIELDS_LEN: usize = 8 << 10;
/// Longest name or type kept.
const MAX_TEXT_LEN: usize = 512;
/// Longest field kept: a document of JSON; what keys are found in is far shorter.
const MAX_FIELD_LEN: usize = 16 << 10;
/// Longest boundary (RFC 2046, section 5.1.1).
const MAX_BOUNDARY_LEN: usize = 70;

/// Finds the parts of one body.
#[derive(Debug)]
pub(in crate::protocol) struct Multipart {
    /// CRLF, two dashes, the boundary.
    delimiter: memmem::Finder<'static>,
    state: State,
    /// The end of what came, where a delimiter may have begun; or the part's header section so far.
    carry: Vec<u8>,
    /// Content bytes of the current part, up to the carry.
    content_len: u64,
    /// The file whose content is streaming by: its place in the uploads.
    file: Option<usize>,
    /// The field whose content is streaming by: where its header section and its content begin in what is kept.
    field: Option<(usize, usize)>,
    /// Fields are kept.
    keeps: bool,
    /// Bytes of the files' texts.
    files_held: usize,
    /// The most that they, what is kept and the carry held together so far, but for what was given up.
    most_held: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a part's content, or before the first part.
    Content,
    /// After a delimiter, in the part's header section.
    Fields,
    /// After the closing delimiter.
    End,
}

impl Multipart {
    /// For the body behind these fields of a request; `None` when it is no form, has no usable boundary, or has a content coding.
    pub(in crate::protocol) fn of(headers: &Headers) -> Option<Box<Multipart>> {
        let content_type = headers.get("content-type")?;
        let is_plain = headers.get("content-encoding").is_none();
        is_plain.then(|| Multipart::new(content_type).map(Box::new)).flatten()
    }

    fn new(content_type: &[u8]) -> Option<Multipart> {
        let (essence, parameters) = content_type.split_at(memchr::memchr(b';', content_type)?);
        if !essence.trim_ascii().eq_ignore_ascii_case(b"multipart/form-data") {
            return None;
        }
        let boundary = parameter(parameters, "boundary")?;
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_LEN {
            return None;
        }
        let delimiter = [b"\r\n--", boundary.as_slice()].concat();
        Some(Multipart {
            delimiter: memmem::Finder::new(&delimiter).into_owned(),
            state: State::Content,
            // The first delimiter may stand at the very beginning, without its CRLF.
            carry: b"\r\n".to_vec(),
            content_len: 0,
            file: None,
            field: None,
            keeps: true,
            files_held: 0,
            most_held: 0,
        })
    }

    /// Fields are kept; otherwise what is in `kept` is not the form without its files.
    pub(in crate::protocol) fn keeps(&self) -> bool {
        self.keeps
    }

    /// What was kept, of `freed` bytes, is gone: from now on only files are reported.
    pub(in crate::protocol) fn forget(&mut self, freed: usize) {
        self.keeps = false;
        self.field = None;
        self.most_held = self.most_held.saturating_sub(freed);
    }

    /// Bytes that it holds beside what is kept and reported.
    pub(in crate::protocol) fn held(&self) -> usize {
        size_of::<Self>() + self.carry.capacity()
    }

    /// How many bytes more than ever before are held: of what is kept, of the files' texts, its own. A field that turns out to be
    /// too long leaves its memory to the next ones.
    pub(in crate::protocol) fn more_held(&mut self, kept_len: usize) -> usize {
        let held = self.carry.capacity().saturating_add(self.files_held).saturating_add(kept_len);
        let more = held.saturating_sub(self.most_held);
        self.most_held = self.most_held.max(held);
        more
    }

    /// The next bytes of the body. Fields go to `kept`, a form like the one that streams by, of at most `bound` bytes.
    pub(in crate::protocol) fn feed(
        &mut self,
        mut bytes: &[u8],
        uploads: &mut Vec<Upload>,
        kept: &mut Vec<u8>,
        bound: usize,
    ) {
        while !bytes.is_empty() {
            let taken = match self.state {
                State::Content => self.content(bytes, uploads, kept, bound),
                State::Fields => self.fields(bytes, uploads, kept, bound),
                State::End => return,
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Content of the current field. One that is too long is not kept at all: its beginning would be another value.
    fn keep(&mut self, content: &[u8], kept: &mut Vec<u8>, bound: usize) {
        let Some((head, start)) = self.field else { return };
        let len = kept.len().saturating_sub(start) + content.len();
        if len > MAX_FIELD_LEN || kept.len() + content.len() + self.delimiter.needle().len() > bound {
            kept.truncate(head);
            self.field = None;
        } else {
            kept.extend_from_slice(content);
        }
    }

    /// Bytes are missing here: the part they are in has no certain end, later parts are found again.
    pub(in crate::protocol) fn gap(&mut self, kept: &mut Vec<u8>) {
        if self.state != State::End {
            self.state = State::Content;
        }
        self.carry.clear();
        self.file = None;
        if let Some((head, _)) = self.field.take() {
            kept.truncate(head);
        }
    }

    /// Seeks the delimiter. Returns how many bytes were taken.
    fn content(&mut self, bytes: &[u8], uploads: &mut [Upload], kept: &mut Vec<u8>, bound: usize) -> usize {
        let needle_len = self.delimiter.needle().len();
        if !self.carry.is_empty() {
            // A delimiter that began in earlier bytes ends within the first `needle_len - 1` of these.
            let before = self.carry.len();
            let joint = bytes.get(..needle_len - 1).unwrap_or(bytes);
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend_from_slice(joint);
            if let Some(at) = self.delimiter.find(&carry) {
                self.keep(carry.get(..at).unwrap_or_default(), kept, bound);
                self.part_ends(at, uploads, kept);
                return at + needle_len - before;
            }
            if joint.len() < needle_len - 1 {
                // These bytes are too few to rule one out: keep what may still begin one.
                let keep_from = carry.len().saturating_sub(needle_len - 1);
                self.keep(carry.get(..keep_from).unwrap_or_default(), kept, bound);
                carry.drain(..keep_from);
                self.carry = carry;
                self.content_len += keep_from as u64;
                return bytes.len();
            }
            self.keep(carry.get(..before).unwrap_or_default(), kept, bound);
            carry.clear();
            self.carry = carry;
            self.content_len += before as u64;
        }
        if let Some(at) = self.delimiter.find(bytes) {
            self.keep(bytes.get(..at).unwrap_or_default(), kept, bound);
            self.part_ends(at, uploads, kept);
            return at + needle_len;
        }
        let keep_from = bytes.len().saturating_sub(needle_len - 1);
        self.keep(bytes.get(..keep_from).unwrap_or_default(), kept, bound);
        self.carry.extend_from_slice(bytes.get(keep_from..).unwrap_or_default());
        self.content_len += keep_from as u64;
        bytes.len()
    }

    fn part_ends(&mut self, more: usize, uploads: &mut [Upload], kept: &mut Vec<u8>) {
        if self.field.take().is_some() {
            kept.extend_from_slice(self.delimiter.needle());
        }
        let upload = self.file.take().and_then(|at| uploads.get_mut(at));
        if let Some(upload) = upload {
            upload.len = Some(self.content_len + more as u64);
        }
        self.carry.clear();
        self.state = State::Fields;
    }

    /// Collects the part's header section, from the end of the delimiter's text to the empty line.
    fn fields(&mut self, bytes: &[u8], uploads: &mut Vec<Upload>, kept: &mut Vec<u8>, bound: usize) -> usize {
        let before = self.carry.len();
        let room = MAX_FIELDS_LEN.saturating_sub(before);
        let more = bytes.get(..room).unwrap_or(bytes);
        self.carry.extend_from_slice(more);
        if self.carry.starts_with(b"--") {
            self.state = State::End;
            self.carry = Vec::new();
            return bytes.len();
        }
        // The end may have begun up to three bytes before these.
        let from = before.saturating_sub(3);
        let found = self.carry.get(from..).and_then(|tail| memmem::find(tail, b"\r\n\r\n"));
        let Some(at) = found else {
            if self.carry.len() >= MAX_FIELDS_LEN {
                self.begin_content(None, None);
            }
            return more.len().max(1);
        };
        let end = from + at;
        let upload = self.carry.get(..end).and_then(upload);
        let field = if upload.is_none() { self.begin_field(end + 4, kept, bound) } else { None };
        let file = upload.filter(|_| uploads.len() < MAX_UPLOADS).map(|upload| {
            self.files_held += upload.held();
            uploads.push(upload);
            uploads.len() - 1
        });
        self.begin_content(file, field);
        (end + 4).saturating_sub(before)
    }

    /// Keeps the header section of a field, which ends at `end` of the carry. Behind an earlier one stands its delimiter.
    fn begin_field(&self, end: usize, kept: &mut Vec<u8>, bound: usize) -> Option<(usize, usize)> {
        let section = self.carry.get(..end).filter(|_| self.keeps)?;
        let head = kept.len();
        let first = if head == 0 { self.delimiter.needle().get(2..)? } else { b"" };
        if head + first.len() + section.len() + self.delimiter.needle().len() > bound {
            return None;
        }
        kept.extend_from_slice(first);
        kept.extend_from_slice(section);
        Some((head, kept.len()))
    }

    fn begin_content(&mut self, file: Option<usize>, field: Option<(usize, usize)>) {
        self.field = field;
        self.state = State::Content;
        self.carry.clear();
        self.content_len = 0;
        self.file = file;
    }
}

/// The upload a part's header section announces; `None` when it is a plain field.
fn upload(fields: &[u8]) -> Option<Upload> {
    let mut disposition = None;
    let mut content_type: &[u8] = b"";
    for line in fields.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-disposition") {
            disposition = Some(value);
        } else if name.eq_ignore_ascii_case(b"content-type") {
            content_type = value;
        }
    }
    let (kind, parameters) = {
        let value = disposition?;
        value.split_at(memchr::memchr(b';', value)?)
    };
    if !kind.trim_ascii().eq_ignore_ascii_case(b"form-data") {
        return None;
    }
    let extended = parameter(parameters, "filename*").and_then(|value| decode_extended(&value));
    let file_name = extended.or_else(|| parameter(parameters, "filename").map(|value| text(&value)))?;
    let base = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
    Some(Upload {
        field: parameter(parameters, "name").map(|value| text(&value)).unwrap_or_default(),
        file_name: base.to_owned(),
        content_type: text(content_type),
        len: None,
    })
}

/// The value of `name` in `; a=b; c="d"`, without its quotes. Names are compared without regard to case.
fn parameter(mut parameters: &[u8], name: &str) -> Option<Vec<u8>> {
    while let Some(semicolon) = memchr::memchr(b';', parameters) {
        parameters = parameters.get(semicolon + 1..)?.trim_ascii_start();
        let end = parameters.iter().position(|byte| matches!(byte, b'=' | b';'))?;
        let (found, rest) = parameters.split_at_checked(end)?;
        let Some(rest) = rest.strip_prefix(b"=") else {
            parameters = rest;
            continue;
        };
        let (value, rest) = match rest.trim_ascii_start().strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted),
            None => {
                let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
                let (value, rest) = rest.split_at_checked(end)?;
                (value.trim_ascii().to_vec(), rest)
            }
        };
        if found.trim_ascii().eq_ignore_ascii_case(name.as_bytes()) {
            return Some(value);
        }
        parameters = rest;
    }
    None
}

/// A quoted string up to its closing quote, and what follows it. Only quotes and backslashes are escaped: old browsers
/// send Windows paths as they are.
fn unquote(quoted: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut value = Vec::new();
    let mut rest = quoted;
    loop {
        match rest {
            [b'\\', escaped @ (b'"' | b'\\'), after @ ..] => {
                value.push(*escaped);
                rest = after;
            }
            [b'"', after @ ..] => return (value, after),
            [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
            [] => return (value, rest),
        }
    }
}

/// `UTF-8''percent-encoded` (RFC 8187, section 3.2); other charsets are not read.
fn decode_extended(value: &[u8]) -> Option<String> {
    let mut parts = value.splitn(3, |byte| *byte == b'\'');
    let charset = parts.next()?;
    let encoded = parts.nth(1)?;
    if !charset.eq_ignore_ascii_case(b"utf-8") {
        return None;
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, after @ ..] = rest {
        rest = after;
        let octet = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let digit = |byte: &u8| (*byte as char).to_digit(16);
                u8::try_from(digit(high)? << 4 | digit(low)?).ok()?
            }
            (byte, _) => *byte,
        };
        decoded.push(octet);
    }
    Some(text(&decoded))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..MAX_TEXT_LEN).unwrap_or(bytes)).into_owned()
}
