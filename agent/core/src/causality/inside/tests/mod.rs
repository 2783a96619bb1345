use std::collections::HashMap;

use super::process::Process;
use super::thresholds::*;
use super::trust::Signal;
use super::*;
use crate::causality::Rule;
use crate::operation::postgres::TransactionNumber;
use crate::record::{Tid, Worker};
use std::time::Duration;

use crate::trace::Value;

/// A process under test, driven in virtual time: one tick per call.
struct World {
    inside: Inside,
    now: BootTime,
    next: u64,
    edges: HashMap<OpId, (OpId, Rule)>,
    /// How sure each is, in hundredths.
    sure: HashMap<OpId, u32>,
    /// Facts of the next operation that is closed.
    facts: Facts,
    /// Its content.
    echo: Option<Echo>,
    /// The trace whose ID the next operation carries that is over.
    trace: Option<Carried>,
    /// The message that it is, as a chain names it.
    delivery: Option<TaskId>,
    /// It was not read for keys.
    is_unread: bool,
    /// The beginning of transactions is not seen.
    is_late: bool,
}

/// Some content.
fn echo(content: u64) -> Option<Echo> {
    Some(Echo { asked: Asked(content), whole: content })
}

/// Some trace.
fn trace(id: u64) -> Option<Carried> {
    Some(Carried(id))
}

fn order(value: &str) -> OrderKey {
    OrderKey { namespace: "order".into(), value: value.into() }
}

const TICK: Duration = Duration::from_millis(1);

impl World {
    fn new() -> Self {
        let policy = Policy {
            rules: Rule::ALL.into_iter().collect(),
            min_confidence: 0.6,
            decide_within: Duration::from_secs(10),
            broker_wait: Duration::ZERO,
        };
        Self {
            inside: Inside::new(policy),
            now: BootTime::ZERO + Duration::from_secs(1),
            next: 0,
            edges: HashMap::new(),
            sure: HashMap::new(),
            facts: Vec::new(),
            echo: None,
            trace: None,
            delivery: None,
            is_unread: false,
            is_late: false,
        }
    }

    fn process(&self, tgid: u32) -> &Process {
        self.inside.table.processes.get(&Tgid(tgid)).expect("it is known")
    }

    fn point(&mut self, tid: u32) -> Point {
        self.now += TICK;
        Point { at: self.now, pos: 0, thread: Worker::new(1, tid), awaited_by: None }
    }

    fn open(&mut self, shape: OpSide, family: Interaction, conn: u64, tid: u32) -> OpId {
        self.next += 1;
        let op = OpId(self.next);
        let point = self.point(tid);
        self.inside.opened(Opening { op, shape, family, conn: ConnId(conn), point });
        if shape == OpSide::Incoming {
            self.inside.requested(op, point);
        }
        op
    }

    /// A request arrives and is read whole by `tid`.
    fn request(&mut self, conn: u64, tid: u32) -> OpId {
        self.open(OpSide::Incoming, Interaction::Call, conn, tid)
    }

    fn message(&mut self, conn: u64, tid: u32) -> OpId {
        self.open(OpSide::Incoming, Interaction::Message, conn, tid)
    }

    /// A publish or settlement is written, by several threads where a write of one took the start of another's along.
    fn write(&mut self, conn: u64, first: Point, last: Point) -> OpId {
        self.next += 1;
        let op = OpId(self.next);
        let (shape, family, conn) = (OpSide::Outgoing, Interaction::Message, ConnId(conn));
        self.inside.opened(Opening { op, shape, family, conn, point: first });
        self.inside.requested(op, last);
        op
    }

    fn call(&mut self, conn: u64, tid: u32) -> OpId {
        self.open(OpSide::Outgoing, Interaction::Call, conn, tid)
    }

    fn close(&mut self, op: OpId, tid: u32, key: Option<&str>) {
        self.close_in(op, tid, key, None, false);
    }

    fn close_in(&mut self, op: OpId, tid: u32, key: Option<&str>, transaction: Option<u64>, ends: bool) {
        let point = self.point(tid);
        let keys = key.map(order);
        let is_begun = !self.is_late;
        self.inside.closed(Closing {
            op,
            at: point.at,
            response_start: Some(point),
            response_end: Some(point),
            keys: keys.into_iter().collect(),
            answered: true,
            facts: std::mem::take(&mut self.facts),
            echo: self.echo.take(),
            trace: self.trace.take(),
            transaction: transaction.map(|number| InTransaction {
                number: TransactionNumber(number),
                is_begun,
                is_end: ends,
            }),
            is_read: !std::mem::take(&mut self.is_unread),
            named: None,
            delivery: self.delivery.take(),
        });
        self.collect();
    }

    /// What hangs is asked what it has shown, and `showing` is it.
    fn show(&mut self, showing: impl Fn(OpId) -> Option<Showing>) {
        self.inside.handle_timeout(self.now);
        while let Some((_, op)) = self.inside.poll_to_peek() {
            if let Some(showing) = showing(op) {
                self.inside.shown(op, showing);
            }
        }
        self.inside.handle_timeout(self.now);
        self.collect();
    }

    /// Requests that hang show nothing.
    fn time_out(&mut self, now: BootTime) {
        self.inside.handle_timeout(now);
        while self.inside.poll_to_peek().is_some() {}
        self.inside.handle_timeout(now);
    }

    /// Time passes, and what waited for it is decided.
    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.time_out(self.now);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(edge) = self.inside.poll_edge() {
            self.sure.insert(edge.child, (edge.confidence.0 * 100.0).round() as u32);
            assert!(
                self.edges.insert(edge.child, (edge.parent, edge.rule)).is_none(),
                "two parents for one operation"
            );
        }
    }

    fn check(&self, child: OpId, expected: Option<(OpId, Rule)>) {
        assert_eq!(self.edges.get(&child).copied(), expected, "cause of {child:?}");
    }
}

#[test]
fn a_thread_that_serves_one_request_causes_what_it_does_meanwhile() {
    let mut world = World::new();
    let a = world.request(1, 10);
    let b = world.request(2, 11);
    let from_a = world.call(3, 10);
    let from_b = world.call(4, 11);
    world.close(from_a, 10, None);
    world.close(from_b, 11, None);
    world.close(a, 10, None);
    world.check(from_a, Some((a, Rule::Thread)));
    world.check(from_b, None);
    world.close(b, 11, None);
    world.check(from_b, Some((b, Rule::Thread)));
}

#[test]
fn around_a_loss_only_keys_prove_something() {
    let mut world = World::new();
    let a = world.request(1, 10);
    let plain = world.call(3, 10);
    world.close(plain, 10, None);
    let named = world.call(3, 10);
    world.close(named, 10, Some("1"));
    world.inside.missed(Tgid(1), world.now, world.now);
    world.close(a, 10, Some("1"));
    world.check(plain, None);
    world.check(named, Some((a, Rule::Value)));
}

#[test]
fn an_event_loop_with_two_requests_is_not_judged_by_thread() {
    let mut world = World::new();
    let a = world.request(1, 10);
    let b = world.request(2, 10);
    // Reading `b` was the last thing the thread did, so this write is b's.
    let from_b = world.call(3, 10);
    let from_a = world.call(4, 10);
    world.close(from_b, 10, Some("2"));
    world.close(from_a, 10, Some("1"));
    world.close(a, 10, Some("1"));
    world.close(b, 10, Some("2"));
    world.check(from_b, Some((b, Rule::Value)));
    world.check(from_a, Some((a, Rule::Value)));
}

#[test]
fn a_response_that_frees_a_pooled_connection_proves_nothing_for_the_next_write_on_it() {
    let mut world = World::new();
    let a = world.request(1, 10);
    let from_a = world.call(3, 10);
    let b = world.request(2, 10);
    world.close(from_a, 10, Some("1"));
    // One connection only: this may be a's next statement or the first of b, who waited for the connection.
    let unknown = world.call(3, 10);
    world.close(unknown, 10, None);
    world.close(a, 10, Some("1"));
    world.close(b, 10, Some("2"));
    world.check(from_a, Some((a, Rule::Value)));
    world.time_out(world.now + GRACE);
    world.collect();
    world.check(unknown, None);
    assert!(world.inside.is_settled(unknown));
}

/// Two requests at once on one thread, the first of which makes a second call after the first one's answer: that call.
fn two_at_once(world: &mut World, key: Option<&str>) -> (OpId, OpId) {
    let a = world.request(1, 10);
    let from_a = world.call(3, 10);
    let b = world.request(2, 10);
    world.close(from_a, 10, Some("1"));
    let next = world.call(3, 10);
    world.close(next, 10, key);
    world.close(a, 10, Some("1"));
    world.close(b, 10, Some("2"));
    world.wait(2 * AFTER);
    (a, next)
}

#[test]
fn what_was_read_last_is_evidence_where_keys_have_shown_that_it_is() {
    let mut world = World::new();
    // Another connection has nothing under way: nobody waits for one.
    let warm = world.call(9, 10);
    world.close(warm, 10, None);
    let (_, next) = two_at_once(&mut world, None);
    world.check(next, None);
    for _ in 0..=PROOF {
        let (a, next) = two_at_once(&mut world, Some("1"));
        world.check(next, Some((a, Rule::Value)));
    }
    let (a, next) = two_at_once(&mut world, None);
    world.check(next, Some((a, Rule::LastRead)));
    // Once it was wrong it is believed no more.
    two_at_once(&mut world, Some("2"));
    let (_, next) = two_at_once(&mut world, None);
    world.check(next, None);
}

#[test]
fn a_thread_that_keys_contradict_is_not_believed() {
    let mut world = World::new();
    // Work moves: what thread 10 writes while it "serves" a is b's.
    for _ in 0..3 {
        let a = world.request(1, 10);
        let b = world.request(2, 11);
        let call = world.call(3, 10);
        world.close(call, 11, Some("2"));
        world.close(a, 11, Some("1"));
        world.close(b, 10, Some("2"));
        world.check(call, Some((b, Rule::Value)));
        world.now += 2 * AFTER;
    }
    let a = world.request(1, 10);
    let b = world.request(2, 11);
    let call = world.call(3, 10);
    world.close(call, 10, None);
    world.close(a, 10, Some("1"));
    world.close(b, 11, Some("2"));
    world.time_out(world.now + GRACE);
    world.collect();
    world.check(call, None);
}

#[test]
fn what_becomes_known_late_is_not_judged_by_what_its_thread_does_by_then() {
    let mut world = World::new();
    let a = world.request(1, 10);
    let published = world.point(10);
    world.close(a, 10, None);
    let b = world.request(1, 10);
    world.next += 1;
    let late = OpId(world.next);
    world.inside.opened(Opening {
        op: late,
        shape: OpSide::Outgoing,
        family: Interaction::Message,
        conn: ConnId(3),
        point: published,
    });
    world.close(late, 10, None);
    world.close(b, 10, None);
    world.time_out(world.now + GRACE);
    world.collect();
    // Its thread answered `a` next.
    world.check(late, Some((a, Rule::Thread)));
}

#[test]
fn a_message_that_names_no_order_has_its_producers() {
    let mut world = World::new();
    let request = world.request(1, 10);
    let publish = world.open(OpSide::Outgoing, Interaction::Message, 3, 10);
    world.close(publish, 10, None);
    world.close(request, 10, Some("1"));
    world.check(publish, Some((request, Rule::Thread)));
    world.now += 2 * AFTER;
    let message = world.message(4, 20);
    let other = world.message(4, 20);
    let call = world.call(5, 21);
    world.close(call, 22, Some("1"));
    world.close(message, 20, None);
    world.close(other, 20, Some("2"));
    world.inside.linked(message, publish);
    world.wait(2 * GRACE);
    world.check(call, Some((message, Rule::Value)));
}

#[test]
fn a_hundred_thousand_open_operations_are_bounded_and_decided() {
    const COUNT: u64 = 100_000;
    let mut world = World::new();
    let requests: Vec<OpId> = (0..COUNT / 2).map(|n| world.request(n, 1000 + n as u32 % 500)).collect();
    let start = std::time::Instant::now();
    let calls: Vec<OpId> = (0..100).map(|n| world.call(COUNT + n, 5000)).collect();
    for call in &calls {
        world.close(*call, 5000, Some("7"));
    }
    let waiting: usize = world.inside.table.ops.values().map(|op| op.waiters.capacity()).sum();
    assert_eq!((waiting, world.process(1).blocked.len()), (0, calls.len()));
    world.wait(Duration::from_nanos(20_000_000_000));
    assert!(calls.iter().all(|call| world.inside.is_settled(*call)));
    assert!(start.elapsed().as_secs() < 20, "cost is not bounded: {:?}", start.elapsed());
    for request in requests {
        world.close(request, 1, None);
    }
    while let Some(due) = world.inside.next_timeout() {
        world.time_out(due);
    }
    assert!(world.inside.is_empty());
}

#[test]
fn a_key_that_names_another_order_vetoes_reading() {
    let mut world = World::new();
    let a = world.request(1, 10);
    let b = world.request(2, 10);
    let call = world.call(3, 10);
    world.close(call, 10, Some("7"));
    world.close(a, 10, Some("1"));
    world.close(b, 10, Some("2"));
    world.check(call, None);
}

#[test]
fn of_two_messages_of_one_order_the_one_with_the_same_status_is_the_cause() {
    let status = |status: &str| vec![("order.status".to_owned(), Value::from(status))];
    let mut world = World::new();
    let started = world.message(1, 10);
    let finished = world.message(1, 10);
    let call = world.call(3, 10);
    let plain = world.call(4, 10);
    world.facts = status("started");
    world.close(call, 10, Some("1"));
    world.close(plain, 10, Some("1"));
    world.facts = status("started");
    world.close(started, 10, Some("1"));
    world.facts = status("finished");
    world.close(finished, 10, Some("1"));
    world.check(call, Some((started, Rule::Value)));
    // No fact tells which of the two it was.
    world.time_out(world.now + GRACE);
    world.collect();
    world.check(plain, None);
}

#[test]
fn a_key_in_two_requests_at_once_decides_nothing() {
    let mut world = World::new();
    let a = world.request(1, 10);
    let b = world.request(2, 10);
    let call = world.call(3, 10);
    world.close(call, 10, Some("1"));
    world.close(a, 10, Some("1"));
    world.close(b, 10, Some("1"));
    world.time_out(world.now + GRACE);
    world.collect();
    world.check(call, None);
}

#[test]
fn the_pool_thread_that_settles_a_message_had_been_working_on_it() {
    let mut world = World::new();
    // A reader thread takes three messages in; two workers work on them.
    let first = world.message(1, 5);
    let second = world.message(1, 5);
    let third = world.message(1, 5);
    let by_20 = world.call(2, 20);
    let by_21 = world.call(3, 21);
    world.close(by_20, 20, None);
    world.close(by_21, 21, None);
    world.close(second, 20, Some("2"));
    world.close(first, 21, Some("1"));
    let again_20 = world.call(2, 20);
    world.close(again_20, 20, None);
    world.close(third, 20, Some("3"));
    world.check(by_20, Some((second, Rule::Thread)));
    world.check(by_21, Some((first, Rule::Thread)));
    world.check(again_20, Some((third, Rule::Thread)));
}

#[test]
fn of_settlements_written_at_once_the_thread_is_not_known() {
    let mut world = World::new();
    let (first, second) = (world.message(1, 5), world.message(1, 5));
    let call = world.call(2, 20);
    world.close(call, 20, None);
    world.close(first, 20, None);
    // What another thread had left in the buffer of the connection they share.
    world.now = world.now - TICK;
    world.close(second, 20, None);
    world.inside.finish();
    world.collect();
    world.check(call, None);
}

#[test]
fn where_threads_write_each_others_settlements_the_next_one_proves_nothing() {
    for torn in [false, true] {
        let mut world = World::new();
        let (first, second) = (world.message(1, 5), world.message(1, 5));
        let call = world.call(2, 20);
        world.close(call, 20, None);
        let (begin, end) = (world.point(if torn { 21 } else { 20 }), world.point(20));
        let settlement = world.write(1, begin, end);
        world.close(settlement, 20, None);
        // The thread that began to write it counts as the one that answered.
        world.close(first, begin.thread.tid.0, None);
        world.close(second, 20, None);
        world.inside.finish();
        world.collect();
        world.check(call, (!torn).then_some((first, Rule::Thread)));
    }
}

#[test]
fn a_transaction_follows_its_member_with_a_key() {
    let mut world = World::new();
    let a = world.request(1, 10);
    let b = world.request(2, 10);
    let begin = world.call(3, 10);
    world.close_in(begin, 10, None, Some(1), false);
    let update = world.call(3, 10);
    world.close_in(update, 10, Some("1"), Some(1), false);
    let commit = world.call(3, 10);
    world.close_in(commit, 10, None, Some(1), true);
    world.close(a, 10, Some("1"));
    world.close(b, 10, Some("2"));
    world.check(begin, Some((a, Rule::Transaction)));
    world.check(update, Some((a, Rule::Value)));
    world.check(commit, Some((a, Rule::Transaction)));
}

#[test]
fn a_transaction_torn_between_two_requests_proves_nothing() {
    let mut world = World::new();
    let a = world.request(1, 10);
    let b = world.request(2, 10);
    let begin = world.call(3, 10);
    world.close_in(begin, 10, None, Some(1), false);
    let one = world.call(3, 10);
    world.close_in(one, 10, Some("1"), Some(1), false);
    let two = world.call(3, 10);
    world.close_in(two, 10, Some("2"), Some(1), false);
    let commit = world.call(3, 10);
    world.close_in(commit, 10, None, Some(1), true);
    world.close(a, 10, Some("1"));
    world.close(b, 10, Some("2"));
    assert!(world.edges.get(&commit).is_none_or(|(_, rule)| *rule != Rule::Transaction));
}

#[test]
fn without_evidence_an_operation_is_decided_at_a_bounded_time_and_stays_a_root() {
    let mut world = World::new();
    world.request(1, 10);
    world.request(2, 10);
    let call = world.call(3, 99);
    world.close(call, 99, None);
    assert!(!world.inside.is_settled(call));
    let due = world.inside.next_timeout().expect("a deadline");
    world.time_out(due);
    world.collect();
    assert!(world.inside.is_settled(call));
    world.check(call, None);
}

#[test]
fn a_message_that_becomes_known_late_is_still_found_by_its_key() {
    let mut world = World::new();
    let call = world.call(3, 10);
    let read_before = Point { at: world.now - TICK, pos: 0, thread: Worker::new(1, 10), awaited_by: None };
    world.close(call, 10, Some("1"));
    // What the connection speaks is clear only with the settlement.
    let message = OpId(99);
    world.inside.opened(Opening {
        op: message,
        shape: OpSide::Incoming,
        family: Interaction::Message,
        conn: ConnId(1),
        point: read_before,
    });
    world.close(message, 10, Some("1"));
    world.check(call, None);
    world.time_out(world.now + GRACE);
    world.collect();
    world.check(call, Some((message, Rule::Value)));
}

#[test]
fn work_after_an_answer_waits_for_a_message_that_becomes_known_late() {
    let mut world = World::new();
    let a = world.request(1, 10);
    world.close(a, 10, Some("1"));
    let arrived = world.point(10);
    let call = world.call(3, 10);
    world.close(call, 10, Some("1"));
    world.check(call, None);
    // Only now is it clear what the connection of the message speaks.
    world.next += 1;
    let late = OpId(world.next);
    world.inside.opened(Opening {
        op: late,
        shape: OpSide::Incoming,
        family: Interaction::Message,
        conn: ConnId(9),
        point: arrived,
    });
    world.inside.requested(late, arrived);
    world.close(late, 10, Some("1"));
    world.time_out(world.now + GRACE);
    world.collect();
    world.check(call, Some((late, Rule::Thread)));
}

/// Requests, one after the other, that each cause a call which names their order too, on another thread.
fn named_work(world: &mut World, count: u32) {
    for order in 0..count {
        let order = format!("named-{order}");
        let request = world.request(1, 10);
        let call = world.call(3, 11);
        world.close(call, 11, Some(&order));
        world.close(request, 10, Some(&order));
        world.check(call, Some((request, Rule::Value)));
    }
}

/// Two requests of one order, the second so long after the first one's answer, and a call that names the order too while the
/// second is open. Returns the second and the call.
fn created_and_confirmed(world: &mut World, since: Duration) -> (OpId, OpId) {
    let create = world.request(1, 10);
    world.close(create, 10, Some("1"));
    world.now += since;
    let confirm = world.request(1, 10);
    let call = world.call(3, 11);
    world.close(call, 11, Some("1"));
    world.close(confirm, 10, Some("1"));
    world.inside.finish();
    world.collect();
    (confirm, call)
}

#[test]
fn of_two_requests_of_one_order_the_unanswered_one_is_the_cause_where_orders_are_named_before_answers() {
    for proven in [false, true] {
        let mut world = World::new();
        named_work(&mut world, PROOF - u32::from(!proven));
        // A timer's work says nothing about work that names orders.
        let tick = world.call(5, 12);
        world.close(tick, 12, None);
        let (confirm, call) = created_and_confirmed(&mut world, Duration::ZERO);
        world.check(call, Some((confirm, Rule::Value)));
        assert_eq!(world.sure[&call], if proven { 97 } else { 85 });
    }
}

#[test]
fn what_is_published_soon_after_an_answer_may_be_of_the_answered_request() {
    for proven in [false, true] {
        let mut world = World::new();
        named_work(&mut world, PROOF - u32::from(!proven));
        let create = world.request(1, 10);
        world.close(create, 10, Some("1"));
        let confirm = world.request(1, 10);
        let point = world.point(11);
        let publish = world.write(3, point, point);
        world.close(publish, 11, Some("1"));
        world.close(confirm, 10, Some("1"));
        world.wait(2 * GRACE);
        world.check(publish, proven.then_some((confirm, Rule::Value)));
    }
}

#[test]
fn a_while_after_an_answer_less_proof_will_do() {
    for (since, is_soon, proof, sure) in [
        (SOON, false, PROOF_OF_THE_USUAL, Some(97)),
        (Duration::ZERO, true, PROOF_OF_THE_USUAL, None),
        (Duration::ZERO, true, PROOF_BESIDE_ANSWERED, Some(85)),
        (SOON, false, 0, None),
    ] {
        let mut world = World::new();
        named_work(&mut world, proof);
        let (confirm, call) = created_and_confirmed(&mut world, since);
        world.check(call, sure.map(|_| (confirm, Rule::Value)));
        assert_eq!(world.sure.get(&call).copied(), sure, "soon: {is_soon}, {proof}");
    }
    // Once it was seen otherwise, an answered request may be the cause again.
    let mut world = World::new();
    named_work(&mut world, PROOF_BESIDE_ANSWERED);
    world.inside.table.process(Tgid(1)).unwrap().trust.count(Signal::NamedInFlight, false);
    let (_, call) = created_and_confirmed(&mut world, Duration::ZERO);
    world.check(call, None);
}

#[test]
fn work_that_names_an_order_after_the_answer_shows_that_such_work_goes_on() {
    let mut world = World::new();
    named_work(&mut world, PROOF);
    let request = world.request(1, 10);
    world.close(request, 10, Some("1"));
    let call = world.call(3, 11);
    world.close(call, 11, Some("1"));
    world.time_out(world.now + GRACE);
    world.collect();
    world.check(call, Some((request, Rule::Value)));
    assert!(!world.process(1).trust.names_before_answer(Duration::ZERO));
}

#[test]
fn work_that_seems_to_be_done_after_an_answer_is_a_doubt_only_until_it_is_decided() {
    let mut world = World::new();
    named_work(&mut world, PROOF);
    let create = world.request(1, 10);
    world.close(create, 10, Some("1"));
    // What a message caused that becomes known late.
    let arrived = world.point(10);
    let early = world.call(3, 11);
    world.close(early, 11, Some("1"));
    assert_eq!(world.process(1).awaiting_late_cause, 1);
    world.next += 1;
    let message = OpId(world.next);
    let (shape, family, conn) = (OpSide::Incoming, Interaction::Message, ConnId(9));
    world.inside.opened(Opening { op: message, shape, family, conn, point: arrived });
    world.close(message, 10, Some("1"));
    let confirm = world.request(1, 10);
    let call = world.call(3, 11);
    world.close(call, 11, Some("1"));
    world.close(confirm, 10, Some("1"));
    world.check(call, None);
    world.time_out(world.now + GRACE);
    world.collect();
    world.check(early, Some((message, Rule::Value)));
    world.check(call, Some((confirm, Rule::Value)));
    assert_eq!(world.process(1).awaiting_late_cause, 0);
}

#[test]
fn where_one_message_of_an_order_became_known_late_another_one_may() {
    let mut world = World::new();
    let (first, second) = (world.point(10), world.point(11));
    let call = world.call(3, 11);
    world.close(call, 11, Some("1"));
    let mut arrives = |at: Point, conn: u64| {
        world.next += 1;
        let (op, shape, family, conn) =
            (OpId(world.next), OpSide::Incoming, Interaction::Message, ConnId(conn));
        world.inside.opened(Opening { op, shape, family, conn, point: at });
        world.close(op, at.thread.tid.0, Some("1"));
        op
    };
    arrives(first, 8);
    let second = arrives(second, 9);
    world.time_out(world.now + GRACE);
    world.collect();
    world.check(call, Some((second, Rule::Thread)));
}

#[test]
fn a_message_that_becomes_known_late_takes_back_that_nothing_was_in_flight() {
    for late in [true, false] {
        let mut world = World::new();
        named_work(&mut world, PROOF);
        let arrived = world.point(10);
        let call = world.call(3, 11);
        world.close(call, 11, None);
        if late {
            world.next += 1;
            let op = OpId(world.next);
            let (shape, family, conn) = (OpSide::Incoming, Interaction::Message, ConnId(9));
            world.inside.opened(Opening { op, shape, family, conn, point: arrived });
            world.close(op, 10, None);
        }
        world.now += GRACE;
        let later = world.call(3, 11);
        world.close(later, 11, None);
        assert_eq!(world.process(1).trust.ends_with_answer(), late);
    }
}

/// Requests of two users, served by one event loop, and a call that was made when the first one's had just been read.
fn for_a_user(world: &mut World, user: &str, key: Option<&str>) -> (OpId, OpId) {
    let of = |user: &str| vec![("user.id".to_owned(), Value::from(user))];
    let a = world.request(1, 10);
    let b = world.request(2, 10);
    let first = world.call(3, 10);
    world.facts = of("u");
    world.close(first, 10, Some("a"));
    let next = world.call(4, 10);
    world.facts = of(user);
    world.close(next, 10, key);
    world.facts = of("u");
    world.close(a, 10, Some("a"));
    world.close(b, 10, Some("b"));
    world.wait(2 * AFTER);
    (a, next)
}

#[test]
fn that_goroutines_of_a_library_read_answers_says_nothing_of_the_others() {
    for goroutine in [0, spoor_common::record::GOROUTINE] {
        let mut world = World::new();
        // The library's own write and read.
        for _ in 0..3 {
            let call = world.call(9, goroutine | 90);
            world.close(call, goroutine | 91, None);
        }
        let (a, b) = (world.request(1, goroutine | 10), world.request(2, goroutine | 11));
        let call = world.call(3, goroutine | 10);
        world.close(call, goroutine | 10, None);
        world.close(a, goroutine | 10, None);
        world.close(b, goroutine | 11, None);
        world.inside.finish();
        world.collect();
        world.check(call, (goroutine != 0).then_some((a, Rule::Thread)));
    }
}

/// A request whose thread begins another, which calls; another request is in flight. `key` is that of the call.
fn in_a_thread_of_its_own(world: &mut World, key: Option<&str>, of_other: bool) -> (OpId, OpId) {
    let (a, b) = (world.request(1, 10), world.request(2, 11));
    world.inside.thread_began(Tgid(1), Tid(20), Tid(10));
    world.inside.thread_began(Tgid(1), Tid(21), Tid(20));
    let call = world.call(3, 21);
    world.close(call, 21, key);
    world.close(a, 10, Some(if of_other { "b" } else { "a" }));
    world.close(b, 11, Some(if of_other { "a" } else { "b" }));
    world.now += 2 * AFTER;
    world.time_out(world.now);
    world.collect();
    (a, call)
}

#[test]
fn a_thread_that_was_begun_for_a_request_works_for_it_where_keys_have_shown_so() {
    let mut world = World::new();
    let (_, call) = in_a_thread_of_its_own(&mut world, None, false);
    world.check(call, None);
    for _ in 0..PROOF {
        let (a, call) = in_a_thread_of_its_own(&mut world, Some("a"), false);
        world.check(call, Some((a, Rule::Value)));
    }
    let (a, call) = in_a_thread_of_its_own(&mut world, None, false);
    world.check(call, Some((a, Rule::Thread)));
    // A thread that turns out to work for others.
    in_a_thread_of_its_own(&mut world, Some("a"), true);
    let (_, call) = in_a_thread_of_its_own(&mut world, None, false);
    world.check(call, None);
}

#[test]
fn a_thread_that_was_begun_for_the_only_request_works_for_it() {
    for reads in [false, true] {
        let mut world = World::new();
        let a = world.request(1, 10);
        world.inside.thread_began(Tgid(1), Tid(20), Tid(10));
        if reads {
            // It serves requests of its own: who began it does not matter.
            let own = world.request(5, 20);
            world.close(own, 20, None);
            world.now += 2 * AFTER;
        }
        let call = world.call(3, 20);
        world.close(call, 20, None);
        world.close(a, 10, None);
        world.inside.finish();
        world.collect();
        world.check(call, (!reads).then_some((a, Rule::Thread)));
    }
}

#[test]
fn a_guess_that_facts_contradict_is_not_made() {
    let mut world = World::new();
    let warm = world.call(9, 10);
    world.close(warm, 10, None);
    for _ in 0..=PROOF {
        let (a, next) = for_a_user(&mut world, "u", Some("a"));
        world.check(next, Some((a, Rule::Value)));
    }
    let (a, next) = for_a_user(&mut world, "u", None);
    world.check(next, Some((a, Rule::LastRead)));
    let (_, next) = for_a_user(&mut world, "v", None);
    world.check(next, None);
}

#[test]
fn of_messages_written_at_once_the_thread_is_not_known() {
    for joint in [false, true] {
        let mut world = World::new();
        let (a, b) = (world.request(1, 10), world.request(2, 11));
        let point = world.point(10);
        let first = world.write(3, point, point);
        let point = if joint { point } else { world.point(10) };
        let second = world.write(3, point, point);
        for op in [first, second] {
            world.close(op, 10, None);
        }
        world.close(a, 10, None);
        world.close(b, 11, None);
        world.inside.finish();
        world.collect();
        for op in [first, second] {
            world.check(op, (!joint).then_some((a, Rule::Thread)));
        }
    }
}

#[test]
fn around_a_loss_work_is_not_traced_back_to_an_answered_request_by_its_key() {
    for lost in [false, true] {
        let mut world = World::new();
        let a = world.request(1, 10);
        world.close(a, 10, Some("1"));
        let call = world.call(3, 11);
        world.close(call, 11, Some("1"));
        if lost {
            world.inside.missed(Tgid(1), world.now, world.now);
        }
        world.time_out(world.now + GRACE);
        world.collect();
        world.check(call, (!lost).then_some((a, Rule::Value)));
    }
}

#[test]
fn work_after_an_answer_is_traced_back_to_it_when_nothing_else_comes() {
    let mut world = World::new();
    let a = world.request(1, 10);
    world.close(a, 10, None);
    let call = world.call(3, 10);
    world.close(call, 10, None);
    world.check(call, None);
    world.time_out(world.now + GRACE);
    world.collect();
    world.check(call, Some((a, Rule::Thread)));
}

#[test]
fn everything_is_forgotten_after_a_while() {
    let mut world = World::new();
    for conn in 0..50 {
        let a = world.request(conn, 10);
        let call = world.call(100 + conn, 10);
        world.close(call, 10, Some("1"));
        world.close(a, 10, Some("1"));
    }
    while let Some(due) = world.inside.next_timeout() {
        world.time_out(due);
    }
    assert!(world.inside.is_empty());
    assert!(world.process(1).by_key.is_empty());
}

#[test]
fn a_request_that_hangs_does_not_gather_what_is_decided_meanwhile() {
    let mut world = World::new();
    let hanging = world.request(1, 10);
    for _ in 0..10_000 {
        let call = world.call(2, 10);
        world.close(call, 10, None);
        world.wait(Duration::from_nanos(20_000_000));
    }
    // Calls are decided 10 s after their end at the latest: some 500 are not yet.
    let waiters = &world.inside.table.ops[&hanging].waiters;
    assert!(waiters.capacity() <= 2048, "{} waiters, room for {}", waiters.len(), waiters.capacity());
    let blocked = world.process(1).blocked.len();
    assert!(blocked <= 500, "{blocked} wait");
    // Nor are they remembered for longer than a minute.
    assert!(world.inside.len() < 4000, "{} operations", world.inside.len());
}

/// What names the order only in its answer shows nothing while it hangs.
#[test]
fn of_two_requests_that_hang_the_one_without_a_key_may_be_of_the_same_order() {
    for several in [false, true] {
        let mut world = World::new();
        let call_of = |world: &mut World, order: &str, both: bool| {
            let requests = [world.request(1, 10), world.request(2, 11)];
            let call = world.call(3, 12);
            world.close(call, 12, Some(order));
            world.close(requests[0], 10, Some(order));
            world.close(requests[1], 11, both.then_some(order));
        };
        for n in 0..20 {
            call_of(&mut world, &n.to_string(), false);
        }
        call_of(&mut world, "30", several);
        world.wait(Duration::from_secs(60));
        let [named, nameless] = [world.request(1, 10), world.request(2, 11)];
        let call = world.call(3, 12);
        world.close(call, 12, Some("31"));
        world.now += Duration::from_secs(10);
        world.show(|op| (op == named).then(|| Showing { keys: vec![order("31")], ..Showing::default() }));
        world.check(call, (!several).then_some((named, Rule::Value)));
        world.close(nameless, 11, None);
    }
}

#[test]
fn what_a_process_did_outlives_it_by_a_minute_and_is_then_forgotten() {
    let mut world = World::new();
    let request = world.request(1, 10);
    let call = world.call(2, 11);
    // The kernel reports the end first, then closes what was open.
    world.inside.process_ended(Tgid(1), world.now);
    world.close(call, 11, Some("4711"));
    world.close(request, 10, Some("4711"));
    world.check(call, Some((request, Rule::Value)));
    world.time_out(world.now + REMEMBER + Duration::from_nanos(1));
    assert!(world.inside.table.processes.is_empty() && world.inside.is_empty());
    world.inside.process_ended(Tgid(1), world.now);
    assert!(world.inside.table.processes.is_empty());
}

#[test]
fn a_new_process_has_nothing_of_one_that_had_its_identifier() {
    let mut world = World::new();
    world.request(1, 10);
    world.inside.process_began(Tgid(1));
    assert_eq!(world.inside.table.processes.len(), 1, "a fork of a living process is a late report");
    world.inside.process_ended(Tgid(1), world.now);
    world.inside.process_began(Tgid(1));
    assert!(world.inside.table.processes.is_empty());
}

mod alone;
mod awaited;
mod bounds;
mod carried;
mod chains;
mod forwarded;
mod kin;
mod losses;
mod parts;
mod rest;
mod stages;
mod threads;
mod transactions;
mod unread;
