//! What the core costs: from decoded records to encoded OTLP, nanoseconds of CPU per operation on one thread.
//!
//! The figures promised are 5 µs of CPU per HTTP operation, ring to encoded OTLP, and 300,000 spans a second in replay.
//! Both ends of every connection are seen, as in the demo, so an HTTP exchange is two operations and two spans.
//!
//! Words behind the command choose rows; with `--count` each runs a single time and no clock is asked, for valgrind:
//! `valgrind --tool=callgrind --toggle-collect='*drive*' target/release/deps/pipeline-* --count statement`

use std::hint::black_box;
use std::time::Duration;

use spoor::export::Host as Exporting;
use spoor::export::otlp::encode::Batcher;
use spoor_core::pipeline::Pipeline;
use spoor_core::record::Record;
use spoor_core::record::Sender::{Client, Server};
use spoor_core::time::BootTime;
use spoor_tests::measure::cpu;
use spoor_tests::scenes::Shop;
use spoor_tests::transcript::{Covered, Host, wire};
use spoor_tests::whole_core::settings;

/// As the agent has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Makes the records of a row.
type Records = fn() -> Vec<Record>;

const ORDERS: u32 = 10_000;
const RUNS: usize = 5;
/// Spans are released in time order as in a live run: this much record time passes between two orders.
const PAUSE_MS: u64 = 1;

fn main() {
    let (flags, wanted): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let counts = flags.iter().any(|flag| flag == "--count");
    println!(
        "{:<34} {:>10} {:>10} {:>12} {:>12}",
        "per operation", "operations", "spans", "CPU ns each", "spans/CPU s"
    );
    let rows: [(&str, Records); 5] = [
        ("HTTP request, both ends", http),
        ("HTTP/2 request, both ends", http2),
        ("statement, client's end", statements),
        ("publish to ack, through a broker", messages),
        ("order: HTTP, SQL, HTTP", orders),
    ];
    for (name, records) in rows {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word)) {
            row(name, &records(), counts);
        }
    }
}

fn row(name: &str, records: &[Record], counts: bool) {
    let mut best = Duration::MAX;
    let (mut operations, mut spans) = (0, 0);
    for _ in 0..if counts { 1 } else { RUNS } {
        let records = records.to_vec();
        let mut pipeline = Pipeline::new(settings()).expect("default rules compile");
        let mut batcher = Batcher::new(Exporting::local("bench"), 2 << 20);
        // Valgrind does not know the clock that needs no system call.
        let now = || if counts { Duration::ZERO } else { cpu() };
        let start = now();
        spans = drive(records, &mut pipeline, &mut batcher);
        best = best.min(now() - start);
        let stats = pipeline.stats();
        operations = stats.operations.total();
    }
    let ns = best.as_nanos() as u64;
    let per_operation = ns / operations.max(1);
    println!(
        "{name:<34} {operations:>10} {spans:>10} {per_operation:>12} {:>12}",
        spans * 1_000_000_000 / ns.max(1)
    );
}

/// What is measured. Returns the number of spans.
#[inline(never)]
fn drive(records: Vec<Record>, pipeline: &mut Pipeline, batcher: &mut Batcher) -> u64 {
    let mut spans = 0;
    for record in records {
        pipeline.handle_record(record);
        spans += encode(pipeline, batcher);
    }
    pipeline.finish(BootTime::from_nanos(u64::MAX / 2));
    spans += encode(pipeline, batcher);
    black_box(batcher.take());
    spans
}

fn encode(pipeline: &mut Pipeline, batcher: &mut Batcher) -> u64 {
    let mut spans = 0;
    while let Some(span) = pipeline.poll_span() {
        spans += 1;
        black_box(batcher.push(&span));
        if batcher.span_count() >= 512 {
            black_box(batcher.take());
        }
    }
    spans
}

fn http() -> Vec<Record> {
    let mut host = Host::new();
    let (client, server) = (host.process(100, "client"), host.process(200, "server"));
    let link = host.connect(client, server, 8080, Covered::Both);
    for order in 1..=ORDERS {
        let request =
            wire::request("GET", &format!("/orders/{order}"), "User-Agent: bench\r\nAccept: */*\r\n", "");
        host.send(link, Client, request, client.thread(0), server.thread(0));
        host.send(
            link,
            Server,
            wire::response(200, "{\"status\": \"new\"}"),
            server.thread(0),
            client.thread(0),
        );
        host.wait_ms(PAUSE_MS);
    }
    host.records
}

fn http2() -> Vec<Record> {
    let mut host = Host::new();
    let (client, server) = (host.process(100, "client"), host.process(200, "server"));
    let link = host.connect(client, server, 8080, Covered::Both);
    host.send(link, Client, wire::http2_hello(true), client.thread(0), server.thread(0));
    host.send(link, Server, wire::http2_hello(false), server.thread(0), client.thread(0));
    for order in 0..ORDERS {
        let stream = 2 * order + 1;
        let request = wire::http2_request(stream, &format!("/orders/{order}"), order == 0);
        host.send(link, Client, request, client.thread(0), server.thread(0));
        let head = wire::http2_frame(1, 4, stream, &wire::http2_response_block(order == 0));
        let response = [head, wire::http2_frame(0, 1, stream, b"{\"status\": \"new\"}")].concat();
        host.send(link, Server, response, server.thread(0), client.thread(0));
        host.wait_ms(PAUSE_MS);
    }
    host.records
}

fn statements() -> Vec<Record> {
    let mut host = Host::new();
    let (client, server) = (host.process(100, "client"), host.process(200, "postgresql"));
    let link = host.connect(client, server, 5432, Covered::Client);
    for order in 1..=ORDERS {
        let sql = format!("UPDATE orders SET status = 'new' WHERE id = {order}");
        host.send(link, Client, wire::query(&sql), client.thread(0), server.thread(0));
        host.send(link, Server, wire::done("UPDATE 1", b'I'), server.thread(0), client.thread(0));
        host.wait_ms(PAUSE_MS);
    }
    host.records
}

fn messages() -> Vec<Record> {
    let mut host = Host::new();
    let (crm, broker, mes) =
        (host.process(300, "crm"), host.process(500, "rabbitmq"), host.process(600, "mes"));
    let input = host.connect(crm, broker, 5672, Covered::Both);
    let output = host.connect(mes, broker, 5672, Covered::Both);
    let (from, via, to) = (crm.thread(0), broker.thread(0), mes.thread(0));
    host.consume(output, "mes.orders", to, via);
    host.send(input, Client, wire::AMQP_HELLO, from, via);
    for order in 1..=ORDERS {
        let body = format!("{{\"order_id\": {order}, \"quantity\": 3}}");
        let id = format!("m-{order}");
        host.send(input, Client, wire::publish(1, "orders", "new", &id, &body), from, via);
        host.send(output, Server, wire::deliver(1, u64::from(order), "orders", "new", &id, &body), via, to);
        host.send(output, Client, wire::ack(1, u64::from(order)), to, via);
        host.wait_ms(PAUSE_MS);
    }
    host.records
}

fn orders() -> Vec<Record> {
    let mut host = Host::new();
    let shop = Shop::open(&mut host);
    for order in 1..=ORDERS {
        shop.order(&mut host, order);
        host.wait_ms(PAUSE_MS);
    }
    host.records
}
