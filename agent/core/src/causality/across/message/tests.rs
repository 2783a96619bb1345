use super::*;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::time::Duration;

/// When a test begins: whoever has asked for something before has been answered.
const START: BootTime = BootTime::from_nanos(10_000_000_000);

fn ns(nanos: u64) -> BootTime {
    START + Duration::from_nanos(nanos)
}

fn hasher() -> BuildHasherDefault<DefaultHasher> {
    BuildHasherDefault::default()
}

fn queue(name: &str) -> Destination {
    Destination::queue(&hasher(), "b", name)
}

const CONN: ConnId = ConnId(1);

/// The consumers' connection.
const CONSUMER: ConnId = ConnId(9);

fn key(n: u8) -> MessageKey {
    MessageKey::new("b", &[n; 32], "orders", "new", Stamp::default())
}

fn address() -> Address {
    Address::new(&hasher(), "b", "orders", "new")
}

fn published(op: u64, at: BootTime, conn: ConnId) -> Published {
    Published { op: OpId(op), at, conn, address: address(), delay: Duration::ZERO, expires: None }
}

fn publish(messages: &mut Messages, n: u8, op: u64, at: BootTime) {
    messages.publish(key(n), None, published(op, at, CONN));
}

fn delivery(op: u64, at: BootTime, name: &str) -> Delivery {
    Delivery {
        op: OpId(op),
        at,
        destination: queue(name),
        redelivered: false,
        dead_lettered: false,
        outcome: Outcome::Taken,
        over_at: at + Duration::from_nanos(1),
        pulled: false,
        has_id: false,
        is_marked: false,
        conn: CONSUMER,
        address: address(),
        delayed: false,
        has_priority: false,
    }
}

fn again(op: u64, at: BootTime, queue: &str) -> Delivery {
    Delivery { redelivered: true, ..delivery(op, at, queue) }
}

fn put_back(delivery: Delivery) -> Delivery {
    Delivery { outcome: Outcome::PutBack, ..delivery }
}

/// The publish that is found at once.
fn deliver(messages: &mut Messages, n: u8, delivery: Delivery) -> Option<OpId> {
    messages.deliver(key(n), None, delivery);
    let pair = messages.poll_pair()?;
    assert_eq!(pair.delivery, delivery.op);
    Some(pair.publish)
}

fn pairs(messages: &mut Messages) -> Vec<(u64, u64)> {
    std::iter::from_fn(|| messages.poll_pair()).map(|pair| (pair.delivery.0, pair.publish.0)).collect()
}

/// A consumer that had room for what comes, and had got nothing.
fn idle() -> Messages {
    let mut messages = Messages::new(8);
    messages.called(CONSUMER, BootTime::ZERO, BootTime::ZERO);
    messages
}

/// A queue that has been seen at work.
fn watched(queue: &str) -> Messages {
    let mut messages = idle();
    publish(&mut messages, 200, 901, ns(1));
    assert_eq!(deliver(&mut messages, 200, delivery(902, ns(2), queue)), Some(OpId(901)));
    messages
}

#[test]
fn of_equal_messages_that_may_have_left_unseen_none_is_guessed() {
    let mut messages = Messages::new(8);
    publish(&mut messages, 1, 1, ns(10));
    publish(&mut messages, 1, 2, ns(20));
    assert_eq!(deliver(&mut messages, 1, delivery(11, ns(30), "q")), None);

    let mut messages = watched("q");
    publish(&mut messages, 1, 1, ns(10));
    messages.missed(ns(15));
    publish(&mut messages, 1, 2, ns(20));
    assert_eq!(deliver(&mut messages, 1, delivery(11, ns(30), "q")), None);
}

#[test]
fn what_was_published_before_something_that_has_left_the_queue_has_left_too() {
    let late = START + 10 * TOGETHER;
    let mut messages = idle();
    publish(&mut messages, 1, 1, ns(10));
    publish(&mut messages, 2, 2, late);
    assert_eq!(deliver(&mut messages, 2, delivery(12, late + Duration::from_nanos(1), "q")), Some(OpId(2)));
    publish(&mut messages, 1, 3, late + Duration::from_nanos(2));
    assert_eq!(deliver(&mut messages, 1, delivery(13, late + Duration::from_nanos(3), "q")), Some(OpId(3)));
}

#[test]
fn consumers_of_an_unknown_queue_do_not_both_get_the_same_message() {
    let consumer = |op, at, tag| Delivery {
        destination: Destination::consumer(&hasher(), CONN, 1, tag),
        ..delivery(op, at, "")
    };
    let mut messages = idle();
    publish(&mut messages, 1, 1, ns(10));
    assert_eq!(deliver(&mut messages, 1, consumer(11, ns(20), "a")), Some(OpId(1)));
    publish(&mut messages, 1, 2, ns(30));
    assert_eq!(deliver(&mut messages, 1, consumer(12, ns(40), "b")), Some(OpId(2)));
}

#[test]
fn equal_messages_pair_first_in_first_out() {
    let mut messages = watched("q");
    publish(&mut messages, 1, 1, ns(10));
    publish(&mut messages, 1, 2, ns(20));
    assert_eq!(deliver(&mut messages, 1, delivery(11, ns(30), "q")), Some(OpId(1)));
    assert_eq!(deliver(&mut messages, 1, delivery(12, ns(31), "q")), Some(OpId(2)));
    assert_eq!(deliver(&mut messages, 1, delivery(13, ns(32), "q")), None);
}

#[test]
fn equal_messages_that_are_settled_in_another_order_pair_in_the_order_they_left() {
    let mut messages = watched("q");
    publish(&mut messages, 1, 1, ns(10));
    publish(&mut messages, 1, 2, ns(20));
    messages.opened(OpId(11), ns(30));
    messages.opened(OpId(12), ns(31));
    assert_eq!(deliver(&mut messages, 1, delivery(12, ns(31), "q")), None);
    messages.closed(OpId(12), ns(31));
    assert_eq!(pairs(&mut messages), [], "the first delivery is not over");
    messages.deliver(key(1), None, delivery(11, ns(30), "q"));
    messages.closed(OpId(11), ns(30));
    assert_eq!(pairs(&mut messages), [(11, 1), (12, 2)]);
}

#[test]
fn messages_that_one_read_brought_keep_their_order() {
    let mut messages = watched("q");
    for op in [1, 2] {
        publish(&mut messages, 1, op, ns(10 * op));
        messages.opened(OpId(10 + op), ns(30));
    }
    assert_eq!(deliver(&mut messages, 1, delivery(12, ns(30), "q")), None);
    messages.closed(OpId(12), ns(30));
    messages.deliver(key(1), None, delivery(11, ns(30), "q"));
    messages.closed(OpId(11), ns(30));
    assert_eq!(pairs(&mut messages), [(11, 1), (12, 2)]);
}

#[test]
fn a_first_delivery_that_is_over_after_the_second_is_of_the_same_publish() {
    let mut messages = idle();
    publish(&mut messages, 1, 1, ns(10));
    let with_id = |delivery| Delivery { is_marked: true, ..delivery };
    assert_eq!(deliver(&mut messages, 1, with_id(again(12, ns(40), "q"))), Some(OpId(1)));
    assert_eq!(deliver(&mut messages, 1, with_id(put_back(delivery(11, ns(30), "q")))), Some(OpId(1)));
}

#[test]
fn what_has_been_open_for_long_is_not_waited_for() {
    let mut messages = watched("q");
    let late = START + PATIENCE + Duration::from_nanos(100);
    messages.opened(OpId(5), ns(5));
    publish(&mut messages, 1, 1, late);
    publish(&mut messages, 1, 2, late + Duration::from_nanos(1));
    assert_eq!(deliver(&mut messages, 1, delivery(11, late + Duration::from_nanos(2), "q")), Some(OpId(1)));
}

#[test]
fn equal_messages_of_two_connections_at_the_same_time_cannot_be_told_apart() {
    let mut messages = watched("q");
    publish(&mut messages, 1, 1, ns(1_000));
    messages.publish(key(1), None, published(2, ns(1_000) + TOGETHER, ConnId(2)));
    publish(&mut messages, 1, 3, ns(2_001) + 2 * TOGETHER);
    let later = START + 3 * TOGETHER;
    assert_eq!(deliver(&mut messages, 1, delivery(11, later, "q")), None);
    assert_eq!(deliver(&mut messages, 1, delivery(12, later, "q")), None);
    assert_eq!(deliver(&mut messages, 1, delivery(13, later, "q")), Some(OpId(3)));
}

#[test]
fn copies_to_several_queues_have_the_same_publish() {
    let mut messages = idle();
    publish(&mut messages, 1, 1, ns(10));
    assert_eq!(deliver(&mut messages, 1, delivery(11, ns(30), "a")), Some(OpId(1)));
    assert_eq!(deliver(&mut messages, 1, delivery(12, ns(30), "b")), Some(OpId(1)));
}

#[test]
fn a_redelivery_is_of_the_publish_that_was_put_back() {
    let mut messages = watched("a");
    publish(&mut messages, 1, 1, ns(10));
    publish(&mut messages, 1, 2, ns(11));
    assert_eq!(deliver(&mut messages, 1, put_back(delivery(11, ns(30), "a"))), Some(OpId(1)));
    assert_eq!(deliver(&mut messages, 1, delivery(13, ns(31), "a")), Some(OpId(2)));
    messages.deliver(key(1), None, again(12, ns(40), "a"));
    let pair = messages.poll_pair().expect("only one was put back");
    assert_eq!((pair.publish, pair.again_since), (OpId(1), Some(ns(31))));
}

#[test]
fn of_several_equal_messages_that_were_put_back_none_is_guessed() {
    let mut messages = watched("a");
    for (op, at) in [(1, 10), (2, 11)] {
        publish(&mut messages, 1, op, ns(at));
    }
    assert_eq!(deliver(&mut messages, 1, put_back(delivery(11, ns(30), "a"))), Some(OpId(1)));
    assert_eq!(deliver(&mut messages, 1, put_back(delivery(12, ns(31), "a"))), Some(OpId(2)));
    assert_eq!(deliver(&mut messages, 1, again(13, ns(40), "a")), None);
}

#[test]
fn a_redelivery_whose_first_delivery_was_not_seen_is_of_the_only_publish() {
    let with_id = |delivery| Delivery { is_marked: true, ..delivery };
    let mut messages = idle();
    publish(&mut messages, 1, 1, ns(10));
    assert_eq!(deliver(&mut messages, 1, with_id(again(11, ns(30), "a"))), Some(OpId(1)));
    let left = "it has left the queue";
    assert_eq!(deliver(&mut messages, 1, with_id(delivery(12, ns(31), "a"))), None, "{left}");
    // Without an ID, an equal message from before anything was seen may have come back.
    let mut messages = idle();
    publish(&mut messages, 1, 1, ns(10));
    assert_eq!(deliver(&mut messages, 1, again(11, ns(30), "a")), None);
}

#[test]
fn a_dead_lettered_message_is_found_by_its_first_address_however_often_it_comes_back() {
    let dead = MessageKey::new("b", &[1; 32], "dead", "new", Stamp::default());
    let mut messages = idle();
    publish(&mut messages, 1, 1, ns(10));
    let refused = Delivery { outcome: Outcome::Refused, ..delivery(11, ns(20), "work") };
    assert_eq!(deliver(&mut messages, 1, refused), Some(OpId(1)));
    for (op, at) in [(12, 1_000), (13, 2_000)] {
        let comes_back =
            Delivery { dead_lettered: true, outcome: Outcome::Refused, ..delivery(op, ns(at), "work") };
        messages.deliver(dead, Some(key(1)), comes_back);
        let pair = messages.poll_pair().expect("there is but one publish");
        assert_eq!((pair.delivery, pair.publish), (OpId(op), OpId(1)));
        assert!(pair.again_since.is_some_and(|since| since < ns(at)));
    }
}

#[test]
fn what_a_program_publishes_again_with_the_headers_of_the_dead_is_a_publish_of_its_own() {
    let dead = MessageKey::new("b", &[1; 32], "dead", "new", Stamp::default());
    let mut messages = idle();
    publish(&mut messages, 1, 1, ns(10));
    messages.publish(dead, None, published(2, ns(20), CONN));
    messages.deliver(dead, Some(key(1)), Delivery { dead_lettered: true, ..delivery(11, ns(30), "q") });
    assert_eq!(pairs(&mut messages), [(11, 2)]);
}

#[test]
fn a_delivery_seen_before_its_publish_is_over_waits_for_it() {
    let mut messages = idle();
    assert_eq!(deliver(&mut messages, 1, delivery(11, ns(30), "a")), None);
    publish(&mut messages, 1, 1, ns(20));
    assert_eq!(pairs(&mut messages), [(11, 1)]);
}

#[test]
fn a_message_cannot_leave_before_it_came() {
    let mut messages = idle();
    publish(&mut messages, 1, 1, ns(50));
    assert_eq!(deliver(&mut messages, 1, delivery(11, ns(30), "a")), None);
}

#[test]
fn the_same_message_to_another_address_is_another() {
    let digest = [1; 32];
    let keys = [("b", "e", "k"), ("c", "e", "k"), ("b", "f", "k"), ("b", "e", "l"), ("b", "", "ek")];
    let keys: BTreeSet<MessageKey> = keys
        .iter()
        .map(|(broker, exchange, key)| MessageKey::new(broker, &digest, exchange, key, Stamp::default()))
        .collect();
    assert_eq!(keys.len(), 5);
}

#[test]
fn the_table_is_bounded() {
    let mut messages = Messages::new(4);
    for n in 0..100 {
        publish(&mut messages, n, u64::from(n), ns(1));
        assert!(messages.len() <= 4);
    }
    assert_eq!(messages.forgotten().messages, 96);
    let mut messages = Messages::new(3 * MAX_EQUAL);
    for n in 0..10_000 {
        publish(&mut messages, 99, n, ns(n));
        messages.deliver(key(98), None, delivery(n, ns(n), &n.to_string()));
        messages.deliver(key(99), None, put_back(again(n, ns(n), "q")));
    }
    assert!(messages.entries.get(&key(98)).unwrap().waiting.len() <= MAX_EQUAL);
    assert!(messages.entries.get(&key(98)).unwrap().used.len() <= MAX_EQUAL);
    assert!(messages.entries.get(&key(99)).unwrap().publishes.len() <= MAX_EQUAL);
    assert!(messages.entries.get(&key(99)).unwrap().back.len() <= MAX_EQUAL);
    let forgotten = messages.forgotten();
    assert!(forgotten.equal >= 2 * (10_000 - MAX_EQUAL as u64), "{forgotten:?}");
}

#[test]
fn destinations_and_open_operations_are_bounded_and_counted() {
    let mut messages = Messages::new(4);
    messages.called(CONSUMER, BootTime::ZERO, BootTime::ZERO);
    for n in 0..progress::MAX_DESTINATIONS as u64 + 10 {
        let second = 1_000_000_000;
        publish(&mut messages, n as u8, 2 * n, ns(n * second));
        messages.deliver(key(n as u8), None, delivery(2 * n + 1, ns(n * second + 5), &n.to_string()));
        assert!(messages.poll_pair().is_some(), "{n}");
    }
    assert_eq!(messages.forgotten().destinations, 10);
    (0..MAX_OPEN as u64 + 5).for_each(|n| messages.opened(OpId(n), ns(n)));
    assert_eq!(messages.forgotten().open, 5);
}

#[test]
fn the_only_publish_is_not_a_deliverys_where_an_equal_message_may_have_waited() {
    let later = START + 20 * TOGETHER;
    let second = Duration::from_secs(1);
    // It is delivered because somebody began to consume, or settled what he had.
    for asks in [true, false] {
        let mut messages = Messages::new(8);
        publish(&mut messages, 1, 1, later);
        match asks {
            true => messages.called(CONSUMER, later + second, later + second),
            false => messages.settled(CONSUMER, later + second),
        }
        let at = later + second + Duration::from_millis(1);
        assert_eq!(deliver(&mut messages, 1, delivery(11, at, "q")), None);
        // The second is the publish's, but which of both is the older one is not known.
        assert_eq!(deliver(&mut messages, 1, delivery(12, at + second, "q")), None);
    }
    // Whoever asks by himself is handed what there is.
    let mut messages = idle();
    publish(&mut messages, 1, 1, later);
    assert_eq!(
        deliver(&mut messages, 1, Delivery { pulled: true, ..delivery(11, later + second, "q") }),
        None
    );
}

#[test]
fn an_uncertain_step_makes_nothing_certain() {
    let mut messages = Messages::new(8);
    publish(&mut messages, 1, 1, ns(10));
    publish(&mut messages, 1, 2, ns(20) + 2 * TOGETHER);
    let later = START + 20 * TOGETHER;
    messages.called(CONSUMER, later, later);
    for op in 11..14 {
        let at = later + Duration::from_nanos(op);
        assert_eq!(deliver(&mut messages, 1, delivery(op, at, "q")), None, "{op}");
    }
}

#[test]
fn what_came_to_a_consumer_that_had_asked_for_nothing_has_just_been_published() {
    let mut messages = Messages::new(8);
    publish(&mut messages, 1, 1, ns(10));
    messages.settled(CONSUMER, ns(20));
    let later = START + 20 * TOGETHER;
    publish(&mut messages, 1, 2, later);
    let first = delivery(11, later + Duration::from_nanos(1), "q");
    assert_eq!(deliver(&mut messages, 1, first), Some(OpId(2)), "the first has left unseen");
    // From now on the queue is known, however busy its consumer is.
    publish(&mut messages, 2, 3, later + Duration::from_nanos(2));
    messages.settled(CONSUMER, later + Duration::from_nanos(3));
    let second = delivery(12, later + Duration::from_nanos(4), "q");
    assert_eq!(deliver(&mut messages, 2, second), Some(OpId(3)));
    // A loss makes it unknown again.
    publish(&mut messages, 3, 4, later + Duration::from_nanos(5));
    messages.missed(later + Duration::from_nanos(6));
    assert_eq!(deliver(&mut messages, 3, delivery(13, later + Duration::from_nanos(7), "q")), None);
}

#[test]
fn a_message_with_an_id_or_unlike_all_others_of_its_address_needs_no_proof_of_its_queue() {
    let mut messages = Messages::new(64);
    publish(&mut messages, 1, 1, ns(10));
    assert_eq!(
        deliver(&mut messages, 1, Delivery { is_marked: true, ..delivery(11, ns(20), "q") }),
        Some(OpId(1))
    );
    let mut messages = Messages::new(64);
    (1..=30).for_each(|n| publish(&mut messages, n, u64::from(n), ns(10)));
    assert_eq!(deliver(&mut messages, 30, delivery(31, ns(20), "q")), Some(OpId(30)));
    let mut messages = Messages::new(64);
    (1..=30).for_each(|n| publish(&mut messages, n, u64::from(n), ns(10)));
    publish(&mut messages, 1, 40, ns(11));
    assert_eq!(deliver(&mut messages, 30, delivery(31, ns(20), "q")), None);
}

#[test]
fn equal_messages_of_a_delayed_exchange_pair_by_their_delays() {
    let delayed = |ms| MessageKey::new("b", &[1; 32], "e", "k", Stamp { delay_ms: ms, ..Stamp::default() });
    let at = |ms| START + Duration::from_millis(ms);
    let mut messages = idle();
    for (op, sent, delay) in [(1, 1_000, 10_000), (2, 1_500, 1_000)] {
        let delay_for = Duration::from_millis(delay);
        messages.publish(
            delayed(delay),
            None,
            Published { delay: delay_for, ..published(op, at(sent), CONN) },
        );
    }
    for (op, came, delay, publish) in [(11, 2_501, 1_000, 2), (12, 11_001, 10_000, 1)] {
        let delivery = Delivery { delayed: true, ..delivery(op, at(came), "q") };
        messages.deliver(delayed(delay), None, delivery);
        assert_eq!(pairs(&mut messages), [(op, publish)]);
    }
    // Before its delay is over it cannot come.
    messages.publish(
        delayed(7_000),
        None,
        Published { delay: Duration::from_secs(7), ..published(3, at(12_000), CONN) },
    );
    messages.deliver(delayed(7_000), None, Delivery { delayed: true, ..delivery(13, at(18_000), "q") });
    assert_eq!(pairs(&mut messages), []);
}

#[test]
fn what_has_expired_is_not_delivered_any_more() {
    let mut messages = watched("q");
    let expires = Some(Duration::from_secs(1));
    messages.publish(key(1), None, Published { expires, ..published(1, ns(10), CONN) });
    let later = START + Duration::from_secs(5);
    messages.publish(key(1), None, Published { expires, ..published(2, later, CONN) });
    assert_eq!(deliver(&mut messages, 1, delivery(11, later + Duration::from_nanos(1), "q")), Some(OpId(2)));
}

#[test]
fn what_overtakes_others_says_nothing_of_what_is_left_in_the_queue() {
    let late = START + 10 * TOGETHER;
    let mut messages = idle();
    publish(&mut messages, 2, 2, late);
    let urgent = Delivery { has_priority: true, ..delivery(12, late + Duration::from_nanos(1), "q") };
    assert_eq!(deliver(&mut messages, 2, urgent), Some(OpId(2)));
    // What was queued before it may still come, also by another consumer that asks for it.
    let asks = ConnId(10);
    messages.called(asks, late + TOGETHER, late + TOGETHER);
    publish(&mut messages, 3, 3, late + Duration::from_nanos(2));
    let plain = Delivery { conn: asks, ..delivery(13, late + TOGETHER + Duration::from_nanos(1), "q") };
    assert_eq!(deliver(&mut messages, 3, plain), None);
}

#[test]
fn a_message_that_its_broker_stamped_is_found_without_the_stamp() {
    let stamped = |timestamp| MessageKey::new("b", &[1; 32], "e", "k", Stamp { timestamp, delay_ms: 0 });
    let mut messages = idle();
    messages.publish(stamped(Some(5)), Some(stamped(None)), published(1, ns(10), CONN));
    assert!(messages.is_published(stamped(Some(5))) && messages.is_published(stamped(None)));
    assert!(!messages.is_published(stamped(Some(6))));
    messages.deliver(stamped(None), None, delivery(11, ns(20), "q"));
    assert_eq!(pairs(&mut messages), [(11, 1)]);
}

#[test]
fn deliveries_settled_in_any_order_pair_with_their_own_publishes() {
    let mut messages = idle();
    for n in 1..=8u64 {
        publish(&mut messages, n as u8, n, ns(1_000_000_000 * n));
    }
    // The last is settled first: what it shows of the queue says nothing about those that left before it.
    for n in (1..=8u64).rev() {
        let at = ns(1_000_000_000 * n + 1_000);
        assert_eq!(deliver(&mut messages, n as u8, delivery(10 + n, at, "q")), Some(OpId(n)), "{n}");
    }
}

#[test]
fn an_older_consumer_that_has_asked_for_nothing_since_anything_is_seen_was_idle() {
    let mut messages = Messages::new(8);
    messages.opened(OpId(7), ns(5));
    let later = START + 6 * TOGETHER;
    publish(&mut messages, 1, 1, later);
    let delivery = delivery(11, later + Duration::from_nanos(1), "q");
    assert_eq!(deliver(&mut messages, 1, delivery), Some(OpId(1)));
}

#[test]
fn what_comes_back_before_it_is_known_how_it_left_waits_for_that() {
    let mut messages = idle();
    publish(&mut messages, 1, 1, ns(10));
    assert_eq!(deliver(&mut messages, 1, again(12, ns(40), "q")), None);
    // The end of the first consumer's connection is seen late.
    messages.deliver(key(1), None, put_back(delivery(11, ns(30), "q")));
    assert_eq!(pairs(&mut messages), [(11, 1), (12, 1)]);
}

#[test]
fn what_died_of_its_age_is_of_the_only_publish_where_an_older_one_would_have_died_before() {
    let dead = |at| Delivery { dead_lettered: true, ..delivery(11, at, "late") };
    let expires = Some(Duration::from_secs(1));
    for (asked, found) in [(Duration::from_secs(2), true), (Duration::from_millis(500), false)] {
        let mut messages = Messages::new(8);
        messages.opened(OpId(7), ns(0));
        let asked = START + asked;
        messages.called(CONSUMER, asked, asked);
        messages.publish(key(1), None, Published { expires, ..published(1, asked, CONN) });
        messages.deliver(key(2), Some(key(1)), dead(asked + Duration::from_secs(1)));
        let expected = if found { vec![(11, 1)] } else { vec![] };
        assert_eq!(pairs(&mut messages), expected);
    }
}

#[test]
fn what_is_not_proven_waits_for_what_the_others_of_its_address_show() {
    let mut messages = Messages::new(64);
    for n in 1..=29 {
        publish(&mut messages, n, u64::from(n), ns(10));
        assert_eq!(deliver(&mut messages, n, delivery(100 + u64::from(n), ns(20), "q")), None);
    }
    publish(&mut messages, 30, 30, ns(10));
    let expected: Vec<(u64, u64)> = (1..=29).map(|n| (100 + n, n)).collect();
    assert_eq!(pairs(&mut messages), expected);
    assert!(messages.unproven.is_empty());
    // Where one is equal to another, nothing is shown, and the second delivery is not certain of what may be the first one's.
    let mut messages = watched("q");
    publish(&mut messages, 1, 1, ns(10) + 20 * TOGETHER);
    let at = ns(10) + 40 * TOGETHER;
    messages.settled(CONSUMER, at);
    let old = Delivery { destination: queue("p"), ..delivery(11, at + TOGETHER / 2, "p") };
    assert_eq!(deliver(&mut messages, 1, old), None);
    let new = Delivery { destination: queue("p"), ..delivery(12, at + TOGETHER, "p") };
    assert_eq!(deliver(&mut messages, 1, new), None);
    (0..2 * MAX_UNPROVEN as u64).for_each(|n| {
        messages.deliver(key(1), None, delivery(1_000 + n, at + TOGETHER, "p"));
    });
    assert_eq!(messages.unproven.len(), 1, "it waits once, however many deliveries it has");
    assert_eq!(messages.forgotten().unproven, 0);
}

#[test]
fn messages_that_wait_for_proof_are_bounded_and_counted() {
    let mut messages = Messages::new(2 * MAX_UNPROVEN);
    let digest = |n: u64| {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        digest
    };
    for n in 0..MAX_UNPROVEN as u64 + 3 {
        let key = MessageKey::new("b", &digest(n), "orders", "new", Stamp::default());
        // Each to another address: nothing is shown of it.
        let address = Address::new(&hasher(), "b", "", &n.to_string());
        messages.publish(key, None, Published { address, ..published(n, ns(10), CONN) });
        messages.deliver(key, None, Delivery { address, ..delivery(10_000 + n, ns(20), "q") });
    }
    assert_eq!((messages.unproven.len(), messages.forgotten().unproven), (MAX_UNPROVEN, 3));
}

#[test]
fn all_that_is_remembered_of_messages_is_bounded() {
    let mut messages = Messages::new(8);
    let parts = |messages: &Messages| messages.entries.values().map(Entry::parts).sum::<usize>();
    for n in 0..200 {
        let at = ns(u64::from(n));
        messages.opened(OpId(1), ns(0));
        publish(&mut messages, n % 5, u64::from(n), at);
        messages.deliver(key(n % 5), None, put_back(delivery(1_000 + u64::from(n), at, &n.to_string())));
        assert!(parts(&messages) <= 8 * PARTS, "{n}");
        assert_eq!(parts(&messages), messages.parts, "{n}");
        assert!(messages.blocked.len() <= messages.parts, "{n}");
    }
    assert!(messages.forgotten().messages > 0);
}

#[test]
fn a_message_that_is_published_again_is_no_older_than_others() {
    let mut messages = Messages::new(3);
    publish(&mut messages, 1, 1, ns(1));
    for n in 2..9 {
        publish(&mut messages, n, u64::from(n), ns(10 * u64::from(n)));
        publish(&mut messages, 1, 100, ns(10 * u64::from(n) + 1));
    }
    assert!(messages.is_published(key(1)) && !messages.is_published(key(2)));
}

#[test]
fn a_publish_that_is_forgotten_may_be_what_leaves_next() {
    // Of one message, or with its message.
    for with_its_message in [false, true] {
        let mut messages = Messages::new(if with_its_message { 2 } else { MAX_EQUAL });
        messages.called(CONSUMER, BootTime::ZERO, BootTime::ZERO);
        publish(&mut messages, 1, 1, ns(10));
        match with_its_message {
            true => (5..9).for_each(|n| publish(&mut messages, n, 100 + u64::from(n), ns(20))),
            false => (0..MAX_EQUAL as u64).for_each(|n| publish(&mut messages, 1, 100 + n, ns(20 + n))),
        }
        publish(&mut messages, 1, 2, ns(50_000));
        // It is the first that leaves.
        let at = ns(100_000);
        assert_eq!(deliver(&mut messages, 1, delivery(11, at, "q")), None, "{with_its_message}");
        // Long after, it has left.
        let later = at + Duration::from_secs(2);
        publish(&mut messages, 2, 3, later);
        let next = delivery(12, later + Duration::from_nanos(1), "q");
        assert_eq!(deliver(&mut messages, 2, next), Some(OpId(3)), "{with_its_message}");
    }
}

#[test]
fn what_a_forgotten_destination_had_used_up_is_not_used_again() {
    let mut messages = Messages::new(4 * MAX_EQUAL);
    messages.called(CONSUMER, BootTime::ZERO, BootTime::ZERO);
    publish(&mut messages, 1, 1, ns(10));
    assert_eq!(deliver(&mut messages, 1, delivery(1, ns(20), "0")), Some(OpId(1)));
    for n in 1..=MAX_EQUAL as u64 {
        deliver(&mut messages, 1, delivery(1 + n, ns(20), &n.to_string()));
    }
    assert_eq!(deliver(&mut messages, 1, delivery(5_000, ns(30), "0")), None);
}

#[test]
fn messages_that_differ_in_their_time_alone_are_equal() {
    let mut messages = Messages::new(64);
    for n in 1..=30 {
        let stamped =
            |timestamp| MessageKey::new("b", &[1; 32], "orders", "new", Stamp { timestamp, delay_ms: 0 });
        messages.publish(stamped(Some(n)), Some(stamped(None)), published(n, ns(10), CONN));
    }
    assert!(!messages.habits.differ(address()));
}

#[test]
fn queues_of_one_name_at_two_brokers_are_two() {
    let broker = |name| Destination::queue(&hasher(), name, "q");
    assert_ne!(broker("b"), broker("c"));
    let hashes: HashMap<u64, bool> = ["q", "r"].map(|name| (queue(name).hash, true)).into();
    assert_eq!(hashes.len(), 2);
}

#[test]
fn what_came_to_the_broker_just_before_it_had_done_with_a_consumer_may_still_come() {
    let mut messages = Messages::new(8);
    messages.settled(CONSUMER, ns(0));
    let idle = ns(0) + ANSWERED_WITHIN;
    publish(&mut messages, 1, 1, idle - TOGETHER / 2);
    publish(&mut messages, 1, 2, idle + 4 * TOGETHER);
    let at = idle + 5 * TOGETHER;
    assert_eq!(deliver(&mut messages, 1, delivery(11, at, "q")), Some(OpId(1)), "it is in its queue now");
}

#[test]
fn what_had_waited_for_a_subscription_proves_nothing_of_its_queue() {
    // A queue holds equal messages from before anything was seen; they come behind the answer to a subscription, one by one.
    let mut messages = Messages::new(64);
    messages.opened(OpId(7), ns(1));
    let asked = START + 10 * ANSWERED_WITHIN;
    messages.called(CONSUMER, asked, asked);
    let first = asked + Duration::from_micros(50);
    assert_eq!(deliver(&mut messages, 1, delivery(11, first, "q")), None);
    messages.settled(CONSUMER, asked + 2 * ANSWERED_WITHIN);
    // An equal one that is published now stands behind all of them.
    publish(&mut messages, 1, 1, asked + 3 * ANSWERED_WITHIN);
    messages.settled(CONSUMER, asked + 4 * ANSWERED_WITHIN);
    let next = asked + 4 * ANSWERED_WITHIN + Duration::from_micros(50);
    assert_eq!(deliver(&mut messages, 1, delivery(12, next, "q")), None);
}
