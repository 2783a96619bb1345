//! Messages that lie in a queue: from the traffic through the agent and its exporter to what `spoor-serve` says of the order.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use spoor::export::Host as Machine;
use spoor::export::otlp::encode::Batcher;
use spoor_core::pipeline::{OpenWork, Pipeline, Settings, TellSettings, What};
use spoor_core::privacy::pseudonym::Pseudonyms;
use spoor_core::record::Record;
use spoor_core::record::Sender::{Client, Server};
use spoor_core::span::Span;
use spoor_core::trace::Value;
use spoor_journeys::fold::{Reason, gather, journey, verdict};
use spoor_journeys::intake::{read, read_logs};
use spoor_journeys::model::{Model, Usual};
use spoor_journeys::time::At;
use spoor_tests::transcript::{Covered, EPOCH, Host, Link, Process, wire};
use spoor_tests::whole_core::{settings, text};

const AFTER: TellSettings = TellSettings { after: Duration::from_secs(30), most: 64 };

/// A CRM that publishes orders, a broker, and an MES that takes them.
struct Hall {
    host: Host,
    crm: Process,
    broker: Process,
    mes: Process,
    input: Link,
    output: Link,
    given: usize,
    pipeline: Pipeline,
}

impl Hall {
    fn new(settings: Settings) -> Self {
        let mut host = Host::new();
        let (crm, broker, mes) =
            (host.process(300, "crm"), host.process(500, "rabbitmq"), host.process(600, "mes"));
        let input = host.connect(crm, broker, 5672, Covered::Both);
        let output = host.connect(mes, broker, 5672, Covered::Both);
        host.send(input, Client, wire::AMQP_HELLO, crm.thread(0), broker.thread(0));
        let pipeline = Pipeline::new(settings).expect("the rules compile");
        let mut hall = Self { host, crm, broker, mes, input, output, given: 0, pipeline };
        hall.consume();
        hall
    }

    fn consume(&mut self) {
        self.host.consume(self.output, "mes.orders", self.mes.thread(0), self.broker.thread(0));
    }

    fn publish(&mut self, order: u32) {
        let (from, via) = (self.crm.thread(0), self.broker.thread(0));
        let body = format!("{{\"order_id\": {order}}}");
        let bytes = wire::publish(1, "orders", "new", &format!("m-{order}"), &body);
        self.host.send(self.input, Client, bytes, from, via);
        self.host.wait_ms(5);
    }

    fn deliver(&mut self, order: u32, tag: u64) {
        let body = format!("{{\"order_id\": {order}}}");
        let bytes = wire::deliver(1, tag, "orders", "new", &format!("m-{order}"), &body);
        self.host.send(self.output, Server, bytes, self.broker.thread(0), self.mes.thread(0));
        self.host.wait_ms(5);
    }

    fn ack(&mut self, tag: u64) {
        self.host.send(self.output, Client, wire::ack(1, tag), self.mes.thread(0), self.broker.thread(0));
        self.host.wait_ms(5);
    }

    /// The MES is started anew.
    fn consumer_comes(&mut self) {
        self.output = self.host.connect(self.mes, self.broker, 5672, Covered::Both);
        self.consume();
    }

    fn go_on(&mut self, seconds: u64) {
        for record in &self.host.records[self.given..] {
            self.pipeline.handle_record(record.clone());
        }
        self.given = self.host.records.len();
        for _ in 0..seconds {
            self.host.wait_ms(1000);
            self.pipeline.handle_timeout(self.host.now());
        }
    }

    /// `order queue consumers`, and for how many seconds, of the messages that are told to lie in a queue.
    fn lying(&mut self) -> Vec<String> {
        lines(&self.pipeline.tell_open(AFTER))
    }

    fn spans(&mut self) -> Vec<Span> {
        self.pipeline.finish(self.host.now());
        std::iter::from_fn(|| self.pipeline.poll_span()).collect()
    }
}

fn lines(told: &[OpenWork]) -> Vec<String> {
    let waits = told.iter().filter(|told| told.what == What::Waiting).map(|told| &told.span);
    let line = |span: &Span| {
        let consumers = match span.attributes.get("spoor.message.consumers") {
            Some(Value::Int(count)) => count.to_string(),
            other => format!("{other:?}"),
        };
        let (order, queue) = (text(span, "order.id"), text(span, "spoor.message.queue"));
        format!("{order} {queue} {consumers} {}", span.end.since(span.start).as_secs())
    };
    waits.map(line).collect()
}

fn request(told: &[OpenWork]) -> ExportLogsServiceRequest {
    let mut batcher = Batcher::new(Machine::default(), usize::MAX);
    told.iter().for_each(|event| _ = batcher.push_event(event));
    let payload = batcher.take().map(|request| request.payload).unwrap_or_default();
    ExportLogsServiceRequest::decode(payload.as_slice()).expect("OTLP")
}

/// One order went its way; the MES has it.
fn hall_with_history(settings: Settings) -> Hall {
    let mut hall = Hall::new(settings);
    hall.publish(17);
    hall.deliver(17, 1);
    hall.ack(1);
    hall
}

#[test]
fn a_message_that_nobody_takes_is_told_again_and_again_until_somebody_does() {
    let mut hall = hall_with_history(settings());
    hall.host.close(hall.output);
    hall.publish(18);
    hall.go_on(29);
    assert_eq!(hall.lying(), [] as [&str; 0], "not for long enough");
    hall.go_on(2);
    let first = hall.pipeline.tell_open(AFTER);
    assert_eq!(lines(&first), ["18 mes.orders 0 31"]);
    hall.go_on(30);
    assert_eq!(hall.lying(), [] as [&str; 0], "they know");
    hall.go_on(31);
    assert_eq!(hall.lying(), ["18 mes.orders 0 92"]);
    hall.consumer_comes();
    hall.deliver(18, 1);
    hall.go_on(70);
    assert_eq!(hall.lying(), [] as [&str; 0], "somebody has it");
    hall.ack(1);
    hall.go_on(70);
    assert_eq!(hall.lying(), [] as [&str; 0]);

    // What was told has the identifiers of the publish, and the order's page says where it is and, in the end, that it was taken.
    let spans = hall.spans();
    let publish =
        spans.iter().find(|span| span.name == "publish orders:new" && text(span, "order.id") == "18");
    let (publish, told) = (publish.expect("a publish"), &first[0].span);
    assert_eq!((told.trace_id, told.span_id, told.kind), (publish.trace_id, publish.span_id, publish.kind));
    let names = ["order.id".to_owned()];
    let events = read_logs(&request(&first), &names);
    assert_eq!((events.no_order, events.invalid, events.unknown), (0, 0, 0));
    let reason = |spans: &[Span]| {
        let spans: Vec<Span> = spans.iter().filter(|span| text(span, "order.id") == "18").cloned().collect();
        let spans = spoor::export::otlp::encode::request(&spans, &Machine::default());
        let facts = [events.facts.clone(), read(&spans, &names).facts].concat();
        let at = At::from_unix_ns(told.end.as_nanos() + 1_000_000_000);
        verdict(&journey(&gather(facts), &Model::default()), &Model::default(), &Usual::default(), at).reason
    };
    let Reason::InQueue { queue, since, consumers, .. } = reason(std::slice::from_ref(publish)) else {
        panic!("{:?}", reason(std::slice::from_ref(publish)))
    };
    assert_eq!((queue.as_str(), consumers), ("mes.orders", Some(0)));
    assert!(since > At::from_unix_ns(EPOCH.as_nanos()));
    assert!(!matches!(reason(&spans), Reason::InQueue { .. }), "{:?}", reason(&spans));
}

#[test]
fn a_message_that_goes_back_lies_there_again() {
    let mut hall = hall_with_history(settings());
    hall.publish(18);
    hall.deliver(18, 2);
    hall.go_on(60);
    assert_eq!(hall.lying(), [] as [&str; 0], "the MES has it");
    // The MES ends without a word: the broker puts it back.
    hall.host.close(hall.output);
    hall.go_on(29);
    assert_eq!(hall.lying(), [] as [&str; 0]);
    hall.go_on(3);
    assert_eq!(hall.lying(), ["18 mes.orders 0 32"]);
}

#[test]
fn what_is_behind_another_message_is_told_with_its_consumer() {
    let mut hall = hall_with_history(settings());
    hall.publish(18);
    hall.deliver(18, 2);
    hall.publish(19);
    hall.go_on(35);
    assert_eq!(hall.lying(), ["19 mes.orders 1 35"], "18 is with the MES");
}

#[test]
fn nothing_is_said_where_it_is_not_known_that_it_lies_in_a_queue() {
    // No message of that address was seen to come to a queue.
    let mut hall = Hall::new(settings());
    hall.host.close(hall.output);
    hall.publish(18);
    hall.go_on(60);
    assert_eq!(hall.lying(), [] as [&str; 0]);

    // A record of the broker was lost since: it may have been the delivery.
    let mut hall = hall_with_history(settings());
    hall.publish(18);
    hall.go_on(10);
    hall.deliver(18, 2);
    let lost = hall.host.records.iter().rposition(|record| matches!(record, Record::Data(_)));
    hall.host.records.remove(lost.expect("a record"));
    hall.given = hall.given.min(hall.host.records.len());
    hall.deliver(20, 3);
    hall.go_on(60);
    assert_eq!(hall.lying(), [] as [&str; 0]);
}

#[test]
fn nothing_is_told_that_the_span_would_not_show() {
    let mut hall = hall_with_history(settings());
    let pseudonyms = Pseudonyms::new(&["order.id".to_owned()], b"sixteen bytes or more");
    hall.pipeline.set_export(Default::default(), pseudonyms);
    hall.host.close(hall.output);
    hall.publish(471_118);
    hall.go_on(40);
    let told = hall.pipeline.tell_open(AFTER);
    assert_eq!(told.len(), 1);
    let said = format!("{:?}", request(&told));
    assert!(!said.contains("471118"), "{said}");
}
