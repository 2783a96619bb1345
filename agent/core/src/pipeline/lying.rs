//! Messages that lie in a queue → who is to be told of which of them, again and again while they do, and when they left.
//!
//! ```text
//!   t0 published · t1 its span left · t30 told: it lies in q, nobody takes from it · t90 told again · t95 delivered: told that it left
//! ```
//!
//! It is told as the publish's span was, so only of a message whose producer is on its broker's node: another agent's span is not
//! known here. Only what belongs to an order is told, and nothing that its span does not show but the queue's name,
//! in which what stands for one thing only is replaced, as in the names of spans; where keys are hashed, not even that.
//!
//! *Owns* when whom to tell. *Must not know* how the queue of a message is known.

use rustc_hash::FxHashMap;

use super::open_work::{AGAIN, LOOKS};
use super::{OpenWork, Pipeline, TellSettings, What};
use crate::bounded::Bounded;
use crate::causality::across::message::Lying;
use crate::privacy;
use crate::record::OpId;
use crate::span::{self, Span, SpanKind, semconv};
use crate::time::BootTime;
use crate::trace::{SpanId, TraceId};

/// Spans of publishes remembered; of earlier ones nothing is told. Some 500 bytes each.
const MAX_PUBLISHES: usize = 4_096;

/// What was published, and what others were told of it.
#[derive(Debug)]
pub(super) struct Lies {
    /// Somebody asks.
    is_asked: bool,
    publishes: Bounded<(TraceId, SpanId), Box<Span>>,
    told: FxHashMap<OpId, (BootTime, Box<Span>)>,
}

impl Default for Lies {
    fn default() -> Self {
        Self { is_asked: false, publishes: Bounded::new(MAX_PUBLISHES), told: FxHashMap::default() }
    }
}

impl Lies {
    /// A span that leaves.
    pub(super) fn leaves(&mut self, span: &Span) {
        let is_of_order = || span.attributes.iter().any(|(name, _)| name == "order.id");
        if self.is_asked && span.sampled && span.kind == SpanKind::Producer && is_of_order() {
            self.publishes.insert((span.trace_id, span.span_id), Box::new(span.outline(is_kept)));
        }
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What an event says of its publish: of which order it is, and where it was sent.
fn is_kept(name: &str) -> bool {
    name.starts_with("order.")
        || name.starts_with("messaging.")
        || matches!(name, "spoor.order.keys" | "server.address" | "server.port")
}

impl Pipeline {
    /// What is to be told now of messages that lie in a queue, and of those that were told of and do not any more.
    pub(super) fn tell_lying(&mut self, settings: TellSettings) -> Vec<OpenWork> {
        self.lies.is_asked = true;
        let mut told = Vec::new();
        let mut gone = self.engine.take_handed();
        let mut lying = Vec::new();
        if !self.engine.is_quiet(self.now, settings.after)
            && let Some(handed_on) = self.engine.being_handed_on(LOOKS)
        {
            let peek =
                |(op, conn)| Some((self.connections.info(conn)?.clone(), self.connections.peek(conn, op)?));
            // One that cannot be looked at may be of any message.
            if let Some(handed_on) = handed_on.into_iter().map(peek).collect::<Option<Vec<_>>>() {
                let taken;
                (lying, taken) = self.engine.lying(self.now, settings.after, &handed_on);
                gone.extend(taken);
            }
        }
        let now = self.clock.wall_at(self.now);
        for op in gone {
            if let Some((_, mut span)) = self.lies.told.remove(&op) {
                span.end = now.max(span.start);
                told.push(OpenWork { what: What::Left, span: *span });
            }
        }
        for lying in lying {
            let before = self.lies.told.get(&lying.op).map(|(at, _)| *at);
            if before.is_some_and(|at| at + AGAIN > self.now)
                || (before.is_none() && self.lies.told.len() >= settings.most)
            {
                continue;
            }
            if let Some(span) = self.lying_span(&lying) {
                self.lies.told.insert(lying.op, (self.now, Box::new(span.clone())));
                told.push(OpenWork { what: What::Waiting, span });
            }
        }
        // Of what is not known any more nothing is said: it is not told again.
        self.lies.told.retain(|_, (at, _)| *at + AGAIN * 2 > self.now);
        told
    }

    /// The publish's span, from when its message lay in the queue until now.
    fn lying_span(&self, lying: &Lying) -> Option<Span> {
        let place = self.identifier.placement(lying.op)?;
        let mut span = Span::clone(self.lies.publishes.get(&(place.trace_id, place.span_id))?);
        span.start = self.clock.wall_at(lying.since);
        span.end = self.clock.wall_at(self.now).max(span.start);
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        // It may have a key in its name, and which ones are not to leave is not known any more.
        if let Some(queue) = lying.queue.as_ref().filter(|_| self.identifier.pseudonyms.is_none()) {
            span.attributes.set(semconv::SPOOR_MESSAGE_QUEUE, span::destination(queue));
        }
        if let Some(consumers) = lying.consumers {
            span.attributes.set(semconv::SPOOR_MESSAGE_CONSUMERS, count(consumers));
        }
        span.attributes.set(semconv::SPOOR_MESSAGE_DEPTH, count(lying.depth));
        privacy::look(&mut span, &|_| false);
        Some(span)
    }
}
