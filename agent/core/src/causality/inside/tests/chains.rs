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
    world.inside.missed(Tgid(1), world.now);
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
