//! Input that is meant to hurt.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::protocol::Discard;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn discarded(events: &[Event], wanted: Discard) -> u64 {
    let bytes = events.iter().map(|event| match event {
        Event::Discarded { reason, bytes } if *reason == wanted => *bytes,
        _ => 0,
    });
    bytes.sum()
}

#[test]
fn an_endless_head_is_bounded_and_the_message_still_framed() {
    let fields: String = (0..10_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let head = format!("POST /a HTTP/1.1\r\n{fields}Content-Length: 3\r\n\r\nabc");
    let events = run(&[client(&head), server(OK)]);
    assert_eq!(summaries(&events), ["POST /a → 200, 3 up, 2 down"]);
    let exchange = exchange(operations(&events)[0]);
    assert!(exchange.request_headers.bytes_len() <= 64 << 10);
    assert_eq!(exchange.request_header("content-length"), Some(&b"3"[..]));
    assert!(discarded(&events, Discard::Limit) > 0);
}

#[test]
fn lines_without_an_end_are_bounded() {
    let mut connection = Connection::new(&Protocols::default());
    connection.step(&client("GET /a HTTP/1.1\r\nX-Long: "));
    (0..100).for_each(|_| connection.step(&client([b'x'; 4096])));
    assert!(connection.session.request.reader.len() <= (64 << 10) + 4096);
    connection.step(&client("\r\n folded\r\nHost: h\r\n\r\n"));
    connection.step(&server(OK));
    let events = connection.events();
    assert_eq!(summaries(&events), ["GET /a → 200, 0 up, 2 down"]);
    assert_eq!(exchange(operations(&events)[0]).authority, "h");

    let mut connection = Connection::new(&Protocols::default());
    connection.step(&client("GET /"));
    (0..100).for_each(|_| connection.step(&client([b'x'; 4096])));
    assert!(connection.session.request.reader.len() <= (64 << 10) + 4096);
    connection.step(&client("GET /b HTTP/1.1\r\n\r\n"));
    connection.step(&server(OK));
    let events = connection.events();
    assert_eq!(summaries(&events), ["GET /b → 200, 0 up, 2 down"]);
    assert!(discarded(&events, Discard::Limit) > 0);
}

#[test]
fn open_exchanges_and_what_they_retain_are_bounded() {
    let limits = Protocols { max_open_operations: 10, kept_body_bytes: 1000, ..Protocols::default() };
    let mut connection = Connection::new(&limits);
    for n in 0..100 {
        connection.step(&client(format!("GET /{n} HTTP/1.1\r\n\r\n")));
        assert!(connection.session.open_count() <= 10);
    }
    connection.step(&Step::End(End::Closed));
    let events = connection.events();
    assert_life_cycles(&events);
    assert_eq!(operations(&events).len(), 100);
    assert!(operations(&events).iter().all(|operation| operation.completeness != Completeness::Complete));

    let mut connection = Connection::new(&Protocols::default());
    let post = format!("POST /a HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{}", "x".repeat(60_000));
    for _ in 0..200 {
        connection.step(&client(&post));
    }
    let kept: usize = connection.session.open.iter().map(|open| open.exchange.request_body.bytes.len()).sum();
    assert!(
        kept <= 1 << 20 && kept == connection.session.retained - 200 * "content-length60000/a".len(),
        "{kept}"
    );
    connection.step(&Step::End(End::Closed));
    assert_eq!(connection.session.retained, 0);
}

#[test]
fn responses_nobody_asked_for_are_dropped() {
    check(&[server("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")], &[]);
    check(
        &[
            client("GET /a HTTP/1.1\r\n\r\n"),
            server(format!("{OK}HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")),
            Step::End(End::Closed),
        ],
        &["GET /a → 200, 0 up, 2 down"],
    );
}

#[test]
fn nonsense_between_messages_is_stepped_over() {
    check(
        &[
            client("GET /a HTTP/1.1\r\n\r\n"),
            server(OK),
            client("\x00\x01nonsense\r\n"),
            client("GET /b HTTP/1.1\r\n\r\n"),
            server("<html>"),
            server(OK),
        ],
        &["GET /a → 200, 0 up, 2 down", "GET /b → 200, 0 up, 2 down"],
    );
}

/// Input that a careless parser would look at again and again, in small records.
#[test]
fn cost_is_linear_in_hostile_input() {
    let inputs = [
        ("one line", [b"GET /a HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat()),
        ("blank lines", b"\r\n".repeat(1 << 19)),
        ("tiny chunks", [b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), b"1\r\nx\r\n".repeat(1 << 17)].concat()),
        ("folds", [b"GET /a HTTP/1.1\r\nX: y\r\n".to_vec(), b" z\r\n".repeat(1 << 18)].concat()),
        ("requests", b"GET / HTTP/1.1\r\n\r\n".repeat(1 << 15)),
        ("almost boundaries", [b"POST /a HTTP/1.1\r\nContent-Length: 2000000\r\nContent-Type: multipart/form-data; boundary=-\r\n\r\n".to_vec(), b"\r\n-".repeat(1 << 18)].concat()),
        ("a request line", vec![b'A'; 1 << 20]),
    ];
    for (name, input) in inputs {
        for size in [7, 1 << 16] {
            let start = Instant::now();
            let mut connection = Connection::new(&Protocols::default());
            for record in input.chunks(size) {
                connection.step(&client(record));
                connection.events();
            }
            // Unoptimised and on a loaded machine; quadratic cost would take minutes.
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{name} in records of {size}: {:?}",
                start.elapsed()
            );
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let pieces = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.0\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
        "HEAD / HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n",
        "HTTP/1.1 101 Switching\r\n",
        "HTTP/1.1 204 x\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "Content-Type: multipart/form-data; boundary=b\r\n",
        "Content-Encoding: gzip\r\n",
        " fold\r\n",
        "\r\n",
        "\n",
        "\r",
        "5\r\nabcde\r\n",
        "ffffffffffffffff\r\n",
        "0\r\n\r\n",
        "--b\r\n",
        "Content-Disposition: form-data; filename=x\r\n",
        "\r\n--b--",
        "abcde",
        "\u{0}\u{ff}",
    ]);
    let text = prop::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat().into_bytes());
    let bytes = prop_oneof![4 => text, 1 => prop::collection::vec(any::<u8>(), 0..200)];
    prop_oneof![
        6 => bytes.clone().prop_map(Step::Client),
        6 => bytes.prop_map(Step::Server),
        1 => prop_oneof![0u64..200, any::<u64>()].prop_map(Step::ClientGap),
        1 => prop_oneof![0u64..200, any::<u64>()].prop_map(Step::ServerGap),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn anything_at_all_neither_panics_nor_breaks_a_life_cycle(steps in prop::collection::vec(step(), 0..30)) {
        let mut connection = Connection::new(&Protocols { max_open_operations: 8, ..Protocols::default() });
        for step in &steps {
            // Positions of a real stream never overflow.
            let fits = match step {
                Step::ClientGap(len) => connection.client_pos.checked_add(*len).is_some_and(|pos| pos < u64::MAX / 2),
                Step::ServerGap(len) => connection.server_pos.checked_add(*len).is_some_and(|pos| pos < u64::MAX / 2),
                _ => true,
            };
            if fits {
                connection.step(step);
            }
            let (_, _) = (connection.session.want(Sender::Client), connection.session.want(Sender::Server));
            prop_assert!(connection.session.open_count() <= 8);
        }
        connection.step(&Step::End(End::Closed));
        assert_life_cycles(&connection.events());
        prop_assert_eq!(connection.session.retained, 0);
    }
}
