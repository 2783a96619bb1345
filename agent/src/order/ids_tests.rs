//! Published vectors, and what must be equal or differ. Each vector was computed a second time with Python's `hashlib`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use expect_test::{Expect, expect};

use super::*;
use crate::operation::amqp::{Action, Deliver, Properties};
use crate::operation::{Completeness, Extent, Kept, OpId, Shape};
use crate::protocol::Point;
use crate::record::{Conn, ConnId, Endpoint, Thread, WireBase};

fn host() -> Host {
    let mut boot_id = [0; 16];
    boot_id.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
    Host { boot_id, host_id: "4c9f0d5c".to_owned() }
}

fn conn(role: Role, wire: Option<WireBase>) -> ConnInfo {
    let at = |port| Endpoint::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let conn = Conn {
        at: 0,
        id: ConnId(if role == Role::Client { 71 } else { 72 }),
        transport: Transport::Tcp,
        local: at(1),
        remote: at(2),
        netns: 0,
        role: Some(role),
        from_start: true,
        thread: Thread::default(),
        comm: String::new(),
        cgroup: 0,
        wire,
        peer: Some(ConnId(if role == Role::Client { 72 } else { 71 })),
    };
    ConnInfo { conn, role: Some(role) }
}

fn client() -> ConnInfo {
    conn(Role::Client, Some(WireBase { egress: 1000, ingress: 4_000_000_000 }))
}

fn server() -> ConnInfo {
    conn(Role::Server, Some(WireBase { egress: 4_000_000_000, ingress: 1000 }))
}

fn unix(mut info: ConnInfo) -> ConnInfo {
    info.conn.transport = Transport::Unix;
    info.conn.wire = None;
    info
}

fn op(pos: u64, detail: Detail) -> Operation {
    let start = Point { at: 5, pos, thread: Thread::default() };
    Operation {
        id: OpId(1),
        shape: Shape::Incoming,
        role: Role::Server,
        request: Extent { start, end: start },
        response: None,
        ended_at: 9,
        completeness: Completeness::Complete,
        detail,
    }
}

fn get(pos: u64) -> Operation {
    op(pos, Detail::Http(Box::default()))
}

fn delivery(pos: u64) -> Operation {
    let kind = ActionKind::Deliver(Deliver::default());
    op(pos, Detail::Amqp(Box::new(Action { channel: 1, vhost: None, kind })))
}

fn key(value: &str) -> OrderKey {
    OrderKey { namespace: "order".into(), value: value.into() }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn check(actual: impl std::fmt::Display, expected: Expect) {
    expected.assert_eq(&actual.to_string());
}

#[test]
fn published_vectors() {
    let wire = wire_id(&host(), &client(), &get(4711)).expect("a wire identity");
    check(wire, expect!["5130cadcb5613df19dd9612b21fbadc8"]);
    check(
        wire_id(&host(), &client(), &delivery(4711)).expect("a wire identity"),
        expect!["937edc0ae415eefc597061202e841afe"],
    );
    check(
        wire_id(&host(), &unix(client()), &get(4711)).expect("a wire identity"),
        expect!["05706e737f9f3ca200de0bce8a560737"],
    );
    check(span_id(wire, SpanEnd::Client), expect!["5eb52e42712efd0b"]);
    check(span_id(wire, SpanEnd::Server), expect!["9ee8082d94040311"]);
    check(span_id(wire, SpanEnd::Dwell), expect!["09c7ec866d395d99"]);
    check(trace_id_from_wire(wire), expect!["492f427c1c64b6c71e4b60fdf04d8bef"]);
    let local = local_id(&host(), &client(), &get(4711));
    check(local_span_id(local, SpanEnd::Client), expect!["7469392f74f4cacc"]);
    check(trace_id_from_local(local), expect!["8fe3ed4392505ae661ab64b4e764efce"]);
    check(
        trace_id_from_order("acme", &key("17"), DAY, 1_795_000_000_000_000_000),
        expect!["6fe6c760005a59f14b80e7f8074b5618"],
    );
    check(window_index(&key("17"), DAY, 1_795_000_000_000_000_000), expect!["20775"]);
    check(
        trace_id_from_order("acme", &key("17"), Duration::ZERO, 1),
        expect!["9d8d84b64fc5aaee9536a8c80ac81862"],
    );
    check(message_span_id(&message()).expect("a message ID"), expect!["a55d8cb657a09ee1"]);
}

fn message() -> Content {
    let properties = Properties {
        content_type: Some("application/json".to_owned()),
        message_id: Some("m-1".to_owned()),
        headers: vec![
            ("b".to_owned(), Value::Int(2)),
            ("a".to_owned(), Value::Text(b"x".to_vec())),
            ("x-death".to_owned(), Value::Int(9)),
        ],
        ..Properties::default()
    };
    Content { properties, body: Kept { bytes: b"{\"order_id\":17}".to_vec(), len: 15, holed: false } }
}

#[test]
fn both_ends_of_an_operation_agree() {
    for op in [get(0), get(5_000_000_000), delivery(7)] {
        assert_eq!(wire_id(&host(), &client(), &op), wire_id(&host(), &server(), &op));
        assert_eq!(wire_id(&host(), &unix(client()), &op), wire_id(&host(), &unix(server()), &op));
    }
    assert_ne!(wire_id(&host(), &client(), &get(7)), wire_id(&host(), &client(), &delivery(7)));
    assert_ne!(wire_id(&host(), &client(), &get(7)), wire_id(&host(), &client(), &get(8)));
}

#[test]
fn what_is_not_certain_has_no_wire_identity() {
    assert_eq!(wire_id(&host(), &conn(Role::Client, None), &get(7)), None);
    assert_eq!(wire_id(&host(), &ConnInfo { role: None, ..client() }, &get(7)), None);
    let mut older = unix(client());
    older.conn.from_start = false;
    assert_eq!(wire_id(&host(), &older, &get(7)), None);
    let mut lone = unix(client());
    lone.conn.peer = None;
    assert_eq!(wire_id(&host(), &lone, &get(7)), None);
    let mut mptcp = client();
    mptcp.conn.transport = Transport::Mptcp;
    assert_eq!(wire_id(&host(), &mptcp, &get(7)), None);
}

#[test]
fn local_identities_differ_between_ends_and_hosts() {
    let here = local_id(&host(), &client(), &get(7));
    assert_ne!(here, local_id(&host(), &server(), &get(7)));
    assert_ne!(here, local_id(&Host { host_id: "other".to_owned(), ..host() }, &client(), &get(7)));
}

#[test]
fn an_order_keeps_its_trace_within_a_window() {
    let at = |ns| trace_id_from_order("", &key("17"), DAY, ns);
    let day = DAY.as_nanos() as u64;
    let start = 1_795_000_000_000_000_000;
    let index = window_index(&key("17"), DAY, start);
    let change =
        (0..=day).step_by(60_000_000_000).find(|after| window_index(&key("17"), DAY, start + after) != index);
    let change = change.expect("one change a day");
    assert_eq!(at(start), at(start + change.saturating_sub(120_000_000_000)));
    assert_ne!(at(start), at(start + change));
    assert_eq!(window_index(&key("17"), DAY, start + day), index + 1);
    assert_eq!(at(start), trace_id_of_window("", &key("17"), DAY, index));
    // Each has its own moment of change.
    let changes = |id: u64| window_index(&key(&id.to_string()), DAY, start);
    assert!((0..50).map(changes).collect::<std::collections::HashSet<_>>().len() == 2);
    assert_ne!(at(start), trace_id_from_order("acme", &key("17"), DAY, start));
    let other = OrderKey { namespace: "mes".into(), value: "17".into() };
    assert_ne!(at(start), trace_id_from_order("", &other, DAY, start));
    // No way of cutting the same letters gives the same trace.
    let cut = |deployment: &str, value: &str| trace_id_from_order(deployment, &key(value), DAY, start);
    assert_ne!(cut("a", "bc"), cut("ab", "c"));
    assert_ne!(u64::MAX, window_index(&key("1"), Duration::from_nanos(1 << 63), u64::MAX));
}

#[test]
fn a_message_keeps_its_identity_through_a_broker() {
    let sent = message();
    let mut got = message();
    got.properties.headers = vec![
        ("a".to_owned(), Value::Text(b"x".to_vec())),
        ("b".to_owned(), Value::Uint(2)),
        ("CC".to_owned(), Value::Array(Vec::new())),
    ];
    got.properties.expiration = Some("5".to_owned());
    got.properties.delivery_mode = Some(2);
    assert_eq!(message_span_id(&sent), message_span_id(&got));
    got.body.bytes.truncate(14);
    assert_eq!(message_span_id(&got), None);
    let mut other = message();
    other.body.bytes[0] = b'[';
    assert_ne!(message_span_id(&sent), message_span_id(&other));
    let nameless = Properties { message_id: None, ..message().properties };
    assert_eq!(message_span_id(&Content { properties: nameless, ..message() }), None);
    // Only the first 1,024 bytes and the length count.
    let long = |tail: u8, len| {
        let bytes = [vec![b'x'; 1024], vec![tail; 10]].concat();
        message_span_id(&Content { body: Kept { bytes, len, holed: false }, ..message() })
    };
    assert_eq!(long(b'a', 1034), long(b'b', 1034));
    assert_ne!(long(b'a', 1034), long(b'a', 1035));
}

#[test]
fn deep_tables_end() {
    let mut value = Value::Void;
    for _ in 0..1000 {
        value = Value::Table(vec![("t".to_owned(), Value::Array(vec![value]))]);
    }
    let mut out = Vec::new();
    flatten(&value, &mut out, 0);
    assert!(out.len() < 1000);
}

#[test]
fn identifiers_are_never_all_zero() {
    assert_eq!(never_zero([0u8; 8]), [0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(never_zero([0, 5]), [0, 5]);
}
