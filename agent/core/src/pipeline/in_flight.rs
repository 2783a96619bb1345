//! Operations that began → how many are not over and since when.
//!
//! *Owns* what is known of work in progress: orders hang, so an answer that never comes is a fact of its own.
//! *Must not know* trees and spans.

use rustc_hash::FxHashMap;

use crate::protocol::Protocol;
use crate::record::{OpId, Tgid};
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
    pub(super) tgid: Tgid,
    pub(super) protocol: Protocol,
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
            open.opened(OpId(op), Begun { at: ns(at), tgid: Tgid(tgid), protocol });
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
            open.opened(OpId(op), Begun { at: ns(1), tgid: Tgid(1), protocol: Protocol::Http1 });
        }
        assert_eq!(open.forgotten(), 2);
    }
}
