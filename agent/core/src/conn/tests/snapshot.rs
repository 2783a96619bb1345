//! Connections of one agent under the eyes of the next one: which are the same, and what they go on with.

use super::*;
use crate::conn::snapshot::{Connection, Stats as Restored};
use crate::operation::Detail;
use crate::protocol::snapshot::Texts;
use crate::time::ns;

const TEXT: &str = "SELECT id FROM orders WHERE n = $1";
const MANY_MS: u64 = 100_000_000;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A database's connection, introduced.
fn database() -> Conn {
    Conn {
        netns: NetNs(77),
        from_start: false,
        role: Some(Role::Client),
        remote: Endpoint::Inet("10.0.0.2:5432".parse().unwrap()),
        ..conn(1)
    }
}

/// Where both directions stand.
#[derive(Clone, Copy)]
struct At {
    egress: u64,
    ingress: u64,
    ms: u64,
}

fn say(connections: &mut Connections, at: &mut At, direction: Direction, bytes: &[u8]) {
    at.ms += 1;
    let (pos, other_pos) = match direction {
        Egress => (at.egress, at.ingress),
        Ingress => (at.ingress, at.egress),
    };
    let len = bytes.len() as u32;
    connections.handle_data(Data {
        len,
        bytes: Bytes::copy_from_slice(bytes),
        ..data(1, direction, pos, "", other_pos, at.ms)
    });
    match direction {
        Egress => at.egress += u64::from(len),
        Ingress => at.ingress += u64::from(len),
    }
}

/// The first agent sees a statement being prepared.
fn first() -> (Connections, At) {
    let mut connections = Connections::new(&settings::Protocols::default(), 10);
    let mut at = At { egress: 4000, ingress: 9000, ms: 1 };
    connections.handle_conn(database());
    let parse = [b"s1\0".as_slice(), TEXT.as_bytes(), b"\0\0\0"].concat();
    let asked = [message(b'P', &parse), message(b'S', b"")].concat();
    say(&mut connections, &mut at, Egress, &asked);
    say(&mut connections, &mut at, Ingress, &[message(b'1', b""), message(b'Z', b"I")].concat());
    assert_eq!(connections.stats().detected[Protocol::Postgres], 1);
    (connections, at)
}

fn handed_over(connections: &Connections) -> (Vec<Connection>, Vec<Arc<str>>) {
    let mut texts = Texts::default();
    let all = connections.export(&mut texts);
    (all, texts.into_list())
}

/// The next agent, which has been told.
fn next(before: &Connections, max_connections: usize) -> Connections {
    let (all, texts) = handed_over(before);
    let mut connections = Connections::new(&settings::Protocols::default(), max_connections);
    connections.restore(all, texts, ns(1000 * MS));
    connections
}

/// Executes the statement; the text that the operation has.
fn execute(connections: &mut Connections, at: &mut At) -> Option<String> {
    let bind = b"\0s1\0\0\0\0\x01\0\0\0\x0217\0\0";
    let asked = [message(b'B', bind), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat();
    say(connections, at, Egress, &asked);
    let answer = [message(b'2', b""), message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat();
    say(connections, at, Ingress, &answer);
    connections.handle_timeout(ns((at.ms + 1000) * MS));
    std::iter::from_fn(|| connections.poll_event()).find_map(|(_, event)| match event {
        Event::Closed(operation) => match operation.detail {
            Detail::Postgres(statement) => statement.text,
            _ => None,
        },
        _ => None,
    })
}

/// Introduced so, after `unseen` bytes that nobody saw; what is known then.
fn check(change: impl Fn(&mut Conn), unseen: u64, expected: Option<&str>, restored: Restored) {
    let (before, mut at) = first();
    let mut connections = next(&before, 10);
    let mut conn = database();
    change(&mut conn);
    (at.egress, at.ingress) = (at.egress + unseen, at.ingress + unseen / 2);
    at.ms = 2000;
    connections.handle_conn(conn);
    assert_eq!(execute(&mut connections, &mut at).as_deref(), expected);
    assert_eq!(connections.restored(), restored);
    assert_eq!(connections.stats().gap_bytes, 0, "nothing was lost while no agent ran");
}

const BROKEN: Restored = Restored { broken: 1, statements: 1, ..NONE };
const UNBROKEN: Restored = Restored { unbroken: 1, statements: 1, ..NONE };
const CHANGED: Restored = Restored { changed: 1, ..NONE };
const NONE: Restored = Restored {
    waiting: 0,
    unbroken: 0,
    broken: 0,
    statements: 0,
    consumers: 0,
    expired: 0,
    changed: 0,
    impossible: 0,
    useless: 0,
    over_limit: 0,
    closed: 0,
};

#[test]
fn the_same_connection_goes_on() {
    check(|_| {}, 0, Some(TEXT), UNBROKEN);
    check(|_| {}, 1, Some(TEXT), BROKEN);
    check(|_| {}, 1 << 30, Some(TEXT), BROKEN);
    check(|conn| conn.role = None, 0, Some(TEXT), UNBROKEN);
    // Who it is stays certain, where it stands does not.
    check(|conn| conn.wire = None, 0, Some(TEXT), BROKEN);
}

#[test]
fn a_connection_that_differs_in_anything_is_another_one() {
    let other: Endpoint = Endpoint::Inet("10.0.0.9:5432".parse().unwrap());
    check(|conn| conn.netns = NetNs(78), 0, None, CHANGED);
    check(|conn| conn.netns = NetNs::UNKNOWN, 0, None, CHANGED);
    check(|conn| conn.remote = other.clone(), 0, None, CHANGED);
    check(|conn| conn.local = other.clone(), 0, None, CHANGED);
    check(|conn| conn.local = Endpoint::Unknown, 0, None, CHANGED);
    check(|conn| conn.wire = Some(WireBase { egress: 1, ingress: 3 }), 0, None, CHANGED);
    check(|conn| conn.transport = crate::record::Transport::Mptcp, 0, None, CHANGED);
    check(|conn| conn.role = Some(Role::Server), 0, None, CHANGED);
}

#[test]
fn positions_that_went_back_are_believed_in_nothing() {
    let (before, mut at) = first();
    let mut connections = next(&before, 10);
    connections.handle_conn(database());
    at.egress -= 1;
    at.ms = 2000;
    assert_eq!(execute(&mut connections, &mut at), None);
    assert_eq!(connections.restored(), Restored { impossible: 1, ..NONE });
}

#[test]
fn who_was_never_introduced_cannot_be_told() {
    let (before, mut at) = first();
    let mut connections = next(&before, 10);
    at.ms = 2000;
    assert_eq!(execute(&mut connections, &mut at), None);
    assert_eq!(connections.restored(), CHANGED);
}

#[test]
fn a_connection_that_is_silent_is_handed_on_by_every_agent_until_it_ends() {
    let (before, mut at) = first();
    let (second, third) = (next(&before, 10), next(&next(&before, 10), 10));
    assert_eq!(handed_over(&second), handed_over(&before));
    let mut third = third;
    assert_eq!(third.restored().waiting, 1);
    // Introduced, and still silent.
    third.handle_conn(database());
    assert_eq!(handed_over(&third), handed_over(&before));
    at.ms = 2000;
    assert_eq!(execute(&mut third, &mut at).as_deref(), Some(TEXT));
    let mut closed = next(&before, 10);
    closed.handle_close(close(1, 2000));
    assert_eq!(closed.restored(), Restored { closed: 1, ..NONE });
    assert!(handed_over(&closed).0.is_empty());
}

#[test]
fn connections_that_end_speak_otherwise_or_were_not_introduced_are_not_handed_over() {
    let (mut ended, at) = first();
    ended.handle_close(close(1, at.ms));
    assert!(handed_over(&ended).0.is_empty());
    let mut other = Connections::new(&settings::Protocols::default(), 10);
    other.handle_conn(Conn { netns: NetNs(77), ..conn(1) });
    other.handle_data(data(1, Ingress, 0, REQUEST, 0, 2));
    assert!(handed_over(&other).0.is_empty(), "HTTP/1.1 says everything in each message");
}

#[test]
fn the_past_is_bounded_in_number_and_in_time() {
    let (all, texts) = handed_over(&first().0);
    let copies: Vec<Connection> =
        (0..20).map(|n| Connection { id: ConnId(n), spoke_at: ns(n), ..all[0].clone() }).collect();
    let mut connections = Connections::new(&settings::Protocols::default(), 5);
    connections.restore(copies.clone(), texts.clone(), ns(1000));
    assert_eq!(connections.restored(), Restored { waiting: 5, over_limit: 15, ..NONE });
    let mut ids: Vec<u64> = handed_over(&connections).0.iter().map(|one| one.id.0).collect();
    ids.sort_unstable();
    assert_eq!(ids, [15, 16, 17, 18, 19], "those that spoke last");

    let mut late = Connections::new(&settings::Protocols::default(), 50);
    late.restore(copies.clone(), texts.clone(), ns(10 + 24 * 3600 * 1000 * MS));
    assert_eq!(late.restored(), Restored { waiting: 10, expired: 10, ..NONE });
    let mut early = Connections::new(&settings::Protocols::default(), 50);
    early.restore(copies, texts, ns(9));
    assert_eq!(early.restored(), Restored { waiting: 10, expired: 10, ..NONE }, "of a later time");
}

#[test]
fn texts_that_are_not_there_are_not_known() {
    let (before, mut at) = first();
    let (all, _) = handed_over(&before);
    let mut connections = Connections::new(&settings::Protocols::default(), 10);
    connections.restore(all, Vec::new(), ns(MANY_MS * MS));
    connections.handle_conn(database());
    at.ms = 2 * MANY_MS;
    assert_eq!(execute(&mut connections, &mut at), None);
}
