//! Acknowledgements → publishes confirmed and deliveries settled.
//!
//! *Owns* which publishes a `basic.ack` from the broker confirms, and which deliveries one from the client settles.
//! *Must not know* how delivery tags are counted: `confirm` does.
//! *Spec*: AMQP 0-9-1, `basic.ack`, `basic.reject`, `basic.recover`; RabbitMQ, "Consumer Acknowledgements and Publisher
//! Confirms".

use super::assembly::kind_mut;
use super::channel::{Tagged, take_tagged};
use super::method::{self, Id};
use super::sent::set_outcome;
use super::session::{AmqpSession, Ending};
use crate::operation::amqp::{ActionKind, PublishOutcome, Settle, Settlement, Source};
use crate::operation::{Completeness, Detail, Extent, OpSide, Operation};
use crate::protocol::{Event, Events};
use crate::record::{OpId, Sender};

impl AmqpSession {
    /// `basic.ack` or `basic.nack` from the broker: publishes are confirmed or refused.
    pub(super) fn confirmed(
        &mut self,
        number: u16,
        id: Id,
        tag: u64,
        multiple: bool,
        extent: Extent,
        out: &mut Events,
    ) {
        let Some(channel) = self.channel(number) else { return };
        if tag != 0 && !channel.confirm.acknowledged(tag, extent.end.at) {
            // The numbering was wrong: what was matched by it waits for nothing that could be recognised.
            self.close_inferred(number, extent, out);
        }
        loop {
            let Some(channel) = self.channels.get_mut(&number) else { return };
            let Some(mut tagged) = take_tagged(&mut channel.publishes, tag, multiple) else { return };
            if self.is_answered_before(&tagged, tag, multiple) {
                let ending = Ending::unanswered(Completeness::Abandoned, extent.end.at);
                self.close(tagged.waiting, ending, out);
                if multiple { continue } else { return }
            }
            if let Some(ActionKind::Publish(publish)) =
                tagged.waiting.operation.as_mut().and_then(|operation| kind_mut(operation))
            {
                publish.outcome = match id {
                    method::NACK => PublishOutcome::Refused,
                    _ => PublishOutcome::Confirmed,
                };
            }
            self.close(tagged.waiting, Ending::answered(extent), out);
            if !multiple {
                return;
            }
        }
    }

    /// Whether an acknowledgement may not be the first answer to a publish: bytes of the broker were lost since, and there
    /// may have been a `basic.return` of it among them, or its own acknowledgement, where this one means several.
    fn is_answered_before(&self, tagged: &Tagged, tag: u64, multiple: bool) -> bool {
        let mandatory = tagged.waiting.operation.as_ref().is_some_and(|operation| is_mandatory(operation));
        (mandatory || (multiple && tagged.tag != tag))
            && self.lost_since(Sender::Server, tagged.waiting.since).is_some()
    }

    fn close_inferred(&mut self, number: u16, extent: Extent, out: &mut Events) {
        loop {
            let Some(channel) = self.channels.get_mut(&number) else { return };
            let Some(at) = channel.publishes.iter().position(|tagged| !tagged.exact) else { return };
            let Some(mut tagged) = channel.publishes.remove(at) else { return };
            set_outcome(&mut tagged.waiting, &PublishOutcome::Unknown);
            self.close(tagged.waiting, Ending::unanswered(Completeness::Abandoned, extent.end.at), out);
        }
    }

    /// `basic.ack`, `basic.nack` or `basic.reject` from the client.
    pub(super) fn settle(&mut self, number: u16, settle: Settle, extent: Extent, out: &mut Events) {
        let Settle { settlement, delivery_tag, multiple, .. } = settle;
        let mut operation = self.operation(OpSide::Outgoing, number, extent, ActionKind::Settle(settle), out);
        out.push(Event::Opened { op: operation.id, shape: operation.shape, point: extent.start });
        out.push(Event::Requested { op: operation.id, point: extent.end });
        let settled = self.settle_deliveries(number, delivery_tag, multiple, settlement, extent, out);
        if let Some(ActionKind::Settle(settle)) = kind_mut(&mut operation) {
            settle.message_count = if multiple { settled.count } else { 1 };
            settle.delivery = settled.last.filter(|_| settled.count == 1);
            settle.source = settled.source;
        }
        // The broker answers nothing: it is over with its last byte.
        operation.response = Some(Extent { start: extent.end, end: extent.end });
        self.release(operation, 0, out);
    }

    /// Closes the deliveries a settlement means.
    pub(super) fn settle_deliveries(
        &mut self,
        number: u16,
        tag: u64,
        multiple: bool,
        settlement: Settlement,
        extent: Extent,
        out: &mut Events,
    ) -> Settled {
        let mut settled = Settled::default();
        let Some(channel) = self.channels.get_mut(&number) else { return settled };
        channel.settles = true;
        let unsure = multiple && channel.unsure_to.is_some();
        if multiple {
            // All there was up to it is settled now.
            channel.unsure_to.take_if(|unsure_to| tag == 0 || *unsure_to <= tag);
        }
        while let Some(channel) = self.channels.get_mut(&number)
            && let Some(mut tagged) = take_tagged(&mut channel.deliveries, tag, multiple)
        {
            let lost = self.lost_since(Sender::Client, tagged.waiting.since).is_some();
            if multiple && tagged.tag != tag && lost {
                // It may have been settled before, by something among the lost bytes.
                let ending = Ending::unanswered(Completeness::Abandoned, extent.end.at);
                self.close(tagged.waiting, ending, out);
                continue;
            }
            settled.last = tagged.waiting.operation.as_ref().map(|operation| operation.id);
            if let Some(ActionKind::Deliver(deliver)) =
                tagged.waiting.operation.as_mut().and_then(|operation| kind_mut(operation))
            {
                deliver.settlement = Some(settlement);
                deliver.settled_at = Some(extent.end.at);
                settled.add(Some(Source::of(deliver)));
            } else {
                settled.add(tagged.got.take().map(|source| *source));
            }
            settled.count = settled.count.saturating_add(1);
            self.close(tagged.waiting, Ending::answered(extent), out);
            if !multiple {
                break;
            }
        }
        if unsure { Settled::default() } else { settled }
    }
}

fn is_mandatory(operation: &Operation) -> bool {
    match &operation.detail {
        Detail::Amqp(action) => matches!(&action.kind, ActionKind::Publish(publish) if publish.mandatory),
        _ => false,
    }
}

/// Deliveries that were settled at once. Nothing of them where lost bytes may have changed which they are.
#[derive(Debug, Default)]
pub(super) struct Settled {
    count: u32,
    last: Option<OpId>,
    /// What they have in common.
    source: Option<Source>,
}

impl Settled {
    fn add(&mut self, source: Option<Source>) {
        self.source = match (self.count, self.source.take(), source) {
            (0, _, source) => source,
            (_, Some(common), Some(source)) => common.common(source),
            _ => None,
        };
    }
}
