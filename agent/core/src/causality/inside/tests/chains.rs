//! Event loops whose tasks are followed: one thread for all, and at each write the tasks that wait for it.

use super::*;
use crate::record::{Chain, TaskId};

/// The loop's thread.
const LOOP: u32 = 7;

impl World {
    /// The next event of the loop on a connection is written by these tasks, each waiting for the one before.
    fn written_by(&mut self, conn: u64, tasks: &[u64]) {
        let at = self.now + TICK;
        let tasks = tasks.iter().map(|task| TaskId(*task)).collect();
        self.inside.chained(Chain { at, conn: ConnId(conn), thread: Worker::new(1, LOOP), tasks });
    }

    fn call_by(&mut self, conn: u64, tasks: &[u64]) -> OpId {
        self.written_by(conn, tasks);
        self.call(conn, LOOP)
    }

    fn done(&mut self, op: OpId, key: Option<&str>) {
        self.close(op, LOOP, key);
    }

    /// `task` answers the request.
    fn answer_by(&mut self, request: OpId, conn: u64, task: u64, key: Option<&str>) {
        self.written_by(conn, &[task]);
        self.close(request, LOOP, key);
    }
}

/// Two requests at once, answered by tasks 3 and 4 of their connections; task `own` of the first one makes a call, for which the
/// first one's task waits. The call names an order or none.
fn two_requests(world: &mut World, own: u64, key: Option<&str>) -> (OpId, OpId, OpId) {
    let (first, second) = (world.request(1, LOOP), world.request(2, LOOP));
    let call = world.call_by(9, &[own, 3]);
    world.done(call, key);
    world.answer_by(second, 2, 4, Some("2"));
    world.answer_by(first, 1, 3, Some("1"));
    (first, second, call)
}

/// A process whose chains have led where keys do. The numbers of the next tasks are above 100.
fn proven() -> World {
    let mut world = World::new();
    for task in 0..u64::from(PROOF_OF_THE_USUAL) {
        two_requests(&mut world, 10 + task, Some("1"));
        // So that only one request of the order may have been the cause.
        world.wait(2 * AFTER);
    }
    world
}

#[test]
fn what_a_task_does_is_for_the_request_that_waits_at_its_end() {
    let mut world = World::new();
    let (.., call) = two_requests(&mut world, 10, None);
    world.wait(2 * AFTER);
    world.check(call, None);
    let mut world = proven();
    let (first, _, call) = two_requests(&mut world, 100, None);
    world.check(call, Some((first, Rule::Chain)));
    assert_eq!(world.sure[&call], 99);
}

#[test]
fn of_several_requests_of_one_order_the_chain_chooses() {
    let mut world = proven();
    let (first, second) = (world.request(1, LOOP), world.request(2, LOOP));
    let call = world.call_by(9, &[100, 4]);
    world.done(call, Some("1"));
    world.answer_by(first, 1, 3, Some("1"));
    world.answer_by(second, 2, 4, Some("1"));
    world.check(call, Some((second, Rule::Chain)));
}

#[test]
fn where_keys_and_the_chain_contradict_each_other_there_is_no_edge() {
    let mut world = proven();
    let (.., call) = two_requests(&mut world, 100, Some("2"));
    world.wait(2 * AFTER);
    world.check(call, None);
    // Once is enough: it takes thousands that are right to make up for it.
    let (.., call) = two_requests(&mut world, 101, None);
    world.wait(2 * AFTER);
    world.check(call, None);
}

#[test]
fn a_process_without_keys_is_believed_after_many_ends_that_fit() {
    let mut world = World::new();
    for task in 0..u64::from(PROOF) {
        let (first, second) = (world.request(1, LOOP), world.request(2, LOOP));
        let call = world.call_by(9, &[100 + task, 3]);
        world.done(call, None);
        world.answer_by(second, 2, 4, None);
        world.answer_by(first, 1, 3, None);
        world.wait(2 * AFTER);
        world.check(call, None);
    }
    let (first, second) = (world.request(1, LOOP), world.request(2, LOOP));
    let call = world.call_by(9, &[1000, 3]);
    world.done(call, None);
    world.answer_by(second, 2, 4, None);
    world.answer_by(first, 1, 3, None);
    world.check(call, Some((first, Rule::Chain)));
}

#[test]
fn an_answered_request_that_the_chain_contradicts_is_no_cause() {
    for task in [3, 4] {
        let mut world = proven();
        let answered = world.request(1, LOOP);
        world.answer_by(answered, 1, 5, Some("2"));
        let (first, second) = (world.request(2, LOOP), world.request(3, LOOP));
        let call = world.call_by(9, &[100, task]);
        world.done(call, Some("2"));
        world.answer_by(first, 2, 3, Some("1"));
        // Nobody answers by task 4: then only the key says something.
        world.answer_by(second, 3, 6, Some("3"));
        world.wait(2 * AFTER);
        world.check(call, (task == 4).then_some((answered, Rule::Value)));
    }
}

#[test]
fn the_likest_of_several_requests_is_no_cause_where_the_chain_contradicts_it() {
    let status = |status: &str| vec![("order.status".to_owned(), Value::from(status))];
    for task in [3, 4] {
        let mut world = proven();
        let [other, started, ended] = [1, 2, 3].map(|conn| world.request(conn, LOOP));
        let call = world.call_by(9, &[100, task]);
        world.facts = status("started");
        world.done(call, Some("2"));
        world.answer_by(other, 1, 3, Some("1"));
        world.facts = status("started");
        world.answer_by(started, 2, 5, Some("2"));
        world.facts = status("ended");
        world.answer_by(ended, 3, 6, Some("2"));
        world.wait(2 * AFTER);
        world.check(call, (task == 4).then_some((started, Rule::Value)));
    }
}

/// Work after the answer, by a task that was seen to lead to the request.
fn after_answer(world: &mut World, own: u64, key: Option<&str>) -> (OpId, OpId) {
    let (first, ..) = two_requests(world, own, Some("1"));
    let late = world.call_by(9, &[own]);
    world.done(late, key);
    world.wait(2 * AFTER);
    (first, late)
}

#[test]
fn a_task_that_was_made_for_a_request_works_for_it_after_the_answer() {
    let mut world = proven();
    let (_, late) = after_answer(&mut world, 100, None);
    world.check(late, None);
    for task in 0..u64::from(PROOF_OF_THE_USUAL) {
        after_answer(&mut world, 101 + task, Some("1"));
    }
    let (first, late) = after_answer(&mut world, 200, None);
    world.check(late, Some((first, Rule::Chain)));
    assert_eq!(world.sure[&late], 97);
}

#[test]
fn a_task_that_is_older_than_the_request_is_bound_to_none() {
    let mut world = proven();
    for task in 0..u64::from(PROOF_OF_THE_USUAL) {
        after_answer(&mut world, 101 + task, Some("1"));
    }
    // Its number is lower than one that was seen before the request came.
    let (_, late) = after_answer(&mut world, 5, None);
    world.check(late, None);
}

#[test]
fn where_no_task_was_seen_before_the_request_none_is_younger() {
    let mut world = proven();
    for task in 0..u64::from(PROOF_OF_THE_USUAL) {
        after_answer(&mut world, 101 + task, Some("1"));
    }
    // As after a restart of the agent, which knows what the process has proven.
    world.inside.table.chains.gone(Tgid(1));
    let (_, late) = after_answer(&mut world, 200, None);
    world.check(late, None);
    let (first, late) = after_answer(&mut world, 201, None);
    world.check(late, Some((first, Rule::Chain)));
}

/// The connection of a runtime whose tasks have no numbers.
fn connection(number: u64) -> u64 {
    spoor_common::chain::node::CONNECTION | number
}

#[test]
fn a_message_that_a_chain_names_is_the_cause() {
    let mut world = World::new();
    let worked_on = |world: &mut World, tag: u64, key: Option<&str>| {
        let message = |tag| TaskId::of_delivery("amq.ctag-1234567890123456789012", tag);
        let (first, second) = (world.message(1, LOOP), world.message(1, LOOP));
        let call = world.call(9, LOOP);
        world.written_by(9, &[message(tag).expect("a name").0]);
        world.done(call, key);
        world.delivery = message(tag);
        world.done(first, Some("1"));
        world.delivery = message(tag + 1);
        world.done(second, Some("2"));
        world.wait(2 * AFTER);
        (first, call)
    };
    for tag in 0..u64::from(PROOF_OF_THE_USUAL) {
        worked_on(&mut world, 2 * tag + 1, Some("1"));
    }
    let (first, call) = worked_on(&mut world, 1000, None);
    world.check(call, Some((first, Rule::Chain)));
}

#[test]
fn messages_have_names_that_differ() {
    let name = TaskId::of_delivery;
    for (consumer, tag) in [("", 1), ("a", 0), ("a", 1 << 32), (&"a".repeat(33), 1)] {
        assert_eq!(name(consumer, tag), None);
    }
    assert!(name("a", 1).is_some_and(TaskId::is_of_request) && name(&"a".repeat(32), 1).is_some());
    let all = [name("a", 1), name("a", 2), name("b", 1), name("aaaaaaaaa", 1), name("aaaaaaaab", 1)];
    all.iter().enumerate().for_each(|(at, one)| assert!(!all[..at].contains(one)));
}

/// Two requests at once; one makes a call, and what is read as its answer says that the connection of the first one waits for it.
fn told_by_the_answer(world: &mut World, key: Option<&str>) -> (OpId, OpId) {
    let (first, second) = (world.request(1, LOOP), world.request(2, LOOP));
    let call = world.call(9, LOOP);
    world.written_by(9, &[connection(3)]);
    world.done(call, key);
    world.answer_by(second, 2, connection(4), Some("2"));
    world.answer_by(first, 1, connection(3), Some("1"));
    (first, call)
}

#[test]
fn who_waits_is_also_known_from_when_the_answer_is_read() {
    let mut world = World::new();
    for _ in 0..PROOF_OF_THE_USUAL {
        told_by_the_answer(&mut world, Some("1"));
        world.wait(2 * AFTER);
    }
    let (first, call) = told_by_the_answer(&mut world, None);
    world.check(call, Some((first, Rule::Chain)));
}

#[test]
fn a_connection_is_made_for_no_request() {
    let mut world = World::new();
    for _ in 0..PROOF_OF_THE_USUAL {
        told_by_the_answer(&mut world, Some("1"));
        world.wait(2 * AFTER);
    }
    // Begun after its first request was answered, before the next one came.
    let other = world.request(2, LOOP);
    let first = world.request(1, LOOP);
    world.answer_by(first, 1, connection(3), Some("1"));
    let call = world.call(9, LOOP);
    let next = world.request(1, LOOP);
    world.written_by(9, &[connection(3)]);
    world.done(call, None);
    world.answer_by(next, 1, connection(3), Some("5"));
    world.answer_by(other, 2, connection(4), Some("2"));
    world.check(call, None);
}

fn chain_of(tgid: u32, tasks: &[u64]) -> Chain {
    let tasks = tasks.iter().map(|task| TaskId(*task)).collect();
    Chain { at: BootTime::ZERO + TICK, conn: ConnId(u64::from(tgid)), thread: Worker::new(tgid, LOOP), tasks }
}

#[test]
fn tasks_of_a_process_of_which_nothing_else_is_known_end_with_it() {
    let mut inside = World::new().inside;
    inside.chained(chain_of(5, &[7, 3]));
    let chains = |inside: &Inside| {
        let chains = &inside.table.chains;
        (chains.newest(Tgid(5)), chains.sights(Tgid(5), TaskId(7)).is_some())
    };
    assert_eq!(chains(&inside), (TaskId(7), true));
    inside.process_ended(Tgid(5), BootTime::ZERO + TICK);
    assert_eq!(chains(&inside), (TaskId(u64::MAX), false));
}

#[test]
fn processes_with_tasks_are_bounded_and_those_forgotten_leave_nothing() {
    let mut inside = World::new().inside;
    for tgid in 1..=MAX_PROCESSES as u32 {
        inside.chained(chain_of(tgid, &[7, 3]));
    }
    let chains = &mut inside.table.chains;
    chains.answered(Tgid(1), TaskId(3), OpId(1));
    chains.answered(Tgid(2), TaskId(3), OpId(2));
    assert_eq!(chains.forgotten(), 0);
    // The first one writes again: the second one is forgotten.
    chains.note(chain_of(1, &[8, 3]));
    chains.note(chain_of(MAX_PROCESSES as u32 + 1, &[7, 3]));
    assert_eq!(chains.forgotten(), 1);
    assert_eq!((chains.newest(Tgid(1)), chains.newest(Tgid(2))), (TaskId(8), TaskId(u64::MAX)));
    let known = |tgid| (chains.sights(Tgid(tgid), TaskId(7)).is_some(), chains.served(Tgid(tgid), TaskId(3)));
    assert_eq!(known(1), (true, &[OpId(1)][..]));
    assert_eq!(known(2), (false, &[][..]));
    chains.answered(Tgid(2), TaskId(3), OpId(3));
    assert_eq!(chains.served(Tgid(2), TaskId(3)), []);
}

#[test]
fn of_the_requests_of_a_task_the_last_ones_are_looked_at() {
    let mut inside = World::new().inside;
    let chains = &mut inside.table.chains;
    chains.note(chain_of(1, &[7, 3]));
    for op in 1..=1000 {
        chains.answered(Tgid(1), TaskId(3), OpId(op));
        let expected: Vec<OpId> = (op.saturating_sub(256) + 1..=op).map(OpId).collect();
        assert_eq!(chains.served(Tgid(1), TaskId(3)), expected);
    }
}

#[test]
fn nothing_weaker_stands_against_a_chain() {
    let mut world = proven();
    // The only request in flight was read by the only thread, and the task that writes is nobody's.
    let only = world.request(1, LOOP);
    let detached = world.call_by(9, &[300]);
    world.done(detached, None);
    world.answer_by(only, 1, 3, Some("1"));
    world.wait(2 * AFTER);
    world.check(detached, None);
    // The same without a chain.
    let only = world.request(1, LOOP);
    let plain = world.call(9, LOOP);
    world.done(plain, None);
    world.answer_by(only, 1, 3, Some("1"));
    world.wait(2 * AFTER);
    assert_eq!(world.edges.get(&plain).map(|(cause, _)| *cause), Some(only));
}

#[test]
fn a_task_with_two_requests_at_once_says_nothing() {
    let mut world = proven();
    let (first, second) = (world.request(1, LOOP), world.request(2, LOOP));
    let call = world.call_by(9, &[100, 3]);
    world.done(call, None);
    world.answer_by(second, 2, 3, Some("2"));
    world.answer_by(first, 1, 3, Some("1"));
    world.wait(2 * AFTER);
    world.check(call, None);
}

#[test]
fn a_task_without_a_number_is_no_end() {
    let mut world = proven();
    let (first, second) = (world.request(1, LOOP), world.request(2, LOOP));
    let call = world.call_by(9, &[100, 0]);
    world.done(call, None);
    world.answer_by(second, 2, 4, Some("2"));
    world.answer_by(first, 1, 0, Some("1"));
    world.wait(2 * AFTER);
    world.check(call, None);
}

#[test]
fn around_a_loss_and_in_a_new_program_chains_say_nothing() {
    let mut world = proven();
    let (first, second) = (world.request(1, LOOP), world.request(2, LOOP));
    let call = world.call_by(9, &[100, 3]);
    world.inside.missed(Tgid(1), world.now, world.now);
    world.done(call, None);
    world.answer_by(second, 2, 4, Some("2"));
    world.answer_by(first, 1, 3, Some("1"));
    world.wait(2 * AFTER);
    world.check(call, None);
    let mut world = proven();
    world.inside.process_replaced(Tgid(1));
    let (.., call) = two_requests(&mut world, 100, None);
    world.wait(2 * AFTER);
    world.check(call, None);
}
