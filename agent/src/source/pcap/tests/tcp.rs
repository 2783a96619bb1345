//! TCP conversations → what each socket wrote, read and closed.

use proptest::prelude::*;

use super::*;
use spoor_core::record::Conn;

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    C,
    S,
}
use Sent::{C, S};

/// A packet: sender, flags, sequence number, acknowledgement, payload, time in ms.
type Packet<'a> = (Sent, u8, u32, u32, &'a str, u64);

fn packet(&(sent, flags, seq, ack, payload, at): &Packet<'_>) -> (u64, Vec<u8>, usize) {
    let (from, to, ports) = match sent {
        C => (CLIENT, SERVER, (40000, 80)),
        S => (SERVER, CLIENT, (80, 40000)),
    };
    let packet = ipv4_packet(from, to, 0, 6, &tcp_segment(ports, seq, ack, flags, payload.as_bytes()));
    let len = packet.len();
    (at, packet, len)
}

fn file(packets: &[Packet<'_>]) -> Vec<u8> {
    pcap_file(&packets.iter().map(packet).collect::<Vec<_>>())
}

#[track_caller]
fn check(packets: &[Packet<'_>], expected: &[&str]) {
    let (records, complaint, _) = read_all(&file(packets));
    assert_eq!(complaint, None);
    assert_eq!(records.iter().filter_map(told).collect::<Vec<_>>(), expected);
}

fn counted(packets: &[Packet<'_>], what: &str) -> u64 {
    let (_, _, counts) = read_all(&file(packets));
    counts.iter().find(|(name, _)| *name == what).unwrap().1
}

const SYN_C: Packet<'_> = (C, SYN, 99, 0, "", 1);
const SYN_S: Packet<'_> = (S, SYN | ACK, 499, 100, "", 1);
const ACK_C: Packet<'_> = (C, ACK, 100, 500, "", 1);
const CONNS: [&str; 2] =
    ["1 Client 10.0.0.2:40000 10.0.0.1:80 100/500", "2 Server 10.0.0.1:80 10.0.0.2:40000 500/100"];

/// The handshake, then these.
fn opened<'a>(packets: &[Packet<'a>]) -> Vec<Packet<'a>> {
    [&[SYN_C, SYN_S, ACK_C], packets].concat()
}

#[track_caller]
fn check_opened(packets: &[Packet<'_>], expected: &[&str]) {
    check(&opened(packets), &[&CONNS, expected].concat());
}

#[test]
fn a_connection_is_seen_from_both_ends() {
    check_opened(
        &[
            (C, ACK, 100, 500, "request", 2),
            (S, ACK, 500, 107, "", 2),
            (S, ACK, 500, 107, "answer", 3),
            (C, ACK, 107, 506, "", 3),
            (C, ACK | FIN, 107, 506, "", 4),
            (S, ACK | FIN, 506, 108, "", 5),
            (C, ACK, 108, 507, "", 5),
        ],
        &[
            "1 wrote 0:request after 0 at 2",
            "2 read 0:request after 0 at 2",
            "2 wrote 0:answer after 7 at 3",
            "1 read 0:answer after 7 at 3",
            "1 closed at 5",
            "2 closed at 5",
        ],
    );
}

#[test]
fn processes_are_told_before_their_connections_and_servers_are_one() {
    let second = |sent: Sent, flags, seq, ack, payload, at| {
        let (_, mut bytes, len) = packet(&(sent, flags, seq, ack, payload, at));
        bytes[20..24].copy_from_slice(&[0x9c, 0x41, 0, 80]);
        (at, bytes, len)
    };
    let mut packets: Vec<_> = opened(&[(C, ACK, 100, 500, "x", 2)]).iter().map(packet).collect();
    packets.push(second(C, ACK, 7, 8, "y", 3));
    let services: Services =
        serde_json::from_str(r#"{"names":[{"port":80,"name":"shop","namespace":"sales"}]}"#).unwrap();
    let file = pcap_file(&packets);
    for (services, expected) in [
        (services, ["1 shop sales", "2 10.0.0.2 -", "3 10.0.0.2 -"]),
        (Services::default(), ["1 10.0.0.1:80 -", "2 10.0.0.2 -", "3 10.0.0.2 -"]),
    ] {
        let mut reader = Reader::new(String::new(), &file[..], &services).unwrap();
        let (mut infos, mut conns): (Vec<String>, Vec<Conn>) = Default::default();
        while let Some(record) = reader.next().unwrap() {
            match record {
                Record::ProcessInfo(i) => {
                    let namespace = i.service_namespace.unwrap_or("-".to_owned());
                    infos.push(format!("{} {} {namespace}", i.tgid, i.service));
                }
                Record::Conn(conn) => {
                    assert!(infos.iter().any(|info| info.starts_with(&conn.thread.tgid.to_string())));
                    conns.push(*conn);
                }
                _ => {}
            }
        }
        assert_eq!(infos, expected);
        let threads: Vec<_> = conns.iter().map(|conn| (conn.thread.tgid.0, conn.thread.tid.0)).collect();
        assert_eq!(threads, [(2, 2), (1, 1), (3, 3), (1, 1)]);
    }
}

#[test]
fn sequence_numbers_wrap() {
    let isn = u32::MAX - 2;
    check(
        &[
            (C, SYN, isn, 0, "", 1),
            (S, SYN | ACK, u32::MAX, isn.wrapping_add(1), "", 1),
            (C, ACK, isn.wrapping_add(1), 0, "abcd", 2),
            (S, ACK, 0, 2, "xyz", 3),
            (C, ACK, 2, 3, "e", 4),
        ],
        &[
            "1 Client 10.0.0.2:40000 10.0.0.1:80 4294967294/0",
            "2 Server 10.0.0.1:80 10.0.0.2:40000 0/4294967294",
            "1 wrote 0:abcd after 0 at 2",
            "2 read 0:abcd after 0 at 2",
            "2 wrote 0:xyz after 4 at 3",
            "1 read 0:xyz after 4 at 3",
            "1 wrote 4:e after 3 at 4",
            "2 read 4:e after 3 at 4",
        ],
    );
}

#[test]
fn positions_go_on_beyond_32_bits() {
    let mut packets = vec![SYN_C, SYN_S];
    let mut seq = 100u32;
    for i in 0..12 {
        // Each acknowledgement jumps half a gigabyte that the capture does not have.
        seq = seq.wrapping_add(1 << 29);
        packets.push((S, ACK, 500, seq, "", 100 + i * 1000));
        packets.push((S, ACK, 500, seq, "", 900 + i * 1000));
    }
    packets.push((C, ACK, seq, 500, "end", 20_000));
    let (records, _, _) = read_all(&file(&packets));
    let last = records.iter().filter_map(told).next_back().unwrap();
    assert_eq!(last, format!("2 read {}:end after 0 at 20000", 12u64 << 29));
}

#[test]
fn repeated_segments_are_told_once() {
    let packets = opened(&[
        (C, ACK, 100, 500, "abc", 2),
        (C, ACK, 100, 500, "abc", 2),
        (C, ACK, 101, 500, "bcde", 3),
        // A keep-alive probe repeats the last byte, or none.
        (C, ACK, 104, 500, "e", 4),
        (C, ACK, 104, 500, "", 4),
        SYN_S,
        SYN_C,
    ]);
    let expected = [
        "1 wrote 0:abc after 0 at 2",
        "2 read 0:abc after 0 at 2",
        "1 wrote 3:de after 0 at 3",
        "2 read 3:de after 0 at 3",
    ];
    check(&packets, &[&CONNS[..], &expected].concat());
    assert_eq!(counted(&packets, "TCP bytes captured again"), 3 + 2 + 1);
}

#[test]
fn every_packet_captured_twice_gives_the_same_records() {
    let once = opened(&[
        (C, ACK, 100, 500, "request", 2),
        (S, ACK, 500, 107, "answer", 3),
        (C, ACK | FIN, 107, 506, "", 4),
        (S, ACK | FIN, 506, 108, "", 5),
        (C, ACK, 108, 507, "", 5),
    ]);
    let twice: Vec<_> = once.iter().flat_map(|packet| [*packet, *packet]).collect();
    assert_eq!(read_all(&file(&once)).0, read_all(&file(&twice)).0);
}

#[test]
fn a_segment_that_fills_a_hole_lets_the_rest_be_read() {
    check_opened(
        &[(C, ACK, 103, 500, "de", 2), (C, ACK, 105, 500, "f", 3), (C, ACK, 100, 500, "abc", 400)],
        &[
            "1 wrote 0:abc after 0 at 400",
            "2 read 0:abc after 0 at 400",
            "1 wrote 3:de after 0 at 2",
            "2 read 3:de after 0 at 400",
            "1 wrote 5:f after 0 at 3",
            "2 read 5:f after 0 at 400",
        ],
    );
}

#[test]
fn what_was_acknowledged_but_not_captured_is_a_gap() {
    let packets =
        opened(&[(C, ACK, 103, 500, "de", 2), (S, ACK, 500, 105, "", 3), (S, ACK, 500, 105, "answer", 60)]);
    let expected = [
        "1 wrote 0:-3 after 0 at 2",
        "2 read 0:-3 after 0 at 2",
        "1 wrote 3:de after 0 at 2",
        "2 read 3:de after 0 at 2",
        "2 wrote 0:answer after 5 at 60",
        "1 read 0:answer after 5 at 60",
    ];
    check(&packets, &[&CONNS[..], &expected].concat());
    assert_eq!(counted(&packets, "TCP bytes missing from the capture"), 3);
}

#[test]
fn data_captured_just_after_its_acknowledgement_still_counts() {
    check_opened(
        &[(S, ACK, 500, 103, "", 2), (C, ACK, 100, 500, "abc", 3), (S, ACK, 500, 103, "ok", 80)],
        &[
            "1 wrote 0:abc after 0 at 3",
            "2 read 0:abc after 0 at 3",
            "2 wrote 0:ok after 3 at 80",
            "1 read 0:ok after 3 at 80",
        ],
    );
}

#[test]
fn a_snapshot_length_leaves_gaps_of_exact_length() {
    let mut packets: Vec<_> =
        opened(&[(C, ACK, 100, 500, "abcdef", 2), (C, ACK, 106, 500, "gh", 3)]).iter().map(packet).collect();
    packets[3].1.truncate(42);
    let (records, complaint, _) = read_all(&pcap_file(&packets));
    assert_eq!(complaint, None);
    let told: Vec<_> = records.iter().filter_map(told).filter(|line| line.contains("wrote")).collect();
    assert_eq!(told, ["1 wrote 0:ab after 0 at 2", "1 wrote 2:-4 after 0 at 2", "1 wrote 6:gh after 0 at 3"]);
}

#[test]
fn joined_in_mid_stream_positions_count_from_there_and_nothing_is_known_of_roles() {
    check(
        &[(S, ACK, 7000, 3000, "", 1), (S, ACK, 7000, 3000, "answer", 2), (C, ACK, 3000, 7006, "next", 3)],
        &[
            // Both ends are in the same packets: they know each other by the numbers of the first one.
            "1 ? 10.0.0.2:40000 10.0.0.1:80 3000/7000",
            "2 ? 10.0.0.1:80 10.0.0.2:40000 7000/3000",
            "2 wrote 0:answer after 0 at 2",
            "1 read 0:answer after 0 at 2",
            "1 wrote 0:next after 6 at 3",
            "2 read 0:next after 6 at 3",
        ],
    );
}

/// The same packet with the server's address translated, seen at another time.
fn translated(packet: &Packet<'_>, at: u64) -> (u64, Vec<u8>, usize) {
    let (_, mut bytes, len) = self::packet(packet);
    let server = if packet.0 == C { 16..20 } else { 12..16 };
    bytes[server].copy_from_slice(&[10, 96, 0, 5]);
    (at, bytes, len)
}

#[test]
fn packets_before_and_after_a_translation_are_one_connection() {
    let talk =
        opened(&[(C, ACK, 100, 500, "request", 2), (S, ACK, 500, 107, "answer", 3), (C, RST, 107, 0, "", 4)]);
    // What the client sends is seen before its translation first, the answers behind it.
    let mut packets = Vec::new();
    for packet in &talk {
        let both = [self::packet(packet), translated(packet, packet.5)];
        packets.extend(if packet.0 == C { both } else { [both[1].clone(), both[0].clone()] });
    }
    let (records, complaint, counts) = read_all(&pcap_file(&packets));
    assert_eq!(complaint, None);
    let told: Vec<_> = records.iter().filter_map(told).collect();
    assert_eq!(told.len(), 8, "{told:?}");
    assert_eq!(told.iter().filter(|line| line.contains("request")).count(), 2);
    let left_out = counts.iter().find(|(name, _)| name.contains("behind a translation")).unwrap().1;
    assert_eq!(left_out, 1);
}

#[test]
fn equal_numbers_at_another_time_are_another_connection() {
    let talk = opened(&[(C, ACK, 100, 500, "request", 2)]);
    let later = talk.iter().map(|packet| translated(packet, packet.5 + 1500));
    let packets: Vec<_> = talk.iter().map(packet).chain(later).collect();
    let (records, ..) = read_all(&pcap_file(&packets));
    assert_eq!(records.iter().filter_map(told).filter(|line| line.contains("request")).count(), 4);
}

#[test]
fn a_handshake_half_captured_gives_roles() {
    check(
        &[SYN_C, (C, ACK, 100, 500, "x", 2)],
        &[
            "1 Client 10.0.0.2:40000 10.0.0.1:80 100/500",
            "2 Server 10.0.0.1:80 10.0.0.2:40000 500/100",
            "1 wrote 0:x after 0 at 2",
            "2 read 0:x after 0 at 2",
        ],
    );
    // The answer alone names both initial sequence numbers.
    check(&[SYN_S], &CONNS);
}

#[test]
fn a_reset_ends_the_connection_with_what_was_there() {
    let packets = opened(&[
        (C, ACK, 102, 500, "c", 2),
        (S, RST, 500, 0, "", 3),
        (C, ACK, 100, 500, "ab", 4),
        (S, RST, 500, 0, "", 5),
    ]);
    let expected = [
        "1 wrote 0:-2 after 0 at 2",
        "2 read 0:-2 after 0 at 2",
        "1 wrote 2:c after 0 at 2",
        "2 read 2:c after 0 at 2",
        "1 reset at 3",
        "2 reset at 3",
    ];
    check(&packets, &[&CONNS[..], &expected].concat());
    assert_eq!(counted(&packets, "TCP segments outside a connection"), 2);
}

#[test]
fn a_fin_before_its_data_waits_for_it() {
    check_opened(
        &[(C, ACK | FIN, 100, 500, "", 2), (S, ACK | FIN, 503, 101, "", 3), (S, ACK, 500, 101, "end", 4)],
        &["2 wrote 0:end after 0 at 4", "1 read 0:end after 0 at 4", "1 closed at 4", "2 closed at 4"],
    );
}

#[test]
fn the_same_ports_again_are_another_connection() {
    check(
        &[
            SYN_C,
            SYN_S,
            (C, ACK, 100, 500, "a", 2),
            (C, SYN, 7999, 0, "", 9),
            (S, SYN | ACK, 8999, 8000, "", 9),
            (C, ACK, 8000, 9000, "b", 10),
        ],
        &[
            CONNS[0],
            CONNS[1],
            "1 wrote 0:a after 0 at 2",
            "2 read 0:a after 0 at 2",
            "3 Client 10.0.0.2:40000 10.0.0.1:80 8000/9000",
            "4 Server 10.0.0.1:80 10.0.0.2:40000 9000/8000",
            "3 wrote 0:b after 0 at 10",
            "4 read 0:b after 0 at 10",
        ],
    );
}

#[test]
fn data_on_the_syn_counts_from_its_first_byte() {
    let packets =
        [(C, SYN, 99, 0, "early", 1), (S, SYN | ACK, 499, 105, "", 1), (C, ACK, 105, 500, "late", 2)];
    let (records, _, _) = read_all(&file(&packets));
    let told: Vec<_> = records.iter().filter_map(told).filter(|line| !line.contains("wrote")).collect();
    let expected = [
        "1 Client 10.0.0.2:40000 10.0.0.1:80",
        "2 Server 10.0.0.1:80 10.0.0.2:40000",
        "2 read 0:early after 0 at 1",
        "1 Client 10.0.0.2:40000 10.0.0.1:80 100/500",
        "2 Server 10.0.0.1:80 10.0.0.2:40000 500/100",
        "2 read 5:late after 0 at 2",
    ];
    assert_eq!(told, expected);
}

#[test]
fn packets_that_are_no_segments_are_counted_by_kind() {
    let tcp = tcp_segment((1, 2), 0, 0, ACK, b"x");
    let fragment = ipv4_packet(CLIENT, SERVER, 0x2000, 6, &tcp);
    let udp = ipv4_packet(CLIENT, SERVER, 0, 17, &tcp);
    let file = pcap_file(&[(1, fragment, 41), (2, udp, 41), (3, vec![0; 4], 4), (4, vec![], 0)]);
    let (records, complaint, counts) = read_all(&file);
    assert_eq!((records.len(), complaint), (1, None));
    for (name, expected) in [
        ("packets", 4),
        ("IP fragments, left out", 1),
        ("packets that are not TCP", 1),
        ("packets that are not IP", 1),
        ("packets with headers cut by the snapshot length", 1),
    ] {
        assert!(counts.contains(&(name, expected)), "{name}: {counts:?}");
    }
}

/// What each socket wrote and read, after it was announced: bytes, and the length of gaps.
fn streams(records: &[Record]) -> std::collections::BTreeMap<(u64, bool), Vec<Result<u8, u64>>> {
    let mut ends = std::collections::BTreeMap::new();
    let mut streams = std::collections::BTreeMap::new();
    let mut announced = std::collections::BTreeSet::new();
    for record in records {
        if let Record::Conn(conn) = record {
            announced.insert(conn.id.0);
        }
        if let Record::Data(d) = record {
            assert!(announced.contains(&d.conn.0), "a connection comes before its data");
            let key = (d.conn.0, d.direction == Direction::Egress);
            let end = ends.insert(key, d.pos + u64::from(d.len)).unwrap_or_default();
            assert_eq!(end, d.pos, "records of a socket tile its stream");
            let stream: &mut Vec<_> = streams.entry(key).or_default();
            stream.extend(d.bytes.iter().map(|byte| Ok(*byte)));
            stream.extend((d.bytes.len() as u64 != u64::from(d.len)).then_some(Err(d.len.into())));
        }
    }
    streams
}

proptest! {
    #[test]
    fn segments_in_any_order_with_repetitions_give_the_same_streams(
        (cuts, order) in prop::collection::vec(1usize..20, 1..12).prop_flat_map(|cuts| {
            let order: Vec<usize> = (0..cuts.len()).chain(0..cuts.len() / 2).collect();
            (Just(cuts), Just(order).prop_shuffle())
        }),
        isn in any::<u32>(),
    ) {
        let text: String = (0..cuts.iter().sum::<usize>()).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
        let mut starts = vec![0];
        for cut in &cuts {
            starts.push(starts.last().unwrap() + cut);
        }
        let mut packets = vec![
            (C, SYN, isn, 0, "", 1),
            (S, SYN | ACK, 499, isn.wrapping_add(1), "", 1),
        ];
        for i in order {
            let seq = isn.wrapping_add(1).wrapping_add(starts[i] as u32);
            packets.push((C, ACK, seq, 500, &text[starts[i]..starts[i + 1]], 2));
        }
        let (records, _, _) = read_all(&file(&packets));
        let expected: Vec<_> = text.bytes().map(Ok).collect();
        let streams = streams(&records);
        prop_assert_eq!(&streams[&(1, true)], &expected);
        prop_assert_eq!(&streams[&(2, false)], &expected);
    }

    #[test]
    fn what_one_end_wrote_the_other_read_whatever_the_packets(
        packets in prop::collection::vec(
            (any::<bool>(), 0u8..32, 0u32..60, 0u32..60, 0usize..12, 0u64..200, any::<bool>()), 0..60
        )
    ) {
        let mut at = 0;
        let packets: Vec<Packet<'_>> = packets
            .into_iter()
            .map(|(is_client, flags, seq, ack, len, step, is_far)| {
                at += step;
                let far = if is_far && len == 11 { u32::MAX / 2 } else { 0 };
                let sent = if is_client { C } else { S };
                // Few resets and handshakes, mostly data.
                let flags = if len > 2 { ACK } else { flags };
                (sent, flags, seq.wrapping_add(far), ack, &"abcdefghijkl"[..len], at)
            })
            .collect();
        let (records, complaint, _) = read_all(&file(&packets));
        prop_assert_eq!(complaint, None);
        let streams = streams(&records);
        for ((conn, is_write), stream) in &streams {
            let peer = if conn % 2 == 1 { conn + 1 } else { conn - 1 };
            prop_assert_eq!(Some(stream), streams.get(&(peer, !is_write)));
        }
    }
}
