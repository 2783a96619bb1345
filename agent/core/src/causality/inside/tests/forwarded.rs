//! What a proxy passes on.

use super::*;

impl World {
    /// The next operation that is closed has this content.
    fn with(&mut self, content: u64) -> &mut Self {
        self.echo = Some(Echo(content));
        self
    }

    /// A statement that another process asks this one for: a proxy of a database is no cause of what it does.
    fn relayed(&mut self, conn: u64, tid: u32) -> OpId {
        self.open(OpSide::Relayed, Interaction::Call, conn, tid)
    }
}

#[test]
fn what_has_the_content_of_a_request_around_it_is_that_request_passed_on() {
    let mut world = World::new();
    // One thread works on everything, and every request names the same order.
    let (first, second) = (world.request(1, 10), world.request(2, 10));
    let (of_second, of_first) = (world.call(3, 10), world.call(4, 10));
    world.with(2).close(of_second, 10, Some("1"));
    world.with(1).close(of_first, 10, Some("1"));
    world.with(1).close(first, 10, Some("1"));
    world.with(2).close(second, 10, Some("1"));
    world.wait(2 * GRACE);
    world.check(of_first, Some((first, Rule::Forwarded)));
    world.check(of_second, Some((second, Rule::Forwarded)));
}

#[test]
fn a_request_is_not_passed_on_before_it_came_or_after_its_answer() {
    let mut world = World::new();
    let early = world.call(3, 10);
    let (request, other) = (world.request(1, 10), world.request(2, 10));
    let late = world.call(4, 10);
    world.with(1).close(early, 10, None);
    world.with(1).close(request, 10, None);
    world.with(1).close(late, 10, None);
    world.with(2).close(other, 10, None);
    world.wait(2 * GRACE);
    world.check(early, None);
    world.check(late, None);
}

#[test]
fn of_equal_requests_the_one_that_was_not_passed_on_yet_is() {
    let mut world = World::new();
    let first = world.request(1, 10);
    let of_first = world.call(3, 10);
    let second = world.request(2, 10);
    let of_second = world.call(4, 10);
    world.with(1).close(of_first, 10, None);
    world.with(1).close(of_second, 10, None);
    world.with(1).close(first, 10, None);
    world.with(1).close(second, 10, None);
    world.wait(2 * GRACE);
    world.check(of_first, Some((first, Rule::Forwarded)));
    world.check(of_second, Some((second, Rule::Forwarded)));

    let (first, second) = (world.request(1, 10), world.request(2, 10));
    let (one, other) = (world.call(3, 10), world.call(4, 10));
    for op in [one, other, first, second] {
        world.with(1).close(op, 10, None);
    }
    world.wait(2 * GRACE);
    world.check(one, None);
    world.check(other, None);
}

#[test]
fn a_proxy_of_a_database_passes_statements_on() {
    let mut world = World::new();
    let setup = world.call(3, 10);
    world.close(setup, 10, None);
    let (asked, other) = (world.relayed(1, 10), world.relayed(2, 10));
    let passed_on = world.call(3, 10);
    world.with(1).close(passed_on, 10, None);
    world.with(1).close(asked, 10, None);
    world.with(2).close(other, 10, None);
    world.wait(2 * GRACE);
    world.check(passed_on, Some((asked, Rule::Forwarded)));
    // Whoever asks nobody is no proxy, and nothing of what it is asked is remembered.
    let mut world = World::new();
    let asked = world.relayed(1, 10);
    world.with(1).close(asked, 10, None);
    assert!(world.inside.is_empty());
}

#[test]
fn contents_are_forgotten_with_their_operations() {
    let mut world = World::new();
    let setup = world.call(3, 10);
    world.close(setup, 10, None);
    for _ in 0..3 {
        let request = world.request(1, 10);
        world.with(1).close(request, 10, None);
    }
    assert_eq!(world.process(1).by_echo.values().map(VecDeque::len).sum::<usize>(), 3);
    world.wait(2 * REMEMBER);
    assert!(world.process(1).by_echo.is_empty() && world.inside.is_empty());
}
