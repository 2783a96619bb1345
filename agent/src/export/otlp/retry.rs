//! When a request that failed is sent again.
//!
//! *Spec*: opentelemetry-proto v1.11 `docs/specification.md`, "Failures": exponential back-off with jitter; a time the
//! back end names is kept. Figures like the Collector's exporter helper, with a shorter first wait.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
const FACTOR: f64 = 1.5;

/// The longest time a back end can make us wait.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// Waits between attempts, growing until [`Backoff::reset`].
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next wait; `asked` is what the back end named, `random` is in 0..1.
    pub fn wait(&mut self, asked: Option<Duration>, random: f64) -> Duration {
        let planned = self.next;
        self.next = self.next.mul_f64(FACTOR).min(LONGEST);
        // Half to one and a half times the plan: agents that lost the same back end do not return as one.
        let jittered = planned.mul_f64(0.5 + random.clamp(0.0, 1.0));
        match asked {
            // Never earlier than asked.
            Some(asked) => asked.min(LONGEST_ASKED) + jittered.mul_f64(0.1),
            None => jittered,
        }
    }

    /// After a success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_again() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..12).map(|_| backoff.wait(None, 0.5).as_millis()).collect();
        assert_eq!(waits[..4], [1000, 1500, 2250, 3375]);
        assert_eq!(waits[11], 30_000);
        backoff.reset();
        assert_eq!(backoff.wait(None, 0.0).as_millis(), 500);
    }

    #[test]
    fn waits_as_long_as_asked_but_not_for_ever() {
        let mut backoff = Backoff::default();
        assert!(backoff.wait(Some(Duration::from_secs(7)), 0.0) >= Duration::from_secs(7));
        assert!(backoff.wait(Some(Duration::from_secs(86_400)), 1.0) < Duration::from_secs(310));
    }
}
