//! The core while the world around it moves: a wall clock that is set back and forth in the middle of requests.

use spoor_core::record::Sender::{Client, Server};
use spoor_core::record::{ClockPair, Record};
use spoor_tests::transcript::{Covered, EPOCH_NS, Host, wire};
use spoor_tests::whole_core::{run, text};

const HOUR: i64 = 3_600_000_000_000;

/// The wall clock is set: from now on it is `by` nanoseconds away from where the script began.
fn set_clock(host: &mut Host, start: u64, by: i64) {
    let passed = host.now() - start;
    let unix_ns = (EPOCH_NS + passed).wrapping_add_signed(by);
    host.records.push(Record::Clock(ClockPair { boot_ns: host.now(), unix_ns }));
}

#[test]
fn clock_that_is_set_moves_spans_as_a_whole_and_changes_no_duration() {
    let mut host = Host::new();
    let start = host.now();
    let (shopper, shop) = (host.process(100, "browser"), host.process(200, "shop"));
    let link = host.connect(shopper, shop, 8080, Covered::Both);
    let (front, worker) = (shopper.thread(0), shop.thread(1));
    // Back an hour, forth two, back to where it was: each in the middle of a request of 50 ms.
    let steps = [-HOUR, HOUR, 0, -24 * HOUR, 24 * HOUR];
    for (order, by) in (1..).zip(steps) {
        let body = format!("{{\"order_id\": {order}}}");
        host.send(link, Client, wire::request("POST", "/orders", "", &body), front, worker);
        host.wait_ms(25);
        set_clock(&mut host, start, by);
        host.wait_ms(25);
        host.send(link, Server, wire::response(201, ""), worker, front);
        host.wait_ms(1000);
    }
    let spans = run(host.records);
    let orders = |order: &str| spans.iter().filter(|span| text(span, "order.id") == order).count();
    for order in 1..=steps.len() {
        assert_eq!(orders(&order.to_string()), 2, "both ends of order {order}: {spans:?}");
    }
    for span in &spans {
        let length = span.end_unix_ns.checked_sub(span.start_unix_ns);
        let is_right = length.is_some_and(|length| (50_000_000..52_000_000).contains(&length));
        assert!(is_right, "{} took {length:?} ns", span.name);
        // It began when the clock before the step says, or when the clock after it does: at no other time.
        let order: usize = text(span, "order.id").parse().unwrap();
        let before = if order == 1 { 0 } else { steps[order - 2] };
        let began = |by: i64| {
            let offset = span.start_unix_ns.wrapping_sub(EPOCH_NS.wrapping_add_signed(by));
            offset < 10_000_000_000
        };
        assert!(
            began(before) || began(steps[order - 1]),
            "{} of order {order} began at {}",
            span.name,
            span.start_unix_ns
        );
    }
    // Parents hold in spite of it.
    assert_eq!(spans.iter().filter(|span| span.parent.is_some()).count(), steps.len(), "{spans:?}");
}
