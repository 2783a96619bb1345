//! Addresses of `joining.covered` and of a peer → whether another agent sees the peer.
//!
//! *Owns* blocks of addresses. *Must not know* connections.
//! *Spec*: RFC 4632, section 3.1 (notation), RFC 4291, section 2.3.

use std::net::IpAddr;

/// Addresses with a common beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    All,
    /// The first `len` bits of `base`.
    Of {
        base: IpAddr,
        len: u32,
    },
}

impl Block {
    /// `10.0.0.0/8`, `fd00::/8`, a single address, or `all`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(Block::All);
        }
        let (base, len) = match text.split_once('/') {
            Some((base, len)) => (base, Some(len.parse().ok()?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().ok()?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let len = len.unwrap_or(most);
        (len <= most).then_some(Block::Of { base, len })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let Block::Of { base, len } = *self else { return true };
        // A shift by the whole width is none: no bit has to agree.
        match (base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                (base.to_bits() ^ address.to_bits()).checked_shr(32 - len.min(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                (base.to_bits() ^ address.to_bits()).checked_shr(128 - len.min(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The addresses of a configuration. What is no block was refused when it was loaded.
pub fn blocks(covered: &[String]) -> Vec<Block> {
    covered.iter().filter_map(|text| Block::parse(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_the_addresses_that_begin_alike() {
        for (block, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("192.0.2.7/32", "192.0.2.7", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fd12:3456::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::/0", "2001:db8::1", true),
            ("10.1.2.128/25", "10.1.2.127", false),
            ("10.1.2.128/25", "10.1.2.200", true),
            ("all", "2001:db8::1", true),
        ] {
            let parsed = Block::parse(block).unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{address} in {block}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in ["", "10.0.0/8", "10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0.0/-1", "shop", "ALL"] {
            assert_eq!(Block::parse(text), None, "{text}");
        }
    }
}
