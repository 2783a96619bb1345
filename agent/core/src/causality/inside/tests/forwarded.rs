//! What a proxy passes on.

use super::*;

impl World {
    /// The next operation that is closed has this content.
    fn with(&mut self, content: u64) -> &mut Self {
        self.echo = echo(content);
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

#[test]
fn a_process_that_has_asked_others_passes_on_whatever_became_of_its_connections() {
    let mut world = World::new();
    let (request, other) = (world.request(1, 10), world.request(2, 10));
    let passed_on = world.call(3, 10);
    world.with(1).close(passed_on, 10, None);
    world.inside.conn_closed(ConnId(3), Some(Tgid(1)), world.now);
    world.with(1).close(request, 10, None);
    world.with(2).close(other, 10, None);
    world.wait(2 * GRACE);
    world.check(passed_on, Some((request, Rule::Forwarded)));
    let asked = world.relayed(1, 10);
    let passed_on = world.call(4, 10);
    world.with(1).close(passed_on, 10, None);
    world.inside.conn_closed(ConnId(4), Some(Tgid(1)), world.now);
    world.with(1).close(asked, 10, None);
    world.wait(2 * GRACE);
    world.check(passed_on, Some((asked, Rule::Forwarded)));
}

#[test]
fn nothing_is_passed_on_while_what_is_open_may_be_the_same() {
    let showing = |asked: u64| Showing { asked: Some(Asked(asked)), ..Showing::default() };
    for is_relayed in [false, true] {
        for (shown, is_certain) in [(None, false), (Some(1), false), (Some(2), true)] {
            let mut world = World::new();
            let setup = world.call(3, 10);
            world.close(setup, 10, None);
            let (open, asked) = match is_relayed {
                true => (world.relayed(1, 10), world.relayed(2, 10)),
                false => (world.request(1, 10), world.request(2, 10)),
            };
            for op in [open, asked] {
                let point = world.point(10);
                world.inside.requested(op, point);
            }
            let passed_on = world.call(4, 10);
            world.with(1).close(passed_on, 10, None);
            world.with(1).close(asked, 10, None);
            world.now += Duration::from_secs(10);
            world.show(|op| shown.filter(|_| op == open).map(showing));
            world.check(passed_on, is_certain.then_some((asked, Rule::Forwarded)));
            if is_relayed {
                // What it names makes it no cause.
                assert!(world.process(1).by_key.is_empty() && world.process(1).unnamed.len() < 2);
            }
            world.with(1).close(open, 10, None);
            assert!(world.process(1).relayed.is_empty());
        }
    }
}

#[test]
fn a_request_that_is_not_whole_yet_has_not_been_passed_on() {
    let mut world = World::new();
    world.next += 1;
    let upload = OpId(world.next);
    let (shape, family, conn) = (OpSide::Incoming, Interaction::Call, ConnId(1));
    let point = world.point(10);
    world.inside.opened(Opening { op: upload, shape, family, conn, point });
    let asked = world.request(2, 10);
    let passed_on = world.call(4, 10);
    world.with(1).close(passed_on, 10, None);
    world.with(1).close(asked, 10, None);
    world.wait(Duration::from_secs(11));
    world.check(passed_on, Some((asked, Rule::Forwarded)));
}

#[test]
fn around_a_loss_nothing_is_known_to_be_passed_on() {
    for whose in [Some(Tgid(1)), Some(Tgid(2)), None] {
        let mut world = World::new();
        let request = world.request(1, 10);
        let other = world.request(2, 10);
        let passed_on = world.call(3, 10);
        world.with(1).close(passed_on, 10, None);
        match whose {
            Some(tgid) => world.inside.missed(tgid, world.now, world.now),
            None => world.inside.lost(world.now),
        }
        world.with(1).close(request, 10, None);
        world.with(2).close(other, 10, None);
        world.wait(2 * GRACE);
        world.check(passed_on, (whose == Some(Tgid(2))).then_some((request, Rule::Forwarded)));
    }
}
