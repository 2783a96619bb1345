//! Connections ⇄ what the next agent should know of them, recognised when they speak.
//!
//! ```text
//!   export ─▶ Connection, Texts ─ another agent ─▶ restore ─▶ [waiting, by identifier]
//!                                                                 │ introduced: the same? ─no─▶ dropped
//!                                                                 ▼
//!                                                 first bytes: unbroken? ─▶ session with what it knew
//! ```
//!
//! Cookies are given out once per boot. A connection is the same when cookie, network namespace, transport, both addresses
//! and, where both are known, both initial sequence numbers agree. That no byte moved unseen is known only of TCP with its
//! sequence numbers: both directions must stand where they stood.
//!
//! *Owns* that judgement, and what waits for connections that have not spoken yet. *Must not know* what sessions learn, files.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::Snapshot;
use crate::protocol::snapshot::Texts;
use crate::record::{Conn, ConnId, Data, Direction, Endpoint, NetNs, Role, Transport, WireBase};
use crate::time::BootTime;

/// Connections that did not speak for so long are not waited for.
const MAX_SILENCE: Duration = Duration::from_secs(24 * 3600);
/// About how many bytes all connections together may take in a file, without texts.
const MAX_COST: usize = 8 << 20;

/// What one connection is, and what was learned on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    pub id: ConnId,
    pub transport: Transport,
    pub local: Endpoint,
    pub remote: Endpoint,
    pub netns: NetNs,
    pub wire: Option<WireBase>,
    /// The role its session was made with.
    pub role: Role,
    /// Up to where the session was given each direction. `None`: positions do not tell.
    pub stands: Option<Stands>,
    /// When bytes moved last.
    pub spoke_at: BootTime,
    pub learned: Snapshot,
}

/// How far both directions have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stands {
    pub ingress: u64,
    pub egress: u64,
}

/// What became of what an earlier agent had learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Connections that wait to speak.
    pub waiting: u64,
    /// Connections that went on without a byte missed, and with bytes that nobody saw.
    pub unbroken: u64,
    pub broken: u64,
    /// What came with them.
    pub statements: u64,
    pub consumers: u64,
    /// Dropped: silent for too long or of a later time, …
    pub expired: u64,
    /// … another connection by now, …
    pub changed: u64,
    /// … at positions that cannot be, …
    pub impossible: u64,
    /// … of no use after bytes that nobody saw, …
    pub useless: u64,
    /// … over the bound on connections, …
    pub over_limit: u64,
    /// … and closed before they spoke again.
    pub closed: u64,
}

impl Connection {
    /// It is that connection.
    fn is(&self, conn: &Conn) -> bool {
        let agree = |ours: Option<WireBase>, theirs: Option<WireBase>| {
            ours.zip(theirs).is_none_or(|(ours, theirs)| ours == theirs)
        };
        let is_known = self.local != Endpoint::Unknown
            && self.remote != Endpoint::Unknown
            && self.netns != NetNs::UNKNOWN;
        is_known
            && self.id == conn.id
            && self.transport == conn.transport
            && self.local == conn.local
            && self.remote == conn.remote
            && self.netns == conn.netns
            && agree(self.wire, conn.wire)
            && conn.role.is_none_or(|role| role == self.role)
    }

    /// How it goes on with this record, the first one of the connection that is seen.
    pub(in crate::conn) fn goes_on(&self, conn: &Conn, data: &Data) -> GoesOn {
        let is_certain = self.transport == Transport::Tcp
            && self.wire.is_some()
            && conn.wire == self.wire
            && !data.flags.position_uncertain;
        let Some(stands) = self.stands.filter(|_| is_certain) else { return GoesOn::Broken };
        let (own, other) = match data.direction {
            Direction::Ingress => (stands.ingress, stands.egress),
            Direction::Egress => (stands.egress, stands.ingress),
        };
        if data.pos < own {
            return GoesOn::Impossible;
        }
        // What it says of the other direction may be older than that direction's last record, never newer.
        let is_next = data.pos == own && data.other_pos <= other;
        if is_next { GoesOn::Unbroken(stands) } else { GoesOn::Broken }
    }
}

/// How a connection goes on after a change of agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GoesOn {
    /// From here, without a byte missed.
    Unbroken(Stands),
    Broken,
    /// Before where it was.
    Impossible,
}

/// What an earlier agent had learned on connections that have not spoken yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    connections: HashMap<ConnId, Connection>,
    texts: Arc<[Arc<str>]>,
    pub(super) stats: Stats,
}

/// What is known of a connection that was introduced and has not spoken.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) connection: Connection,
    /// By place.
    pub(super) texts: Arc<[Arc<str>]>,
}

impl Waiting {
    /// Takes what an earlier agent of this boot had learned; at most `max` connections, those that spoke last.
    pub(super) fn restore(
        &mut self,
        mut all: Vec<Connection>,
        texts: Vec<Arc<str>>,
        now: BootTime,
        max: usize,
    ) {
        let before = all.len();
        all.retain(|one| now.checked_since(one.spoke_at).is_some_and(|silence| silence <= MAX_SILENCE));
        self.stats.expired += (before - all.len()) as u64;
        all.sort_by_key(|one| std::cmp::Reverse(one.spoke_at));
        self.stats.over_limit += all.len().saturating_sub(max) as u64;
        all.truncate(max);
        self.connections = all.into_iter().map(|one| (one.id, one)).collect();
        self.texts = texts.into();
        self.count();
    }

    /// A connection was introduced: what is known of it, if it is the same.
    pub(super) fn claim(&mut self, conn: &Conn) -> Option<Box<Known>> {
        let connection = self.connections.remove(&conn.id)?;
        let texts = self.texts.clone();
        self.count();
        if !connection.is(conn) {
            self.stats.changed += 1;
            return None;
        }
        Some(Box::new(Known { connection, texts }))
    }

    /// A connection spoke that was never introduced: who it is cannot be told.
    pub(super) fn unknown(&mut self, id: ConnId) {
        self.stats.changed += u64::from(self.connections.remove(&id).is_some());
        self.count();
    }

    /// A connection ended that has not spoken.
    pub(super) fn closed(&mut self, id: ConnId) {
        self.stats.closed += u64::from(self.connections.remove(&id).is_some());
        self.count();
    }

    /// Those that still wait.
    pub(super) fn connections(&self) -> impl Iterator<Item = (&Connection, &[Arc<str>])> {
        self.connections.values().map(|one| (one, &*self.texts))
    }

    fn count(&mut self) {
        self.stats.waiting = self.connections.len() as u64;
        if self.connections.is_empty() {
            // The texts stay with those that use them.
            self.connections = HashMap::new();
            self.texts = Arc::default();
        }
    }
}

/// The same connection with its texts where the next agent looks for them.
pub(super) fn again(connection: &Connection, texts: &[Arc<str>], to: &mut Texts) -> Connection {
    let mut connection = connection.clone();
    connection.learned = connection.learned.with_texts(|place| {
        let text = texts.get(usize::try_from(place).ok()?)?;
        to.place(text)
    });
    connection
}

/// Keeps to the bound on all connections together: those that spoke last.
pub(super) fn within_bound(mut all: Vec<Connection>) -> Vec<Connection> {
    all.sort_by_key(|one| (std::cmp::Reverse(one.spoke_at), one.id));
    let mut cost = 0_usize;
    let fit = all.iter().take_while(|one| {
        cost = cost.saturating_add(one.learned.cost());
        cost <= MAX_COST
    });
    let fit = fit.count();
    all.truncate(fit);
    all
}
