//! Traffic made to fill the agent's memory leaves it within `limits.memory_bytes`, what it costs is counted by cause, and a
//! neighbour loses nothing.
//!
//! What is measured is the most that the test's thread holds while it plays an attack against the whole core, spans being taken after
//! every record. `cargo xtask attack` makes the same attacks on a running agent.

use spoor_core::pipeline::{Pipeline, Settings, Stats};
use spoor_core::record::Sender::{Client, Server};
use spoor_core::settings::Limits;
use spoor_core::trace::Value;
use spoor_tests::transcript::{Covered, Host, Link, Process, wire};
use spoor_tests::whole_core;
use std::time::Duration;

use super::{held, most_held};

const MEMORY: usize = 32 << 20;
/// Tables that are bounded by number, and one record's worth of everything.
const BESIDE: i64 = 16 << 20;

/// A core under attack, with a neighbour that goes on with its work.
struct Attack {
    host: Host,
    pipeline: Pipeline,
    mallory: Process,
    victim: Process,
    neighbour: (Link, Process, Process),
    neighbours: u64,
    /// Spans of the neighbour, of others, and the texts of all.
    seen: u64,
    others: u64,
    exported_len: usize,
    before: i64,
}

impl Attack {
    fn new() -> Self {
        Self::with(0)
    }

    fn with(work_percent: u32) -> Self {
        let before = held();
        let limits = Limits { memory_bytes: MEMORY, work_percent };
        let settings = Settings { limits, max_connections: 65_536, ..whole_core::settings() };
        let mut host = Host::new();
        let (mallory, victim) = (host.process(10, "mallory"), host.process(20, "victim"));
        let (client, shop) = (host.process(30, "client"), host.process(40, "shop"));
        let link = host.connect(client, shop, 8080, Covered::Both);
        Self {
            host,
            pipeline: Pipeline::new(settings).unwrap(),
            mallory,
            victim,
            neighbour: (link, client, shop),
            neighbours: 0,
            seen: 0,
            others: 0,
            exported_len: 0,
            before,
        }
    }

    /// A connection of the attacker with itself.
    fn connect(&mut self, port: u16) -> Link {
        self.host.connect(self.mallory, self.victim, port, Covered::Both)
    }

    fn client(&mut self, link: Link, bytes: &[u8]) {
        self.host.send(link, Client, bytes, self.mallory.thread(0), self.victim.thread(0));
        self.play();
    }

    fn server(&mut self, link: Link, bytes: &[u8]) {
        self.host.send(link, Server, bytes, self.victim.thread(0), self.mallory.thread(0));
        self.play();
    }

    /// The neighbour asks and is answered.
    fn neighbour(&mut self) {
        let (link, client, shop) = self.neighbour;
        let request = wire::request("POST", "/orders", "Content-Type: application/json\r\n", r#"{"x":1}"#);
        self.host.send(link, Client, request, client.thread(0), shop.thread(0));
        self.host.send(link, Server, wire::response(200, ""), shop.thread(0), client.thread(0));
        self.neighbours += 1;
        self.play();
    }

    fn play(&mut self) {
        for record in self.host.records.drain(..) {
            self.pipeline.handle_record(record);
            Self::take(&mut self.pipeline, &mut self.seen, &mut self.others, &mut self.exported_len);
        }
    }

    fn take(pipeline: &mut Pipeline, seen: &mut u64, others: &mut u64, exported_len: &mut usize) {
        while let Some(span) = pipeline.poll_span() {
            match span.resource.service.as_str() {
                "client" | "shop" => *seen += 1,
                _ => *others += 1,
            }
            *exported_len += span.name.len();
            for (_, value) in span.attributes.iter() {
                if let Value::Text(text) = value {
                    assert!(text.len() <= 4096, "{} bytes", text.len());
                    *exported_len += text.len();
                }
            }
        }
    }

    /// Everything is over: nothing is held, memory was bounded, the neighbour has both spans of each request.
    #[track_caller]
    fn end(mut self) -> (Stats, u64, usize) {
        self.host.wait_ms(60_000);
        let now = self.host.now();
        self.pipeline.handle_timeout(now);
        self.pipeline.finish(now + Duration::from_secs(1));
        Self::take(&mut self.pipeline, &mut self.seen, &mut self.others, &mut self.exported_len);
        let grown = most_held() - self.before;
        assert!(grown < MEMORY as i64 + BESIDE, "{grown} bytes");
        assert_eq!(self.seen, 2 * self.neighbours, "spans of the neighbour");
        let stats = self.pipeline.stats();
        assert!(stats.most_held_bytes <= MEMORY as u64, "{}", stats.most_held_bytes);
        assert_eq!(stats.given_up.operations_waiting, 0);
        self.pipeline.handle_timeout(now + Duration::from_secs(2));
        assert_eq!(self.pipeline.stats().held_bytes, 0, "what is held has drifted");
        (stats, self.others, self.exported_len)
    }
}

/// Both ends of an HTTP/2 connection with a large table, and a request that puts a path of so many bytes into it.
fn hpack(attack: &mut Attack, path_len: usize) -> Link {
    let link = attack.connect(8080);
    let settings = wire::http2_frame(4, 0, 0, &[&[0, 1][..], &65_536_u32.to_be_bytes()].concat());
    attack.client(link, &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*settings].concat());
    attack.server(link, &settings);
    let path = format!("/?{}", "p".repeat(path_len - 2));
    let block = [
        &*wire::hpack_integer(65_536, 0x20, 31),
        b"\x82\x86\x44",
        &wire::hpack_integer(path.len(), 0, 127),
        path.as_bytes(),
    ]
    .concat();
    let (first, rest) = block.split_at(block.len().min(16_000));
    let mut frames = wire::http2_frame(1, if rest.is_empty() { 5 } else { 1 }, 1, first);
    let pieces: Vec<&[u8]> = rest.chunks(16_000).collect();
    for (index, piece) in pieces.iter().enumerate() {
        frames.extend(wire::http2_frame(9, if index + 1 == pieces.len() { 4 } else { 0 }, 1, piece));
    }
    attack.client(link, &frames);
    attack.server(link, &wire::http2_frame(1, 5, 1, b"\x88"));
    link
}

#[test]
fn a_path_of_56_kb_named_by_one_byte_of_each_request() {
    let mut attack = Attack::new();
    let link = hpack(&mut attack, 56_000);
    for number in 1..8000_u32 {
        attack.client(link, &wire::http2_frame(1, 5, 2 * number + 1, b"\x82\x86\xbe"));
        attack.server(link, &wire::http2_frame(1, 5, 2 * number + 1, b"\x88"));
        if number % 40 == 0 {
            attack.neighbour();
        }
    }
    let (_, spans, exported_len) = attack.end();
    assert_eq!(spans, 16_000);
    // 12 bytes were 112 KB of spans.
    assert!(exported_len < 16_000 * 1024, "{exported_len}");
}

#[test]
fn a_request_that_hangs_and_long_queries_below_it() {
    let mut attack = Attack::new();
    let front = attack.connect(8080);
    attack.client(front, b"GET /orders/5 HTTP/1.1\r\nHost: a\r\n\r\n");
    let back = attack.connect(8081);
    let query = "q".repeat(7000);
    for number in 0..4000 {
        attack.client(back, format!("GET /a?x={query}&n={number} HTTP/1.1\r\nHost: b\r\n\r\n").as_bytes());
        attack.server(back, &wire::response(200, ""));
        if number % 40 == 0 {
            attack.neighbour();
        }
    }
    let (stats, spans, _) = attack.end();
    assert_eq!(spans, 2 * 4001);
    assert!(stats.given_up.trees_early > 0, "{stats:?}");
}

#[test]
fn headers_of_60_kb_on_every_request() {
    let mut attack = Attack::new();
    let link = attack.connect(8080);
    let request = format!(
        "GET /a HTTP/1.1\r\nHost: b\r\nX-A: {}\r\nUser-Agent: {}\r\n\r\n",
        "q".repeat(30_000),
        "u".repeat(30_000)
    );
    for _ in 0..1000 {
        attack.client(link, request.as_bytes());
        attack.server(link, &wire::response(200, ""));
        attack.neighbour();
    }
    let (stats, spans, _) = attack.end();
    assert_eq!((spans, stats.given_up.trees_early), (2000, 0), "what no span shows is gone at once");
}

#[test]
fn bodies_that_never_end() {
    let mut attack = Attack::new();
    let request = wire::request("POST", "/orders", "Content-Type: application/json\r\n", &"a".repeat(62_000));
    let request =
        String::from_utf8(request).unwrap().replace("Content-Length: 62000", "Content-Length: 900000");
    for number in 0..600 {
        let link = attack.connect(8080);
        attack.client(link, request.as_bytes());
        if number % 10 == 0 {
            attack.neighbour();
        }
    }
    let (stats, spans, _) = attack.end();
    assert_eq!(spans, 1200, "each is a span of a request that was given up");
    assert!(stats.connections.gave_values > 0 && stats.connections.given_up_bytes > 20 << 20, "{stats:?}");
    assert_eq!((stats.connections.gave_session, stats.connections.evicted_for_memory), (0, 0), "{stats:?}");
}

#[test]
fn tables_of_idle_connections() {
    let mut attack = Attack::new();
    for number in 0..400 {
        hpack(&mut attack, 60_000);
        if number % 10 == 0 {
            attack.neighbour();
        }
    }
    let (stats, spans, _) = attack.end();
    assert_eq!(spans, 800);
    assert!(stats.connections.gave_session > 0, "{stats:?}");
}

#[test]
fn messages_without_an_end_on_many_channels() {
    let mut attack = Attack::new();
    for number in 0..40 {
        let link = attack.connect(5672);
        attack.client(link, wire::AMQP_HELLO);
        for channel in 1..40 {
            let publish = wire::publish(channel, "e", "k", "m", &"b".repeat(30_000));
            // All but the end of the body's frame.
            attack.client(link, &publish[..publish.len() - 2000]);
            attack.client(link, &publish[publish.len() - 2000..]);
        }
        if number % 4 == 0 {
            attack.neighbour();
        }
    }
    attack.end();
}

#[test]
fn statements_that_wait_for_their_answers() {
    let mut attack = Attack::new();
    for number in 0..60 {
        let link = attack.connect(5432);
        for statement in 0..40 {
            let text = format!("SELECT {statement} /* {} */", "s".repeat(15_000));
            attack.client(link, &wire::query(&text));
        }
        if number % 4 == 0 {
            attack.neighbour();
        }
    }
    attack.end();
}

#[test]
fn who_has_more_than_his_part_of_the_time_loses_it_and_his_neighbour_nothing() {
    let mut attack = Attack::with(1);
    let link = attack.connect(8080);
    // A hundredth of a core is time for some 600 operations a second; these are 5,000.
    for number in 0..5000 {
        attack.client(link, b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n");
        attack.server(link, &wire::response(200, ""));
        if number % 50 == 0 {
            attack.neighbour();
        }
    }
    let (stats, spans, _) = attack.end();
    let left_out = stats.given_up.operations_over_work;
    assert_eq!(spans + left_out, 10_000);
    assert!(left_out > 5000, "{left_out}");
}
