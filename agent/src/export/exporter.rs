//! Finished spans in from any thread, batches for the export thread out.
//!
//! *Owns* the handle the agent holds, what it shares with the export thread, and the counts.
//! *Must not know* how a batch is delivered: that is `worker`.
//!
//! Everything discarded is counted by cause. Disk and network never make the thread that offers wait.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;

use super::host::Host;
use super::otlp::encode::{Batcher, Pushed, Request};
use super::otlp::target::{Signal, TargetError};
use super::otlp::{Client, Target};
use super::queue::{Batch, Queue};
use super::spool::{self, Spool, SpoolError};
use super::worker::Worker;
use crate::config::{Export, Otlp};
use spoor_core::span::Span;

/// What the export thread may take beyond its time: to put into the spool what waits, or to see that the disk hangs.
const GRACE: Duration = Duration::from_millis(300);
/// Once the end was asked for, this often it is looked whether the thread is gone.
const STEP: Duration = Duration::from_millis(50);

/// Why the exporter could not start.
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
    /// When the back end last took spans, seconds since the Unix epoch; 0 for never.
    pub last_success_unix: u64,
    pub dropped: Dropped,
}

/// Spans that will never arrive, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// The memory queue was full: the oldest of whoever had most in it.
    pub queue_full: u64,
    /// The spool was full: the oldest.
    pub spool_full: u64,
    /// Too long in the spool.
    pub spool_expired: u64,
    /// The spool's checksums were wrong.
    pub spool_damaged: u64,
    /// Rejected by a back end that took the rest of the request.
    pub rejected: u64,
    /// In a request the back end refused for good, or alone larger than it takes.
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

/// What the handle and the export thread have in common.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something happened that the export thread waits for.
    pub(super) wake: Notify,
    /// There is room again.
    pub(super) room: Condvar,
    /// The export thread has ended.
    over: Condvar,
}

#[derive(Debug)]
pub(super) struct State {
    batcher: Batcher,
    /// When the batch being built got its first span.
    pub(super) building_since: Option<Instant>,
    pub(super) queue: Queue,
    /// The end, and until when it may take.
    pub(super) closing: Option<Instant>,
    /// The export thread has ended.
    ended: bool,
    /// Spans taken from the queue and not settled yet.
    pub(super) in_flight: u64,
    pub(super) totals: Totals,
    /// Where and how to send from now on.
    pub(super) retarget: Option<Box<Retarget>>,
}

/// Another way to the back end, or to another one.
#[derive(Debug)]
pub(super) struct Retarget {
    pub(super) settings: Otlp,
    pub(super) target: Target,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and queues stay consistent also when a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(&mut self, request: Request) {
        let Request { payload, span_count, shares } = request;
        let batch = Batch { payload: payload.into(), span_count, shares: shares.into() };
        self.totals.dropped.queue_full += self.queue.push_back(batch);
    }

    /// Makes no larger requests from now on than the back end has taken, but for spans that are larger alone.
    pub(super) fn lower_aim(&mut self, bytes: usize) {
        self.batcher.lower_aim(bytes);
    }

    /// Closes the batch being built, whatever it holds.
    pub(super) fn flush(&mut self) {
        self.building_since = None;
        if let Some(request) = self.batcher.take() {
            self.enqueue(request);
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
            ended: false,
            in_flight: 0,
            totals: Totals { recovered, spooled: recovered, ..Totals::default() },
            retarget: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Notify::new(),
            room: Condvar::new(),
            over: Condvar::new(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = Worker::new(shared.clone(), spool, target.uri.to_string(), settings.otlp.clone());
        let ends = Ends(shared.clone());
        let thread = std::thread::Builder::new().name("spoor-export".to_owned()).spawn(move || {
            let _ends = ends;
            runtime.block_on(async {
                match Client::new(target) {
                    Ok(client) => worker.run(client).await,
                    Err(error) => tracing::error!("cannot export: {error}"),
                }
            });
        })?;
        Ok(Some(Self { shared, thread: Some(thread) }))
    }

    /// Adds a finished span. Never waits: with a full queue the oldest spans of whoever has most in it are dropped and counted.
    pub fn offer(&self, span: &Span) {
        let mut state = self.shared.lock();
        state.totals.offered += 1;
        match state.batcher.push(span) {
            Pushed::Kept => {}
            Pushed::Full(request) => {
                state.enqueue(request);
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

    /// Sends to another endpoint, or in another way, from the next request on. What waits is kept. Changes nothing when
    /// the settings cannot be used, or name no endpoint.
    pub fn retarget(&self, settings: &Otlp, host: &Host) -> Result<(), ExportError> {
        if let Some(target) = Target::new(settings, Signal::Traces)? {
            let mut state = self.shared.lock();
            // A resource of the old host may not be mixed with the new one's.
            state.flush();
            state.batcher = Batcher::new(host.clone(), settings.max_request_bytes);
            state.retarget = Some(Box::new(Retarget { settings: settings.clone(), target }));
            drop(state);
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// The export thread has ended: nothing becomes of what waits any more.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().ended
    }

    /// The counts as they are now.
    pub fn totals(&self) -> Totals {
        self.shared.lock().totals()
    }

    /// Ends the exporter from elsewhere, when whoever holds it cannot.
    pub fn closer(&self) -> Closer {
        Closer { shared: self.shared.clone() }
    }

    /// Delivers what waits, for at most `longest`; the rest goes to the spool, or is dropped and counted without one. A disk that
    /// does not answer is not waited for either: then what it should have taken counts as lost.
    pub fn shutdown(mut self, longest: Duration) -> Totals {
        let ended = self.closer().close(longest);
        match self.thread.take() {
            Some(thread) if ended => {
                if thread.join().is_err() {
                    tracing::error!("the export thread panicked");
                }
            }
            _ => tracing::error!("the export thread does not end: the disk of the spool may not answer"),
        }
        // A thread that came to its end in order has left nothing.
        let mut totals = self.totals();
        totals.dropped.shutdown += std::mem::take(&mut totals.waiting);
        totals
    }
}

/// Ends an exporter, and waits for its end.
#[derive(Debug)]
pub struct Closer {
    shared: Arc<Shared>,
}

impl Closer {
    /// From now on the exporter takes `longest` at most; whether it has ended.
    pub fn close(&self, longest: Duration) -> bool {
        let end = Instant::now() + longest;
        {
            let mut state = self.shared.lock();
            state.closing = Some(state.closing.map_or(end, |earlier| earlier.min(end)));
        }
        self.shared.wake.notify_one();
        let mut state = self.shared.lock();
        while !state.ended && Instant::now() < end + GRACE {
            state = match self.shared.over.wait_timeout(state, STEP) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        state.ended
    }
}

/// The export thread has ended, however.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.over.notify_all();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // Without `shutdown` (an error on the way): end soon.
        self.shared.lock().closing.get_or_insert_with(Instant::now);
        self.shared.wake.notify_one();
    }
}
