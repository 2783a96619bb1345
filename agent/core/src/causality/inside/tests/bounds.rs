//! Each table overrun, and its counter.

use super::super::process::Process;
use super::super::thresholds::*;
use std::time::Duration;

use super::super::*;
use crate::record::{Tid, Worker};

fn inside() -> Inside {
    Inside::new(Policy {
        rules: Default::default(),
        min_confidence: 0.0,
        decide_within: Duration::ZERO,
        broker_wait: Duration::ZERO,
    })
}

fn point(at: u64, tgid: u32, tid: u32) -> Point {
    Point { at: BootTime::from_nanos(at), pos: 0, thread: Worker::new(tgid, tid), awaited_by: None }
}

fn opening(op: u64, shape: OpSide, point: Point) -> Opening {
    Opening { op: OpId(op), shape, family: Interaction::Call, conn: ConnId(op), point }
}

fn closing(op: u64, at: Point) -> Closing {
    Closing {
        op: OpId(op),
        at: at.at,
        response_start: Some(at),
        response_end: Some(at),
        keys: Vec::new(),
        answered: true,
        facts: Facts::default(),
        echo: None,
        trace: None,
        transaction: None,
        is_read: true,
        named: None,
        delivery: None,
    }
}

#[test]
fn links_are_bounded_and_counted() {
    let mut inside = inside();
    (0..MAX_LINKS as u64 + 3).for_each(|n| inside.linked(OpId(n), OpId(n + 1)));
    assert_eq!(inside.forgotten().0, 3);
}

#[test]
fn an_idle_process_is_forgotten_before_one_with_something_under_way() {
    let mut inside = inside();
    inside.opened(opening(1, OpSide::Incoming, point(1, 1, 1)));
    for tgid in 2..MAX_PROCESSES as u32 + 3 {
        let op = u64::from(tgid);
        inside.opened(opening(op, OpSide::Incoming, point(op, tgid, tgid)));
        inside.closed(closing(op, point(op, tgid, tgid)));
    }
    let (_, forgotten) = inside.forgotten();
    assert_eq!(forgotten.processes, 2);
    assert_eq!(inside.table.processes.len(), MAX_PROCESSES);
    assert!(inside.table.processes.contains_key(&Tgid(1)) && !inside.table.processes.contains_key(&Tgid(2)));
}

#[test]
fn idle_threads_are_forgotten_and_counted_with_what_they_had_forgotten() {
    let mut inside = inside();
    for n in 0..MAX_THREADS as u64 + 1 {
        let at = point(n, 7, n as u32);
        inside.opened(opening(n, OpSide::Incoming, at));
        inside.closed(closing(n, at));
    }
    let (_, forgotten) = inside.forgotten();
    assert_eq!(forgotten.threads, MAX_THREADS as u64);
    assert_eq!(forgotten.unnamed, (MAX_THREADS - MAX_UNNAMED) as u64 + 1);
}

#[test]
fn what_a_thread_did_last_is_bounded_and_counted_after_its_end_too() {
    let mut inside = inside();
    for n in 0..1000 {
        let at = point(n, 7, 7);
        inside.opened(opening(n, OpSide::Incoming, at));
        inside.closed(closing(n, at));
        inside.opened(opening(1000 + n, OpSide::Outgoing, at));
    }
    let expected = |forgotten: InsideStats| {
        assert_eq!(forgotten.answers, 1000 - MAX_ANSWERS as u64);
        assert_eq!(forgotten.begun, 1000 - MAX_BEGUN as u64);
        assert_eq!(forgotten.acts, 2000 - MAX_ACTS as u64);
    };
    expected(inside.forgotten().1);
    inside.thread_began(Tgid(7), Tid(7), Tid(8));
    expected(inside.forgotten().1);
    inside.process_replaced(Tgid(7));
    expected(inside.forgotten().1);
}

#[test]
fn shared_writes_are_bounded_and_counted() {
    let mut process = Process::default();
    (0..MAX_INTERLEAVED as u64 + 4).for_each(|at| process.interleave(BootTime::from_nanos(at), ConnId(1)));
    assert_eq!(process.forgotten().interleaved, 4);
}
