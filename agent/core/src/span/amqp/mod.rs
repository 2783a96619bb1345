//! An AMQP action → its part of a span.
//!
//! *Owns* messaging's names, kinds, statuses and attributes. *Must not know* how publishes and deliveries were paired.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, "Messaging spans" and "RabbitMQ".
//!
//! | action | name | kind | type | ends |
//! |---|---|---|---|---|
//! | publish | `publish {destination}`, of Celery with its task: `publish {destination} {task}` | PRODUCER | send | with its confirm, its return or the end of its transaction, else with its last byte |
//! | delivery | `process {destination}`, and so | CONSUMER | process | with its settlement, else with the last operation it caused |
//! | return of a publish that was over | `return {destination}` | CLIENT | – | with its last byte |
//! | get | `get {destination}` | CLIENT | receive | with the message |
//! | ack, nack, reject | `ack {destination}`, `nack …`, `reject …` | CLIENT | settle | at once |
//! | time in the queue | `dwell {queue}` | INTERNAL | – | when the broker sends it on |
//! | `connection.blocked` | `connection.blocked {broker}` | CLIENT | – | with `connection.unblocked` |
//! | any other method | `queue.declare {name}` | CLIENT | – | with its reply |
//!
//! A delivery is seen when it reaches the consumer's socket, which may be long before its handler runs: without evidence of
//! work the span begins there, and says `spoor.messaging.prefetched`.

use super::build::{Draft, Placed, Work, int, server_end, set_peer, set_server};
use crate::operation::amqp::{
    Action, ActionKind, Content, Deliver, Method, Publish, PublishOutcome, Settle, Settlement,
};
use crate::operation::{Completeness, Detail};
use crate::privacy::redact::REDACTED;
use crate::privacy::{is_personal, messages};
use crate::record::Endpoint;
use crate::span::{SpanKind, semconv};
use crate::time::BootTime;
use crate::trace::Attributes;

mod template;

/// Longest reply text exported.
const MAX_TEXT: usize = 256;

pub(super) fn draft(placed: &Placed<'_>, action: &Action, work: Work) -> Draft {
    let mut draft = match &action.kind {
        ActionKind::Publish(publish) => sent(placed, publish, SpanKind::Producer, "publish", Some("send")),
        // The publish is over and has its span; what came back belongs to none of the conventions' types.
        ActionKind::Return(publish) => sent(placed, publish, SpanKind::Client, "return", None),
        ActionKind::Deliver(deliver) => processed(placed, deliver, work),
        ActionKind::Get(message) => received(placed, message.as_ref()),
        ActionKind::Settle(settle) => settled(placed, settle),
        ActionKind::Method(method) => called(placed, method),
    };
    if let Some(vhost) = action.vhost.as_deref().filter(|vhost| *vhost != "/") {
        draft.attributes.set(semconv::SPOOR_MESSAGING_VHOST, vhost);
    }
    if placed.op.completeness == Completeness::Cut
        && draft.status == super::Status::Unset
        && !matches!(action.kind, ActionKind::Deliver(_))
    {
        draft.error("connection_closed", String::new());
    }
    draft
}

/// A message's time in the broker. `placed` is the broker's view of the delivery, or of the `basic.get`.
pub(super) fn dwell(since: Option<BootTime>, placed: &Placed<'_>) -> Draft {
    let mut draft = Draft::new(placed.op, SpanKind::Internal);
    let pulled =
        matches!(&placed.op.detail, Detail::Amqp(action) if matches!(action.kind, ActionKind::Get(_)));
    let answer = placed.op.response.filter(|_| pulled);
    draft.end = answer.map_or(placed.op.request.start.at, |answer| answer.start.at);
    draft.start = since.unwrap_or(draft.end).min(draft.end);
    if since.is_none() {
        draft.attributes.set(semconv::SPOOR_INCOMPLETE, "start");
    }
    draft.attributes.set(semconv::MESSAGING_SYSTEM, semconv::RABBITMQ);
    draft.attributes.set(semconv::MESSAGING_OPERATION_NAME, "dwell");
    if let Detail::Amqp(action) = &placed.op.detail
        && let ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) = &action.kind
    {
        let place = match &deliver.queue {
            Some(queue) => destination("", "", Some(queue)),
            None => destination(&deliver.exchange, &deliver.routing_key, None),
        };
        draft.name = named("dwell", &place);
        place.set(&deliver.routing_key, &mut draft.attributes);
        message(&deliver.content, &mut draft.attributes);
        again(deliver, &mut draft.attributes);
    }
    draft
}

/// It had left a queue before.
fn again(deliver: &Deliver, attributes: &mut Attributes) {
    if deliver.redelivered {
        attributes.set(semconv::SPOOR_MESSAGING_REDELIVERED, true);
    }
    let Some(death) = deliver.content.death() else { return };
    if let Some(queue) = death.queue {
        attributes.set(semconv::SPOOR_MESSAGING_DEATH_QUEUE, queue);
    }
    if let Some(reason) = death.reason {
        attributes.set(semconv::SPOOR_MESSAGING_DEATH_REASON, reason);
    }
    if let Some(count) = death.count {
        attributes.set(semconv::SPOOR_MESSAGING_DEATH_COUNT, int(count));
    }
}

fn begin(placed: &Placed<'_>, kind: SpanKind, operation: &str, operation_type: Option<&str>) -> Draft {
    let mut draft = Draft::new(placed.op, kind);
    draft.attributes.set(semconv::MESSAGING_SYSTEM, semconv::RABBITMQ);
    draft.attributes.set(semconv::MESSAGING_OPERATION_NAME, operation);
    if let Some(operation_type) = operation_type {
        draft.attributes.set(semconv::MESSAGING_OPERATION_TYPE, operation_type);
    }
    let server = server_end(placed);
    set_server(&mut draft.attributes, server, None);
    // The conventions list the peer for all types but `process`.
    if operation_type != Some("process") {
        set_peer(&mut draft.attributes, server);
    }
    draft
}

fn sent(
    placed: &Placed<'_>,
    publish: &Publish,
    kind: SpanKind,
    operation: &str,
    operation_type: Option<&str>,
) -> Draft {
    let mut draft = begin(placed, kind, operation, operation_type);
    let place = destination(&publish.exchange, &publish.routing_key, None);
    draft.name = named_for_task(operation, &place, &publish.content);
    place.set(&publish.routing_key, &mut draft.attributes);
    message(&publish.content, &mut draft.attributes);
    let outcome = match &publish.outcome {
        // What cannot be known is not said.
        PublishOutcome::Unknown => return draft,
        PublishOutcome::Unconfirmed => "unconfirmed",
        PublishOutcome::Confirmed => "confirmed",
        PublishOutcome::Committed => "committed",
        PublishOutcome::RolledBack => "rolled_back",
        PublishOutcome::Refused => {
            draft.error("nack", String::new());
            "nacked"
        }
        PublishOutcome::Returned { code, text } => {
            draft.error(code.to_string(), reply_text(text));
            "returned"
        }
        PublishOutcome::Error { code, text } => {
            draft.error(code.to_string(), reply_text(text));
            "error"
        }
    };
    draft.attributes.set(semconv::SPOOR_MESSAGING_OUTCOME, outcome);
    draft
}

fn processed(placed: &Placed<'_>, deliver: &Deliver, work: Work) -> Draft {
    let mut draft = begin(placed, SpanKind::Consumer, "process", Some("process"));
    delivered(deliver, "process", &mut draft);
    if !deliver.consumer_tag.is_empty() {
        draft.attributes.set(semconv::SPOOR_MESSAGING_CONSUMER_TAG, deliver.consumer_tag.as_str());
    }
    let delivered_at = placed.op.request.end.at;
    match work.started_at {
        // A consumer that was idle takes it up at once.
        Some(at) => draft.start = at.max(delivered_at),
        None => {
            draft.start = delivered_at;
            draft.attributes.set(semconv::SPOOR_MESSAGING_PREFETCHED, true);
        }
    }
    let over = deliver.settled_at.or(work.last_at).unwrap_or(placed.op.ended_at);
    draft.end = over.max(draft.start);
    settlement(deliver, &mut draft);
    draft
}

/// A refused message is a failed one, whether it comes again or not.
fn settlement(deliver: &Deliver, draft: &mut Draft) {
    let (name, requeue) = match deliver.settlement {
        Some(Settlement::Ack) => ("ack", None),
        Some(Settlement::Nack { requeue }) => ("nack", Some(requeue)),
        Some(Settlement::Reject { requeue }) => ("reject", Some(requeue)),
        None if deliver.no_ack == Some(true) => ("auto", None),
        None => ("none", None),
    };
    draft.attributes.set(semconv::SPOOR_MESSAGING_SETTLEMENT, name);
    if let Some(requeue) = requeue {
        draft.attributes.set(semconv::SPOOR_MESSAGING_REQUEUE, requeue);
        draft.error(name, String::new());
    }
}

fn received(placed: &Placed<'_>, message: Option<&Deliver>) -> Draft {
    let mut draft = begin(placed, SpanKind::Client, "get", Some("receive"));
    match message {
        Some(deliver) => {
            delivered(deliver, "get", &mut draft);
            if deliver.no_ack == Some(true) {
                draft.attributes.set(semconv::SPOOR_MESSAGING_SETTLEMENT, "auto");
            }
        }
        // An empty queue: the answer does not repeat its name.
        None => {
            draft.name = without_destination("get", placed);
            draft.attributes.set(semconv::MESSAGING_BATCH_MESSAGE_COUNT, 0);
        }
    }
    draft
}

fn delivered(deliver: &Deliver, operation: &str, draft: &mut Draft) {
    let place = destination(&deliver.exchange, &deliver.routing_key, deliver.queue.as_deref());
    draft.name = named_for_task(operation, &place, &deliver.content);
    place.set(&deliver.routing_key, &mut draft.attributes);
    draft.attributes.set(semconv::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG, int(deliver.delivery_tag));
    message(&deliver.content, &mut draft.attributes);
    again(deliver, &mut draft.attributes);
}

fn settled(placed: &Placed<'_>, settle: &Settle) -> Draft {
    let (name, requeue) = match settle.settlement {
        Settlement::Ack => ("ack", None),
        Settlement::Nack { requeue } => ("nack", Some(requeue)),
        Settlement::Reject { requeue } => ("reject", Some(requeue)),
    };
    let mut draft = begin(placed, SpanKind::Client, name, Some("settle"));
    match &settle.source {
        Some(source) => {
            let place = destination(&source.exchange, &source.routing_key, source.queue.as_deref());
            draft.name = named(name, &place);
            place.set(&source.routing_key, &mut draft.attributes);
        }
        // Deliveries that were not seen, or have nothing in common.
        None => draft.name = without_destination(name, placed),
    }
    draft.attributes.set(semconv::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG, int(settle.delivery_tag));
    if let Some(requeue) = requeue {
        draft.attributes.set(semconv::SPOOR_MESSAGING_REQUEUE, requeue);
    }
    if settle.multiple && settle.message_count > 1 {
        draft.attributes.set(semconv::MESSAGING_BATCH_MESSAGE_COUNT, i64::from(settle.message_count));
    }
    draft
}

fn called(placed: &Placed<'_>, method: &Method) -> Draft {
    let mut draft = begin(placed, SpanKind::Client, &method.name, None);
    let target = destination("", "", Some(&method.target));
    if method.target.is_empty() {
        draft.name = without_destination(&method.name, placed);
    } else {
        draft.name = named(&method.name, &target);
        target.set("", &mut draft.attributes);
    }
    if let Some((code, text)) = &method.error {
        draft.error(code.to_string(), reply_text(text));
    }
    if let Some(reason) = &method.reason {
        draft.attributes.set(semconv::SPOOR_MESSAGING_BLOCKED_REASON, reply_text(reason));
    }
    if let Some(lost) = &method.lost {
        let place = destination(&lost.exchange, &lost.routing_key, None);
        draft.name = named(&method.name, &place);
        place.set(&lost.routing_key, &mut draft.attributes);
        message(&lost.content, &mut draft.attributes);
    }
    draft
}

fn message(content: &Content, attributes: &mut Attributes) {
    let properties = &content.properties;
    let shown =
        |value: &Option<String>| value.clone().filter(|value| !value.is_empty() && !is_personal(value));
    if let Some(id) = shown(&properties.message_id) {
        attributes.set(semconv::MESSAGING_MESSAGE_ID, id);
    }
    if let Some(id) = shown(&properties.correlation_id) {
        attributes.set(semconv::MESSAGING_MESSAGE_CONVERSATION_ID, id);
    }
    attributes.set(semconv::MESSAGING_MESSAGE_BODY_SIZE, int(content.body.len));
    if let Some(task) = content.task() {
        attributes.set(semconv::SPOOR_MESSAGING_TASK, task);
    }
}

/// A destination as the conventions' RabbitMQ page builds it.
struct Destination {
    name: String,
    /// The name with its variable parts replaced, when it has such.
    template: Option<String>,
    /// Named for one connection, by the broker or by a library.
    anonymous: bool,
    /// The routing key is not a queue's name.
    has_exchange: bool,
}

impl Destination {
    fn set(&self, routing_key: &str, attributes: &mut Attributes) {
        attributes.set(semconv::MESSAGING_DESTINATION_NAME, self.name.as_str());
        if let Some(template) = &self.template {
            attributes.set(semconv::MESSAGING_DESTINATION_TEMPLATE, template.as_str());
        }
        if self.anonymous {
            attributes.set(semconv::MESSAGING_DESTINATION_ANONYMOUS, true);
            attributes.set(semconv::MESSAGING_DESTINATION_TEMPORARY, true);
        }
        if !routing_key.is_empty() {
            let shown = if self.has_exchange { shown(routing_key) } else { routing_key };
            attributes.set(semconv::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY, shown);
        }
    }
}

/// `{exchange}:{routing_key}` for producers, `{exchange}:{routing_key}:{queue}` for consumers: empty parts are dropped, and
/// one of routing key and queue when they are equal.
fn destination(exchange: &str, routing_key: &str, queue: Option<&str>) -> Destination {
    let queue = queue.unwrap_or("");
    let second = if routing_key == queue { "" } else { routing_key };
    // Without an exchange the routing key is a queue's name, and a queue is no person (`celery@host`).
    let second = if exchange.is_empty() { second } else { shown(second) };
    let parts = [exchange, second, queue].into_iter().filter(|part| !part.is_empty());
    let parts: Vec<&str> = parts.collect();
    let name = if parts.is_empty() { "amq.default".to_owned() } else { parts.join(":") };
    let anonymous = parts.iter().any(|part| template::is_anonymous(part));
    let template = template::of(&name);
    let template = (template != name).then_some(template);
    Destination { name, template, anonymous, has_exchange: !exchange.is_empty() }
}

/// What a routing key says beside an exchange is the application's: it may be a person's address. A queue's name is none.
fn shown(name: &str) -> &str {
    if is_personal(name) { REDACTED } else { name }
}

/// A destination's name, with what stands for one thing only, and what is secret or personal, replaced.
pub(crate) fn shown_destination(name: &str) -> String {
    template::of(name)
}

/// "`messaging.destination.template` SHOULD be used when it is available" (section "Span name").
fn named(operation: &str, place: &Destination) -> String {
    match &place.template {
        Some(template) => format!("{operation} {template}"),
        None => format!("{operation} {}", place.name),
    }
}

/// Celery has one queue for all it does: what a message of it is about is its task. Names of tasks are the program's, as few as it has
/// functions; one that was made of an order's number stays one name.
fn named_for_task(operation: &str, place: &Destination, content: &Content) -> String {
    let name = named(operation, place);
    match content.task() {
        Some(task) => format!("{name} {}", template::of(task)),
        None => name,
    }
}

/// Operations that concern no destination are named after the broker.
fn without_destination(operation: &str, placed: &Placed<'_>) -> String {
    match server_end(placed) {
        Endpoint::Inet(address) => format!("{operation} {address}"),
        Endpoint::Unix(_) | Endpoint::Unknown => operation.to_owned(),
    }
}

fn reply_text(text: &str) -> String {
    messages::broker(text).chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests;
