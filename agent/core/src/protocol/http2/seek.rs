//! Bytes from anywhere in a stream → the next certain frame boundary.
//!
//! *Owns* the search. *Must not know* what frames say.
//!
//! A place is a boundary when frames follow one another from there, with enough in them that must be as it is; at the
//! beginning of a record a little less will do, because programs write whole frames far more often than not. Frames seen
//! so far may not be enough: such places wait for more bytes, and the first that is certain wins.

use std::collections::VecDeque;

use super::frame::{self, HEADER_LEN};
use super::{Half, Http2Session, State};
use crate::protocol::reader::Input;
use crate::protocol::{Discard, Event, Events};
use crate::record::Sender;

/// Evidence asked for, see [`frame::chain`].
const ENOUGH: u32 = 4;
const ENOUGH_AT_START: u32 = 3;
/// Places that wait for more bytes.
const MAX_WAITING: usize = 32;
/// Bytes kept for them. When there are more, half of it goes at once: moving bytes stays linear, too.
const MAX_KEPT: u64 = 128 << 10;
/// Header blocks may be looked into for so many bytes per byte that came, so that the search stays linear.
const LOOKS_PER_BYTE: usize = 16;
const MAX_BUDGET: usize = 1 << 20;

/// Behind so many bytes without a frame this is no HTTP/2: longer than any frame that is believed.
const MAX_SKIPPED: u64 = 2 << 20;

/// Where the search stands.
#[derive(Debug, Default)]
pub(super) struct Seeker {
    /// Every place before this position was looked at.
    looked_to: u64,
    waiting: VecDeque<Place>,
    budget: usize,
    /// Bytes given up since frames were lost.
    skipped: u64,
}

/// A place that may be a boundary.
#[derive(Clone, Copy, Debug)]
struct Place {
    pos: u64,
    is_start: bool,
    /// Nothing new can be said of it before this position was reached.
    needs: u64,
}

/// What is known of a place.
enum Verdict {
    Certain,
    Waits(Place),
    No,
}

impl Http2Session {
    /// `record`: position of the newest record. `false`: more bytes are needed.
    pub(super) fn seek(&mut self, half: Half, input: &mut Input<'_>, record: u64, out: &mut Events) -> bool {
        let from = match half {
            Half::Request => Sender::Client,
            Half::Response => Sender::Server,
        };
        let seeker = &mut self.way(half).seeker;
        let found = seeker.search(from, input.pos(), input.rest(), record);
        let keep_from = match found {
            Some(pos) => pos,
            None => seeker.keep_from(input.pos(), input.pos().saturating_add(input.rest().len() as u64)),
        };
        let skipped = usize::try_from(keep_from.saturating_sub(input.pos())).unwrap_or(usize::MAX);
        let bytes = input.advance(skipped) as u64;
        if bytes > 0 {
            let seeker = &mut self.way(half).seeker;
            seeker.skipped = seeker.skipped.saturating_add(bytes);
            let is_hopeless = seeker.skipped > MAX_SKIPPED && found.is_none();
            let reason = if is_hopeless { Discard::Invalid } else { Discard::Unsynchronised };
            out.push(Event::Discarded { reason, bytes });
        }
        if found.is_some() {
            let way = self.way(half);
            way.state = State::Frames;
            way.seeker = Seeker::default();
        }
        found.is_some()
    }
}

impl Seeker {
    /// The first certain boundary in `bytes`, which begin at `pos`.
    fn search(&mut self, from: Sender, pos: u64, bytes: &[u8], record: u64) -> Option<u64> {
        let end = pos.saturating_add(bytes.len() as u64);
        let fresh = usize::try_from(end.saturating_sub(record.max(pos))).unwrap_or(0);
        self.budget = self.budget.saturating_add(fresh.saturating_mul(LOOKS_PER_BYTE)).min(MAX_BUDGET);
        let mut waiting = std::mem::take(&mut self.waiting);
        for place in waiting.drain(..) {
            if place.pos < pos {
                continue;
            }
            if place.needs > end {
                self.waiting.push_back(place);
                continue;
            }
            match self.judge(from, place.pos, place.is_start, pos, bytes) {
                Verdict::Certain => return Some(place.pos),
                Verdict::Waits(place) => self.waiting.push_back(place),
                Verdict::No => {}
            }
        }
        // The last few places have less than a header behind them: they are looked at when there is more.
        let whole_to = end.saturating_sub(HEADER_LEN as u64 - 1);
        for at in self.looked_to.max(pos)..whole_to {
            match self.judge(from, at, at == record, pos, bytes) {
                Verdict::Certain => return Some(at),
                Verdict::Waits(place) => self.wait(place),
                Verdict::No => {}
            }
        }
        self.looked_to = self.looked_to.max(whole_to).max(pos);
        if (whole_to..end).contains(&record)
            && let Verdict::Waits(place) = self.judge(from, record, true, pos, bytes)
        {
            self.wait(place);
        }
        None
    }

    fn wait(&mut self, place: Place) {
        self.waiting.push_back(place);
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
        }
    }

    fn judge(&mut self, from: Sender, at: u64, is_start: bool, pos: u64, bytes: &[u8]) -> Verdict {
        let offset = usize::try_from(at.saturating_sub(pos)).unwrap_or(usize::MAX);
        let rest = bytes.get(offset..).unwrap_or_default();
        let enough = if is_start { ENOUGH_AT_START } else { ENOUGH };
        let Some(evidence) = frame::chain(rest, enough, &mut self.budget) else { return Verdict::No };
        if evidence.sender.is_some_and(|sender| sender != from) {
            return Verdict::No;
        }
        let points = evidence.points.saturating_add(u32::from(evidence.exact && evidence.points > 0));
        match evidence.needs {
            _ if points >= enough => Verdict::Certain,
            Some(needs) => {
                Verdict::Waits(Place { pos: at, is_start, needs: at.saturating_add(needs as u64) })
            }
            None => Verdict::No,
        }
    }

    /// Bytes before this position are of no use any more.
    fn keep_from(&mut self, start: u64, end: u64) -> u64 {
        let is_full = end.saturating_sub(start) > MAX_KEPT;
        let bound = if is_full { end.saturating_sub(MAX_KEPT / 2) } else { start };
        self.waiting.retain(|place| place.pos >= bound);
        let first = self.waiting.iter().map(|place| place.pos).min().unwrap_or(end);
        first.min(self.looked_to).max(bound)
    }
}
