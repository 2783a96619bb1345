//! Batches from the queue → requests, from a thread of its own.
//!
//! *Owns* the order of delivery and what happens when the back end is away:
//!
//! ```text
//!        offer()                         ╭────────────── thread `spoor-export` ──────────────╮
//!   Span ─▶ Batcher ─▶ Queue (memory) ─▶ │ send; while the back end is away: ─▶ Spool (disk) │
//!                                        │ when it is back: Spool first, then Queue          │
//!                                        ╰───────────────────────────────────────────────────╯
//! ```
//!
//! Whatever is in the spool is older than whatever is in memory, so delivery keeps the order of finishing. A batch that is too
//! large for the back end goes on as its parts (`parts`), which come before everything else. *Must not know* spans, nor how they
//! are encoded: a batch is bytes and a number.

mod parts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exporter::Shared;
use super::otlp::retry::Backoff;
use super::otlp::target::Signal;
use super::otlp::tls::Files;
use super::otlp::{Answer, Client, Target, split};
use super::queue::Batch;
use super::spool::{Entry, Spool, SpoolError};
use crate::clock;
use crate::config::Otlp;
use crate::telemetry::Seldom;
use parts::Parts;

/// A span waits at most so long for others to share its request.
const LINGER: Duration = Duration::from_millis(250);
/// How often certificates are looked at, besides when the back end cannot be reached.
const LOOK_AT_FILES: Duration = Duration::from_secs(30);
/// How often the same trouble is told.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// While ending, a back end that named no time is tried again so soon.
const SHORT_PAUSE: Duration = Duration::from_millis(200);

/// The export thread.
pub(super) struct Worker {
    shared: Arc<Shared>,
    spool: Option<Spool>,
    backoff: Backoff,
    /// What is left of a batch that was too large.
    parts: Option<Parts>,
    uri: String,
    /// What the way to the back end was made of, and the certificates it was made with.
    settings: Otlp,
    files: Files,
    looked: Instant,
    away_since: Option<Instant>,
    trouble: Seldom,
    advice: Seldom,
    disk: Seldom,
}

/// How long not to send.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    /// The back end named the time.
    asked: bool,
}

/// A batch on its way, and where it came from.
enum Taken {
    Memory(Batch),
    Spool(Entry),
    /// One of [`Worker::parts`], which is no longer there.
    Part(Batch),
}

impl Taken {
    fn batch(&self) -> Batch {
        match self {
            Taken::Memory(batch) | Taken::Part(batch) => batch.clone(),
            Taken::Spool(entry) => {
                Batch { payload: entry.payload.clone(), span_count: entry.span_count, ..Batch::default() }
            }
        }
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, spool: Option<Spool>, uri: String, settings: Otlp) -> Self {
        Self {
            shared,
            spool,
            backoff: Backoff::default(),
            parts: None,
            uri,
            files: Files::of(&settings),
            settings,
            looked: Instant::now(),
            away_since: None,
            trouble: Seldom::new(TELL_EVERY),
            advice: Seldom::new(TELL_EVERY),
            disk: Seldom::new(TELL_EVERY),
        }
    }

    /// Delivers until the handle asks for the end.
    pub(super) async fn run(mut self, mut client: Client) {
        if let Err(reason) = client.probe().await {
            self.went_away(&reason, None);
        }
        loop {
            let closing = self.shared.lock().closing;
            self.follow_settings(&mut client);
            match self.take(closing.is_some()) {
                Some(taken) => {
                    if let Some(pause) = self.deliver(&mut client, taken).await
                        && !self.pause(pause).await
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

    /// Settings that were reloaded, and certificates that were renewed.
    fn follow_settings(&mut self, client: &mut Client) {
        let retarget = self.shared.lock().retarget.take();
        let target = match retarget {
            Some(new) => {
                self.files = Files::of(&new.settings);
                self.settings = new.settings;
                new.target
            }
            None => {
                let look = self.away_since.is_some() || self.looked.elapsed() >= LOOK_AT_FILES;
                if !look || !self.files.have_changed(&self.settings) {
                    return;
                }
                self.looked = Instant::now();
                match Target::new(&self.settings, Signal::Traces) {
                    Ok(Some(target)) => {
                        tracing::info!(
                            "the certificates for {} have changed: they are used from now on",
                            self.uri
                        );
                        target
                    }
                    Ok(None) => return,
                    // Half written, perhaps: looked at again.
                    Err(error) => {
                        self.files = Files::default();
                        if let Some(held_back) = self.trouble.due(Instant::now()) {
                            tracing::error!(
                                held_back = repeats(held_back),
                                "{error}; the old certificates stay"
                            );
                        }
                        return;
                    }
                }
            }
        };
        self.uri = target.uri.to_string();
        match Client::new(target) {
            Ok(new) => *client = new,
            Err(error) => tracing::error!("cannot send to {}: {error}; the old connection stays", self.uri),
        }
    }

    /// The oldest batch: from the spool while it holds any.
    fn take(&mut self, closing: bool) -> Option<Taken> {
        if let Some(part) = self.parts.as_mut().and_then(Parts::next) {
            return Some(Taken::Part(part));
        }
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
            None if self.files.is_empty() => self.shared.wake.notified().await,
            None => {
                let _ = tokio::time::timeout(LOOK_AT_FILES, self.shared.wake.notified()).await;
            }
        }
    }

    /// Sends a batch and settles it. Returns how long to wait when the back end is away.
    async fn deliver(&mut self, client: &mut Client, mut taken: Taken) -> Option<Pause> {
        let Batch { payload, span_count, .. } = taken.batch();
        let len = payload.len();
        let answer = self.send(client, payload, &mut taken).await;
        let spans = u64::from(span_count);
        match answer {
            Answer::Taken { rejected, message } => {
                let rejected = rejected.min(spans);
                {
                    let mut state = self.shared.lock();
                    state.totals.requests += 1;
                    state.totals.last_success_unix = unix_ms() / 1000;
                    state.totals.exported += spans - rejected;
                    state.totals.dropped.rejected += rejected;
                }
                if matches!(taken, Taken::Part(_)) {
                    self.part_was_taken(len);
                }
                if rejected > 0 || !message.is_empty() {
                    self.tell_rejected(rejected, &message);
                }
                self.settle(&taken);
                self.came_back();
                None
            }
            Answer::TooLarge { reason } => {
                match split::halves(&taken.batch()) {
                    Some(halves) => self.split(taken, halves, &reason),
                    None => self.refuse_single(&taken, &reason),
                }
                self.came_back();
                None
            }
            // It answered, so it is there.
            Answer::Refused { reason } | Answer::NoSuchSignal { reason } => {
                self.refuse(spans, &reason);
                self.settle(&taken);
                self.came_back();
                None
            }
            Answer::TryAgain { after, reason } => {
                self.shared.lock().totals.retries += 1;
                self.went_away(&reason, Some(taken));
                let wait = self.backoff.wait(after, fastrand::f64());
                Some(Pause { until: Instant::now() + wait, asked: after.is_some() })
            }
        }
    }

    /// Spans that the back end will never take.
    fn refuse(&mut self, spans: u64, reason: &str) {
        self.shared.lock().totals.dropped.refused += spans;
        if let Some(held_back) = self.trouble.due(Instant::now()) {
            let uri = &self.uri;
            tracing::error!(
                held_back = repeats(held_back),
                "{uri} refused {spans} spans for good, they are dropped: {reason}"
            );
        }
    }

    /// Sends, and meanwhile keeps the memory queue within its bound by moving it to the spool. A back end that takes its
    /// time is as good as away: what waits for it is put where a killed agent does not lose it.
    async fn send(&mut self, client: &mut Client, payload: bytes::Bytes, taken: &mut Taken) -> Answer {
        let shared = self.shared.clone();
        let mut sending = std::pin::pin!(client.send(payload));
        let mut slow = false;
        loop {
            let (closing, filling) = {
                let state = shared.lock();
                (state.closing, state.queue.is_filling())
            };
            if filling || slow {
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
                () = tokio::time::sleep(LINGER) => slow = true,
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
            Taken::Spool(entry) => self.acknowledge(entry),
            Taken::Part(_) => self.settle_part(),
        }
    }

    fn acknowledge(&mut self, entry: &Entry) {
        let acknowledged = self.spool.as_mut().map(|spool| spool.acknowledge(entry));
        if let Some(Err(error)) = acknowledged {
            self.tell_disk(&error);
        }
        self.note_spool();
    }

    /// The back end is away: what waits in memory goes to the spool, where a killed agent does not lose it.
    fn went_away(&mut self, reason: &str, taken: Option<Taken>) {
        let first = self.away_since.is_none();
        self.away_since.get_or_insert_with(Instant::now);
        match taken {
            Some(Taken::Memory(batch)) => {
                let mut state = self.shared.lock();
                state.in_flight = 0;
                let dropped = state.queue.push_front(batch);
                state.totals.dropped.queue_full += dropped;
            }
            Some(Taken::Part(batch)) => self.give_back_part(batch),
            Some(Taken::Spool(_)) | None => {}
        }
        self.spill();
        let (uri, now) = (&self.uri, Instant::now());
        if let Some(held_back) = self.trouble.due(now).or(first.then_some(0)) {
            let kept = match &self.spool {
                Some(_) => "spans are kept in the spool",
                None => {
                    "spans are kept in memory; when it is full, the oldest of whoever has most there are dropped"
                }
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
    async fn pause(&mut self, Pause { until, asked }: Pause) -> bool {
        loop {
            let (closing, due, retarget) = {
                let state = self.shared.lock();
                (state.closing, state.building_since.map(|since| since + LINGER), state.retarget.is_some())
            };
            if retarget {
                return true;
            }
            if let Some(end) = closing {
                // With a spool nothing is lost by ending now; without, until the last moment it may come back.
                if self.spool.is_some() || Instant::now() >= end {
                    return false;
                }
                // Never earlier than the back end asked; else soon, for there is little time left.
                let again = if asked { until } else { until.min(Instant::now() + SHORT_PAUSE) };
                if asked && until >= end {
                    return false;
                }
                tokio::time::sleep_until(again.min(end).into()).await;
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
        self.put_parts_back();
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
    u64::try_from(clock::unix().as_millis()).unwrap_or(u64::MAX)
}
