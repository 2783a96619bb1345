//! Capture files of real clients → each connection's packets, and what a session makes of them.
//!
//! *Owns* reading the fixtures (classic pcap, perhaps gzipped, Ethernet, IPv4, loopback: nothing lost or reordered), driving one session over
//! a connection, and the properties that hold for every protocol: reads of any size, a beginning only, one packet lost.
//! *Must not know* what operations mean.

pub mod http2;
pub mod losses;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use spoor_core::operation::{Completeness, Operation};
use spoor_core::protocol::{Discard, End, Event, Events, Session};
use spoor_core::record::{Mark, Sender, Worker};
use spoor_core::time::BootTime;

/// A packet with data: who sent it, where in its direction's stream, what.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: Sender,
    pub pos: u64,
    pub data: Vec<u8>,
    /// Its number among the connection's packets, from 1: time, as far as the tests are concerned.
    pub at: BootTime,
}

/// One connection, by the ports of both ends.
#[derive(Clone, Debug)]
pub struct Connection {
    pub client: u16,
    pub server: u16,
    pub packets: Vec<Packet>,
}

/// The connections of a capture that have data, in the order of their first packet. `ports` are the servers'.
pub fn connections(path: &Path, ports: &[u16]) -> Vec<Connection> {
    let mut file = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_some_and(|extension| extension == "gz") {
        let packed = std::mem::take(&mut file);
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut file).expect("a whole gzip file");
    }
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert!(matches!(word(0), 0xa1b2_c3d4 | 0xa1b2_3c4d), "{}: pcap, little-endian", path.display());
    assert_eq!(word(20), 1, "{}: Ethernet", path.display());
    let mut order = Vec::new();
    /// The next sequence number of each side, and its position.
    type Next = [Option<(u32, u64)>; 2];
    let mut found: BTreeMap<(u16, u16), (Connection, Next)> = BTreeMap::new();
    let mut at = 24;
    while at < file.len() {
        let len = word(at + 8) as usize;
        let ip = &file[at + 16 + 14..at + 16 + len];
        at += 16 + len;
        let short = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let tcp = &ip[usize::from(ip[0] & 15) * 4..usize::from(short(ip, 2))];
        let (source, target) = (short(tcp, 0), short(tcp, 2));
        let sequence = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
        let (syn, data) = (tcp[13] & 2 != 0, &tcp[usize::from(tcp[12] >> 4) * 4..]);
        let (from, client, server) = match ports.contains(&target) {
            true => (Sender::Client, source, target),
            false => (Sender::Server, target, source),
        };
        let key = (client, server);
        let (connection, next) = found.entry(key).or_insert_with(|| {
            order.push(key);
            (Connection { client, server, packets: Vec::new() }, [None; 2])
        });
        let next = &mut next[from as usize];
        if syn {
            *next = Some((sequence.wrapping_add(1), 0));
        }
        let (expected, pos) = next.get_or_insert((sequence, 0));
        // The loopback device reorders nothing, but may send something twice.
        if data.is_empty() || sequence != *expected {
            continue;
        }
        let packet = Packet {
            from,
            pos: *pos,
            data: data.to_vec(),
            at: BootTime::from_nanos(connection.packets.len() as u64 + 1),
        };
        connection.packets.push(packet);
        *expected = sequence.wrapping_add(data.len() as u32);
        *pos += data.len() as u64;
    }
    order
        .into_iter()
        .filter_map(|key| Some(found.remove(&key)?.0))
        .filter(|connection| !connection.packets.is_empty())
        .collect()
}

/// What a session said of a connection.
#[derive(Debug, Default)]
pub struct Told {
    pub operations: Vec<Operation>,
    /// Bytes discarded as invalid or over a bound.
    pub refused: u64,
    /// Bytes discarded for want of a boundary.
    pub unsynchronised: u64,
}

/// Which packet of a connection is lost.
pub type Lost = Option<usize>;

/// Runs packets through a session in reads of at most `piece` bytes.
pub fn run(mut session: Box<dyn Session>, packets: &[Packet], lost: Lost, piece: usize, end: End) -> Told {
    let mut out = Events::default();
    let mut last = BootTime::ZERO;
    for (index, packet) in packets.iter().enumerate() {
        let mark = Mark { at: packet.at, thread: Worker::new(1, 1), other_pos: 0, awaited_by: None };
        last = packet.at;
        if lost == Some(index) {
            session.gap(packet.from, packet.pos, packet.data.len() as u64, mark, &mut out);
            continue;
        }
        let mut pos = packet.pos;
        for part in packet.data.chunks(piece) {
            session.bytes(packet.from, pos, part, mark, &mut out);
            pos += part.len() as u64;
        }
    }
    session.end(end, last + Duration::from_nanos(1), &mut out);
    let mut told = Told::default();
    while let Some(event) = out.pop() {
        match event {
            Event::Closed(operation) => told.operations.push(*operation),
            Event::Discarded { reason: Discard::Unsynchronised, bytes } => told.unsynchronised += bytes,
            Event::Discarded { bytes, .. } => told.refused += bytes.max(1),
            _ => {}
        }
    }
    told
}

/// An operation without what depends on how many were reported before it.
fn anonymous(operation: &Operation) -> Operation {
    Operation { id: Default::default(), ..operation.clone() }
}

fn anonymously(told: &Told) -> Vec<Operation> {
    told.operations.iter().map(anonymous).collect()
}

/// The first and the last moment of an operation.
fn span(operation: &Operation) -> (BootTime, BootTime) {
    (operation.request.start.at, operation.ended_at)
}

/// Reads of any size give the same operations. `name` is for messages.
pub fn any_size_of_reads(name: &str, packets: &[Packet], new: impl Fn() -> Box<dyn Session>) {
    let whole = anonymously(&run(new(), packets, None, usize::MAX, End::Closed));
    for piece in [1, 2, 3, 7, 64, 1000] {
        let told = run(new(), packets, None, piece, End::Closed);
        assert_eq!(told.refused, 0, "{name} in pieces of {piece}");
        let pieces = anonymously(&told);
        assert_eq!(pieces.len(), whole.len(), "{name} in pieces of {piece}");
        for (piecewise, whole) in pieces.iter().zip(&whole) {
            assert_eq!(piecewise, whole, "{name} in pieces of {piece}");
        }
    }
}

/// Of a connection that is cut off after any packet, or inside it, nothing is refused, and what is called complete is
/// what the whole connection has.
pub fn every_beginning(name: &str, packets: &[Packet], new: impl Fn() -> Box<dyn Session>) {
    let whole = anonymously(&run(new(), packets, None, usize::MAX, End::Closed));
    for count in 0..packets.len() {
        let len = packets[count].data.len();
        // Every byte of small packets, some of large ones.
        let cuts = (0..len.min(48)).chain((48..len).step_by(997));
        for cut in cuts {
            let mut beginning = packets[..=count].to_vec();
            beginning[count].data.truncate(cut);
            if cut == 0 {
                beginning.pop();
            }
            let told = run(new(), &beginning, None, usize::MAX, End::Abandoned);
            assert_eq!(told.refused, 0, "{name}: {count} packets and {cut} bytes");
            for operation in told.operations.iter().filter(|op| op.completeness == Completeness::Complete) {
                let operation = anonymous(operation);
                assert!(whole.contains(&operation), "{name}: {count} packets and {cut} bytes: {operation:?}");
            }
        }
    }
}

/// What one lost packet may cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Operations that begin after the loss and are not reported exactly, at most: until the next certain boundary, and
    /// what the lost packet told about later ones.
    pub later: usize,
}

/// Without any one packet: all that was over before it is reported exactly, nothing that is called complete is wrong, and
/// after the next certain boundary everything is exact again. `agrees` says whether a complete operation is one of the
/// whole connection, `exact` whether it is told in full.
pub fn without_any_packet(
    name: &str,
    packets: &[Packet],
    new: impl Fn() -> Box<dyn Session>,
    cost: Cost,
    agrees: impl Fn(&Operation, &Operation) -> bool,
) {
    let whole = anonymously(&run(new(), packets, None, usize::MAX, End::Closed));
    for lost in 0..packets.len() {
        let at = packets[lost].at;
        let told = anonymously(&run(new(), packets, Some(lost), usize::MAX, End::Closed));
        let context = || format!("{name} without packet {at:?} from {:?}", packets[lost].from);
        for operation in told.iter().filter(|op| op.completeness == Completeness::Complete) {
            let known = whole.iter().any(|whole| agrees(operation, whole));
            assert!(known, "{}: invented: {operation:?}", context());
        }
        let mut later = 0;
        for operation in &whole {
            let (start, end) = span(operation);
            if end < at {
                let is_there = told.contains(operation);
                assert!(is_there, "{}: over before, and not reported: {operation:?}", context());
            } else if start > at {
                later += usize::from(!told.contains(operation));
            }
        }
        assert!(later <= cost.later, "{}: {later} later operations are not exact", context());
        assert!(told.len() <= whole.len() + 1, "{}: {} of {}", context(), told.len(), whole.len());
    }
}

/// The operations that a session closes over what was sent, in reads of `piece` bytes. Nothing of it may be discarded.
pub fn closed(mut session: impl Session, sent: &[(Sender, Vec<u8>)], piece: usize) -> Vec<Operation> {
    let (mut out, mut pos) = (Events::default(), [0u64; 2]);
    for (from, all) in sent {
        for part in all.chunks(piece) {
            let pos = &mut pos[*from as usize];
            session.bytes(
                *from,
                *pos,
                part,
                Mark { at: BootTime::from_nanos(1), ..Mark::default() },
                &mut out,
            );
            *pos += part.len() as u64;
        }
    }
    session.end(End::Closed, BootTime::from_nanos(2), &mut out);
    let mut operations = Vec::new();
    while let Some(event) = out.pop() {
        match event {
            Event::Closed(operation) => operations.push(*operation),
            Event::Discarded { reason, bytes } => panic!("{bytes} bytes: {reason:?}"),
            _ => {}
        }
    }
    operations
}
