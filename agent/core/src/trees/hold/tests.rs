use std::sync::Arc;

use super::*;
use crate::causality::Confidence;
use crate::conn::ConnInfo;
use crate::operation::{Detail, Operation, testing};
use crate::order::Found;
use crate::record::{CgroupId, ClockPair, Conn, ConnId, Endpoint, NetNs, Transport, Worker};
use crate::span::Resource;
use crate::time::{BootTime, ns};

const LINGER: u64 = 100;

fn forest() -> Hold {
    Hold::new(Limits {
        linger: Duration::from_nanos(LINGER),
        max_hold: Duration::from_nanos(10_000),
        max_operations: 50,
    })
}

pub(in crate::trees) fn finished(op: u64) -> Box<Finished> {
    let conn = Conn {
        at: BootTime::ZERO,
        id: ConnId(1),
        transport: Transport::Tcp,
        local: Endpoint::Unknown,
        remote: Endpoint::Unknown,
        netns: NetNs::UNKNOWN,
        role: None,
        from_start: true,
        thread: Worker::default(),
        comm: String::new(),
        cgroup: CgroupId::UNKNOWN,
        wire: None,
        peer: None,
    };
    let operation = Operation { id: OpId(op), ..testing::operation(Detail::Http(Box::default())) };
    Box::new(Finished {
        texts: None,
        operation,
        conn: Arc::new(ConnInfo { conn, role: None, protocol: None, client: None, tls: None }),
        found: Found::default(),
        wire: None,
        resource: Arc::new(Resource::default()),
        clock: ClockPair::UNKNOWN,
        is_left_out: false,
        message: None,
    })
}

fn edge(child: u64, parent: u64, rule: Rule) -> Edge {
    Edge { child: OpId(child), parent: OpId(parent), rule, confidence: Confidence(1.0) }
}

/// Identifiers of each released tree, in order.
fn released(forest: &mut Hold) -> Vec<Vec<u64>> {
    let mut trees = Vec::new();
    while let Some(tree) = forest.poll_tree() {
        trees.push(tree.finished.iter().map(|leaf| leaf.finished.operation.id.0).collect());
    }
    trees
}

#[test]
fn a_tree_is_held_until_it_was_quiet_for_the_linger() {
    let mut forest = forest();
    forest.opened(OpId(1), BootTime::ZERO);
    forest.opened(OpId(2), ns(10));
    forest.closed(finished(2), true, ns(20));
    forest.edge(edge(2, 1, Rule::Thread), ns(20));
    forest.handle_timeout(ns(500));
    assert!(released(&mut forest).is_empty(), "the root is still open");
    forest.closed(finished(1), true, ns(600));
    forest.handle_timeout(ns(600 + LINGER - 1));
    assert!(released(&mut forest).is_empty());
    forest.handle_timeout(ns(600 + LINGER));
    assert_eq!(released(&mut forest), [[1, 2]]);
    assert_eq!(forest.len(), 0);
    assert_eq!(forest.next_timeout(), None);
}

#[test]
fn an_operation_whose_cause_is_undecided_is_held() {
    let mut forest = forest();
    forest.opened(OpId(1), BootTime::ZERO);
    forest.closed(finished(1), false, ns(10));
    forest.handle_timeout(ns(1000));
    assert!(released(&mut forest).is_empty());
    forest.settled(OpId(1), ns(1000));
    forest.handle_timeout(ns(1000 + LINGER));
    assert_eq!(released(&mut forest), [[1]]);
}

#[test]
fn a_consumer_is_released_after_its_producer_but_not_with_it() {
    let mut forest = forest();
    forest.opened(OpId(1), BootTime::ZERO);
    forest.opened(OpId(2), ns(5));
    forest.closed(finished(2), true, ns(10));
    forest.edge(edge(2, 1, Rule::Message), ns(10));
    forest.handle_timeout(ns(2000));
    assert!(released(&mut forest).is_empty(), "the producer's tree is open");
    forest.closed(finished(1), true, ns(2000));
    forest.handle_timeout(ns(2000 + LINGER));
    forest.handle_timeout(ns(2000 + LINGER + 2_000_000));
    assert_eq!(released(&mut forest), [[1], [2]]);
}

#[test]
fn a_tree_is_held_for_a_bounded_time_only() {
    let mut forest = forest();
    forest.opened(OpId(1), BootTime::ZERO);
    forest.opened(OpId(2), ns(1));
    forest.closed(finished(2), true, ns(2));
    forest.edge(edge(2, 1, Rule::Thread), ns(2));
    forest.handle_timeout(ns(10_000));
    let tree = forest.poll_tree().expect("released by the bound");
    assert_eq!(tree.open, [(OpId(1), None)]);
    assert_eq!(tree.finished.len(), 1);
    assert_eq!(forest.forced_count(), 1);
}

#[test]
fn too_many_operations_release_the_oldest_tree_first() {
    let mut forest = forest();
    for op in 0..51 {
        forest.opened(OpId(op), ns(op));
    }
    let tree = forest.poll_tree().expect("one over the bound");
    assert_eq!(tree.open, [(OpId(0), None)]);
    assert_eq!(forest.len(), 50);
}

#[test]
fn edges_never_form_a_cycle_nor_give_a_second_parent() {
    let mut forest = forest();
    for op in 1..=3 {
        forest.opened(OpId(op), BootTime::ZERO);
    }
    forest.edge(edge(2, 1, Rule::Thread), ns(1));
    forest.edge(edge(3, 2, Rule::Wire), ns(1));
    forest.edge(edge(1, 3, Rule::Wire), ns(1));
    forest.edge(edge(3, 1, Rule::Wire), ns(1));
    forest.edge(edge(1, 1, Rule::Wire), ns(1));
    for op in 1..=3 {
        forest.closed(finished(op), true, ns(2));
    }
    forest.handle_timeout(ns(2 + LINGER));
    let tree = forest.poll_tree().expect("one tree");
    let parents: Vec<_> = tree.finished.iter().map(|leaf| leaf.edge.map(|edge| edge.parent.0)).collect();
    assert_eq!(parents, [None, Some(1), Some(2)]);
}

#[test]
fn two_trees_that_message_each_other_do_not_wait_for_ever() {
    let mut forest = forest();
    for op in 1..=4 {
        forest.opened(OpId(op), BootTime::ZERO);
    }
    // 1 → 2 in one process, 3 → 4 in another; 3 consumes what 2 published, 1 consumed what 4 published.
    forest.edge(edge(2, 1, Rule::Thread), ns(1));
    forest.edge(edge(4, 3, Rule::Thread), ns(1));
    forest.edge(edge(3, 2, Rule::Message), ns(1));
    forest.edge(edge(1, 4, Rule::Message), ns(1));
    for op in 1..=4 {
        forest.closed(finished(op), true, ns(2));
    }
    forest.handle_timeout(ns(2 + LINGER));
    assert_eq!(released(&mut forest).len(), 2);
}

#[test]
fn bytes_are_those_of_a_walk_at_every_step() {
    let mut forest = forest();
    let mut told = 0;
    let mut step = |forest: &Hold| {
        assert_eq!(forest.bytes(), forest.walked());
        told += 1;
    };
    for op in 1..40 {
        let now = ns(op * 50);
        if op % 5 != 0 {
            forest.opened(OpId(op), now);
        }
        step(&forest);
        let mut done = finished(op);
        if let Detail::Http(exchange) = &mut done.operation.detail {
            exchange.target = "x".repeat(op as usize * 10);
        }
        if op % 7 != 0 {
            forest.closed(done, op % 3 != 0, now);
            // Twice is once.
            forest.closed(finished(op), true, now);
        }
        step(&forest);
        forest.edge(edge(op, op - 1, Rule::Thread), now);
        forest.handle_timeout(now);
        step(&forest);
        if op % 9 == 0 {
            forest.poll_tree();
            step(&forest);
        }
    }
    forest.release_down_to(5000);
    step(&forest);
    forest.drop_down_to(1000);
    step(&forest);
    forest.release_all();
    while forest.poll_tree().is_some() {
        step(&forest);
    }
    assert_eq!(forest.bytes(), 0);
    assert!(told > 100);
}

#[test]
fn the_oldest_trees_are_released_for_memory() {
    let mut forest = forest();
    for op in 1..=8 {
        forest.opened(OpId(op), ns(op));
        forest.closed(finished(op), true, ns(op));
    }
    let each = forest.bytes() / 8;
    forest.release_down_to(5 * each);
    assert_eq!(
        (forest.bytes(), forest.ready_bytes()),
        (8 * each, 3 * each),
        "they count until they are taken"
    );
    assert_eq!(forest.given_up(), GivenUp { early: 3, operations: 0 });
    // Nobody takes them.
    forest.drop_down_to(each);
    assert_eq!(forest.given_up(), GivenUp { early: 3, operations: 2 });
    assert_eq!(released(&mut forest), [[3]]);
    assert_eq!(forest.bytes(), 5 * each);
}
