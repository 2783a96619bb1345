//! The TCP ports a process listens on.

use std::collections::HashSet;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};

/// Ports on which any socket of the process listens, in its own network namespace, in ascending order.
pub fn listening(process: &Process) -> Vec<u16> {
    let Ok(descriptors) = process.fd() else { return Vec::new() };
    let sockets: HashSet<u64> = descriptors
        .flatten()
        .filter_map(|descriptor| match descriptor.target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect();
    let tables = [process.tcp(), process.tcp6()];
    let entries = tables.into_iter().flatten().flatten();
    let mut ports: Vec<u16> = entries
        .filter(|entry| entry.state == TcpState::Listen && sockets.contains(&entry.inode))
        .map(|entry| entry.local_address.port())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_listeners_are_found() {
        let v4 = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let v6 = std::net::TcpListener::bind("[::1]:0").ok();
        let ports = listening(&Process::myself().unwrap());
        assert!(ports.contains(&v4.local_addr().unwrap().port()), "{ports:?}");
        if let Some(v6) = v6 {
            assert!(ports.contains(&v6.local_addr().unwrap().port()), "{ports:?}");
        }
    }
}
