//! Tests of a whole connection: frames → exchanges.

mod joins;
mod losses;
mod snapshot;
mod streams;

use super::Http2Session;
use super::frame::{self, PREFACE};
use crate::operation::http::Exchange;
use crate::operation::{Detail, Operation};
use crate::protocol::registry::Conversation;
use crate::protocol::{Discard, End, Event, Events, Session as _};
use crate::record::{Mark, Role, Sender, Worker};
use crate::settings::Protocols;
use crate::time::ns;

/// Prefaces and settings of both sides, a request with a body, and two at once that are answered in the other order.
pub(super) fn example() -> Conversation {
    let hello = [&PREFACE[..], &frame(4, 0, 0, b"")].concat();
    let post = [frame(1, 4, 1, b"\x83\x86\x44\x07/orders\x41\x04shop"), frame(0, 1, 1, b"{\"order_id\":17}")]
        .concat();
    let created = [frame(4, 1, 0, b""), frame(1, 4, 1, b"\x88"), frame(0, 1, 1, b"hello")].concat();
    let get = [frame(1, 5, 3, b"\x82\x86\x84\xbe"), frame(1, 5, 5, b"\x82\x86\x85\xbe")].concat();
    let found = [frame(1, 5, 5, b"\x8d"), frame(1, 5, 3, b"\x89")].concat();
    vec![
        (Sender::Client, [hello, post].concat()),
        (Sender::Server, [frame(4, 0, 0, b""), created].concat()),
        (Sender::Client, [frame(4, 1, 0, b""), get].concat()),
        (Sender::Server, found),
    ]
}

/// One thing that happens to a connection.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Bytes(Sender, Vec<u8>),
    Gap(Sender, u64),
    End(End),
}

fn client(bytes: impl AsRef<[u8]>) -> Step {
    Step::Bytes(Sender::Client, bytes.as_ref().to_vec())
}

fn server(bytes: impl AsRef<[u8]>) -> Step {
    Step::Bytes(Sender::Server, bytes.as_ref().to_vec())
}

/// Drives one session. The n-th step happens at time n on thread n.
struct Connection {
    session: Http2Session,
    out: Events,
    pos: [u64; 2],
    at: u64,
}

impl Connection {
    fn joined_at(pos: u64, limits: &Protocols) -> Connection {
        let session = Http2Session::new(Role::Server, limits);
        Connection { session, out: Events::default(), pos: [pos; 2], at: 0 }
    }

    fn step(&mut self, step: &Step) {
        self.at += 1;
        let at = self.at;
        let mark =
            |other_pos| Mark { at: ns(at), thread: Worker::new(1, at as u32), other_pos, awaited_by: None };
        let other = |from: Sender| self.pos[1 - from as usize];
        match step {
            Step::Bytes(from, bytes) => {
                let mark = mark(other(*from));
                self.session.bytes(*from, self.pos[*from as usize], bytes, mark, &mut self.out);
                self.pos[*from as usize] += bytes.len() as u64;
            }
            Step::Gap(from, len) => {
                let mark = mark(other(*from));
                self.session.gap(*from, self.pos[*from as usize], *len, mark, &mut self.out);
                self.pos[*from as usize] += len;
            }
            Step::End(end) => self.session.end(*end, ns(at), &mut self.out),
        }
    }
}

fn run_on(mut connection: Connection, steps: &[Step]) -> Vec<Event> {
    steps.iter().for_each(|step| connection.step(step));
    if !matches!(steps.last(), Some(Step::End(_))) {
        connection.step(&Step::End(End::Closed));
    }
    std::iter::from_fn(|| connection.out.pop()).collect()
}

fn run(steps: &[Step]) -> Vec<Event> {
    run_on(Connection::joined_at(0, &Protocols::default()), steps)
}

fn operations(events: &[Event]) -> Vec<&Operation> {
    let closed = events.iter().filter_map(|event| match event {
        Event::Closed(operation) => Some(&**operation),
        _ => None,
    });
    closed.collect()
}

fn exchange(operation: &Operation) -> &Exchange {
    let Detail::Http(exchange) = &operation.detail else { panic!("not HTTP: {operation:?}") };
    exchange
}

/// `POST /a → 200, 3 up, 2 down` and what else is to be said.
fn summary(operation: &Operation) -> String {
    let exchange = exchange(operation);
    let status = exchange.status.map_or("–".to_owned(), |status| status.to_string());
    let (up, down) = (exchange.request_body.len, exchange.response_body.len);
    let mut text = format!("{} {} → {status}, {up} up, {down} down", exchange.method, exchange.target);
    if operation.completeness != Default::default() {
        text.push_str(&format!(", {:?}", operation.completeness));
    }
    if let Some(reset) = exchange.http2.reset {
        let name = frame::error_name(reset.code).unwrap_or("?");
        text.push_str(&format!(", {}{name} by {:?}", if reset.goaway { "GOAWAY " } else { "" }, reset.by));
    }
    if exchange.http2.unknown_fields > 0 {
        text.push_str(&format!(", {} unknown", exchange.http2.unknown_fields));
    }
    text
}

fn summaries(events: &[Event]) -> Vec<String> {
    operations(events).into_iter().map(summary).collect()
}

fn discards(events: &[Event]) -> Vec<(Discard, u64)> {
    let found = events.iter().filter_map(|event| match event {
        Event::Discarded { reason, bytes } => Some((*reason, *bytes)),
        _ => None,
    });
    found.collect()
}

#[track_caller]
fn check(steps: &[Step], expected: &[&str]) -> Vec<Event> {
    let events = run(steps);
    assert_eq!(summaries(&events), expected);
    events
}

/// A frame with any header.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Literals that leave the table alone, and indexed fields where only the name is given.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.extend([0, name.len() as u8]);
        bytes.extend(name.bytes());
        bytes.push(value.len() as u8);
        bytes.extend(value.bytes());
    }
    bytes
}

fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(frame::HEADERS, flags | frame::END_HEADERS, stream, &block(fields))
}

fn request(stream: u32, flags: u8, method: &str, path: &str) -> Vec<u8> {
    headers(
        stream,
        flags,
        &[(":method", method), (":scheme", "http"), (":path", path), (":authority", "shop")],
    )
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    request(stream, frame::END_STREAM, "GET", path)
}

fn response(stream: u32, flags: u8, status: &str) -> Vec<u8> {
    headers(stream, flags, &[(":status", status), ("server", "test")])
}

fn data(stream: u32, flags: u8, content: &[u8]) -> Vec<u8> {
    frame(frame::DATA, flags, stream, content)
}

fn rst(stream: u32, code: u32) -> Vec<u8> {
    frame(frame::RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// The preface with SETTINGS, and the server's.
fn hello() -> [Step; 2] {
    let settings = frame(frame::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]);
    [
        client([&PREFACE[..], &settings].concat()),
        server([settings, frame(frame::SETTINGS, frame::ACK, 0, b"")].concat()),
    ]
}

fn after_hello(steps: &[Step]) -> Vec<Step> {
    [&hello()[..], steps].concat()
}

const ENDS: u8 = frame::END_STREAM;

/// Several exchanges, interleaved, with everything that frames can do to them.
fn conversation() -> Vec<Step> {
    let padded = frame(frame::DATA, frame::PADDED, 5, b"\x04hello\0\0\0\0");
    let with_priority = frame(
        frame::HEADERS,
        frame::PADDED | frame::WITH_PRIORITY | frame::END_HEADERS,
        5,
        &[
            &[2, 0, 0, 0, 3, 16][..],
            &block(&[(":method", "POST"), (":path", "/5"), (":scheme", "https")]),
            &[0, 0],
        ]
        .concat(),
    );
    let split = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/7"), ("x-long", "something")]);
    let (first, rest) = split.split_at(11);
    let (second, third) = rest.split_at(2);
    let continued = [
        frame(frame::HEADERS, ENDS, 7, first),
        frame(frame::CONTINUATION, 0, 7, second),
        frame(frame::CONTINUATION, frame::END_HEADERS, 7, third),
    ];
    after_hello(&[
        client(get(1, "/1")),
        client([request(3, 0, "PUT", "/3"), with_priority, data(3, 0, b"abc")].concat()),
        server([response(1, 0, "200"), data(1, 0, b"one")].concat()),
        client(
            [padded, data(3, ENDS, b"def"), frame(frame::PING, 0, 0, &[0; 8]), continued.concat()].concat(),
        ),
        server(
            [
                frame(frame::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
                headers(3, 0, &[(":status", "103")]),
                response(3, ENDS, "204"),
                data(1, ENDS, b" more"),
                frame(0xfa, 0x55, 77, b"something of an extension"),
                frame(
                    frame::PUSH_PROMISE,
                    frame::END_HEADERS,
                    7,
                    &[&[0, 0, 0, 2][..], &block(&[(":method", "GET"), (":path", "/pushed")])].concat(),
                ),
                response(2, 0, "200"),
                data(2, ENDS, b"pushed"),
                response(7, 0, "200"),
            ]
            .concat(),
        ),
        client([frame(frame::PRIORITY, 0, 9, &[0, 0, 0, 3, 1]), data(5, ENDS, b"")].concat()),
        server(
            [data(7, 0, b"seven"), headers(7, ENDS, &[("x-checksum", "77")]), response(5, ENDS, "404")]
                .concat(),
        ),
        client([get(9, "/9"), get(11, "/11"), rst(9, 8)].concat()),
        server(rst(11, 7)),
    ])
}

const CONVERSATION: [&str; 6] = [
    "PUT /3 → 204, 6 up, 0 down",
    "GET /1 → 200, 0 up, 8 down",
    "GET /7 → 200, 0 up, 5 down",
    "POST /5 → 404, 5 up, 0 down",
    "GET /9 → –, 0 up, 0 down, CANCEL by Client",
    "GET /11 → –, 0 up, 0 down, REFUSED_STREAM by Server",
];
