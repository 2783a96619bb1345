//! A messaging span → what became of the message.
//!
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, "RabbitMQ": a consumer's destination is
//! `{exchange}:{routing key}:{queue}` with empty and equal parts left out.

use super::attributes::Attributes;
use super::text::tidy;
use super::{Died, Sent, Settled, Step};

const MAX_NAME: usize = 255;

/// `None` when the span is of no broker.
pub(super) fn step(attributes: Attributes<'_>) -> Option<Step> {
    attributes.text("messaging.system")?;
    let destination = attributes.text("messaging.destination.name").unwrap_or("");
    // With numbers left out, messages of all orders have one destination.
    let to = || tidy(attributes.text("messaging.destination.template").unwrap_or(destination), MAX_NAME);
    let queue = || queue(destination, attributes.text("messaging.rabbitmq.destination.routing_key"));
    let operation = attributes.text("messaging.operation.name").unwrap_or("");
    let kind = attributes.text("messaging.operation.type").unwrap_or("");
    Some(match (operation, kind) {
        ("dwell", _) => Step::Waited { queue: queue(), died: died(attributes) },
        (_, "send" | "publish" | "create") => {
            Step::Published { destination: to(), outcome: sent(attributes) }
        }
        // It was published and its span is over; now it came back.
        ("return", _) => Step::Published { destination: to(), outcome: Sent::Returned },
        (_, "process" | "receive") => Step::Handled {
            queue: queue(),
            settled: settled(attributes),
            redelivered: attributes.truth("spoor.messaging.redelivered"),
        },
        _ => Step::Other,
    })
}

fn sent(attributes: Attributes<'_>) -> Sent {
    match attributes.text("spoor.messaging.outcome") {
        Some("confirmed" | "committed") => Sent::Confirmed,
        // What was rolled back never became a message.
        Some("nacked" | "error" | "rolled_back") => Sent::Refused,
        Some("returned") => Sent::Returned,
        _ => Sent::Unconfirmed,
    }
}

fn settled(attributes: Attributes<'_>) -> Settled {
    match attributes.text("spoor.messaging.settlement") {
        Some("ack") => Settled::Acknowledged,
        Some("auto") => Settled::Automatic,
        Some("nack" | "reject") if attributes.truth("spoor.messaging.requeue") => Settled::PutBack,
        Some("nack" | "reject") => Settled::Rejected,
        _ => Settled::Unknown,
    }
}

fn died(attributes: Attributes<'_>) -> Option<Died> {
    Some(Died {
        queue: tidy(attributes.text("spoor.messaging.death.queue")?, MAX_NAME),
        reason: tidy(attributes.text("spoor.messaging.death.reason").unwrap_or(""), MAX_NAME),
    })
}

/// The queue's own name where the destination tells it apart from exchange and routing key, else the whole destination.
pub(super) fn queue(destination: &str, routing_key: Option<&str>) -> String {
    let own = routing_key
        .filter(|key| !key.is_empty())
        .and_then(|key| destination.split_once(&format!("{key}:")))
        .filter(|(before, _)| before.is_empty() || before.ends_with(':'))
        .map(|(_, queue)| queue)
        .filter(|queue| !queue.is_empty());
    tidy(own.unwrap_or(destination), MAX_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_told_from_exchange_and_routing_key() {
        for (destination, routing_key, expected) in [
            ("orders:order.confirmed:mes.orders", Some("order.confirmed"), "mes.orders"),
            ("order.confirmed:mes.orders", Some("order.confirmed"), "mes.orders"),
            ("orders:order.confirmed", Some("order.confirmed"), "orders:order.confirmed"),
            ("mes.orders", Some("mes.orders"), "mes.orders"),
            ("mes.orders", None, "mes.orders"),
            ("a:b", Some(""), "a:b"),
        ] {
            assert_eq!(queue(destination, routing_key), expected, "{destination}");
        }
    }
}
