//! Requests that cannot be read: of an encrypted connection.

use super::*;
use std::time::Duration;

/// A request, and what names its order meanwhile; another request of the same order may be on the connection that is not read.
fn named_work(world: &mut World) -> (OpId, OpId) {
    let request = world.request(1, 10);
    let named = world.call(3, 11);
    world.close(named, 11, Some("1"));
    world.close(request, 10, Some("1"));
    world.wait(2 * GRACE);
    (request, named)
}

#[test]
fn a_key_names_the_order_but_not_which_request_of_it_was_the_cause() {
    let mut world = World::new();
    let (request, named) = named_work(&mut world);
    world.check(named, Some((request, Rule::Value)));
    world.inside.unread(ConnId(20), Tgid(1), (world.now, true));
    let (_, named) = named_work(&mut world);
    world.check(named, None);
    world.inside.conn_closed(ConnId(20), Some(Tgid(1)), world.now);
    world.wait(Duration::from_secs(60));
    let (request, named) = named_work(&mut world);
    world.check(named, Some((request, Rule::Value)));
}

#[test]
fn a_connection_that_is_read_after_all_hides_nothing() {
    let mut world = World::new();
    world.inside.unread(ConnId(20), Tgid(1), (world.now, true));
    world.inside.read(ConnId(20), world.now);
    let (request, named) = named_work(&mut world);
    world.check(named, Some((request, Rule::Value)));
}

#[test]
fn a_thread_that_serves_a_request_serves_no_other_one_meanwhile() {
    let mut world = World::new();
    world.inside.unread(ConnId(20), Tgid(1), (world.now, true));
    let request = world.request(1, 10);
    let call = world.call(3, 10);
    world.close(call, 10, None);
    world.close(request, 10, None);
    world.wait(2 * GRACE);
    world.check(call, Some((request, Rule::Thread)));
    // After the answer it may have read one that nobody sees.
    let later = world.call(3, 10);
    world.close(later, 10, None);
    world.wait(2 * GRACE);
    world.check(later, None);
}

#[test]
fn another_process_is_not_concerned() {
    let mut world = World::new();
    world.inside.unread(ConnId(20), Tgid(77), (world.now, true));
    let (request, named) = named_work(&mut world);
    world.check(named, Some((request, Rule::Value)));
}

#[test]
fn what_was_noted_while_a_connection_was_not_read_does_not_know_of_it() {
    let mut world = World::new();
    let request = world.request(1, 10);
    world.close(request, 10, None);
    world.inside.unread(ConnId(20), Tgid(1), (world.now, true));
    // The thread has answered that request last, as far as is known; it has read another one.
    let call = world.call(3, 10);
    world.inside.read(ConnId(20), world.now);
    world.close(call, 10, None);
    world.wait(2 * GRACE);
    world.check(call, None);
}

#[test]
fn who_reads_from_a_connection_is_concerned_not_who_accepted_it() {
    let mut world = World::new();
    let (accepts, reads) = (Tgid(77), Tgid(1));
    world.inside.unread(ConnId(20), accepts, (world.now, true));
    world.inside.hidden(ConnId(20), Worker::new(reads.0, 99), world.now);
    let (_, named) = named_work(&mut world);
    world.check(named, None);
    // Its end is told without knowing whose it was.
    world.inside.conn_closed(ConnId(20), None, world.now);
    world.wait(Duration::from_secs(60));
    let (request, named) = named_work(&mut world);
    world.check(named, Some((request, Rule::Value)));
}
