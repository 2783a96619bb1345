use proptest::prelude::*;

use super::*;
use crate::record::Direction::{Egress, Ingress};

const CLIENT: Sniff = Sniff::Yes(Sender::Client);
const SERVER: Sniff = Sniff::Yes(Sender::Server);

/// A tagged PostgreSQL message.
fn pg(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag][..], &(content.len() as u32 + 4).to_be_bytes(), content].concat()
}

/// A PostgreSQL packet without a tag.
fn pg_start(code: u32, content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), content].concat()
}

fn amqp(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &channel.to_be_bytes(), &(payload.len() as u32).to_be_bytes(), payload, &[0xCE]].concat()
}

#[test]
fn http_by_its_start_lines() {
    let check = |bytes: &str, expected: Sniff| {
        assert_eq!(Protocol::Http1.sniff(bytes.as_bytes()), expected, "{bytes:?}")
    };
    check("GET / HTTP/1.1\r\nHost: h\r\n\r\n", CLIENT);
    check("PATCH /orders/7 HTTP/1.0\n", CLIENT);
    check("PROPFIND /dav/ HTTP/1.1\r\n", CLIENT);
    check("x-own-method /a HTTP/1.1\r\n", CLIENT);
    check("OPTIONS * HTTP/1.1\r\n", CLIENT);
    check("\r\nGET / HTTP/1.1\r\n", CLIENT);
    check("HTTP/1.1 200 OK\r\n", SERVER);
    check("HTTP/1.0 404\r\n", SERVER);
    check("GET", Sniff::Maybe);
    check("GET /orders/7 HT", Sniff::Maybe);
    check("HTTP/1.1 2", Sniff::Maybe);
    check(&format!("GET /{}", "a".repeat(2000)), CLIENT);
    check("HTTP/2 200\r\n", Sniff::No);
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Sniff::No);
    check("OPTIONS rtsp://cam/1 RTSP/1.0\r\n", Sniff::No);
    check("INVITE sip:a@b SIP/2.0\r\n", Sniff::No);
    check("get key\r\n", Sniff::No);
    check("SSH-2.0-OpenSSH_9.2\r\n", Sniff::No);
    check("{\"a\": 1}", Sniff::No);
    check("\r\n\r\n\r\n", Sniff::Maybe);
    check("\r\n\r\n\r\n\r\n\r\n\r\n", Sniff::No);
}

#[test]
fn amqp_by_header_and_frames() {
    let check =
        |bytes: &[u8], expected: Sniff| assert_eq!(Protocol::Amqp.sniff(bytes), expected, "{bytes:?}");
    let publish = amqp(1, 1, b"\x00\x3c\x00\x28\x00\x00\x06orders\x03new\x00");
    let deliver = amqp(1, 1, b"\x00\x3c\x00\x3c\x04ctag\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x03new");
    let ack = amqp(1, 1, b"\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x00\x01\x00");
    let header = amqp(2, 1, b"\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00");
    let body = amqp(3, 1, b"hello");
    let heartbeat = amqp(8, 0, b"");
    check(b"AMQP\x00\x00\x09\x01", CLIENT);
    check(b"AMQP\x00", Sniff::Maybe);
    check(b"AMQP\x03\x01\x00\x00", Sniff::No);
    check(&publish, CLIENT);
    check(&[publish.clone(), header.clone(), body.clone()].concat(), CLIENT);
    check(&[heartbeat.clone(), deliver.clone()].concat(), SERVER);
    check(&amqp(1, 0, b"\x00\x0a\x00\x0a\x00\x09\x00\x00"), SERVER);
    // Both sides send these.
    for frames in [&ack, &header, &body, &heartbeat] {
        check(frames, Sniff::Maybe);
    }
    // A frame header read on its own says too little.
    check(&publish[..7], Sniff::Maybe);
    // A body cut by the end of what was copied.
    check(&[publish.clone(), header, body[..9].to_vec()].concat(), CLIENT);
    let mut wrong_end = publish.clone();
    *wrong_end.last_mut().unwrap() = 0;
    check(&wrong_end, Sniff::No);
    check(&amqp(1, 0, b"\x00\x3c\x00\x28\x00\x00\x00\x00\x00"), Sniff::No);
    check(&amqp(1, 1, b"\x00\x3c\x00\x29"), Sniff::No);
    check(&amqp(4, 1, b""), Sniff::No);
}

#[test]
fn postgres_by_start_up_and_by_messages() {
    let check =
        |bytes: &[u8], expected: Sniff| assert_eq!(Protocol::Postgres.sniff(bytes), expected, "{bytes:?}");
    check(&pg_start(0x0003_0000, b"user\0shop\0database\0orders\0\0"), CLIENT);
    check(&pg_start(0x0003_0002, b"database\0orders\0user\0shop\0\0"), CLIENT);
    check(&pg_start(80_877_103, b""), CLIENT);
    check(&pg_start(80_877_104, b""), CLIENT);
    check(&pg_start(80_877_102, b"\x00\x00\x12\x34abcd"), CLIENT);
    check(&pg_start(0x0003_0000, b"user\0shop\0\0")[..13], Sniff::Maybe);
    check(&pg_start(0x0003_0000, b"\x00\x00\x00\x01\x00\x04test"), Sniff::No);

    check(&pg(b'Q', b"SELECT 1\0"), CLIENT);
    check(&pg(b'Q', b"SELECT * FROM orders WHERE id = 7\0")[..30], CLIENT);
    let parse = pg(b'P', b"\0SELECT $1\0\x00\x01\x00\x00\x00\x17");
    let bind = pg(b'B', b"\0\0\x00\x00\x00\x01\x00\x00\x00\x014\x00\x00");
    let (describe, execute, sync) = (pg(b'D', b"P\0"), pg(b'E', b"\0\0\0\0\0"), pg(b'S', b""));
    check(&parse, CLIENT);
    check(&bind, CLIENT);
    check(&[parse, bind, describe.clone(), execute.clone(), sync.clone()].concat(), CLIENT);
    check(&[describe, sync.clone()].concat(), CLIENT);
    check(&sync, Sniff::Maybe);
    check(&execute, Sniff::Maybe);

    let ready = pg(b'Z', b"I");
    check(&ready, SERVER);
    check(&[pg(b'1', b""), pg(b'2', b"")].concat(), SERVER);
    check(&[pg(b'D', b"\x00\x01\x00\x00\x00\x014"), pg(b'C', b"SELECT 1\0"), ready].concat(), SERVER);
    check(&pg(b'E', b"SERROR\0C23505\0Mduplicate key\0\0"), SERVER);
    check(&pg(b'R', b"\0\0\0\0"), SERVER);
    check(&pg(b'S', b"TimeZone\0UTC\0"), Sniff::Maybe);
    check(&pg(b'c', b""), Sniff::Maybe);
    check(b"N", Sniff::Maybe);
    check(&pg(b'Z', b"X"), Sniff::No);
    check(b"Quit the game\r\n", Sniff::No);
}

#[test]
fn encrypted_and_newer_protocols_are_named() {
    let check = |bytes: &[u8], expected: Option<Kind>| assert_eq!(sniff_opaque(bytes), expected, "{bytes:?}");
    let hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), vec![7; 508]].concat();
    check(&hello, Some(Kind::Tls));
    check(&hello[..100], Some(Kind::Tls));
    check(&[b"\x17\x03\x03\x00\x20".to_vec(), vec![9; 32]].concat(), Some(Kind::Tls));
    check(
        &[b"\x17\x03\x03\x00\x04aaaa".to_vec(), b"\x17\x03\x03\x00\x09".to_vec()].concat(),
        Some(Kind::Tls),
    );
    check(b"\x17\x03\x03\x00\x20", None);
    check(b"\x16\x03\x01", None);
}

/// Records of a conversation, offered until something is decided.
fn detect(port: Option<u16>, records: &[(Direction, &[u8])]) -> Detection {
    let mut detector = Detector::default();
    let offered = records.iter().map(|(direction, bytes)| detector.offer(*direction, bytes, port));
    offered.into_iter().find(|found| *found != Detection::Undecided).unwrap_or(Detection::Undecided)
}

fn is(protocol: Protocol, ingress_sender: Sender) -> Detection {
    Detection::Is { protocol, ingress_sender }
}

#[test]
fn connections_in_any_state_with_either_side_first() {
    let check = |records: &[(Direction, &[u8])], expected: Detection| {
        assert_eq!(detect(None, records), expected, "{records:?}");
    };
    check(&[(Ingress, b"GET / HTTP/1.1\r\n\r\n")], is(Protocol::Http1, Sender::Client));
    check(&[(Egress, b"GET / HTTP/1.1\r\n\r\n")], is(Protocol::Http1, Sender::Server));
    check(
        &[(Egress, b"tail of a body"), (Ingress, b"HTTP/1.1 200 OK\r\n")],
        is(Protocol::Http1, Sender::Server),
    );
    check(
        &[(Ingress, b"GE"), (Ingress, b"T / HTT"), (Ingress, b"P/1.1\r\n")],
        is(Protocol::Http1, Sender::Client),
    );
    let ack = amqp(1, 1, b"\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x00\x01\x00");
    let deliver = amqp(1, 1, b"\x00\x3c\x00\x3c\x04ctag\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x03new");
    check(&[(Egress, &ack), (Ingress, &deliver)], is(Protocol::Amqp, Sender::Server));
    // A client that reads frame headers and payloads apart.
    check(&[(Ingress, &deliver[..7]), (Ingress, &deliver[7..])], is(Protocol::Amqp, Sender::Server));
    check(&[(Egress, &pg(b'Q', b"SELECT 1\0"))], is(Protocol::Postgres, Sender::Server));
    check(&[(Egress, &pg(b'Z', b"I"))], is(Protocol::Postgres, Sender::Client));
    check(&[(Egress, &pg_start(80_877_103, b""))], is(Protocol::Postgres, Sender::Server));
    check(&[(Egress, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")], is(Protocol::Http2, Sender::Server));
}

#[test]
fn the_port_breaks_ties_and_buys_patience() {
    let sync = pg(b'S', b"");
    assert_eq!(detect(Some(5432), &[(Ingress, &sync)]), is(Protocol::Postgres, Sender::Client));
    assert_eq!(detect(Some(1234), &[(Ingress, &sync)]), Detection::Undecided);
    assert_eq!(detect(Some(8080), &[(Ingress, b"POST /orders?n=")]), is(Protocol::Http1, Sender::Client));
    assert_eq!(detect(None, &[(Ingress, b"POST /orders?n=")]), Detection::Undecided);
    let blobs: Vec<(Direction, &[u8])> =
        (0..20).flat_map(|_| [(Ingress, &b"\xff\xfe"[..]), (Egress, b"\xfd")]).collect();
    assert_eq!(detect(None, &blobs), Detection::NotOurs);
    assert_eq!(detect(Some(8080), &blobs), Detection::Undecided);
    assert_eq!(detect(Some(9999), &blobs[..6]), Detection::Undecided);
}

/// A frame: type, flags, stream, payload.
fn h2(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream][..], payload].concat()
}

#[test]
fn http2_is_told_by_its_preface_and_by_its_header_blocks() {
    let check = |bytes: &[u8], expected: Sniff| {
        assert_eq!(Protocol::Http2.sniff(bytes), expected, "{bytes:x?}");
        if expected != Sniff::No {
            (0..bytes.len()).for_each(|len| {
                assert_ne!(Protocol::Http2.sniff(&bytes[..len]), Sniff::No, "{len} of {bytes:x?}")
            });
        }
    };
    check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Sniff::Yes(Sender::Client));
    check(b"PRI * HTTP/2.0\r\n\r\nSX", Sniff::No);
    // GET, path and authority from the table.
    let request = h2(1, 5, 3, &[0x82, 0x86, 0xbf, 0xbe]);
    let response = h2(1, 4, 3, &[0x88, 0xc0, 0xbf]);
    let data = h2(0, 1, 3, b"hello");
    check(&request, Sniff::Yes(Sender::Client));
    check(&response, Sniff::Yes(Sender::Server));
    check(&[&response[..], &data].concat(), Sniff::Yes(Sender::Server));
    check(&[h2(8, 0, 0, &[0, 0, 1, 0]), request.clone()].concat(), Sniff::Yes(Sender::Client));
    // Trailers of a call.
    check(&h2(1, 5, 3, b"\x40\x0bgrpc-status\x010"), Sniff::Yes(Sender::Server));
    // What does not tell its sender.
    check(&h2(6, 0, 0, &[0; 8]), Sniff::Maybe);
    check(&h2(4, 0, 0, &[0, 3, 0, 0, 0, 100]), Sniff::Maybe);
    check(&[data.clone(), data.clone(), data].concat(), Sniff::Maybe);
    check(&h2(1, 5, 3, &[0xbe, 0xbf]), Sniff::Maybe);
    // Nearly.
    check(&h2(1, 5, 0, &[0x82]), Sniff::No);
    check(&h2(1, 5, 3, &[]), Sniff::No);
    check(&h2(1, 0x55, 3, &[0x82]), Sniff::No);
    check(&h2(1, 5, 3, &[0x82, 0x88]), Sniff::No);
    check(&h2(8, 0, 0, &[0; 4]), Sniff::No);
    check(&[request, vec![0xff; 12]].concat(), Sniff::No);
    check(&[0; 40], Sniff::No);
}

#[test]
fn http2_joined_in_mid_stream_is_found_at_the_next_header_block() {
    let data = h2(0, 0, 3, &[0x5a; 100]);
    let response = h2(1, 4, 5, &[0x88, 0xc0, 0xbf]);
    let mut detector = Detector::default();
    for part in data.chunks(40) {
        assert_eq!(detector.offer(Egress, &part[7..], None), Detection::Undecided);
    }
    assert_eq!(detector.offer(Ingress, &h2(8, 0, 3, &[0, 0, 1, 0]), None), Detection::Undecided);
    assert_eq!(detector.offer(Egress, &response, None), is(Protocol::Http2, Sender::Client));
}

#[test]
fn a_long_body_in_mid_stream_is_waited_for() {
    let mut detector = Detector::default();
    let block = [0xA5u8; 16 << 10];
    for _ in 0..60 {
        assert_eq!(detector.offer(Egress, &block, None), Detection::Undecided);
    }
    assert_eq!(
        detector.offer(Ingress, b"GET /next HTTP/1.1\r\n\r\n", None),
        is(Protocol::Http1, Sender::Client)
    );
    // And a decision against it can be taken back.
    let mut detector = Detector::default();
    for _ in 0..200 {
        detector.offer(Egress, &block, None);
    }
    assert_eq!(detector.offer(Egress, &block, None), Detection::NotOurs);
    assert_eq!(detector.offer(Egress, b"HTTP/1.1 200 OK\r\n", None), is(Protocol::Http1, Sender::Client));
}

type Talk = Vec<(Direction, Vec<u8>)>;

/// Conversations of other protocols, client first unless said otherwise, as real programs write them.
fn strangers() -> Vec<(&'static str, Talk)> {
    let up = |bytes: &[u8]| (Ingress, bytes.to_vec());
    let down = |bytes: &[u8]| (Egress, bytes.to_vec());
    let mysql_query = [&[0x15, 0, 0, 0, 3][..], b"SELECT * FROM orders"].concat();
    let mut kafka_metadata = vec![0, 0, 0, 26, 0, 3, 0, 0, 0, 0, 0, 1, 0, 7];
    kafka_metadata.extend_from_slice(b"rdkafka\x00\x00\x00\x01\x00");
    let mongo =
        [&[0x3a, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xd4, 7, 0, 0, 4, 0, 0, 0][..], b"admin.$cmd\0\0\0\0\0"]
            .concat();
    vec![
        ("redis", vec![up(b"*2\r\n$3\r\nGET\r\n$5\r\norder\r\n"), down(b"$-1\r\n"), up(b"PING\r\n"), down(b"+PONG\r\n")]),
        ("memcached", vec![up(b"set order 0 0 5\r\nhello\r\n"), down(b"STORED\r\n"), up(b"get order\r\n"), down(b"VALUE order 0 5\r\nhello\r\nEND\r\n")]),
        ("memcached binary", vec![up(b"\x80\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00order"), down(b"\x81\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00Not found")]),
        ("mysql", vec![down(b"\x4a\x00\x00\x00\x0a8.0.36\x00\x0b\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00\xff\xdf\x15"), up(b"\x20\x00\x00\x01\x85\xa6\xff\x19\x00\x00\x00\x01\xff"), down(b"\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"), up(&mysql_query)]),
        ("kafka", vec![up(&kafka_metadata), down(b"\x00\x00\x00\x30\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x09localhost\x00\x00\x23\x84")]),
        ("ssh", vec![down(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"), up(b"SSH-2.0-Go\r\n"), down(b"\x00\x00\x04\x3c\x06\x14abcdefghijklmnop"), up(b"\x00\x00\x03\x9c\x06\x14qrstuvwxyzabcdef")]),
        ("mqtt", vec![up(b"\x10\x13\x00\x04MQTT\x04\x02\x00<\x00\x07machine"), down(b"\x20\x02\x00\x00"), up(b"\x30\x0b\x00\x05orderhello"), down(b"\xd0\x00")]),
        ("nats", vec![down(b"INFO {\"server_id\":\"N\"}\r\n"), up(b"CONNECT {\"verbose\":false}\r\n"), up(b"PUB orders 5\r\nhello\r\n"), down(b"+OK\r\n")]),
        ("stomp", vec![up(b"CONNECT\naccept-version:1.2\n\n\0"), down(b"CONNECTED\nversion:1.2\n\n\0")]),
        ("smtp", vec![down(b"220 mail ESMTP Postfix\r\n"), up(b"EHLO shop\r\n"), down(b"250-mail\r\n250 SIZE\r\n"), up(b"MAIL FROM:<a@b>\r\n")]),
        ("mongodb", vec![up(&mongo), down(b"\x5f\x01\x00\x00\x10\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00")]),
        ("amqp 1.0", vec![up(b"AMQP\x00\x01\x00\x00"), down(b"AMQP\x00\x01\x00\x00"), up(b"\x00\x00\x00\x1a\x02\x00\x00\x00\x00\x53\x10"), down(b"\x00\x00\x00\x1a\x02\x00\x00\x00\x00\x53\x10")]),
        ("zookeeper", vec![up(b"\x00\x00\x00\x2d\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x75\x30"), down(b"\x00\x00\x00\x25\x00\x00\x00\x00\x00\x00\x75\x30")]),
        ("cassandra", vec![up(b"\x04\x00\x00\x00\x05\x00\x00\x00\x00"), down(b"\x84\x00\x00\x00\x06\x00\x00\x00\x04\x00\x00\x00\x00")]),
        ("rtsp", vec![up(b"OPTIONS rtsp://cam/1 RTSP/1.0\r\nCSeq: 1\r\n\r\n"), down(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n")]),
        ("zeros", vec![up(&[0; 64]), down(&[0; 64])]),
        ("ones", vec![up(&[0xff; 64]), down(&[0xff; 64])]),
    ]
}

#[test]
fn other_protocols_are_never_taken_for_ours_and_given_up_in_the_end() {
    for (name, talk) in strangers() {
        for port in [None, Some(6379), Some(5432), Some(5672), Some(8080)] {
            let mut detector = Detector::default();
            let mut last = Detection::Undecided;
            for (direction, bytes) in talk.iter().cycle().take(2000) {
                last = detector.offer(*direction, bytes, port);
                let ours = matches!(last, Detection::Is { .. } | Detection::Opaque(_));
                assert!(!ours, "{name} on port {port:?} taken for {last:?} at {bytes:?}");
            }
            assert_eq!(last, Detection::NotOurs, "{name} on port {port:?}");
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_hardly_ever_look_like_anything(
        records in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 0..40),
    ) {
        let mut detector = Detector::default();
        for (up, bytes) in &records {
            let direction = if *up { Ingress } else { Egress };
            let found = detector.offer(direction, bytes, None);
            prop_assert!(!matches!(found, Detection::Is { .. }), "{bytes:?}");
            prop_assert!(detector.ingress.joined.len() <= MAX_JOINED_LEN);
        }
    }

    #[test]
    fn a_request_cut_anywhere_is_found_when_it_is_whole(cuts in prop::collection::vec(1usize..40, 0..4)) {
        let message: &[u8] = b"PROPPATCH /orders/7 HTTP/1.1\r\nHost: shop\r\n\r\n";
        let mut detector = Detector::default();
        let mut found = Detection::Undecided;
        let mut rest = message;
        for cut in cuts.into_iter().chain([message.len()]) {
            let (record, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            found = match detector.offer(Ingress, record, None) {
                Detection::Undecided => found,
                decided => decided,
            };
        }
        prop_assert_eq!(found, is(Protocol::Http1, Sender::Client));
    }
}
