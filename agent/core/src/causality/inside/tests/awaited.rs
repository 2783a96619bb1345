//! Goroutines that write for those which wait on a channel of theirs.

use super::*;

/// The goroutine that writes on a connection, and one that waits for it.
const LOOP: u32 = 50;

/// `tid` writes a call on a connection, for which `by` waits. The answer is read by a goroutine that does nothing else.
fn call(world: &mut World, conn: u64, tid: u32, by: Option<u32>, key: Option<&str>) -> OpId {
    world.next += 1;
    let op = OpId(world.next);
    let mut point = world.point(tid);
    point.awaited_by = by.and_then(Tid::some);
    let (shape, family, conn) = (OpSide::Outgoing, Interaction::Call, ConnId(conn));
    world.inside.opened(Opening { op, shape, family, conn, point });
    world.close(op, LOOP + 1, key);
    op
}

/// Two requests at once, each on a goroutine of its own, and a call for the first one, which names its order or nothing.
fn handed_over(world: &mut World, conn: u64, tid: u32, key: Option<&str>) -> (OpId, OpId) {
    let (first, second) = (world.request(1, 10), world.request(2, 11));
    let call = call(world, conn, tid, Some(10), key);
    world.close(first, 10, Some("1"));
    world.close(second, 11, Some("2"));
    world.wait(2 * AFTER);
    (first, call)
}

#[test]
fn what_a_connections_own_goroutine_writes_is_for_the_one_that_waits() {
    let mut world = World::new();
    let (_, call) = handed_over(&mut world, 3, LOOP, None);
    world.check(call, None);
    for _ in 0..PROOF_OF_THE_USUAL {
        handed_over(&mut world, 3, LOOP, Some("1"));
    }
    let (request, call) = handed_over(&mut world, 3, LOOP, None);
    world.check(call, Some((request, Rule::Thread)));
    // Of a new connection, nothing is known yet.
    let (_, call) = handed_over(&mut world, 4, LOOP + 2, None);
    world.check(call, None);
    let (request, call) = handed_over(&mut world, 4, LOOP + 2, None);
    world.check(call, Some((request, Rule::Thread)));
}

#[test]
fn on_a_connection_that_goroutines_share_a_channel_says_nothing() {
    let mut world = World::new();
    for n in 0..2 * PROOF_OF_THE_USUAL {
        handed_over(&mut world, 3, LOOP + 2 * (n % 2), Some("1"));
    }
    let (_, call) = handed_over(&mut world, 3, LOOP, None);
    world.check(call, None);
}

#[test]
fn where_keys_say_otherwise_who_waits_is_not_asked() {
    let mut world = World::new();
    handed_over(&mut world, 3, LOOP, Some("1"));
    for _ in 0..PROOF_OF_THE_USUAL {
        // The order is that of the one that does not wait.
        handed_over(&mut world, 3, LOOP, Some("2"));
    }
    let (_, call) = handed_over(&mut world, 3, LOOP, None);
    world.check(call, None);
}

#[test]
fn one_that_has_just_answered_a_request_works_for_that() {
    let mut world = World::new();
    for _ in 0..PROOF_OF_THE_USUAL {
        handed_over(&mut world, 3, LOOP, Some("1"));
    }
    let answered = world.request(5, LOOP);
    world.close(answered, LOOP, Some("3"));
    let (request, call) = handed_over(&mut world, 3, LOOP, None);
    assert_ne!(world.edges.get(&call), Some(&(request, Rule::Thread)));
}
