//! Methods in, operations opened and closed: what each class and method of AMQP 0-9-1 does to a channel.
//!
//! *Owns* which method answers or ends what; acknowledgements are in `settle`. *Must not know* frames and bodies.
//! Long because it is one table of AMQP's methods, each with what it does.

use super::assembly::{Assembly, What, kind_mut};
use super::channel::{Asked, Channel, Queue, Terms, Waiting};
use super::method::{self, Arguments, Id, Part, Spec};
use super::session::{AmqpSession, Ending, Loss, MAX_CONSUMERS};
use super::table;
use super::wire::text;
use crate::operation::amqp::{ActionKind, Deliver, Method, Publish, PublishOutcome, Settle, Settlement};
use crate::operation::{Completeness, Detail, Extent, OpSide, Operation};
use crate::protocol::{Discard, Event, Events};
use crate::record::{Point, Sender};

/// What an operation of a waiting method holds, roughly.
const METHOD_WEIGHT: usize = 256;

impl AmqpSession {
    /// A whole method frame.
    pub(super) fn method(
        &mut self,
        from: Sender,
        number: u16,
        payload: &[u8],
        extent: Extent,
        out: &mut Events,
    ) {
        let spec = method::id(payload).and_then(method::lookup).filter(|spec| spec.may_come_from(from));
        let read = spec.and_then(|spec| Some((spec, method::arguments(spec.id, payload)?)));
        let Some((spec, arguments)) = read else {
            out.push(Event::Discarded { reason: Discard::Invalid, bytes: payload.len() as u64 });
            return;
        };
        if self.channel(number).is_none() {
            out.push(Event::Discarded { reason: Discard::Limit, bytes: payload.len() as u64 });
            return;
        }
        // A method where body was announced: the message before it is not whole.
        self.cut(from, number, extent.start, 0, out);
        match (arguments, from) {
            (Arguments::Publish { exchange, routing_key, mandatory }, _) => {
                let publish = Publish {
                    exchange: text(exchange),
                    routing_key: text(routing_key),
                    mandatory,
                    ..Publish::default()
                };
                self.publish(number, publish, extent, out);
            }
            (Arguments::Return { code, text: reason, exchange, routing_key }, _) => {
                let outcome = PublishOutcome::Returned { code, text: text(reason) };
                let (exchange, routing_key) = (text(exchange), text(routing_key));
                let returned =
                    Publish { exchange, routing_key, mandatory: true, outcome, ..Publish::default() };
                let kind = ActionKind::Return(returned);
                let operation = self.operation(OpSide::Relayed, number, extent, kind, out);
                self.assemble(number, from, What::Return, operation);
            }
            (Arguments::Deliver { .. }, _) => self.delivery(number, spec.id, arguments, extent, out),
            (Arguments::Settle { delivery_tag, multiple, .. }, Sender::Server) => {
                self.confirmed(number, spec.id, delivery_tag, multiple, extent, out);
            }
            (Arguments::Settle { delivery_tag, multiple, requeue }, Sender::Client) => {
                let settlement = match spec.id {
                    method::NACK => Settlement::Nack { requeue },
                    method::REJECT => Settlement::Reject { requeue },
                    _ => Settlement::Ack,
                };
                self.settle(
                    number,
                    Settle {
                        settlement,
                        delivery_tag,
                        multiple,
                        message_count: 0,
                        delivery: None,
                        source: None,
                    },
                    extent,
                    out,
                );
            }
            _ => self.plain(from, number, spec, arguments, extent, out),
        }
    }

    /// A method frame on this channel, up to `end`, could not be read, because `len` bytes of it were lost: it may have been
    /// a publish, or an answer.
    pub(super) fn method_lost(&mut self, from: Sender, number: u16, len: u64, end: Point, out: &mut Events) {
        self.half(from).loss = Some(Loss { at: end.at, len });
        self.channels.get_mut(&number).into_iter().for_each(|channel| channel.lost(from));
        self.cut(from, number, end, len, out);
    }

    // Messages

    fn publish(&mut self, number: u16, publish: Publish, extent: Extent, out: &mut Events) {
        let mut operation =
            self.operation(OpSide::Outgoing, number, extent, ActionKind::Publish(publish), out);
        out.push(Event::Opened { op: operation.id, shape: operation.shape, point: extent.start });
        let Some(channel) = self.channel(number) else { return };
        let tag = channel.confirm.publish(extent.start.at);
        let exact = channel.confirm.is_exact();
        if !channel.confirm.is_known()
            && let Some(ActionKind::Publish(publish)) = kind_mut(&mut operation)
        {
            publish.outcome = PublishOutcome::Unknown;
        }
        self.assemble(number, Sender::Client, What::Publish { tag, exact }, operation);
    }

    /// `basic.deliver` or `basic.get-ok`.
    fn delivery(&mut self, number: u16, id: Id, arguments: Arguments<'_>, extent: Extent, out: &mut Events) {
        let Arguments::Deliver { tag, delivery_tag, redelivered, exchange, routing_key } = arguments else {
            return;
        };
        self.seen_tag(number, delivery_tag, extent, out);
        let Some(channel) = self.channel(number) else { return };
        let mut deliver = Deliver {
            exchange: text(exchange),
            routing_key: text(routing_key),
            consumer_tag: text(tag),
            delivery_tag,
            redelivered,
            ..Deliver::default()
        };
        let asked = if id == method::GET_OK { channel.take_asked(id, Sender::Server, "") } else { None };
        let known = match &asked {
            Some((asked, _)) => asked.terms.as_ref(),
            None if id == method::GET_OK => None,
            None => channel.consumers.get(&deliver.consumer_tag),
        };
        if let Some(terms) = known {
            // After a `basic.consume` without a name on a channel whose declarations were not seen.
            deliver.queue = (!terms.queue.is_empty()).then(|| terms.queue.clone());
            deliver.no_ack = Some(terms.no_ack);
        } else if id == method::DELIVER {
            deliver.queue =
                channel.infer_queue(&deliver.consumer_tag, &deliver.exchange, &deliver.routing_key);
        }
        let no_ack = deliver.no_ack;
        if id == method::DELIVER {
            let kind = ActionKind::Deliver(deliver);
            let operation = self.operation(OpSide::Incoming, number, extent, kind, out);
            out.push(Event::Opened { op: operation.id, shape: operation.shape, point: extent.start });
            self.assemble(number, Sender::Server, What::Deliver { tag: delivery_tag }, operation);
            return;
        }
        let kind = ActionKind::Get(Some(deliver));
        let waiting = asked.and_then(|(asked, passed)| {
            self.unanswered(passed, extent, out);
            self.taken(asked.waiting)
        });
        let mut operation = match waiting {
            Some(mut operation) => {
                if let Some(slot) = kind_mut(&mut operation) {
                    *slot = kind;
                }
                operation
            }
            None => {
                // Asked for before the agent started: all that is known is the answer.
                let mut operation = self.operation(OpSide::Outgoing, number, extent, kind, out);
                let (op, point) = (operation.id, extent.start);
                out.push(Event::Opened { op, shape: operation.shape, point });
                operation.request.end = extent.start;
                if let Some(loss) = self.half(Sender::Client).loss {
                    operation.completeness = Completeness::Gap(loss.len.max(1));
                }
                operation
            }
        };
        operation.response = Some(extent);
        self.assemble(number, Sender::Server, What::Got { tag: delivery_tag, no_ack }, operation);
    }

    fn assemble(&mut self, number: u16, from: Sender, what: What, operation: Box<Operation>) {
        if let Some(channel) = self.channel(number) {
            *channel.assembly(from) = Some(Assembly::new(what, Some(operation)));
        }
    }

    // Methods without content

    fn plain(
        &mut self,
        from: Sender,
        number: u16,
        spec: Spec,
        arguments: Arguments<'_>,
        extent: Extent,
        out: &mut Events,
    ) {
        match (spec.id, arguments) {
            // "tune-ok" may only lower what "tune" offered, and comes later.
            (method::TUNE | method::TUNE_OK, Arguments::FrameMax(max)) => {
                self.frame_max = Some(match max {
                    0 => super::frame::LARGEST_FRAME,
                    max => max.clamp(super::frame::SMALLEST_FRAME_MAX, super::frame::LARGEST_FRAME),
                });
            }
            (method::CONNECTION_OPEN, Arguments::Open { vhost }) => self.vhost = Some(text(vhost)),
            (method::CHANNEL_OPEN, _) => {
                self.drop_channel(number, Completeness::Abandoned, extent.start, out);
                self.channels.insert(number, Channel::new(true));
            }
            (method::CONFIRM_SELECT, _) => {
                if let Some(channel) = self.channel(number) {
                    channel.confirm.select();
                }
            }
            (method::TX_SELECT, _) => {
                if let Some(channel) = self.channel(number) {
                    channel.transactions.get_or_insert_default();
                }
            }
            (method::TX_COMMIT | method::TX_ROLLBACK, _) => {
                if let Some(channel) = self.channel(number) {
                    channel.end_asked();
                }
            }
            (method::TX_COMMIT_OK, _) => {
                self.transaction_ends(number, &PublishOutcome::Committed, extent, out);
            }
            (method::TX_ROLLBACK_OK, _) => {
                self.transaction_ends(number, &PublishOutcome::RolledBack, extent, out);
            }
            (method::RECOVER | method::RECOVER_ASYNC, Arguments::Recover { requeue }) => {
                let settlement = Settlement::Nack { requeue };
                self.settle_deliveries(number, 0, true, settlement, extent, out);
            }
            (method::CHANNEL_CLOSE | method::CONNECTION_CLOSE, Arguments::Close { code, text, cause }) => {
                if let Some(error) = method::error(code, text) {
                    let is_publish = cause == method::PUBLISH && from == Sender::Server;
                    self.failed(from, number, spec.id, Failure { error, is_publish }, extent, out);
                }
            }
            _ => {}
        }
        match spec.part {
            Part::Alone if spec.id == method::CONNECTION_BLOCKED => {
                if self.blocked.is_none() {
                    self.blocked = Some(self.method_operation(from, number, spec, arguments, extent, out));
                }
            }
            Part::Alone if spec.id == method::CONNECTION_UNBLOCKED && self.blocked.is_some() => {
                if let Some(operation) = self.blocked.take() {
                    let (response, ended_at) = (Some(extent), extent.end.at);
                    self.release(Box::new(Operation { response, ended_at, ..*operation }), 0, out);
                }
            }
            Part::Reply => self.reply(from, number, spec.id, arguments, extent, out),
            Part::Request(answers) => self.request(from, number, spec, answers, arguments, extent, out),
            Part::Alone if matches!(spec.id, method::TUNE_OK | method::CONNECTION_START) => {}
            Part::Alone => {
                let operation = self.method_operation(from, number, spec, arguments, extent, out);
                self.release(operation, 0, out);
            }
        }
    }

    fn method_operation(
        &self,
        from: Sender,
        number: u16,
        spec: Spec,
        arguments: Arguments<'_>,
        extent: Extent,
        out: &mut Events,
    ) -> Box<Operation> {
        let channel = self.channels.get(&number);
        let target = match arguments {
            // A declaration without a name is named by its answer; other methods mean the last queue.
            Arguments::Target { name, .. } | Arguments::Declare { name, .. } if !name.is_empty() => {
                text(name)
            }
            Arguments::Declare { .. } => String::new(),
            Arguments::Target { .. } if spec.id.0 == method::QUEUE => {
                channel.map(|channel| channel.last_queue.clone()).unwrap_or_default()
            }
            Arguments::Consume { queue, .. } | Arguments::Get { queue, .. } => {
                channel.map_or_else(|| text(queue), |channel| channel.queue_named(queue))
            }
            Arguments::ConsumerTag { tag, .. } => channel
                .and_then(|channel| channel.consumers.get(&text(tag)))
                .map(|terms| terms.queue.clone())
                .unwrap_or_default(),
            _ => String::new(),
        };
        let error = match arguments {
            Arguments::Close { code, text, .. } => method::error(code, text),
            _ => None,
        };
        let reason = match arguments {
            Arguments::Blocked { reason } => Some(text(reason)),
            _ => None,
        };
        let lost = match arguments {
            // What the broker objects to is this one or one before it, and it takes none after that.
            Arguments::Close { cause: method::PUBLISH, .. } if from == Sender::Server && error.is_some() => {
                let latest = channel.and_then(|channel| channel.latest.as_ref());
                latest.filter(|latest| latest.is_last).map(|latest| latest.publish.clone())
            }
            _ => None,
        };
        let kind = match spec.id {
            method::GET => ActionKind::Get(None),
            _ => ActionKind::Method(Method {
                name: spec.name.to_owned(),
                is_by_server: from == Sender::Server,
                target,
                error,
                reason,
                lost,
                keeps: keeps(arguments),
            }),
        };
        // What the server asks of the client on its own account is nothing the client works for.
        let shape = if from == Sender::Client { OpSide::Outgoing } else { OpSide::Relayed };
        let operation = self.operation(shape, number, extent, kind, out);
        out.push(Event::Opened { op: operation.id, shape: operation.shape, point: extent.start });
        out.push(Event::Requested { op: operation.id, point: extent.end });
        operation
    }

    #[expect(clippy::too_many_arguments, reason = "one method's parts, used once")]
    fn request(
        &mut self,
        from: Sender,
        number: u16,
        spec: Spec,
        answers: &'static [u16],
        arguments: Arguments<'_>,
        extent: Extent,
        out: &mut Events,
    ) {
        let operation = self.method_operation(from, number, spec, arguments, extent, out);
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let terms = match arguments {
            Arguments::Consume { queue, no_ack, .. } | Arguments::Get { queue, no_ack } => {
                Some(Terms { queue: channel.queue_named(queue), no_ack })
            }
            _ => None,
        };
        let no_wait = match arguments {
            Arguments::Target { no_wait, .. }
            | Arguments::Declare { no_wait, .. }
            | Arguments::Consume { no_wait, .. }
            | Arguments::ConsumerTag { no_wait, .. }
            | Arguments::NoWait(no_wait) => no_wait,
            _ => false,
        };
        let name = match arguments {
            Arguments::Declare { name, .. } => text(name),
            Arguments::Consume { tag, .. } | Arguments::ConsumerTag { tag, .. } => text(tag),
            _ => String::new(),
        };
        match arguments {
            // Without a name, the server makes one and tells it in its answer.
            Arguments::Declare { name, .. } => {
                channel.last_queue = text(name);
            }
            // A tag the client chose is good at once; the answer only repeats it.
            Arguments::Consume { tag, .. } if !tag.is_empty() => {
                if let Some(terms) = terms.clone() {
                    self.subscribe(number, text(tag), terms, extent, out);
                }
            }
            Arguments::ConsumerTag { tag, .. } if from == Sender::Server || no_wait => {
                self.unsubscribe(number, &text(tag));
            }
            _ => {}
        }
        if no_wait {
            return self.release(operation, 0, out);
        }
        let lost = match &operation.detail {
            Detail::Amqp(action) => match &action.kind {
                ActionKind::Method(method) => method.held(),
                _ => 0,
            },
            _ => 0,
        };
        let weight = METHOD_WEIGHT.saturating_add(lost);
        self.held_bytes = self.held_bytes.saturating_add(weight);
        let answerer = if from == Sender::Client { Sender::Server } else { Sender::Client };
        self.answers_lost(number, from, answerer, extent.start, out);
        let waiting = Waiting { operation: Some(operation), since: extent.start.at, weight, answerer };
        let Some(channel) = self.channels.get_mut(&number) else { return };
        channel.asked.push_back(Asked { id: spec.id, from, answers, name, terms, waiting });
        self.admit(number, extent.end.at, out);
    }

    fn reply(
        &mut self,
        from: Sender,
        number: u16,
        id: Id,
        arguments: Arguments<'_>,
        extent: Extent,
        out: &mut Events,
    ) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        if let Arguments::Target { name, .. } = arguments
            && id == method::QUEUE_DECLARE_OK
        {
            channel.last_queue = text(name);
        }
        let name = match arguments {
            Arguments::Target { name, .. } if id == method::QUEUE_DECLARE_OK => text(name),
            Arguments::ConsumerTag { tag, .. } => text(tag),
            _ => String::new(),
        };
        let asked = channel.take_asked(id, from, &name);
        if asked.is_none() {
            self.answers_unseen(number, id, &name, extent, out);
        }
        if let Some((mut asked, passed)) = asked {
            self.unanswered(passed, extent, out);
            match arguments {
                Arguments::ConsumerTag { tag, .. } if id == method::CONSUME_OK => {
                    if let Some(terms) = asked.terms.take() {
                        self.subscribe(number, text(tag), terms, extent, out);
                    }
                }
                Arguments::ConsumerTag { tag, .. } => self.unsubscribe(number, &text(tag)),
                Arguments::Target { name, .. } if id == method::QUEUE_DECLARE_OK => {
                    if let Some(ActionKind::Method(method)) =
                        asked.waiting.operation.as_mut().and_then(|operation| kind_mut(operation))
                    {
                        method.target = text(name);
                    }
                }
                _ => {}
            }
            self.close(asked.waiting, Ending::answered(extent), out);
        }
        match id {
            method::CHANNEL_CLOSE_OK => self.drop_channel(number, Completeness::Cut, extent.end, out),
            method::CONNECTION_CLOSE_OK => {
                while let Some(number) = self.channels.keys().next().copied() {
                    self.drop_channel(number, Completeness::Cut, extent.end, out);
                }
            }
            _ => {}
        }
    }

    /// An answer to a method that was not seen: what was known of its subject is so no longer.
    fn answers_unseen(&mut self, number: u16, id: Id, name: &str, extent: Extent, out: &mut Events) {
        match id {
            method::CONSUME_OK | method::CANCEL_OK => self.unsubscribe(number, name),
            // It is another channel than the one that had this number.
            method::CHANNEL_OPEN_OK => self.drop_channel(number, Completeness::Abandoned, extent.start, out),
            _ => {}
        }
    }

    /// `from` asks for something else: a channel's methods are asked one after the other, so those whose answer may be among
    /// lost bytes of `answerer` were answered in them.
    fn answers_lost(&mut self, number: u16, from: Sender, answerer: Sender, at: Point, out: &mut Events) {
        let Some(loss) = self.half(answerer).loss else { return };
        let is_answered = |asked: &mut Asked| asked.from == from && asked.waiting.since <= loss.at;
        while let Some(channel) = self.channels.get_mut(&number)
            && let Some(asked) = channel.asked.pop_front_if(is_answered)
        {
            self.close(asked.waiting, Ending::unanswered(Completeness::Abandoned, at.at), out);
        }
    }

    /// Methods whose answers were never seen.
    fn unanswered(&mut self, passed: Vec<Asked>, extent: Extent, out: &mut Events) {
        for asked in passed {
            self.close(asked.waiting, Ending::unanswered(Completeness::Abandoned, extent.start.at), out);
        }
    }

    fn subscribe(&mut self, number: u16, tag: String, terms: Terms, extent: Extent, out: &mut Events) {
        if self.consumer_count >= MAX_CONSUMERS {
            out.push(Event::Discarded { reason: Discard::Limit, bytes: extent.len() });
            return;
        }
        let Some(channel) = self.channels.get_mut(&number) else { return };
        channel.forget_inferred(&tag);
        if channel.consumers.insert(tag, terms).is_none() {
            self.consumer_count = self.consumer_count.saturating_add(1);
        }
    }

    fn unsubscribe(&mut self, number: u16, tag: &str) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        channel.forget_inferred(tag);
        if channel.consumers.remove(tag).is_some() {
            self.consumer_count = self.consumer_count.saturating_sub(1);
        }
    }

    // Errors

    /// `channel.close` or `connection.close` with an error: what is open on the channel, or on all of them, failed.
    fn failed(
        &mut self,
        from: Sender,
        number: u16,
        id: Id,
        failure: Failure,
        extent: Extent,
        out: &mut Events,
    ) {
        if id == method::CHANNEL_CLOSE {
            return self.fail_channel(from, number, &failure, extent, out);
        }
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            self.fail_channel(from, number, &failure, extent, out);
        }
    }

    fn fail_channel(
        &mut self,
        from: Sender,
        number: u16,
        failure: &Failure,
        extent: Extent,
        out: &mut Events,
    ) {
        let Failure { error, is_publish } = failure;
        let Some(channel) = self.channels.get_mut(&number) else { return };
        channel.closing = Some(error.clone());
        while let Some(channel) = self.channels.get_mut(&number)
            && let Some(mut waiting) = channel.take_head(Queue::Publishes)
        {
            if self.lost_since(waiting.answerer, waiting.since).is_some() {
                self.close(waiting, Ending::unanswered(Completeness::Cut, extent.end.at), out);
                continue;
            }
            if let Some(ActionKind::Publish(publish)) =
                waiting.operation.as_mut().and_then(|operation| kind_mut(operation))
            {
                publish.outcome = PublishOutcome::Error { code: error.0, text: error.1.clone() };
            }
            self.close(waiting, Ending::answered(extent), out);
        }
        self.fail_sent(number, error, *is_publish, extent, out);
        // The broker requeues what was not settled.
        self.close_queue(number, Queue::Deliveries, Completeness::Cut, extent.end.at, out);
        while let Some(channel) = self.channels.get_mut(&number)
            && let Some(at) = channel.asked.iter().position(|asked| asked.from != from)
            && let Some(mut asked) = channel.asked.remove(at)
        {
            if self.lost_since(asked.waiting.answerer, asked.waiting.since).is_some() {
                self.close(asked.waiting, Ending::unanswered(Completeness::Cut, extent.end.at), out);
                continue;
            }
            // The first of them is the one that failed; those behind it are not looked at any more.
            if let Some(ActionKind::Method(method)) =
                asked.waiting.operation.as_mut().and_then(|operation| kind_mut(operation))
            {
                method.error = Some(error.clone());
            }
            self.close(asked.waiting, Ending::answered(extent), out);
        }
    }
}

/// Why a channel or the connection is closed.
struct Failure {
    error: (u16, String),
    /// The broker objects to a publish.
    is_publish: bool,
}

/// Arguments of a queue by which it drops messages, or goes away itself (RabbitMQ, "Time-To-Live and Expiration", "Queue Length Limit").
const LIMITS: [&str; 4] = ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes"];

/// A declaration of a queue that keeps what it has until somebody takes it.
fn keeps(arguments: Arguments<'_>) -> bool {
    let Arguments::Declare { stays: true, arguments: Some(bytes), .. } = arguments else { return false };
    let table = table::read(bytes);
    !table.cut && !table.fields.iter().any(|(name, _)| LIMITS.contains(&name.as_str()))
}
