//! The live kernel under test: a scenario of the trap program in, what the probes made of it out.
//!
//! *Owns* building and running the trap program (`fixtures/kernel/trap.c`), a recording agent on a thread of its own,
//! and the comparison of both.
//!
//! The trap must be another process: the agent leaves its own sockets out.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::skip::skip;
use spoor::{
    capture::{CaptureError, Options, load::Totals, verdict::Verdict},
    record::{Close, Conn, ConnId, Data, Direction, Record, Role, WireBase},
    source::live::Live,
};

/// Longest wait for something that must happen. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Name of the trap's process.
const COMM: &str = "spoor-trap";
const SOURCE: &str = include_str!("../fixtures/kernel/trap.c");

/// The compiled trap program. Built once per version of its source.
pub fn trap_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        SOURCE.hash(&mut hasher);
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = manifest.join("../target/tmp").join(format!("trap-{:016x}", hasher.finish()));
        let binary = directory.join(COMM);
        if !binary.is_file() {
            std::fs::create_dir_all(&directory).expect("a directory for the trap program");
            // Other test processes may build it at the same time: each under its own name.
            let mine = directory.join(format!("build-{}", std::process::id()));
            let status = Command::new("cc")
                .args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
                .arg(&mine)
                .arg(manifest.join("fixtures/kernel/trap.c"))
                .status()
                .expect("cc, the C compiler that Rust links with");
            assert!(status.success(), "cc: {status}");
            std::fs::rename(&mine, &binary).expect("the trap program in its place");
        }
        binary
    })
}

/// What the agent has seen of trap processes.
#[derive(Debug, Default)]
pub struct Seen {
    pub conns: HashMap<ConnId, Conn>,
    pub data: HashMap<ConnId, Vec<Data>>,
    pub closes: HashMap<ConnId, Close>,
    /// Everything that is not a connection or its data.
    pub other: Vec<Record>,
    ignored: u64,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    stop: AtomicBool,
    paused: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Order {
    Verdict(ConnId, Verdict),
    Totals(mpsc::Sender<Totals>),
}

/// An agent that records what trap processes do and ignores all others.
#[derive(Debug)]
pub struct Agent {
    shared: Arc<Shared>,
    orders: Mutex<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Loads the probes and starts reading.
    pub fn start(options: Options) -> Result<Self, CaptureError> {
        let shared = Arc::new(Shared::default());
        let (orders, receive) = mpsc::channel();
        let (started, outcome) = mpsc::channel();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a tokio runtime").block_on(record(options, &theirs, &receive, &started));
        });
        outcome.recv().expect("an outcome of loading")?;
        Ok(Self { shared, orders: Mutex::new(orders), thread: Some(thread) })
    }

    /// The agent of this test process, or `None` after saying why live tests are skipped here.
    pub fn shared() -> Option<&'static Agent> {
        static AGENT: OnceLock<Option<Agent>> = OnceLock::new();
        let options = Options { ring_bytes: 64 << 20, first_look_bytes: 64 << 20 };
        // Every test that asks is counted as skipped, not only the one that tried.
        static REASON: OnceLock<String> = OnceLock::new();
        let agent = AGENT.get_or_init(|| match Agent::start_if_possible(options) {
            Ok(agent) => Some(agent),
            Err(reason) => {
                let _ = REASON.set(reason);
                None
            }
        });
        if agent.is_none() {
            skip(REASON.get().map_or("", String::as_str));
        }
        agent.as_ref()
    }

    /// Starts an agent; `None` where this machine cannot, after counting the test as skipped.
    pub fn start_or_skip(options: Options) -> Option<Agent> {
        Self::start_if_possible(options).map_err(|reason| skip(&reason)).ok()
    }

    /// Starts an agent, or says why this machine cannot. Anything else that goes wrong is a failure.
    fn start_if_possible(options: Options) -> Result<Agent, String> {
        match Agent::start(options) {
            Ok(agent) => Ok(agent),
            Err(
                error @ (CaptureError::NoObject
                | CaptureError::NotPermitted { .. }
                | CaptureError::NoBtf(_)
                | CaptureError::NoTracepoint { .. }),
            ) => Err(error.to_string()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until `look` finds what it wants. Panics with `what` after [`PATIENCE`].
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.shared.seen();
        loop {
            if let Some(found) = look(&seen) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} in vain: {what}");
            seen = self
                .shared
                .changed
                .wait_timeout(seen, left)
                .map_or_else(|e| e.into_inner().0, |(guard, _)| guard);
        }
    }

    /// Looks at what was seen so far.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.seen())
    }

    /// Sets a verdict. It is in the kernel when this returns.
    pub fn verdict(&self, conn: ConnId, verdict: Verdict) {
        self.order(Order::Verdict(conn, verdict));
        self.totals();
    }

    /// The kernel's counters.
    pub fn totals(&self) -> Totals {
        let (reply, totals) = mpsc::channel();
        self.order(Order::Totals(reply));
        totals.recv_timeout(PATIENCE).expect("the agent's thread is alive")
    }

    /// Stops reading the rings until [`Agent::resume`].
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        // Orders are served after a read: once one is answered, no read is under way.
        self.totals();
    }

    /// Reads again.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    fn order(&self, order: Order) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.send(order).expect("the agent's thread is alive");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn record(
    options: Options,
    shared: &Shared,
    orders: &mpsc::Receiver<Order>,
    started: &mpsc::Sender<Result<(), CaptureError>>,
) {
    let mut live = match Live::start(options) {
        Ok(live) => live,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    let mut batch = Vec::new();
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.paused.load(Ordering::SeqCst) {
            tokio::time::sleep(spoor::source::live::POLL).await;
        } else {
            live.next_batch(&mut batch).await.expect("the rings can be read");
        }
        let mut ignore = Vec::new();
        let mut seen = shared.seen();
        for record in batch.drain(..) {
            match record {
                Record::Conn(conn) if conn.comm == COMM || seen.conns.contains_key(&conn.id) => {
                    seen.conns.insert(conn.id, *conn);
                }
                Record::Conn(conn) => ignore.push(conn.id),
                Record::Data(data) if seen.conns.contains_key(&data.conn) => {
                    seen.data.entry(data.conn).or_default().push(data);
                }
                Record::Data(_) => {}
                Record::Close(close) => {
                    seen.closes.insert(close.conn, close);
                }
                other => seen.other.push(other),
            }
        }
        seen.ignored += ignore.len() as u64;
        drop(seen);
        shared.changed.notify_all();
        for conn in ignore {
            live.set_verdict(conn, Verdict::Ignore).expect("a verdict");
        }
        for order in orders.try_iter() {
            match order {
                Order::Verdict(conn, verdict) => live.set_verdict(conn, verdict).expect("a verdict"),
                Order::Totals(reply) => {
                    let _ = reply.send(live.counters().expect("the counters"));
                }
            }
        }
    }
}

/// Whose bytes, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub side: u8,
    pub bytes: u64,
}

/// What a trap says it has done.
#[derive(Debug, Default)]
pub struct Facts {
    /// Cookies by name.
    pub sockets: BTreeMap<String, ConnId>,
    /// Connecting end first.
    pub pairs: Vec<(String, String)>,
    pub moved: BTreeMap<(String, Way), Moved>,
    /// Intervals that moved without readable bytes.
    pub holes: BTreeMap<(String, Way), Vec<(u64, u64)>>,
    /// Intervals that moved without any event.
    pub gaps: BTreeMap<(String, Way), Vec<(u64, u64)>>,
    /// Measurements: what, operations, nanoseconds.
    pub took: Vec<(String, u64, u64)>,
}

/// [`Direction`] with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Egress,
    Ingress,
}

impl Way {
    fn direction(self) -> Direction {
        match self {
            Way::Egress => Direction::Egress,
            Way::Ingress => Direction::Ingress,
        }
    }
}

impl Facts {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let way = |text: &str| if text == "egress" { Way::Egress } else { Way::Ingress };
        match words.as_slice() {
            ["socket", name, cookie] => {
                self.sockets.insert((*name).to_owned(), ConnId(number(cookie)));
            }
            ["pair", client, server] => self.pairs.push(((*client).to_owned(), (*server).to_owned())),
            [direction @ ("egress" | "ingress"), name, side, bytes] => {
                let moved = Moved { side: number(side) as u8, bytes: number(bytes) };
                self.moved.insert(((*name).to_owned(), way(direction)), moved);
            }
            [kind @ ("hole" | "gap"), name, direction, from, to] => {
                let list = if *kind == "hole" { &mut self.holes } else { &mut self.gaps };
                let key = ((*name).to_owned(), way(direction));
                list.entry(key).or_default().push((number(from), number(to)));
            }
            ["took", what, operations, ns] => {
                self.took.push(((*what).to_owned(), number(operations), number(ns)));
            }
            _ => panic!("the trap says `{line}`"),
        }
    }

    /// The only pair's identifiers: client, server.
    pub fn ends(&self) -> (ConnId, ConnId) {
        let (client, server) = self.pairs.first().expect("a pair");
        (self.sockets[client], self.sockets[server])
    }
}

/// A running trap.
#[derive(Debug)]
pub struct Trap {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    pub facts: Facts,
}

impl Trap {
    /// Starts a scenario.
    pub fn start(scenario: &str, family: &str) -> Self {
        Self::start_by(Command::new(trap_path()), scenario, family)
    }

    /// Starts a scenario through another program, such as `ip netns exec`.
    pub fn start_by(mut command: Command, scenario: &str, family: &str) -> Self {
        command.args([scenario, family]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the trap starts");
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().expect("its standard output"));
        Self { child, to, from, facts: Facts::default() }
    }

    /// Process of the trap.
    pub fn tgid(&self) -> u32 {
        self.child.id()
    }

    /// Reads until the trap waits. False when it has ended instead.
    pub fn until_ready(&mut self) -> bool {
        loop {
            let mut line = String::new();
            if self.from.read_line(&mut line).expect("the trap's output") == 0 {
                return false;
            }
            match line.trim() {
                "ready" => return true,
                line => self.facts.line(line),
            }
        }
    }

    /// Writes a line to the trap.
    pub fn tell(&mut self, line: &str) {
        let to = self.to.as_mut().expect("its standard input");
        writeln!(to, "{line}").and_then(|()| to.flush()).expect("the trap listens");
    }

    /// Lets the trap end; what it did.
    pub fn finish(mut self) -> Facts {
        self.to = None;
        while self.until_ready() {}
        let status = self.child.wait().expect("the trap ends");
        assert!(status.success(), "the trap failed: {status}");
        std::mem::take(&mut self.facts)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs a scenario to its end.
pub fn run(scenario: &str, family: &str) -> Facts {
    Trap::start(scenario, family).finish()
}

/// Byte `i` of what a side writes; the same function as in the trap.
pub fn pattern(side: u8, i: u64) -> u8 {
    let sum = i
        .wrapping_mul(31)
        .wrapping_add((i >> 8).wrapping_mul(17))
        .wrapping_add((i >> 16).wrapping_mul(7))
        .wrapping_add(u64::from(side) * 101);
    sum as u8
}

/// One direction of a connection put together from its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Start, bytes moved, bytes captured of each record, by position.
    pub records: Vec<Data>,
    pub end: u64,
}

/// The records of one direction in the order of their positions.
pub fn stream(seen: &Seen, conn: ConnId, direction: Direction) -> Stream {
    let all = seen.data.get(&conn).into_iter().flatten();
    let mut records: Vec<Data> = all.filter(|d| d.direction == direction).cloned().collect();
    records.sort_by_key(|d| d.pos);
    let end = records.iter().map(|d| d.pos + u64::from(d.len)).max().unwrap_or_default();
    Stream { records, end }
}

/// Waits until every stream of the trap is there, and compares each with what the trap says: no byte missing, none
/// twice, none wrong, except where the trap says so.
pub fn check_streams(agent: &Agent, facts: &Facts) {
    check_streams_from(agent, facts, &BTreeMap::new());
}

/// The same for connections of which the agent has seen only what comes after the given positions.
pub fn check_streams_from(agent: &Agent, facts: &Facts, from: &BTreeMap<(String, Way), u64>) {
    for ((name, way), moved) in &facts.moved {
        let conn = facts.sockets[name];
        let key = (name.clone(), *way);
        let start = from.get(&key).copied().unwrap_or_default();
        if moved.bytes == start {
            continue;
        }
        let gaps = facts.gaps.get(&key).cloned().unwrap_or_default();
        let holes = facts.holes.get(&key).cloned().unwrap_or_default();
        let missing: u64 = gaps.iter().map(|(from, to)| to - from).sum();
        let what = format!("{name} {way:?}: {} bytes", moved.bytes);
        let stream = agent.wait(&what, |seen| {
            let stream = stream(seen, conn, way.direction());
            let covered: u64 = stream.records.iter().map(|d| u64::from(d.len)).sum();
            (covered + missing >= moved.bytes - start).then_some(stream)
        });

        let mut at = start;
        let mut unreadable = Vec::new();
        let mut skipped = Vec::new();
        for data in &stream.records {
            if data.pos > at {
                skipped.push((at, data.pos));
                at = data.pos;
            }
            assert_eq!(data.pos, at, "{name} {way:?}: records tile the stream");
            for (offset, byte) in (data.pos..).zip(&data.bytes) {
                assert_eq!(
                    *byte,
                    pattern(moved.side, offset),
                    "{name} {way:?}: byte {offset} of {}",
                    moved.bytes
                );
            }
            at += u64::from(data.len);
            let readable = data.pos + data.bytes.len() as u64;
            if readable < at {
                assert!(
                    data.flags.unreadable,
                    "{name} {way:?}: bytes from {readable} to {at}: {:?}",
                    data.flags
                );
                unreadable.push((readable, at));
            }
            assert!(!data.flags.position_uncertain, "{name} {way:?}: position at {}", data.pos);
        }
        assert_eq!(at, moved.bytes, "{name} {way:?}: end of the stream");
        assert_eq!(merged(unreadable), merged(holes), "{name} {way:?}: bytes out of reach");
        assert_eq!(merged(skipped), merged(gaps), "{name} {way:?}: bytes without an event");
    }
}

fn merged(mut intervals: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    intervals.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (from, to) in intervals {
        match out.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => out.push((from, to)),
        }
    }
    out
}

/// Waits for both ends of every pair and checks that they know themselves to be two ends of one TCP connection.
pub fn check_wire(agent: &Agent, facts: &Facts) {
    for (client, server) in &facts.pairs {
        let find = |name: &String| {
            let id = facts.sockets[name];
            agent.wait(&format!("connection of {name}"), |seen| seen.conns.get(&id).cloned())
        };
        let (client, server) = (find(client), find(server));
        assert_eq!(client.role, Some(Role::Client), "{client:?}");
        assert_eq!(server.role, Some(Role::Server), "{server:?}");
        let WireBase { egress, ingress } = client.wire.expect("wire identity of the client");
        assert_eq!(server.wire, Some(WireBase { egress: ingress, ingress: egress }), "{client:?} {server:?}");
        assert_eq!((&client.local, &client.remote), (&server.remote, &server.local));
        assert_eq!(client.netns, server.netns);
        assert_ne!(client.netns, 0);
    }
}
