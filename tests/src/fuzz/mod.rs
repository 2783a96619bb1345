//! Fuzz targets: any bytes in, a panic out if something that must hold does not.
//!
//! The fuzzer in `tests/fuzz` and the ordinary tests call the same functions. A new target is a function and a line in
//! [`TARGETS`]; its binary in `tests/fuzz/fuzz_targets` is one line, too.

mod life;
pub mod script;
mod tls;

use std::io::Read;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use spoor::capture::decode;
use spoor::config::Services;
use spoor::source::{Source, pcap, recording};
use spoor_core::operation::http::{Exchange, Headers};
use spoor_core::operation::{Completeness, Detail, Extent, Kept, OpSide, Operation};
use spoor_core::order::explain::Explanation;
use spoor_core::order::rules::{KeyRule, Places};
use spoor_core::order::{Rules, settings as order};
use spoor_core::pipeline::{Pipeline, Settings};
use spoor_core::privacy::{NO_KEYS, messages, redact};
use spoor_core::protocol::detect::{Detection, Detector, Sniff};
use spoor_core::protocol::http1::content;
use spoor_core::protocol::proxy::{self, Prefix};
use spoor_core::protocol::{End, Events, Protocol};
use spoor_core::record::{
    CgroupId, ClockPair, Close, Conn, ConnId, Data, DataFlags, Direction, Endpoint, Mark, NetNs, OpId,
    Record, Role, Sender, Transport, WireBase, Worker,
};
use spoor_core::settings::Protocols;
use spoor_core::sql::{self, prepare};
use spoor_core::stream::{Assembler, Chunk, Window};

use self::life::LifeCycles;
use self::script::{Script, Step};
pub use self::tls::tls;
use crate::transcript::EPOCH;
use crate::whole_core;
use spoor_core::time::BootTime;

/// Takes any bytes; panics when something that must hold does not.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("amqp", amqp),
    ("assembler", assembler),
    ("content", content),
    ("decode", decode),
    ("detect", detect),
    ("fastcgi", fastcgi),
    ("documents", documents),
    ("http1", http1),
    ("http2", http2),
    ("pcap", pcap),
    ("pipeline", pipeline),
    ("postgres", postgres),
    ("recording", recording),
    ("scgi", scgi),
    ("texts", texts),
    ("uwsgi", uwsgi),
    ("tls", tls),
];

/// One HTTP/1.x connection.
pub fn http1(data: &[u8]) {
    session(data, Protocol::Http1);
}

/// One HTTP/2 connection, from its preface or joined in mid-stream.
pub fn http2(data: &[u8]) {
    session(data, Protocol::Http2);
}

/// One AMQP connection.
pub fn amqp(data: &[u8]) {
    session(data, Protocol::Amqp);
}

/// One PostgreSQL connection.
pub fn postgres(data: &[u8]) {
    session(data, Protocol::Postgres);
}

/// One FastCGI connection.
pub fn fastcgi(data: &[u8]) {
    session(data, Protocol::FastCgi);
}

/// One SCGI connection.
pub fn scgi(data: &[u8]) {
    session(data, Protocol::Scgi);
}

/// One uwsgi connection.
pub fn uwsgi(data: &[u8]) {
    session(data, Protocol::Uwsgi);
}

/// Small bounds, so that short inputs reach them.
fn limits() -> Protocols {
    Protocols { kept_body_bytes: 64, max_header_bytes: 512, max_open_operations: 8, ..Protocols::default() }
}

/// A body of any format, in any encoding, whole or cut: JSON, XML, XML-RPC, SOAP, GraphQL, forms. The first three bytes choose
/// label, encoding and how much of the body is missing.
pub fn documents(data: &[u8]) {
    const LABELS: [&str; 8] = [
        "text/xml",
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "application/graphql",
        "application/soap+xml; action=\"a\"",
        "text/html",
        "",
    ];
    const CHARSETS: [&str; 8] =
        ["", "windows-1251", "koi8-r", "cp866", "utf-16", "utf-16be", "shift_jis", "gb18030"];
    let [label, charset, missing, body @ ..] = data else { return };
    let choose =
        |list: &[&'static str; 8], byte: u8| list.get(usize::from(byte % 8)).copied().unwrap_or_default();
    let content_type = match (choose(&LABELS, *label), choose(&CHARSETS, *charset)) {
        (label, "") => label.to_owned(),
        (label, charset) => format!("{label}; charset={charset}"),
    };
    let body = Kept {
        bytes: body.to_vec(),
        len: body.len() as u64 + u64::from(*missing),
        holed: false,
        left_out: 0,
    };
    let fields = || Headers::from_iter([("content-type", content_type.as_bytes())]);
    let exchange = Exchange {
        method: "POST".to_owned(),
        target: "/orders".to_owned(),
        status: Some(200),
        request_headers: fields(),
        request_body: body.clone(),
        response_headers: fields(),
        response_body: body,
        ..Exchange::default()
    };
    let operation = Operation {
        id: OpId(1),
        shape: OpSide::Incoming,
        role: Role::Server,
        request: Extent::default(),
        response: None,
        ended_at: BootTime::ZERO,
        completeness: Completeness::Complete,
        detail: Detail::Http(Box::new(exchange)),
    };
    static RULES: LazyLock<Rules> = LazyLock::new(|| {
        let mut order = order::Order::default();
        let places = Places {
            fields: vec!["номер".to_owned(), "id".to_owned()],
            json_paths: vec!["$.params[0][0]".to_owned(), "$.a.b".to_owned()],
            ..Places::default()
        };
        order.keys.push(KeyRule { places, ..KeyRule::default() });
        Rules::compile(&order).expect("the rules are right")
    });
    let found = RULES.extract(&operation);
    assert!(found.keys.len() <= 8 && found.keys.iter().all(|key| !key.value.is_empty()));
    let mut explanation = Explanation::new(true);
    explanation.add(&RULES, &operation);
    assert_eq!(explanation.named + explanation.ambiguous + explanation.nameless_count, 1);
}

/// Any protocol's session: it neither panics nor breaks an operation's life cycle, whatever comes.
fn session(data: &[u8], protocol: Protocol) {
    let script = Script::read(data);
    let mut session = protocol.session(script.role, &limits());
    let (mut out, mut life) = (Events::default(), LifeCycles::default());
    let (mut client, mut server, mut now) = (script.start, script.start, BootTime::from_nanos(1));
    for step in &script.steps {
        now += Duration::from_micros(1);
        let thread = Worker::new(1, 1 + (now.as_nanos() / 1000 % 4) as u32);
        match step {
            Step::Wait(time) => {
                now += *time;
                session.timeout(now, &mut out);
            }
            Step::Bytes(sender, bytes) => {
                let (pos, other_pos) = positions(*sender, &mut client, &mut server, bytes.len() as u64);
                session.bytes(
                    *sender,
                    pos,
                    bytes,
                    Mark { at: now, thread, other_pos, awaited_by: None },
                    &mut out,
                );
            }
            Step::Hole(sender, len) => {
                let (pos, other_pos) = positions(*sender, &mut client, &mut server, *len);
                session.gap(
                    *sender,
                    pos,
                    *len,
                    Mark { at: now, thread, other_pos, awaited_by: None },
                    &mut out,
                );
            }
        }
        let _ = (session.want(Sender::Client), session.want(Sender::Server));
        life.take(&mut out);
    }
    session.end(End::Closed, now + Duration::from_nanos(1), &mut out);
    life.take(&mut out);
    life.assert_over(data.len());
}

fn positions(sender: Sender, client: &mut u64, server: &mut u64, len: u64) -> (u64, u64) {
    let (own, other) = match sender {
        Sender::Client => (client, *server),
        Sender::Server => (server, *client),
    };
    let pos = *own;
    *own += len;
    (pos, other)
}

/// Telling protocols apart. What proves a protocol must not have been ruled out by its own beginning.
pub fn detect(data: &[u8]) {
    let script = Script::read(data);
    let mut detector = Detector::default();
    for step in &script.steps {
        let Step::Bytes(sender, bytes) = step else { continue };
        let prefix = proxy::read(bytes);
        if let Prefix::Header { .. } = prefix {
            let told = |len: usize| [prefix, Prefix::Incomplete].contains(&proxy::read(&bytes[..len]));
            assert!(
                (0..bytes.len().min(256)).all(told),
                "{prefix:?} is ruled out by its own beginning: {bytes:?}"
            );
        }
        for (protocol, sniff) in sniffs(bytes) {
            let proven = matches!(sniff, Sniff::Yes(_));
            let ruled_out = |len: usize| sniffs(&bytes[..len]).contains(&(protocol, Sniff::No));
            if let Some(len) = (1..bytes.len().min(256)).find(|len| proven && ruled_out(*len)) {
                panic!("{protocol:?} is proven by {bytes:?} and ruled out by its first {len} bytes");
            }
        }
        let found = detector.offer(script.direction(*sender), bytes, script.port);
        if let Detection::Is { protocol, .. } = found {
            assert!(Protocol::ALL.contains(&protocol), "{found:?}");
        }
    }
}

fn sniffs(bytes: &[u8]) -> Vec<(Protocol, Sniff)> {
    Protocol::ALL.into_iter().map(|protocol| (protocol, protocol.sniff(bytes))).collect()
}

/// Reassembly: chunks tile the stream, and no byte appears or disappears unaccounted.
pub fn assembler(data: &[u8]) {
    let window = Window { bytes: 256, records: 8, time: Duration::from_micros(1) };
    let mut assembler = Assembler::new(None, window);
    let mut rest = data;
    let (mut next, mut end) = (0u64, None);
    while let Some((header, after)) = rest.split_first_chunk::<4>() {
        // How far the record is from the stream's end, its length, how much of it was captured.
        let [jump, len, captured, at] = *header;
        rest = after;
        let pos = next.saturating_add_signed(i64::from(jump as i8));
        let bytes = Bytes::copy_from_slice(&rest[..usize::from(captured).min(rest.len())]);
        rest = &rest[bytes.len()..];
        next = next.max(pos + u64::from(len));
        let mark = Mark { at: BootTime::from_nanos(u64::from(at) * 16), ..Mark::default() };
        assembler.push(pos, u64::from(len), bytes, mark);
        if at % 16 == 0 {
            assembler.handle_timeout(mark.at);
        }
        assert!(assembler.buffered() <= window.bytes + 256 * 2, "{} bytes wait", assembler.buffered());
        while let Some(chunk) = assembler.pop() {
            assert_tiles(&chunk, &mut end);
        }
    }
    assembler.finish();
    while let Some(chunk) = assembler.pop() {
        assert_tiles(&chunk, &mut end);
    }
    let stats = assembler.stats();
    assert_eq!(
        stats.moved + stats.missing,
        stats.bytes + stats.gap + stats.trimmed + stats.dropped,
        "{stats:?}"
    );
}

fn assert_tiles(chunk: &Chunk, end: &mut Option<u64>) {
    assert!(!chunk.is_empty(), "{chunk:?}");
    assert!(end.is_none_or(|end| end == chunk.pos()), "{chunk:?} does not continue at {end:?}");
    *end = Some(chunk.end());
}

/// A body with a content coding, which the first byte chooses: what comes out is bounded, and a smaller bound gives its beginning.
pub fn content(data: &[u8]) {
    const CODINGS: [&str; 5] = ["gzip", "deflate", "br", "zstd", "zstd, gzip"];
    const BOUND: usize = 4096;
    let Some((first, body)) = data.split_first() else { return };
    let coding = CODINGS[usize::from(*first) % CODINGS.len()];
    let Some(plain) = content::decode(coding, body, BOUND) else { return };
    assert!(plain.len() <= BOUND, "{coding}: {} bytes", plain.len());
    if let Some(beginning) = content::decode(coding, body, 64) {
        assert!(
            plain.starts_with(&beginning) && beginning.len() <= 64,
            "{coding}: {beginning:?} of {plain:?}"
        );
    }
    // What the reference library reads to its end is what ours gives the beginning of.
    let mut reference = Vec::new();
    if coding == "zstd"
        && let Ok(decoder) = zstd::stream::read::Decoder::new(body)
        && decoder.take(1 << 20).read_to_end(&mut reference).is_ok()
        && reference.len() < 1 << 20
    {
        assert!(reference.starts_with(&plain), "{plain:?} instead of {reference:?}");
    }
}

/// Text on its way out: SQL without its values has none to lose the next time, and nothing grows but by what stands for what went.
pub fn texts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let sanitized = sql::sanitize(&text);
    assert_eq!(sql::sanitize(&sanitized), sanitized, "of {text:?}");
    assert!(sanitized.len() <= text.len(), "{sanitized:?} of {text:?}");
    if let Some(prepare::Command::Prepare { text: body, .. }) = prepare::command(&text) {
        assert!(text.contains(body), "{body:?} of {text:?}");
    }
    let shown = [
        redact::text(&text, NO_KEYS).into_owned(),
        redact::destination(&text, NO_KEYS).into_owned(),
        redact::path(&text, NO_KEYS).into_owned(),
        redact::query(&text, NO_KEYS),
        redact::url(&text, NO_KEYS).into_owned(),
        messages::postgres("42703", &text, Some(&sanitized)),
        messages::broker(&text),
        messages::application(&text),
    ];
    for shown in shown {
        assert!(shown.len() <= 64 + 8 * text.len(), "{shown:?} of {text:?}");
    }
}

/// One record of the kernel's ring.
pub fn decode(data: &[u8]) {
    let _ = decode::event(data);
}

/// A capture file, pcap or pcapng.
pub fn pcap(data: &[u8]) {
    if let Ok(source) = pcap::Reader::new("fuzz".to_owned(), data, &Services::default()) {
        read_all(source, data.len());
    }
}

/// A recording of our own.
pub fn recording(data: &[u8]) {
    if let Ok(source) = recording::Reader::new("fuzz".to_owned(), data) {
        read_all(source, data.len());
    }
}

/// Every record of a file: it ends, and no input multiplies.
fn read_all(mut source: impl Source, input_len: usize) {
    let (mut records, mut captured) = (0, 0);
    loop {
        match source.next() {
            Ok(Some(Record::Data(data))) => captured += data.bytes.len(),
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) if error.is_warning() => {}
            Err(_) => break,
        }
        records += 1;
        assert!(records <= 16 + input_len, "{records} records from {input_len} bytes");
    }
    // Each captured byte is seen by both ends of its connection.
    assert!(captured <= 2 * input_len, "{captured} bytes captured in {input_len}");
}

/// The whole core on a script, seen from both ends of the connection: it gets every record, gives its spans in the end and
/// keeps nothing.
pub fn pipeline(data: &[u8]) {
    let script = Script::read(data);
    let settings = Settings { protocols: limits(), max_connections: 16, ..whole_core::settings() };
    let mut pipeline = Pipeline::new(settings).expect("the default rules compile");
    let mut now = BootTime::ZERO + Duration::from_millis(1);
    pipeline.handle_record(Record::Clock(ClockPair { boot: now, wall: EPOCH }));
    for role in [Role::Client, Role::Server] {
        pipeline.handle_record(Record::Conn(Box::new(end_of_connection(role, &script, now))));
    }
    let (mut client, mut server) = (script.start, script.start);
    for step in &script.steps {
        now += Duration::from_micros(1);
        let (sender, bytes, len) = match step {
            Step::Wait(time) => {
                now += *time;
                pipeline.handle_timeout(now);
                continue;
            }
            Step::Bytes(sender, bytes) => (*sender, Bytes::copy_from_slice(bytes), bytes.len() as u64),
            // Half of the holes are records without bytes, half are records that never came.
            Step::Hole(sender, len) if len % 2 == 0 => {
                positions(*sender, &mut client, &mut server, *len);
                continue;
            }
            Step::Hole(sender, len) => (*sender, Bytes::new(), *len),
        };
        let (pos, other_pos) = positions(sender, &mut client, &mut server, len);
        for role in [Role::Client, Role::Server] {
            let sends = (role == Role::Client) == (sender == Sender::Client);
            pipeline.handle_record(Record::Data(Data {
                at: now,
                conn: conn_id(role),
                direction: if sends { Direction::Egress } else { Direction::Ingress },
                pos,
                other_pos,
                len: len as u32,
                bytes: bytes.clone(),
                thread: thread(role),
                awaited_by: None,
                flags: DataFlags::default(),
            }));
        }
        while pipeline.poll_verdict().is_some() {}
        while pipeline.poll_span().is_some() {}
    }
    for role in [Role::Client, Role::Server] {
        pipeline.handle_record(Record::Close(Close { at: now, conn: conn_id(role), reset: false }));
    }
    pipeline.finish(now + Duration::from_nanos(1));
    while let Some(span) = pipeline.poll_span() {
        assert!(span.start <= span.end, "{span:?}");
        assert!(span.span_id.0 != [0; 8] && span.trace_id.0 != [0; 16], "{span:?}");
    }
    assert_eq!(pipeline.stats().held, 0);
}

fn conn_id(role: Role) -> ConnId {
    ConnId(if role == Role::Client { 1 } else { 2 })
}

fn thread(role: Role) -> Worker {
    let tgid = if role == Role::Client { 100 } else { 200 };
    Worker::new(tgid, tgid)
}

fn end_of_connection(role: Role, script: &Script, at: BootTime) -> Conn {
    let address = |port| Endpoint::Inet(([127, 0, 0, 1], port).into());
    let (client, server) = (address(40_000), address(script.port.unwrap_or(4711)));
    let (local, remote, wire) = match role {
        Role::Client => (client, server, WireBase { egress: 1000, ingress: 2000 }),
        Role::Server => (server, client, WireBase { egress: 2000, ingress: 1000 }),
    };
    Conn {
        at,
        id: conn_id(role),
        transport: Transport::Tcp,
        local,
        remote,
        netns: NetNs(1),
        role: Some(role),
        from_start: script.start == 0,
        thread: thread(role),
        comm: "fuzz".to_owned(),
        cgroup: CgroupId(1),
        wire: Some(wire),
        peer: None,
    }
}
