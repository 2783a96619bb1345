//! Captures of real traffic through the reader, TCP reassembly, detection and the parsers: what is told of a
//! conversation must not depend on how it was captured.

use std::path::PathBuf;

use spoor::config::Services;
use spoor::source::{self, recording};
use spoor_core::conn::{Connections, Stats};
use spoor_core::operation::Detail;
use spoor_core::protocol::Event;
use spoor_core::record::{Conn, Record, Role};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::recorded::fixtures;

const WHOLE: [&str; 3] = ["http.pcapng", "http-any.pcap", "http-ipv6.pcap"];

/// The four exchanges of every fixture, as both ends see them.
const EXCHANGES: [&str; 8] = [
    "Client GET /orders 200 Complete",
    "Client GET /orders/4711 200 Complete",
    "Client GET /orders/9 404 Complete",
    "Client POST /orders 201 Complete",
    "Server GET /orders 200 Complete",
    "Server GET /orders/4711 200 Complete",
    "Server GET /orders/9 404 Complete",
    "Server POST /orders 201 Complete",
];

fn fixture(name: &str) -> PathBuf {
    fixtures().join("pcap").join(name)
}

/// What a file tells.
#[derive(Debug, Default)]
struct Told {
    records: Vec<Record>,
    warning: Option<String>,
    /// Role, method, target, status and completeness of each exchange, sorted.
    exchanges: Vec<String>,
    conns: Vec<Conn>,
    stats: Stats,
}

fn replay(bytes: Vec<u8>) -> Told {
    let mut told = Told::default();
    let from = std::io::Cursor::new(bytes);
    let mut source = match source::read("capture".to_owned(), from, &Services::default()) {
        Ok(source) => source,
        Err(error) => return Told { warning: Some(error.to_string()), ..told },
    };
    loop {
        match source.next() {
            Ok(Some(record)) => told.records.push(record),
            Ok(None) => break,
            Err(error) => told.warning = Some(error.to_string()),
        }
    }
    let mut connections = Connections::new(&Protocols::default(), 100);
    for record in told.records.clone() {
        let at = record.at();
        match record {
            Record::Conn(conn) => {
                told.conns.push(Conn::clone(&conn));
                connections.handle_conn(*conn);
            }
            Record::Data(data) => connections.handle_data(data),
            Record::Close(close) => connections.handle_close(close),
            _ => connections.handle_timeout(at),
        }
    }
    connections.finish(told.records.last().map_or(BootTime::ZERO, Record::at));
    while let Some((info, event)) = connections.poll_event() {
        let Event::Closed(operation) = event else { continue };
        let Detail::Http(http) = &operation.detail else { panic!("{operation:?}") };
        assert_eq!(info.role, Some(operation.role));
        let (method, target, status) = (&http.method, &http.target, http.status.unwrap_or_default());
        let completeness = operation.completeness;
        told.exchanges.push(format!("{:?} {method} {target} {status} {completeness:?}", operation.role));
    }
    told.exchanges.sort();
    told.stats = *connections.stats();
    told
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// The header of a pcap file and its packets, each with its head.
fn packets(file: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (header, mut rest) = file.split_at(24);
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let len = 16 + u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let (packet, more) = rest.split_at(len);
        packets.push(packet.to_vec());
        rest = more;
    }
    (header.to_vec(), packets)
}

fn file_of(header: &[u8], packets: &[Vec<u8>]) -> Vec<u8> {
    [header, &packets.concat()].concat()
}

#[test]
fn every_format_and_link_type_tells_the_same_exchanges_of_both_ends() {
    for name in WHOLE {
        let told = replay(bytes_of(name));
        assert_eq!(told.warning, None, "{name}");
        assert_eq!(told.exchanges, EXCHANGES, "{name}");
        assert_eq!(
            (told.stats.gap_bytes, told.stats.closed, told.stats.detected.total()),
            (0, 4, 4),
            "{name}"
        );
    }
}

#[test]
fn both_ends_of_a_connection_have_the_same_wire_identity() {
    for name in WHOLE {
        let told = replay(bytes_of(name));
        assert_eq!(told.conns.len(), 4);
        for pair in told.conns.chunks(2) {
            let [client, server] = pair else { panic!() };
            assert_eq!((client.role, server.role), (Some(Role::Client), Some(Role::Server)));
            assert_eq!((&client.local, &client.remote), (&server.remote, &server.local));
            let (client, server) = (client.wire.unwrap(), server.wire.unwrap());
            assert_eq!((client.egress, client.ingress), (server.ingress, server.egress));
        }
    }
}

#[test]
fn a_file_is_opened_by_what_it_is_and_not_by_its_name() {
    let mut source = source::open(&fixture("http.pcapng"), &Services::default()).unwrap();
    assert!(matches!(source.next(), Ok(Some(Record::Clock(_)))));
    let error = source::open(&fixture("README.md"), &Services::default()).err().unwrap().to_string();
    assert!(
        error.ends_with("is neither a recording nor a pcap or pcapng capture: it starts with `# Captur`")
    );
}

#[test]
fn a_cut_file_tells_what_is_before_the_cut() {
    for name in WHOLE {
        let file = bytes_of(name);
        let whole = replay(file.clone());
        let mut most = 0;
        for cut in (0..file.len()).step_by(101) {
            let told = replay(file[..cut].to_vec());
            let complete = told.exchanges.iter().filter(|line| line.ends_with("Complete"));
            assert!(complete.clone().all(|line| EXCHANGES.contains(&line.as_str())), "{name} {cut}");
            assert!(told.records.iter().all(|record| whole.records.contains(record)), "{name} {cut}");
            most = most.max(complete.count());
        }
        assert!(most >= 6, "{name}: cuts near the end leave most exchanges, not {most}");
    }
}

#[test]
fn swapped_and_doubled_packets_change_nothing() {
    for name in ["http-any.pcap", "http-ipv6.pcap"] {
        let (header, packets) = packets(&bytes_of(name));
        let doubled: Vec<_> = packets.iter().flat_map(|packet| [packet.clone(), packet.clone()]).collect();
        let told = replay(file_of(&header, &doubled));
        assert_eq!((told.exchanges, told.stats.gap_bytes), (EXCHANGES.map(str::to_owned).to_vec(), 0));
        for shift in 0..2 {
            let mut swapped = packets.clone();
            swapped[shift..].chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
            let told = replay(file_of(&header, &swapped));
            assert_eq!((told.exchanges, told.stats.gap_bytes), (EXCHANGES.map(str::to_owned).to_vec(), 0));
        }
    }
}

#[test]
fn a_lost_packet_costs_its_exchange_and_no_other() {
    let (header, packets) = packets(&bytes_of("http-any.pcap"));
    let whole = replay(file_of(&header, &packets));
    for lost in 0..packets.len() {
        let mut rest = packets.clone();
        rest.remove(lost);
        let told = replay(file_of(&header, &rest));
        let complete: Vec<_> = told.exchanges.iter().filter(|line| line.ends_with("Complete")).collect();
        assert!(complete.len() >= 6, "without packet {lost}: {:?}", told.exchanges);
        let is_known = |line: &&String| EXCHANGES.contains(&line.as_str());
        assert!(complete.iter().all(is_known), "paired wrongly without packet {lost}: {complete:?}");
        let moved = |stats: &Stats| stats.bytes + stats.gap_bytes;
        assert!(moved(&told.stats) <= moved(&whole.stats), "without packet {lost}");
    }
}

#[test]
fn joined_in_mid_stream_the_roles_come_from_the_traffic() {
    let (header, packets) = packets(&bytes_of("http-any.pcap"));
    // Linux cooked v1 (16 bytes), IPv4 (20): the control bits are at 13 of the TCP header; 0x02 is SYN.
    let is_syn = |packet: &Vec<u8>| packet[16 + 16 + 20 + 13] & 0x02 != 0;
    let rest: Vec<_> = packets.iter().filter(|packet| !is_syn(packet)).cloned().collect();
    assert_eq!(packets.len() - rest.len(), 4);
    let told = replay(file_of(&header, &rest));
    assert_eq!(told.exchanges, EXCHANGES);
    // Both ends are in the file, so that their positions agree all the same.
    assert!(told.conns.iter().all(|conn| conn.wire.is_some() && conn.role.is_none() && !conn.from_start));
}

#[test]
fn a_snapshot_length_leaves_the_streams_their_length() {
    let (whole, cut) = (replay(bytes_of("http.pcapng")), replay(bytes_of("http-snaplen.pcapng")));
    assert_eq!(cut.warning, None);
    let moved = |stats: &Stats| stats.bytes + stats.gap_bytes;
    // The port and with it the Host header have the same length in both.
    assert_eq!(moved(&cut.stats), moved(&whole.stats));
    assert!(cut.stats.gap_bytes > 5000);
    assert!(!cut.exchanges.iter().any(|line| line.ends_with("Complete")), "{:?}", cut.exchanges);
}

#[test]
fn damaged_files_end_and_never_panic() {
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for name in WHOLE {
        let file = bytes_of(name);
        for _ in 0..300 {
            let mut damaged = file.clone();
            for _ in 0..=next(8) {
                let at = next(damaged.len());
                damaged[at] = next(256) as u8;
            }
            replay(damaged);
        }
    }
}

#[test]
fn a_recording_of_the_records_tells_the_same() {
    let told = replay(bytes_of("http.pcapng"));
    let mut writer = recording::Writer::new(Vec::new(), &recording::Header::default()).unwrap();
    for record in &told.records {
        writer.write(record).unwrap();
    }
    let again = replay(writer.into_inner().unwrap());
    assert_eq!(again.records, told.records);
    assert_eq!(again.exchanges, EXCHANGES);
}
