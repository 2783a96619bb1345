//! Statements of one transaction.

use super::*;

/// BEGIN, a statement with that key, one with the other, COMMIT; nobody asked for them.
fn transaction(world: &mut World, keys: [Option<&str>; 2]) -> [OpId; 4] {
    let mut run = |key, ends| {
        let op = world.call(3, 10);
        world.close_in(op, 10, key, Some(1), ends);
        op
    };
    [run(None, false), run(keys[0], false), run(keys[1], false), run(None, true)]
}

fn bonds(world: &mut World) -> Vec<(OpId, OpId)> {
    world.wait(2 * GRACE);
    assert!(world.edges.is_empty(), "no cause is made up");
    std::iter::from_fn(|| world.inside.poll_bond()).collect()
}

#[test]
fn a_transaction_that_names_one_order_is_of_that_order() {
    let mut world = World::new();
    let [begin, update, insert, commit] = transaction(&mut world, [Some("1"), None]);
    let mut found = bonds(&mut world);
    found.sort_unstable();
    assert_eq!(found, [(begin, update), (insert, update), (commit, update)]);
    // Where both name the same one, nothing changes.
    let mut world = World::new();
    let [_, update, ..] = transaction(&mut world, [Some("1"), Some("1")]);
    assert!(bonds(&mut world).iter().all(|(_, by)| *by == update));
}

#[test]
fn one_that_names_none_or_two_is_of_neither() {
    for keys in [[None, None], [Some("1"), Some("2")]] {
        let mut world = World::new();
        transaction(&mut world, keys);
        assert_eq!(bonds(&mut world), [], "{keys:?}");
    }
}

#[test]
fn the_member_that_names_the_order_is_decided_before_the_others() {
    let mut world = World::new();
    let request = world.request(1, 20);
    let [begin, update, insert, commit] = transaction(&mut world, [None, Some("1")]);
    // The request is over when everything has to be decided.
    world.close(request, 20, Some("1"));
    world.inside.finish();
    world.collect();
    world.check(insert, Some((request, Rule::Value)));
    for op in [begin, update, commit] {
        world.check(op, Some((request, Rule::Transaction)));
    }
}

#[test]
fn one_whose_beginning_was_not_seen_or_that_was_not_read_whole_may_be_of_another_order_too() {
    let mut world = World::new();
    world.is_late = true;
    transaction(&mut world, [Some("1"), None]);
    assert_eq!(bonds(&mut world), []);
    let mut world = World::new();
    let begin = world.call(3, 10);
    world.is_unread = true;
    world.close_in(begin, 10, None, Some(1), false);
    transaction(&mut world, [Some("1"), None]);
    assert_eq!(bonds(&mut world), []);
}
