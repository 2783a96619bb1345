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
