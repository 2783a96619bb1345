//! Header lines → [`Headers`], one line at a time.
//!
//! Lines are taken as they become complete, so a header section of any length costs no more memory than its longest
//! line or the configured bound. What does not fit is counted, and only the fields that frame the body are still read.
//!
//! *Owns* field syntax and what is retained. *Must not know* what the fields mean, except which must never be kept.
//! *Spec*: RFC 9112, section 5; RFC 9110, section 5.

use super::start_line::is_token;
use crate::operation::http::Headers;
use crate::protocol::reader::Input;

/// Fields whose values are secrets: the name stays, the value is forgotten here.
const SECRET: [&[u8]; 4] = [b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"];

/// But for letter case; nearly every name is told by its length.
fn is_same(name: &[u8], wanted: &[u8]) -> bool {
    name.len() == wanted.len() && name.eq_ignore_ascii_case(wanted)
}

/// Most framing fields read past the bound, so that repeating them cannot grow memory.
const MAX_FRAMING_FIELDS: u32 = 8;

/// What was found at the head of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line: `text` bytes of content, `len` bytes with its end.
    Whole { text: usize, len: usize },
    /// No line end yet.
    Partial,
    /// No line end within the bound.
    TooLong,
}

/// Reads lines and fields of one header section.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// How much of the current line was searched for its end.
    searched: usize,
    /// Bytes of this header section so far.
    len: usize,
    /// Inside a line that is too long to be read.
    skips_line: bool,
    /// The last field was dropped or secret, so its folded lines are too.
    drops_folds: bool,
    framing_fields: u32,
    /// Bytes dropped because of the bound.
    pub(super) over_len: u64,
    /// Bytes of lines that are no fields.
    pub(super) invalid_len: u64,
}

impl HeadReader {
    /// Forgets the message before.
    pub(super) fn restart(&mut self) {
        *self = HeadReader::default();
    }

    /// The line at the head of `input`; searched bytes are not searched again when more come.
    pub(super) fn line(&mut self, input: &Input<'_>, bound: usize) -> Line {
        let rest = input.rest();
        let unsearched = rest.get(self.searched..).unwrap_or_default();
        match memchr::memchr(b'\n', unsearched) {
            Some(found) => {
                // A line ends with CRLF; a lone LF is accepted (RFC 9112, section 2.2).
                let end = self.searched + found;
                self.searched = 0;
                let cr = end.checked_sub(1).is_some_and(|before| rest.get(before) == Some(&b'\r'));
                Line::Whole { text: end - usize::from(cr), len: end + 1 }
            }
            None if rest.len() > bound => {
                self.searched = 0;
                Line::TooLong
            }
            None => {
                self.searched = rest.len();
                Line::Partial
            }
        }
    }

    /// Takes complete field lines off `input`. The length of the empty line that ends the section, when it is next; it
    /// is not taken. `line_bound` is the longest line waited for, `keep_bound` the most bytes of a section retained.
    pub(super) fn fields(
        &mut self,
        input: &mut Input<'_>,
        headers: &mut Headers,
        line_bound: usize,
        keep_bound: usize,
    ) -> Option<usize> {
        loop {
            if self.skips_line && !self.skip_line(input) {
                return None;
            }
            match self.line(input, line_bound) {
                Line::Whole { text: 0, len } => return Some(len),
                Line::Whole { text, len } => {
                    if let Some(line) = input.rest().get(..text) {
                        self.field(line, headers, keep_bound);
                    }
                    self.len = self.len.saturating_add(len);
                    input.advance(len);
                }
                Line::Partial => return None,
                Line::TooLong => self.skips_line = true,
            }
        }
    }

    /// Steps over the rest of a line. `false`: its end has not come yet.
    fn skip_line(&mut self, input: &mut Input<'_>) -> bool {
        let end = memchr::memchr(b'\n', input.rest());
        let n = input.advance(end.map_or(usize::MAX, |at| at + 1));
        self.over_len = self.over_len.saturating_add(n as u64);
        self.skips_line = end.is_none();
        self.drops_folds = true;
        !self.skips_line
    }

    fn field(&mut self, line: &[u8], headers: &mut Headers, bound: usize) {
        // obs-fold: a line that begins with a blank continues the value before it (RFC 9112, section 5.2).
        if matches!(line.first(), Some(b' ' | b'\t')) {
            let more = line.trim_ascii();
            if self.drops_folds || self.len.saturating_add(line.len()) > bound {
                self.over_len = self.over_len.saturating_add(line.len() as u64);
            } else {
                headers.fold(more);
            }
            return;
        }
        let colon = memchr::memchr(b':', line).unwrap_or(0);
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        // No blank is allowed before the colon (RFC 9112, section 5.1); senders of it exist, and recipients that accept it.
        let name = name.trim_ascii_end();
        if name.is_empty() || !name.iter().copied().all(is_token) {
            self.invalid_len = self.invalid_len.saturating_add(line.len() as u64);
            self.drops_folds = true;
            return;
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        self.drops_folds = SECRET.iter().any(|secret| is_same(name, secret));
        if self.len.saturating_add(line.len()) <= bound {
            headers.push(name, if self.drops_folds { b"" } else { value });
            return;
        }
        self.over_len = self.over_len.saturating_add(line.len() as u64);
        self.drops_folds = true;
        let frames = is_same(name, b"content-length") || is_same(name, b"transfer-encoding");
        if frames && value.len() <= 64 && self.framing_fields < MAX_FRAMING_FIELDS {
            self.framing_fields += 1;
            headers.push(name, value);
        }
    }
}
