//! A service that calls itself, thousands deep: each request waits for the one below it.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use anyhow::{Context, Result};

use super::{hold, listen};
use crate::victim::read_message;

/// A thread's stack: there is one for each step.
const STACK: usize = 128 << 10;

pub(super) fn deep(depth: usize) -> Result<()> {
    let listener = listen()?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let served = thread::Builder::new().stack_size(STACK).spawn(move || serve(stream, address));
            if let Err(error) = served {
                eprintln!("no thread: {error}");
            }
        }
    });
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    call(&mut stream, depth)?;
    hold(2);
    Ok(())
}

/// Reads one request, asks below, answers.
fn serve(stream: TcpStream, address: SocketAddr) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let first = read_message(&mut stream)?.context("no request")?;
    let depth = first.split(['/', ' ']).find_map(|part| part.parse::<usize>().ok()).context("no depth")?;
    if depth > 0 {
        let mut below = BufReader::new(TcpStream::connect(address)?);
        call(&mut below, depth - 1)?;
    }
    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    Ok(())
}

fn call(stream: &mut BufReader<TcpStream>, depth: usize) -> Result<()> {
    stream.get_mut().write_all(format!("GET /deep/{depth} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())?;
    read_message(stream)?.context("no answer")?;
    Ok(())
}
