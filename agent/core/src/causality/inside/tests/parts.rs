//! Requests that several threads read, and keys that threads contradict.

use spoor_common::record::GOROUTINE;

use super::*;

/// The first byte of a request is read by `head`.
fn begins(world: &mut World, conn: u64, head: u32) -> OpId {
    world.next += 1;
    let op = OpId(world.next);
    let point = world.point(head);
    let (shape, family, conn) = (OpSide::Incoming, Interaction::Call, ConnId(conn));
    world.inside.opened(Opening { op, shape, family, conn, point });
    op
}

/// Its last byte is read by `tail`.
fn is_read(world: &mut World, op: OpId, tail: u32) {
    let point = world.point(tail);
    world.inside.requested(op, point);
}

/// A process whose threads work on what they read, as keys have shown.
fn threads_that_work_on_what_they_read() -> World {
    let mut world = World::new();
    for _ in 0..=PROOF {
        let request = world.request(1, 10);
        let call = world.call(3, 10);
        world.close(call, 10, Some("1"));
        world.close(request, 10, Some("1"));
        world.check(call, Some((request, Rule::Thread)));
    }
    world.wait(2 * AFTER);
    world
}

/// A thread reads the head of one request, leaves the rest to another thread, and works on a request that a third one has read.
/// Its call names that request's order, or nothing.
fn left_to_another(world: &mut World, key: Option<&str>) -> (OpId, OpId) {
    let left = begins(world, 1, 10);
    let taken = world.request(2, 12);
    let call = world.call(3, 10);
    world.close(call, 10, key);
    world.close(taken, 10, Some("5001"));
    is_read(world, left, 11);
    world.close(left, 11, Some("6002"));
    world.wait(2 * AFTER);
    (taken, call)
}

#[test]
fn a_thread_that_has_read_a_part_of_a_request_does_not_serve_it() {
    let mut world = threads_that_work_on_what_they_read();
    let (taken, call) = left_to_another(&mut world, Some("5001"));
    world.check(call, Some((taken, Rule::Value)));
    let mut world = threads_that_work_on_what_they_read();
    let (taken, call) = left_to_another(&mut world, None);
    // The thread answers the request it has taken next.
    world.check(call, Some((taken, Rule::Thread)));
}

#[test]
fn a_goroutine_serves_what_it_has_read_to_the_end_although_another_had_its_first_byte() {
    const WATCHER: u32 = GOROUTINE | 7;
    const SERVER: u32 = GOROUTINE | 8;
    const OTHER: u32 = GOROUTINE | 9;
    let mut world = World::new();
    for _ in 0..=PROOF {
        let request = world.request(1, SERVER);
        let call = world.call(3, SERVER);
        world.close(call, SERVER, Some("1"));
        world.close(request, SERVER, Some("1"));
    }
    world.wait(2 * AFTER);
    let request = begins(&mut world, 1, WATCHER);
    is_read(&mut world, request, SERVER);
    let other = world.request(2, OTHER);
    let call = world.call(3, SERVER);
    world.close(call, SERVER, None);
    world.close(request, SERVER, Some("5001"));
    world.close(other, OTHER, Some("6002"));
    world.wait(2 * AFTER);
    world.check(call, Some((request, Rule::Thread)));
}

#[test]
fn a_thread_that_has_read_all_of_a_request_serves_it_although_it_came_in_parts() {
    let mut world = threads_that_work_on_what_they_read();
    let (parts, other) = (begins(&mut world, 1, 10), world.request(2, 12));
    is_read(&mut world, parts, 10);
    let call = world.call(3, 10);
    world.close(call, 10, None);
    world.close(parts, 10, None);
    world.close(other, 12, None);
    world.check(call, Some((parts, Rule::Thread)));
}

#[test]
fn no_rule_overrides_the_key_of_an_operation_however_often_it_was_right() {
    let mut world = threads_that_work_on_what_they_read();
    let (first, second) = (world.request(1, 10), world.request(2, 12));
    let call = world.call(3, 10);
    world.close(call, 10, Some("2"));
    world.close(first, 10, Some("1"));
    world.close(second, 12, Some("2"));
    world.check(call, Some((second, Rule::Value)));
}

#[test]
fn a_transaction_does_not_override_the_key_of_its_member() {
    let mut world = World::new();
    let (first, second) = (world.request(1, 10), world.request(2, 12));
    let (plain, foreign) = (world.call(3, 20), world.call(3, 20));
    world.close_in(plain, 20, Some("1"), Some(1), false);
    world.close_in(foreign, 20, Some("3"), Some(1), true);
    world.close(first, 10, Some("1"));
    world.close(second, 12, Some("2"));
    world.wait(2 * AFTER);
    world.check(plain, Some((first, Rule::Value)));
    world.check(foreign, None);
}
