//! What is not over: from the traffic through the agent and its exporter to what `spoor-serve` says of the order.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use spoor::config::{Otlp, OtlpProtocol};
use spoor::export::{Host as Machine, Teller};
use spoor_core::pipeline::{OpenWork, Pipeline, Settings, TellSettings, What};
use spoor_core::privacy::pseudonym::Pseudonyms;
use spoor_core::record::Sender::{Client, Server};
use spoor_core::span::Span;
use spoor_core::time::BootTime;
use spoor_journeys::fold::{Hang, Journey, Reason, gather, journey, verdict};
use spoor_journeys::intake::{read, read_logs};
use spoor_journeys::model::{Model, Usual};
use spoor_journeys::time::At;
use spoor_tests::exporting::events;
use spoor_tests::sink::{Options, Sink};
use spoor_tests::transcript::{Covered, EPOCH, Host, Link, Process, wire};
use spoor_tests::whole_core::{settings, text};

const AFTER: TellSettings = TellSettings { after: Duration::from_secs(30), most: 64 };

/// A shop that is asked for an order, writes it, and asks the CRM, which does not answer.
struct Hanging {
    host: Host,
    shop: Process,
    crm: Process,
    back: Link,
    front: Link,
    given: usize,
    pipeline: Pipeline,
    now: BootTime,
}

impl Hanging {
    fn new(settings: Settings, orders: u32) -> Self {
        let mut host = Host::new();
        let (shop, crm, database) =
            (host.process(200, "shop"), host.process(300, "crm"), host.process(400, "postgresql"));
        let mut last = None;
        for order in 4711..4711 + orders {
            let (front, back) = (
                host.connect(Process(100), shop, 8080, Covered::Server),
                host.connect(shop, crm, 8081, Covered::Both),
            );
            let store = host.connect(shop, database, 5432, Covered::Both);
            let worker = shop.thread(order - 4710);
            let body = format!("{{\"order_id\": {order}, \"card\": \"4111 1111 1111 1111\"}}");
            host.send(
                front,
                Client,
                wire::request("POST", "/orders", "", &body),
                Process(100).thread(0),
                worker,
            );
            let sql = format!("INSERT INTO orders (id, quantity) VALUES ({order}, 3)");
            host.send(store, Client, wire::query(&sql), worker, database.thread(0));
            host.send(store, Server, wire::done("INSERT 0 1", b'I'), database.thread(0), worker);
            host.send(back, Client, wire::request("POST", "/api/confirm", "", &body), worker, crm.thread(1));
            last = Some((front, back));
        }
        let (front, back) = last.expect("an order");
        let pipeline = Pipeline::new(settings).expect("the rules compile");
        let mut hanging = Self { host, shop, crm, back, front, given: 0, pipeline, now: BootTime::ZERO };
        hanging.go_on(0);
        hanging
    }

    /// What was written since, and so many seconds.
    fn go_on(&mut self, seconds: u64) {
        for record in &self.host.records[self.given..] {
            self.pipeline.handle_record(record.clone());
        }
        self.given = self.host.records.len();
        self.host.wait_ms(seconds * 1000);
        self.now = self.host.now();
        self.pipeline.handle_timeout(self.now);
    }

    fn told(&mut self) -> Vec<OpenWork> {
        self.pipeline.tell_open(AFTER)
    }

    fn crm_answers(&mut self) {
        self.host.send(self.back, Server, wire::response(200, "{}"), self.crm.thread(1), self.shop.thread(1));
    }

    fn shop_answers(&mut self) {
        let reader = Process(100).thread(0);
        self.host.send(self.front, Server, wire::response(201, "{}"), self.shop.thread(1), reader);
    }

    fn spans(&mut self) -> Vec<Span> {
        self.pipeline.finish(self.now);
        std::iter::from_fn(|| self.pipeline.poll_span()).collect()
    }
}

/// `service kind name`, and since when and until when in seconds.
fn lines(told: &[OpenWork]) -> Vec<String> {
    let seconds = |at: spoor_core::time::WallTime| at.since(EPOCH).as_secs();
    let line = |told: &OpenWork| {
        let Span { kind, name, resource, start, end, .. } = &told.span;
        format!("{:?} {} {kind:?} {name} {}..{}", told.what, resource.service, seconds(*start), seconds(*end))
    };
    let mut lines: Vec<String> = told.iter().map(line).collect();
    lines.sort();
    lines
}

fn records(request: &ExportLogsServiceRequest) -> Vec<LogRecord> {
    let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    scopes.flat_map(|scope| &scope.log_records).cloned().collect()
}

#[test]
fn what_hangs_is_told_again_and_again_as_the_spans_that_come() {
    let mut hanging = Hanging::new(settings(), 1);
    hanging.go_on(29);
    assert_eq!(hanging.told(), [], "not for long enough");
    hanging.go_on(2);
    let first = hanging.told();
    let open =
        ["Open crm Server POST 0..31", "Open shop Client POST 0..31", "Open shop Server POST /orders 0..31"];
    assert_eq!(lines(&first), open, "the statement is over");
    assert!(first.iter().all(|told| text(&told.span, "order.id") == "4711"));
    hanging.go_on(30);
    assert_eq!(hanging.told(), [], "they know");
    hanging.go_on(31);
    assert_eq!(lines(&hanging.told()), open.map(|line| line.replace("..31", "..92")));
    hanging.crm_answers();
    hanging.go_on(5);
    let over = hanging.told();
    assert_eq!(lines(&over), ["Over crm Server POST 0..92", "Over shop Client POST 0..92"]);
    assert!(hanging.pipeline.poll_span().is_none(), "their tree is not over");
    hanging.shop_answers();
    hanging.go_on(60);
    assert_eq!(lines(&hanging.told()), ["Over shop Server POST /orders 0..97"]);
    let spans = hanging.spans();
    for told in first.iter().chain(&over) {
        let told = &told.span;
        let same = |span: &&Span| (span.trace_id, span.span_id) == (told.trace_id, told.span_id);
        let span = spans.iter().find(same).unwrap_or_else(|| panic!("no span for {told:#?}"));
        assert_eq!((span.start, span.kind, &span.name), (told.start, told.kind, &told.name));
        assert_eq!(span.resource, told.resource);
        // Why the shop asks is decided when it has been answered: nothing is said of it before.
        assert!(told.parent.is_none() || told.parent == span.parent, "{told:#?}");
    }
}

#[test]
fn what_belongs_to_no_order_or_is_not_exported_is_not_told() {
    let mut host = Host::new();
    let shop = host.process(200, "shop");
    let front = host.connect(Process(100), shop, 8080, Covered::Server);
    let asked = wire::request("GET", "/events", "", "");
    host.send(front, Client, asked, Process(100).thread(0), shop.thread(1));
    let mut pipeline = Pipeline::new(settings()).expect("the rules compile");
    host.records.into_iter().for_each(|record| pipeline.handle_record(record));
    pipeline.handle_timeout(BootTime::ZERO + Duration::from_secs(100));
    assert_eq!(pipeline.open(BootTime::MAX).len(), 1);
    assert_eq!(pipeline.tell_open(AFTER), []);
}

#[test]
fn the_oldest_are_told_and_those_beyond_the_bound_are_counted() {
    let mut hanging = Hanging::new(settings(), 5);
    hanging.go_on(40);
    let told = hanging.pipeline.tell_open(TellSettings { most: 6, ..AFTER });
    let mut orders: Vec<String> = told.iter().map(|told| text(&told.span, "order.id")).collect();
    orders.sort();
    assert_eq!(orders, ["4711", "4711", "4711", "4712", "4712", "4712"]);
    assert_eq!(hanging.pipeline.stats().forgotten.get("told_operations"), Some(&9));
}

#[test]
fn nothing_is_told_that_a_span_would_not_show() {
    let mut hanging = Hanging::new(settings(), 1);
    let pseudonyms = Pseudonyms::new(&["order.id".to_owned()], b"sixteen bytes or more");
    hanging.pipeline.set_export(Default::default(), pseudonyms);
    hanging.go_on(40);
    let told = hanging.told();
    assert_eq!(told.len(), 3);
    hanging.crm_answers();
    hanging.go_on(5);
    let told = [told, hanging.told()].concat();
    assert_eq!(told.iter().filter(|told| told.what == What::Over).count(), 2);
    let said = format!("{:?}", events(&told));
    assert!(!said.contains("4711") && !said.contains("4111"), "{said}");
    let spans = hanging.spans();
    let number = |span: &Span| text(span, "order.id");
    let numbers: Vec<String> = spans.iter().map(number).filter(|number| !number.is_empty()).collect();
    assert!(told.iter().all(|told| numbers.contains(&number(&told.span))), "{told:?}");
}

/// Waits until the sink was asked so often.
fn wait(sink: &Sink, requests: usize) {
    let end = Instant::now() + Duration::from_secs(20);
    while sink.logs().1 < requests {
        assert!(Instant::now() < end, "{} requests", sink.logs().1);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ways(sink: &Sink) -> [Otlp; 3] {
    let to = |endpoint, protocol| Otlp { endpoint, protocol: Some(protocol), ..Otlp::default() };
    [
        to(sink.grpc_url(), OtlpProtocol::Grpc),
        to(sink.http_url(), OtlpProtocol::HttpProtobuf),
        to(sink.http_url(), OtlpProtocol::HttpJson),
    ]
}

#[test]
fn events_arrive_by_every_way() {
    let mut hanging = Hanging::new(settings(), 1);
    hanging.go_on(40);
    let told = hanging.told();
    let expected = events(&told);
    assert!(records(&expected).iter().all(|record| record.event_name == "spoor.operation.open"));
    let sink = Sink::start();
    for (index, otlp) in ways(&sink).into_iter().enumerate() {
        let mut teller =
            Teller::start(&otlp, Machine::default(), None).expect("usable").expect("an endpoint");
        teller.tell(&told);
        wait(&sink, index + 1);
        assert_eq!(sink.logs().0.last(), Some(&expected), "{:?}", otlp.protocol);
        let end = Instant::now() + Duration::from_secs(20);
        while teller.totals().sent < 3 {
            assert!(Instant::now() < end, "{:?}", teller.totals());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!teller.is_vain());
    }
}

#[test]
fn who_takes_no_logs_is_asked_once() {
    let mut hanging = Hanging::new(settings(), 1);
    hanging.go_on(40);
    let told = hanging.told();
    let sink = Sink::with(Options { no_logs: true, ..Options::default() });
    for (index, otlp) in ways(&sink).into_iter().enumerate() {
        let mut teller =
            Teller::start(&otlp, Machine::default(), None).expect("usable").expect("an endpoint");
        // A receiver without gzip answers alike: gRPC asks once more without.
        let otlp = Otlp { compression: spoor::config::Compression::None, ..otlp };
        let mut plain =
            Teller::start(&otlp, Machine::default(), Some(&teller)).expect("usable").expect("one");
        for (teller, requests) in [(&mut teller, if index == 0 { 2 } else { 1 }), (&mut plain, 1)] {
            let before = sink.logs().1;
            teller.tell(&told);
            let end = Instant::now() + Duration::from_secs(20);
            while !teller.is_vain() {
                assert!(Instant::now() < end, "it does not hear that {:?} is in vain", otlp.protocol);
                std::thread::sleep(Duration::from_millis(10));
            }
            teller.tell(&told);
            teller.tell(&told);
            assert_eq!(sink.logs().1 - before, requests, "{:?}", otlp.protocol);
        }
        let totals = plain.totals();
        assert_eq!((totals.sent, totals.refused + totals.too_many), (0, 18), "{totals:?}");
    }
}

#[test]
fn nobody_is_told_unless_somebody_takes_spans_and_it_is_wanted() {
    let off = Otlp { endpoint: "http://127.0.0.1:9".to_owned(), open_work: false, ..Otlp::default() };
    let traces = Otlp { traces_endpoint: "http://127.0.0.1:9".to_owned(), ..Otlp::default() };
    for settings in [off, traces, Otlp::default()] {
        assert!(
            Teller::start(&settings, Machine::default(), None).expect("usable").is_none(),
            "{settings:?}"
        );
    }
}

/// The journey of the order by what was told and exported.
fn known(told: &[&[OpenWork]], spans: &[Span]) -> Journey {
    let names = ["order.id".to_owned()];
    let mut facts = Vec::new();
    for told in told {
        let read = read_logs(&events(told), &names);
        assert_eq!((read.no_order, read.invalid, read.unknown), (0, 0, 0));
        facts.extend(read.facts);
    }
    let spans = spoor::export::otlp::encode::request(spans, &Machine::default());
    facts.extend(read(&spans, &names).facts);
    journey(&gather(facts), &Model::default())
}

#[test]
fn the_order_says_who_hangs_and_since_when() {
    let mut hanging = Hanging::new(settings(), 1);
    hanging.go_on(40);
    let first = hanging.told();
    let at = |seconds: u64| At::from_unix_ns(EPOCH.as_nanos() + seconds * 1_000_000_000);
    let reason =
        |journey: &Journey, now| match verdict(journey, &Model::default(), &Usual::default(), now).reason {
            Reason::Hangs { service, on, since, .. } => Some((service, on, since < at(1))),
            _ => None,
        };
    let journey = known(&[&first], &[]);
    // The call waits for the CRM, which its parent says: of the two, the CRM hangs.
    let services: Vec<&str> = journey.open.iter().map(|open| open.service.as_str()).collect();
    assert_eq!(services, ["shop", "crm"], "{:#?}", journey.open);
    assert!(matches!(reason(&journey, at(41)), Some((_, Hang::Itself, true))));
    // Not told again, it is not known; told again, it is.
    assert_eq!(reason(&journey, at(40 + 181)), None);
    hanging.go_on(61);
    let second = hanging.told();
    assert!(reason(&known(&[&second, &first], &[]), at(40 + 181)).is_some());
    // The CRM answers; the shop still does not. No span has come.
    hanging.crm_answers();
    hanging.go_on(5);
    let over = hanging.told();
    let journey = known(&[&first, &over, &second], &[]);
    assert_eq!(reason(&journey, at(107)), Some(("shop".to_owned(), Hang::Itself, true)));
    hanging.shop_answers();
    hanging.go_on(5);
    let spans = hanging.spans();
    let journey = known(&[&first, &over, &second], &spans);
    assert_eq!(journey.open, []);
}
