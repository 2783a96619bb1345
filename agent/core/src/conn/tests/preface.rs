//! Connections whose first bytes a proxy wrote.

use super::*;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 51000 80\r\n";
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x13\xc0\x00\x02\x07\x0a\x00\x00\x01\xc7\x38\x00\x50\x02\x00\x04shop";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

fn bytes(direction: Direction, pos: u64, bytes: &[u8], at_ms: u64) -> Data {
    let whole = data(1, direction, pos, "", 0, at_ms);
    Data { len: bytes.len() as u32, bytes: Bytes::copy_from_slice(bytes), ..whole }
}

fn client(connections: &Connections) -> Option<String> {
    connections.info(ConnId(1)).and_then(|info| info.client).map(|client| client.to_string())
}

#[test]
fn a_header_in_front_of_any_protocol_is_stepped_over() {
    let http2 = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let startup = [&[0, 0, 0, 24, 0, 3, 0, 0][..], b"user\0shop\0db\0x\0\0"].concat();
    let protocols: [(&str, &[u8]); 4] = [
        ("Http1 Server", REQUEST.as_bytes()),
        ("Http2 Server", &http2),
        ("Amqp Server", b"AMQP\0\0\x09\x01"),
        ("Postgres Server", &startup),
    ];
    for (name, first) in protocols {
        for (header, expected) in
            [(V1, Some("192.0.2.7:51000")), (V2, Some("192.0.2.7:51000")), (LOCAL, None), (UNKNOWN, None)]
        {
            let mut connections = scribes(10);
            connections.handle_conn(conn(1));
            connections.handle_data(bytes(Ingress, 0, &[header, first].concat(), 2));
            let log = log();
            assert_eq!(log.first().map(String::as_str), Some(name), "{log:?}");
            assert!(
                log[1].starts_with(&format!("C{} ", header.len())),
                "positions are the stream's: {log:?}"
            );
            assert_eq!(client(&connections).as_deref(), expected, "{name}");
        }
    }
}

#[test]
fn every_split_of_a_header_gives_the_same() {
    for header in [V1, V2, LOCAL, UNKNOWN] {
        let whole = [header, REQUEST.as_bytes()].concat();
        for first in 1..whole.len() {
            for second in [first + 1, first + 11, whole.len()] {
                let second = second.min(whole.len());
                let mut connections = Connections::new(&settings::Protocols::default(), 10);
                connections.handle_conn(conn(1));
                for (from, to) in [(0, first), (first, second), (second, whole.len())] {
                    if from < to {
                        connections.handle_data(bytes(
                            Ingress,
                            from as u64,
                            &whole[from..to],
                            2 + from as u64,
                        ));
                    }
                }
                connections.handle_data(bytes(Egress, 0, RESPONSE.as_bytes(), 900));
                connections.handle_timeout(ns(2000 * MS));
                let events = std::iter::from_fn(|| connections.poll_event());
                let closed: Vec<Box<Operation>> = events
                    .filter_map(|(_, event)| match event {
                        Event::Closed(operation) => Some(operation),
                        _ => None,
                    })
                    .collect();
                let [operation] = closed.as_slice() else { panic!("{first} {second}: {closed:?}") };
                assert_eq!(operation.request.start.pos, header.len() as u64, "{first} {second}");
                assert_eq!(client(&connections).is_some(), header == V1 || header == V2);
                assert_eq!(connections.stats().invalid, 0);
                assert_eq!(connections.buffered(), 0);
            }
        }
    }
}

#[test]
fn what_only_begins_like_a_header_is_told_as_it_came() {
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    connections.handle_data(bytes(Ingress, 0, b"PRO", 2));
    connections.handle_data(bytes(Ingress, 3, b"PFIND / HTTP/1.1\r\n\r\n", 3));
    assert_eq!(log(), ["Http1 Server", "C0 PRO", "C3 PFIND / HTTP/1.1"]);
    assert_eq!(client(&connections), None);
}

#[test]
fn a_header_is_looked_for_at_the_start_of_a_connection_only() {
    let mut connections = scribes(10);
    connections.handle_conn(Conn { from_start: false, ..conn(1) });
    connections.handle_data(bytes(Ingress, 40, b"\r\n", 2));
    connections.handle_data(bytes(Ingress, 42, REQUEST.as_bytes(), 3));
    assert_eq!(log(), ["Http1 Server", "C40 ", "C42 GET /orders/4711 HTTP/1.1"]);
}

#[test]
fn a_hole_in_a_header_ends_it_where_its_length_is_known_and_gives_it_up_elsewhere() {
    // Behind the addresses, in what is stepped over anyway.
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    connections.handle_data(Data { len: V2.len() as u32 + 4, ..bytes(Ingress, 0, &V2[..V2.len() - 3], 2) });
    connections.handle_data(bytes(Ingress, V2.len() as u64 + 4, REQUEST.as_bytes(), 3));
    assert_eq!(log(), ["Http1 Server", &format!("C{} -4", V2.len()), "C39 GET /orders/4711 HTTP/1.1"]);
    assert_eq!(client(&connections).as_deref(), Some("192.0.2.7:51000"));
    // In the line: where it ends is not known.
    let mut connections = scribes(10);
    connections.handle_conn(conn(1));
    connections.handle_data(Data { len: V1.len() as u32, ..bytes(Ingress, 0, &V1[..20], 2) });
    connections.handle_data(bytes(Ingress, V1.len() as u64, REQUEST.as_bytes(), 3));
    assert!(log().contains(&format!("C{} GET /orders/4711 HTTP/1.1", V1.len())));
    assert_eq!(client(&connections), None);
}

#[test]
fn a_client_that_writes_the_header_is_a_client() {
    let mut connections = scribes(10);
    connections.handle_conn(Conn { role: None, ..conn(1) });
    connections.handle_data(bytes(Egress, 0, &[V1, REQUEST.as_bytes()].concat(), 2));
    assert_eq!(log()[0], "Http1 Client");
}
