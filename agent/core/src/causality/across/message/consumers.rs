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
const ANSWERED_WITHIN: Duration = Duration::from_millis(250);

/// The last that each connection asked for, bounded.
#[derive(Debug)]
pub(super) struct Consumers {
    asked: Bounded<ConnId, VecDeque<Asked>>,
    /// Since when anything is seen: what is asked later is seen too.
    watched_since: Option<BootTime>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: BootTime,
    /// Until then what comes may be the answer.
    until: BootTime,
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
        self.asked(conn, Asked { at, until: at + ANSWERED_WITHIN });
    }

    /// The connection began to consume, or changed how: the broker had answered at `until`, and looks at its queue then.
    pub(super) fn called(&mut self, conn: ConnId, at: BootTime, until: BootTime) {
        self.asked(conn, Asked { at, until });
    }

    fn asked(&mut self, conn: ConnId, asked: Asked) {
        let slot = self.asked.slot_or_insert_with(conn, VecDeque::new);
        self.asked.touch(slot);
        let Some(all) = self.asked.at_mut(slot) else { return };
        if all.len() >= MAX_ASKED {
            all.pop_front();
        }
        let position = all.partition_point(|earlier| earlier.at <= asked.at);
        all.insert(position, asked);
    }

    /// When the broker had done with the last that this connection asked for before `delivered`. `None`: that is not known.
    pub(super) fn idle_since(&self, conn: ConnId, delivered: BootTime) -> Option<BootTime> {
        let none = VecDeque::new();
        let all = self.asked.get(&conn).unwrap_or(&none);
        let before = all.partition_point(|asked| asked.at < delivered);
        let until = match before.checked_sub(1).and_then(|last| all.get(last)) {
            Some(last) => last.until,
            // It asked for nothing since anything is seen, unless that is forgotten; it may have just before.
            None if all.len() < MAX_ASKED && self.asked.forgotten() == 0 => {
                self.watched_since? + ANSWERED_WITHIN
            }
            None => return None,
        };
        (until < delivered).then_some(until)
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

    fn ms(ms: u64) -> BootTime {
        BootTime::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_consumer_is_idle_since_the_broker_answered_what_it_asked_last() {
        let mut consumers = Consumers::new();
        assert_eq!(consumers.idle_since(CONN, ms(1_000)), None, "nothing was seen yet");
        consumers.watched(ms(50));
        consumers.watched(ms(60));
        assert_eq!(consumers.idle_since(CONN, ms(1_000)), Some(ms(300)), "it has asked for nothing since");
        assert_eq!(consumers.idle_since(CONN, ms(300)), None, "it may have just before");
        consumers.called(CONN, ms(400), ms(401));
        assert_eq!(consumers.idle_since(CONN, ms(1_000)), Some(ms(401)));
        assert_eq!(consumers.idle_since(CONN, ms(400)), Some(ms(300)));
        consumers.settled(CONN, ms(500));
        assert_eq!(consumers.idle_since(CONN, ms(1_000)), Some(ms(750)));
        assert_eq!(consumers.idle_since(CONN, ms(720)), None, "it may be the answer to the settlement");
        // A settlement is known before the delivery it is of: what came after the delivery says nothing about it.
        assert_eq!(consumers.idle_since(CONN, ms(450)), Some(ms(401)));
    }

    #[test]
    fn it_is_bounded_and_what_it_forgot_is_not_known() {
        let mut consumers = Consumers::new();
        consumers.watched(ms(1));
        for n in 0..=MAX_ASKED as u64 {
            consumers.settled(CONN, ms(1_000 * (n + 1)));
        }
        assert_eq!(consumers.idle_since(CONN, ms(1_900)), None, "the first is forgotten");
        assert_eq!(consumers.idle_since(CONN, ms(2_900)), Some(ms(2_250)));
        (0..MAX_CONNECTIONS as u64 + 3).for_each(|n| consumers.settled(ConnId(10 + n), ms(1)));
        assert_eq!(consumers.forgotten(), 4);
    }
}
