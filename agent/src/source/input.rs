//! A file read in pieces of announced length, with its name and offset for messages.

use std::io::Read;

use super::SourceError;

/// A stream with a position.
#[derive(Debug)]
pub(super) struct Input<R> {
    file: String,
    from: R,
    offset: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(file: String, from: R) -> Self {
        Self { file, from, offset: 0 }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills `piece` with exactly `len` bytes of `what`. Returns false at a clean end, before its first byte.
    ///
    /// Memory grows with what is really there, not with what a length claims.
    pub(super) fn piece(
        &mut self,
        piece: &mut Vec<u8>,
        len: usize,
        what: &'static str,
    ) -> Result<bool, SourceError> {
        piece.clear();
        let offset = self.offset;
        let read = self.from.by_ref().take(len as u64).read_to_end(piece);
        self.offset = offset.saturating_add(piece.len() as u64);
        match read {
            Err(source) => Err(SourceError::Read { file: self.file.clone(), offset: self.offset, source }),
            Ok(0) if len > 0 => Ok(false),
            Ok(read) if read < len => Err(self.truncated(what)),
            Ok(_) => Ok(true),
        }
    }

    /// As [`Input::piece`], for what must be there.
    pub(super) fn rest(
        &mut self,
        piece: &mut Vec<u8>,
        len: usize,
        what: &'static str,
    ) -> Result<(), SourceError> {
        if self.piece(piece, len, what)? { Ok(()) } else { Err(self.truncated(what)) }
    }

    pub(super) fn truncated(&self, what: &'static str) -> SourceError {
        SourceError::Truncated { file: self.file.clone(), offset: self.offset, what }
    }

    pub(super) fn damaged(&self, offset: u64, what: impl Into<String>) -> SourceError {
        SourceError::Damaged { file: self.file.clone(), offset, what: what.into() }
    }

    pub(super) fn version(&self, found: u32, supported: u32) -> SourceError {
        SourceError::Version { file: self.file.clone(), found, supported }
    }
}
