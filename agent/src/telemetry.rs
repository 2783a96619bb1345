//! The agent's own logs: set-up, and repeats held back.
//!
//! *Owns* where logs go (standard error) and how often the same thing is said. The agent's own metrics are sent by
//! [`export::metrics`](crate::export::metrics).

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error. `filter` is in the form of `RUST_LOG`; without one, `info`.
pub fn init(format: LogFormat, filter: Option<&str>) -> Result<(), String> {
    let wrong = |error| format!("`{}` is not a log filter: {error}", filter.unwrap_or_default());
    let filter = EnvFilter::try_new(filter.unwrap_or("info")).map_err(wrong)?;
    let registry = tracing_subscriber::registry().with(filter);
    let stderr = std::io::stderr;
    let result = match format {
        LogFormat::Text => {
            let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let layer =
                tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(colour).with_target(false);
            registry.with(layer).try_init()
        }
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(stderr)).try_init()
        }
    };
    // A second call, in tests, keeps the first one's settings.
    let _ = result;
    Ok(())
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
    fn repeats_are_held_back_and_counted() {
        let start = Instant::now();
        let mut seldom = Seldom::new(Duration::from_secs(10));
        assert_eq!(seldom.due(start), Some(0));
        assert_eq!(seldom.due(start + Duration::from_secs(1)), None);
        assert_eq!(seldom.due(start + Duration::from_secs(9)), None);
        assert_eq!(seldom.due(start + Duration::from_secs(10)), Some(2));
    }
}
