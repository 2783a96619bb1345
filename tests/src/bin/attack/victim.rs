//! The neighbour: a small HTTP service and its client, each request numbered → how many were asked.
//!
//! It is a process of its own that asks at a steady rate until a file says that it is over.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What its paths begin with; the number follows.
pub(crate) const PATH: &str = "/victim/";
/// Between two requests.
const PACE: Duration = Duration::from_millis(10);
/// Requests of one connection.
const KEPT_ALIVE: u32 = 50;

/// Asks itself for paths that begin so until `stop` exists, then prints `asked N`.
pub(crate) fn serve_and_ask(path: &str, stop: &Path) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer_all(stream, "ok"));
        }
    });
    println!("ready");
    let mut asked = 0_u32;
    let mut next = Instant::now();
    'connections: loop {
        let mut stream = BufReader::new(TcpStream::connect(address)?);
        stream.get_ref().set_nodelay(true)?;
        for _ in 0..KEPT_ALIVE {
            if stop.exists() {
                break 'connections;
            }
            asked += 1;
            let request = format!("GET {path}{asked} HTTP/1.1\r\nHost: victim.local\r\n\r\n");
            stream.get_mut().write_all(request.as_bytes())?;
            read_message(&mut stream)?.context("the service went away")?;
            next = (next + PACE).max(Instant::now() - PACE);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    println!("asked {asked}");
    Ok(())
}

/// Answers each request with this text, until the client is gone.
pub(crate) fn answer_all(stream: TcpStream, text: &str) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    while read_message(&mut stream)?.is_some() {
        stream.get_mut().write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// The first line of an HTTP message, which is read whole; `None`: the connection is over.
pub(crate) fn read_message(stream: &mut BufReader<TcpStream>) -> Result<Option<String>> {
    let mut first = String::new();
    if stream.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut body_len = 0_u64;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            body_len = value.trim().parse().context("a length that is none")?;
        }
    }
    std::io::copy(&mut stream.take(body_len), &mut std::io::sink())?;
    Ok(Some(first))
}
