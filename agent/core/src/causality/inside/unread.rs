//! Connections that may bring a process requests which nobody can read → when the process may have been at work for one of them.
//!
//! What a request that cannot be read caused looks as if one that can had caused it: the only request of its order in flight need not be
//! the only one. So rules that conclude from all that is in flight, or from all that a thread read, say nothing meanwhile.
//!
//! *Owns* from when to when that is so, and which process it concerns. *Must not know* why a connection is not read.

use std::collections::VecDeque;

use super::Inside;
use super::table::Loss;
use crate::record::{ConnId, Tgid, Tid, Worker};
use crate::time::BootTime;

/// Connections remembered per process, open or over. Of those beyond only is known how many are open.
const MAX_CONNECTIONS: usize = 256;

/// A connection that is not read, or was not for a while.
#[derive(Clone, Copy, Debug)]
struct Hidden {
    conn: ConnId,
    when: Loss,
    /// Who moves its bytes is told.
    is_watched: bool,
    /// It was read in the end, from its first byte.
    is_read: bool,
}

impl Hidden {
    fn is_open(&self) -> bool {
        !self.is_read && self.when.to == BootTime::MAX
    }
}

/// Acts on such connections remembered per process. Of what is older nothing is known.
const MAX_MOVES: usize = 256;

/// When something unread may have been under way in one process.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// In the order in which they began. One that is open ends at the end of time.
    conns: VecDeque<Hidden>,
    /// When which thread read from which of them, as far as that is told.
    moves: VecDeque<(BootTime, Tid, ConnId)>,
    /// Of what came by then some is forgotten.
    moves_forgotten: Option<BootTime>,
    /// Open ones that are not remembered, and from when to when there were any.
    beyond: usize,
    beyond_when: Option<Loss>,
}

impl Unread {
    pub(super) fn begin(&mut self, conn: ConnId, now: BootTime, is_watched: bool) {
        if let Some(known) = self.conns.iter_mut().find(|known| known.conn == conn && known.is_open()) {
            known.is_watched &= is_watched;
            return;
        }
        if self.conns.len() >= MAX_CONNECTIONS {
            // Those that are over say little by now; an open one goes on unseen.
            let over = self.conns.iter().position(|known| !known.is_open());
            if let Some(gone) = self.conns.remove(over.unwrap_or(0))
                && gone.is_open()
            {
                self.beyond += 1;
                let when = self.beyond_when.get_or_insert(gone.when);
                *when = Loss { from: when.from.min(gone.when.from), to: BootTime::MAX };
            }
        }
        self.conns.push_back(Hidden {
            conn,
            when: Loss { from: now, to: BootTime::MAX },
            is_watched,
            is_read: false,
        });
    }

    /// A thread read something from one of them.
    pub(super) fn moved(&mut self, conn: ConnId, by: Tid, at: BootTime) {
        if self.moves.len() >= MAX_MOVES {
            self.moves_forgotten = self.moves_forgotten.max(self.moves.pop_front().map(|(at, ..)| at));
        }
        self.moves.push_back((at, by, conn));
    }

    /// The connection brings no more; it is told when it is gone. Returns whether it is remembered.
    pub(super) fn over(&mut self, conn: ConnId, at: BootTime) -> bool {
        let known = self.conns.iter_mut().rev().find(|known| known.conn == conn);
        known.map(|known| known.when.to = known.when.to.min(at)).is_some()
    }

    /// The connection is gone, which is told once.
    pub(super) fn end(&mut self, conn: ConnId, now: BootTime) {
        if self.over(conn, now) {
            return;
        }
        self.beyond = self.beyond.saturating_sub(1);
        if let (0, Some(when)) = (self.beyond, &mut self.beyond_when) {
            when.to = when.to.min(now);
        }
    }

    /// It was read after all, or brings no requests: what is decided from now on knows all. What was noted by now did not.
    pub(super) fn read(&mut self, conn: ConnId, now: BootTime) {
        self.end(conn, now);
        for known in self.conns.iter_mut().filter(|known| known.conn == conn) {
            known.is_read = true;
        }
    }

    /// Something may have been under way between these times that is not known.
    pub(super) fn overlaps(&self, from: BootTime, to: BootTime) -> bool {
        self.any(from, to, |known| !known.is_read)
    }

    /// The thread may have had something to do between these times that is not known: it read from a connection that is not read here,
    /// or there is one of which not even that is told.
    pub(super) fn busied(&self, by: Tid, from: BootTime, to: BootTime) -> bool {
        let is_read = |conn: ConnId| self.conns.iter().rev().any(|known| known.conn == conn && known.is_read);
        self.any(from, to, |known| !known.is_read && !known.is_watched)
            || self.moves_forgotten.is_some_and(|forgotten| forgotten >= from)
            || self
                .moves
                .iter()
                .any(|(at, tid, conn)| *tid == by && (from..=to).contains(at) && !is_read(*conn))
    }

    /// Something may have been under way between these times that was not known then.
    pub(super) fn overlapped(&self, from: BootTime, to: BootTime) -> bool {
        self.any(from, to, |_| true)
    }

    fn any(&self, from: BootTime, to: BootTime, counts: impl Fn(&Hidden) -> bool) -> bool {
        let meets = |when: &Loss| when.from <= to && when.to >= from;
        self.beyond_when.as_ref().is_some_and(meets)
            || self.conns.iter().any(|known| counts(known) && meets(&known.when))
    }
}

impl Inside {
    /// From a moment on a connection may bring requests that are not read to the process that reads from it.
    pub fn unread(&mut self, conn: ConnId, by: Tgid, (since, is_watched): (BootTime, bool)) {
        // One process accepts, and another one reads.
        if self.table.unread.get(&conn).is_some_and(|before| *before != by)
            && let Some(unread) = self.no_longer_unread(conn)
        {
            unread.end(conn, since);
        }
        self.table.unread.insert(conn, by);
        if let Some(process) = self.table.process(by) {
            process.unread.begin(conn, since, is_watched);
        }
    }

    /// A thread read something from such a connection.
    pub fn hidden(&mut self, conn: ConnId, by: Worker, at: BootTime) {
        match self.table.unread.get(&conn) {
            None => return,
            Some(before) if *before != by.tgid => self.unread(conn, by.tgid, (at, true)),
            Some(_) => {}
        }
        if let Some(process) = self.table.processes.get_mut(&by.tgid) {
            process.unread.moved(conn, by.tid, at);
        }
    }

    /// They are, or it brings none.
    pub fn read(&mut self, conn: ConnId, now: BootTime) {
        if let Some(unread) = self.no_longer_unread(conn) {
            unread.read(conn, now);
        }
    }

    /// Such a connection brings no more.
    pub fn unread_over(&mut self, conn: ConnId, at: BootTime) {
        let unread = self.table.unread.get(&conn).and_then(|tgid| self.table.processes.get_mut(tgid));
        if let Some(process) = unread {
            process.unread.over(conn, at);
        }
    }

    /// Such a connection is gone.
    pub(super) fn unread_closed(&mut self, conn: ConnId, now: BootTime) {
        if let Some(unread) = self.no_longer_unread(conn) {
            unread.end(conn, now);
        }
    }

    /// What the process that reads from an unread connection has of such, for the last time.
    fn no_longer_unread(&mut self, conn: ConnId) -> Option<&mut Unread> {
        let tgid = self.table.unread.remove(&conn)?;
        self.table.processes.get_mut(&tgid).map(|process| &mut process.unread)
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
        unread.begin(CONN, ns(10), true);
        unread.begin(CONN, ns(20), true);
        assert!(
            !unread.overlaps(ns(0), ns(9))
                && unread.overlaps(ns(0), ns(10))
                && unread.overlaps(ns(50), ns(60))
        );
        unread.over(CONN, ns(30));
        assert!(!unread.overlaps(ns(31), ns(40)), "it was closed, though it is not gone");
        unread.end(CONN, ns(3_000));
        assert!(unread.overlaps(ns(30), ns(40)) && !unread.overlaps(ns(31), ns(40)));
        // Its number is another connection's now.
        unread.begin(CONN, ns(70), true);
        assert!(!unread.overlaps(ns(31), ns(40)) && unread.overlaps(ns(80), ns(90)));
        unread.read(CONN, ns(95));
        assert!(!unread.overlaps(ns(0), ns(100)), "it was read after all");
        assert!(
            unread.overlapped(ns(80), ns(90)) && !unread.overlapped(ns(96), ns(100)),
            "it was not known then"
        );
    }

    #[test]
    fn of_more_than_are_remembered_it_is_known_how_many_are_open() {
        let mut unread = Unread::default();
        for n in 0..2 * MAX_CONNECTIONS as u64 {
            unread.begin(ConnId(n), ns(n + 1), true);
            unread.end(ConnId(n), ns(n + 1));
        }
        assert!(!unread.overlaps(ns(1_000_000), ns(1_000_001)), "all are over");
        for n in 0..=MAX_CONNECTIONS as u64 {
            unread.begin(ConnId(1_000_000 + n), ns(2_000_000), true);
        }
        for n in 1..=MAX_CONNECTIONS as u64 {
            unread.end(ConnId(1_000_000 + n), ns(2_000_001));
        }
        assert!(unread.overlaps(ns(3_000_000), ns(3_000_000)), "one of them was forgotten while it was open");
        unread.end(ConnId(1_000_000), ns(3_000_001));
        assert!(unread.overlaps(ns(3_000_000), ns(3_000_000)));
        assert!(!unread.overlaps(ns(3_000_002), ns(3_000_003)), "all are over");
        assert_eq!(unread.conns.len(), MAX_CONNECTIONS);
    }

    #[test]
    fn a_thread_that_does_not_touch_what_is_watched_is_not_busied_by_it() {
        let (mine, other) = (Tid(7), Tid(8));
        let mut unread = Unread::default();
        unread.begin(CONN, ns(10), true);
        unread.moved(CONN, other, ns(20));
        assert!(unread.busied(other, ns(15), ns(25)) && !unread.busied(other, ns(21), ns(25)));
        assert!(!unread.busied(mine, ns(15), ns(25)));
        unread.read(CONN, ns(30));
        assert!(!unread.busied(other, ns(15), ns(25)), "what it did is known by now");
        unread.begin(ConnId(2), ns(40), true);
        unread.begin(ConnId(2), ns(50), false);
        assert!(unread.busied(mine, ns(60), ns(70)), "nobody tells who reads from it");
    }

    #[test]
    fn acts_are_bounded_and_those_forgotten_are_not_known() {
        let mut unread = Unread::default();
        unread.begin(CONN, ns(1), true);
        (0..2 * MAX_MOVES as u64).for_each(|n| unread.moved(CONN, Tid(1), ns(n + 10)));
        assert_eq!(unread.moves.len(), MAX_MOVES);
        assert!(unread.busied(Tid(2), ns(20), ns(21)), "it is forgotten whose it was");
        assert!(!unread.busied(Tid(2), ns(9_000), ns(9_001)));
    }
}
