//! The other end of a connection and what proxies say of it → the address that asks, and whether it may.
//!
//! *Spec*: RFC 7239 section 5.2 and its forerunner `X-Forwarded-For`: a list that anybody may begin, so it is read from its
//! end, and only as far as trusted proxies wrote it.
//!
//! `peer 10.0.0.1 (trusted) · X-Forwarded-For: 6.6.6.6, 10.20.3.7 ⇒ 10.20.3.7 asks`

use std::net::IpAddr;

use ipnet::IpNet;

/// Proxies that are followed at most.
const MAX_PROXIES: usize = 8;

/// From where people may come, and which proxies are believed.
#[derive(Clone, Debug)]
pub struct Addresses {
    allowed: Vec<IpNet>,
    trusted_proxies: Vec<IpNet>,
}

impl Addresses {
    /// Nothing allowed means this machine only.
    pub fn new(allowed: Vec<IpNet>, trusted_proxies: Vec<IpNet>) -> Self {
        let own = || ["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse().ok()).collect();
        Self { allowed: if allowed.is_empty() { own() } else { allowed }, trusted_proxies }
    }

    /// Who asks: the peer, or whoever the trusted proxies before it name. `forwarded` are the values of
    /// `X-Forwarded-For` in the order of the headers.
    pub fn asking<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut asking = peer.to_canonical();
        let hops = forwarded.rev().flat_map(|value| value.rsplit(','));
        for hop in hops.take(MAX_PROXIES) {
            if !is_in(&self.trusted_proxies, asking) {
                break;
            }
            // What a trusted proxy wrote and we do not understand names nobody else.
            let Ok(before) = hop.trim().parse::<IpAddr>() else { break };
            asking = before.to_canonical();
        }
        asking
    }

    /// It is a proxy that is believed.
    pub fn is_trusted_proxy(&self, peer: IpAddr) -> bool {
        is_in(&self.trusted_proxies, peer.to_canonical())
    }

    pub fn is_allowed(&self, address: IpAddr) -> bool {
        is_in(&self.allowed, address.to_canonical())
    }
}

fn is_in(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(of: &[&str]) -> Vec<IpNet> {
        of.iter().map(|net| net.parse().expect("a net")).collect()
    }

    #[test]
    fn only_trusted_proxies_say_who_asks() {
        let addresses = Addresses::new(nets(&["10.20.0.0/16"]), nets(&["10.0.0.1/32", "10.0.0.2/32"]));
        for (peer, forwarded, expected) in [
            ("10.0.0.1", vec!["10.20.3.7"], "10.20.3.7"),
            ("10.0.0.1", vec!["6.6.6.6, 10.20.3.7"], "10.20.3.7"),
            ("10.0.0.1", vec!["6.6.6.6", "10.20.3.7, 10.0.0.2"], "10.20.3.7"),
            ("10.20.9.9", vec!["10.20.3.7"], "10.20.9.9"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["nonsense"], "10.0.0.1"),
            ("::ffff:10.0.0.1", vec!["::ffff:10.20.3.7"], "10.20.3.7"),
        ] {
            let asking = addresses.asking(peer.parse().expect("an address"), forwarded.iter().copied());
            assert_eq!(asking.to_string(), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn without_a_list_only_this_machine_may_ask() {
        let addresses = Addresses::new(Vec::new(), Vec::new());
        for (address, allowed) in
            [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)]
        {
            assert_eq!(addresses.is_allowed(address.parse().expect("an address")), allowed, "{address}");
        }
    }
}
