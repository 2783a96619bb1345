//! The whole core on scripted traffic: records → trees of spans.

use std::collections::BTreeMap;
use std::time::Duration;

use spoor_core::pipeline::Pipeline;
use spoor_core::record::Record;
use spoor_core::record::Sender::{Client, Server};
use spoor_core::span::SpanKind;
use spoor_tests::scenes::Shop;
use spoor_tests::transcript::{Covered, Host, wire};
use spoor_tests::whole_core::{forest, run, run_with, settings, text};

/// A shop serves an order, asks its database, and calls the CRM on the way.
fn order_through_shop_and_crm(host: &mut Host, order: u32) {
    Shop::open(host).order(host, order);
}

#[test]
fn a_request_its_statement_and_its_call_are_one_tree_of_one_order() {
    let mut host = Host::new();
    order_through_shop_and_crm(&mut host, 17);
    let spans = run(host.records);
    expect_test::expect![[r#"
        shop Server POST /orders order=17 [root]
          shop Client INSERT orders order=17 [thread]
          shop Client POST order=17 [thread]
            crm Server POST order=17 [wire]
    "#]]
    .assert_eq(&forest(&spans));
}

#[test]
fn the_same_traffic_gives_the_same_identifiers_twice() {
    let spans = || {
        let mut host = Host::new();
        order_through_shop_and_crm(&mut host, 17);
        run(host.records).into_iter().map(|span| (span.trace_id, span.span_id)).collect::<Vec<_>>()
    };
    assert_eq!(spans(), spans());
}

#[test]
fn orders_never_share_a_trace() {
    let mut host = Host::new();
    order_through_shop_and_crm(&mut host, 17);
    order_through_shop_and_crm(&mut host, 3);
    let mut traces: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for span in run(host.records) {
        traces.entry(span.trace_id.to_string()).or_default().push(text(&span, "order.id"));
    }
    let mut orders: Vec<_> = traces.into_values().collect();
    orders.sort();
    assert_eq!(orders, [vec!["17".to_owned(); 4], vec!["3".to_owned(); 4]]);
}

/// The CRM sends a message of order 17, the broker hands it to the MES some milliseconds later, which takes some for it.
fn message_through_broker(host: &mut Host, sent: Vec<u8>, [queued, taken]: [u64; 2]) {
    let (crm, broker, mes) =
        (host.process(300, "crm"), host.process(500, "rabbitmq"), host.process(600, "mes"));
    let input = host.connect(crm, broker, 5672, Covered::Both);
    let output = host.connect(mes, broker, 5672, Covered::Both);
    let (from, via, to) = (crm.thread(0), broker.thread(0), mes.thread(0));
    host.consume(output, "mes.orders", to, via);
    host.send(input, Client, wire::AMQP_HELLO, from, via);
    host.send(input, Client, sent, from, via);
    host.wait_ms(queued);
    host.send(output, Server, wire::deliver(1, 1, "orders", "new", "m-1", MESSAGE), via, to);
    host.wait_ms(taken);
    host.send(output, Client, wire::ack(1, 1), to, via);
}

const MESSAGE: &str = "{\"order_id\": 17}";

#[test]
fn a_message_is_followed_through_the_broker_to_its_consumer() {
    let mut host = Host::new();
    message_through_broker(&mut host, wire::publish(1, "orders", "new", "m-1", MESSAGE), [40, 20]);
    let spans = run(host.records);
    let spans: Vec<_> = spans
        .into_iter()
        .filter(|span| matches!(span.kind, SpanKind::Producer | SpanKind::Consumer | SpanKind::Internal))
        .collect();
    expect_test::expect![[r#"
        crm Producer publish orders:new order=17 [root]
          rabbitmq Internal dwell mes.orders order=17 [message]
            mes Consumer process orders:new:mes.orders order=17 [wire] ~ crm publish orders:new
    "#]]
    .assert_eq(&forest(&spans));
}

/// Whether it is returned shows two seconds after it was sent, and by then its consumer's work may have been exported.
#[test]
fn a_message_that_may_be_returned_is_followed_before_it_is_known_not_to_be() {
    let mut host = Host::new();
    message_through_broker(&mut host, wire::mandatory(1, "orders", "new", "m-1", MESSAGE), [0, 0]);
    for _ in 0..8 {
        host.wait_ms(500);
        order_through_shop_and_crm(&mut host, 3);
    }
    let mut settings = settings();
    settings.joining.linger = Duration::from_millis(200);
    let spans = run_with(settings, host.records);
    let spans: Vec<_> = spans.into_iter().filter(|span| text(span, "order.id") == "17").collect();
    expect_test::expect![[r#"
        crm Producer publish orders:new order=17 [root]
          rabbitmq Internal dwell mes.orders order=17 [message]
            mes Consumer process orders:new:mes.orders order=17 [wire] ~ crm publish orders:new
              mes Client ack orders:new:mes.orders order=17 [message]
    "#]]
    .assert_eq(&forest(&spans));
}

#[test]
fn a_statement_whose_client_is_elsewhere_is_exported_from_the_servers_side() {
    let mut host = Host::new();
    let (app, db) = (host.process(200, "app"), host.process(400, "postgresql"));
    let store = host.connect(app, db, 5432, Covered::Server);
    host.send(store, Client, wire::query("SELECT 1"), app.thread(0), db.thread(0));
    host.send(store, Server, wire::done("SELECT 1", b'I'), db.thread(0), app.thread(0));
    let spans = run(host.records);
    assert_eq!(spans.len(), 1);
    assert_eq!(text(&spans[0], "spoor.observed_from"), "server");
}

#[test]
fn a_lost_record_never_moves_a_span_to_another_order() {
    let mut host = Host::new();
    order_through_shop_and_crm(&mut host, 17);
    order_through_shop_and_crm(&mut host, 3);
    let whole = run(host.records.clone());
    let traces: BTreeMap<String, String> =
        whole.iter().map(|span| (text(span, "order.id"), span.trace_id.to_string())).collect();
    for lost in 0..host.records.len() {
        if !matches!(host.records[lost], Record::Data(_)) {
            continue;
        }
        let mut records = host.records.clone();
        records.remove(lost);
        for span in run(records) {
            let order = text(&span, "order.id");
            if !order.is_empty() {
                assert_eq!(traces.get(&order), Some(&span.trace_id.to_string()), "record {lost} lost");
            }
        }
    }
}

/// What runs on a machine and is not traced to any span is named to nobody.
#[test]
fn services_are_named_once_spans_of_theirs_leave() {
    let mut host = Host::new();
    host.process(900, "secret-tool");
    order_through_shop_and_crm(&mut host, 17);
    let mut pipeline = Pipeline::new(settings()).expect("the rules compile");
    let now = host.now();
    host.records.into_iter().for_each(|record| pipeline.handle_record(record));
    assert!(pipeline.services().is_empty(), "no span has left");
    pipeline.handle_timeout(now + Duration::from_secs(60));
    pipeline.finish(now + Duration::from_secs(60));
    while pipeline.poll_span().is_some() {}
    assert_eq!(pipeline.services().iter().collect::<Vec<_>>(), ["crm", "shop"]);
}
