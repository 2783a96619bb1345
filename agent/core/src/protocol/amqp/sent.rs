//! Publishes that no acknowledgement names → their fate: returned, committed, rolled back, lost with the channel, or over at once.
//!
//! *Owns* what such a publish waits for. *Must not know* how publishes in confirm mode are counted: `confirm` does.
//! *Spec*: AMQP 0-9-1, class `tx`, `basic.return`, `channel.close`; RabbitMQ, "Consumer Acknowledgements and Publisher Confirms".

use std::time::Duration;

use super::assembly;
use super::channel::{Awaits, Latest, Sent, Waiting};
use super::session::{AmqpSession, Ending};
use crate::operation::amqp::{ActionKind, PublishOutcome};
use crate::operation::{Completeness, Extent, Operation};
use crate::protocol::{Event, Events};
use crate::record::Sender;
use crate::time::BootTime;

/// A publish that may be returned, on a channel without confirms, is over when nothing came back for so long: four times what
/// RabbitMQ's documentation gives as the most that an answer takes ("a few hundred milliseconds").
pub(super) const RETURN_BOUND: Duration = Duration::from_secs(2);

/// What a finished publish may hold to be remembered, in bytes: the broker closes the channel for the last one, if at all.
const MAX_LATEST: usize = 4096;

impl AmqpSession {
    /// A publish that no acknowledgement will name: it waits for the end of its transaction, or for being returned, or is over.
    pub(super) fn sent(
        &mut self,
        number: u16,
        mut operation: Box<Operation>,
        weight: usize,
        out: &mut Events,
    ) {
        let (since, end) = (operation.request.start.at, operation.request.end.at);
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(ActionKind::Publish(publish)) = assembly::kind_mut(&mut operation) else { return };
        let awaits = match channel.transactions {
            Some(_) => Awaits::End,
            None if publish.mandatory => {
                publish.is_told = true;
                out.push(Event::Sent(operation.clone()));
                Awaits::Return
            }
            None => {
                let publish = (weight <= MAX_LATEST).then(|| Box::new(publish.clone()));
                let latest = publish.map(|publish| Latest { publish, weight, is_last: true });
                let held = latest.as_ref().map_or(0, |latest| latest.weight);
                let former = std::mem::replace(&mut channel.latest, latest);
                let freed = former.map_or(0, |latest| latest.weight);
                self.held_bytes = self.held_bytes.saturating_add(held).saturating_sub(freed);
                return self.release(operation, weight, out);
            }
        };
        self.forget_latest(number);
        let waiting = Waiting { operation: Some(operation), since, weight, answerer: Sender::Server };
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.sent.push_back(Sent { waiting, awaits });
            self.admit(number, end, out);
        }
    }

    /// What was published last on a channel is no longer what it may be closed for.
    pub(super) fn forget_latest(&mut self, number: u16) {
        let latest = self.channels.get_mut(&number).and_then(|channel| channel.latest.take());
        let freed = latest.map_or(0, |latest| latest.weight);
        self.held_bytes = self.held_bytes.saturating_sub(freed);
    }

    /// The answer to `tx.commit` or `tx.rollback`: what was published in the transaction has its outcome.
    pub(super) fn transaction_ends(
        &mut self,
        number: u16,
        outcome: &PublishOutcome,
        extent: Extent,
        out: &mut Events,
    ) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(answer) = channel.end_answered() else { return };
        for mut waiting in channel.take_settled(answer) {
            set_outcome(&mut waiting, outcome);
            self.close(waiting, Ending::answered(extent), out);
        }
    }

    /// The channel is over: what may be returned no longer is, and what was not committed is dropped by the broker.
    pub(super) fn close_sent(
        &mut self,
        number: u16,
        completeness: Completeness,
        at: BootTime,
        out: &mut Events,
    ) {
        while let Some(channel) = self.channels.get_mut(&number)
            && let Some(Sent { mut waiting, awaits }) = channel.sent.pop_front()
        {
            match awaits {
                Awaits::Return => self.close_unreturned(waiting, out),
                Awaits::End if completeness != Completeness::Abandoned => {
                    set_outcome(&mut waiting, &PublishOutcome::RolledBack);
                    self.close(waiting, Ending::unanswered(completeness, at), out);
                }
                Awaits::End | Awaits::Answer(_) | Awaits::Nothing => {
                    set_outcome(&mut waiting, &PublishOutcome::Unknown);
                    self.close(waiting, Ending::unanswered(completeness, at), out);
                }
            }
        }
    }

    /// Nothing came back for a publish: it was over with its last byte, as those are that cannot be returned.
    pub(super) fn close_unreturned(&mut self, waiting: Waiting, out: &mut Events) {
        let at = waiting.operation.as_ref().map_or(waiting.since, |operation| operation.request.end.at);
        self.close(waiting, Ending { completeness: None, response: None, at }, out);
    }

    /// The head of the publishes that may be returned was not. `false`: the head waits for something else.
    pub(super) fn give_up_sent(&mut self, number: u16, out: &mut Events) -> bool {
        let Some(channel) = self.channels.get_mut(&number) else { return false };
        let Some(sent) = channel.sent.pop_front_if(|sent| sent.awaits == Awaits::Return) else {
            return false;
        };
        self.close_unreturned(sent.waiting, out);
        true
    }

    /// Publishes without a number: those of a transaction are lost with it. Of others only the last one is known to be, if the
    /// broker objects to a publish: it takes none after the one it objects to.
    pub(super) fn fail_sent(
        &mut self,
        number: u16,
        error: &(u16, String),
        is_publish: bool,
        extent: Extent,
        out: &mut Events,
    ) {
        let failed = PublishOutcome::Error { code: error.0, text: error.1.clone() };
        while let Some(channel) = self.channels.get_mut(&number)
            && let Some(Sent { mut waiting, awaits }) = channel.sent.pop_front()
        {
            let is_last = channel.sent.is_empty() && channel.latest.is_none();
            match awaits {
                Awaits::Return if is_publish && is_last => {
                    set_outcome(&mut waiting, &failed);
                    self.close(waiting, Ending::answered(extent), out);
                }
                Awaits::Return => self.close_unreturned(waiting, out),
                Awaits::End | Awaits::Answer(_) => {
                    set_outcome(&mut waiting, &failed);
                    self.close(waiting, Ending::answered(extent), out);
                }
                Awaits::Nothing => {
                    set_outcome(&mut waiting, &PublishOutcome::Unknown);
                    self.close(waiting, Ending::unanswered(Completeness::Cut, extent.end.at), out);
                }
            }
        }
    }
}

/// Says what became of a publish.
pub(super) fn set_outcome(waiting: &mut Waiting, outcome: &PublishOutcome) {
    if let Some(ActionKind::Publish(publish)) =
        waiting.operation.as_mut().and_then(|operation| assembly::kind_mut(operation))
    {
        publish.outcome = outcome.clone();
    }
}
