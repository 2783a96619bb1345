//! What one channel is in the middle of: messages in the making, publishes and deliveries and methods without an answer.
//!
//! *Owns* who answers whom on one channel. *Must not know* frames, events, other channels.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::assembly::{Assembly, kind_mut};
use super::confirm::Confirm;
use super::method::Id;
use crate::operation::Operation;
use crate::operation::amqp::{ActionKind, Content, DIRECT_REPLY_TO, Publish, Source, is_direct_reply};
use crate::record::Sender;
use crate::time::BootTime;

/// A subscription, or the terms of a `basic.get`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) queue: String,
    pub(super) no_ack: bool,
}

/// Consumers of one channel whose queue is inferred.
pub(super) const MAX_INFERRED: usize = 16;

/// An operation that waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting {
    /// What is known about it. `None`: it was closed already, only its delivery tag is remembered.
    pub(super) operation: Option<Box<Operation>>,
    /// Since when it waits.
    pub(super) since: BootTime,
    /// What it holds in memory, in bytes.
    pub(super) weight: usize,
    /// Who ends it.
    pub(super) answerer: Sender,
}

/// A publish in confirm mode, or an unsettled delivery.
#[derive(Debug)]
pub(super) struct Tagged {
    pub(super) tag: u64,
    /// The tag is not merely inferred.
    pub(super) exact: bool,
    pub(super) waiting: Waiting,
    /// Of a message that was asked for: its operation is over.
    pub(super) got: Option<Box<Source>>,
}

/// A publish whose fate no acknowledgement tells by its number.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) waiting: Waiting,
    pub(super) awaits: Awaits,
}

/// What tells its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// A `basic.return`, or none for some time.
    Return,
    /// The end of its transaction, which is not asked for yet.
    End,
    /// The answer to this `tx.commit` or `tx.rollback` of the channel, counted from 1.
    Answer(u64),
    /// That answer may have been among lost bytes.
    Nothing,
}

/// A publish that is over.
#[derive(Debug)]
pub(super) struct Latest {
    pub(super) publish: Box<Publish>,
    /// What it holds in memory, in bytes.
    pub(super) weight: usize,
    /// None can have come after it.
    pub(super) is_last: bool,
}

/// A channel's transactions (AMQP 0-9-1, class `tx`): each begins where the one before ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Transactions {
    /// Ends that were asked for, and answered.
    pub(super) asked: u64,
    pub(super) answered: u64,
}

/// A method that waits for its reply.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) id: Id,
    pub(super) from: Sender,
    pub(super) answers: &'static [u16],
    /// The queue or consumer tag that its answer repeats; empty where it does not, or tells a new one.
    pub(super) name: String,
    /// Of `basic.consume` and `basic.get`.
    pub(super) terms: Option<Terms>,
    pub(super) waiting: Waiting,
}

/// Which open queue of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Publishes,
    Sent,
    Deliveries,
    Asked,
}

impl Queue {
    pub(super) const ALL: [Queue; 4] = [Queue::Publishes, Queue::Sent, Queue::Deliveries, Queue::Asked];
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) from_client: Option<Assembly>,
    pub(super) from_server: Option<Assembly>,
    pub(super) confirm: Confirm,
    /// In the order of their tags.
    pub(super) publishes: VecDeque<Tagged>,
    /// Publishes without a tag that are not over, in their order.
    pub(super) sent: VecDeque<Sent>,
    /// `None`: no transaction was seen.
    pub(super) transactions: Option<Transactions>,
    /// The last publish, if it was over at once: the broker may still close the channel because of it.
    pub(super) latest: Option<Latest>,
    /// In the order of their tags.
    pub(super) deliveries: VecDeque<Tagged>,
    pub(super) asked: VecDeque<Asked>,
    /// By consumer tag.
    pub(super) consumers: BTreeMap<String, Terms>,
    /// Queues of consumers whose subscription was not seen, by consumer tag. `None`: what was seen contradicts itself.
    pub(super) inferred: BTreeMap<String, Option<String>>,
    /// "The server MUST use the last declared queue" when a method names none.
    pub(super) last_queue: String,
    /// The client settles deliveries on this channel.
    pub(super) settles: bool,
    /// Consumers that subscribed unseen are taken to settle nothing.
    pub(super) silence: Silence,
    /// Bytes were lost: which deliveries up to this tag are not settled is not known.
    pub(super) unsure_to: Option<u64>,
    /// Why it is being closed, when that is an error.
    pub(super) closing: Option<(u16, String)>,
    /// Highest delivery tag seen.
    pub(super) last_tag: u64,
    /// What is known was learned before bytes that no agent saw: a tag that is not higher than this means that the channel was
    /// closed in them, and is another one.
    pub(super) known_to: Option<u64>,
}

impl Channel {
    /// A channel opened before our eyes, or one that was there before us.
    pub(super) fn new(opened: bool) -> Self {
        Self {
            from_client: None,
            from_server: None,
            confirm: if opened { Confirm::Off } else { Confirm::JOINED },
            publishes: VecDeque::new(),
            sent: VecDeque::new(),
            transactions: None,
            latest: None,
            deliveries: VecDeque::new(),
            asked: VecDeque::new(),
            consumers: BTreeMap::new(),
            inferred: BTreeMap::new(),
            last_queue: String::new(),
            settles: false,
            silence: Silence::default(),
            unsure_to: None,
            closing: None,
            last_tag: 0,
            known_to: None,
        }
    }

    /// All operations that are not over.
    pub(super) fn open(&self) -> impl Iterator<Item = &Operation> {
        let tagged = self.publishes.iter().chain(&self.deliveries).map(|tagged| &tagged.waiting);
        let sent = self.sent.iter().map(|sent| &sent.waiting);
        let waiting = tagged.chain(sent).chain(self.asked.iter().map(|asked| &asked.waiting));
        waiting.filter_map(|waiting| waiting.operation.as_deref())
    }

    pub(super) fn assembly(&mut self, from: Sender) -> &mut Option<Assembly> {
        match from {
            Sender::Client => &mut self.from_client,
            Sender::Server => &mut self.from_server,
        }
    }

    pub(super) fn assembly_ref(&self, from: Sender) -> Option<&Assembly> {
        match from {
            Sender::Client => self.from_client.as_ref(),
            Sender::Server => self.from_server.as_ref(),
        }
    }

    /// The queue a method means that names `name`.
    pub(super) fn queue_named(&self, name: &[u8]) -> String {
        if name.is_empty() { self.last_queue.clone() } else { super::wire::text(name) }
    }

    /// The queue of a consumer whose subscription was not seen, from what it was delivered until now and this.
    ///
    /// "The default exchange … is implicitly bound to every queue, with a routing key equal to the queue name": a message
    /// of it tells the queue, and with it the queue of all else that has the same consumer tag.
    pub(super) fn infer_queue(&mut self, tag: &str, exchange: &str, routing_key: &str) -> Option<String> {
        if exchange.is_empty() && !routing_key.is_empty() {
            let queue = if is_direct_reply(exchange, routing_key) { DIRECT_REPLY_TO } else { routing_key };
            let has_room = self.inferred.len() < MAX_INFERRED;
            match self.inferred.get_mut(tag) {
                Some(known) => {
                    known.take_if(|known| known != queue);
                }
                None if has_room => {
                    self.inferred.insert(tag.to_owned(), Some(queue.to_owned()));
                }
                None => {}
            }
        }
        self.inferred.get(tag).cloned().flatten()
    }

    /// A message for that consumer has a `CC` header: it went to the queues named there as well, so its routing key tells
    /// nothing (RabbitMQ, "Sender-selected Distribution").
    pub(super) fn doubt_queue(&mut self, tag: &str) {
        if let Some(known) = self.inferred.get_mut(tag) {
            *known = None;
        }
    }

    /// The consumer is gone, or its subscription was seen now.
    pub(super) fn forget_inferred(&mut self, tag: &str) {
        self.inferred.remove(tag);
    }

    /// A delivery to a consumer whose subscription was not seen, on a channel that never settled anything: whether it waits for
    /// nothing. It is over with its last byte then, as those without acknowledgements are, and so are those before it.
    pub(super) fn is_silent(&mut self, operation: &mut Operation) -> bool {
        let at = operation.request.end.at;
        let Some(ActionKind::Deliver(deliver)) = kind_mut(operation) else { return false };
        if self.settles || deliver.no_ack.is_some() {
            return false;
        }
        self.silence.delivered(at);
        if self.silence.is_believed() {
            deliver.no_ack = Some(true);
        }
        self.silence.is_suspected()
    }

    /// Puts a delivery in its place. Tags only rise on a channel: one that does not means that the channel was closed
    /// and opened again unseen, and what is open belongs to the former one. Returns that.
    pub(super) fn delivered(&mut self, delivery: Tagged) -> VecDeque<Tagged> {
        if self.unsure_to == Some(u64::MAX) {
            self.unsure_to = Some(delivery.tag.saturating_sub(1));
        }
        let former = self.deliveries.back().is_some_and(|last| last.tag >= delivery.tag);
        let former = if former { std::mem::take(&mut self.deliveries) } else { VecDeque::new() };
        self.deliveries.push_back(delivery);
        former
    }

    /// The open queue whose head is the oldest operation.
    pub(super) fn oldest(&self) -> Option<Queue> {
        let heads = [
            (Queue::Publishes, self.publishes.front().map(|tagged| &tagged.waiting)),
            (Queue::Sent, self.sent.front().map(|sent| &sent.waiting)),
            (Queue::Deliveries, self.deliveries.front().map(|tagged| &tagged.waiting)),
            (Queue::Asked, self.asked.front().map(|asked| &asked.waiting)),
        ];
        heads
            .into_iter()
            .filter_map(|(queue, head)| Some((head?.since, queue)))
            .min_by_key(|head| head.0)
            .map(|head| head.1)
    }

    /// Takes the head of a queue.
    pub(super) fn take_head(&mut self, queue: Queue) -> Option<Waiting> {
        match queue {
            Queue::Publishes => self.publishes.pop_front().map(|tagged| tagged.waiting),
            Queue::Sent => self.sent.pop_front().map(|sent| sent.waiting),
            Queue::Deliveries => self.deliveries.pop_front().map(|tagged| tagged.waiting),
            Queue::Asked => self.asked.pop_front().map(|asked| asked.waiting),
        }
    }

    /// Since when the head of a queue waits.
    pub(super) fn head_since(&self, queue: Queue) -> Option<BootTime> {
        match queue {
            Queue::Publishes => self.publishes.front().map(|tagged| tagged.waiting.since),
            Queue::Sent => self.sent.front().map(|sent| sent.waiting.since),
            Queue::Deliveries => self.deliveries.front().map(|tagged| tagged.waiting.since),
            Queue::Asked => self.asked.front().map(|asked| asked.waiting.since),
        }
    }

    /// Bytes of one side were lost, and what they said of this channel is not known.
    pub(super) fn lost(&mut self, from: Sender) {
        // A transaction may have ended in them, or the publish that the broker objects to may be among them.
        self.sent
            .iter_mut()
            .filter(|sent| sent.awaits != Awaits::Return)
            .for_each(|sent| sent.awaits = Awaits::Nothing);
        if let Some(transactions) = &mut self.transactions {
            transactions.answered = transactions.asked;
        }
        match from {
            Sender::Client => {
                self.confirm.lost_publishes();
                if let Some(latest) = &mut self.latest {
                    latest.is_last = false;
                }
                // Another one may have been declared.
                self.last_queue.clear();
                // What was delivered may have been settled.
                let last = self.deliveries.back().map(|tagged| tagged.tag);
                self.unsure_to = self.unsure_to.max(last);
            }
            Sender::Server => {
                self.confirm.lost_acknowledgements();
                // Up to the next delivery that is seen.
                self.unsure_to = Some(u64::MAX);
            }
        }
    }

    /// The publish a `basic.return` gives back: the oldest open mandatory one with the same address and content.
    pub(super) fn take_returned(&mut self, returned: &Publish) -> Option<Waiting> {
        let same = |waiting: &mut Waiting| {
            let operation = waiting.operation.as_mut();
            let Some(ActionKind::Publish(publish)) = operation.and_then(|operation| kind_mut(operation))
            else {
                return false;
            };
            publish.mandatory
                && publish.exchange == returned.exchange
                && publish.routing_key == returned.routing_key
                && may_be_same(&publish.content, &returned.content)
        };
        if let Some(at) = self.publishes.iter_mut().position(|tagged| same(&mut tagged.waiting)) {
            return self.publishes.remove(at).map(|tagged| tagged.waiting);
        }
        let at = self.sent.iter_mut().position(|sent| same(&mut sent.waiting))?;
        self.sent.remove(at).map(|sent| sent.waiting)
    }

    /// `tx.commit` or `tx.rollback` went by: what was sent since the one before waits for its answer.
    pub(super) fn end_asked(&mut self) {
        let transactions = self.transactions.get_or_insert_default();
        transactions.asked = transactions.asked.saturating_add(1);
        // They are the last ones; each is looked at once, however often a client ends transactions that hold nothing.
        let open = self.sent.iter_mut().rev().take_while(|sent| sent.awaits == Awaits::End);
        open.for_each(|sent| sent.awaits = Awaits::Answer(transactions.asked));
    }

    /// The answer to the oldest of them went by: what it settles, one per call. `None` also where the question was not seen.
    pub(super) fn end_answered(&mut self) -> Option<u64> {
        let transactions = self.transactions.get_or_insert_default();
        let is_asked = transactions.answered < transactions.asked;
        transactions.answered = transactions.answered.saturating_add(u64::from(is_asked));
        is_asked.then_some(transactions.answered)
    }

    /// Takes the publishes that the answer of this number settles.
    ///
    /// What waits for no answer any more, or for none yet, stands before those that wait for one, in the order of the answers; what
    /// has not been asked about stands behind them.
    pub(super) fn take_settled(&mut self, answer: u64) -> Vec<Waiting> {
        let up_to = |last: u64| {
            self.sent.partition_point(|sent| match sent.awaits {
                Awaits::Return | Awaits::Nothing => true,
                Awaits::Answer(number) => number <= last,
                Awaits::End => false,
            })
        };
        let settled = up_to(answer.saturating_sub(1))..up_to(answer);
        self.sent.drain(settled).map(|sent| sent.waiting).collect()
    }

    /// The method that `id` from `from` answers, repeating `name`, and those before it whose answers were never seen: a
    /// channel's methods are answered in order.
    pub(super) fn take_asked(&mut self, id: Id, from: Sender, name: &str) -> Option<(Asked, Vec<Asked>)> {
        let is_answered = |asked: &Asked| {
            asked.from != from
                && asked.id.0 == id.0
                && asked.answers.contains(&id.1)
                && (asked.name.is_empty() || asked.name == name)
        };
        let at = self.asked.iter().position(is_answered)?;
        let asked = self.asked.remove(at)?;
        let mut passed = Vec::new();
        let mut index = 0;
        for _ in 0..at {
            match self.asked.get(index) {
                Some(other) if other.from == asked.from => passed.extend(self.asked.remove(index)),
                _ => index += 1,
            }
        }
        Some((asked, passed))
    }
}

/// Whether consumers whose subscription was not seen acknowledge what they get.
///
/// One that does not is told by its deliveries: one comes long after another and that is still not settled. A consumer that
/// works on several messages at once looks the same until its first acknowledgement, which ends the suspicion for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Silence {
    /// Deliveries, each long after the one before, without any acknowledgement on the channel.
    count: u32,
    /// When the last delivery came.
    last_at: Option<BootTime>,
}

/// Deliveries closer to each other come out of one backlog, which a consumer with a prefetch window gets at once. Not measured:
/// above the time in which a broker fills a window, below the time between two orders of a service that one notices.
const BURST: Duration = Duration::from_millis(50);
/// So many deliveries without an acknowledgement are a consumer that asks for none. A prefetch window that is filled one by one
/// looks the same: for such a one, its first acknowledgement tells.
const ENOUGH: u32 = 4;

impl Silence {
    /// A delivery came at `at`, when nothing had ever been settled on the channel.
    pub(super) fn delivered(&mut self, at: BootTime) {
        let is_late = self.last_at.is_some_and(|last| at.since(last) >= BURST);
        self.count = self.count.saturating_add(u32::from(is_late));
        self.last_at = Some(at);
    }

    /// Deliveries do not wait for an acknowledgement.
    pub(super) fn is_suspected(self) -> bool {
        self.count > 0
    }

    /// None are asked for.
    pub(super) fn is_believed(self) -> bool {
        self.count >= ENOUGH
    }
}

/// Takes the next operation an acknowledgement of `tag` means: the one with that tag, or with `multiple` each up to it
/// (0: each there is), one per call.
pub(super) fn take_tagged(queue: &mut VecDeque<Tagged>, tag: u64, multiple: bool) -> Option<Tagged> {
    if multiple {
        return queue.pop_front_if(|first| tag == 0 || first.tag <= tag);
    }
    let at = queue.binary_search_by_key(&tag, |tagged| tagged.tag).ok()?;
    queue.remove(at)
}

fn may_be_same(a: &Content, b: &Content) -> bool {
    let headless = |content: &Content| content.properties_cut && content.body.holed && content.body.len == 0;
    match (a.canonical_digest(), b.canonical_digest()) {
        (Some(a), Some(b)) => a == b,
        // Its content header was lost, and all else with it.
        _ if headless(a) || headless(b) => true,
        // Not all of it was captured: the address and what is known of it must do.
        _ => a.body.len == b.body.len && a.properties.message_id == b.properties.message_id,
    }
}
