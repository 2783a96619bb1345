//! What is done for answered requests, and what is not.

use super::*;

/// Orders that are each asked for twice in quick succession: made, and looked at by a statement that names the order.
/// `late`: it is begun for the request that makes the order, after both are answered. Returns the second request and the statement of each.
fn made_and_looked_at(world: &mut World, orders: u32, late: bool) -> Vec<(OpId, OpId)> {
    let mut all = Vec::new();
    for order in 0..orders {
        let order = format!("made-{order}");
        let make = world.request(1, 10);
        // What the agent came too late to read.
        let insert = world.call(3, 11);
        world.close(insert, 11, None);
        world.close(make, 10, Some(&order));
        let look = world.request(1, 10);
        if late {
            world.close(look, 10, Some(&order));
        }
        let select = world.call(3, 11);
        world.close(select, 11, Some(&order));
        if !late {
            world.close(look, 10, Some(&order));
        }
        all.push((look, select));
    }
    all
}

/// Lets all waiting be over, a second at a time, as an agent's clock does.
fn wait_long(world: &mut World) {
    (0..8).for_each(|_| world.wait(GRACE));
}

#[test]
fn orders_after_which_nothing_is_done_show_that_nothing_is_done_for_answered_requests() {
    let mut world = World::new();
    let orders = made_and_looked_at(&mut world, PROOF_BESIDE_ANSWERED, false);
    wait_long(&mut world);
    for (look, select) in orders {
        world.check(select, Some((look, Rule::Value)));
        assert_eq!(world.sure[&select], 85);
    }
    // From then on nothing waits.
    let (look, select) = made_and_looked_at(&mut world, 1, false)[0];
    world.collect();
    world.check(select, Some((look, Rule::Value)));
}

#[test]
fn fewer_orders_show_too_little() {
    let mut world = World::new();
    let orders = made_and_looked_at(&mut world, PROOF_BESIDE_ANSWERED - 1, false);
    wait_long(&mut world);
    orders.into_iter().for_each(|(_, select)| world.check(select, None));
}

#[test]
fn one_statement_after_all_answers_ends_it() {
    let mut world = World::new();
    let late = made_and_looked_at(&mut world, 1, true)[0].1;
    let orders = made_and_looked_at(&mut world, 2 * PROOF_BESIDE_ANSWERED, false);
    wait_long(&mut world);
    world.check(late, None);
    orders.into_iter().for_each(|(_, select)| world.check(select, None));
}

/// A statement that is begun before both answers, and is over after them, is not late.
#[test]
fn around_a_loss_no_order_shows_anything() {
    let mut world = World::new();
    let orders = made_and_looked_at(&mut world, PROOF_BESIDE_ANSWERED, false);
    world.inside.missed(Tgid(1), world.now - GRACE, world.now);
    wait_long(&mut world);
    assert!(!world.process(1).trust.was_never_late(1));
    orders.into_iter().for_each(|(_, select)| world.check(select, None));
}

/// What does not name the order is decided with the statement of its transaction that does.
#[test]
fn a_transaction_waits_as_long_as_its_statement_that_names_the_order() {
    let mut world = World::new();
    let make = world.request(1, 10);
    world.close(make, 10, Some("1"));
    let look = world.request(1, 10);
    let members = [None, Some("1"), None].map(|key| {
        let statement = world.call(3, 11);
        world.close_in(statement, 11, key, Some(1), false);
        statement
    });
    let commit = world.call(3, 11);
    world.close_in(commit, 11, None, Some(1), true);
    world.close(look, 10, Some("1"));
    made_and_looked_at(&mut world, PROOF_BESIDE_ANSWERED, false);
    wait_long(&mut world);
    world.check(members[1], Some((look, Rule::Value)));
    for member in [members[0], members[2], commit] {
        world.check(member, Some((look, Rule::Transaction)));
    }
}

/// As where a connection goes back to its pool after the answer: what its transaction's other members ask for is not the last look.
#[test]
fn a_transaction_that_ends_after_the_answer_waits_as_well() {
    let mut world = World::new();
    let make = world.request(1, 10);
    world.close(make, 10, Some("1"));
    let look = world.request(1, 10);
    // By several threads: none waits for what another one reads.
    let [begin, select] = [(11, None), (12, Some("1"))].map(|(thread, key)| {
        let statement = world.call(3, thread);
        world.close_in(statement, thread, key, Some(1), false);
        statement
    });
    world.close(look, 10, Some("1"));
    let rollback = world.call(3, 13);
    world.close_in(rollback, 13, None, Some(1), true);
    made_and_looked_at(&mut world, PROOF_BESIDE_ANSWERED, false);
    wait_long(&mut world);
    world.check(select, Some((look, Rule::Value)));
    for member in [begin, rollback] {
        world.check(member, Some((look, Rule::Transaction)));
    }
}

/// Two processes of one service: what both have shown together is enough, and what one does late holds for both.
#[test]
fn processes_of_one_service_show_it_together() {
    for late in [false, true] {
        let mut world = World::new();
        for tgid in [1, 2] {
            world.introduce(tgid, "shop");
            world.inside.table.process(Tgid(tgid));
        }
        let half = PROOF_BESIDE_ANSWERED / 2;
        made_and_looked_at(&mut world, half, false);
        (0..half).for_each(|_| world.inside.table.count_lateness(Tgid(2), Signal::NamedInFlight, late));
        wait_long(&mut world);
        let (look, select) = made_and_looked_at(&mut world, 1, false)[0];
        wait_long(&mut world);
        world.check(select, (!late).then_some((look, Rule::Value)));
    }
}
