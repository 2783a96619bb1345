//! Bytes that were not captured: what is certain is kept, what is not is never guessed.

use proptest::prelude::*;

use super::*;
use crate::operation::Completeness;
use crate::time::ns;

fn gap(from: Sender, len: u64) -> Step {
    Step::Gap(from, len)
}

#[test]
fn a_hole_inside_a_body_is_stepped_over() {
    let body = data(1, ENDS, b"0123456789");
    let (head, rest) = body.split_at(11);
    let post = |middle: &[Step]| {
        let before = [client([&request(1, 0, "POST", "/1"), head].concat())];
        let after =
            [client(get(3, "/3")), server([response(1, ENDS, "200"), response(3, ENDS, "200")].concat())];
        after_hello(&[&before[..], middle, &after].concat())
    };
    let three = "GET /3 → 200, 0 up, 0 down";
    check(&post(&[client(rest)]), &["POST /1 → 200, 10 up, 0 down", three]);
    check(&post(&[gap(Sender::Client, 8)]), &["POST /1 → 200, 10 up, 0 down, Gap(8)", three]);
    check(
        &post(&[gap(Sender::Client, 3), client(&rest[3..])]),
        &["POST /1 → 200, 10 up, 0 down, Gap(3)", three],
    );
}

#[test]
fn a_hole_inside_a_header_block_costs_fields_and_no_frame() {
    let bytes = headers(1, ENDS, &[(":method", "GET"), (":path", "/1"), ("x-one", "1"), ("x-two", "2")]);
    let cut = bytes.len() - 7;
    // Behind it the table is unknown, but literals are not.
    let indexed = frame(frame::HEADERS, ENDS | frame::END_HEADERS, 3, &[0x82, 0x84, 0xbe]);
    let events = check(
        &after_hello(&[
            client(&bytes[..cut]),
            gap(Sender::Client, 3),
            client([&bytes[cut + 3..], &indexed].concat()),
            server([response(1, ENDS, "200"), response(3, ENDS, "201")].concat()),
        ]),
        &["GET /1 → 200, 0 up, 0 down, Gap(3)", "GET / → 201, 0 up, 0 down, 1 unknown"],
    );
    let first = exchange(operations(&events)[0]);
    assert_eq!((first.request_header("x-one"), first.request_header("x-two")), (Some(&b"1"[..]), None));
}

#[test]
fn a_hole_in_the_padding_of_a_header_block_costs_nothing_but_the_table() {
    let payload = [&[6][..], &block(&[(":method", "GET"), (":path", "/1")]), &[0; 6]].concat();
    let bytes = frame(frame::HEADERS, ENDS | frame::PADDED | frame::END_HEADERS, 1, &payload);
    let (seen, lost) = bytes.split_at(bytes.len() - 3);
    let events = check(
        &after_hello(&[
            client(seen),
            gap(Sender::Client, lost.len() as u64),
            server(response(1, ENDS, "200")),
        ]),
        &["GET /1 → 200, 0 up, 0 down, Gap(3)"],
    );
    let operation = operations(&events)[0];
    assert!(exchange(operation).request_headers.is_empty());
    // The request began when its first byte moved, not when the hole was seen.
    assert_eq!((operation.request.start.at, operation.request.end.at), (ns(3), ns(4)));
}

#[test]
fn a_hole_between_the_parts_of_a_header_block_costs_fields() {
    let fields = block(&[(":method", "GET"), (":path", "/1"), ("x-one", "1")]);
    let first = frame(frame::HEADERS, ENDS, 1, &fields);
    let rest = frame(frame::CONTINUATION, frame::END_HEADERS, 1, &block(&[("x-two", "2")]));
    check(
        &after_hello(&[
            client(first),
            gap(Sender::Client, rest.len() as u64),
            client(get(3, "/3")),
            server([response(1, ENDS, "200"), response(3, ENDS, "200")].concat()),
        ]),
        &[&format!("GET /1 → 200, 0 up, 0 down, Gap({})", rest.len()), "GET /3 → 200, 0 up, 0 down"],
    );
}

#[test]
fn frames_are_found_again_after_a_hole() {
    // The hole hides the end of stream 3's request and all of stream 5's.
    let upload = [request(3, 0, "POST", "/3"), data(3, 0, b"abc")].concat();
    let hidden = [data(3, ENDS, b"def"), get(5, "/5")].concat();
    let events = check(
        &after_hello(&[
            client(get(1, "/1")),
            client(upload),
            gap(Sender::Client, hidden.len() as u64),
            client(get(7, "/7")),
            server([response(1, ENDS, "200"), response(3, ENDS, "201"), response(5, ENDS, "200")].concat()),
            server(response(7, ENDS, "404")),
        ]),
        &[
            "GET /1 → 200, 0 up, 0 down",
            &format!("POST /3 → 201, 3 up, 0 down, Gap({})", hidden.len()),
            "GET /7 → 404, 0 up, 0 down",
        ],
    );
    assert_eq!(discards(&events), [(Discard::Unsynchronised, response(5, ENDS, "200").len() as u64)]);
}

#[test]
fn a_response_that_begins_after_a_hole_lost_nothing() {
    let hidden = response(1, ENDS, "200");
    check(
        &after_hello(&[
            client([get(1, "/1"), get(3, "/3")].concat()),
            gap(Sender::Server, hidden.len() as u64),
            server(response(3, ENDS, "404")),
        ]),
        &["GET /3 → 404, 0 up, 0 down", &format!("GET /1 → –, 0 up, 0 down, Gap({})", hidden.len())],
    );
}

#[test]
fn what_ended_in_a_hole_is_closed_after_a_while() {
    let mut connection = Connection::joined_at(0, &Protocols::default());
    for step in after_hello(&[
        client(get(1, "/1")),
        gap(Sender::Server, 50),
        server(frame(frame::PING, 0, 0, &[0; 8])),
    ]) {
        connection.step(&step);
    }
    connection.session.timeout(ns(5_000_000_000), &mut connection.out);
    assert_eq!(connection.session.open_count(), 1);
    connection.session.timeout(ns(11_000_000_000), &mut connection.out);
    assert_eq!(connection.session.open_count(), 0);
    let events: Vec<_> = std::iter::from_fn(|| connection.out.pop()).collect();
    assert_eq!(summaries(&events), ["GET /1 → –, 0 up, 0 down, Gap(50)"]);
}

/// With any one record lost: what was over before is there, exactly; nothing is there that was not; and what begins after
/// the next certain boundary is there.
#[test]
fn with_any_record_lost_nothing_is_invented() {
    let steps = conversation();
    let whole = run(&steps);
    for lost in 0..steps.len() {
        let mut holed = steps.clone();
        let Step::Bytes(from, bytes) = &steps[lost] else { continue };
        holed[lost] = gap(*from, bytes.len() as u64);
        let events = run(&holed);
        compare(&whole, &events, &format!("record {lost}"));
        // A conversation that goes on afterwards is understood.
        let later = [
            client(get(101, "/later")),
            server([response(101, 0, "200"), data(101, ENDS, b"later")].concat()),
        ];
        let events = run(&[holed, later.to_vec()].concat());
        let found = summaries(&events).contains(&"GET /later → 200, 0 up, 5 down".to_owned());
        assert!(found, "record {lost}: {:?}", summaries(&events));
    }
}

/// Every exchange is one of the whole conversation, at the same place, with the same or fewer facts.
fn compare(whole: &[Event], events: &[Event], what: &str) {
    let known = operations(whole);
    for operation in operations(events) {
        let start = operation.request.start.pos;
        let same = known.iter().find(|known| known.request.start.pos == start);
        let Some(same) = same else { panic!("{what}: invented {operation:?}") };
        let (ours, theirs) = (exchange(operation), exchange(same));
        let is = |ours: &str, theirs: &str| ours.is_empty() || ours == theirs;
        assert!(
            is(&ours.method, &theirs.method) && is(&ours.target, &theirs.target),
            "{what}: {operation:?}"
        );
        assert!(ours.status.is_none() || ours.status == theirs.status, "{what}: {operation:?}");
        assert!(theirs.request_body.bytes.starts_with(&ours.request_body.bytes), "{what}: {operation:?}");
        assert!(theirs.response_body.bytes.starts_with(&ours.response_body.bytes), "{what}: {operation:?}");
        if operation.completeness == Completeness::Complete {
            assert_eq!(summary(operation), summary(same), "{what}");
        }
    }
}

proptest! {
    #[test]
    fn holes_anywhere_invent_nothing(
        holes in prop::collection::vec((any::<bool>(), 0_usize..700, 1_usize..60), 1..4),
    ) {
        let steps = conversation();
        let whole = run(&steps);
        let mut at = [0_usize; 2];
        let mut holed = Vec::new();
        for step in &steps {
            let Step::Bytes(from, bytes) = step else { continue };
            let side = *from as usize;
            let is_lost = |pos: usize| holes.iter().any(|(server, start, len)| {
                usize::from(*server) == side && (*start..start + len).contains(&pos)
            });
            let mut rest = 0;
            while rest < bytes.len() {
                let lost = is_lost(at[side] + rest);
                let len = (rest..bytes.len()).take_while(|n| is_lost(at[side] + n) == lost).count();
                holed.push(match lost {
                    true => gap(*from, len as u64),
                    false => Step::Bytes(*from, bytes[rest..rest + len].to_vec()),
                });
                rest += len;
            }
            at[side] += bytes.len();
        }
        compare(&whole, &run(&holed), &format!("{holes:?}"));
    }

    #[test]
    fn any_bytes_close_what_they_open(
        steps in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80), 0_u64..40), 0..30),
        joined in any::<bool>(),
    ) {
        let mut all = if joined { Vec::new() } else { hello().to_vec() };
        for (is_server, bytes, hole) in steps {
            let from = if is_server { Sender::Server } else { Sender::Client };
            all.push(Step::Bytes(from, bytes));
            all.push(gap(from, hole.saturating_sub(30)));
        }
        let events = run_on(Connection::joined_at(if joined { 99 } else { 0 }, &Protocols::default()), &all);
        let opened = events.iter().filter(|event| matches!(event, Event::Opened { .. })).count();
        prop_assert_eq!(opened, operations(&events).len());
    }
}
