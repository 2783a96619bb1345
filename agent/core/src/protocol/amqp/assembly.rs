//! A method with content, its content header and its body frames → one whole message.
//!
//! *Owns* what is kept of a body and what is known to be missing. *Must not know* frames, confirms, settlements.
//!
//! *Spec*: AMQP 0-9-1 section 4.2.6: method, content header, zero or more body frames, all on one channel.

use super::content::Header;
use super::frame::Frame;
use crate::operation::amqp::{ActionKind, Content, IDENTITY_BYTES};
use crate::operation::{Detail, Operation};
use crate::record::Point;

/// Which method the content belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Its delivery tag for the broker's confirm, if one is expected.
    Publish {
        tag: Option<u64>,
        exact: bool,
    },
    Deliver {
        tag: u64,
    },
    Got {
        tag: u64,
        no_ack: Option<bool>,
    },
    Return,
    /// The method was not seen: the content is stepped over.
    Orphan,
}

/// A message in the making, from one sender on one channel.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) what: What,
    /// `None` for orphans.
    pub(super) operation: Option<Box<Operation>>,
    /// What it holds in memory, in bytes.
    pub(super) weight: usize,
    /// Body bytes that were not captured.
    pub(super) missing: u64,
    has_header: bool,
    keep: usize,
    /// Body bytes to come.
    left: u64,
    /// `left` when the body frame under way began.
    left_at_frame: u64,
}

/// Where a body frame was, for picking a body up again behind a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FramePlace {
    pub(super) frame: Frame,
    pub(super) start: Point,
}

impl Assembly {
    pub(super) fn new(what: What, operation: Option<Box<Operation>>) -> Self {
        Self { what, operation, weight: 0, missing: 0, has_header: false, keep: 0, left: 0, left_at_frame: 0 }
    }

    /// The content header. Returns the bytes it holds from now on. A second header is refused with `None`.
    pub(super) fn header(&mut self, header: Header, header_len: usize, keep: usize) -> Option<usize> {
        if self.has_header {
            return None;
        }
        self.has_header = true;
        self.left = header.body_len;
        self.keep = keep;
        let Some(content) = self.content() else { return Some(0) };
        content.body.len = header.body_len;
        content.properties = header.properties;
        content.properties_cut = header.cut;
        self.weight = header_len;
        Some(header_len)
    }

    /// A body frame begins.
    pub(super) fn frame(&mut self) {
        self.left_at_frame = self.left;
    }

    /// Body bytes. Returns how many are held from now on, and how many are past the announced length.
    pub(super) fn body(&mut self, bytes: &[u8]) -> (usize, usize) {
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left = self.left.saturating_sub(fits as u64);
        let excess = bytes.len().saturating_sub(fits);
        let keep = self.keep;
        let Some(content) = self.content() else { return (0, excess) };
        let body = &mut content.body;
        let room = if body.holed { 0 } else { keep.saturating_sub(body.bytes.len()) };
        let kept = bytes.get(..fits.min(room)).unwrap_or_default();
        body.bytes.extend_from_slice(kept);
        let kept = kept.len();
        self.weight = self.weight.saturating_add(kept);
        (kept, excess)
    }

    /// `len` body bytes that were not captured.
    pub(super) fn hole(&mut self, len: u64) {
        let len = len.min(self.left);
        self.left = self.left.saturating_sub(len);
        self.missing = self.missing.saturating_add(len);
        let keep = self.keep;
        if len > 0
            && let Some(content) = self.content()
            && content.body.bytes.len() < keep
        {
            content.body.holed = true;
        }
    }

    /// The content header will not come. How much is missing with it is not known: `lost` bytes were lost.
    pub(super) fn no_header(&mut self, lost: u64) {
        if !self.has_header
            && let Some(content) = self.content()
        {
            content.properties_cut = true;
            content.body.holed = true;
            self.missing = self.missing.max(lost);
        }
    }

    /// Everything announced went by.
    pub(super) fn is_whole(&self) -> bool {
        self.has_header && self.left == 0
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// No byte of its body is wanted any more.
    pub(super) fn is_full(&self) -> bool {
        let Some(operation) = &self.operation else { return true };
        content(operation).is_none_or(|content| content.body.holed || content.body.bytes.len() >= self.keep)
    }

    /// Whether the body may go on behind a gap: there is more of it than the frame under way, which tells the size of
    /// those that follow.
    pub(super) fn goes_on_after(&self, place: FramePlace) -> bool {
        self.has_header && self.left_at_frame > u64::from(place.frame.size)
    }

    /// Picks the body up again at the body frame `next`, when it lies where the sender, cutting the body into frames of
    /// one size as all do, has one. Otherwise nothing changes.
    pub(super) fn resume(&mut self, place: FramePlace, next: FramePlace) -> bool {
        let size = u64::from(place.frame.size);
        let stride = size.saturating_add(super::frame::OVERHEAD as u64);
        let distance = next.start.pos.saturating_sub(place.start.pos);
        if size == 0 || !distance.is_multiple_of(stride) || place.frame.channel != next.frame.channel {
            return false;
        }
        let passed = (distance / stride).saturating_mul(size);
        let left = self.left_at_frame.saturating_sub(passed);
        if left == 0 || left > self.left || u64::from(next.frame.size) != left.min(size) {
            return false;
        }
        self.hole(self.left.saturating_sub(left));
        true
    }

    fn content(&mut self) -> Option<&mut Content> {
        let operation = self.operation.as_mut()?;
        match &mut operation.detail {
            Detail::Amqp(action) => action.kind.content_mut(),
            _ => None,
        }
    }
}

fn content(operation: &Operation) -> Option<&Content> {
    match &operation.detail {
        Detail::Amqp(action) => action.kind.content(),
        _ => None,
    }
}

/// The AMQP part of an operation.
pub(super) fn kind_mut(operation: &mut Operation) -> Option<&mut ActionKind> {
    match &mut operation.detail {
        Detail::Amqp(action) => Some(&mut action.kind),
        _ => None,
    }
}

/// Gives up the bytes of a message's body but those that are part of its identity, and keeps none that come. Returns how many that
/// were.
pub(super) fn relieve(operation: &mut Operation) -> usize {
    let Some(content) = kind_mut(operation).and_then(ActionKind::content_mut) else { return 0 };
    let body = &mut content.body;
    let freed = body.bytes.len().saturating_sub(IDENTITY_BYTES);
    if freed > 0 {
        body.bytes.truncate(IDENTITY_BYTES);
        body.bytes.shrink_to_fit();
        body.holed = true;
    }
    freed
}

/// Body bytes kept of each message: the configured number, but never less than what its identity needs.
pub(super) fn keep(configured: usize) -> usize {
    configured.max(IDENTITY_BYTES)
}
