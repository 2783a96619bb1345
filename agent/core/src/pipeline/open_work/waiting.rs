//! Publishes whose message may lie in a queue → who is to be told of those that do, again and again while they do.
//!
//! ```text
//!   t0 published, its span built · t30 nobody was handed it: told · t90 told again · t100 handed over: nothing more is told
//! ```
//!
//! Told with the identifiers of the publish: who is told finds by them that it was taken after all.
//!
//! *Owns* the spans of such publishes until they are told, bounded, and when. *Must not know* who has which message
//! ([`crate::causality::across::lying`]).

use super::{AGAIN, OpenWork, TellSettings, What};
use crate::bounded::Bounded;
use crate::causality::across::lying::Whereabouts;
use crate::pipeline::Pipeline;
use crate::record::{OpId, Tgid};
use crate::span::{Span, semconv};
use crate::time::BootTime;
use crate::trees::identify::Placing;

/// Publishes remembered, those published longest ago are forgotten first: a span of few attributes takes about a kilobyte.
const MAX_WAITING: usize = 4096;

/// A publish of an order.
#[derive(Debug)]
struct Published {
    /// With what is said of the message, and nothing else.
    span: Span,
    broker: Tgid,
    queue: Option<String>,
    look_at: BootTime,
}

/// Publishes whose message may lie in a queue.
#[derive(Debug)]
pub(in crate::pipeline) struct Waiting(Bounded<OpId, Published>);

impl Default for Waiting {
    fn default() -> Self {
        Self(Bounded::new(MAX_WAITING))
    }
}

impl Waiting {
    pub(in crate::pipeline) fn forgotten(&self) -> u64 {
        self.0.forgotten()
    }
}

/// What is said of a message that lies in a queue: whose it is, and where.
fn is_said(name: &str) -> bool {
    const SAID: [&str; 4] = ["order.", "spoor.order.", "messaging.", semconv::SPOOR_MESSAGE_QUEUE];
    SAID.iter().any(|said| name.starts_with(said))
}

impl Pipeline {
    /// The next span of a tree is about to be built: that of a publish is kept if its message may lie in a queue.
    pub(in crate::pipeline) fn note_publish(&mut self) {
        let Some(next) = self.placing.as_ref().and_then(Placing::next_read_by_broker) else { return };
        let (op, broker) = (next.operation.id, next.conn.conn.thread.tgid);
        let Some(queue) = self.engine.queue_of(op) else { return };
        let queue = queue.map(str::to_owned);
        let span =
            self.placing.as_ref().and_then(|placing| self.identifier.waiting(placing, queue.as_deref()));
        let Some(mut span) = span else { return };
        span.attributes.retain(is_said);
        self.waiting.0.insert(op, Published { span, broker, queue, look_at: BootTime::ZERO });
    }

    /// Messages that have lain in a queue for long enough, and were not told of too lately.
    pub(super) fn tell_waiting(&mut self, settings: TellSettings, told: &mut Vec<OpenWork>) {
        let now = self.now;
        let mut gone = Vec::new();
        let mut most = settings.most;
        let ops: Vec<OpId> = self.waiting.0.iter().map(|(op, _)| *op).collect();
        for op in ops {
            let since = match self.engine.whereabouts(op, now) {
                Whereabouts::Lies(since) => since,
                Whereabouts::Unsaid => continue,
                Whereabouts::Gone => {
                    gone.push(op);
                    continue;
                }
            };
            if since + settings.after > now {
                continue;
            }
            if most == 0 {
                self.ledger.untold += 1;
                continue;
            }
            most -= 1;
            let Some(published) = self.waiting.0.get_mut(&op).filter(|published| published.look_at <= now)
            else {
                continue;
            };
            published.look_at = now + AGAIN;
            let mut span = published.span.clone();
            if let Some(queue) = &published.queue {
                let consumers = self.connections.consumers(published.broker, queue);
                let consumers = i64::try_from(consumers).unwrap_or(i64::MAX);
                span.attributes.set(semconv::SPOOR_MESSAGE_CONSUMERS, consumers);
            }
            span.start = self.clock.wall_at(since);
            span.end = self.clock.wall_at(now).max(span.start);
            told.push(OpenWork { what: What::Waiting, span });
        }
        for op in gone {
            self.waiting.0.remove(&op);
        }
    }
}
