//! Where secrets were found → where the next ones are looked for first.
//!
//! *Owns* the last places per process and the way that a program keeps its secrets. *Must not know* how memory is read. Holds
//! addresses, never bytes, but for what lies around a secret whose other half is still wanted: wiped after seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use spoor_core::bounded::Bounded;
use spoor_core::record::Tgid;
use spoor_core::tls::ClientRandom;
use spoor_core::tls::search::{Effort, Shape};
use zeroize::Zeroizing;

use super::process::Program;

/// Addresses of secrets kept per process. Servers put the next connection's where that of one before was.
const MAX_HITS: usize = 64;
/// Processes and programs remembered.
const MAX_PROCESSES: usize = 4096;
/// Surroundings kept at once.
const MAX_KEPT: usize = 256;
/// How long: the server's secret is wanted with its first record, which comes with its first answer.
const KEPT: Duration = Duration::from_secs(15);

/// What lay around a secret.
struct Kept {
    name: ClientRandom,
    tgid: Tgid,
    address: u64,
    bytes: Zeroizing<Vec<u8>>,
    until: Instant,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("tgid", &self.tgid)
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Places {
    hits: Bounded<Tgid, (u64, VecDeque<u64>)>,
    ways: Bounded<Program, (Shape, Effort)>,
    kept: VecDeque<Kept>,
}

impl Default for Places {
    fn default() -> Self {
        Self { hits: Bounded::new(MAX_PROCESSES), ways: Bounded::new(MAX_PROCESSES), kept: VecDeque::new() }
    }
}

impl Places {
    /// A secret of a process lay there.
    pub(super) fn hit(&mut self, tgid: Tgid, program: Program, address: u64, way: Option<(Shape, Effort)>) {
        if let Some(way) = way {
            self.ways.insert(program, way);
        }
        if self.hits.get(&tgid).is_none_or(|(of, _)| *of != program.1) {
            self.hits.insert(tgid, (program.1, VecDeque::new()));
        }
        let Some((_, hits)) = self.hits.get_mut(&tgid) else { return };
        hits.retain(|known| *known != address);
        if hits.len() >= MAX_HITS {
            hits.pop_front();
        }
        hits.push_back(address);
    }

    /// Where secrets of a process lay, the last one first.
    pub(super) fn hits(&self, tgid: Tgid, program: Program) -> Vec<u64> {
        let known = self.hits.get(&tgid).filter(|(of, _)| *of == program.1);
        known.map(|(_, hits)| hits.iter().rev().copied().collect()).unwrap_or_default()
    }

    /// How a program keeps its secrets.
    pub(super) fn way(&self, program: Program) -> Option<(Shape, Effort)> {
        self.ways.get(&program).copied()
    }

    /// What lies around a secret is wanted when the other direction speaks.
    pub(super) fn keep(&mut self, name: ClientRandom, tgid: Tgid, address: u64, bytes: &[u8], now: Instant) {
        if self.kept.len() >= MAX_KEPT {
            self.kept.pop_front();
        }
        let bytes = Zeroizing::new(bytes.to_vec());
        self.kept.push_back(Kept { name, tgid, address, bytes, until: now + KEPT });
    }

    /// What lay around a connection's other secrets, and at which address of which process.
    pub(super) fn kept(&self, name: &ClientRandom) -> impl Iterator<Item = (Tgid, u64, &[u8])> {
        let kept = self.kept.iter().filter(move |kept| kept.name == *name);
        kept.map(|kept| (kept.tgid, kept.address, kept.bytes.as_slice()))
    }

    /// Wipes what was kept long enough.
    pub(super) fn wipe(&mut self, now: Instant) {
        self.kept.retain(|kept| kept.until > now);
    }

    /// Wipes what belongs to connections that are done.
    pub(super) fn forget(&mut self, is_done: impl Fn(&ClientRandom) -> bool) {
        self.kept.retain(|kept| !is_done(&kept.name));
    }

    /// When there is something to wipe.
    pub(super) fn wipe_at(&self) -> Option<Instant> {
        self.kept.iter().map(|kept| kept.until).min()
    }
}
