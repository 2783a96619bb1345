//! Bytes of one direction → its frames, one after the other.
//!
//! *Owns* where a frame ends and what is buffered of it: DATA streams by, a header block waits until it is whole.
//! *Must not know* what frames do to streams.
//! *Spec*: RFC 9113, sections 3.4, 4 and 6.

use super::frame::{self, HEADER_LEN, Header, PREFACE};
use super::{Half, Http2Session};
use crate::protocol::reader::Input;
use crate::protocol::{Discard, Event, Events};
use crate::record::{Mark, Point};

/// Longest header block that is decoded, in one frame or several.
const MAX_BLOCK: usize = 128 << 10;
/// Longest control frame that is looked into; of the others only GOAWAY carries more, and nothing of use there.
const MAX_CONTROL: u32 = 4 << 10;

/// What the next byte of a direction belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Unknown: frames are looked for.
    Seek,
    /// The client's preface.
    Preface,
    /// A frame header, for certain.
    Frames,
    /// The payload of a DATA frame.
    Data(Data),
    /// So many bytes of a payload that are of no use.
    Skip(u64),
}

/// A DATA frame on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) stream: u32,
    /// Content to come, without padding.
    pub(super) left: u32,
    pub(super) pad: u32,
    pub(super) ends: bool,
}

/// A header block that is not whole yet.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) of: BlockOf,
    pub(super) bytes: Vec<u8>,
    /// What follows is of no use: the block is too long, or part of it was lost and the rest is told already.
    pub(super) is_over: bool,
}

/// Which message a header block belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockOf {
    pub(super) stream: u32,
    /// Of a PUSH_PROMISE: a request nobody sent.
    pub(super) is_promise: bool,
    pub(super) ends_stream: bool,
    /// The first byte of its first frame.
    pub(super) start: Point,
    /// After its last frame.
    pub(super) end: Point,
}

impl Http2Session {
    pub(super) fn feed(&mut self, half: Half, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events) {
        let mut input = self.way(half).reader.begin(pos, bytes, mark);
        while !input.rest().is_empty() {
            let goes_on = match self.way(half).state {
                State::Seek => self.seek(half, &mut input, pos, out),
                State::Preface => self.preface(&mut input),
                State::Frames => self.frame(half, &mut input, out),
                State::Data(data) => self.data(half, data, &mut input, out),
                State::Skip(left) => {
                    let len = input.advance(usize::try_from(left).unwrap_or(usize::MAX)) as u64;
                    let left = left.saturating_sub(len);
                    self.way(half).state = if left == 0 { State::Frames } else { State::Skip(left) };
                    true
                }
            };
            if !goes_on {
                break;
            }
        }
        self.way(half).reader.finish(input);
    }

    /// Section 3.4. A client that does not begin so was joined in mid-stream, whatever its positions say.
    fn preface(&mut self, input: &mut Input<'_>) -> bool {
        let rest = input.rest();
        if rest.starts_with(PREFACE) {
            input.advance(PREFACE.len());
            self.request.state = State::Frames;
            return true;
        }
        if PREFACE.starts_with(rest) {
            return false;
        }
        self.request.lose();
        true
    }

    /// Takes one frame, or the header of one whose payload streams by. `false`: more bytes are needed.
    fn frame(&mut self, half: Half, input: &mut Input<'_>, out: &mut Events) -> bool {
        let rest = input.rest();
        let Some(header) = Header::read(rest) else { return false };
        let way = self.way(half);
        let goes_on_block = way.block.as_ref().map(|block| block.of.stream);
        let fits = match goes_on_block {
            // Nothing comes between the parts of a header block (section 4.3).
            Some(stream) => header.kind == frame::CONTINUATION && header.stream == stream,
            None => header.kind != frame::CONTINUATION,
        };
        if !fits || !header.is_possible() || !way.allows(&header) {
            return self.nonsense(half, input, out);
        }
        if std::mem::take(&mut way.is_first) && header.kind != frame::SETTINGS {
            // Section 3.4: both begin with SETTINGS. This is not the beginning, then.
            way.hpack.lose();
        }
        match header.kind {
            frame::DATA => self.data_header(half, header, input, out),
            frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION => {
                self.block_frame(half, header, input, out)
            }
            frame::RST_STREAM | frame::SETTINGS | frame::GOAWAY => {
                let looked_at = header.len.min(MAX_CONTROL) as usize;
                let Some(payload) = rest.get(HEADER_LEN..HEADER_LEN.saturating_add(looked_at)) else {
                    return false;
                };
                let end = input.point_after(HEADER_LEN.saturating_add(looked_at));
                self.control(half, header, payload, end, out);
                input.advance(HEADER_LEN.saturating_add(looked_at));
                self.skip(half, u64::from(header.len).saturating_sub(looked_at as u64));
                true
            }
            // PRIORITY, PING, WINDOW_UPDATE, and types that are not known.
            _ => {
                input.advance(HEADER_LEN);
                self.skip(half, u64::from(header.len));
                true
            }
        }
    }

    fn skip(&mut self, half: Half, len: u64) {
        if len > 0 {
            self.way(half).state = State::Skip(len);
        }
    }

    fn data_header(&mut self, half: Half, header: Header, input: &mut Input<'_>, out: &mut Events) -> bool {
        let mut taken = HEADER_LEN;
        let mut pad = 0;
        let mut left = header.len;
        if header.has(frame::PADDED) {
            let Some(len) = input.rest().get(HEADER_LEN) else { return false };
            (pad, taken, left) = (u32::from(*len), HEADER_LEN + 1, left.saturating_sub(1));
        }
        let Some(left) = left.checked_sub(pad) else { return self.nonsense(half, input, out) };
        let ends = header.has(frame::END_STREAM);
        let point = input.point();
        let end = input.point_after(taken);
        input.advance(taken);
        self.data_begins(half, header.stream, point);
        let data = Data { stream: header.stream, left, pad, ends };
        self.data_goes_on(half, data, end, out);
        true
    }

    fn data(&mut self, half: Half, mut data: Data, input: &mut Input<'_>, out: &mut Events) -> bool {
        let content = input.rest().get(..data.left as usize).unwrap_or(input.rest());
        let len = content.len();
        if len > 0 {
            self.content(half, data.stream, content);
            data.left = data.left.saturating_sub(len as u32);
        }
        let padding = if data.left == 0 { input.rest().len().saturating_sub(len) } else { 0 };
        let padding = padding.min(data.pad as usize);
        data.pad = data.pad.saturating_sub(padding as u32);
        let taken = len.saturating_add(padding);
        let end = input.point_after(taken);
        input.advance(taken);
        self.data_goes_on(half, data, end, out);
        true
    }

    /// After a part of a DATA frame that ends at `end`.
    pub(super) fn data_goes_on(&mut self, half: Half, data: Data, end: Point, out: &mut Events) {
        self.extend(half, data.stream, end);
        if data.left > 0 || data.pad > 0 {
            self.way(half).state = State::Data(data);
            return;
        }
        self.way(half).state = State::Frames;
        if data.ends {
            self.message_ends(half, data.stream, end, out);
        }
    }

    fn block_frame(&mut self, half: Half, header: Header, input: &mut Input<'_>, out: &mut Events) -> bool {
        let rest = input.rest();
        let whole_len = header.frame_len();
        if header.len as usize > MAX_BLOCK {
            // Not even one frame of it is waited for.
            let of = block_of(&header, input.point(), input.point_after(HEADER_LEN));
            self.too_long(half, of, u64::from(header.len), header.has(frame::END_HEADERS), out);
            input.advance(HEADER_LEN);
            self.skip(half, u64::from(header.len));
            return true;
        }
        let Some(payload) = rest.get(HEADER_LEN..whole_len) else { return false };
        let Some(part) = frame::block(&header, payload) else { return self.nonsense(half, input, out) };
        let end = input.point_after(whole_len);
        let is_last = header.has(frame::END_HEADERS);
        match self.way(half).block.take() {
            None if is_last => {
                let of = block_of(&header, input.point(), end);
                self.header_block(half, of, part, out);
            }
            None => {
                let of = block_of(&header, input.point(), end);
                self.way(half).block = Some(Block { of, bytes: part.to_vec(), is_over: false });
            }
            Some(mut block) => {
                block.of.end = end;
                if !block.is_over && block.bytes.len().saturating_add(part.len()) > MAX_BLOCK {
                    let bytes = block.bytes.len() as u64;
                    self.too_long(half, block.of, bytes, is_last, out);
                } else {
                    if !block.is_over {
                        block.bytes.extend_from_slice(part);
                    }
                    match is_last {
                        true if block.is_over => {}
                        true => self.header_block(half, block.of, &block.bytes, out),
                        false => self.way(half).block = Some(block),
                    }
                }
            }
        }
        input.advance(whole_len);
        true
    }

    /// A header block past the bound: the message is told without its fields, and what the block did to the compression's
    /// table is not known.
    fn too_long(&mut self, half: Half, of: BlockOf, bytes: u64, is_last: bool, out: &mut Events) {
        out.push(Event::Discarded { reason: Discard::Limit, bytes });
        self.header_block_cut(half, of, &[], 0, out);
        self.way(half).block = (!is_last).then(|| Block { of, bytes: Vec::new(), is_over: true });
    }

    /// What is next is no frame. Frames are looked for from the byte after.
    fn nonsense(&mut self, half: Half, input: &mut Input<'_>, out: &mut Events) -> bool {
        let bytes = input.advance(1) as u64;
        out.push(Event::Discarded { reason: Discard::Invalid, bytes });
        let at = input.latest().at;
        self.lose(half, 0, at);
        true
    }
}

fn block_of(header: &Header, start: Point, end: Point) -> BlockOf {
    BlockOf {
        stream: header.stream,
        is_promise: header.kind == frame::PUSH_PROMISE,
        ends_stream: header.kind == frame::HEADERS && header.has(frame::END_STREAM),
        start,
        end,
    }
}

/// The same for a frame that was cut by a hole.
pub(super) fn cut_block_of(header: &Header, start: Point, end: Point) -> BlockOf {
    block_of(header, start, end)
}
