//! First bytes of both directions → the protocol they speak.
//!
//! *Owns* the judgement over what the protocols of the list say of the bytes, each in the `detect` of its folder; the
//! server's port only breaks a tie. *Must not know* sessions, verdicts.
//!
//! Every look starts at the beginning of a record: what one socket call moved. Programs write whole messages far more
//! often than not, so that is where messages begin, also on connections older than the agent. A connection is ours when
//! bytes fit one protocol so well that nothing else produces them; it is not ours when several turns of talk fit none.

mod opaque;
#[cfg(test)]
mod tests;

use self::opaque::may_be_opaque;
pub use self::opaque::sniff_opaque;
use super::Protocol;
use crate::record::{Direction, Sender};

/// A protocol that is recognised and not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Tls,
}

/// What bytes at the beginning of a record say about one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// They are not the beginning of a message of it.
    No,
    /// They may be, but others may send them too, or it cannot be told who did.
    Maybe,
    /// They are, and this side sent them.
    Yes(Sender),
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// Show more records.
    Undecided,
    /// It speaks `protocol`, and `ingress_sender` sent what the observed process reads.
    Is { protocol: Protocol, ingress_sender: Sender },
    /// A known protocol that is not parsed.
    Opaque(Kind),
    /// None of them, as far as the evidence goes. Later records may still prove it wrong.
    NotOurs,
}

/// Bytes kept of records that are the beginning of something, per direction.
const MAX_JOINED_LEN: usize = 1 << 10;
/// Turns (changes of direction) each way that must begin with nothing known before a connection is not ours.
const MAX_TURNS: u32 = 4;
/// The same for a connection on which only one side is seen talking, in records.
const MAX_ONE_WAY: u32 = 64;
/// Beginnings that never became anything count as nothing after so many.
const MAX_MAYBES: u32 = 16;
/// How much more patience a well-known port buys.
const PORT_PATIENCE: u32 = 8;

/// Watches the first records of one connection, or the next ones of an old connection.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    ingress: Side,
    egress: Side,
    last: Option<Direction>,
    is_opaque: Option<Kind>,
}

/// What one direction showed.
#[derive(Clone, Debug, Default)]
struct Side {
    /// Records that were the beginning of something, waiting for the rest.
    joined: Vec<u8>,
    /// Turns that began with nothing known.
    strange_turns: u32,
    /// Records that began with nothing known.
    strange_records: u32,
    /// Beginnings without a rest.
    maybes: u32,
}

impl Detector {
    /// Looks at the beginning of a record's bytes, as many of them as there are. `server_port_hint` is the port of the
    /// listening side, where known.
    pub fn offer(&mut self, direction: Direction, bytes: &[u8], server_port_hint: Option<u16>) -> Detection {
        if bytes.is_empty() {
            return self.verdict(server_port_hint);
        }
        let is_turn = self.last != Some(direction);
        self.last = Some(direction);
        let side = match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        };
        let mut found = look(bytes, server_port_hint);
        if !side.joined.is_empty() && !matches!(found, Found::Is(..) | Found::Opaque(_)) {
            // Perhaps the rest of what came before: a frame header and its payload, half a request line.
            let room = MAX_JOINED_LEN.saturating_sub(side.joined.len());
            side.joined.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            found = match (look(&side.joined, server_port_hint), found) {
                (Found::Nothing, alone) => alone,
                (joined, _) => joined,
            };
        }
        match found {
            Found::Is(protocol, sender) => {
                let ingress_sender = match (direction, sender) {
                    (Direction::Ingress, sender) => sender,
                    (Direction::Egress, Sender::Client) => Sender::Server,
                    (Direction::Egress, Sender::Server) => Sender::Client,
                };
                return Detection::Is { protocol, ingress_sender };
            }
            Found::Opaque(kind) => self.is_opaque = Some(kind),
            Found::Perhaps => {
                if side.joined.is_empty() {
                    side.joined.extend_from_slice(bytes.get(..MAX_JOINED_LEN).unwrap_or(bytes));
                }
                side.maybes = side.maybes.saturating_add(1);
                if side.maybes > MAX_MAYBES {
                    side.joined.clear();
                    side.is_strange(is_turn);
                }
            }
            Found::Nothing => {
                side.joined.clear();
                side.is_strange(is_turn);
            }
        }
        self.verdict(server_port_hint)
    }

    /// Bytes that it holds beside its own fields.
    pub(crate) fn held(&self) -> usize {
        self.ingress.joined.capacity() + self.egress.joined.capacity()
    }

    fn verdict(&self, port: Option<u16>) -> Detection {
        if let Some(kind) = self.is_opaque {
            return Detection::Opaque(kind);
        }
        let patience = if port.is_some_and(is_known_port) { PORT_PATIENCE } else { 1 };
        let (ingress, egress) = (&self.ingress, &self.egress);
        let both = ingress.strange_turns.min(egress.strange_turns) >= MAX_TURNS * patience;
        let one = ingress.strange_records.max(egress.strange_records) >= MAX_ONE_WAY * patience;
        if both || one { Detection::NotOurs } else { Detection::Undecided }
    }
}

impl Side {
    fn is_strange(&mut self, is_turn: bool) {
        self.strange_turns = self.strange_turns.saturating_add(u32::from(is_turn));
        self.strange_records = self.strange_records.saturating_add(1);
    }
}

/// What one look found.
enum Found {
    Nothing,
    Perhaps,
    Is(Protocol, Sender),
    Opaque(Kind),
}

fn look(bytes: &[u8], port: Option<u16>) -> Found {
    let sniffs = Protocol::ALL.map(|protocol| (protocol, protocol.sniff(bytes)));
    let mut yes = sniffs.iter().filter_map(|(protocol, sniff)| match sniff {
        Sniff::Yes(sender) => Some((*protocol, *sender)),
        _ => None,
    });
    if let Some(first) = yes.next() {
        // Two protocols that both claim the bytes have not been seen; the port would decide.
        let (protocol, sender) =
            yes.find(|(protocol, _)| port.and_then(home) == Some(*protocol)).unwrap_or(first);
        return Found::Is(protocol, sender);
    }
    if let Some(kind) = sniff_opaque(bytes) {
        return Found::Opaque(kind);
    }
    // On its own port, a single message that others might send too is enough, if it tells who sent it.
    if let Some(protocol) = port.and_then(home)
        && let Some(sender) = protocol.weak_sender(bytes)
    {
        return Found::Is(protocol, sender);
    }
    let is_begun = sniffs.iter().any(|(_, sniff)| *sniff == Sniff::Maybe) || may_be_opaque(bytes);
    if is_begun { Found::Perhaps } else { Found::Nothing }
}

/// The protocol a server port is known for.
fn home(port: u16) -> Option<Protocol> {
    Protocol::ALL.into_iter().find(|protocol| protocol.ports().iter().any(|range| range.contains(&port)))
}

fn is_known_port(port: u16) -> bool {
    home(port).is_some()
}
