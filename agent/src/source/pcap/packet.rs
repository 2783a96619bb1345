//! A captured frame → the TCP segment in it.
//!
//! *Owns* link, IP and TCP headers. What carries one packet inside another is in `tunnel`. *Must not know* connections.
//! *Spec*: linktypes (tcpdump.org), IEEE 802.1Q, RFC 791 (IPv4), RFC 8200 (IPv6), RFC 4302 (AH), RFC 9293 (TCP).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::tunnel::{self, Inner};

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: Flags,
    /// What was captured of its payload.
    pub(super) payload: &'a [u8],
    /// The payload's length on the wire.
    pub(super) len: u32,
}

/// The control bits that matter to reassembly (RFC 9293, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(pub(super) u8);

impl Flags {
    pub(super) fn fin(self) -> bool {
        self.0 & 0x01 != 0
    }

    pub(super) fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }

    pub(super) fn rst(self) -> bool {
        self.0 & 0x04 != 0
    }

    pub(super) fn ack(self) -> bool {
        self.0 & 0x10 != 0
    }
}

/// Why there is no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    UnknownLink,
    NotIp,
    NotTcp,
    /// Part of a fragmented datagram. TCP avoids fragmentation (path MTU discovery), so they are not put together.
    Fragment,
    /// The snapshot length cut a header.
    Cut,
    Malformed,
}

pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_TCP: u8 = 6;
/// Nested VLAN tags and IPv6 extension headers followed.
const MAX_NESTED: usize = 16;
/// Packets inside packets followed: a tunnel of the cloud around one of the cluster, and one more.
const MAX_TUNNELS: usize = 3;

/// Finds the segment in a frame of which `data` was captured and that had `len` bytes on the link.
pub(super) fn parse(link: u16, data: &[u8], len: u32) -> Result<Segment<'_>, Skipped> {
    let packet = match link {
        // LINKTYPE_ETHERNET; LINKTYPE_LINUX_SLL; LINKTYPE_LINUX_SLL2
        1 => tagged(data, 12, 14)?,
        113 => tagged(data, 14, 16)?,
        276 => tagged(data, 0, 20)?,
        // LINKTYPE_NULL and LINKTYPE_LOOP: the address family, in an order that depends on the machine.
        0 | 108 => data.get(4..).ok_or(Skipped::Cut)?,
        // LINKTYPE_RAW and its old values; LINKTYPE_IPV4; LINKTYPE_IPV6
        101 | 12 | 14 | 228 | 229 => data,
        _ => return Err(Skipped::UnknownLink),
    };
    let header = data.len().saturating_sub(packet.len());
    let len = (len as usize).max(data.len()).saturating_sub(header);
    ip(packet, len, MAX_TUNNELS)
}

/// An IP packet of `len` bytes on the wire, in which so many others may be nested.
fn ip(packet: &[u8], len: usize, tunnels: usize) -> Result<Segment<'_>, Skipped> {
    match packet.first().ok_or(Skipped::Cut)? >> 4 {
        4 => ipv4(packet, len, tunnels),
        6 => ipv6(packet, len, tunnels),
        _ => Err(Skipped::NotIp),
    }
}

/// What an IP packet of `total` bytes carries at `at`, where that is another packet.
fn inside(
    protocol: u8,
    packet: &[u8],
    at: usize,
    total: usize,
    tunnels: usize,
) -> Result<Segment<'_>, Skipped> {
    let payload = packet.get(at..).ok_or(Skipped::Cut)?;
    let inner = tunnel::inner(protocol, payload)?;
    let tunnels = tunnels.checked_sub(1).ok_or(Skipped::NotTcp)?;
    let inner = match inner {
        Inner::Ip(inner) => inner,
        Inner::Ethernet(frame) => tagged(frame, 12, 14)?,
    };
    let len = total.saturating_sub(packet.len().saturating_sub(inner.len()));
    ip(inner, len, tunnels)
}

/// What follows a link header of `header` bytes with the EtherType at `at`, behind any VLAN tags.
fn tagged(data: &[u8], at: usize, header: usize) -> Result<&[u8], Skipped> {
    let mut ethertype = be16(data, at)?;
    let mut start = header;
    for _ in 0..MAX_NESTED {
        match ethertype {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => return data.get(start..).ok_or(Skipped::Cut),
            // 802.1Q, 802.1ad, and the value in use before it: u16 tag, u16 EtherType.
            0x8100 | 0x88a8 | 0x9100 => {
                ethertype = be16(data, start + 2)?;
                start += 4;
            }
            _ => return Err(Skipped::NotIp),
        }
    }
    Err(Skipped::Malformed)
}

/// `len` is the packet's length on the wire as the link knows it: it may include padding.
fn ipv4(packet: &[u8], len: usize, tunnels: usize) -> Result<Segment<'_>, Skipped> {
    let header = usize::from(packet.first().ok_or(Skipped::Cut)? & 0x0f) * 4;
    if header < 20 {
        return Err(Skipped::Malformed);
    }
    // A total length of zero: segmentation was left to the card after the capture.
    let total = match usize::from(be16(packet, 2)?) {
        0 => len,
        total if total < header => return Err(Skipped::Malformed),
        total => total,
    };
    // More fragments, or an offset.
    if be16(packet, 6)? & 0x3fff != 0 {
        return Err(Skipped::Fragment);
    }
    let protocol = *packet.get(9).ok_or(Skipped::Cut)?;
    if protocol != PROTOCOL_TCP {
        return inside(protocol, packet, header, total, tunnels);
    }
    let from = IpAddr::from(Ipv4Addr::from(array::<4>(packet, 12)?));
    let to = IpAddr::from(Ipv4Addr::from(array::<4>(packet, 16)?));
    tcp(from, to, packet, header, total)
}

fn ipv6(packet: &[u8], len: usize, tunnels: usize) -> Result<Segment<'_>, Skipped> {
    let total = match usize::from(be16(packet, 4)?) {
        0 => len,
        payload => payload + 40,
    };
    let from = Ipv6Addr::from(array::<16>(packet, 8)?).to_canonical();
    let to = Ipv6Addr::from(array::<16>(packet, 24)?).to_canonical();
    let mut next = *packet.get(6).ok_or(Skipped::Cut)?;
    let mut at = 40;
    for _ in 0..MAX_NESTED {
        let len = |at: usize| packet.get(at + 1).map(|len| usize::from(*len)).ok_or(Skipped::Cut);
        let step = match next {
            PROTOCOL_TCP => return tcp(from, to, packet, at, total),
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6: units of 8 bytes beyond the first.
            0 | 43 | 60 | 135 | 139 | 140 => (len(at)? + 1) * 8,
            // Authentication header: units of 4 bytes, minus 2.
            51 => (len(at)? + 2) * 4,
            // Fragment header; one that is whole (offset 0, no more fragments) is no fragment (RFC 6946).
            44 if be16(packet, at + 2)? & 0xfff9 != 0 => return Err(Skipped::Fragment),
            44 => 8,
            _ => return inside(next, packet, at, total, tunnels),
        };
        next = *packet.get(at).ok_or(Skipped::Cut)?;
        at += step;
    }
    Err(Skipped::Malformed)
}

/// The segment at `at` of an IP packet of `total` bytes on the wire.
fn tcp(from: IpAddr, to: IpAddr, packet: &[u8], at: usize, total: usize) -> Result<Segment<'_>, Skipped> {
    let header = packet.get(at..).ok_or(Skipped::Cut)?;
    let (source, destination) = (be16(header, 0)?, be16(header, 2)?);
    let (seq, ack) = (be32(header, 4)?, be32(header, 8)?);
    let offset = usize::from(header.get(12).ok_or(Skipped::Cut)? >> 4) * 4;
    let flags = Flags(*header.get(13).ok_or(Skipped::Cut)?);
    let start = at + offset;
    if offset < 20 || start > total {
        return Err(Skipped::Malformed);
    }
    // What lies beyond the packet's own length is padding of the link. Options may be cut; the payload then is too.
    let payload = packet.get(start..total.min(packet.len())).unwrap_or_default();
    let len = u32::try_from(total - start).map_err(|_| Skipped::Malformed)?;
    let (from, to) = (SocketAddr::new(from, source), SocketAddr::new(to, destination));
    Ok(Segment { from, to, seq, ack, flags, payload, len })
}

fn array<const N: usize>(from: &[u8], at: usize) -> Result<[u8; N], Skipped> {
    from.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Skipped::Cut)
}

pub(super) fn be16(from: &[u8], at: usize) -> Result<u16, Skipped> {
    array(from, at).map(u16::from_be_bytes)
}

fn be32(from: &[u8], at: usize) -> Result<u32, Skipped> {
    array(from, at).map(u32::from_be_bytes)
}
