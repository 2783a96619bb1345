//! AMQP 0-9-1: messages that never end, and deliveries of one order that are never settled.
//!
//! *Spec*: AMQP 0-9-1, section 4.2.3 (frames) and 4.2.6 (content).

use anyhow::Result;
use spoor_tests::transcript::wire;

use super::{Pace, Pair, hold, listen};

const HEADER: u8 = 2;
const BODY: u8 = 3;
const BASIC: u16 = 60;

/// `basic.publish` of a message of a million bytes, of which 62 KB come.
fn begun(channel: u16) -> Vec<u8> {
    let publish = wire::publish(channel, "exchange", "key", "m", "");
    // All of it but the content's header, which says how long the body is, and the empty body behind it.
    let method_len = 8 + u32::from_be_bytes([publish[3], publish[4], publish[5], publish[6]]) as usize;
    let mut header = [BASIC.to_be_bytes(), 0_u16.to_be_bytes()].concat();
    header.extend(1_000_000_u64.to_be_bytes());
    header.extend(0_u16.to_be_bytes());
    let body = format!(r#"{{"x":"{}"#, "b".repeat(62_000));
    [
        &publish[..method_len],
        &wire::frame(HEADER, channel, &header),
        &wire::frame(BODY, channel, body.as_bytes()),
    ]
    .concat()
}

/// So many connections of so many channels, each with a message that never ends.
pub(super) fn endless_bodies(connections: usize, channels: usize) -> Result<()> {
    let listener = listen()?;
    let mut open = Vec::new();
    let mut pace = Pace::per_second(400);
    for _ in 0..connections {
        let mut pair = Pair::new(&listener)?;
        pair.ask(wire::AMQP_HELLO)?;
        for channel in 1..=channels as u16 {
            pair.ask(&begun(channel))?;
            pace.wait();
        }
        open.push(pair);
    }
    hold(4);
    Ok(())
}

/// So many deliveries of one order that nobody settles, then as many messages of that order.
pub(super) fn unsettled(count: usize) -> Result<()> {
    let listener = listen()?;
    let mut consumer = Pair::new(&listener)?;
    let mut publisher = Pair::new(&listener)?;
    let body = r#"{"order_id":17}"#;
    consumer.ask(wire::AMQP_HELLO)?;
    consumer.ask(&wire::consume(1, "orders"))?;
    consumer.answer(&wire::consume_ok(1))?;
    publisher.ask(wire::AMQP_HELLO)?;
    let mut pace = Pace::per_second(1500);
    for number in 1..=count {
        consumer.answer(&wire::deliver(
            1,
            number as u64,
            "exchange",
            "key",
            &format!("in-{number}"),
            body,
        ))?;
        pace.wait();
    }
    for number in 1..=count {
        publisher.ask(&wire::publish(1, "exchange", "key", &format!("out-{number}"), body))?;
        pace.wait();
    }
    hold(1);
    Ok(())
}
