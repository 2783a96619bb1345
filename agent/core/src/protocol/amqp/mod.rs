//! Bytes of one AMQP 0-9-1 connection (with RabbitMQ's extensions) in, publishes, deliveries, gets, settlements and
//! methods with their answers out.
//!
//! ```text
//!   bytes ─ frame (sync) ─▶ method │ content header │ body ─▶ channel (confirm) ─▶ session ─▶ Event
//! ```
//!
//! *Owns* frames and finding their boundary in mid-stream ([`frame`], `sync`), methods ([`method`]), content headers
//! ([`content`]), field tables ([`table`]), what one channel is in the middle of (`channel`, `confirm`), and the
//! [`AmqpSession`] over them. *Must not know* other connections, spans, orders.
//!
//! *Spec*: AMQP 0-9-1 (specification and `amqp0-9-1.extended.xml`), RabbitMQ's errata for the type octets of field
//! tables, and its extensions: `basic.nack`, publisher confirms, `connection.blocked`, `connection.update-secret`,
//! exchange-to-exchange bindings.

mod assembly;
mod channel;
mod confirm;
pub mod content;
mod detect;
mod dispatch;
mod feed;
pub mod frame;
pub mod method;
mod sent;
mod session;
mod settle;
pub mod snapshot;
mod sync;
pub mod table;
mod wire;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use super::registry::Spec;
use crate::operation::Interaction;
pub use session::AmqpSession;
pub use snapshot::Learned;
pub use sync::{Likeness, likeness};

pub(super) const SPEC: Spec = Spec {
    name: "amqp",
    title: "AMQP 0-9-1",
    interaction: Interaction::Message,
    ports: &[5672..=5672],
    sniff: detect::sniff,
    weak_sender: None,
    session: |role, limits| Box::new(AmqpSession::new(role, limits)),
    shared: None,
    #[cfg(test)]
    example: tests::example,
};
