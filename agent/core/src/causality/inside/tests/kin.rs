//! Workers that take messages in one process and work on them in others.

use super::*;
use crate::record::ProcessInfo;

const MAIN: u32 = 1;

impl World {
    /// A process of that service begins an operation.
    fn of(&mut self, tgid: u32, shape: OpSide, family: Interaction, conn: u64) -> OpId {
        self.next += 1;
        let op = OpId(self.next);
        let mut point = self.point(10 * tgid);
        point.thread = Worker::new(tgid, 10 * tgid);
        self.inside.opened(Opening { op, shape, family, conn: ConnId(conn), point });
        op
    }

    pub(super) fn introduce(&mut self, tgid: u32, service: &str) {
        let (exe, service) = ("/usr/bin/python3".to_owned(), service.to_owned());
        let info = ProcessInfo { tgid: Tgid(tgid), exe, service, ..ProcessInfo::default() };
        self.inside.process_introduced(&info);
    }

    fn task(&mut self, key: &str) -> OpId {
        let message = self.of(MAIN, OpSide::Incoming, Interaction::Message, 1);
        self.close(message, 10 * MAIN, Some(key));
        message
    }

    fn statement(&mut self, tgid: u32, key: Option<&str>) -> OpId {
        let statement = self.of(tgid, OpSide::Outgoing, Interaction::Call, u64::from(tgid));
        self.close(statement, 10 * tgid, key);
        statement
    }
}

fn pool() -> World {
    let mut world = World::new();
    (MAIN..4).for_each(|tgid| world.introduce(tgid, "tasks"));
    world.introduce(4, "shop");
    world
}

#[test]
fn what_a_pools_process_does_for_an_order_is_of_the_message_that_another_one_took() {
    let mut world = pool();
    let task = world.task("1");
    let (statement, other, foreign) =
        (world.statement(2, Some("1")), world.statement(3, Some("2")), world.statement(4, Some("1")));
    world.wait(2 * GRACE);
    world.check(statement, Some((task, Rule::Value)));
    assert_eq!(world.sure[&statement], 85);
    world.check(other, None);
    world.check(foreign, None);
}

#[test]
fn an_unsettled_message_is_asked_what_it_has_shown() {
    let mut world = pool();
    let task = world.of(MAIN, OpSide::Incoming, Interaction::Message, 1);
    let statement = world.statement(2, Some("1"));
    world.now += GRACE;
    world.inside.handle_timeout(world.now);
    assert_eq!(world.inside.poll_to_peek(), Some((ConnId(1), task)));
    world.inside.shown(task, Showing { keys: vec![order("1")], ..Showing::default() });
    world.wait(TICK);
    world.check(statement, Some((task, Rule::Value)));
}

#[test]
fn of_two_messages_of_the_order_none_is_guessed_nor_one_that_is_long_over() {
    let mut world = pool();
    let (_, _) = (world.task("1"), world.task("1"));
    let statement = world.statement(2, Some("1"));
    world.wait(2 * AFTER);
    world.check(statement, None);
    let late = world.statement(2, Some("1"));
    world.wait(2 * GRACE);
    world.check(late, None);
}

#[test]
fn what_another_process_of_the_pool_was_doing_when_it_sent_the_next_message_is_not_done_here() {
    let mut world = pool();
    let first = world.task("1");
    let publish = world.of(2, OpSide::Outgoing, Interaction::Message, 7);
    world.close(publish, 20, Some("1"));
    world.wait(GRACE / 2);
    let second = world.task("1");
    world.inside.linked(second, publish);
    let (here, there) = (world.statement(3, Some("1")), world.statement(2, Some("1")));
    world.wait(2 * GRACE);
    world.check(publish, Some((first, Rule::Value)));
    world.check(here, Some((second, Rule::Value)));
    // This one may still be at the first.
    world.check(there, None);
}

#[test]
fn a_process_that_takes_messages_itself_is_judged_by_those() {
    let mut world = pool();
    world.task("1");
    let own = world.of(2, OpSide::Incoming, Interaction::Message, 9);
    world.close(own, 20, Some("2"));
    let statement = world.statement(2, Some("1"));
    world.wait(2 * GRACE);
    world.check(statement, None);
}

#[test]
fn what_names_no_order_in_a_transaction_that_does_asks_for_what_unsettled_messages_have_shown() {
    let mut world = pool();
    let task = world.of(MAIN, OpSide::Incoming, Interaction::Message, 1);
    let [begin, update, commit] = [None, Some("1"), None].map(|key| {
        let op = world.of(2, OpSide::Outgoing, Interaction::Call, 2);
        // The BEGIN is decided first, and the others with it.
        world.close_in(op, 20, key, Some(1), false);
        op
    });
    world.now += Duration::from_secs(11);
    world.show(|_| Some(Showing { keys: vec![order("1")], ..Showing::default() }));
    world.wait(2 * GRACE);
    world.check(update, Some((task, Rule::Value)));
    for op in [begin, commit] {
        world.check(op, Some((task, Rule::Transaction)));
    }
}

#[test]
fn a_transaction_that_is_over_does_not_tell_what_an_unsettled_message_is_about() {
    let mut world = pool();
    world.task("1");
    let second = world.of(MAIN, OpSide::Incoming, Interaction::Message, 1);
    let update = world.of(2, OpSide::Outgoing, Interaction::Call, 2);
    world.close_in(update, 20, Some("1"), Some(1), true);
    world.check(update, None);
    world.close(second, 10 * MAIN, Some("1"));
    world.wait(2 * GRACE);
    world.check(update, None);
}

#[test]
fn of_more_messages_than_are_looked_at_none_is_the_only_one() {
    let mut world = pool();
    let tasks: Vec<OpId> =
        (0..=MAX_LOOKED_AT).map(|_| world.of(MAIN, OpSide::Incoming, Interaction::Message, 1)).collect();
    let statement = world.statement(2, Some("1"));
    world.now += GRACE;
    let keys = |op| vec![order(if op == tasks[0] { "1" } else { "2" })];
    world.show(|op| Some(Showing { keys: keys(op), ..Showing::default() }));
    world.check(statement, None);
}

#[test]
fn around_a_loss_in_the_process_that_takes_messages_nothing_is_said() {
    let mut world = pool();
    world.task("1");
    world.inside.missed(Tgid(MAIN), world.now, world.now);
    let statement = world.statement(2, Some("1"));
    world.wait(2 * GRACE);
    world.check(statement, None);
}
