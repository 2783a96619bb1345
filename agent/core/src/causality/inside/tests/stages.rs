//! Workers with two stages, and replies.

use super::*;

#[test]
fn work_after_the_first_message_is_settled_is_of_the_second_that_it_led_to() {
    for is_known in [true, false] {
        let mut world = World::new();
        for n in 0..PROOF_OF_THE_USUAL {
            let key = format!("7{n}");
            let message = world.message(1, 10);
            let call = world.call(3, 10);
            world.close(call, 10, Some(&key));
            world.close(message, 10, Some(&key));
        }
        world.wait(2 * GRACE);
        let first = world.message(1, 10);
        let point = world.point(10);
        let publish = world.write(2, point, point);
        world.close(publish, 10, Some("1"));
        let second = world.message(1, 11);
        world.close(first, 10, Some("1"));
        if is_known {
            world.inside.linked(second, publish);
        }
        let statement = world.call(4, 12);
        world.close(statement, 12, Some("1"));
        world.close(second, 11, Some("1"));
        world.wait(2 * GRACE);
        world.check(publish, Some((first, Rule::Value)));
        world.check(statement, is_known.then_some((second, Rule::Value)));
    }
}

#[test]
fn a_reply_is_of_the_message_that_asks_for_it() {
    let mut world = World::new();
    let (one, other) = (world.message(1, 10), world.message(1, 10));
    let point = world.point(11);
    let reply = world.write(1, point, point);
    world.echo = echo(7);
    world.close(reply, 11, None);
    world.echo = echo(7);
    world.close(one, 10, Some("1"));
    world.echo = echo(8);
    world.close(other, 10, Some("2"));
    world.wait(2 * GRACE);
    world.check(reply, Some((one, Rule::Message)));
    // Two that ask for the same, a message that came twice say, are not told apart.
    let again = world.message(1, 10);
    let point = world.point(11);
    let reply = world.write(1, point, point);
    for op in [reply, again] {
        world.echo = echo(7);
        world.close(op, 11, None);
    }
    world.wait(2 * GRACE);
    assert!(world.edges.get(&reply).is_none_or(|(_, rule)| *rule != Rule::Message));
}

#[test]
fn a_reply_has_no_cause_while_an_open_message_may_ask_for_the_same() {
    for (asked, is_certain) in [(None, false), (Some(Asked(7)), false), (Some(Asked(8)), true)] {
        let mut world = World::new();
        let (open, one) = (world.message(1, 10), world.message(1, 12));
        let point = world.point(11);
        let reply = world.write(1, point, point);
        for op in [reply, one] {
            world.echo = echo(7);
            world.close(op, 13, None);
        }
        world.wait(Duration::from_secs(5));
        world.check(reply, None);
        world.now += Duration::from_secs(10);
        world.show(|op| (op == open).then(|| Showing { asked, ..Showing::default() }));
        world.check(reply, is_certain.then_some((one, Rule::Message)));
    }
}
