use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;

use super::*;
use crate::causality::across::message::Stamp;

const ORDERS: u64 = 7;
const AFTER: Duration = Duration::from_secs(2);

fn at(seconds: u64) -> BootTime {
    BootTime::ZERO + Duration::from_secs(seconds)
}

fn key(message: u8) -> MessageKey {
    MessageKey::new("broker", &[message; 32], "orders", "new", Stamp::default())
}

fn address(routing_key: &str) -> Address {
    Address::new(&BuildHasherDefault::<DefaultHasher>::default(), "broker", "orders", routing_key)
}

/// A broker with one queue for orders, which was declared to stay.
struct Broker(Queued);

impl Broker {
    fn new() -> Self {
        let mut queued = Queued::default();
        queued.declared(ORDERS);
        let mut broker = Self(queued);
        (1..=3).for_each(|n| broker.passes(n, u64::from(n)));
        broker
    }

    fn publishes(&mut self, message: u8, seconds: u64) {
        let keys = [Some(key(message)), None];
        self.0.published(OpId(message.into()), keys, address("new"), at(seconds), false);
    }

    fn hands_on(&mut self, message: u8, seconds: u64, conn: u64) {
        self.0.handed_on(handed(message, seconds, conn));
    }

    fn passes(&mut self, message: u8, seconds: u64) {
        self.publishes(message, seconds);
        self.hands_on(message, seconds, 1);
    }

    /// Publish, consumers, depth.
    fn lying(&self, seconds: u64) -> Vec<(u64, Option<usize>, usize)> {
        let (lying, _) = self.0.lying(at(seconds), AFTER, &BTreeSet::new());
        lying.iter().map(|lying| (lying.op.0, lying.consumers, lying.depth)).collect()
    }
}

fn handed(message: u8, seconds: u64, conn: u64) -> Handed {
    Handed {
        keys: vec![key(message)],
        is_dead: false,
        address: address("new"),
        queue: Some((ORDERS, "orders".to_owned())),
        consumer: Some(Consumer { conn: ConnId(conn), channel: 1, tag: 1 }),
        at: at(seconds),
        put_back: None,
        in_order: true,
    }
}

#[test]
fn what_the_broker_took_and_did_not_hand_on_lies_in_its_queue_until_somebody_takes_it() {
    let mut broker = Broker::new();
    broker.publishes(10, 10);
    assert_eq!(broker.lying(11), [], "not for long enough");
    assert_eq!(broker.lying(12), [(10, Some(1), 1)], "its consumer is there");
    broker.0.left(ConnId(1), None, None);
    broker.publishes(11, 11);
    assert_eq!(broker.lying(12), [(10, Some(0), 2)], "nobody takes from it");
    assert_eq!(broker.lying(13), [(10, Some(0), 2), (11, Some(0), 2)]);
    broker.0.subscribed(ORDERS);
    assert_eq!(broker.lying(13)[0].1, None, "somebody may take from it now");
    broker.0.take_handed();
    broker.hands_on(10, 14, 2);
    assert_eq!(broker.0.take_handed(), [OpId(10)]);
    assert_eq!(broker.lying(14), [(11, Some(1), 1)]);
    broker.hands_on(11, 15, 2);
    assert_eq!(broker.lying(20), []);
}

#[test]
fn what_somebody_has_does_not_lie_and_lies_again_when_it_is_put_back() {
    let mut broker = Broker::new();
    broker.publishes(10, 10);
    let (lying, taken) = broker.0.lying(at(20), AFTER, &[key(10)].into());
    assert_eq!((lying, taken), (vec![], vec![OpId(10)]));
    broker.0.handed_on(Handed { put_back: Some(at(30)), ..handed(10, 11, 1) });
    assert_eq!(broker.lying(31), []);
    assert_eq!(broker.lying(32), [(10, Some(1), 1)]);
}

#[test]
fn nothing_is_told_of_a_queue_that_may_be_gone_or_may_drop_what_it_has() {
    let mut broker = Broker::new();
    broker.publishes(10, 10);
    broker.0.left(ConnId(1), None, None);
    broker.0.queues.get_mut(&QueueId::Named(ORDERS)).expect("a queue").stays = false;
    assert_eq!(broker.lying(20), [], "it may have gone with its consumer");
    let mut broker = Broker::new();
    broker.publishes(10, 10);
    broker.0.changed(ORDERS);
    assert_eq!(broker.lying(20), [], "it was emptied or deleted");
    let mut broker = Broker::new();
    broker.0.published(OpId(10), [Some(key(10)), None], address("new"), at(10), true);
    assert_eq!(broker.lying(20), [], "it may have expired");
    let mut broker = Broker::new();
    broker.publishes(10, 10);
    broker.0.missed();
    assert_eq!(broker.lying(20), [], "its delivery may be among what was lost");
    let mut broker = Broker::new();
    broker.publishes(10, 10);
    broker.0.returned(key(10));
    assert_eq!(broker.lying(20), [], "no queue wanted it");
}

#[test]
fn nothing_is_told_of_an_address_whose_messages_are_not_seen_to_come_out() {
    let mut broker = Broker::new();
    broker.0.published(OpId(10), [Some(key(10)), None], address("other"), at(10), false);
    assert_eq!(broker.lying(20), [], "no queue may want it");
    let mut queued = Queued::default();
    queued.declared(ORDERS);
    let mut few = Broker(queued);
    (1..=2).for_each(|n| few.passes(n, u64::from(n)));
    few.publishes(10, 10);
    assert_eq!(few.lying(20), []);
    few.hands_on(10, 20, 1);
    few.publishes(11, 21);
    assert_eq!(few.lying(30), [(11, Some(1), 1)]);
    // Another queue has copies.
    few.0.handed_on(Handed { queue: Some((8, "copies".to_owned())), ..handed(11, 22, 3) });
    few.publishes(12, 23);
    assert_eq!(few.lying(30), []);
}

#[test]
fn who_takes_messages_unseen_is_found_by_those_that_come_out_behind_them() {
    let mut broker = Broker::new();
    broker.publishes(10, 10);
    broker.passes(11, 15);
    broker.publishes(12, 20);
    assert_eq!(broker.lying(30), [], "the tenth left before the eleventh, and nobody saw it");
    // It was in somebody's hands.
    broker.hands_on(10, 11, 2);
    assert_eq!(broker.lying(30), [(12, Some(2), 1)]);
}

#[test]
fn what_comes_out_before_its_confirm_does_not_lie() {
    let mut broker = Broker::new();
    broker.hands_on(10, 11, 1);
    broker.publishes(10, 10);
    assert_eq!(broker.lying(20), []);
    broker.publishes(10, 12);
    assert_eq!(broker.lying(20), [(10, Some(1), 1)], "an equal one came after it");
}

#[test]
fn of_equal_messages_none_is_told() {
    let mut broker = Broker::new();
    broker.publishes(10, 10);
    broker.0.published(OpId(99), [Some(key(10)), None], address("new"), at(11), false);
    assert_eq!(broker.lying(20), []);
}

/// Where the routing key names the order and the subscription was not seen, each message seems to be of a queue of its own.
#[test]
fn queues_that_are_known_by_their_messages_only_are_bounded_with_their_consumers() {
    let mut queued = Queued::default();
    let messages = MAX_ADDRESSES + 10;
    for n in 0..messages {
        let keys = vec![MessageKey::new(&n.to_string(), &[0; 32], "", "", Stamp::default())];
        let address = address(&format!("order.{n}.new"));
        queued.handed_on(Handed { keys, address, queue: None, ..handed(1, n as u64, 1) });
    }
    let queues = |queued: &Queued| queued.taken_over.values().map(BTreeSet::len).sum::<usize>();
    assert_eq!((queued.queues.len(), queues(&queued)), (MAX_ADDRESSES, MAX_ADDRESSES));
    queued.left(ConnId(1), Some(2), None);
    assert_eq!(queues(&queued), MAX_ADDRESSES, "its consumers are on another channel");
    queued.left(ConnId(1), Some(1), None);
    assert_eq!((queued.taken_over.len(), queued.queues.len()), (0, MAX_ADDRESSES));
}

#[test]
fn what_a_connection_was_handed_is_no_consumer_once_it_is_over() {
    let mut broker = Broker::new();
    broker.publishes(9, 8);
    broker.publishes(10, 10);
    broker.0.left(ConnId(1), None, None);
    // Known late, by records that waited for others.
    broker.hands_on(9, 8, 1);
    assert_eq!(broker.lying(20), [(10, Some(0), 1)]);
    assert!(broker.0.taken_over.is_empty());
}

#[test]
fn it_is_bounded_and_forgets_what_was_published_first() {
    let mut queued = Queued::default();
    for n in 0..MAX_MESSAGES as u64 + 2 {
        let key = MessageKey::new(&n.to_string(), &[0; 32], "", "", Stamp::default());
        queued.published(OpId(n), [Some(key), None], address("new"), at(n), false);
    }
    assert_eq!((queued.forgotten(), queued.messages.len()), (2, MAX_MESSAGES));
    assert_eq!((queued.by_key.len(), queued.by_age.len()), (MAX_MESSAGES, MAX_MESSAGES));
    assert!(!queued.messages.contains_key(&OpId(1)) && queued.messages.contains_key(&OpId(2)));
    (0..MAX_OPEN as u64 + 1).for_each(|n| queued.opened(OpId(n), ConnId(1)));
    assert_eq!(queued.open(usize::MAX), None, "one of those that are not remembered may be of any message");
}
