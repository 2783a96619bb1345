//! Tests of a whole connection: transcripts → exchanges.

mod framing;
mod gaps;
mod heads;
mod robust;
mod splits;
mod times;
mod uploads;

use super::Http1Session;
use crate::operation::http::Exchange;
use crate::operation::{Completeness, Detail, Operation};
use crate::protocol::registry::Conversation;
use crate::protocol::{End, Event, Events, Session as _};
use crate::record::{Mark, Role, Sender, Worker};
use crate::settings::Protocols;
use crate::time::ns;

/// A body with a length, one in chunks, and two requests at once.
pub(super) fn example() -> Conversation {
    let post = "POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"order_id\":17}";
    let created = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let get = "GET /orders/17 HTTP/1.1\r\nHost: shop\r\n\r\nGET /orders/18 HTTP/1.1\r\nHost: shop\r\n\r\n";
    let found =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let record = |from, text: &str| (from, text.as_bytes().to_vec());
    vec![
        record(Sender::Client, post),
        record(Sender::Server, created),
        record(Sender::Client, get),
        record(Sender::Server, found),
    ]
}

/// One thing that happens to a connection.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Client(Vec<u8>),
    Server(Vec<u8>),
    ClientGap(u64),
    ServerGap(u64),
    End(End),
}

pub(super) fn client(bytes: impl AsRef<[u8]>) -> Step {
    Step::Client(bytes.as_ref().to_vec())
}

pub(super) fn server(bytes: impl AsRef<[u8]>) -> Step {
    Step::Server(bytes.as_ref().to_vec())
}

/// Drives one session. The n-th step happens at time n on thread n.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) session: Http1Session,
    pub(super) out: Events,
    client_pos: u64,
    server_pos: u64,
    at: u64,
}

impl Connection {
    pub(super) fn new(limits: &Protocols) -> Connection {
        Connection::joined_at(0, limits)
    }

    /// A connection of which `pos` bytes each way passed before.
    pub(super) fn joined_at(pos: u64, limits: &Protocols) -> Connection {
        let session = Http1Session::new(Role::Server, limits);
        Connection { session, out: Events::default(), client_pos: pos, server_pos: pos, at: 0 }
    }

    pub(super) fn step(&mut self, step: &Step) {
        self.step_at(self.at + 1, step);
    }

    pub(super) fn step_at(&mut self, at: u64, step: &Step) {
        self.at = at;
        let mark =
            |other_pos| Mark { at: ns(at), thread: Worker::new(1, at as u32), other_pos, awaited_by: None };
        let (session, out) = (&mut self.session, &mut self.out);
        match step {
            Step::Client(bytes) => {
                session.bytes(Sender::Client, self.client_pos, bytes, mark(self.server_pos), out);
                self.client_pos += bytes.len() as u64;
            }
            Step::Server(bytes) => {
                session.bytes(Sender::Server, self.server_pos, bytes, mark(self.client_pos), out);
                self.server_pos += bytes.len() as u64;
            }
            Step::ClientGap(len) => {
                session.gap(Sender::Client, self.client_pos, *len, mark(self.server_pos), out);
                self.client_pos += len;
            }
            Step::ServerGap(len) => {
                session.gap(Sender::Server, self.server_pos, *len, mark(self.client_pos), out);
                self.server_pos += len;
            }
            Step::End(end) => session.end(*end, ns(at), out),
        }
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.out.pop()).collect()
    }
}

/// All events of a connection, which ends orderly if the steps do not end it.
pub(super) fn run(steps: &[Step]) -> Vec<Event> {
    run_on(Connection::new(&Protocols::default()), steps)
}

pub(super) fn run_on(mut connection: Connection, steps: &[Step]) -> Vec<Event> {
    steps.iter().for_each(|step| connection.step(step));
    if !matches!(steps.last(), Some(Step::End(_))) {
        connection.step(&Step::End(End::Closed));
    }
    let events = connection.events();
    assert_life_cycles(&events);
    events
}

pub(super) fn operations(events: &[Event]) -> Vec<&Operation> {
    let closed = events.iter().filter_map(|event| match event {
        Event::Closed(operation) => Some(&**operation),
        _ => None,
    });
    closed.collect()
}

pub(super) fn exchange(operation: &Operation) -> &Exchange {
    match &operation.detail {
        Detail::Http(exchange) => exchange,
        other => panic!("not HTTP: {other:?}"),
    }
}

/// `GET /a → 200, 3 up, 5 down` and how complete it is if it is not.
pub(super) fn summary(operation: &Operation) -> String {
    let exchange = exchange(operation);
    let status = exchange.status.map_or("nothing".to_owned(), |status| status.to_string());
    let (up, down) = (exchange.request_body.len, exchange.response_body.len);
    let mut line = format!("{} {} → {status}, {up} up, {down} down", exchange.method, exchange.target);
    match operation.completeness {
        Completeness::Complete => {}
        other => line.push_str(&format!(", {other:?}")),
    }
    if exchange.ambiguous_framing {
        line.push_str(", ambiguous");
    }
    line
}

pub(super) fn summaries(events: &[Event]) -> Vec<String> {
    operations(events).into_iter().map(summary).collect()
}

#[track_caller]
pub(super) fn check(steps: &[Step], expected: &[&str]) {
    assert_eq!(summaries(&run(steps)), expected, "{steps:?}");
}

/// For each operation: `Opened`, then at most one `Requested`, then exactly one `Closed`.
pub(super) fn assert_life_cycles(events: &[Event]) {
    let mut seen: std::collections::BTreeMap<_, (u32, u32)> = Default::default();
    for event in events {
        match event {
            Event::Opened { op, .. } => assert!(seen.insert(*op, (0, 0)).is_none(), "{op:?} opened twice"),
            Event::Requested { op, .. } => seen.get_mut(op).expect("requested before opened").0 += 1,
            Event::Closed(operation) => {
                let counts = seen.get_mut(&operation.id).expect("closed before opened");
                counts.1 += 1;
                assert!(counts.0 <= 1, "{events:?}");
                assert!(operation.request.start.pos <= operation.request.end.pos, "{operation:?}");
                if let Some(response) = operation.response {
                    assert!(response.start.pos <= response.end.pos, "{operation:?}");
                }
            }
            Event::Sent(_) => panic!("no messages: {event:?}"),
            Event::Discarded { .. }
            | Event::Missed { .. }
            | Event::Unread { .. }
            | Event::Hidden { .. }
            | Event::UnreadOver { .. }
            | Event::Read => {}
        }
    }
    assert!(seen.values().all(|(_, closed)| *closed == 1), "left open: {seen:?}\n{events:?}");
}

/// A conversation with a bit of everything, in which each response names the target it answers in `X-For`.
pub(super) fn conversation() -> Vec<Step> {
    let answer =
        |target: &str, status: &str, rest: &str| format!("HTTP/1.1 {status}\r\nX-For: {target}\r\n{rest}");
    let form = "--b0undary\r\nContent-Disposition: form-data; name=\"order\"\r\n\r\n4711\r\n--b0undary\r\n\
        Content-Disposition: form-data; name=\"model\"; filename=\"bracket.stl\"\r\nContent-Type: model/stl\r\n\r\n\
        solid\r\n--b0undar\r\nend\r\n--b0undary--\r\n";
    vec![
        client("GET /1 HTTP/1.1\r\nHost: shop\r\nAccept: */*\r\n\r\n"),
        server(answer("/1", "200 OK", "Content-Length: 12\r\n\r\n{\"order\": 1}")),
        client("POST /2 HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\n"),
        client("id=77"),
        server(answer("/2", "201 Created", "Transfer-Encoding: chunked\r\n\r\n")),
        server("4;x=y\r\nabcd\r\n10\r\n0123456789abcdef\r\n"),
        server("0\r\nX-Sum: 1\r\n\r\n"),
        client("HEAD /3 HTTP/1.1\r\nHost: shop\r\n\r\n"),
        server(answer("/3", "200 OK", "Content-Length: 900\r\n\r\n")),
        client("PUT /4 HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst \r\n"),
        client("6\r\nsecond\r\n0\r\n\r\n"),
        server(answer("/4", "204 No Content", "\r\n")),
        client("POST /5 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 8\r\n\r\n"),
        server("HTTP/1.1 100 Continue\r\n\r\n"),
        client("12345678"),
        server(answer("/5", "200 OK", "Content-Length: 2\r\n\r\nok")),
        client(format!(
            "POST /6 HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b0undary\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        )),
        server(answer("/6", "303 See Other", "Content-Length: 0\r\n\r\n")),
        client("POST /7 HTTP/1.1\r\nContent-Length: 9\r\n\r\nbegin"),
        server(answer("/7", "413 Too Large", "Content-Length: 3\r\n\r\nbig")),
        client(" end"),
        client("GET /8 HTTP/1.1\r\n\r\n"),
        server(answer("/8", "200 OK", "\r\nuntil the very end")),
    ]
}

/// Several requests on their way at once.
pub(super) fn pipelined() -> Vec<Step> {
    let answer = |target: &str| format!("HTTP/1.1 200 OK\r\nX-For: {target}\r\nContent-Length: 3\r\n\r\nabc");
    vec![
        client("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"),
        client("POST /3 HTTP/1.1\r\nContent-Length: 2\r\n\r\nxyGET /4 HTTP/1.1\r\n\r\n"),
        server([answer("/1"), answer("/2")].concat()),
        client("GET /5 HTTP/1.1\r\n\r\n"),
        server([answer("/3"), answer("/4"), answer("/5")].concat()),
        client("GET /6 HTTP/1.1\r\n\r\n"),
        server(answer("/6")),
    ]
}

/// The steps with their times, each cut into records of the given sizes in turn.
pub(super) fn in_records(steps: &[Step], sizes: &[usize]) -> Vec<(u64, Step)> {
    let mut sizes = sizes.iter().copied().cycle();
    let mut records = Vec::new();
    for (step, at) in steps.iter().zip(1..) {
        let (Step::Client(bytes) | Step::Server(bytes)) = step else {
            records.push((at, step.clone()));
            continue;
        };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (record, after) = rest.split_at(sizes.next().unwrap_or(rest.len()).clamp(1, rest.len()));
            rest = after;
            let record = record.to_vec();
            records.push((
                at,
                if matches!(step, Step::Client(_)) { Step::Client(record) } else { Step::Server(record) },
            ));
        }
    }
    records
}

pub(super) fn run_records(records: &[(u64, Step)], end: End) -> Vec<Event> {
    let mut connection = Connection::new(&Protocols::default());
    records.iter().for_each(|(at, step)| connection.step_at(*at, step));
    connection.step_at(1000, &Step::End(end));
    let events = connection.events();
    assert_life_cycles(&events);
    events
}
