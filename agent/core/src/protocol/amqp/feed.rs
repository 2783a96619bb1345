//! One direction's bytes in, methods to `dispatch` and messages in the making to `session`.
//!
//! *Owns* what frames, gaps and lost boundaries do to messages in the making. *Must not know* what methods mean.

use super::assembly::{Assembly, FramePlace, What};
use super::channel::Channel;
use super::content;
use super::frame::{Frame, HEADER_LEN, Hole, Item, Kind, OVERHEAD};
use super::session::{AmqpSession, Loss, MAX_HELD_BYTES};
use crate::operation::Extent;
use crate::operation::amqp::IDENTITY_BYTES;
use crate::protocol::reader::Input;
use crate::protocol::{Discard, Event, Events};
use crate::record::{Mark, Point, Sender};

impl AmqpSession {
    pub(super) fn run(&mut self, from: Sender, input: &mut Input<'_>, out: &mut Events) {
        loop {
            let frame_max = self.frame_max;
            match self.half(from).decoder.step(from, input, frame_max) {
                Item::Wait => return,
                Item::ProtocolHeader => {
                    // What the server says first answers it.
                    if from == Sender::Client && self.server.decoder.is_fresh() {
                        self.server.decoder.start();
                    }
                }
                Item::Passed(0) => {}
                Item::Passed(bytes) => out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes }),
                Item::Lost => {
                    let mark = input.latest();
                    let bytes = input.advance(1) as u64;
                    out.push(Event::Discarded { reason: Discard::Invalid, bytes });
                    self.lost(from, input.pos(), 0, mark, out);
                }
                Item::Whole(frame) => self.whole(from, frame, input, out),
                Item::BodyStart { frame, start } => self.body_start(from, FramePlace { frame, start }, out),
                Item::Body { channel, len } => {
                    let bytes = input.rest().get(..len).unwrap_or_default();
                    self.body(from, channel, bytes, out);
                    input.advance(len);
                }
                Item::BodyEnd { channel, end } => self.body_end(from, channel, end, out),
                Item::Damaged { frame, limit } => {
                    self.close_suspended(from, input.point(), out);
                    if limit {
                        let bytes = u64::from(frame.size);
                        out.push(Event::Discarded { reason: Discard::Limit, bytes });
                        if frame.kind == Kind::Header {
                            self.cut(from, frame.channel, input.point(), 0, out);
                        }
                    }
                }
            }
        }
    }

    fn whole(&mut self, from: Sender, frame: Frame, input: &mut Input<'_>, out: &mut Events) {
        let size = frame.size as usize;
        let len = size.saturating_add(OVERHEAD);
        let extent = Extent { start: input.point(), end: input.point_after(len) };
        self.close_suspended(from, extent.start, out);
        self.half(from).last_body = None;
        let payload = input.rest().get(HEADER_LEN..).and_then(|rest| rest.get(..size)).unwrap_or_default();
        match frame.kind {
            Kind::Method => self.method(from, frame.channel, payload, extent, out),
            _ => self.header(from, frame.channel, payload, extent.end, out),
        }
        input.advance(len);
    }

    /// A content header, or the captured beginning of one.
    fn header(&mut self, from: Sender, number: u16, payload: &[u8], end: Point, out: &mut Events) {
        let keep = if self.held_bytes > MAX_HELD_BYTES / 2 { IDENTITY_BYTES } else { self.keep };
        let read = content::read(payload);
        let Some(channel) = self.channel(number) else {
            out.push(Event::Discarded { reason: Discard::Limit, bytes: payload.len() as u64 });
            return;
        };
        let Some(header) = read else {
            out.push(Event::Discarded { reason: Discard::Invalid, bytes: payload.len() as u64 });
            return self.cut(from, number, end, 0, out);
        };
        let slot = channel.assembly(from);
        if slot.is_none() {
            // Its method was not seen. The length is still good for stepping over the body.
            out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes: payload.len() as u64 });
        }
        let assembly = slot.get_or_insert_with(|| Assembly::new(What::Orphan, None));
        let Some(held) = assembly.header(header, payload.len(), keep) else {
            out.push(Event::Discarded { reason: Discard::Invalid, bytes: payload.len() as u64 });
            return;
        };
        let is_whole = assembly.is_whole();
        self.held_bytes = self.held_bytes.saturating_add(held);
        if is_whole {
            self.finish(from, number, end, out);
        }
    }

    fn body_start(&mut self, from: Sender, place: FramePlace, out: &mut Events) {
        let half = self.half(from);
        half.last_body = Some(place);
        if let Some(before) = half.suspended.take()
            && let Some(channel) = self.channels.get_mut(&before.frame.channel)
        {
            let resumed =
                channel.assembly(from).as_mut().is_some_and(|assembly| assembly.resume(before, place));
            if !resumed {
                self.cut(from, before.frame.channel, place.start, 0, out);
            }
        }
        let channel = self.channels.get_mut(&place.frame.channel);
        if let Some(assembly) = channel.and_then(|channel| channel.assembly(from).as_mut()) {
            assembly.frame();
        }
    }

    fn body(&mut self, from: Sender, number: u16, bytes: &[u8], out: &mut Events) {
        let channel = self.channels.get_mut(&number);
        let Some(assembly) = channel.and_then(|channel| channel.assembly(from).as_mut()) else {
            let bytes = bytes.len() as u64;
            out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
            return;
        };
        let (held, excess) = assembly.body(bytes);
        if assembly.what == What::Orphan {
            let bytes = bytes.len() as u64;
            out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
        } else if excess > 0 {
            out.push(Event::Discarded { reason: Discard::Invalid, bytes: excess as u64 });
        }
        self.held_bytes = self.held_bytes.saturating_add(held);
    }

    fn body_end(&mut self, from: Sender, number: u16, end: Point, out: &mut Events) {
        let channel = self.channels.get(&number);
        if channel.and_then(|channel| channel.assembly_ref(from)).is_some_and(Assembly::is_whole) {
            self.finish(from, number, end, out);
        }
    }

    // Losses

    /// `len` bytes of one direction moved, but were not captured.
    pub(super) fn step_over(&mut self, from: Sender, pos: u64, len: u64, mark: Mark, out: &mut Events) {
        if len == 0 {
            return;
        }
        let frame_max = self.frame_max;
        let end = mark.point(pos.saturating_add(len));
        match self.half(from).decoder.gap(len, frame_max) {
            Hole::Inside { frame, len, ended } if frame.kind == Kind::Body => {
                let channel = self.channels.get_mut(&frame.channel);
                if let Some(assembly) = channel.and_then(|channel| channel.assembly(from).as_mut()) {
                    assembly.hole(u64::from(len));
                }
                if ended {
                    self.body_end(from, frame.channel, end, out);
                }
            }
            Hole::Inside { frame, len, .. } => {
                let held = std::mem::take(&mut self.half(from).decoder.reader);
                let seen = held.rest().get(HEADER_LEN..).unwrap_or_default();
                self.close_suspended(from, end, out);
                self.half(from).last_body = None;
                match frame.kind {
                    // With the body's length in it, it still tells where the message ends.
                    Kind::Header => {
                        let channel = self.channels.get_mut(&frame.channel);
                        if let Some(assembly) = channel.and_then(|channel| channel.assembly(from).as_mut()) {
                            assembly.missing = u64::from(len).max(1);
                        }
                        self.header(from, frame.channel, seen, end, out);
                    }
                    _ => {
                        out.push(Event::Discarded {
                            reason: Discard::Unsynchronised,
                            bytes: held.len() as u64,
                        });
                        self.method_lost(from, frame.channel, u64::from(len), end, out);
                    }
                }
            }
            Hole::Lost { discarded } => {
                if discarded > 0 {
                    let bytes = discarded as u64;
                    out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
                }
                self.lost(from, end.pos, len, mark, out);
            }
        }
    }

    /// The boundary of one direction is lost: what was under way in it ends here, unless it can be picked up.
    fn lost(&mut self, from: Sender, pos: u64, len: u64, mark: Mark, out: &mut Events) {
        let half = self.half(from);
        half.loss = Some(Loss { at: mark.at, len });
        let mut suspended = half.suspended.or(half.last_body);
        half.last_body = None;
        let end = mark.point(pos);
        if let Some(place) = suspended {
            let channel = self.channels.get(&place.frame.channel);
            let assembly = channel.and_then(|channel| channel.assembly_ref(from));
            if !assembly.is_some_and(|assembly| assembly.goes_on_after(place)) {
                suspended = None;
            }
        }
        let spared = suspended.map(|place| place.frame.channel);
        let cut = |(number, channel): (&u16, &Channel)| {
            (channel.assembly_ref(from).is_some() && Some(*number) != spared).then_some(*number)
        };
        let numbers: Vec<u16> = self.channels.iter().filter_map(cut).collect();
        for number in numbers {
            self.cut(from, number, end, len, out);
        }
        self.channels.values_mut().for_each(|channel| channel.lost(from));
        self.half(from).suspended = suspended;
    }

    /// The body that was waiting to go on does not.
    fn close_suspended(&mut self, from: Sender, at: Point, out: &mut Events) {
        if let Some(place) = self.half(from).suspended.take() {
            self.cut(from, place.frame.channel, at, 0, out);
        }
    }

    /// Ends the message in the making on a channel as it is, because of `lost` bytes that were lost.
    pub(super) fn cut(&mut self, from: Sender, number: u16, end: Point, lost: u64, out: &mut Events) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(assembly) = channel.assembly(from) else { return };
        // Only the frame-end octet may be missing.
        if !assembly.is_whole() {
            assembly.no_header(lost);
            let left = assembly.left();
            assembly.hole(left);
            // Without a header it is not known how much, but something is.
            assembly.missing = assembly.missing.max(1);
        }
        self.finish(from, number, end, out);
    }
}
