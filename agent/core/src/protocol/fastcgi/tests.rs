//! Conversations of web servers and applications → exchanges.

use super::*;
use crate::protocol::cgi::testing::{self, line};
use crate::protocol::registry::Conversation;
use crate::time::ns;
use Sender::{Client, Server};

const JSON: &str = r#"{"order_id":17}"#;

/// Two requests with their bodies, one after the other on a connection that is kept, the second answered with an error beside.
pub(super) fn example() -> Conversation {
    let broken = [record(7, 1, b"Undefined index"), answer(1, "500 Internal Server Error", "")].concat();
    vec![
        (Client, request(1, JSON)),
        (Server, answer(1, "201 Created", "hello")),
        (Client, request(1, "")),
        (Server, broken),
    ]
}

/// A record with padding to eight bytes, as nginx writes them.
fn record(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    let padding = content.len().next_multiple_of(8) - content.len();
    let (id, len) = (id.to_be_bytes(), (content.len() as u16).to_be_bytes());
    [&[1, kind, id[0], id[1], len[0], len[1], padding as u8, 0][..], content, &[0; 8][..padding]].concat()
}

fn pair(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| match text.len() {
        len @ 0..128 => vec![len as u8],
        len => (len as u32 | 0x8000_0000).to_be_bytes().to_vec(),
    };
    [length(name), length(value), name.into(), value.into()].concat()
}

fn begin(id: u16) -> Vec<u8> {
    record(1, id, &[0, 1, 1, 0, 0, 0, 0, 0])
}

fn params(id: u16, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [("REQUEST_METHOD", "POST"), ("REQUEST_URI", "/orders?x=1"), ("HTTP_HOST", "shop")];
    let all = usual.iter().chain(more).flat_map(|(name, value)| pair(name, value)).collect::<Vec<_>>();
    [record(4, id, &all), record(4, id, b"")].concat()
}

fn request(id: u16, body: &str) -> Vec<u8> {
    let content = [("CONTENT_TYPE", "application/json"), ("CONTENT_LENGTH", &body.len().to_string())];
    let body = if body.is_empty() { Vec::new() } else { record(5, id, body.as_bytes()) };
    [begin(id), params(id, &content), body, record(5, id, b"")].concat()
}

fn answer(id: u16, status: &str, body: &str) -> Vec<u8> {
    let text = format!("Status: {status}\r\nContent-Type: application/json\r\n\r\n{body}");
    [record(6, id, text.as_bytes()), record(6, id, b""), end(id)].concat()
}

fn end(id: u16) -> Vec<u8> {
    record(3, id, &[0; 8])
}

/// A session, and what it said.
struct Talk {
    session: FastCgiSession,
    events: Events,
    pos: [u64; 2],
    tick: u64,
}

impl Talk {
    fn new() -> Self {
        let session = FastCgiSession::new(Role::Server, &Protocols::default());
        Self { session, events: Events::default(), pos: [0; 2], tick: 0 }
    }

    fn mark(&mut self) -> Mark {
        self.tick += 1;
        Mark { at: ns(self.tick), ..Mark::default() }
    }

    fn send(&mut self, from: Sender, bytes: impl AsRef<[u8]>) -> &mut Self {
        let mark = self.mark();
        let bytes = bytes.as_ref();
        self.session.bytes(from, self.pos[from as usize], bytes, mark, &mut self.events);
        self.pos[from as usize] += bytes.len() as u64;
        self
    }

    fn gap(&mut self, from: Sender, len: u64) -> &mut Self {
        let mark = self.mark();
        self.session.gap(from, self.pos[from as usize], len, mark, &mut self.events);
        self.pos[from as usize] += len;
        self
    }

    fn over(&mut self, end: End) -> &mut Self {
        self.session.end(end, ns(1000), &mut self.events);
        self
    }

    fn closed(&mut self) -> Vec<String> {
        let events = std::iter::from_fn(|| self.events.pop());
        events
            .filter_map(|event| match event {
                Event::Closed(operation) => Some(line(&operation)),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn an_exchange_with_both_bodies() {
    let mut talk = Talk::new();
    talk.send(Client, request(1, JSON)).send(Server, answer(1, "201 Created", "{}"));
    let events: Vec<Event> = std::iter::from_fn(|| talk.events.pop()).collect();
    let [Event::Opened { op, shape, point }, Event::Requested { op: same, .. }, Event::Closed(closed)] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((op, *shape, point.pos), (same, crate::operation::OpSide::Incoming, 0));
    assert_eq!(line(closed), format!("POST /orders?x=1 {JSON} -> 201 {{}}"));
    assert_eq!((closed.request.end.at, closed.ended_at), (ns(1), ns(2)));
    assert_eq!(talk.session.retained, 0);
}

#[test]
fn every_split_gives_the_same() {
    let answered = [record(7, 1, b"PHP Warning: x"), answer(1, "404 Not Found", "no")].concat();
    let expected = format!("POST /orders?x=1 {JSON} -> 404 no");
    testing::every_split(&SPEC, &request(1, JSON), &answered, &expected);
}

#[test]
fn no_hole_makes_up_anything() {
    // The body is like a header, and in a record of its own.
    let head = record(6, 1, b"Status: 404\r\nA: b\r\n\r\n");
    let body = record(6, 1, b"Status: 500\n\nno");
    let answered = [head, body, record(6, 1, b""), end(1)].concat();
    testing::every_hole(&SPEC, &request(1, "{}"), &answered);
}

#[test]
fn a_hole_over_the_ends_of_records_is_in_every_open_request() {
    let mut talk = Talk::new();
    talk.send(Client, [request(1, "a"), request(2, "b"), begin(3), params(3, &[])].concat());
    talk.send(Client, record(5, 3, b"c"));
    talk.send(Server, record(6, 1, b"Status: 404\n\nx")).send(Server, record(6, 2, b"Status: 5"));
    talk.gap(Server, 100);
    talk.send(Server, [record(6, 1, b"y"), record(6, 2, b"Status: 201\n\nz"), end(1), end(2)].concat());
    assert_eq!(talk.closed(), ["POST /orders?x=1 a -> 404 x Gap(100)", "POST /orders?x=1 b -> -  Gap(100)"]);
    // Of a request that is all there nothing can be in a hole of the client's.
    talk.send(Client, request(4, "d")).gap(Client, 100);
    talk.send(Server, [answer(3, "200 OK", "3"), answer(4, "200 OK", "4")].concat());
    assert_eq!(talk.closed(), ["POST /orders?x=1 c -> -  Gap(200)", "POST /orders?x=1 d -> 200 4"]);
}

#[test]
fn one_connection_carries_requests_after_and_beside_each_other() {
    let mut talk = Talk::new();
    talk.send(Client, request(1, "a")).send(Server, answer(1, "200 OK", "1")).send(Client, request(1, "b"));
    talk.send(Server, answer(1, "200 OK", "2"));
    assert_eq!(talk.closed(), ["POST /orders?x=1 a -> 200 1", "POST /orders?x=1 b -> 200 2"]);
    talk.send(Client, [begin(1), begin(2), params(2, &[]), params(1, &[])].concat());
    talk.send(
        Client,
        [record(5, 2, b"two"), record(5, 1, b"one"), record(5, 1, b""), record(5, 2, b"")].concat(),
    );
    talk.send(
        Server,
        [record(6, 2, b"Status: 500\n\nx"), record(6, 1, b"A: b\n\ny"), end(1), end(2)].concat(),
    );
    assert_eq!(talk.closed(), ["POST /orders?x=1 one -> 200 y", "POST /orders?x=1 two -> 500 x"]);
}

#[test]
fn variables_of_any_length_and_in_any_records() {
    let long = "x".repeat(300);
    let all: Vec<u8> = [("REQUEST_METHOD", "GET"), ("HTTP_X_LONG", long.as_str()), ("REQUEST_URI", "/a")]
        .iter()
        .flat_map(|(name, value)| pair(name, value))
        .collect();
    let mut talk = Talk::new();
    talk.send(Client, begin(1));
    for part in all.chunks(17) {
        talk.send(Client, record(4, 1, part));
    }
    talk.send(Client, [record(4, 1, b""), record(5, 1, b"")].concat()).send(Server, answer(1, "200 OK", ""));
    assert_eq!(talk.closed(), ["GET /a  -> 200 "]);
}

#[test]
fn holes_leave_what_is_around_them() {
    // In the body.
    let mut talk = Talk::new();
    talk.send(Client, [begin(1), params(1, &[])].concat());
    let body = record(5, 1, &[b'x'; 64]);
    talk.send(Client, &body[..20]).gap(Client, 40).send(Client, &body[60..]).send(Client, record(5, 1, b""));
    talk.send(Server, answer(1, "200 OK", ""));
    assert_eq!(talk.closed(), ["POST /orders?x=1 xxxxxxxxxxxx -> 200  Gap(40)"]);
    // Over the ends of records: the next request is found again.
    talk.send(Client, &request(1, "a")[..30]).gap(Client, 500).send(Client, request(1, "b"));
    talk.send(Server, answer(1, "200 OK", "2"));
    let closed = talk.closed();
    assert_eq!(closed.len(), 2, "{closed:?}");
    assert!(closed[0].contains("Gap(4"), "{closed:?}");
    assert_eq!(closed[1], "POST /orders?x=1 b -> 200 2");
    // In the answer.
    talk.send(Client, request(1, "c"));
    let answered = answer(1, "200 OK", &"y".repeat(100));
    talk.send(Server, &answered[..60]).gap(Server, answered.len() as u64 - 60).send(Client, request(1, "d"));
    talk.send(Server, answer(1, "200 OK", "4"));
    let closed = talk.closed();
    assert!(closed[0].contains("-> 200") && closed[0].contains("Gap"), "{closed:?}");
    assert_eq!(closed[1], "POST /orders?x=1 d -> 200 4");
}

#[test]
fn a_connection_joined_late_is_read_from_its_next_request() {
    let mut talk = Talk::new();
    talk.pos = [5000, 9000];
    talk.send(Client, b"rest of a body").send(Server, answer(1, "200 OK", "x")).send(Client, request(1, "a"));
    talk.send(Server, answer(1, "200 OK", "1"));
    assert_eq!(talk.closed(), ["POST /orders?x=1 a -> 200 1"]);
}

#[test]
fn ends_without_an_answer() {
    let mut talk = Talk::new();
    talk.send(Client, request(1, "a")).over(End::Closed);
    assert_eq!(talk.closed(), ["POST /orders?x=1 a -> -  Cut"]);
    let mut talk = Talk::new();
    talk.send(Client, request(1, "a"))
        .send(Server, record(6, 1, b"Status: 200\n\npart"))
        .over(End::Abandoned);
    assert_eq!(talk.closed(), ["POST /orders?x=1 a -> 200 part Abandoned"]);
}

#[test]
fn what_is_kept_is_bounded() {
    let limits = Protocols {
        kept_body_bytes: 100,
        max_header_bytes: 200,
        max_open_operations: 4,
        ..Protocols::default()
    };
    let mut talk = Talk::new();
    talk.session = FastCgiSession::new(Role::Server, &limits);
    for id in 1..100 {
        talk.send(Client, begin(id));
        for _ in 0..20 {
            talk.send(Client, record(4, id, &pair("HTTP_X", &"x".repeat(90))));
            talk.send(Client, record(5, id, &[b'y'; 1000])).send(Server, record(6, id, &[b'z'; 1000]));
        }
        assert!(talk.session.open.len() <= 4);
        assert!(talk.session.retained <= 300 * RETAINED_FACTOR + 400, "{}", talk.session.retained);
    }
    talk.over(End::Closed);
    assert_eq!(talk.session.retained, 0);
    assert_eq!(talk.closed().len(), 99);
}

#[test]
fn the_first_record_tells_the_protocol() {
    let sent = request(1, JSON);
    for len in 0..sent.len() {
        let expected = if len >= 16 { Sniff::Yes(Client) } else { Sniff::Maybe };
        assert_eq!(detect::sniff(&sent[..len]), expected, "{len}");
    }
    let answered = answer(7, "200 OK", "{}");
    assert_eq!(detect::sniff(&answered), Sniff::Yes(Server));
    for len in 1..answered.len() {
        assert_ne!(detect::sniff(&answered[..len]), Sniff::No, "{len}");
    }
    for other in [
        &[1, 0, 1, 0, 0, 0, 4, 0, 10, 0, 20, 0xce][..],
        &[1, 1, 0, 0, 0, 8, 0, 0],
        &[1, 1, 0, 1, 0, 8, 0, 0, 0, 9, 0],
        &[1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 2],
        &[2, 1, 0, 1, 0, 8],
        b"GET / HTTP/1.1\r\n",
        &[22, 3, 1, 2, 0],
    ] {
        assert_eq!(detect::sniff(other), Sniff::No, "{other:?}");
    }
}
