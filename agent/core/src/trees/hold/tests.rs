use std::sync::Arc;

use super::*;
use crate::causality::Confidence;
use crate::conn::ConnInfo;
use crate::operation::{Completeness, Detail, Extent, OpSide, Operation};
use crate::order::Found;
use crate::record::{ClockPair, Conn, ConnId, Endpoint, Role, Transport, Worker};
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

fn finished(op: u64) -> Box<Finished> {
    let conn = Conn {
        at: BootTime::ZERO,
        id: ConnId(1),
        transport: Transport::Tcp,
        local: Endpoint::Unknown,
        remote: Endpoint::Unknown,
        netns: 0,
        role: None,
        from_start: true,
        thread: Worker::default(),
        comm: String::new(),
        cgroup: 0,
        wire: None,
        peer: None,
    };
    let operation = Operation {
        id: OpId(op),
        shape: OpSide::Outgoing,
        role: Role::Client,
        request: Extent::default(),
        response: None,
        ended_at: BootTime::ZERO,
        completeness: Completeness::Complete,
        detail: Detail::Http(Box::default()),
    };
    Box::new(Finished {
        operation,
        conn: Arc::new(ConnInfo { conn, role: None, protocol: None, tls: None }),
        found: Found::default(),
        wire: None,
        resource: Arc::new(Resource::default()),
        clock: ClockPair::UNKNOWN,
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
