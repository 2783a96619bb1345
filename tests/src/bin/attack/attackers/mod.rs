//! Programs that attack: a name and numbers → traffic of one process with itself, bounded and paced.
//!
//! Each is a process of its own. It ends by itself, or when it is told to.

mod admin;
mod amqp;
mod chain;
pub(crate) mod context;
mod http;
mod http2;
mod postgres;
pub(crate) mod short;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Bytes that are sent before they are read at the other end: the kernel holds them without waiting for a reader.
const AT_ONCE: usize = 32 << 10;

/// Runs the attack of this name.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    more_files()?;
    let (name, rest) = arguments.split_first().context("no attack is named")?;
    let number = |index: usize| -> Result<usize> {
        let text = rest.get(index).with_context(|| format!("{name} lacks a number"))?;
        text.parse().with_context(|| format!("{text:?} is no number"))
    };
    match name.as_str() {
        "hpack" => http2::same_path(number(0)?, number(1)?),
        "hpack-at" => http2::same_path_at(number(0)? as u16, number(1)?),
        "brotli" => http::brotli(number(0)?, number(1)?),
        "bodies" => http::endless_bodies(number(0)?),
        "hung" => http::hung(number(0)?, number(1)?, number(2)?),
        "targets" => http::targets(number(0)?),
        "amqp-bodies" => amqp::endless_bodies(number(0)?, number(1)?),
        "deliveries" => amqp::unsettled(number(0)?),
        "prepared" => postgres::prepared(number(0)?, number(1)?),
        "statements" => postgres::statements(number(0)?),
        "services" => short::services(number(0)?),
        "short" => short::short(number(0)?),
        "exchange" => short::exchange(number(0)?),
        "chain" => chain::deep(number(0)?),
        "shop" => context::shop(number(0)? as u16, number(1)? as u64),
        "context" => context::foreign(number(0)? as u16, number(1)? as u64),
        "admin-idle" => admin::idle(number(0)? as u16, number(1)?, number(2)? as u64),
        "admin-drip" => admin::drip(number(0)? as u16, number(1)?, number(2)? as u64),
        "admin-alive" => admin::kept_alive(number(0)? as u16, number(1)?, number(2)? as u64),
        "admin-unread" => admin::unread(number(0)? as u16, number(1)?, number(2)? as u64),
        _ => bail!("there is no attack {name:?}"),
    }
}

/// As many files as this process may have.
fn more_files() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot open more files")
}

/// Both ends of a connection.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn new(listener: &TcpListener) -> Result<Self> {
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Self { client, server })
    }

    /// From the client to the server, all of it.
    fn ask(&mut self, bytes: &[u8]) -> Result<()> {
        pass(&mut self.client, &mut self.server, bytes)
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<()> {
        pass(&mut self.server, &mut self.client, bytes)
    }
}

fn listen() -> Result<TcpListener> {
    Ok(TcpListener::bind("127.0.0.1:0")?)
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let mut buffer = [0; AT_ONCE];
    for piece in bytes.chunks(AT_ONCE) {
        from.write_all(piece)?;
        let mut left = piece.len();
        while left > 0 {
            match to.read(&mut buffer[..left])? {
                0 => bail!("the other end is gone"),
                read => left -= read,
            }
        }
    }
    Ok(())
}

/// A steady rate.
struct Pace {
    next: Instant,
    step: Duration,
}

impl Pace {
    fn per_second(count: usize) -> Self {
        Self { next: Instant::now(), step: Duration::from_secs(1) / count as u32 }
    }

    /// Waits for the next turn. One that comes late is not caught up by a burst.
    fn wait(&mut self) {
        self.next = (self.next + self.step).max(Instant::now() - self.step);
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
    }
}

/// Keeps what is open for a while.
fn hold(seconds: u64) {
    thread::sleep(Duration::from_secs(seconds));
}
