//! PostgreSQL's frontend/backend protocol, 3.0 and 3.2: bytes of both sides in, an [`Event`](super::Event) stream about
//! statements out.
//!
//! ```text
//!   bytes ─▶ frame (messages, each side) ─▶ core (frontend, backend) ─▶ open (operations) ─▶ events
//!                                            └─ catalog (statements, portals)
//! ```
//!
//! One operation per statement executed: per Execute in the extended protocol, per statement of the text in a simple
//! query. It begins with the first of Parse, Bind and Execute that belongs to it, and ends with CommandComplete or an
//! error, so that pipelined statements have times of their own.
//!
//! *Owns* the protocol's state of one connection. *Must not know* spans, orders, other connections.
//! *Spec*: PostgreSQL documentation, chapter 55 "Frontend/Backend Protocol" (of version 17).

mod backend;
mod body;
mod catalog;
mod core;
mod detect;
mod frame;
mod frontend;
mod open;
mod parse;
mod revealed;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod value;

use self::core::{Core, Phase};
use self::frame::Side;
use self::revealed::Revealed;
pub(crate) use self::revealed::is_chosen_name;
pub use self::snapshot::Learned;
use super::registry::Spec;
use crate::operation::{Interaction, Operation};
use crate::protocol::Snapshot;
use crate::protocol::snapshot::{Past, Texts};
use crate::protocol::{End, Events, Session, Want};
use crate::record::{Mark, OpId, Role, Sender};
use crate::settings::Protocols;
use crate::time::BootTime;

pub(super) const SPEC: Spec = Spec {
    name: "postgresql",
    title: "PostgreSQL",
    interaction: Interaction::Call,
    ports: &[5432..=5439, 6432..=6432],
    sniff: detect::sniff,
    weak_sender: Some(detect::weak_sender),
    session: |role, limits| Box::new(PostgresSession::new(role, limits)),
    shared: Some(|| Box::new(Revealed::default())),
    #[cfg(test)]
    example: tests::example,
};

/// One connection.
#[derive(Debug)]
pub struct PostgresSession {
    client: Side,
    server: Side,
    core: Core,
}

impl PostgresSession {
    /// A connection seen by a process of this role: the client's statements go out, a server's own end relays them.
    pub fn new(role: Role, limits: &Protocols) -> Self {
        Self {
            client: Side::new(Sender::Client),
            server: Side::new(Sender::Server),
            core: Core::new(role, limits),
        }
    }

    fn side(&mut self, from: Sender) -> (&mut Side, &mut Core) {
        match from {
            Sender::Client => (&mut self.client, &mut self.core),
            Sender::Server => (&mut self.server, &mut self.core),
        }
    }

    /// What one side's messages mean for how the other's are read.
    fn settle(&mut self) {
        match self.core.phase {
            Phase::Encryption if !self.client.is_opaque() => self.server.expect_encryption(),
            Phase::Startup { .. } => self.server.begin_at_message(),
            _ => {}
        }
        if self.client.is_opaque() || self.server.is_opaque() {
            self.client.close();
            self.server.close();
        }
    }
}

impl Session for PostgresSession {
    fn bytes(&mut self, from: Sender, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events) {
        let (side, core) = self.side(from);
        side.bytes(pos, bytes, mark, core, out);
        self.settle();
    }

    fn gap(&mut self, from: Sender, pos: u64, len: u64, mark: Mark, out: &mut Events) {
        let (side, core) = self.side(from);
        side.gap(pos, len, mark, core, out);
        self.settle();
    }

    fn end(&mut self, end: End, at: BootTime, out: &mut Events) {
        self.core.end(end, at, out);
        self.client.close();
        self.server.close();
    }

    fn held(&self) -> usize {
        size_of::<Self>() + self.client.held() + self.server.held() + self.core.held()
    }

    fn relieve(&mut self) {
        self.core.open.forget_values();
    }

    fn peek(&self, op: OpId) -> Option<Operation> {
        self.core.open.peek(op)
    }

    fn want(&self, from: Sender) -> Want {
        let side = match from {
            Sender::Client => &self.client,
            Sender::Server => &self.server,
        };
        match side.unwanted() {
            _ if side.is_opaque() => Want::Nothing,
            0 => Want::All,
            len => Want::Skip(len),
        }
    }

    fn is_sealed(&self) -> bool {
        self.core.is_sealed
    }

    fn export(&self, texts: &mut Texts) -> Option<Snapshot> {
        if self.client.is_opaque() || self.server.is_opaque() {
            return None;
        }
        let at_rest = self.client.is_between_messages() && self.server.is_between_messages();
        self.core.export(at_rest, texts).map(Snapshot::Postgres)
    }

    fn import(&mut self, past: &Past<'_>) -> bool {
        let Snapshot::Postgres(learned) = past.learned else { return false };
        let at_rest = past.unbroken && learned.at_rest;
        for side in [&mut self.client, &mut self.server] {
            side.join(at_rest);
        }
        self.core.import(learned, past.texts, at_rest);
        true
    }
}
