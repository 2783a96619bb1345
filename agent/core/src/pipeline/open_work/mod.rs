//! Operations that are not over, the time → who is to be told of which of them by name, again and again while they last.
//!
//! ```text
//!   t0 asked · t30 told · t90 told again · t100 answered, told that it is over · … its tree is released: the span
//! ```
//!
//! A span comes when its whole tree is over, so a call that is answered in a request that hangs would seem to hang with it: that
//! it is over is told at once. Only what belongs to an order is told, and nothing that its span would not show.
//!
//! *Owns* when whom to tell, and the bound on how many. *Must not know* how it is told.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Pipeline;
use crate::operation::amqp::ActionKind;
use crate::operation::{Detail, Operation};
use crate::order::ids;
use crate::record::OpId;
use crate::span::{self, Span};
use crate::time::{BootTime, WallTime};
use crate::trace::{SpanId, TraceId};
use crate::trees::Finished;
use crate::trees::hold::Member;
use crate::work::{Done, Owner};

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A request, call, statement or publish is not over.
    Open,
    /// A message was taken, and nothing has been said of it.
    Unacked,
    /// A message lies in a queue. The span is its publish's, from when it lay there.
    Waiting,
    /// It does not any more: somebody has it, or had.
    Left,
    /// What was told before as one of the first two is over. Its span comes when its tree is complete.
    Over,
}

/// An operation as it is at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenWork {
    pub what: What,
    /// The span that it will be. Its end is the moment: it has lasted until then at least.
    pub span: Span,
}

/// Of what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TellSettings {
    /// What has been open for less is not told.
    pub after: Duration,
    /// So many are told of at once.
    pub most: usize,
}

/// Who was told of something hears of it again after so long. Readers take what they do not hear of for three times as long for lost.
pub(super) const AGAIN: Duration = Duration::from_secs(60);
/// Operations looked at in one turn; each is copied for that, with its body.
pub(super) const LOOKS: usize = 512;
/// Operations of a tree that are looked at to place others: the first ones name its trace.
const MAX_MEMBERS: usize = 256;

/// What others were told of.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    told: FxHashMap<OpId, Box<Span>>,
    over: VecDeque<Box<Span>>,
    /// Times that something was not told at the bound.
    untold: u64,
}

impl Ledger {
    /// An operation is over.
    pub(super) fn closed(&mut self, op: OpId, at: WallTime) {
        if let Some(mut span) = self.told.remove(&op) {
            span.end = at.max(span.start);
            self.over.push_back(span);
        }
    }

    /// Times that something was not told because there was too much.
    pub(super) fn untold(&self) -> u64 {
        self.untold
    }

    /// Enters what is about to be told. Returns whether there is room.
    fn tell(&mut self, op: OpId, span: &Span, most: usize) -> bool {
        if let Some(before) = self.told.get(&op) {
            // Its tree has turned out to be another one: the span will come there.
            if place(before) != place(span) {
                self.closed(op, span.end);
            }
        } else if self.told.len() >= most {
            self.untold += 1;
            return false;
        }
        self.told.insert(op, Box::new(span.outline(|name| name.starts_with("order."))));
        true
    }
}

fn place(span: &Span) -> (TraceId, SpanId) {
    (span.trace_id, span.span_id)
}

impl Pipeline {
    /// What is to be told now of work that goes on, and of what was told before and is over. To be asked every few seconds.
    pub fn tell_open(&mut self, settings: TellSettings) -> Vec<OpenWork> {
        let now = self.clock.wall_at(self.now);
        let known = &self.ledger.told;
        let due = self.open.due(self.now, settings.after, LOOKS, |op| known.contains_key(&op));
        let mut told = Vec::new();
        // All of one tree at once: they place each other.
        let mut trees: Vec<(Option<u64>, Vec<OpId>)> = Vec::new();
        let mut places: FxHashMap<u64, usize> = FxHashMap::default();
        for op in due {
            self.open.look_again(op, self.now + AGAIN);
            let group = self.hold.group_of(op);
            match group.and_then(|group| places.get(&group)).and_then(|place| trees.get_mut(*place)) {
                Some((_, wanted)) => wanted.push(op),
                None => {
                    places.extend(group.map(|group| (group, trees.len())));
                    trees.push((group, vec![op]));
                }
            }
        }
        for (group, wanted) in trees {
            let wanted: FxHashSet<OpId> = wanted.into_iter().collect();
            let members = self.seen(group, &wanted);
            let takes: FxHashSet<OpId> = members
                .iter()
                .map(|member| &member.finished.operation)
                .filter(is_taken)
                .map(|op| op.id)
                .collect();
            for (op, mut span) in self.identifier.ongoing(members, &wanted) {
                span.end = now.max(span.start);
                if self.ledger.tell(op, &span, settings.most) {
                    let what = if takes.contains(&op) { What::Unacked } else { What::Open };
                    told.push(OpenWork { what, span });
                }
            }
        }
        let over = self.ledger.over.drain(..).map(|span| OpenWork { what: What::Over, span: *span });
        let mut all: Vec<OpenWork> = over.chain(told).collect();
        all.extend(self.tell_lying(settings));
        all
    }

    /// Nobody is told any more, nor has been.
    pub fn forget_told(&mut self) {
        self.ledger.told = FxHashMap::default();
        self.ledger.over = VecDeque::new();
        self.lies.forget();
    }

    /// What is known by now of a tree, in the order its operations began: those wanted, and others up to a bound.
    fn seen(&mut self, group: Option<u64>, wanted: &FxHashSet<OpId>) -> Vec<Member> {
        let mut open: Vec<_> = wanted.iter().map(|op| (*op, self.identifier.pending_edge(*op))).collect();
        let mut members: Vec<Member> = Vec::new();
        if let Some(group) = group {
            open.clear();
            for (op, finished, edge) in self.hold.members(group) {
                let has_room = members.len() + open.len() < MAX_MEMBERS;
                match finished {
                    Some(finished) if has_room => members.push(Member::seen(finished.clone(), edge)),
                    None if has_room || wanted.contains(&op) => open.push((op, edge)),
                    _ => {}
                }
            }
        }
        for (op, edge) in open {
            members.extend(self.unfinished(op).map(|finished| Member::seen(finished, edge)));
        }
        let began =
            |member: &Member| (member.finished.operation.request.start.at, member.finished.operation.id);
        members.sort_by_key(began);
        members
    }

    /// An operation as if it were over. `None`: it is not open, has not been asked for whole, or there is no time for it.
    fn unfinished(&mut self, op: OpId) -> Option<Finished> {
        let begun = *self.open.get(op)?;
        let mut operation = self.connections.peek(begun.conn, op)?;
        let conn = self.connections.info(begun.conn)?.clone();
        let owner = Owner::new(conn.conn.cgroup, operation.request.start.thread.tgid);
        if !self.work.allows(owner, self.now) {
            return None;
        }
        if !self.work.allows_decoding(owner, self.now) {
            operation.leave_coded();
        }
        let (mut found, decoded_len) = self.rules.extract_counting(&operation);
        self.work.did(owner, Done { decoded_len, exported_len: 0 }, self.now);
        found.is_left_out = self.rules.leaves_out(&operation);
        let start = operation.request.start.pos;
        let wire = match self.wires.get(&op).filter(|(pos, _)| *pos == start) {
            Some((_, wire)) => ids::has_wire(&conn).then_some(*wire),
            None => ids::wire_id(&conn, &operation, &self.boot_id),
        };
        let message = self.identifier.message_span(&conn, &operation);
        let resource = self.resource(&conn, &operation);
        operation.forget_values(span::is_shown);
        let (clock, is_left_out) = (self.clock, false);
        Some(Finished { operation, conn, found, wire, resource, clock, is_left_out, message, texts: None })
    }
}

/// It is a message that somebody has.
fn is_taken(operation: &&Operation) -> bool {
    matches!(&operation.detail, Detail::Amqp(action) if matches!(action.kind, ActionKind::Deliver(_)))
}

/// Not looked at before.
pub(super) const NEVER: BootTime = BootTime::ZERO;

#[cfg(test)]
mod tests;
