//! The thread: questions → answers, within the budget.
//!
//! *Owns* whose turn it is, and what is done with what is found. *Must not know* how memory is read.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use spoor_core::conn::{Unwanted, Wanted};
use spoor_core::record::{ConnId, Tgid};
use spoor_core::time::BootTime;
use spoor_core::tls::search::{Effort, MARGIN, NEIGHBOURHOOD, Search, Shape};
use spoor_core::tls::{ClientRandom, Known, Label, Proof};
use tokio::sync::mpsc;
use zeroize::{Zeroize, Zeroizing};

use super::jobs::{Added, Job, PATIENCE, Step, across};
use super::objects::Objects;
use super::pace::Budget;
use super::places::Places;
use super::process::{Memory, Next, PIECE, Refused};
use super::{Answer, Limits, QUEUE, Question, Room, Totals, add, scan};

/// Processes searched at once, and searches of gone ones that are kept; further ones wait for their connections' next record.
const MAX_JOBS: usize = 1024;
/// Questions taken before a piece is read again: some 10 ms where each is answered from known places.
const MAX_TAKEN: usize = 64;
/// The longest pause without looking whether anybody listens.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Reading for so long is followed by a pause as long. A piece of 256 KiB is read in 0.1 ms and most are smaller, while on a busy
/// machine a pause of any length takes 5 to 10 ms until it is this thread's turn again.
const PAUSE_AFTER: Duration = Duration::from_millis(1);

/// How long the larger of two processes is left alone while the smaller one is searched for a secret that both have.
const OTHER_END: Duration = Duration::from_millis(250);

/// A question about a connection whose other end is searched first.
struct Later {
    due: Instant,
    wanted: Wanted,
    room: Room,
}

/// Connections of a process that is gone: their other end may have the secret.
struct Orphan {
    until: Instant,
    search: Search,
    _rooms: Vec<Room>,
}

pub(super) struct Worker {
    limits: Limits,
    answers: mpsc::Sender<Answer>,
    totals: Arc<Totals>,
    places: Places,
    objects: Objects,
    jobs: Vec<Job>,
    orphans: VecDeque<Orphan>,
    /// In the order in which they are due.
    later: VecDeque<Later>,
    piece: Zeroizing<Vec<u8>>,
    /// Processes of which it was said that they are read, or why not.
    told: HashSet<Tgid>,
}

impl Worker {
    pub(super) fn new(limits: Limits, answers: mpsc::Sender<Answer>, totals: Arc<Totals>) -> Self {
        Self {
            limits,
            answers,
            totals,
            places: Places::default(),
            objects: Objects::default(),
            jobs: Vec::new(),
            orphans: VecDeque::new(),
            later: VecDeque::new(),
            piece: Zeroizing::new(vec![0; PIECE]),
            told: HashSet::new(),
        }
    }

    /// Until nobody asks and nobody hears any more.
    pub(super) fn run(mut self, questions: &Receiver<Question>) {
        let mut budget = Budget::new(self.limits.cpu_percent, Instant::now());
        let mut reading = Duration::ZERO;
        while !self.answers.is_closed() {
            let now = Instant::now();
            if budget.is_overdrawn() {
                // Answers from known places are cheap; so many of them are not.
                std::thread::sleep(budget.wait(now).min(MAX_PAUSE));
            } else if !self.listen(questions, self.pause(&mut budget, now)) {
                return;
            }
            let now = Instant::now();
            while let Some(later) = self.later.pop_front_if(|later| later.due <= now) {
                self.take(later.wanted, later.room, true);
            }
            self.places.wipe(now);
            self.objects.wipe(now);
            if self.has_work(now) && budget.wait(now).is_zero() {
                reading += self.turn(now);
                if reading >= PAUSE_AFTER {
                    std::thread::sleep(std::mem::take(&mut reading));
                }
            }
            self.expire(Instant::now());
            add(&self.totals.cpu_ns, budget.charge().as_nanos() as u64);
        }
    }

    fn has_work(&self, now: Instant) -> bool {
        self.jobs.iter().any(|job| job.due <= now)
    }

    /// How long to wait for questions.
    fn pause(&self, budget: &mut Budget, now: Instant) -> Duration {
        if self.has_work(now) {
            return budget.wait(now).min(MAX_PAUSE);
        }
        let due = self.jobs.iter().flat_map(|job| [Some(job.due), job.gives_up()]).flatten();
        let due = due
            .chain(self.objects.wipe_at())
            .chain(self.places.wipe_at())
            .chain(self.orphans.front().map(|orphan| orphan.until));
        let due = due.chain(self.later.front().map(|later| later.due));
        due.min().map_or(Duration::from_secs(3600), |due| due.saturating_duration_since(now))
    }

    /// Takes questions. What is new is looked for at exact places at once, whatever else is going on. Returns whether somebody may
    /// still ask.
    fn listen(&mut self, questions: &Receiver<Question>, pause: Duration) -> bool {
        match questions.recv_timeout(pause) {
            Ok(first) => {
                let more = std::iter::from_fn(|| questions.try_recv().ok()).take(MAX_TAKEN);
                for question in std::iter::once(first).chain(more) {
                    match question {
                        Question::Wanted(wanted, room) => self.take(wanted, room, false),
                        Question::Unwanted(unwanted) => self.need_not(unwanted),
                        Question::Copied(copied, room) => self.objects.keep(copied, room, Instant::now()),
                    }
                }
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    /// A question: answered from known places, or made part of a job. Unless `is_late`, of the two ends of a connection the one with
    /// less memory is searched first.
    fn take(&mut self, wanted: Wanted, room: Room, is_late: bool) {
        let Wanted { conn, tgid, at, proof } = wanted;
        let now = Instant::now();
        let name = *proof.name();
        let Some(proof) = self.look_at_copies((conn, tgid, at), proof, is_late) else { return };
        // The number may be another process' by now.
        if let Some(index) = self.jobs.iter().position(|job| job.tgid == tgid)
            && !self.jobs.get(index).is_some_and(|job| job.memory.is_there())
        {
            self.drop_job(index, Refused::Gone);
        }
        let index = match self.jobs.iter().position(|job| job.tgid == tgid) {
            Some(index) => index,
            None if self.jobs.len() >= MAX_JOBS => return add(&self.totals.crowded, 1),
            None => match Memory::open(tgid, at) {
                Ok(memory) => {
                    self.tell(tgid, &memory);
                    let cost = self.jobs.iter().map(Job::turn).min().unwrap_or_default();
                    self.jobs.push(Job::new(tgid, memory, cost, now));
                    self.jobs.len() - 1
                }
                Err(refused) => {
                    add(&self.totals.asked, 1);
                    let mut search = Search::default();
                    search.add(proof);
                    self.orphan(search, vec![room], now);
                    return self.refuse(tgid, refused, 1);
                }
            },
        };
        let has_name = |job: &Job| job.search.proofs().iter().any(|known| *known.name() == name);
        let mine = self.jobs.get(index).map_or(u64::MAX, |job| job.memory.resident);
        let put_off = |later: &Later| later.wanted.tgid == tgid && *later.wanted.proof.name() == name;
        let is_known = self.jobs.get(index).is_some_and(has_name) || self.later.iter().any(put_off);
        add(&self.totals.asked, u64::from(!is_late && !is_known));
        if !is_late
            && self.later.len() < QUEUE
            && let Some(other) = self.jobs.iter_mut().find(|job| job.tgid != tgid && has_name(job))
        {
            let due = now + OTHER_END;
            if other.memory.resident <= mine {
                self.later.push_back(Later { due, wanted: Wanted { conn, tgid, at, proof }, room });
                return;
            }
            if let Some((theirs, at, room)) = other.put_off(&name) {
                let tgid = other.tgid;
                // Of the other end there are no copies, or they were of no use.
                let conn = ConnId(0);
                self.later.push_back(Later { due, wanted: Wanted { conn, tgid, at, proof: theirs }, room });
            }
        }
        let Some(job) = self.jobs.get_mut(index) else { return };
        match job.add(proof, at, room, now) {
            Added::Known => return,
            Added::New => {}
            Added::Crowded => add(&self.totals.crowded, 1),
        }
        self.look_at_known_places(index, &name, now);
    }

    /// What was copied while the connection was at work: the secrets are there, or what is there is not what was thought. Returns what
    /// is to be looked for elsewhere.
    fn look_at_copies(
        &mut self,
        (conn, tgid, at): (ConnId, Tgid, BootTime),
        proof: Proof,
        is_late: bool,
    ) -> Option<Proof> {
        let name = *proof.name();
        let mut search = Search::default();
        search.add(proof);
        let is_static = |word| Memory::open(tgid, at).is_ok_and(|memory| memory.is_of_file(word));
        let found = self.objects.look((conn, tgid), &mut search, &name, is_static);
        add(&self.totals.candidates, search.candidates);
        if let Some(plan) = found.plan {
            tracing::debug!(process = tgid.0, ?plan, "what is copied of a process");
            let _ = self.answers.blocking_send(Answer::Look(tgid, plan));
        }
        let rest = search.take(&name);
        add(&self.totals.asked, u64::from(!is_late && rest.is_none()));
        add(&self.totals.copied, found.secrets.len() as u64);
        for known in found.secrets {
            self.answer(known);
        }
        rest
    }

    /// Nobody waits for a connection's secret, or it will hardly be there.
    fn need_not(&mut self, unwanted: Unwanted) {
        let Unwanted { tgid, name, is_over } = unwanted;
        self.later.retain(|later| is_over || later.wanted.tgid != tgid || *later.wanted.proof.name() != name);
        // Its other end may wait on.
        for job in self.jobs.iter_mut().filter(|job| job.tgid == tgid) {
            if is_over {
                job.is_over_now(&name);
            } else {
                let before = job.search.proofs().len();
                job.search.retain(|proof| *proof.name() != name);
                add(&self.totals.not_found, (before - job.search.proofs().len()) as u64);
            }
        }
    }

    /// Places where secrets lay before, and the surroundings of this connection's other secret.
    fn look_at_known_places(&mut self, index: usize, name: &ClientRandom, now: Instant) {
        let Some(job) = self.jobs.get_mut(index) else { return };
        let begun = Instant::now();
        // Only this connection's: the others were looked for there before.
        let mut search = job.search.split_off(name);
        let mut all = Vec::new();
        for (tgid, address, bytes) in self.places.kept(name) {
            let found = &mut |at, known| all.push((tgid, at, known));
            scan(&mut search, bytes, (address, Shape::Anywhere), found);
        }
        let (tgid, program) = (job.tgid, job.memory.program);
        let mut around = Zeroizing::new([0; 2 * NEIGHBOURHOOD]);
        for address in self.places.hits(tgid, program) {
            if search.is_done() || self.answers.is_closed() {
                break;
            }
            let Ok(regions) = job.regions(now) else { break };
            let Some(part) = across(regions, address, NEIGHBOURHOOD as u64) else { continue };
            let Some((from, len)) = job.memory.read_present(part, address, around.as_mut_slice()) else {
                continue;
            };
            let around = around.get(..len).unwrap_or_default();
            let Some(there) = around.get((address - from) as usize..) else { continue };
            let before = all.len();
            search.try_at(there, Effort::Near, &mut |known| all.push((tgid, address, known)));
            if all.len() > before && !search.is_done() {
                scan(&mut search, around, (from, Shape::Anywhere), &mut |at, known| {
                    all.push((tgid, at, known))
                });
                self.places.keep(*name, tgid, from, around, now);
            }
        }
        add(&self.totals.candidates, search.candidates);
        job.search.put_back(search);
        job.charge(begun.elapsed());
        for (tgid, at, known) in all {
            self.places.hit(tgid, program, at, None);
            self.answer(known);
        }
    }

    /// Reads one piece for the process whose turn it is. Returns how long reading took.
    fn turn(&mut self, now: Instant) -> Duration {
        let ready = self.jobs.iter_mut().enumerate().filter(|(_, job)| job.due <= now);
        let Some((index, job)) = ready.min_by_key(|(_, job)| job.turn()) else { return Duration::ZERO };
        let begun = Instant::now();
        let (step, next) = match job.step(&self.places, self.limits.max_bytes, MARGIN, now) {
            Ok(Some((step, _))) => {
                let step = *step;
                let Job { memory, step: way, .. } = job;
                (step, way.as_mut().map_or(Next::End, |(_, walk)| walk.next(memory, &mut self.piece)))
            }
            Ok(None) => return begun.elapsed(),
            Err(refused) => {
                self.drop_job(index, refused);
                return begun.elapsed();
            }
        };
        let reading = begun.elapsed();
        match next {
            Next::Piece(address, len) => self.search(index, step, (address, len), now),
            Next::Nothing => {}
            Next::End => (job.step, job.tried_until) = (None, 0),
        }
        if let Some(job) = self.jobs.get_mut(index) {
            job.charge(begun.elapsed());
            tracing::trace!(
                process = job.tgid.0,
                ?step,
                ?next,
                connections = job.connections(),
                read_us = reading.as_micros() as u64,
                all_us = begun.elapsed().as_micros() as u64,
                "a piece was searched"
            );
        }
        reading
    }

    /// Looks for secrets in the piece that was read.
    fn search(&mut self, index: usize, step: Step, (address, len): (u64, usize), now: Instant) {
        let Some(job) = self.jobs.get_mut(index) else { return };
        add(&self.totals.bytes, len as u64);
        let piece = self.piece.get(..len).unwrap_or_default();
        let mut all = Vec::new();
        let before = job.search.candidates;
        let way = (step.shape, step.effort);
        let rest =
            job.search.scan(piece, address, job.tried_until, way, &mut |at, known| all.push((at, known)));
        job.tried_until = rest.unwrap_or_default();
        if let (Some(rest), Some((_, walk))) = (rest, &mut job.step) {
            walk.rewind(rest, address + len as u64);
        }
        add(&self.totals.candidates, job.search.candidates - before);
        let (tgid, program) = (job.tgid, job.memory.program);
        for (at, known) in all {
            tracing::debug!(process = tgid.0, shape = ?step.shape, label = ?known.label, "a secret was found");
            // How a program keeps keys says nothing of how it keeps secrets.
            let is_key = known.joined.is_some_and(|joined| joined.is_key());
            self.places.hit(tgid, program, at, (!is_key).then_some(way));
            if known.label != Label::Master {
                let from = ((at - address) as usize).saturating_sub(NEIGHBOURHOOD);
                let until = ((at - address) as usize + NEIGHBOURHOOD).min(len);
                let around = self.piece.get(from..until).unwrap_or_default();
                self.places.keep(known.client_random, tgid, address + from as u64, around, now);
            }
            self.answer(known);
        }
        if let Some(read) = self.piece.get_mut(..len) {
            read.zeroize();
        }
    }

    /// What was kept for connections that nobody asks for any more goes.
    fn forget(&mut self, names: &[ClientRandom]) {
        let searches = || {
            let orphans = self.orphans.iter().map(|orphan| &orphan.search);
            self.jobs.iter().map(|job| &job.search).chain(orphans)
        };
        let is_wanted = |name: &ClientRandom| {
            searches().any(|search| search.proofs().iter().any(|proof| proof.name() == name))
        };
        let gone: Vec<_> = names.iter().filter(|name| !is_wanted(name)).collect();
        self.places.forget(|name| gone.contains(&name));
    }

    /// Connections that no longer wait: they have their secrets, or were patient long enough.
    fn expire(&mut self, now: Instant) {
        let mut gone = Vec::new();
        for job in &mut self.jobs {
            gone.extend(job.served());
            let expired = job.expire(now);
            add(&self.totals.not_found, expired.len() as u64);
            gone.extend(expired);
        }
        self.jobs.retain(|job| !job.is_over());
        self.orphans.retain(|orphan| orphan.until > now && !orphan.search.is_done());
        if !gone.is_empty() {
            self.forget(&gone);
        }
    }

    /// A secret was found: nobody else needs to look for it.
    fn answer(&mut self, known: Known) {
        add(&self.totals.found, 1);
        // Nothing says which two ends of older connections belong together; the secret does.
        let mut others = Vec::new();
        if known.joined.is_none() {
            let of = self.later.iter_mut().filter(|later| *later.wanted.proof.name() == known.client_random);
            of.for_each(|later| later.wanted.proof.know(known.label));
            self.later.retain(|later| !later.wanted.proof.is_done());
        }
        let orphans = self.orphans.iter_mut().map(|orphan| &mut orphan.search);
        for search in self.jobs.iter_mut().map(|job| &mut job.search).chain(orphans) {
            if known.joined.is_some() {
                search.try_known(&known, &mut |known| others.push(known));
            } else {
                search.know(&known.client_random, known.label);
            }
        }
        for known in others.into_iter().chain([known]) {
            // Waits where nobody takes them; where nobody ever will, it is the end.
            if self.answers.blocking_send(Answer::Known(known)).is_err() {
                return;
            }
        }
    }

    fn drop_job(&mut self, index: usize, refused: Refused) {
        let job = self.jobs.swap_remove(index);
        let (tgid, connections) = (job.tgid, job.connections());
        let (search, rooms) = job.into_search();
        self.orphan(search, rooms, Instant::now());
        self.refuse(tgid, refused, connections as u64);
    }

    fn orphan(&mut self, search: Search, rooms: Vec<Room>, now: Instant) {
        if self.orphans.len() >= MAX_JOBS {
            self.orphans.pop_front();
        }
        self.orphans.push_back(Orphan { until: now + PATIENCE, search, _rooms: rooms });
    }

    fn refuse(&mut self, tgid: Tgid, refused: Refused, connections: u64) {
        match refused {
            Refused::Gone => add(&self.totals.gone, connections),
            Refused::Denied => {
                add(&self.totals.denied, connections);
                if self.is_new(tgid) {
                    tracing::warn!(
                        "TLS connections of process {} stay closed: its memory cannot be read; `spoor doctor` says what is missing",
                        tgid.0
                    );
                }
            }
        }
    }

    fn tell(&mut self, tgid: Tgid, memory: &Memory) {
        if self.is_new(tgid) {
            tracing::info!(
                "reading memory of `{}` (process {}) for secrets of its TLS connections; `tls.open: off` leaves it alone",
                memory.name.escape_debug(),
                tgid.0
            );
        }
    }

    /// Whether nothing was said of a process yet.
    fn is_new(&mut self, tgid: Tgid) -> bool {
        if self.told.len() >= MAX_JOBS {
            self.told.clear();
        }
        self.told.insert(tgid)
    }
}
