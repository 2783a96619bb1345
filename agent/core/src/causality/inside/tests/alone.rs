//! A process that does nothing unasked.

use super::*;
use std::time::Duration;

/// A request that one thread reads, a call of another one, and the answer of a third.
fn handed_on(world: &mut World) -> (OpId, OpId) {
    let request = world.request(1, 10);
    let call = world.call(3, 11);
    world.close(call, 11, None);
    world.close(request, 12, None);
    world.wait(2 * GRACE);
    (request, call)
}

#[test]
fn in_a_process_that_does_nothing_unasked_the_only_request_is_the_cause() {
    let mut world = World::new();
    let (_, call) = handed_on(&mut world);
    world.check(call, None);
    world.wait(QUIET);
    let (request, call) = handed_on(&mut world);
    world.check(call, Some((request, Rule::Alone)));
}

#[test]
fn a_process_that_works_by_a_timer_is_not_believed() {
    let mut world = World::new();
    handed_on(&mut world);
    for _ in 0..10 {
        world.wait(QUIET / 3);
        let call = world.call(3, 11);
        world.close(call, 11, None);
        world.wait(QUIET / 3);
        let (_, call) = handed_on(&mut world);
        world.check(call, None);
    }
}

#[test]
fn with_two_requests_in_flight_or_one_just_answered_neither_is_alone() {
    let mut world = World::new();
    handed_on(&mut world);
    world.wait(QUIET);
    let (first, second) = (world.request(1, 10), world.request(2, 10));
    let call = world.call(3, 11);
    world.close(call, 11, None);
    world.close(first, 12, None);
    let after = world.call(3, 11);
    world.close(after, 11, None);
    world.close(second, 12, None);
    world.wait(2 * GRACE);
    world.check(call, None);
    world.check(after, None);
}

#[test]
fn a_request_that_becomes_known_late_was_in_flight_too() {
    let mut world = World::new();
    handed_on(&mut world);
    world.wait(QUIET);
    let request = world.request(1, 10);
    let earlier = world.now;
    let call = world.call(3, 11);
    let now = std::mem::replace(&mut world.now, earlier - TICK);
    let late = world.request(2, 10);
    world.now = now;
    world.close(call, 11, None);
    world.close(request, 12, None);
    world.close(late, 12, None);
    world.wait(2 * GRACE);
    world.check(call, None);
}

#[test]
fn what_was_seen_for_a_minute_is_not_believed_for_an_hour() {
    let mut world = World::new();
    handed_on(&mut world);
    world.wait(QUIET + AFTER);
    let request = world.request(1, 10);
    world.wait(Duration::from_nanos(3600 * 1_000_000_000));
    let call = world.call(3, 11);
    world.close(call, 11, None);
    world.close(request, 12, None);
    world.wait(2 * GRACE);
    world.check(call, None);
}

#[test]
fn where_one_request_was_in_flight_without_being_known_another_one_may_have_been() {
    let mut world = World::new();
    let arrivals = [(1, world.point(10)), (2, world.point(11))];
    let named = world.call(3, 10);
    world.close(named, 10, Some("86"));
    // The thread has read the answer to a call of the first request last, and nothing is known to be in flight.
    let call = world.call(4, 10);
    world.close(call, 10, None);
    let [first, second] = arrivals.map(|(conn, point)| {
        world.next += 1;
        let op = OpId(world.next);
        let (shape, family, conn) = (OpSide::Incoming, Interaction::Call, ConnId(conn));
        world.inside.opened(Opening { op, shape, family, conn, point });
        world.inside.requested(op, point);
        op
    });
    world.close(first, 12, Some("86"));
    world.close(second, 12, Some("87"));
    world.wait(Duration::from_secs(20));
    world.check(named, Some((first, Rule::Value)));
    world.check(call, None);
}
