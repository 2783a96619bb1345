//! Plans → requests to a service: so many at a time, each from a thread with a connection of its own.
//!
//! *Owns* the load and a small HTTP/1.1 client. *Must not know* what the service does with a request.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use fastrand::Rng;

use super::plan::{Abilities, ORDERS, Plan, Planned};
use crate::peers::{connect, go_on};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
const STACK_LEN: usize = 256 << 10;

/// What to ask of a service.
#[derive(Clone, Debug)]
pub struct Load<'a> {
    /// Where requests go: the service, or the proxy in front of it.
    pub port: u16,
    pub abilities: Abilities,
    /// Requests at the same time.
    pub concurrency: usize,
    pub duration: Duration,
    /// Where the service looks for its plans.
    pub plans: &'a Path,
    pub seed: u64,
}

/// Sends requests until the time is over; all that was planned for them.
pub fn drive(load: &Load<'_>) -> Result<Vec<Planned>> {
    let until = Instant::now() + load.duration;
    let orders = AtomicU64::new(load.seed);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for client in 0..load.concurrency as u64 {
            let orders = &orders;
            let work = move || one_after_the_other(load, client, until, orders);
            threads.push(std::thread::Builder::new().stack_size(STACK_LEN).spawn_scoped(scope, work)?);
        }
        let mut planned = Vec::new();
        for thread in threads {
            planned.extend(thread.join().map_err(|_| anyhow!("the thread of a client panicked"))??);
        }
        Ok(planned)
    })
}

fn one_after_the_other(
    load: &Load<'_>,
    client: u64,
    until: Instant,
    orders: &AtomicU64,
) -> Result<Vec<Planned>> {
    let mut rng = Rng::with_seed(load.seed.wrapping_mul(1009).wrapping_add(client));
    let mut connection = None;
    let mut planned = Vec::new();
    while Instant::now() < until {
        go_on()?;
        let order = match rng.u32(..100) {
            // Work for no order.
            0..12 => None,
            // Another request for an order that has just got one.
            12..16 => Some(orders.load(Ordering::Relaxed)),
            _ => Some(orders.fetch_add(1, Ordering::Relaxed) + 1),
        };
        let near = orders.load(Ordering::Relaxed) % ORDERS;
        let plan = Plan::new(&mut rng, order.map(|order| order % ORDERS + 1), near, load.abilities);
        for (nonce, text) in &plan.files {
            fs::write(load.plans.join(&nonce.0), text).context("cannot write a plan")?;
        }
        // Some clients begin a connection for each request.
        let keep = client % 4 != 3;
        let stream = connection.take().filter(|_| keep);
        let answered =
            request(stream, load.port, &plan).with_context(|| format!("{} {}", plan.method, plan.target))?;
        connection = answered;
        planned.extend(plan.planned);
    }
    Ok(planned)
}

/// Sends the request and reads its answer; the connection, if it can be used again.
fn request(
    stream: Option<BufReader<TcpStream>>,
    port: u16,
    plan: &Plan,
) -> Result<Option<BufReader<TcpStream>>> {
    let mut stream = match stream {
        Some(stream) => stream,
        None => connect(port, PATIENCE)?,
    };
    let content = if plan.body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let text = format!(
        "{} {} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{content}content-length: {}\r\n\r\n{}",
        plan.method,
        plan.target,
        plan.body.len(),
        plan.body
    );
    stream.get_mut().write_all(text.as_bytes())?;
    let kept = read_answer(&mut stream)?;
    Ok(kept.then_some(stream))
}

/// Reads an answer, which must be 200, to its end; whether the connection stays open.
pub(crate) fn read_answer(stream: &mut BufReader<TcpStream>) -> Result<bool> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    ensure!(line.split(' ').nth(1) == Some("200"), "answered {:?}", line.trim_end());
    let mut kept = line.starts_with("HTTP/1.1");
    let mut len = None;
    let mut chunked = false;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => len = Some(value.parse::<u64>().context("content-length is no number")?),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => kept = !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut sink = std::io::sink();
    match len {
        Some(len) => {
            std::io::copy(&mut stream.take(len), &mut sink)?;
        }
        None if chunked => loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Ok(len) = u64::from_str_radix(line.trim_end(), 16) else {
                bail!("not a chunk's length: {line:?}")
            };
            std::io::copy(&mut stream.take(len + 2), &mut sink)?;
            if len == 0 {
                break;
            }
        },
        None => {
            std::io::copy(stream, &mut sink)?;
            kept = false;
        }
    }
    Ok(kept)
}
