//! The session's state ⇄ what the next agent's session cannot see again.
//!
//! *Owns* what of a connection is worth keeping, and what is certain enough. *Must not know* files, other connections.
//!
//! | kept | unbroken | after bytes nobody saw |
//! |---|---|---|
//! | virtual host, largest frame, consumers with their queues | yes | yes, as over lost frames |
//! | the last queue that was declared, methods not answered, deliveries not settled | yes | no |
//! | numbers of publishes | yes | as a lower bound |
//! | messages in the making, publishes that are not confirmed | no | no |
//!
//! A consumer can be cancelled and a channel opened again in what nobody saw. Delivery tags only rise on a channel: one that
//! does not tells that the channel is another one, and what was known of it is forgotten.

use super::{Asked as LearnedAsked, Channel as LearnedChannel, Consumer, Learned, Unsettled};
use crate::operation::amqp::{ActionKind, Source};
use crate::operation::{Completeness, Detail, Extent};
use crate::protocol::Events;
use crate::protocol::amqp::channel::{Asked, Channel, MAX_INFERRED, Tagged, Terms, Waiting};
use crate::protocol::amqp::confirm::Confirm;
use crate::protocol::amqp::frame::{LARGEST_FRAME, SMALLEST_FRAME_MAX};
use crate::protocol::amqp::method::{self, Part};
use crate::protocol::amqp::session::{AmqpSession, MAX_CHANNELS, MAX_CONSUMERS};
use crate::record::Sender;
use crate::time::BootTime;

/// Bound of names: the length of a short string is an octet.
const MAX_NAME_BYTES: usize = 255;
/// Methods of one channel that wait for an answer: clients wait for each.
const MAX_ASKED: usize = 64;

impl AmqpSession {
    pub(in crate::protocol::amqp) fn learned(&self) -> Learned {
        let between_frames = [&self.client, &self.server]
            .iter()
            .all(|half| half.decoder.is_between_frames() && half.suspended.is_none());
        let between_messages = self
            .channels
            .values()
            .all(|channel| channel.from_client.is_none() && channel.from_server.is_none());
        // One that is being closed is over for whoever comes next.
        let channels = self.channels.iter().filter(|(_, channel)| channel.closing.is_none());
        Learned {
            at_rest: between_frames && between_messages,
            vhost: self.vhost.clone(),
            frame_max: self.frame_max,
            channels: channels.map(|(number, channel)| channel.learned(*number)).collect(),
        }
    }

    pub(in crate::protocol::amqp) fn resume(&mut self, learned: &Learned, unbroken: bool, at: BootTime) {
        self.vhost = learned.vhost.as_deref().map(short);
        self.frame_max = learned.frame_max.map(|max| max.clamp(SMALLEST_FRAME_MAX, LARGEST_FRAME));
        if unbroken {
            self.client.decoder.start();
            self.server.decoder.start();
        }
        for one in learned.channels.iter().take(MAX_CHANNELS) {
            if self.channels.contains_key(&one.number) {
                continue;
            }
            let mut channel = Channel::resumed(one, MAX_CONSUMERS.saturating_sub(self.consumer_count));
            if unbroken {
                channel.await_answers(one, self.max_open.saturating_sub(self.open_count), at);
            } else {
                channel.go_on_unseen();
            }
            self.consumer_count = self.consumer_count.saturating_add(channel.consumers.len());
            self.open_count =
                self.open_count.saturating_add(channel.deliveries.len()).saturating_add(channel.asked.len());
            self.channels.insert(one.number, channel);
        }
    }

    /// A delivery tag went by: it may show that what is known of the channel is that of another one.
    pub(in crate::protocol::amqp) fn seen_tag(
        &mut self,
        number: u16,
        tag: u64,
        extent: Extent,
        out: &mut Events,
    ) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        if channel.known_to.take().is_some_and(|known_to| tag <= known_to) {
            self.drop_channel(number, Completeness::Abandoned, extent.start, out);
        }
        if let Some(channel) = self.channel(number) {
            channel.last_tag = channel.last_tag.max(tag);
        }
    }
}

impl Channel {
    fn learned(&self, number: u16) -> LearnedChannel {
        let consumers = self.consumers.iter().map(|(tag, terms)| Consumer {
            tag: tag.clone(),
            queue: terms.queue.clone(),
            no_ack: terms.no_ack,
        });
        let asked = self.asked.iter().map(|asked| LearnedAsked {
            class: asked.id.0,
            method: asked.id.1,
            by_server: asked.from == Sender::Server,
            name: asked.name.clone(),
            queue: asked.terms.as_ref().map(|terms| terms.queue.clone()),
            no_ack: asked.terms.as_ref().is_some_and(|terms| terms.no_ack),
        });
        let inferred = self.inferred.iter().map(|(tag, queue)| (tag.clone(), queue.clone()));
        LearnedChannel {
            number,
            confirm: self.confirm.learned(),
            consumers: consumers.collect(),
            asked: asked.collect(),
            inferred: inferred.collect(),
            last_queue: self.last_queue.clone(),
            settles: self.settles,
            transactional: self.transactions.is_some(),
            unsure_to: self.unsure_to,
            last_tag: self.last_tag,
            unsettled: self.deliveries.iter().map(unsettled).collect(),
        }
    }

    fn resumed(learned: &LearnedChannel, consumers: usize) -> Self {
        let mut channel = Self::new(false);
        channel.confirm = Confirm::resumed(learned.confirm);
        for consumer in learned.consumers.iter().take(consumers) {
            let terms = Terms { queue: short(&consumer.queue), no_ack: consumer.no_ack };
            channel.consumers.insert(short(&consumer.tag), terms);
        }
        for (tag, queue) in learned.inferred.iter().take(MAX_INFERRED) {
            channel.inferred.insert(short(tag), queue.as_deref().map(short));
        }
        channel.last_queue = short(&learned.last_queue);
        channel.settles = learned.settles;
        channel.transactions = learned.transactional.then(Default::default);
        channel.unsure_to = learned.unsure_to;
        channel.last_tag = learned.last_tag;
        channel
    }

    /// What was asked for is still to be answered, and what was delivered to be settled; at most `room` of it is remembered.
    fn await_answers(&mut self, learned: &LearnedChannel, room: usize, at: BootTime) {
        let asked = learned.asked.iter().take(MAX_ASKED.min(room)).filter_map(|one| asked(one, at));
        self.asked.extend(asked);
        let room = room.saturating_sub(self.asked.len());
        for one in learned.unsettled.iter().take(room) {
            if self.deliveries.back().is_none_or(|last| last.tag < one.tag) {
                self.deliveries.push_back(tagged(one, at));
            }
        }
        if learned.unsettled.len() > room {
            self.unsure_to = self.unsure_to.max(Some(self.last_tag));
        }
    }

    /// Nobody saw what was said since.
    fn go_on_unseen(&mut self) {
        self.lost(Sender::Client);
        self.lost(Sender::Server);
        self.known_to = Some(self.last_tag);
        // A new channel confirms nothing until it is asked to, and this may be one.
        if self.confirm == Confirm::Off {
            self.confirm = Confirm::JOINED;
        }
    }
}

fn unsettled(tagged: &Tagged) -> Unsettled {
    let deliver = tagged.waiting.operation.as_ref().and_then(|operation| match &operation.detail {
        Detail::Amqp(action) => match &action.kind {
            ActionKind::Deliver(deliver) => Some(Source::of(deliver)),
            _ => None,
        },
        _ => None,
    });
    let source = deliver.or_else(|| tagged.got.as_deref().cloned());
    let source =
        source.unwrap_or(Source { exchange: String::new(), routing_key: String::new(), queue: None });
    Unsettled {
        tag: tagged.tag,
        exchange: source.exchange,
        routing_key: source.routing_key,
        queue: source.queue.unwrap_or_default(),
    }
}

/// Its operation was closed by the agent that saw it; what its answer means still counts.
fn asked(learned: &LearnedAsked, at: BootTime) -> Option<Asked> {
    let id = (learned.class, learned.method);
    let Part::Request(answers) = method::lookup(id)?.part else { return None };
    let (from, answerer) = match learned.by_server {
        false => (Sender::Client, Sender::Server),
        true => (Sender::Server, Sender::Client),
    };
    let terms = learned.queue.as_deref().map(|queue| Terms { queue: short(queue), no_ack: learned.no_ack });
    let waiting = Waiting { operation: None, since: at, weight: 0, answerer };
    Some(Asked { id, from, answers, name: short(&learned.name), terms, waiting })
}

/// Its operation was closed by the agent that saw it; that it is unsettled still counts.
fn tagged(learned: &Unsettled, at: BootTime) -> Tagged {
    let source = Source {
        exchange: short(&learned.exchange),
        routing_key: short(&learned.routing_key),
        queue: Some(short(&learned.queue)).filter(|queue| !queue.is_empty()),
    };
    // The default exchange has no name, but then there is a routing key.
    let is_known = source.queue.is_some() || !source.routing_key.is_empty() || !source.exchange.is_empty();
    Tagged {
        tag: learned.tag,
        exact: true,
        waiting: Waiting { operation: None, since: at, weight: 0, answerer: Sender::Client },
        got: is_known.then(|| Box::new(source)),
    }
}

fn short(name: &str) -> String {
    name.get(..name.floor_char_boundary(MAX_NAME_BYTES)).unwrap_or_default().to_owned()
}
