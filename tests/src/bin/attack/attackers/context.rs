//! A foreign trace context: a request that hangs, and a service that works on the same order meanwhile.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Pace, hold, listen};
use crate::victim::{answer_all, read_message};

/// The trace that the attacker names.
pub(crate) const TRACE: [u8; 16] = [0x11; 16];
/// What the paths of the service's own work begin with.
pub(crate) const PATH: &str = "/stock/";

/// A service on this port: requests to it hang, and a thread works on order 17 all the time.
pub(super) fn shop(port: u16, seconds: u64) -> Result<()> {
    let front = TcpListener::bind(("127.0.0.1", port))?;
    let stock = listen()?;
    let address = stock.local_addr()?;
    thread::spawn(move || {
        for stream in stock.incoming().flatten() {
            thread::spawn(move || answer_all(stream, "{}"));
        }
    });
    thread::spawn(move || {
        let mut hanging = Vec::new();
        for stream in front.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            if read_message(&mut stream).is_ok() {
                hanging.push(stream);
            }
        }
    });
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    let (end, mut pace) = (Instant::now() + Duration::from_secs(seconds), Pace::per_second(20));
    let mut number = 0;
    while Instant::now() < end {
        number += 1;
        let body = r#"{"order_id":17}"#;
        let request = format!(
            "POST {PATH}{number} HTTP/1.1\r\nHost: stock\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes())?;
        read_message(&mut stream)?.context("no answer")?;
        pace.wait();
    }
    println!("worked {number}");
    Ok(())
}

/// Asks the service on that port for the order with a context of its own, and waits for an answer that does not come.
pub(super) fn foreign(port: u16, seconds: u64) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let trace: String = TRACE.iter().map(|byte| format!("{byte:02x}")).collect();
    let parent = format!("00-{trace}-2222222222222222-01");
    stream.write_all(
        format!("GET /orders/17 HTTP/1.1\r\nHost: shop\r\ntraceparent: {parent}\r\n\r\n").as_bytes(),
    )?;
    hold(seconds);
    Ok(())
}
