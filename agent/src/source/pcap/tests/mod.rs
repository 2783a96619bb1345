//! Captures built byte by byte, so that every field is the test's own.

mod container;
mod packet;
mod tcp;

use super::*;
use spoor_core::record::{Direction, Record};

pub(super) const CLIENT: [u8; 4] = [10, 0, 0, 2];
pub(super) const SERVER: [u8; 4] = [10, 0, 0, 1];

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// A TCP header of 20 bytes and its payload.
pub(super) fn tcp_segment(ports: (u16, u16), seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&ports.0.to_be_bytes());
    out.extend_from_slice(&ports.1.to_be_bytes());
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&ack.to_be_bytes());
    out.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend_from_slice(payload);
    out
}

/// An IPv4 packet of 20 bytes and its payload. `fragment` is the field with flags and offset.
pub(super) fn ipv4_packet(
    from: [u8; 4],
    to: [u8; 4],
    fragment: u16,
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut out = vec![0x45, 0];
    out.extend_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&fragment.to_be_bytes());
    out.extend_from_slice(&[64, protocol, 0, 0]);
    out.extend_from_slice(&from);
    out.extend_from_slice(&to);
    out.extend_from_slice(payload);
    out
}

/// A pcap file, little-endian, microseconds, raw IP, of (time in ms, packet, length on the wire).
pub(super) fn pcap_file(packets: &[(u64, Vec<u8>, usize)]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0];
    for (ms, packet, len) in packets {
        for field in [ms / 1000, ms % 1000 * 1000, packet.len() as u64, *len as u64] {
            file.extend_from_slice(&(field as u32).to_le_bytes());
        }
        file.extend_from_slice(packet);
    }
    file
}

/// Everything a file yields, its complaint, and its counts.
pub(super) fn read_all(file: &[u8]) -> (Vec<Record>, Option<String>, Vec<(&'static str, u64)>) {
    let mut reader = match Reader::new("x.pcap".to_owned(), file, &Services::default()) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error.to_string()), Vec::new()),
    };
    let (mut records, mut complaint) = (Vec::new(), None);
    loop {
        match reader.next() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => break,
            Err(error) => assert!(complaint.replace(error.to_string()).is_none(), "one complaint is enough"),
        }
    }
    (records, complaint, reader.counts())
}

/// A record in a line: connections, bytes and closes with the identifier of their socket.
pub(super) fn told(record: &Record) -> Option<String> {
    use spoor_core::record::Endpoint::Inet;
    Some(match record {
        Record::Conn(c) => {
            let (Inet(local), Inet(remote)) = (&c.local, &c.remote) else { panic!("{c:?}") };
            let role = c.role.map_or("?".to_owned(), |role| format!("{role:?}"));
            let wire = c.wire.map_or(String::new(), |w| format!(" {}/{}", w.egress, w.ingress));
            format!("{} {role} {local} {remote}{wire}", c.id.0)
        }
        Record::Data(d) => {
            assert!(d.bytes.len() <= d.len as usize);
            assert_eq!(d.flags.unreadable, d.bytes.is_empty());
            let verb = if d.direction == Direction::Egress { "wrote" } else { "read" };
            let text = String::from_utf8_lossy(&d.bytes);
            let what = if d.bytes.is_empty() { format!("-{}", d.len) } else { text.into_owned() };
            format!(
                "{} {verb} {}:{what} after {} at {}",
                d.conn.0,
                d.pos,
                d.other_pos,
                d.at.as_nanos() / 1_000_000
            )
        }
        Record::Close(c) => {
            format!(
                "{} {} at {}",
                c.conn.0,
                if c.reset { "reset" } else { "closed" },
                c.at.as_nanos() / 1_000_000
            )
        }
        Record::Lost(l) => format!("lost {}", l.records),
        _ => return None,
    })
}
