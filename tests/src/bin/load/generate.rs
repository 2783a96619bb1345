//! The load: requests over connections that stay open, at a steady rate or as fast as they are answered.
//!
//! One thread writes one request on each connection, then reads one answer from each: a round. Rounds are spread evenly
//! over time; one that comes late is not made up for by a burst.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Port, requests per second (0: as fast as they are answered), seconds, connections. Prints the rate that was served.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> Result<()> {
    let numbers: Vec<u64> =
        arguments.map(|text| text.parse()).collect::<Result<_, _>>().context("not a number")?;
    let &[port, rate, seconds, connections] = numbers.as_slice() else { anyhow::bail!("four numbers") };
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, u16::try_from(port)?))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        streams.push(stream);
    }
    let length = Duration::from_secs(seconds);
    let start = Instant::now();
    let mut served: u64 = 0;
    while start.elapsed() < length {
        for stream in &mut streams {
            served += 1;
            let request = format!("GET /orders/{served} HTTP/1.1\r\nHost: shop\r\n\r\n");
            stream.write_all(request.as_bytes())?;
        }
        for stream in &mut streams {
            answer(stream)?;
        }
        if rate > 0 {
            let due = Duration::from_secs_f64(served as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    println!("{}", served as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

/// Reads one answer, which ends in `done`.
fn answer(stream: &mut TcpStream) -> Result<()> {
    let mut buffer = [0; 1024];
    let mut len = 0;
    while !buffer[..len].ends_with(b"done\n") {
        let more = stream.read(&mut buffer[len..])?;
        ensure!(more > 0, "nginx closed the connection");
        len += more;
    }
    ensure!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..len]));
    Ok(())
}
