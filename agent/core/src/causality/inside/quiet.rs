//! When a process was asked and when it worked → whether it works unasked, and for how long after its answers.
//!
//! *Owns* both measures of one process. *Must not know* operations, rules.

use std::time::Duration;

use super::thresholds::{AFTER, AFTER_LEAST, AFTER_MARGIN, ENOUGH_AFTER, QUIET};
use crate::time::BootTime;

/// How long after their answers requests were still worked on, as far as keys have shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aftermath {
    longest: Duration,
    count: u32,
}

impl Aftermath {
    /// A request was worked on that long after its answer.
    pub(super) fn count(&mut self, after: Duration) {
        self.longest = self.longest.max(after);
        self.count = self.count.saturating_add(1);
    }

    /// Nothing is expected of a request this long after its answer.
    pub(super) fn bound(self) -> Duration {
        match self.count {
            0..ENOUGH_AFTER => AFTER,
            _ => self.longest.saturating_mul(AFTER_MARGIN).clamp(AFTER_LEAST, AFTER),
        }
    }
}

/// How long a process has had nothing to do and has done nothing. A process that works by a timer of its own does not stay so for
/// long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quiet {
    /// When the last request was over, while none is in flight.
    idle_since: Option<BootTime>,
    /// Time without a request in flight in which nothing was begun.
    total: Duration,
    /// When an operation began last.
    worked_at: BootTime,
    /// A request became known later than something that began after the request: when the latest such thing began.
    late_arrival_at: Option<BootTime>,
}

impl Quiet {
    /// The last request in flight is over.
    pub(super) fn rests(&mut self, at: BootTime) {
        self.idle_since = Some(at);
    }

    /// A request comes in.
    pub(super) fn request_came(&mut self, at: BootTime) {
        if at < self.worked_at {
            self.late_arrival_at = self.late_arrival_at.max(Some(self.worked_at));
        }
        if let Some(since) = self.idle_since.take() {
            let from = (since + AFTER).max(self.worked_at);
            self.total = self.total.saturating_add(at.since(from));
        }
    }

    /// The process begins an operation; `idle`: no request is in flight.
    pub(super) fn works(&mut self, at: BootTime, idle: bool) {
        self.worked_at = self.worked_at.max(at);
        let is_unasked = idle && self.idle_since.is_none_or(|since| at.since(since) > AFTER);
        if is_unasked {
            self.total = Duration::ZERO;
        }
    }

    /// The process does nothing unasked, and all that was asked of it by `at` is known. Quiet that was seen for a minute is
    /// believed for a minute: since `asked_at`, the process has had something to do.
    pub(super) fn holds(&self, asked_at: BootTime, at: BootTime) -> bool {
        self.total >= QUIET && at.since(asked_at) <= self.total && !self.had_late_arrival_since(at)
    }

    /// A request became known late, after something that began at `at` or later: others may still be to come.
    pub(super) fn had_late_arrival_since(&self, at: BootTime) -> bool {
        self.late_arrival_at.is_some_and(|arrival| arrival >= at)
    }
}
