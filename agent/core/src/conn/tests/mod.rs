mod preface;
mod snapshot;

use std::cell::RefCell;

use bytes::Bytes;

use super::*;
use crate::operation::{OpSide, Operation};
use crate::protocol::{Discard, End, Session, Want};
use crate::record::{DataFlags, Direction, Endpoint, Mark, NetNs, OpId, Point, Sender, WireBase, Worker};
use crate::stream::Chunk;
use crate::time::{BootTime, ns};
use Direction::{Egress, Ingress};

const MS: u64 = 1_000_000;
const REQUEST: &str = "GET /orders/4711 HTTP/1.1\r\nHost: mes\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

thread_local! {
    /// What the session of this test was told.
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// What it wants of each sender's bytes.
    static WANT: RefCell<[Want; 2]> = const { RefCell::new([Want::All; 2]) };
}

/// Writes down what it is told; opens an operation for each `GET`, finds `junk` invalid.
#[derive(Debug)]
struct Scribe;

fn note(line: String) {
    LOG.with_borrow_mut(|log| log.push(line));
}

fn letter(from: Sender) -> char {
    if from == Sender::Client { 'C' } else { 'S' }
}

impl Session for Scribe {
    fn bytes(&mut self, from: Sender, pos: u64, bytes: &[u8], mark: Mark, out: &mut Events) {
        let text = String::from_utf8_lossy(bytes);
        note(format!("{}{pos} {}", letter(from), text.lines().next().unwrap_or_default()));
        if text.starts_with("GET") {
            let point = mark.point(pos);
            let op = out.new_op();
            out.push(Event::Opened { op, shape: OpSide::Incoming, point });
        }
        if text.starts_with("junk") {
            out.push(Event::Discarded { reason: Discard::Invalid, bytes: bytes.len() as u64 });
        }
    }

    fn gap(&mut self, from: Sender, pos: u64, len: u64, _: Mark, _: &mut Events) {
        note(format!("{}{pos} -{len}", letter(from)));
    }

    fn end(&mut self, end: End, at: BootTime, _: &mut Events) {
        note(format!("{end:?} at {}", at.as_nanos() / MS));
    }

    fn held(&self) -> usize {
        0
    }

    fn peek(&self, _: OpId) -> Option<Operation> {
        None
    }

    fn timeout(&mut self, now: BootTime, _: &mut Events) {
        note(format!("now {}", now.as_nanos() / MS));
    }

    fn want(&self, from: Sender) -> Want {
        WANT.with_borrow(|want| want[usize::from(from == Sender::Server)])
    }
}

fn scribes(max_connections: usize) -> Connections {
    let mut connections = Connections::new(&settings::Protocols::default(), max_connections);
    connections.context.make_session = |protocol, role, _| {
        note(format!("{protocol:?} {role:?}"));
        Box::new(Scribe)
    };
    connections
}

fn conn(id: u64) -> Conn {
    Conn {
        local: Endpoint::Inet("10.0.0.1:80".parse().unwrap()),
        remote: Endpoint::Inet("10.0.0.2:40000".parse().unwrap()),
        from_start: true,
        wire: Some(WireBase { egress: 1, ingress: 2 }),
        ..Conn::unannounced(&data(id, Ingress, 0, "", 0, 1))
    }
}

fn data(id: u64, direction: Direction, pos: u64, text: &str, other_pos: u64, at_ms: u64) -> Data {
    Data {
        at: ns(at_ms * MS),
        conn: ConnId(id),
        direction,
        pos,
        other_pos,
        len: text.len() as u32,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
        thread: Worker::new(7, 8),
        awaited_by: None,
        flags: DataFlags::default(),
    }
}

fn close(id: u64, at_ms: u64) -> Close {
    Close { at: ns(at_ms * MS), conn: ConnId(id), reset: false }
}

fn log() -> Vec<String> {
    LOG.with_borrow_mut(std::mem::take)
}

fn verdicts(connections: &mut Connections) -> Vec<Verdict> {
    std::iter::from_fn(|| connections.poll_verdict()).map(|update| update.verdict).collect()
}

const RESPONSE_START: u64 = REQUEST.len() as u64;

#[test]
fn a_detected_connection_gives_events_with_its_info_and_a_verdict() {
    let mut connections = scribes(10).with_turn_bytes(99);
    connections.handle_conn(conn(1));
    connections.handle_data(data(1, Ingress, 0, REQUEST, 0, 2));
    connections.handle_data(data(1, Egress, 0, RESPONSE, RESPONSE_START, 3));
    assert_eq!(log(), ["Http1 Server", "C0 GET /orders/4711 HTTP/1.1", "S0 HTTP/1.1 200 OK"]);
    assert_eq!(verdicts(&mut connections), [Verdict::Capture { turn_bytes: 99 }]);
    let (info, event) = connections.poll_event().unwrap();
    assert_eq!(info.role, Some(Role::Server));
    assert_eq!(info.conn.id, ConnId(1));
    let point = Point { at: ns(2 * MS), pos: 0, thread: Worker::new(7, 8), awaited_by: None };
    assert_eq!(event, Event::Opened { op: OpId(1), shape: OpSide::Incoming, point });
    assert!(connections.poll_event().is_none());

    connections.handle_close(close(1, 5));
    connections.handle_timeout(ns(105 * MS));
    assert_eq!(log(), ["Closed at 5"]);
    assert_eq!((connections.stats().opened, connections.stats().closed), (1, 1));
    assert!(connections.is_empty());
    assert_eq!(connections.buffered(), 0);
    assert_eq!(connections.poll_timeout(), None);
}

#[test]
fn the_role_comes_from_the_source_else_from_the_traffic() {
    for (known, first, expected) in [
        (None, Ingress, "Http1 Server"),
        (None, Egress, "Http1 Client"),
        (Some(Role::Server), Ingress, "Http1 Server"),
        (Some(Role::Client), Egress, "Http1 Client"),
    ] {
        let mut connections = scribes(10);
        connections.handle_conn(Conn { role: known, ..conn(1) });
        connections.handle_data(data(1, first, 0, REQUEST, 0, 2));
        assert_eq!(log(), [expected, "C0 GET /orders/4711 HTTP/1.1"]);
    }
}

#[test]
fn a_response_whose_record_overtakes_its_request_is_told_after_it() {
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    connections.handle_data(data(1, Egress, 0, RESPONSE, RESPONSE_START, 3));
    assert_eq!(log(), Vec::<String>::new());
    connections.handle_data(data(1, Ingress, 0, REQUEST, 0, 2));
    assert_eq!(log(), ["Http1 Server", "C0 GET /orders/4711 HTTP/1.1", "S0 HTTP/1.1 200 OK"]);
}

#[test]
fn what_is_waited_for_in_vain_is_a_gap_when_record_time_has_passed() {
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    connections.handle_data(data(1, Egress, 0, RESPONSE, RESPONSE_START, 3));
    assert_eq!(connections.poll_timeout(), Some(BootTime::ZERO), "the first sweep is due");
    connections.handle_timeout(ns(4 * MS));
    assert_eq!(connections.poll_timeout(), Some(ns(103 * MS)));
    connections.handle_conn(Conn { at: ns(102 * MS), ..conn(2) });
    assert_eq!(log(), Vec::<String>::new());
    connections.handle_conn(Conn { at: ns(103 * MS), ..conn(3) });
    assert_eq!(log(), ["Http1 Server", "C0 -40", "S0 HTTP/1.1 200 OK"]);
    assert_eq!(RESPONSE_START, 40);
    assert_eq!((connections.stats().gap_bytes, connections.stats().missing_bytes), (40, 40));
}

#[test]
fn bytes_before_detection_are_replayed_in_order() {
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    for (pos, byte) in (0u64..).zip(REQUEST.chars()) {
        connections.handle_data(data(1, Ingress, pos, &byte.to_string(), 0, pos));
    }
    let told: String = log().iter().skip(1).filter_map(|line| line.split_once(' ')).map(|(_, c)| c).collect();
    assert_eq!(told, REQUEST.replace('\n', ""));
    assert_eq!(connections.buffered(), 0);
}

#[test]
fn a_gap_before_detection_starts_the_look_again_and_is_replayed() {
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    connections.handle_data(data(1, Ingress, 0, "GE", 0, 1));
    let cut = Data { len: 50, ..data(1, Ingress, 2, "", 0, 2) };
    connections.handle_data(cut);
    connections.handle_data(data(1, Ingress, 52, REQUEST, 0, 3));
    assert_eq!(log(), ["Http1 Server", "C0 GE", "C2 -50", "C52 GET /orders/4711 HTTP/1.1"]);
}

#[test]
fn a_connection_that_is_not_ours_is_ignored_once() {
    let mut connections = scribes(10);
    let local = Endpoint::Inet("10.0.0.1:7777".parse().unwrap());
    connections.handle_conn(Conn { local, ..conn(1) });
    for i in 0..200 {
        connections.handle_data(data(1, Ingress, i * 1000, &"\u{1}\u{2}".repeat(500), 0, i));
    }
    assert_eq!(verdicts(&mut connections), [Verdict::Ignore]);
    let stats = *connections.stats();
    assert_eq!((stats.not_ours, stats.records), (1, 200));
    assert_eq!(stats.bytes + stats.ignored_bytes, 200_000);
    assert_eq!(connections.buffered(), 0);
}

#[test]
fn tls_is_counted_and_ignored_until_its_plaintext_appears() {
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    let hello = "\u{16}\u{3}\u{1}\u{0}\u{40}\u{1}\u{0}\u{0}\u{3c}\u{3}\u{3}0123456789abcdef";
    connections.handle_data(data(1, Ingress, 0, hello, 0, 1));
    assert_eq!(verdicts(&mut connections), [Verdict::Ignore]);
    assert_eq!(connections.stats().opaque, 1);

    let flags = DataFlags { plaintext: true, ..Default::default() };
    connections.handle_data(Data { flags, ..data(1, Ingress, 0, REQUEST, 0, 2) });
    connections.handle_data(data(1, Ingress, 21, "ciphertext", 0, 2));
    assert_eq!(log(), ["Http1 Server", "C0 GET /orders/4711 HTTP/1.1"]);
    assert_eq!(connections.stats().ciphertext_bytes, 10);
    assert_eq!(
        connections.info(ConnId(1)).unwrap().conn.wire,
        None,
        "plaintext positions are not the wire's"
    );
}

#[test]
fn an_encrypted_connection_hides_requests_from_its_first_data_on() {
    let hello = "\u{16}\u{3}\u{1}\u{0}\u{40}\u{1}\u{0}\u{0}\u{3c}\u{3}\u{3}0123456789abcdef";
    let events = |is_opened: bool, role| {
        let mut connections = scribes(10);
        if is_opened {
            connections.open_tls(tls::Bounds {
                bytes: 1 << 16,
                time: Duration::from_secs(10),
                after_end: Duration::ZERO,
            });
        }
        connections.handle_conn(Conn { role: Some(role), ..conn(1) });
        // The clock has gone on by the time the bytes are looked at.
        connections.handle_timeout(BootTime::ZERO + Duration::from_secs(5));
        let direction = if role == Role::Server { Ingress } else { Egress };
        connections.handle_data(data(1, direction, 0, hello, 0, 1000));
        let rest = "x".repeat(69 - hello.len());
        connections.handle_data(data(1, direction, hello.len() as u64, &rest, 0, 1001));
        // Data of whoever asks it.
        let (pos, sent) = if role == Role::Server { (69, 0) } else { (0, 69) };
        let record = format!("\u{17}\u{3}\u{3}\u{0}\u{40}{}", "x".repeat(64));
        connections.handle_data(data(1, Ingress, pos, &record, sent, 2000));
        let all = std::iter::from_fn(|| connections.poll_event()).map(|(_, event)| event);
        all.filter_map(|event| match event {
            Event::Unread { since, is_watched, .. } => {
                Some(format!("{} {is_watched}", since.as_nanos() / MS))
            }
            Event::Hidden { at, .. } => Some(format!("{}", at.as_nanos() / MS)),
            _ => None,
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(
        events(true, Role::Server),
        ["2000 true", "2000"],
        "its secret is looked for: who reads it is told"
    );
    assert_eq!(events(true, Role::Client), ["2000 true", "2000"], "it may be a broker's");
    assert_eq!(events(false, Role::Server), ["1000 false"]);
    assert_eq!(events(false, Role::Client), [""; 0], "it asks, and is asked for nothing");
}

#[test]
fn a_connection_that_is_over_or_in_the_clear_hides_nothing_any_more() {
    let hello = "\u{16}\u{3}\u{1}\u{0}\u{40}\u{1}\u{0}\u{0}\u{3c}\u{3}\u{3}0123456789abcdef";
    let events = |connections: &mut Connections| {
        let all = std::iter::from_fn(|| connections.poll_event()).map(|(_, event)| event);
        let kinds =
            |event: &Event| matches!(event, Event::Unread { .. } | Event::UnreadOver { .. } | Event::Read);
        all.filter(kinds).collect::<Vec<_>>()
    };
    let bounds =
        |bytes| tls::Bounds { bytes, time: Duration::from_secs(10), after_end: Duration::from_secs(3) };
    let mut connections = scribes(10);
    connections.open_tls(bounds(500));
    connections.handle_conn(Conn { role: Some(Role::Server), ..conn(1) });
    connections.handle_data(data(1, Ingress, 0, hello, 0, 1));
    let record = format!("\u{17}\u{3}\u{3}\u{1}\u{0}{}", "x".repeat(256));
    assert!(events(&mut connections).is_empty(), "a handshake asks for nothing");
    connections.handle_data(data(1, Ingress, 27, &["x".repeat(42), record.clone()].concat(), 0, 1));
    assert!(matches!(events(&mut connections)[..], [Event::Unread { is_watched: true, .. }]));
    connections.handle_close(close(1, 2));
    assert!(matches!(events(&mut connections)[..], [Event::UnreadOver { .. }]), "it was closed");
    // Its records wait for a secret a little longer, and then there are too many: that does not begin it anew.
    let at = 69 + record.len() as u64;
    connections.handle_data(data(1, Ingress, at, &record.repeat(2), 0, 3));
    assert_eq!((connections.stats().opaque, connections.stats().tls.limit), (1, 1));
    assert_eq!(events(&mut connections).len(), 0);

    let mut connections = scribes(10);
    connections.handle_conn(Conn { role: Some(Role::Server), ..conn(1) });
    connections.handle_data(data(1, Ingress, 0, hello, 0, 1));
    let flags = DataFlags { plaintext: true, ..Default::default() };
    connections.handle_data(Data { flags, ..data(1, Ingress, 0, REQUEST, 0, 2) });
    assert!(matches!(events(&mut connections)[..], [Event::Unread { is_watched: false, .. }, Event::Read]));
}

#[test]
fn a_body_that_nobody_needs_is_skipped_once() {
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    connections.handle_data(data(1, Ingress, 0, REQUEST, 0, 1));
    assert_eq!(verdicts(&mut connections), [Verdict::Capture { turn_bytes: 1 << 20 }]);
    let body = 1_000_000;
    for (i, left) in [(0, body), (1, body - 100), (2, body - 200)] {
        WANT.set([Want::Skip(left), Want::Skip(100)]);
        let pos = RESPONSE_START + i * 100;
        connections.handle_data(Data { len: 100, ..data(1, Ingress, pos, "", 0, 2 + i) });
    }
    let until_pos = RESPONSE_START + 100 + body;
    assert_eq!(verdicts(&mut connections), [Verdict::Skip { direction: Ingress, until_pos }]);

    WANT.set([Want::Nothing; 2]);
    connections.handle_data(data(1, Ingress, RESPONSE_START + 300, "x", 0, 9));
    connections.handle_data(data(1, Ingress, RESPONSE_START + 301, "x", 0, 9));
    assert_eq!(verdicts(&mut connections), [Verdict::Ignore]);
}

#[test]
fn data_without_an_announcement_makes_a_connection_that_a_later_one_completes() {
    let mut connections = scribes(10);
    connections.handle_data(data(1, Ingress, 700, REQUEST, 0, 1));
    let info = Arc::clone(connections.info(ConnId(1)).unwrap());
    assert_eq!(info.conn.local, Endpoint::Unknown);
    connections.handle_conn(Conn { role: Some(Role::Server), netns: NetNs(5), ..conn(1) });
    let info = Arc::clone(connections.info(ConnId(1)).unwrap());
    assert_eq!((info.role, info.conn.netns), (Some(Role::Server), NetNs(5)));
    assert_eq!(info.conn.wire, conn(1).wire);
    connections.handle_conn(Conn { netns: NetNs(6), local: Endpoint::Unknown, wire: None, ..conn(1) });
    assert_eq!(*connections.info(ConnId(1)).unwrap(), info, "what is known stays");
    assert_eq!((connections.stats().opened, connections.stats().unannounced), (1, 1));
    assert_eq!(log(), ["Http1 Server", "C700 GET /orders/4711 HTTP/1.1"]);
}

#[test]
fn an_uncertain_position_takes_the_wire_identity_for_good() {
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    let flags = DataFlags { position_uncertain: true, ..Default::default() };
    connections.handle_data(Data { flags, ..data(1, Ingress, 0, REQUEST, 0, 1) });
    connections.handle_conn(conn(1));
    assert_eq!(connections.info(ConnId(1)).unwrap().conn.wire, None);
    let (info, _) = connections.poll_event().unwrap();
    assert_eq!(info.conn.wire, None);
}

#[test]
fn a_detection_that_makes_no_sense_is_taken_back() {
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    let mut pos = 0;
    let mut send = |connections: &mut Connections, text: &str| {
        connections.handle_data(data(1, Ingress, pos, text, 0, 1));
        pos += text.len() as u64;
    };
    for _ in 0..3 {
        send(&mut connections, REQUEST);
        for _ in 0..64 {
            send(&mut connections, "junk");
        }
    }
    send(&mut connections, REQUEST);
    let stats = *connections.stats();
    assert_eq!(
        (stats.misdetected, stats.detected[Protocol::Http1], stats.invalid, stats.invalid_bytes),
        (3, 3, 192, 768)
    );
    assert_eq!(verdicts(&mut connections), [Verdict::Capture { turn_bytes: 1 << 20 }, Verdict::Ignore]);
    assert_eq!(log().iter().filter(|line| line.starts_with("Abandoned")).count(), 3);
}

#[test]
fn the_least_recently_used_connection_makes_room() {
    let mut connections = scribes(2);
    for id in [1, 2] {
        connections.handle_conn(conn(id));
        connections.handle_data(data(id, Ingress, 0, REQUEST, 0, id));
    }
    connections.handle_data(data(1, Egress, 0, RESPONSE, RESPONSE_START, 5));
    log();
    connections.handle_conn(Conn { at: ns(6 * MS), ..conn(3) });
    assert_eq!(log(), ["Abandoned at 6"]);
    assert!(connections.info(ConnId(2)).is_none() && connections.info(ConnId(1)).is_some());
    assert_eq!((connections.len(), connections.stats().evicted), (2, 1));
}

#[test]
fn records_that_come_after_the_close_still_count_for_a_while() {
    let mut connections = scribes(2);
    connections.handle_conn(conn(1));
    connections.handle_data(data(1, Ingress, 0, REQUEST, 0, 1));
    connections.handle_close(Close { reset: true, ..close(1, 3) });
    connections.handle_data(data(1, Egress, 0, RESPONSE, RESPONSE_START, 2));
    connections.handle_timeout(ns(200 * MS));
    assert_eq!(log()[1..], ["C0 GET /orders/4711 HTTP/1.1", "S0 HTTP/1.1 200 OK", "Reset at 3"]);
    connections.handle_data(data(1, Egress, 40, "late", RESPONSE_START, 201));
    assert_eq!((connections.stats().late_records, connections.len()), (1, 0));
}

#[test]
fn finish_ends_every_connection_as_it_is() {
    let mut connections = scribes(9);
    for id in [1, 2, 3] {
        connections.handle_conn(conn(id));
    }
    connections.handle_data(data(1, Egress, 0, RESPONSE, RESPONSE_START, 5));
    connections.handle_data(data(2, Ingress, 0, REQUEST, 0, 5));
    connections.handle_close(close(2, 6));
    connections.finish(ns(9 * MS));
    let mut told = log();
    told.sort();
    assert!(
        told.contains(&"Abandoned at 9".to_owned()) && told.contains(&"Closed at 6".to_owned()),
        "{told:?}"
    );
    let stats = connections.stats();
    assert_eq!((stats.abandoned, stats.closed, stats.undecided), (2, 1, 1));
    assert!(connections.is_empty() && connections.poll_timeout().is_none());
}

#[test]
fn sessions_are_told_the_time_once_a_second() {
    let mut connections = scribes(9);
    connections.handle_conn(conn(1));
    connections.handle_data(data(1, Ingress, 0, REQUEST, 0, 1));
    log();
    for at in [10, 500, 1009, 1010, 1500, 2500] {
        connections.handle_timeout(ns(at * MS));
    }
    assert_eq!(log(), ["now 10", "now 1010", "now 2500"]);
}

#[test]
fn what_all_connections_hold_back_is_bounded() {
    let mut connections = scribes(100_000);
    let piece = "x".repeat(100_000);
    for id in 0..1000 {
        connections.handle_conn(conn(id));
        connections.handle_data(data(id, Ingress, 10, &piece, 0, 1));
        assert!(connections.buffered() <= MAX_BUFFERED);
    }
    assert!(connections.stats().relieved > 0);
    connections.finish(ns(2 * MS));
    assert_eq!(connections.buffered(), 0);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_records_panic_or_leave_anything_behind(
            steps in prop::collection::vec(
                (0u8..5, 0u64..4, any::<bool>(), 0u64..200, 0u64..300, 0u64..400, 0usize..4),
                0..120
            )
        ) {
            let mut connections = Connections::new(&settings::Protocols::default(), 3);
            let texts = [REQUEST, RESPONSE, "\u{1}\u{2}\u{3}", ""];
            for (step, id, egress, pos, other_pos, at, text) in steps {
                let direction = if egress { Egress } else { Ingress };
                match step {
                    0 => connections.handle_conn(Conn { at: ns(at * MS), from_start: egress, ..conn(id) }),
                    1 => connections.handle_close(close(id, at)),
                    2 => connections.handle_timeout(ns(at * MS)),
                    _ => connections.handle_data(data(id, direction, pos, texts[text], other_pos, at)),
                }
                prop_assert!(connections.len() <= 3);
                while connections.poll_event().is_some() {}
            }
            connections.finish(BootTime::ZERO);
            prop_assert_eq!((connections.len(), connections.buffered()), (0, 0));
            prop_assert!(connections.timers.is_empty() && connections.poll_timeout().is_none());
            let s = *connections.stats();
            prop_assert_eq!(s.opened, s.closed + s.evicted + s.abandoned);
        }
    }
}

#[test]
fn what_waits_counts_with_its_places() {
    // Bytes that nothing is known of, one by one: the places take more than the bytes.
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    connections.handle_data(data(1, Ingress, 0, "x", 0, 2));
    let one = connections.held();
    for at in 1..50 {
        connections.handle_data(data(1, Ingress, at, "x", 0, 2 + at));
    }
    let more = connections.held() - one;
    assert!(more >= 49 * (1 + size_of::<Chunk>()), "{more}");
    // What may be a header of the PROXY protocol.
    connections.handle_conn(conn(2));
    let none = connections.held();
    connections.handle_data(data(2, Ingress, 0, "PROX", 0, 60));
    let more = connections.held() - none;
    assert!(more >= 4 + size_of::<Chunk>(), "{more}");
    // What waits for its turn.
    let none = connections.held();
    connections.handle_conn(conn(3));
    connections.handle_data(data(3, Ingress, 10, "x", 0, 61));
    let first = connections.held() - none;
    connections.handle_data(data(3, Ingress, 20, "x", 0, 61));
    let more = connections.held() - none - first;
    assert!(more > size_of::<Chunk>(), "{more}");
    connections.finish(ns(1000 * MS));
    assert_eq!(connections.held(), 0);
}
