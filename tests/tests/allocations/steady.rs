//! On the steady path a session allocates what it hands out and nothing else: for each message no more than a copy of its
//! operation does.

use std::hint::black_box;

use spoor_core::operation::Operation;
use spoor_core::protocol::{Event, Events, Session, amqp, http1, http2, postgres};
use spoor_core::record::Sender::{self, Client, Server};
use spoor_core::record::{Mark, Role};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::transcript::wire;

use super::allocations;

/// Messages before it is counted: tables have found their size by then.
const WARM: u32 = 2000;
const COUNTED: u32 = 1000;

type Sent = Vec<(Sender, Vec<u8>)>;

/// Allocations of `COUNTED` rounds of `round`, and of a copy of what they gave.
fn check(name: &str, session: Box<dyn Session>, before: Sent, round: impl Fn(u32) -> Sent) {
    check_copies(1, name, session, before, round);
}

/// The same of a message that is kept so many times.
fn check_copies(
    copies: u64,
    name: &str,
    mut session: Box<dyn Session>,
    before: Sent,
    round: impl Fn(u32) -> Sent,
) {
    let (mut out, mut pos, mut at) = (Events::default(), [0u64; 2], 0);
    let mut operations: Vec<Box<Operation>> = Vec::new();
    let mut send = |sent: &Sent, operations: &mut Vec<Box<Operation>>| {
        for (from, bytes) in sent {
            at += 1;
            let mark =
                Mark { at: BootTime::from_nanos(at), other_pos: pos[1 - *from as usize], ..Mark::default() };
            session.bytes(*from, pos[*from as usize], bytes, mark, &mut out);
            pos[*from as usize] += bytes.len() as u64;
            while let Some(event) = out.pop() {
                if let Event::Closed(operation) = event {
                    operations.push(operation);
                }
            }
        }
    };
    send(&before, &mut operations);
    (0..WARM).for_each(|number| send(&round(number), &mut operations));
    operations.clear();
    operations.reserve(COUNTED as usize);
    let rounds: Vec<Sent> = (WARM..WARM + COUNTED).map(&round).collect();
    let parsing = allocations(|| rounds.iter().for_each(|sent| send(sent, &mut operations)));
    assert_eq!(operations.len(), COUNTED as usize, "{name}: one operation a round");
    let copying = allocations(|| drop(black_box(operations.clone()))) - 1;
    let each = |total: u64| total as f64 / f64::from(COUNTED);
    println!(
        "{name}: {:.2} allocations a message, {:.2} to copy its operation",
        each(parsing),
        each(copying)
    );
    assert!(
        parsing <= copies * copying,
        "{name}: {parsing} allocations, {copying} to copy the operations, {copies} copies allowed"
    );
}

#[test]
fn a_message_allocates_no_more_than_a_copy_of_its_operation() {
    let limits = &Protocols::default();
    for role in [Role::Client, Role::Server] {
        let http = || Box::new(http1::Http1Session::new(role, limits));
        check("HTTP GET", http(), Vec::new(), |n| {
            vec![
                (
                    Client,
                    wire::request("GET", &format!("/orders/{n}"), "User-Agent: bench\r\nAccept: */*\r\n", ""),
                ),
                (Server, wire::response(200, "{\"status\": \"new\"}")),
            ]
        });
        check("HTTP POST", http(), Vec::new(), |n| {
            vec![
                (
                    Client,
                    wire::request("POST", "/orders", "", &format!("{{\"order_id\": {n}, \"quantity\": 3}}")),
                ),
                (Server, wire::response(201, "{\"order_id\": 4711}")),
            ]
        });
        let hello = vec![(Client, wire::http2_hello(true)), (Server, wire::http2_hello(false))];
        let http2 = Box::new(http2::Http2Session::new(role, limits));
        check("HTTP/2 GET", http2, hello, |n| {
            let stream = 2 * n + 1;
            let head = wire::http2_frame(1, 4, stream, &wire::http2_response_block(n == 0));
            let path = format!("/orders/{n}");
            vec![
                (Client, wire::http2_request(stream, &path, n == 0)),
                (Server, [head, wire::http2_frame(0, 1, stream, b"{\"status\":\"new\"}")].concat()),
            ]
        });
        let hello = vec![(Client, wire::AMQP_HELLO.to_vec())];
        // The second copy is for what the broker may say of it late: a return, or the end of its channel.
        let publishes = Box::new(amqp::AmqpSession::new(role, limits));
        check_copies(2, "AMQP publish", publishes, hello.clone(), |n| {
            vec![(Client, wire::publish(1, "orders", "new", &format!("m-{n}"), "{\"order_id\": 4711}"))]
        });
        check(
            "PostgreSQL simple query",
            Box::new(postgres::PostgresSession::new(role, limits)),
            Vec::new(),
            |n| {
                let sql = format!("UPDATE orders SET status = 'new' WHERE id = {n}");
                vec![(Client, wire::query(&sql)), (Server, wire::done("UPDATE 1", b'I'))]
            },
        );
    }
}
