//! Bytes that were not captured → the state that is still certain.
//!
//! *Owns* what a hole does to a message. *Must not know* pairing, beyond that a message may have been lost.

use super::body::{Body, Hole};
use super::exchange::Half;
use super::{Http1Session, State, current};
use crate::protocol::Events;
use crate::record::{Mark, Point};

impl Http1Session {
    pub(super) fn body_gap(
        &mut self,
        half: Half,
        mut body: Body,
        pos: u64,
        len: u64,
        mark: Mark,
        out: &mut Events,
    ) {
        let hole = body.gap(len);
        let bound = self.kept_body_bytes;
        let stream = match half {
            Half::Request => &mut self.request,
            Half::Response => &mut self.response,
        };
        stream.state = State::Body(body);
        let content = match hole {
            Hole::Inside => len,
            Hole::Ends(content) | Hole::Lost(content) => content,
        };
        if let Some(open) = current(&mut self.open, stream.op) {
            open.content_gap(half, content, bound);
        }
        match hole {
            Hole::Inside => {}
            Hole::Ends(content) => {
                let end = mark.point(pos.saturating_add(content));
                self.message_ends(half, end, out);
                if content < len {
                    self.gap_between(half, end, len - content, out);
                }
            }
            Hole::Lost(content) => {
                stream.lose();
                if let Some(open) = current(&mut self.open, stream.op) {
                    open.gap_len = open.gap_len.saturating_add(len - content).max(1);
                }
                self.lost_message(half, out);
            }
        }
    }

    /// A hole between messages: it may have hidden whole ones.
    pub(super) fn gap_between(&mut self, half: Half, start: Point, len: u64, out: &mut Events) {
        self.stream(half).lose();
        self.lost_message(half, out);
        if half == Half::Response {
            self.response_begins_in_gap(start, len);
        }
    }
}
