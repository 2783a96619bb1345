//! Streams, however their frames are cut.

use proptest::prelude::*;

use super::*;
use crate::operation::Completeness;
use crate::time::ns;

/// The same bytes in records of these sizes, over and over.
fn in_records(steps: &[Step], sizes: &[usize]) -> Vec<Step> {
    let mut sizes = sizes.iter().cycle();
    let mut records = Vec::new();
    for step in steps {
        let Step::Bytes(from, bytes) = step else {
            records.push(step.clone());
            continue;
        };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
            records.push(Step::Bytes(*from, piece.to_vec()));
            rest = after;
        }
    }
    records
}

#[test]
fn a_conversation_is_understood() {
    let events = check(&conversation(), &CONVERSATION);
    assert_eq!(discards(&events), []);
    let [three, one, seven, five, ..] = operations(&events)[..] else { panic!() };
    assert_eq!(exchange(three).authority, "shop");
    assert_eq!(exchange(three).request_body.bytes, b"abcdef");
    assert_eq!(exchange(one).response_body.bytes, b"one more");
    assert_eq!(exchange(seven).request_header("x-long"), Some(&b"something"[..]));
    assert_eq!(exchange(seven).http2.trailers.get("x-checksum"), Some(&b"77"[..]));
    assert_eq!(exchange(five).request_body.bytes, b"hello");
    assert!(exchange(five).http2.is_https && !exchange(one).http2.is_https);
    assert_eq!((exchange(one).version, exchange(one).http2.stream), ("2", 1));
}

#[test]
fn a_request_is_where_its_headers_frame_is() {
    let events = run(&conversation());
    let hello_len = 24 + 9 + 6;
    let first = operations(&events)[1];
    assert_eq!(first.request.start.pos, hello_len);
    assert_eq!(first.request.len(), get(1, "/1").len() as u64);
    assert_eq!((first.request.start.at, first.request.end.at), (ns(3), ns(3)));
    let response = first.response.unwrap();
    assert_eq!((response.start.at, response.end.at, first.ended_at), (ns(5), ns(7), ns(7)));
    let opened: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Opened { point, .. } => Some(point.pos),
            _ => None,
        })
        .collect();
    assert_eq!(opened.len(), 6);
    assert!(opened.is_sorted(), "{opened:?}");
}

#[test]
fn cut_at_every_byte_and_at_every_pair_of_bytes() {
    let steps = conversation();
    let whole = summaries(&run(&steps));
    for size in 1..40 {
        let events = run(&in_records(&steps, &[size]));
        assert_eq!(summaries(&events), whole, "records of {size}");
        assert_eq!(discards(&events), [], "records of {size}");
    }
}

#[test]
fn every_prefix_closes_what_is_whole_and_refuses_nothing() {
    let records = in_records(&conversation(), &[1]);
    for n in 0..records.len() {
        let mut prefix = records[..n].to_vec();
        prefix.push(Step::End(End::Abandoned));
        let events = run(&prefix);
        let refused = discards(&events).iter().any(|(reason, _)| *reason != Discard::Unsynchronised);
        assert!(!refused, "a prefix of {n} bytes was refused");
        let done: Vec<_> = operations(&events)
            .into_iter()
            .filter(|operation| operation.completeness == Completeness::Complete)
            .map(summary)
            .collect();
        let extra = done.iter().find(|done| !CONVERSATION.contains(&done.as_str()));
        // A response that is over before its request was is complete for all that is known.
        assert!(extra.is_none(), "prefix of {n} bytes: {done:?}");
    }
}

#[test]
fn goaway_ends_what_the_server_never_took_up() {
    let goaway = |last: u32, code: u32| {
        frame(frame::GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &code.to_be_bytes(), b"bye"].concat())
    };
    check(
        &after_hello(&[
            client([get(1, "/1"), get(3, "/3"), get(5, "/5")].concat()),
            server([goaway(0x7fff_ffff, 0), goaway(3, 0), response(1, ENDS, "200")].concat()),
            server(response(3, ENDS, "200")),
        ]),
        &[
            "GET /5 → –, 0 up, 0 down, GOAWAY NO_ERROR by Server",
            "GET /1 → 200, 0 up, 0 down",
            "GET /3 → 200, 0 up, 0 down",
        ],
    );
}

#[test]
fn an_answer_before_the_request_is_over_waits_for_it_or_for_a_reset() {
    let early = |last: Step| {
        after_hello(&[
            client([request(1, 0, "POST", "/1"), data(1, 0, b"abc")].concat()),
            server(response(1, ENDS, "413")),
            last,
        ])
    };
    check(&early(client(data(1, ENDS, b"de"))), &["POST /1 → 413, 5 up, 0 down"]);
    check(&early(server(rst(1, 0))), &["POST /1 → 413, 3 up, 0 down"]);
    check(&early(client(rst(1, 8))), &["POST /1 → 413, 3 up, 0 down"]);
    check(&early(Step::End(End::Reset)), &["POST /1 → 413, 3 up, 0 down"]);
}

#[test]
fn the_end_of_the_connection_cuts_what_is_open() {
    let steps = after_hello(&[client([get(1, "/1"), get(3, "/3")].concat()), server(response(1, 0, "200"))]);
    check(&steps, &["GET /1 → 200, 0 up, 0 down, Cut", "GET /3 → –, 0 up, 0 down, Cut"]);
    let abandoned = [steps, vec![Step::End(End::Abandoned)]].concat();
    check(&abandoned, &["GET /1 → 200, 0 up, 0 down, Abandoned", "GET /3 → –, 0 up, 0 down, Abandoned"]);
}

#[test]
fn a_call_streams_until_it_ends() {
    let call = headers(
        1,
        0,
        &[(":method", "POST"), (":path", "/shop.Orders/Watch"), ("content-type", "application/grpc+proto")],
    );
    let message = |n: u8| data(1, 0, &[0, 0, 0, 0, 1, n]);
    let events = check(
        &after_hello(&[
            client([call, message(1)].concat()),
            server([response(1, 0, "200"), message(2)].concat()),
            client([message(3), data(1, ENDS, b"")].concat()),
            server(message(4)),
            server(
                [message(5), headers(1, ENDS, &[("grpc-status", "5"), ("grpc-message", "no such%20order")])]
                    .concat(),
            ),
        ]),
        &["POST /shop.Orders/Watch → 200, 12 up, 18 down"],
    );
    let exchange = exchange(operations(&events)[0]);
    assert!(exchange.is_grpc());
    assert_eq!(exchange.grpc_field("grpc-status"), Some(&b"5"[..]));
    assert_eq!((exchange.http2.request_messages, exchange.http2.response_messages), (Some(2), Some(3)));
    assert_eq!(operations(&events)[0].ended_at, ns(7));
}

#[test]
fn trailers_alone_are_a_response() {
    let events = check(
        &after_hello(&[
            client(headers(
                1,
                ENDS,
                &[(":method", "POST"), (":path", "/a.B/C"), ("content-type", "application/grpc")],
            )),
            server(headers(
                1,
                ENDS,
                &[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")],
            )),
        ]),
        &["POST /a.B/C → 200, 0 up, 0 down"],
    );
    assert_eq!(exchange(operations(&events)[0]).grpc_field("grpc-status"), Some(&b"12"[..]));
}

#[test]
fn bounds_hold_and_are_counted() {
    let limits = Protocols {
        max_open_operations: 2,
        max_header_bytes: 300,
        kept_body_bytes: 4,
        ..Protocols::default()
    };
    let run = |steps: &[Step]| run_on(Connection::joined_at(0, &limits), &after_hello(steps));
    let events = run(&[client([get(1, "/1"), get(3, "/3"), get(5, "/5")].concat())]);
    assert_eq!(
        summaries(&events),
        [
            "GET /1 → –, 0 up, 0 down, Abandoned",
            "GET /3 → –, 0 up, 0 down, Cut",
            "GET /5 → –, 0 up, 0 down, Cut"
        ]
    );
    assert_eq!(discards(&events), [(Discard::Limit, 0)]);

    let long = "x".repeat(120);
    let fields = [(":method", "GET"), (":path", "/"), ("a", long.as_str()), ("b", long.as_str()), ("c", "d")];
    let events = run(&[client(headers(1, ENDS, &fields))]);
    assert_eq!(discards(&events), [(Discard::Limit, 123)]);
    assert_eq!(exchange(operations(&events)[0]).request_headers.len(), 1);

    let events = run(&[client([request(1, 0, "POST", "/1"), data(1, ENDS, b"abcdefgh")].concat())]);
    let body = &exchange(operations(&events)[0]).request_body;
    assert_eq!((body.bytes.as_slice(), body.len), (&b"abcd"[..], 8));
}

#[test]
fn a_header_block_without_end_is_given_up_and_frames_go_on() {
    let part = vec![b'x'; 16_000];
    let mut bytes = frame(frame::HEADERS, ENDS, 1, &part);
    (0..40).for_each(|_| bytes.extend(frame(frame::CONTINUATION, 0, 1, &part)));
    bytes.extend(frame(frame::CONTINUATION, frame::END_HEADERS, 1, b""));
    bytes.extend(get(3, "/3"));
    let events = run(&after_hello(&[client(bytes), server(response(3, ENDS, "200"))]));
    assert_eq!(summaries(&events), ["GET /3 → 200, 0 up, 0 down"]);
    assert!(discards(&events).iter().any(|(reason, _)| *reason == Discard::Limit));
}

#[test]
fn a_compression_error_loses_the_context_and_no_frame() {
    let steps = after_hello(&[
        client([frame(frame::HEADERS, ENDS | frame::END_HEADERS, 1, &[0x80]), get(3, "/3")].concat()),
        server(response(3, ENDS, "200")),
    ]);
    let events = check(&steps, &["GET /3 → 200, 0 up, 0 down"]);
    assert!(discards(&events).contains(&(Discard::Invalid, 1)));
}

#[test]
fn large_payloads_are_skipped_by_the_kernel() {
    use crate::protocol::Want;
    let allow = frame(frame::SETTINGS, 0, 0, &[0, 5, 0, 0x10, 0, 0]);
    let limits = Protocols { kept_body_bytes: 1000, ..Protocols::default() };
    let mut connection = Connection::joined_at(0, &limits);
    for step in after_hello(&[server(allow), client(request(1, 0, "PUT", "/big"))]) {
        connection.step(&step);
    }
    let big = data(1, ENDS, &vec![b'x'; 1 << 20]);
    connection.step(&client(&big[..2000]));
    let left = big.len() as u64 - 2000;
    assert_eq!(connection.session.want(Sender::Client), Want::Skip(left - (16 << 10)));
    assert_eq!(connection.session.want(Sender::Server), Want::All);
    connection.step(&Step::Gap(Sender::Client, left));
    connection.step(&server(response(1, ENDS, "200")));
    let events: Vec<_> = std::iter::from_fn(|| connection.out.pop()).collect();
    assert_eq!(summaries(&events), ["PUT /big → 200, 1048576 up, 0 down"]);
}

proptest! {
    #[test]
    fn cut_anywhere(sizes in prop::collection::vec(1usize..90, 1..40)) {
        let events = run(&in_records(&conversation(), &sizes));
        prop_assert_eq!(summaries(&events), CONVERSATION);
    }
}
