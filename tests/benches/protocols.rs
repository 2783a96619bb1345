//! What the parsers alone cost: from bytes to closed operations, on one thread.
//!
//! The figures promised are 1 GB/s on bodies, and a million small HTTP exchanges, AMQP publishes and simple statements a
//! second and core, with no allocation besides those of the operation that is handed out.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use spoor_core::protocol::{End, Event, Events, Protocol, Session};
use spoor_core::record::Sender::{Client, Server};
use spoor_core::record::{Mark, Role, Sender};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::measure::cpu;
use spoor_tests::transcript::wire;

/// The agent's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on to jemalloc with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is jemalloc's.
        unsafe { tikv_jemallocator::Jemalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above; `at` came from jemalloc.
        unsafe { tikv_jemallocator::Jemalloc.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { tikv_jemallocator::Jemalloc.realloc(at, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RUNS: usize = 5;
const MESSAGES: usize = 200_000;
const BODY_LEN: usize = 1 << 30;
const RECORD_LEN: usize = 64 << 10;

fn main() {
    println!(
        "{:<42} {:>11} {:>8} {:>11} {:>13}",
        "small messages", "operations", "ns each", "million/s", "allocations"
    );
    let http = [
        (Client, wire::request("GET", "/orders/4711", "User-Agent: bench\r\nAccept: */*\r\n", "")),
        (Server, wire::response(200, "{\"status\": \"new\"}")),
    ];
    messages("HTTP: GET and its answer", Protocol::Http1, &[], &http, 1);
    let post = [
        (Client, wire::request("POST", "/orders", "", "{\"order_id\": 4711, \"quantity\": 3}")),
        (Server, wire::response(201, "{\"order_id\": 4711}")),
    ];
    messages("HTTP: POST and its answer, JSON both ways", Protocol::Http1, &[], &post, 1);

    let hello = [(Client, wire::AMQP_HELLO.to_vec())];
    let publish = wire::publish(1, "orders", "new", "m-4711", "{\"order_id\": 4711, \"quantity\": 3}");
    messages("AMQP: publish, one a write", Protocol::Amqp, &hello, &[(Client, publish.clone())], 1);
    messages("AMQP: publish, 32 a write", Protocol::Amqp, &hello, &[(Client, publish.repeat(32))], 32);

    let sql = "UPDATE orders SET status = 'new' WHERE id = 4711";
    let statement = [(Client, wire::query(sql)), (Server, wire::done("UPDATE 1", b'I'))];
    messages("PostgreSQL: simple query", Protocol::Postgres, &[], &statement, 1);
    let prepare = [
        (Client, wire::pg(b'P', b"s1\0SELECT status FROM orders WHERE id = $1\0\0\0")),
        (Client, wire::pg(b'S', b"")),
        (Server, [wire::pg(b'1', b""), wire::pg(b'Z', b"I")].concat()),
    ];
    let execute = [
        wire::pg(b'B', b"\0s1\0\0\0\0\x01\0\0\0\x044711\0\0"),
        wire::pg(b'E', b"\0\0\0\0\0"),
        wire::pg(b'S', b""),
    ];
    let rows = [
        wire::pg(b'2', b""),
        wire::pg(b'D', b"\0\x01\0\0\0\x03new"),
        wire::pg(b'C', b"SELECT 1\0"),
        wire::pg(b'Z', b"I"),
    ];
    let execution = [(Client, execute.concat()), (Server, rows.concat())];
    messages("PostgreSQL: prepared statement", Protocol::Postgres, &prepare, &execution, 1);

    println!("\n{:<42} {:>11} {:>8}", "bodies", "bytes", "GB/s");
    let record = vec![b'x'; RECORD_LEN];
    let head = format!("PUT /model HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_LEN}\r\n\r\n").into_bytes();
    bodies("HTTP: by length", Protocol::Http1, Client, &[(Client, head)], &record, BODY_LEN);
    let head = b"PUT /model HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = [format!("{RECORD_LEN:x}\r\n").as_bytes(), &record, b"\r\n"].concat();
    bodies("HTTP: chunks", Protocol::Http1, Client, &[(Client, head)], &chunk, BODY_LEN);
    let form = b"POST /model HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
        Content-Type: multipart/form-data; boundary=----------------------d74496d66958873e\r\n\r\n";
    bodies("HTTP: multipart upload", Protocol::Http1, Client, &[(Client, form.to_vec())], &chunk, BODY_LEN);
    let [method, header] = [wire::publish(1, "a", "b", "m", ""), huge_header()];
    let method = method[..method.len() - 8 - header.len()].to_vec();
    let frame = wire::frame(3, 1, &record);
    let start = [(Client, wire::AMQP_HELLO.to_vec()), (Client, [method, header].concat())];
    bodies("AMQP: body frames of 64 KiB", Protocol::Amqp, Client, &start, &frame, BODY_LEN);
    let copy = [(Client, wire::query("COPY items FROM STDIN")), (Server, wire::pg(b'G', b"\0\0\x01\0\0"))];
    bodies(
        "PostgreSQL: CopyData of 64 KiB",
        Protocol::Postgres,
        Client,
        &copy,
        &wire::pg(b'd', &record),
        BODY_LEN,
    );
    let select = [
        (Client, wire::query("SELECT note FROM orders")),
        (Server, wire::pg(b'T', b"\0\x01note\0\0\0\0\x01\0\x01\0\0\0\x19\xff\xff\0\0\0\0\0\0")),
    ];
    let row = wire::pg(b'D', &[&b"\0\x01\0\0\0\x64"[..], &[b'x'; 100]].concat());
    bodies(
        "PostgreSQL: rows of 100 bytes",
        Protocol::Postgres,
        Server,
        &select,
        &row.repeat(500),
        BODY_LEN / 8,
    );
}

/// A content header with a message identifier and a body of [`BODY_LEN`].
fn huge_header() -> Vec<u8> {
    let fixed = [&[0, 60, 0, 0][..], &(BODY_LEN as u64).to_be_bytes(), &[0, 0x80, 1, b'm']].concat();
    wire::frame(2, 1, &fixed)
}

fn session(protocol: Protocol) -> Box<dyn Session> {
    protocol.session(Role::Client, &Protocols::default())
}

/// A session and where its directions stand.
struct Talk {
    session: Box<dyn Session>,
    out: Events,
    pos: [u64; 2],
    at: BootTime,
    closed: usize,
}

impl Talk {
    fn new(protocol: Protocol) -> Self {
        Self {
            session: session(protocol),
            out: Events::default(),
            pos: [0; 2],
            at: BootTime::from_nanos(1),
            closed: 0,
        }
    }

    fn send(&mut self, from: Sender, bytes: &[u8]) {
        self.at += Duration::from_micros(1);
        let pos = &mut self.pos[from as usize];
        let mark = Mark { at: self.at, ..Mark::default() };
        self.session.bytes(from, *pos, bytes, mark, &mut self.out);
        *pos += bytes.len() as u64;
        while let Some(event) = self.out.pop() {
            if let Event::Closed(operation) = event {
                black_box(operation);
                self.closed += 1;
            }
        }
    }
}

fn messages(
    name: &str,
    protocol: Protocol,
    before: &[(Sender, Vec<u8>)],
    script: &[(Sender, Vec<u8>)],
    operations: usize,
) {
    let rounds = MESSAGES / operations;
    let (mut best, mut allocations) = (Duration::MAX, 0);
    for _ in 0..RUNS {
        let mut talk = Talk::new(protocol);
        before.iter().for_each(|(from, bytes)| talk.send(*from, bytes));
        script.iter().for_each(|(from, bytes)| talk.send(*from, bytes));
        assert_eq!(talk.closed, operations, "{name}: operations a round");
        talk.closed = 0;
        let (start, counted) = (cpu(), ALLOCATIONS.load(Ordering::Relaxed));
        for _ in 0..rounds {
            for (from, bytes) in script {
                talk.send(*from, bytes);
            }
        }
        best = best.min(cpu() - start);
        allocations = ALLOCATIONS.load(Ordering::Relaxed) - counted;
        assert_eq!(talk.closed, rounds * operations, "{name}");
    }
    let count = (rounds * operations) as f64;
    let ns = best.as_nanos() as f64 / count;
    let (million, each) = (1000.0 / ns, allocations as f64 / count);
    println!("{name:<42} {count:>11} {ns:>8.0} {million:>11.2} {each:>13.2}");
}

fn bodies(
    name: &str,
    protocol: Protocol,
    from: Sender,
    before: &[(Sender, Vec<u8>)],
    record: &[u8],
    len: usize,
) {
    let rounds = len / RECORD_LEN;
    let mut best = Duration::MAX;
    for _ in 0..2 {
        let mut talk = Talk::new(protocol);
        before.iter().for_each(|(from, bytes)| talk.send(*from, bytes));
        let start = cpu();
        (0..rounds).for_each(|_| talk.send(from, record));
        best = best.min(cpu() - start);
        talk.session.end(End::Closed, talk.at + Duration::from_nanos(1), &mut talk.out);
    }
    let bytes = rounds * record.len();
    println!("{name:<42} {bytes:>11} {:>8.1}", bytes as f64 / best.as_nanos() as f64);
}
