//! Back ends that do not behave: a kind of misbehaviour → a port that shows it to whoever connects.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// How it misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misbehaviour {
    /// Takes connections and what they send, and never says anything.
    Hang,
    /// Breaks connections off when a request has come.
    Reset,
    /// 429, to be asked again in three years.
    Later,
    /// An answer of which a byte comes each second.
    Crawl,
    /// Bytes that are no answer.
    Garbage,
    /// A success whose body does not end.
    Endless,
}

/// Listens on a free port of loopback until it is dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

impl Collector {
    pub(crate) fn start(kind: Misbehaviour) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let collector = Self { address, over: over.clone(), asked: asked.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let (over, asked) = (over.clone(), asked.clone());
                // A connection that breaks is what it is there for.
                thread::spawn(move || drop(misbehave(kind, stream, &over, &asked)));
            }
        });
        Ok(collector)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests, or connections where nothing is read as one.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn misbehave(kind: Misbehaviour, mut stream: TcpStream, over: &AtomicBool, asked: &AtomicU64) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    if kind == Misbehaviour::Reset {
        while stream.peek(&mut [0]).is_err() && !over.load(Ordering::Relaxed) {}
        asked.fetch_add(1, Ordering::Relaxed);
        // Closing with bytes that were not read is a reset.
        return Ok(());
    }
    while read_request(&mut stream, over)? {
        asked.fetch_add(1, Ordering::Relaxed);
        match kind {
            Misbehaviour::Hang | Misbehaviour::Reset => {}
            Misbehaviour::Later => stream.write_all(
                b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 99999999\r\nContent-Length: 0\r\n\r\n",
            )?,
            Misbehaviour::Garbage => {
                stream.write_all(&[0xff, 0x00, 0x1b, b'[', b'3', b'1', b'm', 0x07].repeat(500))?
            }
            Misbehaviour::Crawl => {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
                for byte in answer.iter().chain(std::iter::repeat(&b'a')) {
                    if over.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    stream.write_all(&[*byte])?;
                    thread::sleep(Duration::from_secs(1));
                }
            }
            Misbehaviour::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")?;
                while !over.load(Ordering::Relaxed) {
                    stream.write_all(&[0; 16_384])?;
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
    Ok(())
}

/// Reads until there is a pause. `false`: the connection is over.
fn read_request(stream: &mut TcpStream, over: &AtomicBool) -> Result<bool> {
    let mut buffer = [0; 4096];
    let mut some = false;
    while !over.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(_) => some = true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if some {
                    return Ok(true);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}
