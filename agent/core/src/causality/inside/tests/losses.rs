//! What keys prove while records are lost.

use super::*;

/// A request of that order and a call that names it, the only ones in flight.
fn single(world: &mut World, order: &str) -> (OpId, OpId) {
    let request = world.request(1, 10);
    let other = world.request(2, 11);
    let call = world.call(3, 12);
    world.close(call, 12, Some(order));
    world.close(request, 10, Some(order));
    world.close(other, 11, None);
    world.wait(2 * AFTER);
    (request, call)
}

#[test]
fn while_records_are_lost_a_key_proves_nothing_where_orders_have_several_requests_at_once() {
    for several in [false, true] {
        let mut world = World::new();
        for n in 0..20 {
            let (request, call) = single(&mut world, &n.to_string());
            world.check(call, Some((request, Rule::Value)));
        }
        if several {
            let requests = [world.request(1, 10), world.request(2, 11)];
            let call = world.call(3, 12);
            world.close(call, 12, Some("30"));
            for request in requests {
                world.close(request, 10, Some("30"));
            }
            world.wait(2 * AFTER);
        }
        world.inside.lost(world.now);
        let (request, call) = single(&mut world, "31");
        world.check(call, (!several).then_some((request, Rule::Value)));
        world.wait(2 * NEAR_LOSS_AFTER);
        let (request, call) = single(&mut world, "32");
        world.check(call, Some((request, Rule::Value)));
    }
}

#[test]
fn what_was_not_read_is_as_little_known_as_what_was_lost() {
    let mut world = World::new();
    // It may name any order, for as long as it takes.
    let unread = world.request(1, 10);
    let request = world.request(2, 11);
    let named = world.call(3, 12);
    world.close(named, 12, Some("1"));
    world.close(request, 11, Some("1"));
    world.now += 4 * NEAR_LOSS_AFTER;
    world.is_unread = true;
    world.close(unread, 10, None);
    world.wait(2 * GRACE);
    world.check(named, Some((request, Rule::Value)));
    assert_eq!(world.sure[&named], 70);
}

#[test]
fn where_orders_have_several_requests_one_that_was_not_read_may_be_the_cause() {
    let mut world = World::new();
    let requests = [world.request(1, 10), world.request(2, 11)];
    let call = world.call(3, 12);
    world.close(call, 12, Some("30"));
    for request in requests {
        world.close(request, 10, Some("30"));
    }
    world.wait(2 * AFTER);
    let unread = world.request(4, 13);
    let (_, call) = single(&mut world, "31");
    world.is_unread = true;
    world.close(unread, 13, None);
    world.wait(2 * AFTER);
    world.check(call, None);
}

#[test]
fn losses_are_bounded_and_those_close_to_each_other_are_one() {
    let mut world = World::new();
    world.request(1, 10);
    for _ in 0..10 {
        world.inside.missed(Tgid(1), world.now, world.now);
        world.now += LOSS_STEP / 10;
    }
    assert_eq!(world.process(1).losses.len(), 1);
    for _ in 0..2 * MAX_LOSSES {
        world.now += 2 * LOSS_STEP;
        world.inside.missed(Tgid(1), world.now, world.now);
    }
    assert_eq!(world.process(1).losses.len(), MAX_LOSSES);
}
