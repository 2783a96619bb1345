//! Finished spans in from any thread, requests out from a thread of its own.
//!
//! *Owns* the order of delivery and what happens when the back end is away:
//!
//! ```text
//!              offer()                    ╭──────────── thread `spoor-export` ────────────╮
//!   Span ─▶ Batcher ─▶ Queue (memory) ─▶ │ send; while the back end is away: ─▶ Spool (disk) │
//!                                         │ when it is back: Spool first, then Queue          │
//!                                         ╰────────────────────────────────────────────────╯
//! ```
//!
//! Whatever is in the spool is older than whatever is in memory, so delivery keeps the order of finishing.
//! Everything discarded is counted by cause. Disk and network never make the traced data's thread wait.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use prost::Message;
use serde::Serialize;
use tokio::sync::Notify;

use super::host::Host;
use super::otlp::encode::{Batcher, Pushed, Request};
use super::otlp::retry::Backoff;
use super::otlp::target::{Signal, TargetError};
use super::otlp::{Answer, Client, Target};
use super::queue::{Batch, Queue};
use super::spool::{self, Entry, Spool, SpoolError};
use crate::config::Export;
use crate::span::Span;
use crate::telemetry::Seldom;

/// A span waits at most so long for others to share its request.
const LINGER: Duration = Duration::from_millis(250);

/// How often the same trouble is told.
const TELL_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("cannot start the export thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Counts of spans since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Given to the exporter.
    pub offered: u64,
    /// Taken by the back end.
    pub exported: u64,
    /// Requests taken by the back end.
    pub requests: u64,
    /// Attempts that failed and were or will be repeated.
    pub retries: u64,
    /// Waiting in memory, the batch being built and the one being sent included.
    pub waiting: u64,
    /// Waiting in the spool.
    pub spooled: u64,
    /// Found in the spool at the start, left by an earlier run.
    pub recovered: u64,
    pub dropped: Dropped,
}

/// Spans that will never arrive, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// The memory queue was full: the oldest.
    pub queue_full: u64,
    /// The spool was full: the oldest.
    pub spool_full: u64,
    /// Too long in the spool.
    pub spool_expired: u64,
    /// The spool's checksums were wrong.
    pub spool_damaged: u64,
    /// Rejected by a back end that took the rest of the request.
    pub rejected: u64,
    /// In a request the back end refused for good.
    pub refused: u64,
    /// Larger than a request may be.
    pub too_large: u64,
    /// Still waiting in memory when the agent had to end.
    pub shutdown: u64,
}

impl Dropped {
    /// Of all causes.
    pub fn total(&self) -> u64 {
        self.by_cause().iter().map(|(_, count)| count).sum()
    }

    /// Cause and count.
    pub fn by_cause(&self) -> [(&'static str, u64); 8] {
        [
            ("queue_full", self.queue_full),
            ("spool_full", self.spool_full),
            ("spool_expired", self.spool_expired),
            ("spool_damaged", self.spool_damaged),
            ("rejected", self.rejected),
            ("refused", self.refused),
            ("too_large", self.too_large),
            ("shutdown", self.shutdown),
        ]
    }
}

/// Takes finished spans and delivers them.
#[derive(Debug)]
pub struct Exporter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something happened that the export thread waits for.
    wake: Notify,
    /// There is room again.
    room: Condvar,
}

#[derive(Debug)]
struct State {
    batcher: Batcher,
    /// When the batch being built got its first span.
    building_since: Option<Instant>,
    queue: Queue,
    /// The end, and until when it may take.
    closing: Option<Instant>,
    /// The back end does not answer, or not well.
    away: bool,
    /// Spans taken from the queue and not settled yet.
    in_flight: u64,
    totals: Totals,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and queues stay consistent also when a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(&mut self, request: &Request) {
        let batch = Batch { payload: request.request.encode_to_vec().into(), span_count: request.span_count };
        self.totals.dropped.queue_full += self.queue.push_back(batch);
    }

    fn flush(&mut self) {
        self.building_since = None;
        if let Some(request) = self.batcher.take() {
            self.enqueue(&request);
        }
    }

    fn totals(&self) -> Totals {
        let building = u64::from(self.batcher.span_count());
        Totals { waiting: building + self.queue.span_count() + self.in_flight, ..self.totals }
    }
}

impl Exporter {
    /// Starts delivering to the configured endpoint; `None` when there is none.
    pub fn start(settings: &Export, host: Host) -> Result<Option<Self>, ExportError> {
        let Some(target) = Target::new(&settings.otlp, Signal::Traces)? else { return Ok(None) };
        let spool = match settings.spool.directory.as_str() {
            "" => None,
            directory => {
                let limits =
                    spool::Limits { max_bytes: settings.spool.max_bytes, max_age: settings.spool.max_age };
                Some(Spool::open(directory.as_ref(), limits)?)
            }
        };
        let recovered = spool.as_ref().map_or(0, Spool::span_count);
        let state = State {
            batcher: Batcher::new(host, settings.otlp.max_request_bytes),
            building_since: None,
            queue: Queue::new(settings.spool.memory_bytes),
            closing: None,
            away: false,
            in_flight: 0,
            totals: Totals { recovered, spooled: recovered, ..Totals::default() },
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Notify::new(), room: Condvar::new() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = Worker {
            shared: shared.clone(),
            spool,
            backoff: Backoff::default(),
            uri: target.uri.to_string(),
            away_since: None,
            trouble: Seldom::new(TELL_EVERY),
            advice: Seldom::new(TELL_EVERY),
            disk: Seldom::new(TELL_EVERY),
        };
        let thread = std::thread::Builder::new().name("spoor-export".to_owned()).spawn(move || {
            runtime.block_on(async {
                match Client::new(target) {
                    Ok(client) => worker.run(client).await,
                    Err(error) => tracing::error!("cannot export: {error}"),
                }
            });
        })?;
        Ok(Some(Self { shared, thread: Some(thread) }))
    }

    /// Adds a finished span. Never waits: with a full queue the oldest spans are dropped and counted.
    pub fn offer(&self, span: &Span) {
        let mut state = self.shared.lock();
        state.totals.offered += 1;
        match state.batcher.push(span) {
            Pushed::Kept => {}
            Pushed::Full(request) => {
                state.enqueue(&request);
                state.building_since = Some(Instant::now());
                self.shared.wake.notify_one();
                return;
            }
            Pushed::TooLarge => state.totals.dropped.too_large += 1,
        }
        if state.building_since.is_none() {
            state.building_since = Some(Instant::now());
            self.shared.wake.notify_one();
        }
    }

    /// Waits until the queue has room, for sources that can wait (a replay). Gives up after `longest`: from then on
    /// the oldest spans are dropped as in a live run.
    pub fn wait_for_room(&self, longest: Duration) -> bool {
        let state = self.shared.lock();
        let full = |state: &mut State| state.queue.is_filling() && state.closing.is_none();
        let waited = self.shared.room.wait_timeout_while(state, longest, full);
        waited.map(|(_, result)| !result.timed_out()).unwrap_or(true)
    }

    pub fn totals(&self) -> Totals {
        self.shared.lock().totals()
    }

    /// Delivers what waits, for at most `longest`; the rest goes to the spool, or is dropped and counted without one.
    pub fn shutdown(mut self, longest: Duration) -> Totals {
        {
            let mut state = self.shared.lock();
            state.closing = Some(Instant::now() + longest);
        }
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the export thread panicked");
        }
        self.totals()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // Without `shutdown` (an error on the way): end soon.
        self.shared.lock().closing.get_or_insert_with(Instant::now);
        self.shared.wake.notify_one();
    }
}

/// The export thread.
struct Worker {
    shared: Arc<Shared>,
    spool: Option<Spool>,
    backoff: Backoff,
    uri: String,
    away_since: Option<Instant>,
    trouble: Seldom,
    advice: Seldom,
    disk: Seldom,
}

/// A batch on its way, and where it came from.
enum Taken {
    Memory(Batch),
    Spool(Entry),
}

impl Worker {
    async fn run(mut self, mut client: Client) {
        if let Err(reason) = client.probe().await {
            self.went_away(&reason, None);
        }
        loop {
            let closing = self.shared.lock().closing;
            match self.take(closing.is_some()) {
                Some(taken) => {
                    if let Some(wait) = self.deliver(&mut client, taken).await
                        && !self.pause(wait).await
                    {
                        break;
                    }
                    if closing.is_some_and(|end| Instant::now() >= end) {
                        break;
                    }
                }
                None if closing.is_some() => break,
                None => self.idle().await,
            }
        }
        self.end();
    }

    /// The oldest batch: from the spool while it holds any.
    fn take(&mut self, closing: bool) -> Option<Taken> {
        if let Some(spool) = &mut self.spool {
            let oldest = spool.oldest(unix_ms());
            self.note_spool();
            match oldest {
                Ok(Some(entry)) => return Some(Taken::Spool(entry)),
                Ok(None) => {}
                Err(error) => self.tell_disk(&error),
            }
        }
        let mut state = self.shared.lock();
        let due = state.building_since.is_some_and(|since| since.elapsed() >= LINGER);
        if state.queue.len_bytes() == 0 && (due || closing) {
            state.flush();
        }
        let batch = state.queue.pop_front()?;
        state.in_flight = u64::from(batch.span_count);
        drop(state);
        self.shared.room.notify_all();
        Some(Taken::Memory(batch))
    }

    /// Waits for something to do.
    async fn idle(&self) {
        let due = self.shared.lock().building_since.map(|since| since + LINGER);
        match due {
            Some(due) => {
                let _ = tokio::time::timeout_at(due.into(), self.shared.wake.notified()).await;
            }
            None => self.shared.wake.notified().await,
        }
    }

    /// Sends a batch and settles it. Returns how long to wait when the back end is away.
    async fn deliver(&mut self, client: &mut Client, mut taken: Taken) -> Option<Duration> {
        let (payload, span_count) = match &taken {
            Taken::Memory(batch) => (batch.payload.clone(), batch.span_count),
            Taken::Spool(entry) => (entry.payload.clone(), entry.span_count),
        };
        let answer = self.send(client, payload, &mut taken).await;
        let spans = u64::from(span_count);
        match answer {
            Answer::Taken { rejected, message } => {
                let rejected = rejected.min(spans);
                {
                    let mut state = self.shared.lock();
                    state.totals.requests += 1;
                    state.totals.exported += spans - rejected;
                    state.totals.dropped.rejected += rejected;
                }
                if rejected > 0 || !message.is_empty() {
                    self.tell_rejected(rejected, &message);
                }
                self.settle(&taken);
                self.came_back();
                None
            }
            Answer::Refused { reason } => {
                self.shared.lock().totals.dropped.refused += spans;
                if let Some(held_back) = self.trouble.due(Instant::now()) {
                    let uri = &self.uri;
                    tracing::error!(
                        held_back = repeats(held_back),
                        "{uri} refused {spans} spans for good, they are dropped: {reason}"
                    );
                }
                self.settle(&taken);
                // It answered, so it is there.
                self.came_back();
                None
            }
            Answer::TryAgain { after, reason } => {
                self.shared.lock().totals.retries += 1;
                self.went_away(&reason, Some(&taken));
                Some(self.backoff.wait(after, fastrand::f64()))
            }
        }
    }

    /// Sends, and meanwhile keeps the memory queue within its bound by moving it to the spool.
    async fn send(&mut self, client: &mut Client, payload: bytes::Bytes, taken: &mut Taken) -> Answer {
        let shared = self.shared.clone();
        let mut sending = std::pin::pin!(client.send(payload));
        loop {
            let (closing, filling) = {
                let state = shared.lock();
                (state.closing, state.queue.is_filling())
            };
            if filling && closing.is_none() {
                self.spill_behind(taken);
            }
            let end = async {
                match closing {
                    Some(end) => tokio::time::sleep_until(end.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                answer = &mut sending => return answer,
                () = end => return Answer::TryAgain { after: None, reason: "the agent ends".to_owned() },
                () = shared.wake.notified() => {}
            }
        }
    }

    /// Moves the queue to the spool while `taken` is being sent. A batch from memory goes first, to stay the oldest.
    fn spill_behind(&mut self, taken: &mut Taken) {
        let Some(spool) = &mut self.spool else { return };
        if let Taken::Memory(batch) = taken {
            // It was taken from memory because the spool was empty, so it is what the spool gives out next.
            let moved = spool
                .append(&batch.payload, batch.span_count, unix_ms())
                .and_then(|()| spool.oldest(unix_ms()));
            match moved {
                Ok(Some(entry)) => {
                    *taken = Taken::Spool(entry);
                    self.shared.lock().in_flight = 0;
                }
                Ok(None) => return,
                Err(error) => return self.tell_disk(&error),
            }
        }
        self.spill();
    }

    fn settle(&mut self, taken: &Taken) {
        match taken {
            Taken::Memory(_) => self.shared.lock().in_flight = 0,
            Taken::Spool(entry) => {
                let acknowledged = self.spool.as_mut().map(|spool| spool.acknowledge(entry));
                if let Some(Err(error)) = acknowledged {
                    self.tell_disk(&error);
                }
                self.note_spool();
            }
        }
    }

    /// The back end is away: what waits in memory goes to the spool, where a killed agent does not lose it.
    fn went_away(&mut self, reason: &str, taken: Option<&Taken>) {
        let first = self.away_since.is_none();
        self.away_since.get_or_insert_with(Instant::now);
        self.shared.lock().away = true;
        if let Some(Taken::Memory(batch)) = taken {
            let mut state = self.shared.lock();
            state.in_flight = 0;
            let dropped = state.queue.push_front(batch.clone());
            state.totals.dropped.queue_full += dropped;
        }
        self.spill();
        let (uri, now) = (&self.uri, Instant::now());
        if let Some(held_back) = self.trouble.due(now).or(first.then_some(0)) {
            let kept = match &self.spool {
                Some(_) => "spans are kept in the spool",
                None => "spans are kept in memory, the oldest are dropped when it is full",
            };
            tracing::warn!(
                held_back = repeats(held_back),
                "cannot deliver to {uri}: {reason}; {kept} and sent when it is back"
            );
        }
    }

    fn came_back(&mut self) {
        self.backoff.reset();
        if let Some(since) = self.away_since.take() {
            self.shared.lock().away = false;
            let spooled = self.spool.as_ref().map_or(0, Spool::span_count);
            let seconds = since.elapsed().as_secs();
            tracing::info!(spooled, "{} is back after {seconds} s", self.uri);
        }
    }

    /// Moves the memory queue to the spool. What the disk does not take stays in memory.
    fn spill(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        let mut failed = None;
        loop {
            let batch = {
                let mut state = self.shared.lock();
                if state.building_since.is_some_and(|since| since.elapsed() >= LINGER) {
                    state.flush();
                }
                state.queue.pop_front()
            };
            let Some(batch) = batch else { break };
            if let Err(error) = spool.append(&batch.payload, batch.span_count, unix_ms()) {
                let mut state = self.shared.lock();
                let dropped = state.queue.push_front(batch);
                state.totals.dropped.queue_full += dropped;
                failed = Some(error);
                break;
            }
        }
        self.shared.room.notify_all();
        self.note_spool();
        if let Some(error) = failed {
            self.tell_disk(&error);
        }
    }

    /// Waits before the next attempt; new spans go to the spool meanwhile. `false`: the end came.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            let (closing, due) = {
                let state = self.shared.lock();
                (state.closing, state.building_since.map(|since| since + LINGER))
            };
            if let Some(end) = closing {
                // With a spool nothing is lost by ending now; without, until the last moment it may come back.
                if self.spool.is_some() || Instant::now() >= end {
                    return false;
                }
                let short = Duration::from_millis(200).min(wait);
                tokio::time::sleep_until((Instant::now() + short).min(end).into()).await;
                return true;
            }
            let now = Instant::now();
            if now >= until {
                return true;
            }
            // With a spool also wake to write the batch being built; without, there is nothing to do before.
            let next = match (&self.spool, due) {
                (Some(_), Some(due)) => due.max(now + Duration::from_millis(20)).min(until),
                _ => until,
            };
            let _ = tokio::time::timeout_at(next.into(), self.shared.wake.notified()).await;
            self.spill();
        }
    }

    /// The end: what waits goes to the spool, or is lost and counted.
    fn end(&mut self) {
        self.shared.lock().flush();
        self.spill();
        let lost = {
            let mut state = self.shared.lock();
            let mut lost = std::mem::take(&mut state.in_flight);
            while let Some(batch) = state.queue.pop_front() {
                lost += u64::from(batch.span_count);
            }
            state.totals.dropped.shutdown += lost;
            lost
        };
        let spooled = self.spool.as_ref().map_or(0, Spool::span_count);
        if lost > 0 {
            tracing::warn!(
                "{lost} spans could not be delivered before the end and are lost; set `export.spool.directory` to keep them"
            );
        }
        if spooled > 0 {
            tracing::info!("{spooled} spans wait in the spool for the next start");
        }
        self.shared.room.notify_all();
    }

    fn note_spool(&self) {
        let Some(spool) = &self.spool else { return };
        let discarded = spool.discarded();
        let mut state = self.shared.lock();
        state.totals.spooled = spool.span_count();
        state.totals.dropped.spool_full = discarded.full;
        state.totals.dropped.spool_expired = discarded.expired;
        state.totals.dropped.spool_damaged = discarded.damaged;
    }

    fn tell_disk(&mut self, error: &SpoolError) {
        if let Some(held_back) = self.disk.due(Instant::now()) {
            tracing::error!(held_back = repeats(held_back), "{error}; spans are kept in memory instead");
        }
    }

    fn tell_rejected(&mut self, rejected: u64, message: &str) {
        if let Some(held_back) = self.advice.due(Instant::now()) {
            tracing::warn!(held_back = repeats(held_back), rejected, "{} says: {message}", self.uri);
        }
    }
}

/// Nothing is said about repeats when there were none.
fn repeats(held_back: u64) -> Option<u64> {
    (held_back > 0).then_some(held_back)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
