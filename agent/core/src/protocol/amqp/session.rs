//! Both directions of one connection → [`Event`]s: the state machine over frames, channels and operations.
//!
//! *Owns* what happens when, and every bound. What frames do is in `feed`, what methods mean in `dispatch`. *Must not know* other connections.
//!
//! Bounds: [`MAX_CHANNELS`] channels, [`MAX_CONSUMERS`] consumer tags, `max_open_operations` open operations and
//! [`MAX_HELD_BYTES`] held by them; above half of that, only the first 1,024 bytes of further bodies are kept.
//!
//! Long because every bound of a connection stands beside what it bounds, and whatever opens, ends or gives up an operation keeps
//! the same account of numbers and bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::assembly::{self, Assembly, FramePlace, What};
use super::channel::{Awaits, Channel, Queue, Tagged, Waiting};
use super::frame::Decoder;
use super::sent::{RETURN_BOUND, set_outcome};
use crate::operation::amqp::{Action, ActionKind, PublishOutcome, Source};
use crate::operation::{Completeness, Detail, Extent, OpSide, Operation};
use crate::protocol::Snapshot;
use crate::protocol::snapshot::{Past, Texts};
use crate::protocol::{Discard, End, Event, Events, Want};
use crate::record::{Mark, OpId, Point, Role, Sender};
use crate::settings::Protocols;
use crate::time::BootTime;

/// Channels of one connection whose state is kept. RabbitMQ's default `channel_max` is 2,047.
pub(super) const MAX_CHANNELS: usize = 2048;

/// Consumer tags of one connection that are remembered, with their queue.
pub(super) const MAX_CONSUMERS: usize = 4096;

/// Bytes held by open operations of one connection.
pub(super) const MAX_HELD_BYTES: usize = 16 << 20;

/// Open operations are given up after this long. Twice RabbitMQ's `consumer_timeout`, after which the broker itself
/// closes the channel of a delivery that was not settled.
pub(super) const OPEN_BOUND: Duration = Duration::from_secs(3600);

/// Bound of a delivery whose consumer subscribed before the agent started, on a channel that never settled anything
/// since: most likely it settles nothing at all.
pub(super) const UNKNOWN_TERMS_BOUND: Duration = Duration::from_secs(60);

/// Bound of an operation whose answer may have been among lost bytes, from the loss on.
pub(super) const DOUBT_BOUND: Duration = Duration::from_secs(30);

/// An operation in a queue holds so many bytes beside its message.
const OPEN_BYTES: usize = size_of::<Tagged>() + size_of::<Operation>() + size_of::<Action>();
/// A consumer: its tag, its terms and its queue's name.
const CONSUMER_BYTES: usize = 256;

/// One AMQP 0-9-1 connection.
#[derive(Debug)]
pub struct AmqpSession {
    pub(super) role: Role,
    pub(super) keep: usize,
    pub(super) max_open: usize,
    pub(super) vhost: Option<String>,
    /// Largest frame, in bytes, once negotiated.
    pub(super) frame_max: Option<u32>,
    pub(super) client: Half,
    pub(super) server: Half,
    pub(super) channels: BTreeMap<u16, Channel>,
    pub(super) consumer_count: usize,
    /// Operations in the channels' queues, and what they and messages in the making hold.
    pub(super) open_count: usize,
    pub(super) held_bytes: usize,
    /// The broker takes no publishes, since `connection.blocked`.
    pub(super) blocked: Option<Box<Operation>>,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) decoder: Decoder,
    /// The last frame was a body frame, and this one.
    pub(super) last_body: Option<FramePlace>,
    /// The body under way when the boundary was lost; it may go on at the next one.
    pub(super) suspended: Option<FramePlace>,
    /// The last loss of bytes of this direction that may have held methods.
    pub(super) loss: Option<Loss>,
}

/// Bytes that were not captured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    pub(super) at: BootTime,
    pub(super) len: u64,
}

impl Half {
    fn new() -> Self {
        Self { decoder: Decoder::new(), last_body: None, suspended: None, loss: None }
    }
}

/// How an operation ends.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    /// `None`: as complete as it was until now.
    pub(super) completeness: Option<Completeness>,
    pub(super) response: Option<Extent>,
    pub(super) at: BootTime,
}

impl Ending {
    /// Its answer went by.
    pub(super) fn answered(response: Extent) -> Self {
        Self { completeness: None, response: Some(response), at: response.end.at }
    }

    /// No answer will be seen.
    pub(super) fn unanswered(completeness: Completeness, at: BootTime) -> Self {
        Self { completeness: Some(completeness), response: None, at }
    }
}

impl AmqpSession {
    /// `role` is that of the observed process. Bounds come from `limits`: `kept_body_bytes` (at least the 1,024 that a
    /// message's identity needs are kept) and `max_open_operations`.
    pub fn new(role: Role, limits: &Protocols) -> Self {
        Self {
            role,
            keep: assembly::keep(limits.kept_body_bytes),
            max_open: limits.max_open_operations.max(1),
            vhost: None,
            frame_max: None,
            client: Half::new(),
            server: Half::new(),
            channels: BTreeMap::new(),
            consumer_count: 0,
            open_count: 0,
            held_bytes: 0,
            blocked: None,
        }
    }

    pub(super) fn half(&mut self, from: Sender) -> &mut Half {
        match from {
            Sender::Client => &mut self.client,
            Sender::Server => &mut self.server,
        }
    }

    /// The state of a channel, made when it is first seen; `None` above the bound.
    pub(super) fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        if self.channels.len() >= MAX_CHANNELS && !self.channels.contains_key(&number) {
            return None;
        }
        Some(self.channels.entry(number).or_insert_with(|| Channel::new(false)))
    }

    /// A new operation whose first byte is `start`.
    pub(super) fn operation(
        &self,
        shape: OpSide,
        channel: u16,
        request: Extent,
        kind: ActionKind,
        out: &mut Events,
    ) -> Box<Operation> {
        let shape = if self.role == Role::Server { OpSide::Relayed } else { shape };
        Box::new(Operation {
            id: out.new_op(),
            shape,
            role: self.role,
            request,
            response: None,
            ended_at: request.end.at,
            completeness: Completeness::Complete,
            detail: Detail::Amqp(Box::new(Action { channel, vhost: self.vhost.clone(), kind })),
        })
    }

    // Operations

    /// A message is as whole as it gets: its operation goes on to wait for its answer, or is over.
    pub(super) fn finish(&mut self, from: Sender, number: u16, end: Point, out: &mut Events) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(Assembly { what, operation, weight, missing, .. }) = channel.assembly(from).take() else {
            return;
        };
        let Some(mut operation) = operation else { return };
        if missing > 0 {
            operation.completeness = Completeness::Gap(missing);
        }
        match operation.response.as_mut() {
            // Of a get, the message is the response.
            Some(response) => response.end = end,
            None => operation.request.end = end,
        }
        operation.ended_at = end.at;
        if let (What::Deliver { .. }, Some(ActionKind::Deliver(deliver))) =
            (what, assembly::kind_mut(&mut operation))
            && !channel.consumers.contains_key(&deliver.consumer_tag)
            && (deliver.content.properties_cut
                || deliver.content.properties.headers.iter().any(|(name, _)| name == "CC"))
        {
            deliver.queue = None;
            channel.doubt_queue(&deliver.consumer_tag);
        }
        if matches!(what, What::Publish { .. } | What::Deliver { .. }) {
            out.push(Event::Requested { op: operation.id, point: end });
        }
        let since = operation.request.start.at;
        let is_silent = matches!(what, What::Deliver { .. }) && channel.is_silent(&mut operation);
        match what {
            What::Publish { tag: Some(tag), exact } if channel.closing.is_none() => {
                let waiting = Waiting { operation: Some(operation), since, weight, answerer: Sender::Server };
                channel.publishes.push_back(Tagged { tag, exact, waiting, got: None });
                self.admit(number, end.at, out);
            }
            What::Deliver { .. } if is_silent => {
                self.give_up(number, Queue::Deliveries, end.at, out);
                self.release(operation, weight, out);
            }
            What::Deliver { tag } if !is_settled_by_broker(&operation) => {
                let waiting = Waiting { operation: Some(operation), since, weight, answerer: Sender::Client };
                let former = channel.delivered(Tagged { tag, exact: true, waiting, got: None });
                for tagged in former {
                    self.close(tagged.waiting, Ending::unanswered(Completeness::Abandoned, end.at), out);
                }
                self.admit(number, end.at, out);
            }
            What::Got { tag, no_ack } => {
                let got = match assembly::kind_mut(&mut operation) {
                    Some(ActionKind::Get(Some(deliver))) => Some(Box::new(Source::of(deliver))),
                    _ => None,
                };
                self.release(operation, weight, out);
                if no_ack != Some(true)
                    && let Some(channel) = self.channels.get_mut(&number)
                {
                    let waiting = Waiting { operation: None, since, weight: 0, answerer: Sender::Client };
                    let former = channel.delivered(Tagged { tag, exact: true, waiting, got });
                    for tagged in former {
                        self.close(tagged.waiting, Ending::unanswered(Completeness::Abandoned, end.at), out);
                    }
                    self.admit(number, end.at, out);
                }
            }
            What::Return => self.returned(number, operation, weight, out),
            What::Publish { .. } => {
                let closing = self.channels.get(&number).and_then(|channel| channel.closing.clone());
                if let Some((code, text)) = closing
                    && let Some(ActionKind::Publish(publish)) = assembly::kind_mut(&mut operation)
                {
                    publish.outcome = PublishOutcome::Error { code, text };
                    return self.release(operation, weight, out);
                }
                self.sent(number, operation, weight, out);
            }
            What::Deliver { .. } | What::Orphan => self.release(operation, weight, out),
        }
    }

    /// A `basic.return` with its message: it answers an open publish, or stands alone.
    fn returned(&mut self, number: u16, mut operation: Box<Operation>, weight: usize, out: &mut Events) {
        let extent = operation.request;
        let channel = self.channels.get_mut(&number);
        let Some(ActionKind::Return(returned)) = assembly::kind_mut(&mut operation) else { return };
        if let Some(mut waiting) = channel.and_then(|channel| channel.take_returned(returned)) {
            set_outcome(&mut waiting, &std::mem::take(&mut returned.outcome));
            self.held_bytes = self.held_bytes.saturating_sub(weight);
            self.close(waiting, Ending::answered(extent), out);
            return;
        }
        out.push(Event::Opened { op: operation.id, shape: operation.shape, point: extent.start });
        out.push(Event::Requested { op: operation.id, point: extent.end });
        self.release(operation, weight, out);
    }

    /// An operation was put into a queue of this channel: keeps to the bounds by giving up the channel's oldest.
    pub(super) fn admit(&mut self, number: u16, at: BootTime, out: &mut Events) {
        self.open_count = self.open_count.saturating_add(1);
        while self.open_count > self.max_open || self.held_bytes > MAX_HELD_BYTES {
            let Some(channel) = self.channels.get_mut(&number) else { return };
            let Some(waiting) = channel.oldest().and_then(|queue| channel.take_head(queue)) else { return };
            let bytes = waiting.operation.as_ref().map_or(0, |operation| operation.request.len());
            out.push(Event::Discarded { reason: Discard::Limit, bytes });
            self.close(waiting, Ending::unanswered(Completeness::Abandoned, at), out);
        }
    }

    /// Bytes of `from` that were lost since `since`: what it answered meanwhile may have been among them.
    pub(super) fn lost_since(&self, from: Sender, since: BootTime) -> Option<u64> {
        let half = match from {
            Sender::Client => &self.client,
            Sender::Server => &self.server,
        };
        half.loss.filter(|loss| loss.at >= since).map(|loss| loss.len.max(1))
    }

    /// Ends an operation that was in a queue.
    pub(super) fn close(&mut self, waiting: Waiting, ending: Ending, out: &mut Events) {
        self.open_count = self.open_count.saturating_sub(1);
        let lost = self.lost_since(waiting.answerer, waiting.since);
        let Waiting { operation: Some(mut operation), weight, .. } = waiting else { return };
        if let Some(completeness) = ending.completeness {
            // Whether it was answered is not known where the answer may be among lost bytes.
            operation.completeness = lost.map_or(completeness, Completeness::Gap);
        }
        if let Some(response) = ending.response {
            operation.response = Some(response);
        }
        operation.ended_at = ending.at;
        self.release(operation, weight, out);
    }

    /// Hands an operation out.
    pub(super) fn release(&mut self, operation: Box<Operation>, weight: usize, out: &mut Events) {
        self.held_bytes = self.held_bytes.saturating_sub(weight);
        out.push(Event::Closed(operation));
    }

    /// Takes an operation out of its queue without ending it.
    pub(super) fn taken(&mut self, waiting: Waiting) -> Option<Box<Operation>> {
        self.open_count = self.open_count.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(waiting.weight);
        waiting.operation
    }

    /// Ends all that is open on a channel, and forgets the channel.
    pub(super) fn drop_channel(
        &mut self,
        number: u16,
        completeness: Completeness,
        at: Point,
        out: &mut Events,
    ) {
        for from in [Sender::Client, Sender::Server] {
            let Some(channel) = self.channels.get_mut(&number) else { return };
            let Some(Assembly { operation: Some(mut operation), weight, what, missing, .. }) =
                channel.assembly(from).take()
            else {
                continue;
            };
            operation.completeness = if missing > 0 { Completeness::Gap(missing) } else { completeness };
            operation.ended_at = at.at;
            if what == What::Return {
                out.push(Event::Opened {
                    op: operation.id,
                    shape: operation.shape,
                    point: operation.request.start,
                });
            }
            self.release(operation, weight, out);
        }
        self.close_sent(number, completeness, at.at, out);
        for queue in [Queue::Publishes, Queue::Deliveries, Queue::Asked] {
            self.close_queue(number, queue, completeness, at.at, out);
        }
        self.forget_latest(number);
        if let Some(channel) = self.channels.remove(&number) {
            self.consumer_count = self.consumer_count.saturating_sub(channel.consumers.len());
        }
    }

    /// Ends every operation of a queue without an answer.
    pub(super) fn close_queue(
        &mut self,
        number: u16,
        queue: Queue,
        completeness: Completeness,
        at: BootTime,
        out: &mut Events,
    ) {
        while let Some(waiting) = self.channels.get_mut(&number).and_then(|channel| channel.take_head(queue))
        {
            self.close(waiting, Ending::unanswered(completeness, at), out);
        }
    }

    /// The time until which the head of a queue may wait.
    fn deadline(&self, channel: &Channel, queue: Queue) -> Option<BootTime> {
        let since = channel.head_since(queue)?;
        let (answerer, bound) = match queue {
            Queue::Publishes => (&self.server, OPEN_BOUND),
            Queue::Sent => {
                let is_brief = channel.sent.front().is_some_and(|sent| sent.awaits == Awaits::Return);
                (&self.server, if is_brief { RETURN_BOUND } else { OPEN_BOUND })
            }
            Queue::Deliveries => {
                let head = channel.deliveries.front();
                let known = channel.settles || head.is_some_and(|head| terms_known(&head.waiting));
                let bound = match known {
                    true => OPEN_BOUND,
                    // Another one came, and this one was not settled.
                    false if channel.silence.is_suspected() => Duration::ZERO,
                    false => UNKNOWN_TERMS_BOUND,
                };
                (&self.client, bound)
            }
            Queue::Asked => {
                let by_client = channel.asked.front().is_some_and(|asked| asked.from == Sender::Client);
                (if by_client { &self.server } else { &self.client }, OPEN_BOUND)
            }
        };
        let bound = since + bound;
        let doubt = answerer.loss.filter(|loss| loss.at >= since);
        Some(doubt.map_or(bound, |loss| bound.min(loss.at + DOUBT_BOUND)))
    }
}

/// Deliveries without acknowledgements are settled as they are sent.
fn is_settled_by_broker(operation: &Operation) -> bool {
    delivery_terms(operation) == Some(true)
}

fn terms_known(waiting: &Waiting) -> bool {
    waiting.operation.as_ref().is_none_or(|operation| delivery_terms(operation).is_some())
}

fn delivery_terms(operation: &Operation) -> Option<bool> {
    match &operation.detail {
        Detail::Amqp(action) => match &action.kind {
            ActionKind::Deliver(deliver) => deliver.no_ack,
            _ => None,
        },
        _ => None,
    }
}

impl crate::protocol::Session for AmqpSession {
    fn bytes(&mut self, from: Sender, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events) {
        let mut input = self.half(from).decoder.reader.begin(pos, bytes, mark);
        self.run(from, &mut input, out);
        self.half(from).decoder.reader.finish(input);
    }

    fn gap(&mut self, from: Sender, pos: u64, len: u64, mark: Mark, out: &mut Events) {
        self.step_over(from, pos, len, mark, out);
    }

    fn end(&mut self, end: End, at: BootTime, out: &mut Events) {
        let completeness = match end {
            End::Closed | End::Reset => Completeness::Cut,
            End::Abandoned => Completeness::Abandoned,
        };
        let at = Point { at, ..Point::default() };
        if let Some(operation) = self.blocked.take() {
            out.push(Event::Closed(Box::new(Operation { completeness, ended_at: at.at, ..*operation })));
        }
        while let Some(number) = self.channels.keys().next().copied() {
            self.drop_channel(number, completeness, at, out);
        }
        debug_assert_eq!((self.held_bytes, self.open_count), (0, 0), "what is held has drifted");
        for from in [Sender::Client, Sender::Server] {
            let bytes = self.half(from).decoder.reader.reset() as u64;
            if bytes > 0 {
                out.push(Event::Discarded { reason: Discard::Unsynchronised, bytes });
            }
        }
    }

    fn held(&self) -> usize {
        let readers = self.client.decoder.reader.held() + self.server.decoder.reader.held();
        let channels = self.channels.len() * size_of::<Channel>();
        size_of::<Self>()
            + readers
            + channels
            + self.consumer_count * CONSUMER_BYTES
            + self.open_count * OPEN_BYTES
            + self.held_bytes
    }

    fn relieve(&mut self) {
        let mut freed = 0;
        for channel in self.channels.values_mut() {
            let assemblies = [&mut channel.from_client, &mut channel.from_server].into_iter().flatten();
            let assemblies = assemblies.map(|assembly| (assembly.operation.as_mut(), &mut assembly.weight));
            let tagged = channel.publishes.iter_mut().chain(&mut channel.deliveries);
            let sent = channel.sent.iter_mut().map(|sent| &mut sent.waiting);
            let waiting = tagged.map(|tagged| &mut tagged.waiting).chain(sent);
            let waiting = waiting.map(|waiting| (waiting.operation.as_mut(), &mut waiting.weight));
            for (operation, weight) in assemblies.chain(waiting) {
                let less = operation.map_or(0, |operation| assembly::relieve(operation));
                *weight = weight.saturating_sub(less);
                freed += less;
            }
        }
        self.held_bytes = self.held_bytes.saturating_sub(freed);
    }

    fn timeout(&mut self, now: BootTime, out: &mut Events) {
        if self.open_count == 0 {
            return;
        }
        let mut late = Vec::new();
        for (number, channel) in &self.channels {
            for queue in Queue::ALL {
                if self.deadline(channel, queue).is_some_and(|deadline| deadline <= now) {
                    late.push((*number, queue));
                }
            }
        }
        for (number, queue) in late {
            self.give_up(number, queue, now, out);
        }
    }

    fn peek(&self, op: OpId) -> Option<Operation> {
        let is_it = |operation: &&Operation| operation.id == op;
        self.channels.values().find_map(|channel| channel.open().find(is_it)).cloned()
    }

    fn want(&self, from: Sender) -> Want {
        let half = match from {
            Sender::Client => &self.client,
            Sender::Server => &self.server,
        };
        let Some((number, left)) = half.decoder.body_left() else { return Want::All };
        let channel = self.channels.get(&number);
        // Bodies nobody keeps are not needed either.
        let is_full = channel.and_then(|channel| channel.assembly_ref(from)).is_none_or(Assembly::is_full);
        if is_full { Want::Skip(u64::from(left)) } else { Want::All }
    }

    fn export(&self, _: &mut Texts) -> Option<Snapshot> {
        Some(Snapshot::Amqp(self.learned()))
    }

    fn import(&mut self, past: &Past<'_>) -> bool {
        let Snapshot::Amqp(learned) = past.learned else { return false };
        self.resume(learned, past.unbroken && learned.at_rest, past.at);
        true
    }
}

impl AmqpSession {
    /// Gives up what waits too long at the head of a queue.
    fn give_up(&mut self, number: u16, queue: Queue, now: BootTime, out: &mut Events) {
        loop {
            let Some(channel) = self.channels.get(&number) else { return };
            if self.deadline(channel, queue).is_none_or(|deadline| deadline > now) {
                return;
            }
            let is_suspected =
                queue == Queue::Deliveries && !channel.settles && channel.silence.is_suspected();
            if queue == Queue::Sent && self.give_up_sent(number, out) {
                continue;
            }
            let Some(mut waiting) =
                self.channels.get_mut(&number).and_then(|channel| channel.take_head(queue))
            else {
                return;
            };
            if is_suspected && !terms_known(&waiting) {
                self.close_unreturned(waiting, out);
                continue;
            }
            if queue == Queue::Sent {
                set_outcome(&mut waiting, &PublishOutcome::Unknown);
            }
            self.close(waiting, Ending::unanswered(Completeness::Abandoned, now), out);
        }
    }
}
