//! What a thread shows of whether it works on one thing after the other.

use super::*;
use std::time::Duration;

#[test]
fn a_thread_that_does_something_else_before_its_answer_comes_works_on_several_things() {
    for meanwhile in [false, true] {
        let mut world = World::new();
        let first = world.request(1, 10);
        let call = world.call(3, 10);
        let second = meanwhile.then(|| world.request(2, 10));
        world.close(call, 10, None);
        world.close(first, 10, None);
        if let Some(second) = second {
            world.close(second, 10, None);
        }
        world.wait(2 * AFTER);
        let third = world.request(1, 10);
        let fourth = world.request(2, 11);
        let call = world.call(3, 10);
        world.close(call, 10, None);
        world.close(third, 10, None);
        world.close(fourth, 11, None);
        world.inside.finish();
        world.collect();
        world.check(call, (!meanwhile).then_some((third, Rule::Thread)));
    }
}

/// Two messages that one thread has taken in, a call, and the settlement of the first and then the second.
fn several_at_hand(world: &mut World) -> (OpId, OpId) {
    let (first, second) = (world.message(1, 10), world.message(1, 10));
    let call = world.call(3, 10);
    world.close(call, 10, None);
    world.close(first, 10, None);
    world.close(second, 10, None);
    world.wait(GRACE + TICK);
    (call, first)
}

#[test]
fn a_thread_with_several_messages_at_hand_must_have_shown_that_it_waits_for_its_answers() {
    let mut world = World::new();
    for _ in 1..SEQUENTIAL_CALLS {
        let (call, _) = several_at_hand(&mut world);
        world.check(call, None);
    }
    let (call, first) = several_at_hand(&mut world);
    world.check(call, Some((first, Rule::Thread)));
}

/// A worker that is handed requests answers `first`, is busy for `before`, calls, and answers `second`, which another thread
/// had read before all that. `key`: the order that the call names; `earlier`: one that a call before it names.
fn after_an_answer(
    world: &mut World,
    before: Duration,
    key: Option<&str>,
    earlier: Option<&str>,
) -> [OpId; 3] {
    let (first, second) = (world.request(1, 5), world.request(2, 6));
    world.close(first, 20, Some("1"));
    world.wait(before);
    if earlier.is_some() {
        let call = world.call(3, 20);
        world.close(call, 20, earlier);
    }
    let call = world.call(3, 20);
    world.close(call, 20, key);
    world.close(second, 20, Some("2"));
    world.wait(2 * AFTER);
    [first, second, call]
}

/// A process in which work goes on after answers, for up to some 5 ms, and threads work for what they answer next.
fn goes_on() -> World {
    let mut world = World::new();
    for n in 0..2 * PROOF {
        if n % 10 == 0 {
            after_an_answer(&mut world, 5 * TICK, Some("1"), None);
        } else {
            after_an_answer(&mut world, 100 * TICK, Some("2"), None);
        }
    }
    world
}

#[test]
fn soon_after_an_answer_the_next_one_proves_nothing_where_work_goes_on_after_answers() {
    let mut world = goes_on();
    for (before, expected) in [(5, false), (20, false), (100, true)] {
        let [_, second, call] = after_an_answer(&mut world, before * TICK, None, None);
        world.check(call, expected.then_some((second, Rule::Thread)));
    }
}

#[test]
fn a_thread_that_was_at_work_on_the_next_request_goes_on_with_it() {
    let mut world = goes_on();
    let [_, second, call] = after_an_answer(&mut world, 5 * TICK, None, Some("2"));
    world.check(call, Some((second, Rule::Thread)));
    let [_, _, call] = after_an_answer(&mut world, 5 * TICK, None, Some("1"));
    world.check(call, None);
}
