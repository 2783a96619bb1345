//! The admin port: connections that say nothing, little, again and again, or never read.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Between two turns.
const TURN: Duration = Duration::from_millis(200);

/// Connections that never say anything.
pub(super) fn idle(port: u16, connections: usize, seconds: u64) -> Result<()> {
    keep(port, connections, seconds, b"", b"")
}

/// A request of which a byte comes from time to time.
pub(super) fn drip(port: u16, connections: usize, seconds: u64) -> Result<()> {
    keep(port, connections, seconds, b"GET /metrics HTTP/1.1\r\nX: ", b"a")
}

/// Small requests on connections that stay.
pub(super) fn kept_alive(port: u16, connections: usize, seconds: u64) -> Result<()> {
    keep(port, connections, seconds, b"", b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Hundreds of requests for a large page, of which no answer is read.
pub(super) fn unread(port: u16, connections: usize, seconds: u64) -> Result<()> {
    let many = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(200);
    keep(port, connections, seconds, &many, b"")
}

/// As many connections as that at any time: one that is closed is opened again.
fn keep(port: u16, connections: usize, seconds: u64, first: &[u8], then: &[u8]) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut open: Vec<TcpStream> = Vec::new();
    let mut opened = 0_u64;
    while Instant::now() < end {
        while open.len() < connections {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { break };
            opened += 1;
            // What cannot be sent now is what the other end does not take.
            stream.set_nonblocking(true)?;
            let _ = stream.write(first);
            open.push(stream);
        }
        open.retain_mut(|stream| is_open(stream, then));
        thread::sleep(TURN);
    }
    println!("opened {opened}");
    Ok(())
}

fn is_open(stream: &mut TcpStream, then: &[u8]) -> bool {
    // The answers of a connection that is not read stay where they are: only its end is looked for.
    let at_end = matches!(stream.peek(&mut [0]), Ok(0));
    let broken = |error: &std::io::Error| error.kind() != std::io::ErrorKind::WouldBlock;
    !at_end && (then.is_empty() || !stream.write(then).is_err_and(|error| broken(&error)))
}
