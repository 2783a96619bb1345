//! Files of both formats, byte by byte → the times of their frames or what is wrong.

use proptest::prelude::*;

use super::*;

/// A request in one packet, so that a frame that arrives intact is seen.
fn hello() -> Vec<u8> {
    ipv4_packet(CLIENT, SERVER, 0, 6, &tcp_segment((40000, 80), 1, 1, ACK, b"hello"))
}

/// Writes fields in either byte order.
struct To {
    is_big: bool,
    out: Vec<u8>,
}

impl To {
    fn u16(&mut self, value: u16) -> &mut Self {
        self.out.extend_from_slice(&if self.is_big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.out.extend_from_slice(&if self.is_big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self.out.resize(self.out.len().next_multiple_of(4), 0);
        self
    }

    fn option(&mut self, code: u16, value: &[u8]) -> &mut Self {
        self.u16(code).u16(value.len() as u16).raw(value)
    }

    fn block(&mut self, kind: u32, body: impl Fn(&mut To)) -> &mut Self {
        let mut inner = To { is_big: self.is_big, out: Vec::new() };
        body(&mut inner);
        let total = inner.out.len() as u32 + 12;
        self.u32(kind).u32(total).raw(&inner.out).u32(total)
    }

    fn section(&mut self) -> &mut Self {
        self.block(0x0a0d_0d0a, |b| {
            b.u32(0x1a2b_3c4d).u16(1).u16(0).u32(u32::MAX).u32(u32::MAX);
            b.option(2, b"hardware").option(0, b"");
        })
    }

    /// Raw IP, with a resolution when one is given.
    fn interface(&mut self, resolution: Option<u8>) -> &mut Self {
        self.block(1, |b| {
            b.u16(101).u16(0).u32(0).option(2, b"lo");
            if let Some(resolution) = resolution {
                b.option(9, &[resolution]);
            }
            b.option(0, b"");
        })
    }

    fn packet(&mut self, interface: u32, ticks: u64, packet: &[u8]) -> &mut Self {
        self.block(6, |b| {
            b.u32(interface).u32((ticks >> 32) as u32).u32(ticks as u32);
            b.u32(packet.len() as u32).u32(packet.len() as u32).raw(packet).option(1, b"a comment");
        })
    }
}

/// Times in ns at which `hello` was written, and the complaint.
#[track_caller]
fn check(file: &[u8], expected: &[u64], complaint: Option<&str>) {
    let (records, said, _) = read_all(file);
    let times: Vec<u64> = records
        .iter()
        .filter_map(|record| match record {
            Record::Data(d) if d.direction == Direction::Egress => Some(d.at.as_nanos()),
            _ => None,
        })
        .collect();
    assert_eq!(times, expected);
    assert_eq!(said.as_deref(), complaint);
}

#[test]
fn pcap_in_both_byte_orders_and_both_resolutions() {
    for (is_big, magic, ns) in [
        (false, 0xa1b2_c3d4, 7_000_005_000),
        (true, 0xa1b2_c3d4, 7_000_005_000),
        (false, 0xa1b2_3c4d, 7_000_000_005),
        (true, 0xa1b2_3c4d, 7_000_000_005),
    ] {
        let mut to = To { is_big, out: Vec::new() };
        let packet = hello();
        // The upper bits of the link type tell about frame check sequences.
        to.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65535).u32(0x1400_0065);
        to.u32(7).u32(5).u32(packet.len() as u32).u32(packet.len() as u32);
        to.out.extend_from_slice(&packet);
        check(&to.out, &[ns], None);
    }
}

#[test]
fn pcapng_in_both_byte_orders_with_each_resolution() {
    for is_big in [false, true] {
        let mut to = To { is_big, out: Vec::new() };
        // Default (µs), ns, ms, 2^-10 s.
        to.section().interface(None).interface(Some(9)).interface(Some(3)).interface(Some(128 + 10));
        for (interface, ticks) in [(0, 5_000_000), (1, 6_000_000_007), (2, 7001), (3, 8 * 1024 + 512)] {
            let port = 40000 + interface as u16;
            let packet = ipv4_packet(CLIENT, SERVER, 0, 6, &tcp_segment((port, 80), 1, 1, ACK, b"x"));
            to.packet(interface, ticks, &packet);
        }
        check(&to.out, &[5_000_000_000, 6_000_000_007, 7_001_000_000, 8_500_000_000], None);
    }
}

#[test]
fn pcapng_blocks_without_interface_or_time() {
    let packet = hello();
    let len = packet.len() as u32;
    let mut to = To { is_big: false, out: Vec::new() };
    to.section().interface(None);
    to.block(3, |b| {
        b.u32(len).raw(&packet);
    });
    check(&to.out, &[0], None);

    let mut to = To { is_big: false, out: Vec::new() };
    to.section().interface(None).block(0x0bad, |b| {
        b.u32(1);
    });
    to.block(2, |b| {
        b.u16(0).u16(3).u32(0).u32(9_000_000).u32(len).u32(len).raw(&packet);
    });
    check(&to.out, &[9_000_000_000], None);
}

#[test]
fn a_new_section_starts_its_interfaces_anew_and_may_turn_the_byte_order() {
    let mut to = To { is_big: false, out: Vec::new() };
    to.section().interface(Some(9)).packet(0, 1, &hello());
    let mut second = To { is_big: true, out: Vec::new() };
    // Of other numbers: with the same ones it would be the same connection behind an address translation.
    let packet = ipv4_packet(CLIENT, SERVER, 0, 6, &tcp_segment((40001, 80), 7001, 9001, ACK, b"x"));
    second.section().interface(Some(3)).packet(0, 2, &packet);
    to.out.extend_from_slice(&second.out);
    check(&to.out, &[1, 2_000_000], None);
}

#[test]
fn what_the_capture_dropped_is_told() {
    let mut to = To { is_big: false, out: Vec::new() };
    to.section().interface(None).interface(None);
    for (interface, drops) in [(0u32, 3u64), (1, 4)] {
        to.block(5, |b| {
            b.u32(interface).u32(0).u32(5).option(3, &[1; 8]).option(5, &drops.to_le_bytes()).option(0, b"");
        });
    }
    let (records, complaint, _) = read_all(&to.out);
    assert_eq!(records.iter().filter_map(told).collect::<Vec<_>>(), ["lost 3", "lost 7"]);
    assert_eq!(complaint, None);
}

#[test]
fn damage_is_told_with_its_place_after_everything_before_it() {
    let mut to = To { is_big: false, out: Vec::new() };
    to.section().interface(None).packet(0, 5_000_000, &hello());
    let end = to.out.len();
    let mut bad = to.out.clone();
    bad.extend_from_slice(&[6, 0, 0, 0, 7, 0, 0, 0]);
    let expected = format!("`x.pcap` is damaged at byte {end}: a block of 7 bytes");
    check(&bad, &[5_000_000_000], Some(&expected));

    let mut bad = to.out.clone();
    let last = bad.len() - 4;
    bad[last] ^= 1;
    let (_, complaint, _) = read_all(&bad);
    assert!(complaint.unwrap().ends_with("a block whose two lengths differ"));

    let mut to = To { is_big: false, out: Vec::new() };
    to.section().packet(0, 5_000_000, &hello());
    let (_, complaint, _) = read_all(&to.out);
    assert!(complaint.unwrap().ends_with("the block of type 6 before it is malformed"), "no such interface");

    let mut file = pcap_file(&[(1, hello(), 45)]);
    file.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0]);
    check(&file, &[1_000_000], Some("`x.pcap` is damaged at byte 85: a packet of 150994944 bytes"));
}

#[test]
fn every_prefix_yields_a_prefix_of_the_records_and_says_where_it_ends() {
    let mut ng = To { is_big: true, out: Vec::new() };
    ng.section().interface(None);
    let mut packets = Vec::new();
    for i in 0..4u32 {
        let packet =
            ipv4_packet(CLIENT, SERVER, 0, 6, &tcp_segment((40000, 80), 1 + i * 5, 1, ACK, b"hello"));
        ng.packet(0, u64::from(i), &packet);
        packets.push((u64::from(i), packet, 45));
    }
    for file in [pcap_file(&packets), ng.out] {
        let (whole, _, _) = read_all(&file);
        assert_eq!(whole.iter().filter_map(told).count(), 2 + 8);
        for cut in 0..file.len() {
            let (records, complaint, _) = read_all(&file[..cut]);
            assert_eq!(records, whole[..records.len()], "cut at {cut}");
            if let Some(complaint) = complaint {
                assert!(
                    complaint.starts_with(&format!("`x.pcap` ends at byte {cut} inside ")),
                    "{complaint}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        magic in prop::sample::select(vec![0xa1b2_c3d4u32, 0xd4c3_b2a1, 0xa1b2_3c4d, 0x0a0d_0d0a]),
        bytes in prop::collection::vec(any::<u8>(), 0..400)
    ) {
        let mut file = magic.to_be_bytes().to_vec();
        file.extend_from_slice(&bytes);
        read_all(&file);
    }

    #[test]
    fn damaged_files_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        is_big in any::<bool>()
    ) {
        let mut to = To { is_big, out: Vec::new() };
        to.section().interface(Some(9)).packet(0, 1, &hello()).packet(0, 2, &hello()).section();
        let mut other = pcap_file(&[(1, hello(), 45), (2, hello(), 45)]);
        for (at, value) in flips {
            let i = at.index(to.out.len());
            to.out[i] = value;
            let i = at.index(other.len());
            other[i] = value;
        }
        read_all(&to.out);
        read_all(&other);
    }
}
