//! Operations that began → how many are not over and since when, and which are to be looked at.
//!
//! *Owns* what is known of work in progress: orders hang, so an answer that never comes is a fact of its own.
//! *Must not know* trees and spans.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::protocol::Protocol;
use crate::record::{ConnId, OpId, Tgid};
use crate::time::BootTime;

/// Operations known to be open at once; of more, the time is not known.
const MAX_OPEN: usize = 1 << 20;

/// Work in progress of one service over one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub service: String,
    pub protocol: &'static str,
    pub count: u64,
    /// Of these, open for longer than asked.
    pub pending: u64,
    pub oldest: BootTime,
}

/// One open operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) at: BootTime,
    pub(super) conn: ConnId,
    pub(super) tgid: Tgid,
    pub(super) protocol: Protocol,
    /// Not looked at before, to be told of by name.
    pub(super) look_at: BootTime,
}

/// All open operations.
#[derive(Debug, Default)]
pub(super) struct OpenOperations {
    begun: FxHashMap<OpId, Begun>,
    /// Not entered at the bound.
    forgotten: u64,
}

impl OpenOperations {
    pub(super) fn opened(&mut self, op: OpId, begun: Begun) {
        if self.begun.len() < MAX_OPEN {
            self.begun.insert(op, begun);
        } else {
            self.forgotten += 1;
        }
    }

    pub(super) fn closed(&mut self, op: OpId) {
        self.begun.remove(&op);
    }

    pub(super) fn get(&self, op: OpId) -> Option<&Begun> {
        self.begun.get(&op)
    }

    /// Those that have been open for `after` and were not looked at too lately, at most `most`: `first` before others, then the
    /// oldest. Whatever is left is due the next time.
    pub(super) fn due(
        &self,
        now: BootTime,
        after: Duration,
        most: usize,
        first: impl Fn(OpId) -> bool,
    ) -> Vec<OpId> {
        let is_due = |begun: &Begun| begun.at + after <= now && begun.look_at <= now;
        let due = self.begun.iter().filter(|(_, begun)| is_due(begun));
        let mut due: Vec<_> = due.map(|(op, begun)| (!first(*op), begun.at, *op)).collect();
        if due.len() > most {
            due.select_nth_unstable(most);
            due.truncate(most);
        }
        due.sort_unstable();
        due.into_iter().map(|(.., op)| op).collect()
    }

    /// It is not looked at before.
    pub(super) fn look_again(&mut self, op: OpId, at: BootTime) {
        if let Some(begun) = self.begun.get_mut(&op) {
            begun.look_at = at;
        }
    }

    /// Operations of which it is not known that they are open.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Sums by service and protocol; `service` names a process.
    pub(super) fn summary(&self, before: BootTime, service: impl Fn(Tgid) -> String) -> Vec<Open> {
        let mut sums: FxHashMap<(Tgid, Protocol), (u64, u64, BootTime)> = FxHashMap::default();
        for begun in self.begun.values() {
            let sum = sums.entry((begun.tgid, begun.protocol)).or_insert((0, 0, BootTime::MAX));
            sum.0 += 1;
            sum.1 += u64::from(begun.at < before);
            sum.2 = sum.2.min(begun.at);
        }
        let mut all: Vec<Open> = Vec::new();
        for ((tgid, protocol), (count, pending, oldest)) in sums {
            let (service, protocol) = (service(tgid), protocol.name());
            match all.iter_mut().find(|open| open.service == service && open.protocol == protocol) {
                Some(open) => {
                    open.count += count;
                    open.pending += pending;
                    open.oldest = open.oldest.min(oldest);
                }
                None => all.push(Open { service, protocol, count, pending, oldest }),
            }
        }
        all.sort_by(|a, b| (&a.service, a.protocol).cmp(&(&b.service, b.protocol)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ns;

    fn begun(at: u64, tgid: u32, protocol: Protocol) -> Begun {
        Begun { at: ns(at), conn: ConnId(1), tgid: Tgid(tgid), protocol, look_at: BootTime::ZERO }
    }

    #[test]
    fn what_is_due_is_what_was_told_before_then_the_oldest_and_not_again_at_once() {
        let mut open = OpenOperations::default();
        for (op, at) in [(1, 30), (2, 10), (3, 20), (4, 40), (5, 91)] {
            open.opened(OpId(op), begun(at, 1, Protocol::Http1));
        }
        let due = |open: &OpenOperations, most, now| {
            let due = open.due(ns(now), Duration::from_nanos(10), most, |op| op == OpId(4));
            due.into_iter().map(|op| op.0).collect::<Vec<_>>()
        };
        assert_eq!(due(&open, 9, 100), [4, 2, 3, 1], "the fifth is not open for long enough");
        assert_eq!(due(&open, 2, 100), [4, 2]);
        open.look_again(OpId(2), ns(150));
        assert_eq!(due(&open, 2, 100), [4, 3]);
        assert_eq!(due(&open, 9, 150), [4, 2, 3, 1, 5]);
    }

    #[test]
    fn open_operations_are_summed_by_service() {
        let mut open = OpenOperations::default();
        for (op, at, tgid, protocol) in [
            (1, 100, 7, Protocol::Http1),
            (2, 200, 7, Protocol::Http1),
            (3, 50, 8, Protocol::Http1),
            (4, 300, 7, Protocol::Amqp),
            (5, 10, 7, Protocol::Http1),
        ] {
            open.opened(OpId(op), begun(at, tgid, protocol));
        }
        open.closed(OpId(5));
        open.closed(OpId(99));
        let service = |_| "shop".to_owned();
        let expected = |protocol, count, pending, oldest| Open {
            service: "shop".to_owned(),
            protocol,
            count,
            pending,
            oldest,
        };
        assert_eq!(
            open.summary(ns(150), service),
            [expected("amqp", 1, 0, ns(300)), expected("http", 3, 2, ns(50))]
        );
    }

    #[test]
    fn operations_over_the_bound_are_counted() {
        let mut open = OpenOperations::default();
        for op in 0..MAX_OPEN as u64 + 2 {
            open.opened(OpId(op), begun(1, 1, Protocol::Http1));
        }
        assert_eq!(open.forgotten(), 2);
    }
}
