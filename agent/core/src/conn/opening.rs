//! What is known for opening TLS: secrets, and the connections that wait for them.
//!
//! *Owns* who waits for which secret, and what is told to those who look for one. *Must not know* where secrets come from.

use std::collections::VecDeque;
use std::time::Duration;

use crate::bounded::Bounded;
use crate::hash::Keyed;
use crate::record::{ConnId, Tgid};
use crate::time::BootTime;
use crate::tls::{Bounds, ClientRandom, Known, Proof, Secrets};

/// Ends of connections with the same client random: two on one machine, and a few where somebody repeats it.
const MAX_ENDS: usize = 4;
/// Questions that wait to be taken: with one for each connection of a burst, what is older is asked again with the next record.
const MAX_WANTED: usize = 4096;

/// A connection waits for its secret: what tells it, and who has it.
#[derive(Debug)]
pub struct Wanted {
    pub conn: ConnId,
    /// The process that moved its bytes, and when it did last: one that began later only has its number.
    pub tgid: Tgid,
    pub at: BootTime,
    pub proof: Proof,
}

/// What became of a connection whose secret was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwanted {
    /// Whose end of it: the other one may wait on.
    pub tgid: Tgid,
    pub name: ClientRandom,
    /// It is over, and its records still wait: most programs wipe secrets then. Else nothing waits any more.
    pub is_over: bool,
}

#[derive(Debug)]
pub(super) struct Opening {
    /// TLS is opened.
    pub(super) is_on: bool,
    pub(super) bounds: Bounds,
    pub(super) secrets: Secrets,
    waiting: Bounded<ClientRandom, Vec<ConnId>, Keyed>,
    /// Somebody looks for secrets.
    pub(super) is_searched: bool,
    wanted: VecDeque<Wanted>,
    unwanted: VecDeque<Unwanted>,
}

impl Opening {
    /// Off.
    pub(super) fn new(max_connections: usize) -> Self {
        Self {
            is_on: false,
            bounds: Bounds { bytes: 0, time: Duration::ZERO, after_end: Duration::ZERO },
            secrets: Secrets::default(),
            waiting: Bounded::for_foreign_keys(max_connections),
            is_searched: false,
            wanted: VecDeque::new(),
            unwanted: VecDeque::new(),
        }
    }

    pub(super) fn open(&mut self, bounds: Bounds) {
        (self.is_on, self.bounds) = (true, bounds);
    }

    /// A connection waits for the secret of this handshake.
    pub(super) fn wait(&mut self, random: ClientRandom, conn: ConnId) {
        if let Some(ends) = self.waiting.get_mut(&random) {
            if !ends.contains(&conn) && ends.len() < MAX_ENDS {
                ends.push(conn);
            }
        } else {
            self.waiting.insert(random, vec![conn]);
        }
    }

    /// Asks those who look for secrets. Returns whether there was room; else the oldest question went.
    pub(super) fn want(&mut self, wanted: Wanted) -> bool {
        let has_room = self.wanted.len() < MAX_WANTED;
        if !has_room {
            self.wanted.pop_front();
        }
        self.wanted.push_back(wanted);
        has_room
    }

    /// Tells those who look for secrets that they need not, or hardly. One that is not told looks for nothing, until its patience ends.
    pub(super) fn unwant(&mut self, unwanted: Unwanted) {
        if self.is_searched {
            if self.unwanted.len() >= MAX_WANTED {
                self.unwanted.pop_front();
            }
            self.unwanted.push_back(unwanted);
        }
    }

    pub(super) fn poll_unwanted(&mut self) -> Option<Unwanted> {
        self.unwanted.pop_front()
    }

    /// TLS is left alone from now on, as if it never had been opened.
    pub(super) fn leave(&mut self) {
        self.is_on = false;
    }

    /// Nobody looks for secrets any more, and what was found goes.
    pub(super) fn end_search(&mut self) {
        (self.is_searched, self.wanted, self.unwanted) = (false, VecDeque::new(), VecDeque::new());
        self.secrets.expire(BootTime::MAX);
    }

    pub(super) fn poll_wanted(&mut self) -> Option<Wanted> {
        self.wanted.pop_front()
    }

    /// Keeps a secret. Returns who waits for one of that handshake.
    pub(super) fn learn(&mut self, known: Known, now: BootTime) -> Vec<ConnId> {
        let random = known.client_random;
        self.secrets.insert(known, now);
        // They wait on for the other direction's secret.
        self.waiting.get(&random).cloned().unwrap_or_default()
    }
}
