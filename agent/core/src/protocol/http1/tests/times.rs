//! When and by whom each byte was moved.

use super::*;
use crate::operation::OpSide;
use crate::record::Point;
use crate::time::ns;

fn point(at: u64, pos: u64) -> Point {
    Point { at: ns(at), pos, thread: Worker::new(1, at as u32), awaited_by: None }
}

#[test]
fn each_event_has_the_moment_and_the_thread_of_its_byte() {
    let events = run(&[
        client("PO"),
        client("ST /a HTTP/1.1\r\nContent-Length: 4\r\n\r"),
        client("\nab"),
        client("cdGET /b HTTP/1.1\r\n"),
        server("HTTP/1.1 100 Continue\r\n\r\nHT"),
        server("TP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nx"),
        server("yzHTTP/1.1 204 No Content\r\n"),
        client("\r\n"),
        server("\r\n"),
    ]);
    let [first, second] = operations(&events)[..] else { panic!("{events:?}") };
    assert_eq!((first.request.start, first.request.end), (point(1, 0), point(4, 43)));
    let response = first.response.unwrap();
    assert_eq!((response.start, response.end), (point(5, 25), point(7, 66)));
    assert_eq!(first.ended_at, ns(7));
    assert_eq!((second.request.start, second.request.end), (point(4, 43), point(8, 62)));
    let response = second.response.unwrap();
    assert_eq!((response.start, response.end), (point(7, 66), point(9, 93)));
    let expected = [
        Event::Opened { op: first.id, shape: OpSide::Incoming, point: first.request.start },
        Event::Requested { op: first.id, point: first.request.end },
        Event::Opened { op: second.id, shape: OpSide::Incoming, point: second.request.start },
        Event::Closed(Box::new(first.clone())),
        Event::Requested { op: second.id, point: second.request.end },
        Event::Closed(Box::new(second.clone())),
    ];
    assert_eq!(events, expected);
}

#[test]
fn a_client_s_exchange_is_outgoing() {
    let mut session = Http1Session::new(Role::Client, &Protocols::default());
    let mut out = Events::default();
    session.bytes(Sender::Client, 0, b"GET / HTTP/1.1\r\n\r\n", Mark::default(), &mut out);
    assert!(matches!(out.pop(), Some(Event::Opened { shape: OpSide::Outgoing, .. })));
}

#[test]
fn a_response_recorded_before_its_request_waits_for_it() {
    let events = run(&[
        server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        client("GET /a HTTP/1.1\r\n\r\n"),
        client("GET /b HTTP/1.1\r\n\r\n"),
        server("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
    ]);
    assert_eq!(summaries(&events), ["GET /a → 200, 0 up, 2 down", "GET /b → 404, 0 up, 0 down"]);
    assert_eq!(operations(&events)[0].response.unwrap().start.at, ns(1));
}

#[test]
fn a_body_until_the_close_ends_with_its_last_byte() {
    let events = run(&[
        client("GET /a HTTP/1.0\r\n\r\n"),
        server("HTTP/1.0 200 OK\r\n\r\nabc"),
        server("def"),
        Step::End(End::Closed),
    ]);
    let operation = operations(&events)[0];
    assert_eq!((operation.ended_at, operation.response.unwrap().end), (ns(3), point(3, 25)));
}
