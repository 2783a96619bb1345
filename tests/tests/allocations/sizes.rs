//! Bodies of any size cost bounded memory and are one operation: 10 GB over HTTP, 1 GB of COPY, 100 MB over AMQP, captured in
//! full or left out by the kernel after its first part.
//!
//! Memory is the most that the test's thread holds at once; the sessions are fed one record again and again.

use spoor_core::operation::{Completeness, Detail, Operation};
use spoor_core::protocol::{End, Event, Events, Session, Want, amqp, http1, postgres};
use spoor_core::record::Sender::{Client, Server};
use spoor_core::record::{Mark, Role, Sender};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::transcript::wire;
use std::time::Duration;

use super::{held, most_held};

const RECORD_LEN: usize = 64 << 10;
/// More than any session may hold, less than any of the bodies.
const MAX_GROWTH: i64 = 32 << 20;

/// A session and where its directions stand.
struct Talk {
    session: Box<dyn Session>,
    out: Events,
    pos: [u64; 2],
    at: BootTime,
    closed: Vec<Operation>,
    /// Bytes that were not captured because nobody wanted them.
    skipped: u64,
}

impl Talk {
    fn new(session: Box<dyn Session>) -> Self {
        Self {
            session,
            out: Events::default(),
            pos: [0; 2],
            at: BootTime::from_nanos(1),
            closed: Vec::new(),
            skipped: 0,
        }
    }

    fn mark(&mut self) -> Mark {
        self.at += Duration::from_nanos(1);
        Mark { at: self.at, ..Mark::default() }
    }

    fn send(&mut self, from: Sender, bytes: &[u8]) -> &mut Self {
        let mark = self.mark();
        self.session.bytes(from, self.pos[from as usize], bytes, mark, &mut self.out);
        self.pos[from as usize] += bytes.len() as u64;
        self.drain()
    }

    /// As the kernel does it: `piece` over and over, up to `len` bytes, without what the session does not want.
    fn stream(&mut self, from: Sender, piece: &[u8], len: u64) -> &mut Self {
        let mut left = len;
        while left > 0 {
            let n = left.min(piece.len() as u64);
            match self.session.want(from) {
                Want::Skip(skip) if skip >= n => {
                    let mark = self.mark();
                    // Whole pieces, so that what is captured again is where it would be.
                    let skip = (skip.min(left) / n) * n;
                    self.session.gap(from, self.pos[from as usize], skip, mark, &mut self.out);
                    self.pos[from as usize] += skip;
                    self.skipped += skip;
                    left -= skip;
                    self.drain();
                }
                _ => {
                    self.send(from, &piece[..n as usize]);
                    left -= n;
                }
            }
        }
        self
    }

    fn drain(&mut self) -> &mut Self {
        while let Some(event) = self.out.pop() {
            match event {
                Event::Closed(operation) => self.closed.push(*operation),
                Event::Discarded { reason, bytes } => panic!("{bytes} bytes: {reason:?}"),
                _ => {}
            }
        }
        self
    }

    /// The only operation, which is complete.
    fn one(&mut self) -> Operation {
        self.session.end(End::Closed, self.at + Duration::from_nanos(1), &mut self.out);
        self.drain();
        let [operation] = self.closed.as_slice() else { panic!("{} operations", self.closed.len()) };
        assert_eq!(operation.completeness, Completeness::Complete);
        operation.clone()
    }
}

/// Since it held `before`, this thread never held much more.
fn assert_bounded(what: &str, before: i64) {
    let grown = most_held() - before;
    assert!(grown < MAX_GROWTH, "{what}: {grown} bytes more");
}

fn http() -> Talk {
    Talk::new(Box::new(http1::Http1Session::new(Role::Client, &Protocols::default())))
}

#[test]
fn an_upload_of_ten_gigabytes_is_one_exchange() {
    const LEN: u64 = 10 << 30;
    let before = held();
    let piece = vec![b'x'; RECORD_LEN];
    let mut talk = http();
    let head = format!("PUT /models/big.stl HTTP/1.1\r\nHost: store\r\nContent-Length: {LEN}\r\n\r\n");
    talk.send(Client, head.as_bytes()).stream(Client, &piece, LEN);
    talk.send(Server, b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    assert_bounded("10 GB", before);
    // All but the kept beginning and the end before the next message was left out.
    assert!(talk.skipped > LEN - (1 << 20), "{}", talk.skipped);
    let operation = talk.one();
    let Detail::Http(exchange) = &operation.detail else { panic!("{operation:?}") };
    assert_eq!((exchange.request_body.len, exchange.status), (LEN, Some(201)));
    assert!(exchange.request_body.bytes.len() <= Protocols::default().kept_body_bytes);
    assert_eq!(operation.request.len(), head.len() as u64 + LEN);
}

#[test]
fn an_upload_in_chunks_and_parts_is_one_exchange() {
    const CHUNKS: u64 = 4096;
    let before = held();
    let mut talk = http();
    let head = b"POST /models HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\
        Content-Type: multipart/form-data; boundary=b\r\n\r\n";
    talk.send(Client, head);
    let part = b"--b\r\nContent-Disposition: form-data; name=\"model\"; filename=\"big.stl\"\r\n\r\n";
    talk.send(Client, format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part)).as_bytes());
    let chunk = [format!("{RECORD_LEN:x}\r\n").as_bytes(), &vec![b'-'; RECORD_LEN], b"\r\n"].concat();
    for _ in 0..CHUNKS {
        talk.send(Client, &chunk);
    }
    talk.send(Client, b"9\r\n\r\n--b--\r\n\r\n0\r\n\r\n").send(Server, b"HTTP/1.1 204 No Content\r\n\r\n");
    assert_bounded("chunks", before);
    let operation = talk.one();
    let Detail::Http(exchange) = &operation.detail else { panic!("{operation:?}") };
    let [upload] = exchange.uploads.as_slice() else { panic!("{:?}", exchange.uploads) };
    assert_eq!(upload.len, Some(CHUNKS * RECORD_LEN as u64));
    assert_eq!(upload.file_name, "big.stl");
}

#[test]
fn a_response_of_unknown_length_is_one_exchange() {
    const LEN: u64 = 1 << 30;
    let before = held();
    let mut talk = http();
    talk.send(Client, b"GET /all HTTP/1.0\r\n\r\n").send(Server, b"HTTP/1.0 200 OK\r\n\r\n");
    talk.stream(Server, &vec![b'x'; RECORD_LEN], LEN);
    assert_bounded("until close", before);
    let operation = talk.one();
    let Detail::Http(exchange) = &operation.detail else { panic!("{operation:?}") };
    assert_eq!(exchange.response_body.len, LEN);
}

#[test]
fn a_copy_of_a_gigabyte_is_one_statement() {
    const LEN: u64 = 1 << 30;
    for (text, sender, answer) in [
        ("COPY items FROM STDIN", Client, wire::pg(b'G', b"\0\0\x01\0\0")),
        ("COPY items TO STDOUT", Server, wire::pg(b'H', b"\0\0\x01\0\0")),
    ] {
        let before = held();
        let mut talk =
            Talk::new(Box::new(postgres::PostgresSession::new(Role::Client, &Protocols::default())));
        talk.send(Client, &wire::query(text)).send(Server, &answer);
        let data = wire::pg(b'd', &vec![b'x'; RECORD_LEN]);
        talk.stream(sender, &data, LEN / RECORD_LEN as u64 * data.len() as u64);
        talk.send(sender, &wire::pg(b'c', b"")).send(Server, &wire::done("COPY 7", b'I'));
        assert_bounded(text, before);
        let operation = talk.one();
        let Detail::Postgres(statement) = &operation.detail else { panic!("{operation:?}") };
        assert_eq!((statement.copy_len, statement.command_tag.as_deref()), (LEN, Some("COPY 7")));
    }
}

#[test]
fn a_row_of_half_a_gigabyte_is_one_statement() {
    const LEN: u64 = 1 << 29;
    let before = held();
    let mut talk = Talk::new(Box::new(postgres::PostgresSession::new(Role::Client, &Protocols::default())));
    talk.send(Client, &wire::query("SELECT data FROM models"));
    let header = [&[b'D'][..], &(LEN as u32 + 10).to_be_bytes(), &[0, 1], &(LEN as u32).to_be_bytes()];
    talk.send(Server, &header.concat()).stream(Server, &vec![b'x'; RECORD_LEN], LEN);
    talk.send(Server, &wire::done("SELECT 1", b'I'));
    assert_bounded("a large row", before);
    let operation = talk.one();
    let Detail::Postgres(statement) = &operation.detail else { panic!("{operation:?}") };
    assert_eq!(statement.returned_rows, 1);
}

#[test]
fn a_message_of_a_hundred_megabytes_is_one_publish() {
    const LEN: u64 = 100 << 20;
    let before = held();
    let mut talk = Talk::new(Box::new(amqp::AmqpSession::new(Role::Client, &Protocols::default())));
    let publish = wire::publish(1, "models", "new", "m-1", "");
    // Method and header; the header's length of the body is rewritten, and the empty body frame left out.
    let mut start = publish[..publish.len() - 8].to_vec();
    let header = start.len() - 1 - "m-1".len() - 1 - 2 - 8;
    start[header..header + 8].copy_from_slice(&LEN.to_be_bytes());
    talk.send(Client, wire::AMQP_HELLO).send(Client, &start);
    let frame = wire::frame(3, 1, &vec![b'x'; RECORD_LEN]);
    talk.stream(Client, &frame, LEN / RECORD_LEN as u64 * frame.len() as u64);
    assert_bounded("100 MB", before);
    let operation = talk.one();
    let Detail::Amqp(action) = &operation.detail else { panic!("{operation:?}") };
    let content = action.kind.content().expect("a message");
    assert_eq!(content.body.len, LEN);
    assert!(content.canonical_digest().is_some(), "its identity is known");
}
