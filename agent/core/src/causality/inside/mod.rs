//! What the threads of each process read and wrote → edges from outgoing operations to the request that caused them.
//!
//! ```text
//!   events ─▶ observe ─▶ table ─▶ view ─▶ rules ─▶ decide ─▶ edges
//!                          ▲                │        │
//!                          └── trust ◀──────┴────────┘   what keys say, and what the rules would have said
//! ```
//!
//! An outgoing operation is decided once it is over and every request that was in flight when it started is over too,
//! because only then all their keys are known; or at a bounded time after its end. `rules` has the table of what is asked, in
//! which order; `thresholds` has the numbers.
//!
//! A rule by reading never overrules keys: where the operation and the candidate each name one order and these differ,
//! there is no edge. Nor is there one where they show different facts (of users, say), in a process in which what belongs
//! together shows the same.
//!
//! *Owns* the state of all processes, and when operations are decided and forgotten. *Must not know* other processes' ends of an
//! operation, messages, how keys are found.

mod chains;
mod decide;
mod kin;
mod observe;
mod process;
mod quiet;
mod rest;
pub(in crate::causality) mod rules;
pub mod snapshot;
mod table;
mod thread;
mod thresholds;
mod trust;
mod unread;
mod view;

use std::collections::VecDeque;

use self::table::{Op, Table};
use self::thresholds::MAX_LOOKED_AT;
use super::echo::{Asked, Carried, Echo};
use super::stats::InsideStats;
use super::{Edge, Policy};
pub use crate::operation::Interaction;
use crate::operation::OpSide;
use crate::operation::postgres::InTransaction;
use crate::order::{Facts, OrderKey};
use crate::queue::Queue;
use crate::record::{Chain, ConnId, OpId, Point, TaskId, Tgid};
use crate::time::BootTime;

/// First sight of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    pub op: OpId,
    pub shape: OpSide,
    pub family: Interaction,
    pub conn: ConnId,
    pub point: Point,
}

/// The end of an operation and what it showed.
#[derive(Clone, Debug)]
pub struct Closing {
    pub op: OpId,
    pub at: BootTime,
    /// Where the response started: who answered a request, or who read the answer to a call.
    pub response_start: Option<Point>,
    pub response_end: Option<Point>,
    pub keys: Vec<OrderKey>,
    /// The response was seen to its end.
    pub answered: bool,
    /// Further facts that the operation shows, by the configured attribute rules. They tell apart several requests of one
    /// order.
    pub facts: Facts,
    /// What a proxy leaves of it.
    pub echo: Option<Echo>,
    /// The trace whose ID it carries.
    pub trace: Option<Carried>,
    /// The transaction block that it ran in.
    pub transaction: Option<InTransaction>,
    /// It was read for keys: else those it names are not known.
    pub is_read: bool,
    /// What the operation itself names as its cause: an acknowledgement names its delivery.
    pub named: Option<OpId>,
    /// A message that was delivered, as a chain names it.
    pub delivery: Option<TaskId>,
}

/// What an operation that is not over has shown so far.
#[derive(Clone, Debug, Default)]
pub struct Showing {
    pub keys: Vec<OrderKey>,
    pub facts: Facts,
    /// What it asks for. `None`: it may be anything.
    pub asked: Option<Asked>,
}

/// Finds causes inside each process.
#[derive(Debug)]
pub struct Inside {
    policy: Policy,
    table: Table,
    /// Processes that ended, and until when they are remembered.
    ended: VecDeque<(BootTime, Tgid)>,
    /// When an operation is decided or forgotten at the latest.
    deadlines: Queue<(OpId, Deadline), 4>,
    /// What is due by then has been handled.
    now: BootTime,
    edges: VecDeque<Edge>,
    settled: VecDeque<OpId>,
    /// Operations that belong together, though neither caused the other.
    bonds: VecDeque<(OpId, OpId)>,
    /// Requests that are still open, and of which it is needed what they have shown so far.
    to_peek: VecDeque<(ConnId, OpId)>,
    /// Operations that are decided once that is known.
    postponed: Vec<OpId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    Decide,
    /// Nothing was done for an answered request, or it is known by now.
    Rest,
    Forget,
}

impl Inside {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            table: Table::default(),
            ended: VecDeque::new(),
            deadlines: Queue::default(),
            now: BootTime::ZERO,
            edges: VecDeque::new(),
            settled: VecDeque::new(),
            bonds: VecDeque::new(),
            to_peek: VecDeque::new(),
            postponed: Vec::new(),
        }
    }

    /// Who waited for whom when a process wrote.
    pub fn chained(&mut self, chain: Chain) {
        self.table.chains.note(chain);
    }

    /// Decides what has waited long enough, forgets what is old.
    ///
    /// If [`Inside::poll_to_peek`] then names requests, this is called again once what they have shown is
    /// [told](Inside::shown).
    pub fn handle_timeout(&mut self, now: BootTime) {
        self.now = now;
        for op in std::mem::take(&mut self.postponed) {
            self.consider(op, true);
        }
        while let Some((_, (op, deadline))) = self.deadlines.pop_due(now) {
            match deadline {
                Deadline::Decide if self.peek_at_causes(op) || !self.to_peek.is_empty() => {
                    self.postponed.push(op)
                }
                Deadline::Decide => self.consider(op, true),
                Deadline::Rest => self.count_rest(op),
                Deadline::Forget => self.forget(op),
            }
        }
        while let Some((_, tgid)) = self.ended.pop_front_if(|(due, _)| *due <= now) {
            self.process_began(tgid);
        }
    }

    /// When [`Inside::handle_timeout`] has something to do next.
    pub fn next_timeout(&self) -> Option<BootTime> {
        if !self.postponed.is_empty() {
            return Some(BootTime::ZERO);
        }
        let ended = self.ended.front().map(|(due, _)| *due);
        [self.deadlines.first().map(|(due, _)| due), ended].into_iter().flatten().min()
    }

    /// Decides everything with what is known.
    pub fn finish(&mut self) {
        let mut open: Vec<OpId> =
            self.table.ops.iter().filter(|(_, op)| !op.decided).map(|(id, _)| *id).collect();
        open.sort_unstable();
        open.extend(std::mem::take(&mut self.postponed));
        // Nothing more will be shown.
        for op in &open {
            if let Some(state) = self.table.ops.get_mut(op) {
                state.patient_until = Some(BootTime::ZERO);
            }
        }
        for op in open {
            if self.table.ops.get(&op).is_some_and(|state| state.closed_at.is_some()) {
                self.consider(op, true);
            }
        }
    }

    pub fn poll_edge(&mut self) -> Option<Edge> {
        self.edges.pop_front()
    }

    /// Operations of one transaction that belong to the order which one of them names, without a cause that is known.
    pub fn poll_bond(&mut self) -> Option<(OpId, OpId)> {
        self.bonds.pop_front()
    }

    /// Outgoing operations that have just been decided, with or without an edge.
    pub fn poll_settled(&mut self) -> Option<OpId> {
        self.settled.pop_front()
    }

    /// Nothing more will be decided about this operation's cause inside its process.
    pub fn is_settled(&self, op: OpId) -> bool {
        self.table.ops.get(&op).is_none_or(|state| state.shape != OpSide::Outgoing || state.decided)
    }

    /// A request that is still open and may be the cause of what is decided next: what it has shown so far is needed.
    pub fn poll_to_peek(&mut self) -> Option<(ConnId, OpId)> {
        self.to_peek.pop_front()
    }

    /// Asks what the requests that were in flight when `op` began, and still are, have shown so far; each is asked once.
    /// Returns whether there are any to wait for.
    fn peek_at_causes(&mut self, op: OpId) -> bool {
        let Some(state) = self.table.op(op) else { return false };
        let Some(process) = self.table.processes.get(&state.tgid) else { return false };
        let before = self.to_peek.len();
        let latest = state.opened.at;
        let asked = process.incoming.up_to(latest).take(MAX_LOOKED_AT);
        let relayed = process.relayed.up_to(latest).take(MAX_LOOKED_AT);
        let mut requests: Vec<OpId> = asked.chain(relayed).collect();
        // What names no order itself is decided after the member of its transaction that does.
        let names_order = |state: &Op| !state.keys.is_empty();
        let is_named = names_order(state)
            || self.table.named_member(state).and_then(|named| self.table.op(named)).is_some_and(names_order);
        if !process.was_asked() && is_named {
            let takers = self.table.kin.takers(state.tgid).into_iter().flatten();
            let takers = takers.filter_map(|taker| self.table.processes.get(&taker));
            let taken = takers.flat_map(|taker| taker.incoming.up_to(latest));
            requests.extend(taken.take(MAX_LOOKED_AT));
        }
        for request in &requests {
            if let Some(request_state) = self.table.ops.get_mut(request).filter(|state| !state.peeked) {
                request_state.peeked = true;
                self.to_peek.push_back((request_state.conn, *request));
            }
        }
        self.to_peek.len() > before
    }

    /// What was forgotten at the bounds: of links, and of processes and their threads.
    pub fn forgotten(&self) -> (u64, InsideStats) {
        self.table.forgotten()
    }

    /// The operation is remembered: what it shows is asked for.
    pub fn remembers(&self, op: OpId) -> bool {
        self.table.ops.contains_key(&op)
    }

    /// Operations remembered.
    pub fn len(&self) -> usize {
        self.table.ops.len()
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.table.ops.is_empty()
    }
}

#[cfg(test)]
mod tests;
