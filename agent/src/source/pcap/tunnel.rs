//! What an IP packet carries besides TCP → the packet inside it.
//!
//! Mirrored ports and overlay networks (flannel, Calico, Cilium, Antrea, AWS and GCP packet mirroring) give captures whose packets are
//! in other packets. Addresses are taken as the inner packet has them: networks that use the same ones twice look like one.
//!
//! *Owns* the headers between the two. *Must not know* what is in the inner packet.
//! *Spec*: RFC 7348 (VXLAN), RFC 8926 (Geneve), RFC 2784 and 2890 (GRE), RFC 7637 (NVGRE), RFC 2003 (IP in IP), RFC 4213 (IPv6 in IPv4),
//! draft-foschiano-erspan.

use super::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Skipped, be16};

/// A packet in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inner<'a> {
    Ip(&'a [u8]),
    Ethernet(&'a [u8]),
}

/// Transparent Ethernet bridging, ERSPAN type I or II, ERSPAN type III.
const ETHERNET: u16 = 0x6558;
const ERSPAN: u16 = 0x88be;
const ERSPAN_3: u16 = 0x22eb;

/// Finds the packet in the payload of an IP packet of that protocol.
pub(super) fn inner(protocol: u8, payload: &[u8]) -> Result<Inner<'_>, Skipped> {
    match protocol {
        // IPv4 and IPv6 encapsulation.
        4 | 41 => Ok(Inner::Ip(payload)),
        17 => udp(payload),
        47 => gre(payload),
        _ => Err(Skipped::NotTcp),
    }
}

fn udp(datagram: &[u8]) -> Result<Inner<'_>, Skipped> {
    let port = be16(datagram, 2)?;
    let payload = datagram.get(8..).ok_or(Skipped::Cut)?;
    match port {
        // VXLAN's port, and the one that Linux had before it was assigned: flags, reserved, network identifier, reserved.
        4789 | 8472 => match payload.first().ok_or(Skipped::Cut)? & 0x08 {
            0 => Err(Skipped::NotTcp),
            _ => Ok(Inner::Ethernet(payload.get(8..).ok_or(Skipped::Cut)?)),
        },
        // Geneve: version and length of the options in units of four bytes, flags, type, network identifier.
        6081 => {
            let first = *payload.first().ok_or(Skipped::Cut)?;
            let kind = be16(payload, 2)?;
            let header = 8 + usize::from(first & 0x3f) * 4;
            let inner = payload.get(header..).ok_or(Skipped::Cut)?;
            match first >> 6 {
                0 => typed(kind, inner),
                _ => Err(Skipped::NotTcp),
            }
        }
        _ => Err(Skipped::NotTcp),
    }
}

/// Flags, version, type; then what the flags announce: a checksum, a key, a sequence number, four bytes each.
fn gre(packet: &[u8]) -> Result<Inner<'_>, Skipped> {
    let flags = be16(packet, 0)?;
    let kind = be16(packet, 2)?;
    // Version 0; routing (RFC 1701) has been deprecated.
    if flags & 0x4007 != 0 {
        return Err(Skipped::NotTcp);
    }
    let has = |flag: u16| usize::from(flags & flag != 0) * 4;
    let header = 4 + has(0x8000) + has(0x2000) + has(0x1000);
    let inner = packet.get(header..).ok_or(Skipped::Cut)?;
    match kind {
        // Without a sequence number it is type I, which has no header of its own.
        ERSPAN if flags & 0x1000 == 0 => Ok(Inner::Ethernet(inner)),
        ERSPAN => Ok(Inner::Ethernet(inner.get(8..).ok_or(Skipped::Cut)?)),
        // The last bit of its twelve bytes announces eight more.
        ERSPAN_3 => {
            let more = usize::from(be16(inner, 10)? & 1) * 8;
            Ok(Inner::Ethernet(inner.get(12 + more..).ok_or(Skipped::Cut)?))
        }
        _ => typed(kind, inner),
    }
}

fn typed(kind: u16, inner: &[u8]) -> Result<Inner<'_>, Skipped> {
    match kind {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Ok(Inner::Ip(inner)),
        ETHERNET => Ok(Inner::Ethernet(inner)),
        _ => Err(Skipped::NotTcp),
    }
}
