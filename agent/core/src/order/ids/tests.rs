//! Published vectors, and what must be equal or differ. Each vector was computed a second time with Python's `hashlib`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use expect_test::{Expect, expect};

use super::*;
use crate::operation::amqp::{Action, Deliver};
use crate::operation::{Completeness, Extent, OpSide};
use crate::record::{CgroupId, Conn, ConnId, Endpoint, NetNs, OpId, Point, WireBase, Worker};
use crate::time::{BootTime, WallTime, ns};

/// 00 01 02 … 0f
const BOOT: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn wire(conn: &ConnInfo, op: &Operation) -> Option<WireId> {
    wire_id(conn, op, &BOOT)
}

fn conn(role: Role, wire: Option<WireBase>) -> ConnInfo {
    let at = |port| Endpoint::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let conn = Conn {
        at: BootTime::ZERO,
        id: ConnId(if role == Role::Client { 71 } else { 72 }),
        transport: Transport::Tcp,
        local: at(1),
        remote: at(2),
        netns: NetNs::UNKNOWN,
        role: Some(role),
        from_start: true,
        thread: Worker::default(),
        comm: String::new(),
        cgroup: CgroupId::UNKNOWN,
        wire,
        peer: Some(ConnId(if role == Role::Client { 72 } else { 71 })),
    };
    ConnInfo { conn, role: Some(role), protocol: None, client: None, tls: None }
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
    let start = Point { at: ns(5), pos, thread: Worker::default(), awaited_by: None };
    Operation {
        id: OpId(1),
        shape: OpSide::Incoming,
        role: Role::Server,
        request: Extent { start, end: start },
        response: None,
        ended_at: ns(9),
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
    let tcp = wire(&client(), &get(4711)).expect("a wire identity");
    check(tcp, expect!["5130cadcb5613df19dd9612b21fbadc8"]);
    check(
        wire(&client(), &delivery(4711)).expect("a wire identity"),
        expect!["937edc0ae415eefc597061202e841afe"],
    );
    check(
        wire(&unix(client()), &get(4711)).expect("a wire identity"),
        expect!["05706e737f9f3ca200de0bce8a560737"],
    );
    check(span_id(&tcp.into(), SpanEnd::Client), expect!["5eb52e42712efd0b"]);
    check(span_id(&tcp.into(), SpanEnd::Server), expect!["9ee8082d94040311"]);
    check(span_id(&tcp.into(), SpanEnd::Dwell), expect!["09c7ec866d395d99"]);
    check(trace_id_from_wire(&tcp.into()), expect!["492f427c1c64b6c71e4b60fdf04d8bef"]);
    let local = identity(&conn(Role::Client, None), &get(4711), &BOOT);
    check(span_id(&local, SpanEnd::Client), expect!["650cd6fb3e35d577"]);
    check(trace_id_from_wire(&local), expect!["f04f92ea8ee22abca722dabba7a8b74e"]);
    check(
        trace_id_from_order("acme", &key("17"), DAY, WallTime::from_nanos(1_795_000_000_000_000_000)),
        expect!["6fe6c760005a59f14b80e7f8074b5618"],
    );
    check(window_index(&key("17"), DAY, WallTime::from_nanos(1_795_000_000_000_000_000)), expect!["20775"]);
    check(
        trace_id_from_order("acme", &key("17"), Duration::ZERO, WallTime::from_nanos(1)),
        expect!["9d8d84b64fc5aaee9536a8c80ac81862"],
    );
    check(message_span_id("m-1", &[7; 32]), expect!["afb1df4fe84c659e"]);
}

#[test]
fn both_ends_of_an_operation_agree() {
    for op in [get(0), get(5_000_000_000), delivery(7)] {
        assert_eq!(wire(&client(), &op), wire(&server(), &op));
        assert_eq!(wire(&unix(client()), &op), wire(&unix(server()), &op));
    }
    assert_ne!(wire(&client(), &get(7)), wire(&client(), &delivery(7)));
    assert_ne!(wire(&client(), &get(7)), wire(&client(), &get(8)));
}

#[test]
fn what_is_not_certain_has_no_wire_identity() {
    assert_eq!(wire(&conn(Role::Client, None), &get(7)), None);
    assert_eq!(wire(&ConnInfo { role: None, ..client() }, &get(7)), None);
    let mut older = unix(client());
    older.conn.from_start = false;
    assert_eq!(wire(&older, &get(7)), None);
    let mut lone = unix(client());
    lone.conn.peer = None;
    assert_eq!(wire(&lone, &get(7)), None);
    let mut mptcp = client();
    mptcp.conn.transport = Transport::Mptcp;
    assert_eq!(wire(&mptcp, &get(7)), None);
}

#[test]
fn local_identities_differ_between_ends_and_boots() {
    let at = |role, boot| identity(&conn(role, None), &get(7), &boot);
    assert_ne!(at(Role::Client, BOOT), at(Role::Server, BOOT));
    assert_ne!(at(Role::Client, BOOT), at(Role::Client, [7; 16]));
    assert_eq!(Some(identity(&client(), &get(7), &BOOT)), wire(&client(), &get(7)).map(Seed::from));
}

#[test]
fn an_order_keeps_its_trace_within_a_window() {
    let at = |ns| trace_id_from_order("", &key("17"), DAY, ns);
    let day = DAY.as_nanos() as u64;
    let start = 1_795_000_000_000_000_000;
    let index = window_index(&key("17"), DAY, WallTime::from_nanos(start));
    let change = (0..=day)
        .step_by(60_000_000_000)
        .find(|after| window_index(&key("17"), DAY, WallTime::from_nanos(start + after)) != index);
    let change = change.expect("one change a day");
    assert_eq!(
        at(WallTime::from_nanos(start)),
        at(WallTime::from_nanos(start + change.saturating_sub(120_000_000_000)))
    );
    assert_ne!(at(WallTime::from_nanos(start)), at(WallTime::from_nanos(start + change)));
    assert_eq!(window_index(&key("17"), DAY, WallTime::from_nanos(start + day)), index + 1);
    assert_eq!(at(WallTime::from_nanos(start)), trace_id_of_window("", &key("17"), DAY, index));
    // Each has its own moment of change.
    let changes = |id: u64| window_index(&key(&id.to_string()), DAY, WallTime::from_nanos(start));
    assert!((0..50).map(changes).collect::<std::collections::HashSet<_>>().len() == 2);
    assert_ne!(
        at(WallTime::from_nanos(start)),
        trace_id_from_order("acme", &key("17"), DAY, WallTime::from_nanos(start))
    );
    let other = OrderKey { namespace: "mes".into(), value: "17".into() };
    assert_ne!(
        at(WallTime::from_nanos(start)),
        trace_id_from_order("", &other, DAY, WallTime::from_nanos(start))
    );
    // No way of cutting the same letters gives the same trace.
    let cut = |deployment: &str, value: &str| {
        trace_id_from_order(deployment, &key(value), DAY, WallTime::from_nanos(start))
    };
    assert_ne!(cut("a", "bc"), cut("ab", "c"));
    assert_ne!(u64::MAX, window_index(&key("1"), Duration::from_nanos(1 << 63), WallTime::MAX));
}

#[test]
fn identifiers_are_never_all_zero() {
    assert_eq!(never_zero([0u8; 8]), [0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(never_zero([0, 5]), [0, 5]);
}

#[test]
fn a_transaction_is_known_by_its_connection_and_number_at_both_ends() {
    let id =
        |conn: &ConnInfo, number| crate::trace::hex_text(&transaction_id(conn, TransactionNumber(number)));
    assert_eq!(id(&client(), 3), "0237a5a5e15ec676");
    assert_eq!(id(&server(), 3), "0237a5a5e15ec676");
    assert_ne!(id(&client(), 4), id(&client(), 3));
    let another = conn(Role::Client, Some(WireBase { egress: 1001, ingress: 4_000_000_000 }));
    assert_ne!(id(&another, 3), id(&client(), 3));
    let (mut first, mut second) = (conn(Role::Client, None), conn(Role::Client, None));
    assert_eq!(id(&first, 3), id(&second, 3));
    second.conn.at = ns(1);
    assert_ne!(id(&first, 3), id(&second, 3), "a cookie may be given again");
    first.conn.id = ConnId(8);
    assert_ne!(id(&first, 3), id(&conn(Role::Client, None), 3));
}

#[test]
fn the_root_of_an_order_is_known_by_its_trace() {
    let trace: [u8; 16] = 0x6fe6_c760_005a_59f1_4b80_e7f8_074b_5618_u128.to_be_bytes();
    assert_eq!(root_span_id(TraceId(trace)).to_string(), "1d63f34239760be5");
}
