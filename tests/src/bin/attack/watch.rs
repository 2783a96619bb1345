//! A look at a running agent: its process → the most memory it had; its admin port → whether it answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Between two looks. The kernel keeps the most there was: only what comes after the last look is missed.
const LOOK: Duration = Duration::from_millis(20);
/// What a probe waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most resident memory of a process, until it has ended.
#[derive(Debug)]
pub(crate) struct Memory {
    peak_kib: Arc<AtomicU64>,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Self {
        let peak_kib = Arc::new(AtomicU64::new(0));
        let peak = peak_kib.clone();
        thread::spawn(move || {
            // A process that has ended has no memory.
            while let Some(kib) = peak_of(pid) {
                peak.store(kib, Ordering::Relaxed);
                thread::sleep(LOOK);
            }
        });
        Self { peak_kib }
    }

    pub(crate) fn peak_mib(&self) -> u64 {
        self.peak_kib.load(Ordering::Relaxed).div_ceil(1024)
    }
}

/// Resident memory that the kernel counts twice: the pages of ring buffers, which are mapped twice in a row so that a record
/// is never in two pieces. The proportional size counts them once.
pub(crate) fn counted_twice_mib(pid: u32) -> Option<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?;
    let (mut is_ring, mut twice_kib) = (false, 0_i64);
    for line in maps.lines() {
        let kib = |name| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<i64>().ok();
        if let Some(kib) = kib("Rss:") {
            twice_kib += if is_ring { kib } else { 0 };
        } else if let Some(kib) = kib("Pss:") {
            twice_kib -= if is_ring { kib } else { 0 };
        } else if line.split(' ').next().is_some_and(|range| range.contains('-')) {
            is_ring = line.ends_with("anon_inode:bpf-map");
        }
    }
    Some(u64::try_from(twice_kib).ok()? >> 10)
}

fn peak_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Asks paths of the admin port each second.
#[derive(Debug)]
pub(crate) struct Probes {
    over: Arc<AtomicBool>,
    asking: JoinHandle<Answers>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) asked: u32,
    /// Why those that failed did.
    pub(crate) failed: Vec<String>,
}

impl Probes {
    pub(crate) fn start(port: u16, paths: &'static [&'static str]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let asked_to_end = over.clone();
        let asking = thread::spawn(move || {
            let mut answers = Answers::default();
            while !asked_to_end.load(Ordering::Relaxed) {
                for path in paths {
                    answers.asked += 1;
                    match get(port, path) {
                        Ok(answer) if answer.starts_with("HTTP/1.1 200") => {}
                        Ok(answer) => answers.failed.push(format!("{path}: {}", first_line(&answer))),
                        Err(error) => answers.failed.push(format!("{path}: {error:#}")),
                    }
                }
                thread::sleep(Duration::from_secs(1));
            }
            answers
        });
        Self { over, asking }
    }

    pub(crate) fn end(self) -> Result<Answers> {
        self.over.store(true, Ordering::Relaxed);
        self.asking.join().map_err(|_| anyhow::anyhow!("the probes failed"))
    }
}

fn first_line(answer: &str) -> &str {
    answer.lines().next().unwrap_or("no answer")
}

/// A page of the admin port, with its head.
pub(crate) fn get(port: u16, path: &str) -> Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("no whole answer in {PATIENCE:?}"))?;
    ensure!(!answer.is_empty(), "closed without an answer");
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
