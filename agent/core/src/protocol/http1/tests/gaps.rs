//! Bytes that were not captured: what is certain is kept, what is not is never guessed.

use proptest::prelude::*;

use super::check as check_all;
use super::*;
use crate::protocol::Want;
use crate::time::ns;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(target: &str) -> Step {
    client(format!("GET {target} HTTP/1.1\r\n\r\n"))
}

#[test]
fn a_hole_inside_a_body_of_known_length_is_stepped_over() {
    let post = |len: usize| client(format!("POST /a HTTP/1.1\r\nContent-Length: {len}\r\n\r\nab"));
    let check = |steps: &[Step], first: &str| {
        let steps = [steps, &[get("/b"), server(OK)]].concat();
        check_all(&steps, &[first, "GET /b → 200, 0 up, 2 down"]);
    };
    check(&[post(9), Step::ClientGap(3), client("fghi"), server(OK)], "POST /a → 200, 9 up, 2 down, Gap(3)");
    check(&[post(9), Step::ClientGap(7), server(OK)], "POST /a → 200, 9 up, 2 down, Gap(7)");
    check(
        &[get("/a"), server("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"), Step::ServerGap(900)],
        "GET /a → 200, 0 up, 900 down, Gap(900)",
    );
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nabc";
    check(
        &[get("/a"), server(chunked), Step::ServerGap(90), server("defghij\r\n0\r\n\r\n")],
        "GET /a → 200, 0 up, 100 down, Gap(90)",
    );
    check(
        &[get("/a"), server(chunked), Step::ServerGap(97), server("\r\n1\r\nx\r\n0\r\n\r\n")],
        "GET /a → 200, 0 up, 101 down, Gap(97)",
    );
}

#[test]
fn what_follows_a_hole_is_not_in_the_kept_beginning() {
    let events = run(&[
        client("POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nab"),
        Step::ClientGap(3),
        client("fghi"),
        server(OK),
    ]);
    let body = &exchange(operations(&events)[0]).request_body;
    assert_eq!((body.bytes.as_slice(), body.len, body.holed, body.is_whole()), (&b"ab"[..], 9, true, false));
}

#[test]
fn a_hole_past_what_is_kept_misses_nothing() {
    let limits = Protocols { kept_body_bytes: 4, ..Protocols::default() };
    let steps = [
        client("POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabcdef"),
        Step::ClientGap(900),
        client([b'x'; 94]),
        server(OK),
    ];
    let events = run_on(Connection::new(&limits), &steps);
    assert_eq!(summaries(&events), ["POST /a → 200, 1000 up, 2 down"]);
    let body = &exchange(operations(&events)[0]).request_body;
    assert_eq!((body.bytes.as_slice(), body.len, body.holed), (&b"abcd"[..], 1000, false));
}

#[test]
fn long_bodies_are_skipped_once_enough_is_kept() {
    let mut connection = Connection::new(&Protocols::default());
    let want = |connection: &Connection| {
        (connection.session.want(Sender::Client), connection.session.want(Sender::Server))
    };
    connection.step(&client("PUT /big HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n"));
    connection.step(&client(vec![b'x'; 60_000]));
    assert_eq!(want(&connection), (Want::All, Want::All));
    connection.step(&client(vec![b'x'; 40_000]));
    assert_eq!(want(&connection), (Want::Skip(9_900_000 - 16_384), Want::All));
    connection.step(&Step::ClientGap(9_900_000 - 16_384));
    assert_eq!(want(&connection), (Want::All, Want::All));
    connection.step(&client(vec![b'x'; 16_384]));
    connection.step(&server(OK));
    assert_eq!(summaries(&connection.events()), ["PUT /big → 200, 10000000 up, 2 down"]);
}

#[test]
fn a_hole_between_messages_hides_what_it_hides() {
    // A whole request and its response.
    check(
        &[get("/a"), server(OK), Step::ClientGap(30), Step::ServerGap(40), get("/c"), server(OK)],
        &["GET /a → 200, 0 up, 2 down", "GET /c → 200, 0 up, 2 down"],
    );
    // A request only: its response answers nothing that is known.
    check(
        &[get("/a"), server(OK), Step::ClientGap(30), server(OK), get("/c"), server(OK)],
        &["GET /a → 200, 0 up, 2 down", "GET /c → 200, 0 up, 2 down"],
    );
    // A response only: it has a time and no status.
    let events = run(&[get("/a"), Step::ServerGap(40), get("/b"), server(OK)]);
    assert_eq!(summaries(&events), ["GET /a → nothing, 0 up, 0 down, Gap(40)", "GET /b → 200, 0 up, 2 down"]);
    let response = operations(&events)[0].response.unwrap();
    assert_eq!((response.start.pos, response.start.at, response.end.pos), (0, ns(2), 40));
}

#[test]
fn an_answer_to_what_is_lost_is_nobody_elses() {
    // That a request was lost is told after its response.
    let hidden = [get("/a"), server(OK), server(OK), Step::ClientGap(30), get("/c")];
    let other = server("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let steps = [&hidden[..], &[other.clone(), get("/d"), server(OK)]].concat();
    check(
        &steps,
        &["GET /a → 200, 0 up, 2 down", "GET /c → 404, 0 up, 0 down", "GET /d → 200, 0 up, 2 down"],
    );
    // It is never told: a response is not a second older than its request.
    let mut connection = Connection::new(&Protocols::default());
    let steps =
        [get("/a"), server(OK), server(OK), get("/c"), other, get("/d"), server(OK), Step::End(End::Closed)];
    for (at, step) in (1..).zip(&steps) {
        connection.step_at(at * 1_000_000_000, step);
    }
    let events = connection.events();
    assert_eq!(
        summaries(&events),
        ["GET /a → 200, 0 up, 2 down", "GET /c → 404, 0 up, 0 down", "GET /d → 200, 0 up, 2 down"]
    );
}

#[test]
fn a_hole_in_a_head_leaves_what_was_read() {
    check(
        &[
            client("POST /a HTTP/1.1\r\nHost:"),
            Step::ClientGap(50),
            client("rest of body"),
            server(OK),
            get("/b"),
            server(OK),
        ],
        &["POST /a → 200, 0 up, 2 down, Gap(55)", "GET /b → 200, 0 up, 2 down"],
    );
    check(
        &[
            get("/a"),
            server("HTTP/1.1 500 Oops\r\nX-"),
            Step::ServerGap(50),
            server("body"),
            get("/b"),
            server(OK),
        ],
        &["GET /a → 500, 0 up, 0 down, Gap(52)", "GET /b → 200, 0 up, 2 down"],
    );
}

#[test]
fn joined_in_the_middle_the_next_request_is_the_first() {
    let check = |steps: &[Step], expected: &[&str]| {
        let events = run_on(Connection::joined_at(5000, &Protocols::default()), steps);
        assert_eq!(summaries(&events), expected, "{steps:?}");
    };
    check(&[client("tail of a body"), server(OK), get("/b"), server(OK)], &["GET /b → 200, 0 up, 2 down"]);
    check(
        &[server("tail"), server("HTTP/1.1 is great"), get("/b"), server(OK)],
        &["GET /b → 200, 0 up, 2 down"],
    );
    check(&[client("abc"), get("/b"), server(OK)], &["GET /b → 200, 0 up, 2 down"]);
    check(&[get("/b"), server(OK)], &["GET /b → 200, 0 up, 2 down"]);
    check(
        &[client("GET /b HT"), client("TP/1.1\r\n\r\n"), server("HTTP/1.1 2"), server("04 x\r\n\r\n")],
        &["GET /b → 204, 0 up, 0 down"],
    );
}

#[test]
fn pipelined_requests_are_not_paired_across_a_hole() {
    let events = run(&[
        client("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n"),
        Step::ServerGap(41),
        server(OK),
        get("/c"),
        server(OK),
    ]);
    let without_status =
        operations(&events).into_iter().all(|operation| exchange(operation).status.is_none());
    assert!(without_status, "{:?}", summaries(&events));
    // After a long silence the connection is believed again.
    let mut connection = Connection::new(&Protocols::default());
    connection.step(&client("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n"));
    connection.step(&Step::ServerGap(41));
    connection.step(&server(OK));
    connection.step_at(20_000_000_000, &get("/c"));
    connection.step(&server(OK));
    assert_eq!(
        summaries(&connection.events()).last().map(String::as_str),
        Some("GET /c → 200, 0 up, 2 down")
    );
}

/// No response is ever given to a request it does not answer.
fn assert_no_wrong_pair(events: &[Event], context: &dyn std::fmt::Debug) {
    for operation in operations(events) {
        let exchange = exchange(operation);
        if let Some(named) = exchange.response_header("x-for") {
            assert_eq!(named, exchange.target.as_bytes(), "{context:?}: {:?}", summaries(events));
        }
    }
}

fn with_holes(records: &[(u64, Step)], is_lost: impl Fn(usize) -> bool) -> Vec<(u64, Step)> {
    let holed = records.iter().enumerate().map(|(n, (at, step))| match step {
        Step::Client(bytes) if is_lost(n) => (*at, Step::ClientGap(bytes.len() as u64)),
        Step::Server(bytes) if is_lost(n) => (*at, Step::ServerGap(bytes.len() as u64)),
        step => (*at, step.clone()),
    });
    holed.collect()
}

#[test]
fn every_single_lost_record_costs_at_most_its_neighbours() {
    for size in [usize::MAX, 64, 17] {
        let records = in_records(&conversation(), &[size]);
        for lost in 0..records.len() {
            let events = run_records(&with_holes(&records, |n| n == lost), End::Closed);
            assert_no_wrong_pair(&events, &(size, lost));
            let whole = operations(&events);
            let whole =
                whole.iter().filter(|operation| operation.completeness == Completeness::Complete).count();
            assert!(whole >= 6, "record {lost} of size {size}: {:?}", summaries(&events));
        }
    }
}

proptest! {
    #[test]
    fn lost_records_never_make_a_wrong_pair(
        sizes in prop::collection::vec(1usize..120, 1..20),
        lost in prop::collection::vec(prop::bool::weighted(0.1), 1..400),
        pipelines in any::<bool>(),
    ) {
        let steps = if pipelines { pipelined() } else { conversation() };
        let records = in_records(&steps, &sizes);
        // That a connection is pipelined must have been seen before a hole can hide it.
        let first = if pipelines { records.iter().filter(|(at, _)| *at == 1).count() } else { 0 };
        let records = with_holes(&records, |n| n >= first && lost.get(n).copied().unwrap_or(false));
        assert_no_wrong_pair(&run_records(&records, End::Closed), &"random holes");
    }
}

/// A client that always has `window` requests under way: each answer makes it send the next one.
fn windowed(window: usize, count: usize) -> Vec<Step> {
    let request = |n: usize| format!("GET /{n} HTTP/1.1\r\n\r\n");
    let mut steps = vec![client((0..window).map(request).collect::<String>())];
    for n in 0..count {
        steps.push(server(format!("HTTP/1.1 200 OK\r\nX-For: /{n}\r\nContent-Length: 2\r\n\r\nok")));
        steps.push(client(request(n + window)));
    }
    steps
}

proptest! {
    #[test]
    fn after_a_loss_what_goes_by_turns_is_paired_again_and_what_is_under_way_together_is_not(
        window in 1..4_usize,
        lost in prop::collection::vec(prop::bool::weighted(0.08), 1..200),
    ) {
        let steps = windowed(window, 100);
        // That a connection is pipelined must have been seen before a hole can hide it.
        let is_lost = |n: usize| n > 0 && lost.get(n).copied().unwrap_or(false);
        let records: Vec<(u64, Step)> = (1..).zip(steps).collect();
        let events = run_records(&with_holes(&records, is_lost), End::Closed);
        assert_no_wrong_pair(&events, &(window, "random holes"));
    }
}

#[test]
fn after_a_loss_in_both_directions_pairing_comes_back_by_turns() {
    let mut steps = windowed(1, 40);
    steps
        .splice(11..15, [Step::ClientGap(20), Step::ServerGap(80), Step::ClientGap(20), Step::ServerGap(80)]);
    let events = run(&steps);
    let all = operations(&events);
    let is_paired = |from: usize, to: usize| {
        let has = |n: usize| {
            all.iter().any(|operation| {
                exchange(operation).target == format!("/{n}") && exchange(operation).status == Some(200)
            })
        };
        (from..to).map(has).collect::<Vec<_>>()
    };
    assert!(is_paired(0, 5).iter().all(|is| *is), "{:?}", summaries(&events));
    assert!(is_paired(20, 40).iter().all(|is| *is), "{:?}", summaries(&events));
    assert!(!is_paired(8, 12).iter().any(|is| *is), "not at once: {:?}", summaries(&events));
    // One that was seen to have two under way is believed only after silence.
    let mut steps = windowed(2, 40);
    steps
        .splice(11..15, [Step::ClientGap(20), Step::ServerGap(80), Step::ClientGap(20), Step::ServerGap(80)]);
    let events = run(&steps);
    let paired = operations(&events).iter().filter(|operation| exchange(operation).status.is_some()).count();
    assert!(paired < 8, "{:?}", summaries(&events));
    assert_no_wrong_pair(&events, &"a window of 2");
}
