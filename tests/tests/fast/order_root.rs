//! `spans.order_root`: one span on top of every order's trace, and nothing else changed.

use spoor_core::record::Sender::{Client, Server};
use spoor_core::span::Span;
use spoor_tests::transcript::{Covered, Host, Process, wire};
use spoor_tests::whole_core::{run_with, settings, text};

/// A request that nobody waits for any more when the next one comes.
fn ask(host: &mut Host, shop: Process, path: &str) {
    let customer = Process(900);
    let front = host.connect(customer, shop, 8080, Covered::Server);
    let (asks, serves) = (customer.thread(0), shop.thread(1));
    host.send(front, Client, wire::request("POST", path, "", ""), asks, serves);
    host.send(front, Server, wire::response(200, "{}"), serves, asks);
    host.close(front);
    host.wait_ms(5_000);
}

#[test]
fn where_it_is_wanted_all_trees_of_an_order_stand_under_one_span() {
    let mut host = Host::new();
    let shop = host.process(200, "shop");
    for path in ["/orders/17", "/orders/18", "/orders/17", "/health", "/orders/17"] {
        ask(&mut host, shop, path);
    }
    let plain = run_with(settings(), host.records.clone());
    assert!(plain.iter().all(|span| span.parent.is_none() && span.name != "order"));
    let mut settings = settings();
    settings.spans.order_root = true;
    let spans = run_with(settings, host.records);
    let roots: Vec<&Span> = spans.iter().filter(|span| span.parent.is_none()).collect();
    let orders: Vec<&&Span> = roots.iter().filter(|span| span.name == "order").collect();
    assert_eq!((spans.len(), roots.len(), orders.len()), (plain.len() + 2, 3, 2), "{spans:#?}");
    for span in spans.iter().filter(|span| !text(span, "order.id").is_empty() && span.name != "order") {
        let root = orders.iter().find(|root| Some(root.span_id) == span.parent).expect("an order above it");
        assert_eq!((root.trace_id, text(root, "order.id")), (span.trace_id, text(span, "order.id")));
        assert_eq!((root.resource.service.as_str(), root.start <= span.start), ("orders", true));
    }
}
