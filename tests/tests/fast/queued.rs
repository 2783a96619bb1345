//! A message that nobody takes: from the traffic of its broker through the agent's events to what `spoor-serve` says of the order.

use std::time::Duration;

use spoor::export::Host as Machine;
use spoor_core::pipeline::{OpenWork, Pipeline, TellSettings, What};
use spoor_core::privacy::pseudonym::Pseudonyms;
use spoor_core::record::Sender::{Client, Server};
use spoor_journeys::facts::Fact;
use spoor_journeys::fold::{Reason, gather, journey, verdict};
use spoor_journeys::intake::{read, read_logs};
use spoor_journeys::model::{Model, Usual};
use spoor_journeys::time::At;
use spoor_tests::exporting::events;
use spoor_tests::transcript::{Covered, Host, Link, Process, wire};
use spoor_tests::whole_core::settings;

const AFTER: TellSettings = TellSettings { after: Duration::from_secs(30), most: 64 };

/// A CRM that publishes orders, a broker, and an MES that takes them.
struct Plant {
    host: Host,
    crm: Process,
    broker: Process,
    mes: Process,
    input: Link,
    output: Link,
    pipeline: Pipeline,
    given: usize,
    tag: u64,
}

impl Plant {
    fn new() -> Self {
        Self::with_queue("mes.orders")
    }

    fn with_queue(queue: &str) -> Self {
        let mut host = Host::new();
        let (crm, broker, mes) =
            (host.process(200, "crm"), host.process(300, "rabbitmq"), host.process(400, "mes"));
        let input = host.connect(crm, broker, 5672, Covered::Both);
        let output = host.connect(mes, broker, 5672, Covered::Both);
        host.send(input, Client, wire::AMQP_HELLO, crm.thread(0), broker.thread(0));
        let [asked, answer] = wire::declare(1, queue);
        host.send(input, Client, asked, crm.thread(0), broker.thread(0));
        host.send(input, Server, answer, broker.thread(0), crm.thread(0));
        host.consume(output, queue, mes.thread(0), broker.thread(0));
        let pipeline = Pipeline::new(settings()).expect("the rules compile");
        let mut plant = Self { host, crm, broker, mes, input, output, pipeline, given: 0, tag: 0 };
        assert_eq!(plant.told_after(1), [], "from now on somebody asks");
        for order in 1..=3 {
            plant.publishes(order);
            plant.takes(order);
        }
        plant
    }

    fn publishes(&mut self, order: u32) {
        let sent = wire::publish(1, "orders", "new", &format!("m-{order}"), &body(order));
        self.host.send(self.input, Client, sent, self.crm.thread(0), self.broker.thread(0));
    }

    fn takes(&mut self, order: u32) {
        self.tag += 1;
        let sent = wire::deliver(1, self.tag, "orders", "new", &format!("m-{order}"), &body(order));
        self.host.send(self.output, Server, sent, self.broker.thread(0), self.mes.thread(0));
        self.host.send(
            self.output,
            Client,
            wire::ack(1, self.tag),
            self.mes.thread(0),
            self.broker.thread(0),
        );
    }

    /// What is told when so many seconds have passed, and the events and spans as facts.
    fn told_after(&mut self, seconds: u64) -> Vec<OpenWork> {
        for record in &self.host.records[self.given..] {
            self.pipeline.handle_record(record.clone());
        }
        self.given = self.host.records.len();
        for _ in 0..seconds {
            self.host.wait_ms(1000);
            self.pipeline.handle_timeout(self.host.now());
        }
        self.pipeline.tell_open(AFTER)
    }

    fn spans(&mut self) -> Vec<Fact> {
        let spans: Vec<_> = std::iter::from_fn(|| self.pipeline.poll_span()).collect();
        read(&spoor::export::otlp::encode::request(&spans, &Machine::default()), &["order.id".to_owned()])
            .facts
    }
}

fn body(order: u32) -> String {
    format!("{{\"order_id\": {order}}}")
}

fn facts(told: &[OpenWork]) -> Vec<Fact> {
    read_logs(&events(told), &["order.id".to_owned()]).facts
}

fn reason(facts: Vec<Fact>) -> Reason {
    let (model, gathered) = (Model::default(), gather(facts));
    let last = gathered.facts.iter().map(|fact| fact.to).max().unwrap_or_default();
    verdict(&journey(&gathered, &model), &model, &Usual::default(), At(last.0 + 1)).reason
}

fn kinds(told: &[OpenWork]) -> Vec<What> {
    told.iter().map(|told| told.what).collect()
}

#[test]
fn a_message_that_nobody_takes_is_told_with_its_queue_until_somebody_does() {
    let mut plant = Plant::new();
    assert_eq!(plant.told_after(40), [], "what was taken does not wait");
    plant.host.close(plant.output);
    plant.publishes(4711);
    assert_eq!(plant.told_after(29), []);
    let waits = plant.told_after(2);
    assert_eq!(kinds(&waits), [What::Waiting]);
    assert_eq!(plant.told_after(30), [], "they know");
    assert_eq!(kinds(&plant.told_after(31)), [What::Waiting], "it is told again while it lasts");
    let spans: Vec<Fact> =
        plant.spans().into_iter().filter(|fact| fact.key.to_string().ends_with("4711")).collect();
    let Reason::InQueue { queue, consumers, depth, .. } = reason([spans.clone(), facts(&waits)].concat())
    else {
        panic!("{waits:#?}")
    };
    assert_eq!((queue.as_str(), consumers, depth), ("mes.orders", Some(0), Some(1)));
    plant.output = plant.host.connect(plant.mes, plant.broker, 5672, Covered::Both);
    plant.host.consume(plant.output, "mes.orders", plant.mes.thread(0), plant.broker.thread(0));
    plant.takes(4711);
    let left = plant.told_after(1);
    assert_eq!(kinds(&left), [What::Left]);
    for known in [[facts(&waits), facts(&left)], [facts(&left), facts(&waits)]] {
        let known = [spans.clone(), known.concat()].concat();
        assert!(!matches!(reason(known.clone()), Reason::InQueue { .. }), "{known:#?}");
    }
}

#[test]
fn nothing_is_told_that_the_span_would_not_show() {
    let queue = "orders.of.89161234567";
    for (hash, shown) in [(false, "orders.of.{id}"), (true, "orders:new")] {
        let mut plant = Plant::with_queue(queue);
        let keys = if hash { vec!["order.id".to_owned()] } else { Vec::new() };
        plant.pipeline.set_export(Default::default(), Pseudonyms::new(&keys, b"sixteen bytes or more"));
        plant.host.close(plant.output);
        plant.publishes(471_118);
        let told = plant.told_after(40);
        assert_eq!(kinds(&told), [What::Waiting]);
        let said = format!("{:?}", events(&told));
        assert!(!said.contains("9161234567"), "{said}");
        assert_eq!(said.contains("471118"), !hash, "{said}");
        let Reason::InQueue { queue, .. } = reason(facts(&told)) else { panic!("{told:#?}") };
        assert_eq!(queue, shown);
    }
}

#[test]
fn a_message_that_somebody_has_is_not_told_to_wait() {
    let mut plant = Plant::new();
    plant.publishes(4711);
    let sent = wire::deliver(1, 9, "orders", "new", "m-4711", &body(4711));
    plant.host.send(plant.output, Server, sent, plant.broker.thread(0), plant.mes.thread(0));
    assert!(!kinds(&plant.told_after(40)).contains(&What::Waiting));
}
