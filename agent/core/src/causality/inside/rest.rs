//! Answers of requests that name an order → that nothing is done for such requests once they are answered.
//!
//! ```text
//!   answered ─▶ nothing that names the order is begun for a while ─▶ counted
//!            ╰▶ something is ─▶ says nothing: it may be of the next request
//! ```
//!
//! It shows the same as work that names its order before the answer, and shows it too where such work cannot be read: of a statement that
//! was prepared before the agent came, say. Only looked at until the process has shown enough.
//!
//! *Owns* what follows answers. *Must not know* what is made of the count.

use super::table::is_near;
use super::thresholds::{AFTER, GRACE, MAX_LOOKED_AT, PROOF_BESIDE_ANSWERED};
use super::trust::Signal;
use super::{Deadline, Inside};
use crate::record::OpId;
use crate::time::BootTime;

impl Inside {
    /// The request is answered: whether something follows is known a while later.
    pub(super) fn await_rest(&mut self, request: OpId, answered: BootTime) {
        let Some(state) = self.table.op(request) else { return };
        let Some(process) = self.table.processes.get(&state.tgid) else { return };
        let is_sound = state.answered && state.keys.len() == 1;
        let is_shown = || self.table.was_never_late(state.tgid, PROOF_BESIDE_ANSWERED);
        if is_sound && process.asks_others && !is_shown() {
            // What is begun last may take a while to show what it names.
            self.deadlines.insert(answered + AFTER + GRACE, (request, Deadline::Rest));
        }
    }

    /// Something is over that may name an order of requests which had been answered when it began.
    pub(super) fn note_followed(&mut self, op: OpId) {
        let Some(state) = self.table.op(op) else { return };
        let Some(process) = self.table.processes.get(&state.tgid) else { return };
        if self.table.was_never_late(state.tgid, PROOF_BESIDE_ANSWERED) {
            return;
        }
        let began = state.opened.at;
        let named = state.keys.iter().filter_map(|key| process.by_key.get(key)).flatten();
        let named: Vec<OpId> = named.rev().take(MAX_LOOKED_AT).copied().collect();
        for request in named {
            if let Some(request) = self.table.ops.get_mut(&request)
                && request.closed_at.is_some_and(|closed| closed < began && began <= closed + AFTER)
            {
                request.followed = true;
            }
        }
    }

    /// The time for something to follow is over.
    pub(super) fn count_rest(&mut self, request: OpId) {
        let Some(state) = self.table.op(request).filter(|state| !state.followed) else { return };
        let Some(answered) = state.closed_at else { return };
        let tgid = state.tgid;
        let Some(process) = self.table.processes.get(&tgid) else { return };
        let is_lost = is_near(&self.table.losses, answered) || is_near(&process.losses, answered);
        if !is_lost && !process.unread.overlaps(answered, answered + AFTER) {
            self.table.count_lateness(tgid, Signal::Rested, false);
        }
    }
}
