//! Connections that may bring a process requests which nobody can read → when the process may have been at work for one of them.
//!
//! What a request that cannot be read caused looks as if one that can had caused it: the only request of its order in flight need not be
//! the only one. So rules that conclude from all that is in flight, or from all that a thread read, say nothing meanwhile.
//!
//! *Owns* from when to when that is so. *Must not know* why a connection is not read.

use std::collections::VecDeque;

use super::table::Loss;
use crate::record::ConnId;
use crate::time::BootTime;

/// Connections remembered per process, open or over. Of a process with more it is known no longer when all of them were over.
const MAX_CONNECTIONS: usize = 256;

/// When something unread may have been under way in one process.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// In the order in which they began. One that is open ends at the end of time.
    conns: VecDeque<(ConnId, Loss)>,
    /// From when on there were more than are remembered.
    since: Option<BootTime>,
}

impl Unread {
    pub(super) fn begin(&mut self, conn: ConnId, now: BootTime) {
        if self.conns.iter().any(|(known, loss)| *known == conn && loss.to == BootTime::MAX) {
            return;
        }
        if self.conns.len() >= MAX_CONNECTIONS {
            // Those that are over say little by now; an open one goes on unseen.
            let over = self.conns.iter().position(|(_, loss)| loss.to != BootTime::MAX);
            if let Some((_, loss)) = self.conns.remove(over.unwrap_or(0))
                && loss.to == BootTime::MAX
            {
                self.since = Some(self.since.map_or(loss.from, |since| since.min(loss.from)));
            }
        }
        self.conns.push_back((conn, Loss { from: now, to: BootTime::MAX }));
    }

    /// The connection is gone.
    pub(super) fn end(&mut self, conn: ConnId, now: BootTime) {
        if let Some((_, loss)) = self.conns.iter_mut().find(|(known, _)| *known == conn) {
            loss.to = loss.to.min(now);
        }
    }

    /// It was read after all, or brings no requests.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.conns.retain(|(known, _)| *known != conn);
    }

    /// Something may have been under way between these times.
    pub(super) fn overlaps(&self, from: BootTime, to: BootTime) -> bool {
        self.since.is_some_and(|since| since <= to)
            || self.conns.iter().any(|(_, loss)| loss.from <= to && loss.to >= from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ns;

    const CONN: ConnId = ConnId(1);

    #[test]
    fn it_is_so_from_the_beginning_to_the_end_or_never_was() {
        let mut unread = Unread::default();
        assert!(!unread.overlaps(ns(0), ns(100)));
        unread.begin(CONN, ns(10));
        unread.begin(CONN, ns(20));
        assert!(
            !unread.overlaps(ns(0), ns(9))
                && unread.overlaps(ns(0), ns(10))
                && unread.overlaps(ns(50), ns(60))
        );
        unread.end(CONN, ns(30));
        assert!(unread.overlaps(ns(30), ns(40)) && !unread.overlaps(ns(31), ns(40)));
        // Its number is another connection's now.
        unread.begin(CONN, ns(70));
        assert!(!unread.overlaps(ns(31), ns(40)) && unread.overlaps(ns(80), ns(90)));
        unread.forget(CONN);
        assert!(!unread.overlaps(ns(0), ns(100)), "it was read after all");
    }

    #[test]
    fn of_more_than_are_remembered_it_is_not_known_when_they_end() {
        let mut unread = Unread::default();
        for n in 0..2 * MAX_CONNECTIONS as u64 {
            unread.begin(ConnId(n), ns(n + 1));
            unread.end(ConnId(n), ns(n + 1));
        }
        assert!(!unread.overlaps(ns(1_000_000), ns(1_000_001)), "all are over");
        for n in 0..=MAX_CONNECTIONS as u64 {
            unread.begin(ConnId(1_000_000 + n), ns(2_000_000));
        }
        for n in 0..=MAX_CONNECTIONS as u64 {
            unread.end(ConnId(1_000_000 + n), ns(2_000_001));
        }
        assert!(unread.overlaps(ns(3_000_000), ns(3_000_000)), "one of them was forgotten while it was open");
        assert_eq!(unread.conns.len(), MAX_CONNECTIONS);
    }
}
