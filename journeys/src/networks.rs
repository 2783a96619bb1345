//! Addresses of machines → whether they are on the public Internet.
//!
//! *Spec*: RFC 6890 and IANA's registries of special-purpose addresses.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;

/// Networks that are not the public Internet (IANA's special-purpose registries), and what embeds IPv4 addresses in IPv6.
const PRIVATE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "::/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "fc00::/7",
    "fe80::/9",
    "ff00::/8",
];

static NETS: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| PRIVATE.iter().filter_map(|net| net.parse().ok()).collect());

/// It is of this machine, of a private network, or of no single machine.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    NETS.iter().any(|net| net.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_house_are_private() {
        for (ip, expected) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:10.1.2.3", true),
            ("10.1.2.3", true),
            ("169.254.169.254", true),
            ("192.168.1.1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("8.8.8.8", false),
            ("2a00:1450::1", false),
            ("172.15.0.1", false),
            ("172.31.0.1", true),
            ("192.0.2.1", true),
            ("198.51.100.1", true),
            ("203.0.113.1", true),
            ("::10.0.0.1", true),
            ("64:ff9b::10.0.0.1", true),
            ("2002:a00:1::", true),
            ("100::1", true),
            ("2001:db8::1", true),
        ] {
            assert_eq!(is_private(ip.parse().expect("an address")), expected, "{ip}");
        }
        assert_eq!(NETS.len(), PRIVATE.len(), "each is a network");
    }
}
