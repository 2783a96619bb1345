//! Frames of each link type → the segment or why there is none.

use proptest::prelude::*;

use super::super::packet::{Segment, Skipped, parse};
use super::*;

fn inner() -> Vec<u8> {
    tcp_segment((40000, 80), 7, 9, ACK, b"hello")
}

fn v4() -> Vec<u8> {
    ipv4_packet(CLIENT, SERVER, 0, 6, &inner())
}

/// An IPv6 packet whose extension headers are `(their own protocol number, bytes after "next header")`.
fn v6(extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
    let len: usize = extensions.iter().map(|(_, rest)| rest.len() + 1).sum::<usize>() + payload.len();
    let first = extensions.first().map_or(6, |(kind, _)| *kind);
    let mut out = vec![0x60, 0, 0, 0];
    out.extend_from_slice(&(len as u16).to_be_bytes());
    out.extend_from_slice(&[first, 64]);
    out.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    out.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    for (i, (_, rest)) in extensions.iter().enumerate() {
        out.push(extensions.get(i + 1).map_or(6, |(kind, _)| *kind));
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(payload);
    out
}

fn framed(header: &[u8], packet: &[u8]) -> Vec<u8> {
    [header, packet].concat()
}

#[track_caller]
fn check(link: u16, data: &[u8], len: usize, expected: Result<(&str, u32), Skipped>) {
    let got = parse(link, data, len as u32);
    let told = got.map(|s: Segment<'_>| {
        assert_eq!((s.from.port(), s.to.port(), s.seq, s.ack), (40000, 80, 7, 9));
        (std::str::from_utf8(s.payload).unwrap(), s.len)
    });
    assert_eq!(told, expected);
}

#[test]
fn every_link_type_leads_to_the_segment() {
    let mac = [2; 12];
    let ethernet = |rest: &[u8]| [&mac[..], rest].concat();
    let sll = [&[0, 0, 3, 4, 0, 6][..], &[2; 8], &[8, 0]].concat();
    let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 1, 3, 4, 0, 6][..], &[2; 8]].concat();
    for (link, header) in [
        (1, ethernet(&[8, 0])),
        (1, ethernet(&[0x81, 0, 0, 5, 8, 0])),
        (1, ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0])),
        (113, sll),
        (276, sll2),
        (0, vec![2, 0, 0, 0]),
        (108, vec![0, 0, 0, 2]),
        (101, vec![]),
        (12, vec![]),
        (228, vec![]),
    ] {
        let data = framed(&header, &v4());
        check(link, &data, data.len(), Ok(("hello", 5)));
    }
    let data = framed(&ethernet(&[0x86, 0xdd]), &v6(&[], &inner()));
    check(1, &data, data.len(), Ok(("hello", 5)));
    check(147, &v4(), 45, Err(Skipped::UnknownLink));
    check(1, &framed(&ethernet(&[8, 6]), &v4()), 59, Err(Skipped::NotIp));
    check(101, &[0x20; 60], 60, Err(Skipped::NotIp));
}

#[test]
fn ipv4_headers() {
    // Ethernet pads short frames; the packet's own length counts.
    let mut padded = v4();
    padded.extend_from_slice(&[0; 6]);
    check(101, &padded, padded.len(), Ok(("hello", 5)));

    let mut with_options = v4();
    with_options[0] = 0x46;
    with_options[3] += 4;
    with_options.splice(20..20, [1, 1, 1, 1]);
    check(101, &with_options, with_options.len(), Ok(("hello", 5)));

    // A total length of zero: the card segments what the capture saw in one piece.
    let mut offloaded = v4();
    offloaded[2..4].fill(0);
    check(101, &offloaded, offloaded.len(), Ok(("hello", 5)));

    check(101, &ipv4_packet(CLIENT, SERVER, 0x4000, 6, &inner()), 45, Ok(("hello", 5)));
    check(101, &ipv4_packet(CLIENT, SERVER, 0x2000, 6, &inner()), 45, Err(Skipped::Fragment));
    check(101, &ipv4_packet(CLIENT, SERVER, 0x0010, 6, &inner()), 45, Err(Skipped::Fragment));
    check(101, &ipv4_packet(CLIENT, SERVER, 0, 17, &inner()), 45, Err(Skipped::NotTcp));

    let mut bad = v4();
    bad[0] = 0x44;
    check(101, &bad, 45, Err(Skipped::Malformed));
    let mut bad = v4();
    bad[2..4].copy_from_slice(&[0, 19]);
    check(101, &bad, 45, Err(Skipped::Malformed));
    let mut bad = v4();
    bad[32] = 0x40;
    check(101, &bad, 45, Err(Skipped::Malformed));
    let mut bad = v4();
    bad[32] = 0xf0;
    check(101, &bad, 45, Err(Skipped::Malformed));
}

#[test]
fn ipv6_extension_headers_are_stepped_over() {
    let hop: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
    let authentication: &[u8] = &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let whole_fragment: &[u8] = &[0, 0, 0, 0, 0, 0, 1];
    let fragment: &[u8] = &[0, 0, 1, 0, 0, 0, 1];
    for (extensions, expected) in [
        (vec![], Ok(("hello", 5))),
        (vec![(0, hop)], Ok(("hello", 5))),
        (vec![(0, hop), (43, hop), (60, hop), (51, authentication)], Ok(("hello", 5))),
        (vec![(44, whole_fragment)], Ok(("hello", 5))),
        (vec![(44, fragment)], Err(Skipped::Fragment)),
        (vec![(17, hop)], Err(Skipped::NotTcp)),
        (vec![(60, hop); 20], Err(Skipped::Malformed)),
    ] {
        let packet = v6(&extensions, &inner());
        check(101, &packet, packet.len(), expected);
    }
}

/// A UDP datagram to that port.
fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len() as u16).to_be_bytes();
    [&[0xc0, 0, (port >> 8) as u8, port as u8, len[0], len[1], 0, 0][..], payload].concat()
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let kind = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    [&[2; 12][..], &kind, packet].concat()
}

/// What IP protocols carry one packet inside another, each with what stands around an inner packet.
fn tunnels(packet: &[u8]) -> Vec<(&'static str, u8, Vec<u8>)> {
    let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &frame(packet)].concat();
    let ip_kind: [u8; 2] = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    let geneve = |kind: [u8; 2], options: &[u8], inner: &[u8]| {
        [&[(options.len() / 4) as u8, 0, kind[0], kind[1], 0, 0, 42, 0][..], options, inner].concat()
    };
    let gre = |flags: u8, kind: [u8; 2], rest: &[u8], inner: &[u8]| {
        [&[flags, 0, kind[0], kind[1]][..], rest, inner].concat()
    };
    vec![
        ("IP in IP", if packet[0] >> 4 == 6 { 41 } else { 4 }, packet.to_vec()),
        ("VXLAN", 17, udp(4789, &vxlan)),
        ("VXLAN of old Linux", 17, udp(8472, &vxlan)),
        ("Geneve with Ethernet", 17, udp(6081, &geneve([0x65, 0x58], &[], &frame(packet)))),
        ("Geneve with IP and options", 17, udp(6081, &geneve(ip_kind, &[0; 12], packet))),
        ("GRE", 47, gre(0, ip_kind, &[], packet)),
        ("GRE with checksum, key and number", 47, gre(0xb0, ip_kind, &[0; 12], packet)),
        ("NVGRE", 47, gre(0x20, [0x65, 0x58], &[0; 4], &frame(packet))),
        ("ERSPAN type I", 47, gre(0, [0x88, 0xbe], &[], &frame(packet))),
        ("ERSPAN type II", 47, gre(0x10, [0x88, 0xbe], &[0; 12], &frame(packet))),
        ("ERSPAN type III", 47, gre(0x10, [0x22, 0xeb], &[0; 16], &frame(packet))),
    ]
}

#[test]
fn packets_inside_packets_are_read() {
    for inner in [v4(), v6(&[], &inner())] {
        for (name, protocol, payload) in tunnels(&inner) {
            println!("{name}");
            let outer = ipv4_packet([192, 0, 2, 1], [192, 0, 2, 2], 0, protocol, &payload);
            check(101, &outer, outer.len(), Ok(("hello", 5)));
            let mut outer = v6(&[], &payload);
            outer[6] = protocol;
            check(101, &outer, outer.len(), Ok(("hello", 5)));
            // A snapshot length leaves what is there, and its length.
            let cut = outer.len() - 2;
            check(101, &outer[..cut], outer.len(), Ok(("hel", 5)));
        }
    }
}

#[test]
fn packets_are_followed_so_deep_and_no_deeper() {
    let mut packet = v4();
    for depth in 1..6 {
        packet = ipv4_packet([192, 0, 2, depth], [192, 0, 2, 9], 0, 4, &packet);
        let expected = if depth <= 3 { Ok(("hello", 5)) } else { Err(Skipped::NotTcp) };
        check(101, &packet, packet.len(), expected);
    }
}

#[test]
fn what_only_uses_a_tunnel_s_port_or_protocol_is_not_tcp() {
    let packet = v4();
    let vxlan = |flags: u8| [&[flags, 0, 0, 0, 0, 0, 0, 0][..], &frame(&packet)].concat();
    for (protocol, payload) in [
        (17, udp(53, &vxlan(8))),
        (17, udp(4789, &vxlan(0))),
        (17, udp(6081, &[&[0x40, 0, 8, 0, 0, 0, 0, 0][..], &packet].concat())),
        (47, [&[0, 1, 8, 0][..], &packet].concat()),
        (47, [&[0x40, 0, 8, 0][..], &packet].concat()),
        (47, [&[0, 0, 0x88, 0x0b][..], &packet].concat()),
    ] {
        let outer = ipv4_packet(CLIENT, SERVER, 0, protocol, &payload);
        check(101, &outer, outer.len(), Err(Skipped::NotTcp));
    }
}

#[test]
fn mapped_addresses_are_ipv4() {
    let mut packet = v6(&[], &inner());
    packet[8..24].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2]);
    let segment = parse(101, &packet, packet.len() as u32).unwrap();
    assert_eq!(segment.from.to_string(), "10.0.0.2:40000");
}

#[test]
fn a_snapshot_length_cuts_the_payload_but_not_its_length() {
    let packet = v4();
    for cut in 0..=packet.len() {
        let expected = match cut {
            0..34 => Err(Skipped::Cut),
            34..40 => Ok(("", 5)),
            _ => Ok((&"hello"[..cut - 40], 5)),
        };
        check(101, &packet[..cut], packet.len(), expected);
    }
}

proptest! {
    #[test]
    fn random_frames_never_panic(
        link in prop::sample::select(vec![0u16, 1, 12, 101, 108, 113, 228, 229, 276, 999]),
        data in prop::collection::vec(any::<u8>(), 0..120),
        len in any::<u32>()
    ) {
        let _ = parse(link, &data, len);
    }

    #[test]
    fn damaged_packets_never_claim_more_payload_than_was_captured(
        is_v6 in any::<bool>(), at in any::<prop::sample::Index>(), value in any::<u8>(), len in 0u32..200
    ) {
        let mut packet = if is_v6 { v6(&[(0, &[0, 1, 4, 0, 0, 0, 0])], &inner()) } else { v4() };
        if len % 2 == 0 {
            let all = tunnels(&packet);
            let (_, protocol, payload) = &all[len as usize % all.len()];
            packet = ipv4_packet(CLIENT, SERVER, 0, *protocol, payload);
        }
        let at = at.index(packet.len());
        packet[at] = value;
        if let Ok(segment) = parse(101, &packet, len) {
            prop_assert!(segment.payload.len() <= segment.len as usize);
        }
    }
}
