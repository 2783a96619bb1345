//! Connections that are older than their observer, and those that began as HTTP/1.1.

use super::*;
use crate::protocol::http1;
use crate::time::ns;

fn joined(steps: &[Step]) -> Vec<Event> {
    run_on(Connection::joined_at(1 << 20, &Protocols::default()), steps)
}

#[test]
fn a_connection_joined_between_frames_is_understood_at_once() {
    let events = joined(&conversation()[2..]);
    assert_eq!(summaries(&events), CONVERSATION);
    assert_eq!(discards(&events), []);
}

#[test]
fn joined_in_mid_frame_the_next_certain_frame_is_found() {
    let steps = conversation();
    let Step::Bytes(_, first) = &steps[2] else { panic!() };
    for cut in 1..first.len() {
        let mut steps = steps[2..].to_vec();
        steps[0] = client(&first[cut..]);
        let events = joined(&steps);
        let expected: Vec<_> = CONVERSATION.into_iter().filter(|summary| !summary.contains("/1 ")).collect();
        assert_eq!(summaries(&events), expected, "{cut}");
    }
}

#[test]
fn joined_inside_a_large_body_the_search_waits_for_its_end() {
    let body: Vec<u8> = (0..40_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let frames: Vec<u8> = body.chunks(16_384).flat_map(|part| data(1, 0, part)).collect();
    let mut steps: Vec<Step> = frames[5000..].chunks(1460).map(server).collect();
    steps.push(client(get(3, "/3")));
    steps.push(server([data(1, ENDS, b""), response(3, ENDS, "200")].concat()));
    assert_eq!(summaries(&joined(&steps)), ["GET /3 → 200, 0 up, 0 down"]);
    // Zeros look like empty DATA frames of no stream.
    let mut steps: Vec<Step> = vec![server(vec![0; 10_000])];
    steps.push(client(get(3, "/3")));
    steps.push(server([response(3, 0, "200"), data(3, ENDS, b"ok")].concat()));
    assert_eq!(summaries(&joined(&steps)), ["GET /3 → 200, 0 up, 2 down"]);
}

#[test]
fn what_stands_in_the_lost_table_is_unknown() {
    // GET, a path and an authority from before, a header of its own.
    let request = [&[0x82, 0xc0, 0x86, 0xbf][..], &block(&[("x-order", "17")])].concat();
    let response = [&[0xc1, 0xc2][..]].concat();
    let events = joined(&[
        client(frame(frame::HEADERS, ENDS | frame::END_HEADERS, 5, &request)),
        server(
            [
                frame(frame::HEADERS, frame::END_HEADERS, 5, &response),
                data(5, ENDS, b"ok"),
                frame(frame::PING, 0, 0, &[0; 8]),
            ]
            .concat(),
        ),
    ]);
    assert_eq!(summaries(&events), ["GET  → –, 0 up, 2 down, 4 unknown"]);
    assert_eq!(exchange(operations(&events)[0]).request_header("x-order"), Some(&b"17"[..]));
}

#[test]
fn responses_to_requests_nobody_saw_are_no_exchanges() {
    let events = joined(&[
        server([response(3, 0, "200"), data(3, ENDS, b"old")].concat()),
        client(get(5, "/5")),
        server(response(5, ENDS, "204")),
        // Trailers of an upload that was under way.
        client([data(1, 0, b"rest"), headers(1, ENDS, &[("x-sum", "1")])].concat()),
    ]);
    assert_eq!(summaries(&events), ["GET /5 → 204, 0 up, 0 down"]);
}

/// Through the HTTP/1.1 session that hands over.
fn upgrade(steps: &[Step], sizes: usize) -> Vec<Event> {
    let mut session = http1::Http1Session::new(Role::Client, &Protocols::default());
    let mut out = Events::default();
    let mut pos = [0_u64; 2];
    for (step, at) in steps.iter().zip(1..) {
        let Step::Bytes(from, bytes) = step else { continue };
        for piece in bytes.chunks(sizes) {
            let mark = Mark {
                at: ns(at),
                thread: Worker::default(),
                other_pos: pos[1 - *from as usize],
                awaited_by: None,
            };
            session.bytes(*from, pos[*from as usize], piece, mark, &mut out);
            pos[*from as usize] += piece.len() as u64;
        }
    }
    session.end(End::Closed, ns(1000), &mut out);
    std::iter::from_fn(|| out.pop()).collect()
}

#[test]
fn an_upgraded_request_is_stream_1() {
    let asks = "GET /1 HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAACAA\r\n\r\n";
    let agrees = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let settings = frame(frame::SETTINGS, 0, 0, b"");
    let steps = [
        client(asks),
        server([agrees.as_bytes(), &settings].concat()),
        client([&PREFACE[..], &settings].concat()),
        server([response(1, 0, "200"), data(1, ENDS, b"first")].concat()),
        client(get(3, "/3")),
        server(response(3, ENDS, "204")),
    ];
    for size in [1, 2, 3, 7, 50, 1000] {
        let events = upgrade(&steps, size);
        assert_eq!(
            summaries(&events),
            ["GET /1 → 200, 0 up, 5 down", "GET /3 → 204, 0 up, 0 down"],
            "pieces of {size}"
        );
        assert_eq!(discards(&events), []);
        let first = operations(&events)[0];
        assert_eq!((exchange(first).version, exchange(first).http2.stream), ("1.1", 1));
        assert_eq!((first.request.start.pos, first.request.len()), (0, asks.len() as u64));
        assert_eq!(exchange(first).response_header("server"), Some(&b"test"[..]));
        assert_eq!(exchange(operations(&events)[1]).version, "2");
    }
}

#[test]
fn another_upgrade_stays_a_tunnel() {
    let steps = [
        client("GET /1 HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
        server("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
        client([&PREFACE[..], &get(3, "/3")].concat()),
    ];
    assert_eq!(summaries(&upgrade(&steps, 1000)), ["GET /1 → 101, 0 up, 0 down"]);
}

#[test]
fn what_never_becomes_a_frame_is_no_http2() {
    let noise: Vec<u8> =
        (0..(1_u32 << 20)).flat_map(|n| (n.wrapping_mul(2_654_435_761) | 0x80).to_be_bytes()).collect();
    let steps: Vec<Step> = noise.chunks(16_384).map(server).collect();
    let found = discards(&joined(&steps));
    let sum = |wanted: Discard| {
        found.iter().filter(|(reason, _)| *reason == wanted).map(|(_, len)| len).sum::<u64>()
    };
    assert_eq!(sum(Discard::Unsynchronised) + sum(Discard::Invalid), noise.len() as u64);
    assert!(sum(Discard::Invalid) > 1 << 20, "{}", sum(Discard::Invalid));
}
