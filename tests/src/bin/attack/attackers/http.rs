//! HTTP/1.1: bodies that are much larger than they are, that never end, and work below a request that hangs.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{Pace, Pair, hold, listen};

const DONE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A JSON text of so many bytes that a few bytes of brotli stand for.
fn bomb(len: usize) -> Result<Vec<u8>> {
    let text = format!(r#"{{"x":"{}"}}"#, "a".repeat(len));
    let mut packed = Vec::new();
    let parameters = brotli::enc::BrotliEncoderParams { quality: 9, lgwin: 22, ..Default::default() };
    brotli::BrotliCompress(&mut text.as_bytes(), &mut packed, &parameters)?;
    Ok(packed)
}

/// So many requests a second for so long, each with a body of a few bytes that stands for 256 KiB.
pub(super) fn brotli(per_second: usize, seconds: usize) -> Result<()> {
    /// Requests of one write.
    const BATCH: usize = 20;
    let body = bomb(256 << 10)?;
    let head = format!(
        "POST /orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Encoding: br\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let requests = [head.as_bytes(), &body].concat().repeat(BATCH);
    let answers = DONE.repeat(BATCH);
    let mut pair = Pair::new(&listen()?)?;
    let mut pace = Pace::per_second(per_second.div_ceil(BATCH));
    for _ in 0..(per_second * seconds).div_ceil(BATCH) {
        pair.ask(&requests)?;
        pair.answer(&answers)?;
        pace.wait();
    }
    println!("{} bodies of {} bytes", per_second * seconds, body.len());
    Ok(())
}

/// So many connections, each with 62 KB of a body that never ends.
pub(super) fn endless_bodies(connections: usize) -> Result<()> {
    let body = format!(r#"{{"x":"{}"#, "a".repeat(62_000));
    let message = format!(
        "POST /orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n{body}"
    );
    let listener = listen()?;
    let mut open = Vec::new();
    let mut pace = Pace::per_second(1000);
    for _ in 0..connections {
        let mut pair = Pair::new(&listener)?;
        pair.ask(message.as_bytes())?;
        open.push(pair);
        pace.wait();
    }
    hold(4);
    Ok(())
}

/// One request hangs, and so many calls with a query of so many bytes are made for it, so many a second.
pub(super) fn hung(calls: usize, query_len: usize, per_second: usize) -> Result<()> {
    let (front, back) = (listen()?, listen()?);
    let mut hanging = Pair::new(&front)?;
    hanging.ask(b"GET /orders/5 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let mut below = Pair::new(&back)?;
    let query = "q".repeat(query_len);
    let mut pace = Pace::per_second(per_second);
    // The thread that read the request works for it.
    for number in 0..calls {
        let call = format!("GET /a?x={query}&n={number}&order_id=5 HTTP/1.1\r\nHost: b\r\n\r\n");
        below.ask(call.as_bytes())?;
        below.answer(DONE)?;
        pace.wait();
    }
    hold(1);
    Ok(())
}

/// Requests to so many names.
pub(super) fn targets(count: usize) -> Result<()> {
    let mut pair = Pair::new(&listen()?)?;
    let mut pace = Pace::per_second(1000);
    for number in 0..count {
        let request = format!(
            "GET /junk-{number}x HTTP/1.1\r\nHost: peer-{number}.example\r\nX-Forwarded-Host: t{number}.example\r\n\r\n"
        );
        pair.ask(request.as_bytes())?;
        pair.answer(DONE)?;
        pace.wait();
    }
    thread::sleep(Duration::from_millis(500));
    Ok(())
}
