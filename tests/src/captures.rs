//! The captures in `fixtures/http2` in, what each side of each connection sent out, segment by segment.

use std::collections::HashMap;
use std::path::PathBuf;

use spoor::protocol::Sender;

use crate::recorded::fixtures;

/// The server's port in all captures.
pub const PORT: u16 = 28_080;

/// Captures by file name, without extension.
pub const NAMES: [&str; 8] = [
    "curl_nginx",
    "go_peers",
    "grpcio_calls",
    "nghttp_nghttpd",
    "nghttp_nginx",
    "node_peers",
    "python_peers",
    "upgrades_go",
];

/// Bytes one side sent.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The client's port: which connection.
    pub connection: u16,
    pub from: Sender,
    pub bytes: Vec<u8>,
}

/// Where a capture is.
pub fn path(name: &str) -> PathBuf {
    fixtures().join("http2").join(format!("{name}.pcap"))
}

/// The TCP payload of a capture of the loopback device, which reorders nothing but may send something twice. Each
/// connection's beginning is in its capture.
pub fn segments(name: &str) -> Vec<Segment> {
    let file = std::fs::read(path(name)).expect("the capture can be read");
    let u16_at = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let u32_at = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let little = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert!(matches!(little(0), 0xa1b2_c3d4 | 0xa1b2_3c4d) && little(20) == 1, "pcap, Ethernet");
    let mut next: HashMap<(u16, Sender), u32> = HashMap::new();
    let mut segments = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let len = little(at + 8) as usize;
        let packet = &file[at + 16..at + 16 + len];
        at += 16 + len;
        let ip = &packet[14..];
        let tcp = &ip[usize::from(ip[0] & 15) * 4..usize::from(u16_at(ip, 2))];
        let (source, target, sequence) = (u16_at(tcp, 0), u16_at(tcp, 2), u32_at(tcp, 4));
        let (from, connection) =
            if source == PORT { (Sender::Server, target) } else { (Sender::Client, source) };
        if tcp[13] & 2 != 0 {
            next.insert((connection, from), sequence.wrapping_add(1));
            continue;
        }
        let bytes = tcp[usize::from(tcp[12] >> 4) * 4..].to_vec();
        let next = next.get_mut(&(connection, from)).expect("the connection's start is there");
        if !bytes.is_empty() && sequence == *next {
            *next = next.wrapping_add(bytes.len() as u32);
            segments.push(Segment { connection, from, bytes });
        }
    }
    segments
}
