//! The agent's state → what a service manager wants to hear.
//!
//! *Spec*: sd_notify(3): datagrams to the Unix socket that `NOTIFY_SOCKET` names. Without it, nothing is said.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The way to the service manager.
#[derive(Debug)]
pub(super) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that the agent is alive, and when it last did.
    watchdog: Option<(Duration, Instant)>,
}

impl Notify {
    /// As the environment says.
    pub(super) fn new() -> Self {
        let socket = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
        let limit = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        Self::to(&socket, limit.map(Duration::from_micros))
    }

    fn to(socket: &str, limit: Option<Duration>) -> Self {
        let address = match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None if socket.starts_with('/') => SocketAddr::from_pathname(socket).ok(),
            None => None,
        };
        let to = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        // Half of the time it waits, as sd_watchdog_enabled(3) recommends.
        let watchdog = limit.filter(|_| to.is_some()).map(|limit| (limit / 2, Instant::now()));
        Self { to, watchdog }
    }

    /// Probes are attached.
    pub(super) fn ready(&self) {
        self.say("READY=1\nSTATUS=Tracing");
    }

    /// The end began.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=Delivering what was captured");
    }

    /// The loop turned.
    pub(super) fn turn(&mut self) {
        let due = self.watchdog.is_some_and(|(every, last)| last.elapsed() >= every);
        if due {
            self.say("WATCHDOG=1");
            if let Some((_, last)) = &mut self.watchdog {
                *last = Instant::now();
            }
        }
    }

    fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.to {
            // A manager that does not listen is no reason to stop.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manager_hears_of_start_life_and_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut notify = Notify::to(path.to_str().unwrap(), Some(Duration::ZERO));
        notify.ready();
        notify.turn();
        notify.stopping();
        let heard = || {
            let mut buffer = [0; 200];
            let len = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..len]).lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!([heard(), heard(), heard()], ["READY=1", "WATCHDOG=1", "STOPPING=1"]);
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        for socket in ["", "relative", "@"] {
            let mut notify = Notify::to(socket, Some(Duration::ZERO));
            notify.ready();
            notify.turn();
        }
    }
}
