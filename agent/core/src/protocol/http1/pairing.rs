//! Which response answers which request, also after bytes were lost.
//!
//! *Owns* the queue's trust. *Must not know* how messages are found in bytes.
//! *Spec*: RFC 9112, section 9.3.

use std::time::Duration;

use super::body::Body;
use super::exchange::{Half, Open};
use super::{Http1Session, State, start_line};
use crate::operation::{Completeness, Extent};
use crate::protocol::{Discard, Event, Events};
use crate::record::Point;
use crate::time::BootTime;

/// A connection whose pairing was lost is believed again after this much silence: no server of pipelined requests
/// leaves all of them unanswered for so long and then answers.
const QUIET: Duration = Duration::from_secs(10);

/// The same after so many requests in a row of which each had one response before the next. A client that pipelines, and lost nothing of
/// its beginning, was seen to: it sends several at once before it can go on one by one.
const TURNS: u8 = 8;

/// A response that is seen before its request is not moved before it by more than this: records are swapped by microseconds, and what
/// is later than a stalled processor's is taken for lost by [`crate::stream::Window`] as well.
const OVERTAKEN: Duration = Duration::from_millis(100);

/// How far the order of requests and responses is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pairing {
    /// A request came while another had no complete response.
    pipelined: bool,
    /// A request may have passed unseen since the last one.
    request_lost: bool,
    /// Requests and responses cannot be paired.
    lost: bool,
    /// Requests were seen to be pipelined, at any time.
    was_pipelined: bool,
    /// While pairing is lost: requests in a row that had one response each before the next one.
    turns: u8,
    /// The last of them has none yet.
    is_open: bool,
}

impl Pairing {
    /// What a response is that answers none of the requests that were seen.
    pub(super) fn unexpected(self) -> Discard {
        if self.request_lost { Discard::Unsynchronised } else { Discard::Invalid }
    }

    /// A request while pairing is lost. Returns whether it can be believed again.
    fn turn(&mut self) -> bool {
        self.was_pipelined |= self.is_open;
        self.turns = if self.is_open { 0 } else { self.turns.saturating_add(1) };
        self.is_open = true;
        self.turns > TURNS && !self.was_pipelined
    }

    /// A response while pairing is lost.
    fn answered(&mut self) {
        if !std::mem::take(&mut self.is_open) {
            // One too many: somebody waited for it before.
            self.turns = 0;
        }
    }
}

impl Http1Session {
    /// Called before a request that starts at `start` is opened: what does it say of those before it?
    pub(super) fn settle_before_request(&mut self, start: Point, quiet_since: BootTime, out: &mut Events) {
        let request_lost = std::mem::take(&mut self.pairing.request_lost);
        if self.pairing.lost {
            let is_in_turn = self.pairing.turn();
            if is_in_turn || start.at.since(quiet_since) >= QUIET {
                let Pairing { was_pipelined, .. } = self.pairing;
                self.pairing = Pairing { was_pipelined, ..Pairing::default() };
            }
            return;
        }
        let waiting = self.open.len();
        if request_lost && self.pairing.pipelined {
            // A lost request may still be unanswered.
            self.lose_pairing(start.at, out);
        } else if waiting == 0 {
        } else if self.response.state == State::Seek {
            if waiting > 1 || self.pairing.pipelined {
                self.lose_pairing(start.at, out);
            } else {
                // Not pipelined: the response was over before this request, wherever its end was.
                self.give_up_front(start.at, out);
            }
        } else if request_lost {
            self.lose_pairing(start.at, out);
        } else if self.response.state != State::Body(Body::UntilClose) {
            (self.pairing.pipelined, self.pairing.was_pipelined) = (true, true);
        }
    }

    /// Whether the status line at `at` answers the first open exchange. While seeking, it may also end the one before.
    pub(super) fn response_is_expected(&mut self, at: Point, out: &mut Events) -> bool {
        if self.pairing.lost {
            self.pairing.answered();
            return false;
        }
        let waiting = self.open.len();
        let Some(front) = self.open.front() else { return false };
        if self.response.state == State::Start {
            return !front.answered;
        }
        if self.pairing.request_lost {
            // Both directions have holes: it may answer a request that was never seen.
            return false;
        }
        let head_seen = front.exchange.status.is_some();
        match waiting {
            1 => !head_seen && !front.answered,
            2 if head_seen && self.response.op == Some(front.id) => {
                // The one before ended somewhere in what was not understood.
                self.give_up_front(at.at, out);
                true
            }
            _ => {
                self.lose_pairing(at.at, out);
                false
            }
        }
    }

    /// A body that lasts until the close, and then another response on the same connection: a server that forgot to
    /// say how long the body is. Certain only with a request waiting for it.
    pub(super) fn next_response_after_unmarked_end(&mut self, fresh: &[u8], out: &mut Events) {
        let unmarked = self.response.state == State::Body(Body::UntilClose);
        if unmarked && self.open.len() == 2 && first_line(fresh).and_then(start_line::status_line).is_some() {
            self.response_ends(self.response.last, out);
        }
    }

    /// A final response that came instead of `100 Continue`, and then a request where the body would start: the client
    /// left the body out (RFC 9110, section 10.1.1).
    pub(super) fn next_request_instead_of_body(&mut self, fresh: &[u8], out: &mut Events) {
        let State::Body(_) = self.request.state else { return };
        let Some(open) = self.open.front().filter(|open| open.answered && Some(open.id) == self.request.op)
        else {
            return;
        };
        let none_came = open.exchange.request_body.len == 0 && self.request.reader.is_empty();
        let expects = open.exchange.request_headers.get("expect").is_some();
        let next = || first_line(fresh).and_then(start_line::request_line);
        if none_came && expects && next().is_some_and(|line| start_line::is_known_method(line.method)) {
            self.request_ends(self.request.last, out);
        }
    }

    /// A message of this direction may have passed unseen.
    pub(super) fn lost_message(&mut self, half: Half, out: &mut Events) {
        if half == Half::Request {
            self.pairing.request_lost = true;
            if self.open.is_empty() {
                self.drop_ahead(out);
            }
            // It came before the request ahead of it was answered.
            let unanswered = self.open.back().is_some_and(|open| open.requested && !open.answered);
            self.pairing.pipelined |= unanswered;
        }
    }

    /// A request opened while none was: reads the response that is ahead of it, if that can be its own.
    pub(super) fn read_ahead(&mut self, out: &mut Events) {
        let Some(request) = self.open.front().map(|open| open.request.start) else { return };
        if self.response.state != State::Start || self.response.reader.is_empty() {
            return;
        }
        let last = self.response.last;
        if request.at.since(last.at) > OVERTAKEN {
            return self.drop_ahead(out);
        }
        self.response_bytes(last.pos, b"", last.mark(request.pos), out);
    }

    /// What is ahead answers a request that will not be seen.
    fn drop_ahead(&mut self, out: &mut Events) {
        if self.response.state == State::Start && !self.response.reader.is_empty() {
            let bytes = self.response.reader.reset() as u64;
            self.response.lose();
            out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
        }
    }

    /// A hole where a response must start: if just one is awaited, it is that one's beginning.
    pub(super) fn response_begins_in_gap(&mut self, start: Point, len: u64) {
        let alone = self.open.len() == 1 && !self.pairing.lost && !self.pairing.pipelined;
        let Some(open) = self.open.front_mut() else { return };
        // With `Expect`, it may have been the interim response.
        let interim = open.exchange.request_headers.get("expect").is_some();
        if !alone || !open.requested || open.answered || open.response.is_some() || interim {
            return;
        }
        open.response = Some(Extent { start, end: start });
        open.gap_len = open.gap_len.saturating_add(len);
        self.response.op = Some(open.id);
    }

    pub(super) fn request_ends(&mut self, end: Point, out: &mut Events) {
        let op = self.request.op;
        self.request.next_message();
        let Some(open) = self.open.back_mut().filter(|open| Some(open.id) == op) else { return };
        open.request.end = end;
        open.requested = true;
        open.multipart = None;
        out.push(Event::Requested { op: open.id, point: end });
        if open.answered {
            // The response was over before the request.
            self.close_front(end.at, out);
        } else if self.pairing.lost
            && let Some(open) = self.open.pop_back()
        {
            self.close(open, end.at, Completeness::Abandoned, out);
        }
    }

    pub(super) fn response_ends(&mut self, end: Point, out: &mut Events) {
        let op = self.response.op;
        self.response.next_message();
        let Some(open) = self.open.front_mut().filter(|open| Some(open.id) == op) else { return };
        if let Some(response) = &mut open.response {
            response.end = end;
        }
        open.answered = true;
        if open.requested {
            self.close_front(end.at, out);
        }
    }

    /// Closes everything that is open without a response, and stops pairing.
    pub(super) fn lose_pairing(&mut self, at: BootTime, out: &mut Events) {
        while !self.open.is_empty() {
            self.give_up_front(at, out);
        }
        self.pairing = Pairing { lost: true, turns: 0, is_open: false, ..self.pairing };
        self.response.lose();
    }

    /// Closes the first exchange though its end was not seen.
    fn give_up_front(&mut self, at: BootTime, out: &mut Events) {
        let Some(mut open) = self.open.pop_front() else { return };
        let mut ended_at = at;
        if self.response.op == Some(open.id) {
            self.response.op = None;
            if let Some(response) = &mut open.response {
                response.end = self.response.last;
                ended_at = response.end.at;
            }
        }
        if self.request.op == Some(open.id) {
            self.request.op = None;
            if !open.requested {
                open.request.end = self.request.last;
            }
        }
        let completeness = match open.gap_len {
            _ if open.answered => Completeness::Complete,
            0 => Completeness::Abandoned,
            len => Completeness::Gap(len),
        };
        self.close(open, ended_at, completeness, out);
    }

    fn close_front(&mut self, at: BootTime, out: &mut Events) {
        if let Some(open) = self.open.pop_front() {
            self.close(open, at, Completeness::Complete, out);
        }
    }

    pub(super) fn close(&mut self, open: Open, at: BootTime, completeness: Completeness, out: &mut Events) {
        self.retained = self.retained.saturating_sub(open.retained);
        out.push(Event::Closed(Box::new(open.close(self.role, at, completeness))));
    }
}

fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'\n', bytes)?;
    let line = bytes.get(..end)?;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}
