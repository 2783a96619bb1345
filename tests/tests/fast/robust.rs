//! The core while the world around it moves: a wall clock that is set back and forth in the middle of requests.

use std::time::Duration;

use spoor_core::record::Sender::{Client, Server};
use spoor_core::record::{ClockPair, Record};
use spoor_core::time::{BootTime, WallTime};
use spoor_tests::transcript::{Covered, EPOCH, Host, wire};
use spoor_tests::whole_core::{run, text};

const HOUR: i64 = 3_600_000_000_000;

fn stepped(wall: WallTime, by: i64) -> WallTime {
    let step = Duration::from_nanos(by.unsigned_abs());
    if by < 0 { wall - step } else { wall + step }
}

/// The wall clock is set: from now on it is `by` nanoseconds away from where the script began.
fn set_clock(host: &mut Host, start: BootTime, by: i64) {
    let wall = stepped(EPOCH + host.now().since(start), by);
    host.records.push(Record::Clock(ClockPair { boot: host.now(), wall }));
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
        let length = span.end.checked_since(span.start);
        let is_right = length
            .is_some_and(|length| (Duration::from_millis(50)..Duration::from_millis(52)).contains(&length));
        assert!(is_right, "{} took {length:?}", span.name);
        // It began when the clock before the step says, or when the clock after it does: at no other time.
        let order: usize = text(span, "order.id").parse().unwrap();
        let before = if order == 1 { 0 } else { steps[order - 2] };
        let began = |by: i64| {
            span.start
                .checked_since(stepped(EPOCH, by))
                .is_some_and(|offset| offset < Duration::from_secs(10))
        };
        assert!(
            began(before) || began(steps[order - 1]),
            "{} of order {order} began at {}",
            span.name,
            span.start.as_nanos()
        );
    }
    // Parents hold in spite of it.
    assert_eq!(spans.iter().filter(|span| span.parent.is_some()).count(), steps.len(), "{spans:?}");
}
