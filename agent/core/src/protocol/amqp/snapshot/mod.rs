//! A session's state ⇄ plain values for the session of the next agent.
//!
//! *Owns* these values, and what of them may be written down. How they are taken and taken over is in `resume`. *Must not
//! know* files, other connections.

mod resume;

use serde::{Deserialize, Serialize};

use crate::privacy::is_telling;
use crate::protocol::snapshot::{Counts, Discretion, LearnedState};

/// What a session has learned of its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// Both directions stand between two frames, and between two messages.
    pub at_rest: bool,
    pub vhost: Option<String>,
    pub frame_max: Option<u32>,
    pub channels: Vec<Channel>,
}

/// One channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Channel {
    pub number: u16,
    pub confirm: Confirm,
    pub consumers: Vec<Consumer>,
    /// Methods that are not answered yet, in their order.
    pub asked: Vec<Asked>,
    /// Queues that were inferred, by consumer tag. `None`: what was seen contradicts itself.
    pub inferred: Vec<(String, Option<String>)>,
    pub last_queue: String,
    /// The client settles deliveries here.
    pub settles: bool,
    /// Publishes belong to transactions here.
    pub transactional: bool,
    /// Which deliveries up to this tag are not settled is not known.
    pub unsure_to: Option<u64>,
    /// Highest delivery tag seen.
    pub last_tag: u64,
    /// Deliveries that are not settled.
    pub unsettled: Vec<Unsettled>,
}

/// What is known of a channel's confirm mode, and the tag of its next publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirm {
    Off,
    Exact(u64),
    Inferred(u64),
    /// At least this.
    Learning(u64),
    /// The channel was there before anybody watched.
    #[default]
    Unknown,
}

/// A subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Consumer {
    pub tag: String,
    pub queue: String,
    pub no_ack: bool,
}

/// A method that waits for its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    pub class: u16,
    pub method: u16,
    pub by_server: bool,
    /// The queue or consumer tag that its answer repeats.
    pub name: String,
    /// Of subscriptions and of messages that are asked for.
    pub queue: Option<String>,
    pub no_ack: bool,
}

/// A delivery that is not settled, its address and its queue; empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unsettled {
    pub tag: u64,
    pub exchange: String,
    pub routing_key: String,
    pub queue: String,
}

impl LearnedState for Learned {
    fn counts(&self) -> Counts {
        let consumers = self.channels.iter().map(|channel| channel.consumers.len() as u64).sum();
        Counts { statements: 0, consumers }
    }

    fn cost(&self) -> usize {
        self.channels.iter().map(Channel::cost).sum()
    }

    fn make_harmless(&mut self, discretion: Discretion) {
        self.vhost.take_if(|vhost| discretion.is_telling(vhost));
        self.channels.iter_mut().for_each(|channel| channel.make_harmless(discretion));
    }
}

impl Channel {
    fn cost(&self) -> usize {
        let consumers = self.consumers.iter().map(|consumer| consumer.tag.len() + consumer.queue.len() + 48);
        let unsettled = self
            .unsettled
            .iter()
            .map(|one| one.exchange.len() + one.routing_key.len() + one.queue.len() + 48);
        let inferred =
            self.inferred.iter().map(|(tag, queue)| tag.len() + queue.as_ref().map_or(0, String::len) + 16);
        consumers.chain(unsettled).chain(inferred).sum::<usize>() + 160
    }

    /// A queue whose name tells of a person is one that is not known.
    fn make_harmless(&mut self, Discretion { hashed }: Discretion) {
        self.consumers.retain(|consumer| !is_telling(&consumer.tag));
        self.asked.retain(|asked| !is_telling(&asked.name));
        self.inferred.retain(|(tag, _)| !is_telling(tag));
        for one in &mut self.unsettled {
            if hashed || is_telling(&one.exchange) || is_telling(&one.routing_key) {
                one.exchange.clear();
                one.routing_key.clear();
            }
        }
        let consumers = self.consumers.iter_mut().map(|consumer| &mut consumer.queue);
        let asked = self.asked.iter_mut().filter_map(|asked| asked.queue.as_mut());
        let inferred = self.inferred.iter_mut().filter_map(|(_, queue)| queue.as_mut());
        let unsettled = self.unsettled.iter_mut().map(|one| &mut one.queue);
        for queue in consumers.chain(asked).chain(inferred).chain(unsettled).chain([&mut self.last_queue]) {
            if is_telling(queue) {
                queue.clear();
            }
        }
        // Unlike a subscription without a queue, an inferred queue has a name.
        self.inferred.retain(|(_, queue)| queue.as_deref() != Some(""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_tell_of_people_are_not_kept() {
        const PERSON: &str = "jane.roe@example.org";
        let consumer =
            |tag: &str, queue: &str| Consumer { tag: tag.to_owned(), queue: queue.to_owned(), no_ack: false };
        let channel = Channel {
            consumers: vec![consumer("a", "q"), consumer("b", PERSON), consumer(PERSON, "q")],
            asked: vec![
                Asked { queue: Some(PERSON.to_owned()), ..Default::default() },
                Asked { name: PERSON.to_owned(), ..Default::default() },
            ],
            inferred: vec![("a".to_owned(), Some(PERSON.to_owned())), ("b".to_owned(), None)],
            last_queue: PERSON.to_owned(),
            unsettled: vec![Unsettled {
                tag: 1,
                queue: PERSON.to_owned(),
                routing_key: PERSON.to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut amqp =
            Learned { vhost: Some(PERSON.to_owned()), channels: vec![channel], ..Default::default() };
        amqp.make_harmless(Discretion { hashed: false });
        assert!(!format!("{amqp:?}").contains(PERSON), "{amqp:?}");
        assert_eq!(amqp.channels[0].consumers, [consumer("a", "q"), consumer("b", "")]);
        assert_eq!(amqp.channels[0].inferred, [("b".to_owned(), None)]);
    }

    #[test]
    fn addresses_of_messages_are_not_kept_where_keys_leave_as_hashes() {
        let unsettled = || Unsettled {
            tag: 1,
            exchange: "e".to_owned(),
            routing_key: "order.17".to_owned(),
            ..Default::default()
        };
        for (hashed, expected) in [(false, "order.17"), (true, "")] {
            let channel = Channel { unsettled: vec![unsettled()], ..Default::default() };
            let mut amqp = Learned { channels: vec![channel], ..Default::default() };
            amqp.make_harmless(Discretion { hashed });
            assert_eq!(amqp.channels[0].unsettled[0].routing_key, expected);
        }
    }
}
