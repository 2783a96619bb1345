//! What is known for opening TLS: secrets, and the connections that wait for them.
//!
//! *Owns* who waits for which secret. *Must not know* where secrets come from.

use std::hash::RandomState;
use std::time::Duration;

use crate::bounded::Bounded;
use crate::record::ConnId;
use crate::tls::{Bounds, ClientRandom, Known, Secrets};

/// Ends of connections with the same client random: two on one machine, and a few where somebody repeats it.
const MAX_ENDS: usize = 4;

#[derive(Debug)]
pub(super) struct Opening {
    /// TLS is opened.
    pub(super) is_on: bool,
    pub(super) bounds: Bounds,
    pub(super) secrets: Secrets,
    waiting: Bounded<ClientRandom, Vec<ConnId>, RandomState>,
}

impl Opening {
    /// Off.
    pub(super) fn new(max_connections: usize) -> Self {
        Self {
            is_on: false,
            bounds: Bounds { bytes: 0, time: Duration::ZERO },
            secrets: Secrets::default(),
            waiting: Bounded::for_foreign_keys(max_connections),
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

    /// Keeps a secret. Returns who waits for one of that handshake.
    pub(super) fn learn(&mut self, known: Known) -> Vec<ConnId> {
        let random = known.client_random;
        self.secrets.insert(known);
        // They wait on for the other direction's secret.
        self.waiting.get(&random).cloned().unwrap_or_default()
    }
}
