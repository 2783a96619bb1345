//! What the contract of [`Session`] asks of every protocol alike, tried with the example of each: a protocol that was forgotten
//! somewhere fails here before anybody misses a span.
//!
//! Not here, because only the protocol's own tests know it: what an operation says, what a bound cuts off, what is learned.

use std::collections::BTreeMap;

use super::detect::{Detection, Detector, Sniff};
use super::registry::Conversation;
use super::*;
use crate::operation::Completeness;
use crate::record::{Direction, Role, Worker};
use crate::settings::Protocols;
use crate::time::ns;

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// What one side's record is on the way to the session.
#[derive(Clone, Copy, Debug)]
enum Piece<'a> {
    Bytes(&'a [u8]),
    Hole(usize),
}

/// One connection under watch.
struct Trial {
    session: Box<dyn Session>,
    out: Events,
    pos: [u64; 2],
    /// All it told but what it discarded.
    told: Vec<Event>,
    discarded: Vec<(Discard, u64)>,
    /// Operations that are open, and whether all of their request was moved.
    open: BTreeMap<OpId, bool>,
}

impl Trial {
    fn new(protocol: Protocol, role: Role) -> Self {
        let session = protocol.session(role, &Protocols::default());
        let (told, discarded) = (Vec::new(), Vec::new());
        Self { session, out: Events::default(), pos: [0; 2], told, discarded, open: BTreeMap::new() }
    }

    /// A part of the n-th record of a conversation. The parts of one have one time and one thread, so that cuts show nowhere.
    fn piece(&mut self, record: usize, from: Sender, piece: Piece<'_>) {
        let n = record as u64 + 1;
        let (pos, other_pos) = (self.pos[from as usize], self.pos[1 - from as usize]);
        let mark = Mark { at: ns(n), thread: Worker::new(1, n as u32), other_pos, awaited_by: None };
        let len = match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Hole(len) => len,
        };
        match piece {
            _ if len == 0 => return,
            Piece::Bytes(bytes) => self.session.bytes(from, pos, bytes, mark, &mut self.out),
            Piece::Hole(len) => self.session.gap(from, pos, len as u64, mark, &mut self.out),
        }
        self.pos[from as usize] += len as u64;
        self.look();
    }

    fn records<'a>(&mut self, first: usize, records: impl IntoIterator<Item = &'a (Sender, Vec<u8>)>) {
        for (n, (from, bytes)) in (first..).zip(records) {
            self.piece(n, *from, Piece::Bytes(bytes));
        }
    }

    /// No more bytes: whatever was open is closed.
    fn end(&mut self, end: End) {
        self.session.end(end, ns(1000), &mut self.out);
        self.look();
        assert!(self.open.is_empty(), "still open after the end: {:?}", self.open);
    }

    /// Takes what was told, and asks for what is open.
    fn look(&mut self) {
        while let Some(event) = self.out.pop() {
            match &event {
                Event::Opened { op, .. } => {
                    assert!(self.open.insert(*op, false).is_none(), "opened twice: {event:?}");
                }
                Event::Requested { op, .. } => {
                    assert_eq!(
                        self.open.insert(*op, true),
                        Some(false),
                        "not opened, or asked twice: {event:?}"
                    );
                }
                Event::Sent(operation) => {
                    assert_eq!(
                        self.open.get(&operation.id),
                        Some(&true),
                        "not asked yet, or over: {event:?}"
                    );
                }
                Event::Closed(operation) => {
                    assert!(self.open.remove(&operation.id).is_some(), "closed, not open: {event:?}");
                    assert_eq!(self.session.peek(operation.id), None, "it is over");
                }
                Event::Discarded { reason, bytes } => {
                    self.discarded.push((*reason, *bytes));
                    continue;
                }
                _ => panic!("not from sessions: {event:?}"),
            }
            self.told.push(event);
        }
        for (op, is_requested) in &self.open {
            let held = self.session.held();
            assert!(held > 0, "{op:?} is open, and nothing is held");
            let peeked = self.session.peek(*op);
            if let Some(peeked) = &peeked {
                assert_eq!(peeked.id, *op);
                let texts = peeked.held();
                assert!(
                    texts <= held,
                    "{texts} bytes of an open operation, {held} of its session: {peeked:?}"
                );
            }
            assert!(peeked.is_some() || !is_requested, "nobody can tell that {op:?} hangs");
        }
    }

    fn closed(&self) -> Vec<&Operation> {
        self.told
            .iter()
            .filter_map(|event| if let Event::Closed(operation) = event { Some(&**operation) } else { None })
            .collect()
    }

    fn found_invalid(&self) -> bool {
        self.discarded.iter().any(|(reason, _)| *reason == Discard::Invalid)
    }
}

/// Each protocol's example, seen from both ends.
fn examples() -> impl Iterator<Item = (Protocol, Role, Conversation)> {
    Protocol::ALL
        .into_iter()
        .flat_map(|protocol| ROLES.map(|role| (protocol, role, (protocol.spec().example)())))
}

/// The whole of an example, before the connection's end.
fn whole(protocol: Protocol, role: Role, records: &Conversation) -> Trial {
    let mut trial = Trial::new(protocol, role);
    trial.records(0, records);
    trial
}

/// Who asked, and the bytes of the request: each operation of the whole conversation.
type Requests = Vec<(Sender, std::ops::Range<u64>)>;

fn requests(protocol: Protocol, role: Role, records: &Conversation) -> Requests {
    let mut trial = whole(protocol, role, records);
    trial.end(End::Closed);
    let request = |operation: &Operation| operation.request.start.pos..operation.request.end.pos;
    trial.closed().into_iter().map(|operation| (operation.sender(), request(operation))).collect()
}

impl Trial {
    /// Each operation that passes for whole is one of the conversation, told once, and there are no more than took place.
    fn assert_made_up_nothing(&self, truth: &Requests, at: &str) {
        let closed = self.closed();
        assert!(closed.len() <= truth.len(), "{at}: {closed:?}");
        let mut left = truth.clone();
        for operation in closed.into_iter().filter(|one| one.completeness == Completeness::Complete) {
            let start = operation.request.start.pos;
            let own =
                left.iter().position(|(from, bytes)| *from == operation.sender() && bytes.contains(&start));
            assert!(own.is_some(), "{at}: nobody asked for {operation:?}");
            own.map(|own| left.remove(own));
        }
    }
}

#[test]
fn an_example_is_understood_to_its_last_byte() {
    for (protocol, role, records) in examples() {
        let mut trial = whole(protocol, role, &records);
        trial.end(End::Closed);
        assert_eq!(trial.discarded, [], "{protocol:?}");
        let closed = trial.closed();
        assert!(!closed.is_empty(), "{protocol:?}: no operation");
        for operation in closed {
            assert_eq!(
                (operation.completeness, operation.role),
                (Completeness::Complete, role),
                "{operation:?}"
            );
            // The n-th record has time n, so that the time tells who sent the request's first byte.
            let n = operation.request.start.at.as_nanos() as usize;
            assert_eq!(operation.sender(), records[n - 1].0, "{protocol:?}: {operation:?}");
        }
    }
}

#[test]
fn an_example_is_detected_as_itself_and_as_nobody_else() {
    for (protocol, role, records) in examples() {
        let direction = |from: Sender| match (role, from) {
            (Role::Client, Sender::Client) | (Role::Server, Sender::Server) => Direction::Egress,
            (Role::Client, Sender::Server) | (Role::Server, Sender::Client) => Direction::Ingress,
        };
        let ingress_sender = if role == Role::Client { Sender::Server } else { Sender::Client };
        // Not on its port: there, less is enough.
        let mut detector = Detector::default();
        let mut found = records.iter().map(|(from, bytes)| detector.offer(direction(*from), bytes, None));
        let found = found.find(|found| *found != Detection::Undecided);
        assert_eq!(found, Some(Detection::Is { protocol, ingress_sender }));

        for (n, (from, bytes)) in records.iter().enumerate() {
            let is_known = protocol.sniff(bytes) == Sniff::Yes(*from);
            assert!(
                is_known || !matches!(protocol.sniff(bytes), Sniff::Yes(_)),
                "{protocol:?}: the wrong side"
            );
            for beginning in (1..=bytes.len()).map(|len| &bytes[..len]) {
                let is_ruled_out = protocol.sniff(beginning) == Sniff::No && (is_known || n == 0);
                assert!(!is_ruled_out, "{protocol:?} is ruled out by its own beginning {beginning:?}");
                // What tells nothing by itself may be another's as well: an answer to uwsgi is one of HTTP.
                for other in Protocol::ALL.into_iter().filter(|other| *other != protocol) {
                    let is_other = matches!(other.sniff(beginning), Sniff::Yes(_)) && (is_known || n == 0);
                    assert!(!is_other, "{protocol:?} is taken for {other:?} at {beginning:?}");
                }
            }
        }
    }
}

#[test]
fn every_split_of_an_example_tells_the_same() {
    for (protocol, role, records) in examples() {
        let truth = whole(protocol, role, &records).told;
        for (n, (from, bytes)) in records.iter().enumerate() {
            for cut in 1..bytes.len() {
                let mut trial = Trial::new(protocol, role);
                trial.records(0, &records[..n]);
                trial.piece(n, *from, Piece::Bytes(&bytes[..cut]));
                trial.piece(n, *from, Piece::Bytes(&bytes[cut..]));
                trial.records(n + 1, &records[n + 1..]);
                assert_eq!(trial.told, truth, "{protocol:?}, record {n} cut at {cut}");
                assert_eq!(trial.discarded, [], "{protocol:?}, record {n} cut at {cut}");
            }
        }
        let mut trial = Trial::new(protocol, role);
        for (n, (from, bytes)) in records.iter().enumerate() {
            bytes.chunks(1).for_each(|byte| trial.piece(n, *from, Piece::Bytes(byte)));
        }
        assert_eq!(trial.told, truth, "{protocol:?}, byte by byte");
    }
}

#[test]
fn every_beginning_of_an_example_tells_the_beginning_of_the_whole() {
    for (protocol, role, records) in examples() {
        let (truth, asked) = (whole(protocol, role, &records), requests(protocol, role, &records));
        for (n, (from, bytes)) in records.iter().enumerate() {
            for cut in 0..bytes.len() {
                for end in [End::Closed, End::Reset, End::Abandoned] {
                    let at = format!("{protocol:?}, record {n} ends at {cut}, {end:?}");
                    let mut trial = Trial::new(protocol, role);
                    trial.records(0, &records[..n]);
                    trial.piece(n, *from, Piece::Bytes(&bytes[..cut]));
                    assert!(truth.told.starts_with(&trial.told), "{at}: {:?}", trial.told);
                    trial.end(end);
                    assert!(!trial.found_invalid(), "{at}: {:?}", trial.discarded);
                    trial.assert_made_up_nothing(&asked, &at);
                }
            }
        }
    }
}

/// Wherever a hole lies and however long it is, no operation is told that did not take place.
#[test]
fn no_hole_in_an_example_makes_up_an_operation() {
    for (protocol, role, records) in examples() {
        let asked = requests(protocol, role, &records);
        for (n, (from, bytes)) in records.iter().enumerate() {
            for start in 0..bytes.len() {
                let left = bytes.len() - start;
                for len in [1, 2, 3, 5, 8, 21, left].into_iter().filter(|len| *len <= left) {
                    let at = format!("{protocol:?} as {role:?}, record {n}, hole {start}+{len}");
                    let mut trial = Trial::new(protocol, role);
                    trial.records(0, &records[..n]);
                    trial.piece(n, *from, Piece::Bytes(&bytes[..start]));
                    trial.piece(n, *from, Piece::Hole(len));
                    trial.piece(n, *from, Piece::Bytes(&bytes[start + len..]));
                    trial.records(n + 1, &records[n + 1..]);
                    trial.end(End::Closed);
                    trial.assert_made_up_nothing(&asked, &at);
                }
            }
        }
    }
}
