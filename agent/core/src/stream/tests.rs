use proptest::prelude::*;

use super::*;
use crate::record::Worker;
use crate::time::ns;

const MS: u64 = 1_000_000;

fn mark(at: u64) -> Mark {
    Mark { at: ns(at), thread: Worker::new(1, 1), other_pos: 0, awaited_by: None }
}

/// A record's arguments: position, length, captured bytes, time in ms.
type Push<'a> = (u64, u64, &'a [u8], u64);

fn drain(assembler: &mut Assembler) -> Vec<Chunk> {
    std::iter::from_fn(|| assembler.pop()).collect()
}

/// Chunks as text: `0:abc` for bytes, `3:-4` for a gap of four.
fn told(chunks: &[Chunk]) -> String {
    let one = |chunk: &Chunk| match chunk {
        Chunk::Bytes { pos, bytes, .. } => format!("{pos}:{}", String::from_utf8_lossy(bytes)),
        Chunk::Gap { pos, len, .. } => format!("{pos}:-{len}"),
    };
    chunks.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn assembled(start: Option<u64>, window: Window, pushes: &[Push<'_>]) -> Assembler {
    let mut assembler = Assembler::new(start, window);
    for &(pos, len, bytes, at) in pushes {
        assembler.push(pos, len, Bytes::copy_from_slice(bytes), mark(at * MS));
    }
    assembler
}

#[track_caller]
fn check(start: Option<u64>, pushes: &[Push<'_>], expected: &str) {
    let mut assembler = assembled(start, Window::default(), pushes);
    let chunks = drain(&mut assembler);
    assert_eq!(told(&chunks), expected);
    let s = assembler.stats();
    let waiting: u64 = assembler.waiting.values().map(|piece| piece.len).sum();
    assert_eq!(s.moved + s.missing, s.bytes + s.gap + s.trimmed + s.dropped + waiting, "{s:?}");
}

#[test]
fn records_in_order_pass_through() {
    check(Some(0), &[(0, 3, b"abc", 1), (3, 2, b"de", 2)], "0:abc 3:de");
}

#[test]
fn a_stream_of_unknown_start_starts_at_its_first_record() {
    check(None, &[(700, 3, b"abc", 1), (703, 1, b"d", 1)], "700:abc 703:d");
}

#[test]
fn a_swapped_neighbour_is_waited_for() {
    check(Some(0), &[(3, 2, b"de", 2), (0, 3, b"abc", 1)], "0:abc 3:de");
    check(Some(0), &[(3, 2, b"de", 2)], "");
}

#[test]
fn a_hole_becomes_a_gap_when_its_window_closes() {
    check(Some(0), &[(3, 2, b"de", 0), (5, 1, b"f", 99)], "");
    check(Some(0), &[(3, 2, b"de", 0), (5, 1, b"f", 100)], "0:-3 3:de 5:f");
    // A second hole has a window of its own.
    check(Some(0), &[(3, 1, b"a", 0), (9, 1, b"b", 90), (20, 1, b"c", 101)], "0:-3 3:a");
}

#[test]
fn time_alone_closes_the_window() {
    let mut assembler = assembled(Some(0), Window::default(), &[(3, 2, b"de", 5)]);
    assert_eq!(assembler.poll_timeout(), Some(ns(105 * MS)));
    assembler.handle_timeout(ns(105 * MS - 1));
    assert_eq!(told(&drain(&mut assembler)), "");
    assembler.handle_timeout(ns(105 * MS));
    assert_eq!(told(&drain(&mut assembler)), "0:-3 3:de");
    assert_eq!(assembler.poll_timeout(), None);
}

#[test]
fn what_was_not_captured_of_a_record_is_a_gap_of_its_own_time() {
    let mut assembler = assembled(Some(0), Window::default(), &[(0, 10, b"abc", 7), (10, 1, b"d", 8)]);
    let chunks = drain(&mut assembler);
    assert_eq!(told(&chunks), "0:abc 3:-7 10:d");
    assert_eq!(chunks[1].mark().at, ns(7 * MS));
    check(Some(0), &[(0, 4, b"", 1)], "0:-4");
}

#[test]
fn overlaps_and_duplicates_are_trimmed() {
    check(Some(0), &[(0, 3, b"abc", 1), (0, 3, b"abc", 2)], "0:abc");
    check(Some(0), &[(0, 3, b"abc", 1), (1, 4, b"bcde", 2)], "0:abc 3:de");
    // A record that covers two waiting ones fills only what is missing.
    check(Some(0), &[(2, 1, b"c", 1), (4, 1, b"e", 1), (0, 6, b"ABCDEF", 2)], "0:AB 2:c 3:D 4:e 5:F");
    check(Some(0), &[(2, 2, b"cd", 1), (3, 3, b"DEF", 1), (0, 2, b"ab", 2)], "0:ab 2:cd 4:EF");
    // The uncaptured end of a record is trimmed like its bytes.
    check(Some(0), &[(2, 4, b"c", 1), (3, 9, b"DEF", 1), (0, 2, b"ab", 2)], "0:ab 2:c 3:-3 6:-6");
}

#[test]
fn an_impossible_position_is_counted_and_dropped() {
    check(Some(0), &[(0, 1, b"a", 1), (MAX_JUMP * 2, 1, b"x", 2), (1, 1, b"b", 3)], "0:a 1:b");
    check(Some(1 << 50), &[(0, 4, b"abcd", 1)], "");
    check(Some(u64::MAX - 1), &[(u64::MAX - 1, 9, b"abcd", 1)], "");
    let assembler = assembled(Some(0), Window::default(), &[(u64::MAX, 7, b"x", 1)]);
    assert_eq!(assembler.stats().dropped, 7);
}

#[test]
fn more_captured_than_moved_is_cut() {
    check(Some(0), &[(0, 2, b"abcd", 1), (2, 1, b"c", 1)], "0:ab 2:c");
    let assembler = assembled(Some(0), Window::default(), &[(0, 2, b"abcd", 1)]);
    assert_eq!(assembler.stats().surplus, 2);
}

#[test]
fn the_window_is_bounded_in_bytes_and_records() {
    let window = Window { bytes: 10, records: 100, time: Duration::MAX };
    let mut assembler = assembled(Some(0), window, &[(5, 8, b"abcdefgh", 1), (20, 3, b"xyz", 1)]);
    assert_eq!(told(&drain(&mut assembler)), "0:-5 5:abcdefgh");
    assert_eq!(assembler.buffered(), 3);

    let window = Window { bytes: 1000, records: 2, time: Duration::MAX };
    let mut assembler = assembled(Some(0), window, &[(2, 1, b"a", 1), (4, 1, b"b", 1), (6, 1, b"c", 1)]);
    assert_eq!(told(&drain(&mut assembler)), "0:-2 2:a");
}

#[test]
fn skip_to_gives_up_exactly_what_is_missing_before_it() {
    let pushes: &[Push<'_>] = &[(0, 2, b"ab", 1), (4, 2, b"ef", 1), (8, 2, b"ij", 1)];
    for (to, expected) in [
        (1, "0:ab"),
        (3, "0:ab 2:-1"),
        (4, "0:ab 2:-2 4:ef"),
        (5, "0:ab 2:-2 4:ef"),
        (7, "0:ab 2:-2 4:ef 6:-1"),
        (9, "0:ab 2:-2 4:ef 6:-2 8:ij"),
        (12, "0:ab 2:-2 4:ef 6:-2 8:ij 10:-2"),
    ] {
        let mut assembler = assembled(Some(0), Window::default(), pushes);
        assembler.skip_to(to, mark(2));
        assert_eq!(told(&drain(&mut assembler)), expected, "to {to}");
    }
}

#[test]
fn finish_leaves_nothing_waiting() {
    let mut assembler = assembled(Some(0), Window::default(), &[(3, 1, b"a", 1), (9, 1, b"b", 1)]);
    assembler.finish();
    assert_eq!(told(&drain(&mut assembler)), "0:-3 3:a 4:-5 9:b");
    assert_eq!((assembler.buffered(), assembler.held()), (0, 0));
}

/// A stream of bytes cut into records, some of them captured in part.
fn records() -> impl Strategy<Value = Vec<(u64, u64, Vec<u8>)>> {
    prop::collection::vec((1u64..40, 0usize..50), 1..30).prop_map(|cuts| {
        let mut pos = 0u64;
        let mut records = Vec::new();
        for (len, captured) in cuts {
            let captured = captured.min(len as usize);
            let bytes = (0..captured).map(|i| ((pos as usize + i) % 251) as u8).collect();
            records.push((pos, len, bytes));
            pos += len;
        }
        records
    })
}

/// Every byte of the stream: what was captured there, or nothing.
fn flat(chunks: &[Chunk]) -> Vec<Option<u8>> {
    let mut out = Vec::new();
    for chunk in chunks {
        assert_eq!(chunk.pos(), out.len() as u64, "chunks tile the stream");
        match chunk {
            Chunk::Bytes { bytes, .. } => out.extend(bytes.iter().map(|b| Some(*b))),
            Chunk::Gap { len, .. } => out.extend((0..*len).map(|_| None)),
        }
    }
    out
}

fn feed(records: &[(u64, u64, Vec<u8>)]) -> (Vec<Option<u8>>, Stats) {
    let mut assembler = Assembler::new(Some(0), Window::default());
    for (pos, len, bytes) in records {
        assembler.push(*pos, *len, Bytes::copy_from_slice(bytes), mark(0));
    }
    assembler.finish();
    let chunks = drain(&mut assembler);
    assert_eq!((assembler.buffered(), assembler.held()), (0, 0));
    (flat(&chunks), *assembler.stats())
}

proptest! {
    #[test]
    fn any_order_within_the_window_gives_the_same_stream(
        (straight, shuffled) in records().prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle()))
    ) {
        prop_assert_eq!(feed(&straight).0, feed(&shuffled).0);
    }

    #[test]
    fn a_lost_record_is_a_gap_of_exactly_its_interval(records in records(), lost in any::<prop::sample::Index>()) {
        let (whole, _) = feed(&records);
        let lost = lost.index(records.len());
        let mut rest = records.clone();
        let (pos, len, _) = rest.remove(lost);
        let (mut expected, (pos, end)) = (whole, (pos as usize, (pos + len) as usize));
        if lost + 1 == records.len() {
            expected.truncate(pos);
        } else {
            expected[pos..end].fill(None);
        }
        let (out, stats) = feed(&rest);
        prop_assert_eq!(out, expected);
        prop_assert_eq!(stats.missing, if lost + 1 == records.len() { 0 } else { len });
    }

    #[test]
    fn bytes_in_are_bytes_out_plus_gaps_plus_trimmed_plus_dropped(
        start in prop::option::of(0u64..64),
        pushes in prop::collection::vec((0u64..300, 0u64..60, 0usize..70, 0u64..50), 0..60),
        window in (0usize..400, 1usize..20, 0u64..200).prop_map(|(bytes, records, ns)| Window { bytes, records, time: Duration::from_nanos(ns) }),
    ) {
        let mut assembler = Assembler::new(start, window);
        let mut chunks = Vec::new();
        for (i, (pos, len, captured, skew)) in pushes.iter().enumerate() {
            let at = (i as u64 * 10).saturating_sub(*skew);
            assembler.push(*pos, *len, Bytes::from(vec![b'x'; *captured]), mark(at));
            prop_assert!(assembler.waiting_bytes <= window.bytes && assembler.waiting.len() <= window.records);
            chunks.extend(drain(&mut assembler));
        }
        assembler.finish();
        chunks.extend(drain(&mut assembler));
        for pair in chunks.windows(2) {
            prop_assert_eq!(pair[0].end(), pair[1].pos());
        }
        prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
        let s = assembler.stats();
        prop_assert_eq!(s.moved + s.missing, s.bytes + s.gap + s.trimmed + s.dropped);
        let out: u64 = chunks.iter().map(Chunk::len).sum();
        prop_assert_eq!(out, s.bytes + s.gap);
        prop_assert_eq!(assembler.buffered(), 0);
    }

    #[test]
    fn no_position_or_length_panics(
        start in prop::option::of(any::<u64>()),
        pushes in prop::collection::vec((any::<u64>(), any::<u64>(), 0usize..20, any::<u64>(), any::<bool>()), 0..40)
    ) {
        let mut assembler = Assembler::new(start, Window::default());
        for (pos, len, captured, at, skip) in pushes {
            if skip {
                assembler.skip_to(pos, mark(at));
            }
            assembler.push(pos, len, Bytes::from(vec![0; captured]), mark(at));
        }
        assembler.finish();
        let chunks = drain(&mut assembler);
        for pair in chunks.windows(2) {
            prop_assert_eq!(pair[0].end(), pair[1].pos());
        }
    }
}

mod duplex {
    use super::*;
    use crate::record::Direction::{self, Egress, Ingress};

    /// Direction, position, bytes, position of the other direction, time in ms.
    type Moved = (Direction, u64, &'static str, u64, u64);

    /// Two exchanges: the peer asks `REQ1`, `REQ2`, the process answers `answer1`, `answer2`.
    const EXCHANGES: [Moved; 4] = [
        (Ingress, 0, "REQ1", 0, 1),
        (Egress, 0, "answer1", 4, 2),
        (Ingress, 4, "REQ2", 7, 3),
        (Egress, 7, "answer2", 8, 4),
    ];

    fn push(duplex: &mut Duplex, (direction, pos, text, other_pos, at): Moved) {
        let mark = Mark { other_pos, ..mark(at * MS) };
        duplex.push(direction, pos, text.len() as u64, Bytes::from_static(text.as_bytes()), mark);
    }

    fn told(duplex: &mut Duplex) -> String {
        let one = |(_, chunk): (Direction, Chunk)| match chunk {
            Chunk::Bytes { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
            Chunk::Gap { len, .. } => format!("-{len}"),
        };
        std::iter::from_fn(|| duplex.pop()).map(one).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(start: Option<u64>, records: &[Moved], now: u64, expected: &str) {
        let mut duplex = Duplex::new(start, Window::default());
        for record in records {
            push(&mut duplex, *record);
        }
        duplex.handle_timeout(ns(now * MS));
        assert_eq!(told(&mut duplex), expected);
    }

    #[test]
    fn every_order_of_arrival_gives_the_order_of_moving() {
        let mut orders = vec![vec![]];
        for i in 0..4usize {
            orders = orders
                .into_iter()
                .flat_map(|order: Vec<usize>| {
                    (0..=order.len()).map(move |at| {
                        let mut order = order.clone();
                        order.insert(at, i);
                        order
                    })
                })
                .collect();
        }
        assert_eq!(orders.len(), 24);
        for order in orders {
            let records: Vec<_> = order.iter().filter_map(|i| EXCHANGES.get(*i).copied()).collect();
            check(Some(0), &records, 0, "REQ1 answer1 REQ2 answer2");
        }
    }

    #[test]
    fn a_response_waits_for_its_request_within_the_window() {
        let [request, response, ..] = EXCHANGES;
        check(Some(0), &[response], 101, "");
        check(Some(0), &[response, request], 3, "REQ1 answer1");
        check(Some(0), &[response], 102, "-4 answer1");
    }

    #[test]
    fn a_lost_record_is_a_gap_in_its_turn() {
        let [r1, a1, r2, a2] = EXCHANGES;
        check(Some(0), &[a1, r2, a2], 200, "-4 answer1 REQ2 answer2");
        check(Some(0), &[r1, r2, a2], 200, "REQ1 -7 REQ2 answer2");
        check(Some(0), &[r1, a1, a2], 200, "REQ1 answer1 -4 answer2");
        check(Some(0), &[r1, a1, r2], 200, "REQ1 answer1 REQ2");
        check(Some(0), &[r1, a2], 200, "REQ1 -7 -4 answer2");
    }

    #[test]
    fn joined_in_mid_stream_the_other_direction_starts_where_it_is() {
        let answer = (Egress, 9000, "answer", 500, 10);
        check(None, &[answer], 11, "");
        check(None, &[answer], 110, "answer");
        check(None, &[answer, (Ingress, 500, "REQ", 9006, 20)], 21, "answer REQ");
        check(None, &[answer, (Ingress, 497, "REQ", 9000, 9)], 21, "REQ answer");
    }

    #[test]
    fn two_threads_that_saw_each_other_are_ordered_by_time() {
        let read = (Ingress, 0, "read", 5, 10);
        let write = (Egress, 0, "write", 4, 11);
        check(Some(0), &[read, write], 12, "read write");
        check(Some(0), &[write, read], 12, "read write");
    }

    #[test]
    fn an_impossible_other_position_does_not_hold_anything_up() {
        check(Some(0), &[(Egress, 0, "x", u64::MAX, 1)], 1, "x");
    }

    #[test]
    fn finish_and_relieve_hold_nothing_back() {
        let mut duplex = Duplex::new(Some(0), Window::default());
        push(&mut duplex, EXCHANGES[3]);
        assert_eq!(told(&mut duplex), "");
        assert_eq!(duplex.poll_timeout(), Some(ns(104 * MS)));
        assert_eq!(duplex.relieve().len(), 3);
        assert_eq!((duplex.buffered(), duplex.stalled()), (0, 8));
        assert_eq!(duplex.poll_timeout(), None);
        push(&mut duplex, (Egress, 20, "later", 99, 5));
        assert_eq!(told(&mut duplex), "", "it waits again");
        duplex.finish();
        assert_eq!(told(&mut duplex), "-6 -91 later");
    }

    proptest! {
        #[test]
        fn nothing_waits_beyond_the_bounds(
            records in prop::collection::vec(
                (any::<bool>(), 0u64..200, 0usize..30, 0u64..300, 0u64..50),
                0..80
            ),
            window in (0usize..200, 1usize..20, 0u64..100 * MS)
                .prop_map(|(bytes, records, ns)| Window { bytes, records, time: Duration::from_nanos(ns) }),
        ) {
            let mut duplex = Duplex::new(Some(0), window);
            let (mut next, mut now) = ([0u64; 2], BootTime::ZERO);
            let mut take = |duplex: &mut Duplex| {
                while let Some((direction, chunk)) = duplex.pop() {
                    let next = &mut next[usize::from(direction == Egress)];
                    assert_eq!(chunk.pos(), *next);
                    *next = chunk.end();
                }
            };
            for (i, (egress, pos, len, other_pos, skew)) in records.into_iter().enumerate() {
                let direction = if egress { Egress } else { Ingress };
                let mark = Mark { other_pos, ..mark((i as u64 * 10).saturating_sub(skew) * MS) };
                duplex.push(direction, pos, len as u64, Bytes::from(vec![b'x'; len]), mark);
                take(&mut duplex);
                // What is ready may wait as long as it is in bounds; what is out of order has bounds of its own.
                prop_assert!(duplex.held() <= 3 * window.records + 2);
                prop_assert!(duplex.buffered() <= 3 * window.bytes);
                now = now.max(mark.at);
                prop_assert!(duplex.poll_timeout().is_none_or(|at| at > now));
            }
            duplex.finish();
            take(&mut duplex);
            prop_assert_eq!(duplex.buffered(), 0);
        }
    }
}
