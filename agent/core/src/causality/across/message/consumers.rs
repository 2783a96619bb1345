//! What a connection asks of the broker → since when a consumer on it had asked for nothing.
//!
//! A broker hands on what waits in a queue as soon as a consumer has room for it. So a delivery that nobody had asked for just before
//! is of a message that just came: whatever had waited in that queue had left it.
//!
//! *Owns* the times of what consumers ask. *Must not know* messages.
//! *Spec*: RabbitMQ, "Consumer Acknowledgements and Publisher Confirms" (prefetch), AMQP 0-9-1 section 1.8.3 (`basic`).

use std::collections::VecDeque;
use std::time::Duration;

use crate::bounded::Bounded;
use crate::record::ConnId;
use crate::time::BootTime;

/// Connections remembered; those that asked for nothing for longest are forgotten first.
const MAX_CONNECTIONS: usize = 16_384;
/// What one connection asked last: as much as may come between a delivery and its settlement with an ordinary prefetch.
const MAX_ASKED: usize = 64;
/// A broker answers a settlement with the next message within this time, if it has one.
///
/// It must exceed the wait of a broker's process for a processor on a busy machine: with 20 processes waiting for two processors, messages
/// came more than 50 ms after the settlement that made room for them (accuracy services of Java and Python, 30 November 2026).
pub(super) const ANSWERED_WITHIN: Duration = Duration::from_millis(250);

/// The last that each connection asked for, bounded.
#[derive(Debug)]
pub(super) struct Consumers {
    asked: Bounded<ConnId, Requests>,
    /// Since when anything is seen: what is asked later is seen too.
    watched_since: Option<BootTime>,
}

/// What one connection asked for, in order of time.
#[derive(Debug, Default)]
struct Requests {
    last: VecDeque<Asked>,
    /// The latest of what was asked before these. `None`: nothing was.
    before: Option<Idle>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: BootTime,
    /// When the broker has done with it: until then what comes may be the answer.
    done: Idle,
}

/// Since when a consumer had asked for nothing. Of two at the same time the estimated one is greater: it says less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Idle {
    pub(super) since: BootTime,
    /// By how long a broker takes at most; else it said so itself.
    pub(super) is_estimated: bool,
}

impl Idle {
    fn estimated(asked: BootTime) -> Self {
        Self { since: asked + ANSWERED_WITHIN, is_estimated: true }
    }
}

impl Consumers {
    pub(super) fn new() -> Self {
        Self { asked: Bounded::new(MAX_CONNECTIONS), watched_since: None }
    }

    /// Something was seen.
    pub(super) fn watched(&mut self, at: BootTime) {
        self.watched_since.get_or_insert(at);
    }

    /// Since when anything is seen.
    pub(super) fn watched_since(&self) -> Option<BootTime> {
        self.watched_since
    }

    /// The connection settled a message: there is room for another.
    pub(super) fn settled(&mut self, conn: ConnId, at: BootTime) {
        self.asked(conn, at, at);
    }

    /// The connection began to consume, or changed how. Until then what comes may be what had waited: until the broker's answer,
    /// which it gives when the consumer is in its queue.
    pub(super) fn called(&mut self, conn: ConnId, at: BootTime, answered: BootTime) {
        self.enter(conn, Asked { at, done: Idle { since: answered, is_estimated: false } });
    }

    /// The same without an answer: the call was over at `ended`.
    pub(super) fn asked(&mut self, conn: ConnId, at: BootTime, ended: BootTime) {
        self.enter(conn, Asked { at, done: Idle::estimated(ended) });
    }

    fn enter(&mut self, conn: ConnId, asked: Asked) {
        let slot = self.asked.slot_or_insert_with(conn, Requests::default);
        self.asked.touch(slot);
        let Some(Requests { last, before }) = self.asked.at_mut(slot) else { return };
        let position = last.partition_point(|earlier| earlier.at <= asked.at);
        last.insert(position, asked);
        if last.len() > MAX_ASKED
            && let Some(first) = last.pop_front()
        {
            *before = (*before).max(Some(first.done));
        }
    }

    /// When the broker had done with all that this connection asked for before `delivered`: what was asked first may be answered last.
    /// `None`: that is not known.
    pub(super) fn idle_since(&self, conn: ConnId, delivered: BootTime) -> Option<Idle> {
        let requests = self.asked.get(&conn);
        let asked = requests.into_iter().flat_map(|requests| &requests.last);
        let last = asked.take_while(|asked| asked.at < delivered).map(|asked| asked.done).max();
        let idle = match (last, requests.and_then(|requests| requests.before)) {
            // Of what is forgotten it is not known whether it was before.
            (Some(last), before) => before.map_or(last, |before| before.max(last)),
            // It asked for nothing since anything is seen, unless that is forgotten; it may have just before.
            (None, None) if self.asked.forgotten() == 0 => Idle::estimated(self.watched_since?),
            (None, _) => return None,
        };
        (idle.since < delivered).then_some(idle)
    }

    /// Connections that were forgotten at the bound.
    pub(super) fn forgotten(&self) -> u64 {
        self.asked.forgotten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId(1);

    impl Consumers {
        fn idle(&self, conn: ConnId, delivered: BootTime) -> Option<BootTime> {
            self.idle_since(conn, delivered).map(|idle| idle.since)
        }
    }

    fn ms(ms: u64) -> BootTime {
        BootTime::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_consumer_is_idle_since_the_broker_answered_what_it_asked_last() {
        let mut consumers = Consumers::new();
        assert_eq!(consumers.idle(CONN, ms(1_000)), None, "nothing was seen yet");
        consumers.watched(ms(50));
        consumers.watched(ms(60));
        assert_eq!(consumers.idle(CONN, ms(1_000)), Some(ms(300)), "it has asked for nothing since");
        assert_eq!(consumers.idle(CONN, ms(300)), None, "it may have just before");
        consumers.called(CONN, ms(400), ms(401));
        assert_eq!(consumers.idle(CONN, ms(1_000)), Some(ms(401)));
        assert_eq!(consumers.idle(CONN, ms(401)), None, "the broker had not answered yet");
        assert_eq!(consumers.idle(CONN, ms(400)), Some(ms(300)));
        consumers.asked(CONN, ms(402), ms(403));
        assert_eq!(
            consumers.idle(CONN, ms(1_000)),
            Some(ms(653)),
            "nobody says when the broker had done with it"
        );
        consumers.settled(CONN, ms(700));
        assert_eq!(consumers.idle(CONN, ms(1_000)), Some(ms(950)));
        assert_eq!(consumers.idle(CONN, ms(920)), None, "it may be the answer to the settlement");
        // A settlement is known before the delivery it is of: what came after the delivery says nothing about it.
        assert_eq!(consumers.idle(CONN, ms(690)), Some(ms(653)));
    }

    #[test]
    fn what_was_asked_first_may_be_answered_last() {
        let mut consumers = Consumers::new();
        consumers.watched(ms(1));
        consumers.called(CONN, ms(1_000), ms(5_000));
        consumers.settled(CONN, ms(1_100));
        assert_eq!(consumers.idle(CONN, ms(2_000)), None, "its subscription is not answered yet");
        assert_eq!(consumers.idle(CONN, ms(6_000)), Some(ms(5_000)));
        // Also where it is long ago.
        (0..2 * MAX_ASKED as u64).for_each(|n| consumers.settled(CONN, ms(1_200 + n)));
        assert_eq!(consumers.idle(CONN, ms(4_000)), None);
        assert_eq!(consumers.idle(CONN, ms(6_000)), Some(ms(5_000)));
    }

    #[test]
    fn it_is_bounded_and_what_it_forgot_is_not_known() {
        let mut consumers = Consumers::new();
        consumers.watched(ms(1));
        for n in 0..=MAX_ASKED as u64 {
            consumers.settled(CONN, ms(1_000 * (n + 1)));
        }
        assert_eq!(consumers.idle(CONN, ms(1_900)), None, "the first is forgotten");
        assert_eq!(consumers.idle(CONN, ms(2_900)), Some(ms(2_250)));
        (0..MAX_CONNECTIONS as u64 + 3).for_each(|n| consumers.settled(ConnId(10 + n), ms(1)));
        assert_eq!(consumers.forgotten(), 4);
    }
}
