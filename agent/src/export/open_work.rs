//! Events of open work → OTLP logs to the same back end as the spans.
//!
//! ```text
//!   OpenWork ─▶ encode::Batcher ─▶ a few requests ─▶ a thread ─▶ otlp::Client ─▶ back end
//! ```
//!
//! They are of this moment and come again while it lasts: nothing is spooled, little waits, and what is lost is counted. A back end
//! that takes no logs is asked once, and told nothing from then on.
//!
//! *Owns* the thread and the counts. *Must not know* what is open.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Host;
use super::exporter::ExportError;
use super::otlp::encode::{Batcher, Pushed, Request};
use super::otlp::target::Signal;
use super::otlp::{Answer, Client, Target};
use crate::config::Otlp;
use crate::telemetry::Seldom;
use spoor_core::pipeline::OpenWork;
use spoor_core::span::Resource;

/// Requests that wait for the one being sent.
const WAITING: usize = 8;
/// Attempts for a request. Whoever was away for longer hears of what lasts with the next ones.
const ATTEMPTS: u32 = 3;
/// How long an attempt waits for the next one, and for how long a back end may ask to wait.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Trouble is told this often at most.
const TELL: Duration = Duration::from_secs(60);

/// Counts of events since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Taken by the back end.
    pub sent: u64,
    /// Too many at once, or larger than a request may be.
    pub too_many: u64,
    /// The back end refused them.
    pub refused: u64,
    /// The back end did not answer, or asked to wait for too long.
    pub away: u64,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    too_many: AtomicU64,
    refused: AtomicU64,
    away: AtomicU64,
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

/// Tells a back end what is open.
#[derive(Debug)]
pub struct Teller {
    batcher: Batcher,
    waiting: mpsc::Sender<Request>,
    counts: Arc<Counts>,
    /// The back end takes no logs, or cannot be asked.
    is_vain: Arc<AtomicBool>,
    /// Who says that it is there, how often, and when it did last.
    agent: Arc<Resource>,
    alive_interval: Duration,
    alive_at: Option<Instant>,
}

impl Teller {
    /// `None` when nobody is to be told, or there is no endpoint. What `before` counted is counted on.
    pub fn start(settings: &Otlp, host: Host, before: Option<&Self>) -> Result<Option<Self>, ExportError> {
        if !settings.open_work {
            return Ok(None);
        }
        let Some(target) = Target::new(settings, Signal::Logs)? else { return Ok(None) };
        let (waiting, requests) = mpsc::channel(WAITING);
        let counts = before.map_or_else(Arc::default, |before| before.counts.clone());
        let is_vain = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Shared { counts: counts.clone(), is_vain: is_vain.clone(), uri: target.uri.to_string() };
        // It ends with the last request after its sender is gone; nobody waits for it.
        std::thread::Builder::new().name("spoor-open".to_owned()).spawn(move || {
            runtime.block_on(async {
                match Client::new(target) {
                    Ok(client) => send_all(client, requests, &shared).await,
                    Err(error) => {
                        shared.is_vain.store(true, Ordering::Relaxed);
                        tracing::error!("cannot tell what is open: {error}");
                    }
                }
            });
        })?;
        let agent =
            Resource { service: "spoor".to_owned(), pid: Some(std::process::id()), ..Resource::default() };
        Ok(Some(Self {
            batcher: Batcher::new(host, settings.max_request_bytes),
            waiting,
            counts,
            is_vain,
            agent: Arc::new(agent),
            alive_interval: settings.alive_interval,
            alive_at: None,
        }))
    }

    /// Nobody can be told.
    pub fn is_vain(&self) -> bool {
        self.is_vain.load(Ordering::Relaxed)
    }

    /// Tells what is so now. Never waits.
    pub fn tell(&mut self, events: &[OpenWork]) {
        for event in events {
            let pushed = self.batcher.push_event(event);
            self.pushed(pushed);
        }
        self.flush();
    }

    /// When it is to be told again that this agent is there.
    pub fn is_alive_due(&self, now: Instant) -> bool {
        self.alive_at.is_none_or(|at| now.duration_since(at) >= self.alive_interval)
    }

    /// Tells that this agent is there, and which services it sees. Never waits.
    pub fn tell_alive(&mut self, services: &BTreeSet<String>, now: Instant) {
        self.alive_at = Some(now);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ns = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let pushed = self.batcher.push_alive(&self.agent, at_ns, self.alive_interval, services);
        self.pushed(pushed);
        self.flush();
    }

    fn pushed(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Kept => {}
            Pushed::Full(request) => self.hand_on(request),
            Pushed::TooLarge => add(&self.counts.too_many, 1),
        }
    }

    fn flush(&mut self) {
        if let Some(request) = self.batcher.take() {
            self.hand_on(request);
        }
    }

    fn hand_on(&self, request: Request) {
        if let Err(error) = self.waiting.try_send(request) {
            let (mpsc::error::TrySendError::Full(request) | mpsc::error::TrySendError::Closed(request)) =
                error;
            add(&self.counts.too_many, u64::from(request.span_count));
        }
    }

    /// The counts as they are now.
    pub fn totals(&self) -> Totals {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { sent, too_many, refused, away } = &*self.counts;
        Totals { sent: of(sent), too_many: of(too_many), refused: of(refused), away: of(away) }
    }
}

/// What the thread has in common with whoever tells.
struct Shared {
    counts: Arc<Counts>,
    is_vain: Arc<AtomicBool>,
    uri: String,
}

async fn send_all(mut client: Client, mut requests: mpsc::Receiver<Request>, shared: &Shared) {
    let Shared { counts, is_vain, uri } = shared;
    let mut trouble = Seldom::new(TELL);
    while let Some(Request { payload, span_count, .. }) = requests.recv().await {
        let events = u64::from(span_count);
        match send(&mut client, payload.into()).await {
            Answer::Taken { rejected, .. } => {
                let rejected = rejected.min(events);
                add(&counts.sent, events - rejected);
                add(&counts.refused, rejected);
            }
            Answer::NoSuchSignal { reason } => {
                is_vain.store(true, Ordering::Relaxed);
                add(&counts.refused, events);
                tracing::info!(
                    "{uri} takes no logs, so it is not told what is open ({reason}); `export.otlp.open_work: false` asks no more"
                );
                requests.close();
                while let Ok(request) = requests.try_recv() {
                    add(&counts.refused, u64::from(request.span_count));
                }
                return;
            }
            Answer::Refused { reason } | Answer::TooLarge { reason } => {
                add(&counts.refused, events);
                if trouble.due(Instant::now()).is_some() {
                    tracing::warn!("{uri} refused events of open work: {reason}");
                }
            }
            Answer::TryAgain { reason, .. } => {
                add(&counts.away, events);
                if trouble.due(Instant::now()).is_some() {
                    tracing::warn!("{uri} was not told what is open: {reason}");
                }
            }
        }
    }
}

/// Sends a request, several times if need be.
async fn send(client: &mut Client, payload: Bytes) -> Answer {
    let mut attempt = 1;
    loop {
        let answer = client.send(payload.clone()).await;
        let Answer::TryAgain { after, .. } = &answer else { return answer };
        let pause = after.unwrap_or(PAUSE * attempt);
        if attempt >= ATTEMPTS || pause > MAX_PAUSE {
            return answer;
        }
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}
