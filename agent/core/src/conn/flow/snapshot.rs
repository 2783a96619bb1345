//! One connection ⇄ what the next agent goes on with, when it meets the connection again.
//!
//! *Owns* where its session takes over. *Must not know* what sessions learn.

use super::{Context, Flow, State};
use crate::conn::look::PerDirection;
use crate::conn::preface::Preface;
use crate::conn::snapshot::{self, Connection, GoesOn, Known, Stands};
use crate::protocol::snapshot::{Past, Texts};
use crate::record::{Data, Direction, Transport};
use crate::stream::Duplex;

impl Flow {
    /// The first bytes under this agent's eyes of a connection that an earlier one knew: its session takes over.
    pub(super) fn go_on(&mut self, known: Known, data: &Data, cx: &mut Context) {
        let Known { connection, texts } = known;
        let goes_on = connection.goes_on(&self.info.conn, data);
        let is_plain = !self.is_plaintext && matches!(self.state, State::Detecting(_));
        if goes_on == GoesOn::Impossible || !is_plain {
            cx.waiting.stats.impossible += 1;
            return;
        }
        let (role, protocol) = (connection.role, connection.learned.protocol());
        let mut session = (cx.make_session)(protocol, role, &cx.limits);
        let unbroken = matches!(goes_on, GoesOn::Unbroken(_));
        let past = Past { learned: &connection.learned, texts: &texts, unbroken, at: data.at };
        if !session.import(&past) {
            cx.waiting.stats.useless += 1;
            return;
        }
        self.preface = Preface::over();
        let counts = connection.learned.counts();
        cx.waiting.stats.statements += counts.statements;
        cx.waiting.stats.consumers += counts.consumers;
        if let GoesOn::Unbroken(Stands { ingress, egress }) = goes_on {
            cx.waiting.stats.unbroken += 1;
            self.duplex = Duplex::resumed(ingress, egress, cx.window);
            self.delivered = PerDirection { ingress, egress };
        } else {
            cx.waiting.stats.broken += 1;
        }
        self.talk(session, protocol, role, cx);
    }

    /// What the next agent should know. `None`: nothing, or it is about to end, or who it is cannot be told.
    pub(in crate::conn) fn export(&self, texts: &mut Texts) -> Option<Connection> {
        if self.is_closing() || self.is_plaintext || self.tls.is_some() || !self.is_announced {
            return None;
        }
        if let Some(known) = &self.known {
            return Some(snapshot::again(&known.connection, &known.texts, texts));
        }
        let State::Speaking(talk) = &self.state else { return None };
        let conn = &self.info.conn;
        let is_certain = conn.transport == Transport::Tcp && conn.wire.is_some() && self.duplex.held() == 0;
        let stands = |direction| self.duplex.stream(direction).delivered().filter(|_| is_certain);
        let stands = stands(Direction::Ingress).zip(stands(Direction::Egress));
        Some(Connection {
            id: conn.id,
            transport: conn.transport,
            local: conn.local.clone(),
            remote: conn.remote.clone(),
            netns: conn.netns,
            wire: conn.wire,
            role: talk.role,
            stands: stands.map(|(ingress, egress)| Stands { ingress, egress }),
            spoke_at: self.spoke_at,
            learned: talk.session.export(texts)?,
        })
    }
}
