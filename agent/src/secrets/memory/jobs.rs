//! What is looked for in one process, and how far that is.
//!
//! *Owns* the ways over a memory and their order, and who waits for how long. *Must not know* which process is next, nor what is
//! done with what is found.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use spoor_core::record::Tgid;
use spoor_core::time::BootTime;
use spoor_core::tls::search::{Effort, Search, Shape};
use spoor_core::tls::{ClientRandom, Proof};

use super::Room;
use super::places::Places;
use super::process::{Memory, Refused, Walk};

/// Connections of one process that are searched at once: the newest.
const MAX_PROOFS: usize = 64;
/// How far around the last secret the next one is looked for first: in a JVM it lay 0.3 to 0.4 MB further, in Go some KB.
const NEAR: u64 = 16 << 20;
/// How long a connection is searched for: as long as its records may wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(12);
/// A search that found nothing is repeated: the secret was on its way, or moved by a collector of garbage.
const RETRIES: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(4)];
/// Mappings are read again when they are as old as this: reading those of a large process takes a millisecond.
const MAPPED_FOR: Duration = Duration::from_millis(250);

/// Ways that are gone for what is over: the first ones, which cost little.
const WORTH_IT: u32 = 2;
/// One way over a memory of 100 MB that has to be gone everywhere.
const WAY: Duration = Duration::from_millis(50);

/// A process that is searched.
pub(super) struct Job {
    pub(super) tgid: Tgid,
    pub(super) memory: Memory,
    pub(super) search: Search,
    /// Who waits, the oldest first.
    waiting: Vec<Waiting>,
    plan: std::vec::IntoIter<Step>,
    pub(super) step: Option<(Step, Walk)>,
    /// What was done for it, beside what others got meanwhile.
    cost: Duration,
    /// Ways that were gone since it was asked for something last.
    gone: u32,
    /// Where the search of a piece was broken off: what is before was tried.
    pub(super) tried_until: u64,
    /// Connections came while others were searched: what was read by then is read again for them.
    is_again: bool,
    tries: usize,
    pub(super) due: Instant,
    mapped: Option<(Instant, Vec<(u64, u64)>)>,
}

/// A connection that waits.
struct Waiting {
    name: ClientRandom,
    /// When the process had the connection.
    at: BootTime,
    until: Instant,
    /// The connection is gone: OpenSSL and rustls have wiped its secrets, Go and what collects garbage leaves them for a while.
    is_over: bool,
    room: Room,
}

/// One way over the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) shape: Shape,
    pub(super) effort: Effort,
    /// Only what lies near this address.
    around: Option<u64>,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    New,
    /// The same was asked, or less.
    Known,
    /// Another one had to go for it.
    Crowded,
}

impl Job {
    /// `cost`: that of the one that is next now. Whoever comes new has no claim to what the others got before.
    pub(super) fn new(tgid: Tgid, memory: Memory, cost: Duration, now: Instant) -> Self {
        Self {
            tgid,
            memory,
            search: Search::default(),
            waiting: Vec::new(),
            plan: Vec::new().into_iter(),
            step: None,
            cost,
            gone: 0,
            tried_until: 0,
            is_again: true,
            tries: 0,
            due: now,
            mapped: None,
        }
    }

    /// One more connection, or more about one.
    pub(super) fn add(&mut self, proof: Proof, at: BootTime, room: Room, now: Instant) -> Added {
        let name = *proof.name();
        let known = self.search.proofs().iter().find(|known| *known.name() == name);
        if known.is_some_and(|known| {
            known.is_for_key() == proof.is_for_key()
                && known.counts().iter().zip(proof.counts()).all(|(known, said)| *known >= said)
        }) {
            return Added::Known;
        }
        let mut added = Added::New;
        match self.waiting.iter_mut().find(|waiting| waiting.name == name) {
            Some(waiting) => waiting.room = room,
            None => {
                if self.waiting.len() >= MAX_PROOFS {
                    let oldest = self.waiting.remove(0);
                    self.search.retain(|proof| *proof.name() != oldest.name);
                    added = Added::Crowded;
                }
                self.waiting.push(Waiting { name, at, until: now + PATIENCE, is_over: false, room });
                self.tries = 0;
            }
        }
        if proof.wants(Effort::Begun) && self.step.is_some() {
            // It is found quickly, and would wait long behind ways over everything.
            (self.step, self.plan, self.tried_until, self.gone) = (None, Vec::new().into_iter(), 0, 0);
        }
        self.search.add(proof);
        (self.is_again, self.due) = (true, now);
        added
    }

    /// The way that is gone now, over what is left of it. `None`: there is nothing left to do until later.
    pub(super) fn step(
        &mut self,
        places: &Places,
        max_bytes: u64,
        overlap: usize,
        now: Instant,
    ) -> Result<Option<&mut (Step, Walk)>, Refused> {
        // Of a way that began, what it was for may have been found.
        if self.step.as_ref().is_some_and(|(step, _)| !self.search.wants(step.effort)) {
            (self.step, self.tried_until) = (None, 0);
        }
        if self.step.is_none() && self.plan.len() == 0 && std::mem::take(&mut self.is_again) {
            (self.plan, self.gone) = (self.ways(places), 0);
        }
        while self.step.is_none() {
            let Some(step) = self.plan.next() else { break };
            self.gone += 1;
            if self.gone > WORTH_IT {
                // Dear ways are for those that are still there.
                self.waiting
                    .iter_mut()
                    .filter(|waiting| waiting.is_over)
                    .for_each(|waiting| waiting.until = now);
            }
            if !self.search.wants(step.effort) {
                continue;
            }
            let regions = self.regions(now)?;
            let regions = match step.around {
                Some(address) => around(regions, address, NEAR),
                None => regions.to_vec(),
            };
            self.step = Some((step, Walk::new(regions, overlap, max_bytes)));
        }
        if self.step.is_none() && !self.is_again {
            self.rest(now);
        }
        Ok(self.step.as_mut())
    }

    /// Takes out a connection that is looked for elsewhere first.
    pub(super) fn put_off(&mut self, name: &ClientRandom) -> Option<(Proof, BootTime, Room)> {
        let at = self.waiting.iter().position(|waiting| waiting.name == *name)?;
        let proof = self.search.take(name)?;
        let Waiting { at, room, .. } = self.waiting.remove(at);
        Some((proof, at, room))
    }

    /// A connection that waits is gone.
    pub(super) fn is_over_now(&mut self, name: &ClientRandom) {
        self.waiting
            .iter_mut()
            .filter(|waiting| waiting.name == *name)
            .for_each(|waiting| waiting.is_over = true);
        if self.waiting.iter().all(|waiting| waiting.is_over) && self.gone > WORTH_IT {
            (self.step, self.plan, self.tried_until) = (None, Vec::new().into_iter(), 0);
        }
    }

    /// Parts of its address space, as they were a moment ago.
    pub(super) fn regions(&mut self, now: Instant) -> Result<&[(u64, u64)], Refused> {
        let is_old = |(at, _): &(Instant, Vec<(u64, u64)>)| now.saturating_duration_since(*at) >= MAPPED_FOR;
        if self.mapped.as_ref().is_none_or(is_old) {
            self.mapped = Some((now, self.memory.regions()?));
        }
        Ok(self.mapped.as_ref().map(|(_, regions)| regions.as_slice()).unwrap_or_default())
    }

    /// Everything was read: what is still wanted is looked for once more, later.
    fn rest(&mut self, now: Instant) {
        match RETRIES.get(self.tries) {
            Some(pause) => {
                self.tries += 1;
                (self.due, self.is_again) = (now + *pause, true);
            }
            // Until one of its connections gives up, or a new one asks.
            None => self.due = now + PATIENCE,
        }
    }

    /// Whose turn it is: the least is next. Cheap ways over all memories come before dear ways over any, yet nobody waits for ever for
    /// those who are always asked for something new.
    pub(super) fn turn(&self) -> Duration {
        self.cost + WAY * self.gone
    }

    /// More was done for it.
    pub(super) fn charge(&mut self, time: Duration) {
        self.cost += time;
    }

    /// In which ways a process is gone over: first as programs like it keep their secrets, near the last one and everywhere; then in
    /// all ways, for a program of which that is known only if that was for nothing. What was tried in all ways is tried again in the
    /// better ones only.
    fn ways(&self, places: &Places) -> std::vec::IntoIter<Step> {
        let learned = places.way(self.memory.program);
        let mut plan = Vec::new();
        if let Some((shape, effort)) = learned {
            let last = places.hits(self.tgid, self.memory.program).first().copied();
            plan.extend(last.map(|address| Step { shape, effort, around: Some(address) }));
            plan.push(Step { shape, effort, around: None });
        }
        let rest = Shape::WAYS.into_iter().filter(|way| Some(*way) != learned);
        let first = usize::from(learned.is_some());
        let rest = rest.filter(|(shape, _)| match self.tries.cmp(&first) {
            Ordering::Less => false,
            Ordering::Equal => true,
            Ordering::Greater => *shape != Shape::Anywhere,
        });
        plan.extend(rest.map(|(shape, effort)| Step { shape, effort, around: None }));
        if self.waiting.iter().all(|waiting| waiting.is_over) {
            plan.truncate(WORTH_IT as usize);
        }
        plan.into_iter()
    }

    /// Takes out who has all that it waited for. Returns whose they were.
    pub(super) fn served(&mut self) -> Vec<ClientRandom> {
        let proofs = self.search.proofs();
        let mut served = Vec::new();
        // Each that waits has a proof, until it has all.
        if proofs.len() == self.waiting.len() {
            return served;
        }
        self.waiting.retain(|waiting| {
            let waits = proofs.iter().any(|proof| *proof.name() == waiting.name);
            if !waits {
                served.push(waiting.name);
            }
            waits
        });
        served
    }

    /// Takes out who waited long enough. Returns whose they were.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<ClientRandom> {
        let mut expired = Vec::new();
        self.waiting.retain(|waiting| {
            let waits = waiting.until > now;
            if !waits {
                expired.push(waiting.name);
            }
            waits
        });
        if !expired.is_empty() {
            self.search.retain(|proof| !expired.contains(proof.name()));
        }
        expired
    }

    /// When the first gives up.
    pub(super) fn gives_up(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// Nobody waits for anything.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn connections(&self) -> usize {
        self.waiting.len()
    }

    /// What waits on without a process: its other end may have the secret.
    pub(super) fn into_search(self) -> (Search, Vec<Room>) {
        (self.search, self.waiting.into_iter().map(|waiting| waiting.room).collect())
    }
}

/// What lies within a distance of an address, what comes after it first.
pub(super) fn around(regions: &[(u64, u64)], address: u64, distance: u64) -> Vec<(u64, u64)> {
    let parts = [(address, address.saturating_add(distance)), (address.saturating_sub(distance), address)];
    let within = |(from, until): (u64, u64)| {
        regions.iter().filter_map(move |(start, end)| {
            let part = ((*start).max(from), (*end).min(until));
            (part.0 < part.1).then_some(part)
        })
    };
    parts.into_iter().flat_map(within).collect()
}

/// The same in one piece: what lies on both sides of the address.
pub(super) fn across(regions: &[(u64, u64)], address: u64, distance: u64) -> Option<(u64, u64)> {
    let (start, end) = regions.iter().find(|(start, end)| (*start..*end).contains(&address))?;
    Some(((*start).max(address.saturating_sub(distance)), (*end).min(address.saturating_add(distance))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_near_an_address_is_cut_to_what_is_mapped() {
        let regions = [(0, 100), (150, 300), (400, 500)];
        assert_eq!(
            around(&regions, 200, 120),
            [(200, 300), (80, 100), (150, 200)],
            "what comes after it first"
        );
        assert_eq!(around(&regions, u64::MAX, 10), []);
        assert_eq!(across(&regions, 200, 120), Some((150, 300)));
        assert_eq!(across(&regions, 200, 20), Some((180, 220)));
        assert_eq!(across(&regions, 120, 120), None, "nothing is there any more");
        assert_eq!(across(&regions, 499, u64::MAX), Some((400, 500)));
    }
}
