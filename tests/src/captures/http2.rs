//! The captures in `fixtures/http2` → what each side of each connection sent, segment by segment.

use std::path::PathBuf;

use spoor_core::record::Sender;

use super::connections;
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

/// The TCP payload of a capture, one connection after the other.
pub fn segments(name: &str) -> Vec<Segment> {
    let segments = connections(&path(name), &[PORT]).into_iter().flat_map(|connection| {
        let client = connection.client;
        connection.packets.into_iter().map(move |packet| Segment {
            connection: client,
            from: packet.from,
            bytes: packet.data,
        })
    });
    segments.collect()
}
