//! What must not leave does not: marked secrets through every protocol, searched for in every output.
//!
//! Long because the same traffic goes into every output.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

use prost::Message;
use spoor::config::{Export, Otlp, Privacy};
use spoor::export::file::JsonLines;
use spoor::export::otlp::encode;
use spoor::export::tree::{Style, TreePrinter};
use spoor::export::{Exporter, Host as Machine};
use spoor::metrics::durations::Durations;
use spoor::metrics::prometheus::{Format, Page};
use spoor::source::recording::scrub::scrub;
use spoor::source::recording::{Contents, Header, Writer};
use spoor_core::order::settings::Order;
use spoor_core::pipeline::{Pipeline, Settings};
use spoor_core::privacy::pseudonym::Pseudonyms;
use spoor_core::protocol::Protocol;
use spoor_core::record::Record;
use spoor_core::record::Sender::{Client, Server};
use spoor_core::settings::Sampling;
use spoor_core::span::Span;
use spoor_core::span::sample::Sampler;
use spoor_core::time::BootTime;
use spoor_core::trace::Value;
use spoor_tests::spoor::spoor;
use spoor_tests::transcript::{Covered, Host, wire};
use spoor_tests::whole_core;

/// Every secret contains this.
const MARK: &str = "zq9secret";
/// Personal data that carries no mark: it is recognised by its form.
const PERSONAL: [&str; 5] = [
    "jane.roe@example.org",
    "jane.roe%40example.org",
    "4111 1111 1111 1111",
    "4111111111111111",
    "+4915112345678",
];

fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

fn long(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text].concat()
}

fn http(host: &mut Host) {
    let (shopper, shop) = (host.process(100, "browser"), host.process(200, "shop"));
    let link = host.connect(shopper, shop, 8080, Covered::Both);
    let (a, b) = (shopper.thread(0), shop.thread(0));
    let headers = format!(
        "Authorization: Bearer {MARK}1\r\nCookie: sid={MARK}2; u=jane.roe@example.org\r\nX-Api-Key: {MARK}3\r\n\
         Proxy-Authorization: Basic {MARK}4\r\nX-Customer: jane.roe@example.org\r\nUser-Agent: curl (jane.roe@example.org)\r\n\
         X-Csrf-Token: {MARK}5\r\nReferer: https://a/?token={MARK}6\r\n"
    );
    let body = format!(
        r#"{{"order_id": 17, "password": "{MARK}7", "email": "jane.roe@example.org", "card": "4111 1111 1111 1111",
            "phone": "+4915112345678", "note": "{MARK}8", "nested": {{"token": "{MARK}9"}}}}"#
    );
    let target = format!(
        "/orders/17?access_token={MARK}10&email=jane.roe%40example.org&card=4111111111111111&sig={MARK}11&password={MARK}12"
    );
    host.send(link, Client, wire::request("POST", &target, &headers, &body), a, b);
    let answer =
        format!("{{\"order_id\": 17, \"session\": \"{MARK}13\", \"mail\": \"jane.roe@example.org\"}}");
    let answer = format!(
        "HTTP/1.1 500 X\r\nSet-Cookie: sid={MARK}14\r\nWWW-Authenticate: Basic realm=\"{MARK}15\"\r\n\
         Content-Length: {}\r\n\r\n{answer}",
        answer.len()
    );
    host.send(link, Server, answer, b, a);
    let form = format!("order_id=18&password={MARK}16&email=jane.roe%40example.org");
    let request = format!(
        "POST http://user:{MARK}17@shop/orders/18 HTTP/1.1\r\nHost: shop\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    );
    host.send(link, Client, request, a, b);
    host.send(link, Server, wire::response(200, "{}"), b, a);
    let personal = "/customers/jane.roe@example.org/cards/4111111111111111";
    host.send(link, Client, wire::request("GET", personal, "", ""), a, b);
    host.send(link, Server, wire::response(404, ""), b, a);
    host.close(link);
}

fn amqp(host: &mut Host) {
    let (crm, broker, mes) =
        (host.process(300, "crm"), host.process(400, "rabbitmq"), host.process(500, "mes"));
    let link = host.connect(crm, broker, 5672, Covered::Both);
    let (a, b) = (crm.thread(0), broker.thread(0));
    host.send(link, Client, wire::AMQP_HELLO, a, b);
    let start = [&[0, 10, 0, 10, 0, 9, 0, 0, 0, 0][..], &long(b"PLAIN"), &long(b"en_US")].concat();
    host.send(link, Server, wire::frame(1, 0, &start), b, a);
    let response = format!("\0app\0{MARK}20");
    let table = [short("token"), b"S".to_vec(), long(format!("{MARK}21").as_bytes())].concat();
    let start_ok =
        [&[0, 10, 0, 11][..], &long(&table), &short("PLAIN"), &long(response.as_bytes()), &short("en_US")]
            .concat();
    host.send(link, Client, wire::frame(1, 0, &start_ok), a, b);
    let body = format!(r#"{{"order_id": 17, "password": "{MARK}22", "email": "jane.roe@example.org"}}"#);
    host.send(link, Client, wire::frame(1, 1, &[0, 60, 0, 40, 0, 0, 0, 0, 0]), a, b);
    // Content header with a table of headers and a message ID that is personal.
    let headers = [short("x-secret"), b"S".to_vec(), long(format!("{MARK}23").as_bytes())].concat();
    let mut content = [60u16.to_be_bytes(), 0u16.to_be_bytes()].concat();
    content.extend((body.len() as u64).to_be_bytes());
    content.extend((0x2000u16 | 0x0080).to_be_bytes());
    content.extend(long(&headers));
    content.extend(short("jane.roe@example.org"));
    host.send(link, Client, [wire::frame(2, 1, &content), wire::frame(3, 1, body.as_bytes())].concat(), a, b);
    host.send(link, Client, wire::publish(1, "orders", "order.created", "m-17", &body), a, b);
    let consumer = host.connect(mes, broker, 5672, Covered::Both);
    let c = mes.thread(0);
    host.send(consumer, Client, [wire::AMQP_HELLO, &wire::consume(1, "mes.orders")].concat(), c, b);
    host.send(consumer, Server, wire::consume_ok(1), b, c);
    host.send(consumer, Server, wire::deliver(1, 1, "orders", "order.created", "m-17", &body), b, c);
    host.send(consumer, Client, wire::ack(1, 1), c, b);
    host.close(consumer);
    host.close(link);
}

fn postgres(host: &mut Host) {
    let (shop, db) = (host.process(200, "shop"), host.process(600, "postgresql"));
    let link = host.connect(shop, db, 5432, Covered::Both);
    let (a, b) = (shop.thread(0), db.thread(0));
    let mut startup = 196_608u32.to_be_bytes().to_vec();
    startup.extend(format!("user\0app\0database\0shop\0application_name\0{MARK}30\0\0").as_bytes());
    host.send(link, Client, [&(startup.len() as u32 + 4).to_be_bytes()[..], &startup].concat(), a, b);
    host.send(link, Server, wire::pg(b'R', &3u32.to_be_bytes()), b, a);
    host.send(link, Client, wire::pg(b'p', format!("{MARK}31\0").as_bytes()), a, b);
    let ready = wire::pg(b'Z', b"I");
    let secret_key = [7u32.to_be_bytes(), *b"zq9s"].concat();
    host.send(
        link,
        Server,
        [wire::pg(b'R', &0u32.to_be_bytes()), wire::pg(b'K', &secret_key), ready.clone()].concat(),
        b,
        a,
    );
    let sql = format!(
        "UPDATE orders SET note = '{MARK}32', email = 'jane.roe@example.org', card = $${MARK}33$$ WHERE id = 17 /* {MARK}34 */"
    );
    host.send(link, Client, wire::query(&sql), a, b);
    host.send(link, Server, wire::done("UPDATE 1", b'I'), b, a);
    host.send(link, Client, wire::query(&format!("ALTER USER app PASSWORD '{MARK}35'")), a, b);
    host.send(link, Server, wire::done("ALTER ROLE", b'I'), b, a);
    // Extended query with parameters, a row and an error whose texts quote values.
    let parse = wire::pg(b'P', b"\0SELECT token FROM orders WHERE id = $1 AND token = $2\0\0\0");
    let mut bind = b"\0\0\0\0\0\x02".to_vec();
    for value in ["17", &format!("{MARK}36")] {
        bind.extend(long(value.as_bytes()));
    }
    bind.extend([0, 0]);
    let batch = [
        parse,
        wire::pg(b'B', &bind),
        wire::pg(b'D', b"P\0"),
        wire::pg(b'E', b"\0\0\0\0\0"),
        wire::pg(b'S', b""),
    ];
    host.send(link, Client, batch.concat(), a, b);
    let mut columns = 1u16.to_be_bytes().to_vec();
    columns.extend(b"token\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
    let row = [&1u16.to_be_bytes()[..], &long(format!("{MARK}37").as_bytes())].concat();
    let answer = [
        wire::pg(b'1', b""),
        wire::pg(b'2', b""),
        wire::pg(b'T', &columns),
        wire::pg(b'D', &row),
        wire::pg(b'C', b"SELECT 1\0"),
        ready.clone(),
    ];
    host.send(link, Server, answer.concat(), b, a);
    host.send(link, Client, wire::query("INSERT INTO customers SELECT 1"), a, b);
    let error = format!(
        "SERROR\0C23505\0Mduplicate key value \"{MARK}38\"\0DKey (email)=({MARK}39) already exists.\0H{MARK}40\0Wat '{MARK}41'\0\0"
    );
    host.send(link, Server, [wire::pg(b'E', error.as_bytes()), ready.clone()].concat(), b, a);
    host.send(link, Client, wire::query("COPY orders FROM STDIN"), a, b);
    host.send(link, Server, wire::pg(b'G', &[0, 0, 0]), b, a);
    let copied = [wire::pg(b'd', format!("17\t{MARK}42\n").as_bytes()), wire::pg(b'c', b"")].concat();
    host.send(link, Client, copied, a, b);
    host.send(link, Server, wire::done("COPY 1", b'I'), b, a);
    host.close(link);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream][..], payload].concat()
}

/// A header block after such first octets, every field of which enters the table.
fn block(first: &[u8], fields: &[(&str, &str)]) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| [&[0x40][..], &short(name), &short(value)].concat();
    [first.to_vec(), fields.iter().flat_map(field).collect()].concat()
}

fn http2(host: &mut Host) {
    let (shop, crm) = (host.process(200, "shop"), host.process(300, "crm"));
    let link = host.connect(shop, crm, 50051, Covered::Both);
    let (a, b) = (shop.thread(0), crm.thread(0));
    let path = format!("/orders/17?access_token={MARK}70&email=jane.roe%40example.org");
    let (token, cookie) = (format!("Bearer {MARK}71"), format!("sid={MARK}72"));
    let fields = [
        (":path", path.as_str()),
        ("authorization", token.as_str()),
        ("cookie", cookie.as_str()),
        ("x-customer", "jane.roe@example.org"),
        ("content-type", "application/json"),
    ];
    let body = format!(r#"{{"order_id": 17, "password": "{MARK}73", "card": "4111111111111111"}}"#);
    let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, b"")].concat();
    let request = [frame(1, 4, 1, &block(&[0x83, 0x86], &fields)), frame(0, 1, 1, body.as_bytes())];
    host.send(link, Client, [hello, request.concat()].concat(), a, b);
    let (cookie, told) = (format!("sid={MARK}74"), format!("no card {MARK}75"));
    let fields = [("set-cookie", cookie.as_str()), ("grpc-message", told.as_str())];
    let answer = [frame(1, 4, 1, &block(&[0x8e], &fields)), frame(0, 1, 1, format!("{MARK}76").as_bytes())];
    host.send(link, Server, [frame(4, 0, 0, b""), answer.concat()].concat(), b, a);
    host.close(link);
}

/// What a web server tells an application of a request: variables that SCGI and uwsgi begin with, too.
fn variables(body: &str) -> Vec<(&'static str, String)> {
    let query = format!("access_token={MARK}80&email=jane.roe%40example.org");
    vec![
        ("CONTENT_LENGTH", body.len().to_string()),
        ("SCGI", "1".to_owned()),
        ("REQUEST_METHOD", "POST".to_owned()),
        ("REQUEST_URI", format!("/orders/17?{query}")),
        ("QUERY_STRING", query),
        ("CONTENT_TYPE", "application/json".to_owned()),
        ("HTTP_HOST", "shop".to_owned()),
        ("HTTP_AUTHORIZATION", format!("Bearer {MARK}81")),
        ("HTTP_COOKIE", format!("sid={MARK}82")),
        ("HTTP_X_CUSTOMER", "jane.roe@example.org".to_owned()),
        ("REMOTE_USER", "jane.roe@example.org".to_owned()),
        ("PHP_AUTH_PW", format!("{MARK}83")),
        ("DB_PASSWORD", format!("{MARK}84")),
    ]
}

fn gateway_body() -> String {
    format!(r#"{{"order_id": 17, "password": "{MARK}85", "phone": "+4915112345678"}}"#)
}

fn gateway_answer() -> String {
    format!(
        "Status: 500 Internal Server Error\r\nSet-Cookie: sid={MARK}86\r\nContent-Type: application/json\r\n\r\n\
         {{\"order_id\": 17, \"session\": \"{MARK}87\", \"mail\": \"jane.roe@example.org\"}}"
    )
}

/// One request to an application, which answers and closes.
fn gateway(host: &mut Host, port: u16, request: Vec<u8>, answer: Vec<u8>) {
    let (web, app) = (host.process(700, "nginx"), host.process(800, "app"));
    let link = host.connect(web, app, port, Covered::Both);
    let (a, b) = (web.thread(0), app.thread(0));
    host.send(link, Client, request, a, b);
    host.send(link, Server, answer, b, a);
    host.close(link);
}

fn fastcgi(host: &mut Host) {
    let record = |kind: u8, content: &[u8]| {
        let [high, low] = (content.len() as u16).to_be_bytes();
        [&[1, kind, 0, 1, high, low, 0, 0][..], content].concat()
    };
    let body = gateway_body();
    let pair = |(name, value): &(&'static str, String)| {
        [&[name.len() as u8, value.len() as u8][..], name.as_bytes(), value.as_bytes()].concat()
    };
    let pairs: Vec<u8> = variables(&body).iter().flat_map(pair).collect();
    let begin = record(1, &[0, 1, 0, 0, 0, 0, 0, 0]);
    let request = [begin, record(4, &pairs), record(4, b""), record(5, body.as_bytes()), record(5, b"")];
    let log = format!("PHP message: no user jane.roe@example.org, {MARK}88");
    let answer = [record(7, log.as_bytes()), record(6, gateway_answer().as_bytes()), record(3, &[0; 8])];
    gateway(host, 9000, request.concat(), answer.concat());
}

fn scgi(host: &mut Host) {
    let body = gateway_body();
    let block: String = variables(&body).iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
    let request = format!("{}:{block},{body}", block.len());
    gateway(host, 4000, request.into_bytes(), gateway_answer().into_bytes());
}

fn uwsgi(host: &mut Host) {
    let string = |text: &str| [&(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
    let body = gateway_body();
    let pair = |(name, value): &(&'static str, String)| [string(name), string(value)].concat();
    let block: Vec<u8> = variables(&body).iter().flat_map(pair).collect();
    let [low, high] = (block.len() as u16).to_le_bytes();
    let request = [&[0, low, high, 0][..], &block, body.as_bytes()].concat();
    gateway(host, 3031, request, gateway_answer().into_bytes());
}

/// Traffic of a protocol with secrets wherever it has room for them. For a new one, the compiler asks for it here.
fn secrets(protocol: Protocol) -> fn(&mut Host) {
    match protocol {
        Protocol::Http1 => http,
        Protocol::Http2 => http2,
        Protocol::Amqp => amqp,
        Protocol::Postgres => postgres,
        Protocol::FastCgi => fastcgi,
        Protocol::Scgi => scgi,
        Protocol::Uwsgi => uwsgi,
    }
}

fn traffic() -> Vec<Record> {
    let mut host = Host::new();
    Protocol::ALL.into_iter().for_each(|protocol| secrets(protocol)(&mut host));
    host.records
}

fn settings() -> Settings {
    Settings {
        spans: spoor_core::order::settings::Spans {
            // Asked for, and still without their values.
            request_headers: vec!["x-customer".to_owned(), "referer".to_owned()],
            ..Default::default()
        },
        ..whole_core::settings()
    }
}

fn spans_of(pipeline: Pipeline, records: Vec<Record>) -> Vec<Span> {
    let mut pipeline = pipeline;
    let end = records.last().map_or(BootTime::ZERO, Record::at) + Duration::from_secs(600);
    records.into_iter().for_each(|record| pipeline.handle_record(record));
    pipeline.handle_timeout(end);
    pipeline.finish(end);
    std::iter::from_fn(|| pipeline.poll_span()).collect()
}

fn spans() -> Vec<Span> {
    spans_of(Pipeline::new(settings()).unwrap(), traffic())
}

#[track_caller]
fn clean(what: &str, output: &[u8]) {
    let text = String::from_utf8_lossy(output);
    let around = |at: usize| {
        let from = text.floor_char_boundary(at.saturating_sub(150));
        text[from..text.ceil_char_boundary((at + 60).min(text.len()))].to_owned()
    };
    for secret in PERSONAL.iter().chain(&[MARK]) {
        if let Some(at) = text.find(secret) {
            panic!("`{secret}` is in {what}: …{}…", around(at));
        }
    }
}

fn all_files(directory: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(directory).unwrap().flatten();
    files.flat_map(|file| std::fs::read(file.path()).unwrap()).collect()
}

fn recording(directory: &Path, scrubbed: bool) -> std::path::PathBuf {
    let path = directory.join("traffic.spoor");
    let contents = if scrubbed { Contents::Scrubbed } else { Contents::Raw };
    let header = Header { contents, ..Header::default() };
    let mut writer = Writer::new(BufWriter::new(File::create(&path).unwrap()), &header).unwrap();
    for mut record in traffic() {
        if scrubbed {
            scrub(&mut record);
        }
        writer.write(&record).unwrap();
    }
    writer.flush().unwrap();
    path
}

#[test]
fn no_secret_is_in_spans_trees_json_or_metrics() {
    let mut pipeline = Pipeline::new(settings()).unwrap();
    traffic().into_iter().for_each(|record| pipeline.handle_record(record));
    pipeline.finish(BootTime::from_nanos(u64::MAX / 2));
    // The traffic was understood: silence would be clean too.
    let operations = pipeline.stats().operations;
    for protocol in Protocol::ALL {
        assert!(operations[protocol] > 0, "no operation of {protocol:?}: {operations:?}");
    }
    let spans = spans();
    let named = |name: &str| spans.iter().filter(|span| span.name.starts_with(name)).count();
    for name in [
        "POST /orders/{order_id}",
        "publish orders",
        "process orders",
        "UPDATE orders",
        "SELECT orders",
        "COPY",
    ] {
        assert!(
            named(name) > 0,
            "no span `{name}`: {:?}",
            spans.iter().map(|span| &span.name).collect::<Vec<_>>()
        );
    }
    let order = |span: &&Span| span.attributes.get("order.id") == Some(&Value::Text("17".into()));
    assert!(spans.iter().filter(order).count() >= 6);

    let machine = Machine::default();
    clean("OTLP", &encode::request(&spans, &machine).encode_to_vec());
    let mut lines = JsonLines::new(Vec::new(), machine);
    let mut tree = TreePrinter::new(Vec::new(), Style::default(), Duration::ZERO);
    let mut durations = Durations::default();
    for span in &spans {
        durations.observe(span);
        clean("a span's debug text", format!("{span:?}").as_bytes());
    }
    for (format, what) in [(Format::Text, "Prometheus"), (Format::OpenMetrics, "OpenMetrics")] {
        let mut page = Page::new(format);
        page.durations(&durations.series());
        let page = page.finish();
        assert!(page.contains("http_server_request_duration_seconds_count"));
        clean(what, page.as_bytes());
        assert!(!page.contains("order_id=\"") && !page.contains("=\"17\""), "an order is a label: {page}");
    }
    for span in spans {
        lines.push(span.clone()).unwrap();
        tree.push(span, Duration::ZERO).unwrap();
    }
    lines.flush().unwrap();
    tree.tick(Duration::MAX).unwrap();
}

#[test]
fn no_secret_is_in_the_spool() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = Export {
        otlp: Otlp { endpoint: "http://127.0.0.1:1".to_owned(), metrics: false, ..Otlp::default() },
        ..Export::default()
    };
    settings.spool.directory = directory.path().to_str().unwrap().to_owned();
    let exporter = Exporter::start(&settings, Machine::default()).unwrap().unwrap();
    spans().iter().for_each(|span| exporter.offer(span));
    let totals = exporter.shutdown(Duration::from_secs(5));
    assert!(totals.spooled > 10, "{totals:?}");
    let spool = all_files(directory.path());
    assert!(spool.windows(8).any(|window| window == b"order.id"), "the spool holds spans");
    clean("the spool", &spool);
}

/// Connections that go on, with everything on them that is kept for the next run: named statements, consumers, HTTP/2.
fn connections_that_go_on() -> Vec<Record> {
    let mut host = Host::new();
    amqp(&mut host);
    postgres(&mut host);
    let (shop, db) = (host.process(200, "shop"), host.process(600, "postgresql"));
    let link = host.connect(shop, db, 5432, Covered::Both);
    let (a, b) = (shop.thread(0), db.thread(0));
    for (name, text) in [
        (
            "s1",
            format!(
                "UPDATE orders SET note = '{MARK}60' WHERE email = 'jane.roe@example.org' /* {MARK}61 */"
            ),
        ),
        (
            "s2",
            format!("UPDATE orders SET note = $1 WHERE email = 'jane.roe@example.org' AND x = '{MARK}62'"),
        ),
        ("jane.roe@example.org", "SELECT 1".to_owned()),
    ] {
        let parse = wire::pg(b'P', format!("{name}\0{text}\0\0\0").as_bytes());
        host.send(link, Client, [parse, wire::pg(b'S', b"")].concat(), a, b);
        host.send(link, Server, [wire::pg(b'1', b""), wire::pg(b'Z', b"I")].concat(), b, a);
    }
    let crm = host.process(300, "crm");
    let link = host.connect(shop, crm, 50051, Covered::Both);
    let fields = [
        (":path", "/shop.Orders/Create"),
        ("authorization", "Bearer zq9secret63"),
        ("cookie", "session=zq9secret64"),
        ("x-customer", "jane.roe@example.org"),
    ];
    let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, b"")].concat();
    host.send(link, Client, [hello, frame(1, 5, 1, &block(&[0x83, 0x86], &fields))].concat(), a, b);
    host.send(link, Server, [frame(4, 0, 0, b""), frame(1, 5, 1, &[0x88])].concat(), b, a);
    host.records.into_iter().filter(|record| !matches!(record, Record::Close(_))).collect()
}

#[test]
fn no_secret_is_in_what_is_kept_for_the_next_run() {
    let mut pipeline = Pipeline::new(settings()).unwrap();
    connections_that_go_on().into_iter().for_each(|record| pipeline.handle_record(record));
    let kept = pipeline.snapshot();
    let file = spoor::run::state::file::encode(&kept).unwrap();
    clean("what is kept for the next run", &file);
    // It was kept: silence would be clean too.
    for text in [
        "UPDATE orders SET note = ? WHERE email = ?",
        "UPDATE orders SET note = $1 WHERE email = ? AND x = ?",
        "mes.orders",
        "/shop.Orders/Create",
        "authorization",
    ] {
        assert!(String::from_utf8_lossy(&file).contains(text), "`{text}`: {kept:#?}");
    }
}

#[test]
fn no_secret_is_printed_or_logged_at_any_level() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path(), false);
    let file = file.to_str().unwrap();
    for print in ["tree", "otlp-json"] {
        let said = spoor(&["replay", file, "--print", print, "--log", "trace"], &[("RUST_BACKTRACE", "1")]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.contains("17"), "{}", said.out);
        clean("standard output", said.out.as_bytes());
        clean("the log", said.err.as_bytes());
    }
    // An endpoint with credentials that cannot be reached.
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer zq9secret-header"),
        ("SPOOR_PRIVACY_HASH", "[order.id]"),
        ("SPOOR_PRIVACY_HASH_SECRET", "zq9secret-of-sixteen-bytes"),
    ];
    let said = spoor(&["replay", file, "--log", "trace", "--timeout", "1s"], &environment);
    clean("the log of a failing export", format!("{said:?}").as_bytes());
}

#[test]
fn recordings_say_whether_they_are_raw_and_scrubbed_ones_hold_no_traffic() {
    let directory = tempfile::tempdir().unwrap();
    let raw = std::fs::read(recording(directory.path(), false)).unwrap();
    let has = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(&raw, MARK.as_bytes()) && has(&raw[..200], b"raw"));
    let path = recording(directory.path(), true);
    let scrubbed = std::fs::read(&path).unwrap();
    assert!(has(&scrubbed[..200], b"scrubbed"));
    clean("a scrubbed recording", &scrubbed);
    let said = spoor(&["replay", path.to_str().unwrap()], &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

fn hashed(names: &[&str], records: Vec<Record>) -> Vec<Span> {
    let privacy =
        Privacy { hash: names.iter().map(|name| (*name).to_owned()).collect(), ..Privacy::default() };
    let pseudonyms = Pseudonyms::new(&privacy.hash, b"sixteen bytes or more");
    spans_of(Pipeline::new(settings()).unwrap().with_pseudonyms(pseudonyms), records)
}

/// An order through shop and CRM, over HTTP, with its number in path, query, body and statement.
fn order(number: u32) -> Vec<Record> {
    let mut host = Host::new();
    let (shopper, shop, crm) =
        (host.process(100, "browser"), host.process(200, "shop"), host.process(300, "crm"));
    let db = host.process(400, "postgresql");
    let front = host.connect(shopper, shop, 8080, Covered::Both);
    let back = host.connect(shop, crm, 8081, Covered::Both);
    let store = host.connect(shop, db, 5432, Covered::Both);
    let (a, b, c, d) = (shopper.thread(0), shop.thread(1), crm.thread(0), db.thread(0));
    let body = format!("{{\"order_id\": {number}, \"user_id\": 88123}}");
    let target = format!("/orders/{number}/model?order_id={number}&ref=x-{number}");
    host.send(front, Client, wire::request("POST", &target, "", &body), a, b);
    host.send(store, Client, wire::query(&format!("UPDATE orders SET a = 1 WHERE id = {number}")), b, d);
    host.send(store, Server, wire::done("UPDATE 1", b'I'), d, b);
    host.send(back, Client, wire::request("POST", &format!("/orders/{number}"), "", &body), b, c);
    host.send(back, Server, wire::response(200, "{}"), c, b);
    host.send(front, Server, wire::response(201, "{}"), b, a);
    for link in [front, back, store] {
        host.close(link);
    }
    host.records
}

#[test]
fn hashed_orders_keep_their_joins_and_their_one_trace() {
    let number = 470_811;
    let plain = spans_of(Pipeline::new(settings()).unwrap(), order(number));
    let hashed = hashed(&["order.id", "user.id"], order(number));
    assert_eq!(plain.len(), hashed.len());
    let shape = |spans: &[Span]| -> Vec<_> {
        let mut shape: Vec<_> = spans
            .iter()
            .map(|span| (span.span_id, span.parent, span.kind, span.evidence.map(|evidence| evidence.rule)))
            .collect();
        shape.sort_by_key(|span| span.0);
        shape
    };
    assert_eq!(shape(&plain), shape(&hashed));
    let trace = hashed[0].trace_id;
    assert!(hashed.iter().all(|span| span.trace_id == trace), "one order, one trace");
    assert_ne!(plain[0].trace_id, trace, "a trace identifier does not give its order away");
    let id = hashed[0].attributes.get("order.id").cloned();
    assert!(
        matches!(&id, Some(Value::Text(id)) if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())),
        "{id:?}"
    );
    assert!(hashed.iter().all(|span| span.attributes.get("order.id") == id.as_ref()));
    let encoded = encode::request(&hashed, &Machine::default()).encode_to_vec();
    for secret in ["470811", "88123"] {
        assert!(
            encode::request(&plain, &Machine::default())
                .encode_to_vec()
                .windows(secret.len())
                .any(|w| w == secret.as_bytes())
        );
        let text = String::from_utf8_lossy(&encoded);
        assert!(!text.contains(secret), "{secret} is exported: {hashed:#?}");
    }
}

#[test]
fn sampled_orders_are_whole_and_the_same_everywhere() {
    let order = Order::default();
    assert!(!order.keys.is_empty());
    let keep = |ratio, orders: &[&str], number| {
        let sampling = Sampling { ratio, orders: orders.iter().map(|order| (*order).to_owned()).collect() };
        let pipeline = Pipeline::new(settings()).unwrap().with_sampler(Sampler::new(&sampling));
        let spans = spans_of(pipeline, self::order(number));
        let kept: Vec<bool> = spans.iter().map(|span| span.sampled).collect();
        assert!(
            !kept.is_empty() && kept.iter().all(|one| *one == kept[0]),
            "order {number} is in pieces: {kept:?}"
        );
        kept[0]
    };
    let half: Vec<bool> = (1..60).map(|number| keep(0.5, &[], number)).collect();
    let kept = half.iter().filter(|kept| **kept).count();
    assert!((15..45).contains(&kept), "{kept} of 59");
    assert!(keep(0.0, &["23"], 23) && !keep(0.0, &["23"], 24));
}
