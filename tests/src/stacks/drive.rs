//! A port → orders made there, and what each of their requests must lead to.
//!
//! An order is four requests in quick succession over one connection: made, looked at, confirmed, looked at again.
//!
//! *Owns* the load and the plan of it. *Must not know* stacks, spans.

use std::collections::BTreeSet;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use fastrand::Rng;

use crate::accuracy::driver::read_answer;
use crate::peers::{connect, go_on};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients at the same time, each with a connection of its own.
const CLIENTS: u64 = 4;

/// Names one operation in the logs and in its own bytes: letters for the request, then a letter for each step below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub String);

impl Nonce {
    const LEN: usize = 14;
    const LETTERS: &'static [u8] = b"bcdfghjklmnpqrst";

    fn new(rng: &mut Rng) -> Self {
        let letters = (2..Self::LEN).map(|_| char::from(Self::LETTERS[rng.usize(..Self::LETTERS.len())]));
        Self("zz".chars().chain(letters).collect())
    }

    /// The operation that a step leads to.
    pub fn step(&self, step: char) -> Self {
        Self(format!("{}-{step}", self.0))
    }

    /// It is a message, by its last step.
    pub fn is_message(&self) -> bool {
        self.0.ends_with("-p") || self.0.ends_with("-u") || self.0.ends_with("-r")
    }

    /// What it is a step of; `None` for a request.
    pub fn cause(&self) -> Option<Self> {
        self.0.rsplit_once('-').map(|(cause, _)| Self(cause.to_owned()))
    }

    /// All nonces in a text.
    pub fn all(text: &str) -> impl Iterator<Item = Self> {
        text.match_indices("zz").filter_map(|(at, _)| Self::at(&text[at..]))
    }

    fn at(text: &str) -> Option<Self> {
        let request = text.as_bytes().get(2..Self::LEN)?;
        if !request.iter().all(|byte| Self::LETTERS.contains(byte)) {
            return None;
        }
        let mut end = Self::LEN;
        while let [b'-', step, ..] = &text.as_bytes()[end..]
            && step.is_ascii_lowercase()
        {
            end += 2;
        }
        Some(Self(text[..end].to_owned()))
    }
}

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Request,
    Statement,
    Message,
    /// An HTTP or gRPC request of the application to a service of its own.
    Call,
}

/// One operation that must happen.
#[derive(Clone, Debug)]
pub struct Planned {
    pub nonce: Nonce,
    pub kind: Kind,
    pub order: u64,
    /// Of a message: how often it is delivered.
    pub deliveries: usize,
}

/// What a stack does with a new order besides the statement that stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    Plain,
    /// A message to a worker, which executes two statements.
    Queue,
    /// A message to a worker, which executes a statement and sends itself another one; for that it executes two.
    Stages,
    /// As `Queue`, and every fourth is only taken the second time; and a message that no queue takes.
    Refused,
    /// The worker stores it and answers by a message, and the request waits for that.
    Reply,
    /// Another service stores it.
    Call,
    /// A file is put into a store.
    Upload,
}

impl Work {
    /// There is a broker in it.
    pub fn needs_broker(self) -> bool {
        matches!(self, Work::Queue | Work::Stages | Work::Refused | Work::Reply)
    }
}

/// What to ask of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub port: u16,
    pub work: Work,
    /// Number of the first order.
    pub first: u64,
    pub orders: u64,
    pub seed: u64,
}

struct Request {
    method: &'static str,
    target: String,
    body: String,
    nonce: Nonce,
}

/// Makes the orders; everything that they must lead to.
pub fn drive(load: &Load) -> Result<Vec<Planned>> {
    let next = AtomicU64::new(load.first);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let next = &next;
                scope.spawn(move || one_after_the_other(load, client, next))
            })
            .collect();
        let mut planned = Vec::new();
        for thread in threads {
            planned.extend(thread.join().map_err(|_| anyhow!("the thread of a client panicked"))??);
        }
        Ok(planned)
    })
}

fn one_after_the_other(load: &Load, client: u64, next: &AtomicU64) -> Result<Vec<Planned>> {
    let mut rng = Rng::with_seed(load.seed.wrapping_mul(1009).wrapping_add(client));
    let mut connection = None;
    let mut planned = Vec::new();
    loop {
        let order = next.fetch_add(1, Ordering::Relaxed);
        if order >= load.first + load.orders {
            return Ok(planned);
        }
        for (request, work) in requests(&mut rng, order, load.work) {
            go_on()?;
            connection = send(connection.take(), load.port, &request)
                .with_context(|| format!("{} {} of order {order}", request.method, request.target))?;
            planned.push(Planned { nonce: request.nonce, kind: Kind::Request, order, deliveries: 0 });
            planned.extend(work);
        }
    }
}

/// An order's requests, each with what it must lead to.
fn requests(rng: &mut Rng, order: u64, work: Work) -> Vec<(Request, Vec<Planned>)> {
    let mut one = |method, target: String, body: String, lead: &dyn Fn(&Nonce) -> Vec<Planned>| {
        let nonce = Nonce::new(rng);
        let work = lead(&nonce);
        (Request { method, target, body, nonce }, work)
    };
    let statement = |nonce: Nonce| Planned { nonce, kind: Kind::Statement, order, deliveries: 0 };
    let looked_at = |nonce: &Nonce| vec![statement(nonce.step('a'))];
    let confirmed = |nonce: &Nonce| vec![statement(nonce.step('a')), statement(nonce.step('b'))];
    let new = format!("{{\"order_id\": {order}, \"customer\": \"somebody\"}}");
    vec![
        one("POST", "/orders".to_owned(), new, &|nonce| made(nonce, order, work)),
        one("GET", format!("/orders/{order}"), String::new(), &looked_at),
        one("POST", format!("/orders/{order}/confirm"), "{}".to_owned(), &confirmed),
        one("GET", format!("/orders/{order}"), String::new(), &looked_at),
    ]
}

/// What a new order must lead to. A step's letter says what it is: `p`, `u` and `r` are messages, `c` is a call.
fn made(nonce: &Nonce, order: u64, work: Work) -> Vec<Planned> {
    let planned = |nonce: &Nonce, kind, deliveries| Planned { nonce: nonce.clone(), kind, order, deliveries };
    let statement = |nonce: &Nonce, step| planned(&nonce.step(step), Kind::Statement, 0);
    let (message, call) = (nonce.step('p'), nonce.step('c'));
    let mut all = match work {
        Work::Reply | Work::Call => Vec::new(),
        _ => vec![statement(nonce, 'a')],
    };
    match work {
        Work::Plain => {}
        Work::Queue | Work::Refused => {
            let is_refused = work == Work::Refused && order.is_multiple_of(4);
            all.push(planned(&message, Kind::Message, if is_refused { 2 } else { 1 }));
            all.extend([statement(&message, 'a'), statement(&message, 'b')]);
            if work == Work::Refused {
                all.push(planned(&nonce.step('u'), Kind::Message, 0));
            }
        }
        Work::Stages => {
            let second = message.step('p');
            all.extend([planned(&message, Kind::Message, 1), statement(&message, 'a')]);
            all.extend([
                planned(&second, Kind::Message, 1),
                statement(&second, 'a'),
                statement(&second, 'b'),
            ]);
        }
        Work::Reply => {
            all.extend([planned(&message, Kind::Message, 1), statement(&message, 'a')]);
            all.push(planned(&message.step('r'), Kind::Message, 1));
        }
        Work::Call => all.extend([planned(&call, Kind::Call, 0), statement(&call, 'a')]),
        Work::Upload => all.push(planned(&call, Kind::Call, 0)),
    }
    all
}

/// Sends the request and reads its answer; the connection, if it can be used again.
fn send(
    stream: Option<BufReader<TcpStream>>,
    port: u16,
    request: &Request,
) -> Result<Option<BufReader<TcpStream>>> {
    let mut stream = match stream {
        Some(stream) => stream,
        None => connect(port, PATIENCE)?,
    };
    let content = if request.body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let head = format!(
        "{} {} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nx-nonce: {}\r\n{content}content-length: {}\r\n\r\n",
        request.method,
        request.target,
        request.nonce.0,
        request.body.len()
    );
    // Head and body in two segments, as many clients send them.
    stream.get_mut().write_all(head.as_bytes())?;
    stream.get_mut().write_all(request.body.as_bytes())?;
    let kept = read_answer(&mut stream)?;
    Ok(kept.then_some(stream))
}

/// What PostgreSQL says that it executed, of what was planned; and how many statements there were in all. A simple query may be several,
/// which are one line of the log; no text of ours has a semicolon.
pub fn executed(log: &str) -> (Vec<Nonce>, usize) {
    let of_line = |line: &str| {
        let (_, what) = line.split_once("LOG:  ")?;
        let query = what.strip_prefix("statement: ").or_else(|| what.strip_prefix("execute "))?;
        Some(query.split(';').filter(|statement| !statement.trim().is_empty()).count().max(1))
    };
    (Nonce::all(log).collect(), log.lines().filter_map(of_line).sum())
}

/// Statements that were planned and have not been executed yet.
pub fn undone(planned: &[Planned], log: &str) -> usize {
    let done: BTreeSet<Nonce> = executed(log).0.into_iter().collect();
    planned.iter().filter(|planned| planned.kind == Kind::Statement && !done.contains(&planned.nonce)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_found_with_its_steps() {
        let request = Nonce::new(&mut Rng::with_seed(1));
        let step = request.step('p').step('a');
        let text = format!("pizza, $1 = '{}', $2 = 'zz', {}--x", step.0, request.0);
        assert_eq!(Nonce::all(&text).collect::<Vec<_>>(), [step.clone(), request.clone()]);
        assert_eq!(step.cause(), Some(request.step('p')));
        assert_eq!(request.cause(), None);
    }

    #[test]
    fn postgres_names_what_it_executed() {
        let nonce = Nonce::new(&mut Rng::with_seed(2));
        let log = format!(
            "[] LOG:  statement: BEGIN; SET x TO 1;\n[] LOG:  execute s1: INSERT\n[] DETAIL:  parameters: $1 = '{}'\n[] LOG:  x\n",
            nonce.step('a').0
        );
        let (found, count) = executed(&log);
        assert_eq!((found, count), (vec![nonce.step('a')], 3));
        let planned =
            |step| Planned { nonce: nonce.step(step), kind: Kind::Statement, order: 1, deliveries: 0 };
        assert_eq!(undone(&[planned('a'), planned('b')], &log), 1);
    }
}
