//! Messages that wait in the store → Alertmanager, webhooks, mail, Telegram, Slack and Mattermost.
//!
//! *Owns* everything that leaves the house about alerts: one file a kind of channel, one task a channel. *Must not know* how
//! alerts come to be. Secrets are read from their files when something is sent, so a renewed one needs no restart; tokens go
//! over TLS, or to this machine; no redirect is followed; addresses of this machine and of private networks are told only
//! where the channel allows it. Nobody is waited for longer than 20 seconds.
//!
//! ```text
//! outbox ─ due, claimed ─▶ content: words of the channel's language ─▶ one kind ─▶ sent · again later · given up
//! ```

mod alertmanager;
mod chat;
mod content;
mod email;
mod heartbeat;
mod http;
mod telegram;
mod webhook;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use tokio::sync::watch;

pub use self::content::{Content, house_content, test_content};
use crate::facts::At;
use crate::intake::{chain, now};
use crate::model::Model;
use crate::rules::RuleSet;
use crate::rules::channel::{Channel, Kind};
use crate::store::alerts::{Alerts, Message, Result as Told};
use crate::store::{Store, StoreError};
use crate::time::{DAY, HOUR, SECOND};

/// A channel may take so long for one message.
const PATIENCE: Duration = Duration::from_secs(20);
/// Somebody looks for what is due so often.
const LOOK: Duration = Duration::from_millis(500);
/// Messages of one channel that are claimed at a time.
const AT_ONCE: usize = 10;
/// After an attempt that failed, and twice as long after each further one, up to [`LONGEST_PAUSE`]. Alerts come in bursts, and who
/// restarts is back after some seconds.
const PAUSE: i64 = 5 * SECOND;
const LONGEST_PAUSE: i64 = HOUR;
/// Older messages are given up.
const TOO_OLD: i64 = DAY;
/// After so many attempts one after the other that failed, a channel counts as broken.
const BROKEN_AFTER: u32 = 3;
/// What still fires is told to an Alertmanager so often, which forgets it otherwise.
const REPEAT: Duration = Duration::from_secs(60);
/// Alerts that one Alertmanager is told of again.
const MAX_FIRING: usize = 1_000;
/// Longest secret.
const MAX_SECRET: usize = 4 << 10;
/// Messages of one channel that some of its receivers have, or never will, and others are still to have. Beyond that the
/// oldest is not remembered, and whoever has it may get it twice.
const MAX_HALF_TAKEN: usize = 10_000;

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("cannot read {path}: {source}")]
    Secret { path: String, source: std::io::Error },
    #[error("{path} is longer than {max} bytes")]
    Long { path: String, max: usize },
    #[error("`{0}` is no address")]
    Address(String),
    #[error("{0} is another machine, and without TLS everybody on the way reads what goes there")]
    Plain(String),
    #[error(
        "{0} is an address of this machine or of a private network: the channel needs `allow_private: true`"
    )]
    Private(String),
    #[error("cannot be reached: {0}")]
    Connect(String),
    #[error("did not answer in time")]
    Slow,
    #[error("asks to come again after {0} s")]
    Later(i64),
    #[error("answered {0}")]
    Refused(u16),
    /// The same message will be refused again.
    #[error("refused the message: {0}")]
    Bad(String),
    #[error("the template failed: {0}")]
    Template(String),
    #[error("mail: {0}")]
    Mail(String),
}

impl ChannelError {
    /// Trying again changes nothing.
    fn is_final(&self) -> bool {
        matches!(self, ChannelError::Bad(_) | ChannelError::Template(_))
    }
}

/// What became of messages since the start, by channel.
#[derive(Debug, Default)]
pub struct Counts {
    by_channel: Mutex<BTreeMap<String, Arc<Results>>>,
}

/// Of one channel.
#[derive(Debug, Default)]
pub struct Results {
    pub sent: AtomicU64,
    pub failed: AtomicU64,
    pub dropped: AtomicU64,
}

impl Counts {
    fn of(&self, channel: &str) -> Arc<Results> {
        let mut by_channel = self.by_channel.lock().unwrap_or_else(PoisonError::into_inner);
        by_channel.entry(channel.to_owned()).or_default().clone()
    }

    /// Channel, what became of messages, how many.
    pub fn all(&self) -> Vec<(String, &'static str, u64)> {
        let by_channel = self.by_channel.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(name, of): (&String, &Arc<Results>)| {
            [("sent", &of.sent), ("failed", &of.failed), ("dropped", &of.dropped)]
                .map(|(word, count)| (name.clone(), word, count.load(Ordering::Relaxed)))
        };
        by_channel.iter().flat_map(of).collect()
    }
}

/// A store with alerts.
pub trait House: Store + Alerts {}
impl<T: Store + Alerts> House for T {}

/// What all channels share.
#[derive(Clone, Debug)]
struct Office {
    store: Arc<dyn House>,
    set: Arc<RuleSet>,
    model: Arc<Model>,
    zone: TimeZone,
}

/// Tells what waits, until `stopped`. The tasks end with it; what was claimed comes again.
pub fn start(
    store: Arc<dyn House>,
    set: Arc<RuleSet>,
    model: Arc<Model>,
    zone: TimeZone,
    counts: &Counts,
    stopped: &watch::Receiver<bool>,
) -> Vec<tokio::task::JoinHandle<()>> {
    start_with(store, set, model, zone, counts, stopped, PAUSE)
}

/// The same with another pause after an attempt that failed.
fn start_with(
    store: Arc<dyn House>,
    set: Arc<RuleSet>,
    model: Arc<Model>,
    zone: TimeZone,
    counts: &Counts,
    stopped: &watch::Receiver<bool>,
    pause: i64,
) -> Vec<tokio::task::JoinHandle<()>> {
    let heartbeat = set.heartbeat.clone().map(|heartbeat| {
        let (store, mut stopped) = (store.clone(), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = heartbeat::run(store, heartbeat) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        })
    });
    let office = Office { store, set: set.clone(), model, zone };
    let channels = set.channels.iter().map(|channel| {
        let (office, channel, results) = (office.clone(), channel.clone(), counts.of(&channel.name));
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            let sender = Sender::new(office, channel, results, pause);
            tokio::select! {
                () = sender.run() => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        })
    });
    channels.chain(heartbeat).collect()
}

/// One channel at work.
struct Sender {
    office: Office,
    channel: Channel,
    results: Arc<Results>,
    taken: Taken,
    /// After an attempt that failed.
    pause: i64,
}

impl Sender {
    fn new(office: Office, channel: Channel, results: Arc<Results>, pause: i64) -> Self {
        Self { office, channel, results, taken: Taken::default(), pause }
    }

    async fn run(self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut rate = Rate::new(self.channel.per_minute);
        let mut failures = 0_u32;
        let mut repeated = Instant::now();
        loop {
            look.tick().await;
            if matches!(self.channel.kind, Kind::Alertmanager(_)) && repeated.elapsed() >= REPEAT {
                repeated = Instant::now();
                self.repeat().await;
            }
            let room = rate.room(Instant::now()).min(AT_ONCE);
            if room == 0 {
                continue;
            }
            let name = self.channel.name.clone();
            let due = self.ask(move |store| store.due_messages(&name, now(), room)).await;
            let messages = match due {
                Ok(messages) => messages,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "what is to be told cannot be read");
                    tokio::time::sleep(PATIENCE).await;
                    continue;
                }
            };
            for message in messages {
                rate.used(Instant::now());
                let result = self.send(&message).await;
                self.settle(message, result, &mut failures).await;
            }
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn House) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.office.store.clone();
        tokio::task::spawn_blocking(move || question(&*store)).await.unwrap_or(Err(StoreError::Closed))
    }

    async fn send(&self, message: &Message) -> Result<(), ChannelError> {
        let (office, channel) = (self.office.clone(), self.channel.clone());
        let message = message.clone();
        let content = tokio::task::spawn_blocking(move || {
            house_content(&*office.store, &office.set, &office.model, &office.zone, &channel, &message, now())
        });
        let content = content.await.map_err(|_| ChannelError::Template("it cannot be written".to_owned()))?;
        hand_over(&self.channel, &[content], &self.taken, PATIENCE).await
    }

    /// Tells an Alertmanager again what it was told and what is not over.
    async fn repeat(&self) {
        let (office, channel) = (self.office.clone(), self.channel.clone());
        let contents = self.ask(move |store| {
            let firing = store.still_firing(&channel.name, MAX_FIRING)?;
            let contents = firing.into_iter().map(|alert| {
                let message = Message {
                    id: 0,
                    channel: channel.name.clone(),
                    what: crate::store::alerts::What::Still,
                    attempts: 1,
                    at: now(),
                    alert,
                };
                house_content(store, &office.set, &office.model, &office.zone, &channel, &message, now())
            });
            Ok(contents.collect::<Vec<Content>>())
        });
        match contents.await {
            Ok(contents) if contents.is_empty() => {}
            Ok(contents) => {
                if let Err(error) = deliver(&self.channel, &contents).await {
                    tracing::warn!(channel = self.channel.name, %error, "what still fires was not taken");
                }
            }
            Err(error) => tracing::error!(error = %chain(&error), "what still fires cannot be read"),
        }
    }

    async fn settle(&self, message: Message, result: Result<(), ChannelError>, failures: &mut u32) {
        let at = now();
        let told = match result {
            Ok(()) => {
                self.results.sent.fetch_add(1, Ordering::Relaxed);
                Told::Sent
            }
            Err(error) => self.failed(&message, &error, at),
        };
        if !matches!(told, Told::Again(..)) {
            self.taken.forget(message.id);
        }
        let was_broken = *failures >= BROKEN_AFTER;
        *failures = if told == Told::Sent { 0 } else { failures.saturating_add(1) };
        let is_broken = *failures >= BROKEN_AFTER;
        let name = self.channel.name.clone();
        let written = self.ask(move |store| {
            store.told(&message, &told, at)?;
            if is_broken || was_broken || told == Told::Sent {
                set_broken(store, &name, is_broken, at)?;
            }
            Ok(())
        });
        if let Err(error) = written.await {
            tracing::error!(error = %chain(&error), "what became of a message cannot be written: it may be sent twice");
        }
    }

    fn failed(&self, message: &Message, error: &ChannelError, at: At) -> Told {
        let channel = &self.channel.name;
        let pause =
            self.pause.saturating_mul(1 << message.attempts.saturating_sub(1).min(12)).min(LONGEST_PAUSE);
        let pause = match error {
            ChannelError::Later(seconds) => seconds.saturating_mul(SECOND).clamp(SECOND, LONGEST_PAUSE),
            _ => pause,
        };
        if error.is_final() || at.since(message.at) >= TOO_OLD {
            tracing::error!(channel, %error, "a message is given up");
            self.results.dropped.fetch_add(1, Ordering::Relaxed);
            return Told::Dropped(error.to_string());
        }
        tracing::warn!(channel, %error, "a message was not taken: it waits");
        self.results.failed.fetch_add(1, Ordering::Relaxed);
        Told::Again(at.after(pause), error.to_string())
    }
}

/// The alert that says that a channel does not work.
fn set_broken(store: &dyn House, channel: &str, is_broken: bool, at: At) -> Result<(), StoreError> {
    let rules = store.rules();
    let rule = rules.iter().flat_map(|set| &set.rules).find(|rule| rule.when.name() == "channel_broken");
    match rule {
        Some(rule) => store.own_alert(&rule.id, channel, is_broken, at),
        None => Ok(()),
    }
}

/// Hands contents to a channel, which may take 20 seconds for all of it.
pub async fn deliver(channel: &Channel, contents: &[Content]) -> Result<(), ChannelError> {
    hand_over(channel, contents, &Taken::default(), PATIENCE).await
}

async fn hand_over(
    channel: &Channel,
    contents: &[Content],
    taken: &Taken,
    patience: Duration,
) -> Result<(), ChannelError> {
    let sent = async {
        match &channel.kind {
            Kind::Alertmanager(of) => alertmanager::send(of, channel, contents).await,
            Kind::Webhook(of) => each(contents, |content| webhook::send(of, channel, content)).await,
            Kind::Email(of) => each(contents, |content| email::send(of, channel, content, taken)).await,
            Kind::Telegram(of) => each(contents, |content| telegram::send(of, channel, content)).await,
            Kind::Chat(of) => each(contents, |content| chat::send(of, channel, content)).await,
        }
    };
    tokio::time::timeout(patience, sent).await.unwrap_or(Err(ChannelError::Slow))
}

/// What can be known to fail before anything is sent: a template that names what there is not, an address that is none.
pub fn check(channel: &Channel) -> Result<(), String> {
    for content in content::samples(channel) {
        let made = match &channel.kind {
            Kind::Webhook(of) => webhook::made(of, channel, &content).map(|_| ()),
            Kind::Email(of) => email::check(of, &content),
            Kind::Alertmanager(_) | Kind::Telegram(_) | Kind::Chat(_) => Ok(()),
        };
        made.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Which receivers of a message have it (`true`) or never will, while it is tried again for the others.
#[derive(Debug, Default)]
struct Taken(Mutex<BTreeMap<i64, BTreeMap<String, bool>>>);

impl Taken {
    /// Nothing is left to do for that receiver.
    fn is_done(&self, message: i64, receiver: &str) -> bool {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(&message).is_some_and(|receivers| receivers.contains_key(receiver))
    }

    /// Some receiver has it.
    fn by_some(&self, message: i64) -> bool {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(&message).is_some_and(|receivers| receivers.values().any(|has| *has))
    }

    fn add(&self, message: i64, receiver: &str) {
        self.done(message, receiver, true);
    }

    fn give_up(&self, message: i64, receiver: &str) {
        self.done(message, receiver, false);
    }

    fn done(&self, message: i64, receiver: &str, has: bool) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.entry(message).or_default().insert(receiver.to_owned(), has);
        if taken.len() > MAX_HALF_TAKEN {
            taken.pop_first();
        }
    }

    fn forget(&self, message: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&message);
    }
}

async fn each<'a, F>(contents: &'a [Content], send: impl Fn(&'a Content) -> F) -> Result<(), ChannelError>
where
    F: Future<Output = Result<(), ChannelError>>,
{
    for content in contents {
        send(content).await?;
    }
    Ok(())
}

/// A secret, without the line's end that editors leave.
async fn secret(path: &Path) -> Result<String, ChannelError> {
    Ok(text_of(path, MAX_SECRET).await?.trim().to_owned())
}

/// A whole file of at most so many bytes: half of a secret or of an authority would be another one.
async fn text_of(path: &Path, max: usize) -> Result<String, ChannelError> {
    let name = || path.display().to_string();
    let failed = |source| ChannelError::Secret { path: name(), source };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut text = String::new();
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bounded = tokio::io::AsyncReadExt::take(file, bound);
    tokio::io::AsyncReadExt::read_to_string(&mut bounded, &mut text).await.map_err(failed)?;
    if text.len() > max { Err(ChannelError::Long { path: name(), max }) } else { Ok(text) }
}

/// At most so many messages in any minute.
struct Rate {
    per_minute: usize,
    used: VecDeque<Instant>,
}

impl Rate {
    fn new(per_minute: u32) -> Self {
        Self { per_minute: usize::try_from(per_minute).unwrap_or(usize::MAX), used: VecDeque::new() }
    }

    fn room(&mut self, now: Instant) -> usize {
        while self.used.front().is_some_and(|used| now.duration_since(*used) >= Duration::from_secs(60)) {
            self.used.pop_front();
        }
        self.per_minute.saturating_sub(self.used.len())
    }

    fn used(&mut self, now: Instant) {
        self.used.push_back(now);
    }
}

#[cfg(test)]
mod tests;
