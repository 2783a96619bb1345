//! Two network namespaces with address translation between them: programs → what they run in.
//!
//! ```text
//!   near: 127.0.0.1:port ──▶ (output: DNAT to 10.231.0.2, postrouting: SNAT) ══ veth ══ (prerouting: DNAT) ──▶ far: 127.0.0.1:port
//! ```
//!
//! Each side reaches ports of the other at its own 127.0.0.1, so servers and clients need no setting, and servers that only
//! trust their own machine serve. Both addresses are translated on the way out, and both again on the way in (SNAT in
//! `input`): neither end has an address or port of the other's, but the sequence numbers are the same.
//!
//! *Owns* namespaces, the link and its rules. *Must not know* what runs in them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::peers::run;

/// The name of both ends of the link.
const LINK: &str = "nat0";

/// What is missing to make namespaces here; `None` when nothing is.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    for program in ["ip", "nft"] {
        if run(Command::new(program).arg("-V")).is_err() {
            return Some(format!("{program} is missing: run `cargo xtask setup`"));
        }
    }
    // Containers and some kernels have the programs and not the privilege.
    Pair::new().err().map(|error| format!("two namespaces with translation cannot be made: {error:#}"))
}

/// Two linked namespaces. They are removed when it is dropped.
#[derive(Debug)]
pub struct Pair {
    near: Side,
    far: Side,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Side {
    name: String,
}

impl Pair {
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| Side { name: format!("spoor-{}-{number}-{side}", std::process::id()) };
        let pair = Self { near: name("near"), far: name("far") };
        pair.make()?;
        Ok(pair)
    }

    fn make(&self) -> Result<()> {
        let (near, far) = (&self.near.name, &self.far.name);
        ip(&["netns", "add", near])?;
        ip(&["netns", "add", far])?;
        ip(&["-n", near, "link", "add", LINK, "type", "veth", "peer", "name", LINK, "netns", far])?;
        self.near.set_up(1, 2)?;
        self.far.set_up(2, 1)
    }

    pub fn near(&self) -> &Side {
        &self.near
    }

    pub fn far(&self) -> &Side {
        &self.far
    }

    /// Whoever connects to this port of its own loopback on one side reaches the other side's.
    pub fn forward(&self, from: &Side, port: u16) -> Result<()> {
        let to = if from.name == self.near.name { &self.far } else { &self.near };
        forward(from, to, port)
    }
}

/// As [`Pair::forward`], for who did not make the pair.
pub fn forward(from: &Side, to: &Side, port: u16) -> Result<()> {
    let element = format!("{{ {port} }}");
    run(from.command("nft").args(["add", "element", "ip", "spoor", "there", &element]))?;
    run(to.command("nft").args(["add", "element", "ip", "spoor", "here", &element]))
}

impl Drop for Pair {
    fn drop(&mut self) {
        for side in [&self.near, &self.far] {
            // One that was not made cannot be removed.
            let _ = ip(&["netns", "delete", &side.name]);
        }
    }
}

impl Side {
    /// A namespace that somebody else made.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A program to run in it. `ip` is replaced by it: the process stays the same one.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// The same command, in here.
    pub fn wrap(&self, inner: &Command) -> Command {
        let mut command = self.command(&inner.get_program().to_string_lossy());
        command.args(inner.get_args());
        for (key, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(directory) = inner.get_current_dir() {
            command.current_dir(directory);
        }
        command
    }

    /// Its number: what `select` takes for `netns`.
    pub fn inode(&self) -> Result<u64> {
        let path = format!("/run/netns/{}", self.name);
        Ok(fs::metadata(&path).with_context(|| format!("cannot look at {path}"))?.ino())
    }

    fn set_up(&self, own: u8, other: u8) -> Result<()> {
        let name = &self.name;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "address", "add", &format!("10.231.0.{own}/24"), "dev", LINK])?;
        ip(&["-n", name, "link", "set", LINK, "up"])?;
        // Packets with an address of loopback may come from and go to the link.
        let allow = format!(
            "for i in all {LINK}; do echo 1 > /proc/sys/net/ipv4/conf/$i/route_localnet || exit 1; done"
        );
        run(self.command("sh").args(["-c", &allow]))?;
        let rules = format!(
            "table ip spoor {{
                set here {{ type inet_service; }}
                set there {{ type inet_service; }}
                chain output {{
                    type nat hook output priority -100;
                    ip daddr 127.0.0.1 tcp dport @there dnat to 10.231.0.{other};
                }}
                chain prerouting {{
                    type nat hook prerouting priority -100;
                    iifname \"{LINK}\" tcp dport @here dnat to 127.0.0.1;
                }}
                chain input {{
                    type nat hook input priority 100;
                    iifname \"{LINK}\" snat to 127.0.0.1;
                }}
                chain postrouting {{
                    type nat hook postrouting priority 100;
                    oifname \"{LINK}\" masquerade;
                }}
            }}"
        );
        run(self.command("nft").arg(rules))
    }
}

fn ip(args: &[&str]) -> Result<()> {
    run(Command::new("ip").args(args))
}
