//! Fuzzer bytes → a connection's story: who sent what, in which records, with which holes.
//!
//! ```text
//!   flags  split  drop  port      then for each record:   tag  length (u16 LE)  bytes
//! ```
//!
//! `flags`: bit 0 the observed process is the server, bit 1 the connection is older than the agent. `split`: longest
//! piece a record is cut into, 0 for no cut. `drop`: every n-th piece becomes a hole, 0 for none. `port`: index of a
//! server port. Tag: bit 0 the server sent it; bits 1–3 say bytes, or 6: time passes, 7: a hole of that length.
//! A length past the end of the input takes what is there, so any bytes are a script.

use std::sync::LazyLock;
use std::time::Duration;

use spoor_core::protocol::Protocol;
use spoor_core::record::{Direction, Role, Sender};

/// Ports a script can name: none, one that nothing is known for, and the first of each protocol, where less is enough to tell it.
static PORTS: LazyLock<Vec<Option<u16>>> = LazyLock::new(|| {
    let known = Protocol::ALL.into_iter().filter_map(|protocol| protocol.ports().first());
    [None, Some(4711)].into_iter().chain(known.map(|range| Some(*range.start()))).collect()
});

/// A story of one connection.
#[derive(Clone, Debug)]
pub struct Script {
    pub role: Role,
    /// Position of the first byte each way.
    pub start: u64,
    pub port: Option<u16>,
    pub steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Bytes(Sender, Vec<u8>),
    Hole(Sender, u64),
    /// Nanoseconds.
    Wait(Duration),
}

impl Script {
    /// Any bytes are a script.
    pub fn read(data: &[u8]) -> Script {
        let (head, mut rest) = data.split_at(data.len().min(4));
        let head = |at: usize| head.get(at).copied().unwrap_or(0);
        let (split, drop) = (usize::from(head(1)), usize::from(head(2)));
        let mut steps = Vec::new();
        let mut pieces = 0;
        while let Some((header, after)) = rest.split_first_chunk::<3>() {
            let [tag, low, high] = *header;
            let len = usize::from(u16::from_le_bytes([low, high]));
            let sender = if tag & 1 == 1 { Sender::Server } else { Sender::Client };
            rest = after;
            match tag >> 1 & 7 {
                6 => steps.push(Step::Wait(Duration::from_millis(len as u64))),
                7 => steps.push(Step::Hole(sender, len as u64)),
                _ => {
                    let (bytes, after) = rest.split_at(len.min(rest.len()));
                    rest = after;
                    let piece_len = if split == 0 { bytes.len().max(1) } else { split };
                    for piece in bytes.chunks(piece_len) {
                        pieces += 1;
                        let lost = drop > 0 && pieces % drop == 0;
                        steps.push(match lost {
                            true => Step::Hole(sender, piece.len() as u64),
                            false => Step::Bytes(sender, piece.to_vec()),
                        });
                    }
                }
            }
        }
        Script {
            role: if head(0) & 1 == 1 { Role::Server } else { Role::Client },
            start: if head(0) & 2 == 2 { 1 << 20 } else { 0 },
            port: PORTS[usize::from(head(3)) % PORTS.len()],
            steps,
        }
    }

    /// The input for a conversation, for the corpus. `header` as above.
    pub fn write<'a>(header: [u8; 4], records: impl IntoIterator<Item = (Sender, &'a [u8])>) -> Vec<u8> {
        let mut data = header.to_vec();
        for (sender, bytes) in records {
            for bytes in bytes.chunks(usize::from(u16::MAX)) {
                data.push(u8::from(sender == Sender::Server));
                data.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
                data.extend_from_slice(bytes);
            }
        }
        data
    }

    /// The direction in which `sender`'s bytes move for the observed process.
    pub fn direction(&self, sender: Sender) -> Direction {
        match (self.role, sender) {
            (Role::Server, Sender::Client) | (Role::Client, Sender::Server) => Direction::Ingress,
            (Role::Server, Sender::Server) | (Role::Client, Sender::Client) => Direction::Egress,
        }
    }
}
