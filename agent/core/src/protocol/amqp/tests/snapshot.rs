//! What a session hands to the next agent's, and what that one makes of the stream from there.

use super::*;
use crate::protocol::Snapshot;
use crate::protocol::amqp::snapshot;
use crate::protocol::snapshot::{Past, Texts};
use crate::time::{BootTime, ns};

fn learned(talk: &Talk) -> snapshot::Learned {
    match talk.session.export(&mut Texts::default()) {
        Some(Snapshot::Amqp(learned)) => learned,
        other => panic!("{other:?}"),
    }
}

/// A session of the next agent, after `unseen` bytes each way that nobody saw.
fn next(before: &Talk, unseen: u64) -> Talk {
    let mut talk = Talk::client();
    talk.pos = before.pos.map(|pos| pos + unseen);
    talk.tick = before.tick;
    let learned = Snapshot::Amqp(learned(before));
    let past = Past { learned: &learned, texts: &[], unbroken: unseen == 0, at: ns(before.tick) };
    assert!(talk.session.import(&past));
    talk
}

/// A consumer of `mes.orders`.
fn consumer() -> Talk {
    let mut talk = Talk::client();
    talk.hello().send(Client, consume(1, "mes.orders", "ctag", 0));
    talk.send(Server, method(1, (60, 21), &short("ctag"))).closed();
    talk
}

fn delivered(tag: u64, queue: &str) -> String {
    format!("deliver {tag} {queue} m{tag} {{}}/2 Some(Ack)")
}

#[test]
fn a_consumer_subscribed_under_an_earlier_agent_has_its_queue() {
    for unseen in [0, 300] {
        let mut talk = next(consumer().deliver(1).send(Client, ack(1, 80, 1, 0)), unseen);
        talk.deliver(2).send(Client, ack(1, 80, 2, 0));
        talk.check(&[&delivered(2, "Some(\"mes.orders\")"), "settle 2 Ack 1"]);
    }
    // The test can fail.
    let mut fresh = Talk::client();
    fresh.deliver(2).send(Client, ack(1, 80, 2, 0));
    fresh.check(&[&delivered(2, "None"), "settle 2 Ack 1"]);
}

#[test]
fn a_subscription_answered_under_the_next_agent_has_its_queue() {
    let mut before = Talk::client();
    before.hello().send(Client, consume(1, "mes.orders", "", 0));
    for (unseen, queue) in [(0, "Some(\"mes.orders\")"), (100, "None")] {
        let mut talk = next(&before, unseen);
        talk.send(Server, method(1, (60, 21), &short("ctag"))).deliver(1).send(Client, ack(1, 80, 1, 0));
        talk.check(&[&delivered(1, queue), "settle 1 Ack 1"]);
        talk.end();
        assert_eq!(talk.session.open_count, 0);
    }
}

#[test]
fn the_virtual_host_and_the_largest_frame_stay_known() {
    let learned = learned(&next(&consumer(), 9));
    assert_eq!((learned.vhost.as_deref(), learned.frame_max), (Some("/shop"), Some(131_072)));
}

#[test]
fn a_channel_whose_tags_start_again_is_another_one() {
    let mut before = consumer();
    before.deliver(1).send(Client, ack(1, 80, 1, 0)).deliver(2).send(Client, ack(1, 80, 2, 0));
    let mut talk = next(&before, 5000);
    talk.deliver(1).send(Client, ack(1, 80, 1, 0));
    talk.check(&[&delivered(1, "None"), "settle 1 Ack 1"]);
    assert!(learned(&talk).channels.iter().all(|channel| channel.consumers.is_empty()));
}

#[test]
fn publishes_go_on_being_counted_only_when_no_byte_was_missed() {
    let mut before = Talk::client();
    before.hello().confirm().publish("m1").send(Server, ack(1, 80, 1, 0));
    let confirmed = "publish orders:created m2 {}/2 Confirmed";
    next(&before, 0).publish("m2").send(Server, ack(1, 80, 2, 0)).check(&[confirmed]);
    let mut talk = next(&before, 40);
    talk.publish("m2").send(Server, ack(1, 80, 2, 0));
    talk.check(&["publish orders:created m2 {}/2 Unknown (no answer)"]);
}

#[test]
fn a_publish_whose_confirm_comes_under_the_next_agent_confuses_nothing() {
    let mut before = Talk::client();
    before.hello().confirm().publish("m1").publish("m2");
    let mut talk = next(&before, 0);
    talk.publish("m3").send(Server, ack(1, 80, 2, 1)).check(&[]);
    talk.send(Server, ack(1, 80, 3, 0)).check(&["publish orders:created m3 {}/2 Confirmed"]);
}

fn source_of(talk: &mut Talk) -> Option<Option<String>> {
    talk.events().iter().find_map(|event| match event {
        Event::Closed(operation) => match &action(operation).kind {
            ActionKind::Settle(settle) => {
                Some(settle.source.as_ref().and_then(|source| source.queue.clone()))
            }
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn a_delivery_settled_under_the_next_agent_is_known_only_when_no_byte_was_missed() {
    let mut before = consumer();
    before.deliver(1).deliver(2);
    let mut talk = next(&before, 0);
    talk.send(Client, ack(1, 80, 1, 0));
    assert_eq!(source_of(&mut talk), Some(Some("mes.orders".to_owned())));
    let mut talk = next(&before, 0);
    talk.send(Client, ack(1, 80, 2, 1)).check(&["settle 2 Ack 2"]);
    // In between, the first one may have been settled by itself.
    let mut talk = next(&before, 100);
    talk.send(Client, ack(1, 80, 2, 1)).check(&["settle 2 Ack 0"]);
}

#[test]
fn in_the_middle_of_a_message_the_boundary_is_found_again() {
    let message = [deliver(1, "ctag", 1, false), content(1, "m1", b"0123456789", 4)].concat();
    for cut in 1..message.len() {
        let mut before = consumer();
        before.send(Server, &message[..cut]);
        assert!(!learned(&before).at_rest, "{cut}");
        let mut talk = next(&before, 0);
        talk.send(Server, &message[cut..]).deliver(2).send(Client, ack(1, 80, 2, 0));
        let closed = talk.closed();
        assert!(closed.contains(&delivered(2, "Some(\"mes.orders\")")), "{cut}: {closed:?}");
    }
}

#[test]
fn what_is_handed_over_twice_is_the_same() {
    let mut before = consumer();
    before.confirm().publish("m1").deliver(1).deliver(2);
    let first = learned(&before);
    assert!(first.at_rest && first.channels.iter().any(|channel| channel.unsettled.len() == 2));
    assert_eq!(learned(&next(&before, 0)), first);
}

#[test]
fn a_hostile_past_is_bounded() {
    let consumers = (0..10_000).map(|n| snapshot::Consumer { tag: n.to_string(), ..Default::default() });
    let unsettled = (0..10_000).map(|n| snapshot::Unsettled {
        tag: n % 7000,
        queue: "q".repeat(1000),
        ..Default::default()
    });
    let one = snapshot::Channel {
        consumers: consumers.collect(),
        unsettled: unsettled.collect(),
        asked: vec![snapshot::Asked { class: 60, method: 20, ..Default::default() }; 10_000],
        inferred: vec![("t".repeat(100_000), Some(String::new())); 1000],
        confirm: snapshot::Confirm::Exact(u64::MAX),
        last_tag: u64::MAX,
        unsure_to: Some(u64::MAX),
        ..snapshot::Channel::default()
    };
    let channels = (0..5000).map(|number| snapshot::Channel { number, ..one.clone() }).take(4);
    let past = snapshot::Learned {
        at_rest: true,
        frame_max: Some(u32::MAX),
        channels: channels.collect(),
        vhost: None,
    };
    for unbroken in [true, false] {
        let mut talk = Talk::client();
        let learned = Snapshot::Amqp(past.clone());
        talk.session.import(&Past { learned: &learned, texts: &[], unbroken, at: BootTime::ZERO });
        let session = &talk.session;
        let consumers: usize = session.channels.values().map(|channel| channel.consumers.len()).sum();
        assert_eq!(consumers, session.consumer_count);
        assert!(consumers <= 4096 && session.open_count <= Protocols::default().max_open_operations);
        talk.publish("m1").deliver(3).send(Server, ack(1, 80, u64::MAX, 1)).send(Client, ack(1, 80, 0, 1));
        talk.session.timeout(BootTime::MAX, &mut talk.events);
        talk.end();
        assert_eq!((talk.session.open_count, talk.session.held_bytes), (0, 0));
    }
}
