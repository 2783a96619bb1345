//! The first bytes of a connection → the PROXY protocol's header in front of it, and the client that it names.
//!
//! A proxy that forwards bytes (HAProxy, nginx `stream`, Envoy, the balancers of clouds) may write it before the first byte of
//! the client, whatever the client then speaks. It ends where the protocol proper begins.
//!
//! *Owns* both versions of the header. *Must not know* what follows it.
//! *Spec*: HAProxy, "The PROXY protocol, versions 1 & 2" (`proxy-protocol.txt`), sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// "So a 108-byte buffer is always enough to store all the line and a trailing zero" (section 2.1).
const MAX_V1: usize = 107;
/// "The protocol header block consists of this fixed 12-byte signature" (section 2.2).
const SIGNATURE: [u8; 12] = *b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a";
/// Signature, version and command, family and transport, length of the rest.
const FIXED_V2: usize = 16;
/// Bytes that addresses and ports of a family take.
const INET: usize = 12;
const INET6: usize = 36;
const UNIX: usize = 216;

/// A beginning is undecided for at most so many bytes.
#[cfg(test)]
const MAX_UNDECIDED: usize = MAX_V1;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// No header.
    None,
    /// They may begin one: more bytes are needed.
    Incomplete,
    /// A header of `len` bytes, which need not be all there yet: what goes on after the addresses tells nothing that is read.
    Header {
        len: usize,
        /// The client that the proxy serves; `None` when it speaks for itself or does not tell.
        client: Option<SocketAddr>,
    },
}

/// Reads the beginning of a connection.
pub fn read(bytes: &[u8]) -> Prefix {
    match bytes.first() {
        None => Prefix::Incomplete,
        Some(b'P') => text(bytes),
        Some(b'\r') => binary(bytes),
        Some(_) => Prefix::None,
    }
}

/// Version 1: one line, `PROXY TCP4 <source> <destination> <port> <port>` or `PROXY UNKNOWN …`.
fn text(bytes: &[u8]) -> Prefix {
    const START: &[u8] = b"PROXY ";
    let common = START.len().min(bytes.len());
    if bytes.get(..common) != START.get(..common) {
        return Prefix::None;
    }
    let window = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = memchr::memmem::find(window, b"\r\n") else {
        // "If no CRLF is found in the first 107 characters, the line is invalid."
        return if window.len() < MAX_V1 { Prefix::Incomplete } else { Prefix::None };
    };
    let line =
        window.get(START.len()..end).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    let header = |client| Prefix::Header { len: end + 2, client };
    if family == "UNKNOWN" {
        // "The receiver must ignore anything presented before the CRLF is found."
        return header(None);
    }
    let mut address = || {
        let address: IpAddr = words.next()?.parse().ok()?;
        let fits = address.is_ipv4() == (family == "TCP4");
        fits.then_some(address)
    };
    let (Some(source), Some(_)) = (address(), address()) else { return Prefix::None };
    let mut port = || words.next().and_then(|port| port.parse::<u16>().ok());
    let (Some(port), Some(_)) = (port(), port()) else { return Prefix::None };
    match (family, words.next()) {
        ("TCP4" | "TCP6", None) => header(Some(SocketAddr::new(source.to_canonical(), port))),
        _ => Prefix::None,
    }
}

/// Version 2: signature, four bytes, addresses by their family, then TLVs, which are stepped over.
fn binary(bytes: &[u8]) -> Prefix {
    let common = SIGNATURE.len().min(bytes.len());
    if bytes.get(..common) != SIGNATURE.get(..common) {
        return Prefix::None;
    }
    let Some([_, _, _, _, _, _, _, _, _, _, _, _, command, family, high, low]) = bytes.first_chunk() else {
        let may_be = bytes.get(12).is_none_or(|command| matches!(command, 0x20 | 0x21));
        return if may_be { Prefix::Incomplete } else { Prefix::None };
    };
    let rest = usize::from(u16::from_be_bytes([*high, *low]));
    // "Receivers must drop connections presenting unexpected values": what follows is read by nobody.
    let (is_proxied, needed) = match (command, family) {
        (0x20, _) => (false, 0),
        (0x21, 0x00) => (false, 0),
        (0x21, 0x11 | 0x12) => (true, INET),
        (0x21, 0x21 | 0x22) => (true, INET6),
        (0x21, 0x31 | 0x32) => (false, UNIX),
        _ => return Prefix::None,
    };
    if rest < needed {
        return Prefix::None;
    }
    let len = FIXED_V2 + rest;
    if !is_proxied {
        return Prefix::Header { len, client: None };
    }
    let Some(addresses) = bytes.get(FIXED_V2..FIXED_V2 + needed) else { return Prefix::Incomplete };
    // Source address, destination address, source port, destination port.
    let client = match needed {
        INET => addresses.first_chunk::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(*octets))),
        _ => addresses.first_chunk::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(*octets))),
    };
    let port =
        addresses.get(needed - 4..).and_then(<[u8]>::first_chunk::<2>).map(|port| u16::from_be_bytes(*port));
    let client = client.zip(port).map(|(address, port)| SocketAddr::new(address.to_canonical(), port));
    Prefix::Header { len, client }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    /// The header is read from every beginning that is long enough, and no beginning rules it out.
    fn check(bytes: &[u8], client: Option<&str>) {
        let client = client.map(|client| client.parse().expect("an address"));
        let expected = Prefix::Header { len: bytes.len(), client };
        assert_eq!(read(&[bytes, b"GET / HTTP/1.1\r\n"].concat()), expected, "{bytes:?}");
        for len in 0..=bytes.len() {
            let found = read(&bytes[..len]);
            assert!(
                found == expected || (found == Prefix::Incomplete && len <= MAX_UNDECIDED),
                "{len}: {found:?}"
            );
        }
        assert_eq!(read(bytes), expected, "whole: {bytes:?}");
    }

    #[test]
    fn lines_of_version_1() {
        check(b"PROXY TCP4 192.0.2.7 10.0.0.2 51000 80\r\n", Some("192.0.2.7:51000"));
        check(b"PROXY TCP6 2001:db8::7 2001:db8::1 51000 443\r\n", Some("[2001:db8::7]:51000"));
        check(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 51000 443\r\n", Some("192.0.2.7:51000"));
        check(b"PROXY UNKNOWN\r\n", None);
        // The longest one that there is.
        let most = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535";
        let longest = format!("{most}{}\r\n", "x".repeat(MAX_V1 - 2 - most.len()));
        check(longest.as_bytes(), None);
    }

    #[test]
    fn headers_of_version_2() {
        let inet = [192, 0, 2, 7, 10, 0, 0, 2, 0xc7, 0x38, 0, 80];
        check(&v2(0x21, 0x11, &inet), Some("192.0.2.7:51000"));
        check(&v2(0x21, 0x12, &inet), Some("192.0.2.7:51000"));
        let tlvs = [&inet[..], &[0x02, 0, 4], b"shop", &[0x04, 0xff, 0], &[0; 255]].concat();
        check(&v2(0x21, 0x11, &tlvs), Some("192.0.2.7:51000"));
        let mut inet6 = [0; INET6];
        inet6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        inet6[15] = 7;
        inet6[32..34].copy_from_slice(&51000u16.to_be_bytes());
        check(&v2(0x21, 0x21, &inet6), Some("[2001:db8::7]:51000"));
        check(&v2(0x21, 0x31, &[b'/'; UNIX]), None);
        check(&v2(0x20, 0x00, b""), None);
        // "The receiver must use the real connection endpoints and must discard the protocol block, the family included."
        check(&v2(0x20, 0x11, &inet), None);
        check(&v2(0x20, 0xff, &inet), None);
        check(&v2(0x21, 0x00, &[0; 40]), None);
        check(&v2(0x21, 0x11, &[&inet[..], &[0; 65_535 - INET]].concat()), Some("192.0.2.7:51000"));
    }

    #[test]
    fn what_is_no_header_is_left_alone() {
        let too_long = ["PROXY UNKNOWN ".to_owned(), "x".repeat(MAX_V1), "\r\n".to_owned()].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROPFIND / HTTP/1.1\r\n",
            b"PROXY / HTTP/1.1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.2 51000\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.2 51000 80 1\r\n",
            b"PROXY TCP4 2001:db8::7 10.0.0.2 51000 80\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.2 51000 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.2 51000 99999\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.2 51000 80\r\n",
            b"PROXY TCP4 192.0.2.\xff 10.0.0.2 51000 80\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\r\n\r\nGET / HTTP/1.1\r\n",
            b"AMQP\x00\x00\x09\x01",
            too_long.as_bytes(),
            &v2(0x21, 0x11, &[0; INET - 1]),
            &v2(0x21, 0x21, &[0; INET6 - 1]),
            &v2(0x22, 0x11, &[0; INET]),
            &v2(0x11, 0x11, &[0; INET]),
            &v2(0x21, 0x41, &[0; INET]),
            &v2(0x21, 0x13, &[0; INET]),
        ] {
            assert_eq!(read(bytes), Prefix::None, "{bytes:?}");
        }
    }
}
