//! Addresses of machines → whether a channel may lead there.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks that nobody outside has, and that have no machines (RFC 6890).
const PRIVATE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/127",
    "64:ff9b:1::/48",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
];

/// It is of this machine, of a private network, or of no single machine.
pub(super) fn is_private(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    PRIVATE.iter().filter_map(|net| net.parse::<IpNet>().ok()).any(|net| net.contains(&ip))
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
        ] {
            assert_eq!(is_private(ip.parse().expect("an address")), expected, "{ip}");
        }
    }
}
