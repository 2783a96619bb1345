//! HTTP/2 through the whole core: several requests open on one connection, each with its own tree, order and identity.

use std::collections::BTreeMap;

use spoor_core::record::Sender::{Client, Server};
use spoor_core::span::{Span, SpanKind};
use spoor_tests::transcript::{Covered, Host, wire};
use spoor_tests::whole_core::{run, text};

fn path(span: &Span) -> String {
    let full = text(span, "url.full");
    if full.is_empty() { text(span, "url.path") } else { full.replace("http://shop:8080", "") }
}

fn answer(stream: u32, body: &str) -> Vec<u8> {
    let head = wire::http2_frame(1, 4, stream, &[0x88]);
    [head, wire::http2_frame(0, 1, stream, body.as_bytes())].concat()
}

#[test]
fn streams_side_by_side_are_joined_each_with_its_own_other_end() {
    let mut host = Host::new();
    let (front, back) = (host.process(100, "front"), host.process(200, "back"));
    let link = host.connect(front, back, 8080, Covered::Both);
    let (caller, reader) = (front.thread(0), back.thread(0));
    host.send(link, Client, wire::http2_hello(true), caller, reader);
    host.send(link, Server, wire::http2_hello(false), reader, caller);
    // Ten requests are open before the first is answered; the answers come in another order, from several threads.
    for order in 0..10 {
        let request = wire::http2_request(2 * order + 1, &format!("/orders/{}", order + 40), order == 0);
        host.send(link, Client, request, front.thread(order % 3), reader);
    }
    for order in (0..10).rev() {
        host.send(link, Server, answer(2 * order + 1, "{}"), back.thread(1 + order % 4), caller);
    }
    host.close(link);
    let spans = run(host.records);
    assert_eq!(spans.len(), 20);
    let clients: BTreeMap<_, _> =
        spans.iter().filter(|span| span.kind == SpanKind::Client).map(|span| (span.span_id, span)).collect();
    let servers: Vec<_> = spans.iter().filter(|span| span.kind == SpanKind::Server).collect();
    assert_eq!((clients.len(), servers.len()), (10, 10));
    for server in servers {
        let client = server.parent.and_then(|parent| clients.get(&parent)).expect("a parent");
        assert_eq!(server.evidence.map(|evidence| evidence.rule.name()), Some("wire"));
        assert_eq!(
            (path(server), text(server, "spoor.wire.id")),
            (path(client), text(client, "spoor.wire.id"))
        );
        assert_eq!(text(server, "order.id"), text(client, "order.id"));
        assert_eq!(text(server, "network.protocol.version"), "2");
        // The first request carries the path that the others replace.
        let order = path(server).replace("/orders", "").replace('/', "");
        assert_eq!(text(server, "order.id"), order, "{}", path(server));
    }
}

#[test]
fn what_a_stream_causes_is_joined_with_its_own_order_though_one_thread_serves_all() {
    let mut host = Host::new();
    let (browser, shop, db) =
        (host.process(100, "browser"), host.process(200, "shop"), host.process(400, "postgresql"));
    let front = host.connect(browser, shop, 8080, Covered::Server);
    let store = host.connect(shop, db, 5432, Covered::Client);
    let (caller, worker, backend) = (browser.thread(0), shop.thread(0), db.thread(0));
    host.send(front, Client, wire::http2_hello(true), caller, worker);
    host.send(front, Server, wire::http2_hello(false), worker, caller);
    host.send(front, Client, wire::http2_request(1, "", true), caller, worker);
    host.send(front, Server, answer(1, "{}"), worker, caller);
    for order in [51_u32, 52, 53] {
        let request = wire::http2_request(2 * order + 1, &format!("/orders/{order}"), false);
        host.send(front, Client, request, caller, worker);
    }
    for order in [52_u32, 53, 51] {
        let sql = format!("UPDATE orders SET status = 'new' WHERE id = {order}");
        host.send(store, Client, wire::query(&sql), worker, backend);
        host.send(store, Server, wire::done("UPDATE 1", b'I'), backend, worker);
        host.send(front, Server, answer(2 * order + 1, "{}"), worker, caller);
    }
    host.close(front);
    let spans = run(host.records);
    let statements: Vec<_> = spans.iter().filter(|span| span.name == "UPDATE orders").collect();
    assert_eq!(statements.len(), 3);
    for statement in statements {
        let parent = spans.iter().find(|span| Some(span.span_id) == statement.parent).expect("a parent");
        assert_eq!(text(parent, "order.id"), text(statement, "order.id"));
        assert_eq!(path(parent), format!("/orders/{}", text(statement, "order.id")));
    }
}
