//! Holes → what is still certain.
//!
//! *Owns* which frames a hole cut, and which streams it puts in doubt. *Must not know* how frames are found again.
//! *Spec*: RFC 9113, section 4.1: a frame header says where the next one is.

use super::feed::{Block, Data, State, cut_block_of};
use super::frame::{self, HEADER_LEN, Header, PREFACE};
use super::{Half, Http2Session, Way};
use crate::protocol::{Discard, Event, Events};
use crate::record::{Mark, Point};
use crate::time::BootTime;

impl Http2Session {
    /// `len` bytes at `pos` moved that nobody saw.
    pub(super) fn hole(&mut self, half: Half, pos: u64, len: u64, mark: Mark, out: &mut Events) {
        let way = self.way(half);
        let after = mark.point(pos.saturating_add(len));
        match way.state {
            State::Data(data) => self.hole_in_data(half, data, len, after, out),
            State::Skip(left) => match left.checked_sub(len) {
                Some(0) => way.state = State::Frames,
                Some(left) => way.state = State::Skip(left),
                None => self.lose(half, len, mark.at),
            },
            State::Preface => {
                let rest = way.reader.reset();
                let left = (PREFACE.len().saturating_sub(rest) as u64).checked_sub(len);
                match left {
                    Some(0) => self.request.state = State::Frames,
                    Some(left) => self.request.state = State::Skip(left),
                    None => self.lose(half, len, mark.at),
                }
            }
            State::Frames => self.hole_between(half, pos, len, after, out),
            State::Seek => {
                let bytes = way.reader.reset() as u64;
                if bytes > 0 {
                    out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
                }
                self.lose(half, len, mark.at);
            }
        }
    }

    fn hole_in_data(&mut self, half: Half, mut data: Data, len: u64, after: Point, out: &mut Events) {
        let missed = len.min(u64::from(data.left));
        self.content_gap(half, data.stream, missed);
        data.left = data.left.saturating_sub(missed as u32);
        let past = len.saturating_sub(missed);
        let Some(pad) = u64::from(data.pad).checked_sub(past) else {
            // The frame ended inside the hole.
            let end =
                Point { pos: after.pos.saturating_sub(past.saturating_sub(u64::from(data.pad))), ..after };
            data.pad = 0;
            self.data_goes_on(half, data, end, out);
            return self.lose(half, past, after.at);
        };
        data.pad = pad as u32;
        self.data_goes_on(half, data, after, out);
    }

    /// A hole at a frame header, or after the beginning of a frame that waits for its rest.
    fn hole_between(&mut self, half: Half, pos: u64, len: u64, after: Point, out: &mut Events) {
        let way = self.way(half);
        let mark = after.mark(0);
        let mut input = way.reader.begin(pos, b"", mark);
        let (start, waiting) = (input.point(), input.rest().to_vec());
        input.advance(usize::MAX);
        way.reader.finish(input);
        let header = Header::read(&waiting).filter(|header| header.is_possible() && way.allows(header));
        let Some(header) = header else {
            if !waiting.is_empty() {
                let bytes = waiting.len() as u64;
                out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
            }
            if let Some(block) = self.way(half).block.take().filter(|block| !block.is_over) {
                // Its message began; the rest of its fields is in the hole.
                let missing = if block.of.ends_stream { len } else { 0 };
                self.header_block_cut(half, block.of, &block.bytes, missing, out);
            }
            return self.lose(half, len, after.at);
        };
        let end = Point { pos: start.pos.saturating_add(header.frame_len() as u64), ..after };
        let beginning = waiting.get(HEADER_LEN..).unwrap_or_default();
        let left = end.pos.saturating_sub(pos);
        let missing = len.min(left);
        match header.kind {
            frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION => {
                let ends = (start, end, after.pos);
                self.hole_in_block(half, header, beginning, missing, ends, out);
            }
            frame::DATA => {
                // Only its padding's length was still missing.
                let data = Data {
                    stream: header.stream,
                    left: u32::try_from(left).unwrap_or(u32::MAX),
                    pad: 0,
                    ends: header.has(frame::END_STREAM),
                };
                self.data_begins(half, header.stream, start);
                self.way(half).state = State::Data(data);
                return self.hole_in_data(half, data, len, after, out);
            }
            _ => {
                if header.kind == frame::SETTINGS {
                    self.other(half).forget_limits();
                }
                let bytes = waiting.len() as u64;
                out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
            }
        }
        match left.checked_sub(len) {
            Some(0) => {}
            Some(left) => self.way(half).state = State::Skip(left),
            None => self.lose(half, len, after.at),
        }
    }

    /// A hole in a header block: its message began for certain, and the fields before the hole are known.
    fn hole_in_block(
        &mut self,
        half: Half,
        header: Header,
        beginning: &[u8],
        missing: u64,
        (start, end, hole_end): (Point, Point, u64),
        out: &mut Events,
    ) {
        let skipped = match header.kind {
            frame::CONTINUATION => 0,
            kind => {
                let fixed = if kind == frame::PUSH_PROMISE { 4 } else { 0 };
                let priority = if kind == frame::HEADERS && header.has(frame::WITH_PRIORITY) { 5 } else { 0 };
                usize::from(header.has(frame::PADDED)) + fixed + priority
            }
        };
        // Padding is no part of the block, should the hole be in there.
        let is_padded = header.kind != frame::CONTINUATION && header.has(frame::PADDED);
        let pad = beginning.first().filter(|_| is_padded).map_or(0, |len| usize::from(*len));
        let part = beginning.get(skipped..).unwrap_or_default();
        let block_len = (header.len as usize).saturating_sub(skipped).saturating_sub(pad);
        let part = part.get(..block_len).unwrap_or(part);
        let way = self.way(half);
        let (of, bytes, was_over) = match way.block.take() {
            Some(mut block) => {
                block.of.end = end;
                block.bytes.extend_from_slice(part);
                (block.of, block.bytes, block.is_over)
            }
            None => (cut_block_of(&header, start, end), part.to_vec(), false),
        };
        if !was_over {
            // A hole past the frame puts what is still open in doubt, which counts it.
            let counted_later = end.pos < hole_end && !of.ends_stream;
            let missing = if counted_later { 0 } else { missing };
            self.header_block_cut(half, of, &bytes, missing, out);
        }
        if !header.has(frame::END_HEADERS) {
            self.way(half).block = Some(Block { of, bytes: Vec::new(), is_over: true });
        }
    }

    fn other(&mut self, half: Half) -> &mut Way {
        match half {
            Half::Request => &mut self.response,
            Half::Response => &mut self.request,
        }
    }

    /// Frames of this direction may have been missed, `bytes` of them: every message that is open may have gone on there.
    pub(super) fn lose(&mut self, half: Half, bytes: u64, at: BootTime) {
        self.way(half).lose();
        self.other(half).forget_limits();
        for stream in self.streams.values_mut() {
            stream.doubts(half, bytes, at);
        }
        self.has_doubts = !self.streams.is_empty();
    }
}
