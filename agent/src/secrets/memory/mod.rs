//! The memory of traced processes → secrets of their TLS connections, on a thread of its own.
//!
//! ```text
//!   Wanted ─▶ exact places of earlier secrets ─▶ near the last one ─▶ everything, the fewest candidates first ─▶ Known
//! ```
//!
//! *Owns* which process is read when, and that it costs the machine little. *Must not know* what makes bytes a secret: the core's
//! [`Search`] tells.
//!
//! Only processes that are asked for are read, and only such are asked for as are traced: the selection comes first.
//! One process is read at a time, a piece at a time, with a pause as long as reading took: readers hold a lock that the process
//! needs for `mmap`.
//!
//! Long because what is asked, what is read next and what became of it are one loop over the same jobs.

mod pace;
mod places;
mod process;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use spoor_core::conn::Wanted;
use spoor_core::record::Tgid;
use spoor_core::tls::search::{Effort, MARGIN, NEIGHBOURHOOD, Search, Shape};
use spoor_core::tls::{ClientRandom, Known, Label};
use tokio::sync::mpsc;
use zeroize::{Zeroize, Zeroizing};

use pace::Budget;
use places::Places;
use process::{Memory, PIECE, Refused, Walk};

/// Questions and answers that wait.
const QUEUE: usize = 4096;
/// Processes searched at once, and searches of gone ones that are kept; further ones wait for their connections' next record.
const MAX_JOBS: usize = 1024;
/// Connections of one process that are searched at once: the newest.
const MAX_PROOFS: usize = 64;
/// How far around the last secret the next one is looked for first: in a JVM it lay 0.3 to 0.4 MB further, in Go some KB.
const NEAR: u64 = 16 << 20;
/// How long a connection is searched for: as long as its records may wait.
const PATIENCE: Duration = Duration::from_secs(12);
/// A search that found nothing is repeated: the secret was on its way, or moved by a collector of garbage.
const RETRIES: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(4)];

/// What the search may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one core, on average.
    pub cpu_percent: u32,
    /// Bytes of one process that are read for one search.
    pub max_bytes: u64,
}

/// What happened, for metrics.
#[derive(Debug, Default)]
pub struct Totals {
    /// Connections asked for.
    pub asked: AtomicU64,
    /// Secrets found.
    pub found: AtomicU64,
    /// Connections whose secret was not found.
    pub not_found: AtomicU64,
    /// Connections of processes that were gone, or could not be read.
    pub gone: AtomicU64,
    pub denied: AtomicU64,
    /// Connections that had no place.
    pub crowded: AtomicU64,
    pub bytes: AtomicU64,
    pub candidates: AtomicU64,
    pub cpu_ns: AtomicU64,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Looks for secrets.
#[derive(Debug)]
pub struct Seeker {
    wanted: Option<SyncSender<Wanted>>,
    found: mpsc::Receiver<Known>,
    totals: Arc<Totals>,
    thread: Option<JoinHandle<()>>,
}

impl Seeker {
    /// Starts the thread.
    pub fn start(limits: Limits) -> std::io::Result<Self> {
        let (wanted, questions) = sync_channel(QUEUE);
        let (answers, found) = mpsc::channel(QUEUE);
        let totals = Arc::new(Totals::default());
        let worker = Worker::new(limits, answers, totals.clone());
        let thread = std::thread::Builder::new()
            .name("spoor-secrets".to_owned())
            .spawn(move || worker.run(&questions))?;
        Ok(Self { wanted: Some(wanted), found, totals, thread: Some(thread) })
    }

    /// Asks for the secrets of a connection.
    pub fn ask(&self, wanted: Wanted) {
        add(&self.totals.asked, 1);
        if self.wanted.as_ref().is_some_and(|queue| queue.try_send(wanted).is_err()) {
            add(&self.totals.crowded, 1);
        }
    }

    /// The next secret. Never, when the thread has ended.
    pub async fn next(&mut self) -> Known {
        match self.found.recv().await {
            Some(known) => known,
            None => std::future::pending().await,
        }
    }

    /// The next secret, if there is one.
    pub fn poll(&mut self) -> Option<Known> {
        self.found.try_recv().ok()
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }
}

impl Drop for Seeker {
    fn drop(&mut self) {
        self.wanted = None;
        self.found.close();
        if let Some(thread) = self.thread.take() {
            // It wipes what it holds.
            let _ = thread.join();
        }
    }
}

/// A process that is searched.
struct Job {
    tgid: Tgid,
    memory: Memory,
    search: Search,
    /// Until when each connection waits, the oldest first.
    until: Vec<(ClientRandom, Instant)>,
    plan: std::vec::IntoIter<Step>,
    step: Option<(Step, Walk)>,
    /// Bytes read in this step, and steps before it: the one that got least is next.
    read: u64,
    steps: u32,
    /// Where the search of a piece was broken off: what is before was tried.
    tried_until: u64,
    /// Connections came while others were searched: what was read by then is read again for them.
    is_again: bool,
    tries: usize,
    due: Instant,
}

/// One way over the memory.
#[derive(Clone, Copy)]
struct Step {
    shape: Shape,
    effort: Effort,
    /// Only what lies near this address.
    around: Option<u64>,
}

struct Worker {
    limits: Limits,
    answers: mpsc::Sender<Known>,
    totals: Arc<Totals>,
    places: Places,
    jobs: Vec<Job>,
    /// Connections of processes that are gone: their other end may have the secret.
    orphans: VecDeque<(Instant, Search)>,
    piece: Zeroizing<Vec<u8>>,
    /// Processes of which it was said that they are read, or why not.
    told: HashSet<Tgid>,
}

impl Worker {
    fn new(limits: Limits, answers: mpsc::Sender<Known>, totals: Arc<Totals>) -> Self {
        Self {
            limits,
            answers,
            totals,
            places: Places::default(),
            jobs: Vec::new(),
            orphans: VecDeque::new(),
            piece: Zeroizing::new(vec![0; PIECE]),
            told: HashSet::new(),
        }
    }

    fn run(mut self, questions: &Receiver<Wanted>) {
        let mut budget = Budget::new(self.limits.cpu_percent, Instant::now());
        loop {
            let now = Instant::now();
            let has_work = self.jobs.iter().any(|job| job.due <= now);
            let wait = if has_work {
                budget.wait(now)
            } else {
                let due = self.jobs.iter().map(|job| job.due).chain(self.places.wipe_at()).min();
                due.map_or(Duration::from_secs(3600), |due| due.saturating_duration_since(now))
            };
            // What is new is looked for at exact places at once, whatever else is going on.
            match questions.recv_timeout(wait) {
                Ok(wanted) => {
                    self.take(wanted);
                    while let Ok(wanted) = questions.try_recv() {
                        self.take(wanted);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            self.places.wipe(now, None);
            if has_work && budget.wait(now).is_zero() {
                let reading = self.turn(now);
                std::thread::sleep(reading);
            }
            self.expire(Instant::now());
            add(&self.totals.cpu_ns, budget.charge().as_nanos() as u64);
        }
    }

    /// A question: answered from known places, or made part of a job.
    fn take(&mut self, wanted: Wanted) {
        let Wanted { tgid, at, proof, .. } = wanted;
        let now = Instant::now();
        let name = *proof.name();
        tracing::trace!(process = tgid.0, ?proof, "asked");
        let index = match self.jobs.iter().position(|job| job.tgid == tgid) {
            Some(index) => index,
            None if self.jobs.len() >= MAX_JOBS => return add(&self.totals.crowded, 1),
            None => match Memory::open(tgid, at) {
                Ok(memory) => {
                    self.tell(tgid, &memory);
                    self.jobs.push(Job {
                        tgid,
                        memory,
                        search: Search::default(),
                        until: Vec::new(),
                        plan: Vec::new().into_iter(),
                        step: None,
                        read: 0,
                        steps: 0,
                        tried_until: 0,
                        is_again: true,
                        tries: 0,
                        due: now,
                    });
                    self.jobs.len() - 1
                }
                Err(refused) => {
                    let mut search = Search::default();
                    search.add(proof);
                    self.orphan(search, now);
                    return self.refuse(tgid, refused);
                }
            },
        };
        let Some(job) = self.jobs.get_mut(index) else { return };
        if !job.until.iter().any(|(known, _)| *known == name) {
            if job.until.len() >= MAX_PROOFS {
                let (oldest, _) = job.until.remove(0);
                job.search.retain(|proof| *proof.name() != oldest);
                add(&self.totals.crowded, 1);
            }
            job.until.push((name, now + PATIENCE));
        }
        let is_begun = proof.wants(Effort::Begun);
        job.search.add(proof);
        job.is_again = true;
        if is_begun && job.steps > 0 {
            // It is found quickly, and would wait long behind ways over everything.
            (job.step, job.plan, job.steps, job.tried_until) = (None, Vec::new().into_iter(), 0, 0);
        }
        job.due = now;
        self.look_at_known_places(index, &name);
        self.settle(index);
    }

    /// Places where secrets lay before, and the surroundings of this connection's other secret.
    fn look_at_known_places(&mut self, index: usize, name: &ClientRandom) {
        let Some(job) = self.jobs.get_mut(index) else { return };
        let mut all = Vec::new();
        for (tgid, address, bytes) in self.places.kept(name) {
            let _ = job.search.scan(bytes, address, 0, (Shape::Anywhere, Effort::Near), &mut |at, known| {
                all.push((tgid, at, known));
            });
        }
        let hits = self.places.hits(job.tgid, job.memory.program);
        let mut around = Zeroizing::new(vec![0; 2 * NEIGHBOURHOOD]);
        for address in hits {
            if job.search.is_done() {
                break;
            }
            let from = address.saturating_sub(NEIGHBOURHOOD as u64);
            let Ok(len) = job.memory.read(from, &mut around) else { continue };
            let around = around.get(..len).unwrap_or_default();
            let Some(there) = around.get((address - from) as usize..) else { continue };
            let before = all.len();
            job.search.try_at(there, Effort::Near, &mut |known| all.push((job.tgid, address, known)));
            if all.len() > before {
                let _ =
                    job.search.scan(around, from, 0, (Shape::Anywhere, Effort::Near), &mut |at, known| {
                        all.push((job.tgid, at, known));
                    });
                self.places.keep(*name, job.tgid, from, around, Instant::now());
            }
        }
        let program = job.memory.program;
        for (tgid, at, known) in all {
            self.places.hit(tgid, program, at, None);
            self.answer(known);
        }
    }

    /// Reads one piece for the process for which least was done: cheap ways over large memories come before dear ways over small
    /// ones. Returns how long reading took.
    fn turn(&mut self, now: Instant) -> Duration {
        let ready = self.jobs.iter_mut().enumerate().filter(|(_, job)| job.due <= now);
        let Some((index, job)) = ready.min_by_key(|(_, job)| (job.tries, job.steps, job.read)) else {
            return Duration::ZERO;
        };
        let begun = Instant::now();
        if job.step.is_none() && job.plan.len() == 0 && std::mem::take(&mut job.is_again) {
            job.plan = plan(&self.places, job);
            job.steps = 0;
        }
        let next = loop {
            let Some((step, walk)) = &mut job.step else {
                let Some(step) = job.plan.next() else { break None };
                (job.read, job.steps) = (0, job.steps + 1);
                if !job.search.wants(step.effort) {
                    continue;
                }
                match job.memory.regions() {
                    Ok(regions) => {
                        let regions = match step.around {
                            Some(address) => near(&regions, address),
                            None => regions,
                        };
                        job.step = Some((step, Walk::new(regions, MARGIN, self.limits.max_bytes)));
                    }
                    Err(refused) => {
                        self.drop_job(index, refused);
                        return Duration::ZERO;
                    }
                }
                continue;
            };
            match walk.next(&job.memory, &mut self.piece) {
                Some((address, len)) => break Some((*step, address, len)),
                None => job.step = None,
            }
        };
        let reading = begun.elapsed();
        let Some((Step { shape, effort, .. }, address, len)) = next else {
            self.rest(index, now);
            return reading;
        };
        add(&self.totals.bytes, len as u64);
        job.read += len as u64;
        let piece = self.piece.get(..len).unwrap_or_default();
        let mut all = Vec::new();
        let before = job.search.candidates;
        let way = (shape, effort);
        let rest =
            job.search.scan(piece, address, job.tried_until, way, &mut |at, known| all.push((at, known)));
        job.tried_until = rest.unwrap_or_default();
        if let (Some(rest), Some((_, walk))) = (rest, &mut job.step) {
            walk.rewind(rest, address + len as u64);
        }
        add(&self.totals.candidates, job.search.candidates - before);
        tracing::trace!(
            process = job.tgid.0,
            ?shape,
            ?effort,
            len,
            candidates = job.search.candidates - before,
            connections = job.search.proofs().len(),
            read_us = reading.as_micros() as u64,
            all_us = begun.elapsed().as_micros() as u64,
            "a piece was searched"
        );
        let (tgid, program) = (job.tgid, job.memory.program);
        for (at, known) in all {
            tracing::debug!(process = tgid.0, ?shape, label = ?known.label, "a secret was found");
            self.places.hit(tgid, program, at, Some((shape, effort)));
            if known.label != Label::Master {
                let from = ((at - address) as usize).saturating_sub(NEIGHBOURHOOD);
                let until = ((at - address) as usize + NEIGHBOURHOOD).min(len);
                let around = self.piece.get(from..until).unwrap_or_default();
                self.places.keep(known.client_random, tgid, address + from as u64, around, now);
            }
            self.answer(known);
        }
        self.piece.zeroize();
        self.piece.resize(PIECE, 0);
        self.settle(index);
        reading
    }

    /// Everything was read: what is still wanted is looked for once more, later.
    fn rest(&mut self, index: usize, now: Instant) {
        let Some(job) = self.jobs.get_mut(index) else { return };
        if job.is_again {
            return;
        }
        match RETRIES.get(job.tries) {
            Some(pause) => {
                job.tries += 1;
                (job.due, job.is_again) = (now + *pause, true);
            }
            // Until one of its connections gives up, or a new one asks.
            None => job.due = now + PATIENCE,
        }
    }

    /// A job without anything to find is over.
    fn settle(&mut self, index: usize) {
        let Some(job) = self.jobs.get_mut(index) else { return };
        let wanted: HashSet<ClientRandom> = job.search.proofs().iter().map(|proof| *proof.name()).collect();
        job.until.retain(|(name, _)| wanted.contains(name));
        if job.until.is_empty() {
            self.jobs.swap_remove(index);
        }
    }

    /// Connections that no longer wait.
    fn expire(&mut self, now: Instant) {
        let mut given_up = 0;
        for job in &mut self.jobs {
            let before = job.until.len();
            job.until.retain(|(_, until)| *until > now);
            if job.until.len() < before {
                given_up += (before - job.until.len()) as u64;
                let left: HashSet<ClientRandom> = job.until.iter().map(|(name, _)| *name).collect();
                job.search.retain(|proof| left.contains(proof.name()));
            }
        }
        self.orphans.retain(|(until, search)| *until > now && !search.is_done());
        add(&self.totals.not_found, given_up);
        self.jobs.retain(|job| !job.until.is_empty());
    }

    /// A secret was found: nobody else needs to look for it.
    fn answer(&mut self, known: Known) {
        add(&self.totals.found, 1);
        let name = known.client_random;
        let is_all = known.label == Label::Master;
        if is_all {
            self.places.wipe(Instant::now(), Some(&name));
            for job in &mut self.jobs {
                job.search.retain(|proof| *proof.name() != name);
            }
        }
        // Nothing says which two ends of older connections belong together; the secret does.
        let mut others = Vec::new();
        if known.joined.is_some() {
            let orphans = self.orphans.iter_mut().map(|(_, search)| search);
            for search in self.jobs.iter_mut().map(|job| &mut job.search).chain(orphans) {
                search.try_known(&known, &mut |known| others.push(known));
            }
        }
        // A loop that does not take them any more is at its end.
        for known in others.into_iter().chain([known]) {
            let _ = self.answers.try_send(known);
        }
    }

    fn drop_job(&mut self, index: usize, refused: Refused) {
        let job = self.jobs.swap_remove(index);
        self.orphan(job.search, Instant::now());
        self.refuse(job.tgid, refused);
    }

    fn orphan(&mut self, search: Search, now: Instant) {
        if self.orphans.len() >= MAX_JOBS {
            self.orphans.pop_front();
        }
        self.orphans.push_back((now + PATIENCE, search));
    }

    fn refuse(&mut self, tgid: Tgid, refused: Refused) {
        match refused {
            Refused::Gone => add(&self.totals.gone, 1),
            Refused::Denied => {
                add(&self.totals.denied, 1);
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

/// In which ways a process is gone over: first as programs like it keep their secrets, near the last one and everywhere, then in
/// all ways. What was tried in all ways is tried again in the better ones only.
fn plan(places: &Places, job: &Job) -> std::vec::IntoIter<Step> {
    let learned = places.way(job.memory.program);
    let mut plan = Vec::new();
    if let Some((shape, effort)) = learned {
        let last = places.hits(job.tgid, job.memory.program).first().copied();
        plan.extend(last.map(|address| Step { shape, effort, around: Some(address) }));
        plan.push(Step { shape, effort, around: None });
    }
    let rest = Shape::WAYS.into_iter().filter(|way| Some(*way) != learned);
    let rest = rest.filter(|(shape, _)| job.tries == 0 || *shape != Shape::Anywhere);
    plan.extend(rest.map(|(shape, effort)| Step { shape, effort, around: None }));
    plan.into_iter()
}

/// What lies near an address, what comes after it first.
fn near(regions: &[(u64, u64)], address: u64) -> Vec<(u64, u64)> {
    let parts = [(address, address.saturating_add(NEAR)), (address.saturating_sub(NEAR), address)];
    let within = |(from, until): (u64, u64)| {
        regions.iter().filter_map(move |(start, end)| {
            let part = ((*start).max(from), (*end).min(until));
            (part.0 < part.1).then_some(part)
        })
    };
    parts.into_iter().flat_map(within).collect()
}
