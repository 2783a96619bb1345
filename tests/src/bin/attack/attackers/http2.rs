//! HTTP/2: one byte of each request names a long path in the table of HPACK.
//!
//! *Spec*: RFC 7541, sections 5.1 and 6; RFC 9113, sections 3.4 and 6.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use spoor_tests::transcript::wire::{hpack_integer as integer, http2_frame as frame};

use super::{Pair, listen};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:method: GET`, `:scheme: http`, and the newest entry of the table.
const AGAIN: &[u8] = b"\x82\x86\xbe";
/// The same, and the entry before it: `:authority`.
const AGAIN_AT: &[u8] = b"\x82\x86\xbf\xbe";
/// `:status: 200`.
const OK: &[u8] = b"\x88";
/// Less than the largest frame that every peer takes.
const PIECE: usize = 16_000;

/// A literal `:path` that enters the table.
fn path(len: usize) -> Vec<u8> {
    let path = format!("/?{}", "p".repeat(len - 2));
    [&b"\x44"[..], &integer(path.len(), 0, 127), path.as_bytes()].concat()
}

/// So many requests of this process to itself, all with the same path of so many bytes.
pub(super) fn same_path(requests: usize, path_len: usize) -> Result<()> {
    const TABLE: usize = 65_536;
    const BATCH: u32 = 16;
    let mut pair = Pair::new(&listen()?)?;
    let settings = frame(SETTINGS, 0, 0, &[&[0, 1][..], &(TABLE as u32).to_be_bytes()].concat());
    let acknowledged = frame(SETTINGS, ACK, 0, b"");
    pair.ask(&[PREFACE, &settings, &acknowledged].concat())?;
    pair.answer(&[&settings[..], &acknowledged].concat())?;
    let block = [&integer(TABLE, 0x20, 31)[..], b"\x82\x86", &path(path_len)].concat();
    let mut pieces = block.chunks(PIECE).peekable();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let flags = if kind == HEADERS { end | END_STREAM } else { end };
        pair.ask(&frame(kind, flags, 1, piece))?;
        kind = CONTINUATION;
    }
    pair.answer(&frame(HEADERS, END_HEADERS | END_STREAM, 1, OK))?;
    let numbers: Vec<u32> = (1..requests as u32).collect();
    for batch in numbers.chunks(BATCH as usize) {
        let of = |block| -> Vec<u8> {
            batch
                .iter()
                .flat_map(|number| frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, block))
                .collect()
        };
        pair.ask(&of(AGAIN))?;
        pair.answer(&of(OK))?;
    }
    Ok(())
}

/// So many requests to an innocent server, whose table has the size that it has by default.
pub(super) fn same_path_at(port: u16, requests: usize) -> Result<()> {
    /// With its name and the 32 bytes that an entry counts for, it fits into 4,096.
    const PATH: usize = 3990;
    /// Fewer than a server takes of a connection at once, nginx at least.
    const BATCH: usize = 100;
    /// Servers close a connection after so many requests.
    const OF_ONE: usize = 1000;
    let mut done = 0;
    while done < requests {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let begin = [
            PREFACE,
            &frame(SETTINGS, 0, 0, b""),
            &frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()),
            &frame(SETTINGS, ACK, 0, b""),
            &frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&b"\x82\x86\x41\x01a"[..], &path(PATH)].concat()),
        ];
        stream.write_all(&begin.concat())?;
        wait_for_answers(&mut stream, 1)?;
        let mut stream_id = 3;
        for _ in 0..OF_ONE / BATCH - 1 {
            let batch: Vec<u8> = (0..BATCH as u32)
                .flat_map(|number| frame(HEADERS, END_HEADERS | END_STREAM, stream_id + 2 * number, AGAIN_AT))
                .collect();
            stream.write_all(&batch)?;
            wait_for_answers(&mut stream, BATCH)?;
            stream_id += 2 * BATCH as u32;
            done += BATCH;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Reads frames until so many streams have ended.
fn wait_for_answers(stream: &mut TcpStream, count: usize) -> Result<()> {
    const DATA: u8 = 0;
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    let mut left = count;
    while left > 0 {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload)?;
        let [kind, flags] = [head[3], head[4]];
        ensure!(kind != GOAWAY, "the server goes away");
        let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        left -= usize::from(ends || kind == RST_STREAM);
    }
    Ok(())
}
