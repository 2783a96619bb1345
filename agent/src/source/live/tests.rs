//! What comes from the rings, in any order → records in theirs.

use bytes::Bytes;

use super::*;
use spoor_core::record::{DataFlags, TaskId, Worker};

const THREAD: u32 = 7;

fn ns(at: u64) -> BootTime {
    BootTime::from_nanos(at)
}

fn data(at: u64, conn: u64, direction: Direction) -> Data {
    Data {
        at: ns(at),
        conn: ConnId(conn),
        direction,
        pos: 0,
        other_pos: 0,
        len: 1,
        bytes: Bytes::from_static(b"x"),
        thread: Worker::new(1, THREAD),
        awaited_by: None,
        flags: DataFlags::default(),
    }
}

fn send(at: u64, conn: u64) -> Event {
    Event::Data(data(at, conn, Direction::Egress))
}

/// A chain of one task.
fn chain(at: u64, conn: u64, task: u64) -> Event {
    let thread = Worker::new(1, THREAD);
    let chain = Chain { at: ns(at), conn: ConnId(conn), thread, tasks: vec![TaskId(task)] };
    Event::Chain(chain, Direction::Egress)
}

fn introduced(conns: &[u64]) -> Order {
    let mut order = Order::default();
    for conn in conns {
        let conn = Conn::unannounced(&data(0, *conn, Direction::Egress));
        order.take(Event::Conn(Box::new(Seen { conn, own: false })));
    }
    order
}

/// What is handed out: of connections, of chains the task, and of data; each with its time and connection.
fn released(order: &mut Order) -> Vec<(&'static str, u64, u64)> {
    let mut out = Vec::new();
    order.release(true, &mut out);
    out.iter()
        .map(|record| match record {
            Record::Conn(conn) => ("conn", conn.at.as_nanos(), conn.id.0),
            Record::Chain(chain) => ("chain", chain.at.as_nanos(), chain.conn.0),
            Record::Data(data) => ("data", data.at.as_nanos(), data.conn.0),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_chain_comes_right_before_its_data_at_the_same_time() {
    let mut order = introduced(&[1]);
    order.take(chain(1000, 1, 5));
    order.take(send(1300, 1));
    assert_eq!(released(&mut order), [("conn", 0, 1), ("chain", 1300, 1), ("data", 1300, 1)]);
    assert_eq!(order.unclaimed, 0);
}

#[test]
fn a_chain_whose_data_was_lost_is_not_given_to_a_later_send() {
    let mut order = introduced(&[1]);
    order.take(chain(1000, 1, 5));
    // The next send of the thread on the same connection comes without a chain.
    order.take(send(1_001_000, 1));
    assert_eq!(released(&mut order), [("conn", 0, 1), ("data", 1_001_000, 1)]);
    // Neither is one that is read for what comes after.
    order.take(chain(3_000_000, 1, 6));
    order.take(send(2_999_000, 1));
    assert_eq!(released(&mut order), [("data", 2_999_000, 1)]);
    assert_eq!((order.unclaimed, order.chains.len()), (2, 0));
}

#[test]
fn a_chain_of_another_connection_is_left() {
    let mut order = introduced(&[1, 2]);
    order.take(chain(1000, 1, 5));
    order.take(send(1300, 2));
    order.take(send(1400, 1));
    assert_eq!(released(&mut order)[2..], [("data", 1300, 2), ("data", 1400, 1)]);
    assert_eq!(order.unclaimed, 1);
    // Of two, the last one counts.
    order.take(chain(2000, 2, 6));
    order.take(chain(2100, 1, 7));
    order.take(send(2200, 1));
    assert_eq!(released(&mut order), [("chain", 2200, 1), ("data", 2200, 1)]);
    assert_eq!(order.unclaimed, 2);
}

#[test]
fn what_a_thread_reads_takes_no_chain() {
    let mut order = introduced(&[1]);
    order.take(chain(1000, 1, 5));
    order.take(Event::Data(data(1100, 1, Direction::Ingress)));
    order.take(send(1300, 1));
    assert_eq!(released(&mut order)[1..], [("data", 1100, 1), ("chain", 1300, 1), ("data", 1300, 1)]);
}

#[test]
fn data_of_a_connection_that_is_introduced_later_keeps_its_chain() {
    let mut order = introduced(&[]);
    order.take(chain(1000, 1, 5));
    order.take(send(1300, 1));
    // Nobody takes the chain in the meantime.
    order.take(send(1400, 1));
    assert_eq!(released(&mut order), []);
    let expected = [("conn", 1300, 1), ("chain", 1300, 1), ("data", 1300, 1), ("data", 1400, 1)];
    assert_eq!(released(&mut order), expected);
    assert_eq!((order.unclaimed, order.unintroduced), (0, 1));
}

#[test]
fn chains_of_connections_to_the_agent_are_left_with_their_data() {
    let mut order = introduced(&[1]);
    order.ignored.insert(ConnId(2));
    order.take(chain(1000, 2, 5));
    order.take(send(1300, 2));
    assert_eq!((released(&mut order), order.chains.len()), (vec![("conn", 0, 1)], 0));
}

#[test]
fn chains_that_wait_are_bounded_and_counted() {
    let mut order = introduced(&[1]);
    for thread in 0..=MAX_CHAINS as u32 {
        let thread = Worker::new(1, 100 + thread);
        let chain = Chain { at: ns(1000), conn: ConnId(1), thread, tasks: Vec::new() };
        order.take(Event::Chain(chain, Direction::Egress));
    }
    assert_eq!((order.chains.len(), order.unclaimed), (MAX_CHAINS, 1));
}
