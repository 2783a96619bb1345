//! Captures of real AMQP clients without any one of their packets: what is told is true, what was over before is told in
//! full, and what begins after the loss too, but for what the lost packet said of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use spoor_core::operation::amqp::{
    Action, ActionKind, Content, Deliver, Properties, Publish, PublishOutcome,
};
use spoor_core::operation::{Completeness, Detail, OpSide, Operation};
use spoor_core::protocol::Session;
use spoor_core::protocol::amqp::AmqpSession;
use spoor_core::record::Sender::{self, Client, Server};
use spoor_core::record::{OpId, Role};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::captures::losses::{Judge, Tally, without_any_packet};
use spoor_tests::captures::{Packet, any_size_of_reads, connections, every_beginning, run};
use spoor_tests::recorded::fixtures;

/// The broker's port in all captures.
const PORT: u16 = 25_672;

fn captures() -> Vec<PathBuf> {
    let folder = fixtures().join("amqp");
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "pcap")).collect();
    found.sort();
    assert!(found.len() >= 10, "{} captures", found.len());
    found
}

fn session() -> Box<dyn Session> {
    Box::new(AmqpSession::new(Role::Client, &Protocols::default()))
}

fn action(operation: &Operation) -> &Action {
    match &operation.detail {
        Detail::Amqp(action) => action,
        other => panic!("{other:?}"),
    }
}

fn action_mut(operation: &mut Operation) -> &mut Action {
    match &mut operation.detail {
        Detail::Amqp(action) => action,
        other => panic!("{other:?}"),
    }
}

/// Who sent its request.
fn sender(operation: &Operation) -> Sender {
    match &action(operation).kind {
        ActionKind::Deliver(_) | ActionKind::Return(_) => Server,
        ActionKind::Method(_) if operation.shape == OpSide::Relayed => Server,
        _ => Client,
    }
}

fn known<T: PartialEq>(found: &Option<T>, whole: &Option<T>) -> bool {
    found.is_none() || found == whole
}

fn is_content_part(found: &Content, whole: &Content) -> bool {
    let is_properties_part = |f: &Properties, w: &Properties| {
        f.headers.iter().all(|field| w.headers.contains(field))
            && known(&f.content_type, &w.content_type)
            && known(&f.content_encoding, &w.content_encoding)
            && known(&f.delivery_mode, &w.delivery_mode)
            && known(&f.priority, &w.priority)
            && known(&f.correlation_id, &w.correlation_id)
            && known(&f.reply_to, &w.reply_to)
            && known(&f.expiration, &w.expiration)
            && known(&f.message_id, &w.message_id)
            && known(&f.timestamp, &w.timestamp)
            && known(&f.kind, &w.kind)
            && known(&f.user_id, &w.user_id)
            && known(&f.app_id, &w.app_id)
            && known(&f.cluster_id, &w.cluster_id)
    };
    match found.properties_cut {
        // Not even its length.
        true => {
            is_properties_part(&found.properties, &whole.properties)
                && (found.body.len == 0 || found.body.len == whole.body.len)
                && whole.body.bytes.starts_with(&found.body.bytes)
        }
        false => {
            found.properties == whole.properties
                && found.body.len == whole.body.len
                && whole.body.bytes.starts_with(&found.body.bytes)
                && (found.body.holed || found.body == whole.body)
        }
    }
}

fn is_publish_part(found: &Publish, whole: &Publish) -> bool {
    (&found.exchange, &found.routing_key, found.mandatory)
        == (&whole.exchange, &whole.routing_key, whole.mandatory)
        && is_content_part(&found.content, &whole.content)
        && (is_without_answer(&found.outcome) || found.outcome == whole.outcome)
}

/// No answer of the broker was seen, or it cannot be known which one it was.
fn is_without_answer(outcome: &PublishOutcome) -> bool {
    matches!(outcome, PublishOutcome::Unconfirmed | PublishOutcome::Unknown)
}

fn is_delivery_part(found: &Deliver, whole: &Deliver) -> bool {
    (&found.exchange, &found.routing_key, &found.consumer_tag, found.delivery_tag, found.redelivered)
        == (&whole.exchange, &whole.routing_key, &whole.consumer_tag, whole.delivery_tag, whole.redelivered)
        && known(&found.queue, &whole.queue)
        && known(&found.no_ack, &whole.no_ack)
        && known(&found.settlement, &whole.settlement)
        && known(&found.settled_at, &whole.settled_at)
        && is_content_part(&found.content, &whole.content)
}

/// Of an operation, what the confirm said and when.
fn unanswered(operation: &Operation) -> Operation {
    let mut operation = operation.clone();
    operation.response = None;
    operation.ended_at = operation.request.end.at;
    operation.completeness = Completeness::Complete;
    if let ActionKind::Publish(publish) = &mut action_mut(&mut operation).kind {
        publish.outcome = PublishOutcome::Unconfirmed;
    }
    operation
}

/// Without what was said earlier on the connection: virtual host, subscription, how many deliveries were open, the publish that a
/// channel was closed for.
fn anywhere(operation: &Operation) -> Operation {
    let mut operation = operation.clone();
    if let ActionKind::Method(method) = &mut action_mut(&mut operation).kind {
        method.lost = None;
    }
    let action = action_mut(&mut operation);
    action.vhost = None;
    match &mut action.kind {
        ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver)) => {
            deliver.queue = None;
            deliver.no_ack = None;
        }
        ActionKind::Settle(settle) => {
            settle.message_count = 0;
            settle.source = None;
        }
        // The queue declared last, or that of a consumer.
        ActionKind::Method(method)
            if method.name.starts_with("basic.") || method.name.starts_with("queue.") =>
        {
            method.target = String::new();
        }
        _ => {}
    }
    operation
}

struct Actions;

impl Judge for Actions {
    fn normal(&self, operation: &Operation) -> Operation {
        let mut operation = Operation { id: OpId::default(), ..operation.clone() };
        match &mut action_mut(&mut operation).kind {
            ActionKind::Settle(settle) => settle.delivery = None,
            // When it was told is not what it was.
            ActionKind::Publish(publish) => publish.is_told = false,
            _ => {}
        }
        operation
    }

    fn is_same(&self, found: &Operation, whole: &Operation) -> bool {
        // Of a `basic.get`, and of a publish that came back, perhaps the answer only.
        let answer = whole.response.map(|response| response.start.pos);
        let is_answer_only = match (&action(found).kind, &action(whole).kind) {
            (ActionKind::Get(Some(_)), ActionKind::Get(Some(_))) => found.request.is_empty(),
            (ActionKind::Return(_), ActionKind::Publish(_)) => true,
            _ => false,
        };
        match is_answer_only {
            true => answer == Some(found.request.start.pos),
            false => sender(found) == sender(whole) && found.request.start.pos == whole.request.start.pos,
        }
    }

    fn is_part(&self, found: &Operation, whole: &Operation) -> bool {
        let is_whole = found.completeness == Completeness::Complete;
        let (f, w) = (action(found), action(whole));
        let kind = match (&f.kind, &w.kind) {
            (ActionKind::Publish(f), ActionKind::Publish(w)) => is_publish_part(f, w),
            (ActionKind::Return(f), ActionKind::Publish(w) | ActionKind::Return(w)) => is_publish_part(f, w),
            (ActionKind::Deliver(f), ActionKind::Deliver(w)) => is_delivery_part(f, w),
            (ActionKind::Get(Some(f)), ActionKind::Get(Some(w))) => is_delivery_part(f, w),
            (ActionKind::Get(None), ActionKind::Get(w)) => w.is_none() || !is_whole,
            (ActionKind::Settle(f), ActionKind::Settle(w)) => {
                (f.settlement, f.delivery_tag, f.multiple) == (w.settlement, w.delivery_tag, w.multiple)
                    && (f.message_count == 0 || f.message_count == w.message_count)
            }
            (ActionKind::Method(f), ActionKind::Method(w)) => {
                f.name == w.name && (f.target.is_empty() || f.target == w.target) && known(&f.error, &w.error)
            }
            _ => false,
        };
        f.channel == w.channel
            && known(&f.vhost, &w.vhost)
            && kind
            && (found.shape == whole.shape || self.is_apart(found, whole))
    }

    fn is_exact(&self, found: &Operation, whole: &Operation) -> bool {
        let (found, whole) = (anywhere(&self.normal(found)), anywhere(&self.normal(whole)));
        let is_unconfirmed = matches!(
            &action(&found).kind,
            ActionKind::Publish(publish) if is_without_answer(&publish.outcome)
        );
        // A publish whose number is not known ends with its last byte.
        found == whole
            || (is_unconfirmed && found.response.is_none() && unanswered(&found) == unanswered(&whole))
    }

    fn is_told(&self, found: &Operation, whole: &Operation) -> bool {
        let (f, w) = (&action(found).kind, &action(whole).kind);
        // Without the subscription it is not known that nobody will settle it.
        if let (ActionKind::Deliver(f), ActionKind::Deliver(w)) = (f, w)
            && (f.no_ack, w.no_ack) == (None, Some(true))
        {
            return self.is_part(found, whole) && found.request == whole.request;
        }
        let is_numbered = found.response.is_some() || !matches!(f, ActionKind::Publish(_));
        (found.completeness == whole.completeness || !is_numbered) && self.is_exact(found, whole)
    }

    /// Without the channel's mode nothing waits for what comes back.
    fn is_apart(&self, found: &Operation, whole: &Operation) -> bool {
        matches!((&action(found).kind, &action(whole).kind), (ActionKind::Return(_), ActionKind::Publish(_)))
    }

    /// Nothing but the boundary of the next frame has to be found.
    fn certain_after(&self, packets: &[Packet], lost: usize) -> Option<BootTime> {
        Some(packets[lost].at)
    }

    /// A settlement's delivery is that with its tag.
    fn check_all(&self, found: &[Operation], _: &[Operation], what: &str) {
        let tags: BTreeMap<OpId, (u16, u64)> = found
            .iter()
            .filter_map(|operation| match &action(operation).kind {
                ActionKind::Deliver(deliver) => {
                    Some((operation.id, (action(operation).channel, deliver.delivery_tag)))
                }
                _ => None,
            })
            .collect();
        for operation in found {
            let ActionKind::Settle(settle) = &action(operation).kind else { continue };
            let Some(delivery) = settle.delivery else { continue };
            let tag = tags.get(&delivery);
            let is_meant = tag.is_some_and(|(channel, tag)| {
                *channel == action(operation).channel
                    && (*tag == settle.delivery_tag || settle.multiple && *tag < settle.delivery_tag)
            });
            assert!(is_meant, "{what}: {operation:?} of {tag:?}");
        }
    }
}

#[test]
fn without_any_packet_the_rest_is_told_exactly_and_nothing_else() {
    let mut all = Tally::default();
    for path in captures() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        for connection in connections(&path, &[PORT]) {
            let tally = without_any_packet(&name, &connection.packets, |_| true, session, &Actions);
            all.add(tally);
        }
    }
    all.check(10_000);
}

#[test]
fn every_beginning_of_a_connection_is_incomplete_and_never_wrong() {
    for path in captures() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        for connection in connections(&path, &[PORT]) {
            every_beginning(&name, &connection.packets, session);
            any_size_of_reads(&name, &connection.packets, session);
        }
    }
}

/// What state a lost packet carried is unknown, and only that: a subscription, a declaration, the mode of a channel.
#[test]
fn what_a_lost_packet_said_is_unknown_afterwards() {
    let path = fixtures().join("amqp/pika_life_cycle.pcap");
    let (mut subscriptions, mut modes) = (0, 0);
    for connection in connections(&path, &[PORT]) {
        let packets = &connection.packets;
        let with = |lost: Option<usize>| {
            run(session(), packets, lost, usize::MAX, spoor_core::protocol::End::Closed).operations
        };
        let whole = with(None);
        for (lost, packet) in packets.iter().enumerate().filter(|(_, packet)| packet.from == Client) {
            let end = packet.pos + packet.data.len() as u64;
            let carries = |name: &str| {
                whole.iter().find(|operation| {
                    let is_it =
                        matches!(&action(operation).kind, ActionKind::Method(method) if method.name == name);
                    is_it && (packet.pos..end).contains(&operation.request.start.pos)
                })
            };
            let found = || with(Some(lost));
            if let Some(consume) = carries("basic.consume") {
                let ActionKind::Method(method) = &action(consume).kind else { unreachable!() };
                let is_its = |operation: &&Operation| match &action(operation).kind {
                    ActionKind::Deliver(deliver) => {
                        operation.request.start.at > packet.at
                            && action(operation).channel == action(consume).channel
                            && deliver.queue.as_ref() == Some(&method.target)
                    }
                    _ => false,
                };
                if let Some(first) = whole.iter().find(is_its) {
                    let found = found();
                    let view = found.iter().find(|operation| Actions.is_same(operation, first));
                    let Some(ActionKind::Deliver(deliver)) = view.map(|view| &action(view).kind) else {
                        panic!("{view:?}")
                    };
                    // The default exchange tells the queue.
                    assert!(deliver.queue.is_none() || deliver.exchange.is_empty(), "{deliver:?}");
                    assert_eq!(deliver.no_ack, None, "{deliver:?}");
                    subscriptions += 1;
                }
            }
            if let Some(select) = carries("confirm.select") {
                for operation in found().iter().filter(|operation| operation.request.start.at > packet.at) {
                    if action(operation).channel != action(select).channel {
                        continue;
                    }
                    if let ActionKind::Publish(publish) = &action(operation).kind {
                        // A return says itself which publish it is of.
                        let is_returned = matches!(publish.outcome, PublishOutcome::Returned { .. });
                        assert!(is_returned || is_without_answer(&publish.outcome), "{operation:?}");
                        modes += 1;
                    }
                }
            }
        }
    }
    assert!(subscriptions > 0 && modes > 0, "{subscriptions} subscriptions, {modes} publishes");
}
