//! Trace IDs that a process hands on, or makes.

use super::*;

/// A call under way while several requests are, none of which the thread has read.
fn call_among(world: &mut World, traces: &[Option<Carried>], carries: Option<Carried>) -> (Vec<OpId>, OpId) {
    let requests: Vec<OpId> = (0..traces.len() as u64).map(|n| world.request(1 + n, 10)).collect();
    let call = world.call(50, 10);
    world.trace = carries;
    world.close(call, 10, None);
    for (request, trace) in requests.iter().zip(traces) {
        world.trace = *trace;
        world.close(*request, 10, None);
    }
    world.wait(2 * GRACE);
    (requests, call)
}

#[test]
fn a_call_that_carries_on_the_trace_of_one_request_is_its_work() {
    let mut world = World::new();
    let (requests, call) = call_among(&mut world, &[trace(5), trace(6), None], trace(6));
    world.check(call, Some((requests[1], Rule::Carried)));
    assert_eq!(world.sure[&call], 95, "others were in flight");
}

#[test]
fn of_several_requests_of_one_trace_none_is_named() {
    let mut world = World::new();
    let (_, call) = call_among(&mut world, &[trace(5), trace(5)], trace(5));
    world.check(call, None);
    let (_, call) = call_among(&mut world, &[trace(7), trace(8)], trace(9));
    world.check(call, None);
}

#[test]
fn one_that_was_just_answered_may_still_be_worked_on() {
    let mut world = World::new();
    let first = world.request(1, 10);
    world.trace = trace(5);
    world.close(first, 10, None);
    let (_, call) = call_among(&mut world, &[trace(5), trace(6)], trace(5));
    world.check(call, None);
    world.wait(Duration::from_secs(30));
    let (requests, call) = call_among(&mut world, &[trace(5), trace(6)], trace(5));
    world.check(call, Some((requests[0], Rule::Carried)));
}

#[test]
fn a_call_that_names_another_order_is_not_joined_by_its_trace() {
    let mut world = World::new();
    let (a, b) = (world.request(1, 10), world.request(2, 10));
    let call = world.call(50, 10);
    world.trace = trace(5);
    world.close(call, 10, Some("17"));
    world.trace = trace(5);
    world.close(a, 10, Some("18"));
    world.close(b, 10, None);
    world.wait(2 * GRACE);
    world.check(call, None);
}

/// The cause hangs, and has not shown its trace: another request of it, which is over, is not the only one.
#[test]
fn a_request_that_hangs_may_be_of_the_same_trace() {
    let mut world = World::new();
    let hangs = world.request(8, 12);
    let (_, call) = call_among(&mut world, &[trace(5), trace(6)], trace(5));
    world.check(call, None);
    world.wait(Duration::from_secs(11));
    world.check(call, None);
    world.close(hangs, 12, None);
    world.wait(Duration::from_secs(30));
    let (requests, call) = call_among(&mut world, &[trace(5), trace(6)], trace(5));
    world.check(call, Some((requests[0], Rule::Carried)));
}

#[test]
fn around_a_loss_and_while_a_request_is_not_read_a_trace_says_nothing() {
    let mut world = World::new();
    let known = world.request(9, 11);
    world.close(known, 11, None);
    world.inside.missed(Tgid(1), world.now, world.now);
    let (_, call) = call_among(&mut world, &[trace(5), trace(6)], trace(5));
    world.check(call, None);
    world.wait(Duration::from_secs(60));
    world.inside.unread(ConnId(90), Tgid(1), (world.now, true));
    let (_, call) = call_among(&mut world, &[trace(5), trace(6)], trace(5));
    world.check(call, None);
}

/// Two requests in flight, and for the first one a call that names its order and one that does not, both in a trace made for it.
fn work_in_a_made_trace(world: &mut World, id: u64) -> (OpId, OpId) {
    let (a, b) = (world.request(1, 10), world.request(2, 10));
    // What names nothing comes first.
    let (plain, named) = (world.call(50, 10), world.call(51, 10));
    for (call, key) in [(plain, None), (named, Some("1"))] {
        world.trace = trace(id);
        world.close(call, 10, key);
    }
    world.close(a, 10, Some("1"));
    world.close(b, 10, Some("2"));
    world.wait(2 * GRACE);
    world.check(named, Some((a, Rule::Value)));
    (a, plain)
}

/// Two calls of one request that name its order, in a trace made for it: how the process works shows.
fn proof_of_made_traces(world: &mut World, id: u64) {
    let (a, b) = (world.request(1, 10), world.request(2, 10));
    for _ in 0..2 {
        let call = world.call(50, 10);
        world.trace = trace(id);
        world.close(call, 10, Some("1"));
    }
    world.close(a, 10, Some("1"));
    world.close(b, 10, Some("2"));
    world.wait(2 * GRACE);
}

#[test]
fn calls_of_a_trace_that_was_made_for_a_request_have_one_cause() {
    let mut world = World::new();
    let (_, plain) = work_in_a_made_trace(&mut world, 1);
    world.check(plain, None);
    (100..110).for_each(|id| proof_of_made_traces(&mut world, id));
    let (a, plain) = work_in_a_made_trace(&mut world, 2);
    world.check(plain, Some((a, Rule::Carried)));
}

#[test]
fn a_trace_with_several_causes_was_made_for_none() {
    let mut world = World::new();
    (100..110).for_each(|id| proof_of_made_traces(&mut world, id));
    let (a, b) = (world.request(1, 10), world.request(2, 10));
    for key in ["1", "2"] {
        let call = world.call(50, 10);
        world.trace = trace(7);
        world.close(call, 10, Some(key));
    }
    let plain = world.call(51, 10);
    world.trace = trace(7);
    world.close(plain, 10, None);
    world.close(a, 10, Some("1"));
    world.close(b, 10, Some("2"));
    world.wait(2 * GRACE);
    world.check(plain, None);
}

#[test]
fn what_is_forgotten_leaves_no_trace() {
    let mut world = World::new();
    let (_, call) = call_among(&mut world, &[trace(5), None], trace(5));
    assert_eq!(world.process(1).traces.len(), 1);
    world.wait(2 * REMEMBER);
    assert!(world.inside.table.op(call).is_none() && world.process(1).traces.is_empty());
}
