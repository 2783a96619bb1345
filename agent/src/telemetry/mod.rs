//! What the agent says of itself → standard error, repeats held back.
//!
//! *Owns* where logs go (standard error) and how often the same thing is said: a line of one place in the code at most
//! [`MAX_LINES`] times in [`WINDOW`], unless it is a debug line, which somebody asked for. The agent's own metrics are sent by
//! [`export::metrics`](crate::export::metrics).

mod lines;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Lines of one place in the code per [`WINDOW`].
pub const MAX_LINES: u32 = 20;
/// See [`MAX_LINES`].
pub const WINDOW: Duration = Duration::from_secs(10);

static SUPPRESSED: AtomicU64 = AtomicU64::new(0);
static JSON: AtomicBool = AtomicBool::new(false);

/// Log lines held back so far.
pub fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

fn count_suppressed(lines: u64) {
    SUPPRESSED.fetch_add(lines, Ordering::Relaxed);
}

/// Tells the user something that is no log line (`ready:`, the counts at the end): as it is, or as a log line where
/// machines read.
pub fn say(text: &str) {
    if JSON.load(Ordering::Relaxed) {
        text.lines().for_each(|line| tracing::info!("{line}"));
    } else {
        print(text);
    }
}

/// Writes a text as it is.
pub fn print(text: &str) {
    lines::push(format!("{}\n", text.trim_end()).into_bytes());
}

/// Waits until what was said is written, but no longer than `longest`: whoever reads it may have stopped.
pub fn flush(longest: Duration) {
    lines::flush(longest);
}

/// Starts logging to standard error. `filter` is in the form of `RUST_LOG`; without one, `info`.
pub fn init(format: LogFormat, filter: Option<&str>) -> Result<(), String> {
    let wrong = |error| format!("`{}` is not a log filter: {error}", filter.unwrap_or_default());
    let filter = EnvFilter::try_new(filter.unwrap_or("info")).map_err(wrong)?;
    let registry = tracing_subscriber::registry().with(filter).with(Limit::default());
    JSON.store(format == LogFormat::Json, Ordering::Relaxed);
    lines::start();
    // Its own troubles the layer would tell by `eprintln!`, which panics when standard error is closed.
    let layer = tracing_subscriber::fmt::layer().with_writer(lines::ToLines).log_internal_errors(false);
    let result = match format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(layer.with_ansi(colour).with_target(false)).try_init()
        }
        LogFormat::Json => registry.with(layer.json()).try_init(),
    };
    // A second call, in tests, keeps the first one's settings.
    let _ = result;
    Ok(())
}

/// Holds back what one place in the code says too often.
#[derive(Debug, Default)]
struct Limit {
    /// Since when, and how often. There are as many entries as places.
    places: Mutex<HashMap<Identifier, (Option<Instant>, u32)>>,
}

impl Limit {
    fn lets(&self, place: Identifier, now: Instant) -> bool {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, lines) = places.entry(place).or_insert((None, 0));
        if since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            (*since, *lines) = (Some(now), 0);
        }
        *lines = lines.saturating_add(1);
        *lines <= MAX_LINES
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let lets = *metadata.level() > Level::INFO || self.lets(metadata.callsite(), Instant::now());
        count_suppressed(u64::from(!lets));
        lets
    }
}

/// Lets one of many equal messages through per interval, and counts the others.
#[derive(Debug)]
pub struct Seldom {
    interval: Duration,
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    pub fn new(interval: Duration) -> Self {
        Self { interval, last: None, held_back: 0 }
    }

    /// `Some` when it is time to speak: the number of times it was held back since the last time.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_cannot_flood_the_log() {
        use std::sync::Arc;
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(text);
                Ok(text.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let to = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || to.clone());
        let registry = tracing_subscriber::registry().with(Limit::default()).with(layer);
        let before = suppressed();
        tracing::subscriber::with_default(registry, || {
            for _ in 0..1000 {
                tracing::warn!("one");
                tracing::debug!("asked for");
            }
            tracing::warn!("another");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("one").count(), MAX_LINES as usize);
        assert_eq!(text.matches("asked for").count(), 1000);
        assert_eq!(text.matches("another").count(), 1);
        assert!(suppressed() >= before + 980);
    }

    #[test]
    fn held_back_lines_come_again_in_the_next_window() {
        let limit = Limit::default();
        let place = {
            use tracing::Callsite;
            static META: tracing::Metadata<'static> = tracing::Metadata::new(
                "x",
                "x",
                Level::WARN,
                None,
                None,
                None,
                tracing::field::FieldSet::new(&[], Identifier(&SITE)),
                tracing::metadata::Kind::EVENT,
            );
            static SITE: tracing::callsite::DefaultCallsite = tracing::callsite::DefaultCallsite::new(&META);
            SITE.metadata().callsite()
        };
        let start = Instant::now();
        let lets = (0..100).filter(|_| limit.lets(place.clone(), start)).count();
        assert_eq!(lets, MAX_LINES as usize);
        assert!(limit.lets(place, start + WINDOW));
    }

    #[test]
    fn repeats_are_held_back_and_counted() {
        let start = Instant::now();
        let mut seldom = Seldom::new(Duration::from_secs(10));
        assert_eq!(seldom.due(start), Some(0));
        assert_eq!(seldom.due(start + Duration::from_secs(1)), None);
        assert_eq!(seldom.due(start + Duration::from_secs(9)), None);
        assert_eq!(seldom.due(start + Duration::from_secs(10)), Some(2));
    }
}
